"""Reads the files of a result directory of the older layout: config, logs, metrics. Links are not followed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from pipeline.importing.keys import lines_with_keys, without_keys
from pipeline.importing.run_names import rate
from tracker import configs
from tracker.errors import ConfigError
from tracker.fingerprint import Json, bytes_digest
from tracker.plain_files import open_plain

CONFIG = "experiment_config.yaml"
Wrong = Callable[[str], None]
"""Is told what is not right with a run."""
_METRIC_FILES = ("trainer_state.json", "all_results.json", "eval_results.json", "results.json", "metrics.json")
_LOG_BYTES, _SMALL = 64_000_000, 4_000_000


def read_config(directory: Path, wrong: Wrong) -> tuple[dict[str, Json], str | None]:
    """The old config without literal keys, and its digest; empty where there is none or it cannot be read."""
    content = plain_bytes(directory / CONFIG, _SMALL)
    if content is None:
        return {}, None
    digest = bytes_digest([content])
    try:
        document = configs.parse(content.decode("utf-8-sig"), CONFIG)
    except (ConfigError, UnicodeDecodeError) as error:
        what = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else "cannot be read as YAML"
        wrong(f"{CONFIG} {what}; only what the names of its directories say is known")
        return {}, digest
    cleaned, found = without_keys(document.data)
    cleaned = _without_lines(cleaned, "", found)
    for place in dict.fromkeys(found):
        wrong(f"a literal API key in {CONFIG}: {place} (left out, not imported)")
    return cleaned, digest


def _without_lines(value: Json, where: str, found: list[str]) -> Json:
    """``value`` without the lines of its texts in which a key is assigned."""
    if isinstance(value, dict):
        return {name: _without_lines(each, f"{where}.{name}".lstrip("."), found) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_lines(each, f"{where}[{at}]", found) for at, each in enumerate(value)]
    if not isinstance(value, str) or not (numbers := lines_with_keys(value)):
        return value
    found.append(where)
    kept = [line for number, line in enumerate(value.split("\n"), 1) if number not in numbers]
    return "\n".join([*kept, "[what holds a key was left out]"])


def without_secrets(text: str) -> str:
    """``text`` without literal keys."""
    # PostgreSQL takes no NUL in a text.
    cleaned, found = without_keys(text.replace("\0", ""))
    return str(_without_lines(cleaned, "", found))


def read_contents(
    directory: Path, learning_rate: float | None, wrong: Wrong
) -> tuple[dict[str, str], list[str], list[Json]]:
    """Digests of the files by name, the texts of the logs (stdout first), and what files of metrics hold."""
    files: dict[str, str] = {}
    texts = []
    for ending in (".out", ".err"):
        path = _log(directory, ending, learning_rate, wrong)
        content = None if path is None else plain_bytes(path, _LOG_BYTES)
        if path is not None and content is not None:
            files[path.name] = bytes_digest([content])
            texts.append(content.decode("utf-8", "replace"))
    if not texts:
        for path in sorted(directory.glob("*.log")):
            content = plain_bytes(path, _LOG_BYTES)
            if content is not None:
                files[path.name] = bytes_digest([content])
                texts.append(content.decode("utf-8", "replace"))
    documents = []
    for name in _METRIC_FILES:
        content = plain_bytes(directory / name, _SMALL)
        if content is not None:
            files[name] = bytes_digest([content])
            try:
                documents.append(json.loads(content))
            except (ValueError, RecursionError):
                wrong(f"{name} is no JSON: left out")
    return files, texts, documents


def _log(directory: Path, ending: str, learning_rate: float | None, wrong: Wrong) -> Path | None:
    """The log of a run; of several in one directory, which older scripts shared, that of its learning rate."""
    found = sorted(directory.glob(f"*_train{ending}"))
    if len(found) > 1:
        own = [each for each in found if rate(each.name.removesuffix(f"_train{ending}")) == learning_rate]
        wrong(f"{len(found)} logs *_train{ending} of several runs; only that of its learning rate is read")
        return own[0] if own else None
    plain = directory / f"train{ending}"
    return found[0] if found else plain if plain.exists() else None


def plain_bytes(path: Path, most: int) -> bytes | None:
    """What a plain file holds, of a longer one its two ends; None for anything else."""
    try:
        with open_plain(path) as file:
            if os.fstat(file.fileno()).st_size <= most:
                return file.read()
            start = file.read(most // 2)
            file.seek(-(most // 2), os.SEEK_END)
            return start + b"\n" + file.read()
    except OSError:
        return None
