"""How far annotators agree, pair by pair: observed agreement, Cohen's kappa, and where they differ."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations

from pipeline.annotating.annotations import History, within
from pipeline.annotating.differences import differences, marked
from pipeline.two_stage import DISPUTED, NOT_THE_SAME, SAME, SKIPPED
from tracker.fingerprint import Json
from tracker.record.checkpoints import kappa

VERDICTS = (SAME, NOT_THE_SAME)


@dataclass(frozen=True)
class Pair:
    """What two annotators said of the samples that both answered, as (verdict of the first, verdict of the second)."""

    annotators: tuple[str, str]
    verdicts: dict[int, tuple[str, str]]

    @property
    def n(self) -> int:
        return len(self.verdicts)

    @property
    def differing(self) -> list[int]:
        """The positions on which they differ."""
        return [at for at, (first, second) in self.verdicts.items() if first != second]

    @property
    def observed(self) -> float | None:
        """The share on which they agree; None where both answered none."""
        return 1 - len(self.differing) / self.n if self.n else None

    @property
    def kappa(self) -> float | None:
        return kappa(list(self.verdicts.values()))

    @property
    def confusion(self) -> dict[str, dict[str, int]]:
        """How often the first said one verdict (outer key) and the second another."""
        counts = Counter(self.verdicts.values())
        return {first: {second: counts[first, second] for second in VERDICTS} for first in VERDICTS}


@dataclass(frozen=True)
class Agreement:
    """Every annotator with how many samples they answered, and every pair of them."""

    history: History
    samples: str | None
    answered: dict[str, int]
    pairs: list[Pair]


def agreement(history: History, samples: str | None = None) -> Agreement:
    """How far the annotators agree on ``samples``; skipped ones are left out.

    An answer that settled a dispute was given to end it, not independently: the one before it counts. Raises
    UnknownReference.
    """
    said: dict[str, dict[int, str]] = {}
    for position in history.there(within(history.state, samples)):
        for annotator, row in history.newest(position, settling=False).items():
            if row["verdict"] != SKIPPED:
                said.setdefault(annotator, {})[position] = row["verdict"]
    pairs = [
        Pair((one, other), {at: (verdict, said[other][at]) for at, verdict in said[one].items() if at in said[other]})
        for one, other in combinations(sorted(said), 2)
    ]
    return Agreement(history, samples, {name: len(said[name]) for name in sorted(said)}, pairs)


def difference(history: History, pair: Pair, position: int) -> dict[str, Json]:
    """One sample on which two annotators differ: verdicts, notes, both texts, and what changed between them."""
    sample, newest = history.state.samples[position], history.newest(position, settling=False)
    old, new = differences(sample["original"], sample["rephrased"])
    return {
        "sample": position + 1,
        "checkpoint": history.checkpoint(position),
        "verdicts": dict(zip(pair.annotators, pair.verdicts[position], strict=True)),
        "notes": {name: newest[name]["note"] for name in pair.annotators},
        "stands": standing(history, position),
        "original": sample["original"],
        "rephrased": sample["rephrased"],
        "original_marked": marked(old, "[-", "-]"),
        "rephrased_marked": marked(new, "{+", "+}"),
    }


def standing(history: History, position: int) -> str | None:
    """The verdict that stands on a sample; None while it is disputed."""
    verdict = history.state.decisions[position]["verdict"]
    return None if verdict == DISPUTED else str(verdict)
