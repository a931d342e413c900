"""What the pages made from the code claim."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from cli.main import cli
from docs.generate import configuration, training
from pipeline.plan import make_plan
from pipeline.records import read_source
from pipeline.training.specs import METHODS, TrainingConfig, effective, without_effect
from tests.generation import CONFIG, config, write_records
from tracker.configs import Document
from tracker.spec import identity, settings


def shapes(page: str) -> dict[str, str]:
    """What a page of the configuration says of each key, by group and name."""
    found, group = {}, ""
    for line in page.splitlines():
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
    assert shapes(configuration())[key] == claim
    assert (fingerprint(first) != fingerprint(first, f"{key}={value}")) is bool(claim)


def test_the_same_data_in_another_place_is_the_same_experiment(tmp_path: Path) -> None:
    first, second = (write_records(tmp_path / where / "Copa").parent for where in ("a", "b"))
    assert fingerprint(first) == fingerprint(second)
    named = "generation.endpoint=mine"
    assert fingerprint(first, named, "generation.base_url=http://localhost/v1") == fingerprint(first, named)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rank", [None, 8])
def test_what_is_part_of_a_trainings_fingerprint_is_said_as_it_is(method: str, rank: int | None) -> None:
    said = {name.removeprefix("top level."): what for name, what in shapes(training()).items()}
    given = {
        "model": "m", "task": "Copa", "method": method, "data": {"path": "d"},
        "hyperparameters": {"learning_rate": 1, "lora_rank": rank},
    }  # fmt: skip
    config = effective(TrainingConfig.model_validate(given), num_dev=100, classification=False)
    part = set(settings(config)) - without_effect(config)
    own = {name: value for name, value in identity(config).items() if name != "hyperparameters"}
    own |= {f"hyperparameters.{name}": value for name, value in identity(config.hyperparameters).items()}
    for name in settings(config):
        methods = [each.strip() for each in said[name].split(",")]
        claimed = "yes" in methods or method in methods or (rank and f"{method} with lora_rank" in methods)
        # Giving zo a rank is what makes it one with LoRA.
        if (name, method, rank) != ("hyperparameters.lora_rank", "zo", None) and name != "model":
            assert bool(claimed) is (name in part and name in own), name
    assert said["model"] == "through the model"
    assert {said[f"data.{name}"] for name in ("path", "paths", "type")} == {"through the data"}


PROMPTS = (Path(__file__).parents[1] / "docs/prompts.md").read_text(encoding="utf-8")
SPANS = set(re.findall(r"`([^`\n]+)`", PROMPTS))


def command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words name, and what follows its name."""
    found: click.Command = cli
    while isinstance(found, click.Group):
        below = found.get_command(click.Context(found), words[0]) if words else None
        if below is None:
            break
        found, words = below, words[1:]
    return found, words


def options(given: click.Command) -> set[str]:
    """Every option of a command and of those below it."""
    found = {name for option in given.params for name in option.opts}
    if isinstance(given, click.Group):
        context = click.Context(given)
        for name in given.list_commands(context):
            below = given.get_command(context, name)
            assert below is not None
            found |= options(below)
    return found


@pytest.mark.parametrize("span", sorted(span for span in SPANS if span.startswith("synthtrack ")))
def test_every_command_that_the_prompts_page_names_exists(span: str) -> None:
    found, rest = command(shlex.split(span)[1:])
    assert found is not cli
    assert {word for word in rest if word.startswith("--")} <= options(found)


def test_every_option_that_the_prompts_page_names_exists() -> None:
    named = {span.split()[0] for span in SPANS if span.startswith("--")}
    assert {"--reject", "--all-same"} <= named <= options(cli)
