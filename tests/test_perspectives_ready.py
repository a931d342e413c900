"""The configs of `perspectives` that `init` lays out run as they stand, against the test server and by the rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.perspectives.job import TEST_INPUTS, TEST_PERSPECTIVES
from tests.llm_server import running_server
from tests.perspectives import Row, content, files, received, tasks
from tests.workspaces import REPOSITORY, call
from tracker import configs

READY = sorted((REPOSITORY / "configs/perspectives").iterdir())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    root.mkdir()
    assert call(root, "init", root).code == 0
    return root


def calls(perspectives: list[Row], n_inputs: int) -> int:
    return n_inputs * sum(1 if each["reading"] is None else 2 for each in perspectives)


@pytest.mark.parametrize("path", READY, ids=lambda path: path.name)
def test_a_ready_config_runs_as_it_stands(root: Path, path: Path) -> None:
    name = f"configs/perspectives/{path.name}"
    document: Any = configs.load(root / name).data
    # `reading` may be left out.
    perspectives = [{"reading": None, **each} for each in document["agent_perspectives"]]
    inputs = json.loads((root / document["data_config"]["input_data_path"]).read_text(encoding="utf-8"))
    few = inputs[:TEST_INPUTS], perspectives[:TEST_PERSPECTIVES]
    is_offline = document.get("api_provider") == "offline"
    with running_server() as server:
        reach = [] if is_offline else ["--set", f"model_config.base_url={server.base_url}"]
        run = ("perspectives", name, "--no-mlflow", *reach)
        preview = call(root, *run, "--dry-run", "--json")
        assert preview.code == 0, preview.err
        assert preview.err == ""
        [found] = json.loads(preview.out)
        assert found["n_calls"] == calls(perspectives, len(inputs))
        assert [prompt["condition"] for prompt in found["prompts"]] == [each["condition"] for each in perspectives]
        assert received(server) == 0
        trial = call(root, *run, "--test")
        assert trial.code == 0, trial.err
        whole = call(root, *run)
        assert whole.code == 0, whole.err
        if not is_offline:
            assert received(server) == calls(perspectives, len(inputs))
    first, second = (content(made) for made in files(root))
    references = document.get("add_references", False)
    for made, (records, agents) in ((first, few), (second, (inputs, perspectives))):
        assert [each["condition"] for each in made["agent_perspectives"]][int(references) :] == [
            each["condition"] for each in agents
        ]
        if is_offline:
            assert [task["context"] for task in made["tasks"]] == [record["input"] for record in records]
            assert all(all(task["responses"]) for task in made["tasks"])
        else:
            assert made["tasks"] == tasks(records, agents, references=references)
