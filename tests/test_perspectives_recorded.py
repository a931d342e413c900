"""The acceptance: 200 real German-English pairs under four conditions, with faults, killed and resumed.

The pairs lie beside the repository, in ``../shared``; where they are not, there is nothing to test.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.llm_server import Server, running_server
from tests.perspectives import agent, answered_twice, content, files, lasting, received, served, tasks, write_config
from tests.workspaces import REPOSITORY, call, finish, rows, start

PAIRS = REPOSITORY.parent / "shared/data/translation/de_en_200.json"
RUN = ("perspectives", "config.json", "--no-mlflow")
FOUR = [
    agent("Original", "Translate the following German sentence to English."),
    agent("Noted", "Translate it with the help of your notes.", "Note what is hard to translate here."),
    agent("Low Effort", "Translate the following German sentence to English with as little effort as you can."),
    agent("Opposite", "Translate the following German sentence to English, and turn its meaning around."),
]
CALLS = 200 * 5
KILLS = 4
IN_FLIGHT = 20

pytestmark = pytest.mark.skipif(not PAIRS.exists(), reason="no ../shared/data here")


def workspace(root: Path, server: Server, **changes: Any) -> Path:
    root.mkdir()
    given = {
        "agent_perspectives": FOUR, "data_config__input_data_path": str(PAIRS), "add_references": True,
        "model_config__concurrency": IN_FLIGHT,
    }  # fmt: skip
    write_config(root, served(server.base_url, **{**given, **changes}))
    return root


def test_disturbed_in_every_way_it_is_the_file_that_it_is_undisturbed(tmp_path: Path) -> None:
    draw = random.Random(3)
    with running_server() as quiet:
        good = workspace(tmp_path / "good", quiet)
        assert call(good, *RUN).code == 0
        assert received(quiet) == CALLS
        assert call(good, *RUN).out.startswith("⚡")
        assert received(quiet) == CALLS
    faulty = running_server(latency=0.05, fault_rate=0.08, fault_seed=2, slow_seconds=0.5)
    with faulty as server:
        root = workspace(tmp_path / "bad", server, model_config__timeout=1)
        for _ in range(KILLS):
            process = start(root, *RUN)
            enough = received(server) + draw.randint(40, 220)
            while received(server) < enough and process.poll() is None:
                time.sleep(0.01)
            process.kill()
            finish(process)
        done = call(root, *RUN)
        assert done.code == 0, done.err
        assert len(server.stats()["faults"]) >= 8
        # Besides what was in flight and not committed at a kill, a fault that was sent counts as an answer there.
        faults = sum(server.stats()["faults"].values())
        assert answered_twice(server) <= KILLS * 2 * IN_FLIGHT + faults
    [made], [expected] = files(root), files(good)
    assert lasting(made) == lasting(expected)
    pairs = json.loads(PAIRS.read_text(encoding="utf-8"))
    assert content(made)["tasks"] == tasks(pairs, FOUR, references=True)
    assert rows(root, "SELECT count(*) FROM attempt WHERE failure IS NULL") == [(CALLS,)]
    figures = "SELECT condition, n_responses, n_failed, chrf IS NULL FROM agent_perspective ORDER BY position"
    assert rows(root, figures) == [
        ("Reference", 200, 0, 1), ("Original", 200, 0, 0), ("Noted", 200, 0, 0), ("Low Effort", 200, 0, 0),
        ("Opposite", 200, 0, 0),
    ]  # fmt: skip
    assert [row[1:] for row in rows(root, figures)] == [row[1:] for row in rows(good, figures)]
