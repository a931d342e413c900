"""One endpoint: its chat, the gate before it, and the judgement of what it says."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from pipeline.chats.chat import Answer, Chat, ChatRequest, Failure
from pipeline.chats.tokens import prompt_tokens
from pipeline.engine.breaker import Breaker
from pipeline.engine.concurrency import Concurrency, Ticket
from pipeline.engine.gate import Gate
from pipeline.engine.rates import Throttle
from tracker.errors import ProviderError

USELESS: Mapping[Failure, tuple[int, str]] = {
    Failure.TRUNCATED: (3, "raise max_tokens"),
    Failure.REFUSED: (3, "change the prompt, or leave the record out"),
    Failure.EMPTY: (3, "change the prompt or the model"),
}
"""Answers that are paid for and of no use: the most retries of each, and what to change when they are used up.

Another draw mends an accident and rarely more. At faults of 3 % each, 3 retries fail 1 in 1.2 million requests.
"""

RESUME = "What was answered is kept; the same command goes on from there."


@dataclass(frozen=True, slots=True)
class Limits:
    """How one endpoint may be used. ``timeout`` is in seconds; ``max_retries`` come after the first attempt."""

    concurrency: int = 50
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout: float = 60.0
    max_retries: int = 10


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try as the ledger records it: ``answer`` is the raw one, kept also where ``failure`` says it is no use."""

    ordinal: int
    started_at: datetime
    latency_s: float
    failure: Failure | None
    http_status: int | None
    message: str | None
    answer: Answer | None
    cost_usd: float | None


class Endpoint:
    """A chat and the gate before it, used by one engine at a time. Whoever made the chat closes it.

    ``learned_limit`` is what the last run on this endpoint learned; ``patience`` (seconds) is how long nothing but 429s
    is borne; ``key_from`` is where the key came from, as a person should look for it.
    """

    def __init__(
        self,
        name: str,
        chat: Chat,
        limits: Limits | None = None,
        learned_limit: int | None = None,
        *,
        patience: float = 120.0,
        key_from: str = "api_key_env in the config names its variable",
    ) -> None:
        self.name = name
        self.chat = chat
        self.limits = limits or Limits()
        self.gate = Gate(
            Throttle(
                Concurrency(self.limits.concurrency, learned_limit),
                self.limits.requests_per_minute,
                self.limits.tokens_per_minute,
            )
        )
        self.breaker = Breaker(patience)
        self.key_from = key_from
        self._last_errors: deque[str] = deque(maxlen=3)

    def beside(self, name: str, *, timeout: float, max_retries: int) -> Endpoint:
        """The same under a name and with a patience of its own; chat, gate and judgement are shared."""
        twin = copy.copy(self)
        twin.name = name
        twin.limits = replace(self.limits, timeout=timeout, max_retries=max_retries)
        return twin

    @property
    def learned_limit(self) -> int | None:
        """The concurrency to start with next time; None where nothing was learned."""
        return self.gate.throttle.concurrency.learned

    async def admit(self, request: ChatRequest) -> Ticket:
        """Waits until the request may go. Raises Stopped."""
        if not self.gate.throttle.tokens:
            return await self.gate.admit(0.0)
        output = self.gate.throttle.expected_output(most_output(request))
        return await self.gate.admit(prompt_tokens([request]) + output)

    def retries(self, failure: Failure) -> int:
        """How often a request that failed like that may be tried again."""
        most = self.limits.max_retries
        return min(most, USELESS[failure][0]) if failure in USELESS else most

    def answered(self, ticket: Ticket, key: str, attempt: Attempt, now: float) -> None:
        """Takes in an answer to the request ``key``. Raises ProviderError where hardly any is of use."""
        assert attempt.answer is not None
        self.gate.throttle.answered(ticket, attempt.answer, now)
        if attempt.failure is None:
            self.breaker.answered()
        else:
            self._blame(attempt, self.breaker.failed(key, silent=False))

    def refused(self, ticket: Ticket, key: str, attempt: Attempt, retry_after: float | None) -> None:
        """Takes in an attempt without an answer. Raises ProviderError where there is no use in another."""
        now = asyncio.get_running_loop().time()
        if attempt.failure is Failure.RATE_LIMIT:
            self.gate.throttle.rate_limited(ticket, retry_after, now)
            self._blame(attempt, self.breaker.rate_limited(retry_after, now))
            return
        self.gate.throttle.failed(ticket)
        if attempt.failure is Failure.FATAL:
            raise ProviderError(
                f"{self.name} refused: {_said(attempt)}", hint=_hint(attempt.http_status, self.key_from)
            )
        self._blame(attempt, self.breaker.failed(key, silent=True))

    def _blame(self, attempt: Attempt, why: str | None) -> None:
        self._last_errors.append(_said(attempt))
        if why is not None:
            errors = "\n".join(f"  {error}" for error in dict.fromkeys(self._last_errors))
            raise ProviderError(f"{self.name} is not worth asking any more: {why}. Last errors:\n{errors}", hint=RESUME)


def flaw(answer: Answer) -> Failure | None:
    if answer.finish_reason == "length":
        return Failure.TRUNCATED
    if answer.finish_reason in {"content_filter", "refusal"}:
        return Failure.REFUSED
    return Failure.EMPTY if not answer.text or answer.text.isspace() else None


def words(answer: Answer) -> str | None:
    match found := flaw(answer):
        case None:
            return None
        case Failure.TRUNCATED:
            what = f"the answer was cut off after {answer.completion_tokens} tokens"
        case Failure.REFUSED:
            what = f"the endpoint refused to answer ({answer.finish_reason})"
        case _:
            what = "the answer was empty"
    return f"{what}: {USELESS[found][1]}"


def _said(attempt: Attempt) -> str:
    return attempt.message or str(attempt.failure)


def _hint(status: int | None, key_from: str) -> str:
    hints = {
        400: "Check the model's name and the sampling settings of the config.",
        401: f"Check the API key ({key_from}).",
        402: "Check the account's credit and billing.",
        403: f"Check that the API key ({key_from}) may use this model.",
        404: "Check the model's name and base_url in the config.",
        429: "Check the account's quota and billing.",
    }
    return hints.get(status or 0, RESUME)


def most_output(request: ChatRequest) -> int | None:
    most = request.settings.get("max_tokens")
    return None if most is None else int(most)
