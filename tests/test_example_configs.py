"""The configs that ship with the package: the offline ones run, the others pass a dry run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workspaces import REPOSITORY, call, write_lines

EXAMPLES = REPOSITORY / "configs/stage1"
PATHS = sorted(str(path.relative_to(REPOSITORY)) for path in EXAMPLES.rglob("*.yaml"))
MADE: dict[str, dict[str, Any]] = {
    "BOOLQ": {"question": "is the sky blue", "answer": True, "passage": "The sky is blue by day."},
    "CB": {"premise": "It rained all day.", "hypothesis": "it was wet", "label": 0},
    "ArcC_MC": {
        "id": "Q1",
        "question": "Which of these is a metal?",
        "choices": {"text": ["iron", "wood", "glass", "wool"], "label": ["A", "B", "C", "D"]},
        "answerKey": "A",
    },
}


def data_for(root: Path, document: dict[str, dict[str, str]]) -> None:
    """Three records with the fields of the config's data set, where there are none yet."""
    dataset = document["dataset"]
    path = root / dataset["input_path"]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = [{**MADE[dataset["dataset_name"]], "idx": number} for number in range(3)]
        for split in ("train", "validation", "test"):
            write_lines(path.with_name(path.name.replace("train", split)), made)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("examples")
    assert call(root, "init").code == 0
    for path in PATHS:
        data_for(root, yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8")))
    return root


def test_there_are_examples() -> None:
    assert len(PATHS) >= 9


@pytest.mark.parametrize("path", PATHS)
def test_an_example_passes_a_dry_run(path: str, root: Path) -> None:
    done = call(root, "generate", path, "--dry-run", "--json")
    assert (done.code, done.err) == (0, ""), done.err
    [preview] = json.loads(done.out)
    assert preview["n_records"] in {3, 40}
    assert "{" not in preview["rephrase_prompt"]
    assert preview["validation_prompt"]


@pytest.mark.parametrize("path", [path for path in PATHS if "provider: offline" in (REPOSITORY / path).read_text()])
def test_an_offline_example_runs(path: str, root: Path) -> None:
    done = call(root, "generate", path, "--no-mlflow")
    assert done.code == 0, done.err
    # One of the temperature study has the settings of the first example, and shares its data.
    assert ": made, complete" in done.out or "already made" in done.out
    assert "no LLM" in done.out


def test_a_directory_of_examples_is_previewed_at_once(root: Path) -> None:
    done = call(root, "generate", "configs/stage1", "--dry-run", "--json")
    assert done.code == 0
    fingerprints = [each["fingerprint"] for each in json.loads(done.out)]
    assert (len(set(fingerprints)), len(fingerprints)) == (len(PATHS) - 1, len(PATHS))
