"""`synthtrack mlflow` and `synthtrack ui`: what MLflow shows of the record."""

from __future__ import annotations

import signal
from dataclasses import asdict

import click

from cli.options import as_json, workspace
from cli.render import counted, is_terminal, note, show, show_json
from tracker.errors import StorageError
from tracker.mlflow_runs.mlflow_log import PATIENCE_S, Drained, drain
from tracker.paths import Workspace, without_password


@click.group()
def mlflow() -> None:
    """Bring MLflow up to date with the record."""


@mlflow.command()
@click.option("--rebuild", is_flag=True, help="Also log again what is no longer in MLflow (after `rm -rf mlruns`).")
@as_json
@workspace
def sync(space: Workspace, rebuild: bool, as_json: bool) -> None:
    """Log every run that MLflow does not show yet, and take out of sight what was deleted."""
    from tracker.deleting.trash import settle_all

    settle_all(space)
    drained = _drain(space, rebuild=rebuild, patience_s=None)
    if as_json:
        show_json({**asdict(drained), "tracking_uri": without_password(space.mlflow_uri)})
    else:
        there = f", {drained.already_there:,} were there already" if drained.already_there else ""
        show(f"{counted(drained.logged, 'run')} logged to {without_password(space.mlflow_uri)}{there}.")
    if drained.failed:
        raise StorageError(
            "\n".join([f"{counted(drained.failed, 'run')} could not be logged:", *drained.errors]),
            hint="Nothing is lost: `synthtrack mlflow sync` tries again.",
        )


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="The port to listen at.")
@click.option("--open", "open_browser", is_flag=True, help="Open it in the browser.")
@workspace
def ui(space: Workspace, host: str, port: int, open_browser: bool) -> None:
    """Start MLflow's user interface on this workspace, until Ctrl-C."""
    from tracker.mlflow_runs.mlflow_ui import served

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    drained = _drain(space, rebuild=False, patience_s=PATIENCE_S)
    for error in drained.errors:
        note(f"Not in MLflow yet: {error}")
    if space.mlflow_uri.startswith(("http:", "https:")):
        _show_links(space, space.mlflow_uri.rstrip("/"), open_browser=open_browser)
        return
    note("Starting MLflow ...")
    try:
        with served(space, host, port) as (base, process):
            _show_links(space, base, open_browser=open_browser)
            show("\nCtrl-C stops it.")
            code = process.wait()
    except KeyboardInterrupt:
        note("Stopped.")
        return
    raise StorageError(f"MLflow's server ended by itself (code {code}).", hint="Start it again: `synthtrack ui`.")


def _drain(space: Workspace, *, rebuild: bool, patience_s: float | None) -> Drained:
    def progress(done: int, total: int) -> None:
        if done % 25 == 0 or done == total:
            note(f"Logging to MLflow: {done:,} of {total:,}")

    return drain(
        space,
        rebuild=rebuild,
        on_progress=progress if is_terminal() else None,
        patience_s=patience_s,
        on_wait=lambda: note("Another process is logging to MLflow; waiting for it."),
    )


def _show_links(space: Workspace, base: str, *, open_browser: bool) -> None:
    from tracker.mlflow_runs.mlflow_ui import AGENT_RUN, TRAINING_RUN, comparisons, experiments_link

    show(f"MLflow:  {experiments_link(base)}")
    for comparison in comparisons(space, base):
        show(f"\nCompare {counted(comparison.n_runs, comparison.kind)} of {comparison.batch}:\n  {comparison.url}")
        what = {TRAINING_RUN: "predictions", AGENT_RUN: "responses"}.get(comparison.kind, "samples")
        show(f"Their {what} side by side:\n  {comparison.samples_url}")
    if open_browser:
        click.launch(experiments_link(base))
