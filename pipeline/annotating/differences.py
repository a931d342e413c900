"""What changed between two texts, word by word, for people to see."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from operator import itemgetter

_WORDS = re.compile(r"\w+(?:['\u2019]\w+)*|\s+|[^\w\s]")
_BETWEEN_SENTENCES = re.compile(r"((?<=[.!?])\s+|\n+)")
_MOST_PARTS = 2_000
_MOST_PAIRS = 100_000


@dataclass(frozen=True)
class Piece:
    """A part of a text: whether the other text has it too, at that place."""

    text: str
    changed: bool


def differences(original: str, rephrased: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces that together are the text again; what the other one does not have is changed.

    Words are compared as they are written; blanks are not compared, and those between two changed words belong to the
    change. Texts for which that takes long (above some 2,000 words) are compared sentence by sentence.
    """
    old, new = _WORDS.findall(original), _WORDS.findall(rephrased)
    if _written(old) == _written(new):
        return _pieces(old, [False] * len(old)), _pieces(new, [False] * len(new))
    if _takes_long(_written(old), _written(new)):
        old, new = _sentences(original), _sentences(rephrased)
    if _takes_long(_written(old), _written(new)):
        old, new = ([text] if text else [] for text in (original, rephrased))
    written_old, written_new = _written(old), _written(new)
    changed_old, changed_new = [True] * len(written_old), [True] * len(written_new)
    matcher = SequenceMatcher(None, written_old, written_new, autojunk=False)
    for start_old, start_new, size in matcher.get_matching_blocks():
        changed_old[start_old : start_old + size] = [False] * size
        changed_new[start_new : start_new + size] = [False] * size
    return _pieces(old, changed_old), _pieces(new, changed_new)


def only_blanks_differ(original: str, rephrased: str) -> bool:
    """Whether two texts that are not equal have the same words and marks, so that nothing in them is changed."""
    return original != rephrased and _written(_WORDS.findall(original)) == _written(_WORDS.findall(rephrased))


def marked(pieces: Iterable[Piece], before: str, after: str) -> str:
    """The text with marks around what changed, for where there is no colour: ``[-gone-]``, ``{+new+}``."""
    return "".join(f"{before}{piece.text}{after}" if piece.changed else piece.text for piece in pieces)


def _sentences(text: str) -> list[str]:
    return [part for part in _BETWEEN_SENTENCES.split(text) if part]


def _written(parts: Sequence[str]) -> list[str]:
    return [part for part in parts if not part.isspace()]


def _takes_long(old: Sequence[str], new: Sequence[str]) -> bool:
    # The matcher looks at each pair of equal parts many times.
    counts = Counter(new)
    return max(len(old), len(new)) > _MOST_PARTS or sum(counts[part] for part in old) > _MOST_PAIRS


def _pieces(parts: Sequence[str], changed: Sequence[bool]) -> list[Piece]:
    """Neighbours that fare alike as one; ``changed`` is of the parts that are not blank."""
    around, at, found = [False, *changed, False], 0, []
    for part in parts:
        if part.isspace():
            found.append((around[at] and around[at + 1], part))
        else:
            at += 1
            found.append((around[at], part))
    return [
        Piece("".join(part for _, part in group), is_changed) for is_changed, group in groupby(found, itemgetter(0))
    ]
