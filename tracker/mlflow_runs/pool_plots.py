"""The picture of a pool: how difficult the tasks of each benchmark are, where the thresholds lie, what was drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tracker.listings.pool_listings import drawn_scores, full_scores
from tracker.mlflow_runs.figures import new_figure, png
from tracker.record.catalogue import Reader, Row

_BINS = 24
_COLUMNS = 3
_FULL, _DRAWN, _EASY, _HARD = "#c9d3dc", "#3f6fa3", "#2a7f62", "#c8553d"


@dataclass(frozen=True, slots=True)
class Panel:
    """A benchmark: the scores of its full data and of what was drawn, and the thresholds of easy and hard."""

    full: Sequence[float]
    drawn: Sequence[float]
    low: float
    high: float


def panels(reader: Reader, pool: Row) -> dict[str, Panel]:
    """The panels of a pool, as ``pool_listings.pool`` gives it."""
    drawn = drawn_scores(reader, pool["id"])
    return {
        part["benchmark"]: Panel(
            full_scores(reader, part["benchmark_fingerprint"]),
            drawn.get(part["benchmark"], []),
            part["low_threshold"],
            part["high_threshold"],
        )
        for part in pool["benchmarks"]
    }


def distribution(title: str, by_benchmark: Mapping[str, Panel]) -> bytes:
    """A PNG with one panel for each benchmark: shares of tasks over the score, from 0 to 1."""
    columns = min(_COLUMNS, len(by_benchmark))
    rows = math.ceil(len(by_benchmark) / columns)
    figure = new_figure(1.2 + 4.0 * columns, 1.0 + 2.9 * rows)
    figure.suptitle(title, fontsize=12, fontweight="bold", parse_math=False)
    all_axes = figure.subplots(rows, columns, squeeze=False).flatten()
    edges = [at / _BINS for at in range(_BINS + 1)]
    for axes, (name, panel) in zip(all_axes, by_benchmark.items(), strict=False):
        for scores, colour, label in ((panel.full, _FULL, "full data"), (panel.drawn, _DRAWN, "in the pool")):
            weights = [1 / len(scores) for _ in scores]
            style = {"color": colour} if colour == _FULL else {"histtype": "step", "color": colour, "linewidth": 1.8}
            axes.hist(scores, bins=edges, weights=weights, label=f"{label} ({len(scores):,})", **style)
        axes.axvline(panel.low, color=_EASY, linestyle="--", label=f"easy up to {panel.low:.3f}")
        axes.axvline(panel.high, color=_HARD, linestyle="--", label=f"hard from {panel.high:.3f}")
        axes.set_title(name, fontsize=11, parse_math=False)
        axes.set(xlim=(-0.02, 1.02), xlabel="difficulty score", ylabel="share of tasks")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    for axes in all_axes[len(by_benchmark) :]:
        axes.set_visible(False)
    figure.tight_layout()
    return png(figure)
