"""The bytes of the files of pools, for rows that are known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.record.pool_files import (
    deviation,
    full_file,
    full_id,
    mean,
    meta_file,
    pool_file,
    statistics,
    statistics_file,
    task_id,
)


def row(**columns: Any) -> dict[str, Any]:
    return {
        "position": 0, "benchmark": "humaneval", "difficulty_score": 0.35, "difficulty_bin": "easy",
        "raw_data": '{"task_id": "HumanEval/0"}', "scorer_metadata": '{"n_asserts": 5, "prompt_len": 42}',
    } | columns  # fmt: skip


def test_the_lines_of_a_pool() -> None:
    found = pool_file(
        [
            row(),
            row(
                position=12,
                benchmark="gsm8k",
                difficulty_bin="hard",
                difficulty_score=1.0,
                raw_data='{"q": "“\u2028é"}',
            ),
        ]
    )
    assert found.decode() == (
        '{"task_id": "exp_00000_humaneval", "benchmark": "humaneval", "difficulty_score": 0.35, '
        '"difficulty_bin": "easy", "raw_data": {"task_id": "HumanEval/0"}, '
        '"scorer_metadata": {"n_asserts": 5, "prompt_len": 42}}\n'
        '{"task_id": "exp_00012_gsm8k", "benchmark": "gsm8k", "difficulty_score": 1.0, '
        '"difficulty_bin": "hard", "raw_data": {"q": "“\u2028é"}, '
        '"scorer_metadata": {"n_asserts": 5, "prompt_len": 42}}\n'
    )
    assert pool_file([]) == b""


def test_the_lines_of_full_data() -> None:
    (line,) = full_file({"name": "bbh"}, [row(position=7)]).decode().splitlines()
    found = json.loads(line)
    assert (found["task_id"], found["benchmark"], found["difficulty_bin"]) == ("bbh_00007", "bbh", "unassigned")


def test_ids() -> None:
    assert (task_id(123456, "amc"), full_id("amc", 123456)) == ("exp_123456_amc", "amc_123456")


def test_the_meta_file() -> None:
    benchmark = {
        "name": "bbh", "n_tasks": 2, "config": '{"path": "file:bbh", "configs": ["navigate"]}', "score_low": 0.25,
        "constants": '{"max_input_len": 3.5}', "score_high": 1.0, "fingerprint": "0123456789ab", "source_digest": "d",
        "created_at": "2026-11-20T21:46:52.123456Z",
    }  # fmt: skip
    assert meta_file(benchmark).decode() == (
        """\
{
  "benchmark": "bbh",
  "n_tasks": 2,
  "path": "file:bbh",
  "split": null,
  "configs": [
    "navigate"
  ],
  "normalization_constants": {
    "max_input_len": 3.5
  },
  "raw_score_range": [
    0.25,
    1.0
  ],
  "config_fingerprint": "0123456789ab",
  "source_digest": "d",
  "scored_at": "2026-11-20T21:46:52.123456Z"
}
"""
    )


TASKS = [("a", "easy", 0.0), ("b", "hard", 1.0), ("a", "hard", 0.5)]
FIGURES = {
    "n_total": 3,
    "benchmarks": ["b", "a", "c"],
    "difficulty_distribution": {"mean": 0.5, "std": pytest.approx((1 / 6) ** 0.5), "min": 0.0, "max": 1.0},
    "difficulty_bins": {"easy": 1, "hard": 2},
    "benchmark_breakdown": {
        "b": {"count": 1, "mean_difficulty": 1.0, "easy": 0, "hard": 1},
        "a": {"count": 2, "mean_difficulty": 0.25, "easy": 1, "hard": 1},
        "c": {"count": 0, "mean_difficulty": None, "easy": 0, "hard": 0},
    },
}


def test_statistics() -> None:
    found = statistics(TASKS, [], ["b", "a", "c"])
    assert found == FIGURES
    assert list(found["benchmark_breakdown"]) == ["b", "a", "c"]
    short = [{"benchmark": "c", "bin": "easy", "wanted": 2, "got": 0}]
    assert statistics(TASKS, short, ["b", "a", "c"]) == {**FIGURES, "shortfalls": short}
    assert statistics_file({"a": ["é"]}) == '{\n  "a": [\n    "é"\n  ]\n}\n'.encode()


def test_statistics_of_nothing() -> None:
    assert statistics([], [], []) == {
        "n_total": 0,
        "benchmarks": [],
        "difficulty_distribution": {"mean": None, "std": None, "min": None, "max": None},
        "difficulty_bins": {"easy": 0, "hard": 0},
        "benchmark_breakdown": {},
    }


scores = st.lists(st.floats(0, 1), min_size=1, max_size=50)


@given(scores, st.randoms())
def test_figures_are_numpys_and_the_same_in_any_order(values: list[float], random: Any) -> None:
    assert mean(values) == pytest.approx(np.mean(values))
    assert deviation(values) == pytest.approx(np.std(values), abs=1e-12)
    shuffled = random.sample(values, len(values))
    assert (mean(shuffled), deviation(shuffled)) == (mean(values), deviation(values))
