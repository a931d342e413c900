"""What a first-order run leaves on the disk: as little as it needs, noticed where damaged, and enough to go on from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.training import checkpoint_files, first_order
from pipeline.training.evaluate import Evaluation
from pipeline.training.models import with_lora
from pipeline.training.setup import Outcome, Setup, Stopped
from tests.pipeline.training.tiny import model
from tests.pipeline.training.zo_run import Watch, setup, weights
from tracker.errors import Corrupt

STEPS = 10


class Crashed(Exception):
    """The process is gone."""


class Counting(Watch):
    """Counts the checkpoints that come to be; crashes once ``crash_after`` steps were measured."""

    def __init__(self, checkpoint: Path, *, stop_after: int | None = None, crash_after: int = STEPS + 1) -> None:
        super().__init__(stop_after)
        self._checkpoint, self._crash_after = checkpoint, crash_after
        self.saved: set[str] = set()

    def evaluated(self, step: int, evaluation: Evaluation) -> None:
        super().evaluated(step, evaluation)
        self.saved |= {path.parent.name for path in self._checkpoint.glob("checkpoint-*/complete.json")}

    def step(self, step: int, metrics: Any) -> None:
        super().step(step, metrics)
        if step > self._crash_after:
            raise Crashed


class StoppedWhileMeasuring(Watch):
    """Asks to stop when step 3 is being measured, not when it is done."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    def stopping(self) -> bool:
        self._asked += max(self.steps, default=0) == 3
        return self._asked > 1


def prepared(place: Path, watch: Watch, **given: Any) -> Setup:
    adapted = with_lora(model("llama"), rank=2, alpha=4.0, seed=0)
    # So fast that the best is neither the first nor the last.
    own = {"learning_rate": 3e-2, "steps": STEPS, "eval_steps": 1, "method": "fo_lora", "model": adapted}
    return setup(place, watch, **own | given)


def trained(place: Path, watch: Watch | None = None, **given: Any) -> tuple[Outcome, str]:
    run = prepared(place, watch or Watch(), **given)
    return first_order.train(run), weights(run.model)


def crashed(place: Path, after: int) -> Counting:
    watch = Counting(place, crash_after=after)
    with pytest.raises(Crashed):
        trained(place, watch)
    return watch


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saving is taken to be so slow that it pays once a process."""
    monkeypatch.setattr(first_order, "_MOST_TIME_SAVING", 1e-9)


@pytest.mark.parametrize(("share", "saved"), [(1e-9, 1), (math.inf, STEPS)])
def test_it_saves_as_often_as_the_time_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, saved: int
) -> None:
    monkeypatch.setattr(first_order, "_MOST_TIME_SAVING", share)
    watch = Counting(tmp_path)
    trained(tmp_path, watch)
    assert len(watch.saved) == saved
    assert [step for step, _ in watch.evaluations] == list(range(STEPS + 1))


@pytest.mark.usefixtures("seldom")
@pytest.mark.parametrize("after", [4, 9])
def test_what_was_measured_after_the_checkpoint_is_measured_again(tmp_path: Path, after: int) -> None:
    alone_watch, again_watch = Watch(), Watch()
    alone = trained(tmp_path / "alone", alone_watch)
    place = tmp_path / "crashed"
    assert crashed(place, after).saved == {"checkpoint-1"}
    found = checkpoint_files.read_about(place / "best.safetensors")
    assert found is not None
    assert found["step"] > 1
    again = trained(place, again_watch)
    assert again == alone
    assert again_watch.evaluations == alone_watch.evaluations[1:]


@pytest.mark.usefixtures("seldom")
def test_the_best_of_steps_that_were_lost_does_not_count(tmp_path: Path) -> None:
    alone = trained(tmp_path / "alone")
    place = tmp_path / "crashed"
    crashed(place, 4)
    other = with_lora(model("llama"), rank=2, alpha=4.0, seed=1)
    checkpoint_files.write_weights(other, place / "best.safetensors", {"step": 4, "loss": -1.0})
    assert trained(place) == alone


def test_the_best_of_a_run_without_a_checkpoint_does_not_count(tmp_path: Path) -> None:
    alone = trained(tmp_path / "alone")
    place = tmp_path / "crashed"
    place.mkdir()
    other = with_lora(model("llama"), rank=2, alpha=4.0, seed=1)
    checkpoint_files.write_weights(other, place / "best.safetensors", {"step": 0, "loss": -1.0})
    assert trained(place) == alone


@pytest.mark.usefixtures("seldom")
def test_stopped_while_it_measures_it_loses_no_step(tmp_path: Path) -> None:
    alone = trained(tmp_path / "alone")
    with pytest.raises(Stopped):
        trained(tmp_path / "stopped", StoppedWhileMeasuring())
    watch = Watch()
    assert trained(tmp_path / "stopped", watch) == alone
    assert min(watch.steps) == 4


def stopped(place: Path) -> Path:
    """A run that was stopped after step 5; its checkpoint."""
    with pytest.raises(Stopped):
        trained(place, Watch(5))
    return place / "checkpoint-5"


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def changed(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-9] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize("damage", [truncated, changed, Path.unlink])
@pytest.mark.parametrize(
    "name", ["weights.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "best.safetensors"]
)
def test_a_damaged_checkpoint_is_refused_in_words(tmp_path: Path, name: str, damage: Any) -> None:
    checkpoint = stopped(tmp_path)
    damage(checkpoint / name)
    with pytest.raises(Corrupt, match=rf"checkpoint-5/{name} is damaged: ") as refused:
        trained(tmp_path)
    assert refused.value.hint == f"Remove {tmp_path} to train the run from its beginning."


@pytest.mark.parametrize("content", ["", "{", "[]", '{"about": {}}', '{"about": {"step": 5}}', "\udcff"])
def test_a_damaged_note_of_a_checkpoint_is_refused_in_words(tmp_path: Path, content: str) -> None:
    checkpoint = stopped(tmp_path)
    (checkpoint / "complete.json").write_text(content, errors="surrogateescape")
    with pytest.raises(Corrupt, match=r"checkpoint-5/complete.json is damaged: "):
        trained(tmp_path)


@pytest.mark.parametrize("damage", [truncated, changed])
def test_damaged_weights_are_refused(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "best.safetensors"
    net = model("llama")
    checkpoint_files.write_weights(net, path, {"step": 1})
    damage(path)
    with pytest.raises(Corrupt, match=r"best.safetensors is damaged: ") as refused:
        checkpoint_files.read_weights(net, path)
    assert refused.value.hint == f"Remove {tmp_path} to train the run from its beginning."


def test_what_is_said_of_weights_is_refused_where_there_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"")
    with pytest.raises(Corrupt, match=r"best.safetensors is damaged: "):
        checkpoint_files.read_about(path)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    checkpoint_files.write_weights(torch.nn.Linear(2, 3), path, {})
    with pytest.raises(Corrupt, match=r"weights.safetensors is damaged: "):
        checkpoint_files.read_weights(torch.nn.Linear(3, 3), path)
