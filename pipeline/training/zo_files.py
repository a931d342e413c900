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

from pipeline.training.evaluate import Evaluation
from pipeline.training.zo_log import storing
from tracker.durable import sync_path
from tracker.errors import Corrupt, StorageError


class Evaluations:
    """The evaluations on dev by step, a line of JSON each, without predictions: nothing needs them to go on.

    What a crash left half written is cut off; a whole line that is none raises Corrupt.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: dict[int, Evaluation] = {}
        with storing(path):
            data = path.read_bytes() if path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                os.truncate(path, len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                fields: dict[str, Any] = json.loads(line)
                step = int(fields.pop("step"))
                self.found[step] = Evaluation(**fields, predictions=[])
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise Corrupt(f"{path}:{number} is no evaluation of this run.", hint=_begin_anew(path)) from error

    def append(self, step: int, evaluation: Evaluation) -> Evaluation:
        """Keeps what was measured after ``step`` updates, and gives what is kept; it outlives a power cut."""
        kept = dataclasses.replace(evaluation, predictions=[])
        fields = {name: value for name, value in vars(kept).items() if name != "predictions"}
        line = json.dumps({"step": step} | fields) + "\n"
        with storing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.found[step] = kept
        return kept

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
        sync_path(beside)
        beside.replace(path)
        sync_path(path.parent)


def load(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Sets ``tensors`` to what ``save`` put into ``path``, to the bit. Raises Corrupt where it holds something else."""
    try:
        read(path, tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise Corrupt(f"{path} does not hold the weights of this run: {error}.", hint=_begin_anew(path)) from error


def read(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Sets ``tensors`` to those of their names in ``path``. Raises what the system, safetensors and torch raise."""
    for name, each in tensors.items():
        # Opened for each: what was read stays resident until it is closed, in the end as much as the model itself.
        with safe_open(path, framework="pt") as file, torch.no_grad():
            each.copy_(file.get_tensor(name))


def digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """The SHA-256 of names, types, shapes and numbers."""
    found = hashlib.sha256()
    for name, each in tensors:
        found.update(f"{name} {each.dtype} {tuple(each.shape)}\n".encode())
        found.update(each.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _begin_anew(path: Path) -> str:
    return f"Remove {path.parent} to train the run from its beginning."
