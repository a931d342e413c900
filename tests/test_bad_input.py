"""What bad input gets: an exit code and words that say what is wrong, where, and what to do; never a traceback."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workspaces import call, config, execute, records, write_config, write_lines, write_records

GENERATE = ("generate", "copa.yaml", "--no-mlflow")
TRAIN = Path("Data/original/Copa/copa_train.jsonl")
CONFIG, DATA = 3, 12

Change = Callable[[Path], object]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_records(tmp_path, 3)
    write_config(tmp_path, config())
    return tmp_path


def setting(**changes: Any) -> Change:
    """A config with that setting."""
    return lambda root: write_config(root, config(**changes))


def text(content: str | bytes) -> Change:
    """A config of that text."""
    return lambda root: (root / "copa.yaml").write_bytes(content.encode() if isinstance(content, str) else content)


def data(*lines: str | bytes | dict[str, Any]) -> Change:
    """Input data of these lines; records are written as JSON."""

    def write(root: Path) -> None:
        encoded = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
        (root / TRAIN).write_bytes(
            b"".join(each.encode() if isinstance(each, str) else each for each in _ended(encoded))
        )

    return write


def _ended(lines: list[str | bytes]) -> list[str | bytes]:
    return [line + b"\n" if isinstance(line, bytes) else line + "\n" for line in lines]


def named(path: str, content: bytes) -> Change:
    """Input data in a file of another name."""

    def write(root: Path) -> None:
        (root / TRAIN).with_name(path).write_bytes(content)
        write_config(root, config(dataset__input_path=str(TRAIN.with_name(path))))

    return write


def remove(path: Path) -> Change:
    return lambda root: (root / path).unlink()


def folder(path: Path) -> Change:
    def replace(root: Path) -> None:
        (root / path).unlink()
        (root / path).mkdir()

    return replace


def plain(**changes: Any) -> str:
    return yaml.safe_dump(config(**changes), sort_keys=False)


FIRST, SECOND, THIRD = records(3)
WITHOUT_PREMISE = {key: value for key, value in SECOND.items() if key != "premise"}
TWO_PROBLEMS = """\
experiment: {batch_id: first}
dataset: {input_path: Data/original/Copa/copa_train.jsonl}
generation:
  modell: gpt-4o
  temperature: 3
  field_to_rephrase: premise
"""

CASES: dict[str, tuple[Change, int, list[str]]] = {
    "config missing": (remove(Path("copa.yaml")), CONFIG, ["copa.yaml", "No such file", "synthtrack init"]),
    "config a directory": (folder(Path("copa.yaml")), CONFIG, ["copa.yaml: no .yaml files in this directory"]),
    "config empty": (text(""), CONFIG, ["copa.yaml: a configuration is a mapping of keys to values"]),
    "config not UTF-8": (text(b"task_name: x\ndataset: \xff\n"), CONFIG, ["copa.yaml:2: not UTF-8"]),
    "broken YAML": (text("experiment: {batch_id: first\ndataset: 3\n"), CONFIG, ["copa.yaml:2: ", "dataset: 3"]),
    "tabs in YAML": (text("experiment:\n\tbatch_id: x\n"), CONFIG, ["copa.yaml:2: ", "cannot start any token"]),
    "a list": (text("- a\n- b\n"), CONFIG, ["a configuration is a mapping of keys to values"]),
    "a key twice": (text(plain() + "task_name: a\ntask_name: b\n"), CONFIG, ["key `task_name` is here twice"]),
    "a Python object": (text("task_name: !!python/object/apply:os.system [ls]\n"), CONFIG, ["copa.yaml:1: the tag"]),
    "all problems at once": (
        text(TWO_PROBLEMS), CONFIG,
        ["copa.yaml has 4 problems.", "copa.yaml:4: unknown key `generation.modell`; did you mean `model`?",
         "copa.yaml:5: `generation.temperature`: input should be less than or equal to 2 (got 3)",
         "copa.yaml:3: missing key `generation.model`", "copa.yaml:3: missing key `generation.rephrase_prompt`"],
    ),
    "unknown section": (setting(generatoin={}), CONFIG, ["unknown key `generatoin`; did you mean `generation`?"]),
    "temperature 3": (setting(generation__temperature=3), CONFIG, ["`generation.temperature`", "(got 3)"]),
    "temperature of text": (setting(generation__temperature="hot"), CONFIG, ["`generation.temperature`", "'hot'"]),
    "temperature nan": (setting(generation__temperature=float("nan")), CONFIG, ["`generation.temperature`"]),
    "concurrency 0": (setting(generation__concurrency=0), CONFIG, ["`generation.concurrency`", "(got 0)"]),
    "top_p 0": (setting(generation__top_p=0), CONFIG, ["`generation.top_p`", "(got 0)"]),
    "max_tokens 1.5": (setting(generation__max_tokens=1.5), CONFIG, ["`generation.max_tokens`", "(got 1.5)"]),
    "timeout yes": (setting(generation__timeout=True), CONFIG, ["`generation.timeout`"]),
    "unknown provider": (setting(generation__provider="azure"), CONFIG, ["`generation.provider`", "'azure'"]),
    "unknown strategy": (setting(generation__strategy="all"), CONFIG, ["`generation.strategy`", "direct_all"]),
    "no address": (setting(generation__base_url="localhost:80"), CONFIG, ["must begin with http:// or https://"]),
    "a password in the address": (
        setting(generation__base_url="https://me:pass@host/v1"), CONFIG, ["holds a user or password", "api_key_env"],
    ),
    "no prompt": (setting(generation__rephrase_prompt=None), CONFIG, ["missing key `generation.rephrase_prompt`"]),
    "empty prompt": (setting(generation__rephrase_prompt=""), CONFIG, ["`generation.rephrase_prompt`"]),
    "no input": (setting(dataset={}), CONFIG, ["give input_path (a file; or files.train) or hub"]),
    "two inputs": (setting(dataset__hub="super_glue/copa"), CONFIG, ["give input_path (a file; or files.train) or"]),
    "batch with a separator": (setting(experiment__batch_id="a/b"), CONFIG, ["`experiment.batch_id`", "separator"]),
    "batch that goes up": (setting(experiment__batch_id=".."), CONFIG, ["'..' is no name for a directory"]),
    "batch of the shared data": (setting(experiment__batch_id="_shared"), CONFIG, ["the shared experiments live"]),
    "dataset that goes up": (setting(dataset__dataset_name="../x"), CONFIG, ["`dataset.dataset_name`", "separator"]),
    "purpose with a separator": (setting(experiment__purpose="a/b"), CONFIG, ["`experiment.purpose`", "separator"]),
    "unknown field in a prompt": (
        setting(generation__rephrase_prompt="{premis}"), CONFIG,
        ["`generation.rephrase_prompt` uses {premis}; fields here: premise, choice1, choice2, question, idx, label"],
    ),
    "unknown field in the judge's prompt": (
        setting(validation__validation_prompt="{premise}"), CONFIG,
        ["`validation.validation_prompt` uses {premise}; fields here: original_premise, "],
    ),
    "attribute access": (setting(generation__rephrase_prompt="{premise.__class__}"), CONFIG, ["rephrase_prompt`, "]),
    "a call": (setting(generation__rephrase_prompt="{open('x')}"), CONFIG, ["rephrase_prompt`, "]),
    "a call of a method": (setting(generation__rephrase_prompt="{premise.upper()}"), CONFIG, ["rephrase_prompt`, "]),
    "a lambda": (setting(generation__rephrase_prompt="{(lambda: 1)()}"), CONFIG, ["rephrase_prompt`, "]),
    "a bomb": (setting(generation__rephrase_prompt="{9**9**9**9}"), CONFIG, ["rephrase_prompt"]),
    "an open brace": (setting(generation__rephrase_prompt="{premise"), CONFIG, ["rephrase_prompt`, "]),
    "an expression that fits not every record": (
        setting(generation__rephrase_prompt="{[1][label]} {premise}"), CONFIG,
        ["a prompt that fits not every record", "record 2 of "],
    ),
    "input missing": (remove(TRAIN), DATA, ["copa_train.jsonl: no such file", "Correct dataset.input_path"]),
    "input a directory": (folder(TRAIN), DATA, ["copa_train.jsonl: not a file"]),
    "input empty": (data(), DATA, ["copa_train.jsonl: no records"]),
    "input blank": (data("", "  "), DATA, ["copa_train.jsonl: no records"]),
    "input not JSONL": (data(FIRST, "premise,choice"), DATA, ["copa_train.jsonl:2: not JSON"]),
    "input of lists": (data(FIRST, "[1, 2]"), DATA, ["copa_train.jsonl:2: a record is a JSON object, this is list"]),
    "no such field": (data(FIRST, WITHOUT_PREMISE), DATA, ["copa_train.jsonl:2: no field 'premise'", "choice1"]),
    "field of numbers": (data({**FIRST, "premise": 3}), DATA, ["copa_train.jsonl:1: field 'premise' holds no text"]),
    "duplicate idx": (data(FIRST, SECOND, {**THIRD, "idx": 0}), DATA, ["copa_train.jsonl:3: idx 0 was in line 1"]),
    "input not UTF-8": (data(FIRST, '{"premise": "café"}'.encode("latin-1")), DATA, ["copa_train.jsonl:2: ", "iconv"]),
    "every bad line": (
        data("x", FIRST, "y"), DATA, ["copa_train.jsonl:1: not JSON", "copa_train.jsonl:3: not JSON"],
    ),
    "unknown kind of file": (named("copa_train.csv", b"premise\n"), DATA, ["copa_train.csv: expected a file"]),
    "broken gzip": (named("t.jsonl.gz", b"no gzip"), DATA, ["t.jsonl.gz: "]),
    "cut gzip": (named("t.jsonl.gz", gzip.compress(b'{"premise": "x"}' * 99)[:30]), DATA, ["t.jsonl.gz: "]),
    "broken parquet": (named("t.parquet", b"no parquet"), DATA, ["t.parquet: "]),
    "JSON that is no list": (named("t.json", b'{"premise": "x"}'), DATA, ["a .json file holds one list of records"]),
    "a named split missing": (
        setting(dataset__files={"test": "other.jsonl"}), DATA, ["other.jsonl: no such file (dataset.files.test)"],
    ),
    "a field that is not kept": (setting(dataset__fields=["idx"]), DATA, ["leaves out 'premise'"]),
    "a field that is not there": (
        setting(generation__field_to_rephrase="text"), DATA, ["no record has a field 'text'", "premise"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_files_are_explained(case: str, root: Path) -> None:
    change, code, words = CASES[case]
    change(root)
    done = call(root, *GENERATE)
    assert (done.code, done.out) == (code, ""), done.err
    assert [word for word in words if word not in done.err] == []
    assert not (root / "tracker.db").exists()
    assert not (root / "Data_v2").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "Missing argument 'CONFIG...'"),
        (["none.yaml"], CONFIG, "none.yaml"),
        (["empty"], CONFIG, "no .yaml files in this directory"),
        (["copa.yaml", "--batch", "a/b"], CONFIG, "--batch: 'a/b' holds a separator"),
        (["copa.yaml", "--batch", ".."], CONFIG, "--batch: '..' is no name for a directory"),
        (["copa.yaml", "--batch", ""], CONFIG, "--batch: '' is no name for a directory"),
        (["copa.yaml", "--limit", "0"], 2, "'--limit'"),
        (["copa.yaml", "--max-cost", "-1"], 2, "'--max-cost'"),
        (["copa.yaml", "--set", "temperature"], CONFIG, "expected key=value"),
        (["copa.yaml", "--set", "generation.temperature=[1"], CONFIG, "--set generation.temperature:1: expected"),
        (["copa.yaml", "--set", "task_name.x=1"], CONFIG, "--set task_name.x"),
        (["copa.yaml", "--set", "generation.temperature=hot"], CONFIG, "--set generation.temperature: "),
        (["copa.yaml", "--frsh"], 2, "--fresh"),
    ],
)
def test_bad_arguments_are_explained(arguments: list[str], code: int, words: str, root: Path) -> None:
    (root / "empty").mkdir()
    write_config(root, config(task_name="copa"))
    done = call(root, "generate", *arguments, "--no-mlflow")
    assert done.code == code, done.err
    assert words in done.err
    assert not (root / "tracker.db").exists()


def test_a_command_that_is_not_there(root: Path) -> None:
    done = call(root, "genrate", "copa.yaml")
    assert (done.code, "Did you mean generate?" in done.err) == (2, True)


@pytest.mark.parametrize("case", ["broken YAML", "all problems at once", "input not JSONL", "a call"])
def test_the_process_ends_without_a_traceback(case: str, root: Path) -> None:
    change, code, words = CASES[case]
    change(root)
    done = execute(root, *GENERATE)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("Error: ")
    assert "Traceback" not in done.err
    assert [word for word in words if word not in done.err] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_files_that_may_not_be_read(root: Path) -> None:
    (root / TRAIN).chmod(0)
    assert call(root, *GENERATE).code == DATA
    (root / "copa.yaml").chmod(0)
    done = call(root, *GENERATE)
    assert (done.code, "Permission denied" in done.err) == (CONFIG, True)


def test_a_key_that_no_header_can_carry(root: Path) -> None:
    write_config(root, config(generation__provider="openai", generation__model="gpt-4o"))
    done = call(root, *GENERATE, environ={"OPENAI_API_KEY": "sk-äöü"})
    assert done.code == 9
    assert "Set it again without quotes, spaces or line breaks" in done.err
    assert "äöü" not in done.err


def test_data_of_many_bad_lines_is_not_listed_for_ever(root: Path) -> None:
    write_lines(root / TRAIN, [{**record, "premise": ""} for record in records(100)])
    done = call(root, *GENERATE)
    assert "and 80 more" in done.err
    assert len(done.err.splitlines()) < 30
