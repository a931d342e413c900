"""The benchmark of pools runs on the sample that ships; timings are no matter."""

from __future__ import annotations

import pytest

from benchmarks import pools
from tests.benchmarks.tables import tables


def test_pools_are_measured_from_reading_to_drawing_again(capfd: pytest.CaptureFixture[str]) -> None:
    pools.main(["--data", str(pools.SAMPLE), "--repeat", "1", "--n", "50", "--no-mlflow"])
    printed = capfd.readouterr().out
    [found] = tables(printed)
    assert {f"work: scoring {name}" for name in (*pools.FILES, "all five")} <= set(found)
    assert {"work: a pool of 50, both", "process: `pool build`, a pool of 50"} <= set(found)
    assert {len(row) for row in list(found.values())[1:]} == {3}
    assert "gsm8k 40, " in printed.splitlines()[0]
