"""Estimates of tokens before anything is sent: tiktoken's where its files can be had, else a stated approximation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.chat import ChatRequest

_PATIENCE_S = 5.0
_PER_MESSAGE = 4


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Counts tokens; ``name`` says how."""

    name: str
    count: Callable[[str], int]


def approximate(text: str) -> int:
    """One token for four bytes of UTF-8, rounded up."""
    return (len(text.encode()) + 3) // 4


def tokenizer_for(model: str) -> Tokenizer:
    """Tiktoken's encoding of ``model`` if it can be loaded within seconds, else the approximation."""
    found: list[Tokenizer] = []

    def load() -> None:
        import tiktoken

        try:
            encoding = tiktoken.encoding_for_model(model)
        # tiktoken downloads with whatever requests raises, and has no encoding for most models.
        except (OSError, KeyError, ValueError, RuntimeError):
            return
        found.append(Tokenizer(f"tiktoken {encoding.name}", lambda text: len(encoding.encode_ordinary(text))))

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    return found[0] if found else Tokenizer("approximation: bytes / 4", approximate)


def prompt_tokens(requests: Sequence[ChatRequest], tokenizer: Tokenizer) -> int:
    """The prompt tokens of requests, with what a chat format adds to each message."""
    return sum(_PER_MESSAGE + tokenizer.count(message.content) for request in requests for message in request.messages)
