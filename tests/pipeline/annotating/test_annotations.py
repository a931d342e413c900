from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotating.annotations import History, exported, ranges_in_words, within
from pipeline.annotating.annotations_import import read
from pipeline.two_stage import ANNOTATION, NOT_THE_SAME, REVIEW, SAME, SKIPPED
from tests.annotating import MOMENT, decision, having, history_of, jsonl
from tests.two_stage import OFFLINE, drafted, generated, reviewed, staged
from tests.workspaces import new_root, write_config
from tracker.clock import to_text
from tracker.errors import UnknownReference, WrongStep

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def at_review(tmp_path_factory: pytest.TempPathFactory) -> History:
    return history_of(drafted(tmp_path_factory.mktemp("review")))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> History:
    return having(history_of(reviewed(drafted(tmp_path_factory.mktemp("annotation")))), [])


def without_idx(history: History) -> History:
    records = {at: json.loads(line) for at, line in history.lines.items()}
    return replace(
        history,
        lines={at: json.dumps({key: record[key] for key in record if key != "idx"}) for at, record in records.items()},
    )


def test_a_sample_without_a_decision_has_a_line_to_be_filled_in(plain: History) -> None:
    first = exported(plain)[0]
    assert first == {
        "sample": 5,
        "idx": 4,
        "original_premise": "The man in house 004 fell.",
        "rephrased_premise": "A man in house 004 fell.",
        "record": {"choice1": "He slipped.", "choice2": "He slept.", "question": "cause", "idx": 4, "label": 0},
        "verdict": None,
        "annotator": None,
        "note": "",
        "settles": False,
        "decided_at": None,
    }


def test_what_is_closed_has_no_line_to_be_filled_in(plain: History) -> None:
    assert [line["sample"] for line in exported(plain)] == list(range(5, 17))
    history = having(plain, [decision(1, "bob"), decision(2, "alice")])
    assert [line["sample"] for line in exported(history)] == [1, 2, *range(5, 17)]
    assert [line["sample"] for line in exported(history, annotator="bob")] == [1, *range(5, 17)]
    with pytest.raises(WrongStep, match=f"carol decided nothing on samples 1-4 of {OFFLINE}, and no more") as found:
        exported(history, "1-4", "carol")
    assert found.value.hint == f"What everybody decided: synthtrack annotations export {OFFLINE}"


@pytest.mark.parametrize("status", ["complete", "partial"])
def test_a_finished_experiment_has_no_line_to_be_filled_in(plain: History, status: str) -> None:
    state = replace(plain.state, experiment={**plain.state.experiment, "status": status})
    history = replace(having(plain, [decision(9, "bob")]), state=state)
    assert [line["sample"] for line in exported(history)] == [9]
    with pytest.raises(WrongStep, match=f"alice decided nothing on {OFFLINE}, and no more"):
        exported(history, annotator="alice")


def test_every_annotator_has_a_line_with_the_newest_decision(plain: History) -> None:
    decided = [
        decision(5, "bob", SKIPPED),
        decision(5, "alice", NOT_THE_SAME),
        decision(5, "bob", NOT_THE_SAME, note="another tense", settles=1),
    ]
    lines = exported(having(plain, decided), "5-6")
    told = [(line["sample"], line["annotator"], line["verdict"], line["note"], line["settles"]) for line in lines]
    assert told == [
        (5, "alice", "not the same", "", False),
        (5, "bob", "not the same", "another tense", True),
        (6, None, None, "", False),
    ]
    assert [line["decided_at"] for line in lines] == [MOMENT, MOMENT, None]


def test_a_person_gets_their_own_decisions_and_the_rest_to_be_filled_in(plain: History) -> None:
    history = having(plain, [decision(5, "alice"), decision(6, "alice"), decision(6, "bob", SKIPPED)])
    lines = exported(history, "5-7", "bob")
    assert [(line["sample"], line["annotator"], line["verdict"]) for line in lines] == [
        (5, "bob", None),
        (6, "bob", "skipped"),
        (7, "bob", None),
    ]


def test_records_without_an_idx_of_their_own_get_none(plain: History) -> None:
    line = exported(without_idx(plain))[0]
    assert "idx" not in line
    assert "idx" not in line["record"]


def test_only_what_is_rephrased_is_there(at_review: History) -> None:
    assert [line["sample"] for line in exported(at_review)] == [1, 2, 3, 4]
    with pytest.raises(WrongStep, match="no rephrased samples"):
        exported(at_review, "5-16")


def test_a_range_begins_and_ends_in_a_checkpoint(plain: History) -> None:
    assert within(plain.state, None) is None
    assert within(plain.state, "3-9") == range(2, 9)
    for wrong in ("16-17", "20-24"):
        with pytest.raises(UnknownReference) as found:
            within(plain.state, wrong)
        assert found.value.hint == ranges_in_words(plain.state)
    assert ranges_in_words(plain.state) == f"The review of {OFFLINE} is of 1-4, its annotation of 5-8 and 9-16."


def test_a_range_may_go_over_a_gap_between_the_ranges(tmp_path: Path) -> None:
    root = drafted(tmp_path, validation__test_range="11-16")
    history = history_of(reviewed(root))
    lines = exported(history, "8-11")
    assert [line["sample"] for line in lines] == [8, 11]


def test_a_checkpoint_is_known_by_its_ranges(plain: History) -> None:
    assert [plain.checkpoint(at) for at in (0, 3, 4, 15, 16)] == [REVIEW, REVIEW, ANNOTATION, ANNOTATION, None]


def test_a_trial_of_the_first_records_knows_no_others(tmp_path: Path) -> None:
    root = new_root(tmp_path, 24)
    write_config(root, staged())
    generated(root, "--limit", "20")
    assert sorted(history_of(root, f"{OFFLINE}_first20").by_idx.values()) == list(range(20))


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
names = st.text(st.characters(categories=["L", "N", "P", "S"], codec="utf-8"), min_size=1, max_size=8)

# Up to the end of 2024: no answer is of the future.
moments = st.integers(0, 1_735_689_599_999_999).map(lambda us: to_text(EPOCH + timedelta(microseconds=us)))


@given(
    st.lists(
        st.builds(
            decision,
            st.integers(1, 16),
            names,
            st.sampled_from([SAME, NOT_THE_SAME, SKIPPED]),
            note=words,
            settles=st.booleans(),
            decided_at=moments,
        )
    )
)
def test_what_is_exported_is_read_as_it_was(plain: History, decided: list[dict[str, Any]]) -> None:
    history = having(plain, decided)
    text = jsonl(exported(history))

    found = read(plain, text, "f")
    assert found.problems == []
    newest = [row for at in range(16) for row in history.newest(at).values()]
    columns = ("position", "annotator", "verdict", "note", "settles", "decided_at")
    assert [[getattr(given, column) for column in columns] for given in found.answers] == [
        [row[column] for column in columns] for row in newest
    ]

    again = read(history, text, "f")
    assert (again.answers, again.problems, again.n_unchanged) == ([], [], len(newest))
    assert again.n_unanswered == 12 - len({row["position"] for row in newest if row["position"] > 3})
    assert again.renamed == Counter()
