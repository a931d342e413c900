"""One port to every LLM: a request, an answer, the ways in which a request can fail.

Behind it stands one module per real thing: ``chat_openai``, ``chat_together``, ``chat_offline``. A chat makes exactly
one attempt per call and never retries: there is one retry policy, and it is the engine's.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from tracker.fingerprint import Json, content_key


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation: ``role`` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class ChatRequest:
    """What is paid for. Two equal requests have one answer, so everything in here is content, nothing is operational.

    ``endpoint`` names the service (a URL or the name that a config gives it), ``settings`` holds the sampling settings
    that were asked for (None is left out), ``sample_index`` tells independent draws of one request apart. ``about`` is
    the one exception: what the messages were made of, for chats that are no LLM; it is never sent and not in the key.
    """

    endpoint: str
    model: str
    messages: tuple[Message, ...]
    settings: Mapping[str, Json] = field(default_factory=dict)
    sample_index: int = 0
    about: Mapping[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def key(self) -> str:
        """32 hex digits that stand for this request in the ledger."""
        return content_key(
            {
                "endpoint": self.endpoint,
                "model": self.model,
                "messages": [[message.role, message.content] for message in self.messages],
                "settings": {name: value for name, value in self.settings.items() if value is not None},
                "sample_index": self.sample_index,
            }
        )


@dataclass(frozen=True, slots=True)
class RateWindow:
    """A limit told by an answer's headers: ``limit`` per window, ``remaining`` now, full again in ``reset_s`` s."""

    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said. ``text`` is the raw answer; tokens are the provider's, or an estimate that says so."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tokens_estimated: bool = False
    provider_request_id: str | None = None
    requests_window: RateWindow | None = None
    tokens_window: RateWindow | None = None


class Failure(enum.StrEnum):
    """Why an attempt gave no usable answer."""

    RATE_LIMIT = "rate_limit"
    TRANSIENT = "transient"
    FATAL = "fatal"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    REFUSED = "refused"


class ChatError(Exception):
    """One attempt failed: ``failure`` is RATE_LIMIT, TRANSIENT or FATAL; ``retry_after`` is in seconds.

    ``maybe_paid``: the request was sent and not refused, so that its answer may be billed although nobody can read it.
    """

    def __init__(
        self,
        failure: Failure,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        maybe_paid: bool = False,
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.status = status
        self.retry_after = retry_after
        self.maybe_paid = maybe_paid


class Chat(Protocol):
    """A connection to one endpoint, used from one event loop."""

    async def complete(self, request: ChatRequest, *, timeout: float) -> Answer:
        """One attempt within ``timeout`` seconds, which covers the whole exchange. Raises ChatError."""
        ...

    async def aclose(self) -> None:
        """Closes the connections."""
        ...
