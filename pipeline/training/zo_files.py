"""What a zo run keeps besides its log: weights saved in full, and what was measured on dev. Needs torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.training.evaluate import Evaluation, Prediction
from pipeline.training.zo_log import storing, sync
from tracker.errors import Corrupt, StorageError


class Evaluations:
    """The evaluations on dev by step, a line of JSON each; what a crash left half written is cut off."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: dict[int, Evaluation] = {}
        with storing(path):
            data = path.read_bytes() if path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                os.truncate(path, len(whole))
        for line in whole.splitlines():
            fields: dict[str, Any] = json.loads(line)
            step = fields.pop("step")
            predictions = [Prediction(**each | {"scores": tuple(each["scores"])}) for each in fields.pop("predictions")]
            self.found[step] = Evaluation(**fields, predictions=predictions)

    def append(self, step: int, evaluation: Evaluation) -> None:
        """Keeps what was measured after ``step`` updates; it outlives a power cut."""
        line = json.dumps({"step": step} | dataclasses.asdict(evaluation)) + "\n"
        with storing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.found[step] = evaluation

    def best(self) -> int | None:
        """The step of the least loss, the first of several; None before the first evaluation."""
        return min(self.found, key=lambda step: (self.found[step].loss, step), default=None)


def save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Puts ``tensors`` into ``path``, on disk and whole, or leaves what was there. Raises StorageError."""
    beside = path.with_name(f".{path.name}")
    with storing(path):
        try:
            save_file({name: each.detach().cpu() for name, each in tensors.items()}, beside)
        except SafetensorError as error:
            raise StorageError(f"{path} cannot be written: {error}.", hint="Free some disk space.") from error
        sync(beside)
        beside.replace(path)
        sync(path.parent)


def load(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Sets ``tensors`` to what ``save`` put into ``path``, to the bit. Raises Corrupt where it holds something else."""
    try:
        with safe_open(path, framework="pt") as file, torch.no_grad():
            for name, each in tensors.items():
                each.copy_(file.get_tensor(name))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise Corrupt(
            f"{path} does not hold the weights of this run: {error}.", hint="Without it the run cannot go on."
        ) from error


def digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """The SHA-256 of names, types, shapes and numbers."""
    found = hashlib.sha256()
    for name, each in tensors:
        found.update(f"{name} {each.dtype} {tuple(each.shape)}\n".encode())
        found.update(each.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
