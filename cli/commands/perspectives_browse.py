"""`synthtrack perspectives list|show|compare`: which agent data sets there are, what is in one, how two differ."""

from __future__ import annotations

from dataclasses import asdict

import click

from cli.options import as_json, workspace
from cli.render import columns, show, show_either, show_json
from cli.text.listing import bring_files_up_to_date, limit_of, limited, verbose
from cli.text.next_command import perspectives_command
from cli.text.perspectives_text import failed, listed, shown
from tracker.listings import agent_listings
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row, reading
from tracker.views import agent_view

numbered = click.option("--input", "number", type=click.IntRange(min=1), metavar="N", help="Only input N, whole.")


@click.command("list")
@click.option("--task", metavar="TYPE", help="Only data sets of this task type.")
@verbose
@limited
@as_json
@workspace
def list_datasets(place: Workspace, *, task: str | None, verbose: bool, limit: int | None, as_json: bool) -> None:
    """Every agent data set: its settings in short, how far it is, what it took."""
    with reading(place) as reader:
        found = agent_listings.datasets(reader, place, task, limit_of(limit, as_json=as_json))
        if verbose:
            ids = [row["id"] for row in found.rows]
            conditions, runs = agent_listings.conditions(reader, ids), agent_listings.runs(reader, ids)
            for row in found.rows:
                row.update(conditions=conditions[row["id"]], runs=runs[row["id"]])
        show_either(found.rows, lambda: listed(found, columns=columns(), verbose=verbose), as_json=as_json)
        stale = [row for row in found.rows if not agent_view.looks_current(place, row)]
        bring_files_up_to_date(place, reader, _idle(stale))


@click.command("show")
@click.argument("ref")
@numbered
@click.option("--samples", type=click.IntRange(min=0), help="How many inputs to show, in short; default: 2.")
@click.option("--condition", "chosen", multiple=True, metavar="NAME", help="Only this condition; may be repeated.")
@click.option("--failed", "only_failed", is_flag=True, help="Only the responses that failed, each with why.")
@as_json
@workspace
def show_dataset(
    place: Workspace,
    *,
    ref: str,
    number: int | None,
    samples: int | None,
    chosen: tuple[str, ...],
    only_failed: bool,
    as_json: bool,
) -> None:
    """All that is known of one agent data set, and inputs with all their responses.

    REF is a name or a part of it, a fingerprint, the path of its file, a run's id here or in MLflow, or a task type:
    whatever no other has. Inputs are counted from 1.
    """
    if number is not None and samples is not None:
        raise click.UsageError("Give either --input or --samples.")
    if only_failed and samples is not None:
        raise click.UsageError("Give either --failed or --samples.")
    with reading(place) as reader:
        row = agent_listings.dataset(reader, place, ref)
        if only_failed:
            _show_failed(reader, row, number, chosen, as_json=as_json)
            return
        first = 2 if samples is None else samples
        at = range(min(first, row["n_inputs"])) if number is None else [agent_listings.position_of(row, number)]
        conditions = agent_listings.chosen_conditions(_conditions(reader, row), chosen)
        runs = agent_listings.runs(reader, [row["id"]])[row["id"]]
        found = row | {
            "next_command": None if row["made_by"] else perspectives_command(row, runs),
            "conditions": conditions,
            "runs": runs,
            "samples": agent_listings.samples(reader, row, conditions, at),
        }
        show_either(
            {name: value for name, value in found.items() if name not in {"identity", "config"}},
            lambda: shown(found, columns=columns(), whole=number is not None),
            as_json=as_json,
        )
        bring_files_up_to_date(place, reader, _idle([row]))


def _show_failed(reader: Reader, row: Row, number: int | None, chosen: tuple[str, ...], *, as_json: bool) -> None:
    names = {each["condition"] for each in agent_listings.chosen_conditions(_conditions(reader, row), chosen)}
    at = None if number is None else agent_listings.position_of(row, number) + 1
    found = [
        each
        for each in agent_listings.failures(reader, row["id"])
        if each["condition"] in names and at in {None, each["number"]}
    ]
    if as_json:
        show_json(found)
        return
    runs = agent_listings.runs(reader, [row["id"]])[row["id"]]
    command = None if row["made_by"] else perspectives_command(row, runs)
    show("\n".join(failed(row | {"next_command": command}, found, columns())))


@click.command("compare")
@click.argument("refs", nargs=-1, metavar="REF REF")
@numbered
@click.option("--samples", type=click.IntRange(min=0), help="How many inputs to show, in short; default: 1.")
@click.option(
    "--tested",
    type=click.IntRange(0, 1000),
    metavar="N",
    help="On how many inputs of both to test chrF; default: 300, fewer where texts are long.",
)
@as_json
@workspace
def compare_datasets(
    place: Workspace,
    *,
    refs: tuple[str, ...],
    number: int | None,
    samples: int | None,
    tested: int | None,
    as_json: bool,
) -> None:
    """Same and different settings, conditions of the same name side by side, and responses to the same input.

    Inputs are the same where their texts are; --input counts those of the first. Where both have references, chrF of
    each response to the same input is compared by the sign-flip test, corrected for the number of tests (Holm).
    """
    if len(refs) != 2:
        raise click.UsageError("Give two REFs.")
    if number is not None and samples is not None:
        raise click.UsageError("Give either --input or --samples.")
    from cli.text.perspectives_compare_text import compared
    from pipeline.perspectives.compare import compare

    with reading(place) as reader:
        sides = [_side(reader, agent_listings.dataset(reader, place, ref)) for ref in refs]
        at = None if number is None else agent_listings.position_of(sides[0], number)
        found = compare(sides[0], sides[1], n_tested=tested, n_samples=1 if samples is None else samples, position=at)
        if as_json:
            hidden = {"identity", "config", "settings", "inputs", "answers", "conditions"}
            rows = [{name: value for name, value in row.items() if name not in hidden} for row in sides]
            show_json({"datasets": rows, **asdict(found)})
        else:
            show("\n".join(compared(sides, found, columns=columns(), whole=number is not None)))
        bring_files_up_to_date(place, reader, _idle(sides))


def _side(reader: Reader, row: Row) -> Row:
    return row | {
        "conditions": _conditions(reader, row),
        "inputs": agent_listings.inputs(reader, row),
        "answers": agent_listings.responses(reader, row["id"]),
    }


def _conditions(reader: Reader, row: Row) -> list[Row]:
    return agent_listings.conditions(reader, [row["id"]])[row["id"]]


def _idle(rows: list[Row]) -> set[int]:
    """Those that nobody makes now: what is being made anew is written by who makes it."""
    return {row["id"] for row in rows if row["made_by"] is None}
