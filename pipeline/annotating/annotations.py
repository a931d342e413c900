"""What people decided at an experiment's checkpoints, as JSON Lines: a line for each sample and annotator.

The names and words are those of the tools that people knew before: ``idx``, ``original_<field>``,
``rephrased_<field>``, and the verdicts ``same`` and ``not the same``. ``record`` holds the record's other fields, for
who is to judge; nothing is read from it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from pipeline.two_stage import ANNOTATION, REVIEW, State, load, numbers, positions
from tracker.errors import UnknownReference, WrongStep
from tracker.fingerprint import Json, content_key
from tracker.listings import listings
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row

_DECISIONS = "SELECT * FROM decision_side_by_side WHERE shared_experiment_id = :id ORDER BY id"
LINES = """
    SELECT r.position, r.line FROM source_record r JOIN source_split p ON p.id = r.source_split_id
    WHERE p.source_dataset_id = :dataset AND p.content IS NULL AND r.position < :end ORDER BY r.position"""
"""The first ``end`` records that are rephrased, as they were in the source."""


def word(verdict: str) -> str:
    """What people read and write for a stored verdict: ``not the same``."""
    return verdict.replace("_", " ")


@dataclass(frozen=True)
class History:
    """The samples of an experiment's checkpoints, open or closed, and every decision on them, oldest first."""

    state: State
    lines: Mapping[int, str]
    decisions: Mapping[int, list[Row]]

    @property
    def field(self) -> str:
        """The name of the field that was rephrased."""
        return str(self.state.experiment["field_to_rephrase"])

    def record(self, position: int) -> dict[str, Json]:
        """The record as it was before it was rephrased."""
        found: dict[str, Json] = json.loads(self.lines[position])
        return found

    def idx(self, position: int) -> Json:
        """The record's own idx, or None."""
        return self.record(position).get("idx")

    @cached_property
    def by_idx(self) -> dict[str, int]:
        """The position of each record that has an idx, by the content key of that."""
        found = ((self.idx(position), position) for position in self.lines)
        return {content_key(idx): position for idx, position in found if idx is not None}

    def checkpoint(self, position: int) -> str | None:
        """The checkpoint whose ranges hold that sample."""
        return next((name for name in (REVIEW, ANNOTATION) if position in self.state.ranges.of(name)), None)

    def is_closed(self, position: int) -> bool:
        """Whether the checkpoint of that sample takes no answers any more."""
        finished = self.state.experiment["status"] in {"complete", "partial"}
        return finished or self.checkpoint(position) in self.state.closed

    def there(self, among: Collection[int] | None = None) -> list[int]:
        """The positions that have a rephrased text to look at, in file order."""
        found = sorted({*self.state.there(REVIEW), *self.state.there(ANNOTATION)})
        return [at for at in found if among is None or at in among]

    def newest(self, position: int, *, settling: bool = True) -> dict[str, Row]:
        """The newest decision of each annotator, oldest first; without ``settling`` the newest that settles nothing."""
        found: dict[str, Row] = {}
        for row in self.decisions.get(position, ()):
            if settling or not row["settles"]:
                found.pop(row["annotator"], None)
                found[row["annotator"]] = row
        return found


def load_history(reader: Reader, workspace: Workspace, ref: str) -> History:
    """The history of an experiment. Raises UnknownReference, and WrongStep for one without checkpoints."""
    experiment = listings.experiment(reader, ref, workspace)
    state = load(reader, experiment)
    decisions: dict[int, list[Row]] = {}
    for row in reader.rows(_DECISIONS, id=experiment["id"]):
        decisions.setdefault(row["position"], []).append(row)
    lines = reader.rows(LINES, dataset=experiment["source_dataset_id"], end=experiment["n_records"])
    return History(state, {row["position"]: row["line"] for row in lines}, decisions)


def within(state: State, samples: str | None) -> range | None:
    """The positions of ``21-80``. Raises UnknownReference where an end of it is in no checkpoint."""
    if samples is None:
        return None
    wanted = positions(samples)
    if not {wanted.start, wanted.stop - 1} <= {*state.ranges.of(REVIEW), *state.ranges.of(ANNOTATION)}:
        raise UnknownReference("samples", samples, hint=ranges_in_words(state))
    return wanted


def ranges_in_words(state: State) -> str:
    """Which samples people look at, in a sentence."""
    review, few_shot, test = (numbers(part) for part in (state.ranges.review, state.ranges.few_shot, state.ranges.test))
    return f"The review of {state.reference} is of {review}, its annotation of {few_shot} and {test}."


def exported(history: History, samples: str | None = None, annotator: str | None = None) -> list[dict[str, Json]]:
    """A line for each annotator's newest decision, and one without a verdict for a sample that has none.

    With ``annotator`` only that person's, so that what they have not answered is there to be filled in. What can be
    answered no more has no such line. Raises WrongStep where there is nothing to export, UnknownReference.
    """
    there, reference = history.there(within(history.state, samples)), history.state.reference
    if not there:
        raise WrongStep(
            f"{reference} has no rephrased samples to look at{' there' if samples else ''} yet.",
            hint=f"What is next: synthtrack experiment show {reference}",
        )
    lines = [_line(history, at, row, annotator) for at in there for row in _rows(history, at, annotator)]
    if not lines:
        where = f"samples {samples} of {reference}" if samples else reference
        raise WrongStep(
            f"{annotator or 'Nobody'} decided nothing on {where}, and no more can be decided there.",
            hint=f"What everybody decided: synthtrack annotations export {reference}",
        )
    return lines


def _rows(history: History, position: int, annotator: str | None) -> list[Row]:
    """The decisions of a sample that are exported; an empty one stands for what is to be filled in."""
    found = history.newest(position)
    rows = [row for name, row in found.items() if annotator in {None, name}]
    return rows or ([] if history.is_closed(position) else [{}])


def _line(history: History, position: int, row: Row, annotator: str | None) -> dict[str, Json]:
    sample, idx = history.state.samples[position], history.idx(position)
    return {
        "sample": position + 1,
        **({} if idx is None else {"idx": idx}),
        f"original_{history.field}": sample["original"],
        f"rephrased_{history.field}": sample["rephrased"],
        "record": {name: value for name, value in history.record(position).items() if name != history.field},
        "verdict": word(row["verdict"]) if row else None,
        "annotator": row.get("annotator", annotator),
        "note": row.get("note", ""),
        "settles": bool(row.get("settles")),
        "decided_at": row.get("decided_at"),
    }
