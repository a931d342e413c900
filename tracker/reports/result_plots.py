"""The picture of `result best`: accuracy over the values of a setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracker.fingerprint import Json
from tracker.listings.compare import short
from tracker.listings.result_compare import Group, Pooled, baseline
from tracker.mlflow_runs.figures import new_figure, png
from tracker.reports.result_reports import Ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RUN, _POINT, _BEST, _LINE = "#222222", "#3f6fa3", "#c8553d", "#555555"
_BASELINES = (("zero_shot_accuracy", "zero-shot", "--"), ("majority_accuracy", "majority class", ":"))
_LOG_FROM = 10.0
_RATES = ("_rate", "_eps", "weight_decay")
_LABEL = 24
_CROWDED = 8
_WIDTH = 100


def by_setting(found: Ranked) -> bytes:
    """A PNG: every run, each value's best point with its 95% interval, and the baselines.

    Numbers lie on an axis, a logarithmic one where the largest is ten times the smallest; other values side by side.
    Runs without the setting are a line across.
    """
    row = found.best[0].first.row
    figure = new_figure(8.5, 5.2)
    unlike = " (not all on the same records)" if found.at_best is None else ""
    title = f"{row['task']}: accuracy over {found.name}{unlike}"
    figure.suptitle(title, fontsize=12, fontweight="bold", parse_math=False)
    figure.subplots_adjust(left=0.09, right=0.97, top=0.9, bottom=0.26)
    axes = figure.subplots()
    pairs = list(zip(found.groups, found.best, strict=True))
    given = [group.value for group, _ in pairs if group.value is not None]
    numeric = bool(given) and all(map(is_number, given))
    without = [pair for pair in pairs if pair[0].value is None and numeric]
    drawn = [pair for pair in pairs if pair not in without]
    places = _places(axes, found.name, [group.value for group, _ in drawn], numeric=numeric)
    best = found.at_best
    _runs(axes, places, [group for group, _ in drawn])
    _points(axes, places, [pool for _, pool in drawn], None if best is None else found.best[best])
    for group, pool in without:
        mean, is_best = pool.mean or 0.0, best is not None and pool is found.best[best]
        value = "original data" if group.is_original else "not known" if group.is_unknown else "not set"
        label = f"{value}: {mean:.1%}{', best of all' if is_best else ''}"
        axes.axhline(mean, color=_BEST if is_best else _POINT, linewidth=1.2, label=label)
    _baselines(axes, found.best)
    axes.set(xlabel=found.name, ylabel="accuracy")
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.spines[["top", "right"]].set_visible(False)
    # Below, where it hides nothing.
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)
    return png(figure)


def is_number(value: Json) -> bool:
    """Whether a setting's value has a place on an axis."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_logarithmic(name: str, values: Sequence[float]) -> bool:
    """Whether numbers are better seen by their ratios: rates are."""
    wide = min(values) > 0 and max(values) / min(values) >= _LOG_FROM
    return len(values) > 1 and min(values) > 0 and (wide or name.endswith(_RATES))


def _places(axes: Axes, name: str, values: Sequence[Json], *, numeric: bool) -> list[float]:
    """Where each value stands; the axis says what stands there."""
    places = [float(value) for value in values] if numeric else [float(at) for at in range(len(values))]
    labels = [f"{value:g}" if is_number(value) else short(value) for value in values]
    if numeric and is_logarithmic(name, places):
        axes.set_xscale("log")
        ratio = (max(places) / min(places)) ** 0.08
        axes.set_xlim(min(places) / ratio, max(places) * ratio)
    else:
        margin = (0.08 * (max(places) - min(places)) if numeric else 0.0) or 0.5
        axes.set_xlim(min(places) - margin, max(places) + margin)
    if numeric and len(places) > _CROWDED:
        return places
    axes.minorticks_off()
    turned = 20 if sum(map(len, labels)) > _WIDTH else 0
    cut = [label if len(label) <= _LABEL else f"{label[: _LABEL - 3]}..." for label in labels]
    axes.set_xticks(places, cut, rotation=turned, ha="right" if turned else "center", parse_math=False)
    return places


def _runs(axes: Axes, places: Sequence[float], groups: Sequence[Group]) -> None:
    dots = [
        (place, accuracy)
        for place, group in zip(places, groups, strict=True)
        for point in group.points
        for accuracy in point.accuracies
    ]
    xs, ys = zip(*dots, strict=True)
    axes.scatter(xs, ys, s=16, facecolor="white", edgecolor=_RUN, label="a run", zorder=4)


def _points(axes: Axes, places: Sequence[float], pools: Sequence[Pooled], best: Pooled | None) -> None:
    for chosen, colour, marker, label in (
        (
            [at for at, pool in enumerate(pools) if pool is not best],
            _POINT,
            "o",
            "best point, mean over its seeds, 95%",
        ),
        ([at for at, pool in enumerate(pools) if pool is best], _BEST, "D", "best of all"),
    ):
        if not chosen:
            continue
        means = [pools[at].mean or math.nan for at in chosen]
        bounds = [pools[at].interval or (math.nan, math.nan) for at in chosen]
        errors = [
            [mean - low for mean, (low, _) in zip(means, bounds, strict=True)],
            [high - mean for mean, (_, high) in zip(means, bounds, strict=True)],
        ]
        at_x = [places[at] for at in chosen]
        axes.errorbar(at_x, means, errors, fmt=marker, color=colour, capsize=4, markersize=7, label=label, zorder=3)


def _baselines(axes: Axes, pools: Sequence[Pooled]) -> None:
    for name, label, style in _BASELINES:
        values = list(dict.fromkeys(baseline(pools, name) or ()))
        text = f"{label} {' to '.join(f'{value:.1%}' for value in values)}"
        for at, value in enumerate(values):
            axes.axhline(value, color=_LINE, linestyle=style, linewidth=1, label=None if at else text, zorder=1)
