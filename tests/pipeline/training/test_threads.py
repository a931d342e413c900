from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.training.threads import MOST, threads_of, usable_cores


@pytest.mark.parametrize(
    ("cores", "devices", "busy", "threads"),
    [
        (1, 1, 0, 1),
        (2, 1, 0, 1),
        (4, 1, 0, 3),
        (4, 2, 0, 1),
        (8, 2, 0, 3),
        (8, 1, 4, 3),
        (8, 1, 20, 1),
        (64, 1, 0, MOST),
        (4, 16, 0, 1),
    ],
)
def test_free_cores_are_shared_and_one_is_left(cores: int, devices: int, busy: int, threads: int) -> None:
    assert threads_of(None, None, cores=cores, devices=devices, busy=busy) == threads


def test_a_resumed_run_has_as_many_as_it_had() -> None:
    assert threads_of(5, "2", cores=64, devices=1, busy=0) == 5


@pytest.mark.parametrize(("given", "threads"), [("12", 12), ("0", 3), ("", 3), ("two", 3)])
def test_the_environment_may_say_how_many(given: str, threads: int) -> None:
    assert threads_of(None, given, cores=4, devices=1, busy=0) == threads


@pytest.mark.parametrize(
    ("quota", "cores"), [("100000 100000\n", 1), ("50000 100000\n", 1), ("max 100000\n", None), ("strange\n", None)]
)
def test_a_quota_of_the_container_counts(tmp_path: Path, quota: str, cores: int | None) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(quota)
    assert usable_cores(path) == (cores or len(os.sched_getaffinity(0)))
    assert usable_cores(tmp_path / "missing") == len(os.sched_getaffinity(0))


def test_a_generous_quota_makes_no_cores(tmp_path: Path) -> None:
    path = tmp_path / "cpu.max"
    path.write_text("100000000 100000\n")
    assert usable_cores(path) == len(os.sched_getaffinity(0))
