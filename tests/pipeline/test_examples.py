"""The shipped configs are valid, and the shipped sample is what its README says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.prompts import format_examples, judge_fields, parse
from pipeline.specs import GenerationConfig
from tracker.configs import load, validate

CONFIGS = Path(__file__).parents[2] / "configs"
STAGE1 = sorted((CONFIGS / "stage1").rglob("*.yaml"))
COPA = CONFIGS / "sample" / "Copa"
FIELDS = {
    "Copa": ["premise", "choice1", "choice2", "question", "idx", "label"],
    "BOOLQ": ["question", "answer", "passage"],
    "CB": ["premise", "hypothesis", "idx", "label"],
    "ArcC_MC": ["id", "question", "choices", "answerKey"],
}


@pytest.mark.parametrize("path", STAGE1, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_a_shipped_config_is_valid_and_its_prompts_name_only_fields_that_exist(path: Path) -> None:
    config = validate(GenerationConfig, load(path))
    assert config.validation is not None
    record = dict.fromkeys(FIELDS[str(config.dataset.dataset_name)], "")
    rephrase = parse(config.generation.rephrase_prompt, fewshot=format_examples(config.generation.few_shot_examples))
    judge = parse(config.validation.validation_prompt, fewshot=format_examples(config.validation.few_shot_examples))
    field = config.generation.field_to_rephrase
    assert field in rephrase.names
    assert {f"original_{field}", f"rephrased_{field}"} <= judge.names
    assert rephrase.names <= set(record)
    assert judge.names <= set(judge_fields(record, field, ""))
    assert rephrase.uses_fewshot
    assert judge.uses_fewshot


def test_there_are_configs_in_every_directory_of_stage1() -> None:
    assert {path.parent.name for path in STAGE1} == {"stage1", "copa_temperature_study"}


@pytest.mark.parametrize(("split", "count"), [("train", 40), ("validation", 10), ("test", 10)])
def test_the_sample_is_balanced(split: str, count: int) -> None:
    lines = (COPA / f"copa_{split}.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert lines == [json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in records]
    assert all(list(record) == FIELDS["Copa"] for record in records)
    assert [record["idx"] for record in records] == list(range(count))
    assert Counter(record["question"] for record in records) == {"cause": count / 2, "effect": count / 2}
    labels = {-1: count} if split == "test" else {0: count / 2, 1: count / 2}
    assert Counter(record["label"] for record in records) == labels
