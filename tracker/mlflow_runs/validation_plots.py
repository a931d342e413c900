"""The picture of a validation: how many easy and hard tasks were answered right, and where the mistakes lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

from tracker.listings.validation_results import Results
from tracker.mlflow_runs.figures import new_figure, png
from tracker.record.catalogue import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = {"easy": (-0.16, "#2a7f62"), "hard": (0.16, "#c8553d")}
_GROUPS, _LEAST = 3, 5
"""Of a bin by difficulty, and answers that each holds at least: fewer would say nothing."""
_COLOURS = ("#3f6fa3", "#d9a441", "#7a5ba6", "#2a7f62", "#c8553d", "#5c8a8a", "#8a6d3b", "#b0578d")


def overview(title: str, benchmarks: Mapping[str, Results], answers: Sequence[Row]) -> bytes:
    """A PNG: accuracy of easy and hard by benchmark with 95 % intervals (Wilson), and the share of errors by score.

    In the second a point is a group of tasks of similar score: their mean, and the share of errors among them.
    """
    shown = {name: each for name, each in benchmarks.items() if each.easy.n + each.hard.n}
    figure = new_figure(12.0, 1.9 + max(2.9, 0.62 * len(shown)))
    figure.suptitle(title, fontsize=min(12.0, 1270 / max(1, len(title))), fontweight="bold", parse_math=False)
    left, right = figure.subplots(1, 2)
    _accuracies(left, shown)
    for at, name in enumerate(shown):
        graded = [row for row in answers if row["benchmark"] == name and row["status"] == "graded"]
        points = []
        # Each bin by itself: between the two lies no task.
        for bin_ in _BINS:
            points += groups(
                [(row["difficulty_score"], not row["correct"]) for row in graded if row["difficulty_bin"] == bin_]
            )
        right.plot(*zip(*points, strict=True), "o:", color=_COLOURS[at % len(_COLOURS)], label=name, markersize=5)
    right.set(xlim=(-0.03, 1.03), ylim=(-0.05, 1.05), xlabel="difficulty score", ylabel="share of errors")
    for axes, columns in ((left, 2), (right, 5)):
        axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns)
        axes.grid(axis="x" if axes is left else "both", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout(w_pad=4)
    return png(figure)


def groups(answers: Sequence[tuple[float, bool]]) -> list[tuple[float, float]]:
    """Mean score and share of errors of up to three groups of (score, wrong), neighbours by score, of like size.

    Equal scores stay in their order: right ones before wrong ones would look like a trend.
    """
    ordered = sorted(answers, key=lambda answer: answer[0])
    if not ordered:
        return []
    n = max(1, min(_GROUPS, len(ordered) // _LEAST))
    cuts = [round(at * len(ordered) / n) for at in range(n + 1)]
    parts = [ordered[low:high] for low, high in pairwise(cuts)]
    return [(fmean(score for score, _ in part), fmean(wrong for _, wrong in part)) for part in parts]


def _accuracies(axes: Axes, shown: Mapping[str, Results]) -> None:
    for name, (offset, colour) in _BINS.items():
        of = [(at + offset, each.easy if name == "easy" else each.hard) for at, each in enumerate(shown.values())]
        known = [(at, each, each.share) for at, each in of if each.share is not None]
        reach = [
            [max(0.0, share - each.interval[0]) for _, each, share in known],
            [max(0.0, each.interval[1] - share) for _, each, share in known],
        ]
        shares, places = [share for _, _, share in known], [at for at, _, _ in known]
        axes.errorbar(shares, places, xerr=reach, fmt="o", color=colour, capsize=3, label=name)
        for at, each, _ in known:
            axes.annotate(
                f"{each.n_correct:,}/{each.n:,}", (1.02, at), xycoords=("axes fraction", "data"), fontsize=8,
                color=colour, va="center", annotation_clip=False,
            )  # fmt: skip
    axes.set_yticks(range(len(shown)), list(shown), parse_math=False)
    axes.set(xlim=(-0.03, 1.03), ylim=(len(shown) - 0.5, -0.5), xlabel="share of right answers, 95 % interval")
