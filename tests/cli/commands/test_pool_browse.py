"""``pool list``, ``show``, ``stats`` and ``compare`` as they are typed."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.pool_rows import SOURCES, draw, gsm8k, lines, populate, score, write_sources
from tests.workspaces import call, matches_snapshot, write_lines
from tracker.paths import Workspace
from tracker.record.database import open_database

MOMENT = "2026-11-20T21:46:52.123456Z"
POOLS = ("exp1", "exp2", "short")


def ask(root: Path, *arguments: object, code: int = 0) -> str:
    """What `pool` says; the exit code must be ``code``."""
    done = call(root, "pool", *arguments)
    assert done.code == code, done.err
    return done.out if code == 0 else done.err


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pools, a description, and one validation; what varies from run to run has values of its own."""
    root = tmp_path_factory.mktemp("built") / "workspace"
    populate(Workspace(root, environ={}))
    connection = sqlite3.connect(root / "tracker.db")
    with connection:
        connection.execute(
            "UPDATE task_pool SET created_at = ?, duration_s = 0.25, versions = '{}', uuid = printf('%032x', id)",
            (MOMENT,),
        )
        connection.execute("UPDATE task_pool SET description = 'Mostly easy' WHERE name = 'exp2'")
        _validate(connection)
    connection.close()
    ask(root, "list")
    return root


def _validate(connection: sqlite3.Connection) -> None:
    """A validation of the second pool, with the columns that a listing shows; the others are 0."""
    shown = {
        "task_pool_id": 2, "status": "complete", "model": "gpt-4o", "n_tasks": 10, "n_graded": 9, "n_failed": 1,
        "easy_accuracy": 0.875, "hard_accuracy": 0.5, "accuracy_gap": 0.375, "rank_correlation": 0.25, "n_calls": 10,
        "cost_usd": 0.0123, "started_at": MOMENT,
    }  # fmt: skip
    columns = [row[1] for row in connection.execute("PRAGMA table_info(pool_validation)") if row[3] and row[1] != "id"]
    values = dict.fromkeys(columns, 0) | shown
    places = ", ".join(f":{name}" for name in values)
    connection.execute(f"INSERT INTO pool_validation ({', '.join(values)}) VALUES ({places})", values)


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "workspace"))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("list", ["list"]),
        ("list_verbose", ["list", "--verbose", "--limit", "2"]),
        ("list_json", ["list", "--json"]),
        ("show", ["show", "exp2"]),
        ("show_json", ["show", "exp1", "--samples", "1", "--json"]),
        ("stats", ["stats", "exp1"]),
        ("stats_short", ["stats", "short"]),
        ("stats_json", ["stats", "exp1", "--json"]),
        ("compare", ["compare", "exp1", "exp2"]),
        ("compare_json", ["compare", "exp1", "short", "--json"]),
    ],
)
def test_pages(built: Path, name: str, arguments: list[str]) -> None:
    out = ask(built, *arguments)
    assert matches_snapshot(f"pool_{name}", out.replace(str(built), "ROOT"))


def test_json_holds_what_the_pages_show(built: Path) -> None:
    rows = json.loads(ask(built, "list", "--json"))
    assert [(row["name"], row["n_tasks"]) for row in rows] == [("exp1", 10), ("exp2", 10), ("short", 8)]
    assert [row["with_replacement"] for row in rows] == [False, True, False]
    shown = json.loads(ask(built, "show", "exp2", "--samples", "2", "--json"))
    lines = (built / "data/exp2/task_pool.jsonl").read_text().splitlines()
    assert [task["raw_data"] for task in shown["tasks"]] == [json.loads(line)["raw_data"] for line in lines[:2]]
    assert shown["files"] == ["data/exp2/task_pool.jsonl", "data/exp2/statistics.json"]
    assert sum(part["n_easy"] + part["n_hard"] for part in shown["benchmarks"]) == shown["n_tasks"]
    assert shown["validations"][0]["model"] == "gpt-4o"
    assert ask(built, "stats", "exp2", "--json") == (built / "data/exp2/statistics.json").read_text()


def test_a_pool_and_itself_have_all_in_common(built: Path) -> None:
    found = json.loads(ask(built, "compare", "exp1", "exp1", "--json"))
    assert (found["shared"], found["different"]) == (1.0, {})
    assert all(each["first"] == each["second"] == each["both"] for each in found["counts"])
    assert "All settings are the same." in ask(built, "compare", "exp1", "exp1")


def test_a_task_is_itself_where_its_benchmark_was_read_anew(root: Path) -> None:
    here = Workspace(root, environ={})
    draw(here, "before", benchmarks=["gsm8k"], n_total_tasks=8)
    write_lines(root / SOURCES["gsm8k"], [*gsm8k(), {"question": "Another?", "answer": "#### 1"}])
    score(here, "gsm8k")
    draw(here, "after", benchmarks=["gsm8k"], n_total_tasks=8)
    tasks = [
        {json.dumps(task["raw_data"]) for task in lines(root / f"data/{name}/task_pool.jsonl")}
        for name in ("before", "after")
    ]
    found = json.loads(ask(root, "compare", "before", "after", "--json"))
    assert list(found["different"]) == ["name", "data"]
    assert found["n_both"] == len(tasks[0] & tasks[1]) > 0


def test_the_same_settings_but_for_the_count_overlap(root: Path) -> None:
    larger = draw(Workspace(root, environ={}), "larger", n_total_tasks=20).pool
    found = json.loads(ask(root, "compare", "exp1", larger["name"], "--json"))
    # Two of the ten are one and the same riddle.
    assert (found["n_first"], found["n_both"]) == (9, 9)
    assert found["n_both"] < found["n_second"] < larger["n_tasks"]
    assert list(found["different"]) == ["name", "n_total_tasks"]


def fingerprint(root: Path, name: str = "exp1") -> str:
    found = json.loads(ask(root, "list", "--json"))
    return str(next(row["fingerprint"] for row in found if row["name"] == name))


def test_a_pool_is_meant_by_name_fingerprint_and_path_also_where_it_was_deleted(root: Path) -> None:
    whole = fingerprint(root)
    before = {path: path.read_bytes() for path in (root / "data/exp1").iterdir()}
    assert len(before) == 2
    for ref in (
        "exp1", " exp1 ", whole, whole[:4], whole[:7].upper(), "data/exp1", "data/exp1/", "./data/exp1",
        "data/exp1/task_pool.jsonl", "data/exp1/statistics.json", root / "data/exp1",
        root / "data/exp1/task_pool.jsonl",
    ):  # fmt: skip
        shutil.rmtree(root / "data/exp1")
        assert ask(root, "show", ref).splitlines()[1].startswith(f"📊 exp1 ({whole})"), ref
        assert {path: path.read_bytes() for path in (root / "data/exp1").iterdir()} == before


def test_a_path_is_also_meant_from_within_the_directory(root: Path) -> None:
    done = call(root / "data", "--root", root, "pool", "stats", "exp2/task_pool.jsonl")
    assert (done.code, done.out.splitlines()[0]) == (0, "📊 exp2: 10 tasks")


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("exp", "Did you mean exp"),
        ("shrt", "Did you mean short?"),
        ("data/nothing", "`synthtrack pool list` shows what there is."),
        ("data", "No pool 'data'."),
        ("data/exp1/deep/task_pool.jsonl", "No pool"),
        ("", "No pool ''."),
    ],
)
@pytest.mark.parametrize("command", ["show", "stats", "compare"])
def test_what_is_not_there_is_said_with_what_could_be_meant(built: Path, command: str, ref: str, said: str) -> None:
    arguments = ["exp1", ref] if command == "compare" else [ref]
    assert said in ask(built, command, *arguments, code=4)


def test_a_beginning_of_two_fingerprints_is_answered_with_both(root: Path) -> None:
    connection = sqlite3.connect(root / "tracker.db")
    with connection:
        connection.execute("UPDATE task_pool SET fingerprint = 'abcd' || SUBSTR(fingerprint, 5) WHERE id < 3")
    connection.close()
    both = [fingerprint(root, name) for name in ("exp1", "exp2")]
    assert f"It could be {' or '.join(both)}." in ask(root, "show", "abcd", code=4)


def test_a_plot_is_a_picture_and_written_over_nothing(root: Path) -> None:
    assert ask(root, "stats", "exp1", "--plot", "pool.png") == ask(root, "stats", "exp1")
    picture = (root / "pool.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    (root / "pool.png").write_bytes(b"mine")
    assert "is there already" in ask(root, "stats", "exp1", "--plot", "pool.png", code=5)
    assert (root / "pool.png").read_bytes() == b"mine"
    done = call(root, "pool", "stats", "short", "--plot", "pool.png", "--overwrite", "--json")
    assert json.loads(done.out)["n_total"] == 8
    assert done.err == "📊 pool.png\n"
    assert (root / "pool.png").read_bytes().startswith(b"\x89PNG")
    assert "cannot be written" in ask(root, "stats", "exp1", "--plot", "nowhere/pool.png", code=11)


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["compare", "exp1", "exp2"]])
def test_deleted_files_come_back_by_looking(root: Path, arguments: list[str]) -> None:
    before = {path: path.read_bytes() for path in sorted((root / "data").glob("exp*/*"))}
    for name in ("exp1", "exp2"):
        shutil.rmtree(root / "data" / name)
    ask(root, *arguments)
    assert {path: path.read_bytes() for path in sorted((root / "data").glob("exp*/*"))} == before


def test_only_what_is_shown_comes_back(root: Path) -> None:
    for name in POOLS:
        shutil.rmtree(root / "data" / name)
    ask(root, "list", "--limit", "1")
    assert sorted(path.name for path in (root / "data").iterdir()) == ["benchmarks", "short"]


def test_an_edited_file_is_restored_and_that_is_said(root: Path) -> None:
    path = root / "data/exp1/task_pool.jsonl"
    good = path.read_bytes()
    path.write_text("edited")
    done = call(root, "pool", "show", path)
    assert "Note: exp1/task_pool.jsonl was not what the record says and was restored; the other is in " in done.err
    assert path.read_bytes() == good


def test_a_copy_that_cannot_be_written_is_still_read(built: Path) -> None:
    done = call(built, "pool", "list", environ={"SYNTHTRACK_DATA_DIR": "/proc/nowhere"})
    assert done.code == 0
    assert "exp1" in done.out
    assert "Note: the directory of pools was not brought up to date" in done.err


def test_an_empty_workspace_says_how_to_make_the_first(tmp_path: Path) -> None:
    open_database(Workspace(tmp_path, environ={})).close()
    write_sources(tmp_path)
    assert "`synthtrack pool build CONFIG` makes the first one." in ask(tmp_path, "list")
    assert json.loads(ask(tmp_path, "list", "--json")) == []
    assert "No pool 'exp1'." in ask(tmp_path, "show", "exp1", code=4)


def test_nothing_in_a_task_steers_the_terminal(root: Path) -> None:
    connection = sqlite3.connect(root / "tracker.db")
    with connection:
        connection.execute("UPDATE task_pool SET description = ?, command = ?", ("\x1b[31mred", "do \x1b[2J"))
        connection.execute(
            "UPDATE benchmark_task SET scorer_metadata = ?, raw_data = ?",
            ('{"\\u001b[2J": "\\u001b]0;x"}', '{"text": "\\u202eevil"}'),
        )
    connection.close()
    for arguments in (["list", "--verbose"], ["show", "exp1", "--samples", "10"]):
        out = ask(root, *arguments)
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "␛[31mred" in out
    assert "<U+202E>evil" in out
