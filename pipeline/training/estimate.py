"""What a training will take, before it begins: rough figures, each said to be one."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from pipeline.training import scratch
from pipeline.training.plan import Plan
from tracker.record.catalogue import Reader

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
    from pipeline.training.devices import torch_name
    from pipeline.training.memory import estimate_memory, forward_tokens
    from pipeline.training.packing import default_token_budget

    config, given = plan.config, plan.config.hyperparameters
    records = record_tokens(plan)
    tokens = round(statistics.fmean(records) * given.batch_size)
    forward = forward_tokens(tokens, round(max(records)), default_token_budget(torch_name(device)))
    return Estimate(
        batch_tokens=tokens,
        epochs=given.steps * given.batch_size / len(plan.material.train),
        memory_bytes=estimate_memory(
            plan.model, method=config.method, precision=config.precision, tokens=forward,
            lora_rank=given.lora_rank, zo_memory=config.zo_memory, directions=given.zo_directions,
            gradient_checkpointing=config.gradient_checkpointing,
        ),
        step_time_s=None if reader is None else _step_time(plan, reader, device),
    )  # fmt: skip


def record_tokens(plan: Plan) -> list[float]:
    """About how many tokens each training record has: its prompt once, with every candidate that counts, by letters."""
    config = plan.config
    per_token = 1 if config.model.startswith(scratch.PREFIX) else _LETTERS_PER_TOKEN
    return [
        (
            len(each.prompt)
            + (sum(map(len, each.candidates)) if config.train_as_classification else len(each.candidates[each.answer]))
        )
        / per_token
        for each in plan.material.train
    ]


def _step_time(plan: Plan, reader: Reader, device: str) -> float | None:
    config = plan.config
    rows = reader.rows(
        _TIME, model=config.model, method=config.method, task=config.task,
        batch_size=config.hyperparameters.batch_size, precision=config.precision,
        device=device if device == "cpu" else f"cuda:{device}",
    )  # fmt: skip
    return statistics.median(row["step_time_s"] for row in rows) if rows else None
