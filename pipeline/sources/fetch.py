"""Public data sets as input for perspectives: a seeded sample of pairs of text and reference."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.sources import hub
from tracker.errors import DataError, Problem


@dataclass(frozen=True)
class Origin:
    """A data set of the hub: where each record holds its two texts, and the ready config that takes them."""

    hub: str
    config: str
    input: tuple[str, ...]
    reference: tuple[str, ...]
    stem: str
    perspectives: str


ORIGINS: Mapping[str, Origin] = {
    "wmt14-de-en": Origin(
        "wmt/wmt14", "de-en", ("translation", "de"), ("translation", "en"), "wmt14_de_en", "translation.json"
    ),
    "cnn-dailymail": Origin(
        "abisee/cnn_dailymail", "3.0.0", ("article",), ("highlights",), "cnn_dailymail", "summarization.json"
    ),
}
SPLIT = "test"
SUFFIXES = (".json", ".jsonl")
_CONNECT_S = 10


@dataclass(frozen=True)
class Fetched:
    """A sample in the order of its data set: how many records could have been drawn, how many had no text."""

    pairs: tuple[dict[str, str], ...]
    n_available: int
    n_left_out: int

    @cached_property
    def content(self) -> bytes:
        """The pairs as a JSON list of ``input`` and ``reference``: equal pairs, equal bytes."""
        return (json.dumps(self.pairs, ensure_ascii=False, indent=2) + "\n").encode()

    @cached_property
    def lines(self) -> bytes:
        """The pairs as JSON Lines."""
        return "".join(f"{json.dumps(pair, ensure_ascii=False)}\n" for pair in self.pairs).encode()


def filename(name: str, size: int, split: str = SPLIT) -> str:
    """What a sample of ORIGINS[name] is called: ``wmt14_de_en_500.json``; another split than ``test`` is named."""
    return "_".join([ORIGINS[name].stem, *([] if split == SPLIT else [split]), f"{size}.json"])


def fetch(name: str, *, size: int, seed: int, split: str = SPLIT, directory: Path | None = None) -> Fetched:
    """A sample of ORIGINS[name] from the hub, or from its copy in ``directory``. Raises DataError."""
    hub.quiet()
    origin = ORIGINS[name]
    where = str(directory or f"{origin.hub} ({origin.config})")
    try:
        rows = _split(_copy(directory, origin) if directory else _hub(origin), split, where)
        found = sample(pairs(rows, origin, where), size=size, seed=seed)
    # RuntimeError: a client that was closed.
    except hub.errors() as error:
        problem = Problem(where, str(error).partition("\n")[0] or type(error).__name__)
        if directory is not None:
            hint = "--from takes a directory of Parquet or JSON files, or what `save_to_disk` wrote."
            raise DataError("The copy of the data set cannot be read.", [problem], hint=hint) from error
        hint = "Is there a network? --from DIR reads a copy on the disk."
        raise DataError("The data set cannot be had from the hub.", [problem], hint=hint) from error
    if size > found.n_available:
        left_out = f"; {found.n_left_out:,} more hold no text" if found.n_left_out else ""
        problem = Problem(where, f"split {split!r} has {found.n_available:,} records{left_out}, not {size:,}")
        raise DataError("The sample would be larger than the data.", [problem], hint="Give a smaller --sample.")
    return found


def pairs(rows: Iterable[Mapping[str, Any]], origin: Origin, where: str) -> Iterator[dict[str, str] | None]:
    """The two texts of each row; None where one is empty. Raises DataError for rows that are not the data set's."""
    for number, row in enumerate(rows, 1):
        found = {key: _text(row, getattr(origin, key), f"{where}:{number}") for key in ("input", "reference")}
        # No database and no model takes U+0000.
        yield found if all(text.strip() and "\0" not in text for text in found.values()) else None


def sample(found: Iterable[dict[str, str] | None], *, size: int, seed: int) -> Fetched:
    """``size`` pairs without replacement, or all where there are fewer; memory for ``size`` of them.

    Every row draws a number, and the smallest are in: a smaller sample of the same seed is part of a larger one.
    """
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(seed))
    n_rows = n_available = 0

    def drawn() -> Iterator[tuple[float, int, dict[str, str]]]:
        nonlocal n_rows, n_available
        for pair in found:
            n_rows += 1
            key = rng.random()
            if pair is not None:
                n_available += 1
                yield key, n_rows, pair

    chosen = sorted(heapq.nsmallest(size, drawn()), key=lambda each: each[1])
    return Fetched(tuple(pair for _, _, pair in chosen), n_available, n_rows - n_available)


def _hub(origin: Origin) -> Any:
    import datasets
    import huggingface_hub

    # One request that is not tried again: what follows tries for half a minute, and then hides what went wrong.
    huggingface_hub.HfApi().dataset_info(origin.hub, timeout=_CONNECT_S)
    # Streamed: the other splits of wmt14 are gigabytes.
    return datasets.load_dataset(origin.hub, origin.config, streaming=True)


def _copy(directory: Path, origin: Origin) -> Any:
    import datasets

    # A clone of the hub's repository has a directory for each config.
    inner = directory / origin.config if (directory / origin.config).is_dir() else directory
    if not inner.is_dir():
        raise NotADirectoryError("not a directory" if inner.exists() else "no such directory")
    if any((inner / name).exists() for name in ("dataset_dict.json", "state.json")):
        return datasets.load_from_disk(str(inner))
    return datasets.load_dataset(str(inner), streaming=True)


def _split(found: Any, split: str, where: str) -> Iterable[Mapping[str, Any]]:
    # What save_to_disk wrote can be one split alone, which need not have a name.
    splits = found if isinstance(found, dict) else {str(found.split or split): found}
    if split not in splits:
        problem = Problem(where, f"no split {split!r}; there: {', '.join(map(str, splits))}")
        raise DataError("The split is missing.", [problem], hint="Name another one with --split.")
    rows: Iterable[Mapping[str, Any]] = splits[split]
    return rows


def _text(row: Mapping[str, Any], path: tuple[str, ...], where: str) -> str:
    value: Any = row
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            there = f"; there: {', '.join(value)}" if isinstance(value, Mapping) else ""
            problem = Problem(where, f"no field {'.'.join(path)!r}{there}")
            raise DataError("This is not the data set.", [problem])
        value = value[key]
    if value is not None and not isinstance(value, str):
        raise DataError("This is not the data set.", [Problem(where, f"field {'.'.join(path)!r} is no text")])
    return value or ""
