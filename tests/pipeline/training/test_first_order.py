"""First-order training is AdamW as in a textbook, and gives the same bits whether it was stopped, killed or left alone.

What it leaves on the disk is in ``test_first_order_checkpoints``.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.training import first_order, tree
from pipeline.training.evaluate import evaluate
from pipeline.training.models import with_lora
from pipeline.training.schedule import learning_rate_at
from pipeline.training.setup import Outcome, Setup, Stopped
from pipeline.training.splits import order
from tests.pipeline.training.fo_run import setup
from tests.pipeline.training.tiny import model
from tests.pipeline.training.zo_run import Watch, weights
from tracker.errors import Diverged, TrainingFailed

# peft asks transformers so; outside of tests ``models.quiet`` keeps it from the terminal.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
STEPS = 12
METHODS = ("fo_full", "fo_lora")


def trained(checkpoint: Path, **given: Any) -> tuple[Outcome, str, Watch]:
    watch = Watch()
    run = setup(checkpoint, watch, **given)
    outcome = first_order.train(run)
    return outcome, weights(run.model), watch


def stopped(checkpoint: Path, after: int, **given: Any) -> Watch:
    watch = Watch(after)
    with pytest.raises(Stopped):
        first_order.train(setup(checkpoint, watch, **given))
    assert max(watch.steps, default=0) == after
    return watch


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in net.named_parameters() if each.requires_grad}


class Weights(Watch):
    """Remembers the weights after every step."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.after = [state(net)]
        self._net = net

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        super().step(step, metrics)
        self.after.append(state(self._net))


def path_of(run: Setup) -> list[dict[str, Tensor]]:
    """The weights before the first and after every step."""
    assert isinstance(run.monitor, Weights)
    first_order.train(run)
    return run.monitor.after


def furthest(first: list[dict[str, Tensor]], second: list[dict[str, Tensor]]) -> float:
    """The largest distance of two paths, of any weight after any step."""
    return max(
        (one[name] - other[name]).abs().max().item() for one, other in zip(first, second, strict=True) for name in one
    )


def recorded(place: Path, net: PreTrainedModel, **given: Any) -> list[dict[str, Tensor]]:
    # In double precision noise is far below what a mistake would make.
    return path_of(setup(place, Weights(net), model=net, **given))


def adapted(dtype: torch.dtype = torch.float64, *, rank: int = 2, alpha: float = 8.0) -> PreTrainedModel:
    net = with_lora(model("llama"), rank=rank, alpha=alpha, seed=3)
    for each in net.parameters():
        each.data = each.data.to(dtype)
    return net


def textbook(run: Setup) -> list[dict[str, Tensor]]:
    """AdamW (Loshchilov and Hutter 2019, algorithm 2) on gradients clipped to norm 1; the weights as in ``path_of``."""
    given, net = run.hyperparameters, run.model
    trained = {name: each for name, each in net.named_parameters() if each.requires_grad}
    first = {name: torch.zeros_like(each) for name, each in trained.items()}
    second = {name: torch.zeros_like(each) for name, each in trained.items()}
    found = [state(net)]
    for step in range(given.steps):
        batch = [run.train[index] for index in order(len(run.train), given.batch_size, given.seed, step)]
        rows = [tree.pack([each], token_budget=1, device="cpu", only_answers=not run.classification) for each in batch]
        weight = [tree.weight(packs, classification=run.classification) for packs in rows]
        loss = sum(
            tree.batch_loss(net, packs, classification=run.classification) * share / sum(weight)
            for packs, share in zip(rows, weight, strict=True)
        )
        assert isinstance(loss, Tensor)
        gradients = dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))
        norm = math.sqrt(sum(each.double().square().sum().item() for each in gradients.values()))
        rate = learning_rate_at(given, step)
        with torch.no_grad():
            for name, each in trained.items():
                gradient = gradients[name] * min(1.0, 1.0 / (norm + 1e-6))
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                corrected = first[name] / (1 - 0.9 ** (step + 1))
                scale = (second[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
                decay = given.weight_decay if each.ndim >= 2 else 0.0
                each.sub_(rate * (corrected / scale + decay * each))
        found.append(state(net))
    return found


@pytest.mark.parametrize(("classification", "schedule"), [(True, "linear"), (False, "cosine"), (True, "constant")])
@pytest.mark.parametrize("method", METHODS)
def test_it_is_adamw_of_the_textbook(tmp_path: Path, method: str, classification: bool, schedule: str) -> None:
    def net() -> PreTrainedModel:
        return adapted() if method == "fo_lora" else model("llama", torch.float64)

    given = {"method": method, "classification": classification, "lr_schedule": schedule}
    path = recorded(tmp_path, net(), **given)
    wanted = textbook(setup(tmp_path, Watch(), model=net(), **given))
    assert furthest(path, wanted) < 1e-9
    assert furthest(path[:1] * (STEPS + 1), path) > 1e-2


def test_biases_and_norms_do_not_decay(tmp_path: Path) -> None:
    def second(weight_decay: float) -> dict[str, Tensor]:
        net = model("gpt2", torch.float64)
        with torch.no_grad():
            for each in net.parameters():
                each.add_(0.1)
        # The rate of the first step is 0, and the gradients of the second are those of the same weights.
        run = setup(tmp_path / str(weight_decay), Weights(net), model=net, weight_decay=weight_decay, steps=2)
        return path_of(run)[2]

    with_decay, without = second(0.5), second(0.0)
    moved = {name for name in without if not torch.equal(with_decay[name], without[name])}
    assert moved == {name for name, each in without.items() if each.ndim >= 2}
    assert any(name.endswith(".bias") for name in without)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "given",
    [
        {"gradient_accumulation": 2},
        {"token_budget": 1},
        {"layout": "plain"},
        {"gradient_checkpointing": True},
        {"gradient_accumulation": 2, "gradient_checkpointing": True, "classification": False},
    ],
    ids=str,
)
def test_how_a_batch_is_computed_changes_nothing(tmp_path: Path, method: str, given: dict[str, Any]) -> None:
    def path(place: str, **given: Any) -> list[dict[str, Tensor]]:
        net = adapted() if method == "fo_lora" else model("llama", torch.float64)
        return recorded(tmp_path / place, net, method=method, batch_size=3, **given)

    whole = path("whole", classification=given.get("classification", True))
    # A Llama's norms are of single precision always, and other rows of numbers are summed in another order.
    assert furthest(whole, path("other", **given)) < (1e-4 if given.get("layout") else 1e-9)


def test_says_what_it_does(tmp_path: Path) -> None:
    outcome, _, watch = trained(tmp_path)
    given = setup(tmp_path, Watch()).hyperparameters
    assert list(watch.steps) == list(range(1, STEPS + 1))
    assert [each["train/learning_rate"] for each in watch.steps.values()] == [
        learning_rate_at(given, step) for step in range(STEPS)
    ]
    assert all(math.isfinite(each["train/loss"]) and each["train/tokens"] > 0 for each in watch.steps.values())
    assert [step for step, _ in watch.evaluations] == [0, 4, 8, 12]
    best = min(watch.evaluations, key=lambda each: each[1].loss)
    assert outcome == Outcome(best[0], best[1].loss, STEPS, watch.steps[STEPS]["train/loss"])


def test_it_says_nothing_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path / "full")
    trained(tmp_path / "lora", method="fo_lora", gradient_checkpointing=True, precision="bf16")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("method", METHODS)
def test_ends_with_the_best_weights(tmp_path: Path, method: str) -> None:
    # So fast that the best is neither the first nor the last.
    watch = Watch()
    run = setup(tmp_path, watch, learning_rate=0.1, warmup=0, lr_schedule="constant", eval_steps=1, method=method)
    outcome = first_order.train(run)
    found = evaluate(run.model, run.dev, [0, 1], classification=True, token_budget=512, layout="tree")
    assert found.loss == outcome.best_dev_loss == min(each.loss for _, each in watch.evaluations)
    assert 0 < outcome.best_step < STEPS
    assert not run.model.training
    assert run.model.config.use_cache is True


def test_of_equal_losses_the_first_is_the_best(tmp_path: Path) -> None:
    # All of it is warmup, with a rate so small that no weight of float32 moves.
    outcome, _, watch = trained(tmp_path, learning_rate=1e-30)
    assert len({each.loss for _, each in watch.evaluations}) == 1
    assert outcome.best_step == 0


def test_the_seed_matters(tmp_path: Path) -> None:
    assert trained(tmp_path / "one")[1] == trained(tmp_path / "two")[1]
    assert trained(tmp_path / "other", seed=6)[1] != trained(tmp_path / "two")[1]


KINDS: list[dict[str, Any]] = [
    {},
    {"method": "fo_lora", "precision": "bf16", "gradient_checkpointing": True},
    {"method": "fo_lora", "gradient_accumulation": 2, "classification": False, "layout": "plain"},
    # Its dropout takes random numbers.
    {"model": "gpt2", "precision": "bf16"},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_stopped_and_resumed_it_is_the_same_to_the_bit(tmp_path: Path, kind: dict[str, Any]) -> None:
    def given() -> dict[str, Any]:
        return kind | ({"model": model(kind["model"])} if "model" in kind else {})

    alone = trained(tmp_path / "alone", **given())
    place = tmp_path / "resumed"
    first, second, third = (stopped(place, after, **given()) for after in (3, 4, 11))
    last = trained(place, **given())
    assert last[:2] == alone[:2]
    # Every step is said once, whoever takes it.
    assert first.steps | second.steps | third.steps | last[2].steps == alone[2].steps
    assert [list(each.steps) for each in (second, last[2])] == [[4], [12]]
    assert len(list(place.glob("checkpoint-*"))) <= 1


def test_a_run_that_is_done_takes_no_step(tmp_path: Path) -> None:
    outcome, found, _ = trained(tmp_path)
    again = trained(tmp_path)
    assert again[:2] == (outcome, found)
    assert again[2].steps == {} or min(again[2].steps) > 4


def test_killed_at_any_point_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    kills = {"fo_full": [9, 12, 3], "fo_lora": [15, 1]}
    command = [sys.executable, "-m", "tests.pipeline.training.fo_run", str(tmp_path), json.dumps(kills)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True
    )
    full, full_killed, lora, lora_killed = done.stdout.splitlines()
    assert full.startswith("Outcome(")
    assert (full, lora) == (full_killed, lora_killed)
    assert full != lora
    assert done.stderr == ""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_lora_alone_is_trained(tmp_path: Path, precision: str) -> None:
    net = adapted(torch.float32)
    before = {name: each.detach().clone() for name, each in net.named_parameters()}
    first_order.train(setup(tmp_path, Watch(), method="fo_lora", model=net, precision=precision))
    changed = {name for name, each in net.named_parameters() if not torch.equal(each, before[name])}
    assert changed == {name for name in before if "lora_" in name}
    assert {each.dtype for each in net.parameters()} == {torch.float32}


@pytest.mark.parametrize("method", METHODS)
def test_bf16_is_near_fp32_and_not_the_same(tmp_path: Path, method: str) -> None:
    losses = {
        precision: [
            each.loss
            for _, each in trained(tmp_path / precision, method=method, precision=precision, learning_rate=1e-3)[
                2
            ].evaluations
        ]
        for precision in ("fp32", "bf16")
    }
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_is_not_finite_fails_at_once(tmp_path: Path, method: str) -> None:
    watch = Watch()
    given = {"learning_rate": 100, "warmup": 0, "lr_schedule": "constant", "eval_steps": 100}
    with pytest.raises(Diverged) as failed:
        first_order.train(setup(tmp_path, watch, method=method, **given))
    step = max(watch.steps) + 1
    assert failed.value.message == f"The loss is nan at step {step}, with learning rate 100."
    assert failed.value.hint == "Use a lower learning_rate, or a warmup."
    assert step < STEPS


def test_out_of_memory_says_what_to_change(tmp_path: Path) -> None:
    class Greedy(Watch):
        """A monitor that takes all memory, as another process would."""

        def step(self, step: int, metrics: Mapping[str, float]) -> None:
            super().step(step, metrics)
            if step == 3:
                torch.empty(1 << 60, dtype=torch.uint8)

    with pytest.raises(TrainingFailed, match="Out of memory") as failed:
        first_order.train(setup(tmp_path, Greedy()))
    assert "fo_lora" in str(failed.value.hint)


def test_how_torch_computes_is_as_before_afterwards(tmp_path: Path) -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    for precision in ("fp32", "bf16"):
        stopped(tmp_path, 2, precision=precision) if precision == "fp32" else trained(tmp_path, precision=precision)
        assert not torch.are_deterministic_algorithms_enabled()
        assert not torch.is_autocast_enabled("cpu")
        assert torch.is_grad_enabled()
