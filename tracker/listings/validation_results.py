"""Whether tasks that are scored as hard are answered worse: pure functions of graded answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tracker.record.catalogue import Row
from tracker.record.pool_files import BINS
from tracker.statistics import fisher_exact, spearman, wilson


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How many of ``n`` graded answers are right, with Wilson's 95 % interval of the share."""

    n: int
    n_correct: int

    @property
    def share(self) -> float | None:
        return self.n_correct / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.n_correct, self.n)


@dataclass(frozen=True)
class Results:
    """What came of one benchmark, or of all; None where nothing was graded that would tell.

    ``rank_correlation`` is Spearman's, of difficulty with error: above 0 where what is scored as harder goes wrong more
    often. Of several benchmarks, whose scores cannot be compared, it is the mean of theirs, weighted by graded answers.
    """

    easy: Accuracy
    hard: Accuracy
    rank_correlation: float | None
    n_failed: int = 0
    n_ungraded: int = 0

    @property
    def gap(self) -> float | None:
        """Easy accuracy minus hard accuracy."""
        if self.easy.share is None or self.hard.share is None:
            return None
        return self.easy.share - self.hard.share

    @property
    def gap_interval(self) -> tuple[float, float] | None:
        """95 % interval of the gap, from Wilson's of both (Newcombe 1998, Statistics in Medicine 17, method 10)."""
        if self.easy.share is None or self.hard.share is None or self.gap is None:
            return None
        (easy_low, easy_high), (hard_low, hard_high) = self.easy.interval, self.hard.interval
        below = math.hypot(self.easy.share - easy_low, hard_high - self.hard.share)
        above = math.hypot(easy_high - self.easy.share, self.hard.share - hard_low)
        return self.gap - below, self.gap + above

    @property
    def p(self) -> float | None:
        """Fisher's exact two-sided p-value of no difference between easy and hard."""
        if not self.easy.n or not self.hard.n:
            return None
        return fisher_exact(self.easy.n_correct, self.easy.n, self.hard.n_correct, self.hard.n)


def results(answers: Iterable[Row]) -> Results:
    """What rows of pool_answer_overview come to; what failed or was not graded is counted and nothing else."""
    rows = list(answers)
    graded = [row for row in rows if row["status"] == "graded"]
    easy, hard = ([bool(row["correct"]) for row in graded if row["difficulty_bin"] == each] for each in BINS)
    return Results(
        easy=Accuracy(len(easy), sum(easy)),
        hard=Accuracy(len(hard), sum(hard)),
        rank_correlation=_rank_correlation(graded),
        n_failed=sum(row["status"] == "failed" for row in rows),
        n_ungraded=sum(row["status"] == "ungraded" for row in rows),
    )


def _rank_correlation(graded: Sequence[Row]) -> float | None:
    """The mean over the benchmarks that have one."""
    total, n = 0.0, 0
    for rows in _of_each(graded).values():
        own = spearman([row["difficulty_score"] for row in rows], [float(not row["correct"]) for row in rows])
        if own is not None:
            total, n = total + own * len(rows), n + len(rows)
    return total / n if n else None


def by_benchmark(answers: Iterable[Row]) -> dict[str, Results]:
    """The same for each benchmark, in the order in which they come."""
    return {name: results(rows) for name, rows in _of_each(answers).items()}


def _of_each(answers: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in answers:
        found.setdefault(row["benchmark"], []).append(row)
    return found
