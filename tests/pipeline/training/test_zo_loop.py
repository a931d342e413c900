"""A zo run gives the same weights to the bit whether it was stopped, killed or left alone."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.training import zo_loop
from pipeline.training.evaluate import evaluate
from pipeline.training.models import with_lora
from pipeline.training.schedule import learning_rate_at
from pipeline.training.setup import Outcome, Setup, Stopped
from pipeline.training.zo_files import Evaluations
from tests.pipeline.training.tiny import encoded, model
from tests.pipeline.training.zo_run import Watch, hyperparameters, setup, weights
from tracker.errors import Conflict, Corrupt, StorageError, TrainingFailed

STEPS = 20
KINDS: list[dict[str, Any]] = [
    {},
    {"zo_memory": "in_place"},
    {"precision": "bf16", "zo_memory": "in_place"},
    {"zo_directions": 3, "weight_decay": 0.1},
    {"classification": False},
    {"layout": "plain"},
]


def trained(checkpoint: Path, **given: Any) -> tuple[Outcome, str, Watch]:
    watch = Watch()
    run = setup(checkpoint, watch, **given)
    outcome = zo_loop.train(run)
    return outcome, weights(run.model), watch


def stopped(checkpoint: Path, after: int, **given: Any) -> Watch:
    watch = Watch(after)
    with pytest.raises(Stopped):
        zo_loop.train(setup(checkpoint, watch, **given))
    assert max(watch.steps) == after
    return watch


def test_says_what_it_does(tmp_path: Path) -> None:
    outcome, _, watch = trained(tmp_path)
    given = hyperparameters()
    assert list(watch.steps) == list(range(1, STEPS + 1))
    assert [each["train/learning_rate"] for each in watch.steps.values()] == [
        learning_rate_at(given, step) for step in range(STEPS)
    ]
    assert all(math.isfinite(each["train/loss"]) and each["train/tokens"] > 0 for each in watch.steps.values())
    assert [step for step, _ in watch.evaluations] == [0, 4, 8, 12, 16, 20]
    best = min(watch.evaluations, key=lambda each: each[1].loss)
    assert outcome == Outcome(best[0], best[1].loss, STEPS, watch.steps[STEPS]["train/loss"])


def test_ends_with_the_best_weights(tmp_path: Path) -> None:
    # So large that it gets worse in the end.
    run = setup(tmp_path, Watch(), learning_rate=1e-3)
    outcome = zo_loop.train(run)
    found = evaluate(run.model, run.dev, [0, 1], classification=True, token_budget=512, layout="tree")
    assert found.loss == outcome.best_dev_loss
    assert outcome.best_step < STEPS


def test_it_learns(tmp_path: Path) -> None:
    given = {"learning_rate": 5e-4, "steps": 150, "eval_steps": 50, "batch_size": 3, "zo_directions": 2}
    outcome, _, watch = trained(tmp_path, dev=encoded("CB"), **given)
    assert outcome.best_dev_loss < 0.5 * watch.evaluations[0][1].loss
    assert watch.evaluations[-1][1].accuracy == 1


def test_the_seed_matters(tmp_path: Path) -> None:
    assert trained(tmp_path / "one")[1] == trained(tmp_path / "two")[1]
    assert trained(tmp_path / "other", seed=6)[1] != trained(tmp_path / "two")[1]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_stopped_and_resumed_it_is_the_same_to_the_bit(tmp_path: Path, kind: dict[str, Any]) -> None:
    alone = trained(tmp_path / "alone", **kind)
    first = stopped(tmp_path / "resumed", 6, **kind)
    second = stopped(tmp_path / "resumed", 8, **kind)
    third = trained(tmp_path / "resumed", **kind)
    assert third[:2] == alone[:2]
    # Every step is said once, and every evaluation is made once; those of before are said again.
    assert first.steps | second.steps | third[2].steps == alone[2].steps
    assert list(second.steps) == [7, 8]
    assert third[2].evaluations == alone[2].evaluations
    assert list(Evaluations(tmp_path / "resumed" / "evaluations.jsonl").found) == [0, 4, 8, 12, 16, 20]


def test_a_run_that_is_done_takes_no_step(tmp_path: Path) -> None:
    outcome, found, _ = trained(tmp_path)
    again = trained(tmp_path)
    assert (again[0], again[1], again[2].steps) == (outcome, found, {})


def test_an_evaluation_that_a_crash_took_is_made_again(tmp_path: Path) -> None:
    alone = trained(tmp_path / "alone")
    stopped(tmp_path / "crashed", 12)
    path = tmp_path / "crashed" / "evaluations.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    (tmp_path / "crashed" / "best.safetensors").unlink()
    again = trained(tmp_path / "crashed")
    assert again[:2] == alone[:2]
    assert sorted(again[2].evaluations) == alone[2].evaluations


def killed(checkpoint: Path, memory: str, after: int | None, steps: int) -> str:
    """The last line that the run says; ``after`` that many steps it is killed with SIGKILL."""
    command = [sys.executable, "-m", "tests.pipeline.training.zo_run", str(checkpoint), memory, str(steps)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = ""
        for count, line in enumerate(process.stdout, 1):  # noqa: B007  the last one is wanted
            if count == after:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == (0 if after is None else -signal.SIGKILL)
    return line


@pytest.mark.parametrize(("memory", "kills"), [("keep", (1, 37, 60)), ("in_place", (42,))])
def test_killed_at_any_point_it_is_the_same_to_the_bit(tmp_path: Path, memory: str, kills: tuple[int, ...]) -> None:
    steps = 150
    alone = killed(tmp_path / "alone", memory, None, steps)
    # One of the kills falls into an evaluation, the others between two steps.
    for after in kills:
        killed(tmp_path / "killed", memory, after, steps)
    assert alone.startswith("Outcome(")
    assert killed(tmp_path / "killed", memory, None, steps) == alone


def test_what_would_take_long_to_replay_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = trained(tmp_path / "alone")
    # A minute's replay is nothing that a test waits for.
    monkeypatch.setattr(zo_loop, "_REPLAY_S", 0.0)
    monkeypatch.setattr(zo_loop, "_SHARE_OF_SAVING", math.inf)
    place = tmp_path / "saved"
    stopped(place, 6)
    files = {path.name for path in place.iterdir()}
    assert files == {"best.safetensors", "evaluations.jsonl", "steps-000000006.log", "weights-000000006.safetensors"}
    (place / "weights-000000009.safetensors").write_bytes(b"of a crash before its log was begun")
    again = trained(place)
    assert again[:2] == alone[:2]
    assert min(again[2].steps) == 7
    assert {path.name for path in place.iterdir()} == {
        "best.safetensors", "evaluations.jsonl", "steps-000000019.log", "weights-000000019.safetensors"
    }  # fmt: skip


def test_a_base_that_was_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zo_loop, "_REPLAY_S", 0.0)
    monkeypatch.setattr(zo_loop, "_SHARE_OF_SAVING", math.inf)
    stopped(tmp_path, 6)
    path = tmp_path / "weights-000000006.safetensors"
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    with pytest.raises(Corrupt, match=r"weights-000000006.safetensors is damaged"):
        trained(tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"zo_eps": 1e-2}, "eps 0.001, now 0.01"),
        ({"seed": 6}, "seed 5, now 6"),
        ({"learning_rate": 2e-4}, "learning_rate 0.0001, now 0.0002"),
        ({"zo_directions": 2}, "directions 1, now 2"),
        ({"weight_decay": 0.5}, "weight_decay 0.0, now 0.5"),
        ({"zo_memory": "in_place"}, "memory keep, now in_place"),
        ({"precision": "bf16"}, "precision fp32, now bf16"),
        ({"model": "llama, other"}, "model "),
    ],
)
def test_what_changed_since_is_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    stopped(tmp_path, 2)
    if "model" in changed:
        changed["model"] = model("llama")
        with torch.no_grad():
            changed["model"].model.norm.weight[3] += 1
    before = sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir())
    with pytest.raises(Conflict, match=said):
        trained(tmp_path, **changed)
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir()) == before


def test_auto_goes_on_in_the_mode_that_it_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zo_loop, "free_memory", lambda _: 0)
    stopped(tmp_path / "resumed", 6, zo_memory="auto")
    monkeypatch.undo()
    assert trained(tmp_path / "resumed", zo_memory="auto")[1] == trained(tmp_path / "place", zo_memory="in_place")[1]
    assert trained(tmp_path / "much", zo_memory="auto")[1] == trained(tmp_path / "keep")[1]


def test_a_loss_that_is_not_finite_fails_at_once(tmp_path: Path) -> None:
    watch = Watch()
    # The weights grow by a factor of a thousand a step.
    run = setup(tmp_path, watch, learning_rate=100, weight_decay=10, lr_schedule="constant", warmup=0, eval_steps=100)
    with pytest.raises(TrainingFailed) as failed:
        zo_loop.train(run)
    step = max(watch.steps) + 1
    assert failed.value.message == f"The loss of step {step} is not finite; the learning rate was 100."
    assert step < STEPS


def test_lora_alone_is_trained(tmp_path: Path) -> None:
    def run(checkpoint: Path, watch: Watch, precision: str) -> Setup:
        adapted = with_lora(model("llama"), rank=2, alpha=4.0, seed=0)
        return replace(setup(checkpoint, watch, precision=precision, learning_rate=1e-3), model=adapted)

    for precision in ("fp32", "bf16"):
        before, alone = run(tmp_path / precision, Watch(), precision), run(tmp_path / precision, Watch(), precision)
        outcome = zo_loop.train(alone)
        changed = {
            name
            for (name, one), (_, two) in zip(
                before.model.named_parameters(), alone.model.named_parameters(), strict=True
            )
            if not torch.equal(one, two)
        }
        assert {each.dtype for each in alone.model.parameters()} == {torch.float32}
        trainable = {name for name, each in alone.model.named_parameters() if each.requires_grad}
        assert outcome.best_step > 0
        assert changed == trainable
        assert all("lora" in name for name in trainable)
        place = tmp_path / f"{precision} resumed"
        with pytest.raises(Stopped):
            zo_loop.train(run(place, Watch(6), precision))
        resumed = run(place, Watch(), precision)
        assert zo_loop.train(resumed) == outcome
        assert weights(resumed.model) == weights(alone.model)


def test_a_checkpoint_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        trained(tmp_path / "file")
