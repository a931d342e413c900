"""The figures of a report: inline SVG whose places are shares of its width and whose letters keep their size.

Without a viewBox nothing is scaled, so that a figure is as wide as a phone or a desk and its text stays readable.
Colours come from the page by class: they follow its dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from cli.text.result_words import percent

ROW = 26
"""Pixels."""
MOST_ROWS = 40
"""Of one figure."""
_LINES = ("majority", "zero-shot")
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
_MOST_TICKS = 6
_MARGIN = 7.0
_LEFT = 15.0
_HEIGHT, _TOP, _BOTTOM = 266, 18, 30
_APART = 11.0
_JITTER = 1.1
_CROWDED = 6


@dataclass(frozen=True, slots=True)
class Scale:
    """The part of the shares from ``low`` to ``high`` that a figure shows, and where it has ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, share: float) -> float:
        """Where a share lies, in percent of the width."""
        inside = (min(max(share, self.low), self.high) - self.low) / (self.high - self.low)
        return _MARGIN + inside * (100 - 2 * _MARGIN)


@dataclass(frozen=True, slots=True)
class Mark:
    """A share with its interval; ``kind`` is ``best``, ``original`` or ``other``, which has shape and colour."""

    share: float
    interval: tuple[float, float] | None
    kind: str = "other"


@dataclass(frozen=True, slots=True)
class Spot:
    """A mark over the value of a setting, and what it is called."""

    value: float
    mark: Mark
    name: str


def scale(shares: Sequence[float]) -> Scale:
    """A scale on which all shares lie, with a handful of round ticks."""
    low, high = min(shares), max(shares)
    step = next((each for each in _STEPS if (high - low) / each <= _MOST_TICKS - 1), 0.25)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        first, last = (first - 1, last) if first else (0, 1)
    return Scale(first * step, last * step, tuple(round(at * step, 6) for at in range(first, last + 1)))


def axis(of: Scale) -> Markup:
    """The labels of a scale, to stand below or above its tracks."""
    texts = "".join(f'<text x="{of.at(tick):.2f}%" y="14" class="middle">{tick:.0%}</text>' for tick in of.ticks)
    return Markup(f'<svg class="axis" width="100%" height="20" aria-hidden="true">{texts}</svg>')  # noqa: S704  numbers


def track(mark: Mark | None, of: Scale, lines: Sequence[tuple[str, float]] = ()) -> Markup:
    """One row of a figure: a mark on the scale, its ticks behind it; ``lines`` are (class, share) of baselines."""
    parts = [_upright("grid", of.at(tick)) for tick in of.ticks]
    parts += [_upright(name, of.at(share)) for name, share in lines]
    if mark is not None:
        if mark.interval is not None:
            low, high = map(of.at, mark.interval)
            parts.append(f'<line class="interval {mark.kind}" x1="{low:.2f}%" x2="{high:.2f}%" y1="50%" y2="50%"/>')
        parts.append(_symbol(mark.kind, of.at(mark.share), "50%"))
    return Markup(  # noqa: S704  numbers and names of classes
        f'<svg class="track" width="100%" height="{ROW}" aria-hidden="true">{"".join(parts)}</svg>'
    )


def swatch(name: str, *, flat: bool = False) -> Markup:
    """What a kind of mark, or a line (``flat`` or upright), looks like: for a legend."""
    if flat:
        drawn = f'<line class="{name}" x1="0" x2="100%" y1="50%" y2="50%"/>'
    else:
        drawn = _upright(name, 50) if name in _LINES else _symbol(name, 50, "50%")
    return Markup(  # noqa: S704  names of classes
        f'<svg class="swatch" width="24" height="{ROW}" aria-hidden="true">{drawn}</svg>'
    )


def over(spots: Sequence[Spot], lines: Sequence[tuple[str, float]], *, logarithmic: bool, label: str) -> Markup:
    """Shares over the values of a setting, with intervals, and a line through the means; ``label`` tells it in words.

    ``lines`` are (class, share) of baselines.
    """
    bounds = [bound for spot in spots for bound in spot.mark.interval or (spot.mark.share,)]
    of = scale([*bounds, *(share for _, share in lines)])
    place = {value: _x(value, spots, logarithmic=logarithmic) for value in sorted({spot.value for spot in spots})}

    def y(share: float) -> float:
        return _HEIGHT - _BOTTOM - (share - of.low) / (of.high - of.low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<line class="grid" x1="0" x2="100%" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text x="0" y="{y(tick) - 4:.1f}">{tick:.0%}</text>'
        for tick in of.ticks
    ]
    parts += [
        f'<line class="{name}" x1="0" x2="100%" y1="{y(share):.1f}" y2="{y(share):.1f}"/>' for name, share in lines
    ]
    means = [(place[value], math.fsum(found) / len(found)) for value, found in _by_value(spots)]
    parts += [
        f'<line class="mean" x1="{x1:.2f}%" y1="{y(a):.1f}" x2="{x2:.2f}%" y2="{y(b):.1f}"/>'
        for (x1, a), (x2, b) in pairwise(means)
    ]
    parts += _spots(spots, place, y)
    parts += _labels(place)
    return Markup('<svg class="over" width="100%" height="{}" role="img" aria-label="{}">{}</svg>').format(
        _HEIGHT,
        label,
        Markup("".join(parts)),  # noqa: S704  numbers, names of classes, and titles that are escaped
    )


def is_crowded(spots: Sequence[Spot]) -> bool:
    """Whether so many spots have one value that their intervals would hide everything."""
    return max((len(found) for _, found in _by_value(spots)), default=0) > _CROWDED


def _spots(spots: Sequence[Spot], place: dict[float, float], y: object) -> Iterator[str]:
    assert callable(y)
    seen: dict[float, int] = {}
    crowded = is_crowded(spots)
    for spot in spots:
        n = sum(other.value == spot.value for other in spots)
        at = seen.get(spot.value, 0)
        seen[spot.value] = at + 1
        # Side by side, so that none hides another of its value.
        x = place[spot.value] + (at - (n - 1) / 2) * min(_JITTER, 6 / n)
        title = Markup("<title>{}: {}</title>").format(spot.name, percent(spot.mark.share))
        if spot.mark.interval is not None and not crowded:
            low, high = map(y, spot.mark.interval)
            ends = f'x1="{x:.2f}%" x2="{x:.2f}%" y1="{low:.1f}" y2="{high:.1f}"'
            yield f'<line class="interval {spot.mark.kind}" {ends}/>'
        yield f"<g>{title}{_symbol(spot.mark.kind, x, f'{y(spot.mark.share):.1f}')}</g>"


def _labels(place: dict[float, float]) -> Iterator[str]:
    last = -math.inf
    for value, x in place.items():
        if x - last >= _APART:
            last = x
            yield f'<text x="{x:.2f}%" y="{_HEIGHT - 8}" class="middle">{value:g}</text>'


def _x(value: float, spots: Sequence[Spot], *, logarithmic: bool) -> float:
    scaled = math.log if logarithmic else float
    values = [scaled(spot.value) for spot in spots]
    low, high = min(values), max(values)
    inside = (scaled(value) - low) / (high - low) if high > low else 0.5
    return _LEFT + inside * (100 - _LEFT - _MARGIN)


def _by_value(spots: Sequence[Spot]) -> list[tuple[float, list[float]]]:
    found: dict[float, list[float]] = {}
    for spot in spots:
        found.setdefault(spot.value, []).append(spot.mark.share)
    return sorted(found.items())


def _upright(name: str, x: float) -> str:
    return f'<line class="{name}" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="100%"/>'


def _symbol(kind: str, x: float, y: str) -> str:
    """A circle; the best a diamond, original data a square: shapes tell what colours do."""
    if kind == "best":
        # A nested svg has its origin where a percentage puts it, which no path can.
        shape = '<path class="best" d="M0 -8L8 0L0 8L-8 0Z"/>'
    elif kind == "original":
        shape = '<rect class="original" x="-5.5" y="-5.5" width="11" height="11"/>'
    else:
        shape = f'<circle class="{kind}" r="5"/>'
    return f'<svg x="{x:.2f}%" y="{y}" overflow="visible">{shape}</svg>'
