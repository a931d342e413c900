"""How sure an accuracy is, and whether two differ: intervals, exact tests, ranks; by the standard library alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

_Z95 = statistics.NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Paired:
    """Two runs on the same records: how many both, only one, or neither answered rightly, and McNemar's exact p."""

    n: int
    both: int
    only_first: int
    only_second: int
    neither: int
    p: float

    @property
    def difference(self) -> float:
        """Accuracy of the first minus that of the second, on these records."""
        return (self.only_first - self.only_second) / self.n if self.n else 0.0


def wilson(k: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a share of which ``k`` of ``n`` were seen; (0, 1) where nothing was.

    Score interval of Wilson 1927 (JASA 22, 209-212), without continuity correction. Raises ValueError.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n}")
    if n == 0:
        return 0.0, 1.0
    z = _Z95 if confidence == 0.95 else statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share, square = k / n, z * z
    centre = share + square / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    whole = 1 + square / n
    # At the ends the formula gives 0 and 1 but for rounding.
    low = 0.0 if k == 0 else max(0.0, (centre - half) / whole)
    high = 1.0 if k == n else min(1.0, (centre + half) / whole)
    return low, high


def wilson_over_seeds(n_right: Sequence[int], n_seeds: int) -> tuple[float, float]:
    """The interval of the mean accuracy of several seeds; ``n_right`` of them answered each record rightly.

    Seeds that agree on a record tell no more of it than one does: Wilson's interval at the effective number of records,
    between theirs and ``n_seeds`` times that (design effect: Kish 1965; with Wilson's interval: Dean, Pagano 2015,
    Journal of Survey Statistics and Methodology 3, 484-503). The records vary in it, the seeds do not.
    """
    n = len(n_right)
    share = sum(n_right) / (n * n_seeds) if n else 0.0
    among_records = math.fsum((each / n_seeds - share) ** 2 for each in n_right) / n if n else 0.0
    variance = share * (1 - share)
    effective = n * min(variance / among_records, n_seeds) if among_records else n * (n_seeds if variance else 1)
    return wilson(share * effective, effective)


def mcnemar_exact(b: int, c: int) -> float:
    """The two-sided p-value of ``b`` against ``c`` discordant pairs, from the binomial distribution with one half.

    Twice the smaller tail, at most 1 (McNemar 1947, Psychometrika 12, 153-157; exact form as in Fagerland, Lydersen,
    Laake 2013, BMC Medical Research Methodology 13:91). Raises ValueError.
    """
    if b < 0 or c < 0:
        raise ValueError(f"{b} against {c}")
    n = b + c
    # Whole numbers throughout: exact for any count, and only the last division rounds.
    tail, term = 0, 1
    for k in range(min(b, c) + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return min(1.0, 2 * tail / (1 << n))


def fisher_exact(first: int, n_first: int, second: int, n_second: int) -> float:
    """The two-sided p-value of ``first`` of ``n_first`` against ``second`` of ``n_second``.

    The probability of all tables with these sums that are no likelier than the one seen (Fisher 1935; Agresti 2002,
    Categorical Data Analysis, section 3.5.1). Whole numbers throughout: only the last division rounds.
    """
    total = first + second
    ways = [
        math.comb(n_first, k) * math.comb(n_second, total - k)
        for k in range(max(0, total - n_second), min(n_first, total) + 1)
    ]
    seen = math.comb(n_first, first) * math.comb(n_second, second)
    return sum(each for each in ways if each <= seen) / sum(ways)


def sign_flip(differences: Sequence[int]) -> float:
    """The two-sided p-value of a sum of paired differences: the share of all ways to turn their signs that reach it.

    Exact; with differences of 1 it is McNemar's test. Fisher 1935 (The Design of Experiments, section 21).
    """
    sizes = [abs(each) for each in differences if each]
    total, seen = sum(sizes), abs(sum(differences))
    if not seen:
        return 1.0
    # The product of (1 + x**size), with 2**bits for x, has in its digits how many ways give each sum.
    bits, counts = len(sizes) + 2, 1
    wanted = (1 << bits * ((total - seen) // 2 + 1)) - 1
    for size in sizes:
        counts = (counts + (counts << bits * size)) & wanted
    digit_sum = counts % ((1 << bits) - 1)
    return min(1.0, 2 * digit_sum / (1 << len(sizes)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values as they count where so many were looked at (Holm 1979, Scandinavian Journal of Statistics 6)."""
    found, largest = [1.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        found[at] = largest
    return found


def paired(first: Mapping[int, bool], second: Mapping[int, bool]) -> Paired:
    """Compares what two runs answered rightly, by record; only records that both have count."""
    shared = first.keys() & second.keys()
    both = sum(first[each] and second[each] for each in shared)
    only_first = sum(first[each] and not second[each] for each in shared)
    only_second = sum(second[each] and not first[each] for each in shared)
    neither = len(shared) - both - only_first - only_second
    return Paired(len(shared), both, only_first, only_second, neither, mcnemar_exact(only_first, only_second))


def confusion(labels: Sequence[int], predicted: Sequence[int], n_classes: int) -> list[list[int]]:
    """How often each answer (column) was given to records with each label (row). Raises ValueError."""
    counts = [[0] * n_classes for _ in range(n_classes)]
    for label, answer in zip(labels, predicted, strict=True):
        if not (0 <= label < n_classes and 0 <= answer < n_classes):
            raise ValueError(f"label {label}, answer {answer}: not below {n_classes}")
        counts[label][answer] += 1
    return counts


def macro_f1(labels: Sequence[int], predicted: Sequence[int], n_classes: int) -> float:
    """The mean over all classes of the harmonic mean of precision and recall.

    A class that is neither a label nor an answer has none and is left out, as scikit-learn's ``f1_score`` does.
    """
    counts = confusion(labels, predicted, n_classes)
    scores = []
    for each in range(n_classes):
        total = sum(counts[each]) + sum(row[each] for row in counts)
        if total:
            scores.append(2 * counts[each][each] / total)
    return math.fsum(scores) / len(scores) if scores else 0.0


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None where either does not vary.

    Pearson's coefficient of the ranks (Spearman 1904; ties: Kendall, Gibbons 1990, Rank Correlation Methods, ch. 3).
    """
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return statistics.correlation(_ranks(first), _ranks(second))


def _ranks(values: Sequence[float]) -> list[float]:
    ranks, below = [0.0] * len(values), 0
    for _, group in groupby(sorted(range(len(values)), key=values.__getitem__), key=values.__getitem__):
        tied = list(group)
        for at in tied:
            ranks[at] = below + (len(tied) + 1) / 2
        below += len(tied)
    return ranks


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (of one value: None). Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
