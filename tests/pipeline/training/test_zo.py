"""Steps of zo are those of a textbook, theta moves by updates alone, and a record replays its step to the bit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.training.zo import Memory, ZeroOrder, choose_memory, memory_to_keep
from pipeline.training.zo_noise import Noise

CPU = torch.device("cpu")
EPS = 1e-3
MODES: tuple[Memory, ...] = ("keep", "in_place")
EVERY_MODE = pytest.mark.parametrize("memory", MODES)


class Net(nn.Module):
    """Matrices, biases, a frozen layer and a matrix used twice; a matrix has more numbers than a chunk of noise."""

    def __init__(self, width: int = 400) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, width), nn.Linear(width, width)
        self.frozen = nn.Linear(width, width).requires_grad_(requires_grad=False)
        self.tied = nn.Linear(width, width, bias=False)
        self.tied.weight = self.second.weight
        self.last = nn.Linear(width, 1)

    def forward(self, given: Tensor) -> Tensor:
        hidden = torch.tanh(self.second(torch.tanh(self.first(given.to(self.first.weight.dtype)))))
        found: Tensor = self.last(torch.tanh(self.tied(hidden)) + hidden @ self.frozen.weight.to(hidden.dtype))
        return found.float()


@dataclass
class Problem:
    net: Net
    loss: Callable[[], float]

    @classmethod
    def new(cls) -> Problem:
        net = Net()
        given = torch.linspace(-1, 1, 32).reshape(8, 4)
        wanted = given.sum(1, keepdim=True).sin()

        def loss() -> float:
            with torch.no_grad():
                return float((net(given) - wanted).square().mean())

        return cls(net, loss)

    def zero_order(self, **settings: Any) -> ZeroOrder:
        return ZeroOrder(self.net.parameters(), seed=7, **{"eps": EPS} | settings)

    def trained(self) -> list[nn.Parameter]:
        return [each for each in self.net.parameters() if each.requires_grad]


def noise_of(parameters: Sequence[nn.Parameter], step: int, direction: int) -> list[Tensor]:
    """The same noise as the steps draw, cut into the parameters' shapes."""
    source, size = Noise(7, CPU), sum(each.numel() for each in parameters)
    flat = torch.empty(size)
    for number, begin in enumerate(range(0, size, source.chunk)):
        source.fill(flat[begin : begin + source.chunk], step, direction, number)
    parts = torch.split(flat, [each.numel() for each in parameters])
    return [part.view_as(each) for part, each in zip(parts, parameters, strict=True)]


def textbook_step(problem: Problem, step: int, rate: float, *, directions: int, decay: float) -> list[float]:
    """Algorithm 1 of Malladi et al. 2023 (n-SPSA for several directions), one parameter after the other."""
    parameters = problem.trained()

    def perturb(direction: int, by: float) -> None:
        for each, z in zip(parameters, noise_of(parameters, step, direction), strict=True):
            each.data += by * EPS * z

    slopes = []
    for direction in range(directions):
        perturb(direction, 1)
        plus = problem.loss()
        perturb(direction, -2)
        minus = problem.loss()
        perturb(direction, 1)
        slopes.append((plus - minus) / (2 * EPS))
    gradients = [torch.zeros_like(each) for each in parameters]
    for direction, slope in enumerate(slopes):
        for gradient, z in zip(gradients, noise_of(parameters, step, direction), strict=True):
            gradient.add_(slope / directions * z)
    for each, gradient in zip(parameters, gradients, strict=True):
        each.data -= rate * (gradient + (decay if each.ndim >= 2 else 0) * each.data)
    return slopes


@EVERY_MODE
@pytest.mark.parametrize(("directions", "decay"), [(1, 0.0), (1, 0.1), (3, 0.0), (3, 0.1)])
def test_agrees_with_the_textbook(memory: Memory, directions: int, decay: float) -> None:
    ours, other = Problem.new(), Problem.new()
    zo = ours.zero_order(memory=memory, directions=directions, weight_decay=decay)
    before = ours.loss()
    for step in range(40):
        rate = 1e-5 * (1 + step % 3)
        record = zo.step(ours.loss, step, rate)
        slopes = textbook_step(other, step, rate, directions=directions, decay=decay)
        assert record.projected_gradients == pytest.approx(slopes, rel=2e-2, abs=2e-2)
    zo.settle()
    moved = max(
        float((a - b).abs().max().detach()) for a, b in zip(ours.trained(), Problem.new().trained(), strict=True)
    )
    apart = max(float((a - b).abs().max().detach()) for a, b in zip(ours.trained(), other.trained(), strict=True))
    assert apart < moved / 200
    assert ours.loss() < before


def test_one_update_is_the_formula() -> None:
    problem = Problem.new()
    theta = [each.detach().clone() for each in problem.trained()]
    zo = problem.zero_order(directions=2, weight_decay=0.5)
    losses = iter([1.25, 1.0, 2.0, 2.5])
    record = zo.step(lambda: next(losses), 4, 0.01)
    zo.settle()
    assert record.projected_gradients == pytest.approx((125.0, -250.0))
    assert record.loss == pytest.approx(6.75 / 4)
    noises = [noise_of(problem.trained(), 4, direction) for direction in (0, 1)]
    for each, before, one, two in zip(problem.trained(), theta, *noises, strict=True):
        gradient = (125 * one - 250 * two) / 2 + (0.5 * before if each.ndim == 2 else 0)
        assert torch.allclose(each, before - 0.01 * gradient, rtol=1e-6, atol=1e-6)


def test_the_defaults_are_those_of_the_paper() -> None:
    plain, said = Problem.new(), Problem.new()
    given: dict[str, Any] = {"eps": 1e-3, "directions": 1, "memory": "keep", "weight_decay": 0.0}
    one = ZeroOrder(plain.net.parameters(), seed=7)
    other = ZeroOrder(said.net.parameters(), seed=7, compute_dtype=torch.float32, **given)
    assert one.step(plain.loss, 0, 1e-5) == other.step(said.loss, 0, 1e-5)
    assert [each.tolist() for each in one.weights] == [each.tolist() for each in other.weights]
    assert one._kept is not None
    assert one.noise_digest == Noise(7, torch.device("cpu")).digest()


@pytest.mark.parametrize(("memory", "times"), [("keep", 2), ("in_place", 7)])
def test_noise_is_drawn_no_more_often_than_it_must(memory: Memory, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # In place: three moves of the first direction, two of the second, and both once more for the update.
    drawn, fill = [], Noise.fill

    def counted(self: Noise, out: Tensor, step: int, direction: int, chunk: int) -> None:
        drawn.append((direction, chunk))
        fill(self, out, step, direction, chunk)

    problem = Problem.new()
    zo = problem.zero_order(memory=memory, directions=2)
    monkeypatch.setattr(Noise, "fill", counted)
    zo.step(problem.loss, 0, 1e-5)
    assert sorted(set(drawn)) == [(direction, chunk) for direction in (0, 1) for chunk in (0, 1)]
    assert len(drawn) == 2 * times


def test_golden_numbers() -> None:
    """Of a quadratic, whose slope along z is 2 theta z exactly: computed from that in double precision."""
    theta = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0]))
    zo = ZeroOrder([theta], seed=7, eps=0.01)
    records = [zo.step(lambda: theta.detach().square().sum().item(), step, 0.05) for step in range(3)]
    zo.settle()
    assert [record.projected_gradients[0] for record in records] == pytest.approx(
        [2.693588, -10.556439, 1.612007], rel=1e-4
    )
    assert theta.tolist() == pytest.approx([1.3164857, -1.4407656, 0.0824465, 2.3721391], rel=1e-4)


def test_all_directions_are_measured_at_the_same_theta() -> None:
    for memory in MODES:
        problem, seen = Problem.new(), []
        theta = [each.detach().clone() for each in problem.trained()]

        def loss() -> float:
            seen.append([each.detach().clone() for each in problem.trained()])  # noqa: B023
            return float(len(seen))  # noqa: B023

        problem.zero_order(memory=memory, directions=3).step(loss, 0, 1.0)
        for plus, minus in zip(seen[::2], seen[1::2], strict=True):
            for each, up, down in zip(theta, plus, minus, strict=True):
                assert torch.allclose((up + down) / 2, each, rtol=0, atol=1e-6)
        z = noise_of(problem.trained(), 0, 1)
        assert all(torch.allclose(a - b, EPS * c, rtol=0, atol=1e-6) for a, b, c in zip(seen[2], theta, z, strict=True))


def test_a_thousand_perturbations_leave_no_trace_in_mode_keep() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        problem = Problem.new()
        before = [each.detach().clone() for each in problem.trained()]
        zo = problem.zero_order(compute_dtype=dtype)
        for step in range(1000):
            zo.step(lambda: 1.0, step, 1e-3)
        assert all(map(torch.equal, zo.weights, before))
        zo.settle()
        assert all(torch.equal(a, b.to(dtype)) for a, b in zip(problem.trained(), before, strict=True))


def test_a_thousand_perturbations_in_place_leave_rounding_alone() -> None:
    problem = Problem.new()
    before = torch.cat([each.detach().flatten() for each in problem.trained()])
    zo = problem.zero_order(memory="in_place")
    for step in range(1000):
        zo.step(lambda: 1.0, step, 1e-3)
    after = torch.cat([each.detach().flatten() for each in problem.trained()])
    assert 0 < float((after - before).norm() / before.norm()) < 1e-5


SETTINGS: list[dict[str, Any]] = [
    {},
    {"directions": 3},
    {"weight_decay": 0.1},
    {"directions": 2, "weight_decay": 0.1},
    {"compute_dtype": torch.bfloat16},
    {"compute_dtype": torch.bfloat16, "directions": 2, "weight_decay": 0.1},
]


@EVERY_MODE
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_replay_gives_the_same_bits(memory: Memory, settings: dict[str, Any]) -> None:
    problem, replayed = Problem.new(), Problem.new()
    zo, other = (each.zero_order(memory=memory, **settings) for each in (problem, replayed))
    records = [zo.step(problem.loss, step, 1e-4 / (1 + step)) for step in range(12)]
    for record in records[:7]:
        other.replay(record)
    assert not all(map(torch.equal, other.weights, zo.weights))
    # From here on it measures for itself: what it measures is the same as well.
    assert [other.step(replayed.loss, step, 1e-4 / (1 + step)) for step in range(7, 12)] == records[7:]
    assert all(map(torch.equal, other.weights, zo.weights))
    zo.settle()
    other.settle()
    assert all(map(torch.equal, replayed.trained(), problem.trained()))
    assert torch.equal(replayed.net.frozen.weight, Problem.new().net.frozen.weight)


def test_in_bf16_the_mode_makes_no_difference() -> None:
    found = []
    for memory in MODES:
        problem = Problem.new()
        zo = problem.zero_order(memory=memory, compute_dtype=torch.bfloat16, directions=2)
        found.append(([zo.step(problem.loss, step, 1e-4) for step in range(5)], zo.weights))
        assert {each.dtype for each in problem.trained()} == {torch.bfloat16}
    (records, weights), (others, other_weights) = found
    assert records == others
    assert all(map(torch.equal, weights, other_weights))


@EVERY_MODE
def test_only_what_requires_a_gradient_moves_and_once(memory: Memory) -> None:
    problem = Problem.new()
    # Two parameters in one storage are one as well, as some models tie them.
    problem.net.tied.weight = nn.Parameter(problem.net.second.weight.data)
    frozen = problem.net.frozen.weight.clone()
    zo = problem.zero_order(memory=memory, compute_dtype=torch.bfloat16)
    assert len(zo.parameters) == len(Problem.new().trained())
    zo.step(problem.loss, 0, 0.1)
    zo.settle()
    assert torch.equal(problem.net.tied.weight, problem.net.second.weight)
    assert problem.net.tied.weight.data_ptr() == problem.net.second.weight.data_ptr()
    assert torch.equal(problem.net.frozen.weight, frozen)
    assert not torch.equal(problem.net.first.bias, Net().first.bias)


def test_matrices_alone_decay() -> None:
    problem = Problem.new()
    before = [each.detach().clone() for each in problem.trained()]
    zo = problem.zero_order(weight_decay=0.5)
    zo.step(lambda: 1.0, 0, 0.1)
    for after, each in zip(zo.weights, before, strict=True):
        assert torch.allclose(after, each * (0.95 if each.ndim == 2 else 1), rtol=1e-6, atol=0)


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """The size of the largest storage, in bytes, that any operation made."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._known = {each.untyped_storage().data_ptr() for each in known}
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **kwargs or {})
        if isinstance(found, Tensor) and found.untyped_storage().data_ptr() not in self._known:
            self.largest = max(self.largest, found.untyped_storage().nbytes())
        return found


@pytest.mark.parametrize(("memory", "dtype"), [("in_place", torch.float32), ("in_place", torch.bfloat16)])
def test_in_place_takes_no_more_than_a_chunk(memory: Memory, dtype: torch.dtype) -> None:
    net = nn.Linear(1024, 1024)
    chunk = 4 * Noise(0, CPU).chunk
    made = functools.partial(ZeroOrder, net.parameters(), seed=0, memory=memory, compute_dtype=dtype, weight_decay=0.1)
    if dtype == torch.float32:
        with Allocations(list(net.parameters())) as building:
            zo = made()
        assert building.largest <= 2 * chunk
        assert all(a.data_ptr() == b.data_ptr() for a, b in zip(zo.weights, net.parameters(), strict=True))
    else:
        zo = made()
    losses = iter([1.0, 2.0])
    with Allocations([*net.parameters(), *zo.weights]) as stepping:
        record = zo.step(lambda: next(losses), 0, 1e-3)
        zo.replay(record)
    assert 0 < stepping.largest <= 2 * chunk < 4 * net.weight.numel()


def test_an_error_in_the_loss_leaves_theta_where_it_was() -> None:
    problem = Problem.new()
    zo = problem.zero_order()
    before = [each.clone() for each in zo.weights]

    def fails() -> float:
        raise RuntimeError("the loss")

    with pytest.raises(RuntimeError, match="the loss"):
        zo.step(fails, 0, 0.1)
    assert all(map(torch.equal, zo.weights, before))


@EVERY_MODE
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_released_has_theta_as_its_own(memory: Memory, dtype: torch.dtype) -> None:
    problem = Problem.new()
    zo = problem.zero_order(memory=memory, compute_dtype=dtype)
    zo.step(problem.loss, 0, 0.1)
    zo.release()
    assert {each.dtype for each in problem.trained()} == {torch.float32}
    assert all(map(torch.equal, problem.trained(), zo.weights))
    assert problem.net.tied.weight is problem.net.second.weight


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^no parameter requires a gradient$"):
        ZeroOrder(nn.Linear(2, 2).requires_grad_(requires_grad=False).parameters(), seed=0)


@pytest.mark.parametrize(
    ("asked", "needed", "free", "found"),
    [
        ("auto", 75, 100, "keep"),
        ("auto", 76, 100, "in_place"),
        ("keep", 200, 100, "keep"),
        ("in_place", 1, 100, "in_place"),
    ],
)
def test_the_mode_is_chosen_by_memory_alone(asked: str, needed: int, free: int, found: str) -> None:
    assert choose_memory(asked, needed=needed, free=free) == found


def test_memory_to_keep_is_what_keep_allocates() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        made = {}
        for memory in MODES:
            net = nn.Linear(1024, 1024)
            zo = ZeroOrder(net.parameters(), seed=0, memory=memory, compute_dtype=dtype, directions=2)
            held = [*net.parameters(), *zo.weights, *([] if zo._kept is None else [zo._kept])]
            made[memory] = sum({s.data_ptr(): s.nbytes() for s in (each.untyped_storage() for each in held)}.values())
        needed = memory_to_keep(1024 * 1025, directions=2, compute_dtype=dtype)
        assert made["keep"] - made["in_place"] == needed
