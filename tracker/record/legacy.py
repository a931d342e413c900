"""The fingerprints of the older system, as they stand in its ``.fingerprint`` files.

    first 12 hex digits of MD5(JSON, keys sorted, of the sampling settings and of 8 digits of the prompts' MD5)

Those say less than ours: nothing of the source data, the examples or the seed. So they are kept as a second name, and
never decide what is reused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from tracker.fingerprint import Json

_GENERATION: Mapping[str, Json] = {
    "top_p": 1.0, "max_tokens": 256, "frequency_penalty": 0.0, "presence_penalty": 0.0,
}  # fmt: skip
"""What a setting of the generating model was where the config did not give it."""


def parameters(generation: Mapping[str, Json], validation: Mapping[str, Json] | None) -> dict[str, Json]:
    """What the older system's fingerprint is made of, from the two sections of a config as they stand there."""
    found: dict[str, Json] = {"gen_model": generation.get("model"), "gen_temperature": generation.get("temperature")}
    found |= {f"gen_{name}": generation.get(name, default) for name, default in _GENERATION.items()}
    found["gen_prompt_hash"] = _hash_of(generation, "rephrase_prompt")
    if validation is not None:
        found["val_model"] = validation.get("model")
        found["val_temperature"] = validation.get("temperature", 0.0)
        found["val_prompt_hash"] = _hash_of(validation, "validation_prompt")
    return found


def fingerprint(generation: Mapping[str, Json], validation: Mapping[str, Json] | None) -> str:
    """The 12 hex digits that the older system gave these settings."""
    data = json.dumps(parameters(generation, validation), sort_keys=True)
    return hashlib.md5(data.encode(), usedforsecurity=False).hexdigest()[:12]


def _hash_of(section: Mapping[str, Json], name: str) -> Json:
    # Metadata may hold what was hashed, or no more than what went into the fingerprint.
    return (
        section["prompt_hash"] if name not in section and "prompt_hash" in section else prompt_hash(section.get(name))
    )


def prompt_hash(prompt: Json) -> str:
    """8 hex digits for a prompt; one that is missing counts as empty."""
    text = "" if prompt is None else str(prompt)
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:8]
