"""The real benchmarks, read where they are; tests that need them are skipped elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

PLACE = Path(os.environ.get("SYNTHTRACK_BENCHMARKS", Path(__file__).parents[4] / "shared/data/benchmarks"))


def real(name: str) -> list[dict[str, Any]]:
    """The tasks of a file; skips the test where it is not there."""
    path = PLACE / name
    if not path.is_file():
        pytest.skip(f"no {name} in SYNTHTRACK_BENCHMARKS")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
