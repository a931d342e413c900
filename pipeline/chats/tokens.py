"""How many tokens a text has, where nobody has counted them: an estimate that says how it was made, and a bound."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.chats.chat import ChatRequest

_PATIENCE_S = 5.0
_PER_MESSAGE = 4
_MOST_PER_MESSAGE = 16
_MOST_PER_REQUEST = 128


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Counts tokens; ``name`` says how."""

    name: str
    count: Callable[[str], int]


def approximate(text: str) -> int:
    """One token for four bytes of UTF-8, rounded up."""
    return -(-_bytes(text) // 4)


APPROXIMATION = Tokenizer("approximation: bytes / 4", approximate)


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
    return found[0] if found else APPROXIMATION


def prompt_tokens(requests: Sequence[ChatRequest], tokenizer: Tokenizer = APPROXIMATION) -> int:
    """The prompt tokens of requests, with what a chat format adds to each message."""
    return sum(_PER_MESSAGE + tokenizer.count(message.content) for request in requests for message in request.messages)


def most_prompt_tokens(request: ChatRequest) -> int:
    """The most prompt tokens that a request can have: a byte-level BPE never makes more tokens than there are bytes.

    What a chat format adds is not told by anybody: it is taken as several times what the known ones add, for each
    message and, where a template brings a system message of its own, for each request.
    """
    return _MOST_PER_REQUEST + sum(_MOST_PER_MESSAGE + _bytes(message.content) for message in request.messages)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
