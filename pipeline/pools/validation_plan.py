"""What a validation of a pool would ask: which tasks, and in which words. Nothing is written yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.chats.chat import ChatRequest
from pipeline.engine.prices import price_of
from pipeline.generation.plan import chat_request
from pipeline.pools import grading
from pipeline.pools.run_code import check_system
from pipeline.pools.stream import BINS
from pipeline.specs import ModelSpec
from pipeline.versions import versions
from tracker.errors import ConfigError, DataError, Problem
from tracker.fingerprint import Identity, Json, content_key, identify
from tracker.paths import Workspace
from tracker.record.catalogue import Row, reading
from tracker.record.columns import to_json
from tracker.spec import identity, settings

GRADING = 1
"""Part of the identity: to be raised when the same answers would be asked for or graded otherwise."""
TEMPERATURE, MAX_TOKENS = 0.0, 2048
"""What a model is to be asked with where nobody says otherwise: answers come with their reasoning."""

_TASKS = """
    SELECT position, benchmark, benchmark_position, difficulty_bin FROM task_pool_task_overview
    WHERE task_pool_id = :id ORDER BY position"""
_RAW = "SELECT raw_data FROM task_pool_task_overview WHERE task_pool_id = :id AND position = :position"


@dataclass(frozen=True)
class Sampled:
    """A task of the sample; ``request`` is None where its answer could not be graded and is not asked for."""

    position: int
    benchmark: str
    raw: dict[str, Json]
    request: ChatRequest | None


@dataclass(frozen=True)
class Plan:
    """A validation, planned: the pool's row, the resolved model, the sample and the cap on its cost, US dollars."""

    pool: Row
    model: ModelSpec
    samples: int
    seed: int
    run_code: bool
    budget: float | None
    command: str
    sample: tuple[Sampled, ...]

    @cached_property
    def identity(self) -> Identity:
        own = {"samples": self.samples, "seed": self.seed, "run_code": self.run_code, "grading": GRADING}
        return identify("pool_validation", {"pool": self.pool["digest"], "model": identity(self.model), **own})


def planned(
    workspace: Workspace,
    pool_row: Row,
    model: ModelSpec,
    samples: int,
    seed: int,
    *,
    code: bool,
    budget: float | None = None,
    command: str = "",
) -> Plan:
    """The validation that these would be. Raises what can be known before anything is paid for, see ``validate``."""
    if budget is not None and price_of(model) is None:
        raise ConfigError(
            "--budget needs known prices.",
            [Problem(model.model, f"no price is known for it at {model.endpoint}")],
            hint="Give its prices, or leave --budget out.",
        )
    with reading(workspace) as reader:
        chosen = sampled(reader.rows(_TASKS, id=pool_row["id"]), samples, seed)
        texts = {at: reader.rows(_RAW, id=pool_row["id"], position=at)[0]["raw_data"] for at, _ in chosen}
    sample = tuple(_task(model, at, benchmark, json.loads(texts[at]), code=code) for at, benchmark in chosen)
    if any(each.request is not None and each.benchmark == grading.CODE for each in sample):
        check_system()
    return Plan(pool_row, model, samples, seed, code, budget, command, sample)


def sampled(tasks: Sequence[Row], samples: int, seed: int) -> list[tuple[int, str]]:
    """Position in the pool and benchmark of ``samples`` distinct tasks of each bin, those of all bins in turn.

    A task's place in the order is its own, whatever else the pool holds.
    """
    cells: dict[tuple[str, str], dict[int, int]] = {}
    for row in tasks:
        cell = cells.setdefault((row["benchmark"], row["difficulty_bin"]), {})
        cell.setdefault(row["benchmark_position"], row["position"])
    turns = []
    for (benchmark, bin_), cell in cells.items():
        keys = {at: content_key([seed, "validate", benchmark, at]) for at in cell}
        in_order = sorted(cell, key=keys.__getitem__)
        turns += [(turn, benchmark, BINS.index(bin_), cell[at]) for turn, at in enumerate(in_order[:samples])]
    return [(position, benchmark) for _, benchmark, _, position in sorted(turns)]


def _task(model: ModelSpec, position: int, benchmark: str, raw: dict[str, Json], *, code: bool) -> Sampled:
    if benchmark == grading.CODE:
        missing = [name for name in ("prompt", "test", "entry_point") if not isinstance(raw.get(name), str)]
        if missing:
            raise DataError("A task cannot be asked and graded.", [Problem(benchmark, f"no {', '.join(missing)}")])
        if not code:
            return Sampled(position, benchmark, raw, None)
    asked = grading.question(benchmark, raw)
    grading.expected(benchmark, raw)
    return Sampled(position, benchmark, raw, chat_request(model, asked, 0, {"task": "answer", "text": asked}))


def columns(plan: Plan) -> Row:
    model = plan.model
    return {
        "fingerprint": plan.identity.fingerprint, "task_pool_id": plan.pool["id"], "provider": model.provider,
        "endpoint": model.endpoint, "model": model.model, "temperature": model.temperature,
        "n_samples": plan.samples, "random_seed": plan.seed, "run_code": plan.run_code, "n_tasks": len(plan.sample),
        "command": plan.command, "settings": to_json(settings(model)), "versions": to_json(versions()),
    }  # fmt: skip
