"""The pictures of a generation run: verdicts, wording, latency and tokens; of a judge's test, the confusion matrix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracker.mlflow_runs.figures import new_figure, png
from tracker.record.catalogue import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"accepted": "#2a7f62", "rejected": "#c8553d", "undecided": "#3f6fa3", "failed": "#8a8a8a"}
_DOTS = 5000
_BAR_LABELS = {"same": "same", "not_the_same": "not the same", "unclear": "unclear", None: "not judged"}
_BAR_COLOURS = {"same": "#2a7f62", "not_the_same": "#c8553d", "unclear": "#e0a030", None: "#8a8a8a"}


def overview(title: str, samples: Sequence[Row], attempts: Sequence[Row]) -> bytes:
    """A PNG with four panels: verdicts, similarity of original and rephrasing by status, latency, tokens."""
    figure = new_figure(11, 7.2)
    figure.suptitle(title, fontsize=12, fontweight="bold", parse_math=False)
    # A computed layout would take as long as the whole drawing.
    figure.subplots_adjust(left=0.07, right=0.98, top=0.89, bottom=0.08, wspace=0.2, hspace=0.36)
    (top_left, top_right), (bottom_left, bottom_right) = figure.subplots(2, 2)
    _verdicts(top_left, samples)
    _similarity(top_right, samples)
    _latency(bottom_left, [attempt["latency_s"] for attempt in attempts])
    _tokens(bottom_right, attempts)
    for axes in (top_left, top_right, bottom_left, bottom_right):
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def confusion(title: str, counts: Mapping[str, Mapping[str, int]]) -> bytes:
    """A PNG of a confusion matrix; ``counts`` by the person's verdict, then the judge's."""
    from matplotlib.patches import Rectangle

    figure = new_figure(6.4, 3.6)
    n = sum(sum(row.values()) for row in counts.values())
    agreed = sum(row[person] for person, row in counts.items())
    figure.suptitle(title, fontsize=10, fontweight="bold", parse_math=False)
    figure.subplots_adjust(left=0.2, right=0.98, top=0.78, bottom=0.17)
    axes = figure.subplots()
    said = list(dict.fromkeys(judge for row in counts.values() for judge in row))
    for y, (person, row) in enumerate(counts.items()):
        for x, judge in enumerate(said):
            share = row[judge] / max(1, sum(row.values()))
            colour = _BAR_COLOURS["same"] if judge == person else _BAR_COLOURS["not_the_same"]
            axes.add_patch(
                Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=0.1 + 0.8 * share if row[judge] else 0)
            )
            axes.text(x, y, f"{row[judge]:,}", ha="center", va="center", fontsize=16)
    axes.set_xticks(range(len(said)), [_BAR_LABELS[judge] for judge in said])
    axes.set_yticks(range(len(counts)), [_BAR_LABELS[person] for person in counts])
    axes.set(
        xlim=(-0.5, len(said) - 0.5), ylim=(len(counts) - 0.5, -0.5), xlabel="the judge said", ylabel="people said"
    )
    axes.set_title(f"{agreed:,} of {n:,} as people said", fontsize=10, y=1.02)
    return png(figure)


def word_overlap(original: str, rephrased: str) -> float:
    """Shared words over all words of the two texts (Jaccard 1912), 0 to 1; case and punctuation do not count."""
    first, second = (set(re.findall(r"\w+", text.lower())) for text in (original, rephrased))
    return len(first & second) / len(first | second) if first | second else 1.0


def _verdicts(axes: Axes, samples: Sequence[Row]) -> None:
    counts = Counter("failed" if sample["status"] == "failed" else sample["verdict"] for sample in samples)
    keys = [key for key in (*_BAR_LABELS, "failed") if counts[key]]
    labels = [_BAR_LABELS.get(key, "failed") for key in keys]
    bars = axes.bar(labels, [counts[key] for key in keys], color=[_BAR_COLOURS.get(key, "#555555") for key in keys])
    axes.bar_label(bars, [f"{counts[key]} ({counts[key] / len(samples):.0%})" for key in keys], padding=2)
    axes.margins(y=0.15)
    _label(axes, f"Verdicts on {len(samples):,} records", "", "records")


def _similarity(axes: Axes, samples: Sequence[Row]) -> None:
    for status, colour in _COLOURS.items():
        chosen = [sample for sample in samples[:_DOTS] if sample["status"] == status and sample["rephrased"]]
        if chosen:
            overlaps = [word_overlap(sample["original"], sample["rephrased"]) for sample in chosen]
            ratios = [len(sample["rephrased"]) / max(1, len(sample["original"])) for sample in chosen]
            axes.scatter(overlaps, ratios, s=14, alpha=0.55, color=colour, label=f"{status} ({len(chosen):,})")
    axes.axhline(1, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.set_xlim(-0.03, 1.03)
    _label(
        axes,
        "How far the wording moved",
        "word overlap with the original (1: same words)",
        "length / original's length",
    )
    if axes.collections:
        axes.legend(frameon=False, fontsize=9)


def _latency(axes: Axes, latencies: Sequence[float]) -> None:
    _label(axes, f"Latency of {len(latencies):,} answers", "seconds", "answers")
    if not latencies:
        _say(axes, "no request was sent")
        return
    bins = min(30, max(5, len(latencies) // 5))
    axes.hist(latencies, bins=bins, color="#3f6fa3", histtype="stepfilled")
    ordered = sorted(latencies)
    for share, style in ((0.5, "-"), (0.95, "--")):
        value = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        axes.axvline(value, color="#222222", linestyle=style, linewidth=1, label=f"p{share * 100:.0f}: {value:.2f} s")
    axes.legend(frameon=False, fontsize=9)


def _tokens(axes: Axes, attempts: Sequence[Row]) -> None:
    known: dict[str, list[Any]] = {
        name: [attempt[f"{name}_tokens"] for attempt in attempts if attempt[f"{name}_tokens"] is not None]
        for name in ("prompt", "completion")
    }
    _label(axes, "Tokens per answer", "tokens", "answers")
    if not any(known.values()):
        _say(axes, "no tokens were reported")
        return
    labels = [f"{name} ({sum(values):,} in all)" for name, values in known.items()]
    colours = ["#7a5ba6", "#d9a441"]
    # One outline instead of a bar per bin: far fewer things to draw.
    axes.hist(list(known.values()), bins=30, color=colours, label=labels, histtype="stepfilled", alpha=0.8)
    axes.legend(frameon=False, fontsize=9)


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    # A given height spares matplotlib the search for one, a fifth of all its work.
    axes.set_title(title, y=1.02)
    axes.set(xlabel=x, ylabel=y)
    axes.locator_params(axis="both" if x else "y", nbins=5)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#777777")
    axes.set(xticks=[], yticks=[])
