"""Whether the files of a result directory still say what the record says of their run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.training.places import CONFIG, METRICS, PREDICTIONS
from tracker import configs
from tracker.errors import ConfigError
from tracker.record.catalogue import Row

_REQUIRED = ("fingerprint", "attempt", "n_eval", "n_correct", "accuracy")
_NAMED = ("model", "task", "method")


def changed(directory: Path, run: Row, answers: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """The files that say something else, and what; those that are not there are not looked at.

    ``run`` is the whole row of a complete run, ``answers`` are its predictions after training. Logs and models are not
    looked at: the record does not have what is in them.
    """
    for name, said in ((CONFIG, _config(run)), (METRICS, _metrics(run)), (PREDICTIONS, _predictions(answers))):
        try:
            text = (directory / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            yield name, f"cannot be read: {error}"
            continue
        try:
            found = _READERS[name](text)
        except (ValueError, TypeError, KeyError, AttributeError, ConfigError):
            yield name, "is not what a run writes any more"
            continue
        # A config file is without the settings that have no effect, which the record has.
        looked_at = [key for key in said if key in found or not key.startswith("hyperparameters.")]
        different = [key for key in looked_at if found.get(key) != said[key]]
        if name == PREDICTIONS:
            different += [key for key in found if key not in said]
        if different:
            yield name, f"says something else than the record of {', '.join(map(str, different[:5]))}"


def _metrics(run: Row) -> dict[str, Any]:
    return {name: run[name] for name in _REQUIRED}


def _predictions(answers: Sequence[Row]) -> dict[str, Any]:
    return {
        f"record {row['position']}": (row["label"], row["predicted"], bool(row["correct"]), json.loads(row["scores"]))
        for row in answers
    }


def _config(run: Row) -> dict[str, Any]:
    given = json.loads(run["config"])
    hyperparameters = {f"hyperparameters.{name}": value for name, value in given["hyperparameters"].items()}
    return {
        **{name: run[name] for name in _NAMED}, **hyperparameters, "fingerprint": run["fingerprint"],
        "run": run["uuid"],
    }  # fmt: skip


def _read_config(text: str) -> dict[str, Any]:
    data: dict[str, Any] = configs.parse(text, CONFIG).data
    about = data["training_info"]
    return {
        **{name: data[name] for name in _NAMED},
        **{f"hyperparameters.{name}": value for name, value in data["hyperparameters"].items()},
        "fingerprint": about["fingerprint"], "run": about["run"],
    }  # fmt: skip


def _read_metrics(text: str) -> dict[str, Any]:
    return {str(name): value for name, value in json.loads(text).items()}


def _read_predictions(text: str) -> dict[str, Any]:
    found = {}
    for line in text.splitlines():
        row = json.loads(line)
        scores = [round(each, 6) if math.isfinite(each) else None for each in row["scores"]]
        found[f"record {row['index']}"] = (row["label"], row["predicted"], row["correct"], scores)
    return found


_READERS: dict[str, Any] = {CONFIG: _read_config, METRICS: _read_metrics, PREDICTIONS: _read_predictions}
