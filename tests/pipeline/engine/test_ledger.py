"""Requests and attempts as rows, and back: what was paid for is found by its content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.chats.chat import Answer, ChatRequest, Failure, Message
from pipeline.engine.endpoint import Attempt
from pipeline.engine.ledger import RunLedger, message_row
from tests.databases import KINDS, add_source, claim, opened, rows, sample, wanted
from tracker import clock
from tracker.record.catalogue import reading

REQUEST = ChatRequest(
    "https://api.example/v1",
    "gpt-4o",
    (Message("system", "Be brief."), Message("user", "Löwe \u2028 fell.")),
    {"temperature": 0.7, "top_p": 1.0, "seed": None, "stop": ("x",)},
    sample_index=1,
    about={"text": "not stored"},
)
ANSWER = Answer("A lion fell.", "stop", 12, 5, tokens_estimated=True, provider_request_id="req-1")


def attempt(**changes: object) -> Attempt:
    values = {
        "ordinal": 1, "started_at": clock.from_text("2026-11-20T21:46:52.123456Z"), "latency_s": 0.25,
        "failure": None, "http_status": 200, "message": None, "answer": ANSWER, "cost_usd": 0.5,
    }  # fmt: skip
    return Attempt(**(values | changes))  # type: ignore[arg-type]  # the values are of mixed types


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_found_again_by_what_was_asked(kind: str, tmp_path: Path) -> None:
    with opened(kind, tmp_path) as database:
        mine = claim(database, wanted(add_source(database)))
        (record, *_) = [row["id"] for row in rows(database.workspace, "SELECT id FROM source_record ORDER BY position")]
        with reading(database.workspace, snapshot=False) as reader:
            ledger = RunLedger(database, reader, mine.run_id)
            assert ledger.find(REQUEST) is None
            failed = attempt(failure=Failure.TRANSIENT, answer=None, http_status=500, message="busy", cost_usd=None)
            ledger.save([(REQUEST, failed)])
            assert ledger.find(REQUEST) is None
            ledger.save(
                [(REQUEST, attempt(ordinal=2))],
                [sample(mine, record, 0, "failed"), sample(mine, record, 0, rephrase_request_key=REQUEST.key)],
            )
            found = ledger.find(REQUEST)
            assert ledger.find(ChatRequest("other", *list(vars(REQUEST).values())[1:5])) is None
        assert found is not None
        assert (found.text, found.key, found.cached, found.finish_reason) == ("A lion fell.", REQUEST.key, True, "stop")
        assert (found.prompt_tokens, found.completion_tokens, found.cost_usd, found.tokens_estimated) == (
            12,
            5,
            0.5,
            True,
        )
        assert rows(database.workspace, "SELECT status, rephrase_request_key FROM sample") == [
            {"status": "accepted", "rephrase_request_key": REQUEST.key}
        ]
        stored = rows(database.workspace, "SELECT * FROM ledger ORDER BY attempt_id")
        assert [(row["failure"], row["http_status"], row["error"], row["answer"]) for row in stored] == [
            ("transient", 500, "busy", None),
            (None, 200, None, "A lion fell."),
        ]
        assert [row["generation_run_id"] for row in stored] == [mine.run_id] * 2
        assert stored[1]["provider_request_id"] == "req-1"
        assert stored[0]["settings"] == '{"stop":["x"],"temperature":0.7,"top_p":1}'


def test_a_request_can_be_made_again_from_its_rows(tmp_path: Path) -> None:
    with opened("sqlite", tmp_path) as database:
        mine = claim(database, wanted(add_source(database)))
        with reading(database.workspace, snapshot=False) as reader:
            RunLedger(database, reader, mine.run_id).save([(REQUEST, attempt())])
        (row,) = rows(database.workspace, "SELECT * FROM request")
        texts = {found["key"]: found for found in rows(database.workspace, "SELECT * FROM message")}
    messages = tuple(Message(texts[key]["role"], texts[key]["content"]) for key in json.loads(row["messages"]))
    again = ChatRequest(row["endpoint"], row["model"], messages, json.loads(row["settings"]), row["sample_index"])
    assert again.key == row["key"] == REQUEST.key


def test_nothing_is_saved_where_one_row_cannot_be(tmp_path: Path) -> None:
    from sqlalchemy.exc import IntegrityError

    with opened("sqlite", tmp_path) as database:
        mine = claim(database, wanted(add_source(database)))
        with reading(database.workspace, snapshot=False) as reader:
            ledger = RunLedger(database, reader, mine.run_id)
            with pytest.raises(IntegrityError):
                ledger.save([(REQUEST, attempt())], [sample(mine, 99_999, 0)])
            assert ledger.find(REQUEST) is None


def test_a_message_is_known_by_role_and_text() -> None:
    assert message_row(Message("user", "a")) == {
        "key": message_row(Message("user", "a"))["key"],
        "role": "user",
        "content": "a",
    }
    assert len({message_row(Message(role, text))["key"] for role in ("user", "system") for text in ("a", "b")}) == 4
