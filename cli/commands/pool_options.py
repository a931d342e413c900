"""What the options of `pool build` say, as a config says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from pipeline.pools.configs import EVERY

_AS_THEY_ARE = ("name", "difficulty_split", "n_total_tasks", "random_seed", "sample_with_replacement")


def pool_changes(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a pool's config that options set. Raises UsageError."""
    changes = {name: chosen[name] for name in _AS_THEY_ARE if chosen[name] is not None}
    if chosen["benchmarks"] is not None:
        changes["benchmarks"] = [part.strip() for part in chosen["benchmarks"].split(",") if part.strip()]
        # A config's own ratios are of its own benchmarks.
        changes["benchmark_ratios"] = None
        changes["difficulty_percentiles"] = {}
    if chosen["ratios"] is not None:
        changes["benchmark_ratios"] = _by_name("--ratios", chosen["ratios"], _number)
        if chosen["benchmarks"] is None:
            changes["benchmarks"] = list(changes["benchmark_ratios"])
    if chosen["percentiles"] is not None:
        text = chosen["percentiles"]
        changes["difficulty_percentiles"] = (
            _by_name("--percentiles", text, _pair) if "=" in text else {EVERY: _pair(text)}
        )
    return changes


def _by_name(option: str, text: str, read: Callable[[str], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise click.UsageError(f"{option}: {part!r} is not NAME=VALUE.")
        if name.strip() in found:
            raise click.UsageError(f"{option}: {name.strip()} is there twice.")
        found[name.strip()] = read(value)
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is no number.") from None


def _pair(text: str) -> list[float]:
    low, colon, high = text.partition(":")
    if not colon:
        raise click.UsageError(f"{text!r} are no percentiles, such as 20:80.")
    return [_number(low), _number(high)]
