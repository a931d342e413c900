"""A small zo run, for tests in this process and, as ``python -m``, for those that kill it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from pipeline.training import zo_loop
from pipeline.training.evaluate import Evaluation
from pipeline.training.setup import Setup
from pipeline.training.specs import Hyperparameters
from pipeline.training.zo_files import digest
from tests.pipeline.training.tiny import encoded, model


class Watch:
    """A monitor that remembers; it asks to stop once ``stop_after`` steps are done."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.steps: dict[int, Mapping[str, float]] = {}
        self.evaluations: list[tuple[int, Evaluation]] = []
        self._stop_after = stop_after

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        assert step not in self.steps
        self.steps[step] = metrics

    def evaluated(self, step: int, evaluation: Evaluation) -> None:
        self.evaluations.append((step, evaluation))

    def stopping(self) -> bool:
        return self._stop_after is not None and max(self.steps, default=0) >= self._stop_after


class Told(Watch):
    """Says each step on stdout."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        super().step(step, metrics)
        sys.stdout.write(f"{step}\n")
        sys.stdout.flush()


def hyperparameters(**given: Any) -> Hyperparameters:
    defaults = {"learning_rate": 1e-4, "batch_size": 2, "steps": 20, "eval_steps": 4, "warmup": 3, "seed": 5}
    return Hyperparameters(**defaults | {"lr_schedule": "linear"} | given)


def setup(checkpoint: Path, monitor: Watch, **given: Any) -> Setup:
    """A run on three records of CB; what is ``given`` are fields of Setup, or hyperparameters."""
    own = {name: given.pop(name) for name in list(given) if name in Setup.__dataclass_fields__}
    defaults: dict[str, Any] = {
        "model": model("llama"), "train": encoded("CB"), "dev": encoded("CB")[1:], "method": "zo",
        "hyperparameters": hyperparameters(**given), "classification": True, "layout": "tree", "token_budget": 512,
        "device": "cpu", "precision": "fp32", "checkpoint": checkpoint, "monitor": monitor, "zo_memory": "keep",
    }  # fmt: skip
    return Setup(**defaults | own)


def weights(net: PreTrainedModel) -> str:
    return digest(net.named_parameters())


def main() -> None:
    torch.set_num_threads(1)
    _, checkpoint, memory, steps = sys.argv
    run = setup(Path(checkpoint), Told(), zo_memory=memory, steps=int(steps))
    outcome = zo_loop.train(run)
    sys.stdout.write(f"{outcome} {weights(run.model)}\n")


if __name__ == "__main__":
    main()
