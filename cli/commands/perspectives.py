"""``synthtrack perspectives``: many agents on one input."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options, render
from cli.commands.delete_commands import delete_agents
from cli.commands.perspectives_browse import compare_datasets, list_datasets, show_dataset
from cli.config_files import prepared
from cli.progress import command_line, in_turn, logged_to_mlflow, progress_bar, usage
from cli.text.perspectives_text import n_responses
from tracker.errors import Error, PartialResult, UnknownReference
from tracker.listings import agent_listings
from tracker.paths import Workspace, find_workspace
from tracker.record.catalogue import reading

if TYPE_CHECKING:
    from pipeline.perspectives.generate import Outcome
    from pipeline.perspectives.job import Job

_SUFFIXES = (".json", ".yaml", ".yml")


class ConfigOrCommand(click.Group):
    """A group whose first word may be a config instead of a command: ``perspectives CONFIG``.

    Options may stand before either.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {"-h", "--help"} and not ctx.resilient_parsing:
            at = self._first_word(args)
            if at is not None and args[at] in self.commands:
                args = [args[at], *args[:at], *args[at + 1 :]]
            else:
                if at is not None:
                    self._refuse_misspelt(ctx, args[at], args)
                args = ["run", *args]
        return super().parse_args(ctx, args)

    def _first_word(self, args: Sequence[str]) -> int | None:
        """Where the first argument is that is neither an option nor an option's value."""
        options = [
            each for command in self.commands.values() for each in command.params if each.param_type_name == "option"
        ]
        with_value = {name for each in options if not getattr(each, "is_flag", False) for name in each.opts}
        at = 0
        while at < len(args):
            if not args[at].startswith("-"):
                return at
            at += 2 if args[at] in with_value else 1
        return None

    def _refuse_misspelt(self, ctx: click.Context, word: str, args: Sequence[str]) -> None:
        """Raises UnknownReference for a word that is no command, and no file or directory either."""
        if Path(word).suffix in _SUFFIXES or "/" in word:
            return
        roots = [args[at + 1] for at, each in enumerate(args[:-1]) if each == "--root"]
        roots += [each.removeprefix("--root=") for each in args if each.startswith("--root=")]
        workspace = find_workspace(roots[-1] if roots else ctx.find_root().obj)
        if not os.path.lexists(workspace.find(word)):
            known = ", ".join(sorted(self.commands))
            hint = f"Commands are {known}. A config is a JSON or YAML file, or a directory of them."
            raise UnknownReference("command or config", word, self.commands, hint=hint)


@click.group(cls=ConfigOrCommand, subcommand_metavar="CONFIG... | COMMAND [ARGS]...")
def perspectives() -> None:
    """Let agents under several conditions answer every input, and look at what they answered.

    `synthtrack perspectives CONFIG` is short for `synthtrack perspectives run CONFIG`; `synthtrack perspectives run
    --help` lists its options: --test, --dry-run, --set KEY=VALUE, --fresh, --max-cost and more.

    For example: `synthtrack perspectives configs/perspectives/translation_offline.yaml --test`.
    """


for _command in (list_datasets, show_dataset, compare_datasets, delete_agents):
    perspectives.add_command(_command)


@perspectives.command()
@click.argument("configs", nargs=-1, metavar="CONFIG...", type=click.Path(path_type=Path))
@click.option("--config", "more", multiple=True, type=click.Path(path_type=Path), help="The same as CONFIG.")
@click.option("--test", is_flag=True, help="A trial: 10 inputs, the first 4 perspectives; its answers are kept.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, as model_config.temperature=1."
)
@options.dry_run
@options.fresh
@options.wait
@click.option("--accept-partial", is_flag=True, help="Write the file with null where a response fails for good.")
@click.option(
    "--max-cost", type=click.FloatRange(min=0), metavar="USD", help="Never let the data set cost more than this."
)
@options.no_mlflow
@options.as_json
@options.workspace
def run(
    workspace: Workspace,
    /,
    *,
    configs: tuple[Path, ...],
    more: tuple[Path, ...],
    dry_run: bool,
    no_mlflow: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Make the agent data set that CONFIG describes, resume it, or find it already made.

    CONFIG is a JSON or YAML file or a directory of them; several run one after the other.
    """
    from pipeline.engine.connect import missing_keys
    from pipeline.perspectives.job import Options, prepare

    given = Options(command=command_line(), **chosen)
    jobs = prepared(
        workspace, (*configs, *more), lambda path: prepare(workspace, path, given), dry_run=dry_run,
        missing=lambda job: missing_keys([job.plan.model], workspace.environ), suffixes=_SUFFIXES,
    )  # fmt: skip
    if dry_run:
        _dry_run(workspace, jobs, as_json=as_json)
        return
    with logged_to_mlflow(workspace, leave=no_mlflow, waits=True):
        failures = _run_all(workspace, jobs, as_json=as_json)
    if failures:
        raise failures[0]


def _run_all(workspace: Workspace, jobs: list[Job], *, as_json: bool) -> list[Error]:
    from pipeline.perspectives.generate import generate

    def make(job: Job) -> tuple[dict[str, Any], Error | None]:
        with progress_bar(job.plan.config.task_type, unit="resp") as display:
            outcome = asyncio.run(generate(workspace, job, display, render.note))
        if not as_json:
            _show(workspace, job, outcome)
        is_left = outcome.status == "partial" and not job.options.accept_partial
        return _outcome_json(workspace, outcome), _partial(outcome) if is_left else None

    return in_turn(jobs, make, lambda job, ended: {"run_status": ended, **_there(workspace, job)}, as_json=as_json)


def _there(workspace: Workspace, job: Job) -> dict[str, Any]:
    """What the record has of a data set whose run did not come to its end."""
    from pipeline.generation.job import has_record
    from pipeline.perspectives.job import existing

    found = None
    if has_record(workspace):
        with reading(workspace) as reader:
            if existing(reader, job.plan) is not None:
                found = agent_listings.dataset(reader, workspace, job.plan.identity.fingerprint)
    names = ("status", "path", "name", "n_inputs", "n_perspectives", "n_responses", "n_failed")
    return {
        "fingerprint": job.plan.identity.fingerprint,
        **{name: None if found is None else found[name] for name in names},
    }


def _outcome_json(workspace: Workspace, outcome: Outcome) -> dict[str, Any]:
    dataset = {name: value for name, value in outcome.dataset.items() if name not in {"id", "settings"}}
    run_keys = ("uuid", "n_calls", "n_cached", "n_retried", "n_rate_limited", "prompt_tokens", "completion_tokens")
    return {
        "outcome": outcome.outcome,
        "status": dataset["status"],
        "run_status": outcome.status,
        "path": None if outcome.path is None else workspace.relative(outcome.path),
        **{name: dataset[name] for name in ("fingerprint", "name", "task_type", "model", "n_inputs", "n_perspectives")},
        **{name: outcome.run[name] for name in ("n_responses", "n_failed", *run_keys, "cost_usd", "duration_s")},
        "first_failure": outcome.first_failure,
    }


def _partial(outcome: Outcome) -> PartialResult:
    to_have = "to have the file with null for them" if outcome.path is None else "to be content with that"
    return PartialResult(
        outcome.still_failing,
        hint=f"Run the same command to try them again, or add --accept-partial {to_have}.",
    )


def _show(workspace: Workspace, job: Job, outcome: Outcome) -> None:
    run, dataset = outcome.run, outcome.dataset
    if outcome.outcome == "reused":
        render.show(f"⚡ {dataset['name']}: already made, nothing generated")
    else:
        symbol = "✅" if dataset["status"] == "complete" else "⚠️ "
        render.show(f"{symbol} {dataset['name']}: {outcome.outcome}, {dataset['status']}")
    render.show(f"   Parameter fingerprint: {dataset['fingerprint']}")
    if job.plan.model.provider == "offline":
        render.show(f"   Model: {dataset['model']}, the offline provider's rules; no LLM")
    render.show(f"   Responses: {n_responses(dataset)}")
    if outcome.outcome != "reused":
        render.show("\n".join(usage(run)))
    for moved in outcome.changes.aside if outcome.outcome != "resumed" else ():
        render.note(f"⚠️  {moved} was not what the record says; it was moved to {outcome.changes.trash}.")
    if outcome.path is None:
        render.show("   No file yet: responses are missing.")
    else:
        missing = ", with null for what failed" if dataset["n_failed"] else ""
        render.show(f"   File: {workspace.relative(outcome.path)}{missing}")
        render.show(f"💾 Next: {shlex.join(['synthtrack', 'perspectives', 'show', dataset['name']])}")


def _dry_run(workspace: Workspace, jobs: list[Job], *, as_json: bool) -> None:
    from cli.text.perspectives_preview_text import previewed
    from pipeline.perspectives.preview import preview

    found = [(job, preview(workspace, job)) for job in jobs]
    if as_json:
        render.show_json([asdict(each) | {"config": job.path} for job, each in found])
        return
    for job, each in found:
        render.show("\n".join(previewed(job, each, render.columns())))
