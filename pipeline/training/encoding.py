"""Questions as token ids: no tensor, no model, only a function that turns text into ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.training.tasks import Question


@dataclass(frozen=True, slots=True)
class Encoded:
    """One question: the ids of prompt and candidate together for each candidate, and where each one's option begins.

    ``starts[i]`` is the index in ``sequences[i]`` of the first token of the option; ``answer`` is -1 where unlabelled.
    """

    sequences: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    answer: int
    truncated: bool = False


def encode(
    question: Question, tokenize: Callable[[str], Sequence[int]], *, max_length: int, eos: int | None = None
) -> Encoded:
    """``question`` in tokens, at most ``max_length`` for each candidate.

    An option is what follows the longest common token prefix with the prompt. Where a candidate is too long, all lose
    the same number of tokens at the left, so that the prompt stays shared; what ``tokenize`` begins every text with
    (BOS) stays, and an ``eos`` that it adds at the end is removed. Raises ValueError where an option is empty, has no
    token before it from which it could be predicted, or does not fit.
    """
    prompt, *sequences = (
        _ids(text, tokenize, eos)
        for text in (question.prompt, *(question.prompt + each for each in question.candidates))
    )
    starts = [_shared(prompt, sequence) for sequence in sequences]
    if any(start == len(sequence) for start, sequence in zip(starts, sequences, strict=True)):
        raise ValueError("an option has no tokens of its own")
    first = min(starts)
    if first == 0:
        raise ValueError("an option has no token before it")
    cut = max(0, max(map(len, sequences)) - max_length)
    if cut == 0:
        return Encoded(tuple(sequences), tuple(starts), question.answer)
    head = _shared(tokenize(""), prompt[:first])
    if cut > first - max(head, 1):
        raise ValueError(f"an option alone does not fit into {max_length} tokens")
    shortened = tuple(sequence[:head] + sequence[head + cut :] for sequence in sequences)
    return Encoded(shortened, tuple(start - cut for start in starts), question.answer, truncated=True)


def _ids(text: str, tokenize: Callable[[str], Sequence[int]], eos: int | None) -> tuple[int, ...]:
    # Blanks only: a newline at the end of a prompt is part of it.
    ids = tuple(tokenize(text.strip(" ")))
    return ids[:-1] if ids and ids[-1] == eos else ids


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids both begin with."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(first), len(second)))
