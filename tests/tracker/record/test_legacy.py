"""The older system's fingerprints, against its recipe done by hand."""

from __future__ import annotations

import hashlib
import json

from tracker.record.legacy import fingerprint, parameters, prompt_hash

PROMPT = "Rephrase: {premise}\nOnly the sentence: ü"


def test_settings_without_a_judge_have_seven_parts_and_defaults() -> None:
    said = (
        '{"gen_frequency_penalty": 0.0, "gen_max_tokens": 256, "gen_model": "gpt-4o", "gen_presence_penalty": 0.0, '
        f'"gen_prompt_hash": "{hashlib.md5(PROMPT.encode("utf-8")).hexdigest()[:8]}", '
        '"gen_temperature": 0.7, "gen_top_p": 1.0}'
    )
    assert (
        fingerprint({"model": "gpt-4o", "temperature": 0.7, "rephrase_prompt": PROMPT}, None)
        == (hashlib.md5(said.encode("ascii")).hexdigest()[:12])
    )


def test_a_judge_adds_three_parts() -> None:
    generation = {
        "model": "gpt-4o", "temperature": 1, "top_p": 0.9, "max_tokens": 100, "frequency_penalty": 0.5,
        "presence_penalty": -0.5, "rephrase_prompt": "a",
    }  # fmt: skip
    said = (
        '{"gen_frequency_penalty": 0.5, "gen_max_tokens": 100, "gen_model": "gpt-4o", "gen_presence_penalty": -0.5, '
        '"gen_prompt_hash": "0cc175b9", "gen_temperature": 1, "gen_top_p": 0.9, "val_model": "gpt-4o-mini", '
        '"val_prompt_hash": "92eb5ffe", "val_temperature": 0.0}'
    )
    judge = {"model": "gpt-4o-mini", "validation_prompt": "b"}
    assert fingerprint(generation, judge) == hashlib.md5(said.encode()).hexdigest()[:12]


def test_numbers_count_as_they_are_written() -> None:
    settings = {"model": "m", "rephrase_prompt": "p"}
    assert fingerprint({**settings, "temperature": 1}, None) != fingerprint({**settings, "temperature": 1.0}, None)


def test_keys_that_the_recipe_does_not_have_do_not_count() -> None:
    settings = {"model": "m", "temperature": 0.5, "rephrase_prompt": "p"}
    assert fingerprint({**settings, "seed": 7, "few_shot_examples": ["x"]}, None) == fingerprint(settings, None)
    assert json.loads(json.dumps(parameters(settings, None)))["gen_prompt_hash"] == prompt_hash("p")


def test_a_missing_prompt_counts_as_an_empty_one() -> None:
    assert prompt_hash(None) == "d41d8cd9"
