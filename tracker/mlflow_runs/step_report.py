"""What MLflow is shown of one step of strategy two_stage: people's work until then, and the test of the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tracker.fingerprint import Json
from tracker.record import checkpoints
from tracker.record.catalogue import Reader, Row
from tracker.record.checkpoints import ANNOTATION, NOT_THE_SAME, REVIEW, SAME, Checkpoints

REPHRASE_FIRST, REPHRASE_REST, JUDGE_TEST = "rephrase_first", "rephrase_rest", "judge_test"
UNCLEAR = "unclear"
# MLflow groups by the first column and compares the second unasked, and shows four or five without scrolling.
DECISION_COLUMNS = (
    *("sample", "verdict", "annotator", "checkpoint", "original", "rephrased", "settles", "note", "decided_at"),
)
TEST_COLUMNS = ("sample", "judge", "person", "agrees", "original", "rephrased")

_TEST = """
    SELECT t.*, (SELECT COUNT(*) FROM judge_test o
                 WHERE o.shared_experiment_id = t.shared_experiment_id AND o.id <= t.id) AS number
    FROM judge_test t WHERE t.generation_run_id = :run"""
_TESTED = """
    SELECT t.position, s.original, s.rephrased, t.expected, t.verdict
    FROM judge_test_sample t JOIN judge_test j ON j.id = t.judge_test_id
    JOIN sample s ON s.shared_experiment_id = j.shared_experiment_id AND s.position = t.position
    WHERE j.id = :test ORDER BY t.position"""
_BEFORE: dict[str | None, tuple[str, ...]] = {REPHRASE_FIRST: (), REPHRASE_REST: (REVIEW,)}


@dataclass(frozen=True, slots=True)
class StepReport:
    """A step with people's work as it stood at its end; ``name`` is None where the data was found already made.

    ``test`` is the test of the judge that this run is, with its ``number`` among those of the experiment.
    """

    name: str | None
    checkpoints: Checkpoints
    test: Row | None
    tested: list[Row]

    @property
    def rephrases(self) -> bool:
        return self.name in {REPHRASE_FIRST, REPHRASE_REST}

    @property
    def title(self) -> str:
        """``judge_test 2``: the second test of a judge on this experiment."""
        return f"{self.name} {self.test['number']}" if self.test else str(self.name)

    @property
    def confusion(self) -> dict[str, dict[str, int]]:
        """How often the judge said what, by what the person had said."""
        counts = Counter((row["expected"], row["verdict"]) for row in self.tested)
        judge = (SAME, NOT_THE_SAME, UNCLEAR)
        return {person: {said: counts[person, said] for said in judge} for person in (SAME, NOT_THE_SAME)}


def load_step(reader: Reader, run: Row) -> StepReport | None:
    """The step that a generation run is; None for strategy direct_all."""
    if run["strategy"] != "two_stage":
        return None
    # Who found it made found it whole, whatever step it had come for.
    name = None if run["outcome"] == "reused" else run["step"]
    tests = reader.rows(_TEST, run=run["id"])
    return StepReport(
        name=name,
        checkpoints=checkpoints.load(reader, run["shared_experiment_id"]).at(
            run["finished_at"] or run["started_at"], _BEFORE.get(name, (REVIEW, ANNOTATION))
        ),
        test=tests[0] if tests else None,
        tested=reader.rows(_TESTED, test=tests[0]["id"]) if tests else [],
    )


def samples_then(samples: Sequence[Row], run: Row) -> list[Row]:
    """The samples as they were at the end of a step: later verdicts taken back, what was not there yet left out."""
    end = run["finished_at"] or run["started_at"]
    found = [
        sample if sample["updated_at"] <= end else sample | {"status": "undecided", "verdict": None, "decided_by": None}
        for sample in samples
    ]
    if run["step"] not in _BEFORE:
        return found
    # What was touched later may have been there already: then those that come first in the file.
    there = sorted(found, key=lambda sample: (sample["updated_at"] > end, sample["position"]))[: run["n_records"]]
    return sorted(there, key=lambda sample: int(sample["position"]))


def judge_metrics(step: StepReport) -> dict[str, float | None]:
    """The figures of a judge's test; precision and recall are of finding ``not the same``.

    A step after the test has the accuracy of the one that let the judge decide.
    """
    if step.test is None:
        test = step.checkpoints.test
        return {f"judge_test/{name}": test[name] for name in ("accuracy", "n_tested")} if test else {}
    # First, because the compare page draws the first metric unasked.
    figures = {name: step.test[name] for name in ("accuracy", "n_tested", "n_correct", "passed", "required_accuracy")}
    found, confusion = step.confusion[NOT_THE_SAME][NOT_THE_SAME], step.confusion
    said, are = sum(row[NOT_THE_SAME] for row in confusion.values()), sum(confusion[NOT_THE_SAME].values())
    figures |= {"precision_not_the_same": found / said if said else None}
    figures |= {"recall_not_the_same": found / are if are else None}
    figures |= {f"{person}_judged_{judge}": n for person, row in confusion.items() for judge, n in row.items()}
    return {f"judge_test/{name}": value for name, value in figures.items()}


def people_metrics(step: StepReport) -> dict[str, float | None]:
    """The figures of people's work at the checkpoints before this step."""
    found: dict[str, float | None] = {}
    for name in step.checkpoints.names:
        found |= {f"{name}/{figure}": value for figure, value in step.checkpoints.figures(name).items()}
        if name == ANNOTATION:
            found[f"{name}/n_annotators"] = len(step.checkpoints.annotators(name))
            found[f"{name}/cohen_kappa"] = step.checkpoints.kappa(name)
    return found


def decisions_table(step: StepReport) -> dict[str, Json]:
    """The answers that count, in the form of MLflow's ``log_table``."""
    rows = [
        {**row, "sample": row["position"] + 1, "settles": bool(row["settles"])}
        for name in step.checkpoints.names
        for answers in step.checkpoints.counting(name).values()
        for row in answers
    ]
    return _table(DECISION_COLUMNS, rows)


def judge_table(step: StepReport) -> dict[str, Json]:
    """The samples of the test, the disagreements first, in the form of MLflow's ``log_table``."""
    rows = [
        {**row, "sample": row["position"] + 1, "judge": row["verdict"], "person": row["expected"],
         "agrees": row["verdict"] == row["expected"]}
        for row in step.tested
    ]  # fmt: skip
    return _table(TEST_COLUMNS, sorted(rows, key=lambda row: bool(row["agrees"])))


def _table(columns: Sequence[str], rows: Sequence[Row]) -> dict[str, Json]:
    return {"columns": list(columns), "data": [[row[name] for name in columns] for row in rows]}


def story(step: StepReport, run: Row) -> str:
    """What the step did, in a sentence."""
    batch = f"by batch `{run['batch']}`"
    if step.test is not None:
        return f"{_agreement(step.test)}: {'passed' if step.test['passed'] else 'did not pass'}. Tested {batch}."
    if step.name == JUDGE_TEST:
        return f"A test of the judge that came to no end, {batch}."
    if step.rephrases:
        which = "the first records" if step.name == REPHRASE_FIRST else "the rest of the records"
        return f"Rephrased {which}, {batch}. Nothing is judged at this step; people look at it next."
    return f"Let the judge decide what no person had decided, {batch}."


def note_rows(step: StepReport, samples: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """People's work and the judge's test, as rows of the note."""
    if step.name is not None:
        yield "Step", step.title
    for name in step.checkpoints.names:
        said = ", ".join(
            f"{value:,} {figure.removeprefix('n_').replace('_', ' ')}"
            for figure, value in step.checkpoints.figures(name).items()
        )
        who = ", ".join(f"`{annotator}`" for annotator in step.checkpoints.annotators(name)) or "nobody"
        kappa = step.checkpoints.kappa(name)
        agreement = "" if kappa is None else f"; Cohen's kappa {kappa:.2f}"
        yield name.capitalize(), f"{said}; decided by {who}{agreement}"
    if step.test is None and step.checkpoints.test is not None:
        yield "Judge test", f"{_agreement(step.checkpoints.test)}, so it decided the rest"
    by = Counter(sample["decided_by"] for sample in samples if sample["verdict"])
    yield "Verdicts", f"{by['person']:,} by people, {by['judge']:,} by the judge"


def _agreement(test: Row) -> str:
    share = f"{test['n_correct']:,} of {test['n_tested']:,} samples ({test['accuracy']:.1%}"
    return f"The judge `{test['model']}` agreed with people on {share}; {test['required_accuracy']:.1%} required)"


def next_commands(step: StepReport, reference: str) -> tuple[str, ...]:
    """What to type after the step, without the program's name."""
    following: dict[str | None, str] = {
        REPHRASE_FIRST: f"review {reference}",
        REPHRASE_REST: f"annotate {reference}",
        JUDGE_TEST: f"judge-test {reference} --list",
    }
    return (following[step.name],) if step.name in following else ()
