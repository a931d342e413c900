"""The pictures of training: one run's learning curve and confusion matrix, and a sweep's points and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from tracker.mlflow_runs.figures import new_figure, png
from tracker.record.catalogue import Row
from tracker.statistics import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#3f6fa3", "#c8553d", "#2a7f62", "#d9a441", "#7a5ba6", "#4aa3b5", "#b0578d", "#6b7a3a")
_RAW, _TRAIN, _DEV, _EVALUATION = "#d5d5d5", "#777777", "#3f6fa3", "#c8553d"
_BASELINES = (("zero_shot_accuracy", "zero-shot", "--"), ("majority_accuracy", "majority", ":"))
_STYLES = ("-", "--", "-.", ":")
_NAMED = 12
"""Runs of a sweep that a legend can name."""
_SPREAD = 0.5

Curve = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """The curves of one run of a sweep: its name, which colour it has in common with others, and metrics by name."""

    name: str
    group: str
    curves: Mapping[str, Curve]


def curves_of(metrics: Sequence[Row]) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by name of metric."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in metrics:
        found.setdefault(row["name"], []).append((row["step"], row["value"]))
    return {name: sorted(curve) for name, curve in found.items()}


def learning_curve(title: str, run: Row, metrics: Sequence[Row]) -> bytes:
    """A PNG of train and dev loss, and of accuracy with its 95% interval and both baselines, over the steps."""
    figure, curves = _titled(title, 11, 5), curves_of(metrics)
    figure.subplots_adjust(left=0.07, right=0.98, top=0.85, bottom=0.24, wspace=0.2)
    loss, accuracy = figure.subplots(1, 2)
    train = curves.get("train/loss", [])
    if len(train) > 3 * _NAMED:
        loss.plot(*_xy(train), color=_RAW, linewidth=0.7)
        train = _smoothed(train)
    _curve(loss, train, "train", _TRAIN)
    _curve(loss, curves.get("dev/loss", []), "dev", _DEV, marker="o")
    _curve(accuracy, curves.get("dev/accuracy", []), f"dev{_records(run['n_dev'])}", _DEV, marker="o")
    _band(accuracy, curves.get("dev/accuracy", []), run["n_dev"])
    _evaluation(accuracy, run)
    _baselines(accuracy, run)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        if run["best_step"] is not None:
            axes.axvline(
                run["best_step"], color="#bbbbbb", linewidth=1, zorder=0, label=f"best step {run['best_step']:,}"
            )
        _finish(axes, name.capitalize(), "step", name)
        _legend(axes, 2)
    return png(figure)


def _records(n: int | None) -> str:
    return "" if n is None else f" ({n:,} records)"


def _band(axes: Axes, curve: Curve, n: int | None) -> None:
    intervals = [wilson(round(value * n), n) for _, value in curve] if n else []
    if intervals:
        low, high = zip(*intervals, strict=True)
        axes.fill_between(
            [step for step, _ in curve], low, high, color=_DEV, alpha=0.12, linewidth=0, label="95% of dev"
        )


def _evaluation(axes: Axes, run: Row) -> None:
    if run["accuracy"] is None:
        return
    low, high = run["accuracy_low"], run["accuracy_high"]
    errors, label = None, f"evaluation {run['accuracy']:.1%}"
    if low is not None:
        label += f" ({low:.1%} to {high:.1%}, {run['n_eval']:,} records)"
        errors = [[run["accuracy"] - low], [high - run["accuracy"]]]
    step = run["best_step"] or 0
    axes.errorbar([step], [run["accuracy"]], errors, color=_EVALUATION, marker="D", capsize=4, label=label, zorder=4)


def _baselines(axes: Axes, run: Mapping[str, float | None]) -> None:
    for name, label, style in _BASELINES:
        value = run[name]
        if value is not None:
            axes.axhline(value, color="#555555", linestyle=style, linewidth=1, label=f"{label} {value:.1%}")


def confusion(title: str, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> bytes:
    """A PNG of a confusion matrix; ``counts`` by the right answer, then the given one. Shades are shares of a row."""
    from matplotlib.patches import Rectangle

    n_classes, n = len(classes), sum(map(sum, counts))
    figure = _titled(title, 2.9 + 1.3 * n_classes, 1.9 + 0.8 * n_classes)
    figure.subplots_adjust(left=0.26, right=0.97, top=0.8, bottom=0.17)
    axes = figure.subplots()
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            share = count / max(1, sum(row))
            colour = "#2a7f62" if x == y else "#c8553d"
            corner = (x - 0.5, y - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, alpha=0.1 + 0.8 * share if count else 0))
            axes.text(x, y, f"{count:,}\n{share:.0%}" if count else "0", ha="center", va="center", fontsize=12)
    axes.set_xticks(range(n_classes), classes)
    axes.set_yticks(range(n_classes), classes)
    limits = (-0.5, n_classes - 0.5)
    axes.set(xlim=limits, ylim=limits[::-1], xlabel="the model answered", ylabel="right answer")
    correct = sum(counts[at][at] for at in range(n_classes))
    axes.set_title(f"{correct:,} of {n:,} right", fontsize=10, y=1.02)
    return png(figure)


def points(
    title: str,
    runs: Sequence[Row],
    varied: Mapping[str, Sequence[str]],
    baselines: Mapping[str, float | None],
) -> bytes:
    """A PNG with a panel for each varied hyperparameter: accuracy of every run with its 95% interval, and means.

    ``runs`` have ``accuracy`` and its interval; ``varied`` has the value of each run as it is shown, in their order.
    """
    panels = max(1, len(varied))
    width = max(8.0, 5.5 * panels)
    figure = _titled(title, width, 5)
    figure.subplots_adjust(left=0.7 / width, right=0.985, top=0.85, bottom=0.24, wspace=0.1)
    all_axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for axes, (name, values) in zip(all_axes, varied.items(), strict=False):
        others = [other for other in varied if other != name]
        _panel(axes, runs, name, values, (others[0], varied[others[0]]) if others else None)
    for axes in all_axes:
        _baselines(axes, baselines)
        _legend(axes, 3)
    all_axes[0].set_ylabel("accuracy")
    return png(figure)


def _panel(
    axes: Axes, runs: Sequence[Row], name: str, values: Sequence[str], other: tuple[str, Sequence[str]] | None
) -> None:
    """Accuracies over one hyperparameter, at even distances; runs that differ in ``other`` stand side by side."""
    places = {value: at for at, value in enumerate(sorted(set(values), key=_by_value))}
    groups = sorted(set(other[1]), key=_by_value) if other else [""]
    for number, group in enumerate(groups):
        chosen = [at for at in range(len(runs)) if other is None or other[1][at] == group]
        xs = _side_by_side([places[values[at]] for at in chosen], number, len(groups))
        ys = [runs[at]["accuracy"] for at in chosen]
        errors = [
            # Of an imported one the number of records may not be known.
            [0.0 if (low := runs[at]["accuracy_low"]) is None else runs[at]["accuracy"] - low for at in chosen],
            [0.0 if (high := runs[at]["accuracy_high"]) is None else high - runs[at]["accuracy"] for at in chosen],
        ]
        label = f"{other[0]} {group}" if other else "a run and its 95% interval"
        colour = _COLOURS[number % len(_COLOURS)]
        axes.errorbar(xs, ys, errors, fmt="o", color=colour, markersize=5, capsize=2, linewidth=1, label=label)
    means = [
        fmean([run["accuracy"] for run, given in zip(runs, values, strict=True) if given == value]) for value in places
    ]
    axes.hlines(
        means, [at - 0.3 for at in places.values()], [at + 0.3 for at in places.values()], "#222222", label="mean"
    )
    axes.set_xticks(list(places.values()), list(places))
    axes.set_xlim(-0.6, len(places) - 0.4)
    _finish(axes, name, "", "")


def _side_by_side(places: Sequence[int], number: int, n_groups: int) -> list[float]:
    """Where points go so that none hides another of its place: by group, and by their order in it."""
    width = _SPREAD / n_groups
    start = (number + 0.5) * width - _SPREAD / 2
    found = []
    for at, place in enumerate(places):
        n, before = places.count(place), places[:at].count(place)
        found.append(place + start + width * ((before + 0.5) / n - 0.5))
    return found


def all_curves(title: str, lines: Sequence[Line]) -> bytes:
    """A PNG of the dev loss and dev accuracy of all runs of a sweep over the steps."""
    groups = sorted({line.group for line in lines}, key=_by_value)
    named = len(lines) if len(lines) <= _NAMED else len(groups)
    below = 0.55 + 0.2 * math.ceil(named / 2)
    figure = _titled(title, 11, 4.1 + below)
    figure.subplots_adjust(
        left=0.07, right=0.98, top=1 - 0.75 / (4.1 + below), bottom=below / (4.1 + below), wspace=0.2
    )
    for axes, name in zip(figure.subplots(1, 2), ("dev/loss", "dev/accuracy"), strict=True):
        for line in lines:
            within = [other.name for other in lines if other.group == line.group].index(line.name)
            label = line.name if len(lines) <= _NAMED else line.group if within == 0 else None
            colour = _COLOURS[groups.index(line.group) % len(_COLOURS)]
            _curve(axes, line.curves.get(name, []), label, colour, style=_STYLES[within % len(_STYLES)])
        _finish(axes, name, "step", "")
        _legend(axes, 2)
    return png(figure)


def _curve(axes: Axes, curve: Curve, label: str | None, colour: str, *, marker: str = "", style: str = "-") -> None:
    if curve:
        marker = marker or ("o" if len(curve) == 1 else "")
        axes.plot(*_xy(curve), color=colour, label=label, linestyle=style, marker=marker, markersize=4, linewidth=1.6)


def _xy(curve: Curve) -> tuple[list[int], list[float]]:
    return [step for step, _ in curve], [value for _, value in curve]


def _smoothed(curve: Curve) -> list[tuple[int, float]]:
    """The mean over the last twentieth of all points at each."""
    n = max(2, len(curve) // 20)
    values = [value for _, value in curve]
    return [(step, fmean(values[max(0, at - n + 1) : at + 1])) for at, (step, _) in enumerate(curve)]


def _titled(title: str, width: float, height: float) -> Figure:
    figure = new_figure(width, height)
    # Of a bold letter, two thirds of its height are its width, more or less; a long title must not be cut off.
    fits = 72 * width / (0.68 * max(1, len(title)))
    figure.suptitle(title, fontsize=min(11.0, fits), fontweight="bold", parse_math=False, y=0.97)
    return figure


def _legend(axes: Axes, n_columns: int) -> None:
    # Below, where it hides nothing; matplotlib would look for the best place among all points of all curves.
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=n_columns)


def _by_value(text: str) -> tuple[float, str]:
    """Numbers by their size, then words; of `learning_rate 1e-06` the number."""
    try:
        return float(text.rpartition(" ")[2]), text
    except ValueError:
        return math.inf, text


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    # A given height spares matplotlib the search for one, a fifth of all its work.
    axes.set_title(title, y=1.02)
    axes.set(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
