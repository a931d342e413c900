"""What changed between two texts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.annotating.differences import Piece, differences, marked, only_blanks_differ

WORDS = st.lists(st.sampled_from(["the", "The", "man", "fell", "didn't", "door", ".", ",", "猫", "\n", "  "]))
TEXTS = st.one_of(st.text(), WORDS.map(" ".join), WORDS.map("".join))
LONG_TEXTS = st.one_of(TEXTS, TEXTS.map(lambda text: text * 3_000))
LONG = settings(deadline=None, max_examples=40)
STORY = [f"Then man {n} fell at door {n}." for n in range(400)]


def joined(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@LONG
@given(LONG_TEXTS, LONG_TEXTS)
def test_the_pieces_are_the_texts_again(original: str, rephrased: str) -> None:
    old, new = differences(original, rephrased)
    assert (joined(old), joined(new)) == (original, rephrased)


@LONG
@given(LONG_TEXTS, LONG_TEXTS)
def test_no_piece_is_empty_and_neighbours_differ(original: str, rephrased: str) -> None:
    for pieces in differences(original, rephrased):
        assert all(piece.text for piece in pieces)
        assert all(a.changed != b.changed for a, b in pairwise(pieces))


@given(TEXTS)
def test_equal_texts_have_no_change(text: str) -> None:
    for pieces in differences(text, text):
        assert pieces == ([Piece(text, changed=False)] if text else [])


@LONG
@given(LONG_TEXTS, LONG_TEXTS)
def test_what_is_left_is_in_both(original: str, rephrased: str) -> None:
    """Without blanks, which belong to the words around them."""
    old, new = (
        "".join("".join(piece.text.split()) for piece in pieces if not piece.changed)
        for pieces in differences(original, rephrased)
    )
    assert old == new


@pytest.mark.parametrize(
    ("original", "rephrased", "old", "new"),
    [
        ("The man fell.", "The man tripped.", "The man [-fell-].", "The man {+tripped+}."),
        ("The old man fell.", "The man fell.", "The [-old-] man fell.", "The man fell."),
        ("He fell.", "He fell!", "He fell[-.-]", "He fell{+!+}"),
        ("Ask us.", "Ask US.", "Ask [-us-].", "Ask {+US+}."),
        ("Polish it.", "polish it.", "[-Polish-] it.", "{+polish+} it."),
        ("two  blanks", "two blanks", "two  blanks", "two blanks"),
        ("He didn't go.", "He did go.", "He [-didn't-] go.", "He {+did+} go."),
        ("a b c d", "x y z", "[-a b c d-]", "{+x y z+}"),
        ("", "new", "", "{+new+}"),
    ],
)
def test_marks(original: str, rephrased: str, old: str, new: str) -> None:
    gone, came = differences(original, rephrased)
    assert (marked(gone, "[-", "-]"), marked(came, "{+", "+}")) == (old, new)


@given(TEXTS, TEXTS)
def test_nothing_is_changed_where_only_blanks_differ_and_only_there(original: str, rephrased: str) -> None:
    unchanged = not any(piece.changed for pieces in differences(original, rephrased) for piece in pieces)
    assert unchanged == (original == rephrased or only_blanks_differ(original, rephrased))


@pytest.mark.parametrize(
    ("original", "rephrased", "only_blanks"),
    [("a b", "a  b", True), ("a.b", "a.\nb", True), ("", " ", True), ("a b", "a b", False), ("a b", "ab", False)],
)
def test_where_only_blanks_differ(original: str, rephrased: str, only_blanks: bool) -> None:
    assert only_blanks_differ(original, rephrased) is only_blanks


def test_long_texts_are_compared_sentence_by_sentence() -> None:
    changed = [*STORY[:199], "Then he slept.", *STORY[200:]]
    old, new = differences(" ".join(STORY), "\n".join(changed))
    assert [piece.text for piece in old if piece.changed] == [STORY[199]]
    assert [piece.text for piece in new if piece.changed] == ["Then he slept."]


@pytest.mark.parametrize(("old", "new"), [("a b ", "a c "), ("Yes. No. ", "Yes. Oh. "), (".", ".,"), ("", "Yes. ")])
def test_texts_of_any_length_are_compared(old: str, new: str) -> None:
    pieces = differences(old * 20_000, new * 20_000)
    assert [joined(each) for each in pieces] == [old * 20_000, new * 20_000]
    assert any(piece.changed for piece in pieces[1])


def test_long_texts_of_which_only_blanks_differ_have_no_change() -> None:
    old, new = differences("".join(STORY), " ".join(STORY))
    assert [piece.changed for piece in (*old, *new)] == [False, False]
