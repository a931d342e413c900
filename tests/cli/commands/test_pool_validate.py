"""``pool validate`` as it is typed, against a real server: reports, ends and what another go asks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.pools.run_code import PROTECTION
from tests.llm_server import Server, running_server
from tests.pipeline.pools.confinement import needs_confinement
from tests.pool_answers import easy_ones, record_answers
from tests.workspaces import Done, call, environment, matches_snapshot, rows, steady
from tracker.errors import Unsupported

MODEL = ("--model", "gpt-4o", "--endpoint", "test-server", "--samples", "4")
PRICED = ("--price-input", "2.5", "--price-output", "10")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample pool, and one of two benchmarks that are graded without running anything."""
    root = tmp_path_factory.mktemp("built") / "workspace"
    root.mkdir()
    call(root, "init")
    config = ("--config", "configs/pools/data_config_sample.yaml")
    assert call(root, "pool", "preprocess", *config).code == 0
    assert call(root, "pool", "build", "sample", "--no-mlflow").code == 0
    two = ("--name", "two", "--benchmarks", "gsm8k,medical_qa", "--n", "20", "--no-mlflow")
    assert call(root, "pool", "build", *config, *two).code == 0
    record_answers(root, root / "mostly.jsonl")
    record_answers(root, root / "easy_ones.jsonl", easy_ones)
    return root


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "workspace"))


@pytest.fixture(scope="module")
def server(built: Path) -> Iterator[Server]:
    with running_server(recorded=built / "mostly.jsonl") as running:
        yield running


def ask(root: Path, server: Server, *arguments: object, code: int = 0, pool: str = "sample", **environ: str) -> Done:
    """What `pool validate` leaves; the exit code must be ``code``."""
    given = ("pool", "validate", pool, *MODEL, "--base-url", server.base_url, "--no-mlflow", *arguments)
    done = call(root, *given, environ=environ)
    assert done.code == code, done.err
    return done


def shown(done: Done, root: Path, server: Server) -> str:
    """Both streams, without what differs from run to run."""
    text = steady(done.out + done.err, root).replace(server.base_url, "SERVER")
    return re.sub(r'("latency_p\d+_s": )[\d.]+', r"\1NUMBER", text)


def found(done: Done) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(done.out)
    return result


def test_the_report_and_the_same_again(root: Path, server: Server) -> None:
    assert matches_snapshot("pool_validate", shown(ask(root, server, *PRICED), root, server))
    before = server.stats()["received"]
    assert matches_snapshot("pool_validate_reused", shown(ask(root, server, *PRICED), root, server))
    assert server.stats()["received"] == before


def test_json_is_what_the_report_says(root: Path, server: Server) -> None:
    done = ask(root, server, "--json")
    assert matches_snapshot("pool_validate_json", shown(done, root, server))
    result = found(done)
    assert (result["outcome"], result["status"], result["pool"], result["cost_usd"]) == (
        "made",
        "complete",
        "sample",
        None,
    )
    assert result["benchmarks"]["humaneval"]["easy"] == {"n": 0, "n_correct": 0, "accuracy": None, "interval": None}
    parts = [each for each in result["benchmarks"].values() if each["easy"]["n"]]
    assert sum(each["hard"]["n_correct"] for each in parts) == result["overall"]["hard"]["n_correct"]
    assert found(ask(root, server, "--json"))["outcome"] == "reused"


def test_a_dry_run_asks_and_writes_nothing(root: Path, server: Server) -> None:
    before = server.stats()["received"]
    done = ask(root, server, "--dry-run", *PRICED, OPENAI_API_KEY="")
    # How tokens are counted is the tokenizer's, where there is one.
    text = re.sub(r"\b(Tokens|Cost): .*\d.*", r"\1: ...", shown(done, root, server))
    assert matches_snapshot("pool_validate_dry_run", text)
    assert server.stats()["received"] == before
    assert rows(root, "SELECT * FROM pool_validation") == []
    ask(root, server, pool="two")
    result = found(ask(root, server, "--dry-run", "--json", pool="two"))
    assert (result["is_done"], result["n_calls"], result["already_paid"]) == (True, 0, 16)
    larger = found(ask(root, server, "--dry-run", "--json", "--samples", "5", pool="two"))
    assert (larger["is_done"], larger["n_calls"], larger["most_cost_usd"]) == (False, 4, None)


def test_the_budget_stops_it_with_a_report_and_a_larger_one_goes_on(root: Path, server: Server) -> None:
    given = (*PRICED, "--max-tokens", "100", "--concurrency", "1")
    done = ask(root, server, *given, "--budget", "0.004", code=10, pool="two")
    assert "⚠️  two: gpt-4o was asked, partial" in done.out
    assert "tasks not asked yet" in done.out
    assert "a larger --budget asks about the rest" in done.err
    [(n_graded, cost)] = rows(root, "SELECT n_graded, cost_usd FROM pool_validation")
    assert 0 < n_graded < 16
    assert cost <= 0.004
    done = ask(root, server, *given, "--budget", "1", "--json", pool="two")
    result = found(done)
    assert (result["status"], result["n_graded"]) == ("complete", 16)
    assert (result["n_cached"], result["n_calls"]) == (n_graded, 16 - n_graded)


def test_a_budget_needs_prices(root: Path, server: Server) -> None:
    done = ask(root, server, "--budget", "1", code=3)
    assert "--budget needs known prices" in done.err


def test_tasks_without_an_answer_make_it_partial_and_are_asked_again(built: Path, root: Path) -> None:
    where = "pool = 'two' AND benchmark = 'medical_qa'"
    [raw] = rows(root, f"SELECT raw_data FROM task_pool_task_overview WHERE {where} ORDER BY position LIMIT 1")
    with running_server(recorded=built / "mostly.jsonl", poison=json.loads(raw[0])["question"]) as broken:
        done = ask(root, broken, "--samples", "9", "--max-retries", "0", code=1, pool="two")
        assert "⚠️  medical_qa: 1 task without an answer" in done.out
        assert "1 of 20 tasks have no answer (the first: " in done.err
    with running_server(recorded=built / "mostly.jsonl") as whole:
        result = found(ask(root, whole, "--samples", "9", "--json", pool="two"))
        assert (result["status"], result["n_calls"]) == ("complete", 1)


def test_programs_are_run_only_where_that_is_asked_for_and_that_is_said(built: Path, root: Path) -> None:
    needs_confinement()
    with running_server(recorded=built / "easy_ones.jsonl") as server:
        without = ask(root, server)
        assert "⚠️  humaneval: 8 tasks not asked, because answers are programs" in without.out
        assert "Programs were run" not in without.out
        done = ask(root, server, "--run-code")
    assert f"Programs were run with {PROTECTION}." in done.out
    assert re.search(r"^humaneval +4 of 4, 100\.0% .* 0 of 4, 0\.0%", done.out, re.MULTILINE)
    assert rows(root, "SELECT n_calls, n_cached FROM pool_validation ORDER BY id")[1] == (8, 32)


UNCONFINED = """
import sys
from pathlib import Path
from cli.main import run
from pipeline.pools import run_code
run_code._SANDBOX = Path("/nowhere")
sys.exit(run(sys.argv[1:]))
"""


def test_where_programs_cannot_be_confined_nothing_is_asked(root: Path, server: Server) -> None:
    before = server.stats()["received"]
    given = ["--root", str(root), "pool", "validate", "sample", *MODEL, "--base-url", server.base_url, "--run-code"]
    done = subprocess.run(
        [sys.executable, "-c", UNCONFINED, *given], env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, server.stats()["received"]) == (Unsupported.exit_code, before), done.stderr
    assert "--run-code" in done.stderr
    assert rows(root, "SELECT * FROM pool_validation") == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--temperature", "7"], 3, "`temperature`: input should be less than or equal to 2"),
        (["--temperature", "warm"], 2, "neither a number nor `none`"),
        (["--price-input", "1"], 2, "given together"),
        (["--samples", "0"], 2, "0 is not in the range"),
        (["--model", "no-such-model"], 8, "no-such-model"),
        (["--provider", "nobody"], 3, "provider"),
        (["--budget", "-1"], 2, "--budget"),
    ],
)
def test_what_is_wrong_is_said(root: Path, server: Server, arguments: list[str], code: int, said: str) -> None:
    assert said in ask(root, server, *arguments, code=code).err


def test_a_pool_is_meant_as_everywhere_and_a_key_is_needed(root: Path, server: Server) -> None:
    assert "Did you mean sample?" in ask(root, server, pool="sampel", code=4).err
    assert "OPENAI_API_KEY" in ask(root, server, code=9, OPENAI_API_KEY="").err
    assert found(ask(root, server, "--json", pool="data/two/task_pool.jsonl"))["pool"] == "two"
    [key] = rows(root, "SELECT settings FROM pool_validation")
    assert "test-key" not in key[0]


def test_the_temperature_need_not_be_sent(root: Path, server: Server) -> None:
    assert found(ask(root, server, "--temperature", "none", "--json", pool="two"))["temperature"] is None


def test_the_offline_rules_are_called_what_they_are(root: Path) -> None:
    done = call(root, "pool", "validate", "two", "--model", "rules-v1", "--provider", "offline", "--no-mlflow")
    assert done.code == 0, done.err
    assert "the offline provider's rules; no LLM" in done.out


def test_pool_show_lists_what_models_made_of_it(root: Path, server: Server) -> None:
    ask(root, server)
    page = call(root, "pool", "show", "sample", "--samples", "0").out
    assert re.search(r"^gpt-4o +0 +4 +complete +32 of 40, 8 not run ", page, re.MULTILINE)
    row = json.loads(call(root, "pool", "show", "sample", "--json").out)["validations"][0]
    assert (row["n_ungraded"], row["run_code"]) == (8, False)
