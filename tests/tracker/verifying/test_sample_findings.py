"""Samples and tests of judges that do not fit what they were made of: each is told, with where and how many."""

from __future__ import annotations

from typing import Any

import pytest

from tracker.record.catalogue import Row
from tracker.verifying.sample_findings import (
    Answers,
    checkpoint_findings,
    count_findings,
    judge_findings,
    sample_findings,
)

EXPERIMENT: Row = {
    "id": 1, "dataset": "Copa", "name": "temp07", "n_records": 8,
    "n_accepted": 5, "n_rejected": 1, "n_unclear": 1, "n_failed": 1,
}  # fmt: skip
COUNTED: Row = {"n": 8, "n_accepted": 5, "n_rejected": 1, "n_unclear": 1, "n_failed": 1}
PLAIN = Answers(rephrased=lambda answer, original: answer or original, verdict=str)


def judge_test(**changes: Any) -> Row:
    return {
        "name": "Copa/temp07", "model": "gpt-4o", "created_at": "2026-11-20T21:46:52.123456Z", "n_tested": 20,
        "n_correct": 19, "accuracy": 0.95, "required_accuracy": 0.95, "passed": 1, "own_tested": 20, "own_correct": 19,
        **changes,
    }  # fmt: skip


def unlike(position: int, answer: str | None, rephrased: str = "said") -> Row:
    return {"position": position, "answer": answer, "original": "asked", "rephrased": rephrased}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"own_tested": 21}, ["n_tested is 20, its samples give 21"]),
        ({"own_correct": 18}, ["n_correct is 19, its samples give 18"]),
        ({"accuracy": 0.5}, ["accuracy is 0.5, 19 of 20 give 0.95"]),
        ({"passed": 0}, ["it is recorded as not passed, with 0.95 of 0.95"]),
        ({"required_accuracy": 0.99}, ["it is recorded as passed, with 0.95 of 0.99"]),
        (
            {"n_tested": 0, "n_correct": 0, "own_tested": 0, "own_correct": 0},
            ["accuracy is 0.95, 0 of 0 give 0.0"],
        ),
    ],
)
def test_a_judges_result_is_that_of_its_samples(changes: dict[str, Any], said: list[str]) -> None:
    found = list(judge_findings(judge_test(**changes)))
    assert [each.what for each in found] == said
    assert {each.where for each in found} <= {"Copa/temp07, gpt-4o at 2026-11-20 21:46:52"}


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        ("[0, 2]", []),
        ("[0, 7, 9]", ["the examples of its review name 2 samples that are not there"]),
        ("[0", ["the examples of its review cannot be read"]),
        ("7", ["the examples of its review cannot be read"]),
        ("[[]]", ["the examples of its review cannot be read"]),
    ],
)
def test_examples_are_samples(examples: str, said: list[str]) -> None:
    found = checkpoint_findings(EXPERIMENT, {"name": "review", "examples": examples}, [0, 1, 2])
    assert [each.what for each in found] == said


def test_samples_are_counted_as_people_see_them() -> None:
    rows: list[Row] = [*(unlike(position, None) for position in range(7)), unlike(8, "other")]
    found = sample_findings(EXPERIMENT, rows, [], PLAIN)
    assert [each.what for each in found] == [
        "samples 1, 2, 3, 4, 5 and 2 more have no good answer in the ledger",
        "sample 9 has a rephrased text that its answer in the ledger does not give",
    ]


def test_one_answer_of_several_that_fits_is_enough() -> None:
    rows = [unlike(3, "said"), unlike(3, "other")]
    assert list(sample_findings(EXPERIMENT, rows, [], PLAIN)) == []


def test_a_verdict_follows_from_an_answer_of_the_judge() -> None:
    verdicts: list[Row] = [
        {"position": 1, "answer": "same", "verdict": "same"},
        {"position": 2, "answer": "different", "verdict": "same"},
        {"position": 2, "answer": "same", "verdict": "same"},
        {"position": 4, "answer": None, "verdict": "same"},
        {"position": 5, "answer": "different", "verdict": "same"},
    ]
    (found,) = sample_findings(EXPERIMENT, [], verdicts, PLAIN)
    assert found.what == "samples 5, 6 have a verdict that the judge's answer in the ledger does not give"


@pytest.mark.parametrize(
    ("counted", "said"),
    [
        (COUNTED, []),
        (None, ["n_records is 8, its samples give 0"]),
        ({**COUNTED, "n_unclear": 0, "n_failed": 2}, ["n_unclear is 1, its samples", "n_failed is 1, its samples"]),
    ],
)
def test_counts_are_those_of_the_samples(counted: Row | None, said: list[str]) -> None:
    found = [each.what for each in count_findings(EXPERIMENT, counted)]
    assert len(found) == len(said)
    assert all(what.startswith(begin) for what, begin in zip(found, said, strict=True))
