"""Checkpoint 2's second half: whether the judge agrees with the people, on samples it has not learned from."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.execution import begin_test, check_models, make, run_row
from pipeline.job import Job, Options, prepare, stored
from pipeline.plan import Plan
from pipeline.run import Display, JudgeTest
from pipeline.two_stage import ANNOTATION, ENOUGH, NOT_THE_SAME, REVIEW, SAME, State, Step, judge_key, load
from pipeline.verdict import Verdict
from tracker import decisions, listings, spec, store
from tracker.catalogue import Row, reading
from tracker.database import Database, open_database
from tracker.errors import ConfigError, JudgeFailed, PartialResult, Problem, WrongStep
from tracker.fingerprint import Json
from tracker.paths import Workspace


@dataclass(frozen=True)
class Tested:
    """What a test of a judge came to.

    ``confusion`` counts samples by the person's verdict and the judge's; ``disagreements`` are the samples where those
    differ; ``is_own``: the judge is the experiment's own, not one that was tried on it.
    """

    reference: str
    model: str
    n_tested: int
    n_correct: int
    accuracy: float
    required_accuracy: float
    passed: bool
    is_own: bool
    n_examples: int
    confusion: dict[str, dict[str, int]]
    disagreements: list[Row]
    run: Row
    step: Step

    def check(self) -> None:
        """Raises JudgeFailed where the judge did not pass."""
        if not self.passed:
            raise judge_failed(self.reference, self.accuracy, self.required_accuracy)


def judge_failed(reference: str, accuracy: float, required: float) -> JudgeFailed:
    """The error of a judge that agrees too little, with the ways on."""
    return JudgeFailed(
        f"The judge of {reference} agrees with the people on {accuracy:.1%} of the test set; {required:.0%} is "
        "required. It may not decide the other records.",
        hint="Change validation.validation_prompt or validation.model in the config. Try it:\n"
        f"  synthtrack judge-test {reference} --config CONFIG\n"
        f"Every attempt is kept: synthtrack judge-test {reference} --list\n"
        "Once it passes, `synthtrack generate CONFIG` goes on with it: the rephrasings are paid for already, and what "
        "people decided is taken over.",
    )


def judge_test(
    workspace: Workspace,
    ref: str,
    *,
    config: Path | None = None,
    overrides: tuple[str, ...] = (),
    command: str = "synthtrack judge-test",
    display: Display = lambda _: None,
) -> Tested:
    """Tests the experiment's judge, or the one that ``config`` and ``overrides`` describe, on what people decided.

    Raises WrongStep where there is no whole test set yet, PartialResult where the judge did not answer, ConfigError
    where ``config`` has no judge, Conflict where another process asks just this judge.
    """
    options = Options(overrides=overrides, command=command)
    with reading(workspace) as reader:
        row = listings.experiment(reader, ref, workspace)
        state = load(reader, row)
        _check_step(state)
        runs = listings.generation_runs(reader, row["id"])
        path = next((run["config_path"] for run in reversed(runs) if run["config_path"]), None)
        # The last run may have been given another one than the first.
        required = f"validation.required_accuracy={state.required_accuracy}"
        own = stored(workspace, reader, row, dataclasses.replace(options, overrides=(required,)), path)
        changed = own
        if config is None and overrides:
            again = dataclasses.replace(options, overrides=(required, *overrides))
            changed = stored(workspace, reader, row, again, path)
    if config is not None:
        changed = prepare(workspace, config, options)
        if changed.plan.judge is None:
            raise ConfigError("There is no judge to test.", [Problem(str(config), "no `validation` section")])
    job = dataclasses.replace(own, plan=_judged_by(own.plan, changed.plan), options=options)
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
    check_models(workspace, job, [validation])
    examples: list[Json] = [*spec.settings(validation)["few_shot_examples"], *state.examples(ANNOTATION)]
    expected = state.test_set
    began = run_row(workspace, job, Step.JUDGE_TEST, len(expected))
    claimed = begin_test(database, job, state.experiment, began, tell)
    run = JudgeTest(
        workspace, database, job, claimed, plan.taught(state.rephrase_examples, examples), display,
        samples={at: state.samples[at] for at in expected},
    )  # fmt: skip
    row = make(run)
    if run.errors:
        first = run.errors[min(run.errors)]
        raise PartialResult(
            f"The judge gave no answer to {len(run.errors)} of {len(expected)} samples (the first: {first}).",
            hint="Run the same command again; what it did answer is not paid for twice.",
        )
    return _kept(database, state, run, row, examples)


def _kept(database: Database, state: State, run: JudgeTest, row: Row, examples: list[Json]) -> Tested:
    validation, expected = run.plan.config.validation, state.test_set
    assert validation is not None
    n_correct = sum(verdict == expected[at] for at, (verdict, _) in run.verdicts.items())
    accuracy = n_correct / len(expected)
    passed = accuracy >= validation.required_accuracy - ENOUGH
    identity = run.plan.identity_parts
    key = judge_key(identity["validation"], examples, identity)
    decisions.save_judge_test(
        database,
        {
            "shared_experiment_id": run.claimed.experiment_id, "generation_run_id": run.claimed.run_id,
            "judge_key": key, "test_set_key": state.test_set_key, "model": validation.model,
            "temperature": validation.temperature, "n_tested": len(expected), "n_correct": n_correct,
            "accuracy": accuracy, "required_accuracy": validation.required_accuracy, "passed": passed,
            "settings": store.to_json(spec.settings(validation)),
        },
        [
            {"position": at, "expected": expected[at], "verdict": verdict.value, "request_key": request_key}
            for at, (verdict, request_key) in sorted(run.verdicts.items())
        ],
    )  # fmt: skip
    is_own = key == state.judge_key
    tests = [*state.tests, {"judge_key": key, "test_set_key": state.test_set_key, "accuracy": accuracy}]
    return Tested(
        reference=state.reference, model=validation.model, n_tested=len(expected), n_correct=n_correct,
        accuracy=accuracy, required_accuracy=validation.required_accuracy, passed=passed, is_own=is_own,
        n_examples=len(examples), confusion=confusion(expected, {at: v for at, (v, _) in run.verdicts.items()}),
        disagreements=[
            {"sample": at + 1, "original": state.samples[at]["original"], "rephrased": state.samples[at]["rephrased"],
             "expected": expected[at], "verdict": verdict.value}
            for at, (verdict, _) in sorted(run.verdicts.items()) if verdict != expected[at]
        ],
        run=row, step=dataclasses.replace(state, tests=tests).step(),
    )  # fmt: skip


def confusion(expected: dict[int, str], verdicts: dict[int, Verdict]) -> dict[str, dict[str, int]]:
    """How often the judge said what, by what the person had said."""
    counts = Counter((expected[at], verdict.value) for at, verdict in verdicts.items())
    said = [verdict.value for verdict in Verdict]
    return {person: {judge: counts[person, judge] for judge in said} for person in (SAME, NOT_THE_SAME)}


def _judged_by(own: Plan, other: Plan) -> Plan:
    config = own.config.model_copy(update={"validation": other.config.validation})
    return dataclasses.replace(own, config=config, judge=other.judge)


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
        raise WrongStep(
            f"{len(waiting)} samples of {state.reference} wait for a person's verdict.",
            hint=f"Next: synthtrack annotate {state.reference}",
        )
    if not state.test_set:
        raise WrongStep(
            f"The test set of {state.reference} is empty: all of its samples were skipped.",
            hint=f"Decide some of them: synthtrack annotate {state.reference} --only --same N,... --not-same N,...",
        )
