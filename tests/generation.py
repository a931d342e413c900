"""Generation configs and source data for tests of what is made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.generation.plan import Plan, make_plan
from pipeline.providers import resolve
from pipeline.sources.records import Source, read_source
from pipeline.specs import GenerationConfig
from tracker.configs import Document, override, validate

RECORDS = [
    {"premise": "It rained.", "choice1": "The street is wet.", "choice2": "The street is dry.", "idx": 0, "label": 0},
    {"premise": "The man fell.", "choice1": "He slept.", "choice2": "He slipped.", "idx": 1, "label": 1},
    {"premise": "The tür fell shut.", "choice1": "Wind blew.", "choice2": "It was open.", "idx": 2, "label": 0},
]
CONFIG: dict[str, Any] = {
    "dataset": {"input_path": "Copa/copa_train.jsonl"},
    "generation": {
        "model": "gpt-4o",
        "temperature": 0.7,
        "field_to_rephrase": "premise",
        "rephrase_prompt": "Say it in other words: {premise}",
    },
    "validation": {
        "model": "gpt-4o",
        "validation_prompt": "Do {original_premise} and {rephrased_premise} mean the same?",
    },
}


def config(
    *assignments: str, environ: Mapping[str, str] | None = None, given: Mapping[str, Any] = CONFIG
) -> GenerationConfig:
    """A resolved config, with `--set` assignments."""
    return resolve(validate(GenerationConfig, override(Document(dict(given), "f"), assignments)), environ or {})


def write_records(directory: Path, records: Sequence[Mapping[str, Any]] = RECORDS, *, stem: str = "copa") -> Path:
    """A data set of three splits in ``directory``; the path of its train split."""
    directory.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        lines = [json.dumps(record, ensure_ascii=False) for record in (records if split == "train" else records[:1])]
        (directory / f"{stem}_{split}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return directory / f"{stem}_train.jsonl"


def source(root: Path, records: Sequence[Mapping[str, Any]] = RECORDS) -> Source:
    """The source data set made of ``records``."""
    spec = config(f"dataset.input_path='{write_records(root / 'Copa', records)}'").dataset
    return read_source(spec, "premise", Path)


def plan(root: Path, *assignments: str, records: Sequence[Mapping[str, Any]] = RECORDS, **options: Any) -> Plan:
    """The plan for a config over ``records``."""
    return make_plan(config(*assignments), Document({}, "f"), source(root, records), **options)
