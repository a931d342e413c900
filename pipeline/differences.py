"""What changed between two texts, word by word, for people to see."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher

_WORDS = re.compile(r"\w+(?:['\u2019]\w+)*|\s+|[^\w\s]")


@dataclass(frozen=True)
class Piece:
    """A part of a text: whether the other text has it too, at that place."""

    text: str
    changed: bool


def differences(original: str, rephrased: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces that together are the text again; what the other one does not have is changed.

    Words are compared without regard to case. Blanks between two changed words belong to the change.
    """
    old, new = _WORDS.findall(original), _WORDS.findall(rephrased)
    matcher = SequenceMatcher(None, [word.lower() for word in old], [word.lower() for word in new], autojunk=False)
    kept_old, kept_new = [False] * len(old), [False] * len(new)
    for start_old, start_new, size in matcher.get_matching_blocks():
        kept_old[start_old : start_old + size] = [True] * size
        kept_new[start_new : start_new + size] = [True] * size
    return _pieces(old, kept_old), _pieces(new, kept_new)


def marked(pieces: Iterable[Piece], before: str, after: str) -> str:
    """The text with marks around what changed, for where there is no colour: ``[-gone-]``, ``{+new+}``."""
    return "".join(f"{before}{piece.text}{after}" if piece.changed else piece.text for piece in pieces)


def _pieces(words: list[str], kept: list[bool]) -> list[Piece]:
    for at in range(1, len(words) - 1):
        if words[at].isspace() and not kept[at - 1] and not kept[at + 1]:
            kept[at] = False
    found: list[Piece] = []
    for word, is_kept in zip(words, kept, strict=True):
        # A blank alone is no change that anybody could see.
        changed = not is_kept and (not word.isspace() or bool(found and found[-1].changed))
        if found and found[-1].changed == changed:
            found[-1] = Piece(found[-1].text + word, changed)
        else:
            found.append(Piece(word, changed))
    return found
