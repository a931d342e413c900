"""The files of an older training: which logs are read, what of a config is kept, and that no link is followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.importing.run_files import plain_bytes, read_config, read_contents

KEY = "of-no-known-shape-4711"


@pytest.fixture
def told() -> list[str]:
    return []


def test_lines_of_a_text_in_which_a_key_stands_are_left_out(tmp_path: Path, told: list[str]) -> None:
    text = f"model: m\nscripts:\n- |\n  python run.py\n  export OPENAI_API_KEY={KEY}\n  echo done\n"
    (tmp_path / "experiment_config.yaml").write_text(text)
    data, digest = read_config(tmp_path, told.append)
    assert data == {"model": "m", "scripts": ["python run.py\necho done\n\n[what holds a key was left out]"]}
    assert digest is not None
    assert told == ["a literal API key in experiment_config.yaml: scripts[0] (left out, not imported)"]


@pytest.mark.parametrize(("content", "said"), [(b"a: \xff", "is not UTF-8"), (b"a: [", "cannot be read as YAML")])
def test_a_config_that_cannot_be_read_is_told(content: bytes, said: str, tmp_path: Path, told: list[str]) -> None:
    (tmp_path / "experiment_config.yaml").write_bytes(content)
    data, digest = read_config(tmp_path, told.append)
    assert (data, digest is None) == ({}, False)
    assert told == [f"experiment_config.yaml {said}; only what the names of its directories say is known"]


def test_of_the_logs_of_several_runs_that_of_its_learning_rate_is_read(tmp_path: Path, told: list[str]) -> None:
    for name in ("1_6_train.out", "1_7_train.out", "1_6_train.err"):
        (tmp_path / name).write_text(name)
    files, texts, _ = read_contents(tmp_path, 1e-7, told.append)
    assert (sorted(files), texts) == (["1_6_train.err", "1_7_train.out"], ["1_7_train.out", "1_6_train.err"])
    assert told == ["2 logs *_train.out of several runs; only that of its learning rate is read"]
    assert read_contents(tmp_path, 1e-5, told.append)[1] == ["1_6_train.err"]


def test_where_no_log_has_its_name_any_log_is_read(tmp_path: Path, told: list[str]) -> None:
    for name in ("b.log", "a.log"):
        (tmp_path / name).write_text(name)
    (tmp_path / "c.log").symlink_to("a.log")
    assert read_contents(tmp_path, None, told.append)[:2][1] == ["a.log", "b.log"]
    (tmp_path / "train.out").write_text("its own")
    assert read_contents(tmp_path, None, told.append)[1] == ["its own"]


def test_files_of_metrics_are_read_and_those_that_are_broken_told(tmp_path: Path, told: list[str]) -> None:
    (tmp_path / "all_results.json").write_text('{"eval_accuracy": 0.5}')
    (tmp_path / "results.json").write_text("[" * 100_000)
    (tmp_path / "metrics.json").write_text("{")
    files, _, documents = read_contents(tmp_path, None, told.append)
    assert (sorted(files), documents) == (
        ["all_results.json", "metrics.json", "results.json"],
        [{"eval_accuracy": 0.5}],
    )
    assert told == ["results.json is no JSON: left out", "metrics.json is no JSON: left out"]


def test_of_a_long_file_both_ends_are_read_and_nothing_of_what_is_no_plain_file(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"begin" + b"." * 100 + b"end!!")
    (tmp_path / "link").symlink_to("log")
    os.mkfifo(tmp_path / "pipe")
    assert plain_bytes(tmp_path / "log", 10) == b"begin\nend!!"
    assert [plain_bytes(tmp_path / name, 10) for name in ("link", "pipe", "absent", ".")] == [None] * 4
