"""What a training is said to need is what it takes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.training.memory import estimate_memory, forward_tokens
from pipeline.training.zo import Memory, ZeroOrder, memory_to_keep

N = 1000
SIZES = SimpleNamespace(n_parameters=N, n_layers=2, hidden=8, vocab=10, linear_width=60)


def held(precision: str, **given: Any) -> int:
    """Bytes of a zo training that hold weights and noise: those of a forward of no token."""
    return estimate_memory(SIZES, method="zo", precision=precision, tokens=0, **given)


@pytest.mark.parametrize(
    ("precision", "given", "bytes_a_parameter"),
    [
        ("fp32", {"zo_memory": "in_place"}, 4),
        ("fp32", {"zo_memory": "auto"}, 4),
        ("fp32", {"zo_memory": "keep"}, 12),
        ("fp32", {"zo_memory": "keep", "directions": 4}, 24),
        ("bf16", {"zo_memory": "in_place"}, 6),
        ("bf16", {"zo_memory": "keep"}, 10),
        ("bf16", {"zo_memory": "keep", "directions": 3}, 18),
    ],
    ids=str,
)
def test_weights_and_noise_of_zo_are_counted(precision: str, given: dict[str, Any], bytes_a_parameter: int) -> None:
    assert held(precision, **given) == bytes_a_parameter * N


@pytest.mark.parametrize("directions", [1, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("memory", ["keep", "in_place"])
def test_zo_takes_what_is_said(memory: Memory, precision: str, directions: int) -> None:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = nn.Linear(2000, 1000, bias=False)
    before = held_by(tensors()) - held_by([model.weight])
    optimizer = ZeroOrder(model.parameters(), seed=0, directions=directions, memory=memory, compute_dtype=dtype)
    gc.collect()
    taken = (held_by(tensors()) - before) / model.weight.numel()
    assert optimizer.parameters == [model.weight]
    said = held(precision, zo_memory=memory, directions=directions) / N
    # The chunks that noise is drawn in are not counted: their size does not depend on the model.
    assert said <= taken < said + 1.5
    kept = memory_to_keep(N, directions=directions, compute_dtype=dtype) if memory == "keep" else 0
    assert held(precision, zo_memory=memory, directions=directions) - held(precision, zo_memory="in_place") == kept


def test_the_frozen_base_of_zo_on_lora_is_there_twice_in_bf16() -> None:
    assert held("bf16", lora_rank=2) - held("fp32", lora_rank=2) == 2 * (N + 2 * 60)
    assert held("bf16", lora_rank=2, zo_memory="keep") - held("bf16", lora_rank=2) == 4 * 2 * 60


@pytest.mark.parametrize(
    ("batch", "longest", "budget", "forward"), [(900, 80, 512, 512), (300, 80, 512, 300), (900, 700, 512, 700)]
)
def test_a_forward_has_what_the_budget_allows_and_at_least_a_record(
    batch: int, longest: int, budget: int, forward: int
) -> None:
    assert forward_tokens(batch, longest, budget) == forward


def tensors() -> Iterator[Tensor]:
    for each in gc.get_objects():
        # isinstance would ask what only seems to be a tensor, which warns.
        if issubclass(type(each), Tensor):
            yield each


def held_by(found: Iterator[Tensor] | list[Tensor]) -> int:
    return sum({each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in found}.values())
