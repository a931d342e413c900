"""Where results go: ``{purpose}/{Model}/{Task}_{method}_{data}_{lr}/{YYYYMMDD_HHMMSS}``, and the files in it."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from tracker.errors import StorageError

CONFIG, METRICS, PREDICTIONS = "experiment_config.yaml", "metrics.json", "predictions.jsonl"
CHECKPOINT, MODEL = "checkpoint", "model"


def rate_name(learning_rate: float) -> str:
    """A learning rate as directories have it: 1e-6 is ``1_6``, 5e-7 ``5_7``, 1.5e-6 ``1.5_6``, 2 ``2_0``."""
    sign, digits, exponent = Decimal(repr(learning_rate)).normalize().as_tuple()
    assert not sign
    assert isinstance(exponent, int)
    power = exponent + len(digits) - 1
    mantissa = "".join(map(str, digits))
    return f"{mantissa[0]}{'.' if mantissa[1:] else ''}{mantissa[1:]}_{-power}"


def model_directory(model: str) -> Path:
    """A model's name as directories: a hub name keeps its two parts, of a local path only the last is taken."""
    name = model.strip()
    parts = (
        name.split("/") if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) and not name.startswith(".") else [Path(name).name]
    )
    return Path(*(re.sub(r"[^\w.-]", "-", part).lstrip(".-") or "model" for part in parts))


def results_directory(root: Path, *, purpose: str, model: str, task: str, method: str, data: str, rate: float) -> Path:
    """The directory that all runs of a point share; each has one of its own below it, named by its time."""
    return root / purpose / model_directory(model) / f"{task}_{method}_{data}_{rate_name(rate)}"


def make_directory(parent: Path, moment: datetime) -> Path:
    """A new directory named by ``moment``, made now; with a number behind it where another run began in that second.

    Raises StorageError.
    """
    stamp, number = f"{moment:%Y%m%d_%H%M%S}", 1
    while True:
        directory = parent / (stamp if number == 1 else f"{stamp}_{number}")
        try:
            directory.mkdir(parents=True)
        except FileExistsError as error:
            if not directory.is_dir():
                raise StorageError(f"{directory} is in the way: not a directory.") from error
            number += 1
        except OSError as error:
            raise StorageError(
                f"The result directory {directory} cannot be made: {error.strerror}.",
                hint="Check permissions and disk space, or set SYNTHTRACK_RESULTS_DIR to another place.",
            ) from error
        else:
            return directory


def result_files(learning_rate: float, *, with_model: bool) -> tuple[str, ...]:
    """What the directory of a complete run holds; ``checkpoint`` and what is in it may go."""
    name = rate_name(learning_rate)
    model = (MODEL,) if with_model else ()
    return (CONFIG, METRICS, PREDICTIONS, f"{name}_train.out", f"{name}_train.err", *model)


def output_files(directory: Path, learning_rate: float) -> tuple[Path, Path]:
    """``1_6_train.out`` and ``1_6_train.err``."""
    name = rate_name(learning_rate)
    return directory / f"{name}_train.out", directory / f"{name}_train.err"
