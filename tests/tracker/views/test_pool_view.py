"""The files of benchmarks and pools are a view of the record: made, damaged, hindered, and always back as they were."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import pool_rows
from tests.databases import KINDS, empty_workspace, rows
from tests.pool_rows import BENCHMARKS, populate, refresh
from tests.view_rows import execute
from tests.workspaces import write_lines
from tracker.errors import Conflict, Corrupt, StorageError
from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.views import pool_view
from tracker.views.plan import Changes
from tracker.views.pool_view import FULL, STATISTICS, TASKS
from tracker.views.rows import nanoseconds

POOLS = ("exp1", "exp2", "short")
OF_FULL = tuple(f"{FULL}/{name}_{end}" for name in sorted(BENCHMARKS) for end in ("full.jsonl", "full_meta.json"))
OF_POOLS = tuple(f"{name}/{file}" for name in POOLS for file in (STATISTICS, TASKS))


@pytest.fixture(params=KINDS)
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    with empty_workspace(request.param, tmp_path / "workspace") as found:
        yield populate(found)


@pytest.fixture
def local(tmp_path: Path) -> Workspace:
    return populate(Workspace(tmp_path / "workspace", environ={}))


def rebuild(here: Workspace) -> Changes:
    with reading(here) as reader:
        return pool_view.rebuild(here, reader)


def check(here: Workspace, *only: int) -> list[tuple[str, str]]:
    with reading(here) as reader:
        return [(each.what, each.path) for each in pool_view.check(here, reader, only or None)]


def snapshot(here: Workspace) -> dict[str, tuple[bytes, int]]:
    """Every file below data/ with its content and time, every other thing with nothing."""
    found = [path for path in sorted(here.data_dir.rglob("*")) if path.is_symlink() or not path.is_dir()]
    return {
        str(path.relative_to(here.data_dir)): (b"", 0)
        if path.is_symlink()
        else (path.read_bytes(), path.stat().st_mtime_ns)
        for path in found
    }


def file(here: Workspace, name: str = f"exp1/{TASKS}") -> Path:
    return here.data_dir / name


def test_every_pool_and_benchmark_has_its_files_with_the_time_of_its_making(here: Workspace) -> None:
    found = snapshot(here)
    assert tuple(found) == (*OF_FULL, *OF_POOLS)
    made = {
        row["name"]: nanoseconds(row["created_at"])
        for table in ("benchmark", "task_pool")
        for row in rows(here, f"SELECT name, created_at FROM {table}")
    }
    for path, (_, mtime_ns) in found.items():
        name = path.removeprefix(f"{FULL}/").split("_full")[0] if path.startswith(FULL) else path.split("/")[0]
        assert mtime_ns == made[name], path
    assert check(here) == []
    assert not rebuild(here)
    assert [line["task_id"] for line in pool_rows.lines(file(here))][:2] == [
        f"exp_{at:05d}_{line['benchmark']}" for at, line in enumerate(pool_rows.lines(file(here))[:2])
    ]


def test_deleted_files_come_back_byte_for_byte(here: Workspace) -> None:
    before = snapshot(here)
    shutil.rmtree(here.data_dir)
    assert check(here) == [
        *(("missing", name) for name in POOLS),
        *(("missing", path) for path in OF_FULL),
    ]
    changes = rebuild(here)
    assert (changes.directories, changes.files) == (POOLS, OF_FULL)
    assert snapshot(here) == before
    shutil.rmtree(here.data_dir)
    assert refresh(here, 1, 2, 3, full=True)
    assert snapshot(here) == before
    assert not here.trash_dir.exists()


def test_refresh_makes_only_what_it_is_asked_for(here: Workspace) -> None:
    shutil.rmtree(here.data_dir)
    assert refresh(here, 2, 99).directories == ("exp2",)
    assert sorted(path.name for path in here.data_dir.iterdir()) == ["exp2"]
    assert check(here, 2) == []
    assert check(here, 1) == [("missing", "exp1")]
    assert not refresh(here)
    assert refresh(here, full=True).files == OF_FULL


def test_where_nothing_is_to_be_done_no_lock_is_taken_and_no_task_read(here: Workspace) -> None:
    asked = []

    class Watching:
        def rows(self, sql: str, **parameters: int) -> list[dict[str, object]]:
            asked.append(sql)
            return reader.rows(sql, **parameters)

    with FileLock(here.root / ".view.lock"), reading(here) as reader:
        assert not pool_view.refresh(here, Watching(), [1, 2, 3], full=True)
        assert asked
        assert not any("task_pool_task" in sql or "benchmark_task" in sql for sql in asked)
        assert not pool_view.refresh(here, Watching(), [1, 2, 3], full=True, deep=True)
        assert any("task_pool_task" in sql for sql in asked)
        assert any("FROM benchmark_task" in sql for sql in asked)


def test_a_copy_with_other_times_is_right_and_read_once(here: Workspace) -> None:
    before = snapshot(here)
    for path in before:
        os.utime(here.data_dir / path)
    assert check(here) == []
    assert snapshot(here) != before
    assert not refresh(here, 1, 2, 3, full=True)
    assert snapshot(here) == before


def test_who_writes_keeps_others_waiting(here: Workspace) -> None:
    file(here).unlink()
    with FileLock(here.root / ".view.lock"), reading(here) as reader, pytest.raises(Conflict, match="is writing"):
        pool_view.refresh(here, reader, [1], patience_s=0.01)


@pytest.mark.parametrize("path", [*OF_FULL[:2], *OF_POOLS[:2]])
def test_an_edited_file_goes_to_the_trash_and_is_made_again(local: Workspace, path: str) -> None:
    before = snapshot(local)
    edited = file(local, path).read_bytes().swapcase()
    file(local, path).write_bytes(edited)
    assert check(local) == [("edited", path)]
    changes = refresh(local, 1, full=True)
    assert changes.files == changes.aside == (path,)
    assert snapshot(local) == before
    assert (Path(changes.trash or "") / path).read_bytes() == edited


def test_an_edit_that_hides_its_time_is_seen_by_content(local: Workspace) -> None:
    before = snapshot(local)
    for path in (OF_FULL[0], OF_POOLS[0]):
        file(local, path).write_bytes(before[path][0].swapcase())
        os.utime(file(local, path), ns=(before[path][1],) * 2)
    assert not refresh(local, 1, full=True)
    assert check(local) == [("edited", OF_POOLS[0]), ("edited", OF_FULL[0])]
    assert refresh(local, 1, full=True, deep=True)
    assert snapshot(local) == before


def test_strangers_beside_a_pool_are_named_and_left_alone_and_other_directories_are_not_mentioned(
    here: Workspace,
) -> None:
    (file(here, "exp1/results")).mkdir()
    file(here, "exp1/results/answers.json").write_text("mine")
    file(here, "exp2/notes.txt").write_text("mine")
    file(here, f"{FULL}/mmlu_full.jsonl").write_text("mine")
    for other in ("inputs", "my_own"):
        file(here, other).mkdir()
        file(here, f"{other}/task_pool.jsonl").write_text("mine")
    file(here, "notes.txt").write_text("mine")
    before = snapshot(here)
    strangers = ["exp1/results", "exp2/notes.txt", f"{FULL}/mmlu_full.jsonl"]
    assert sorted(check(here)) == sorted(("unknown", path) for path in strangers)
    assert check(here, 1) == [("unknown", "exp1/results")]
    changes = rebuild(here)
    assert (bool(changes), sorted(changes.unknown)) == (False, sorted(strangers))
    shutil.rmtree(here.data_dir / "exp1" / "results")
    file(here).unlink()
    assert rebuild(here).files == (f"exp1/{TASKS}",)
    assert snapshot(here) == {path: each for path, each in before.items() if not path.startswith("exp1/results")}


def test_without_benchmarks_nobody_s_directory_is_looked_at(tmp_path: Path) -> None:
    here = Workspace(tmp_path, environ={})
    (here.data_dir / FULL).mkdir(parents=True)
    (here.data_dir / FULL / "notes.txt").write_text("mine")
    open_database(here).close()
    assert check(here) == []
    assert rebuild(here) == Changes()


@pytest.mark.parametrize("how", ["file", "link"])
@pytest.mark.parametrize("place", ["exp1", "benchmarks", FULL])
def test_what_stands_in_the_place_of_a_directory_is_moved_aside_and_not_followed(
    local: Workspace, tmp_path: Path, place: str, how: str
) -> None:
    before, outside, top = snapshot(local), tmp_path / "outside", local.data_dir / place
    shutil.move(top, outside)
    precious = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    ways: list[Callable[[], Changes]] = [lambda: refresh(local, 1, full=True), lambda: rebuild(local)]
    for bring in ways:
        if top.is_dir():
            shutil.rmtree(top)
        if how == "file":
            top.write_text("mine")
        else:
            top.symlink_to(outside)
        assert ("replaced", place) in check(local)
        changes = bring()
        assert changes.aside == (place,)
        assert snapshot(local) == before
        assert os.path.lexists(Path(changes.trash or "") / place)
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == precious


def test_a_benchmark_that_goes_back_to_what_it_was_takes_its_files_with_it(here: Workspace) -> None:
    before = {path: each for path, each in snapshot(here).items() if path in OF_FULL}
    pool = file(here).read_bytes()
    write_lines(here.root / "sources/other.jsonl", pool_rows.gsm8k(start=3))
    pool_rows.score(here, "gsm8k", gsm8k="sources/other.jsonl")
    changed = {path for path, each in before.items() if snapshot(here)[path] != each}
    assert changed == {f"{FULL}/gsm8k_full.jsonl", f"{FULL}/gsm8k_full_meta.json"}
    assert check(here) == []
    pool_rows.score(here, "gsm8k")
    assert {path: each for path, each in snapshot(here).items() if path in OF_FULL} == before
    assert file(here).read_bytes() == pool


def test_the_same_tasks_elsewhere_change_only_what_is_said_of_their_place(here: Workspace) -> None:
    before = snapshot(here)
    shutil.copy(here.root / pool_rows.SOURCES["gsm8k"], here.root / "sources/copy.jsonl")
    pool_rows.score(here, "gsm8k", gsm8k="sources/copy.jsonl")
    after = snapshot(here)
    assert [path for path in before if before[path] != after[path]] == [f"{FULL}/gsm8k_full_meta.json"]
    assert check(here) == []


CONTRADICTIONS = {
    "task of a pool": ("UPDATE task_pool_task SET difficulty_bin = 'hard' WHERE task_pool_id = 1", ["exp1"]),
    "statistics": ("UPDATE task_pool SET statistics = '{' WHERE id = 1", ["exp1"]),
    "raw data": (
        "UPDATE benchmark_task SET raw_data = REPLACE(raw_data, 'riddle', 'puzzle')",
        [f"{FULL}/riddles_full.jsonl", "exp1"],
    ),
    "config": (
        "UPDATE benchmark SET config = '[]' WHERE name = 'riddles'", [f"{FULL}/riddles_full.jsonl"],
    ),
    "constants": (
        "UPDATE benchmark SET constants = '' WHERE name = 'riddles'", [f"{FULL}/riddles_full.jsonl"],
    ),
    "name of a pool": ("UPDATE task_pool SET name = '../../outside' WHERE id = 1", ["../../outside"]),
    "reserved name of a pool": ("UPDATE task_pool SET name = 'benchmarks' WHERE id = 1", ["benchmarks"]),
    "name of a benchmark": ("UPDATE benchmark SET name = '../outside' WHERE name = 'riddles'", [FULL]),
}  # fmt: skip


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_rows_that_contradict_each_other_make_no_file_and_keep_no_other_from_coming_back(
    tmp_path: Path, what: str
) -> None:
    here = populate(Workspace(tmp_path / "workspace", environ={}))
    statement, places = CONTRADICTIONS[what]
    execute(here, statement)
    ways: list[Callable[[], Changes]] = [lambda: refresh(here, 1, 2, 3, full=True), lambda: rebuild(here)]
    for bring in ways:
        shutil.rmtree(here.data_dir, ignore_errors=True)
        with pytest.raises(Corrupt, match="contradicts itself"):
            bring()
        assert {f"short/{TASKS}", f"{FULL}/bbh_full.jsonl"} <= snapshot(here).keys()
    assert set(places) <= {path for each, path in check(here) if each == "contradiction"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["workspace"]


def test_a_directory_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    here = populate(Workspace(tmp_path, environ={}))
    elsewhere = Workspace(tmp_path, environ={"SYNTHTRACK_DATA_DIR": "/proc/nowhere"})
    with reading(here) as reader, pytest.raises(StorageError):
        pool_view.refresh(elsewhere, reader, [1])


DAMAGE = ["delete", "edit", "grow", "directory", "link", "stranger", "time"]


def damage(here: Workspace, path: Path, how: str, outside: Path) -> None:
    if how == "stranger":
        path.with_name(f"stranger-{path.name}").write_text("mine")
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
@given(st.dictionaries(st.sampled_from((*OF_FULL, *OF_POOLS)), st.sampled_from(DAMAGE)), st.booleans(), st.booleans())
def test_whatever_was_done_to_them_the_files_come_back(blows: dict[str, str], by_refresh: bool, top: bool) -> None:
    with TemporaryDirectory() as directory:
        root, outside = Path(directory) / "workspace", Path(directory) / "outside"
        outside.mkdir()
        (outside / "precious").write_text("mine")
        shutil.copytree(_populated(), root)
        here = Workspace(root, environ={})
        before = snapshot(here)
        for path, how in blows.items():
            damage(here, file(here, path), how, outside)
        if top:
            shutil.rmtree(here.data_dir / "benchmarks")
            (here.data_dir / "benchmarks").symlink_to(outside)
        refresh(here, 1, 2, 3, full=True, deep=True) if by_refresh else rebuild(here)
        after = snapshot(here)
        assert {path: after.get(path) for path in before} == before
        assert all("stranger" in path for path in after.keys() - before.keys())
        again = rebuild(here)
        assert not again
        assert [("unknown", path) for path in sorted(again.unknown)] == sorted(check(here))
        assert [path.read_text() for path in outside.iterdir()] == ["mine"]


def _populated() -> Path:
    global _once  # noqa: PLW0603  made once for all examples of a property
    if _once is None:
        _once = TemporaryDirectory()
        populate(Workspace(Path(_once.name), environ={}))
    return Path(_once.name)


_once: TemporaryDirectory[str] | None = None
