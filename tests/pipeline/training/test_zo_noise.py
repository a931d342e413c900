"""Noise is standard normal, the same to the bit whenever it is asked for, and independent of its neighbours."""

from __future__ import annotations

import math
import zlib

import pytest
import torch
from torch import Tensor

from pipeline.training.zo_noise import Noise

CPU = torch.device("cpu")


def noise(seed: int = 0, step: int = 0, direction: int = 0, chunk: int = 0, *, count: int | None = None) -> Tensor:
    source = Noise(seed, CPU)
    out = torch.empty(source.chunk if count is None else count)
    source.fill(out, step, direction, chunk)
    return out


def test_is_standard_normal() -> None:
    found = torch.cat([noise(chunk=chunk) for chunk in range(8)]).double()
    n = len(found)
    powers = [found.pow(k).mean().item() for k in (1, 2, 3, 4, 6)]
    # Five standard errors of each moment of a normal distribution.
    for power, expected, variance in zip(powers, (0, 1, 0, 3, 15), (1, 2, 15, 96, 10_170), strict=True):
        assert abs(power - expected) < 5 * math.sqrt(variance / n)
    ordered = found.sort().values
    distribution = 0.5 * (1 + torch.erf(ordered / math.sqrt(2)))
    apart = (distribution - (torch.arange(n) + 0.5) / n).abs().max().item()
    assert apart < 1.95 / math.sqrt(n)  # Kolmogorov and Smirnov at 0.1%
    assert 4.5 < found.abs().max().item() < 6.7


@pytest.mark.parametrize("other", [{"seed": 1}, {"step": 1}, {"direction": 1}, {"chunk": 1}])
def test_neighbours_have_nothing_in_common(other: dict[str, int]) -> None:
    one, two = noise(), noise(**other)
    assert abs((one @ two).item()) / math.sqrt(len(one)) < 5
    half = len(one) // 2
    assert abs((one[:half] @ one[half:]).item()) / math.sqrt(half) < 5
    assert abs((one[1:] @ one[:-1]).item()) / math.sqrt(2 * half) < 5
    assert abs((one[:half].square() - 1).dot(one[half:].square() - 1).item()) / math.sqrt(4 * half) < 5


def test_comes_back_whatever_was_drawn_before() -> None:
    source = Noise(3, CPU)
    first, between, again = (torch.empty(1000) for _ in range(3))
    source.fill(first, 5, 1, 2)
    source.fill(between, 6, 0, 0)
    source.fill(again, 5, 1, 2)
    assert torch.equal(first, again)
    assert torch.equal(first, noise(3, 5, 1, 2, count=1000))
    assert not torch.equal(first, between)


def test_is_what_it_was() -> None:
    """A change of these numbers makes every log unreadable that was written before."""
    expected = torch.tensor([0.4495494, 1.6987379, 0.3955317, -0.4508577, 0.5949076, 1.1151159])
    assert torch.allclose(noise(7, 3, 1, 2, count=6), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("count", [1, 2, 7, 1001])
def test_any_length(count: int) -> None:
    found = noise(count=count)
    assert torch.isfinite(found).all()
    assert torch.equal(found, noise(count=count + count % 2)[:count])


def test_the_digest_is_of_the_noise() -> None:
    assert Noise(0, CPU).digest() == Noise(0, CPU).digest() != Noise(1, CPU).digest()
    assert Noise(5, CPU).digest() == f"{zlib.crc32(noise(5).numpy().data):08x}"


@pytest.mark.parametrize(("each", "radius"), [(2**31 - 1, math.sqrt(66 * math.log(2))), (-(2**31), 0.0)])
def test_no_bits_give_what_is_not_finite(each: int, radius: float) -> None:
    """Beyond 6.8 there is nothing: the radius of 2^-33, the smallest uniform number."""
    out = torch.empty(8)
    Noise(0, CPU)._box_muller(out, torch.full((8,), each, dtype=torch.int32))
    assert torch.allclose(out[:4].hypot(out[4:]), torch.full((4,), radius), rtol=1e-6)
