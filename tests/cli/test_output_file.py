from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.output_file import write_output
from tracker.errors import Conflict, StorageError


def test_a_file_is_written_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write_output(path, "eins\nzwei ü\r\n", overwrite=False)
    assert path.read_bytes() == "eins\nzwei ü\r\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_there_stays_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("mine")
    with pytest.raises(Conflict, match="there already"):
        write_output(path, "new", overwrite=False)
    assert path.read_text() == "mine"
    write_output(path, "new", overwrite=True)
    assert path.read_text() == "new"


def test_a_link_is_kept_and_a_dangling_one_is_something_too(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(Conflict):
        write_output(link, "new", overwrite=False)
    write_output(link, "new", overwrite=True)
    assert (link.is_symlink(), target.read_text()) == (True, "new")


def test_what_is_no_file_takes_the_text_as_it_comes(tmp_path: Path) -> None:
    write_output(Path(os.devnull), "new", overwrite=True)
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("place", ["missing/out.jsonl", "."])
def test_what_cannot_be_written_is_told(tmp_path: Path, place: str) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_output(tmp_path / place, "new", overwrite=True)
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_to_itself_is_told(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(StorageError, match="loop cannot be written: Too many levels of symbolic links"):
        write_output(loop, "new", overwrite=True)
    assert loop.readlink() == Path("loop")


def test_what_fails_half_way_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("mine")
    with pytest.raises(UnicodeEncodeError):
        write_output(path, "a" * 100_000 + "\udcff", overwrite=True)
    assert (path.read_text(), list(tmp_path.iterdir())) == ("mine", [path])
