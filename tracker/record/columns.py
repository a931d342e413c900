"""What columns hold: JSON, and the fingerprint of an identity, which its digest tells from another's."""

from __future__ import annotations

import json
from typing import Any

from tracker.errors import Corrupt
from tracker.fingerprint import Identity

_HINT = "Change any setting of this config: two different settings met in 12 digits."


def to_json(value: Any) -> str:
    """``value`` as the JSON columns hold it."""
    return json.dumps(value, ensure_ascii=False)


def check_digest(identity: Identity, recorded: str, where: str, *, hint: str = _HINT) -> None:
    """Raises Corrupt where the fingerprint of ``identity`` stands for other settings, those of ``where``."""
    if recorded != identity.digest:
        raise Corrupt(
            f"Fingerprint {identity.fingerprint} stands for other settings in {where} "
            f"(digest {recorded[:16]} is not {identity.digest[:16]}).",
            hint=hint,
        )
