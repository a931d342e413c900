"""The acceptance: 400 real COPA records and a real LLM's recorded answers, through the whole command.

The records lie beside the repository, in ``../shared``; where they are not, there is nothing to test.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.llm_server import Server, running_server
from tests.workspaces import REPOSITORY, call, finish, served, start, statuses, train_file, write_config

DATA = REPOSITORY.parent / "shared/data"
RECORDING = DATA / "recorded/copa_rephrasings.jsonl"
SOURCE = DATA / "original/Copa"
GENERATE = ("generate", "copa.yaml", "--no-mlflow")
CALLS = 800
KILLS = 10
IN_FLIGHT = 20

pytestmark = pytest.mark.skipif(not RECORDING.exists() or not SOURCE.exists(), reason="no ../shared/data here")


def load(path: Path) -> list[dict[str, Any]]:
    # Not splitlines: U+2028 may stand in a JSON text.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def workspace(root: Path, server: Server, **changes: Any) -> Path:
    root.mkdir()
    given = {"dataset__input_path": str(SOURCE / "copa_train.jsonl"), "generation__concurrency": IN_FLIGHT}
    write_config(root, served(server.base_url, **{**given, **changes}))
    return root


def answered_twice(server: Server) -> int:
    answered: dict[str, int] = server.stats()["answered"]
    assert len(answered) == CALLS
    return sum(times - 1 for times in answered.values())


def check(root: Path) -> str:
    """That the data is what the recording makes of the source; gives its digest."""
    recorded = {row["idx"]: row for row in load(RECORDING)}
    made = train_file(root)
    old, new = ((path.read_bytes().split(b"\n")) for path in (SOURCE / "copa_train.jsonl", made))
    assert len(old) == len(new)
    rephrased = kept = 0
    for before, after in zip(old, new, strict=True):
        if not before:
            assert not after
            continue
        record = json.loads(before)
        row = recorded[record["idx"]]
        if row["verdict"] != "same":
            assert after == before
            kept += 1
            continue
        premise = row["rephrased_premise"].strip()
        assert json.loads(after)["premise"] == premise
        assert hollow(after, premise) == hollow(before, record["premise"])
        rephrased += 1
    assert (rephrased, kept) == (363, 37)
    for name in ("copa_validation.jsonl", "copa_test.jsonl"):
        assert made.with_name(name).read_bytes() == (SOURCE / name).read_bytes()
    return hashlib.sha256(made.read_bytes()).hexdigest()


def hollow(line: bytes, premise: str) -> bytes:
    """A line without its premise: what must not be touched, byte for byte."""
    for spelling in (json.dumps(premise, ensure_ascii=False), json.dumps(premise)):
        head, found, tail = line.partition(spelling.encode())
        if found:
            return head + tail
    raise AssertionError(f"no {premise!r} in {line!r}")


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run without trouble makes."""
    with running_server(recorded=RECORDING) as server:
        root = workspace(tmp_path_factory.mktemp("copa") / "plain", server)
        done = call(root, *GENERATE)
        assert done.code == 0, done.err
        assert "Records: 400, 363 accepted, 37 kept the original" in done.out
        assert (server.stats()["received"], answered_twice(server)) == (CALLS, 0)
        again = call(root, *GENERATE, "--batch", "second")
        assert "already made, nothing generated" in again.out
        assert server.stats()["received"] == CALLS
    return check(root)


def test_copa_is_rephrased_as_recorded(digest: str) -> None:
    assert len(digest) == 64


def test_a_third_of_failing_requests_changes_nothing(digest: str, tmp_path: Path) -> None:
    faulty = running_server(recorded=RECORDING, fault_rate=0.34, fault_seed=3, slow_seconds=0.4)
    with faulty as server:
        root = workspace(tmp_path / "faults", server, generation__timeout=1, generation__concurrency=60)
        done = call(root, *GENERATE)
        assert done.code == 0, done.err
        assert len(server.stats()["faults"]) == 11
        # Truncated and empty answers are asked for again, good ones never.
        assert answered_twice(server) == 0
    assert check(root) == digest


def test_ten_kills_change_nothing(digest: str, tmp_path: Path) -> None:
    draw = random.Random(11)
    with running_server(recorded=RECORDING, latency=0.1) as server:
        root = workspace(tmp_path / "kills", server)
        for _ in range(KILLS):
            process = start(root, *GENERATE)
            until = server.stats()["received"] + draw.randint(1, 70)
            patience = time.monotonic() + 60
            while server.stats()["received"] < until and process.poll() is None:
                assert time.monotonic() < patience
                time.sleep(0.01)
            process.kill()
            assert finish(process).code == -signal.SIGKILL
        assert call(root, *GENERATE).code == 0
        twice = answered_twice(server)
    assert twice <= KILLS * 2 * IN_FLIGHT
    assert statuses(root) == ["interrupted"] * KILLS + ["complete"]
    assert check(root) == digest
