"""Deleting, restoring and emptying, each killed step by step: nothing is lost, and the next one mends.

``make soak`` kills before every step.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.killing import Forge, forge
from tests.workspaces import call, config, new_root, rows, write_config

NAME = "Copa/temp07_topp10_rulesv1"
HOME = f"Data_v2/synthetic/_shared/{NAME}"
MOST = 200
_TABLES = {
    "shared_experiment": "SELECT fingerprint, digest, dataset, name, status, data_digest, completed_at FROM {}",
    "sample": "SELECT position, status, original, rephrased, verdict, rephrase_request_key, judge_request_key FROM {}",
    "generation_run": "SELECT uuid, outcome, status, started_at, n_calls, cost_usd, command FROM {}",
    "attempt": """SELECT a.id, a.request_key, a.answer, r.uuid FROM {} a
                  LEFT JOIN generation_run r ON r.id = a.generation_run_id""",
    "batch_membership": """
        SELECT b.name, e.fingerprint, m.created_at, m.reused FROM {} m JOIN batch b ON b.id = m.batch_id
        JOIN shared_experiment e ON e.id = m.shared_experiment_id""",
    "batch": "SELECT name, purpose, created_at, deleted_at IS NULL FROM {}",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with an experiment in a batch, and a file of a person's own beside its files."""
    root = new_root(tmp_path_factory.mktemp("made"), 4)
    write_config(root, config())
    assert call(root, "generate", "copa.yaml", "--no-mlflow").code == 0
    (root / HOME / "notes.txt").write_text("mine")
    return root


@pytest.fixture(scope="module")
def loose(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without the batch."""
    root = tmp_path_factory.mktemp("loose") / "workspace"
    shutil.copytree(made, root, symlinks=True)
    assert call(root, "batch", "delete", "first", "--yes").code == 0
    return root


@pytest.fixture(scope="module")
def deleted(loose: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without the experiment."""
    root = tmp_path_factory.mktemp("deleted") / "workspace"
    shutil.copytree(loose, root, symlinks=True)
    assert call(root, "experiment", "delete", NAME, "--yes", "--no-mlflow").code == 0
    return root


def content(root: Path) -> dict[str, list[Any]]:
    """What the record holds, whatever the ids."""
    return {name: sorted(rows(root, sql.format(name)), key=repr) for name, sql in _TABLES.items()}


def files(root: Path) -> dict[str, bytes | str]:
    """Every file and link of the tree."""
    top = root / "Data_v2"
    found = (path for path in sorted(top.rglob("*")) if path.is_symlink() or path.is_file())
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_bytes() for path in found
    }


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with forge(tmp_path_factory.mktemp("forge")) as found:
        yield found


@dataclass(frozen=True)
class Kills:
    """Kills a command before every step, or every so many of them."""

    forged: Forge
    place: Path
    every: int

    def of(self, template: Path, *command: str) -> Iterator[tuple[int, Path]]:
        """A copy of ``template`` for each of these steps, in which the command was killed before it."""
        for number in range(1, MOST, self.every):
            root = self.place / str(number)
            shutil.copytree(template, root, symlinks=True)
            done = self.forged.killed(root, *command, step=number).done
            if done.code == 0:
                assert number > 5, "it has hardly any steps"
                return
            assert done.code == -signal.SIGKILL, done
            yield number, root
            shutil.rmtree(root)
        raise AssertionError("it has too many steps")


@pytest.fixture(params=[5, pytest.param(1, marks=pytest.mark.soak)])
def kills(request: pytest.FixtureRequest, forged: Forge, tmp_path: Path) -> Kills:
    return Kills(forged, tmp_path, request.param)


def is_clean(root: Path) -> bool:
    """Whether nothing differs, and nothing is unknown but the person's own file; before and after it is rebuilt."""
    for command in (("view", "check"), ("view", "rebuild"), ("view", "check"), ("verify",)):
        done = call(root, *command)
        assert done.code == 0, (command, done)
        unknown = [line for line in done.out.splitlines() if line.startswith("unknown")]
        assert [line for line in unknown if "notes.txt" not in line] == [], (command, done.out)
    return True


def entries(root: Path) -> list[str]:
    found = json.loads(call(root, "trash", "list", "--json").out)["entries"]
    assert {each["state"] for each in found} <= {"restorable"}
    return [each["name"] for each in found]


@pytest.mark.timeout(900)
def test_an_experiment_whose_deletion_is_killed_is_there_or_in_the_trash(kills: Kills, loose: Path) -> None:
    before, tree = content(loose), files(loose)
    for number, root in kills.of(loose, "experiment", "delete", NAME, "--yes", "--no-mlflow"):
        is_there = bool(rows(root, "SELECT id FROM shared_experiment"))
        assert is_there is (NAME not in entries(root)), number
        assert is_clean(root)
        assert (root / HOME).exists() is is_there
        if is_there:
            assert content(root) == before
            assert call(root, "experiment", "delete", NAME, "--yes", "--no-mlflow").code == 0
        assert entries(root)[0] == NAME
        assert not (root / HOME).exists()
        assert call(root, "restore", NAME, "--no-mlflow").code == 0
        assert (content(root), files(root)) == (before, tree), number
        assert is_clean(root)


@pytest.mark.timeout(900)
def test_a_batch_whose_deletion_is_killed_is_there_or_in_the_trash(kills: Kills, made: Path) -> None:
    before, tree = content(made), files(made)
    for number, root in kills.of(made, "batch", "delete", "first", "--yes"):
        is_there = bool(rows(root, "SELECT id FROM batch WHERE deleted_at IS NULL"))
        assert entries(root) == ([] if is_there else ["first"]), number
        assert is_clean(root)
        if is_there:
            assert (content(root), files(root)) == (before, tree)
            assert call(root, "batch", "delete", "first", "--yes").code == 0
        assert not (root / "Data_v2/synthetic/first").exists()
        assert call(root, "restore", "first", "--no-mlflow").code == 0
        assert (content(root), files(root)) == (before, tree), number
        assert is_clean(root)


@pytest.mark.timeout(900)
def test_a_restoration_that_is_killed_is_finished_by_the_next_one(kills: Kills, loose: Path, deleted: Path) -> None:
    before, tree = content(loose), files(loose)
    for number, root in kills.of(deleted, "restore", NAME, "--no-mlflow"):
        if NAME in entries(root):
            assert rows(root, "SELECT id FROM shared_experiment") == []
            assert call(root, "restore", NAME, "--no-mlflow").code == 0
        assert call(root, "view", "rebuild").code == 0
        assert (content(root), files(root)) == (before, tree), number
        assert is_clean(root)


@pytest.mark.timeout(900)
def test_emptying_that_is_killed_is_finished_by_the_next_one(kills: Kills, deleted: Path) -> None:
    empty = ("trash", "empty", "--older-than", "0d", "--yes")
    for number, root in kills.of(deleted, *empty):
        assert is_clean(root), number
        assert call(root, *empty).code == 0
        assert entries(root) == []
        assert list((root / ".trash").iterdir()) == []
        assert rows(root, "SELECT COUNT(*) FROM attempt WHERE answer IS NOT NULL") == [(8,)]
