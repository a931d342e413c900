"""People's decisions as rows: what is kept, what stands, and what closing a checkpoint does in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from tests.databases import KINDS, add_source, attempt, claim, opened, sample, wanted
from tests.databases import rows as rows_of
from tracker.errors import Conflict, WrongStep
from tracker.record.catalogue import Row
from tracker.record.database import Database
from tracker.record.decisions import Answer, close, closed, newest, save, save_judge_test
from tracker.record.generation import Claimed
from tracker.record.ledger import save_attempts, save_results

SAME, NOT_THE_SAME, SKIPPED, DISPUTED = "same", "not_the_same", "skipped", "disputed"
STATUSES = ("undecided", "undecided", "undecided", "failed")


@dataclass
class Checked:
    """An experiment of four records, the last of which failed, that people answer on."""

    database: Database
    claimed: Claimed

    @property
    def id(self) -> int:
        return self.claimed.experiment_id

    def answer(self, position: int, verdict: str, annotator: str = "alice", **more: Any) -> list[Row]:
        settles, seen = more.pop("settles", False), more.pop("seen", None)
        given = Answer(position, verdict, settles=settles, **more)
        return save(self.database, self.id, "review", [given], annotator=annotator, via="option", seen=seen)

    def close(self, checkpoint: str = "review", **more: Any) -> None:
        verdicts = more.pop("verdicts", None)
        examples = more.pop("examples", [])
        standing = self.standing() if verdicts is None else verdicts
        close(self.database, self.id, checkpoint, standing, examples, run_id=self.claimed.run_id, **more)

    def rows(self, sql: str) -> list[Row]:
        return rows_of(self.database.workspace, sql)

    def standing(self) -> dict[int, str]:
        found = self.rows("SELECT position, verdict FROM sample_decision ORDER BY position")
        return {row["position"]: row["verdict"] for row in found}

    def samples(self) -> list[tuple[str, str | None, str | None]]:
        found = self.rows("SELECT status, verdict, decided_by FROM sample ORDER BY position")
        return [(row["status"], row["verdict"], row["decided_by"]) for row in found]


@pytest.fixture(params=KINDS)
def checked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Checked]:
    with opened(request.param, tmp_path) as database:
        claimed = claim(database, wanted(add_source(database)))
        found = Checked(database, claimed)
        records = found.rows("SELECT id FROM source_record ORDER BY position")
        columns: dict[str, Any] = {"verdict": None, "decided_by": None}
        with database.writing() as connection:
            save_results(
                database, connection,
                [sample(claimed, row["id"], at, STATUSES[at], **columns) for at, row in enumerate(records)],
            )  # fmt: skip
        yield found


def test_every_answer_is_kept_and_the_newest_of_each_annotator_counts(checked: Checked) -> None:
    assert newest(checked.database, checked.id) == 0
    checked.answer(0, NOT_THE_SAME, note="too long")
    checked.answer(0, SAME)
    checked.answer(1, SKIPPED, "bob")
    found = checked.rows("SELECT position, annotator, verdict, note, settles, via, adopted_from_id, decided_at "
                         "FROM decision ORDER BY id")  # fmt: skip
    assert [(row["position"], row["annotator"], row["verdict"], row["note"]) for row in found] == [
        (0, "alice", NOT_THE_SAME, "too long"), (0, "alice", SAME, ""), (1, "bob", SKIPPED, ""),
    ]  # fmt: skip
    assert {(row["via"], row["adopted_from_id"], bool(row["settles"])) for row in found} == {("option", None, False)}
    assert all(row["decided_at"].endswith("Z") for row in found)
    assert checked.standing() == {0: SAME, 1: SKIPPED}
    assert newest(checked.database, checked.id) == checked.rows("SELECT MAX(id) AS id FROM decision")[0]["id"]


def test_what_is_taken_over_keeps_its_annotator_and_moment(checked: Checked) -> None:
    checked.answer(0, SAME)
    first = newest(checked.database, checked.id)
    given = Answer(1, SAME, "note", True, "carol", first, "2026-01-02T03:04:05.000000Z")
    save(checked.database, checked.id, "review", [given], annotator="", via="adopted")
    found = checked.rows("SELECT annotator, decided_at, adopted_from_id, via FROM decision ORDER BY id DESC")[0]
    assert tuple(found.values()) == ("carol", "2026-01-02T03:04:05.000000Z", first, "adopted")


def test_no_answers_are_no_rows(checked: Checked) -> None:
    assert save(checked.database, checked.id, "review", [], annotator="alice", via="option", seen=0) == []
    assert checked.rows("SELECT id FROM decision") == []


def test_what_others_said_meanwhile_is_told(checked: Checked) -> None:
    seen = newest(checked.database, checked.id)
    checked.answer(0, SAME, "bob")
    checked.answer(1, SAME, "bob")
    told = checked.answer(0, NOT_THE_SAME, seen=seen)
    assert [(row["position"], row["annotator"], row["verdict"]) for row in told] == [(0, "bob", SAME)]
    assert checked.answer(0, NOT_THE_SAME, seen=newest(checked.database, checked.id)) == []
    assert checked.answer(0, NOT_THE_SAME) == []


@pytest.mark.parametrize(
    ("said", "stands", "annotators"),
    [
        ([("alice", SAME, False)], SAME, 1),
        ([("alice", SKIPPED, False)], SKIPPED, 1),
        ([("alice", SAME, False), ("bob", SAME, False)], SAME, 2),
        ([("alice", SAME, False), ("bob", SKIPPED, False)], SAME, 2),
        ([("alice", SAME, False), ("bob", NOT_THE_SAME, False)], DISPUTED, 2),
        ([("alice", SAME, False), ("bob", NOT_THE_SAME, False), ("alice", NOT_THE_SAME, False)], NOT_THE_SAME, 2),
        ([("alice", SAME, False), ("bob", NOT_THE_SAME, False), ("carol", SAME, True)], SAME, 3),
        ([("alice", SAME, False), ("bob", NOT_THE_SAME, True), ("carol", SAME, True)], SAME, 3),
        ([("alice", SAME, True), ("bob", NOT_THE_SAME, False)], SAME, 2),
        ([("alice", SAME, True), ("bob", NOT_THE_SAME, False), ("alice", SAME, False)], DISPUTED, 2),
        ([("alice", SAME, False), ("bob", NOT_THE_SAME, False), ("bob", SKIPPED, True)], SKIPPED, 2),
    ],
)
def test_what_stands(checked: Checked, said: list[tuple[str, str, bool]], stands: str, annotators: int) -> None:
    checked.answer(1, SAME)
    for annotator, verdict, settles in said:
        checked.answer(0, verdict, annotator, settles=settles)
    assert checked.standing() == {0: stands, 1: SAME}
    assert checked.rows("SELECT n_annotators FROM sample_decision WHERE position = 0")[0]["n_annotators"] == annotators


def test_closing_makes_verdicts_the_samples_own(checked: Checked) -> None:
    checked.answer(0, SAME)
    checked.answer(1, NOT_THE_SAME)
    checked.answer(2, SKIPPED)
    checked.answer(3, SAME)
    checked.close(examples=[0])
    assert checked.samples() == [
        ("accepted", SAME, "person"),
        ("rejected", NOT_THE_SAME, "person"),
        ("undecided", None, None),
        ("failed", None, None),
    ]
    found = checked.rows("SELECT name, examples, generation_run_id, judge_test_id FROM checkpoint")
    assert [tuple(row.values()) for row in found] == [("review", "[0]", checked.claimed.run_id, None)]


def test_what_is_closed_is_closed_once(checked: Checked) -> None:
    checked.answer(0, SAME)
    checked.close(examples=[0])
    checked.close(verdicts={0: NOT_THE_SAME, 1: SAME}, examples=[0])
    with pytest.raises(Conflict, match="closed the review with other examples"):
        checked.close(examples=[1])
    assert checked.samples()[:2] == [("accepted", SAME, "person"), ("undecided", None, None)]
    assert [row["examples"] for row in checked.rows("SELECT examples FROM checkpoint")] == ["[0]"]
    checked.close("annotation", verdicts={})
    assert len(checked.rows("SELECT id FROM checkpoint")) == 2


@pytest.mark.parametrize("change", [NOT_THE_SAME, SKIPPED, None])
def test_another_decision_meanwhile_is_a_conflict_and_closes_nothing(checked: Checked, change: str | None) -> None:
    checked.answer(0, SAME)
    checked.answer(1, SAME)
    if change is None:
        checked.answer(1, NOT_THE_SAME, "bob")
    else:
        checked.answer(1, change)
    with pytest.raises(Conflict, match="Somebody decided otherwise at the review a moment ago"):
        checked.close(verdicts={0: SAME, 1: SAME}, examples=[0, 1])
    assert checked.samples()[:2] == [("undecided", None, None)] * 2
    assert checked.rows("SELECT id FROM checkpoint") == []
    checked.answer(1, SAME)
    checked.answer(1, SAME, "bob")
    checked.close(examples=[0, 1])
    assert checked.samples()[:2] == [("accepted", SAME, "person")] * 2


def test_a_note_or_one_more_voice_is_no_other_decision(checked: Checked) -> None:
    checked.answer(0, SAME)
    before = checked.standing()
    checked.answer(0, SAME, note="again")
    checked.answer(0, SAME, "bob")
    checked.answer(0, SKIPPED, "carol")
    checked.close(verdicts=before)
    assert checked.samples()[0] == ("accepted", SAME, "person")


def test_a_closed_checkpoint_takes_no_answers_and_others_do(checked: Checked) -> None:
    checked.answer(0, SAME)
    checked.close()
    with pytest.raises(WrongStep, match=r"The review of Copa/temp07 is closed: .* examples\.") as caught:
        checked.answer(1, SAME)
    assert caught.value.hint is not None
    assert "--fresh" in caught.value.hint
    assert len(checked.rows("SELECT id FROM decision")) == 1
    save(checked.database, checked.id, "annotation", [Answer(1, SAME)], annotator="alice", via="web")
    assert checked.standing() == {0: SAME, 1: SAME}


def test_more_decisions_than_fit_into_one_statement(checked: Checked) -> None:
    many = [Answer(at, SAME if at % 2 else NOT_THE_SAME) for at in range(2500)]
    save(checked.database, checked.id, "review", many, annotator="alice", via="import")
    checked.close()
    assert checked.samples()[:2] == [("rejected", NOT_THE_SAME, "person"), ("accepted", SAME, "person")]


def test_decisions_are_of_one_experiment(checked: Checked) -> None:
    other = claim(checked.database, wanted(1, temperature=0.9))
    checked.answer(0, SAME)
    save(
        checked.database, other.experiment_id, "review", [Answer(0, NOT_THE_SAME)], annotator="alice", via="option",
        seen=0,
    )  # fmt: skip
    checked.close(verdicts={0: SAME})
    assert checked.samples()[0] == ("accepted", SAME, "person")
    assert newest(checked.database, other.experiment_id) > newest(checked.database, checked.id)


def test_the_words_of_each_checkpoint() -> None:
    assert "the other records were rephrased" in str(closed("Copa/x", "review"))
    assert "the judge learned from it and has decided the other records" in str(closed("Copa/x", "annotation"))


def judge_test(checked: Checked) -> Row:
    return {
        "shared_experiment_id": checked.id, "generation_run_id": checked.claimed.run_id, "judge_key": "j",
        "test_set_key": "t", "model": "m", "temperature": None, "n_tested": 2, "n_correct": 1, "accuracy": 0.5,
        "required_accuracy": 0.95, "passed": False, "settings": "{}",
    }  # fmt: skip


def test_a_judge_test_and_its_samples_are_one_transaction(checked: Checked) -> None:
    asked = [{"position": at, "expected": SAME, "verdict": "unclear", "request_key": "k"} for at in range(2)]
    with pytest.raises(IntegrityError):
        save_judge_test(checked.database, judge_test(checked), asked)
    assert checked.rows("SELECT id FROM judge_test") == []
    with checked.database.writing() as connection:
        save_attempts(checked.database, connection, [attempt("k", checked.claimed.run_id)])
    number = save_judge_test(checked.database, judge_test(checked), asked)
    found = checked.rows("SELECT id, accuracy, passed, run_uuid, dataset, name FROM judge_test_overview")
    assert [(row["id"], row["accuracy"], bool(row["passed"])) for row in found] == [(number, 0.5, False)]
    assert (found[0]["run_uuid"], found[0]["name"]) == (checked.claimed.run_uuid, "temp07")
    assert [row["verdict"] for row in checked.rows("SELECT verdict FROM judge_test_sample")] == ["unclear"] * 2
    checked.answer(0, SAME)
    checked.close("annotation", judge_test_id=number)
    assert checked.rows("SELECT judge_test_id FROM checkpoint") == [{"judge_test_id": number}]


def test_closing_is_one_transaction(checked: Checked) -> None:
    checked.answer(0, SAME)
    with pytest.raises(IntegrityError):
        checked.close(judge_test_id=99)
    assert checked.samples()[0] == ("undecided", None, None)
    assert checked.rows("SELECT id FROM checkpoint") == []
