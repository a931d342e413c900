from __future__ import annotations

import struct
from typing import Any

import pytest

from tests.tracker.mlflow_runs.test_agent_report import REFERENCE, perspective
from tracker.mlflow_runs.agent_plots import conditions

NOTHING = dict.fromkeys(("mean_words", "mean_characters", "mean_completion_tokens", "mean_latency_s"))
LONG = "a condition whose name takes all of the hundred characters that a name may have, and is cut nowhere"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("perspectives", "height"),
    [
        ([perspective(0, "Original")], 164),
        ([REFERENCE, perspective(1, r"$\nosuch$ 批次", chrf=0.0), perspective(2, "x" * 100, n_failed=1)], 415),
        ([perspective(0, "failed", n_failed=2, n_responses=0, **NOTHING)], 164),
        ([perspective(at, f"{at} {LONG}", chrf=50.0) for at in range(100)], 3250),
    ],
)
def test_the_picture_is_drawn_whatever_there_is_and_grows_with_it(
    perspectives: list[dict[str, Any]], height: int
) -> None:
    png = conditions(r"translation · $\nosuch$ 批次 · made", perspectives)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (1100, height)
