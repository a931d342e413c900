"""What a training loop is given, and what it gives back: the same for every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.training.encoding import Encoded
from pipeline.training.specs import Hyperparameters

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pipeline.training.evaluate import Evaluation


class Stopped(Exception):
    """The training was asked to stop; what it has done is in its checkpoint directory."""


class Monitor(Protocol):
    """Whom a loop tells how it goes, and who can ask it to stop. Every call is cheap."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Update ``step`` (from 1) is done: ``train/loss``, ``train/learning_rate``, ``train/tokens`` (of the step)."""

    def evaluated(self, step: int, evaluation: Evaluation) -> None:
        """The model after ``step`` updates was measured on dev."""

    def stopping(self) -> bool:
        """Whether to save a checkpoint now and raise Stopped."""


@dataclass(frozen=True)
class Setup:
    """Everything that a loop needs. ``checkpoint`` may hold what an earlier process left; the loop goes on there.

    ``token_budget`` is the most tokens of one forward, ``layout`` tree or plain.
    """

    model: PreTrainedModel
    train: Sequence[Encoded]
    dev: Sequence[Encoded]
    method: str
    hyperparameters: Hyperparameters
    classification: bool
    layout: str
    token_budget: int
    device: str
    precision: str
    checkpoint: Path
    monitor: Monitor
    zo_memory: str = "auto"
    gradient_checkpointing: bool = False

    def autocast(self) -> torch.autocast:
        """Within, a model with parameters in fp32 computes in the run's precision."""
        import torch

        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16")


@dataclass(frozen=True)
class Outcome:
    """How a training ended: ``steps`` were done, and the model now has the weights of ``best_step``."""

    best_step: int
    best_dev_loss: float
    steps: int
    train_loss: float
