"""What the pages made from the code claim."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
from pathlib import Path
from typing import Any

import click
import pytest

from cli.main import cli
from docs.generate import PERSPECTIVES_SPECS, configuration, perspectives, training
from pipeline.generation.plan import make_plan
from pipeline.perspectives.job import Options, prepare_settings
from pipeline.perspectives.plan import Agent, shown
from pipeline.sources.records import read_source
from pipeline.training.specs import METHODS, TrainingConfig, effective, without_effect
from tests.generation import CONFIG, config, write_records
from tests.workspaces import REPOSITORY, call
from tracker import configs
from tracker.configs import Document
from tracker.paths import Workspace
from tracker.spec import identity, key_of, settings


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


PERSPECTIVES = (REPOSITORY / "docs/perspectives.md").read_text(encoding="utf-8")


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


def blocks(language: str) -> list[str]:
    """The code blocks of the page on perspectives."""
    return re.findall(rf"^```{language}\n(.*?)^```", PERSPECTIVES, re.MULTILINE | re.DOTALL)


RIDDLES = "configs/perspectives/riddles.json"


def riddles(root: Path) -> Path:
    """A workspace with the task of one's own that the page describes, asked offline."""
    [inputs], config = blocks("jsonl"), blocks("json")[-1]
    model = '"model_name": "gpt-4o-mini"'
    assert model in config
    for path, text in (("data/riddles.jsonl", inputs), (RIDDLES, config.replace(model, '"model_name": "rules-v1"'))):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return root


def test_a_task_of_ones_own_runs_as_the_page_says_and_its_sql_finds_answers(tmp_path: Path) -> None:
    root = riddles(tmp_path)
    for line in re.findall(r"^\$ synthtrack (.*riddles.*)", PERSPECTIVES, re.MULTILINE):
        words = shlex.split(line)
        offline = () if words[1] == "show" else ("--set", "api_provider=offline")
        assert "riddles" in call(root, *words, *offline).out
    with sqlite3.connect(root / "tracker.db") as connection:
        queries = [query.replace("'translation'", "'riddles'").replace("= 2", "= 1") for query in blocks("sql")]
        rows = [connection.execute(query).fetchall() for query in queries]
    assert [len(each) for each in rows] == [3, 3, 3, 1, 6], "an input, conditions, answers once, the task, longer ones"


def test_the_page_says_what_agents_are_told_word_by_word(tmp_path: Path) -> None:
    told = blocks("text")
    job = prepare_settings(Workspace(riddles(tmp_path), environ={}), configs.load(tmp_path / RIDDLES).data, Options())
    text = job.plan.inputs[0].text
    plain, noting = job.plan.agents[0], job.plan.agents[1]

    def written(block: str, agent: Agent) -> str:
        return block.strip().format(
            strategy=agent.strategy, reading=agent.reading, input=text, notes="Keys of a piano."
        )  # fmt: skip

    sent = [
        job.plan.request(0, plain),
        job.plan.reading_request(0, noting),
        job.plan.request(0, noting, "Keys of a piano."),
    ]
    agents = (plain, noting, noting)
    assert [shown([each]) for each in sent] == [f"[user]\n{written(*each)}" for each in zip(told, agents, strict=True)]


def test_every_key_of_the_agents_file_is_explained() -> None:
    form = json.loads((REPOSITORY / "tracker/record/agent_file.schema.json").read_text(encoding="utf-8"))
    keys = set(form["properties"]) - {"tasks", "metadata"}
    keys |= {f"tasks[].{name}" for name in form["$defs"]["task"]["properties"]}
    keys |= {f"metadata.{name}" for name in form["$defs"]["metadata"]["properties"]}
    explained = {name for row in re.findall(r"^\| (`.*?`) \|", PERSPECTIVES, re.MULTILINE) for name in row.split("`")}
    assert keys <= explained


@pytest.mark.parametrize("task", ["translation", "summarization", "peer_review"])
def test_the_page_says_what_every_condition_of_the_ready_configs_is_for(task: str) -> None:
    table = PERSPECTIVES.partition("| what a condition is for |")[2].partition("\n\n")[0]
    header, _, *rows = table.strip().splitlines()
    column = [each.strip() for each in header.split("|")].index(task.replace("_", " "))
    said = [name.strip() for row in rows for name in row.split("|")[column + 1 + 1].split(",") if name.strip()]
    config = configs.load(REPOSITORY / f"configs/perspectives/{task}.json").data
    assert sorted(said) == sorted(each["condition"] for each in config["agent_perspectives"])


def test_every_key_of_a_config_of_perspectives_is_on_its_page() -> None:
    said = shapes(perspectives())
    for group, spec in PERSPECTIVES_SPECS.items():
        assert {f"{group}.{key_of(name, info)}" for name, info in spec.model_fields.items()} <= set(said), group


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ("model_config.temperature=0.1", "yes"),
        ("model_config.base_url=http://localhost/v1", "through the endpoint"),
        ("model_config.timeout=5", ""),
        ("task_description=other", "yes"),
        ("add_references=true", "yes"),
        ("data_config.sample_size=1", "through the inputs"),
        ("seed=5", "through the inputs"),
    ],
)
def test_what_shapes_agents_is_said_as_it_is(tmp_path: Path, change: str, claim: str) -> None:
    workspace = Workspace(riddles(tmp_path), environ={})
    config = configs.load(tmp_path / RIDDLES).data | {"api_provider": "openai"}

    def fingerprint_with(*overrides: str) -> str:
        return prepare_settings(workspace, config, Options(overrides=overrides)).plan.identity.fingerprint

    name = change.partition("=")[0]
    assert shapes(perspectives())[name if "." in name else f"top level.{name}"] == claim
    # A seed draws nothing where all inputs are used: what is used is what counts.
    assert (fingerprint_with() != fingerprint_with(change)) is (bool(claim) and name != "seed")
