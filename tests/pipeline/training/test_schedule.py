"""The learning rate of every step, the same as transformers' schedulers give."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.schedule import learning_rate_at, warmup_steps
from pipeline.training.specs import Hyperparameters

KINDS = ("constant", "linear", "cosine")


def rates(**given: Any) -> list[float]:
    found = Hyperparameters.model_validate({"learning_rate": 1e-3, **given})
    return [learning_rate_at(found, step) for step in range(found.steps)]


def reference(kind: str, steps: int, warmup: float, rate: float) -> list[float]:
    """The rates that transformers' own scheduler of that name sets."""
    import torch
    from transformers import TrainingArguments, get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    rise = TrainingArguments(report_to=[], warmup_steps=warmup).get_warmup_steps(steps)
    # Of the constant one transformers has two, and the one without a warmup ignores it.
    name = "constant_with_warmup" if kind == "constant" else kind
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=rise, num_training_steps=steps)
    found = []
    for _ in range(steps):
        found.append(float(scheduler.get_last_lr()[0]))
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("steps", "warmup"), [(1, 0), (1, 0.5), (10, 0), (10, 3), (10, 0.25), (70, 0.1), (7, 7), (5, 9)]
)
def test_rates_are_those_of_transformers(kind: str, steps: int, warmup: float) -> None:
    found = rates(steps=steps, warmup=warmup, lr_schedule=kind)
    assert found == pytest.approx(reference(kind, steps, warmup, 1e-3), rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.0, 0.5, 1.0, 0.853553390593274, 0.5, 0.146446609406726]),
    ],
)
def test_known_rates(kind: str, expected: list[float]) -> None:
    assert rates(learning_rate=1, steps=6, warmup=2, lr_schedule=kind) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("warmup", "expected"), [(0, 0), (0.1, 2), (0.06, 2), (0.99, 20), (1, 1), (1.5, 1), (19.9, 19), (30, 30)]
)
def test_a_warmup_below_one_is_a_share(warmup: float, expected: int) -> None:
    assert warmup_steps(Hyperparameters(learning_rate=1, steps=20, warmup=warmup)) == expected


@given(
    st.sampled_from(KINDS), st.integers(1, 60), st.one_of(st.floats(0, 0.99), st.integers(0, 80)), st.floats(1e-9, 10)
)
def test_a_rate_rises_to_what_was_asked_for_and_never_above(kind: str, steps: int, warmup: float, rate: float) -> None:
    found = rates(learning_rate=rate, steps=steps, warmup=warmup, lr_schedule=kind)
    rise = warmup_steps(Hyperparameters(learning_rate=rate, steps=steps, warmup=warmup))
    assert all(0 <= each <= rate for each in found)
    assert found[:rise] == sorted(found[:rise])
    assert found[rise:] == sorted(found[rise:], reverse=True)
    if rise < steps:
        assert found[rise] == rate
    if kind == "constant":
        assert set(found[rise:]) <= {rate}
