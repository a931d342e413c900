"""The records of finished data, in each of its formats, and which original each was made of."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from pipeline.importing.files import Kept
from pipeline.importing.records import Matched, Records, match, read_records

RECORDS = ({"text": "Naïve", "n": 1}, {"text": "b", "n": 2})
LINES = "".join(f"{json.dumps(each)}\n" for each in RECORDS).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("copa_train.jsonl", LINES),
        ("copa_train.jsonl", b"\xef\xbb\xbf" + LINES),
        ("copa_train.jsonl.GZ", gzip.compress(LINES, mtime=0)),
        ("copa_train.json", json.dumps(RECORDS).encode()),
        ("copa_train.json.gz", gzip.compress(json.dumps(RECORDS).encode(), mtime=0)),
    ],
)
def test_every_format_gives_the_same_records(name: str, content: bytes) -> None:
    assert read_records(Kept(f"Copa/{name}", content)) == Records(RECORDS, 2)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", LINES + b'{"text": "\xff"}\n', "3: not UTF-8"),
        ("a.jsonl.gz", LINES, "1: not gzip: "),
        ("a.json", b'[{"text": "a"}', "1: not JSON: "),
        ("a.json", b'{"text": "a"}', "1: no list of records"),
        ("a.json", b'[{"text": "a"}, 7]', "record 2: no object"),
    ],
)
def test_what_is_no_record_is_told(name: str, content: bytes, said: str) -> None:
    (problem,) = read_records(Kept(name, content)).problems
    assert problem.startswith(said)


def test_gzip_is_opened_within_bounds() -> None:
    assert read_records(Kept("a.jsonl.gz", gzip.compress(LINES)), len(LINES)).values == RECORDS
    said = f"1: larger than {len(LINES) - 1} bytes when it is unpacked"
    assert read_records(Kept("a.jsonl.gz", gzip.compress(LINES)), len(LINES) - 1).problems == (said,)


def test_gzip_is_read_to_its_end_or_told() -> None:
    first, second = (gzip.compress(f"{json.dumps(each)}\n".encode()) for each in RECORDS)
    assert read_records(Kept("a.jsonl.gz", first + second)).values == RECORDS
    for broken in (first[:-4], first + b"more", b""):
        found = read_records(Kept("a.jsonl.gz", broken))
        assert (found.values, found.problems[0][:13]) == ((), "1: not gzip: ")


@pytest.mark.parametrize(
    ("made", "field", "said"),
    [
        ([], None, "it has 0 records, its original 2"),
        ([*RECORDS, {"text": "c"}], None, "it has 3 records, its original 2"),
        (list(RECORDS), None, "it is its original, word for word"),
        ([{"text": "x", "n": 9}, RECORDS[1]], None, "record 1 differs from its original in text, n"),
        ([RECORDS[0], {"text": "x", "n": 9}], "text", "record 2 differs from its original in text, n"),
        ([{"text": "Naïve", "n": "one"}], None, "not every record has text in n"),
    ],
)
def test_records_that_were_not_made_of_the_originals_are_told(
    made: list[dict[str, Any]], field: str | None, said: str
) -> None:
    assert match(RECORDS, made, field) == said


def test_the_first_originals_are_what_fewer_records_were_made_of() -> None:
    assert match(RECORDS, [{"text": "Simple", "n": 1}], None) == Matched("text", (("Naïve", "Simple"),))
