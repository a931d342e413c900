"""A provider that is gone for a while: what was answered is kept, and the run waits, or stops and goes on later.

What single answers, refusals and faults of it lead to: ``tests/test_failures.py``; when asking stops:
``tests/pipeline/engine/test_breaker.py``.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.surroundings import is_told
from tests.llm_server import Server, running_server
from tests.workspaces import (
    call,
    finish,
    new_root,
    rows,
    served,
    start,
    statuses,
    train_file,
    write_config,
    write_recording,
)

pytestmark = pytest.mark.timeout(400)
COUNT = 60
IN_FLIGHT = 4
GENERATE = ("generate", "copa.yaml", "--no-mlflow")


def port_of(server: Server) -> int:
    return urlsplit(server.base_url).port or 0


def until_paid(root: Path, process: subprocess.Popen[str], number: int) -> None:
    while process.poll() is None:
        with contextlib.suppress(sqlite3.OperationalError):
            if rows(root, "SELECT COUNT(*) FROM attempt")[0][0] >= number:
                return
        time.sleep(0.02)


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.soak)])
def test_gone_for_a_while_it_costs_what_was_in_flight(seconds: int, tmp_path: Path) -> None:
    root, recording = new_root(tmp_path, COUNT), write_recording(tmp_path / "recording.jsonl", COUNT)
    answered: Counter[str] = Counter()
    with running_server(recorded=recording, latency=0.1) as server:
        write_config(root, served(server.base_url, generation__concurrency=IN_FLIGHT))
        assert call(root, "init").code == 0
        process = start(root, *GENERATE)
        until_paid(root, process, 20)
        answered.update(server.stats()["answered"])
        port = port_of(server)
    time.sleep(seconds)
    with running_server(recorded=recording, port=port) as server:
        done = finish(process, timeout=300)
        # Where it was gone for longer than the run had patience, the same command goes on.
        if done.code:
            assert is_told(done, 8 if "not worth asking" in done.err else 1)
            assert call(root, *GENERATE).code == 0
        answered.update(server.stats()["answered"])
    paid = rows(root, "SELECT COUNT(*), COUNT(DISTINCT request_key) FROM attempt WHERE failure IS NULL")
    assert paid == [(2 * COUNT, 2 * COUNT)]
    # Between the look at what it had answered and its end, it may have answered a few that were lost with it.
    assert answered.total() <= 2 * COUNT + IN_FLIGHT
    assert statuses(root)[-1] == "complete"
    with running_server(recorded=recording) as server:
        (tmp_path / "other").mkdir()
        other = new_root(tmp_path / "other", COUNT)
        write_config(other, served(server.base_url))
        assert call(other, *GENERATE).code == 0
    assert train_file(root).read_bytes() == train_file(other).read_bytes()
    assert call(root, "verify").code == 0
