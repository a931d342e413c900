"""An event loop whose time is simulated, and chats and ledgers that subclass the real ports."""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from pipeline.chats.chat import Answer, Chat, ChatError, ChatRequest, Failure, Message
from pipeline.engine.engine import Ledger, Paid, Reply

Result = TypeVar("Result")
Outcome = Answer | ChatError
GOOD = Answer("An answer.", "stop", prompt_tokens=20, completion_tokens=5)


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0 or self.loop.busy_threads:
            return super().select(timeout if timeout is None else min(timeout, 0.001))
        ready = super().select(0)
        if not ready:
            self.loop.now += timeout
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Whenever nothing is ready, time jumps to the next timer; work in threads takes no time at all."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy_threads = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now

    def run_in_executor(  # type: ignore[override]  # typeshed's variadic form says the same
        self, executor: Executor | None, func: Callable[..., Result], *args: Any
    ) -> asyncio.Future[Result]:
        self.busy_threads += 1
        future = super().run_in_executor(executor, func, *args)

        def ended(_: asyncio.Future[Result]) -> None:
            self.busy_threads -= 1

        future.add_done_callback(ended)
        return future


def simulate(main: Coroutine[Any, Any, Result]) -> Result:
    """The result of ``main``, run in simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


def now() -> float:
    """Seconds since the simulation began."""
    return asyncio.get_running_loop().time()


def request(text: str = "Say it differently.", **settings: Any) -> ChatRequest:
    return ChatRequest("https://llm.example/v1", "test-model", (Message("user", text),), settings)


def transient(message: str = "it broke", *, retry_after: float | None = None) -> ChatError:
    return ChatError(Failure.TRANSIENT, message, status=500, retry_after=retry_after)


def timed_out() -> ChatError:
    return ChatError(Failure.TRANSIENT, "no complete answer within 60 s", maybe_paid=True)


def too_many(retry_after: float | None = None) -> ChatError:
    return ChatError(Failure.RATE_LIMIT, "slow down", status=429, retry_after=retry_after)


class Scripted(Chat):
    """Answers with what ``script(text, n)`` says for the n-th call (from 1) with that text, ``latency`` s later."""

    def __init__(self, script: Callable[[str, int], Outcome] = lambda _text, _n: GOOD, latency: float = 0.1) -> None:
        self.script = script
        self.latency = latency
        self.calls: Counter[str] = Counter()
        self.sent_at: list[tuple[float, str]] = []
        self.in_flight = 0
        self.peak = 0

    async def complete(self, request: ChatRequest, *, timeout: float) -> Answer:
        assert timeout > 0
        text = request.messages[-1].content
        self.calls[text] += 1
        self.sent_at.append((now(), text))
        outcome = self.script(text, self.calls[text])
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await asyncio.sleep(self.latency)
        finally:
            self.in_flight -= 1
        if isinstance(outcome, ChatError):
            raise outcome
        return outcome

    async def aclose(self) -> None:
        pass


class Memory(Ledger):
    """A ledger that forgets at the end of the test; ``troubles`` are raised by its next saves, one each."""

    def __init__(self, troubles: Sequence[Exception] = ()) -> None:
        self.rows: list[Paid] = []
        self.groups: list[int] = []
        self.troubles = list(troubles)
        self.replies: dict[str, Reply] = {}

    def find(self, request: ChatRequest) -> Reply | None:
        return self.replies.get(request.key)

    def save(self, rows: Sequence[Paid]) -> None:
        if self.troubles:
            raise self.troubles.pop(0)
        self.rows += rows
        self.groups.append(len(rows))
        for request, attempt in rows:
            if attempt.failure is None and attempt.answer is not None:
                answer = attempt.answer
                self.replies[request.key] = Reply(
                    text=answer.text,
                    key=request.key,
                    cached=True,
                    finish_reason=answer.finish_reason,
                    prompt_tokens=answer.prompt_tokens,
                    completion_tokens=answer.completion_tokens,
                    cost_usd=attempt.cost_usd,
                )
