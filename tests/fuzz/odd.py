"""Strategies for what is not as it should be: values, texts, names, documents and bytes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

Json = Any

fuzzed = settings(max_examples=settings().max_examples // 5)
"""For every property here: a whole command is slow beside a function."""

_TEXTS = (
    "", " ", "\n", "\t", "a\nb", "..", "../..", "/", "/etc", "~", "~nobody_such", "-", "--help", ".hidden", "_shared",
    "a/b", "a\\b", "con\x00trol", "\x1b[31m", "\ud800", "\udcff", "\ufeff", "\u202e", "é", "e\u0301", "🙂", "x" * 300,
    "é" * 150, "{", "}", "{{", "{}", "{0}", "{premise}", "{idx}", "{{REPHRASE_FEWSHOT}}", "{premise.__class__}",
    "${HOME}", "$HOME", "%s", "nan", "NaN", "inf", "-inf", "1e999", "1_000", "0x10", "007", "true", "null", "~",
    "2024-12-29", "1:30", "file:", "file:///etc/passwd", "http://", "https://u:p@h/", "hf:x", "a,b", "a=b", "0-0",
    "5-1", "1-99999999999999999999", "50:50", "-1", "0", "1" * 5000,
)  # fmt: skip
_NUMBERS: tuple[int | float, ...] = (
    0, 1, -1, 2, 10**3, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400, 0.5, -0.0, 1e-6, 1e-320,
    1e15, 1e308, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip


def texts() -> st.SearchStrategy[str]:
    """Short texts, most of them awkward; lone surrogates are among them."""
    free = st.text(st.characters(codec=None), max_size=20)
    return st.one_of(st.sampled_from(_TEXTS), free, free.map(lambda text: f"a{text}/../b"))


def numbers() -> st.SearchStrategy[int | float]:
    return st.one_of(st.sampled_from(_NUMBERS), st.integers(), st.floats())


def values() -> st.SearchStrategy[Json]:
    """Anything that JSON or YAML can say."""
    plain = st.one_of(st.none(), st.booleans(), numbers(), texts())
    grown = st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts(), inner, max_size=4),
        max_leaves=6,
    )
    deep = st.integers(2, 400).map(_nested)
    return st.one_of(plain, plain, grown, deep)


def _nested(depth: int) -> Json:
    found: Json = 1
    for _ in range(depth):
        found = [found]
    return found


def documents(base: Json) -> st.SearchStrategy[Json]:
    """``base`` with a few of its places changed: a value replaced, a key taken away, moved, doubled or added."""
    return st.lists(_edits(), min_size=1, max_size=3).map(lambda edits: _edited(base, edits))


Edit = tuple[str, int, str, Json]


def _edits() -> st.SearchStrategy[Edit]:
    kinds = st.sampled_from(("replace", "replace", "replace", "remove", "add", "rename", "wrap", "repeat", "swap"))
    return st.tuples(kinds, st.integers(0, 10**6), texts(), values())


def _edited(base: Json, edits: Sequence[Edit]) -> Json:
    found = copy.deepcopy(base)
    for kind, number, name, value in edits:
        places = list(_places(found))
        if not places:
            return value
        holder, key = places[number % len(places)]
        _CHANGES[kind](holder, key, name, value)
    return found


def _places(value: Json) -> list[tuple[Any, Any]]:
    pairs = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [place for key, inner in pairs for place in [(value, key), *_places(inner)]]


def _remove(holder: Any, key: Any, _: str, __: Json) -> None:
    del holder[key]


def _replace(holder: Any, key: Any, _: str, value: Json) -> None:
    holder[key] = value


def _add(holder: Any, key: Any, name: str, value: Json) -> None:
    if isinstance(holder, dict):
        holder[name] = value
    else:
        holder.insert(key, value)


def _rename(holder: Any, key: Any, name: str, _: Json) -> None:
    holder[name if isinstance(holder, dict) else key] = holder.pop(key) if isinstance(holder, dict) else name


def _wrap(holder: Any, key: Any, _: str, __: Json) -> None:
    holder[key] = [holder[key]]


def _repeat(holder: Any, key: Any, _: str, __: Json) -> None:
    if isinstance(holder[key], (list, str)):
        holder[key] = holder[key] * 50


def _swap(holder: Any, key: Any, _: str, __: Json) -> None:
    other = next(iter(holder)) if isinstance(holder, dict) else 0
    holder[key], holder[other] = holder[other], holder[key]


_CHANGES: dict[str, Callable[[Any, Any, str, Json], None]] = {
    "replace": _replace, "remove": _remove, "add": _add, "rename": _rename, "wrap": _wrap, "repeat": _repeat,
    "swap": _swap,
}  # fmt: skip


def damaged(*sound: bytes) -> st.SearchStrategy[bytes]:
    """One of ``sound`` with a few bytes flipped, cut, doubled, or pieces of other formats put in."""
    damage = st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 400), _pieces()), min_size=1, max_size=4)
    return st.builds(_damaged, st.sampled_from(sound), damage)


def _pieces() -> st.SearchStrategy[bytes | None]:
    """What is put in; None takes bytes away."""
    awkward = (
        b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\n", b"\t", b"{", b"}", b"[" * 300, b'"', b"'", b"\\",
        b"\\ud800", b"&a ", b"*a", b"<<: *a\n", b"!!python/object:os.system ", b"%YAML 9.9\n", b"---\n", b"...\n",
        b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b": ", b"- ", b"? ", b"| ", b"# ", b"//", b"/*", b",", b"null",
        b"{}", b"[]", b"\xed\xa0\x80", "\u2028".encode(), "\x85".encode(), b"\x1b[2J", b"../", b"/",
    )  # fmt: skip
    return st.one_of(st.none(), st.sampled_from(awkward), st.binary(max_size=4))


def _damaged(sound: bytes, damage: Sequence[tuple[int, int, bytes | None]]) -> bytes:
    found = sound
    for place, length, piece in damage:
        at = place % (len(found) + 1)
        found = found[:at] + (b"" if piece is None else piece) + found[at + (length if piece is None else length % 3) :]
    return found


def json_text(value: Json) -> bytes:
    """``value`` as Python writes JSON, with NaN and what is no UTF-8 in it."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def jsonl(rows: Sequence[Json]) -> bytes:
    return b"".join(json_text(row) + b"\n" for row in rows)
