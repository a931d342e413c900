"""What files of metrics say, and of how many records a share can be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.importing.figures import Figures, is_possible, read_metrics

PLAIN = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
NAMES = st.sampled_from(["accuracy", "dev_acc", "log_history", "step", "loss", "train_runtime"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"accuracy": 0.77, "dev_accuracy": 0.7}, (0.77, 0.7, None)),
        ({"eval/accuracy": 0.8, "eval/macro_f1": 0.75, "dev/best_accuracy": 0.6}, (0.8, 0.6, 0.75)),
        ({"accuracy": 76.0, "dev_acc": 60}, (0.76, 0.6, None)),
        ({"accuracy": True, "note": "x"}, (None, None, None)),
        ([1, 2], (None, None, None)),
        ({"log_history": [{"step": 5, "loss": 0.5}, {"step": "x"}, 3]}, (None, None, None)),
    ],
)
def test_files_of_metrics(content: Any, expected: tuple[float | None, ...]) -> None:
    found = Figures()
    read_metrics(content, found)
    assert (found.accuracy, found.dev_accuracy, found.macro_f1) == expected


def test_of_how_many_records_an_accuracy_can_be() -> None:
    assert is_possible(0.77, 2, 100)
    assert is_possible(0.857, 3, 56)
    assert is_possible(0.77, 2, 56)
    assert not is_possible(0.77, 4, 56)
    assert is_possible(0.7678571428571429, 16, 56)
    assert not is_possible(0.77, 16, 57)
    assert not is_possible(0.5, 2, 0)


@given(st.recursive(PLAIN, lambda each: st.lists(each) | st.dictionaries(NAMES, each)))
def test_any_file_of_metrics_is_read(value: Any) -> None:
    found = Figures()
    read_metrics(value, found)
    assert found.accuracy is None or 0 <= found.accuracy <= 1
