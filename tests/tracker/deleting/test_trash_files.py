"""Files on their way into the trash and back: what stands in the way stays, links are never followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracker.deleting.trash_files import files_below, measured, move, move_back, move_out, n_bytes
from tracker.paths import Workspace


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    (tmp_path / "tree/inner").mkdir(parents=True)
    (tmp_path / "tree/one").write_text("one")
    (tmp_path / "tree/inner/two").write_text("second")
    (tmp_path / "tree/link").symlink_to("inner")
    (tmp_path / "elsewhere").symlink_to("tree")
    return Workspace(tmp_path, environ={})


def content(top: Path) -> dict[str, str]:
    return {
        str(path.relative_to(top)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in top.rglob("*")
        if path.is_symlink() or path.is_file()
    }


WHOLE = {"one": "one", "inner/two": "second", "link": "-> inner"}


def test_files_are_measured_and_no_link_is_followed(here: Workspace) -> None:
    assert [here.relative(each) for each in files_below(here, "tree")] == ["tree/one", "tree/inner/two"]
    assert [*files_below(here, "elsewhere"), *files_below(here, "absent")] == []
    assert [here.relative(each) for each in files_below(here, "tree/one")] == ["tree/one"]
    assert n_bytes(here, ("tree", "tree/one", "elsewhere")) == 3 + 6 + 3
    assert [(each.path, each.n_bytes) for each in measured(here, ("tree",))] == [("tree/one", 3), ("tree/inner/two", 6)]


def test_what_is_made_anew_and_deleted_again_lies_beside_the_first(here: Workspace) -> None:
    move_out(here, "entry", "tree")
    for text in ("made anew", "and again"):
        (here.root / "tree").write_text(text)
        move_out(here, "entry", "tree")
    kept = here.trash_dir / "entry"
    assert content(kept) == {
        **{f"tree/{path}": text for path, text in WHOLE.items()}, "tree~2": "made anew", "tree~3": "and again",
    }  # fmt: skip
    move_out(here, "entry", "tree")
    assert not (here.root / "tree").exists()


def test_what_comes_back_takes_nobodys_place(here: Workspace) -> None:
    move_out(here, "entry", "tree")
    (here.root / "tree/inner").mkdir(parents=True)
    (here.root / "tree/one").write_text("mine")
    move_back(here, "entry", "tree")
    assert content(here.root / "tree") == {**WHOLE, "one": "mine"}
    assert content(here.trash_dir / "entry/tree") == {"one": "one"}
    move_back(here, "entry", "absent")
    move_back(here, "entry", "tree")
    assert content(here.root / "tree") == {**WHOLE, "one": "mine"}
    (here.root / "tree/one").unlink()
    move_back(here, "entry", "tree")
    assert (content(here.root / "tree"), (here.trash_dir / "entry/tree").exists()) == (WHOLE, False)


@pytest.mark.parametrize("path", ["tree", "tree/one", "tree/link"])
def test_to_another_disk_it_is_the_same(here: Workspace, other_disk: Path, path: str) -> None:
    move(here.root / path, other_disk / "kept/here")
    move(other_disk / "kept/here", here.root / path)
    assert content(here.root / "tree") == WHOLE
    assert list((other_disk / "kept").iterdir()) == []


def test_what_cannot_be_moved_is_an_error_and_stays(here: Workspace) -> None:
    (here.root / "full").mkdir()
    (here.root / "full/file").write_text("there")
    with pytest.raises(OSError, match="Directory not empty"):
        move(here.root / "tree", here.root / "full")
    assert content(here.root / "tree") == WHOLE
