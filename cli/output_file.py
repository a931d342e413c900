"""Writes a file that the user named: whole or not at all, and over another one only where that was asked for."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tracker.errors import Conflict, StorageError


def write_output(path: Path, content: str | bytes, *, overwrite: bool) -> None:
    """Puts ``content`` into ``path``. Raises StorageError, and Conflict over what is there without ``overwrite``."""
    if os.path.lexists(path) and not overwrite:
        raise Conflict(f"{path} is there already.", hint="--overwrite replaces it.")
    data = content.encode() if isinstance(content, str) else content
    # A link's file is replaced, not the link; a device or a pipe takes it as it comes.
    try:
        final = path.resolve()
        if final.exists() and not final.is_file():
            final.write_bytes(data)
        else:
            _replace(final, data)
    except RuntimeError as error:  # before Python 3.13, for a link that leads to itself
        raise StorageError(f"{path} cannot be written: {os.strerror(errno.ELOOP)}.") from error
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}.") from error


def _replace(final: Path, data: bytes) -> None:
    beside = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(final)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
