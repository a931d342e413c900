"""What changed between two texts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.differences import Piece, differences, marked

WORDS = st.lists(st.sampled_from(["the", "The", "man", "fell", "didn't", "door", ".", ",", "猫", "\n", "  "]))
TEXTS = st.one_of(st.text(), WORDS.map(" ".join), WORDS.map("".join))


def joined(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@given(TEXTS, TEXTS)
def test_the_pieces_are_the_texts_again(original: str, rephrased: str) -> None:
    old, new = differences(original, rephrased)
    assert (joined(old), joined(new)) == (original, rephrased)


@given(TEXTS, TEXTS)
def test_no_piece_is_empty_and_neighbours_differ(original: str, rephrased: str) -> None:
    for pieces in differences(original, rephrased):
        assert all(piece.text for piece in pieces)
        assert all(a.changed != b.changed for a, b in pairwise(pieces))


@given(TEXTS)
def test_equal_texts_have_no_change(text: str) -> None:
    for pieces in differences(text, text):
        assert pieces == ([Piece(text, changed=False)] if text else [])


@given(TEXTS, TEXTS)
def test_what_is_left_is_in_both(original: str, rephrased: str) -> None:
    """Without blanks, which belong to the words around them."""
    old, new = (
        "".join("".join(piece.text.lower().split()) for piece in pieces if not piece.changed)
        for pieces in differences(original, rephrased)
    )
    assert old == new


@pytest.mark.parametrize(
    ("original", "rephrased", "old", "new"),
    [
        ("The man fell.", "The man tripped.", "The man [-fell-].", "The man {+tripped+}."),
        ("The old man fell.", "The man fell.", "The [-old-] man fell.", "The man fell."),
        ("He fell.", "he fell!", "He fell[-.-]", "he fell{+!+}"),
        ("two  blanks", "two blanks", "two  blanks", "two blanks"),
        ("He didn't go.", "He did go.", "He [-didn't-] go.", "He {+did+} go."),
        ("a b c d", "x y z", "[-a b c d-]", "{+x y z+}"),
        ("", "new", "", "{+new+}"),
    ],
)
def test_marks(original: str, rephrased: str, old: str, new: str) -> None:
    gone, came = differences(original, rephrased)
    assert (marked(gone, "[-", "-]"), marked(came, "{+", "+}")) == (old, new)
