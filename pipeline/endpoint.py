"""One endpoint: its chat, the gate before it, and the judgement of what it says."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pipeline.breaker import Breaker
from pipeline.chat import Answer, Chat, ChatRequest, Failure
from pipeline.concurrency import Concurrency, Ticket
from pipeline.rates import NEVER, Throttle
from pipeline.tokens import prompt_tokens
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


class Stopped(Exception):
    """The engine starts nothing new. Jobs let it pass; ``Engine.run`` does not raise it."""


class Endpoint:
    """A chat and the gate before it, used by one engine at a time. Whoever made the chat closes it.

    ``learned_limit`` is what the last run on this endpoint learned; ``patience`` (seconds) is how long nothing but 429s
    is borne.
    """

    def __init__(
        self,
        name: str,
        chat: Chat,
        limits: Limits | None = None,
        learned_limit: int | None = None,
        *,
        patience: float = 120.0,
    ) -> None:
        self.name = name
        self.chat = chat
        self.limits = limits or Limits()
        self.throttle = Throttle(
            Concurrency(self.limits.concurrency, learned_limit),
            self.limits.requests_per_minute,
            self.limits.tokens_per_minute,
        )
        self.breaker = Breaker(patience)
        self._last_errors: deque[str] = deque(maxlen=3)
        self._waiting: deque[tuple[asyncio.Future[Ticket], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._held = False

    @property
    def learned_limit(self) -> int | None:
        """The concurrency to start with next time; None where nothing was learned."""
        return self.throttle.concurrency.learned

    async def admit(self, request: ChatRequest) -> Ticket:
        """Waits until the request may go. Raises Stopped."""
        tokens = self._expected_tokens(request) if self.throttle.tokens else 0.0
        if not self._waiting and not self._held:
            now = asyncio.get_running_loop().time()
            if not self.throttle.wait(tokens, now):
                return self.throttle.admit(tokens, now)
        future: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, tokens))
        self.pump()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.throttle.failed(future.result())
                self.pump()
            raise

    def retries(self, failure: Failure) -> int:
        """How often a request that failed like that may be tried again."""
        most = self.limits.max_retries
        return min(most, USELESS[failure][0]) if failure in USELESS else most

    def hold(self, *, held: bool) -> None:
        """Closes the gate, or opens it again."""
        self._held = held
        self.pump()

    def stop(self, reason: str) -> None:
        """Sends everyone away who waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(Stopped(reason))

    def pump(self) -> None:
        """Lets go whom the throttle lets go, and sees to it that the next is not forgotten."""
        while self._waiting and not self._held:
            future, tokens = self._waiting[0]
            if future.done():
                self._waiting.popleft()
                continue
            now = asyncio.get_running_loop().time()
            delay = self.throttle.wait(tokens, now)
            if delay:
                if delay < NEVER:
                    self._wake_in(delay)
                return
            self._waiting.popleft()
            future.set_result(self.throttle.admit(tokens, now))

    def _wake_in(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + delay:
                return
            self._timer.cancel()
        self._timer = loop.call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.pump()

    def _expected_tokens(self, request: ChatRequest) -> float:
        return prompt_tokens([request]) + self.throttle.expected_output(most_output(request))

    def answered(self, ticket: Ticket, key: str, attempt: Attempt, now: float) -> None:
        """Takes in an answer to the request ``key``. Raises ProviderError where hardly any is of use."""
        assert attempt.answer is not None
        self.throttle.answered(ticket, attempt.answer, now)
        if attempt.failure is None:
            self.breaker.answered()
        else:
            self._blame(attempt, self.breaker.failed(key, silent=False))

    def refused(self, ticket: Ticket, key: str, attempt: Attempt, retry_after: float | None) -> None:
        """Takes in an attempt without an answer. Raises ProviderError where there is no use in another."""
        now = asyncio.get_running_loop().time()
        if attempt.failure is Failure.RATE_LIMIT:
            self.throttle.rate_limited(ticket, retry_after, now)
            self._blame(attempt, self.breaker.rate_limited(retry_after, now))
            return
        self.throttle.failed(ticket)
        if attempt.failure is Failure.FATAL:
            raise ProviderError(f"{self.name} refused: {_said(attempt)}", hint=_hint(attempt.http_status))
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


def _hint(status: int | None) -> str:
    hints = {
        400: "Check the model's name and the sampling settings of the config.",
        401: "Check the API key (api_key_env in the config names its variable).",
        402: "Check the account's credit and billing.",
        403: "Check that the API key may use this model.",
        404: "Check the model's name and base_url in the config.",
        429: "Check the account's quota and billing.",
    }
    return hints.get(status or 0, RESUME)


def most_output(request: ChatRequest) -> float | None:
    most = request.settings.get("max_tokens") or request.settings.get("max_completion_tokens")
    return float(most) if most else None
