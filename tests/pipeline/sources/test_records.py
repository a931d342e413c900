"""Source data as it is found: every format, every split, and a DataError with its line for all that is wrong."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.records import Source, read_source, source_of_splits
from pipeline.specs import DatasetSpec
from tests.generation import RECORDS, write_records
from tracker.errors import DataError
from tracker.fingerprint import bytes_digest

ORIGINAL = Path(__file__).parents[4] / "shared" / "data" / "original"
CR, SEPARATOR = "\r", "\u2028"


def read(path: Path, field: str = "premise", **settings: Any) -> Source:
    return read_source(DatasetSpec.model_validate({"input_path": str(path), **settings}), field, Path)


def problems(path: Path, field: str = "premise", **settings: Any) -> list[str]:
    """What is wrong with a file, as ``line: what``."""
    with pytest.raises(DataError) as caught:
        read(path, field, **settings)
    return [str(problem).replace(f"{path}:", "", 1).strip() for problem in caught.value.problems]


def jsonl(tmp_path: Path, *lines: str | dict[str, Any], end: str = "\n") -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path = tmp_path / "copa_train.jsonl"
    path.write_bytes(end.join(texts).encode())
    return path


def test_the_records_and_what_is_copied(tmp_path: Path) -> None:
    found = read(write_records(tmp_path / "Copa"))
    assert (found.name, found.task_name, found.missing) == ("Copa", "copa", ())
    assert list(found.records) == RECORDS
    assert [(split.name, split.filename, split.n_records) for split in found.splits] == [
        ("train", "copa_train.jsonl", 3),
        ("validation", "copa_validation.jsonl", 1),
        ("test", "copa_test.jsonl", 1),
    ]
    content = (tmp_path / "Copa/copa_test.jsonl").read_bytes()
    test = found.splits[2]
    assert test.content is not None
    assert zlib.decompress(test.content) == content
    assert (test.n_bytes, test.digest) == (len(content), bytes_digest([content]))
    train = (tmp_path / "Copa/copa_train.jsonl").read_bytes()
    assert (found.splits[0].n_bytes, found.splits[0].digest) == (len(train), bytes_digest([train]))


def as_gz(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_bytes(gzip.compress("".join(f"{json.dumps(record)}\n" for record in records).encode()))


def as_json(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(records, indent=2))


def as_parquet(path: Path, records: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(records), path)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [(".jsonl.gz", as_gz), (".json", as_json), (".parquet", as_parquet)],
    ids=[".jsonl.gz", ".json", ".parquet"],
)
def test_other_formats_hold_the_same_records(tmp_path: Path, suffix: str, write: Any) -> None:
    directory = tmp_path / "Copa"
    directory.mkdir()
    for split, records in (("train", RECORDS), ("validation", RECORDS[:2]), ("test", RECORDS[:1])):
        write(directory / f"copa_{split}{suffix}", records)
    found = read(directory / f"copa_train{suffix}")
    assert list(found.records) == RECORDS
    assert [(split.filename, split.n_records) for split in found.splits] == [
        ("copa_train.jsonl", 3),
        (f"copa_validation{suffix}", 2),
        (f"copa_test{suffix}", 1),
    ]


def test_splits_under_other_names_in_another_directory(tmp_path: Path) -> None:
    write_records(tmp_path / "a", stem="ARC-Challenge")
    (tmp_path / "a/ARC-Challenge_train.jsonl").rename(tmp_path / "b.jsonl")
    files = {"validation": "ARC-Challenge_validation.jsonl", "test": "ARC-Challenge_test.jsonl"}
    found = read(
        tmp_path / "b.jsonl", original_dir=str(tmp_path / "a"), files=files, dataset_name="ArcC", task_name="arc"
    )
    assert (found.name, found.task_name) == ("ArcC", "arc")
    assert [split.filename for split in found.splits] == ["b.jsonl", *files.values()]
    spec = DatasetSpec.model_validate({"original_dir": str(tmp_path), "files": {"train": "b.jsonl"}})
    assert read_source(spec, "premise", Path).lines == found.lines


def test_missing_splits_are_said_unless_they_were_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path, RECORDS[0])
    assert read(path).missing == (
        f"validation ({tmp_path}/copa_validation.jsonl)",
        f"test ({tmp_path}/copa_test.jsonl)",
    )
    with pytest.raises(DataError, match=r"other\.jsonl: no such file \(dataset\.files\.test\)"):
        read(path, files={"test": "other.jsonl"})


def test_two_splits_with_one_file_name(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        jsonl(tmp_path / split, RECORDS[0]).rename(tmp_path / split / "data.jsonl")
    with pytest.raises(DataError, match=r"data\.jsonl, data\.jsonl would be one file"):
        read(tmp_path / "train/data.jsonl", files={"test": "../test/data.jsonl"})


@pytest.mark.parametrize("name", ["-train.jsonl", ".hidden_train.jsonl", "a\\b.jsonl", f"{'a' * 200}.jsonl"])
def test_a_file_name_that_the_synthetic_data_cannot_have(tmp_path: Path, name: str) -> None:
    jsonl(tmp_path, RECORDS[0]).rename(tmp_path / name)
    with pytest.raises(DataError, match="the train split: ") as caught:
        read(tmp_path / name)
    assert caught.value.problems[0].where == str(tmp_path / name)
    train = jsonl(tmp_path, RECORDS[0])
    with pytest.raises(DataError, match="the test split: "):
        read(train, files={"test": name})
    with pytest.raises(DataError, match=r"the train split: '-copa_train\.jsonl'"):
        source_of_splits(DatasetSpec(hub="super_glue/-copa"), {"train": RECORDS}, "premise")


def test_only_the_fields_that_are_kept_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write_records(tmp_path / "Copa")
    found = read(path, fields=["label", "premise"])
    assert found.lines[0] == '{"premise": "It rained.", "label": 0}'
    assert found.digest != read(path).digest
    assert problems(path, fields=["label"]) == ["dataset.fields leaves out 'premise', which is to be rephrased"]
    assert problems(path, fields=["premise", "mood"]) == [f"{line}: no field 'mood'" for line in (1, 2, 3)]


def test_lines_stand_as_they_are_in_the_file(tmp_path: Path) -> None:
    lines = ['{"premise" : "caf\\u00e9", "x": 1.0, "y": 1e-6}', f'{{"premise": "a{SEPARATOR}b\x85c", "x": [ ]}}']
    assert read(jsonl(tmp_path, *lines)).lines == tuple(lines)
    assert read(jsonl(tmp_path, *lines, end="\r\n")).lines == tuple(lines)
    assert read(jsonl(tmp_path, f"\ufeff{lines[0]}", lines[1], "")).lines == tuple(lines)


def test_every_bad_line_is_named_with_its_number(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path,
        {"premise": "a", "idx": 0},
        "",
        "   ",
        "{not json}",
        "[1]",
        {"text": "a"},
        {"premise": 3},
        {"premise": "  "},
        {"premise": "b", "idx": 0.0},
        {"premise": "c", "idx": None},
        {"premise": "d", "idx": None},
        {"premise": "e", "idx": {"paragraph": 1, "question": 2}},
        {"premise": "f", "idx": {"question": 2, "paragraph": 1}},
    )
    assert problems(path) == [
        "4: not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "5: a record is a JSON object, this is list",
        "6: no field 'premise'",
        "7: field 'premise' holds no text",
        "8: field 'premise' holds no text",
        "9: idx 0.0 was in line 1 already",
        '13: idx {"question": 2, "paragraph": 1} was in line 12 already',
    ]
    with pytest.raises(DataError, match=r"Fields of its records: premise, idx, text\."):
        read(path)


def test_the_character_that_no_database_takes(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path,
        {"premise": "a\0b"},
        {"premise": "a", "\0": 1},
        {"premise": "a", "x": [{"y": "\0"}]},
        r'{"premise": "\\u0000 is how it is written"}',
    )
    what = "the character U+0000, which no database and no model takes"
    assert problems(path) == [f"{line}: {what}" for line in (1, 2, 3)]
    with pytest.raises(DataError, match=rf"super_glue/copa:2: {re.escape(what)}"):
        source_of_splits(DatasetSpec(hub="super_glue/copa"), {"train": [RECORDS[0], {"premise": "\0"}]}, "premise")


def test_many_bad_lines_are_counted(tmp_path: Path) -> None:
    assert problems(jsonl(tmp_path, *["x"] * 25))[-1] == "and 5 more"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"premise": "a", "x": NaN}', "not JSON: NaN is no JSON"),
        ('{"premise": "a", "x": -Infinity}', "not JSON: -Infinity is no JSON"),
        ('{"premise": "a", "x": 1e999}', "not JSON: inf has no JSON form"),
        ('{"premise": "a\\ud800"}', "not JSON: half of a surrogate pair, which is no text"),
        ('{"premise": "a", "x": ' + "[" * 100_000, "not JSON: nested too deeply"),
        ('{"premise": "a", "x": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit"),
        ('{"premise": "a"} {"premise": "b"}', "not JSON: Extra data"),
    ],
)
def test_what_python_takes_for_json_and_nobody_else(tmp_path: Path, line: str, what: str) -> None:
    (found,) = problems(jsonl(tmp_path, line))
    assert found.startswith(f"1: {what}")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file(tmp_path: Path, content: bytes) -> None:
    path = jsonl(tmp_path)
    path.write_bytes(content)
    assert problems(path) == ["no records"]


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = jsonl(tmp_path)
    path.write_bytes(b'{"premise": "a"}\n\n{"premise": "caf\xe9"}\n')
    assert problems(path) == ["3: byte 0xe9"]
    path.write_bytes('{"premise": "a"}'.encode("utf-16"))
    assert problems(path) == ["1: byte 0xff"]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.jsonl.gz", b"no gzip", "Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b'{"premise": "a"}' * 99, mtime=0)[:30], "Compressed file ended"),
        ("a.json", b'{"premise": "a"}', "one list of records"),
        ("a.json", b'[{"premise": "a"', "not JSON"),
        ("a.json", b'[{"premise": "a", "x": NaN}]', "NaN is no JSON"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.parquet", b"no parquet", "Parquet"),
        ("a.csv", b"premise\na\n", "expected a file that ends in .jsonl"),
    ],
)
def test_a_file_that_is_not_what_it_is_called(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert what in problems(path)[0]


def test_a_broken_file_is_broken_as_a_copied_split_too(tmp_path: Path) -> None:
    path = write_records(tmp_path / "Copa")
    (tmp_path / "Copa/bad.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"bad\.jsonl\.gz: Not a gzipped file"):
        read(path, files={"test": "bad.jsonl.gz"})


def test_parquet_that_json_cannot_hold(tmp_path: Path) -> None:
    as_parquet(tmp_path / "a.parquet", [{"premise": "a", "day": dt.date(2026, 1, 1)}])
    assert problems(tmp_path / "a.parquet") == ["Object of type date is not JSON serializable"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert problems(tmp_path / "a.jsonl") == ["no such file"]
    assert problems(tmp_path / ("a" * 300 + ".jsonl")) == ["no such file"]
    (tmp_path / "dir.jsonl").mkdir()
    assert problems(tmp_path / "dir.jsonl") == ["not a file"]
    assert "expected a file that ends in" in problems(tmp_path)[0]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"dataset_name": "Other"}, False),
        ({"task_name": "copa"}, True),
        ({"files": {"test": "copa_validation.jsonl"}}, None),
    ],
)
def test_a_digest_stands_for_name_stem_names_and_content(
    tmp_path: Path, changes: dict[str, Any], same: bool | None
) -> None:
    path = write_records(tmp_path / "Copa")
    if same is None:
        with pytest.raises(DataError):
            read(path, **changes)
    else:
        assert (read(path, **changes).digest == read(path).digest) == same


def test_records_in_memory_are_written_as_jsonl() -> None:
    spec = DatasetSpec(hub="super_glue/copa")
    found = source_of_splits(spec, {"train": RECORDS, "validation": RECORDS[:1]}, "premise")
    assert (found.name, found.task_name, found.origin, found.missing) == (
        "Copa",
        "copa",
        "hub:super_glue/copa",
        ("test",),
    )
    assert list(found.records) == RECORDS
    assert [split.filename for split in found.splits] == ["copa_train.jsonl", "copa_validation.jsonl"]
    with pytest.raises(DataError, match="no train split"):
        source_of_splits(spec, {"test": RECORDS}, "premise")
    with pytest.raises(DataError, match="super_glue/copa:2: no field 'mood'"):
        source_of_splits(spec, {"train": [{"mood": "a"}, RECORDS[0]]}, "mood")


def test_a_data_set_in_a_local_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    directory = tmp_path / "sets" / "Tiny"
    directory.mkdir(parents=True)
    for split in ("train", "test"):
        as_parquet(directory / f"{split}.parquet", RECORDS)
    found = read_source(DatasetSpec(hub=str(directory)), "premise", Path)
    assert (found.name, found.task_name) == ("Tiny", "tiny")
    assert list(found.records) == RECORDS
    assert found.missing == ("validation",)


@pytest.mark.parametrize("hub", ["super_glue/copa", "nobody/nothing/none", "x" * 10])
def test_a_data_set_that_cannot_be_had(hub: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    # The hub's client reads HF_HUB_OFFLINE when it is imported; without it, it tries for twenty seconds.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="cannot be had from the hub"):
        read_source(DatasetSpec(hub=hub), "premise", Path)


@pytest.mark.skipif(not ORIGINAL.is_dir(), reason="the original data sets are not here")
@pytest.mark.parametrize(
    ("directory", "stem", "field", "count", "missing"),
    [
        ("Copa", "copa", "premise", 400, 0),
        ("CB", "cb", "premise", 250, 0),
        ("RTE", "rte", "premise", 1000, 0),
        ("BOOLQ", "boolq", "question", 1000, 1),
        ("ArcC_MC", "ARC-Challenge", "question", 1119, 0),
        ("ArcC_Cloze", "ARC-Challenge", "question", 1119, 0),
    ],
)
def test_the_original_data_sets(directory: str, stem: str, field: str, count: int, missing: int) -> None:
    files = {split: f"{stem}_{split}.jsonl" for split in ("train", "validation", "test")}
    if missing:
        del files["test"]
    spec = {"original_dir": str(ORIGINAL / directory), "files": files, "task_name": directory.lower()}
    found = read_source(DatasetSpec.model_validate(spec), field, Path)
    assert (found.name, len(found.lines), len(found.missing)) == (directory, count, missing)
    train = (ORIGINAL / directory / files["train"]).read_bytes()
    assert found.splits[0].digest == bytes_digest([train]), "lines stand as they are"


LINES = st.text() | st.from_regex(
    r'\{"premise": ?("[a-z\\u0-9]{0,6}"|[0-9eE.+-]{1,6}|null), ?"idx": ?[0-9\[\]{}]{0,3}\}', fullmatch=True
)


@given(st.lists(LINES, max_size=6).map("\n".join))
def test_any_text_gives_a_source_or_a_data_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any_train.jsonl"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = read(path)
    except DataError as error:
        # Each problem has its line, or is that there are no records at all.
        lines = {f"{path}:{number}" for number in range(1, text.count("\n") + 2)}
        if {problem.where for problem in error.problems} <= {*lines, str(path)}:
            return
        raise
    assert all(isinstance(record["premise"], str) for record in found.records)
    assert set(found.lines) <= {line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n")}


@given(st.binary(max_size=60), st.sampled_from([".jsonl", ".jsonl.gz", ".json", ".parquet"]))
def test_any_bytes_give_a_source_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any_bytes{suffix}"
    path.write_bytes(content)
    try:
        found = read(path)
    except DataError:
        return
    assert found.lines


def test_a_field_that_no_record_has_is_one_problem_and_not_one_for_each_line(tmp_path: Path) -> None:
    path = tmp_path / "copa_train.jsonl"
    path.write_text("".join(f'{{"premise": "p{number}", "label": 0}}\n' for number in range(50)), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_source(DatasetSpec(input_path=str(path)), "premises", Path)
    assert [problem.what for problem in caught.value.problems] == [
        "no record has a field 'premises' (generation.field_to_rephrase); did you mean 'premise'?"
    ]
