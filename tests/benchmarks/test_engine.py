"""The engine's benchmark does equal work with every client, and prints what it found."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from benchmarks import engine
from benchmarks.clients import CLIENTS
from tests.benchmarks.tables import tables
from tests.llm_server import running_server

PROMPTS = [f"Say {n} otherwise." for n in range(12)]


def test_the_engine_gets_every_answer_and_asks_once_for_each() -> None:
    with running_server() as server:
        found = engine.measure([sys.executable, "-m", "benchmarks.clients", "engine"], server, PROMPTS, 4)
        stats = server.stats()
    assert sum(stats["answered"].values()) == stats["received"] == len(PROMPTS)
    assert found.per_second > 0 < found.peak_mb
    parts = dataclasses.replace(found, parts={"request": 40_960, "batch": 4096, "attempt": 81_920})
    assert tables(engine.parts_table(parts, 10)) == [
        {"table or index": ["bytes/request"], "attempt": ["7,782"], "request": ["3,686"]}
    ]


def test_the_tables_have_a_row_for_each_client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = "engine --prompts 4 --in-flight 4 --latency 0 --rounds 1 --parts speed storm"
    monkeypatch.setattr(sys, "argv", given.split())
    engine.main()
    said = capsys.readouterr().out
    speed, *_, storm = tables(said)
    assert set(speed) == {"client", *(engine.NAMES[name] for name in CLIENTS)}
    assert all(len(row) == len(speed["client"]) for row in speed.values())
    assert set(storm) == {"client", engine.NAMES["engine"]}


def test_a_limited_server_is_asked_for_what_it_allows() -> None:
    trial = engine.Trial(requests=20, span=1.0, spans=1.0, in_flight=10, rounds=1)
    share, refused = engine.limited([sys.executable, "-m", "benchmarks.clients", "engine"], engine.LIMITS[0], trial)
    assert 0 < share <= 1.1
    assert refused >= 0
    assert engine.LIMITS[0].allowed(600, 20, 40) == 1800
    assert engine.LIMITS[1].allowed(600, 20, 39) == 1200


def test_a_client_that_fails_is_said() -> None:
    with running_server() as server, pytest.raises(RuntimeError, match="no such client"):
        engine.measure([sys.executable, "-c", "raise SystemExit('no such client')"], server, PROMPTS, 4)
