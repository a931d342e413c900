"""The configs that ship with the package: the offline ones of stage 1 run, the others pass a dry run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.annotating.checkpoints import open_sheet
from pipeline.chats.offline_rules import same
from pipeline.two_stage import ANNOTATION, REVIEW
from tests.two_stage import decide
from tests.workspaces import REPOSITORY, Done, call, rows, write_lines
from tracker.paths import find_workspace

EXAMPLES = REPOSITORY / "configs/stage1"
TRAININGS = sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "configs/stage2").rglob("*.yaml"))
FROM_THE_HUB = {"configs/stage2/copa_zo.yaml"}
TWO_STAGE = "configs/stage1/copa_two_stage_offline.yaml"
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
    assert len(PATHS) >= 11


@pytest.mark.parametrize("path", PATHS)
def test_an_example_passes_a_dry_run(path: str, root: Path) -> None:
    done = call(root, "generate", path, "--dry-run", "--json")
    assert (done.code, done.err) == (0, ""), done.err
    [preview] = json.loads(done.out)
    assert preview["n_records"] in {3, 40}
    assert "{" not in preview["rephrase_prompt"]
    assert preview["validation_prompt"]


OFFLINE = [path for path in PATHS if "provider: offline" in (REPOSITORY / path).read_text()]


@pytest.mark.parametrize("path", [path for path in OFFLINE if path != TWO_STAGE])
def test_an_offline_example_runs(path: str, root: Path) -> None:
    done = call(root, "generate", path, "--no-mlflow")
    assert done.code == 0, done.err
    # One of the temperature study has the settings of the first example, and shares its data.
    assert ": made, complete" in done.out or "already made" in done.out
    assert "no LLM" in done.out


@pytest.mark.parametrize(("n_stricter", "passes"), [(0, True), (4, True), (5, False)])
def test_the_offline_example_of_two_stage_can_be_finished(n_stricter: int, passes: bool, tmp_path: Path) -> None:
    """A person finds what the rules find, and on some of the test samples more."""
    head = (REPOSITORY / TWO_STAGE).read_text(encoding="utf-8").partition("\n\n")[0]
    reference = head.partition("synthtrack review ")[2].split()[0]
    assert head.count(reference) == 2
    assert call(tmp_path, "init").code == 0

    def step() -> Done:
        return call(tmp_path, "generate", TWO_STAGE, "--no-mlflow")

    first = step()
    assert first.code == 0, first.err
    assert f"{reference}: made, waiting" in first.out
    decide(tmp_path, reference, REVIEW, {8})
    assert step().code == 0
    with open_sheet(find_workspace(str(tmp_path)), reference, ANNOTATION) as sheet:
        found = {card.number: same(card.original, card.rephrased) for card in sheet.cards}
    assert list(found) == list(range(9, 33))
    stricter = [number for number, agreed in found.items() if number >= 17 and agreed][:n_stricter]
    decide(tmp_path, reference, ANNOTATION, {number for number, agreed in found.items() if not agreed} | {*stricter})
    last = step()
    assert last.code == (0 if passes else 15), last.err
    assert rows(tmp_path, "SELECT status FROM shared_experiment") == [("complete" if passes else "unfinished",)]


def test_a_directory_of_examples_is_previewed_at_once(root: Path) -> None:
    done = call(root, "generate", "configs/stage1", "--dry-run", "--json")
    assert done.code == 0
    fingerprints = [each["fingerprint"] for each in json.loads(done.out)]
    assert (len(set(fingerprints)), len(fingerprints)) == (len(PATHS) - 1, len(PATHS))


@pytest.fixture(scope="module")
def generated(root: Path) -> Path:
    """The same workspace with the data that the configs of stage 2 name."""
    for config in ("configs/stage1/copa_offline.yaml", "configs/stage1/copa_temperature_study"):
        assert call(root, "generate", config, "--no-mlflow").code == 0
    return root


# What is no config of this machine: a model that is not here, a GPU that may not be.
HERE = ("--set", "model=scratch:llama-tiny", "--set", "cuda_devices=cpu")


@pytest.mark.parametrize("path", TRAININGS)
def test_an_example_of_a_training_passes_a_dry_run(path: str, generated: Path) -> None:
    done = call(generated, "train", path, "--dry-run", "--json", *(HERE if path in FROM_THE_HUB else ()))
    assert done.code == 0, done.err
    [plan] = json.loads(done.out)
    assert len(plan["points"]) == len({point["fingerprint"] for point in plan["points"]}) >= 2
    assert all(point["wanted"] for point in plan["points"])
    assert (plan["n_dev"], plan["n_eval"]) == (10, 10)
    assert {data["dataset"] for data in plan["data"]} == {"Copa"}
    purposes = {point["directory"].split("/")[1] for point in plan["points"]}
    assert purposes == {yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8"))["experiment"]["purpose"]}
    # An example shows what has an effect, and only what may surprise is warned of: that the tail is rephrased.
    assert all("of its last 10 records" in warning for warning in plan["warnings"])


def test_every_method_and_every_way_of_naming_data_has_an_example() -> None:
    documents = [yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8")) for path in TRAININGS]
    assert {document["method"] for document in documents} == {"zo", "fo_full", "fo_lora"}
    assert {name for document in documents for name in document["data"]} == {"path", "paths"}
    assert {document["model"] for document in documents} >= {"scratch:llama-tiny"}


def test_a_directory_of_trainings_is_planned_at_once(generated: Path) -> None:
    done = call(generated, "train", "configs/stage2", "--dry-run", "--json", *HERE)
    assert done.code == 0, done.err
    assert [plan["config"].partition("configs/")[2] for plan in json.loads(done.out)] == [
        path.partition("configs/")[2] for path in TRAININGS
    ]


HEADS = "".join((REPOSITORY / path).read_text(encoding="utf-8") for path in TRAININGS)
SAID = sorted(set(re.findall(r"^#   synthtrack ((?:generate|train) \S+)", HEADS, re.MULTILINE)))


@pytest.mark.parametrize("command", SAID)
def test_what_examples_say_of_themselves_can_be_typed(command: str, generated: Path) -> None:
    """Here it is dry, whatever the example says."""
    override = HERE if command.split()[1] in FROM_THE_HUB else ()
    done = call(generated, *command.split(), "--dry-run", *override)
    assert done.code == 0, done.err


def test_examples_say_how_they_are_run() -> None:
    assert {command.split()[0] for command in SAID} == {"generate", "train"}
