"""Keys as terminals send them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.screens.terminal import (
    BACKSPACE,
    DOWN,
    END,
    ENTER,
    ESCAPE,
    KILL,
    LEFT,
    PAGE_UP,
    PASTED,
    RIGHT,
    UP,
    edited,
    split_key,
)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("yn", ("y", "n")),
        ("ä", ("ä", "")),
        ("\r", (ENTER, "")),
        ("\n", (ENTER, "")),
        ("\x7f", (BACKSPACE, "")),
        ("\x15", (KILL, "")),
        ("\x04", (END, "")),
        ("\x1b[A", (UP, "")),
        ("\x1bOB", (DOWN, "")),
        ("\x1b[Dq", (LEFT, "q")),
        ("\x1b[C\x1b[C", (RIGHT, "\x1b[C")),
        ("\x1b[5~", (PAGE_UP, "")),
        ("\x1b[200~y\nn\x1b[201~s", (f"{PASTED}y\nn", "s")),
        ("\x1b[1;5Cy", ("", "y")),
        ("\x1by", ("", "")),
        ("\x01y", ("", "y")),
    ],
)
def test_the_first_key(typed: str, expected: tuple[str, str]) -> None:
    assert split_key(typed) == expected


@pytest.mark.parametrize("typed", ["", "\x1b", "\x1b[", "\x1b[1;5", "\x1bO", "\x1b[200~y", "\x1b[200~y\x1b[20"])
def test_what_is_not_all_there_is_no_key_yet(typed: str) -> None:
    assert split_key(typed) is None


@given(st.lists(st.text()))
def test_what_is_pasted_is_one_key_however_it_is_cut(texts: list[str]) -> None:
    pasted = "".join(texts).replace("\x1b", "")
    whole = f"\x1b[200~{pasted}\x1b[201~"
    assert all(split_key(whole[:end]) is None for end in range(6, len(whole)))
    assert split_key(f"{whole}y") == (PASTED + pasted, "y")


def test_a_line_is_edited() -> None:
    text = ""
    for key in ("n", "o", "t", BACKSPACE, "w", UP, " ", f"{PASTED}two\n  lines", ESCAPE):
        text = edited(text, key)
    assert text == "now two lines"
    assert edited(text, KILL) == ""
    assert edited("", BACKSPACE) == ""
