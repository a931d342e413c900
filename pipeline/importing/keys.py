"""Literal API keys in what is imported: found, left out, and never shown."""

from __future__ import annotations

import re

from tracker.fingerprint import Json

_KEY_NAME = re.compile(
    r"(?:^|[_\W])(?:api_?key|apikey|access_?key|secret(?:_?key)?|(?:auth|access|bearer)_?token|token|password)$",
    re.IGNORECASE,
)
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|tgp_v1_[A-Za-z0-9_-]{16,}|xox[abp]-[A-Za-z0-9-]{16,}"
    r"|AKIA[0-9A-Z]{16}|gh[opsu]_[A-Za-z0-9]{30,}|AIza[0-9A-Za-z_-]{30,})"
)
_ASSIGNED = re.compile(
    r"""(?:api_?key|secret_?key|access_?token|auth_?token)["']?\s*[:=]\s*["']([^"'\s]{8,})["']""", re.IGNORECASE
)
_UNQUOTED = re.compile(
    r"""^\s*(?:export\s+)?["']?\w*(?:api_?key|secret_?key|access_?token|auth_?token)["']?\s*[:=]\s*([^\s"'#]{12,})""",
    re.IGNORECASE | re.MULTILINE,
)
_NO_SECRET = re.compile(
    r"(?:\$|<|your|xxx|\*\*\*|os\.|env|getenv|none$|null$|todo|replace|example|args\.)", re.IGNORECASE
)
_NO_LITERAL = re.compile(r"(?:\$[A-Z_][A-Z0-9_]*|\$\{[A-Z_][A-Z0-9_]*\}|<[^<>]*>|[Nn]one|null)?")
"""A value that only names a key, or where one would stand."""


def without_keys(value: Json, where: str = "") -> tuple[Json, list[str]]:
    """``value`` without literal keys, and the dotted names where they stood."""
    found: list[str] = []
    return _clean(value, where, found), found


def lines_with_keys(text: str) -> list[int]:
    """The numbers, from 1, of the lines of a file that hold a literal key."""
    starts = [match.start() for match in _SHAPES.finditer(text)]
    for pattern in (_ASSIGNED, _UNQUOTED):
        starts += [match.start(1) for match in pattern.finditer(text) if not _NO_SECRET.match(match[1])]
    return sorted({text.count("\n", 0, start) + 1 for start in starts})


def _clean(value: Json, where: str, found: list[str]) -> Json:
    if isinstance(value, dict):
        kept: dict[str, Json] = {}
        for name, item in value.items():
            place = f"{where}.{name}" if where else str(name)
            if _SHAPES.search(str(name)):
                found.append(f"{where or 'the top'} (a key's name)")
            elif isinstance(item, str) and _KEY_NAME.search(str(name)) and not _NO_LITERAL.fullmatch(item.strip()):
                found.append(place)
            else:
                kept[name] = _clean(item, place, found)
        return kept
    if isinstance(value, list):
        return [_clean(item, f"{where}[{number}]", found) for number, item in enumerate(value)]
    if isinstance(value, str) and _SHAPES.search(value):
        found.append(where or "the text")
        return _SHAPES.sub("[a key that was left out]", value)
    return value
