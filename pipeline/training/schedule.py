"""The learning rate of a step."""

from __future__ import annotations

import math

from pipeline.training.specs import Hyperparameters


def warmup_steps(hyperparameters: Hyperparameters) -> int:
    """How many steps the learning rate rises; ``warmup`` below 1 is a share of all steps."""
    given = hyperparameters.warmup
    return math.ceil(given * hyperparameters.steps) if given < 1 else int(given)


def learning_rate_at(hyperparameters: Hyperparameters, step: int) -> float:
    """The learning rate of update ``step`` (0-based): a linear rise, then constant, linear or half a cosine to 0.

    The same as transformers' schedulers of these names, which count steps likewise.
    """
    rate, steps, rise = hyperparameters.learning_rate, hyperparameters.steps, warmup_steps(hyperparameters)
    if step < rise:
        return rate * step / max(1, rise)
    done = (step - rise) / max(1, steps - rise)
    match hyperparameters.lr_schedule:
        case "linear":
            return rate * max(0.0, 1 - done)
        case "cosine":
            return rate * max(0.0, 0.5 * (1 + math.cos(math.pi * done)))
        case _:
            return rate
