"""`--dry-run` against the record: what is new, what is paid already, what it would cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pipeline.chats.tokens import tokenizer_for
from pipeline.generation.generate import generate
from pipeline.generation.job import Job, Options, prepare
from pipeline.generation.preview import Preview, preview
from tests.generation import CONFIG, RECORDS, write_records
from tests.llm_server import running_server
from tracker.paths import Workspace
from tracker.yaml_text import to_yaml

OFFLINE = ("generation.provider=offline", "generation.model=rules-v1", "validation.model=rules-v1")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    write_records(tmp_path / "Copa")
    (tmp_path / "copa.yaml").write_text(to_yaml(CONFIG), encoding="utf-8")
    return Workspace(tmp_path, environ={})


def job(workspace: Workspace, *assignments: str, **options: Any) -> Job:
    given = Options(
        batch="batch_a", overrides=(f"dataset.input_path='{workspace.root}/Copa/copa_train.jsonl'", *assignments)
    )
    return prepare(workspace, workspace.root / "copa.yaml", dataclasses.replace(given, **options))


def see(workspace: Workspace, *assignments: str, **options: Any) -> Preview:
    return preview(workspace, job(workspace, *assignments, **options))


def test_looking_writes_nothing(workspace: Workspace) -> None:
    before = sorted(workspace.root.rglob("*"))
    see(workspace)
    assert sorted(workspace.root.rglob("*")) == before


def test_what_is_new(workspace: Workspace) -> None:
    found = see(workspace)
    assert (found.status, found.reference, found.batch) == ("new", "Copa/temp07_topp10_gpt4o", "batch_a")
    assert (found.n_records, found.n_done, found.rephrase_calls, found.judge_calls, found.already_paid) == (
        3,
        0,
        3,
        3,
        0,
    )
    assert found.reused_from is None
    assert found.rephrase_prompt == "[user]\nSay it in other words: It rained."
    assert found.validation_prompt == "[user]\nDo It rained. and It rained. mean the same?"


def test_tokens_and_cost_are_those_of_all_requests(workspace: Workspace) -> None:
    price = "{input_per_mtok: 1000000, output_per_mtok: 10000000}"
    found = see(workspace, f"generation.price={price}")
    count = tokenizer_for("gpt-4o").count
    texts = [str(record["premise"]) for record in RECORDS]
    rephrase = sum(4 + count(f"Say it in other words: {text}") for text in texts)
    judge = sum(4 + count(f"Do {text} and {text} mean the same?") for text in texts)
    answers = sum(count(text) for text in texts) + 3 * len(texts)
    assert (found.prompt_tokens, found.completion_tokens) == (rephrase + judge, answers)
    assert found.cost_usd == pytest.approx(rephrase + judge + 10 * answers)


def test_a_cost_is_unknown_as_soon_as_one_price_is(workspace: Workspace) -> None:
    assert see(workspace, "validation.base_url=http://127.0.0.1:9/v1").cost_usd is None
    assert see(workspace, "generation.base_url=http://127.0.0.1:9/v1").cost_usd is None


def test_what_is_made_already_costs_nothing(workspace: Workspace) -> None:
    generate(workspace, job(workspace, *OFFLINE))
    found = see(workspace, *OFFLINE)
    assert (found.status, found.reused_from, found.n_done) == ("complete", "batch_a", 3)
    assert (found.rephrase_calls, found.judge_calls, found.prompt_tokens, found.cost_usd) == (0, 0, 0, 0)
    assert see(workspace, *OFFLINE, fresh=True).rephrase_calls == 3


def test_another_judge_pays_only_for_judging(workspace: Workspace) -> None:
    generate(workspace, job(workspace, *OFFLINE))
    found = see(workspace, *OFFLINE, "validation.temperature=0.5")
    assert (found.status, found.rephrase_calls, found.judge_calls, found.already_paid) == ("new", 0, 3, 3)


def test_new_data_is_called_what_it_will_be_called(workspace: Workspace) -> None:
    generate(workspace, job(workspace, *OFFLINE))
    other = (*OFFLINE, "validation.temperature=0.5")
    assert see(workspace, *other).reference == "Copa/temp07_topp10_rulesv1_2"
    told: list[str] = []
    made = generate(workspace, job(workspace, *other), tell=told.append)
    assert f"Copa/{made.name}" == "Copa/temp07_topp10_rulesv1_2"
    assert told == ["Copa/temp07_topp10_rulesv1 is data with other settings; this is called temp07_topp10_rulesv1_2."]


def test_a_larger_part_pays_only_for_what_is_new(workspace: Workspace) -> None:
    generate(workspace, job(workspace, *OFFLINE, record_limit=2))
    found = see(workspace, *OFFLINE)
    assert (found.status, found.rephrase_calls, found.already_paid, found.n_done) == ("new", 1, 2, 0)
    assert found.reference == "Copa/temp07_topp10_rulesv1"


def test_many_records_are_estimated_from_some_of_them(workspace: Workspace) -> None:
    one = see(workspace)
    records = [{"premise": RECORDS[0]["premise"], "idx": number} for number in range(1000)]
    write_records(workspace.root / "Copa", records)
    many = see(workspace)
    write_records(workspace.root / "Copa", records[:1])
    single = see(workspace)
    assert (one.n_records, many.n_records, single.n_records) == (3, 1000, 1)
    assert many.prompt_tokens == 1000 * single.prompt_tokens
    assert many.completion_tokens == 1000 * single.completion_tokens


def test_what_asks_nothing_costs_nothing_whatever_its_price(workspace: Workspace) -> None:
    here = Workspace(workspace.root, environ={"OPENAI_API_KEY": "test-key"})
    with running_server() as server:
        given = (f"generation.base_url={server.base_url}", "validation.provider=offline", "validation.model=rules-v1")
        assert see(here, *given).cost_usd is None
        generate(here, job(here, *given))
        found = see(here, *given)
    assert (found.status, found.cost_usd, found.unpriced) == ("complete", 0, [])
