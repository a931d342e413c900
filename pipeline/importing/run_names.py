"""What the directories of a result say: ``{purpose}/{Model}/{Task}_{method}_{data}_{lr}/{YYYYMMDD_HHMMSS}``. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from tracker.fingerprint import Json

_METHODS = "zo|fo_full|fo_lora|fo|lora|full|ft|mezo"
_RATE = r"\d+(?:\.\d+)?_-?\d{1,3}|\d+(?:\.\d*)?[eE][-+]?\d{1,3}|0?\.\d+"
_LEAF = re.compile(rf"(?P<task>.+?)_(?P<method>{_METHODS})(?:_(?P<data>.+))?_(?P<rate>{_RATE})")
_STAMP = re.compile(r"(\d{8})_?(\d{6})(?:_\d+)?")


@dataclass(frozen=True, slots=True)
class Named:
    """What a directory's place says of a run; None where it does not say it."""

    purpose: str | None
    model: str | None
    task: str | None
    method: str | None
    data: str | None
    learning_rate: float | None
    stamp: str | None


def named(parts: tuple[str, ...]) -> Named:
    """What the names of directories say, from the purpose down to the time."""
    stamp = parts[-1] if parts and _STAMP.fullmatch(parts[-1]) else None
    above = parts[:-1] if stamp is not None else parts
    leaf = _LEAF.fullmatch(above[-1]) if above else None
    model = "/".join(above[1:-1]) if len(above) > 2 else None
    purpose = above[0] if len(above) > 1 else None
    if leaf is None:
        return Named(purpose, model, None, None, None, None, stamp)
    return Named(purpose, model, leaf["task"], leaf["method"], leaf["data"], rate(leaf["rate"]), stamp)


def rate(given: Json) -> float | None:
    """A learning rate: a number, or a text such as ``1e-6`` or ``1_6`` (which is 1e-6)."""
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        return None
    text = str(given).strip()
    if matched := re.fullmatch(r"(\d+(?:\.\d+)?)_(-?\d{1,3})", text):
        text = f"{matched[1]}e{-int(matched[2])}"
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def moment(stamp: str | None) -> datetime | None:
    """The time of ``20251226_143000``, which is this machine's local time."""
    matched = _STAMP.fullmatch(stamp.strip()) if stamp else None
    if matched is None:
        return None
    try:
        naive = datetime.strptime(matched[1] + matched[2], "%Y%m%d%H%M%S")  # noqa: DTZ007  local by what wrote it
        return naive.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
