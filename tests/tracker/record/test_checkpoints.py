"""What the answers at a checkpoint come to."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.two_stage import OFFLINE, annotated, decide, drafted, reviewed
from tests.workspaces import rows
from tracker.paths import find_workspace
from tracker.record.catalogue import reading
from tracker.record.checkpoints import (
    ANNOTATION,
    DISPUTED,
    NOT_THE_SAME,
    REVIEW,
    SAME,
    SKIPPED,
    Checkpoints,
    kappa,
    load,
)
from tracker.record.database import open_database
from tracker.record.decisions import Answer, save

MOMENTS = [f"2026-11-20T10:00:0{second}.000000Z" for second in range(6)]

Verdicts = list[tuple[str, str]]


def answer(
    annotator: str, verdict: str, *, position: int = 0, settles: bool = False, moment: int = 0
) -> dict[str, Any]:
    return {
        "checkpoint": ANNOTATION, "position": position, "annotator": annotator, "verdict": verdict, "settles": settles,
        "decided_at": MOMENTS[moment],
    }  # fmt: skip


def checkpoints(*answers: dict[str, Any], closed: dict[str, Any] | None = None) -> Checkpoints:
    return Checkpoints(closed or {}, answers, {"accuracy": 1.0}, {})


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([("alice", SAME)], SAME),
        ([("alice", SAME), ("alice", NOT_THE_SAME)], NOT_THE_SAME),
        ([("alice", SAME), ("bob", NOT_THE_SAME)], DISPUTED),
        ([("alice", SAME), ("bob", SKIPPED)], SAME),
        ([("alice", SKIPPED), ("bob", SKIPPED)], SKIPPED),
        ([("alice", SAME), ("bob", NOT_THE_SAME), ("bob", SAME)], SAME),
        ([("alice", SAME), ("bob", NOT_THE_SAME, True)], NOT_THE_SAME),
        ([("bob", NOT_THE_SAME, True), ("alice", SAME)], NOT_THE_SAME),
        ([("bob", NOT_THE_SAME, True), ("alice", SAME, True)], SAME),
    ],
)
def test_the_verdict_that_stands_is_the_one_of_the_sql_view(
    answers: list[tuple[Any, ...]], expected: str, tmp_path: Path
) -> None:
    root = drafted(tmp_path)
    workspace = find_workspace(str(root))
    with open_database(workspace) as database:
        for annotator, verdict, *settles in answers:
            save(database, 1, REVIEW, [Answer(0, verdict, settles=bool(settles))], annotator=annotator, via="option")
    with reading(workspace) as reader:
        found = load(reader, 1)
    assert found.verdicts(REVIEW) == {0: expected}
    assert rows(root, "SELECT verdict FROM sample_decision") == [(expected,)]


def test_an_open_checkpoint_is_as_it_stood_a_closed_one_is_whole() -> None:
    found = checkpoints(answer("alice", SAME, moment=1), answer("alice", NOT_THE_SAME, moment=3))
    assert found.at(MOMENTS[0], [ANNOTATION]).names == []
    assert found.at(MOMENTS[2], [ANNOTATION]).verdicts(ANNOTATION) == {0: SAME}
    assert found.at(MOMENTS[4], [ANNOTATION]).verdicts(ANNOTATION) == {0: NOT_THE_SAME}
    assert found.at(MOMENTS[4], [REVIEW]).names == []
    # Answers that were imported are dated as their file says.
    closed = checkpoints(*found.answers, closed={ANNOTATION: {"closed_at": MOMENTS[2], "examples": "[0]"}})
    assert closed.at(MOMENTS[2], [ANNOTATION]).verdicts(ANNOTATION) == {0: NOT_THE_SAME}
    assert closed.at(MOMENTS[2], [ANNOTATION]).test is not None
    assert closed.at(MOMENTS[1], [ANNOTATION]).test is None


def test_the_figures_are_called_as_at_the_checkpoint(tmp_path: Path) -> None:
    root = annotated(reviewed(drafted(tmp_path)), rejected={9})
    decide(root, OFFLINE, ANNOTATION, {9, 10}, annotator="bob")
    with reading(find_workspace(str(root))) as reader:
        found = load(reader, 1)
    assert found.names == [REVIEW, ANNOTATION]
    assert found.figures(REVIEW) == {"n_approved": 3, "n_rejected": 1, "n_skipped": 0}
    assert found.figures(ANNOTATION) == {"n_same": 10, "n_not_the_same": 1, "n_skipped": 0}
    assert found.verdicts(ANNOTATION)[9] == DISPUTED
    assert (found.annotators(REVIEW), found.annotators(ANNOTATION)) == (["alice"], ["alice", "bob"])
    assert (found.examples(REVIEW), found.examples(ANNOTATION)) == ([0, 2, 3], [])
    assert found.decided_by == {"person": 4}


def test_kappa_is_of_two_annotators_on_what_both_answered_independently() -> None:
    pairs = [(SAME, SAME), (SAME, NOT_THE_SAME), (NOT_THE_SAME, NOT_THE_SAME), (SKIPPED, SAME)]
    said = [
        answer(who, pair[n], position=at) for at, pair in enumerate(pairs) for n, who in enumerate(("alice", "bob"))
    ]
    expected = (2 / 3 - 4 / 9) / (1 - 4 / 9)
    assert checkpoints(*said).kappa(ANNOTATION) == pytest.approx(expected)
    assert checkpoints(*said, answer("bob", SAME, position=1, settles=True)).kappa(ANNOTATION) == pytest.approx(
        expected
    )
    assert checkpoints(*said, answer("carol", SKIPPED)).kappa(ANNOTATION) == pytest.approx(expected)
    assert checkpoints(*said, answer("carol", SAME)).kappa(ANNOTATION) is None
    assert checkpoints(*said[::2]).kappa(ANNOTATION) is None


def table(both_same: int, first_same: int, second_same: int, neither: int) -> Verdicts:
    return [
        *[(SAME, SAME)] * both_same,
        *[(SAME, NOT_THE_SAME)] * first_same,
        *[(NOT_THE_SAME, SAME)] * second_same,
        *[(NOT_THE_SAME, NOT_THE_SAME)] * neither,
    ]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (table(20, 5, 10, 15), 0.4),  # p_o = 0.7, p_e = 0.5
        (table(45, 15, 25, 15), 3 / 23),  # p_o = 0.6, p_e = 0.54
        (table(25, 35, 5, 35), 7 / 27),  # p_o = 0.6, p_e = 0.46
        (table(3, 0, 0, 2), 1.0),
        (table(0, 3, 3, 0), -1.0),
        (table(4, 0, 2, 0), 0.0),  # one of them always gives the same verdict
        (table(0, 4, 0, 0), 0.0),
    ],
)
def test_kappa_is_what_the_formula_gives_by_hand(verdicts: Verdicts, expected: float) -> None:
    assert kappa(verdicts) == pytest.approx(expected)


@pytest.mark.parametrize("verdicts", [[], table(7, 0, 0, 0), table(0, 0, 0, 1)])
def test_kappa_is_undefined_where_both_always_say_the_same_thing(verdicts: Verdicts) -> None:
    assert kappa(verdicts) is None


@given(st.lists(st.tuples(st.sampled_from((SAME, NOT_THE_SAME)), st.sampled_from((SAME, NOT_THE_SAME))), min_size=1))
def test_kappa_is_that_of_scikit_learn(verdicts: Verdicts) -> None:
    from sklearn.metrics import cohen_kappa_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of what it cannot divide
        expected = cohen_kappa_score(*zip(*verdicts, strict=True), labels=[SAME, NOT_THE_SAME])
    found = kappa(verdicts)
    assert math.isnan(expected) if found is None else found == pytest.approx(expected)
