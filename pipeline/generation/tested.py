"""What a test of a judge came to, from the rows of the record: how often it agreed with the people, and where not."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.generation.plan import Plan
from pipeline.generation.verdict import Verdict
from pipeline.two_stage import ANNOTATION, ENOUGH, NOT_THE_SAME, SAME, State, Step
from tracker.errors import JudgeFailed
from tracker.record import checkpoints, ledger
from tracker.record.catalogue import Reader, Row

_RUN = "SELECT * FROM generation_run WHERE id = :id"
_SAMPLES = """
    SELECT position, expected, verdict, request_key FROM judge_test_sample
    WHERE judge_test_id = :id ORDER BY position"""


@dataclass(frozen=True)
class Tested:
    """What a test of a judge came to.

    ``confusion`` counts samples by the person's verdict and the judge's; ``disagreements`` are the samples where those
    differ, with the record's other ``fields``, people's ``decisions`` and the judge's raw ``answer``. ``is_own``: the
    judge is the experiment's own, not one that was tried on it. ``is_closed``: what people decided is used already and
    can change no more. ``tested_before`` is when, where nothing had to be asked now.
    """

    reference: str
    model: str
    n_tested: int
    n_correct: int
    accuracy: float
    required_accuracy: float
    passed: bool
    is_own: bool
    is_closed: bool
    n_examples: int
    confusion: dict[str, dict[str, int]]
    disagreements: list[Row]
    run: Row
    step: Step
    tested_before: str | None = None

    def check(self) -> None:
        """Raises JudgeFailed where the judge did not pass."""
        if self.passed:
            return
        of = "of" if self.is_own else "that was tried on"
        raise judge_failed(
            self.reference, self.n_correct, self.n_tested, self.required_accuracy, of=of, is_closed=self.is_closed
        )


def load_tested(
    reader: Reader, state: State, plan: Plan, test: Row, n_examples: int, *, tested_before: str | None = None
) -> Tested:
    """A test of the judge of ``plan`` on the state's test set; ``test`` is its row of judge_test_overview."""
    validation = plan.config.validation
    assert validation is not None
    samples = reader.rows(_SAMPLES, id=test["id"])
    answers = checkpoints.load(reader, state.experiment["id"]).counting(ANNOTATION)
    return Tested(
        reference=state.reference, model=test["model"], n_tested=test["n_tested"], n_correct=test["n_correct"],
        accuracy=test["accuracy"], required_accuracy=validation.required_accuracy,
        passed=test["accuracy"] >= validation.required_accuracy - ENOUGH, is_own=test["judge_key"] == state.judge_key,
        is_closed=ANNOTATION in state.closed, n_examples=n_examples,
        confusion=confusion((row["expected"], row["verdict"]) for row in samples),
        disagreements=[
            _disagreement(reader, state, plan, row, answers.get(row["position"], []))
            for row in samples if row["verdict"] != row["expected"]
        ],
        run=reader.rows(_RUN, id=test["generation_run_id"])[0],
        step=dataclasses.replace(state, tests=[*state.tests, test]).step(), tested_before=tested_before,
    )  # fmt: skip


def confusion(verdicts: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """How often the judge said what, by what the person had said; ``verdicts`` are pairs of the person's and its."""
    counts = Counter(verdicts)
    said = [verdict.value for verdict in Verdict]
    return {person: {judge: counts[person, judge] for judge in said} for person in (SAME, NOT_THE_SAME)}


def judge_failed(
    reference: str, n_correct: int, n_tested: int, required: float, *, of: str = "of", is_closed: bool = False
) -> JudgeFailed:
    """The error of a judge that agrees too little, with the ways on."""
    needed = next(number for number in range(n_tested + 1) if number / n_tested >= required - ENOUGH)
    said = (
        f"The judge {of} {reference} agrees with the people on {n_correct} of {n_tested} samples "
        f"({n_correct / n_tested:.1%}); {needed} are needed ({required:.1%})."
    )
    if is_closed:
        return JudgeFailed(said, hint=f"Another judge can be tried on the same samples:\n{_another_judge(reference)}")
    # What is cut off, not rounded, is what the judge does reach.
    reached = f"{1000 * n_correct // n_tested / 1000:g}"
    return JudgeFailed(
        f"{said} It may not decide the other records.",
        hint="There are three ways on.\n"
        "1. Look at the disagreements again; the person may be the one who is wrong:\n"
        f"  synthtrack judge-test {reference}  (shows them, and asks nothing again)\n"
        f"  synthtrack annotate {reference} --only --same N  (or --not-same N)\n"
        "2. Try another prompt or model on the same samples. Once a judge passes, `synthtrack generate` with its "
        "config goes on with it: the rephrasings are paid for already, and what people decided is taken over.\n"
        f"{_another_judge(reference)}\n"
        f"3. Require less, knowingly: this judge would pass with validation.required_accuracy at {reached}:\n"
        f"  synthtrack generate CONFIG --set validation.required_accuracy={reached}",
    )


def _another_judge(reference: str) -> str:
    return (
        f"  synthtrack judge-test {reference} --set validation.model=MODEL\n"
        f"  synthtrack judge-test {reference} --config CONFIG\n"
        f"  synthtrack judge-test {reference} --list  (every attempt is kept)"
    )


def _disagreement(reader: Reader, state: State, plan: Plan, row: Row, answers: Sequence[Row]) -> Row:
    at = row["position"]
    answer = ledger.find_answer(reader, row["request_key"])
    columns = ("annotator", "verdict", "settles", "note")
    return {
        "sample": at + 1, "original": state.samples[at]["original"], "rephrased": state.samples[at]["rephrased"],
        "expected": row["expected"], "verdict": row["verdict"],
        "fields": {name: value for name, value in plan.source.records[at].items() if name != plan.field},
        "decisions": [{name: each[name] for name in columns} | {"settles": bool(each["settles"])} for each in answers],
        "answer": answer and answer["answer"],
    }  # fmt: skip
