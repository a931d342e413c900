"""What the page about queries claims: it is made of the questions, each runs, and says what is so."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.generate import queries
from tests.query_rows import filled
from tests.training_rows import BATCH, COOL, HOT
from tests.workspaces import REPOSITORY, call
from tracker.tracing.questions import QUESTIONS, VIEWS

PAGE = (REPOSITORY / "docs/queries.md").read_text(encoding="utf-8")
ASKED = dict(re.findall(r"^## \d+\. ([^\n]+)\n\n```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
ANSWERS: dict[str, list[dict[str, Any]]] = {
    "Which generation temperature": [
        {"learning_rate": 5e-7, "generation_temperature": 0.5, "n_experiments": 1, "n_runs": 2, "accuracy": 0.695},
        {"learning_rate": 1e-6, "generation_temperature": 0.5, "n_runs": 2, "accuracy": 0.75, "standard_error": 0.0433},
        {"learning_rate": 1e-6, "generation_temperature": 0.9, "n_runs": 2, "accuracy": 0.77, "standard_error": 0.0421},
    ],
    "Which data was never": [
        {"reference": "Copa/colleague", "purpose": "old", "n_accepted": 50, "cost_usd": None, "n_batches": 0},
        {"reference": "Copa/temp03_llama", "n_accepted": 60, "cost_usd": 0.3, "n_batches": 1, "n_publications": 0},
        {"reference": "Copa/temp07_llama", "n_accepted": 80, "cost_usd": None, "n_batches": 1},
    ],
    "What did each batch cost": [
        {"batch": BATCH, "n_experiments": 3, "n_reused": 0, "cost_usd": 0.024, "data_cost_usd": None},
        {"batch": "batch_20250102_deleted", "n_experiments": 0, "cost_usd": 0.25, "n_accepted": None},
        {"batch": "batch_20250103_models", "n_experiments": 4, "n_reused": 1, "cost_usd": None, "n_accepted": 143},
    ],
    "What did a point": [
        {"task": "CB", "points_over_original": 5.2632, "data_cost_usd": None, "usd_per_point_over_original": None},
        {"data": COOL, "learning_rate": 5e-7, "original_accuracy": None, "usd_per_point_over_zero_shot": 0.012 / 9.5},
        {"data": COOL, "learning_rate": 1e-6, "points_over_original": 2.0, "usd_per_point_over_original": 0.006},
        {"data": f"{COOL}+{HOT}", "n_seeds": 1, "points_over_original": 5.0, "usd_per_point_over_original": 0.0048},
        {"data": HOT, "n_seeds": 2, "points_over_original": 4.0, "points_error": 6.1172, "data_cost_usd": 0.012},
    ],
    "How much do the judges": [
        {"model": "gpt-4o", "n_experiments": 2, "acceptance_rate": 0.75, "standard_error": 0.0, "record_error": 0.1531},
        {"model": "llama-70b", "n_experiments": 2, "acceptance_rate": 0.7, "standard_error": 0.1, "lowest_rate": 0.6},
    ],
    "What changed": [{"name": "generation.temperature", "one": "0.5", "other": "0.9", "shapes_data": 1}],
    "Which prompts were": [{"prompt": "Say it in other words.\nKeep the meaning.\n\n{premise}", "n_experiments": 6}],
    "Which prompts and models": [
        {"accuracy": 0.79, "reference": f"Copa/{HOT}", "name": "generation.model", "value": "gpt-4o"},
        {"name": "generation.rephrase_prompt", "value": "Say it in other words.\nKeep the meaning.\n\n{premise}"},
        {"name": "generation.temperature", "value": "0.9"},
        {"name": "validation.model", "value": "gpt-4o"},
    ],
    "Which rephrasings": [
        {"position": 0, "original": "The man opened a door.", "rephrased": "A door was closed.", "decided_by": "judge"}
    ],
    "Where does the money": [
        {"month": "2024-12", "model": None, "n_runs": 1, "known_usd": 0.25, "n_unpriced_runs": 0},
        {"month": "2024-12", "model": "gpt-4o", "n_runs": 3, "known_usd": 0.024, "n_unpriced_runs": 1},
        {"month": "2024-12", "model": "llama-70b", "n_runs": 2, "known_usd": 0.3, "n_unpriced_runs": 1},
    ],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("queries")).workspace.root


def test_the_page_is_made_of_the_questions() -> None:
    assert queries() == PAGE
    assert {title: sql.rstrip("\n") for title, sql in ASKED.items()} == {each.title: each.sql for each in QUESTIONS}
    assert 10 <= len(QUESTIONS) <= 15
    assert all(f"### {name}\n" in PAGE for name in VIEWS)


@pytest.mark.parametrize("title", ASKED)
def test_every_query_runs_and_gives_what_it_says(root: Path, title: str) -> None:
    done = call(root, "sql", ASKED[title], "--json")
    assert (done.code, "Error" in done.err) == (0, False)
    found = json.loads(done.out)
    selected = list(found[0]) if found else []
    assert all(re.search(rf"\b{name}\b", ASKED[title]) for name in selected)
    expected = next((rows for start, rows in ANSWERS.items() if title.startswith(start)), None)
    if expected is None:
        return
    assert len(found) == len(expected)
    for row, each in zip(found, expected, strict=True):
        assert {name: row[name] for name in each} == {
            name: pytest.approx(value, abs=5e-5, rel=1e-6) if isinstance(value, float) else value
            for name, value in each.items()
        }


def test_the_known_answers_are_to_questions_on_the_page() -> None:
    assert all(sum(title.startswith(start) for title in ASKED) == 1 for start in ANSWERS)


def test_the_commands_on_the_page_run(root: Path, tmp_path: Path) -> None:
    (tmp_path / "question.sql").write_text(QUESTIONS[0].sql, encoding="utf-8")
    shown = re.findall(r"^synthtrack (sql .+?)(?:  .*)?$", PAGE, re.MULTILINE)
    assert len(shown) == 6
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for command in shown:
        done = subprocess.run(
            ["bash", "-c", f'"$0" -m cli.main --root "$1" {command}', sys.executable, str(root)],
            cwd=tmp_path, env=environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (command, done.returncode, done.stderr) == (command, 0, "")
    assert (tmp_path / "answer.csv").read_text(encoding="utf-8").startswith("generation_model,")


def test_the_lines_for_pandas_read_the_file_without_pandas(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only how they connect is ours to hold: the connection must not write.
    monkeypatch.chdir(root)
    (uri,) = re.findall(r'sqlite3\.connect\("(file:tracker\.db[^"]*)", uri=True\)', PAGE)
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM accuracy_by_temperature").fetchone() == (3,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM batch")
