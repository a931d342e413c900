"""One row of a file of decisions: its JSON, the sample that it is about, and what it says of that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, datetime
from typing import Any

from pipeline.annotating.annotations import History
from pipeline.two_stage import NOT_THE_SAME, SAME, SKIPPED
from tracker import clock
from tracker.fingerprint import Json, content_key
from tracker.record.catalogue import Row

_WORDS = {
    "same": SAME, "approve": SAME, "approved": SAME,
    "not the same": NOT_THE_SAME, "reject": NOT_THE_SAME, "rejected": NOT_THE_SAME,
    "skip": SKIPPED, "skipped": SKIPPED,
}  # fmt: skip
_LONGEST = 60
_BEFORE = 15


@dataclass(frozen=True)
class Given:
    """A row that answers; ``note``, ``settles`` and ``decided_at`` are None where it says nothing of them."""

    line: int
    position: int
    verdict: str
    annotator: str
    note: str | None = None
    settles: bool | None = None
    decided_at: str | None = None

    def is_said_by(self, row: Row) -> bool:
        """Whether a decision of the same annotator on the same sample says just that."""
        return (
            row["verdict"] == self.verdict
            and self.note in {None, row["note"]}
            and self.settles in {None, bool(row["settles"])}
        )


def parsed(line: str) -> dict[str, Json]:
    """The object in a line. Raises ValueError."""
    from pipeline.sources.lines import read_json

    try:
        row = read_json(line)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"a row is a JSON object, this is {type(row).__name__}")  # noqa: TRY004  told to a person
    return row


def position_of(history: History, row: Mapping[str, Json]) -> int:
    """The position of the sample that a row is about, by its number or the record's own idx. Raises ValueError."""
    sample, idx = row.get("sample"), row.get("idx")
    found = None if idx is None else history.by_idx.get(content_key(idx))
    if idx is not None and found is None:
        known = "" if history.by_idx else ": no record has one; give sample, from 1 on"
        raise ValueError(f"no record has idx {json.dumps(idx)}{known}")
    if sample is None:
        if found is None:
            raise ValueError("neither sample nor idx")
        return found
    if isinstance(sample, bool) or not isinstance(sample, int | float) or sample - 1 not in history.lines:
        raise ValueError(f"no sample {json.dumps(sample)}: they are 1 to {len(history.lines)}")
    if found not in {None, sample - 1}:
        raise ValueError(
            f"sample {int(sample)} has idx {json.dumps(history.idx(int(sample) - 1))}, not {json.dumps(idx)}"
        )
    return int(sample) - 1


def other_text(name: str, given: Json, known: str, position: int) -> Iterator[str]:
    """What is wrong with a text that a row gives, where it is not the sample's own."""
    if given is None or (isinstance(given, str) and given.strip() == known.strip()):
        return
    text = given if isinstance(given, str) else json.dumps(given)
    text, known = text.strip(), known.strip()
    pairs = enumerate(zip(text, known, strict=False))
    differs = next((at for at, (one, other) in pairs if one != other), min(len(text), len(known)))
    shown, own = _short(text, differs), _short(known, differs)
    yield f"{name} is {shown}, that of sample {position + 1} is {own}"


def _short(text: str, at: int) -> str:
    """The text in quotation marks, or where it is long what stands around ``at``."""
    if len(text) <= _LONGEST:
        return json.dumps(text, ensure_ascii=False)
    start = max(0, min(at - _BEFORE, len(text) - _LONGEST))
    cut = text[start : start + _LONGEST]
    return json.dumps(
        f"{'...' if start else ''}{cut}{'...' if start + len(cut) < len(text) else ''}", ensure_ascii=False
    )


def _verdict(given: Json) -> str:
    text = " ".join(re.split(r"[\s_-]+", given.strip().lower())) if isinstance(given, str) else ""
    if text not in _WORDS:
        raise ValueError(f"verdict {json.dumps(given)} is none of: same, not the same, skipped")
    return _WORDS[text]


def _annotator(given: Json) -> str | None:
    if given is not None and (not isinstance(given, str) or not given.isprintable()):
        raise ValueError(f"annotator {json.dumps(given)} is no name")
    return (given or "").strip() or None


def _note(given: Json) -> str | None:
    if given is not None and (not isinstance(given, str) or "\0" in given):
        raise ValueError(f"note {json.dumps(given)} is no text")
    return given


def _settles(given: Json) -> bool | None:
    if given is not None and not isinstance(given, bool):
        raise ValueError(f"settles {json.dumps(given)} is neither true nor false")
    return given


def _moment(given: Json) -> str | None:
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        moment = None
    # The years at either end are out of reach in another time zone.
    if moment is None or moment.tzinfo is None or not 1970 <= moment.year < MAXYEAR:
        raise ValueError(f"decided_at {json.dumps(given)} is no time such as 2026-11-20T21:46:52Z")
    if moment > clock.now():
        raise ValueError(f"decided_at {json.dumps(given)} is in the future")
    return clock.to_text(moment)


MEANINGS: dict[str, Callable[[Json], Any]] = {
    "verdict": _verdict,
    "annotator": _annotator,
    "note": _note,
    "settles": _settles,
    "decided_at": _moment,
}
"""What is read from an answering row into a Given; each raises ValueError with what is wrong."""
