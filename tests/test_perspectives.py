"""``perspectives`` from config to file, asked of the test server through the real clients: nothing is paid twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.perspectives.plan import NOTES
from tests.llm_server import Server, invented_answer, running_server
from tests.perspectives import (
    PERSPECTIVES,
    Row,
    agent,
    content,
    files,
    new_root,
    pairs,
    received,
    served,
    tasks,
    write_config,
    write_inputs,
)
from tests.workspaces import Done, call, rows

COUNT = 5
RUN = ("perspectives", "config.json", "--no-mlflow")
LLAMA = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path, COUNT)


class Study:
    """A workspace and the server that its configs ask."""

    def __init__(self, root: Path, server: Server) -> None:
        self.root, self.server = root, server

    def run(self, *arguments: str, **changes: Any) -> tuple[int, Row]:
        """How many requests arrived, and the file that came of it."""
        before, there = received(self.server), set(files(self.root))
        done = self.call(*arguments, **changes)
        assert done.code == 0, done.err
        new = [path for path in files(self.root) if path not in there] or files(self.root)
        return received(self.server) - before, content(new[-1])

    def call(self, *arguments: str, **changes: Any) -> Done:
        write_config(self.root, served(self.server.base_url, **changes))
        return call(self.root, *RUN, *arguments)


@pytest.fixture
def study(root: Path) -> Any:
    with running_server() as server:
        yield Study(root, server)


@pytest.mark.parametrize(("provider", "model"), [("openai", "gpt-4o"), ("together", LLAMA)])
def test_a_file_holds_what_the_server_answered(root: Path, tmp_path: Path, provider: str, model: str) -> None:
    log = tmp_path / "log.jsonl"
    with running_server(log=log) as server:
        write_config(root, served(server.base_url, model_config__model_name=model))
        done = call(root, *RUN)
        assert done.code == 0, done.err
        stats = server.stats()
        again = call(root, *RUN)
        assert server.stats() == stats
    [path] = files(root)
    assert path.name.startswith(f"translation_{model.rpartition('/')[2]}_20")
    found = content(path)
    assert list(found) == ["task_type", "task_description", "agent_perspectives", "tasks", "metadata"]
    assert (found["task_type"], found["task_description"]) == ("translation", "German to English")
    assert found["agent_perspectives"] == list(PERSPECTIVES)
    assert found["tasks"] == tasks(pairs(COUNT))
    bodies = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert len(bodies) == 4 * COUNT
    assert {body["model"] for body in bodies} == {model}
    metadata = found["metadata"]
    assert metadata["api_provider"] == provider
    assert metadata["api_calls"] == {"total_calls": 4 * COUNT, "from_ledger": 0}
    prompts = [body["messages"][-1]["content"] for body in bodies]
    used = (sum(len(text) // 4 + 1 for text in prompts), sum(len(invented_answer(text)) // 4 + 1 for text in prompts))
    assert metadata["token_usage"] == {
        "prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used),
    }  # fmt: skip
    assert metadata["failed_responses"] == 0
    assert metadata["data_config"] == {"input_data_path": "inputs.json", "sample_size": COUNT}
    assert metadata["model_config"]["model_name"] == model
    assert again.out.startswith(f"⚡ {path.stem}: already made, nothing generated")
    assert rows(root, "SELECT outcome, status, n_calls, n_responses FROM agent_run ORDER BY id") == [
        ("made", "complete", 4 * COUNT, 3 * COUNT),
        ("reused", "complete", 0, 3 * COUNT),
    ]


def test_notes_go_into_the_second_request_word_by_word(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with running_server(log=log) as server:
        write_config(root, served(server.base_url, agent_perspectives=[PERSPECTIVES[1]], data_config__sample_size=1))
        assert call(root, *RUN).code == 0
    first, second = (json.loads(line)["messages"] for line in log.read_text(encoding="utf-8").splitlines())
    text = pairs(1)[0]["input"]
    asked = f"Note what matters.\n\n{text}"
    assert first == [{"role": "user", "content": asked}]
    notes = invented_answer(asked)
    assert second == [
        {"role": "user", "content": f"Translate it with your notes.\n\n{text}\n\n{NOTES}\n{notes}"},
    ]
    assert content(files(root)[0])["tasks"][0]["preparations"] == [notes]


def test_responses_stand_in_the_order_of_perspectives_however_they_come(root: Path) -> None:
    many = [agent(f"Agent {number}", reading="Read." if number % 3 == 0 else None) for number in range(7)]
    with running_server(faults="slow", fault_rate=0.5, slow_seconds=0.3) as server:
        write_config(root, served(server.base_url, agent_perspectives=many, add_references=True))
        done = call(root, *RUN)
        assert done.code == 0, done.err
    found = content(files(root)[0])
    assert [each["condition"] for each in found["agent_perspectives"]] == [
        "Reference", *(f"Agent {number}" for number in range(7))
    ]  # fmt: skip
    assert found["agent_perspectives"][0] == {"condition": "Reference", "reading": None, "strategy": None}
    assert found["tasks"] == tasks(pairs(COUNT), many, references=True)
    # They came in another order: the slow ones after those that were asked later.
    came = [(row[0], row[1]) for row in rows(root, "SELECT position, perspective FROM agent_response ORDER BY id")]
    assert came != sorted(came)


NEW = agent("New", "Translate it wrongly.")
RENAMED = [{**each, "condition": f"{each['condition']} again"} for each in PERSPECTIVES]


@pytest.mark.parametrize(
    ("perspectives", "calls"),
    [
        ([*PERSPECTIVES, NEW], COUNT),
        ([NEW, *PERSPECTIVES], COUNT),
        ([*PERSPECTIVES, {**NEW, "reading": "Read."}], 2 * COUNT),
        (PERSPECTIVES[1:], 0),
        (PERSPECTIVES[::-1], 0),
        (RENAMED, 0),
        ([PERSPECTIVES[0], {**PERSPECTIVES[1], "strategy": "Other."}, PERSPECTIVES[2]], 2 * COUNT),
        ([{**PERSPECTIVES[0], "strategy": "Other."}, *PERSPECTIVES[1:]], COUNT),
        ([PERSPECTIVES[0], {**PERSPECTIVES[1], "reading": None}, PERSPECTIVES[2]], COUNT),
        ([*PERSPECTIVES, {**PERSPECTIVES[0], "condition": "Twin"}], COUNT),
    ],
    ids=["added", "put first", "added, reads", "removed", "moved", "renamed", "strategy of one that reads", "changed",
         "reads no more", "a twin"],
)  # fmt: skip
def test_changing_perspectives_pays_for_what_is_new(study: Study, perspectives: list[Row], calls: int) -> None:
    assert study.run()[0] == 4 * COUNT
    paid, found = study.run(agent_perspectives=perspectives)
    assert paid == calls
    assert found["agent_perspectives"] == list(perspectives)
    expected = tasks(pairs(COUNT), perspectives)
    assert [task["responses"] for task in found["tasks"]] == [task["responses"] for task in expected]
    assert found["metadata"]["api_calls"]["total_calls"] == calls
    assert len(files(study.root)) == 2


@pytest.mark.parametrize(
    ("changes", "calls"),
    [
        ({"model_config__temperature": 1.0}, 4 * COUNT),
        ({"model_config__system_prompt": "Be brief."}, 4 * COUNT),
        ({"add_references": True}, 0),
        ({"task_description": "Other."}, 0),
        ({"task_type": "other"}, 0),
        ({"data_config__sample_size": 2}, 0),
        ({"data_config__sample_size": 3, "seed": 7}, 0),
    ],
    ids=str,
)
def test_changing_a_setting_pays_where_it_shapes_answers(study: Study, changes: Row, calls: int) -> None:
    study.run()
    assert study.run(**changes)[0] == calls
    assert len(files(study.root)) == 2
    assert study.run(**changes)[0] == 0
    assert len(files(study.root)) == 2


@pytest.mark.parametrize("changes", [{"model_config__concurrency": 1}, {"model_config__max_retries": 0}], ids=str)
def test_how_it_is_asked_makes_no_other_data_set(study: Study, changes: Row) -> None:
    study.run()
    assert study.run(**changes)[0] == 0
    assert len(files(study.root)) == 1


def test_new_and_changed_inputs_are_paid_and_no_others(study: Study) -> None:
    study.run()
    write_inputs(study.root, pairs(COUNT + 2))
    assert study.run()[0] == 2 * 4
    changed = pairs(COUNT + 2)
    changed[3]["input"] = "Etwas anderes."
    write_inputs(study.root, changed)
    assert study.run()[0] == 4
    # A reference is no part of a request.
    changed[4]["reference"] = "Something else."
    write_inputs(study.root, changed)
    assert study.run()[0] == 0
    assert study.run(add_references=True)[1]["tasks"] == tasks(changed, references=True)
    write_inputs(study.root, changed[::-1], "other.jsonl")
    assert study.run(data_config__input_data_path="other.jsonl")[0] == 0
    assert len(files(study.root)) == 6


def test_a_fresh_draw_is_paid_anew_and_the_first_stays(study: Study) -> None:
    study.run()
    before = files(study.root)[0].read_bytes()
    study.server.reset()
    done = study.call("--fresh")
    assert done.code == 0
    assert received(study.server) == 4 * COUNT
    study.server.reset()
    assert study.call("--fresh").code == 0
    assert received(study.server) == 4 * COUNT
    assert rows(study.root, "SELECT draw FROM agent_dataset ORDER BY id") == [(0,), (1,), (2,)]
    assert len(files(study.root)) == 3
    assert study.call().out.startswith(f"⚡ {files(study.root)[0].stem}")
    assert files(study.root)[0].read_bytes() == before


def test_a_trial_is_not_paid_again(tmp_path: Path) -> None:
    root = new_root(tmp_path, 15)
    six = [agent(f"Agent {number}") for number in range(6)]
    with running_server() as server:
        study = Study(root, server)
        calls, trial = study.run("--test", agent_perspectives=six)
        assert calls == 40
        assert trial["tasks"] == tasks(pairs(10), six[:4])
        assert study.run("--test", agent_perspectives=six)[0] == 0
        calls, whole = study.run(agent_perspectives=six)
        assert calls == 15 * 6 - 40
        assert whole["tasks"] == tasks(pairs(15), six)
        assert whole["metadata"]["api_calls"] == {"total_calls": 50, "from_ledger": 40}


def test_a_file_that_is_gone_or_edited_is_written_again_without_a_request(study: Study) -> None:
    study.run()
    [path] = files(study.root)
    made = path.read_bytes()
    path.unlink()
    assert study.run()[0] == 0
    assert path.read_bytes() == made
    path.write_text("edited", encoding="utf-8")
    done = study.call()
    assert f"{path.relative_to(study.root / 'data')} was not what the record says" in done.err
    assert path.read_bytes() == made
    assert [each.read_text(encoding="utf-8") for each in study.root.rglob(path.name) if each != path] == ["edited"]
    assert received(study.server) == 4 * COUNT


def test_two_data_sets_of_one_second_have_two_names(study: Study) -> None:
    for number in range(4):
        study.run(task_description=f"{number}")
    names = [path.stem for path in files(study.root)]
    assert len(set(names)) == 4


def test_reusing_needs_no_key_and_asking_does(root: Path) -> None:
    no_key = {"OPENAI_API_KEY": None}
    with running_server() as server:
        write_config(root, served(server.base_url))
        done = call(root, *RUN, environ=no_key)
        assert done.code == 9
        assert "export OPENAI_API_KEY=" in done.err
        assert received(server) == 0
        assert not (root / "tracker.db").exists()
        assert call(root, *RUN).code == 0
    assert call(root, *RUN, environ=no_key).code == 0


def test_several_configs_run_in_turn_and_what_is_wrong_with_one_stops_no_other(study: Study) -> None:
    given = served(study.server.base_url)
    write_config(
        study.root, {**given, "model_config": {**given["model_config"], "model_name": "no-such-model"}}, "a.json"
    )
    write_config(study.root, given, "b.json")
    done = call(study.root, "perspectives", "a.json", "b.json", "--no-mlflow", "--json")
    assert done.code == 8
    first, second = json.loads(done.out)
    assert (first["outcome"], first["exit_code"]) == ("failed", 8)
    assert (second["outcome"], second["status"], second["n_responses"]) == ("made", "complete", 3 * COUNT)
    assert study.root / second["path"] == files(study.root)[0]


def test_a_directory_holds_configs_in_both_forms(study: Study) -> None:
    (study.root / "all").mkdir()
    write_config(study.root, served(study.server.base_url), "all/a.json")
    write_config(study.root, served(study.server.base_url, task_type="b"), "all/b.yaml")
    done = call(study.root, "perspectives", "all", "--no-mlflow", "--json")
    assert [each["task_type"] for each in json.loads(done.out)] == ["translation", "b"]


def test_a_price_of_the_config_makes_a_cost(study: Study) -> None:
    _, found = study.run(model_config__price={"input_per_mtok": 2, "output_per_mtok": 10})
    used = found["metadata"]["token_usage"]
    expected = (2 * used["prompt_tokens"] + 10 * used["completion_tokens"]) / 1e6
    assert found["metadata"]["cost_usd"] == pytest.approx(expected)
    assert study.run(task_type="without")[1]["metadata"]["cost_usd"] == 0
    [(known,)] = rows(study.root, "SELECT cost_usd FROM agent_dataset WHERE task_type = 'translation'")
    assert known == pytest.approx(expected)


def test_secrets_are_nowhere_in_record_or_file(study: Study) -> None:
    _, found = study.run(model_config__api_key="test-key")
    assert "test-key" not in json.dumps(found)
    assert b"test-key" not in (study.root / "tracker.db").read_bytes()
