"""Read-only directories: an error with what to do, nothing half done, and all that only reads goes on.

Covered here: a workspace on a read-only disk, and an ordinary user before a workspace, its tree, its agents' files,
MLflow's store and the targets of copies that it may not write. Elsewhere: ``tests/pipeline/training/test_places.py``,
``tests/tracker/publishing/test_published_tree.py``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests import perspectives, trainings
from tests.faults.several import as_ordinary_user, before
from tests.faults.surroundings import NOBODY, is_told, mounted, read_only, within_own_mounts
from tests.workspaces import call, config, train_file, tree, write_config, write_records

GENERATE = ("generate", "copa.yaml", "--no-mlflow")
MADE = "Copa/temp07_topp10_rulesv1"
READING = (
    ("batch", "list"), ("experiment", "show", MADE), ("path", "resolve", f"first/{MADE}"), ("view", "check"),
    ("lineage", MADE), ("sql", "SELECT COUNT(*) FROM sample"), ("verify",), ("config",), ("publish", "list"),
    (*GENERATE, "--dry-run"), ("perspectives", "agents.json", "--dry-run"), ("training", "status"),
)  # fmt: skip


def test_a_read_only_workspace_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "8m") as root:
        write_records(root, 5)
        write_config(root, config())
        with read_only(root):
            new = call(root, *GENERATE)
            made = call(root, "init")
            dry = call(root, *GENERATE, "--dry-run")
        assert call(root, *GENERATE).code == 0
        with read_only(root):
            old = call(root, *GENERATE, "--batch", "second")
            listed = call(root, "batch", "list")
            other = call(root, *GENERATE, "--set", "generation.temperature=0.9")
    assert (new.code, made.code, old.code, other.code) == (11, 11, 11, 11)
    for done in (new, made, old, other):
        assert str(root) in done.err
        assert "Traceback" not in done.err
    assert "--root" in new.err
    assert (dry.code, listed.code) == (0, 0)


@pytest.fixture
def root() -> Iterator[Path]:
    """A workspace where everybody may look, which temporary directories of tests are not."""
    top = Path(mkdtemp(prefix="synthtrack-faults-"))
    top.chmod(0o755)
    root = top / "workspace"
    root.mkdir()
    write_records(root, 6)
    write_config(root, config())
    perspectives.write_inputs(root, perspectives.pairs(4))
    perspectives.write_config(root, perspectives.offline(), "agents.json")
    trainings.write_data(root / "Data/original/Trained")
    write_config(root, trainings.config(data__path="Data/original/Trained"), "train.yaml")
    assert call(root, *GENERATE).code == 0
    yield root
    unlock(top)
    shutil.rmtree(top)


def unlock(top: Path) -> None:
    top.chmod(0o755)
    for directory, names, _ in os.walk(top):
        for name in names:
            (Path(directory) / name).chmod(0o755)


def give_away(top: Path) -> None:
    """Makes everything below ``top`` that ordinary user's, where it would be another's."""
    if before():
        for path in (top, *top.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


@contextlib.contextmanager
def locked(*tops: Path) -> Iterator[None]:
    """Directories that nobody may change."""
    for top in tops:
        for directory in (top, *(path for path in top.rglob("*") if path.is_dir() and not path.is_symlink())):
            directory.chmod(0o555)
    try:
        yield
    finally:
        for top in tops:
            unlock(top)


def test_an_ordinary_user_reads_what_it_may_not_write_and_is_told(root: Path) -> None:
    give_away(root)
    expected = tree(root)
    files = list(root.rglob("tracker.db*"))
    with locked(root):
        for path in files:
            path.chmod(0o444)
        writing: tuple[tuple[object, ...], ...] = (
            (*GENERATE, "--batch", "second"), (*GENERATE, "--set", "generation.temperature=0.9"),
            ("perspectives", "agents.json", "--no-mlflow"), ("train", "train.yaml", "--no-mlflow"),
            ("backup", root / "copy.db"), ("export", "first", root / "work.zip"),
            ("publish", MADE, "--target", root / "published"),
        )  # fmt: skip
        done = as_ordinary_user(root, *READING, *writing)
    assert [(each.code, each.err) for each in done[: len(READING)] if each.code] == []
    for each in done[len(READING) :]:
        assert is_told(each, 11)
    assert tree(root) == expected


@pytest.mark.parametrize(
    "name", ["Data_v2/synthetic", "data", "elsewhere", pytest.param("mlruns", marks=pytest.mark.soak)]
)
def test_one_directory_that_may_not_be_written_is_named_and_costs_no_data(name: str, root: Path) -> None:
    place = root / name
    place.mkdir(parents=True, exist_ok=True)
    give_away(root)
    commands: dict[str, list[tuple[object, ...]]] = {
        "Data_v2/synthetic": [(*GENERATE, "--set", "generation.temperature=0.9")],
        "data": [("perspectives", "agents.json", "--no-mlflow")],
        "mlruns": [("mlflow", "sync")],
        "elsewhere": [
            ("backup", place / "copy.db"),
            ("export", "first", place / "work.zip"),
            ("publish", MADE, "--target", place),
        ],
    }
    with locked(place):
        done = as_ordinary_user(root, *commands[name], environ={"OMP_NUM_THREADS": "1"})
    for each in done:
        assert is_told(each, 11)
        # MLflow does not say which file it cannot open.
        assert name in each.err or name == "mlruns"
    again = as_ordinary_user(root, *commands[name], ("verify",), environ={"OMP_NUM_THREADS": "1"})
    assert [(each.code, each.err) for each in again if each.code] == []
    if name == "Data_v2/synthetic":
        # Nothing is asked again for what only could not be shown.
        assert again[0].out.startswith("⚡")
        assert train_file(root, "temp09_topp10_rulesv1").exists()


def test_an_ordinary_user_sees_the_same() -> None:
    within_own_mounts(__file__)
