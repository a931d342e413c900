"""Weights and checkpoints on disk, so that what is there is whole or is not taken. Needs torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from pipeline.training import zo_files
from pipeline.training.zo_files import digest
from tracker.durable import sync_path
from tracker.errors import Corrupt, StorageError

_MARKER = "complete.json"
_ABOUT, _DIGEST = "about", "digest"


def write_weights(model: nn.Module, path: Path, about: Mapping[str, Any]) -> None:
    """Puts the parameters that are trained, and ``about``, into ``path``: whole or not at all. Raises StorageError."""
    beside = path.with_name(f".{path.name}")
    with _writable(path):
        weights = {name: each.detach().cpu().contiguous() for name, each in _trained(model).items()}
        save_file(weights, beside, metadata={_ABOUT: json.dumps(about), _DIGEST: digest(weights.items())})
        sync_path(beside)
        beside.replace(path)
        sync_path(path.parent)


def read_weights(model: nn.Module, path: Path) -> None:
    """Sets the parameters that are trained to what ``write_weights`` put into ``path``, to the bit. Raises Corrupt."""
    trained = _trained(model)
    with _readable(path):
        zo_files.read(path, trained)
        with safe_open(path, framework="pt") as file:
            written = file.metadata()[_DIGEST]
        if digest(trained.items()) != written:
            raise ValueError("its numbers are not those that were written")


def read_about(path: Path) -> dict[str, Any] | None:
    """What ``write_weights`` was told beside the weights in ``path``; None where there are none. Raises Corrupt."""
    if not path.is_file():
        return None
    with _readable(path), safe_open(path, framework="pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()[_ABOUT])
    return found


@contextmanager
def making(directory: Path, about: Mapping[str, Any]) -> Iterator[None]:
    """A checkpoint: what is written into ``directory`` within counts once all of it is on disk, with ``about``.

    Older checkpoints beside it are removed then. Raises StorageError.
    """
    try:
        with _writable(directory):
            _remove(directory)
            yield
            files = {}
            for each in sorted(directory.iterdir()):
                sync_path(each)
                files[each.name] = _sha256(each)
            beside = directory / f".{_MARKER}"
            beside.write_text(json.dumps({"about": about, "files": files}))
            sync_path(beside)
            beside.replace(directory / _MARKER)
            sync_path(directory)
            sync_path(directory.parent)
    except StorageError:
        _remove(directory)
        raise
    for each in directory.parent.glob("checkpoint-*"):
        if each != directory:
            _remove(each)


def keep(path: Path, directory: Path) -> None:
    """Makes what is in ``path`` now, if it is there, part of the checkpoint that is being made in ``directory``."""
    if path.is_file():
        _link(path, directory / path.name)


def restore(path: Path, directory: Path | None) -> None:
    """Puts into ``path`` what ``keep`` made part of the checkpoint in ``directory``; nothing, where it did not.

    ``directory`` is None where there is no checkpoint. Raises StorageError.
    """
    with _writable(path):
        if directory is None or not (directory / path.name).is_file():
            path.unlink(missing_ok=True)
            return
        beside = path.with_name(f".{path.name}")
        beside.unlink(missing_ok=True)
        _link(directory / path.name, beside)
        beside.replace(path)


def _link(path: Path, other: Path) -> None:
    try:
        os.link(path, other)
    except OSError:  # this file system has no hard links
        shutil.copyfile(path, other)


def newest(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """The last whole checkpoint in ``root`` and what was said of it; torn ones are removed.

    Raises Corrupt where a file of it is not what was written.
    """
    found = []
    for each in root.glob("checkpoint-*"):
        if (each / _MARKER).is_file():
            with _readable(each / _MARKER):
                said = json.loads((each / _MARKER).read_text())
                found.append((int(said["about"]["step"]), each, said["about"], dict(said["files"])))
        else:
            _remove(each)
    if not found:
        return None
    _, directory, about, files = max(found, key=lambda each: each[0])
    for name, sha256 in files.items():
        with _readable(directory / name):
            if _sha256(directory / name) != sha256:
                raise ValueError("it is not what was written")
    return directory, about


def _remove(directory: Path) -> None:
    # The marker first: what is torn by a crash while it is being removed must not count.
    (directory / _MARKER).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    # What json, torch and safetensors make of a file that is torn, or of another model.
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        checkpoint = path.parent.parent if path.parent.name.startswith("checkpoint-") else path.parent
        said = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise Corrupt(
            f"{path} is damaged: {said}.", hint=f"Remove {checkpoint} to train the run from its beginning."
        ) from error
