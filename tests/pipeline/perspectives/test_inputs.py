"""Inputs in every form that is read give the same, and whatever is wrong with them is told with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.perspectives.inputs import Input, read_inputs, sampled, source_of
from pipeline.perspectives.job import Options, prepare_settings
from pipeline.perspectives.plan import Plan
from tests.perspectives import offline
from tracker.errors import DataError
from tracker.paths import Workspace

RECORDS = [{"input": "Grüße\u2028\U0001f600", "reference": "Greetings"}, {"input": "Ohne"}]
INPUTS = (Input("Grüße\u2028\U0001f600", "Greetings"), Input("Ohne"))
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


def write(path: Path, records: list[Any]) -> Path:
    lines = "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)
    match path.name.partition(".")[2]:
        case "json":
            path.write_text(json.dumps(records), encoding="utf-8")
        case "jsonl":
            path.write_bytes(lines.encode())
        case "jsonl.gz":
            path.write_bytes(gzip.compress(lines.encode()))
        case "parquet":
            pq.write_table(pa.Table.from_pylist(records), path)
    return path


def told(path: Path) -> list[tuple[str, str]]:
    """Place and words of each problem of a file; the path is left out."""
    with pytest.raises(DataError) as caught:
        read_inputs(path)
    return [(each.where.removeprefix(str(path)), each.what) for each in caught.value.problems]


def plan(root: Path, **changes: Any) -> Plan:
    return prepare_settings(Workspace(root, environ={}), offline(**changes), Options()).plan


@pytest.mark.parametrize("kind", ["json", "jsonl", "jsonl.gz", "parquet"])
def test_every_form_is_read_alike(tmp_path: Path, kind: str) -> None:
    found = read_inputs(write(tmp_path / f"x.{kind}", RECORDS))
    assert found.inputs == INPUTS
    assert found.unused == ()


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_a_byte_order_mark_and_blank_lines_are_no_content(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"x.{kind}", RECORDS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert read_inputs(path).inputs == INPUTS


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({}, "no field 'input'"),
        ({"text": "x"}, "no field 'input'"),
        ({"input": ""}, "field 'input' is empty"),
        ({"input": " \n\u3000"}, "field 'input' is empty"),
        ({"input": None}, "field 'input' is NoneType, not text"),
        ({"input": 7}, "field 'input' is int, not text"),
        ({"input": ["x"]}, "field 'input' is list, not text"),
        ({"input": "x", "reference": 7}, "field 'reference' is int, not text"),
        ({"input": "x", "reference": ""}, "field 'reference' is empty"),
        ({"input": "a\0b"}, "field 'input' holds the character U+0000, which no database and no model takes"),
        ({"input": "x", "reference": "\0"}, "field 'reference' holds the character U+0000"),
        ("x", "an input is a JSON object, this is str"),
        (None, "an input is a JSON object, this is NoneType"),
        ([["input", "x"]], "an input is a JSON object, this is list"),
    ],
)
@pytest.mark.parametrize(("kind", "place"), [("json", ", input 2"), ("jsonl", ":2")])
def test_what_is_wrong_with_an_input_is_told_at_its_place(
    tmp_path: Path, kind: str, place: str, record: Any, words: str
) -> None:
    [(where, what)] = told(write(tmp_path / f"x.{kind}", [{"input": "good"}, record]))
    assert where == place
    assert what.startswith(words)


@pytest.mark.parametrize(("name", "form"), [("x.json", "[{}, {}]"), ("x.jsonl", "{}\n{}\n")])
@pytest.mark.parametrize("key", ["input", "reference", "note"])
def test_of_two_equal_keys_neither_wins(tmp_path: Path, name: str, form: str, key: str) -> None:
    path = tmp_path / name
    # What is in fields that nobody uses is nobody's affair.
    good = '{"input": "x", "note": {"a": 1, "a": 2}}'
    path.write_text(form.format(good, f'{{"input": "y", "{key}": "a", "other": 1, "{key}": "b"}}'), encoding="utf-8")
    place = ", input 2" if name == "x.json" else ":2"
    assert told(path) == [(place, f"the key {key!r} stands there twice")]


def test_lines_are_counted_with_the_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('\n{"input": "a"}\n\nnonsense\n{"input": "\\ud800"}\n{"input": NaN}\n', encoding="utf-8")
    assert [where for where, _ in told(path)] == [":4", ":5", ":6"]
    assert "half of a surrogate pair" in told(path)[1][1]


def test_the_first_problems_are_told_and_the_number_of_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", [{"input": ""}] * 23)
    found = told(path)
    assert [where for where, _ in found[:-1]] == [f", input {number}" for number in range(1, 21)]
    assert found[-1] == ("", "and 3 more")
    assert told(write(path, [{"input": ""}] * 21))[-1] == ("", "and 1 more")
    assert len(told(write(path, [{"input": ""}] * 20))) == 20


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", b"input\nx\n", "expected .json, .jsonl, .jsonl.gz, .parquet"),
        ("x.json", b"", "not JSON"),
        ("x.json", b"[]", "no inputs"),
        ("x.json", b'{"input": "x"}', "one list"),
        ("x.json", b'[{"input": "x"}', "not JSON"),
        ("x.json", b'[{"input": "\\ud800"}]', "half of a surrogate pair"),
        ("x.json", b"[" * 100_000, "nested too deeply"),
        ("x.jsonl", b"", "no inputs"),
        ("x.jsonl", b"\n \n", "no inputs"),
        ("x.jsonl", '{"input": "Grüße"}'.encode("latin-1"), "byte 0xfc"),
        ("x.jsonl.gz", b"no gzip", "gzip"),
        ("x.parquet", b"no parquet", "arquet"),
    ],
)
def test_a_file_that_is_no_list_of_inputs_is_told_of(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.") as caught:
        read_inputs(path)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["none.json", "directory.json", f"{'x' * 300}.json"])
def test_a_file_that_is_not_there_is_told_of(tmp_path: Path, name: str) -> None:
    (tmp_path / "directory.json").mkdir()
    with pytest.raises(DataError, match="no such file") as caught:
        read_inputs(tmp_path / name)
    assert "data_config.input_data_path" in str(caught.value)


def test_fields_that_no_agent_sees_are_told_of(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.json", [{"id": 1, "input": "a", "note": None}, {"input": "b", "reference": "c", "z": []}]
    )
    assert read_inputs(path).unused == ("id", "note", "z")
    job = prepare_settings(Workspace(tmp_path, environ={}), offline(data_config__input_data_path=str(path)), Options())
    assert [warning.removeprefix(f"{path}: ") for warning in job.warnings] == [
        "the fields id, note, z are not used; agents see `input` alone."
    ]


@pytest.mark.parametrize(("kind", "place"), [("jsonl", ":4"), ("json", ", input 2")])
def test_a_reference_that_is_to_be_put_in_front_and_missing_is_told_at_its_place(
    tmp_path: Path, kind: str, place: str
) -> None:
    path = write(tmp_path / f"inputs.{kind}", RECORDS)
    path.write_bytes(path.read_bytes().replace(b'}\n{"', b'}\n\n\n{"'))
    changes = {"data_config__input_data_path": str(path)}
    assert len(plan(tmp_path, **changes).inputs) == 2
    with pytest.raises(DataError) as caught:
        plan(tmp_path, add_references=True, **changes)
    [problem] = caught.value.problems
    assert problem.where == f"{path}{place}"
    assert "no reference" in problem.what


@pytest.mark.parametrize("size", [3, 2_000_000_000])
def test_more_inputs_than_there_are_is_told_with_how_many_there_are(tmp_path: Path, size: int) -> None:
    write(tmp_path / "inputs.json", RECORDS)
    with pytest.raises(DataError, match=rf"is {size:,}, and there are 2 inputs in .*inputs\.json") as caught:
        plan(tmp_path, data_config__sample_size=size)
    assert caught.value.hint == "Lower sample_size, or leave it out to use all."


def test_a_sample_is_the_first_inputs_or_with_a_seed_drawn_in_the_order_of_the_file() -> None:
    everything = list(range(100))
    assert sampled(100, None, None) == sampled(100, 100, 3) == sampled(100, None, 3) == everything
    assert sampled(100, 7, None) == everything[:7]
    # Known, so that a seed means the same for ever.
    assert sampled(100, 7, 3) == [0, 20, 28, 31, 74, 76, 89]
    assert sampled(100, 7, 4) != [0, 20, 28, 31, 74, 76, 89]


@given(st.integers(1, 100), st.integers(0, 2**63 - 1))
def test_a_drawn_sample_has_its_size_holds_nothing_twice_and_is_part_of_a_larger_one(size: int, seed: int) -> None:
    drawn = sampled(100, size, seed)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == size
    assert sampled(100, size, seed) == drawn
    assert set(drawn) <= set(sampled(100, min(100, size + 5), seed))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXT, st.none() | TEXT), min_size=1, max_size=4))
def test_what_is_stored_is_what_was_read(tmp_path: Path, texts: list[tuple[str, str | None]]) -> None:
    records = [{"input": text, **({} if reference is None else {"reference": reference})} for text, reference in texts]
    found = [read_inputs(write(tmp_path / f"x.{kind}", records)).inputs for kind in ("json", "jsonl")]
    assert found[0] == found[1] == tuple(Input(*each) for each in texts)
    source = source_of("t", tmp_path / "x.json", "x.json", found[0])
    assert list(source.records) == records
    assert source.splits[0].n_records == len(records)


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
def test_where_inputs_lie_and_in_which_form_makes_no_other_data_set(tmp_path: Path, kind: str) -> None:
    first = write(tmp_path / "inputs.json", RECORDS)
    other = write(tmp_path / f"other.{kind}", [{"id": 1, **record} for record in RECORDS])
    both = [plan(tmp_path, data_config__input_data_path=str(path)) for path in (first, other)]
    assert both[0].identity == both[1].identity


def test_inputs_are_in_the_identity_as_they_are_used(tmp_path: Path) -> None:
    write(tmp_path / "inputs.json", [{"input": str(number)} for number in range(5)])
    by_size = {size: plan(tmp_path, data_config__sample_size=size).identity.fingerprint for size in (2, 5, None)}
    assert by_size[5] == by_size[None] != by_size[2]
    drawn = plan(tmp_path, data_config__sample_size=2, seed=3)
    write(tmp_path / "inputs.json", [{"input": each.text} for each in drawn.inputs])
    assert plan(tmp_path).identity.fingerprint == drawn.identity.fingerprint != by_size[2]
