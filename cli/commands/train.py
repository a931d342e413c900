"""``synthtrack train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options, render
from cli.config_files import config_files, refuse_elsewhere
from cli.progress import command_line, logged_to_mlflow
from tracker.errors import Error, TrainingFailed
from tracker.paths import Workspace, is_new
from tracker.record.catalogue import reading

if TYPE_CHECKING:
    from pipeline.training.plan import Plan
    from pipeline.training.sweep import End


@click.command()
@click.argument("configs", nargs=-1, metavar="CONFIG...", type=click.Path(path_type=Path))
@click.option("--config", "more", multiple=True, type=click.Path(path_type=Path), help="The same as CONFIG.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a setting, as 'hyperparameters.seed=[0,1]'.",
)
@click.option("--dry-run", is_flag=True, help="Show the grid, the data and what it would take; nothing is written.")
@click.option("--skip-done", is_flag=True, help="Leave out the points that were trained to the end before.")
@click.option("--fresh", is_flag=True, help="Begin anew, also where an unfinished sweep of this config could go on.")
@click.option("--background", is_flag=True, help="Train in the background, as wait_for_completion: false does.")
@options.no_mlflow
@options.as_json
@options.workspace
def train(
    workspace: Workspace,
    /,
    *,
    configs: tuple[Path, ...],
    more: tuple[Path, ...],
    dry_run: bool,
    background: bool,
    no_mlflow: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Train and measure a model as CONFIG says: every point of its grid, or what is left of it.

    CONFIG is a YAML file or a directory of them; several run one after the other. After Ctrl-C the same command goes on
    where it stopped.
    """
    from pipeline.training.devices import devices_of
    from pipeline.training.plan import Options, prepare

    if background:
        chosen["overrides"] = (*chosen["overrides"], "wait_for_completion=false")
    given = Options(command=command_line(), **chosen)
    new = is_new(workspace)
    if new:
        refuse_elsewhere(workspace, (*configs, *more))
    plans = [prepare(workspace, path, given) for path in config_files(workspace, (*configs, *more))]
    if len(plans) > 1 and not all(plan.config.wait_for_completion for plan in plans):
        raise click.UsageError(
            "Several configs at once in the background would train on the same devices: one at a time."
        )
    for warning in dict.fromkeys(warning for plan in plans for warning in plan.warnings):
        render.note(f"⚠️  {warning}")
    # A device of the last config that is not there is said before the first one trains for hours.
    for plan in plans:
        devices_of(plan)
    if new:
        render.note_new_workspace(workspace.root, dry_run=dry_run)
    if dry_run:
        _dry_run(workspace, plans, as_json=as_json)
        return
    with logged_to_mlflow(workspace, leave=no_mlflow, waits=True):
        _train_all(workspace, plans, mlflow=not no_mlflow, as_json=as_json)


def _dry_run(workspace: Workspace, plans: list[Plan], *, as_json: bool) -> None:
    from cli.text.train_text import planned, planned_json
    from pipeline.training.devices import devices_of, torch_name
    from pipeline.training.estimate import estimate
    from pipeline.training.memory import free_memory

    found = []
    for plan in plans:
        devices = devices_of(plan)
        free = free_memory(torch_name(devices[0]))
        if workspace.database_url is None and not workspace.database.exists():
            taken = estimate(plan, None, devices[0])
        else:
            with reading(workspace) as reader:
                taken = estimate(plan, reader, devices[0])
        if as_json:
            found.append(planned_json(workspace, plan, devices, taken, free))
        else:
            render.show(f"Plan of {workspace.relative(Path(plan.path))} (dry run: nothing is written)")
            render.show("\n".join([*planned(workspace, plan, devices, taken, free), ""]))
    if as_json:
        render.show_json(found)


def _train_all(workspace: Workspace, plans: list[Plan], *, mlflow: bool, as_json: bool) -> None:
    """One sweep after the other; a sweep with failures does not keep the next from being trained."""
    from pipeline.training.plan import prepare

    failures: list[Error] = []
    shown: list[Any] = []
    try:
        for number, plan in enumerate(plans):
            # What came before may have trained some of its points.
            again = prepare(workspace, Path(plan.path), plan.options) if number else plan
            try:
                _train(workspace, again, shown, mlflow=mlflow, as_json=as_json)
            except TrainingFailed as error:
                failures.append(error)
    finally:
        if as_json:
            render.show_json(shown)
    for failure in failures[1:]:
        render.note(f"⚠️  {failure}")
    if failures:
        raise failures[0]


def _train(workspace: Workspace, plan: Plan, shown: list[Any], *, mlflow: bool, as_json: bool) -> None:
    """Trains a plan; what came of it is put into ``shown``, also where it failed."""
    from cli.text.train_text import trained
    from pipeline.training.devices import devices_of
    from pipeline.training.train import register
    from tracker.record.database import open_database

    wanted = plan.wanted()
    if not wanted:
        render.note(f"⚡ {plan.path}: every point was trained before; nothing to do (--skip-done).")
        shown.append({"uuid": None, "status": "complete", "runs": []})
        return
    _announce(plan)
    devices = devices_of(plan)
    with open_database(workspace) as database:
        sweep_id = register(workspace, database, plan, devices)
    if not plan.config.wait_for_completion:
        shown.append(_in_background(workspace, sweep_id, mlflow=mlflow))
        return
    end = _waited_for(workspace, sweep_id)
    found = _sweep(workspace, sweep_id)
    shown.append(found)
    if not as_json:
        render.show(trained(found["varied"], found["runs"]))
    end.check()


def _announce(plan: Plan) -> None:
    done = sum(each.n_complete > 0 for each in plan.wanted())
    if plan.unfinished is not None:
        render.note(f"💾 Going on with the unfinished sweep {plan.unfinished['uuid'][:8]} of this config.")
    elif done:
        points = render.counted(len(plan.wanted()), "point")
        render.note(f"⚡ {done} of {points} trained before: new attempts (--skip-done leaves them out).")


def _in_background(workspace: Workspace, sweep_id: int, *, mlflow: bool) -> dict[str, Any]:
    from pipeline.training.supervisor import start_in_background

    start_in_background(workspace, sweep_id, mlflow=mlflow)
    found = _sweep(workspace, sweep_id)
    render.note(
        f"💾 Training in the background: sweep {found['uuid'][:8]}, {render.counted(len(found['runs']), 'run')}."
    )
    render.note("   `synthtrack training status` shows how far it is, `synthtrack training stop` ends it.")
    return found


def _waited_for(workspace: Workspace, sweep_id: int) -> End:
    from cli.text.training_progress import training_progress
    from pipeline.training.interrupts import Interrupts
    from pipeline.training.sweep import work

    with Interrupts() as interrupts, training_progress() as display:
        return work(workspace, sweep_id, on_progress=display, interrupts=interrupts)


def _sweep(workspace: Workspace, sweep_id: int) -> dict[str, Any]:
    from tracker.record import sweeps

    with reading(workspace) as reader:
        return sweeps.sweep(reader, sweep_id)
