"""Which devices a config may name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.training import devices
from tracker.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "n_gpus", "expected"),
    [
        (None, 0, ("cpu",)),
        (None, 2, ("0",)),
        ("cpu", 2, ("cpu",)),
        ("CPU", 0, ("cpu",)),
        ("cpu,cpu", 0, ("cpu", "cpu")),
        ("0", 1, ("0",)),
        ("1,0", 2, ("1", "0")),
        ("cuda:1", 2, ("1",)),
        (" 0 , cpu ,", 1, ("0", "cpu")),
    ],
)
def test_devices_are_those_listed(given: str | None, n_gpus: int, expected: tuple[str, ...]) -> None:
    assert devices.parse(given, n_gpus=n_gpus, where="c.yaml:3") == expected


@pytest.mark.parametrize(
    ("given", "n_gpus", "problems"),
    [
        ("0", 0, ["no device '0'; this machine has no usable GPU"]),
        ("2", 2, ["no device '2'; this machine has 0, 1"]),
        ("0,5,gpu", 1, ["no device '5'; this machine has 0", "no device 'gpu'; this machine has 0"]),
        ("-1", 1, ["no device '-1'; this machine has 0"]),
        ("0,0", 1, ["a GPU is listed twice"]),
        ("cuda:0,0", 1, ["a GPU is listed twice"]),
        ("", 1, ["no device is listed"]),
        (",", 0, ["no device is listed"]),
    ],
)
def test_every_device_that_is_not_there_is_said(given: str, n_gpus: int, problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        devices.parse(given, n_gpus=n_gpus, where="c.yaml:3")
    assert [str(each) for each in caught.value.problems] == [f"c.yaml:3: `cuda_devices`: {each}" for each in problems]
    assert "cuda_devices=cpu" in str(caught.value.hint)


def test_torch_has_names_of_its_own() -> None:
    assert [devices.torch_name(each) for each in ("cpu", "1")] == ["cpu", "cuda:1"]


def test_a_gpu_that_is_hidden_is_not_counted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from pipeline.training.devices import count_gpus; print(count_gpus())"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0\n"
