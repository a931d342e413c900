"""What older metadata says, in whichever shape it says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.importing.files import Kept
from pipeline.importing.settings import OldSettings, moment, read
from pipeline.importing.tree import Found
from tracker.record.content import CONFIG, METADATA
from tracker.record.legacy import fingerprint, parameters

GENERATION = {"model": "gpt-4o", "temperature": 0.7}


def settings(metadata: Any = None, config: str | None = None) -> OldSettings:
    files = {} if metadata is None else {METADATA: Kept(METADATA, json.dumps(metadata).encode())}
    files |= {} if config is None else {CONFIG: Kept(CONFIG, config.encode())}
    return read(Found("Copa", "temp07", Path("/old/temp07")), files)


@pytest.mark.parametrize(
    "metadata",
    [
        {"generation": GENERATION},
        {"config": {"generation": GENERATION}},
        {"generation_config": GENERATION},
        {"generation_config": {"generation": GENERATION}},
        {"parameters": {"gen_model": "gpt-4o", "gen_temperature": 0.7}},
        {"gen_model": "gpt-4o", "gen_temperature": 0.7},
    ],
)
def test_settings_are_found_wherever_they_stand(metadata: dict[str, Any]) -> None:
    assert settings(metadata).section("generation") == GENERATION


def test_what_went_into_the_old_fingerprint_gives_it_again() -> None:
    parts = parameters({**GENERATION, "rephrase_prompt": "a"}, {"model": "gpt-4o", "validation_prompt": "b"})
    said = settings({"parameters": parts})
    assert fingerprint(said.section("generation") or {}, said.section("validation")) == fingerprint(
        {**GENERATION, "rephrase_prompt": "a"}, {"model": "gpt-4o", "validation_prompt": "b"}
    )


def test_the_config_goes_before_the_metadata() -> None:
    said = settings({"generation": {"model": "gpt-4", "temperature": 0.7}}, "generation:\n  model: gpt-4o\n")
    assert said.section("generation") == {"model": "gpt-4o"}
    assert said.problems == [
        (
            "/old/temp07/generation_config.yaml:2",
            "generation.model is 'gpt-4o' here, not as in experiment_metadata.json",
        )
    ]


def test_who_made_it_when_and_why() -> None:
    said = settings(
        {"experiment": {"purpose": "study", "description": "Why", "batch_id": "batch_a"},
         "created_at": "20241229_103000", "original_batch": "batch_b", "parameter_fingerprint": "f8e3d2a1b9c0"}
    )  # fmt: skip
    assert (said.purpose, said.description, said.batch) == ("study", "Why", "batch_b")
    assert said.created_at == "2024-12-29T10:30:00.000000Z"
    assert said.recorded == {METADATA: "f8e3d2a1b9c0"}


def test_a_key_is_placed_and_left_out() -> None:
    said = settings({"config": {"generation": {**GENERATION, "api_key": "abcdefgh"}}})
    assert said.section("generation") == GENERATION
    assert said.secrets == [f"{METADATA}:1 (config.generation.api_key)"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2024-12-29 10:30:00", "2024-12-29T10:30:00.000000Z"),
        ("2024-12-29T10:30:00.5+01:00", "2024-12-29T09:30:00.500000Z"),
        ("20241229_103000", "2024-12-29T10:30:00.000000Z"),
        (1735468200, "2024-12-29T10:30:00.000000Z"),
        ("yesterday", None),
        (True, None),
        (None, None),
        (float("inf"), None),
        ("0001-01-01T00:00:00+23:00", None),
    ],
)
def test_times_are_read_in_many_forms(given: Any, expected: str | None) -> None:
    assert moment(given) == expected
