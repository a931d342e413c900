"""The benchmarks of training run, on the smallest model, and what they compare is the same; timings are no matter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import llamas, memory, tree, zo
from benchmarks.zo import reference_step
from tests.benchmarks.tables import tables
from tests.pipeline.training.tiny import RECORDS

SMALL = "--models", "tiny"


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """As many as before, afterwards: the benchmarks use one."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three records of every task, in the files' places."""
    for name, records in RECORDS.items():
        (tmp_path / name).mkdir()
        for split in ("train", "validation"):
            lines = "".join(json.dumps(record) + "\n" for record in records)
            (tmp_path / name / f"{name.lower()}_{split}.jsonl").write_text(lines)
    return tmp_path


def test_trees_of_all_six_tasks_score_as_one_candidate_at_a_time(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.main([*SMALL, "--data", str(data), "--rounds", "1", "--vocabulary", "2000", "--budgets", "64", "512"])
    printed = capsys.readouterr().out
    raced, budgets = tables(printed)
    assert list(raced) == ["task", *RECORDS]
    assert list(budgets) == ["task", *RECORDS]
    assert {len(row) for row in raced.values()} == {7}
    for name, (single, packed, *_) in list(raced.items())[1:]:
        assert int(single.replace(",", "")) > int(packed.replace(",", "")) > 0, name
    apart = re.search(r"differs by more than (\S+)\.$", printed, re.MULTILINE)
    assert apart is not None
    assert float(apart[1]) < 1e-5
    assert re.search(r"medians of 1; 20\d\d-.* torch .*; load before the run", printed.splitlines()[0])


def test_steps_of_both_modes_lose_the_same_as_the_published_loop(capsys: pytest.CaptureFixture[str]) -> None:
    zo.main([*SMALL, "--data", str(llamas.SAMPLE), "--steps", "3", "--batch-size", "4"])
    printed = capsys.readouterr().out
    raced, parts = tables(printed)
    assert list(raced) == ["task", "Copa"]
    assert len(raced["Copa"]) == len(raced["task"])
    assert list(parts) == ["", "Copa, `keep`", "Copa, `in_place`"]
    apart = re.search(r"differ by at most (\S+), those of the two modes by (\S+)\.$", printed, re.MULTILINE)
    assert apart is not None
    assert float(apart[1]) < 1e-5
    assert float(apart[2]) < 1e-5


def test_what_the_published_loop_does_is_a_step_against_the_slope() -> None:
    model = torch.nn.Linear(3, 1)
    wanted = torch.ones(1, 3)

    def loss() -> float:
        with torch.no_grad():
            return float(((model.weight - wanted) ** 2).sum())

    before = loss()
    with torch.no_grad():
        for seed in range(50):
            reference_step(model, loss, seed=seed, eps=1e-3, rate=0.05)
    assert loss() < before / 10


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks of memory are read as Linux tells them")
def test_a_method_is_measured_in_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    small = (*SMALL, "--vocabulary", "300", "--rounds", "1", "--steps", "1")
    memory.main([*small, "--methods", "fo_full"])
    [found] = tables(capsys.readouterr().out)
    assert list(found) == ["process", "nothing but loading it", "fo_full"]
    assert int(found["fo_full"][0]) >= int(found["nothing but loading it"][0]) > 0
