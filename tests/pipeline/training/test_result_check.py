"""`verify` sees what somebody changed in the files of a result directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import trainings
from tests.workspaces import call


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a trained model; each test puts back what it changes."""
    root = trainings.new_root(tmp_path_factory.mktemp("trained"))
    trainings.trained(root, hyperparameters__seed=[0, 1])
    trainings.trained(root, method="fo_full")
    return root


def found(root: Path) -> list[str]:
    done = json.loads(call(root, "verify", "--json").out)
    assert all(each["remedy"] for each in done["findings"])
    return [each["what"] for each in done["findings"] if each["kind"] == "results" and "train.out" not in each["what"]]


def test_what_a_run_wrote_is_what_the_record_says(root: Path) -> None:
    assert found(root) == []


def edited(name: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        document = json.loads(text)
        document[name] = 0.999
        return json.dumps(document)

    return edit


CHANGES: dict[str, tuple[str, Callable[[str], str], str]] = {
    "accuracy": ("metrics.json", edited("accuracy"), "says something else than the record of accuracy"),
    "no JSON": ("metrics.json", lambda text: text[:-5], "is not what a run writes any more"),
    "a list": ("metrics.json", lambda _: "[]", "is not what a run writes any more"),
    "an answer": (
        "predictions.jsonl", lambda text: text.replace('"predicted": 0', '"predicted": 1', 1).replace(
            '"predicted": 1', '"predicted": 0', 1) + text.splitlines()[0].replace('"index": 0', '"index": 999') + "\n",
        "says something else than the record of record",
    ),
    "a line less": (
        "predictions.jsonl", lambda text: text.split("\n", 1)[1],
        "says something else than the record of record 0",
    ),
    "a rate": (
        "experiment_config.yaml", lambda text: text.replace("learning_rate: 0.001", "learning_rate: 0.002"),
        "says something else than the record of hyperparameters.learning_rate",
    ),
    "a model": (
        "experiment_config.yaml", lambda text: text.replace("model: scratch:llama-tiny", "model: other"),
        "says something else than the record of model",
    ),
    "bytes": ("experiment_config.yaml", lambda _: "\x00", "is not what a run writes any more"),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_changed_is_named(root: Path, what: str) -> None:
    name, change, said = CHANGES[what]
    path = trainings.directory(root, 1) / name
    text = path.read_text()
    try:
        path.write_text(change(text))
        assert path.read_text() != text
        [one] = found(root)
    finally:
        path.write_text(text)
    assert one.startswith(f"{name} {said}")
