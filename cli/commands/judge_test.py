"""`synthtrack judge-test`: does the judge agree with the people?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options, render
from cli.progress import command_line, logged_to_mlflow, progress_bar
from tracker.paths import Workspace
from tracker.record.catalogue import Row

if TYPE_CHECKING:
    from pipeline.generation.tested import Tested

_WORDS = {"same": "same", "not_the_same": "not the same", "unclear": "unclear"}


@click.command("judge-test")
@click.argument("ref", metavar="EXPERIMENT")
@click.option("--config", type=click.Path(path_type=Path), help="Try the judge of this config instead.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Try it with another setting.")
@click.option("--list", "list_only", is_flag=True, help="Show every test so far; no call is made.")
@options.no_mlflow
@options.as_json
@options.workspace
def judge_test(
    workspace: Workspace,
    /,
    *,
    ref: str,
    config: Path | None,
    overrides: tuple[str, ...],
    list_only: bool,
    no_mlflow: bool,
    as_json: bool,
) -> None:
    """Test the judge on the samples that people annotated for that: accuracy, confusion matrix, every disagreement.

    With --config or --set it tries another judge on the same samples; every attempt is kept. Exit code 15 where the
    judge agrees less than validation.required_accuracy.
    """
    if list_only:
        _list(workspace, ref, as_json=as_json)
        return
    from pipeline.generation.judge_test import judge_test as run

    path = config and workspace.find(config)
    with logged_to_mlflow(workspace, leave=no_mlflow, waits=True), progress_bar(f"{ref} judge test") as display:
        tested = run(
            workspace, ref, config=path, overrides=overrides, command=command_line(), display=display, tell=_warn
        )
    render.show_either(_json(tested), lambda: _shown(tested), as_json=as_json)
    tested.check()


def _warn(warning: str) -> None:
    render.note(f"⚠️  {warning}")


def _json(tested: Tested) -> Row:
    kept = ("uuid", "n_calls", "n_cached", "prompt_tokens", "completion_tokens", "cost_usd", "duration_s")
    return asdict(tested) | {"run": {name: tested.run[name] for name in kept}, "step": tested.step.value}


def _shown(tested: Tested) -> Iterator[str]:
    symbol = "✅" if tested.passed else "⚠️ "
    yield f"{symbol} {tested.reference}: the judge {tested.model} {'passed' if tested.passed else 'did not pass'}"
    if tested.tested_before is not None:
        yield f"   Tested before, on {render.moment(tested.tested_before)}; nothing was asked now"
    yield (
        f"   Accuracy: {tested.accuracy:.1%} ({tested.n_correct} of {tested.n_tested}); "
        f"required: {tested.required_accuracy:.1%}; examples in its prompt: {tested.n_examples}"
    )
    yield from _spent(tested.run)
    yield ""
    yield render.table(
        ("The person said", *(f"judge: {word}" for word in _WORDS.values())),
        [(_WORDS[person], *said.values()) for person, said in tested.confusion.items()],
    )
    if not tested.confusion["not_the_same"] or not sum(tested.confusion["not_the_same"].values()):
        yield "\n⚠️  Nothing in the test set is `not the same`: this says nothing of whether the judge finds errors."
    if tested.disagreements:
        yield f"\nDisagreements ({len(tested.disagreements)}):"
    for row in tested.disagreements:
        yield from (render.harmless(line) for line in _disagreement(row))
    if tested.passed and not tested.is_own:
        yield "\n💾 This judge is not the experiment's own: `synthtrack generate` with its config goes on with it."


def _spent(run: Row) -> Iterator[str]:
    estimated = " (estimated)" if run["tokens_estimated"] else ""
    yield (
        f"   Calls: {run['n_calls']:,} sent, {run['n_cached']:,} answered from the ledger, "
        f"{run['n_retried']:,} retried, {run['n_rate_limited']:,} rate-limited"
    )
    yield (
        f"   Tokens: {run['prompt_tokens']:,} prompt + {run['completion_tokens']:,} completion{estimated}; "
        f"cost: {render.usd(run['cost_usd'])}; {run['duration_s']:.1f} s"
    )


def _disagreement(row: Row) -> Iterator[str]:
    from pipeline.annotating.differences import differences, marked
    from tracker.listings.compare import short

    original, rephrased = differences(row["original"], row["rephrased"])
    yield f"\n   {row['sample']}: the person said {_WORDS[row['expected']]}, the judge {_WORDS[row['verdict']]}"
    yield f"      Original:  {marked(original, '[-', '-]')}"
    yield f"      Rephrased: {marked(rephrased, '{+', '+}')}"
    if row["fields"]:
        yield f"      Record:    {'; '.join(f'{name}: {short(value)}' for name, value in row['fields'].items())}"
    yield f"      Decided:   {', '.join(_said(each) for each in row['decisions'])}"
    if row["verdict"] == "unclear":
        yield f"      The judge: {short(row['answer'])}"


def _said(decision: Row) -> str:
    more = [
        *(["settled it"] if decision["settles"] else []),
        *([" ".join(decision["note"].split())] if decision["note"] else []),
    ]
    word = _WORDS.get(decision["verdict"], decision["verdict"])
    return f"{decision['annotator']}: {word}" + (f" ({'; '.join(more)})" if more else "")


def _list(workspace: Workspace, ref: str, *, as_json: bool) -> None:
    from cli.text.experiment_text import judge_tests, prompt_differences
    from pipeline.two_stage import load
    from tracker.listings import listings
    from tracker.record.catalogue import reading

    with reading(workspace) as reader:
        state = load(reader, listings.experiment(reader, ref, workspace))
        rows = listings.judge_tests(reader, state.experiment["id"])
    if as_json:
        render.show_json(rows)
    elif rows:
        render.show(judge_tests(rows, _other_settings()))
        for line in prompt_differences(rows):
            render.show(line)
    else:
        render.show(f"The judge of {state.reference} was not tested yet.")


def _other_settings() -> list[str]:
    """What else makes a judge, besides its model, its temperature and its prompt."""
    from pipeline.specs import ValidationSpec
    from tracker.spec import marks

    apart = {"model", "temperature", "validation_prompt", "few_shot_range", "test_range"}
    fields = ValidationSpec.model_fields.items()
    return [name for name, field in fields if name not in apart and not marks(field).get("operational")]
