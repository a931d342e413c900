"""`synthtrack training`: looks at trainings under way, stops them and goes on with them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from cli.options import as_json, no_mlflow, workspace
from cli.render import note, show, show_json
from tracker.errors import Conflict
from tracker.paths import Workspace
from tracker.record import sweeps
from tracker.record.catalogue import Reader, Row, reading
from tracker.record.sweeps import RESUMABLE, Found

_POLL_S = 0.3


@click.group()
def training() -> None:
    """Look at trainings under way, stop them, go on with them.

    REF is the beginning of a sweep's or run's uuid, of a run's fingerprint, or a result directory.
    """


@training.command()
@click.argument("ref", required=False)
@click.option("--all", "everything", is_flag=True, help="Also the finished sweeps before the newest.")
@as_json
@workspace
def status(place: Workspace, *, ref: str | None, everything: bool, as_json: bool) -> None:
    """The sweeps that are not finished and the newest that is: how far each run is, or the sweep or run REF."""
    from cli.text.training_text import run_details, statuses

    with reading(place) as reader:
        found = None if ref is None else sweeps.find(reader, place, ref)
        shown = (
            sweeps.sweeps(reader, everything=everything) if found is None else [sweeps.sweep(reader, found.sweep_id)]
        )
        if found is not None and found.run_id is not None:
            shown = [shown[0] | {"runs": [sweeps.run(reader, found.run_id)]}]
    logs = [_log(place, sweep) for sweep in shown]
    if as_json:
        show_json([sweep | {"log": log} for sweep, log in zip(shown, logs, strict=True)])
        return
    show("\n".join(statuses(shown, logs)))
    if found is not None and found.run_id is not None:
        run = shown[0]["runs"][0]
        show("\n".join(run_details(run, _outputs(place, run))))


@training.command()
@click.argument("ref", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run, or the sweep, has ended.")
@click.option("--err", "errors", is_flag=True, help="What it wrote to stderr, instead of stdout.")
@workspace
def logs(place: Workspace, *, ref: str | None, follow: bool, errors: bool) -> None:
    """What the run REF has written, or each run of the sweep REF; without REF the newest sweep."""
    from cli.text.training_logs import follow_logs, show_logs

    with reading(place) as reader:
        found = _newest(reader) if ref is None else sweeps.find(reader, place, ref)
    if found is None:
        note("💾 Nothing was trained yet.")
    elif follow:
        follow_logs(place, found, errors=errors)
    else:
        show_logs(place, found, errors=errors)


@training.command()
@click.argument("ref", required=False)
@click.option("--now", is_flag=True, help="Kill it: what it did since its last checkpoint is done again.")
@workspace
def stop(place: Workspace, *, ref: str | None, now: bool) -> None:
    """Ask the run or sweep REF to save its checkpoint and end, and wait for it; without REF the one that is trained."""
    from cli.text.training_text import ended
    from pipeline.training import stopping

    with reading(place) as reader:
        found = _running(reader) if ref is None else sweeps.find(reader, place, ref)
    asked = [] if found is None else stopping.request(place, found, now=now)
    if found is None or not asked:
        show("💾 Nothing is being trained." if ref is None else "💾 It is not being trained.")
        return
    if not now:
        note("Waiting for its checkpoint. Ctrl-C leaves it to end by itself; --now kills it.")
    while (left := stopping.ended(place, found)) is None:
        time.sleep(_POLL_S)
    ids = {run["id"] for run in asked}
    show("\n".join(ended(run) for run in left if run["id"] in ids))


@training.command()
@click.argument("ref", required=False)
@click.option("--background", is_flag=True, help="Do not wait: a supervisor goes on that survives this terminal.")
@no_mlflow
@workspace
def resume(place: Workspace, *, ref: str | None, background: bool, no_mlflow: bool) -> None:
    """Go on with the sweep or run REF where it stopped; without REF with the newest sweep that is not finished."""
    with reading(place) as reader:
        found = _unfinished(reader) if ref is None else sweeps.find(reader, place, ref)
        if found is None:
            show("💾 Nothing is left to train.")
            return
        sweep = sweeps.sweep(reader, found.sweep_id)
    chosen = [run for run in sweep["runs"] if found.run_id in {None, run["id"]}]
    left = [run for run in chosen if run["status"] in {*RESUMABLE, "running"} and not run["import_run_id"]]
    if not left:
        failed = any(run["status"] == "failed" for run in chosen)
        again = " `synthtrack train` on its config tries what failed again." if failed else ""
        show(f"💾 Nothing is left to train.{again}")
        return
    only = None if found.run_id is None else [found.run_id]
    if background:
        _in_background(place, sweep, only, mlflow=not no_mlflow)
    else:
        _wait(place, sweep, only, mlflow=not no_mlflow)


def _in_background(place: Workspace, sweep: Row, only: Sequence[int] | None, *, mlflow: bool) -> None:
    from pipeline.training.supervisor import start_in_background

    log = start_in_background(place, sweep["id"], only=only, mlflow=mlflow)
    ref = sweep["uuid"][:8]
    show(f"💾 Sweep {ref} goes on in the background; its log is {place.relative(log)}.")
    show(f"   `synthtrack training status {ref}` shows how far it is, `synthtrack training stop {ref}` ends it.")


def _wait(place: Workspace, sweep: Row, only: Sequence[int] | None, *, mlflow: bool) -> None:
    from cli.progress import logged_to_mlflow
    from cli.text.train_text import trained
    from cli.text.training_progress import training_progress
    from pipeline.training.interrupts import Interrupts
    from pipeline.training.sweep import work

    with logged_to_mlflow(place, leave=not mlflow):
        with Interrupts() as interrupts, training_progress() as display:
            end = work(place, sweep["id"], on_progress=display, interrupts=interrupts, only=only)
        with reading(place) as reader:
            show(trained(sweep["varied"], [sweeps.run(reader, run["id"]) for run in end.runs]))
    end.check()


def _newest(reader: Reader) -> Found | None:
    return _first(sweeps.sweeps(reader))


def _unfinished(reader: Reader) -> Found | None:
    """The newest sweep that can go on: one that nobody works on, if there is any."""
    found = [sweep for sweep in sweeps.sweeps(reader) if sweeps.is_unfinished(sweep)]
    return _first([sweep for sweep in found if sweep["status"] != "running"] or found)


def _running(reader: Reader) -> Found | None:
    """The one sweep that is being trained. Raises Conflict where there are several."""
    found = [
        sweep
        for sweep in sweeps.sweeps(reader)
        if sweep["status"] == "running" or any(run["status"] == "running" for run in sweep["runs"])
    ]
    if len(found) > 1:
        which = ", ".join(sweep["uuid"][:8] for sweep in found)
        raise Conflict(
            f"{len(found)} sweeps are being trained: {which}.", hint="Say which: `synthtrack training stop REF`."
        )
    return _first(found)


def _first(found: Sequence[Row]) -> Found | None:
    return Found(found[0]["id"]) if found else None


def _log(place: Workspace, sweep: Row) -> str | None:
    path = sweeps.log_file(place, sweep)
    return place.relative(path) if path.exists() else None


def _outputs(place: Workspace, run: Row) -> list[str]:
    from cli.text.training_logs import files

    return [place.relative(path) for path in files(place, run) if path.exists()]
