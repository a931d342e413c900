from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.annotating.agreement import agreement, difference, standing
from pipeline.annotating.annotations import History
from pipeline.two_stage import NOT_THE_SAME, SAME, SKIPPED
from tests.annotating import decision, having, history_of
from tests.two_stage import drafted, reviewed
from tracker.errors import UnknownReference


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> History:
    root: Path = reviewed(drafted(tmp_path_factory.mktemp("agreement")))
    return having(history_of(root), [])


def test_what_both_answered_is_compared_and_skips_are_left_out(plain: History) -> None:
    history = having(
        plain,
        [
            *(decision(number, "bob") for number in (5, 6, 7, 9)),
            *(decision(number, "alice") for number in (5, 6, 7, 8)),
            decision(6, "alice", NOT_THE_SAME, note="another tense"),
            decision(7, "bob", SKIPPED),
        ],
    )
    found = agreement(history)
    assert found.answered == {"alice": 4, "bob": 3}
    [pair] = found.pairs
    assert pair.annotators == ("alice", "bob")
    assert pair.verdicts == {4: (SAME, SAME), 5: (NOT_THE_SAME, SAME)}
    assert (pair.n, pair.differing, pair.observed, pair.kappa) == (2, [5], 0.5, 0.0)
    assert pair.confusion == {SAME: {SAME: 1, NOT_THE_SAME: 0}, NOT_THE_SAME: {SAME: 1, NOT_THE_SAME: 0}}


def test_an_answer_that_settled_a_dispute_is_no_independent_one(plain: History) -> None:
    history = having(
        plain,
        [
            decision(5, "alice"),
            decision(5, "bob", NOT_THE_SAME),
            decision(5, "alice", NOT_THE_SAME, settles=1),
            decision(5, "carol", SAME, settles=1),
        ],
    )
    found = agreement(history)
    assert found.answered == {"alice": 1, "bob": 1}
    assert [pair.verdicts for pair in found.pairs] == [{4: (SAME, NOT_THE_SAME)}]


def test_every_two_annotators_are_a_pair_also_without_a_common_sample(plain: History) -> None:
    history = having(plain, [decision(5, "carol"), decision(5, "alice"), decision(6, "bob")])
    found = agreement(history)
    assert [pair.annotators for pair in found.pairs] == [("alice", "bob"), ("alice", "carol"), ("bob", "carol")]
    apart = found.pairs[0]
    assert (apart.n, apart.observed, apart.kappa) == (0, None, None)


@pytest.mark.parametrize("decided", [[], [decision(5, "alice"), decision(6, "alice")]])
def test_one_annotator_or_none_is_no_pair(plain: History, decided: list[dict[str, object]]) -> None:
    assert agreement(having(plain, decided)).pairs == []


def test_a_range_is_a_part_of_the_checkpoints(plain: History) -> None:
    history = having(plain, [decision(number, name) for number in (2, 5, 9) for name in ("alice", "bob")])
    assert list(agreement(history).pairs[0].verdicts) == [1, 4, 8]
    assert list(agreement(history, "5-16").pairs[0].verdicts) == [4, 8]
    with pytest.raises(UnknownReference, match="5-17"):
        agreement(history, "5-17")


def test_a_difference_has_all_that_is_needed_to_decide(tmp_path: Path) -> None:
    from tests.two_stage import OFFLINE, decide

    root = reviewed(drafted(tmp_path))
    decide(root, OFFLINE, "annotation", annotator="alice")
    decide(root, OFFLINE, "annotation", {6}, annotator="bob")
    history = history_of(root)
    [pair] = agreement(history, "5-16").pairs
    assert pair.differing == [5]
    assert standing(history, 5) is None
    assert difference(history, pair, 5) == {
        "sample": 6,
        "checkpoint": "annotation",
        "verdicts": {"alice": SAME, "bob": NOT_THE_SAME},
        "notes": {"alice": "", "bob": ""},
        "stands": None,
        "original": "The man in house 005 fell.",
        "rephrased": "A man in house 005 fell.",
        "original_marked": "[-The-] man in house 005 fell.",
        "rephrased_marked": "{+A+} man in house 005 fell.",
    }
