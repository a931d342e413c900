"""The log of a zo run: what each step measured. With the weights that it began from it is the run's checkpoint.

    magic, length of the header (u32), header (JSON), CRC-32 of the header, then for each step, all little-endian:
    learning rate (f32), loss (f32), a projected gradient for each direction (f32), CRC-32 of all of it up to here

Every checksum goes on from the one before, so that a record counts only in its place behind its predecessors. With one
direction a step takes 16 bytes.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tracker import clock
from tracker.durable import sync_path
from tracker.errors import Corrupt, StorageError
from tracker.fingerprint import Json

_MAGIC = b"MeZO log"
_LENGTH = struct.Struct("<I")
_FORMAT = 1
_SYNC_RECORDS = 256
_SYNC_S = 5.0
_SHOWN = 12


@dataclass(frozen=True)
class StepRecord:
    """What step ``step`` (from 0) measured; its numbers are float32, so that the log keeps them as they were used."""

    step: int
    learning_rate: float
    loss: float
    projected_gradients: tuple[float, ...]


@dataclass(frozen=True)
class Header:
    """What a replay rests on. A log is only ever gone on with under the same header.

    ``weights`` is the digest of what ``base_step`` began from, ``model`` that of the model as it was given, ``noise``
    that of a piece of noise; ``settings`` are the hyperparameters.
    """

    base_step: int
    weights: str
    model: str
    noise: str
    seed: int
    eps: float
    directions: int
    memory: str
    precision: str
    weight_decay: float
    settings: Json
    format: int = _FORMAT


class Log:
    """An open log: ``header``, the ``records`` that it held when it was opened, and the end to append to."""

    def __init__(self, path: Path) -> None:
        """Opens ``path`` and cuts off what a crash left half written. Raises Corrupt without a whole header."""
        self.path = path
        with storing(path):
            self._file = path.open("r+b", buffering=0)
            data = self._file.read()
        self.header, end, self._checksum = _read_header(data, path)
        self._record = struct.Struct(f"<{2 + self.header.directions}f")
        self.records = list(self._read_records(data, end))
        with storing(path):
            self._file.truncate(end + len(self.records) * (self._record.size + _LENGTH.size))
            self._file.seek(0, os.SEEK_END)
        self._next = self.header.base_step + len(self.records)
        self._unsynced, self._synced_at = 0, clock.monotonic()

    @classmethod
    def create(cls, path: Path, header: Header) -> Self:
        """A new log with nothing but its header, whole or not there at all."""
        text = json.dumps(dataclasses.asdict(header), sort_keys=True).encode()
        whole = _MAGIC + _LENGTH.pack(len(text)) + text
        beside = path.with_name(f".{path.name}")
        with storing(path):
            with beside.open("wb") as file:
                file.write(whole + _LENGTH.pack(zlib.crc32(whole)))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
            sync_path(path.parent)
        return cls(path)

    def append(self, record: StepRecord) -> None:
        """Adds the next step. It outlives this process at once, and a power cut after some seconds at most."""
        if record.step != self._next:
            raise ValueError(f"step {record.step} does not follow the log's last: {self._next} does")
        packed = self._record.pack(record.learning_rate, record.loss, *record.projected_gradients)
        checksum = zlib.crc32(packed, self._checksum)
        whole = packed + _LENGTH.pack(checksum)
        with storing(self.path):
            if self._file.write(whole) < len(whole):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._checksum = checksum
        self._next += 1
        self._unsynced += 1
        if self._unsynced >= _SYNC_RECORDS or clock.monotonic() - self._synced_at > _SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Makes all that was appended outlive a power cut."""
        with storing(self.path):
            os.fsync(self._file.fileno())
        self._unsynced, self._synced_at = 0, clock.monotonic()

    def close(self) -> None:
        if not self._file.closed:
            self.sync()
            self._file.close()

    def _read_records(self, data: bytes, at: int) -> Iterator[StepRecord]:
        size, step = self._record.size, self.header.base_step
        while at + size + _LENGTH.size <= len(data):
            packed = data[at : at + size]
            checksum = zlib.crc32(packed, self._checksum)
            if checksum != _LENGTH.unpack_from(data, at + size)[0]:
                return
            learning_rate, loss, *gradients = self._record.unpack(packed)
            yield StepRecord(step, learning_rate, loss, tuple(gradients))
            self._checksum = checksum
            at, step = at + size + _LENGTH.size, step + 1


def differences(old: Header, new: Header) -> list[str]:
    """What differs between two headers, each as ``name old, now new``; where they begin is not compared."""
    before, now = (_flat(dataclasses.asdict(header)) for header in (old, new))
    return [
        f"{name} {str(before.get(name))[:_SHOWN]}, now {str(now.get(name))[:_SHOWN]}"
        for name in sorted(before | now)
        if name not in {"base_step", "weights"} and before.get(name) != now.get(name)
    ]


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Raises StorageError where the disk does not take what is written to ``path``."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}.",
            hint="Free some disk space, or check the permissions; the run resumes at its last step.",
        ) from error


def _flat(header: dict[str, Json]) -> dict[str, Json]:
    settings: dict[str, Json] = header["settings"]
    return {name: value for name, value in header.items() if name != "settings"} | settings


def _read_header(data: bytes, path: Path) -> tuple[Header, int, int]:
    begin = len(_MAGIC) + _LENGTH.size
    end = begin + (_LENGTH.unpack_from(data, len(_MAGIC))[0] if len(data) >= begin else 0)
    whole = data[:end]
    if not data.startswith(_MAGIC) or data[end : end + _LENGTH.size] != _LENGTH.pack(zlib.crc32(whole)):
        raise _corrupt(path, "is no log of a zo run, or its header is damaged")
    found = json.loads(whole[begin:])
    if found.get("format") != _FORMAT:
        raise _corrupt(path, f"has format {found.get('format')}, this version of synthtrack reads {_FORMAT}")
    return Header(**found), end + _LENGTH.size, zlib.crc32(whole)


def _corrupt(path: Path, what: str) -> Corrupt:
    return Corrupt(f"{path} {what}.", hint="Without it the run cannot go on: begin a new one.")
