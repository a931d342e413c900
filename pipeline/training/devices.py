"""Which devices a config's runs are given, checked against what this machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracker.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pipeline.training.plan import Plan

CPU = "cpu"


def parse(given: str | None, *, n_gpus: int, where: str) -> tuple[str, ...]:
    """The devices of ``cuda_devices``: numbers of GPUs, or cpu; by default the first GPU, or the CPU without one.

    Each listed device trains one run at a time; cpu may be listed more than once. Raises ConfigError.
    """
    if given is None:
        return ("0",) if n_gpus else (CPU,)
    named = tuple(name.strip().lower().removeprefix("cuda:") for name in given.split(",") if name.strip())
    gpus = [name for name in named if name != CPU]
    unknown = [name for name in gpus if not name.isdecimal() or int(name) >= n_gpus]
    problems = [Problem(where, f"`cuda_devices`: no device {name!r}; {_known(n_gpus)}") for name in unknown]
    if not named:
        problems.append(Problem(where, "`cuda_devices`: no device is listed"))
    if len(set(gpus)) < len(gpus):
        problems.append(Problem(where, "`cuda_devices`: a GPU is listed twice"))
    if problems:
        hint = "Set cuda_devices: cpu to train without a GPU (or --set cuda_devices=cpu)."
        raise ConfigError("A device cannot be used.", problems, hint=hint)
    return named


def devices_of(plan: Plan) -> tuple[str, ...]:
    """The devices of a plan on this machine. Raises ConfigError."""
    return parse(plan.config.cuda_devices, n_gpus=count_gpus(), where=plan.document.where(("cuda_devices",)))


def torch_name(device: str) -> str:
    """``cpu``, or ``cuda:1`` for the GPU ``1``."""
    return device if device == CPU else f"cuda:{device}"


def _known(n_gpus: int) -> str:
    return f"this machine has {', '.join(map(str, range(n_gpus)))}" if n_gpus else "this machine has no usable GPU"


def count_gpus() -> int:
    """The CUDA devices that torch can use here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
