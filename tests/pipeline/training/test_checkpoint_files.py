"""What is written is whole or does not count; what counts is what was written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.training.checkpoint_files import keep, making, newest, read_about, read_weights, restore, write_weights
from pipeline.training.zo_files import digest
from tracker.errors import Corrupt, StorageError

BEYOND = """
import sys
from pathlib import Path
from torch import nn
from pipeline.training.checkpoint_files import read_weights, write_weights

def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

model = nn.Sequential(*(nn.Linear(1000, 1000, bias=False) for _ in range(25)))
use = {"read": read_weights, "write": lambda model, path: write_weights(model, path, {})}[sys.argv[1]]
use(model[:1], Path(sys.argv[3]))  # what is loaded at the first call is no weight
before = kilobytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
use(model, Path(sys.argv[2]))
print((kilobytes("VmHWM") - before) / (25 * 4000))
"""


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    found = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2).to(torch.bfloat16))
    found[0].bias.requires_grad_(False)
    return found


def made(root: Path, step: int, **about: Any) -> Path:
    directory = root / f"checkpoint-{step}"
    with making(directory, {"step": step, **about}):
        directory.mkdir(parents=True)
        (directory / "one").write_bytes(bytes(100))
        (directory / "two").write_bytes(bytes([step]))
    return directory


def test_weights_come_back_to_the_bit(tmp_path: Path) -> None:
    path, given, found = tmp_path / "weights", net(0), net(1)
    frozen = found.state_dict()["0.bias"].clone()
    write_weights(given, path, {"step": 3, "loss": 0.1 + 0.2})
    read_weights(found, path)
    # What is not trained is not written.
    assert torch.equal(found.state_dict()["0.bias"], frozen)
    for name, each in found.named_parameters():
        assert (name == "0.bias") or torch.equal(each, dict(given.named_parameters())[name])
    assert read_about(path) == {"step": 3, "loss": 0.1 + 0.2}
    assert [each.name for each in tmp_path.iterdir()] == ["weights"]


def test_nothing_is_said_of_what_is_not_there(tmp_path: Path) -> None:
    assert read_about(tmp_path / "weights") is None
    assert newest(tmp_path) is None
    assert newest(tmp_path / "never made") is None


def test_weights_that_cannot_be_written_leave_those_before(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write_weights(net(0), path, {"step": 1})
    (tmp_path / ".weights").mkdir()
    with pytest.raises(StorageError, match="weights cannot be written: ") as error:
        write_weights(net(1), path, {"step": 2})
    assert "resumes from its last checkpoint" in str(error.value.hint)
    found = net(2)
    read_weights(found, path)
    assert read_about(path) == {"step": 1}


def test_the_newest_is_kept_alone(tmp_path: Path) -> None:
    for step in (9, 10):
        directory = made(tmp_path, step, loss=0.5)
        assert newest(tmp_path) == (directory, {"step": step, "loss": 0.5})
        assert [each.name for each in tmp_path.iterdir()] == [f"checkpoint-{step}"]


def test_steps_are_numbers_not_names(tmp_path: Path) -> None:
    """A crash between the marker of one and the removal of the other leaves both."""
    made(tmp_path / "other", 10)
    nine = made(tmp_path, 9)
    (tmp_path / "other" / "checkpoint-10").rename(tmp_path / "checkpoint-10")
    assert nine.is_dir()
    assert newest(tmp_path) == (tmp_path / "checkpoint-10", {"step": 10})


def test_one_that_was_not_finished_does_not_count_and_goes(tmp_path: Path) -> None:
    class Crashed(Exception):
        pass

    def crash(directory: Path) -> None:
        with making(directory, {"step": 2}):
            directory.mkdir()
            (directory / "one").write_bytes(bytes(100))
            raise Crashed

    before = made(tmp_path, 1)
    with pytest.raises(Crashed):
        crash(tmp_path / "checkpoint-2")
    assert (tmp_path / "checkpoint-2" / "one").is_file()
    assert newest(tmp_path) == (before, {"step": 1})
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint-1"]


def test_one_that_the_disk_does_not_take_leaves_the_one_before(tmp_path: Path) -> None:
    before = made(tmp_path, 1)

    def fill() -> None:
        with making(tmp_path / "checkpoint-2", {"step": 2}):
            (tmp_path / "checkpoint-2").mkdir()
            raise OSError(28, os.strerror(28))

    with pytest.raises(StorageError, match=r"checkpoint-2 cannot be written: .*No space left on device"):
        fill()
    assert newest(tmp_path) == (before, {"step": 1})
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint-1"]


def test_what_a_crash_left_in_its_place_is_no_part_of_it(tmp_path: Path) -> None:
    torn = tmp_path / "checkpoint-3"
    torn.mkdir()
    (torn / "of before").write_text("")
    made(tmp_path, 3)
    assert sorted(each.name for each in torn.iterdir()) == ["complete.json", "one", "two"]
    made(tmp_path, 3, again=True)
    assert newest(tmp_path) == (torn, {"step": 3, "again": True})


def shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize("damage", [shorter, flipped, longer, Path.unlink])
def test_a_file_that_is_not_what_was_written_is_noticed(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(made(tmp_path, 7) / name)
    with pytest.raises(Corrupt, match=rf"checkpoint-7/{name} is damaged: "):
        newest(tmp_path)


def test_the_best_is_what_it_was_when_the_checkpoint_was_made(tmp_path: Path) -> None:
    best = tmp_path / "best"
    write_weights(net(0), best, {"step": 1})
    wanted = best.read_bytes()
    directory = tmp_path / "checkpoint-1"
    with making(directory, {"step": 1}):
        directory.mkdir()
        keep(best, directory)
    write_weights(net(1), best, {"step": 2})
    restore(best, directory)
    assert best.read_bytes() == wanted
    # Nor does what comes later change what the checkpoint holds.
    write_weights(net(1), best, {"step": 2})
    assert newest(tmp_path) == (directory, {"step": 1})
    restore(best, directory)
    restore(best, directory)
    assert best.read_bytes() == wanted
    restore(best, None)
    assert not best.exists()


def test_a_checkpoint_without_a_best_takes_it_away(tmp_path: Path) -> None:
    best, directory = tmp_path / "best", tmp_path / "checkpoint-1"
    with making(directory, {"step": 1}):
        directory.mkdir()
        keep(best, directory)
    write_weights(net(0), best, {"step": 2})
    restore(best, directory)
    assert not best.exists()
    restore(best, directory)


def test_views_of_one_buffer_are_written_each(tmp_path: Path) -> None:
    given, found = net(0), net(1)
    flat = torch.cat([each.detach().flatten() for each in given[0].parameters()])
    at = 0
    for each in given[0].parameters():
        each.data = flat[at : at + each.numel()].view_as(each)
        at += each.numel()
    found[0].load_state_dict(given[0].state_dict())
    write_weights(given, tmp_path / "weights", {})
    read_weights(found, tmp_path / "weights")
    assert digest(found.named_parameters()) == digest(given.named_parameters())


def test_weights_pass_without_memory_for_all_of_them(tmp_path: Path) -> None:
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("nothing here tells the most memory that a process took")
    for what in ("write", "read"):
        command = [sys.executable, "-c", BEYOND, what, str(tmp_path / "all"), str(tmp_path / "one")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert float(done.stdout) < 0.5, what
