from __future__ import annotations

import struct
from typing import Any

import pytest

from tracker.mlflow_runs.training_plots import Line, all_curves, confusion, curves_of, learning_curve, points

TITLE = r"lr 1e-06 s0 · $\nosuch$ 批次"
UNKNOWN: dict[str, Any] = {
    "n_dev": 100, "n_eval": 100, "best_step": None, "accuracy": None, "accuracy_low": None, "accuracy_high": None,
    "zero_shot_accuracy": None, "majority_accuracy": None,
}  # fmt: skip
KNOWN = UNKNOWN | {
    "best_step": 10, "accuracy": 1.0, "accuracy_low": 0.96, "accuracy_high": 1.0, "zero_shot_accuracy": 0.5,
    "majority_accuracy": 0.55,
}  # fmt: skip


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def metric(name: str, n: int) -> list[dict[str, Any]]:
    return [{"name": name, "step": step, "value": 1 / (1 + step)} for step in range(n)]


def test_curves_are_in_the_order_of_the_steps() -> None:
    rows = [*reversed(metric("dev/loss", 3)), *metric("dev/accuracy", 1)]
    assert curves_of(rows) == {"dev/loss": [(0, 1.0), (1, 0.5), (2, 1 / 3)], "dev/accuracy": [(0, 1.0)]}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("run", [UNKNOWN, KNOWN])
@pytest.mark.parametrize(
    "metrics",
    [
        metric("train/loss", 1),
        metric("train/loss", 1000),
        metric("dev/accuracy", 2) + metric("dev/loss", 2),
        [{"name": "train/loss", "step": 1, "value": float("inf")}],
    ],
)
def test_a_learning_curve_is_drawn_however_little_there_is(run: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
    assert size(learning_curve(TITLE, run, metrics)) == (1100, 500)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_a_confusion_grows_with_its_classes(n_classes: int) -> None:
    counts = [[at * 1000 for at in range(n_classes)] for _ in range(n_classes)]
    names = [f"class {at}" for at in range(n_classes)]
    assert size(confusion(TITLE * 9, names, counts)) == (290 + 130 * n_classes, 190 + 80 * n_classes)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("varied", "width"),
    [
        ({"learning_rate": ["1e-06", "5e-07"]}, 800),
        ({"learning_rate": ["1e-06", "1e-06"], "lr_schedule": ["linear", "cosine"]}, 1100),
        ({"a": ["1", "2"], "b": ["1", "2"], "c": ["null", "2"]}, 1650),
        ({}, 800),
    ],
)
def test_a_sweep_has_a_panel_for_each_hyperparameter(varied: dict[str, list[str]], width: int) -> None:
    assert size(points(TITLE, [KNOWN, KNOWN], varied, KNOWN)) == (width, 500)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [0, 1, 4, 40])
def test_all_curves_of_a_sweep_are_in_one_picture(n: int) -> None:
    lines = [
        Line(f"run {at}", f"group {at % 3}", curves_of(metric("dev/loss", 3) + metric("dev/accuracy", 3)))
        for at in range(n)
    ]
    assert size(all_curves(TITLE, lines))[0] == 1100
