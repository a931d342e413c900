"""What is being written has a name that says whose it is; what killed processes left is told from it, and removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tracker.durable import HOST, clear_leftovers, is_leftover, place_beside, remove, removed_on_error, sync, write_file
from tracker.paths import TEMPORARY

HOUR_S = 3600


def dead() -> int:
    """The PID of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("owner", "number", "age_s", "expected"),
    [
        ("dead", 0, 0, True),
        ("parent", 0, 0, False),
        ("parent", 0, 2 * HOUR_S, True),
        ("self, started before", 0, 0, True),
        ("self, now", 1 << 62, 0, False),
        ("another host", 0, 0, False),
        ("another host", 0, 2 * HOUR_S, True),
    ],
)
def test_whose_process_is_gone_is_a_leftover(
    owner: str, number: int, age_s: int, expected: bool, tmp_path: Path
) -> None:
    host = "elsewhere.example" if owner == "another host" else HOST
    pid = dead() if owner == "dead" else os.getpid() if owner.startswith("self") else os.getppid()
    path = tmp_path / f"{TEMPORARY}{pid}-{host}-{number}"
    path.touch()
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))
    assert is_leftover(str(path)) is expected


def test_what_has_gone_meanwhile_is_no_leftover(tmp_path: Path) -> None:
    assert not is_leftover(str(tmp_path / f"{TEMPORARY}1-elsewhere.example-0"))


def test_only_leftovers_are_cleared(tmp_path: Path) -> None:
    left, mine, other = tmp_path / f"{TEMPORARY}{dead()}-{HOST}-0", place_beside(tmp_path), tmp_path / "data"
    for each in (left, mine, other):
        each.mkdir()
    (left / "half").touch()
    clear_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, other])
    clear_leftovers(tmp_path / "absent")


def test_two_places_beside_are_never_the_same(tmp_path: Path) -> None:
    assert len({place_beside(tmp_path) for _ in range(100)}) == 100


def test_a_file_has_the_time_that_was_given_and_takes_no_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"data", 1_700_000_000_123_456_789)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (b"data", 1_700_000_000_123_456_789)
    with pytest.raises(FileExistsError):
        write_file(path, b"other", 0)
    assert path.read_bytes() == b"data"


def test_anything_is_removed_and_a_link_is_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "within").mkdir(parents=True)
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "file").touch()
    (tmp_path / "directory/within").mkdir(parents=True)
    for name in ("link", "file", "directory", "absent"):
        remove(tmp_path / name)
    assert [*tmp_path.iterdir()] == [kept]
    assert [*kept.iterdir()] == [kept / "within"]


def test_an_error_leaves_nothing_beside(tmp_path: Path) -> None:
    beside = place_beside(tmp_path)
    beside.mkdir()
    (beside / "half").touch()
    with pytest.raises(KeyboardInterrupt), removed_on_error(beside):
        raise KeyboardInterrupt
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("n_files", [0, 1, 40])
def test_what_cannot_be_synced_is_said(n_files: int, tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(n_files)]
    for path in paths:
        path.touch()
    sync(paths)
    with pytest.raises(FileNotFoundError):
        sync([*paths, tmp_path / "absent"])
