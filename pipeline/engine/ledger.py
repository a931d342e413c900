"""The engine's ledger over the record: chat requests and attempts as rows."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.chats.chat import ChatRequest, Message
from pipeline.engine.engine import Paid, Reply
from tracker import clock
from tracker.fingerprint import canonical_json, content_key
from tracker.record import ledger
from tracker.record.catalogue import Reader, Row
from tracker.record.database import Database


class RunLedger:
    """The ledger as one run sees it: finds any run's answers, saves its own attempts and results in its account."""

    def __init__(
        self, database: Database, reader: Reader, run_id: int, account: ledger.Account = ledger.GENERATION
    ) -> None:
        self._database = database
        self._reader = reader
        self._run_id = run_id
        self._account = account
        self.taken_over = False

    def find(self, request: ChatRequest) -> Reply | None:
        """A good answer that was paid for before."""
        row = ledger.find_answer(self._reader, request.key)
        if row is None:
            return None
        return Reply(
            text=row["answer"],
            key=request.key,
            cached=True,
            finish_reason=row["finish_reason"],
            prompt_tokens=row["prompt_tokens"],
            completion_tokens=row["completion_tokens"],
            cost_usd=row["cost_usd"],
            tokens_estimated=bool(row["tokens_estimated"]),
        )

    def save(self, rows: Sequence[Paid], results: Sequence[Row] = ()) -> None:
        """Attempts and results in one transaction. Raises StorageError.

        Where another process has taken the run over, what was paid for is kept and the results are left to that one.
        """
        with self._database.writing() as connection:
            ledger.save_attempts(self._database, connection, (self._rows(paid) for paid in rows))
            if results and not ledger.is_running(connection, self._run_id, self._account.runs):
                self.taken_over = True
                return
            ledger.save_results(self._database, connection, results, self._account)

    def _rows(self, paid: Paid) -> tuple[Row, Sequence[Row], Row]:
        request, attempt = paid
        answer = attempt.answer
        started_at = clock.to_text(attempt.started_at)
        messages = [message_row(message) for message in request.messages]
        request_row = {
            "key": request.key,
            "endpoint": request.endpoint,
            "model": request.model,
            "messages": canonical_json([message["key"] for message in messages]),
            "settings": canonical_json({name: value for name, value in request.settings.items() if value is not None}),
            "sample_index": request.sample_index,
            "created_at": started_at,
        }
        attempt_row = {
            "request_key": request.key,
            self._account.column: self._run_id,
            "ordinal": attempt.ordinal,
            "started_at": started_at,
            "latency_s": attempt.latency_s,
            "failure": None if attempt.failure is None else attempt.failure.value,
            "http_status": attempt.http_status,
            "error": attempt.message,
            "answer": None if answer is None else answer.text,
            "finish_reason": None if answer is None else answer.finish_reason,
            "prompt_tokens": None if answer is None else answer.prompt_tokens,
            "completion_tokens": None if answer is None else answer.completion_tokens,
            "tokens_estimated": False if answer is None else answer.tokens_estimated,
            "cost_usd": attempt.cost_usd,
            "provider_request_id": None if answer is None else answer.provider_request_id,
        }
        return request_row, messages, attempt_row


def message_row(message: Message) -> dict[str, str]:
    """A message under the key of its content."""
    return {
        "key": content_key([message.role, message.content]),
        "role": message.role,
        "content": message.content,
    }
