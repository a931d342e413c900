"""The figures of a training that was not done here, and what a file of metrics says of them. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tracker.fingerprint import Json

_PLAIN = {
    "eval_loss": "eval_loss", "test_loss": "eval_loss", "dev_loss": "dev_loss", "dev_best_loss": "dev_loss",
    "train_runtime": "duration_s", "run_duration_s": "duration_s",
}  # fmt: skip


@dataclass
class Figures:
    """What is known of a training: final figures, what is seen by step (name, step, value), and how it ends.

    ``measured`` says whether an evaluation was printed after the last step of training; shares are 0 to 1.
    """

    accuracy: float | None = None
    decimals: int = 0
    dev_accuracy: float | None = None
    eval_loss: float | None = None
    dev_loss: float | None = None
    macro_f1: float | None = None
    train_loss: float | None = None
    duration_s: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    n_train: int | None = None
    n_dev: int | None = None
    n_eval: int | None = None
    step: int | None = None
    metrics: dict[tuple[str, int], float] = field(default_factory=dict)
    n_without_step: int = 0
    last_time: datetime | None = None
    error: str | None = None
    killed: str | None = None
    undefined: str | None = None

    @property
    def measured(self) -> bool:
        return self.accuracy is not None

    def note(self, name: str, step: int | None, value: float) -> None:
        """Adds what was seen at ``step``; without one it is only counted."""
        if step is None:
            self.n_without_step += 1
        elif math.isfinite(value):
            self.metrics[name, step] = value


@dataclass(frozen=True, slots=True)
class Share:
    """A share as it is printed: in percent, or not, or not to be told but from others of its log."""

    value: float
    is_percent: bool
    decimals: int

    @property
    def of_one(self) -> float | None:
        """From 0 to 1; None where that cannot be."""
        value = self.value / 100 if self.is_percent else self.value
        return value if 0 <= value <= 1 else None


def read_metrics(value: Json, found: Figures) -> None:
    """Adds to ``found`` what a file of metrics says; it comes before what a log printed."""
    if not isinstance(value, Mapping):
        return
    history = value.get("log_history")
    for entry in history if isinstance(history, list) else []:
        _history_entry(entry, found)
    flat = {plain_name(str(name)): each for name, each in value.items() if _is_number(each)}
    whole = any(name.endswith(("accuracy", "acc")) and 1 < each <= 100 for name, each in flat.items())
    for names, attribute in (
        (("eval_accuracy", "test_accuracy", "accuracy", "acc", "eval_acc", "test_acc"), "accuracy"),
        (("dev_accuracy", "dev_acc", "dev_best_accuracy"), "dev_accuracy"),
        (("eval_macro_f1", "macro_f1", "f1_macro", "test_macro_f1"), "macro_f1"),
    ):
        given = next((flat[name] for name in names if name in flat), None)
        share = None if given is None else Share(given, is_percent=whole, decimals=n_decimals(repr(given))).of_one
        if share is not None:
            setattr(found, attribute, share)
            if attribute == "accuracy":
                found.decimals = n_decimals(repr(given)) + 2 * whole
    for name, attribute in _PLAIN.items():
        if name in flat:
            setattr(found, attribute, float(flat[name]))


def is_possible(accuracy: float, decimals: int, n: int) -> bool:
    """Whether a share printed with so many decimals can be one of ``n`` records."""
    return n > 0 and abs(accuracy - round(accuracy * n) / n) <= 0.5000001 * 10.0**-decimals + 1e-9


def _history_entry(entry: Json, found: Figures) -> None:
    step = entry.get("step") if isinstance(entry, Mapping) else None
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 2**31:
        return
    found.step = max(found.step or 0, step)
    for name, to in (("loss", "train/loss"), ("eval_loss", "dev/loss"), ("eval_accuracy", "dev/accuracy")):
        value = entry.get(name)
        if _is_number(value):
            found.note(to, step, float(value))


def plain_name(name: str) -> str:
    """``name`` in small letters, joined by underscores."""
    return re.sub(r"[\W]+", "_", name.strip().lower())


def n_decimals(text: str) -> int:
    """How many decimals a number is printed with; 16 where it is written with an exponent."""
    if "e" in text.lower():
        return 16
    return min(16, len(text.partition(".")[2]))


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
