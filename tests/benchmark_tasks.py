"""Small benchmarks of invented tasks, and workspaces in which pools are drawn from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.workspaces import Done, call

Task = dict[str, Any]


def humaneval(count: int) -> list[Task]:
    """The ``number``-th has that many asserts beside its check, and a prompt of as many words."""
    return [
        {
            "task_id": f"Invented/{number}",
            "prompt": "word " * (number + 1),
            "entry_point": f"f{number}",
            "canonical_solution": "    return 0\n",
            "test": "def check(candidate):\n" + "    assert candidate() == 0\n" * number,
        }
        for number in range(count)
    ]


def gsm8k(count: int) -> list[Task]:
    """The ``number``-th answer has that many lines; the questions hold what is written differently in JSON."""
    return [
        {"question": f"How many are {number} “ducks”?", "answer": "2 and 2 is 4\n" * number + f"#### {number}"}
        for number in range(count)
    ]


def bbh(part: str, count: int) -> list[Task]:
    return [{"input": f"{part} " * (number + 1), "target": "True"} for number in range(count)]


def amc(count: int) -> list[Task]:
    paper = "https://example.org/2023_AMC_12A_Problems/Problem_"
    return [
        {"id": number, "problem": "p", "answer": 1.0, "url": f"{paper}{number % 30 + 1}"} for number in range(count)
    ]


def medical_qa(count: int) -> list[Task]:
    return [
        {
            "question": "The patient has it. " * (number + 1),
            "answer": "one",
            "options": {"A": "one", "B": "two " * (number + 1)},
            "answer_idx": "A",
        }
        for number in range(count)
    ]


def write_tasks(path: Path, tasks: Sequence[Mapping[str, Any]], *, ascii_only: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(task, ensure_ascii=ascii_only) for task in tasks]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


ENTRIES: Mapping[str, Mapping[str, Any]] = {
    "humaneval": {"path": "file:tasks/humaneval.jsonl"},
    "gsm8k": {"path": "file:tasks/gsm8k.jsonl"},
    "bbh": {"path": "file:tasks/bbh"},
    "amc": {"path": "file:tasks/amc.jsonl"},
    "medical_qa": {"path": "file:tasks/medical_qa.jsonl"},
}


def write_benchmarks(root: Path) -> None:
    """The five benchmarks, 20 to 40 tasks each, and the configuration that names them."""
    there = root / "tasks"
    write_tasks(there / "humaneval.jsonl", humaneval(20))
    write_tasks(there / "gsm8k.jsonl", gsm8k(40), ascii_only=True)
    for part in ("navigate", "web_of_lies"):
        write_tasks(there / f"bbh/{part}.jsonl", bbh(part, 15))
    write_tasks(there / "amc.jsonl", amc(30))
    write_tasks(there / "medical_qa.jsonl", medical_qa(30))
    write_config(root, data_config())


def data_config(**sections: Any) -> dict[str, Any]:
    """The configuration of those benchmarks; ``benchmarks`` in ``sections`` changes or adds entries."""
    changed = sections.pop("benchmarks", {})
    names = dict.fromkeys([*ENTRIES, *changed])
    return {"benchmarks": {name: {**ENTRIES.get(name, {}), **changed.get(name, {})} for name in names}, **sections}


def write_config(root: Path, document: Mapping[str, Any], name: str = "data_config") -> Path:
    path = root / f"configs/pools/{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(document), sort_keys=False), encoding="utf-8")
    return path


def pool(**changes: Any) -> dict[str, Any]:
    """A pool of 12 tasks of two of those benchmarks."""
    return {
        "name": "tiny", "benchmarks": ["humaneval", "gsm8k"], "n_total_tasks": 12, "random_seed": 7, **changes,
    }  # fmt: skip


def preprocessed(root: Path) -> Path:
    """``root`` as a workspace with the five benchmarks in its record."""
    root.mkdir(parents=True, exist_ok=True)
    write_benchmarks(root)
    done = call(root, "pool", "preprocess")
    assert done.code == 0, done.err
    return root


def built(root: Path, **changes: Any) -> Done:
    """What `pool build` says of that pool; it must succeed."""
    write_config(root, pool(**changes), "tiny")
    done = call(root, "pool", "build", "tiny", "--no-mlflow")
    assert done.code == 0, done.err
    return done


def read_tasks(path: Path) -> list[Task]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
