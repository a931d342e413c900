"""`synthtrack result`: what trainings gave, everything about one, and whether several differ by more than chance."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.commands.delete_commands import delete_result
from cli.options import as_json, overwrite, workspace
from cli.render import json_text, note, show, show_json
from cli.text.listing import limit_of, limited
from tracker.listings import results
from tracker.listings.results import Filters
from tracker.paths import Workspace
from tracker.record import sweeps
from tracker.record.catalogue import Reader, Row, reading

Command = TypeVar("Command", bound=Callable[..., Any])
_FILTERS = {
    "purpose": "Only trainings with this purpose.",
    "task": "Only this task (`Copa`).",
    "model": "Only this model; the last part of its name will do.",
    "method": "Only zo, fo_full or fo_lora.",
    "data": "Only this data: its short name, Copa/NAME, or its fingerprint.",
}


def filtered(command: Command) -> Command:
    """The options that choose training runs."""
    for name, help_text in reversed(_FILTERS.items()):
        command = click.option(f"--{name}", metavar=name.upper(), help=help_text)(command)
    return command


@click.group()
def result() -> None:
    """List, show and compare what trainings gave.

    REF is the beginning of a run's uuid or of its training fingerprint (of several attempts the newest is meant), a
    result directory, or the beginning of a sweep's uuid.
    """


result.add_command(delete_result)


@result.command("list")
@click.option("--detail", is_flag=True, help="Each training run with its settings, data and accuracy.")
@filtered
@click.option("--status", type=click.Choice(results.STATUSES), help="Only runs that are so now.")
@limited
@as_json
@workspace
def list_results(place: Workspace, /, *, detail: bool, limit: int | None, as_json: bool, **chosen: str | None) -> None:
    """Training runs by purpose and model, with the best accuracy on each task.

    For example: `synthtrack result list --detail --purpose hyperparameter_tuning`.
    """
    from cli.text.result_text import detailed, summed_up

    if limit is not None and not detail:
        raise click.UsageError("--limit goes with --detail.")
    with reading(place) as reader:
        if detail:
            found = results.details(reader, Filters(**chosen), limit_of(limit, as_json=as_json))
            show(_lines_of_json(found.rows) if as_json else "\n".join(detailed(found)))
        else:
            groups = results.summary(reader, Filters(**chosen))
            _show(groups if as_json else "\n".join(summed_up(groups, place.relative(place.results_dir))))


@result.command("show")
@click.argument("ref")
@click.option(
    "--wrong", type=click.IntRange(min=0), default=5, show_default=True, help="How many wrong answers to show."
)
@as_json
@workspace
def show_result(place: Workspace, *, ref: str, wrong: int, as_json: bool) -> None:
    """All that is known of one training run, or the table of a sweep.

    For example: `synthtrack result show 3f2a91`.
    """
    from cli.text.result_show_text import shown, shown_sweep

    with reading(place) as reader:
        found = sweeps.find(reader, place, ref, shown_by="result list --detail")
        if found.run_id is None:
            sweep = _sweep(reader, found.sweep_id)
            _show(sweep if as_json else "\n".join(shown_sweep(sweep)))
        else:
            run = _run(reader, place, found.run_id)
            _show(run if as_json else "\n".join(shown(run, wrong)))


@result.command("compare")
@click.argument("refs", nargs=-1, metavar="REF REF...")
@click.option("--sweep", "of_sweeps", multiple=True, metavar="REF", help="All finished runs of this sweep.")
@click.option("--each-seed", is_flag=True, help="Every run by itself; default: seeds of one point are pooled.")
@as_json
@workspace
def compare_results(
    place: Workspace, *, refs: tuple[str, ...], of_sweeps: tuple[str, ...], each_seed: bool, as_json: bool
) -> None:
    """What differs in settings and data, metrics side by side, and which differences are more than chance.

    Runs measured on the same records are compared record by record: by McNemar's exact test, and where seeds are pooled
    by the exact sign-flip test, which with one seed is McNemar's. Up to four results are compared each with each, more
    with the best. P-values are corrected for the number of tests (Holm).

    For example: `synthtrack result compare 3f2a91 88c0d4`.
    """
    from cli.text.result_compare_text import compared
    from tracker.reports import result_reports

    with reading(place) as reader:
        ids = result_reports.run_ids(reader, place, (*refs, *of_sweeps))
        if len(ids) < 2:
            raise click.UsageError("Give two or more REFs, or a sweep with two or more finished runs.")
        found = result_reports.compare(reader, ids, apart=each_seed)
    _show(found.plain() if as_json else "\n".join(compared(found)))


@result.command("best")
@click.option("--by", metavar="SETTING", help="A setting of the run, or one that its data was generated with.")
@click.option("--settings", "only_settings", is_flag=True, help="Show what --by can be, with the values there are.")
@filtered
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw it, as a PNG.")
@overwrite
@as_json
@workspace
def best_results(
    place: Workspace,
    /,
    *,
    by: str | None,
    only_settings: bool,
    plot: Path | None,
    overwrite: bool,
    as_json: bool,
    **chosen: str | None,
) -> None:
    """Which value of a setting gave the best model, and whether that is more than chance.

    A point is what runs have in common that differ in nothing but the seed; of each value its best point counts, by the
    mean accuracy over its seeds, and of each run the newest complete attempt. The last part of a name will do.

    For example: `synthtrack result best --task Copa --by generation.temperature --plot temperature.png`.
    """
    if (by is None) != only_settings:
        raise click.UsageError("Give either --by SETTING or --settings.")
    from cli.text.result_best_text import ranked, settings_listed
    from tracker.reports import result_reports

    with reading(place) as reader:
        runs = result_reports.finished(reader, Filters(**chosen))
        if by is None:
            names = result_reports.by_settings(runs)
            values = {name: result_reports.plain_values(groups) for name, groups in names.items()}
            _show(values if as_json else "\n".join(settings_listed(names)))
            return
        tasks = sorted({each.row["task"] for each in runs})
        if len(tasks) > 1:
            raise click.UsageError(
                f"Accuracies of different tasks cannot be compared: give --task, {' or '.join(tasks)}."
            )
        found = result_reports.rank(reader, runs, by)
    if plot is not None:
        from cli.output_file import write_output
        from tracker.reports.result_plots import by_setting

        write_output(plot, by_setting(found), overwrite=overwrite)
    _show(found.plain() if as_json else "\n".join(ranked(found)))
    if plot is not None:
        note(f"Drawn in {plot}.")


def _lines_of_json(rows: Sequence[Row]) -> str:
    """A JSON array with a line for each row: of many rows, indenting would take most of the time."""
    return "\n".join(["[", ",\n".join(json_text(row) for row in rows), "]"])


def _show(what: Any) -> None:
    if isinstance(what, str):
        show(what)
    else:
        show_json(what)


def _run(reader: Reader, place: Workspace, run_id: int) -> Row:
    from tracker.listings.result_settings import load
    from tracker.reports import result_reports

    run = results.run(reader, run_id)
    seeds = result_reports.siblings(reader, load(reader, [run])[0])
    directory = place.root / run["directory"]
    more = {"seeds": result_reports.plain_pool(seeds), "files": _files(directory), "next_command": _next_command(run)}
    return run | more


def _sweep(reader: Reader, sweep_id: int) -> Row:
    from tracker.listings.result_compare import pooled
    from tracker.listings.result_settings import load
    from tracker.reports import result_reports

    sweep = sweeps.sweep(reader, sweep_id)
    rows = results.runs(reader, [run["id"] for run in sweep.pop("runs")])
    finished = [each for each in load(reader, rows) if each.accuracy is not None]
    pools = pooled(finished, results.answers(reader, [each.id for each in finished]))
    points = [result_reports.plain_pool(each) | {"settings": each.first.row["settings"]} for each in pools]
    several = any(len(each.results) > 1 for each in pools)
    return sweep | {"results": rows, "points": points if several else []}


def _files(directory: Path) -> list[Row]:
    """What lies in a result directory; directories without a size."""
    try:
        with os.scandir(directory) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
            return [
                {"name": entry.name + ("/" if entry.is_dir() else ""),
                 "n_bytes": None if entry.is_dir() else entry.stat(follow_symlinks=False).st_size}
                for entry in found
            ]  # fmt: skip
    except OSError:
        return []


def _next_command(run: Row) -> str | None:
    if run["import_run_id"]:
        return None
    match run["status"]:
        case "complete":
            return None
        case "running":
            return f"synthtrack training logs -f {run['uuid'][:8]}"
        case "failed":
            return f"synthtrack train {run['config_path']}" if run["config_path"] else None
        case _:
            return f"synthtrack training resume {run['sweep'][:8]}"
