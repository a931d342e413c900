"""What people decided at an experiment's checkpoints: the answers that count, what they come to, how far people agree.

A sample's position is 0-based; its number, which people see, is position + 1.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tracker.fingerprint import Json
from tracker.record.catalogue import Reader, Row

REVIEW, ANNOTATION = "review", "annotation"
SAME, NOT_THE_SAME, SKIPPED, DISPUTED = "same", "not_the_same", "skipped", "disputed"
WORDS: Mapping[str, Mapping[str, str]] = {
    REVIEW: {SAME: "approved", NOT_THE_SAME: "rejected", SKIPPED: "skipped"},
    ANNOTATION: {SAME: "same", NOT_THE_SAME: "not_the_same", SKIPPED: "skipped"},
}
"""What a verdict is called at each checkpoint, as part of a name."""

_CLOSED = "SELECT * FROM checkpoint WHERE shared_experiment_id = :id ORDER BY id"
_ANSWERS = "SELECT * FROM decision_side_by_side WHERE shared_experiment_id = :id ORDER BY id"
_TEST = "SELECT * FROM judge_test_overview WHERE id = :id"
_DECIDED_BY = """
    SELECT decided_by, COUNT(*) AS n FROM sample
    WHERE shared_experiment_id = :id AND verdict IS NOT NULL GROUP BY decided_by"""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """What people decided on an experiment, and the test that let its judge decide the rest.

    ``closed`` are rows of checkpoint by name, ``answers`` rows of decision_side_by_side, oldest first, ``test`` one of
    judge_test_overview, or None; ``decided_by`` counts the verdicts that stand now by whose they are, person or judge.
    """

    closed: Mapping[str, Row]
    answers: Sequence[Row]
    test: Row | None
    decided_by: Mapping[str, int]

    def at(self, moment: str, names: Sequence[str]) -> Checkpoints:
        """The checkpoints of those names as they stood at that moment.

        One that was closed by then is whole, however its answers are dated: they may have been taken over or imported.
        """
        closed = {name: row for name, row in self.closed.items() if name in names and row["closed_at"] <= moment}
        answers = [
            row
            for row in self.answers
            if row["checkpoint"] in closed or (row["checkpoint"] in names and row["decided_at"] <= moment)
        ]
        return replace(self, closed=closed, answers=answers, test=self.test if ANNOTATION in closed else None)

    @property
    def names(self) -> list[str]:
        """The checkpoints at which somebody has answered, in their order."""
        answered = {row["checkpoint"] for row in self.answers}
        return [name for name in WORDS if name in answered or name in self.closed]

    def counting(self, checkpoint: str) -> dict[int, list[Row]]:
        """The newest answer of each annotator by position, oldest first."""
        found: dict[int, list[Row]] = {}
        for row in self._of(checkpoint):
            others = [each for each in found.get(row["position"], []) if each["annotator"] != row["annotator"]]
            found[row["position"]] = [*others, row]
        return dict(sorted(found.items()))

    def verdicts(self, checkpoint: str) -> dict[int, str]:
        """The verdict that stands on each sample, by position; ``disputed`` where annotators differ."""
        return {at: standing(rows) for at, rows in self.counting(checkpoint).items()}

    def annotators(self, checkpoint: str) -> list[str]:
        """Who answered."""
        return sorted({row["annotator"] for row in self._of(checkpoint)})

    def examples(self, checkpoint: str) -> list[int]:
        """The positions of the samples that became few-shot examples."""
        closed = self.closed.get(checkpoint)
        return json.loads(closed["examples"]) if closed else []

    def figures(self, checkpoint: str) -> dict[str, int]:
        """How many samples got which verdict, in the words of the checkpoint: ``n_approved``."""
        counts = Counter(self.verdicts(checkpoint).values())
        return {f"n_{word}": counts[verdict] for verdict, word in WORDS[checkpoint].items()}

    def kappa(self, checkpoint: str) -> float | None:
        """Cohen's kappa of the two annotators of a checkpoint; None where there are not two, or it is undefined.

        Skipped samples are left out, and answers that settled a dispute: they were not given independently.
        """
        said: dict[str, dict[int, str]] = {}
        for row in self._of(checkpoint):
            if not row["settles"]:
                said.setdefault(row["annotator"], {})[row["position"]] = row["verdict"]
        answered = [{at: verdict for at, verdict in said[name].items() if verdict != SKIPPED} for name in sorted(said)]
        answered = [verdicts for verdicts in answered if verdicts]
        if len(answered) != 2:
            return None
        first, second = answered
        return kappa([(verdict, second[at]) for at, verdict in first.items() if at in second])

    def _of(self, checkpoint: str) -> Iterable[Row]:
        return (row for row in self.answers if row["checkpoint"] == checkpoint)


def load(reader: Reader, experiment_id: int) -> Checkpoints:
    """The checkpoints of an experiment as they stand now."""
    closed = {row["name"]: row for row in reader.rows(_CLOSED, id=experiment_id)}
    test = closed.get(ANNOTATION, {}).get("judge_test_id")
    tests = reader.rows(_TEST, id=test) if test is not None else []
    decided_by = {row["decided_by"]: row["n"] for row in reader.rows(_DECIDED_BY, id=experiment_id)}
    return Checkpoints(closed, reader.rows(_ANSWERS, id=experiment_id), tests[0] if tests else None, decided_by)


def standing(answers: Sequence[Row]) -> str:
    """The verdict that the newest answer of each annotator come to, as the SQL view sample_decision has it."""
    settled = [row for row in answers if row["settles"]]
    if settled:
        return str(settled[-1]["verdict"])
    said = {str(row["verdict"]) for row in answers} - {SKIPPED}
    return DISPUTED if len(said) > 1 else said.pop() if said else SKIPPED


def kappa(verdicts: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa, (p_o - p_e) / (1 - p_e); None where it is undefined, as chance alone agrees always (or n is 0).

    p_o is the observed share of agreement, p_e what two annotators with these shares of each verdict would agree on by
    chance. J. Cohen (1960): A Coefficient of Agreement for Nominal Scales. Educational and Psychological Measurement
    20 (1), 37-46.
    """
    n = len(verdicts)
    agreed = sum(first == second for first, second in verdicts)
    firsts, seconds = (Counter(side) for side in zip(*verdicts, strict=True)) if n else (Counter(), Counter())
    by_chance = sum(firsts[verdict] * seconds[verdict] for verdict in firsts)
    # Both shares times n squared, so that what is undefined is told apart without rounding.
    return None if by_chance == n * n else (n * agreed - by_chance) / (n * n - by_chance)


def ranges(settings: Mapping[str, Json]) -> dict[str, dict[str, str]]:
    """The samples of each checkpoint by what they are for, as numbers: ``21-40``."""
    return {
        REVIEW: {"samples": f"1-{settings['generation.review_size']}"},
        ANNOTATION: {
            "few_shot_range": settings["validation.few_shot_range"],
            "test_range": settings["validation.test_range"],
        },
    }
