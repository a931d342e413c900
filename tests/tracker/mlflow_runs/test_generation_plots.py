from __future__ import annotations

import struct
from typing import Any

import pytest

from tracker.mlflow_runs.generation_plots import confusion, overview, word_overlap


@pytest.mark.parametrize(
    ("original", "rephrased", "expected"),
    [
        ("The man slept.", "the MAN slept", 1.0),
        ("a b c", "c d e", 1 / 5),
        ("a b", "c d", 0.0),
        ("", "", 1.0),
        ("Das Mädchen", "das mädchen!", 1.0),
    ],
)
def test_word_overlap_counts_shared_words(original: str, rephrased: str, expected: float) -> None:
    assert word_overlap(original, rephrased) == expected


FAILED = {"original": "a", "rephrased": None, "verdict": None, "status": "failed"}
UNJUDGED = {"original": "", "rephrased": "b", "verdict": None, "status": "accepted"}
UNDECIDED = {"original": "a", "rephrased": "b", "verdict": None, "status": "undecided"}
UNKNOWN = {"latency_s": 0.0, "prompt_tokens": None, "completion_tokens": None}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("samples", "attempts"),
    [([], []), ([FAILED], [UNKNOWN]), ([UNJUDGED, UNDECIDED, FAILED], [UNKNOWN, {**UNKNOWN, "prompt_tokens": 3}])],
)
def test_the_picture_is_drawn_however_little_there_is(
    samples: list[dict[str, Any]], attempts: list[dict[str, Any]]
) -> None:
    png = overview(r"Copa/temp07 · $\nosuch$ 批次 · made", samples, attempts)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (1100, 720)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [0, 3, 1234])
def test_the_confusion_of_a_judge_is_drawn_whatever_it_said(n: int) -> None:
    row = {"same": n, "not_the_same": 0, "unclear": 1}
    png = confusion(r"judge_test 2 · Copa/temp07 · $\nosuch$ 批次", {"same": row, "not_the_same": row})
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (640, 360)
