"""``perspectives`` when things fail: the same file in the end, nothing paid twice, and words that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.surroundings import fill, mounted
from tests.llm_server import Server, running_server
from tests.perspectives import (
    answered_twice,
    content,
    files,
    lasting,
    new_root,
    pairs,
    received,
    served,
    tasks,
    write_config,
    write_inputs,
)
from tests.workspaces import Done, call, rows

COUNT = 8
RUN = ("perspectives", "config.json", "--no-mlflow")
PRICE = {"input_per_mtok": 100.0, "output_per_mtok": 1000.0}
LLAMA = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
HAUS = "Haus 003"
ANSWERED = "SELECT count(*) FROM agent_response WHERE status = 'answered'"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path, COUNT)


def run(root: Path, server: Server, *arguments: object, environ: Any = None, **changes: Any) -> Done:
    write_config(root, served(server.base_url, **changes))
    return call(root, *RUN, *arguments, environ=environ)


def runs(root: Path) -> list[str]:
    return [status for (status,) in rows(root, "SELECT status FROM agent_run ORDER BY id")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = new_root(tmp_path_factory.mktemp("quiet"), COUNT)
    with running_server() as server:
        assert run(root, server).code == 0
    return lasting(files(root)[0])


@pytest.mark.parametrize(
    ("model", "faults"),
    [
        ("gpt-4o", "all"),
        (LLAMA, "all"),
        ("gpt-4o", "rate_limit,server_error,drop"),
        ("gpt-4o", "truncated,empty,half_json"),
    ],
)
def test_faults_leave_no_trace_in_the_file(root: Path, undisturbed: dict[str, Any], model: str, faults: str) -> None:
    with running_server(faults=faults, fault_rate=0.3, fault_seed=3, slow_seconds=0.3) as server:
        done = run(root, server, model_config__timeout=0.7, model_config__model_name=model)
        assert done.code == 0, done.err
        assert sum(server.stats()["faults"].values()) > 3
    found = lasting(files(root)[0])
    if model == "gpt-4o":
        assert found == undisturbed
    assert found["tasks"] == undisturbed["tasks"]
    assert rows(root, "SELECT count(*) FROM attempt WHERE failure IS NULL") == [(4 * COUNT,)]
    [(n_retried,)] = rows(root, "SELECT n_retried + n_rate_limited FROM agent_run")
    assert n_retried > 3


@pytest.mark.parametrize(
    ("changes", "environ", "code", "words"),
    [
        ({"model_config__model_name": "no-such-model", "api_provider": "openai"}, {}, 8, "Check the model's name"),
        ({"model_config__model_name": "no-such-model"}, {}, 8, "Check the model's name"),
        ({}, {"OPENAI_API_KEY": "wrong"}, 8, "Check the API key"),
        ({}, {"OPENAI_API_KEY": "no-quota-key"}, 8, "quota and billing"),
        ({}, {"OPENAI_API_KEY": None}, 9, "export OPENAI_API_KEY"),
        ({"model_config__model_name": LLAMA}, {"TOGETHER_API_KEY": None}, 9, "export TOGETHER_API_KEY"),
    ],
)
def test_what_the_endpoint_refuses_is_told_with_what_to_do(
    root: Path, changes: dict[str, Any], environ: dict[str, str | None], code: int, words: str
) -> None:
    with running_server() as server:
        done = run(root, server, environ=environ, **changes)
        assert (done.code, done.out) == (code, "")
        assert words in done.err
        assert "Traceback" not in done.err
        assert received(server) <= 8
        assert files(root) == []
        if code == 8:
            assert runs(root) == ["failed"]
            assert rows(root, "SELECT status, lease_pid FROM agent_dataset") == [("unfinished", None)]
            assert run(root, server).code == 0
            assert len(files(root)) == 1


def test_an_endpoint_that_is_not_there_is_told_of(root: Path) -> None:
    write_config(root, served("http://127.0.0.1:1/v1", model_config__max_retries=0, model_config__timeout=1))
    done = call(root, *RUN)
    assert (done.code, files(root)) == (8, [])
    assert "is not worth asking any more" in done.err


@pytest.fixture
def partial(root: Path) -> Path:
    """A workspace in which all agents fail on one input, one of them only after its notes."""
    with running_server(poison=HAUS) as server:
        done = run(root, server, model_config__max_retries=1)
        assert done.code == 1
        assert f"3 of {3 * COUNT} responses still fail" in done.err
        assert "(the first: input 4, Original: HTTP 500" in done.err
        assert "something broke" in done.err
        assert "Run the same command to try them again, or add --accept-partial" in done.err
        # Of the one that reads the response was not asked for; each was tried again once.
        assert received(server) == 4 * (COUNT - 1) + 3 * 2
    assert "No file yet: responses are missing." in done.out
    return root


def test_json_tells_the_run_and_the_data_set_apart(partial: Path) -> None:
    with running_server(poison=HAUS) as server:
        done = run(partial, server, "--json", model_config__max_retries=0)
    [entry] = json.loads(done.out)
    assert (entry["outcome"], entry["status"], entry["run_status"]) == ("resumed", "unfinished", "partial")
    assert entry["status"] == json.loads(call(partial, "perspectives", "list", "--json").out)[0]["status"]


def test_a_response_that_fails_for_good_leaves_no_file_and_is_healed(
    partial: Path, undisturbed: dict[str, Any]
) -> None:
    root = partial
    assert files(root) == []
    assert runs(root) == ["partial"]
    assert rows(root, "SELECT status, n_responses, n_failed, completed_at FROM agent_dataset") == [
        ("unfinished", 3 * (COUNT - 1), 3, None)
    ]
    # The row refers to the request that failed: for who reads, that for notes.
    columns = "perspective, request_key IS NULL, reading_request_key IS NULL"
    assert rows(root, f"SELECT {columns} FROM agent_response WHERE status = 'failed' ORDER BY 1") == [
        (0, 0, 1),
        (1, 1, 0),
        (2, 0, 1),
    ]
    with running_server() as server:
        done = run(root, server)
        assert received(server) == 4
    assert done.out.startswith(f"✅ {files(root)[0].stem}: resumed, complete")
    calls = content(files(root)[0])["metadata"]["api_calls"]
    assert calls == {"total_calls": 4 * (COUNT - 1) + 3 * 2 + 4, "from_ledger": 0}
    # What was answered is not even looked up again.
    assert rows(root, "SELECT n_calls, n_cached FROM agent_run WHERE outcome = 'resumed'") == [(4, 0)]
    assert lasting(files(root)[0]) == undisturbed
    assert rows(root, "SELECT error, count(*) FROM agent_response GROUP BY error") == [(None, 3 * COUNT)]


def test_what_is_accepted_as_missing_is_null_and_healed_later(partial: Path, undisturbed: dict[str, Any]) -> None:
    root = partial
    with running_server(poison=HAUS) as server:
        done = run(root, server, "--accept-partial", model_config__max_retries=0)
        assert done.code == 0, done.err
        assert received(server) == 3
        [path] = files(root)
        found = content(path)
        assert found["tasks"][3] == {
            "context": pairs(4)[3]["input"],
            "responses": [None] * 3,
            "preparations": [None] * 3,
        }
        assert found["metadata"]["failed_responses"] == 3
        assert "partial" in done.out
        again = run(root, server, "--accept-partial")
        assert (again.code, received(server)) == (0, 3)
        assert "already made, nothing generated" in again.out
        # What is there needs no key, and what would be asked for does, before a run is written.
        keyless = {"OPENAI_API_KEY": None}
        assert run(root, server, "--accept-partial", environ=keyless).code == 0
        assert run(root, server, environ=keyless).code == 9
        assert runs(root) == ["partial"] * 4
        # Without it they are tried again, and the file with null stays.
        still = run(root, server, model_config__max_retries=0)
        assert (still.code, received(server)) == (1, 6)
        assert content(path)["tasks"] == found["tasks"]
        assert run(root, server, "--accept-partial").out.startswith("⚡")
        assert received(server) == 6
    with running_server() as server:
        assert run(root, server).code == 0
        assert received(server) == 4
    assert files(root) == [path]
    assert lasting(path) == undisturbed
    assert runs(root) == ["partial"] * 6 + ["complete"]


def test_notes_are_kept_where_the_response_fails(root: Path) -> None:
    with running_server(poison="with your notes") as server:
        done = run(root, server, "--accept-partial", model_config__max_retries=0)
        assert done.code == 0
        found = content(files(root)[0])["tasks"]
        expected = tasks(pairs(COUNT))
        for task in expected:
            task["responses"][1] = None
        assert found == expected
    both = "reading_request_key IS NOT NULL AND request_key IS NOT NULL AND request_key != reading_request_key"
    assert rows(root, f"SELECT count(*) FROM agent_response WHERE status = 'failed' AND {both}") == [(COUNT,)]
    [figures] = rows(root, "SELECT n_responses, n_failed, chrf FROM agent_perspective WHERE position = 1")
    assert figures == (0, COUNT, None)
    with running_server() as server:
        assert run(root, server).code == 0
        assert received(server) == COUNT


@pytest.mark.parametrize(("fault", "words"), [("empty", "the answer was empty"), ("truncated", "raise max_tokens")])
def test_answers_that_are_of_no_use_fail_and_say_what_to_change(root: Path, fault: str, words: str) -> None:
    write_inputs(root, pairs(1))
    with running_server(faults=fault, fault_rate=1) as server:
        done = run(root, server, model_config__max_retries=10, agent_perspectives=[served("")["agent_perspectives"][0]])
        assert done.code == 1
        assert words in done.err
        # What is paid for and of no use is tried again three times, not ten.
        assert received(server) == 4
    [(spent,)] = rows(root, "SELECT completion_tokens FROM agent_dataset")
    assert spent > 0


def test_a_cap_is_never_passed_and_can_be_raised(root: Path) -> None:
    def spent() -> float:
        return float(rows(root, "SELECT sum(cost_usd) FROM attempt")[0][0] or 0)

    with running_server(latency=0.01) as server:
        capped = {"model_config__price": PRICE, "model_config__max_tokens": 20}
        refused = run(root, server, "--max-cost", "0.001", **capped)
        assert (refused.code, received(server)) == (10, 0)
        assert "translation_gpt-4o_" in refused.err
        assert "above $0.0010" in refused.err
        done = run(root, server, "--max-cost", "0.2", **capped)
        assert done.code == 10
        assert "Raise --max-cost" in done.err
        first = received(server)
        assert 0 < first < 4 * COUNT
        assert 0 < spent() <= 0.2
        again = run(root, server, "--max-cost", "0.2", **capped)
        assert again.code == 10
        assert spent() <= 0.2
        [entry] = json.loads(run(root, server, "--max-cost", "0.2", "--json", **capped).out)
        assert (entry["outcome"], entry["run_status"], entry["exit_code"]) == ("interrupted", "interrupted", 10)
        assert (entry["status"], entry["n_responses"]) == ("unfinished", *rows(root, ANSWERED)[0])
        assert "above $0.2000" in entry["error"]
        assert run(root, server, "--max-cost", "5", **capped).code == 0
        assert answered_twice(server) == 0
        assert received(server) == 4 * COUNT
    assert runs(root) == ["interrupted"] * 4 + ["complete"]
    assert content(files(root)[0])["metadata"]["cost_usd"] == pytest.approx(spent())
    assert content(files(root)[0])["tasks"] == tasks(pairs(COUNT))


def test_a_cap_counts_what_was_sent_and_not_answered(root: Path) -> None:
    with running_server(faults="hang", fault_rate=1) as server:
        capped = {"model_config__price": PRICE, "model_config__max_tokens": 20, "model_config__timeout": 0.3}
        done = run(root, server, "--max-cost", "0.2", "--set", "model_config.max_retries=0", **capped)
        assert done.code != 0
        hung = received(server)
    [(at_risk,)] = rows(root, "SELECT sum(at_risk_usd) FROM agent_run")
    assert 0 < at_risk <= 0.2
    assert hung > 0
    with running_server() as server:
        again = run(root, server, "--max-cost", "0.2", **capped)
        assert again.code == 10
    [(cost, risk)] = rows(root, "SELECT sum(cost_usd), sum(at_risk_usd) FROM agent_run")
    assert cost + risk <= 0.2


def test_a_cap_needs_prices_that_are_known(root: Path) -> None:
    with running_server() as server:
        done = run(root, server, "--max-cost", "1")
        assert (done.code, received(server)) == (3, 0)
        assert "Give them in the config: model_config.price: {input_per_mtok" in done.err
        # Answers without a price are in the data set: no cap can hold for it.
        with running_server(poison=HAUS) as bad:
            assert run(root, bad, model_config__max_retries=0).code == 1
        done = run(root, server, "--max-cost", "1", model_config__price=PRICE)
        assert (done.code, received(server)) == (10, 0)
        assert "answers whose price is not known" in done.err
        assert run(root, server).code == 0


def test_mlflow_that_fails_fails_no_data(root: Path) -> None:
    with running_server() as server:
        write_config(root, served(server.base_url))
        done = call(
            root,
            *RUN[:2],
            environ={"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
        )
    assert done.code == 0, done.err
    assert "MLflow" in done.err
    assert len(files(root)) == 1


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "8m") as root, running_server() as server:
        write_inputs(root, [{"input": "lang " * 100_000}])
        assert run(root, server).code == 0
        [path] = files(root)
        made = path.read_bytes()
        path.unlink()
        filler = fill(root, len(made) // 2)
        done = run(root, server)
        assert done.code == 11, (done.out, done.err)
        assert "No space left on device" in done.err
        assert list(path.parent.iterdir()) == []
        filler.unlink()
        assert run(root, server).code == 0
        assert path.read_bytes() == made
        assert received(server) == 4
