"""Benchmarks are read in full from any form of file, and what is wrong with one is said with its place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from pipeline.pools.difficulty import Record
from pipeline.pools.sources import Full, read_full
from pipeline.pools.specs import BenchmarkSpec
from tracker.errors import DataError

TASKS = [{"question": f"“{number}”\u2028?", "answer": number, "more": {"a": [1.5, None]}} for number in range(3)]


def read(path: str | Path, **settings: Any) -> Full:
    given = str(path) if str(path).startswith("datasets:") else f"file:{path}"
    return read_full("mine", BenchmarkSpec(path=given, **settings), Path)


def problems(path: str | Path, **settings: Any) -> list[tuple[str, str]]:
    with pytest.raises(DataError) as caught:
        read(path, **settings)
    return [(problem.where, problem.what) for problem in caught.value.problems]


def lines(tasks: list[dict[str, Any]] = TASKS, end: str = "\n", *, ascii_only: bool = False) -> bytes:
    return "".join(f"{json.dumps(task, ensure_ascii=ascii_only)}{end}" for task in tasks).encode()


def as_jsonl(directory: Path) -> Path:
    (directory / "tasks.jsonl").write_bytes(lines())
    return directory / "tasks.jsonl"


def as_escaped(directory: Path) -> Path:
    (directory / "tasks.jsonl").write_bytes(lines(ascii_only=True))
    return directory / "tasks.jsonl"


def as_compact(directory: Path) -> Path:
    text = "\n".join(json.dumps(task, separators=(",", ":")) for task in TASKS)
    (directory / "tasks.jsonl").write_text(text)
    return directory / "tasks.jsonl"


def as_windows(directory: Path) -> Path:
    (directory / "tasks.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(end="\r\n") + b"\r\n \r\n")
    return directory / "tasks.jsonl"


def as_gz(directory: Path) -> Path:
    (directory / "tasks.jsonl.gz").write_bytes(gzip.compress(lines()))
    return directory / "tasks.jsonl.gz"


def as_json(directory: Path) -> Path:
    (directory / "tasks.json").write_text(json.dumps(TASKS, indent=1))
    return directory / "tasks.json"


def as_parquet(directory: Path) -> Path:
    parquet.write_table(pa.Table.from_pylist(TASKS), directory / "tasks.parquet")
    return directory / "tasks.parquet"


FORMS = [as_jsonl, as_escaped, as_compact, as_windows, as_gz, as_json, as_parquet]


@pytest.mark.parametrize("write", FORMS)
def test_every_form_of_file_gives_the_same_tasks(write: Callable[[Path], Path], tmp_path: Path) -> None:
    found = read(write(tmp_path))
    assert found.texts == tuple(json.dumps(task, ensure_ascii=False) for task in TASKS)
    assert found.parts == (None,) * 3
    assert found.records == tuple(Record(task) for task in TASKS)
    assert found.digest == Full(found.texts, found.parts).digest


def test_the_digest_is_of_tasks_order_and_parts() -> None:
    given = [
        Full(("a", "b"), (None, None)),
        Full(("b", "a"), (None, None)),
        Full(("a",), (None,)),
        Full(("a", "b"), ("one", "one")),
        Full(("a", "b"), ("one", "two")),
    ]
    assert len({full.digest for full in given}) == len(given)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    directory = tmp_path / "bbh"
    directory.mkdir()
    (directory / "navigate.jsonl").write_bytes(lines(TASKS[:1]))
    (directory / "date_understanding.json").write_text(json.dumps(TASKS[1:]))
    (directory / "README.md").write_text("not a part")
    return directory


def test_a_directory_is_read_by_name_or_as_configs_say(parts: Path) -> None:
    assert read(parts).parts == ("date_understanding", "date_understanding", "navigate")
    chosen = read(parts, configs=["navigate", "date_understanding"])
    assert chosen.parts == ("navigate", "date_understanding", "date_understanding")
    assert chosen.records[0] == Record(TASKS[0], "navigate")
    assert read(parts, configs=["navigate"]).parts == ("navigate",)


def test_every_missing_part_is_named(parts: Path) -> None:
    assert problems(parts, configs=["snarks", "navigate", "Navigate"]) == [
        (str(parts), "no file of 'snarks'"),
        (str(parts), "no file of 'Navigate'"),
    ]


def test_a_directory_without_tasks(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("")
    assert problems(tmp_path) == [(str(tmp_path), "no files of tasks")]


def test_two_files_of_one_part(parts: Path) -> None:
    (parts / "navigate.json").write_text("[]")
    assert problems(parts) == [
        (str(parts / "navigate.jsonl"), "navigate.json has the same name but for its end"),
    ]


def test_configs_of_a_single_file_are_no_parts(tmp_path: Path) -> None:
    path = as_jsonl(tmp_path)
    assert problems(path, configs=["navigate"]) == [(str(path), "one file has no parts; `configs` is for a directory")]


def test_every_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"a": 1}\n{"a": \n\n[1]\n"text"\n{"a": NaN}\n{"a": "\\ud800"}\n{"a": 1e999}\nnull\n')
    found = problems(path)
    assert [where for where, _ in found] == [f"{path}:{number}" for number in (2, 4, 5, 6, 7, 8, 9)]
    assert [what for _, what in found] == [
        "not JSON: Expecting value: line 1 column 7 (char 6)",
        "a task is a JSON object, this is list",
        "a task is a JSON object, this is str",
        "not JSON: NaN is no JSON",
        "not JSON: half of a surrogate pair, which is no text",
        "not JSON: inf has no JSON form",
        "a task is a JSON object, this is NoneType",
    ]


def test_of_many_broken_lines_the_first_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text("oops\n" * 23)
    found = problems(path)
    assert len(found) == 21
    assert found[-1] == ("...", "and 3 more")


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_a_file_without_tasks(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(content)
    assert problems(path) == [(f"file:{path}", "no tasks")]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for name, content, what in [
        ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', "byte 0xff"),
        ("b.json", b'{"a": 1}', "a .json file holds one list of records"),
        ("c.jsonl.gz", b"no gzip", "Not a gzipped file (b'no')"),
        ("d.parquet", b"no parquet", "Parquet"),
        ("e.csv", b"a,b", "expected .jsonl, .jsonl.gz, .json, .parquet"),
    ]:
        (tmp_path / name).write_bytes(content)
        ((where, found),) = problems(tmp_path / name)
        assert where.startswith(str(tmp_path / name))
        assert what in found
    assert problems(tmp_path / "none.jsonl") == [(str(tmp_path / "none.jsonl"), "no such file or directory")]


def test_a_path_that_no_system_has(tmp_path: Path) -> None:
    for path in ("x" * 300, "a\0b"):
        assert problems(tmp_path / path) == [(str(tmp_path / path), "no such file or directory")]


def test_a_missing_file_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^The benchmark mine is missing\.") as caught:
        read(tmp_path / "none.jsonl")
    assert caught.value.hint == "Correct its path: absolute, or relative to the current directory or the workspace."


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    # The hub's client reads HF_HUB_OFFLINE when it is imported; without it, it tries for twenty seconds.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def local(tmp_path: Path, offline: None) -> str:
    """A data set of two configs as the hub has them, in a local directory, with a test split only."""
    directory = tmp_path / "set"
    directory.mkdir()
    for config, tasks in (("one", TASKS[:2]), ("two", TASKS[2:])):
        parquet.write_table(pa.Table.from_pylist(tasks), directory / f"{config}.parquet")
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: test\n    path: {name}.parquet\n" for name in ("one", "two")
    )
    (directory / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return f"datasets:{directory}"


def test_a_data_set_of_several_configs(local: str) -> None:
    found = read(local, configs=["two", "one"])
    assert found.parts == ("two", "one", "one")
    assert [record.raw for record in found.records] == [TASKS[2], TASKS[0], TASKS[1]]


def test_what_the_hub_gives_is_what_a_file_gives(tmp_path: Path, offline: None) -> None:
    (tmp_path / "set").mkdir()
    parquet.write_table(pa.Table.from_pylist(TASKS), tmp_path / "set/test.parquet")
    assert read(f"datasets:{tmp_path / 'set'}") == read(as_escaped(tmp_path))


def test_what_the_hub_does_not_have_is_said_in_its_words(local: str) -> None:
    where = local.removeprefix("datasets:")
    ((_, what),) = problems(local)
    assert what.startswith("Config name is missing. Please pick one among the available configs: ['one', 'two']")
    assert problems(local, configs=["three"]) == [
        (f"{where}/three", "BuilderConfig 'three' not found. Available: ['one', 'two']")
    ]
    assert problems(local, configs=["one"], split="train") == [
        (f"{where}/one", "Unknown split \"train\". Should be one of ['test'].")
    ]


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("openai_humaneval", "openai_humaneval"),
        ("gsm8k/main", "gsm8k/main"),
        ("lukaemon/bbh", "lukaemon/bbh"),
        ("owner/name/config", "owner/name/config"),
        ("x" * 300, "x" * 300),
    ],
)
def test_a_data_set_that_cannot_be_had(name: str, where: str, offline: None) -> None:
    with pytest.raises(DataError, match=r"^A benchmark cannot be had from the hub\.") as caught:
        read(f"datasets:{name}")
    assert caught.value.problems[0].where == where
    assert caught.value.hint == "Check the name and the network, or give `path: file:PATH`, a local copy."


def test_a_data_set_that_is_broken_or_no_json_is_an_error_of_that_benchmark(tmp_path: Path, offline: None) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/test.jsonl").write_text('{"a": 1}\n{"a": oops}\n')
    ((_, what),) = problems(f"datasets:{tmp_path / 'broken'}")
    assert "JSON parse error" in what
    (tmp_path / "dates").mkdir()
    parquet.write_table(pa.table({"day": [datetime(2020, 1, 1)]}), tmp_path / "dates/test.parquet")  # noqa: DTZ001
    ((_, what),) = problems(f"datasets:{tmp_path / 'dates'}")
    assert what == "Object of type datetime is not JSON serializable"
