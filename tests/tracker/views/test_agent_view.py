"""The agents' files are a view of the record: made, damaged, killed, hindered, and always back as they were."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import agent_rows
from tests.databases import KINDS, empty_workspace
from tests.view_rows import execute
from tracker import clock
from tracker.errors import Conflict, Corrupt, StorageError
from tracker.paths import TEMPORARY, Workspace
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.views import agent_view
from tracker.views.agent_view import path_of
from tracker.views.plan import Changes, Difference
from tracker.views.rows import completed_ns

ONE, PARTIAL, OTHER = (f"translation_m_2026112{number}_214652" for number in range(3))


def populate(here: Workspace) -> Workspace:
    """A complete agent data set, a partial one, one with references, and one that is being made."""
    with open_database(here) as database:
        agent_rows.make(database, name=ONE)
        agent_rows.make(database, [["Hello", None], ["Bye", "So long"]], name=PARTIAL, draw=1)
        agent_rows.make(database, name=OTHER, references=True)
        agent_rows.claim(database, agent_rows.wanted(database, name="unfinished", draw=2))
    return here


@pytest.fixture(params=KINDS)
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    with empty_workspace(request.param, tmp_path / "workspace") as found:
        populate(found)
        refresh(found, 1, 2, 3, 4)
        yield found


def refresh(here: Workspace, *ids: int, deep: bool = False) -> Changes:
    with reading(here) as reader:
        return agent_view.refresh(here, reader, ids, deep=deep)


def rebuild(here: Workspace) -> Changes:
    with reading(here) as reader:
        return agent_view.rebuild(here, reader)


def check(here: Workspace, *only: int) -> list[tuple[str, str]]:
    with reading(here) as reader:
        return [(each.what, each.path) for each in agent_view.check(here, reader, only or None)]


def snapshot(here: Workspace) -> dict[str, tuple[bytes, int]]:
    """Every file with its content and time, every other thing with nothing."""
    top = here.data_dir / "agents"
    found = sorted(top.rglob("*")) if top.is_dir() and not top.is_symlink() else []
    return {
        str(path.relative_to(here.data_dir)): (path.read_bytes(), path.lstat().st_mtime_ns)
        if path.is_file() and not path.is_symlink()
        else (b"", 0)
        for path in found
    }


def file(here: Workspace, name: str = ONE) -> Path:
    return here.data_dir / path_of(name)


def test_every_finished_agent_data_set_has_its_file_with_the_time_of_its_end(here: Workspace) -> None:
    found = snapshot(here)
    assert list(found) == [path_of(name) for name in (ONE, PARTIAL, OTHER)]
    for number, (data, mtime_ns) in enumerate(found.values(), 1):
        dataset = agent_rows.dataset(here, number)
        assert json.loads(data)["metadata"]["fingerprint"] == dataset["fingerprint"]
        assert mtime_ns == completed_ns(dataset)
    assert check(here) == []
    assert not rebuild(here)


def test_deleted_files_come_back_byte_for_byte(here: Workspace) -> None:
    before = snapshot(here)
    shutil.rmtree(here.data_dir)
    assert check(here) == [("missing", path) for path in before]
    assert rebuild(here).files == tuple(before)
    assert snapshot(here) == before
    shutil.rmtree(here.data_dir)
    assert refresh(here, 1, 2, 3, 4).files == tuple(before)
    assert snapshot(here) == before
    assert not here.trash_dir.exists()


def test_refresh_makes_only_what_it_is_asked_for(here: Workspace) -> None:
    shutil.rmtree(here.data_dir / "agents")
    assert refresh(here, 2, 4, 99).files == (path_of(PARTIAL),)
    assert list(snapshot(here)) == [path_of(PARTIAL)]
    assert check(here, 2, 4) == []
    assert check(here, 1) == [("missing", path_of(ONE))]
    assert not refresh(here)


def test_where_nothing_is_to_be_done_no_lock_is_taken_and_no_answer_read(here: Workspace) -> None:
    asked = []

    class Watching:
        def rows(self, sql: str, **parameters: int) -> list[dict[str, object]]:
            asked.append(sql)
            return reader.rows(sql, **parameters)

    with FileLock(here.root / ".view.lock"), reading(here) as reader:
        assert not agent_view.refresh(here, Watching(), [1, 2, 3, 4])
        assert asked
        assert not any("agent_response" in sql or "source_record" in sql for sql in asked)
        assert not agent_view.refresh(here, Watching(), [1, 2, 3, 4], deep=True)
        assert any("agent_response" in sql for sql in asked)


def test_who_writes_keeps_others_waiting(here: Workspace) -> None:
    file(here).unlink()
    with FileLock(here.root / ".view.lock"), reading(here) as reader, pytest.raises(Conflict, match="is writing"):
        agent_view.refresh(here, reader, [1], patience_s=0.01)


def test_an_edited_file_goes_to_the_trash_and_is_made_again(here: Workspace) -> None:
    before = snapshot(here)
    edited = file(here).read_bytes().swapcase()
    file(here).write_bytes(edited)
    assert check(here) == [("edited", path_of(ONE))]
    changes = refresh(here, 1)
    assert changes.files == changes.aside == (path_of(ONE),)
    assert snapshot(here) == before
    assert changes.trash is not None
    assert (Path(changes.trash) / path_of(ONE)).read_bytes() == edited


def test_an_edit_that_hides_its_time_is_seen_by_content(here: Workspace) -> None:
    before, moment = snapshot(here), file(here).stat().st_mtime_ns
    file(here).write_bytes(file(here).read_bytes().swapcase())
    os.utime(file(here), ns=(moment, moment))
    assert not refresh(here, 1)
    assert check(here) == [("edited", path_of(ONE))]
    assert refresh(here, 1, deep=True)
    assert snapshot(here) == before


def test_a_copy_with_other_times_is_right(here: Workspace) -> None:
    before = snapshot(here)
    for name in (ONE, PARTIAL, OTHER):
        os.utime(file(here, name))
    assert check(here) == []
    assert not refresh(here, 1, 2)
    assert not rebuild(here)
    assert snapshot(here) == before


def test_strangers_are_named_and_left_alone(here: Workspace) -> None:
    top = here.data_dir / "agents"
    (top / "notes.txt").write_text("mine")
    (top / "kept").mkdir()
    (top / "kept" / f"{ONE}.json").write_text("mine")
    (top / "copy.json").symlink_to(f"{ONE}.json")
    before = snapshot(here)
    strangers = [f"agents/{name}" for name in ("copy.json", "kept", "notes.txt")]
    assert check(here) == [("unknown", name) for name in strangers]
    assert check(here, 1, 2) == []
    changes = rebuild(here)
    assert (bool(changes), list(changes.unknown)) == (False, strangers)
    assert snapshot(here) == before


def test_what_is_not_to_be_seen_yet_goes_to_the_trash(here: Workspace) -> None:
    file(here, "unfinished").write_text("{}")
    assert check(here) == [("not in the record", path_of("unfinished"))]
    changes = rebuild(here)
    assert changes.aside == (path_of("unfinished"),)
    assert (Path(changes.trash or "") / path_of("unfinished")).read_text() == "{}"


@pytest.mark.parametrize("how", ["file", "link", "dangling link", "link to a file"])
def test_what_stands_in_the_place_of_the_directory_is_moved_aside_and_not_followed(
    here: Workspace, tmp_path: Path, how: str
) -> None:
    before, outside, top = snapshot(here), tmp_path / "outside", here.data_dir / "agents"
    shutil.move(top, outside)
    (outside / f"{ONE}.json").write_text("mine")
    precious = {path: path.read_bytes() for path in outside.iterdir()}
    ways: list[Callable[[], Changes]] = [lambda: refresh(here, 1, 2, 3), lambda: rebuild(here)]
    for bring in ways:
        if top.exists():
            shutil.rmtree(top)
        if how == "file":
            top.write_text("mine")
        else:
            target = {"link": outside, "dangling link": tmp_path / "nowhere", "link to a file": outside / f"{ONE}.json"}
            top.symlink_to(target[how])
        assert check(here) == [("replaced", "agents"), *(("missing", path) for path in before)]
        changes = bring()
        assert (changes.aside, changes.files) == (("agents",), tuple(before))
        assert snapshot(here) == before
        assert os.path.lexists(Path(changes.trash or "") / "agents")
    assert {path: path.read_bytes() for path in outside.iterdir()} == precious
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("how", ["directory", "link"])
def test_what_stands_in_the_place_of_a_file_is_moved_aside_and_not_followed(
    here: Workspace, tmp_path: Path, how: str
) -> None:
    before = snapshot(here)
    (tmp_path / "outside.json").write_bytes(file(here).read_bytes())
    file(here).unlink()
    if how == "link":
        file(here).symlink_to(tmp_path / "outside.json")
    else:
        file(here).mkdir()
    assert check(here) == [("replaced", path_of(ONE))]
    assert refresh(here, 1).aside == (path_of(ONE),)
    assert snapshot(here) == before
    assert (tmp_path / "outside.json").read_bytes() == before[path_of(ONE)][0]


def test_the_data_directory_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    here = populate(Workspace(tmp_path / "workspace", environ={"SYNTHTRACK_DATA_DIR": str(tmp_path / "link" / "data")}))
    rebuild(here)
    assert len(list((tmp_path / "disk/data/agents").iterdir())) == 3
    assert check(here) == []


def test_without_agent_data_sets_nothing_is_touched_or_said(tmp_path: Path) -> None:
    here = Workspace(tmp_path, environ={})
    open_database(here).close()
    assert (check(here), rebuild(here), refresh(here, 1)) == ([], Changes(), Changes())
    assert not here.data_dir.exists()
    here.data_dir.write_text("mine")
    assert (check(here), rebuild(here)) == ([], Changes())
    here.data_dir.unlink()
    here.data_dir.mkdir()
    (here.data_dir / "agents").write_text("mine")
    assert (check(here), rebuild(here)) == ([], Changes())
    assert (here.data_dir / "agents").read_text() == "mine"


def test_a_data_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    here = populate(Workspace(tmp_path, environ={}))
    here.data_dir.write_text("mine")
    assert [what for what, _ in check(here)] == ["missing"] * 3
    with pytest.raises(StorageError, match="data: File exists") as raised:
        rebuild(here)
    assert raised.value.hint == "Check the permissions of the workspace."


def test_what_was_completed_anew_is_written_anew(here: Workspace) -> None:
    with open_database(here) as database:
        again = agent_rows.claim(database, agent_rows.wanted(database, name=PARTIAL, draw=1))
        assert again.outcome == "resumed"
        before = file(here, PARTIAL).read_bytes()
        agent_rows.answer(database, again, agent_rows.GOOD)
        # Killed here, there would be no other time; what there is is what the responses give.
        assert check(here) == [("edited", path_of(PARTIAL))]
        assert refresh(here, 2).files == (path_of(PARTIAL),)
        agent_rows.finish(database, again)
    changes = refresh(here, 2)
    assert changes.files == changes.aside == (path_of(PARTIAL),)
    found = json.loads(file(here, PARTIAL).read_bytes())
    assert [task["responses"] for task in found["tasks"]] == [list(each) for each in agent_rows.GOOD]
    assert file(here, PARTIAL).read_bytes() != before
    assert check(here) == []


CONTRADICTIONS = {
    "response": "UPDATE agent_response SET response = 'by hand' WHERE agent_dataset_id = 1 AND position = 0",
    "missing response": "DELETE FROM agent_response WHERE agent_dataset_id = 1 AND position = 0 AND perspective = 0",
    "config": "UPDATE agent_dataset SET config = '{' WHERE id = 1",
    "poorer config": "UPDATE agent_dataset SET config = '{}' WHERE id = 1",
    "other config": "UPDATE agent_dataset SET config = '[]' WHERE id = 1",
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_rows_that_contradict_each_other_make_no_file_and_keep_no_other_from_coming_back(
    tmp_path: Path, what: str
) -> None:
    here = populate(Workspace(tmp_path, environ={}))
    execute(here, CONTRADICTIONS[what])
    ways: list[Callable[[], Changes]] = [lambda: refresh(here, 1, 2, 3), lambda: rebuild(here)]
    for bring in ways:
        shutil.rmtree(here.data_dir, ignore_errors=True)
        with pytest.raises(Corrupt, match=rf"contradicts itself.\n{path_of(ONE)}: The (rows|responses) of {ONE}"):
            bring()
        assert list(snapshot(here)) == [path_of(PARTIAL), path_of(OTHER)]
    assert check(here) == [("contradiction", path_of(ONE))]
    assert check(here, 2, 3) == []


def test_changed_inputs_make_no_file(tmp_path: Path) -> None:
    here = populate(Workspace(tmp_path, environ={}))
    execute(here, "UPDATE source_record SET line = REPLACE(line, 'Guten Tag', 'Hallo')")
    with pytest.raises(Corrupt, match=f"The inputs of {PARTIAL} are not those that were read"):
        rebuild(here)
    assert snapshot(here) == {}


@pytest.mark.parametrize("name", ["../../outside", "/outside", "", "..", "a/b"])
def test_a_name_that_leads_elsewhere_is_no_path(tmp_path: Path, name: str) -> None:
    here = populate(Workspace(tmp_path / "workspace", environ={}))
    execute(here, f"UPDATE agent_dataset SET name = '{name}' WHERE id = 1")
    with reading(here) as reader:
        assert agent_view.check(here, reader, [1]) == [
            Difference("agents", "contradiction", agent_view.check(here, reader, [1])[0].detail)
        ]
    with pytest.raises(Corrupt, match="A name in the database is none"):
        rebuild(here)
    with pytest.raises(Corrupt, match="A name in the database is none"):
        refresh(here, 1)
    assert list(snapshot(here)) == [path_of(PARTIAL), path_of(OTHER)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["workspace"]


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(here: Workspace) -> None:
    host = clock.host().replace("/", "_").replace(" ", "_")
    dead = subprocess.Popen(["true"])
    dead.wait()
    gone = here.data_dir / "agents" / f"{TEMPORARY}{dead.pid}-{host}-0"
    living = here.data_dir / "agents" / f"{TEMPORARY}{os.getppid()}-{host}-0"
    for path in (gone, living):
        path.write_text("half")
    assert check(here) == [("leftover", f"agents/{gone.name}")]
    assert rebuild(here).leftovers == (f"agents/{gone.name}",)
    assert (gone.exists(), living.exists()) == (False, True)
    gone.write_text("half")
    file(here).unlink()
    assert refresh(here, 1)
    assert (gone.exists(), living.exists()) == (False, True)


DAMAGE = ["delete", "edit", "grow", "directory", "link", "stranger", "time", "top"]


def damage(here: Workspace, path: Path, how: str, outside: Path) -> None:
    if how == "top":
        shutil.rmtree(here.data_dir / "agents")
        (here.data_dir / "agents").symlink_to(outside)
    elif how == "stranger":
        (here.data_dir / "agents" / f"stranger-{path.name}").write_text("mine")
    elif how == "time":
        os.utime(path, (1, 1))
    elif how in {"edit", "grow"}:
        path.write_bytes(path.read_bytes().swapcase() * (2 if how == "grow" else 1))
    else:
        path.unlink()
        if how == "directory":
            path.mkdir()
            (path / "inside").write_text("mine")
        elif how == "link":
            path.symlink_to(outside / "precious")


@settings(max_examples=30)
@given(st.dictionaries(st.integers(0, 2), st.sampled_from(DAMAGE[:-1])), st.booleans(), st.booleans())
def test_whatever_was_done_to_them_the_files_come_back(blows: dict[int, str], by_refresh: bool, top: bool) -> None:
    with TemporaryDirectory() as directory:
        root, outside = Path(directory) / "workspace", Path(directory) / "outside"
        outside.mkdir()
        (outside / "precious").write_text("mine")
        shutil.copytree(_populated(), root)
        here = Workspace(root, environ={})
        rebuild(here)
        before = snapshot(here)
        for number, how in blows.items():
            damage(here, file(here, (ONE, PARTIAL, OTHER)[number]), how, outside)
        if top:
            damage(here, root, "top", outside)
        unknown = refresh(here, 1, 2, 3, deep=True).unknown if by_refresh else rebuild(here).unknown
        after = snapshot(here)
        assert {path: after.get(path) for path in before} == before
        assert all("stranger" in path for path in after.keys() - before.keys())
        again = rebuild(here)
        assert not again
        assert by_refresh or again.unknown == unknown
        assert [("unknown", path) for path in again.unknown] == check(here)
        assert [path.read_text() for path in outside.iterdir()] == ["mine"]


def _populated() -> Path:
    global _once  # noqa: PLW0603  made once for all examples of a property
    if _once is None:
        _once = TemporaryDirectory()
        populate(Workspace(Path(_once.name), environ={}))
    return Path(_once.name)


_once: TemporaryDirectory[str] | None = None
