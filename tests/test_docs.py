"""What the pages made from the code claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from docs.generate import configuration
from pipeline.plan import make_plan
from pipeline.records import read_source
from tests.generation import CONFIG, config, write_records
from tracker.configs import Document


def shapes() -> dict[str, str]:
    """What the page of the configuration says of each key, by group and name."""
    found, group = {}, ""
    for line in configuration().splitlines():
        if line.startswith("## "):
            group = line.removeprefix("## ")
        elif line.startswith("| `"):
            name, _, what, *_ = (cell.strip() for cell in line.strip("|").split(" | "))
            found[f"{group}.{name.strip('`')}"] = what
    return found


def fingerprint(directory: Path, *assignments: str, **environ: Any) -> str:
    given = {**CONFIG, "dataset": {"input_path": str(directory / "copa_train.jsonl")}}
    chosen = config(*assignments, given=given, environ=environ)
    return make_plan(chosen, Document({}, "f"), read_source(chosen.dataset, "premise", Path)).identity.fingerprint


@pytest.mark.parametrize(
    ("key", "value", "claim"),
    [
        ("dataset.dataset_name", "Other", "through the source"),
        ("dataset.task_name", "other", "through the source"),
        ("dataset.files.test", "copa_train2.jsonl", "through the source"),
        ("generation.base_url", "http://localhost/v1", "through the endpoint"),
        ("generation.temperature", "0.1", "yes"),
        ("generation.timeout", "5", ""),
        ("experiment.purpose", "other", ""),
    ],
)
def test_what_shapes_the_data_is_said_as_it_is(tmp_path: Path, key: str, value: str, claim: str) -> None:
    first = write_records(tmp_path / "Copa").parent
    (first / "copa_train2.jsonl").write_text('{"premise": "Another."}\n')
    assert shapes()[key] == claim
    assert (fingerprint(first) != fingerprint(first, f"{key}={value}")) is bool(claim)


def test_the_same_data_in_another_place_is_the_same_experiment(tmp_path: Path) -> None:
    first, second = (write_records(tmp_path / where / "Copa").parent for where in ("a", "b"))
    assert fingerprint(first) == fingerprint(second)
    named = "generation.endpoint=mine"
    assert fingerprint(first, named, "generation.base_url=http://localhost/v1") == fingerprint(first, named)
