"""Weights and checkpoints on disk, so that what is there is whole or is not taken. Needs torch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from tracker.errors import StorageError

_MARKER = "complete.json"
_ABOUT = "about"


def write_weights(model: nn.Module, path: Path, about: Mapping[str, Any]) -> None:
    """Puts the parameters that are trained, and ``about``, into ``path``: whole or not at all. Raises StorageError."""
    beside = path.with_name(f".{path.name}")
    with _writable(path):
        save_file(
            {name: each.detach().cpu().contiguous().clone() for name, each in _trained(model).items()},
            beside,
            metadata={_ABOUT: json.dumps(about)},
        )
        _sync(beside)
        beside.replace(path)
        _sync(path.parent)


def read_weights(model: nn.Module, path: Path) -> None:
    """Sets the parameters that are trained to what ``write_weights`` put into ``path``, to the bit."""
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for name, each in _trained(model).items():
            each.copy_(file.get_tensor(name))


def read_about(path: Path) -> dict[str, Any] | None:
    """What ``write_weights`` was told beside the weights in ``path``; None where there are none."""
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()[_ABOUT])
    return found


@contextmanager
def making(directory: Path, about: Mapping[str, Any]) -> Iterator[None]:
    """A checkpoint: what is written into ``directory`` within counts once all of it is on disk, with ``about``.

    Older checkpoints beside it are removed then. Raises StorageError.
    """
    try:
        with _writable(directory):
            shutil.rmtree(directory, ignore_errors=True)
            yield
            for each in directory.iterdir():
                _sync(each)
            beside = directory / f".{_MARKER}"
            beside.write_text(json.dumps(about))
            _sync(beside)
            beside.replace(directory / _MARKER)
            _sync(directory)
            _sync(directory.parent)
    except StorageError:
        _remove(directory)
        raise
    for each in directory.parent.glob("checkpoint-*"):
        if each != directory:
            _remove(each)


def newest(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """The last whole checkpoint in ``root`` and what was said of it; torn ones are removed."""
    found = []
    for each in root.glob("checkpoint-*"):
        if (each / _MARKER).is_file():
            found.append((each, json.loads((each / _MARKER).read_text())))
        else:
            _remove(each)
    return max(found, key=lambda pair: pair[1]["step"], default=None)


def _remove(directory: Path) -> None:
    # The marker first: what is torn by a crash while it is being removed must not count.
    (directory / _MARKER).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    # torch and safetensors have their own errors for a full disk.
    except (OSError, SafetensorError, RuntimeError) as error:
        said = (str(error).strip() or type(error).__name__).partition("\n")[0][:200]
        raise StorageError(
            f"{path} cannot be written: {said}.",
            hint="Free some disk space; the run then resumes from its last checkpoint.",
        ) from error
