from __future__ import annotations

from typing import Any

import pytest

from pipeline.annotating.annotations_row import MEANINGS, Given, other_text, parsed
from pipeline.two_stage import NOT_THE_SAME, SAME, SKIPPED
from tests.annotating import MOMENT, decision


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ("same", SAME), ("Same ", SAME), ("APPROVE", SAME), ("approved", SAME),
        ("not the same", NOT_THE_SAME), ("not_the_same", NOT_THE_SAME), ("Not-The  Same", NOT_THE_SAME),
        ("reject", NOT_THE_SAME), ("Rejected", NOT_THE_SAME), ("skip", SKIPPED), ("skipped", SKIPPED),
    ],
)  # fmt: skip
def test_a_verdict_is_read_leniently_in_form(given: str, verdict: str) -> None:
    assert MEANINGS["verdict"](given) == verdict


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("verdict", "yes"), ("verdict", "the same"), ("verdict", "same!"), ("verdict", "unclear"), ("verdict", True),
        ("verdict", 1), ("verdict", ["same"]), ("annotator", 7), ("annotator", "a\nb"), ("annotator", "a\x1b[31m"),
        ("note", 7), ("note", "a\0b"), ("note", {}), ("settles", "yes"), ("settles", 1),
        ("decided_at", "yesterday"), ("decided_at", 1732200000), ("decided_at", "2026-11-20T21:46:52"),
        ("decided_at", "0001-01-01T00:00:00+23:00"), ("decided_at", "9999-12-31T23:59:59-23:00"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_told_with_its_name(name: str, given: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} "):
        MEANINGS[name](given)


@pytest.mark.parametrize(
    ("name", "given", "meaning"),
    [
        ("annotator", " alice ", "alice"), ("annotator", "", None), ("annotator", None, None),
        ("annotator", "Zoë O'Neil", "Zoë O'Neil"), ("note", None, None), ("note", "two\nlines", "two\nlines"),
        ("settles", None, None), ("settles", False, False), ("decided_at", None, None), ("decided_at", MOMENT, MOMENT),
        ("decided_at", "2024-11-20T22:46:52+01:00", MOMENT), ("decided_at", "2024-11-20 21:46:52Z", MOMENT),
    ],
)  # fmt: skip
def test_the_other_fields_have_their_meanings(name: str, given: Any, meaning: Any) -> None:
    assert MEANINGS[name](given) == meaning


@pytest.mark.parametrize(
    "line", ["{broken", "[1]", "7", "null", '{"a": NaN}', '{"a": "\\ud800"}', "[" * 100_000, '{"a": 1} {"b": 2}']
)
def test_a_line_holds_one_object(line: str) -> None:
    with pytest.raises(ValueError, match=r"not JSON|a row is a JSON object"):
        parsed(line)


def test_a_text_must_be_the_samples_but_for_blanks_around_it() -> None:
    assert list(other_text("original_premise", None, "It rained.", 4)) == []
    assert list(other_text("original_premise", " It rained.\n", "It rained. ", 4)) == []
    assert list(other_text("original_premise", "It snowed.", "It rained.", 4)) == [
        'original_premise is "It snowed.", that of sample 5 is "It rained."'
    ]
    assert list(other_text("original_premise", 7, "It rained.", 4)) == [
        'original_premise is "7", that of sample 5 is "It rained."'
    ]
    assert len(list(other_text("original_premise", "It  rained.", "It rained.", 4))) == 1


@pytest.mark.parametrize("at", [0, 30, 100, 199])
def test_long_texts_are_shown_where_they_differ(at: int) -> None:
    known = "".join(chr(ord("a") + number % 26) for number in range(200))
    given = f"{known[:at]}#{known[at + 1 :]}"
    [what] = other_text("original_passage", given, known, 0)
    assert "#" in what
    assert len(what) < 200
    assert ("..." in what.partition(",")[0]) == (len(given) > 60)


def test_a_row_that_says_nothing_of_a_note_leaves_it() -> None:
    row = decision(5, "alice", note="another tense", settles=1)
    assert Given(1, 4, SAME, "alice").is_said_by(row)
    assert Given(1, 4, SAME, "alice", "another tense", settles=True).is_said_by(row)
    assert not Given(1, 4, NOT_THE_SAME, "alice").is_said_by(row)
    assert not Given(1, 4, SAME, "alice", "").is_said_by(row)
    assert not Given(1, 4, SAME, "alice", settles=False).is_said_by(row)
