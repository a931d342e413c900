"""A pool, validated by a model behind a real server: right on what is easy and wrong on what is hard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.pools import grading
from pipeline.pools.build import build, prepare
from pipeline.pools.preprocess import preprocess
from pipeline.pools.specs import BenchmarksConfig, PoolConfig
from pipeline.pools.validate import Validation, validate
from pipeline.pools.validation_plan import sampled
from pipeline.providers import resolve_model
from pipeline.specs import ModelSpec
from tests.databases import rows
from tests.llm_server import Server, running_server
from tests.pipeline.pools.confinement import needs_confinement
from tests.workspaces import write_lines
from tracker import configs
from tracker.configs import Document
from tracker.errors import BudgetReached, ConfigError, Conflict, Interrupted, MissingKey, ProviderError
from tracker.listings.validation_results import Accuracy
from tracker.paths import Workspace
from tracker.record.catalogue import Row

REPOSITORY = Path(__file__).parents[3]
SAMPLES = 4
Task = Mapping[str, Any]


def arithmetic(number: int) -> Task:
    steps = "".join(f"then {step}\n" for step in range(number))
    return {"question": f"Problem {number}: how many are left?", "answer": f"{steps}#### {1000 + number}"}


def riddle(number: int) -> Task:
    options = {letter: f"sign {letter} of {number}" for letter in "ABCD"}
    question = f"Case {number}: what is it? " + "The patient has it. " * number
    return {"question": question, "options": options, "answer_idx": "ABCD"[number % 4], "answer": "in words"}


def function(number: int) -> Task:
    return {
        "task_id": f"Invented/{number}",
        "prompt": f'def f{number}():\n    """{"word " * number}"""\n',
        "entry_point": f"f{number}",
        "test": "def check(candidate):\n" + f"    assert candidate() == {number}\n" * (number + 1),
    }


MAKERS: Mapping[str, Callable[[int], Task]] = {"gsm8k": arithmetic, "medical_qa": riddle, "humaneval": function}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "workspace"
    root.mkdir()
    return Workspace(root, environ={"OPENAI_API_KEY": "test-key"})


def pool(workspace: Workspace, *benchmarks: str, name: str = "exp1", n: int = 24, **given: Any) -> Row:
    """A pool of those invented benchmarks, 30 tasks each, in the record."""
    entries = {}
    for each in benchmarks:
        path = write_lines(workspace.root / f"{each}.jsonl", [MAKERS[each](number) for number in range(30)])
        entries[each] = {"path": f"file:{path}"}
    known = configs.validate(BenchmarksConfig, Document({"benchmarks": entries}, "the test"))
    assert {each.status for each in preprocess(workspace, known)} <= {"scored", "cached"}
    settings = {"name": name, "benchmarks": list(benchmarks), "n_total_tasks": n, **given}
    config = configs.validate(PoolConfig, Document(settings, "the test"))
    return build(workspace, prepare(workspace, known, config, path=None, command="synthtrack pool build")).pool


def stated(benchmark: str, raw: Task, *, right: bool) -> str:
    if benchmark == grading.CODE:
        number = raw["entry_point"].removeprefix("f")
        return f"```python\ndef f{number}():\n    return {number if right else -1}\n```"
    if benchmark == "medical_qa":
        wrong = "ABCD"[("ABCD".index(raw["answer_idx"]) + 1) % 4]
        return f"It is clear.\n\n**Answer: ({raw['answer_idx'] if right else wrong})**"
    return f"Let us see. The answer is {grading.expected(benchmark, raw) if right else 1}."


def recording(workspace: Workspace, easy: bool = True, hard: bool = False) -> Path:
    """What the server says to each task of all pools: right where the task is of a bin that is answered so."""
    found = rows(workspace, "SELECT benchmark, difficulty_bin, raw_data FROM task_pool_task_overview")
    told = {}
    for row in found:
        raw, right = json.loads(row["raw_data"]), {"easy": easy, "hard": hard}[row["difficulty_bin"]]
        told[grading.question(row["benchmark"], raw)] = stated(row["benchmark"], raw, right=right)
    lines = [{"original_premise": asked, "rephrased_premise": said, "verdict": ""} for asked, said in told.items()]
    return write_lines(workspace.root / "recorded.jsonl", lines)


def model(server: Server, *, priced: bool = False, **given: Any) -> ModelSpec:
    reached = {"provider": "openai", "base_url": server.base_url, "endpoint": "test-server", "timeout": 5.0}
    price = {"price": {"input_per_mtok": 10.0, "output_per_mtok": 30.0}} if priced else {}
    asked = {"model": "gpt-4o", "temperature": 0.0, "max_tokens": 64, "concurrency": 4, "max_retries": 1}
    spec = ModelSpec.model_validate({**asked, **reached, **price, **given})
    found = resolve_model(spec, {})
    assert isinstance(found, ModelSpec)
    return found


def go(workspace: Workspace, of: Row, asked: ModelSpec, **given: Any) -> Validation:
    return validate(workspace, of, asked, **{"samples": SAMPLES, **given})


def test_a_model_that_is_right_on_easy_tasks_alone_has_the_whole_gap(workspace: Workspace) -> None:
    of = pool(workspace, "gsm8k", "medical_qa")
    with running_server(recorded=recording(workspace)) as server:
        found = go(workspace, of, model(server))
        assert set(server.stats()["answered"].values()) == {1}
        assert len(server.stats()["answered"]) == 4 * SAMPLES
    assert (found.outcome, found.status, found.stopped, found.first_failure) == ("made", "complete", None, None)
    assert list(found.benchmarks) == ["gsm8k", "medical_qa"]
    for each in found.benchmarks.values():
        assert (each.easy, each.hard, each.gap) == (Accuracy(4, 4), Accuracy(4, 0), 1.0)
        assert each.rank_correlation is not None
        assert each.rank_correlation > 0.8
        assert each.p == pytest.approx(2 / 70)
    assert found.overall.easy == Accuracy(8, 8)
    row = found.row
    assert (row["easy_accuracy"], row["hard_accuracy"], row["accuracy_gap"]) == (1.0, 0.0, 1.0)
    assert row["rank_correlation"] == pytest.approx(found.overall.rank_correlation)
    assert (row["n_tasks"], row["n_graded"], row["n_failed"], row["n_calls"], row["n_cached"]) == (16, 16, 0, 16, 0)
    assert json.loads(row["settings"])["model"] == "gpt-4o"
    assert "test-key" not in json.dumps(row)


def test_the_same_command_asks_nothing_and_a_larger_sample_only_the_rest(workspace: Workspace) -> None:
    of = pool(workspace, "gsm8k")
    with running_server(recorded=recording(workspace)) as server:
        first = go(workspace, of, model(server))
        again = go(workspace, of, model(server))
        assert (again.outcome, again.row["uuid"]) == ("reused", first.row["uuid"])
        assert server.stats()["received"] == 2 * SAMPLES
        more = go(workspace, of, model(server), samples=SAMPLES + 1)
        assert server.stats()["received"] == 2 * (SAMPLES + 1)
        assert (more.row["n_calls"], more.row["n_cached"]) == (2, 2 * SAMPLES)
        other = go(workspace, of, model(server), seed=1)
        assert other.row["uuid"] != first.row["uuid"]
        assert max(server.stats()["answered"].values()) == 1
    positions = [
        {
            row["position"]
            for row in rows(workspace, "SELECT * FROM pool_answer WHERE pool_validation_id = :id", id=each)
        }
        for each in (first.row["id"], more.row["id"])
    ]
    assert positions[0] < positions[1]


def test_a_task_that_a_pool_holds_twice_is_asked_once(workspace: Workspace) -> None:
    of = pool(workspace, "gsm8k", n=60, sample_with_replacement=True)
    with running_server(recorded=recording(workspace)) as server:
        found = go(workspace, of, model(server), samples=50)
        assert server.stats()["received"] == found.row["n_tasks"] < 60
        assert set(server.stats()["answered"].values()) == {1}


def tasks(*cells: tuple[str, str, int]) -> list[Row]:
    found = [(name, bin_, at) for name, bin_, count in cells for at in range(count)]
    return [
        {"position": position, "benchmark": name, "difficulty_bin": bin_, "benchmark_position": at}
        for position, (name, bin_, at) in enumerate(found)
    ]


def test_a_sample_takes_bins_in_turn_and_is_a_beginning_of_a_larger_one() -> None:
    there = tasks(("a", "hard", 9), ("a", "easy", 9), ("b", "easy", 2))
    by_position = {row["position"]: row for row in there}
    large = sampled(there, 5, seed=3)
    assert len(large) == 12
    assert large == sampled(there, 5, seed=3)
    assert set(sampled(there, 2, seed=3)) < set(large)
    assert sampled(there, 5, seed=4) != large
    turns = [(by_position[at]["benchmark"], by_position[at]["difficulty_bin"]) for at, _ in large]
    assert turns[:6] == 2 * [("a", "easy"), ("a", "hard"), ("b", "easy")]
    assert turns[6:8] == [("a", "easy"), ("a", "hard")]


def test_what_another_benchmark_brings_does_not_change_the_sample() -> None:
    alone = tasks(("a", "hard", 9), ("a", "easy", 9))
    beside = tasks(("b", "easy", 4), ("a", "hard", 9), ("a", "easy", 9))
    of = [(alone[at]["difficulty_bin"], alone[at]["benchmark_position"]) for at, _ in sampled(alone, 3, 0)]
    chosen = [beside[at] for at, name in sampled(beside, 3, 0) if name == "a"]
    assert of == [(row["difficulty_bin"], row["benchmark_position"]) for row in chosen]


def test_the_budget_stops_it_and_what_was_graded_is_there(workspace: Workspace) -> None:
    of = pool(workspace, "gsm8k", n=40)
    with running_server(recorded=recording(workspace)) as server:
        asked = model(server, priced=True, concurrency=1)
        cap = 0.008
        found = go(workspace, of, asked, samples=6, budget=cap)
        assert isinstance(found.stopped, BudgetReached)
        assert (found.status, found.outcome) == ("partial", "made")
        assert "--budget" in str(found.stopped)
        assert 0 < found.row["n_graded"] < 12
        assert found.row["cost_usd"] <= cap
        assert abs(found.overall.easy.n - found.overall.hard.n) <= 1
        again = go(workspace, of, asked, samples=6, budget=cap)
        assert (again.status, again.row["n_graded"]) == ("partial", found.row["n_graded"])
        assert again.row["n_calls"] == 0
        rest = go(workspace, of, asked, samples=6, budget=1.0)
        assert (rest.status, rest.row["n_graded"], rest.stopped) == ("complete", 12, None)
        assert set(server.stats()["answered"].values()) == {1}
        assert len(server.stats()["answered"]) == 12


def test_a_budget_without_a_price_is_refused_before_anything_is_asked(workspace: Workspace) -> None:
    of = pool(workspace, "gsm8k")
    with running_server() as server:
        with pytest.raises(ConfigError, match="--budget needs known prices"):
            go(workspace, of, model(server), budget=1.0)
        with pytest.raises(MissingKey):
            go(Workspace(workspace.root, environ={}), of, model(server))
        assert server.stats()["received"] == 0
    assert rows(workspace, "SELECT * FROM pool_validation") == []


def test_answers_that_fail_are_counted_and_asked_for_again(workspace: Workspace) -> None:
    of = pool(workspace, "gsm8k")
    with running_server(recorded=recording(workspace), poison="Problem 1") as server:
        found = go(workspace, of, model(server, max_retries=0))
        assert found.status == "partial"
        assert found.overall.n_failed == found.row["n_failed"] > 0
        assert found.row["n_graded"] == 2 * SAMPLES - found.row["n_failed"]
        assert found.first_failure
    with running_server(recorded=recording(workspace)) as server:
        again = go(workspace, of, model(server, max_retries=0))
        assert (again.status, again.row["n_calls"]) == ("complete", found.row["n_failed"])


def test_an_answer_that_was_cut_off_is_not_graded(workspace: Workspace) -> None:
    of = pool(workspace, "gsm8k")
    faults = {"fault_rate": 0.5, "faults": "truncated"}
    with running_server(recorded=recording(workspace), **faults) as server:
        found = go(workspace, of, model(server, max_retries=0))
    cut = rows(workspace, "SELECT extracted, correct, error FROM pool_answer WHERE status = 'failed'")
    assert len(cut) == found.row["n_failed"] > 0
    assert all((row["extracted"], row["correct"]) == (None, None) and "cut off" in row["error"] for row in cut)


def test_an_answer_that_states_nothing_is_wrong(workspace: Workspace) -> None:
    of = pool(workspace, "medical_qa")
    with running_server() as server:
        found = go(workspace, of, model(server))
    assert (found.status, found.overall.easy, found.overall.hard) == ("complete", Accuracy(4, 0), Accuracy(4, 0))
    assert (found.overall.gap, found.overall.rank_correlation) == (0.0, None)
    assert {row["extracted"] for row in rows(workspace, "SELECT extracted FROM pool_answer")} == {None}


def test_a_server_that_refuses_ends_it_as_failed(workspace: Workspace) -> None:
    of = pool(workspace, "gsm8k")
    with running_server() as server, pytest.raises(ProviderError):
        go(workspace, of, model(server, model="no-such-model"))
    found = rows(workspace, "SELECT status, error FROM pool_validation")
    assert [row["status"] for row in found] == ["failed"]
    assert found[0]["error"]


def test_programs_are_neither_asked_for_nor_run_unless_that_is_wanted(workspace: Workspace) -> None:
    of = pool(workspace, "humaneval", "gsm8k")
    with running_server(recorded=recording(workspace)) as server:
        found = go(workspace, of, model(server))
        assert server.stats()["received"] == 2 * SAMPLES
    assert (found.status, found.overall.n_ungraded) == ("complete", 2 * SAMPLES)
    assert found.benchmarks["humaneval"].easy == Accuracy(0, 0)
    assert found.overall.easy == Accuracy(SAMPLES, SAMPLES)


def test_programs_are_graded_by_running_them(workspace: Workspace) -> None:
    needs_confinement()
    of = pool(workspace, "humaneval")
    with running_server(recorded=recording(workspace)) as server:
        found = go(workspace, of, model(server), run_code=True)
    assert (found.overall.easy, found.overall.hard) == (Accuracy(4, 4), Accuracy(4, 0))
    said = {(row["correct"], row["extracted"]) for row in rows(workspace, "SELECT * FROM pool_answer")}
    assert said == {(1, "passed"), (0, "AssertionError")}


CODE = """
import json, sys
from pathlib import Path
from pipeline.pools.validate import validate
from pipeline.specs import ModelSpec
from tests.databases import rows
from tracker.errors import Error
from tracker.paths import Workspace
here = Workspace(Path(sys.argv[1]), environ={"OPENAI_API_KEY": "test-key"})
spec = ModelSpec.model_validate_json(sys.argv[2])
try:
    found = validate(here, rows(here, "SELECT * FROM task_pool")[0], spec, samples=int(sys.argv[3]))
except Error as error:
    sys.exit(error.exit_code)
print(found.status)
"""


def started(workspace: Workspace, asked: ModelSpec, samples: int) -> subprocess.Popen[str]:
    given = [str(workspace.root), asked.model_dump_json(exclude_none=True), str(samples)]
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([sys.executable, "-c", CODE, *given], env=environ, stdout=subprocess.PIPE, text=True)


def until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.02)


def answered(workspace: Workspace) -> int:
    return int(rows(workspace, "SELECT COUNT(*) AS n FROM attempt WHERE failure IS NULL")[0]["n"])


def statuses(workspace: Workspace) -> Sequence[str]:
    return [row["status"] for row in rows(workspace, "SELECT status FROM pool_validation ORDER BY id")]


def test_one_that_was_killed_goes_on_where_it_was(workspace: Workspace) -> None:
    of = pool(workspace, "gsm8k", n=60, sample_with_replacement=True)
    with running_server(recorded=recording(workspace), latency=0.3) as server:
        asked = model(server, concurrency=2)
        with started(workspace, asked, 6) as process:
            until(lambda: answered(workspace) >= 3)
            with pytest.raises(Conflict, match="is being asked about exp1"):
                go(workspace, of, asked, samples=6)
            process.kill()
        kept = answered(workspace)
        found = go(workspace, of, asked, samples=6)
        assert found.status == "complete"
        assert (found.row["n_cached"], found.row["n_calls"]) == (kept, found.row["n_tasks"] - kept)
        # What was in flight when the process died was paid, and nobody has heard it.
        assert sum(count - 1 for count in server.stats()["answered"].values()) <= 2
    assert statuses(workspace) == ["interrupted", "complete"]
    dead = rows(workspace, "SELECT * FROM pool_validation ORDER BY id")[0]
    assert dead["error"] == "its process ended without a word"


def test_one_that_is_interrupted_keeps_what_it_has_and_goes_on(workspace: Workspace) -> None:
    of = pool(workspace, "gsm8k", n=60, sample_with_replacement=True)
    with running_server(recorded=recording(workspace), latency=0.3) as server:
        asked = model(server, concurrency=2)
        with started(workspace, asked, 6) as process:
            until(lambda: answered(workspace) >= 3)
            process.send_signal(signal.SIGINT)
            assert process.wait() == Interrupted.exit_code
        assert statuses(workspace) == ["interrupted"]
        found = go(workspace, of, asked, samples=6)
        assert (found.status, found.row["n_graded"]) == ("complete", found.row["n_tasks"])
        assert set(server.stats()["answered"].values()) == {1}
