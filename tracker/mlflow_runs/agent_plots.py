"""The picture of a run of `perspectives`: its conditions side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tracker.mlflow_runs.figures import new_figure, png
from tracker.record.catalogue import Row

_PANELS = (
    ("mean_words", "Mean words", "#3f6fa3"),
    ("chrf", "chrF against references", "#2a7f62"),
    ("mean_completion_tokens", "Mean completion tokens", "#d9a441"),
    ("mean_latency_s", "Mean latency, seconds", "#7a5ba6"),
)
_REFERENCE = "#9a9a9a"
_LINE = 28
"""Characters of a condition's name in a line."""
_LINE_HEIGHT, _BAR_HEIGHT, _ABOVE, _BELOW = 0.17, 0.24, 0.85, 0.45
_WHOLE = 100
_MOST = 40
"""Conditions that one picture holds: they must still be read."""


def conditions(title: str, perspectives: Sequence[Row]) -> bytes:
    """A PNG with a panel for each figure that is known; in each a bar for each condition, rows of agent_perspective."""
    drawn = perspectives[:_MOST]
    more = f" · the first {_MOST} of {len(perspectives):,}" if len(perspectives) > _MOST else ""
    labels = [_label(each) for each in drawn]
    row = max(_BAR_HEIGHT, max(label.count("\n") + 1 for label in labels) * _LINE_HEIGHT) + 0.1
    width, height = 11.0, _ABOVE + _BELOW + row * len(drawn)
    figure = new_figure(width, height)
    # Of a bold letter, two thirds of its height are its width, more or less; a long title must not be cut off.
    fits = 72 * width / (0.68 * len(title + more))
    figure.suptitle(
        title + more, fontsize=min(11.0, fits), fontweight="bold", parse_math=False, y=1 - 0.16 / height, va="top"
    )
    figure.subplots_adjust(left=0.22, right=0.985, top=1 - _ABOVE / height, bottom=_BELOW / height, wspace=0.16)
    panels = [panel for panel in _PANELS if any(each[panel[0]] is not None for each in drawn)]
    all_axes = figure.subplots(1, max(1, len(panels)), sharey=True, squeeze=False)[0]
    for axes, (name, heading, colour) in zip(all_axes, panels, strict=False):
        known = [(at, each) for at, each in enumerate(drawn) if each[name] is not None]
        colours = [_REFERENCE if each["is_reference"] else colour for _, each in known]
        bars = axes.barh([at for at, _ in known], [each[name] for _, each in known], _BAR_HEIGHT / row, color=colours)
        axes.bar_label(bars, [_shown(each[name]) for _, each in known], padding=3, fontsize=9)
        axes.margins(x=0.3)
        axes.set_title(heading, fontsize=10, y=1.0)
        axes.locator_params(axis="x", nbins=3)
    for axes in all_axes:
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=8)
    all_axes[0].set_yticks(range(len(drawn)), labels, parse_math=False, fontsize=8.5)
    return png(figure)


def _label(each: Row) -> str:
    failed = f" ({each['n_failed']:,} of {each['n_failed'] + each['n_responses']:,} failed)" if each["n_failed"] else ""
    return "\n".join(textwrap.wrap(f"{each['condition']}{failed}", _LINE))


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= _WHOLE else f"{value:.3g}"
