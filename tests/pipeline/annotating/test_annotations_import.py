from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from pipeline.annotating.annotations import History
from pipeline.annotating.annotations_import import Read, read
from pipeline.two_stage import NOT_THE_SAME, REVIEW, SAME, SKIPPED
from tests.annotating import MOMENT, answers, decision, having, history_of, jsonl
from tests.pipeline.annotating.test_annotations import without_idx
from tests.two_stage import drafted, reviewed

LATER = "2024-11-20T22:00:00.000000Z"


@pytest.fixture(scope="module")
def at_review(tmp_path_factory: pytest.TempPathFactory) -> History:
    return history_of(drafted(tmp_path_factory.mktemp("review")))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> History:
    return having(history_of(reviewed(drafted(tmp_path_factory.mktemp("annotation")))), [])


def problems(found: Read) -> list[str]:
    return [str(problem) for problem in found.problems]


def row(**given: Any) -> dict[str, Any]:
    return {"verdict": "same", "annotator": "alice", **given}


def test_a_sample_is_named_by_number_or_by_its_own_idx(plain: History) -> None:
    lines = [row(sample=5), row(idx=5), row(sample=7, idx=6), row(sample=8.0)]
    found = read(plain, jsonl(lines), "f")
    assert problems(found) == []
    assert [given.position for given in found.answers] == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"sample": 5, "idx": 5}, "sample 5 has idx 4, not 5"),
        ({"sample": 0}, "no sample 0: they are 1 to 24"),
        ({"sample": 25}, "no sample 25: they are 1 to 24"),
        ({"sample": 5.5}, "no sample 5.5: they are 1 to 24"),
        ({"sample": "5"}, 'no sample "5": they are 1 to 24'),
        ({"sample": True}, "no sample true: they are 1 to 24"),
        ({"idx": 24}, "no record has idx 24"),
        ({"idx": "4"}, 'no record has idx "4"'),
        ({}, "neither sample nor idx"),
        ({"sample": None, "idx": None}, "neither sample nor idx"),
        ({"sample": 17}, "sample 17 is in no checkpoint"),
        ({"sample": 5, "verdict": "yes"}, 'verdict "yes" is none of: same, not the same, skipped'),
        ({"sample": 5, "original_premise": "It rained."}, 'original_premise is "It rained.", that of sample 5 is '),
        ({"sample": 5, "rephrased_premise": "It rained."}, 'rephrased_premise is "It rained.", that of sample 5 is '),
        ({"sample": 5, "annotator": 7}, "annotator 7 is no name"),
        ({"sample": 5, "annotator": " "}, "no annotator: --annotator NAME says whose answers these are"),
        ({"sample": 5, "decided_at": "2999-01-01T00:00:00Z"}, 'decided_at "2999-01-01T00:00:00Z" is in the future'),
        ({"sample": 5, "decided_at": "now"}, 'decided_at "now" is no time such as 2026-11-20T21:46:52Z'),
    ],
)
def test_what_is_wrong_with_a_row_is_told_with_its_line(plain: History, given: dict[str, Any], what: str) -> None:
    found = read(plain, jsonl([row(sample=6), row(**given)]), "f")
    [told] = problems(found)
    assert told.startswith(f"f:2: {what}")
    assert [answer.position for answer in found.answers] == [5]


def test_every_problem_is_found_at_once_also_several_of_a_row(plain: History) -> None:
    lines = [row(sample=5, verdict="yes", note=7, original_premise="Else."), row(sample=99), row(sample=17)]
    found = read(plain, f"{jsonl(lines)}\n{{broken\n[1]\n", "f")
    assert [told.partition(": ")[0] for told in problems(found)] == ["f:1", "f:1", "f:1", "f:2", "f:3", "f:5", "f:6"]
    assert (found.answers, found.n_elsewhere) == ([], 1)


def test_a_file_without_rows_is_a_mistake(plain: History) -> None:
    assert problems(read(plain, "\n  \n", "f")) == ["f: no rows"]


def test_records_without_an_idx_are_named_by_number(plain: History) -> None:
    found = read(without_idx(plain), jsonl([row(idx=4), row(sample=5)]), "f")
    assert problems(found) == ["f:1: no record has idx 4: no record has one; give sample, from 1 on"]
    assert [given.position for given in found.answers] == [4]


def test_a_missing_annotator_is_told_once(plain: History) -> None:
    lines = answers(5, 8)
    assert problems(read(plain, jsonl(lines), "f")) == [
        "f:1: no annotator here and in 3 more rows: --annotator NAME says whose answers these are"
    ]
    found = read(plain, jsonl(lines), "f", annotator="bob")
    assert [given.annotator for given in found.answers] == ["bob"] * 4


def test_whose_answers_they_are_can_be_said_and_the_others_are_counted(plain: History) -> None:
    lines = [row(sample=5, annotator="bob"), row(sample=6), row(sample=7, annotator=None)]
    found = read(plain, jsonl(lines), "f", annotator="bob")
    assert [given.annotator for given in found.answers] == ["bob"] * 3
    assert found.renamed == Counter(alice=1)


def test_what_is_not_answered_is_counted_and_needs_no_place(plain: History) -> None:
    lines: list[dict[str, Any]] = [{"sample": 5}]
    lines += [{"sample": 20, "verdict": verdict} for verdict in (None, "", " ")]
    found = read(plain, jsonl(lines), "f")
    assert (problems(found), found.answers, found.n_unanswered) == ([], [], 4)


@pytest.mark.parametrize("record", [{}, {"premise": "Else.", "idx": 99, "verdict": "yes"}, None, "text"])
def test_nothing_is_read_from_the_record_that_is_shown(plain: History, record: Any) -> None:
    found = read(plain, jsonl([row(sample=5, record=record)]), "f")
    assert (problems(found), [given.position for given in found.answers]) == ([], [4])


def test_a_range_leaves_out_the_other_rows_whatever_they_say(plain: History) -> None:
    lines = [row(sample=4, verdict="yes"), row(sample=5), row(sample=20, original_premise="Else.")]
    found = read(plain, jsonl(lines), "f", among=range(4, 8))
    assert problems(found) == []
    assert ([given.position for given in found.answers], found.n_outside) == ([4], 2)


def test_a_sample_that_is_not_rephrased_yet_has_no_answer(at_review: History) -> None:
    found = read(at_review, jsonl([row(sample=4), row(sample=5)]), "f")
    assert problems(found) == ["f:2: sample 5 is not rephrased yet"]
    assert found.early == {"annotation"}
    assert at_review.checkpoint(found.answers[0].position) == REVIEW


def test_one_annotator_says_one_thing_of_a_sample(plain: History) -> None:
    lines = [
        row(sample=5),
        row(sample=5, annotator="bob", verdict="rejected"),
        row(sample=5, verdict="approved"),
        row(idx=4, verdict="skip"),
    ]
    found = read(plain, jsonl(lines), "f")
    assert problems(found) == ["f:4: alice says of sample 5 'skipped', and 'same' in line 1"]
    assert [(given.annotator, given.verdict) for given in found.answers] == [("alice", SAME), ("bob", NOT_THE_SAME)]
    assert found.n_unchanged == 1


def test_rows_that_contradict_each_other_do_so_also_where_one_is_known_already(plain: History) -> None:
    history = having(plain, [decision(5, "alice")])
    found = read(history, jsonl([row(sample=5), row(sample=5, verdict="reject")]), "f")
    assert problems(found) == ["f:2: alice says of sample 5 'not the same', and 'same' in line 1"]


def test_what_the_newest_decision_says_is_left_out(plain: History) -> None:
    history = having(plain, [decision(5, "alice", SKIPPED), decision(5, "alice", note="fine", decided_at=LATER)])
    known = [row(sample=5), row(sample=5, note="fine"), row(sample=5, decided_at="2025-01-01T00:00:00Z")]
    for line in known:
        found = read(history, jsonl([line]), "f")
        assert (found.answers, found.n_unchanged) == ([], 1)
    for line in (row(sample=5, verdict="skip"), row(sample=5, note="hm"), row(sample=5, annotator="bob")):
        assert len(read(history, jsonl([line]), "f").answers) == 1


def test_a_file_from_before_somebody_decided_otherwise_brings_nothing_back(plain: History) -> None:
    history = having(plain, [decision(5, "alice"), decision(5, "alice", NOT_THE_SAME, decided_at=LATER)])
    found = read(history, jsonl([row(sample=5, decided_at=MOMENT, note="", settles=False)]), "f")
    assert (found.answers, found.n_unchanged) == ([], 1)


def test_a_verdict_that_was_changed_in_the_file_is_decided_now(plain: History) -> None:
    history = having(plain, [decision(5, "alice")])
    [given] = read(history, jsonl([row(sample=5, verdict="reject", decided_at=MOMENT)]), "f").answers
    assert (given.verdict, given.decided_at) == (NOT_THE_SAME, None)
    [given] = read(history, jsonl([row(sample=5, verdict="reject", decided_at=LATER)]), "f").answers
    assert given.decided_at == LATER


def test_lines_end_at_newlines_only(plain: History) -> None:
    line = json.dumps(row(sample=5, note="one\u2028two\x85three"), ensure_ascii=False)
    [given] = read(plain, f"{line}\r\n\r\n", "f").answers
    assert given.note == "one\u2028two\x85three"


def test_an_older_answer_does_not_replace_a_newer_one_of_the_same_person(plain: History) -> None:
    history = having(plain, [decision(5, "alice", decided_at=LATER)])
    found = read(history, jsonl([row(sample=5, verdict="reject", decided_at="2020-01-01T00:00:00Z")]), "f")
    assert (problems(found), found.answers, found.n_older, found.n_overriding) == ([], [], 1, 0)
    older_of_another = row(sample=5, annotator="bob", verdict="reject", decided_at="2020-01-01T00:00:00Z")
    found = read(history, jsonl([older_of_another]), "f")
    assert ([given.annotator for given in found.answers], found.n_older, found.n_overriding) == (["bob"], 0, 0)


def test_what_answers_override_of_the_same_person_is_counted(plain: History) -> None:
    history = having(plain, [decision(5, "alice"), decision(6, "alice"), decision(7, "bob")])
    lines = [row(sample=5, verdict="reject"), row(sample=6, verdict="reject", decided_at=LATER), row(sample=7)]
    found = read(history, jsonl(lines), "f")
    assert [given.decided_at for given in found.answers] == [None, LATER, None]
    assert (found.n_overriding, found.n_older) == (2, 0)


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ({"note": "fine"}, "note"),
        ({"settles": True}, "settles"),
        ({"decided_at": MOMENT}, "decided_at"),
        ({"note": "fine", "settles": True}, "note and settles"),
    ],
)
def test_two_lines_that_say_the_same_of_a_sample_differ_in_nothing(
    plain: History, second: dict[str, Any], what: str
) -> None:
    found = read(plain, jsonl([row(sample=5), row(sample=5, **second)]), "f")
    assert problems(found) == [f"f:2: alice says the same of sample 5 in line 1, with another {what}"]
    found = read(plain, jsonl([row(sample=5), row(sample=5, note="", settles=False, decided_at=None)]), "f")
    assert (problems(found), len(found.answers), found.n_unchanged) == ([], 1, 1)
