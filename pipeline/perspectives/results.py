"""What came of each condition over all inputs: pure functions of rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING

from tracker.record.catalogue import Row

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF

_DIGITS = 6


def results(perspectives: Sequence[Row], inputs: Sequence[Row], answers: Sequence[Row]) -> dict[int, Row]:
    """The result columns of agent_perspective by position.

    ``inputs`` are parsed records, ``answers`` rows of agent_response_overview. Lengths are of the response, latency and
    tokens those of the request that gave it, without its notes.
    """
    of: dict[int, list[Row]] = {each["position"]: [] for each in perspectives}
    for row in answers:
        of[row["perspective"]].append(row)
    found = {}
    for each in perspectives:
        if each["is_reference"]:
            texts = [record["reference"] for record in inputs if record.get("reference")]
            found[each["position"]] = {"n_responses": len(texts), "n_failed": 0, **_lengths(texts)}
            continue
        rows = of[each["position"]]
        answered = [row for row in rows if row["status"] == "answered"]
        found[each["position"]] = {
            "n_responses": len(answered),
            "n_failed": len(rows) - len(answered),
            **_lengths([row["response"] for row in answered]),
            "mean_completion_tokens": _mean([row["completion_tokens"] for row in answered]),
            "mean_latency_s": _mean([row["latency_s"] for row in answered]),
            "chrf": chrf([row for row in answered if row["reference"]]),
        }
    return found


def chrf(rows: Sequence[Row]) -> float | None:
    """Corpus chrF (Popović 2015; sacrebleu's default chrF2) of ``response`` against ``reference``, 0 to 100."""
    if not rows:
        return None
    score = _against(tuple(row["reference"] for row in rows)).corpus_score([row["response"] for row in rows], None)
    return round(float(score.score), _DIGITS)


def load() -> None:
    """Imports what scores, for whoever has a thread to spare before it is needed."""
    import sacrebleu.metrics.chrf  # noqa: F401  to have it loaded is all that is wanted


@lru_cache(maxsize=1)
def _against(references: tuple[str, ...]) -> CHRF:
    # Its n-grams of the references are half of the work, and most conditions have the same.
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(references=[references])


def _lengths(texts: Sequence[str]) -> dict[str, float | None]:
    return {
        "mean_words": _mean([len(text.split()) for text in texts]),
        "mean_characters": _mean([len(text) for text in texts]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), _DIGITS) if known else None
