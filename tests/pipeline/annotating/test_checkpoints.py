"""Sheets: what a person is asked, and what several people's answers come to."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotating.checkpoints import Card, Sheet, chosen_numbers, is_disputed, open_sheet, standing
from pipeline.two_stage import ANNOTATION, DISPUTED, NOT_THE_SAME, REVIEW, SAME, SKIPPED
from tests.records import add_batch, add_experiment, add_source
from tests.two_stage import OFFLINE, drafted, generated, reviewed
from tests.workspaces import REPOSITORY, call, config, environment, new_root, rows, write_config
from tracker.errors import UnknownReference, Unsupported, WrongStep
from tracker.paths import Workspace, find_workspace
from tracker.record.database import Database, open_database
from tracker.record.decisions import Answer, save

VERDICTS = (SAME, NOT_THE_SAME, SKIPPED)
SEQUENCES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(VERDICTS), st.booleans()), max_size=8)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that waits at its review."""
    return drafted(tmp_path_factory.mktemp("drafted"))


@pytest.fixture(scope="module")
def further(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that waits at its annotation."""
    return reviewed(drafted(tmp_path_factory.mktemp("reviewed")))


@pytest.fixture
def people(waiting: Path, tmp_path: Path) -> Iterator[People]:
    with ExitStack() as stack:
        yield People(Path(shutil.copytree(waiting, tmp_path / "copy")), stack)


class People:
    """Opens sheets of one review, and closes them with the test."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.root, self.stack = root, stack

    def sheet(self, annotator: str, checkpoint: str = REVIEW, *, independent: bool = False) -> Sheet:
        return self.stack.enter_context(
            open_sheet(place(self.root), OFFLINE, checkpoint, annotator=annotator, independent=independent)
        )


def place(root: Path) -> Workspace:
    return find_workspace(str(root))


def numbers(cards: Sequence[Card]) -> list[int]:
    return [card.number for card in cards]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, int]]:
    workspace = Workspace(tmp_path_factory.mktemp("record"), environ={})
    with open_database(workspace) as database:
        with database.writing() as connection:
            batch, source = add_batch(connection, "batch_first"), add_source(connection)
            experiment = add_experiment(connection, "temp07", batch=batch, source=source)
        yield database, experiment


POSITIONS = count()


@given(SEQUENCES)
def test_decisions_come_to_what_the_view_says(
    record: tuple[Database, int], sequence: list[tuple[str, str, bool]]
) -> None:
    database, experiment = record
    position = next(POSITIONS)
    for annotator, verdict, settles in sequence:
        answer = Answer(position, verdict, settles=settles)
        save(database, experiment, REVIEW, [answer], annotator=annotator, via="option")
    card = Card(position, "", "", {})
    with sqlite3.connect(database.workspace.database) as connection:
        connection.row_factory = sqlite3.Row
        for row in connection.execute("SELECT * FROM decision WHERE position = ? ORDER BY id", (position,)):
            card.add(dict(row))
        found = connection.execute("SELECT verdict FROM sample_decision WHERE position = ?", (position,)).fetchall()
    connection.close()
    expected = DISPUTED if is_disputed(card.decisions) else standing(card.decisions)
    assert [row["verdict"] for row in found] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("said", "stands"),
    [
        ("", None),
        ("a:same", SAME),
        ("a:same b:same", SAME),
        ("a:same b:not_the_same", None),
        ("a:same b:skipped", SAME),
        ("a:skipped b:skipped", SKIPPED),
        ("a:same b:not_the_same a:not_the_same", NOT_THE_SAME),
        ("a:same b:not_the_same c:same!", SAME),
        ("a:same b:not_the_same c:same! a:not_the_same!", NOT_THE_SAME),
        ("a:same! b:not_the_same a:skipped", NOT_THE_SAME),
    ],
)
def test_what_stands(said: str, stands: str | None) -> None:
    card = Card(0, "", "", {})
    for word in said.split():
        annotator, _, verdict = word.partition(":")
        card.add({"annotator": annotator, "verdict": verdict.rstrip("!"), "settles": verdict.endswith("!")})
    assert standing(card.decisions) == stands
    assert is_disputed(card.decisions) == (bool(said) and stands is None)


def test_a_sheet_holds_the_samples_of_its_checkpoint(people: People) -> None:
    sheet = people.sheet("alice")
    assert (sheet.reference, sheet.field, numbers(sheet.cards)) == (OFFLINE, "premise", [1, 2, 3, 4])
    card = sheet.cards[2]
    assert (card.position, card.original, card.rephrased, card.record["choice1"]) == (
        2,
        "The man in house 002 fell.",
        "A man in house 002 fell.",
        "He slipped.",
    )
    assert sheet.open == sheet.cards


def test_answers_are_saved_and_not_asked_for_again(people: People) -> None:
    alice = people.sheet("alice")
    assert alice.answer(alice.cards[0], SAME, note="fine") == []
    assert alice.answer(alice.cards[1], SKIPPED) == []
    assert numbers(alice.open) == [3, 4]
    assert numbers(people.sheet("bob").open) == [3, 4]
    assert numbers(people.sheet("bob", independent=True).open) == [1, 2, 3, 4]
    assert numbers(people.sheet("alice", independent=True).open) == [3, 4]
    assert rows(people.root, "SELECT position, verdict, annotator, note, via, settles FROM decision") == [
        (0, SAME, "alice", "fine", "terminal", 0),
        (1, SKIPPED, "alice", "", "terminal", 0),
    ]


def test_two_people_at_once(people: People) -> None:
    alice, bob = people.sheet("alice"), people.sheet("bob")
    assert alice.answer(alice.cards[0], SAME) == []
    others = bob.answer(bob.cards[0], NOT_THE_SAME)
    assert [(row["annotator"], row["verdict"]) for row in others] == [("alice", SAME)]
    assert is_disputed(bob.cards[0].decisions)
    assert numbers(bob.open) == [1, 2, 3, 4]
    assert bob.answer(bob.cards[0], NOT_THE_SAME) == [], "what was told is not told again"
    assert standing(bob.cards[0].decisions) == NOT_THE_SAME, "who saw the dispute has settled it"
    alice.refresh()
    assert numbers(alice.open) == [2, 3, 4]


def test_who_has_not_seen_a_dispute_does_not_settle_it(people: People) -> None:
    alice, bob, carol = people.sheet("alice"), people.sheet("bob"), people.sheet("carol")
    alice.answer(alice.cards[0], SAME)
    bob.answer(bob.cards[0], NOT_THE_SAME)
    assert len(carol.answer(carol.cards[0], SAME)) == 2
    assert is_disputed(carol.cards[0].decisions)


def test_a_settled_sample_can_be_settled_otherwise(people: People) -> None:
    alice, bob = people.sheet("alice"), people.sheet("bob")
    alice.answer(alice.cards[0], SAME)
    bob.answer(bob.cards[0], NOT_THE_SAME)
    bob.answer(bob.cards[0], NOT_THE_SAME)
    alice.refresh()
    assert alice.settles(alice.cards[0], SAME)
    alice.answer(alice.cards[0], SAME)
    assert standing(alice.cards[0].decisions) == SAME
    assert not alice.settles(alice.cards[0], SKIPPED)


def test_who_annotates_independently_settles_nothing(people: People) -> None:
    alice, bob = people.sheet("alice"), people.sheet("bob", independent=True)
    alice.answer(alice.cards[0], SAME)
    bob.answer(bob.cards[0], NOT_THE_SAME)
    bob.answer(bob.cards[0], NOT_THE_SAME)
    assert rows(people.root, "SELECT SUM(settles) FROM decision") == [(0,)]
    assert numbers(bob.open) == [2, 3, 4]


def test_numbers_of_another_range(people: People) -> None:
    sheet = people.sheet("alice")
    assert numbers(chosen_numbers(sheet, [4, 1])) == [4, 1]
    for number in (0, 5):
        with pytest.raises(UnknownReference, match=f"No sample '{number}'") as found:
            chosen_numbers(sheet, [1, number])
        assert found.value.hint == "The review here is of samples 1 to 4."


@pytest.mark.parametrize(("samples", "expected"), [(None, [*range(5, 17)]), ("9-16", [*range(9, 17)]), ("6-6", [6])])
def test_a_range_of_the_annotation(further: Path, samples: str | None, expected: list[int]) -> None:
    with open_sheet(place(further), OFFLINE, ANNOTATION, annotator="alice", samples=samples) as sheet:
        assert numbers(sheet.cards) == expected


def test_a_range_that_is_not_of_the_checkpoint(further: Path) -> None:
    with (
        pytest.raises(UnknownReference) as found,
        open_sheet(place(further), OFFLINE, ANNOTATION, annotator="alice", samples="4-6"),
    ):
        pass
    assert found.value.hint == f"The annotation of {OFFLINE} is of 5-8 and 9-16."


def test_a_record_that_failed_is_not_shown(people: People) -> None:
    with sqlite3.connect(people.root / "tracker.db") as connection:
        connection.execute("UPDATE sample SET status = 'failed', rephrased = NULL WHERE position = 1")
    connection.close()
    assert numbers(people.sheet("alice").cards) == [1, 3, 4]


def test_the_annotation_comes_after_the_review(people: People) -> None:
    with pytest.raises(WrongStep) as found:
        people.sheet("alice", ANNOTATION)
    assert found.value.hint == f"Next: synthtrack review {OFFLINE}"


def test_a_closed_checkpoint_takes_no_answers(people: People) -> None:
    alice = people.sheet("alice")
    alice.save([Answer(at, SAME) for at in range(4)], via="option")
    generated(people.root)
    with pytest.raises(WrongStep, match="is closed"):
        alice.answer(alice.cards[0], NOT_THE_SAME)
    with pytest.raises(WrongStep, match="is closed"):
        people.sheet("alice")
    assert rows(people.root, "SELECT COUNT(*) FROM decision") == [(4,)]


def test_an_experiment_that_nobody_checks(tmp_path: Path) -> None:
    root = new_root(tmp_path, 3)
    write_config(root, config())
    assert call(root, "generate", "copa.yaml", "--no-mlflow").code == 0
    with pytest.raises(WrongStep, match="strategy direct_all"), open_sheet(place(root), OFFLINE, REVIEW):
        pass


# What is needed is imported before: the user may not be allowed to read it.
_NAMELESS = """
import getpass, linecache, os, pwd, traceback
from pipeline.annotating.checkpoints import user
os.setuid(54321)
user()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be a user that the system has no name for")
def test_a_user_without_a_name() -> None:
    """As in a container that is run under any number."""
    done = subprocess.run(
        [sys.executable, "-c", _NAMELESS],
        env=environment(dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"))),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{Unsupported.__module__}.Unsupported: This system has no name for the user" in done.stderr
    assert "--annotator NAME" in done.stderr
