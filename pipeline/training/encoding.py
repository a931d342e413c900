"""Questions as token ids: no tensor, no model, only a function that turns text into ids."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Encoded:
    """One question: the ids of prompt and candidate together for each candidate, and where each one's option begins.

    ``starts[i]`` is the index in ``sequences[i]`` of the first token of the option; ``answer`` is -1 where unlabelled.
    """

    sequences: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    answer: int
    truncated: bool = False
