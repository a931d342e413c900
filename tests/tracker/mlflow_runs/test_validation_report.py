"""Validations in a real MLflow store, made by the command and read back by MLflow's own client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.databases import rows
from tests.llm_server import running_server
from tests.mlflow_reading import artifact, artifacts, client_of, inputs, only
from tests.pool_answers import easy_ones, record_answers
from tests.workspaces import Done, call
from tracker.listings.validation_results import by_benchmark
from tracker.mlflow_runs.mlflow_run import PARAMETER_LIMIT
from tracker.mlflow_runs.validation_plots import groups, overview
from tracker.mlflow_runs.validation_report import (
    VALIDATION_TAG,
    ValidationReport,
    answer_table,
    benchmark_table,
    metrics,
    note,
    parameters,
)
from tracker.paths import Workspace
from tracker.record.catalogue import Row

PNG = b"\x89PNG\r\n\x1a\n"


class Validated:
    """A pool that two models were asked about in full, one was stopped by its budget, and one asked another sample."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root, environ={})
        call(root, "init")
        config = ("--config", "configs/pools/data_config_sample.yaml")
        assert call(root, "pool", "preprocess", *config).code == 0
        assert call(root, "pool", "build", "sample", "--no-mlflow").code == 0
        with running_server(recorded=record_answers(root, root / "recorded.jsonl", easy_ones)) as server:
            given = ("--base-url", server.base_url, "--endpoint", "test", "--samples", "5")
            priced = ("--price-input", "2.5", "--price-output", "10", "--max-tokens", "50", "--concurrency", "1")
            self.first = self._ask(root, *given, "--model", "gpt-4o")
            self.second = self._ask(root, *given, "--model", "org/Mini", "--provider", "openai", "--temperature", "0.5")
            self.stopped = self._ask(
                root, *given, *priced, "--model", "gpt-4o", "--seed", "3", "--budget", "0.01", code=10
            )
            self.whole = self._ask(root, *given, *priced, "--model", "gpt-4o", "--seed", "3", "--budget", "1")
        self.client: MlflowClient = client_of(self.workspace)

    def _ask(self, root: Path, *arguments: str, code: int = 0) -> Row:
        done: Done = call(root, "pool", "validate", "sample", *arguments)
        assert done.code == code, done.err
        assert "not logged yet" not in done.err
        return rows(self.workspace, "SELECT * FROM pool_validation ORDER BY id DESC LIMIT 1")[0]

    def run(self, row: Row) -> Run:
        return only(self.client, VALIDATION_TAG, row["uuid"])


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Validated:
    root = tmp_path_factory.mktemp("validated") / "workspace"
    root.mkdir()
    return Validated(root)


def table(run: Run, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(artifact(run, name).read_text(encoding="utf-8"))
    return found


def test_every_go_is_a_run_of_the_experiment_of_pools(validated: Validated) -> None:
    shown = [
        (validated.run(row).info.run_name, validated.run(row).info.status)
        for row in (validated.first, validated.second, validated.stopped, validated.whole)
    ]
    assert shown == [
        ("sample · gpt-4o t0 · 5 per bin", "FINISHED"),
        ("sample · Mini t0.5 · 5 per bin", "FINISHED"),
        ("sample · gpt-4o t0 · 5 per bin · seed 3 · partial", "FAILED"),
        ("sample · gpt-4o t0 · 5 per bin · seed 3", "FINISHED"),
    ]
    experiment = validated.client.get_experiment_by_name("pools")
    assert experiment is not None
    assert {validated.run(row).info.experiment_id for row in (validated.first, validated.whole)} == {
        experiment.experiment_id
    }


def test_its_figures_are_those_of_the_record(validated: Validated) -> None:
    run, row = validated.run(validated.first), validated.first
    found = run.data.metrics
    for name in ("easy_accuracy", "hard_accuracy", "accuracy_gap", "rank_correlation"):
        assert found[f"validation/{name}"] == pytest.approx(row[name])
    assert (found["validation/n_tasks"], found["validation/n_graded"], found["validation/n_ungraded"]) == (50, 40, 10)
    assert (found["gsm8k/easy_accuracy"], found["gsm8k/accuracy_gap"], found["gsm8k/n_hard"]) == (1.0, 1.0, 5.0)
    assert "humaneval/easy_accuracy" not in found
    assert found["humaneval/n_ungraded"] == 10
    assert found["validation/n_calls"] == row["n_calls"]
    given = run.data.params
    assert (given["model"], given["pool"], given["samples"], given["run_code"]) == ("gpt-4o", "sample", "5", "false")
    assert given["benchmarks"] == "amc, bbh, gsm8k, humaneval, medical_qa"
    assert "test-key" not in json.dumps(given)
    assert run.data.tags["synthtrack.pool"] == "sample"
    assert [each.dataset.name for each in inputs(run)["validated"]] == ["sample"]


def test_two_models_stand_side_by_side_task_by_task(validated: Validated) -> None:
    first, second = (table(validated.run(row), "answers.json") for row in (validated.first, validated.second))
    assert first["columns"][:4] == ["task", "extracted", "expected", "correct"]
    tasks = [row[0] for row in first["data"]]
    assert tasks == [row[0] for row in second["data"]]
    assert len(set(tasks)) == 50
    by_name = [dict(zip(first["columns"], row, strict=True)) for row in first["data"]]
    graded = [row for row in by_name if row["status"] == "graded"]
    assert len(graded) == 40
    for row in graded:
        assert row["correct"] is (row["difficulty_bin"] == "easy")
        assert str(row["extracted"]).casefold() in row["answer"].splitlines()[-1].casefold()
    [ungraded] = {(row["benchmark"], row["correct"], row["answer"]) for row in by_name if row["status"] == "ungraded"}
    assert ungraded == ("humaneval", None, None)
    logged = json.loads(validated.run(validated.first).data.tags["mlflow.loggedArtifacts"])
    assert [each["path"] for each in logged] == ["answers.json", "benchmarks.json"]


def test_what_the_budget_left_is_a_run_of_what_was_there(validated: Validated) -> None:
    stopped, whole = validated.run(validated.stopped), validated.run(validated.whole)
    assert 0 < stopped.data.metrics["validation/n_graded"] < 40 == whole.data.metrics["validation/n_graded"]
    assert "**partial**: The next answer could take sample above" in stopped.data.tags["mlflow.note.content"]
    assert len(table(stopped, "answers.json")["data"]) < len(table(whole, "answers.json")["data"])
    assert artifact(whole, "plots/validation.png").read_bytes().startswith(PNG)


def test_deleted_runs_come_back_the_same(validated: Validated) -> None:
    root, before = validated.workspace.root, validated.run(validated.first)
    again = call(root, "mlflow", "sync", "--rebuild")
    assert again.out.startswith("0 runs logged"), again.out
    validated.client.delete_run(before.info.run_id)
    again = call(root, "mlflow", "sync", "--rebuild")
    assert again.out.startswith("1 run logged"), again.out
    after = validated.run(validated.first)
    assert after.info.run_id != before.info.run_id
    assert (after.data.metrics, after.data.params, after.info.run_name) == (
        before.data.metrics, before.data.params, before.info.run_name,
    )  # fmt: skip
    assert artifacts(after) == {"answers.json", "benchmarks.json", "plots/validation.png"}


def answer(position: int, benchmark: str = "gsm8k", **changes: Any) -> dict[str, Any]:
    known = {"difficulty_bin": "easy", "difficulty_score": 0.0, "status": "graded", "correct": 1, "error": None}
    said = {"expected": "1", "extracted": "1", "answer": "1", "raw_data": '{"question": "How many?"}'}
    return {"position": position, "benchmark_position": position, "benchmark": benchmark, **known, **said, **changes}


def report(*answers: dict[str, Any], **changes: Any) -> ValidationReport:
    texts = ("pool", "pool_fingerprint", "fingerprint", "model", "command", "uuid", "host")
    zeros = ("n_tasks", "n_graded", "n_calls", "n_cached", "n_retried", "n_rate_limited", "prompt_tokens", "n_failed")
    unknown = ("cost_usd", "duration_s", "latency_p50_s", "latency_p95_s", "latency_p99_s", "error", "temperature")
    row: dict[str, Any] = {name: name for name in texts} | dict.fromkeys((*zeros, "completion_tokens", "n_ungraded"), 0)
    row |= dict.fromkeys(unknown) | {"settings": "{}", "run_code": 1, "random_seed": 0, "n_samples": 2}
    return ValidationReport({**row, "status": "complete", **changes}, answers)


def test_what_is_long_is_cut_and_what_failed_says_why() -> None:
    long = json.dumps({"question": "q" * 5000})
    found = answer_table(report(answer(0, raw_data=long, answer="a" * 9000), answer(1, answer=None, error="HTTP 500")))
    assert found["data"][0][0] == f"gsm8k_00000: {'q' * 1000} ..."
    assert found["data"][0][-1] == "a" * 4000 + " ..."
    assert found["data"][1][-1] == "HTTP 500"
    assert (
        max(map(len, parameters(report(settings=json.dumps({"system_prompt": "s" * 9000}))).values()))
        == PARAMETER_LIMIT
    )


def test_a_validation_in_which_nothing_was_graded_has_no_figures_of_it() -> None:
    nothing = report(answer(0, status="failed", correct=None))
    assert {name for name in metrics(nothing) if name.endswith(("accuracy", "gap", "/p", "correlation"))} == set()
    assert metrics(nothing)["gsm8k/n_failed"] == 1
    assert benchmark_table(nothing)["data"][0][:4] == ["gsm8k", None, None, None]
    assert "| gsm8k |  |  |  |  |  |" in note(nothing)


def test_groups_are_neighbours_of_like_size_and_see_no_trend_in_ties() -> None:
    assert groups([]) == []
    assert groups([(0.5, True), (0.1, False)]) == [(0.3, 0.5)]
    assert groups([(at / 10, at > 4) for at in range(10)]) == [pytest.approx((0.2, 0.0)), pytest.approx((0.7, 1.0))]
    assert [share for _, share in groups([(0.0, bool(at % 2)) for at in range(20)])] == pytest.approx(
        [0.5, 0.5, 0.5], abs=0.1
    )


@pytest.mark.parametrize("n", [1, 12])
def test_a_picture_of_one_or_of_many_benchmarks(n: int) -> None:
    answers = [answer(at, f"own_{at % n}_$x$", correct=at % 3 == 0) for at in range(4 * n)]
    assert overview("title " * 60, by_benchmark(answers), answers).startswith(PNG)
