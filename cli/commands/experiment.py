"""`synthtrack experiment`: which synthetic data sets there are, what is known of one, and how several differ."""

from __future__ import annotations

from dataclasses import asdict

import click

from cli.commands.delete_commands import delete_experiment
from cli.options import as_json, workspace
from cli.render import show, show_either, show_json
from cli.text.experiment_text import listed, shown
from cli.text.listing import bring_up_to_date, limit_of, limited, of_dataset, verbose
from cli.text.next_command import generate_command, next_command
from tracker.listings import listings
from tracker.paths import Workspace
from tracker.publishing.publications import publications_of
from tracker.record.catalogue import Reader, Row, reading


@click.group()
def experiment() -> None:
    """List, show, compare and delete experiments."""


experiment.add_command(delete_experiment)


@experiment.command("list")
@of_dataset
@verbose
@limited
@as_json
@workspace
def list_experiments(place: Workspace, *, dataset: str | None, verbose: bool, limit: int | None, as_json: bool) -> None:
    """Every synthetic data set that was made, once, whatever batches hold it."""
    with reading(place) as reader:
        found = listings.experiments(reader, dataset, limit_of(limit, as_json=as_json))
        show_either(found.rows, lambda: listed(found, verbose=verbose), as_json=as_json)
        bring_up_to_date(place, reader, (row["id"] for row in found.rows))


@experiment.command("show")
@click.argument("ref")
@click.option("--samples", type=click.IntRange(min=0), default=3, show_default=True, help="How many records to show.")
@as_json
@workspace
def show_experiment(place: Workspace, *, ref: str, samples: int, as_json: bool) -> None:
    """All that is known of one experiment. REF: Copa/temp07_topp10_gpt4o, a fingerprint or its beginning, or a path."""
    with reading(place) as reader:
        row = _all_of(reader, place, listings.experiment(reader, ref, place), samples)
        show_either(row, lambda: shown(row), as_json=as_json)
        bring_up_to_date(place, reader, [row["id"]])


@experiment.command("compare")
@click.argument("refs", nargs=-1, metavar="REF REF...")
@click.option("--shared", multiple=True, metavar="REF", help="The same as a REF.")
@click.option("--batch1", metavar="BATCH", help="Compare all experiments of this batch ...")
@click.option("--dataset1", metavar="NAME", help="on this data set ...")
@click.option("--batch2", metavar="BATCH", help="with those of this one ...")
@click.option("--dataset2", metavar="NAME", help="on this; default: as --dataset1.")
@as_json
@workspace
def compare_experiments(
    place: Workspace,
    *,
    refs: tuple[str, ...],
    shared: tuple[str, ...],
    batch1: str | None,
    dataset1: str | None,
    batch2: str | None,
    dataset2: str | None,
    as_json: bool,
) -> None:
    """Same and different settings, results side by side, and whether the data can be shared."""
    named = (*refs, *shared)
    if (batch1 is None) != (batch2 is None) or (batch1 is None) == (len(named) < 2):
        raise click.UsageError("Give two or more REFs, or --batch1 and --batch2.")
    with reading(place) as reader:
        if batch1 is not None and batch2 is not None:
            _compare_batches(reader, place, (batch1, dataset1), (batch2, dataset2 or dataset1), as_json=as_json)
        else:
            _compare(reader, place, named, as_json=as_json)


def _compare(reader: Reader, place: Workspace, refs: tuple[str, ...], *, as_json: bool) -> None:
    from cli.text.compare_text import compared
    from tracker.listings.compare import compare

    rows = [listings.experiment(reader, ref, place) for ref in refs]
    found = compare(rows)
    show_either(
        {"experiments": [_without_settings(row) for row in rows], **asdict(found)},
        lambda: compared(rows, found),
        as_json=as_json,
    )
    bring_up_to_date(place, reader, {row["id"] for row in rows})


def _compare_batches(
    reader: Reader, place: Workspace, first: tuple[str, str | None], second: tuple[str, str | None], *, as_json: bool
) -> None:
    from cli.text.compare_text import compared_batches
    from tracker.listings.compare import compare_batches

    sides = [listings.batch_experiments(reader, *side).rows for side in (first, second)]
    found = compare_batches(*(listings.with_settings(reader, side) for side in sides))
    if as_json:
        own = [[_without_settings(row) for row in each] for each in found.own]
        show_json(
            {
                "shared": [_without_settings(row) for row in found.shared],
                "only_in_batch1": own[0],
                "only_in_batch2": own[1],
                "same": found.same,
                "different": found.different,
            }
        )
    else:
        names = ["/".join(part for part in side if part) for side in (first, second)]
        show("\n".join(compared_batches((names[0], names[1]), found)))
    bring_up_to_date(place, reader, {row["id"] for side in sides for row in side})


def _without_settings(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in ("settings", "identity")}


def _next(reader: Reader, row: Row, runs: list[Row]) -> Row:
    if row["strategy"] != "two_stage":
        return {"next_command": generate_command(row, runs)}
    from cli.text.steps import described, overview
    from pipeline.two_stage import load

    state = load(reader, row)
    return {
        "next_command": next_command(state, runs),
        "step": state.step().value,
        "progress": [overview(state), *described(state)],
        "judge_tests": listings.judge_tests(reader, row["id"]),
    }


def _all_of(reader: Reader, place: Workspace, row: Row, samples: int) -> Row:
    runs = listings.generation_runs(reader, row["id"])
    held_by = listings.memberships(reader, [row["id"]])[row["id"]]
    return {key: value for key, value in row.items() if key != "identity"} | {
        **_next(reader, row, runs),
        "shared_path": listings.data_path(place, row),
        "files": listings.files(reader, row),
        "batches": [held | {"path": listings.data_path(place, row, held["batch"])} for held in held_by],
        "runs": runs,
        "publications": publications_of(reader, place, row["id"]),
        "samples": listings.samples(reader, row["id"], samples),
    }
