"""``synthtrack generate``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options, render
from cli.config_files import prepared
from cli.progress import command_line, in_turn, logged_to_mlflow, progress_bar, usage
from tracker.errors import Error, PartialResult
from tracker.listings import listings
from tracker.paths import Workspace
from tracker.record.catalogue import reading

if TYPE_CHECKING:
    from pipeline.generation.generate import Outcome
    from pipeline.generation.job import Job
    from pipeline.two_stage import State


@click.command()
@click.argument("configs", nargs=-1, metavar="CONFIG...", type=click.Path(path_type=Path))
@click.option("--config", "more", multiple=True, type=click.Path(path_type=Path), help="The same as CONFIG.")
@click.option("--batch", metavar="NAME", help="The batch, instead of the config's.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, as generation.top_p=1."
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="A trial of the first N records, its own data set."
)
@options.dry_run
@options.fresh
@options.wait
@click.option("--accept-partial", is_flag=True, help="Keep the original where a record fails for good.")
@click.option(
    "--max-cost", type=click.FloatRange(min=0), metavar="USD", help="Never let the batch cost more than this."
)
@options.no_mlflow
@options.as_json
@options.workspace
def generate(
    workspace: Workspace,
    /,
    *,
    configs: tuple[Path, ...],
    more: tuple[Path, ...],
    dry_run: bool,
    no_mlflow: bool,
    as_json: bool,
    limit: int | None,
    **chosen: Any,
) -> None:
    """Make the synthetic data set that CONFIG describes, resume it, or find it already made.

    CONFIG is a YAML file or a directory of them; several run one after the other.
    """
    from pipeline.engine.connect import missing_keys
    from pipeline.generation.job import Options, models_of, prepare

    given = Options(record_limit=limit, command=command_line(), **chosen)
    jobs = prepared(
        workspace, (*configs, *more), lambda path: prepare(workspace, path, given), dry_run=dry_run,
        missing=lambda job: missing_keys(models_of(job.plan.config), workspace.environ),
    )  # fmt: skip
    if dry_run:
        _dry_run(workspace, jobs, as_json=as_json)
        return
    with logged_to_mlflow(workspace, leave=no_mlflow, waits=True):
        failures = _run_all(workspace, jobs, as_json=as_json)
    if failures:
        raise failures[0]


def _run_all(workspace: Workspace, jobs: list[Job], *, as_json: bool) -> list[Error]:
    from pipeline.generation.generate import generate as run

    def make(job: Job) -> tuple[dict[str, Any], Error | None]:
        with progress_bar(f"{job.plan.source.name}/{job.plan.semantic_name}") as display:
            outcome = run(workspace, job, display, render.note)
        if not as_json:
            _show(workspace, job, outcome)
        return _outcome_json(workspace, outcome), _partial(job, outcome) if _is_left_partial(job, outcome) else None

    return in_turn(jobs, make, lambda job, _: _there(workspace, job), as_json=as_json)


def _there(workspace: Workspace, job: Job) -> dict[str, Any]:
    """What the record has of an experiment whose run did not come to its end."""
    from pipeline.generation.job import existing, has_record

    found = None
    if has_record(workspace):
        with reading(workspace) as reader:
            found = existing(reader, job.plan)
    if found is None:
        return {"fingerprint": job.plan.identity.fingerprint, "reference": None, "status": None}
    reference = f"{found['dataset']}/{found['name']}"
    return {"fingerprint": found["fingerprint"], "reference": reference, "status": found["status"]}


def _is_left_partial(job: Job, outcome: Outcome) -> bool:
    return outcome.status == "partial" and not job.options.accept_partial


def _partial(job: Job, outcome: Outcome) -> PartialResult:
    n_failed = outcome.run["n_failed"] if outcome.run is not None else 0
    again = "Run the same command to try them again, or add --accept-partial to keep their originals."
    if n_failed == job.plan.n_records:
        again = f"{_unreached(job)}\n{again}"
    return PartialResult(
        f"{outcome.dataset}/{outcome.name}: {n_failed} of {job.plan.n_records} records still fail "
        f"(the first: {outcome.first_failure}).",
        hint=again,
    )


def _unreached(job: Job) -> str:
    """Where to look first if nothing at all was answered."""
    from pipeline.engine.connect import base_url
    from pipeline.providers import PROVIDERS

    models = [job.plan.config.generation, *([job.plan.config.validation] if job.plan.config.validation else [])]
    asked = " and ".join(dict.fromkeys(base_url(model) for model in models))
    variables = [PROVIDERS[str(model.provider)]["base_url_env"] for model in models]
    named = " or ".join(dict.fromkeys(["base_url in the config", *filter(None, variables)]))
    return f"Nothing was of use: check first that {asked} is the right address ({named})."


def _show(workspace: Workspace, job: Job, outcome: Outcome) -> None:
    from cli.text.generate_text import made, noted

    used = usage(outcome.run) if outcome.run is not None and outcome.outcome != "reused" else []
    paths = []
    if outcome.in_tree:
        paths.append(f"   Batch path:  {_data_path(workspace, outcome, outcome.batch)}")
        paths.append(f"   Shared path: {_data_path(workspace, outcome)}")
    following = None if outcome.state is None else _following(workspace, outcome.state)
    render.show("\n".join(made(job, outcome, usage=used, paths=paths, following=following)))
    for each in noted(job, outcome):
        render.note(f"⚠️  {each}")


def _following(workspace: Workspace, state: State) -> str | None:
    from cli.text.next_command import next_command

    with reading(workspace) as reader:
        return next_command(state, listings.generation_runs(reader, state.experiment["id"]))


def _data_path(workspace: Workspace, outcome: Outcome, batch: str | None = None) -> str:
    with reading(workspace) as reader:
        return listings.path_of(reader, workspace, outcome.fingerprint, batch)


def _outcome_json(workspace: Workspace, outcome: Outcome) -> dict[str, Any]:
    hidden = {"config", "versions", "price_list", "id", "shared_experiment_id", "batch_id", "heartbeat", "judge_key"}
    return {
        "reference": f"{outcome.dataset}/{outcome.name}",
        "fingerprint": outcome.fingerprint,
        "outcome": outcome.outcome,
        "status": outcome.status,
        "batch": outcome.batch,
        "original_batch": outcome.original_batch,
        "batch_path": _data_path(workspace, outcome, outcome.batch) if outcome.in_tree else None,
        "shared_path": _data_path(workspace, outcome) if outcome.in_tree else None,
        "run": outcome.run and {name: value for name, value in outcome.run.items() if name not in hidden},
        **_step_json(workspace, outcome),
    }


def _step_json(workspace: Workspace, outcome: Outcome) -> dict[str, Any]:
    state = outcome.state
    return {} if state is None else {"step": state.step().value, "next_command": _following(workspace, state)}


def _dry_run(workspace: Workspace, jobs: list[Job], *, as_json: bool) -> None:
    from cli.text.generate_text import previewed, summed
    from pipeline.generation.preview import preview

    previews = [preview(workspace, job) for job in jobs]
    if as_json:
        render.show_json([dataclasses.asdict(each) for each in previews])
        return
    for job, each in zip(jobs, previews, strict=True):
        render.show("\n".join(previewed(job, each)))
    if len(previews) > 1:
        render.show(f"\n{summed(previews)}")
