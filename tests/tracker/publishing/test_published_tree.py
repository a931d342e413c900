"""Published directories on a real disk: in one step from old to new, and nothing lost that was not published."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.faults.surroundings import fill, mounted, read_only
from tracker.durable import HOST
from tracker.errors import Conflict, StorageError
from tracker.paths import TEMPORARY, Workspace
from tracker.publishing import published_tree
from tracker.publishing.published_tree import (
    asides,
    digest_behind,
    explained,
    free_aside,
    in_the_way,
    kind_of,
    publishing,
    put,
    strangers,
    write,
)

OLD, NEW = {"data": b"old"}, {"data": b"new", "more": b"new too"}
MOMENT = 1_700_000_000_000_000_000


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


OURS = {"data": {digest(b"old"), digest(b"older")}}


@pytest.fixture(params=["exchange", "two renames"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "two renames":
        # What a system or file system without renameat2 says; there is none to be had here.
        monkeypatch.setattr(published_tree, "_exchange", lambda *_: False)
    return str(request.param)


def holds(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def place(tmp_path: Path, files: dict[str, bytes] | None = None) -> Path:
    directory = tmp_path / "target/Copa"
    if files is not None:
        put(write(directory, files, {}, MOMENT), directory, ours={}, tree=tmp_path)
    return directory


def test_what_is_new_stands_there_with_its_time(tmp_path: Path) -> None:
    directory = place(tmp_path, NEW)
    assert holds(directory) == NEW
    assert (directory / "more").stat().st_mtime_ns == MOMENT
    assert names(directory.parent) == ["Copa"]


def test_what_was_published_gives_way(tmp_path: Path, how: str) -> None:
    directory = place(tmp_path, OLD)
    put(write(directory, NEW, {}, MOMENT), directory, ours=OURS, tree=tmp_path)
    assert holds(directory) == NEW
    assert names(directory.parent) == ["Copa"]


@pytest.mark.parametrize("kind", ["directory", "file", "link"])
def test_what_is_moved_aside_is_whole(tmp_path: Path, how: str, kind: str) -> None:
    directory = place(tmp_path)
    directory.parent.mkdir()
    if kind == "directory":
        directory.mkdir()
        (directory / "mine").write_bytes(b"mine")
    elif kind == "file":
        directory.write_bytes(b"mine")
    else:
        directory.symlink_to("elsewhere")
    aside = free_aside(directory)
    put(write(directory, NEW, {}, MOMENT), directory, ours={}, tree=tmp_path, aside=aside)
    assert holds(directory) == NEW
    assert kind_of(aside) == kind
    assert names(directory.parent) == ["Copa", aside.name]


def test_names_of_what_is_moved_aside_are_never_taken_twice(tmp_path: Path) -> None:
    names = set()
    assert asides(tmp_path / "nothing/Copa") == asides(tmp_path / "Copa") == []
    (tmp_path / "Copa2.before-20261120T214652").mkdir()
    for _ in range(5):
        found = free_aside(tmp_path / "Copa")
        found.mkdir()
        names.add(found.name)
    assert len(names) == 5
    assert all(name.startswith("Copa.before-2") for name in names)
    assert {path.name for path in asides(tmp_path / "Copa")} == names


def test_what_came_while_it_was_written_is_put_back(tmp_path: Path, how: str) -> None:
    directory = place(tmp_path, OLD)
    new = write(directory, NEW, {}, MOMENT)
    (directory / "mine").write_bytes(b"mine")
    with pytest.raises(Conflict, match="mine: not published there"):
        put(new, directory, ours=OURS, tree=tmp_path)
    assert holds(directory) == {**OLD, "mine": b"mine"}
    assert names(directory.parent) == ["Copa"]


def test_a_directory_that_came_while_it_was_written_stays(tmp_path: Path) -> None:
    directory = place(tmp_path)
    new = write(directory, NEW, {}, MOMENT)
    directory.mkdir()
    (directory / "mine").write_bytes(b"mine")
    with pytest.raises(Conflict):
        put(new, directory, ours={}, tree=tmp_path)
    assert holds(directory) == {"mine": b"mine"}
    with pytest.raises(Conflict, match="a moment ago"), explained(directory):
        place(tmp_path / "other", NEW).rename(directory)


def test_where_it_fails_all_is_as_it_was(tmp_path: Path, how: str) -> None:
    directory = place(tmp_path, OLD)
    with pytest.raises(FileNotFoundError):
        put(directory.parent / "nothing", directory, ours=OURS, tree=tmp_path)
    assert holds(directory) == OLD
    assert names(directory.parent) == ["Copa"]


def test_a_directory_that_cannot_be_exchanged_stays(tmp_path: Path, how: str) -> None:
    with mounted(tmp_path / "target", "1m"):
        subdirectory = tmp_path / "target"
        new = tmp_path / "new"
        new.mkdir()
        with pytest.raises(OSError, match="busy") as caught:
            put(new, subdirectory, ours={}, tree=tmp_path)
        assert caught.value.errno == errno.EBUSY
        assert names(tmp_path) == ["target"]
        assert kind_of(subdirectory) == "directory"


def test_what_would_be_lost_is_named(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tmp_path / "disk").symlink_to(tree)
    ours = {name: {digest(b"old")} for name in ("same", "edited", "link", "through", "stray", "folder")}
    directory = tmp_path / "Copa"
    directory.mkdir()
    for name, data in {"same": b"old", "edited": b"new", "mine": b"old"}.items():
        (directory / name).write_bytes(data)
    (directory / "link").symlink_to("../tree/any")
    (directory / "through").symlink_to(tmp_path / "disk/any")
    (directory / "stray").symlink_to(tmp_path / "elsewhere")
    (directory / "own link").symlink_to("../tree/any")
    (directory / "folder").mkdir()
    lost = strangers(directory, ours, tmp_path / "disk")
    assert lost == {
        "edited": "changed since it was published",
        "folder": "a directory, changed since it was published",
        "mine": "not published there",
        "own link": "a link, not published there",
        "stray": "a link, changed since it was published",
    }
    error = in_the_way(directory, lost)
    assert all(f"  {name}: {what}" in error.message for name, what in lost.items())
    assert error.message.startswith(
        f"{directory} holds files that synthtrack did not put there, or that were changed since:\n"
    )
    assert "--force" in str(error.hint)


def test_what_is_no_directory_would_be_lost(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    found = {name: strangers(tmp_path / name, {}, tmp_path) for name in ("file", "link", "pipe", "nothing")}
    assert found == {
        "file": {"file": "a file, no directory"},
        "link": {"link": "a link, no directory"},
        "pipe": {"pipe": "a pipe or device, no directory"},
        "nothing": {},
    }


def test_the_bytes_behind_a_link_are_read_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    names = ("file", "link", "dangling", "pipe", ".")
    assert [digest_behind(tmp_path / name) for name in names] == [digest(b"old"), digest(b"old"), None, "", ""]


def test_leftovers_of_dead_processes_are_cleared_and_those_of_living_ones_not(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    directory = place(tmp_path, OLD)
    for pid in (dead.pid, os.getppid()):
        left = directory.with_name(f"{TEMPORARY}{pid}-{HOST}-0")
        left.mkdir()
        (left / "half").write_text("ha")
    put(write(directory, NEW, {}, MOMENT), directory, ours=OURS, tree=tmp_path)
    assert names(directory.parent) == [f"{TEMPORARY}{os.getppid()}-{HOST}-0", "Copa"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "2m") as disk:
        directory = disk / "target/Copa"
        put(write(directory, OLD, {}, MOMENT), directory, ours={}, tree=tmp_path)
        fill(disk, 100_000)
        with pytest.raises(StorageError, match="No space left") as caught, explained(directory):
            write(directory, {"data": b"x" * 500_000}, {}, MOMENT)
        assert "Free some disk space" in str(caught.value.hint)
        assert names(directory.parent) == ["Copa"]
        assert holds(directory) == OLD


def test_a_read_only_disk_is_told(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "2m") as disk, read_only(disk):
        directory = disk / "target/Copa"
        with pytest.raises(StorageError, match="Read-only") as caught, explained(directory):
            write(directory, NEW, {}, MOMENT)
        assert str(directory) in caught.value.message


def test_one_process_publishes_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_tree, "_PATIENCE_S", 0.1)
    here = Workspace(tmp_path, environ={})
    with publishing(here), pytest.raises(Conflict, match="publishing"), publishing(here):
        pass
    with publishing(here):
        pass
