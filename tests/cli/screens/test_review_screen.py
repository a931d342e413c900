"""The checkpoints in a real terminal: keys, what is saved, and what is on the screen."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.annotating.checkpoints import open_sheet
from pipeline.two_stage import ANNOTATION, NOT_THE_SAME, REVIEW, SAME, SKIPPED
from tests.terminals import CTRL_C, DOWN, ESCAPE, LEFT, RIGHT, UP, Session, session
from tests.two_stage import OFFLINE, decide, drafted, generated, reviewed
from tests.workspaces import rows
from tracker.paths import find_workspace

ENTER = "\r"
HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold red]not markup[/] \u202eevil\r\x9b31m\x00 猫猫猫 👩\u200d🔬 e\u0301"


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drafted(tmp_path_factory.mktemp("drafted"))


@pytest.fixture
def root(waiting: Path, tmp_path: Path) -> Path:
    """A workspace that waits at the review of samples 1 to 4."""
    return Path(shutil.copytree(waiting, tmp_path / "workspace"))


@contextmanager
def review(root: Path, *options: str, annotator: str = "alice", **given: Any) -> Iterator[Session]:
    with session(root, "review", OFFLINE, "--annotator", annotator, *options, **given) as found:
        yield found


def decisions(root: Path) -> list[tuple[Any, ...]]:
    return rows(root, "SELECT position + 1, verdict, annotator, note, via FROM decision ORDER BY id")


def rewrite(root: Path, number: int, original: str, rephrased: str, **fields: Any) -> None:
    """Gives a sample other texts, and its record other fields."""
    with sqlite3.connect(root / "tracker.db") as connection:
        connection.execute(
            "UPDATE sample SET original = ?, rephrased = ? WHERE position = ?", (original, rephrased, number - 1)
        )
        line = json.dumps({"premise": original, **fields})
        connection.execute(
            """UPDATE source_record SET line = ?
               WHERE id = (SELECT source_record_id FROM sample WHERE position = ?)""",
            (line, number - 1),
        )
    connection.close()


def test_a_review_in_three_sittings(root: Path) -> None:
    with review(root) as first:
        shown = first.wait_for("Sample 1 · 1 of 4 · an", "0 of 4 decided · 0 approved · 0 rejected · 0 skipped")
        assert f"review · {OFFLINE}" in shown
        assert re.search(r"original premise +│ rephrased premise", shown)
        assert re.search(r"The man in house 000 fell\. +│ A man in house 000 fell\.", shown)
        assert re.search(r"choice2 +He slept\.", shown)
        first.answer("y", "Sample 2 · 2 of 4 · an", "1 of 4 decided · 1 approved", "Sample 1: approved.")
        first.answer("n", "Sample 3 · 3 of 4 · an", "2 of 4 decided · 1 approved · 1 rejected")
        first.type("q")
        code, left = first.end()
        assert code == 0
        assert "4 samples: 1 approved, 1 rejected (2), 0 skipped" in left
        assert "Waiting: 2 (3-4)" in left
    assert decisions(root) == [(1, SAME, "alice", "", "terminal"), (2, NOT_THE_SAME, "alice", "", "terminal")]

    with review(root) as second:
        second.wait_for("Sample 3 · 3 of 4 · an", "2 of 4 decided")
        second.answer("b", "Sample 2 · 2 of 4 · rejected", "alice: rejected")
        second.answer(LEFT, "Sample 1 · 1 of 4 · approved")
        second.answer(LEFT, "This is the first sample.")
        second.answer("s", "Sample 3 · 3 of 4 · an", "2 of 4 decided · 0 approved · 1 rejected · 1 skipped")
        second.answer("e", "Note: ▏")
        second.answer("vague", "Note: vague▏")
        second.answer("\x7f\x7f", "Note: vag▏")
        second.answer(ENTER, "Your note, kept with your answer: vag")
        second.answer(RIGHT, "Sample 4 · 4 of 4 · an")
        second.answer(RIGHT, "This is the last sample.")
        second.answer(LEFT, "Sample 3 · 3 of 4 · an", "Your note, kept with your answer: vag")
        second.answer("N", "Sample 4 · 4 of 4 · an", "3 of 4 decided · 0 approved · 2 rejected · 1 skipped")
        second.type("q")
        assert second.end()[0] == 0
    assert decisions(root)[2:] == [(1, SKIPPED, "alice", "", "terminal"), (3, NOT_THE_SAME, "alice", "vag", "terminal")]

    with review(root) as third:
        third.wait_for("Sample 4 · 4 of 4 · an", "3 of 4 decided")
        third.answer("y", f"✅ Review of {OFFLINE}, 4 samples: 1 approved", "Next: synthtrack generate", "← back  g go")
        assert decisions(root)[4:] == [(4, SAME, "alice", "", "terminal")]
        third.type("q")
        code, left = third.end()
    assert code == 0
    assert "4 samples: 1 approved, 2 rejected (2-3), 1 skipped (1)" in left
    assert "Next: synthtrack generate" in left
    assert rows(root, "SELECT position + 1, verdict FROM sample_decision ORDER BY position") == [
        (1, SKIPPED), (2, NOT_THE_SAME), (3, NOT_THE_SAME), (4, SAME),
    ]  # fmt: skip


def test_keys_that_come_faster_than_they_are_read_all_count(root: Path) -> None:
    with review(root) as screen:
        screen.wait_for("Sample 1 · 1 of 4 · an")
        screen.type("ynye")
        screen.answer("slow" + ENTER + "syn", "4 samples: 2 approved, 1 rejected (2), 1 skipped (4)")
        screen.type("q")
        assert screen.end()[0] == 0
    assert decisions(root)[-1] == (4, SKIPPED, "alice", "slow", "terminal")


def test_everything_is_decided_and_can_be_looked_through(root: Path) -> None:
    decide(root, OFFLINE, REVIEW, {2})
    with review(root) as screen:
        shown = screen.wait_for(f"✅ Review of {OFFLINE}, 4 samples: 3 approved, 1 rejected (2), 0 skipped", "q quit")
        assert "Next: synthtrack generate" in " ".join(shown.split())
        screen.answer("y", "Every sample here is decided; q quits.")
        screen.answer("e", "Every sample here is decided; q quits.")
        screen.answer(RIGHT, "✅ Review")
        screen.answer(LEFT, "Sample 4 · 4 of 4 · approved", "y approve")
        screen.answer("b", "Sample 3 · 3 of 4 · approved")
        screen.answer("g2", "Go to sample: 2▏", "Enter goes there, Escape stays here.")
        screen.answer(ENTER, "Sample 2 · 2 of 4 · rejected")
        assert len(decisions(root)) == 4
        screen.answer("y", "4 samples: 4 approved, 0 rejected", "Sample 2: approved.")
        screen.answer("b", "Sample 2 · 2 of 4 · approved")
        screen.answer("g5" + ENTER, "There is no sample 5 here.", "Sample 2 · 2 of 4 · approved")
        screen.answer("g", "Go to sample: ▏")
        screen.answer(ESCAPE, "y approve")
        screen.answer(RIGHT + RIGHT, "Sample 4 · 4 of 4 · approved")
        screen.answer(RIGHT, "✅ Review", "← back")
        screen.answer("g1" + ENTER, "Sample 1 · 1 of 4 · approved")
        screen.resize(40, 12)
        screen.answer(RIGHT * 4, "↓ ", "more lines")
        screen.answer(DOWN, "↑ 1")
        screen.resize(120, 30)
        screen.wait_for("q quits.", "✅ Review")
        screen.type("q")
        code, left = screen.end()
    assert (code, f"✅ Review of {OFFLINE}, 4 samples: 4 approved, 0 rejected, 0 skipped" in left) == (0, True)
    assert decisions(root)[4:] == [(2, SAME, "alice", "", "terminal")]


def test_a_dispute_that_is_made_by_looking_through_waits(root: Path) -> None:
    decide(root, OFFLINE, REVIEW, annotator="bob")
    with review(root) as screen:
        screen.wait_for("✅ Review")
        screen.answer("g3" + ENTER, "Sample 3 · 3 of 4 · approved")
        screen.answer("n", "bob approved sample 3 before.", "Any key goes on.")
        screen.answer(" ", "Sample 3 · 3 of 4 · disputed")
        screen.answer(RIGHT + RIGHT, "Sample 4 · 4 of 4 · approved", "This is the last sample.")
        screen.type("q")
        code, left = screen.end()
    assert (code, "📊" in left, "Disputed: 1 (3)" in left) == (0, True, True)


def test_the_end_of_a_range_says_what_waits_elsewhere(root: Path) -> None:
    reviewed(root)
    with session(root, "annotate", OFFLINE, "--range", "9-9", "--annotator", "alice") as screen:
        screen.wait_for("Sample 9 · 1 of 1 · tests the judge")
        screen.answer("y", f"📊 Annotation of {OFFLINE}, 1 sample: 1 same", "11 of 12 samples wait")
        screen.type("q")
        assert screen.end()[0] == 0


def test_everything_is_decided_before_a_terminal_that_is_too_small(root: Path) -> None:
    decide(root, OFFLINE, REVIEW)
    with review(root, columns=39) as screen:
        code, left = screen.end()
    assert (code, "Every sample of this review is decided already." in " ".join(left.split())) == (0, True)


def test_the_annotation(root: Path) -> None:
    reviewed(root)
    with session(root, "annotate", OFFLINE, "--range", "9-16", "--annotator", "alice") as screen:
        screen.wait_for(
            "Sample 9 · 1 of 8", "0 of 8 decided · 0 same · 0 not the same · 0 skipped", "y same  n not the same"
        )
        screen.answer("n", "Sample 10 · 2 of 8", "Sample 9: not the same.")
        screen.type("q")
        code, left = screen.end()
    assert (code, "Next: synthtrack annotate" in left) == (0, True)
    assert rows(root, "SELECT position + 1, verdict, checkpoint FROM decision WHERE via = 'terminal'") == [
        (9, NOT_THE_SAME, ANNOTATION)
    ]


def test_each_sample_says_what_it_is_for(root: Path) -> None:
    reviewed(root)
    decide(root, OFFLINE, ANNOTATION, samples="5-7")
    with session(root, "annotate", OFFLINE, "--annotator", "alice") as screen:
        screen.wait_for("Sample 8 · 4 of 12 · teaches the judge\n")
        screen.answer("y", "Sample 9 · 5 of 12 · tests the judge\n")
        screen.answer(LEFT, "Sample 8 · 4 of 12 · same · teaches the judge\n")
        screen.type("q")
        assert screen.end()[0] == 0


def test_a_note_on_an_answer_that_was_given(root: Path) -> None:
    with review(root) as screen:
        screen.wait_for("Sample 1 · 1 of 4 · an")
        screen.answer("n", "Sample 2 · 2 of 4 · an")
        screen.answer("b", "Sample 1 · 1 of 4 · rejected")
        screen.answer("+", "Note: ▏")
        screen.answer("no" + ESCAPE, "y approve")
        screen.answer("+", "Note: ▏")
        screen.answer("\x1b[200~two\nlines\x1b[201~" + ENTER, "The note on sample 1 is saved.", "two lines")
        screen.answer("e", "Note: two lines▏")
        screen.answer(ENTER, "y approve")
        screen.type("q")
        assert screen.end()[0] == 0
    assert decisions(root)[1:] == [(1, NOT_THE_SAME, "alice", "two lines", "terminal")]


def test_a_note_without_an_answer_is_not_kept(root: Path) -> None:
    with review(root) as screen:
        screen.wait_for("Sample 1 · 1 of 4 · an")
        screen.answer("elost", "Note: lost▏")
        screen.answer(ENTER, "Your note, kept with your answer: lost")
        screen.type("q")
        code, left = screen.end()
    assert (code, "The note on sample 1 was not kept: it had no answer." in left) == (0, True)
    assert decisions(root) == []


def test_what_is_pasted_answers_nothing(root: Path) -> None:
    with review(root) as screen:
        screen.wait_for("Sample 1 · 1 of 4 · an")
        screen.answer("\x1b[200~yyyy\x1b[201~" + RIGHT, "Sample 2 · 2 of 4 · an", "0 of 4 decided")
        screen.type("q")
        assert screen.end()[0] == 0
    assert decisions(root) == []


def test_help(root: Path) -> None:
    with review(root) as screen:
        screen.wait_for("Sample 1 · 1 of 4 · an")
        screen.answer("?", "the next start goes on where this one stopped", "Any key goes on.")
        screen.answer("y", "Sample 1 · 1 of 4 · an", "0 of 4 decided")
        screen.answer("\x04", "Waiting: 4 (1-4)")
        assert screen.end()[0] == 0


def test_ctrl_c(root: Path) -> None:
    with review(root) as screen:
        before = termios.tcgetattr(screen.terminal)
        screen.wait_for("Sample 1 · 1 of 4 · an")
        screen.answer("y", "Sample 2 · 2 of 4 · an")
        screen.type(CTRL_C)
        code, left = screen.end()
        after = termios.tcgetattr(screen.terminal)
    assert code == 130
    assert "Interrupted. Every answer that was given is saved." in left
    assert "The same command goes on where this one stopped." in left
    assert before[:6] == after[:6]
    assert [bytes(before[6][at]) for at in (termios.VSUSP, termios.VINTR)] == [
        bytes(after[6][at]) for at in (termios.VSUSP, termios.VINTR)
    ]
    assert decisions(root) == [(1, SAME, "alice", "", "terminal")]


def test_two_people_at_once(root: Path) -> None:
    with review(root) as screen:
        screen.wait_for("Sample 1 · 1 of 4 · an")
        decide(root, OFFLINE, REVIEW, {1}, annotator="bob")
        shown = screen.answer("y", "bob rejected sample 1 a moment ago.", "Any key goes on.")
        assert "sample 1 is disputed until one of you settles it" in " ".join(shown.split())
        screen.answer(
            "n", "Sample 1 · 1 of 4 · disputed", "3 of 4 decided · 3 approved · 0 rejected · 0 skipped · 1 disputed"
        )
        screen.wait_for("alice: approved", "bob: rejected", "The annotators differ; your answer settles it.")
        screen.answer("eI asked bob" + ENTER, "The note on sample 1 is saved.", "Sample 1 · 1 of 4 · disputed")
        screen.type("yq")
        code, left = screen.end()
    assert (code, "4 samples: 4 approved" in left) == (0, True)
    assert rows(root, "SELECT annotator, verdict, note, settles FROM decision WHERE position = 0 ORDER BY id") == [
        ("bob", NOT_THE_SAME, "", 0),
        ("alice", SAME, "", 0),
        ("alice", SAME, "I asked bob", 0),
        ("alice", SAME, "I asked bob", 1),
    ]


def test_two_people_who_agree(root: Path) -> None:
    with review(root) as screen:
        screen.wait_for("Sample 1 · 1 of 4 · an")
        decide(root, OFFLINE, REVIEW, annotator="bob")
        screen.answer("y", "bob approved sample 1 a moment ago.", "sample 1 now stands as approved")
        screen.answer(" ", "4 samples: 4 approved", "q quit")
        screen.type("q")
        assert screen.end()[0] == 0


def test_who_differs_from_what_is_shown_is_told_too(root: Path) -> None:
    decide(root, OFFLINE, REVIEW, {1, 2, 3, 4}, annotator="bob")
    with open_sheet(find_workspace(str(root)), OFFLINE, REVIEW, annotator="bob") as sheet:
        sheet.answer(sheet.cards[3], SKIPPED)
    with review(root, "--independent") as screen:
        shown = screen.wait_for("Sample 1 · 1 of 4 · an", "review, independent", "0 of 4 decided")
        assert "bob" not in shown
        assert "bob" not in screen.answer("y", "Sample 2 · 2 of 4 · an", "1 of 4 decided")
        screen.type("q")
        assert screen.end()[0] == 0
    with review(root) as screen:
        screen.wait_for("Sample 1 · 1 of 4 · disputed", "bob: rejected")
        screen.answer(RIGHT, "Sample 2 · 2 of 4 · rejected")
        screen.answer("y", "bob rejected sample 2 before.", "disputed until one of you")
        screen.answer(" ", "Sample 1 · 1 of 4 · disputed")
        screen.type("q")
        assert screen.end()[0] == 0


def test_a_checkpoint_that_is_closed_meanwhile(root: Path) -> None:
    with review(root) as screen:
        screen.wait_for("Sample 1 · 1 of 4 · an")
        decide(root, OFFLINE, REVIEW, annotator="bob")
        generated(root)
        screen.type("n")
        code, left = screen.end()
    assert (code, f"Error: The review of {OFFLINE} is closed" in left) == (14, True)
    assert {annotator for _, _, annotator, _, _ in decisions(root)} == {"bob"}


@pytest.mark.parametrize(("columns", "lines"), [(39, 24), (80, 11)])
def test_a_terminal_that_is_too_small(root: Path, columns: int, lines: int) -> None:
    with review(root, columns=columns, lines=lines) as screen:
        code, left = screen.end()
    said = " ".join(left.split())
    assert code == 13
    assert f"{columns} columns and {lines} lines; at least 40 and 12 are needed." in said
    assert "Widen it; or answer in the browser with --web, or with options: --reject 3,7,15" in said


def test_a_terminal_that_knows_no_size_counts_as_usual(root: Path) -> None:
    with review(root, columns=0, lines=0) as screen:
        screen.screen.columns, screen.screen.n_lines = 80, 24
        screen.wait_for("Sample 1 · 1 of 4 · an", "y approve")
        screen.type("q")
        assert screen.end()[0] == 0


def test_a_narrow_terminal_has_one_text_above_the_other(root: Path) -> None:
    with review(root, columns=99) as screen:
        shown = screen.wait_for("Sample 1 · 1 of 4 · an", "y approve")
        assert "original premise\nThe man in house 000 fell.\n\nrephrased premise\nA man in house 000 fell.\n" in shown
        screen.type("q")
        assert screen.end()[0] == 0


def test_a_terminal_that_changes_its_size(root: Path) -> None:
    with review(root) as screen:
        screen.wait_for("│ rephrased premise")
        screen.resize(60, 20)
        screen.wait_for("original premise\nThe man", "y n s ← → e note")
        screen.resize(30, 8)
        screen.wait_for("Too small: widen it,")
        screen.type("y")
        screen.resize(110, 24)
        screen.wait_for("│ rephrased premise", "Sample 1 · 1 of 4 · an", "0 of 4 decided")
        screen.answer("y", "Sample 2 · 2 of 4 · an")
        screen.type("q")
        assert screen.end()[0] == 0
    assert len(decisions(root)) == 1


def test_a_text_that_is_longer_than_the_screen(root: Path) -> None:
    words = [f"word{number:03}" for number in range(300)]
    rewrite(root, 1, " ".join(words), " ".join(words[:-1]))
    with review(root, columns=40, lines=12) as screen:
        assert "word000" in screen.wait_for("Sample 1 · 1 of 4 · an", "↓ ", "more lines")
        assert "Sample 1 · 1 of 4 · an" not in screen.answer(DOWN, "↑ 1")
        screen.answer(UP, "Sample 1 · 1 of 4 · an")
        seen = screen.wait_for("more lines")
        while "↓" in screen.screen.text:
            line = screen.screen.text.splitlines()[-2]
            screen.type(" ")
            while screen.screen.text.splitlines()[-2] == line:
                screen._read()
            seen += screen.wait_for("y n s")
        assert all(seen.count(word) == 2 for word in words[40:-40])
        screen.answer("n", "Sample 2 · 2 of 4 · an", "1 of 4 decided")
        screen.type("q")
        assert screen.end()[0] == 0


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}], ids=["colour", "plain"])
def test_hostile_text_is_shown_harmlessly(root: Path, columns: int, environ: dict[str, str]) -> None:
    """The screen of these tests knows no sequence but those that a review is drawn with."""
    rewrite(root, 1, HOSTILE, f"{HOSTILE} {HOSTILE}", **{HOSTILE: HOSTILE, "nested": {"a": [HOSTILE]}})
    decide(root, OFFLINE, REVIEW, annotator="bob")
    with sqlite3.connect(root / "tracker.db") as connection:
        connection.execute("UPDATE decision SET annotator = ?, note = ? WHERE position = 0", (HOSTILE, HOSTILE))
    connection.close()
    with review(
        root, "--independent", "--note", HOSTILE.replace("\0", ""), columns=columns, lines=60, environ=environ
    ) as screen:
        shown = screen.wait_for("Sample 1 · 1 of 4 · an", "␛[2J␛]0;owned␇[bold", "<U+202E>evil", "猫")
        assert ("{+" in shown) == bool(environ)
        screen.answer("y", "Sample 2 · 2 of 4 · an")
        screen.type("q")
        screen.end()
    with review(root, columns=columns, lines=60, environ=environ) as screen:
        screen.wait_for("4 samples", "q quit")
        screen.answer(LEFT * 4, "Sample 1", "<U+202E>evil")
        screen.type("q")
        assert screen.end()[0] == 0
    decide(root, OFFLINE, REVIEW, {1}, annotator="carol")
    with review(root, columns=columns, lines=60, environ=environ) as screen:
        screen.wait_for("Sample 1 · 1 of 4 · disputed", "carol: rejected", "<U+202E>evil")
        screen.type("q")
        assert screen.end()[0] == 0


def test_without_colour_what_changed_has_marks(root: Path) -> None:
    with review(root, environ={"NO_COLOR": "1"}) as screen:
        screen.wait_for("[-The-] man in house 000 fell.", "{+A+} man in house 000 fell.")
        screen.answer("?", "between [- and -]")
        screen.answer(" ", "Sample 1 · 1 of 4 · an")
        screen.type("q")
        assert screen.end()[0] == 0
        assert set(re.findall(r"\x1b\[[\d;]*m", screen.received)) == {"\x1b[0m"}


def test_a_dumb_terminal_gets_lines(root: Path) -> None:
    with review(root, environ={"TERM": "dumb"}) as screen:
        screen.wait_for("[-The-] man in house 000 fell.", "y approve")
        screen.answer("e", "Note: ")
        screen.answer("short\n", "Your note, kept with your answer: short")
        screen.answer("n", "[-The-] man in house 001 fell.", "1 of 4 decided")
        screen.answer("q", "Waiting: 3 (2-4)")
        assert screen.end()[0] == 0
        assert "\x1b" not in screen.received
    assert decisions(root) == [(1, NOT_THE_SAME, "alice", "short", "terminal")]
    decide(root, OFFLINE, REVIEW, {1})
    with review(root, environ={"TERM": "dumb"}) as screen:
        screen.wait_for("4 samples: 3 approved, 1 rejected (1)", "q quit")
        screen.answer("g", "Go to sample: ")
        screen.answer("2\n", "[-The-] man in house 001 fell.", "y approve")
        screen.type("q")
        assert screen.end()[0] == 0


def test_only_what_changed_is_drawn_anew(root: Path) -> None:
    with review(root) as screen:
        screen.wait_for("Sample 1 · 1 of 4 · an", "q quit")
        screen.answer("b", "This is the first sample.")
        before = len(screen.received)
        screen.answer(RIGHT, "Sample 2 · 2 of 4 · an", "house 001")
        screen.type("q")
        screen.end()
        drawn = screen.received[before:]
    assert drawn.count("\x1b[2K") < 10
    assert "\x1b[2J" not in drawn
