"""Canonical JSON and the names made of it.

    fingerprint = first 12 hex digits of MD5(canonical JSON of {scheme, kind, identity})
    digest      = SHA-256 of the same bytes

MD5 because twelve digits of it are what people already read in ``.fingerprint`` files; nothing rests on its strength,
since the digest is compared wherever a fingerprint decides.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SCHEME = 1
MIN_DIGITS = 4
"""Digits of a fingerprint, or of an id, that a person may give instead of all of them."""

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

Json = Any
"""What ``json.loads`` can return."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a thing itself, and its two names."""

    kind: str
    canonical: str
    fingerprint: str
    digest: str


def canonical_json(value: Json) -> str:
    """The one JSON text of ``value``: keys sorted, no blanks, 1.0 written as 1.

    Raises ValueError for NaN and infinities, which JSON has no words for, and TypeError for what is not JSON.
    """
    return _ENCODER.encode(_canonical(value))


def identify(kind: str, identity: Mapping[str, Json]) -> Identity:
    """The fingerprint and digest of the settings ``identity`` of a thing of ``kind``."""
    return identified(kind, canonical_json({"scheme": SCHEME, "kind": kind, "identity": identity}))


def identified(kind: str, canonical: str) -> Identity:
    """The names of what has been brought into canonical form before."""
    import hashlib

    data = canonical.encode()
    return Identity(
        kind=kind,
        canonical=canonical,
        fingerprint=hashlib.md5(data, usedforsecurity=False).hexdigest()[:12],
        digest=hashlib.sha256(data).hexdigest(),
    )


def content_key(value: Json) -> str:
    """32 hex digits (128 bits) of the SHA-256 of ``value``'s canonical JSON, with the scheme in it."""
    from hashlib import sha256

    return sha256(canonical_json([SCHEME, value]).encode()).hexdigest()[:32]


def bytes_digest(chunks: Iterable[bytes]) -> str:
    """The SHA-256 of ``chunks`` one after the other, 64 hex digits."""
    from hashlib import sha256

    digest = sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _canonical(value: Json) -> Json:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no JSON form")
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("the keys of a JSON object are text")
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")
