"""``--dry-run`` says what a run then does: its calls exactly, its tokens within reason, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.perspectives.plan import NOTES
from tests.llm_server import running_server
from tests.perspectives import (
    PERSPECTIVES,
    Row,
    agent,
    content,
    document,
    files,
    new_root,
    offline,
    pairs,
    received,
    served,
    write_config,
    write_inputs,
)
from tests.workspaces import call
from tracker.paths import Workspace
from tracker.record.catalogue import reading

COUNT = 6
RUN = ("perspectives", "config.json", "--no-mlflow")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path, COUNT)


def preview(root: Path, *arguments: str) -> Row:
    done = call(root, *RUN, "--dry-run", "--json", *arguments)
    assert done.code == 0, done.err
    [found] = json.loads(done.out)
    assert isinstance(found, dict)
    return found


def counted(found: Row) -> tuple[str, int, int, int]:
    return found["status"], found["n_done"], found["n_calls"], found["already_paid"]


def test_nothing_is_asked_and_nothing_is_written(root: Path) -> None:
    write_config(root, document(model_config__base_url="http://127.0.0.1:1/v1"))
    before = sorted(root.rglob("*"))
    assert counted(preview(root)) == ("new", 0, 4 * COUNT, 0)
    assert sorted(root.rglob("*")) == before


def test_every_condition_shows_what_its_agent_is_told(root: Path) -> None:
    write_config(root, offline(add_references=True))
    first = pairs(1)[0]["input"]
    found = preview(root)
    assert [prompt["condition"] for prompt in found["prompts"]] == ["Original", "Noted", "Low Effort"]
    assert found["prompts"][0]["text"] == f"[user]\nTranslate this sentence.\n\n{first}"
    notes = f"{NOTES}\n(the notes that the agent takes first)"
    assert found["prompts"][1]["text"] == (
        f"[user]\nNote what matters.\n\n{first}\n\n[user]\nTranslate it with your notes.\n\n{first}\n\n{notes}"
    )
    shown = call(root, *RUN, "--dry-run").out
    assert f"{COUNT} inputs, 3 conditions and the reference (1 of them reads first); model rules-v1 " in " ".join(
        shown.split()
    )
    assert "Calls: about 24" in shown
    assert all(str(each["strategy"]) in shown for each in PERSPECTIVES)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data_config__sample_size": 2},
        {"add_references": True},
        {
            "agent_perspectives": [
                agent("A", "Do."),
                agent("B", "Do."),
                agent("C", "Do.", "Read."),
                agent("D", "Do.", "Read."),
            ]
        },
    ],
    ids=["some read", "a sample", "with references", "told the same"],
)
def test_calls_are_counted_exactly_and_tokens_about_right(root: Path, changes: Row) -> None:
    with running_server() as server:
        write_config(root, served(server.base_url, **changes))
        before = preview(root)
        assert call(root, *RUN).code == 0
        assert received(server) == before["n_calls"]
    metadata = content(files(root)[0])["metadata"]
    used, estimated = metadata["token_usage"], metadata["estimated_tokens"]
    assert {name: before[name] for name in ("prompt_tokens", "completion_tokens", "tokenizer")} == {
        name: estimated[name] for name in ("prompt_tokens", "completion_tokens", "tokenizer")
    }
    assert 0.5 < estimated["prompt_tokens"] / used["prompt_tokens"] < 2
    assert 0.5 < estimated["completion_tokens"] / used["completion_tokens"] < 2
    for kind in (used, estimated):
        assert kind["total_tokens"] == kind["prompt_tokens"] + kind["completion_tokens"]
    assert counted(preview(root)) == ("complete", before["n_responses"], 0, 0)


def test_an_input_that_is_there_twice_is_asked_about_once(root: Path) -> None:
    write_inputs(root, [*pairs(2), *pairs(2), *pairs(1)])
    with running_server() as server:
        write_config(root, served(server.base_url))
        before = preview(root)
        assert (before["n_responses"], before["n_calls"]) == (15, 8)
        assert call(root, *RUN).code == 0
        assert received(server) == 8
    assert len(content(files(root)[0])["tasks"]) == 5


def test_after_a_part_exactly_what_is_missing_is_counted(root: Path) -> None:
    with running_server(poison="haus 002".title()) as server:
        write_config(root, served(server.base_url, model_config__max_retries=0))
        assert call(root, *RUN).code == 1
    # Both who do not read fail, and who reads fails at its notes.
    found = preview(root)
    assert counted(found) == ("unfinished", 3 * COUNT - 3, 4, 0)
    assert found["name"] is not None
    with running_server() as server:
        write_config(root, served(server.base_url))
        assert call(root, *RUN).code == 0
        assert received(server) == 4
    assert counted(preview(root)) == ("complete", 3 * COUNT, 0, 0)


def test_after_notes_without_a_response_the_response_alone_is_counted(root: Path) -> None:
    with running_server(poison="with your notes") as server:
        write_config(root, served(server.base_url, model_config__max_retries=0))
        assert call(root, *RUN).code == 1
    assert counted(preview(root)) == ("unfinished", 2 * COUNT, COUNT, COUNT)


def test_what_other_data_sets_paid_is_told_of(root: Path) -> None:
    write_config(root, offline())
    assert call(root, *RUN).code == 0
    added = [*PERSPECTIVES, agent("New", reading="Read.")]
    write_config(root, offline(agent_perspectives=added))
    assert counted(preview(root)) == ("new", 0, 2 * COUNT, 4 * COUNT)
    assert f"{4 * COUNT} answers from the ledger" in call(root, *RUN, "--dry-run").out
    assert counted(preview(root, "--fresh"))[2:] == (6 * COUNT, 0)


def test_the_cost_is_that_of_the_tokens_where_a_price_is_known(root: Path) -> None:
    write_config(root, document())
    listed = preview(root)
    assert listed["cost_usd"] > 0
    assert listed["unpriced"] is None
    price = {"input_per_mtok": 2, "output_per_mtok": 10}
    write_config(root, document(model_config__price=price))
    found = preview(root)
    assert found["cost_usd"] == pytest.approx((2 * found["prompt_tokens"] + 10 * found["completion_tokens"]) / 1e6)
    write_config(root, document(model_config__base_url="http://127.0.0.1:1/v1"))
    assert preview(root)["cost_usd"] is None
    assert "no price is known for gpt-4o at http://127.0.0.1:1/v1" in call(root, *RUN, "--dry-run").out
    write_config(root, offline())
    assert preview(root)["cost_usd"] == 0


def test_an_estimate_knows_how_long_an_answer_can_get_and_how_long_references_are(root: Path) -> None:
    def completion(**changes: Any) -> int:
        write_config(root, offline(agent_perspectives=[agent("A", "Do.")], **changes))
        return int(preview(root)["completion_tokens"])

    write_inputs(root, [{"input": letter * 400} for letter in "abc"])
    assert (completion(), completion(model_config__max_tokens=7)) == (3 * 50, 3 * 7)
    assert completion(model_config__max_tokens=1000) == 3 * 100
    write_inputs(root, [{"input": "a" * (360 + length), "reference": "b" * length} for length in (40, 80)])
    assert completion(model_config__max_tokens=1000) == 2 * 15


def test_many_inputs_are_estimated_as_if_all_were_counted(root: Path) -> None:
    write_inputs(root, [{"input": f"{number:08}"} for number in range(1050)])
    write_config(root, offline(agent_perspectives=[agent("A", "Do."), agent("B", "Do it.", "Read.")]))
    found = preview(root)
    assert found["n_calls"] == 3 * 1050
    # With an input "Do.", "Do it." and "Read." are 4 tokens each and a message 4 more; notes are 1 token.
    assert found["prompt_tokens"] == 1050 * (8 + (8 + 1) + 8)
    # An input is 2 tokens, and so is each response.
    assert found["completion_tokens"] == 1050 * (2 + 1 + 2)


def test_a_long_input_is_shown_once_and_in_short_and_nothing_is_too_wide(root: Path) -> None:
    write_inputs(root, [{"input": "A paper of many words. " * 2000}])
    told = [agent(f"Reviewer number {number}", "Write a review. " * 20, "Read it. " * 30) for number in range(12)]
    write_config(root, offline(agent_perspectives=told, model_config__system_prompt="Be brief."))
    shown = call(root, *RUN, "--dry-run").out
    assert shown.count("A paper of many words.") < 12
    assert max(map(len, shown.splitlines()[1:])) <= 80
    assert " ".join(shown.split()).count("Write a review.") == 12 * 20
    assert "System prompt  Be brief." in shown
    assert "1 input, 12 conditions (12 of them read first)" in shown
    assert len(preview(root)["prompts"][0]["text"]) > 2 * 40_000


def test_a_trial_is_said_to_be_one(root: Path) -> None:
    write_config(root, offline())
    assert "A trial (--test): " in call(root, *RUN, "--dry-run", "--test").out
    assert "A trial" not in call(root, *RUN, "--dry-run").out
    assert [preview(root, *each)["is_trial"] for each in ([], ["--test"])] == [False, True]


def test_whether_a_cap_suffices_is_said_with_what_was_spent(root: Path) -> None:
    price = {"input_per_mtok": 100.0, "output_per_mtok": 1000.0}

    def said(cap: float) -> tuple[bool | None, str]:
        shown = call(root, *RUN, "--dry-run", "--max-cost", str(cap)).out
        line = " ".join(shown.split()).partition("--max-cost")[2].partition(" Input 1 ")[0]
        return preview(root, "--max-cost", str(cap))["max_cost_suffices"], line

    write_config(root, document(model_config__base_url="http://127.0.0.1:1/v1"))
    assert said(1) == (None, " $1.0000: needs known prices; the run would be refused")
    with running_server(poison="Haus 002") as server:
        write_config(root, served(server.base_url, model_config__max_retries=0, model_config__price=price))
        whole = preview(root)["cost_usd"]
        assert said(whole + 0.0001) == (True, f" ${whole + 0.0001:.4f}: suffices by this estimate")
        assert said(whole - 0.0001)[0] is False
        assert call(root, *RUN).code == 1
        found = preview(root)
        assert found["spent_usd"] > found["cost_usd"] > 0
        suffices, line = said(found["spent_usd"])
        assert suffices is False
        assert f"with the ${found['spent_usd']:.4f} that was spent before" in line
        assert said(found["spent_usd"] + found["cost_usd"] + 0.0001)[0] is True


def test_several_configs_are_told_of_one_after_the_other(root: Path) -> None:
    write_config(root, offline(task_type="a"), "a.json")
    write_config(root, offline(task_type="b"), "b.json")
    done = call(root, "perspectives", "a.json", "--config", "b.json", "--dry-run", "--json")
    assert [(each["task_type"], Path(each["config"]).name) for each in json.loads(done.out)] == [
        ("a", "a.json"),
        ("b", "b.json"),
    ]
    assert not (root / "tracker.db").exists()


def test_the_estimate_is_kept_with_the_data_set(root: Path) -> None:
    write_config(root, offline())
    before = preview(root)
    assert call(root, *RUN).code == 0
    with reading(Workspace(root, environ={})) as reader:
        [row] = reader.rows("SELECT estimated_prompt_tokens, estimated_completion_tokens, tokenizer FROM agent_dataset")
    assert tuple(row.values()) == (before["prompt_tokens"], before["completion_tokens"], before["tokenizer"])
