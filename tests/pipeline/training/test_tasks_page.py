"""That docs/tasks.md shows what the code gives."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pipeline.training import tasks
from pipeline.training.specs import Hyperparameters, TrainingConfig
from pipeline.training.tasks import LLAMA, MEZO_PAPER, TASKS, Question, Task, check
from tests.workspaces import REPOSITORY

PAGE = (REPOSITORY / "docs/tasks.md").read_text(encoding="utf-8")
SECTIONS = {text.partition("\n")[0]: text for text in PAGE.split("\n## ")[1:]}


def test_every_task_has_its_section_in_order() -> None:
    assert [name for name in SECTIONS if name in TASKS] == list(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_the_questions_shown_are_those_of_the_record_shown(name: str) -> None:
    record, *shown = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", SECTIONS[name], re.DOTALL))
    styles = re.findall(r"^(`.*`):$", SECTIONS[name], re.MULTILINE)
    questions: dict[str, Any] = {
        style: question for line, question in zip(styles, shown, strict=True) for style in re.findall(r"`(\w+)`", line)
    }
    assert set(questions) == {LLAMA, MEZO_PAPER}
    assert check(TASKS[name], [(1, record)], "f") == []
    for style, each in questions.items():
        expected = Question(each["prompt"], tuple(each["candidates"]), each["answer"])
        assert TASKS[name].question(record, style) == expected


def test_the_defaults_shown_are_those_of_the_tasks() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (true|false) \| (.*) \|$", PAGE, re.MULTILINE)
    assert rows == [
        (
            each.name,
            str(each.num_dev),
            str(each.classification).lower(),
            "accuracy, macro-F1" if each.macro_f1 else "accuracy",
        )
        for each in TASKS.values()
    ]
    shown = dict(re.findall(r"`(num_train|num_eval|max_length)` \((\d+)\)", PAGE))
    fields = {**TrainingConfig.model_fields, **Hyperparameters.model_fields}
    assert shown == {name: str(fields[name].default) for name in ("num_train", "num_eval", "max_length")}


def test_the_task_of_ones_own_that_is_shown_works() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", SECTIONS["A task of one's own"], re.DOTALL)
    function, entry = block.strip().rsplit("\n\n\n", 1)
    names = dict(vars(tasks))
    exec(function, names)
    own = eval(entry, names)
    assert isinstance(own, Task)
    record = {"sentence": "A long film.", "label": 1}
    assert check(own, [(1, record)], "f") == []
    assert own.question(record, LLAMA) == Question("A long film. It was ", ("terrible", "great"), 1)
