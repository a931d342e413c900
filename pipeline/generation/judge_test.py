"""Checkpoint 2's second half: whether the judge agrees with the people, on samples it has not learned from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.engine.asking import Display
from pipeline.generation.execution import begin_test, check_job, make, run_row
from pipeline.generation.job import Job, Options, judged_by, stored
from pipeline.generation.plan import Plan
from pipeline.generation.run import JudgeTest
from pipeline.generation.tested import Tested, load_tested
from pipeline.two_stage import ANNOTATION, ENOUGH, REVIEW, State, Step, judge_key, load
from tracker import spec
from tracker.errors import ConfigError, PartialResult, Problem, WrongStep
from tracker.fingerprint import Json
from tracker.listings import listings
from tracker.paths import Workspace
from tracker.record import decisions
from tracker.record.catalogue import Row, reading
from tracker.record.columns import to_json
from tracker.record.database import Database, open_database

_SHOWN = 10
_TEST = "SELECT * FROM judge_test_overview WHERE id = :id"


def judge_test(
    workspace: Workspace,
    ref: str,
    *,
    config: Path | None = None,
    overrides: tuple[str, ...] = (),
    command: str = "synthtrack judge-test",
    display: Display = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Tested:
    """Tests the experiment's judge, or the one that ``config`` and ``overrides`` describe, on what people decided.

    A judge that was tested on just this test set is not asked again. ``tell`` gets what is probably not meant by the
    judge's prompt, before anything is asked. Raises WrongStep where there is no whole test set yet, PartialResult where
    the judge did not answer, ConfigError where ``config`` has no judge or ``overrides`` are not its, Conflict where
    another process asks just this judge.
    """
    _check_overrides(overrides)
    options = Options(overrides=overrides, command=command)
    with reading(workspace) as reader:
        row = listings.experiment(reader, ref, workspace)
        state = load(reader, row)
        _check_step(state)
        own = stored(workspace, reader, row, dataclasses.replace(options, overrides=()))
        job = stored(workspace, reader, row, options) if overrides and config is None else own
    if config is not None:
        job = judged_by(workspace, own, config, options)
    known = _known(state, job.plan)
    if known is not None:
        return _loaded(workspace, state, job.plan, known, tested_before=known["created_at"])
    for warning in job.plan.judge_warnings:
        tell(warning)
    with open_database(workspace) as database:
        return run_test(workspace, database, job, state, display)


def run_test(
    workspace: Workspace,
    database: Database,
    job: Job,
    state: State,
    display: Display = lambda _: None,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> Tested:
    """Tests the judge of ``job`` on the state's test set, and keeps what came of it."""
    _check_step(state)
    plan = job.plan
    validation = plan.config.validation
    assert validation is not None
    check_job(workspace, job, [validation])
    expected = state.test_set
    began = {**run_row(workspace, job, Step.JUDGE_TEST, len(expected)), "judge_key": _key(state, plan)}
    claimed = begin_test(database, job, state.experiment, began, tell)
    run = JudgeTest(
        workspace, database, job, claimed, plan.taught(state.rephrase_examples, _examples(state, plan)), display,
        samples={at: state.samples[at] for at in expected},
    )  # fmt: skip
    make(run)
    if run.errors:
        first = run.errors[min(run.errors)]
        raise PartialResult(
            f"The judge gave no answer to {len(run.errors)} of {len(expected)} samples (the first: {first}).",
            hint="Run the same command again; what it did answer is not paid for twice.",
        )
    test_id = _save(database, state, run, _key(state, plan))
    with reading(workspace) as reader:
        (test,) = reader.rows(_TEST, id=test_id)
    return _loaded(workspace, state, plan, test)


def _save(database: Database, state: State, run: JudgeTest, key: str) -> int:
    validation, expected = run.plan.config.validation, state.test_set
    assert validation is not None
    n_correct = sum(verdict == expected[at] for at, (verdict, _) in run.verdicts.items())
    accuracy = n_correct / len(expected)
    return decisions.save_judge_test(
        database,
        {
            "shared_experiment_id": run.claimed.experiment_id, "generation_run_id": run.claimed.run_id,
            "judge_key": key, "test_set_key": state.test_set_key, "model": validation.model,
            "temperature": validation.temperature, "n_tested": len(expected), "n_correct": n_correct,
            "accuracy": accuracy, "required_accuracy": validation.required_accuracy,
            "passed": accuracy >= validation.required_accuracy - ENOUGH,
            "settings": to_json(spec.settings(validation)),
        },
        [
            {"position": at, "expected": expected[at], "verdict": verdict.value, "request_key": request_key}
            for at, (verdict, request_key) in sorted(run.verdicts.items())
        ],
    )  # fmt: skip


def _loaded(workspace: Workspace, state: State, plan: Plan, test: Row, *, tested_before: str | None = None) -> Tested:
    n_examples = len(_examples(state, plan))
    with reading(workspace) as reader:
        return load_tested(reader, state, plan, test, n_examples, tested_before=tested_before)


def _examples(state: State, plan: Plan) -> list[Json]:
    """What the judge is shown as examples: its own, and those that people called the same."""
    assert plan.config.validation is not None
    return [*spec.settings(plan.config.validation)["few_shot_examples"], *state.examples(ANNOTATION)]


def _key(state: State, plan: Plan) -> str:
    return judge_key(plan.identity_parts["validation"], _examples(state, plan), plan.identity_parts)


def _known(state: State, plan: Plan) -> Row | None:
    """The newest test of just this judge on just this test set, or None."""
    wanted = (_key(state, plan), state.test_set_key)
    found = [row for row in state.tests if (row["judge_key"], row["test_set_key"]) == wanted]
    return found[-1] if found else None


def _check_overrides(overrides: Sequence[str]) -> None:
    """Raises ConfigError for what would be set and have no effect on the judge."""
    problems = []
    for key in (assignment.partition("=")[0].strip() for assignment in overrides):
        if key in {"validation.few_shot_range", "validation.test_range"}:
            problems.append(Problem(f"--set {key}", "the samples are what people were asked about"))
        elif not key.startswith("validation."):
            problems.append(Problem(f"--set {key}", "not a setting of the judge; those begin with `validation.`"))
    if problems:
        hint = "For example: --set validation.model=MODEL or --set validation.temperature=0.2"
        raise ConfigError("Only the judge can be tried with other settings.", problems, hint=hint)


def _check_step(state: State) -> None:
    """Raises WrongStep where the test set is not whole, or holds nothing."""
    if REVIEW not in state.closed or not state.there(ANNOTATION):
        following = f"review {state.reference}" if state.step() is Step.REVIEW else "generate CONFIG"
        raise WrongStep(
            f"{state.reference} has no test set for its judge yet: nobody could annotate it.",
            hint=f"Next: synthtrack {following}",
        )
    waiting = state.open(ANNOTATION)
    if ANNOTATION not in state.closed and waiting:
        disputed = [at for at in waiting if at in state.decisions]
        undecided = [at for at in waiting if at not in state.decisions]
        found = {"without a verdict": undecided, "disputed": disputed}
        said = ", ".join(f"{len(those)} {what} ({_numbers(those)})" for what, those in found.items() if those)
        raise WrongStep(
            f"Samples of {state.reference} wait for a person: {said}.",
            hint=f"Next: synthtrack annotate {state.reference}",
        )
    if not state.test_set:
        raise WrongStep(
            f"The test set of {state.reference} is empty: all of its samples were skipped.",
            hint=f"Decide some of them: synthtrack annotate {state.reference} --only --same N,... --not-same N,...",
        )


def _numbers(positions: Sequence[int]) -> str:
    shown = ", ".join(str(at + 1) for at in positions[:_SHOWN])
    return f"{shown}, ..." if len(positions) > _SHOWN else shown
