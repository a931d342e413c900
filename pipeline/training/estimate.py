"""What a training will take, before it begins: rough figures, each said to be one."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from pipeline.training import scratch
from pipeline.training.plan import Plan
from tracker.catalogue import Reader

_LETTERS_PER_TOKEN = 4
_TIME = """
    SELECT step_time_s FROM training_run WHERE step_time_s IS NOT NULL AND model = :model AND method = :method
    AND task = :task AND batch_size = :batch_size AND precision = :precision AND device = :device
    ORDER BY id DESC LIMIT 20"""


@dataclass(frozen=True)
class Estimate:
    """Of one run: tokens of a batch, epochs of all steps, bytes of memory, seconds of a step as earlier runs took."""

    batch_tokens: int
    epochs: float
    memory_bytes: int
    step_time_s: float | None


def estimate(plan: Plan, reader: Reader | None, device: str) -> Estimate:
    """What the first point of ``plan`` takes on ``device`` (cpu, or a GPU's number)."""
    from pipeline.training.models import estimate_memory

    config, given = plan.config, plan.config.hyperparameters
    tokens = batch_tokens(plan)
    return Estimate(
        batch_tokens=tokens,
        epochs=given.steps * given.batch_size / len(plan.material.train),
        memory_bytes=estimate_memory(
            plan.model, method=config.method, precision=config.precision, tokens=tokens, lora_rank=given.lora_rank,
            zo_memory=config.zo_memory,
        ),
        step_time_s=None if reader is None else _step_time(plan, reader, device),
    )  # fmt: skip


def batch_tokens(plan: Plan) -> int:
    """About how many tokens a batch has: prompts once, with every candidate that counts, by the length of the texts."""
    config = plan.config
    letters = [
        len(each.prompt)
        + (sum(map(len, each.candidates)) if config.train_as_classification else len(each.candidates[each.answer]))
        for each in plan.material.train
    ]
    per_token = 1 if config.model.startswith(scratch.PREFIX) else _LETTERS_PER_TOKEN
    return round(statistics.fmean(letters) * config.hyperparameters.batch_size / per_token)


def _step_time(plan: Plan, reader: Reader, device: str) -> float | None:
    config = plan.config
    rows = reader.rows(
        _TIME, model=config.model, method=config.method, task=config.task,
        batch_size=config.hyperparameters.batch_size, precision=config.precision,
        device=device if device == "cpu" else f"cuda:{device}",
    )  # fmt: skip
    return statistics.median(row["step_time_s"] for row in rows) if rows else None
