"""Small benchmarks, and pools drawn from them as commands do it: three hundred tasks at most, each of its own kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.pools.build import Built, build, prepare
from pipeline.pools.difficulty import Difficulty, Record
from pipeline.pools.preprocess import Preprocessed, preprocess
from pipeline.pools.specs import BenchmarksConfig, PoolConfig
from tests.workspaces import write_lines
from tracker import configs
from tracker.configs import Document
from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.views import pool_view
from tracker.views.plan import Changes

N = 20
BENCHMARKS = ("gsm8k", "bbh", "riddles")
SOURCES = {"gsm8k": "sources/gsm8k.jsonl", "bbh": "sources/bbh", "riddles": "sources/riddles.jsonl"}


def gsm8k(n: int = N, start: int = 0) -> list[dict[str, str]]:
    """Questions whose answers have from 1 to ``n`` lines."""
    return [
        {"question": f"Wie viele Äpfel, No. {at}?", "answer": "So:\n" * (at * 7 % n) + f"#### {at}"}
        for at in range(start, start + n)
    ]


def bbh(n: int = N) -> list[dict[str, str]]:
    return [{"input": "left " * (at * 3 % n + 1), "target": "Yes"} for at in range(n)]


def riddles(records: Sequence[Record]) -> Difficulty:
    """A scorer of one's own: the letters of a riddle."""
    letters = [len(str(record.raw["riddle"])) for record in records]
    return Difficulty([n / 10 for n in letters], [{"letters": n} for n in letters], {"ten": 10})


def write_sources(root: Path) -> None:
    """The files of the three benchmarks: one, a directory of two parts, and one of the user's own."""
    (root / "sources/bbh").mkdir(parents=True)
    write_lines(root / SOURCES["gsm8k"], gsm8k())
    for part in ("navigate", "web_of_lies"):
        write_lines(root / SOURCES["bbh"] / f"{part}.jsonl", bbh(N // 2))
    write_lines(root / SOURCES["riddles"], [{"riddle": "?" * (at * 3 % 11 + 1)} for at in range(N)])


def benchmarks(*names: str, **sources: str) -> BenchmarksConfig:
    """A configuration of these benchmarks, or of all."""
    entries = {name: {"path": f"file:{(SOURCES | sources)[name]}"} for name in names or BENCHMARKS}
    return configs.validate(BenchmarksConfig, Document({"benchmarks": entries}, "the test"))


def score(here: Workspace, *names: str, **sources: str) -> list[Preprocessed]:
    """The benchmarks in the record, as `pool preprocess` leaves them."""
    found = preprocess(here, benchmarks(*names, **sources), scorers={"riddles": riddles})
    for each in found:
        assert each.error is None, each.error
    with reading(here) as reader:
        pool_view.refresh(here, reader, full=True)
    return found


def draw(here: Workspace, name: str = "exp1", **settings: Any) -> Built:
    """A pool in the record, as `pool build` leaves it: ten tasks of the three benchmarks."""
    given = {"name": name, "benchmarks": list(BENCHMARKS), "n_total_tasks": 10, **settings}
    config = configs.validate(PoolConfig, Document(given, "the test"))
    command = f"synthtrack pool build --name {name}"
    built = build(here, prepare(here, benchmarks(), config, path=None, command=command))
    refresh(here, built.pool["id"])
    return built


def refresh(here: Workspace, *ids: int, full: bool = False, deep: bool = False) -> Changes:
    with reading(here) as reader:
        return pool_view.refresh(here, reader, ids, full=full, deep=deep)


def populate(here: Workspace) -> Workspace:
    """Three benchmarks, a pool without and one with repeated tasks, and one that is short of tasks."""
    here.root.mkdir(parents=True, exist_ok=True)
    write_sources(here.root)
    score(here)
    draw(here)
    draw(here, "exp2", sample_with_replacement=True, difficulty_split="80:20", random_seed=7)
    draw(here, "short", benchmarks=["gsm8k"], n_total_tasks=30)
    return here


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
