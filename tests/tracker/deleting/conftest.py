"""What the tests of deleting begin with."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory that nothing can be renamed into from ``tmp_path``."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is no second file system here: nothing can be moved from disk to disk")
    found = Path(tempfile.mkdtemp(dir=shm))
    yield found
    shutil.rmtree(found)
