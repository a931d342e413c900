"""What the test server answers to the tasks of pools: mostly right where they are easy, mostly wrong where hard."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.pools import grading
from tests.databases import rows
from tests.workspaces import write_lines
from tracker.paths import Workspace
from tracker.record.catalogue import Row

_TASKS = """
    SELECT benchmark, benchmark_position, difficulty_bin, difficulty_score, raw_data FROM task_pool_task_overview
    ORDER BY task_pool_id, position"""


def mostly(task: Row) -> bool:
    """Right with a probability that falls with the difficulty; of one task always the same."""
    chance = random.Random(f"{task['benchmark']} {task['benchmark_position']}").random()
    return chance > 0.1 + 0.6 * float(task["difficulty_score"])


def easy_ones(task: Row) -> bool:
    return bool(task["difficulty_bin"] == "easy")


def said(benchmark: str, raw: dict[str, Any], *, right: bool) -> str:
    """An answer as models give them."""
    if benchmark == grading.CODE:
        body = raw.get("canonical_solution", "    return 0\n") if right else "    return ...\n"
        return f"```python\n{raw['prompt'].rstrip()}\n{body.rstrip()}\n```"
    expected = grading.expected(benchmark, raw)
    if right:
        return f"Let us think step by step.\n\n**Answer: {expected}**"
    options = raw.get("options") or {}
    wrong = next((letter for letter in options if letter != expected), None)
    if wrong is None:
        pairs = {"yes": "No", "no": "Yes", "true": "False", "false": "True", "valid": "invalid", "invalid": "valid"}
        wrong = pairs.get(str(expected).casefold(), "(Z)" if str(expected).startswith("(") else "-7")
    return f"It could be {expected}.\n\nAnswer: {wrong}"


def record_answers(root: Path, path: Path, is_right: Callable[[Row], bool] = mostly) -> Path:
    """Answers to every task of every pool in a workspace, as the server's ``--recorded``."""
    told = {}
    for task in rows(Workspace(root, environ={}), _TASKS):
        raw = json.loads(task["raw_data"])
        told[grading.question(task["benchmark"], raw)] = said(task["benchmark"], raw, right=is_right(task))
    return write_lines(
        path, [{"original_premise": asked, "rephrased_premise": each, "verdict": ""} for asked, each in told.items()]
    )
