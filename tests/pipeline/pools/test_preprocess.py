"""Benchmarks come into the record once, and again where entry, source or scorer have changed: with the reason named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.pools import preprocess as module
from pipeline.pools.difficulty import Difficulty, Record, Scorer
from pipeline.pools.preprocess import Preprocessed, preprocess
from pipeline.pools.scorer_file import load_scorers
from pipeline.pools.specs import BenchmarksConfig
from tests import benchmark_tasks
from tests.benchmark_tasks import data_config, write_tasks
from tests.databases import KINDS, empty_workspace, rows
from tracker.errors import ConfigError, UnknownReference
from tracker.paths import Workspace

NAMES = tuple(benchmark_tasks.ENTRIES)


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    benchmark_tasks.write_benchmarks(tmp_path)
    return Workspace(tmp_path, environ={})


def run(here: Workspace, *names: str, force: bool = False, **changes: Any) -> list[Preprocessed]:
    config = BenchmarksConfig.model_validate(data_config(**changes))
    return preprocess(here, config, names=names or None, force=force)


def one(here: Workspace, name: str, force: bool = False, **entry: Any) -> tuple[str, str]:
    (found,) = run(here, name, force=force, benchmarks={name: entry})
    return found.status, found.reason


def current(here: Workspace) -> dict[str, str]:
    return {row["name"]: row["fingerprint"] for row in rows(here, "SELECT * FROM benchmark WHERE is_current")}


@pytest.mark.parametrize("kind", KINDS)
def test_all_are_new_and_then_cached(kind: str, tmp_path: Path) -> None:
    with empty_workspace(kind, tmp_path) as here:
        benchmark_tasks.write_benchmarks(tmp_path)
        first = run(here)
        assert [(each.name, each.status, each.reason) for each in first] == [(name, "scored", "new") for name in NAMES]
        assert [each.n_tasks for each in first] == [20, 40, 30, 30, 30]
        again = run(here)
        assert [(each.name, each.status, each.reason) for each in again] == [
            (name, "cached", "nothing has changed") for name in NAMES
        ]
        assert [(each.id, each.fingerprint, each.n_tasks) for each in again] == [
            (each.id, each.fingerprint, each.n_tasks) for each in first
        ]
        assert rows(here, "SELECT COUNT(*) AS n FROM benchmark_task")[0]["n"] == 150


def test_what_is_recorded_of_a_benchmark(here: Workspace) -> None:
    run(here, "bbh")
    (row,) = rows(here, "SELECT * FROM benchmark")
    assert json.loads(row["constants"]) == {"max_input_len": pytest.approx(14.55)}
    assert json.loads(row["config"]) == {"path": "file:tasks/bbh"}
    tasks = rows(here, "SELECT * FROM benchmark_task ORDER BY position")
    assert [task["position"] for task in tasks] == list(range(30))
    assert [task["part"] for task in tasks] == ["navigate"] * 15 + ["web_of_lies"] * 15
    raw = [task["raw_score"] for task in tasks]
    assert raw[0] == pytest.approx(0.7 + 0.3 / 14.55)
    assert (row["score_low"], row["score_high"]) == (min(raw), max(raw))
    low, span = min(raw), max(raw) - min(raw)
    assert [task["difficulty_score"] for task in tasks] == [pytest.approx((each - low) / span) for each in raw]
    assert json.loads(tasks[1]["raw_data"]) == {"input": "navigate navigate ", "target": "True"}
    assert json.loads(tasks[0]["scorer_metadata"])["task_name"] == "navigate"


def test_a_changed_source_is_named_and_an_older_one_found_again(here: Workspace) -> None:
    path = here.root / "tasks/gsm8k.jsonl"
    one(here, "gsm8k")
    first, content = current(here), path.read_bytes()
    write_tasks(path, benchmark_tasks.gsm8k(41))
    assert one(here, "gsm8k") == ("scored", "the source changed")
    assert current(here) != first
    path.write_bytes(content)
    assert one(here, "gsm8k") == ("scored", "the source changed")
    assert current(here) == first
    assert rows(here, "SELECT COUNT(*) AS n FROM benchmark")[0]["n"] == 2


def test_a_change_that_leaves_every_length_is_noticed(here: Workspace) -> None:
    path = here.root / "tasks/gsm8k.jsonl"
    one(here, "gsm8k")
    path.write_text(path.read_text().replace("ducks", "geese", 1))
    assert one(here, "gsm8k") == ("scored", "the source changed")


def test_the_order_of_tasks_is_part_of_a_source(here: Workspace) -> None:
    path = here.root / "tasks/gsm8k.jsonl"
    one(here, "gsm8k")
    path.write_text("".join(f"{line}\n" for line in reversed(path.read_text().splitlines())))
    assert one(here, "gsm8k") == ("scored", "the source changed")


def test_a_changed_entry_is_named(here: Workspace) -> None:
    one(here, "bbh")
    before = current(here)
    assert one(here, "bbh", split="test") == ("cached", "its split changed, its tasks did not")
    assert one(here, "bbh", configs=["navigate", "web_of_lies"], split="test") == (
        "cached",
        "its configs changed, its tasks did not",
    )
    assert current(here) == before
    assert one(here, "bbh", configs=["web_of_lies", "navigate"]) == (
        "scored",
        "split, configs changed in the config; the source changed",
    )


def test_a_benchmark_that_moved_is_the_same_and_its_pools_can_be_drawn(here: Workspace) -> None:
    """The path is not part of what it is, but `pool build` asks for what the config says now."""
    one(here, "gsm8k")
    first = current(here)
    (here.root / "tasks/gsm8k.jsonl").rename(here.root / "moved.jsonl")
    moved = ("cached", "its path changed, its tasks did not")
    assert one(here, "gsm8k", path="file:moved.jsonl") == moved
    (row,) = rows(here, "SELECT * FROM benchmark")
    assert (row["path"], json.loads(row["config"])["path"]) == ("file:moved.jsonl", "file:moved.jsonl")
    assert current(here) == first
    assert one(here, "gsm8k", path="file:moved.jsonl") == ("cached", "nothing has changed")


def test_disabling_is_no_change(here: Workspace) -> None:
    run(here)
    assert [each.name for each in run(here, benchmarks={"amc": {"enabled": False}})] == [
        "humaneval", "gsm8k", "bbh", "medical_qa",
    ]  # fmt: skip
    assert set(current(here)) == set(NAMES)
    assert one(here, "amc") == ("cached", "nothing has changed")


def test_force_reads_and_scores_again_and_changes_nothing(here: Workspace) -> None:
    run(here)
    before = rows(here, "SELECT * FROM benchmark ORDER BY id")
    assert {(each.status, each.reason) for each in run(here, force=True)} == {("scored", "--force")}
    assert rows(here, "SELECT * FROM benchmark ORDER BY id") == before


def test_a_new_version_of_a_scorer_is_noticed(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    one(here, "gsm8k")
    monkeypatch.setattr(module, "SCORING", 2)
    assert one(here, "gsm8k") == ("scored", "the scorer changed")


def test_broken_benchmarks_do_not_stop_the_others(here: Workspace) -> None:
    (here.root / "tasks/humaneval.jsonl").write_text("oops\n")
    write_tasks(here.root / "tasks/gsm8k.jsonl", [{"question": "?"}])
    found = run(here, benchmarks={"bbh": {"path": f"file:{'x' * 300}"}, "amc": {"configs": ["a"]}})
    assert [(each.name, each.status) for each in found] == [
        ("humaneval", "failed"), ("gsm8k", "failed"), ("bbh", "failed"), ("amc", "failed"), ("medical_qa", "scored"),
    ]  # fmt: skip
    assert [each.error.exit_code if each.error else None for each in found] == [12, 12, 12, 12, None]
    assert found[0].reason.startswith("The tasks of humaneval cannot be used.\n")
    assert "record 1: no text in `answer`" in found[1].reason
    assert list(current(here)) == ["medical_qa"]


def test_a_benchmark_that_broke_keeps_what_was_recorded(here: Workspace) -> None:
    one(here, "gsm8k")
    before = current(here)
    (here.root / "tasks/gsm8k.jsonl").unlink()
    assert one(here, "gsm8k")[0] == "failed"
    assert current(here) == before


def test_names_that_are_none(here: Workspace) -> None:
    with pytest.raises(UnknownReference, match="No benchmark 'gsm8'") as caught:
        run(here, "amc", "gsm8")
    assert caught.value.matches == ("gsm8k",)
    with pytest.raises(ConfigError, match=r"amc\.enabled: false"):
        run(here, "gsm8k", "amc", benchmarks={"amc": {"enabled": False}})
    assert not here.database.exists()


def test_a_benchmark_without_a_scorer(here: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"A benchmark has no scorer\.\n  riddles: known here: humaneval, gsm8k"):
        run(here, benchmarks={"riddles": {"path": "file:riddles.jsonl"}})


# The hub, as a local directory that `datasets` reads.


@pytest.fixture
def hub(here: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / "hub/test.jsonl"
    write_tasks(path, benchmark_tasks.gsm8k(5))
    return path


def test_data_of_the_hub_is_taken_as_it_is_until_forced(here: Workspace, hub: Path) -> None:
    entry: dict[str, Any] = {"path": f"datasets:{hub.parent}"}
    assert one(here, "gsm8k", **entry) == ("scored", "new")
    before = current(here)
    write_tasks(hub, benchmark_tasks.gsm8k(6))
    status, reason = one(here, "gsm8k", **entry)
    assert status == "cached"
    assert reason.startswith("as it was had from the hub on 20")
    assert reason.endswith("; --force looks again")
    assert one(here, "gsm8k", force=True, **entry) == ("scored", "the source changed")
    assert current(here) != before
    assert one(here, "gsm8k", split="train", **entry)[0] == "failed"


def test_data_of_the_hub_is_scored_anew_without_the_hub(
    here: Workspace, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry: dict[str, Any] = {"path": f"datasets:{hub.parent}"}
    one(here, "gsm8k", **entry)
    hub.unlink()
    monkeypatch.setattr(module, "SCORING", 2)
    assert one(here, "gsm8k", **entry) == ("scored", "the scorer changed")
    assert one(here, "gsm8k", **entry)[0] == "cached"


def test_a_local_copy_of_what_the_hub_had_is_the_same(here: Workspace, hub: Path) -> None:
    one(here, "gsm8k", path=f"datasets:{hub.parent}")
    before = current(here)
    assert one(here, "gsm8k", path=f"file:{hub}") == ("cached", "its path changed, its tasks did not")
    assert current(here) == before


# Scorers of one's own.

RIDDLES = [{"riddle": "r" * number} for number in range(1, 9)]


def by_length(records: Sequence[Record]) -> Difficulty:
    lengths = [float(len(str(record.raw["riddle"]))) for record in records]
    return Difficulty(lengths, [{"length": length} for length in lengths], {"max_length": max(lengths)})


def riddles(here: Workspace, scorer: Scorer) -> Preprocessed:
    write_tasks(here.root / "riddles.jsonl", RIDDLES)
    config = BenchmarksConfig.model_validate({"benchmarks": {"riddles": {"path": "file:riddles.jsonl"}}})
    (found,) = preprocess(here, config, scorers={"riddles": scorer})
    return found


def test_a_benchmark_of_ones_own(here: Workspace) -> None:
    assert riddles(here, by_length).reason == "new"
    scores = [row["difficulty_score"] for row in rows(here, "SELECT * FROM benchmark_task ORDER BY position")]
    assert scores == [pytest.approx(at / 7) for at in range(8)]
    assert riddles(here, by_length).reason == "nothing has changed"


def test_a_scorer_is_told_by_what_it_gives(here: Workspace) -> None:
    """Its own text says nothing of what it calls, nor of what it has enclosed."""

    def power(of: float) -> Scorer:
        def scorer(records: Sequence[Record]) -> Difficulty:
            found = by_length(records)
            return Difficulty([score**of for score in found.scores], found.features, found.constants)

        return scorer

    assert riddles(here, power(1)).reason == "new"
    assert riddles(here, by_length).status == "cached"
    assert riddles(here, power(2)).reason == "the scorer changed"
    assert riddles(here, eval("lambda records: by_length(records)", globals())).reason == "the scorer changed"


def test_a_scorer_of_ones_own_instead_of_a_known_one(here: Workspace) -> None:
    config = BenchmarksConfig.model_validate({"benchmarks": {"gsm8k": {"path": "file:tasks/gsm8k.jsonl"}}})
    one(here, "gsm8k")

    def flat(records: Sequence[Record]) -> Difficulty:
        return Difficulty([1] * len(records), [{}] * len(records), {})

    (found,) = preprocess(here, config, scorers={"gsm8k": flat})
    assert found.reason == "the scorer changed"
    scores = rows(here, "SELECT DISTINCT difficulty_score FROM benchmark_task WHERE benchmark_id = :id", id=found.id)
    assert scores == [{"difficulty_score": 0.0}]
    assert one(here, "gsm8k") == ("scored", "the scorer changed")


def failing(records: Sequence[Record]) -> Difficulty:
    return Difficulty([record.raw["absent"] for record in records], [], {})


def leaving(_: Sequence[Record]) -> Difficulty:
    raise SystemExit(0)


def result(scores: Sequence[Any], features: Sequence[Any], constants: Mapping[str, Any]) -> Callable[[Any], Difficulty]:
    return lambda _: Difficulty(scores, features, constants)


@pytest.mark.parametrize(
    ("scorer", "what"),
    [
        (failing, "its scorer failed: KeyError: 'absent'"),
        (leaving, "its scorer failed: SystemExit: 0"),
        (lambda _: None, "its scorer failed: AttributeError: 'NoneType' object has no attribute 'scores'"),
        (result([1.0] * 7, [{}] * 8, {}), "its scorer gave 7 scores and 8 rows of features for 8 tasks"),
        (result([1.0] * 8, [], {}), "its scorer gave 8 scores and 0 rows of features for 8 tasks"),
        (result([float("nan")] * 8, [{}] * 8, {}), "its scorer failed: ValueError: nan has no JSON form"),
        (result([1.0] * 8, [{"a": {1}}] * 8, {}), "its scorer failed: TypeError: set has no JSON form"),
        (result([1.0] * 8, [{}] * 8, {"m": float("inf")}), "its scorer failed: ValueError: inf has no JSON form"),
        (result([None] * 8, [{}] * 8, {}), "its scorer failed: TypeError: float() argument must be"),
    ],
)
def test_a_scorer_that_fails_is_an_error_of_its_benchmark(here: Workspace, scorer: Scorer, what: str) -> None:
    config = BenchmarksConfig.model_validate(data_config(benchmarks={"riddles": {"path": "file:riddles.jsonl"}}))
    write_tasks(here.root / "riddles.jsonl", RIDDLES)
    found = preprocess(here, config, scorers={"riddles": scorer})
    assert [each.status for each in found] == ["scored"] * 5 + ["failed"]
    assert found[-1].reason.startswith(f"A benchmark cannot be scored.\n  riddles: {what}")


def test_scores_of_numpy_are_numbers(here: Workspace) -> None:
    import numpy as np

    def scorer(records: Sequence[Record]) -> Difficulty:
        values: Any = np.arange(len(records), dtype=np.float32)
        features = [{"n": np.int64(at), "of": {"long": [np.bool_(at > 3)]}} for at, _ in enumerate(values)]
        constants: dict[str, Any] = {"max": np.float32(1.5)}
        return Difficulty(values, features, constants)

    found = riddles(here, scorer)
    assert (found.status, found.error) == ("scored", None)
    (row,) = rows(here, "SELECT MAX(raw_score) AS raw, MAX(difficulty_score) AS score FROM benchmark_task")
    assert row == {"raw": 7.0, "score": 1.0}
    first = rows(here, "SELECT scorer_metadata FROM benchmark_task ORDER BY position")[0]
    assert json.loads(first["scorer_metadata"]) == {"n": 0, "of": {"long": [False]}}
    assert json.loads(rows(here, "SELECT constants FROM benchmark")[0]["constants"]) == {"max": 1.5}


def scorer_file(path: Path, text: str) -> Mapping[str, Scorer]:
    path.write_text(text)
    return load_scorers(path)


OWN = """\
from __future__ import annotations
from dataclasses import dataclass
from pipeline.pools.difficulty import Difficulty, top

@dataclass
class Features:
    length: int

def _length(record):
    return Features(len(record.raw["riddle"]) ** {power}).length

def riddles(records):
    scores = [_length(record) for record in records]
    return Difficulty(scores, [{{"length": score}} for score in scores], {{"max": top(scores)}})
"""


def test_scorers_in_a_file(here: Workspace) -> None:
    path = here.root / "own.py"
    found = scorer_file(path, OWN.format(power=1))
    assert list(found) == ["riddles"], "neither what it imports nor what begins with an underscore"
    assert riddles(here, found["riddles"]).reason == "new"
    # As long as before and within the same second: what Python keeps of an import would be the old one.
    assert riddles(here, scorer_file(path, OWN.format(power=2))["riddles"]).reason == "the scorer changed"
    assert sorted(each.name for each in here.root.glob("**/__pycache__")) == []


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("own.py", "def riddles(:\n", "SyntaxError"),
        ("own.py", "1 / 0\n", "ZeroDivisionError: division by zero"),
        ("own.py", "raise SystemExit(0)\n", "SystemExit: 0"),
        ("own.py", "from pipeline.pools.difficulty import top\n_a = 1\n", "it defines no public function"),
        ("own.txt", "", "expected a Python file"),
    ],
)
def test_a_file_without_scorers(tmp_path: Path, name: str, text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        scorer_file(tmp_path / name, text)


def test_scorers_that_are_not_there(tmp_path: Path) -> None:
    for name in ("none.py", ".", f"{'x' * 300}.py"):
        with pytest.raises(ConfigError, match="expected a Python file"):
            load_scorers(tmp_path / name)
