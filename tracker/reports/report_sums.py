"""What was accepted, and what it cost, summed over experiments and runs. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tracker.fingerprint import Json, canonical_json
from tracker.listings.compare import Comparison, is_long
from tracker.record.catalogue import Row
from tracker.statistics import wilson

MOST_VALUES = 12
"""A setting with more is in no table of acceptance by setting."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Records of experiments whose judge or people decided; ``n_rejected`` includes ``n_unclear``."""

    n_accepted: int
    n_rejected: int
    n_unclear: int
    n_failed: int

    @property
    def rate(self) -> float | None:
        """The share of the accepted among those that were decided."""
        n = self.n_accepted + self.n_rejected
        return self.n_accepted / n if n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95% interval (Wilson)."""
        n = self.n_accepted + self.n_rejected
        return wilson(self.n_accepted, n) if n else None


@dataclass(frozen=True, slots=True)
class Share:
    """What was accepted in the ``n`` judged experiments with one value of a setting."""

    value: Json
    n: int
    acceptance: Acceptance


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars. ``known_usd`` is the sum of what is known, ``n_unknown`` of ``n`` have no known price."""

    known_usd: float
    n: int
    n_unknown: int

    @property
    def usd(self) -> float | None:
        """The whole; None where a part is not known."""
        return None if self.n_unknown else self.known_usd


def is_judged(row: Row) -> bool:
    """Whether an experiment's records had a judge; which ones of imported data had, nobody knows."""
    return row["validation_model"] is not None and row["imported_from"] is None


def accepted(rows: Iterable[Row]) -> Acceptance:
    """The records of all these experiments together."""
    sums = [0, 0, 0, 0]
    for row in rows:
        for at, name in enumerate(("n_accepted", "n_rejected", "n_unclear", "n_failed")):
            sums[at] += row[name]
    return Acceptance(*sums)


def by_setting(settings: Comparison, rows: Sequence[Row]) -> dict[str, list[Share]]:
    """The acceptance by value of each setting that several experiments share a value of, and that is no long text.

    A setting that some experiments do not have goes with another one, and is left out.
    """
    found: dict[str, list[Share]] = {}
    for name, values in settings.different.items():
        if None in values:
            continue
        groups: dict[str, list[Row]] = {}
        for value, row in zip(values, rows, strict=True):
            if is_judged(row):
                groups.setdefault(canonical_json(value), []).append(row)
        if 1 < len(groups) <= MOST_VALUES and any(len(each) > 1 for each in groups.values()):
            given = {canonical_json(value): value for value in values if not is_long(value)}
            shares = [Share(given[key], len(each), accepted(each)) for key, each in groups.items() if key in given]
            if len(shares) == len(groups):
                found[name] = sorted(shares, key=lambda share: _order(share.value))
    return found


def _order(value: Json) -> tuple[bool, float, str]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return not is_number, float(value) if isinstance(value, (int, float)) else 0.0, str(value)


def summed(amounts: Sequence[float | None]) -> Cost:
    """The sum of amounts in US dollars, None where one is not known."""
    known = [each for each in amounts if each is not None]
    return Cost(math.fsum(known), len(amounts), len(amounts) - len(known))


def plus(one: Cost, other: Cost) -> Cost:
    """Both together."""
    return Cost(one.known_usd + other.known_usd, one.n + other.n, one.n_unknown + other.n_unknown)


def paid_by(runs: Iterable[Row]) -> Cost:
    """Of runs that asked an LLM; the others paid nothing, whatever their column says.

    Nothing is counted of a run before it ends, or is known to have been killed: what it paid is not known yet.
    """
    return summed([row["cost_usd"] for row in runs if asked(row)])


def asked(run: Row) -> bool:
    """Whether a generation run asked an LLM, or may have: one that found the data made did not."""
    return bool(run["n_calls"]) or (run["status"] == "running" and run["outcome"] != "reused")
