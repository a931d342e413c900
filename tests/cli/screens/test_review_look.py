"""How a sample looks, whatever is in it and however wide the terminal is."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from cli.screens.review_look import SIDE_BY_SIDE_COLUMNS, Look
from cli.screens.review_text import progress
from pipeline.annotating.checkpoints import Card, Sheet, open_sheet
from pipeline.two_stage import NOT_THE_SAME, REVIEW, SAME
from tests.two_stage import OFFLINE, drafted
from tracker.paths import find_workspace

SGR = re.compile(r"\x1b\[[\d;]*m")
TEXTS = st.one_of(
    st.text(max_size=60), st.text(st.characters(codec=None), max_size=60), st.text("猫e\u0301 👩\u200d🔬\ufe0f")
)
LOOKS = st.builds(Look, st.integers(40, 130), st.booleans())


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sheet]:
    root = drafted(tmp_path_factory.mktemp("drafted"))
    with open_sheet(find_workspace(str(root)), OFFLINE, REVIEW, annotator="alice") as found:
        yield found


def card(original: str = "He fell.", rephrased: str = "He tripped.", **fields: object) -> Card:
    return Card(0, original, rephrased, {"premise": original, **fields})


def row(annotator: str, verdict: str, note: str = "") -> dict[str, object]:
    return {
        "annotator": annotator, "verdict": verdict, "note": note, "settles": False, "via": "web",
        "decided_at": "2026-11-20T21:46:52.000000Z",
    }  # fmt: skip


def plain(lines: list[str]) -> list[str]:
    return [SGR.sub("", line).rstrip() for line in lines]


@settings(max_examples=60)
@given(LOOKS, st.tuples(TEXTS, TEXTS, TEXTS, TEXTS))
def test_every_line_fits_and_steers_nothing(sheet: Sheet, look: Look, texts: tuple[str, str, str, str]) -> None:
    original, rephrased, other, name = texts
    shown = card(original, rephrased, **{other: other, "nested": [other]})
    shown.add(row(name, SAME, other))
    shown.add(row("bob", NOT_THE_SAME))
    sheet.annotator = name
    lines = [*look.head(sheet), *look.body(sheet, shown, note=other), *look.paragraphs(other)]
    lines += [look.line(other, name[:9]), look.typed("Note: ", other), look.keys(sheet), *look.help(sheet)]
    for line in lines:
        text = SGR.sub("", line)
        assert cell_len(text) <= look.columns
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)
        assert look.colour or text == line


@settings(max_examples=60)
@given(LOOKS, st.lists(st.sampled_from(["fell", "tripped", "猫", "seldom", "over-long" * 9]), min_size=1, max_size=30))
def test_no_word_is_lost(sheet: Sheet, look: Look, words: list[str]) -> None:
    text = " ".join(words)
    lines = plain(look.body(sheet, card(text, text)))
    shown = "".join(lines[lines.index("") :])
    for char in set("".join(words)) - set("original premise rephrased premise"):
        assert shown.count(char) == 2 * text.count(char)
    if look.columns < SIDE_BY_SIDE_COLUMNS:
        assert "".join(shown.split()).count("".join(words)) == 2


def test_side_by_side_from_100_columns_on(sheet: Sheet) -> None:
    found = plain(Look(100, colour=True).body(sheet, card()))
    assert any(re.search(r"He fell\. +│ +He tripped\.", line) for line in found)
    found = plain(Look(99, colour=True).body(sheet, card()))
    assert found[2:7] == ["original premise", "He fell.", "", "rephrased premise", "He tripped."]


def test_what_changed_is_marked(sheet: Sheet) -> None:
    coloured = "\n".join(Look(80, colour=True).body(sheet, card()))
    assert "He \x1b[1;9;31mfell\x1b[0m." in coloured
    assert "He \x1b[1;4;32mtripped\x1b[0m." in coloured
    bare = Look(80, colour=False).body(sheet, card())
    assert (bare[3], bare[6]) == ("He [-fell-].", "He {+tripped+}.")


def test_equal_texts_are_said_to_be(sheet: Sheet) -> None:
    title = plain(Look(80, colour=True).body(sheet, card("same", "same")))[0]
    assert title.startswith("Sample 1 · 1 of 4 · the two texts are equal · ")


def test_the_other_fields_and_who_decided_what(sheet: Sheet) -> None:
    shown = card(choice1="He slept.", label=1, extra={"why": ["ü"]})
    shown.add(row("alice", SAME, "good"))
    shown.add(row("bob", NOT_THE_SAME))
    assert plain(Look(80, colour=True).body(sheet, shown, note="better"))[8:] == [
        "choice1  He slept.",
        "label    1",
        'extra    {"why": ["ü"]}',
        "",
        "alice: approved · 2026-11-20 21:46:52 · web",
        "  good",
        "bob: rejected · 2026-11-20 21:46:52 · web",
        "The annotators differ; your answer settles it.",
        "Your note, kept with your answer: better",
    ]


def test_how_far_it_is(sheet: Sheet) -> None:
    assert progress(sheet) == "0 of 4 decided · 0 approved · 0 rejected · 0 skipped"
    sheet.cards[0].decisions = [row("bob", SAME)]
    sheet.cards[1].decisions = [row("bob", SAME), row("carol", NOT_THE_SAME)]
    try:
        assert progress(sheet) == "1 of 4 decided · 1 approved · 0 rejected · 0 skipped · 1 disputed"
        assert plain(Look(40, colour=False).head(sheet))[1:] == [
            "1 of 4 decided · 1 approved · 0 rejecte…",
            "━" * 10 + "─" * 30,
        ]
    finally:
        sheet.refresh()


@pytest.mark.parametrize(("columns", "long"), [(40, False), (64, False), (80, True)])
def test_the_keys_are_named_where_there_is_room(sheet: Sheet, columns: int, long: bool) -> None:
    found = plain([Look(columns, colour=True).keys(sheet)])[0]
    assert found.startswith("y approve  n reject  s skip" if long else "y n s")
    assert found.endswith("? help  q quit")
    assert plain([Look(columns, colour=True).keys(sheet, at_end=True)])[0] == "← back  g go to  ? help  q quit"


def test_the_end_of_a_long_note_is_in_sight(sheet: Sheet) -> None:
    found = Look(40, colour=True).typed("Note: ", "猫" * 40 + "end")
    assert (found[:6], found[-4:], cell_len(found)) == ("Note: ", "end▏", 40)
