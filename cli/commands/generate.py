"""``synthtrack generate``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options, render
from cli.config_files import config_files, refuse_elsewhere
from cli.progress import command_line, in_turn, log_to_mlflow, progress_bar, usage
from tracker.errors import Error, PartialResult
from tracker.listings import listings
from tracker.paths import Workspace, is_new
from tracker.record.catalogue import reading

if TYPE_CHECKING:
    from pipeline.generation.generate import Outcome
    from pipeline.generation.job import Job
    from pipeline.generation.preview import Preview
    from pipeline.two_stage import State
    from tracker.record.catalogue import Row


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
@click.option("--dry-run", is_flag=True, help="Show what would be done and what it would cost; no call is made.")
@click.option("--fresh", is_flag=True, help="Another draw of the same settings, asked and paid for anew.")
@click.option("--wait", is_flag=True, help="Where another process makes this now, wait for it and share its data.")
@click.option("--accept-partial", is_flag=True, help="Keep the original where a record fails for good.")
@click.option(
    "--max-cost", type=click.FloatRange(min=0), metavar="USD", help="Never let the batch cost more than this."
)
@click.option("--no-mlflow", is_flag=True, help="Leave logging to MLflow for `synthtrack mlflow sync`.")
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
    from pipeline.generation.job import Options, prepare

    new = is_new(workspace)
    if new:
        refuse_elsewhere(workspace, (*configs, *more))
    given = Options(record_limit=limit, command=command_line(), **chosen)
    jobs = [prepare(workspace, path, given) for path in config_files(workspace, (*configs, *more))]
    for job in jobs:
        for warning in job.warnings:
            render.note(f"⚠️  {warning}")
    if new:
        render.note_new_workspace(workspace.root, dry_run=dry_run)
    if dry_run:
        _dry_run(workspace, jobs, as_json=as_json)
        return
    try:
        failures = _run_all(workspace, jobs, as_json=as_json)
    finally:
        if not no_mlflow:
            log_to_mlflow(workspace)
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
    return PartialResult(
        f"{outcome.dataset}/{outcome.name}: {_n_failed(outcome)} of {job.plan.n_records} records still fail "
        f"(the first: {outcome.first_failure}).",
        hint="Run the same command to try them again, or add --accept-partial to keep their originals.",
    )


def _n_failed(outcome: Outcome) -> int:
    return outcome.run["n_failed"] if outcome.run is not None else 0


def _show(workspace: Workspace, job: Job, outcome: Outcome) -> None:
    run, reference = outcome.run, f"{outcome.dataset}/{outcome.name}"
    if outcome.outcome == "reused":
        render.show(f"⚡ {reference}: already made, nothing generated")
        render.show(f"   Data reuse: Yes (original batch: {outcome.original_batch})")
    elif run is None:
        render.show(f"💾 {reference}: nothing to generate before a person has looked")
    else:
        symbol = "⚠️ " if outcome.status == "partial" else "✅"
        render.show(f"{symbol} {reference}: {outcome.outcome}, {outcome.status}")
    render.show(f"   Parameter fingerprint: {outcome.fingerprint}")
    _show_models(job)
    if run is not None:
        _show_run(job, outcome, run)
    # Data with accepted failures is meant to change when they are tried again.
    for moved in outcome.changes.aside if outcome.outcome != "resumed" else ():
        render.note(f"⚠️  {moved} was not what the record says; it was moved to {outcome.changes.trash}.")
    if outcome.state is not None and not outcome.in_tree:
        _show_step(workspace, outcome)
    elif not outcome.in_tree:
        render.show("   Not in the tree yet: records are missing.")
    else:
        render.show(f"   Batch path:  {_data_path(workspace, outcome, outcome.batch)}")
        render.show(f"   Shared path: {_data_path(workspace, outcome)}")


def _show_run(job: Job, outcome: Outcome, run: Row) -> None:
    if outcome.status != "waiting":
        render.show(f"   Records: {run['n_records']:,}, {_counts(job, outcome, run)}")
    if outcome.outcome != "reused":
        render.show("\n".join(usage(run)))
    _warn(job, outcome, run)


def _show_step(workspace: Workspace, outcome: Outcome) -> None:
    from cli.text.steps import described

    assert outcome.state is not None
    for line in described(outcome.state):
        render.show(f"   {line}")
    render.show(f"💾 Next: {_following(workspace, outcome.state)}")


def _following(workspace: Workspace, state: State) -> str | None:
    from cli.text.next_command import next_command

    with reading(workspace) as reader:
        return next_command(state, listings.generation_runs(reader, state.experiment["id"]))


def _warn(job: Job, outcome: Outcome, run: Row) -> None:
    judged = run["n_accepted"] + run["n_rejected"]
    if job.plan.judge is not None and 2 * run["n_unclear"] > judged:
        render.note(
            f"⚠️  {run['n_unclear']:,} of {judged:,} verdicts say neither `same` nor `not the same`, and their "
            "records kept the original. The validation prompt must ask for one of the two; "
            f"`synthtrack experiment show {outcome.dataset}/{outcome.name}` shows samples."
        )


def _show_models(job: Job) -> None:
    config = job.plan.config
    models = [("Model", config.generation), *([("Judge", config.validation)] if config.validation else [])]
    for title, model in models:
        if model.provider == "offline":
            render.show(f"   {title}: {model.model}, the offline provider's rules; no LLM")


def _counts(job: Job, outcome: Outcome, run: Row) -> str:
    if job.plan.judge is None:
        parts = [f"{run['n_accepted']:,} rephrased (no judge)"]
    else:
        unclear = f" ({run['n_unclear']:,} unclear)" if run["n_unclear"] else ""
        parts = [f"{run['n_accepted']:,} accepted", f"{run['n_rejected']:,} kept the original{unclear}"]
    if run["n_failed"]:
        parts.append(f"{run['n_failed']:,} failed" + (" and kept the original" if outcome.in_tree else ""))
    return ", ".join(parts)


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
    from pipeline.generation.preview import preview

    previews = [preview(workspace, job) for job in jobs]
    if as_json:
        render.show_json([dataclasses.asdict(each) for each in previews])
        return
    for job, each in zip(jobs, previews, strict=True):
        _show_preview(job, each)
    if len(previews) > 1:
        known = [each.cost_usd for each in previews if each.cost_usd is not None]
        calls = sum(each.rephrase_calls + each.judge_calls for each in previews)
        cost = render.usd(sum(known) if len(known) == len(previews) else None)
        render.show(f"\n🔧 {len(previews)} configs: about {calls:,} calls, {cost}")


def _show_preview(job: Job, each: Preview) -> None:
    render.show(f"🔧 {each.reference} (dry run: no call is made, nothing is written)")
    render.show(f"   Parameter fingerprint: {each.fingerprint}")
    _show_models(job)
    if each.reused_from is not None:
        render.show(f"   ⚡ Data reuse: Yes (original batch: {each.reused_from}); nothing would be generated")
    else:
        state = "new" if each.status == "new" else f"{each.status}, {each.n_done:,} of {each.n_records:,} records done"
        render.show(f"   ⚡ Data reuse: No ({state})")
    render.show(f"   Batch: {each.batch}")
    if job.plan.is_two_stage:
        size = job.plan.config.generation.review_size
        render.show(f"   Strategy two_stage: people look after the first {size} records, and before the judge decides.")
        render.show("   What they have not seen yet is reckoned as approved: it makes the later prompts longer.")
    render.show(
        f"   Calls: {each.rephrase_calls:,} to rephrase, about {each.judge_calls:,} to judge; "
        f"{each.already_paid:,} rephrasings are in the ledger already"
    )
    render.show(
        f"   Tokens: about {each.prompt_tokens:,} prompt + {each.completion_tokens:,} completion ({each.tokenizer})"
    )
    render.show(f"   Cost: {'' if each.cost_usd is None else 'about '}{render.usd(each.cost_usd)}")
    record = "the first record" if each.shown_record == 1 else f"record {each.shown_record:,}"
    render.show(f"\n   Rephrase prompt of {record}:")
    render.show(render.quoted(each.rephrase_prompt))
    if each.validation_prompt is not None:
        render.show(f"\n   Validation prompt of {record}, as if it came back unchanged:")
        render.show(render.quoted(each.validation_prompt))
