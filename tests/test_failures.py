"""``generate`` when things fail: the same data in the end, nothing paid twice, and words that say what to do."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.llm_server import running_server
from tests.workspaces import (
    NOT_THE_SAME,
    SAME,
    Done,
    call,
    execute,
    finish,
    new_root,
    premises,
    records,
    rows,
    served,
    start,
    statuses,
    train_file,
    tree,
    verdict,
    write_config,
    write_recording,
    write_records,
)

COUNT = 20
BAD = 7
GENERATE = ("generate", "copa.yaml", "--no-mlflow")
PRICE = {"input_per_mtok": 100.0, "output_per_mtok": 1000.0}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path, COUNT)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "recording.jsonl", COUNT)


def made(kept: frozenset[int] = frozenset()) -> list[str]:
    return [
        str(record["premise"])
        if number in kept or verdict(number) == NOT_THE_SAME
        else f"In house {number:03}, the man had a fall."
        for number, record in enumerate(records(COUNT))
    ]


def at(base_url: str) -> tuple[str, str]:
    return "--set", f"generation.base_url={base_url}"


def data_files(root: Path) -> str:
    return tree(root / "Data_v2") if (root / "Data_v2").exists() else ""


def test_a_third_of_requests_failing_in_every_way_gives_the_same_bytes(
    root: Path, recording: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_records(other, COUNT)
    faulty = running_server(recorded=recording, fault_rate=0.34, fault_seed=5, slow_seconds=0.5)
    with running_server(recorded=recording) as good, faulty as bad:
        write_config(other, served(good.base_url))
        assert call(other, *GENERATE).code == 0
        write_config(root, served(bad.base_url, generation__timeout=1))
        done = call(root, *GENERATE)
        assert done.code == 0, done.err
        assert len(bad.stats()["faults"]) >= 6
    assert train_file(root).read_bytes() == train_file(other).read_bytes()
    assert premises(train_file(root)) == made()
    failures = dict(rows(root, "SELECT failure, count(*) FROM attempt WHERE failure IS NOT NULL GROUP BY failure"))
    assert set(failures) >= {"transient", "truncated"} or set(failures) >= {"transient", "empty"}
    assert rows(root, "SELECT count(*) FROM attempt WHERE failure IS NULL") == [(2 * COUNT,)]


@pytest.fixture
def partial(root: Path, recording: Path) -> Path:
    """A workspace in which one record failed for good."""
    with running_server(recorded=recording, poison=f"house {BAD:03}") as server:
        write_config(root, served(server.base_url, generation__max_retries=1))
        done = call(root, *GENERATE)
    assert done.code == 1
    assert f"Copa/temp07_topp10_gpt4o: 1 of {COUNT} records still fail" in done.err
    assert "something broke" in done.err
    assert "Run the same command to try them again, or add --accept-partial" in done.err
    return root


def test_a_record_that_fails_for_good_is_never_silently_the_original(partial: Path, recording: Path) -> None:
    root = partial
    assert statuses(root) == ["partial"]
    assert rows(root, "SELECT status, n_failed FROM shared_experiment") == [("unfinished", 1)]
    assert rows(root, "SELECT position, rephrased FROM sample WHERE status = 'failed'") == [(BAD, None)]
    assert "copa_train" not in data_files(root)
    preview = call(root, *GENERATE, "--dry-run")
    assert f"Data reuse: No (unfinished, {COUNT - 1} of {COUNT} records done)" in preview.out
    assert "Calls: 1 to rephrase, about 1 to judge" in preview.out
    with running_server(recorded=recording) as server:
        done = call(root, *GENERATE, *at(server.base_url))
        assert server.stats()["received"] == 2
    assert done.out.startswith("✅ Copa/temp07_topp10_gpt4o: resumed, complete")
    assert premises(train_file(root)) == made()
    assert statuses(root) == ["partial", "complete"]
    # The poisoned message is asked once, and once more by the retry.
    assert rows(root, "SELECT count(*) FROM attempt WHERE failure = 'transient'") == [(2,)]


def test_where_nothing_at_all_was_answered_the_address_is_to_be_checked_first(tmp_path: Path) -> None:
    root = new_root(tmp_path, 3)
    write_config(root, served("http://127.0.0.1:9/v1", generation__max_retries=0))
    done = call(root, *GENERATE)
    assert done.code == 1
    assert "3 of 3 records still fail" in done.err
    first = "check first that http://127.0.0.1:9/v1 is the right address (base_url in the config or OPENAI_BASE_URL)"
    assert first in done.err
    assert done.err.index(first) < done.err.index("--accept-partial")


def test_a_partial_result_that_is_accepted_is_marked_and_can_be_completed_later(partial: Path, recording: Path) -> None:
    root = partial
    with running_server(recorded=recording, poison=f"house {BAD:03}") as server:
        done = call(root, *GENERATE, "--accept-partial", *at(server.base_url))
        assert server.stats()["received"] == 2
    assert done.code == 0
    assert done.out.startswith("⚠️  Copa/temp07_topp10_gpt4o: resumed, partial")
    assert "1 failed and kept the original" in done.out
    assert premises(train_file(root)) == made(frozenset({BAD}))
    metadata = json.loads((train_file(root).parents[1] / "experiment_metadata.json").read_text())
    assert (metadata["status"], metadata["provenance"]["original_kept_failed"]) == ("partial", 1)
    with running_server(recorded=recording) as server:
        again = call(root, *GENERATE, "--accept-partial", "--batch", "second", *at(server.base_url))
        assert again.out.startswith("⚡ Copa/temp07_topp10_gpt4o: already made")
        assert "1 failed and kept the original" in again.out
        assert server.stats()["received"] == 0
        later = call(root, *GENERATE, *at(server.base_url))
        assert server.stats()["received"] == 2
    assert (again.code, later.code) == (0, 0)
    assert later.out.startswith("✅ Copa/temp07_topp10_gpt4o: resumed, complete")
    assert statuses(root) == ["partial", "partial", "partial", "complete"]
    assert premises(train_file(root)) == made()
    metadata = json.loads((train_file(root).parents[1] / "experiment_metadata.json").read_text())
    assert (metadata["status"], metadata["provenance"]["original_kept_failed"]) == ("complete", 0)
    assert call(root, "view", "check").code == 0


def test_an_accepted_partial_result_may_become_better_without_becoming_complete(root: Path, recording: Path) -> None:
    with running_server(recorded=recording, poison="house 01") as server:
        write_config(root, served(server.base_url, generation__max_retries=0))
        assert call(root, *GENERATE, "--accept-partial").code == 0
    with running_server(recorded=recording, poison="house 017") as server:
        done = call(root, *GENERATE, *at(server.base_url))
        assert server.stats()["received"] == 19
    assert done.code == 1
    assert f"1 of {COUNT} records still fail" in done.err
    assert premises(train_file(root)) == made(frozenset({17}))
    assert rows(root, "SELECT status, n_failed FROM shared_experiment") == [("partial", 1)]
    assert call(root, "view", "check").code == 0


def test_a_judge_that_fails_for_good_fails_the_record_and_keeps_its_rephrasing(root: Path, recording: Path) -> None:
    with running_server(recorded=recording, poison=f"Rephrased: In house {BAD:03}") as server:
        write_config(root, served(server.base_url, generation__max_retries=0))
        assert call(root, *GENERATE).code == 1
    with running_server(recorded=recording) as server:
        assert call(root, *GENERATE, *at(server.base_url)).code == 0
        assert server.stats()["received"] == 1
    assert premises(train_file(root)) == made()


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"generation__model": "no-such-model"}, "test-key", "'no-such-model' cannot be used"),
        ({"generation__model": "forbidden-model"}, "test-key", "'forbidden-model' cannot be used"),
        ({"generation__model": "bad-request-model"}, "test-key", "Check the model's name and the sampling settings"),
        ({"generation__model": "no-quota-model"}, "test-key", "Check the account's quota and billing"),
        ({"validation__model": "no-such-model"}, "test-key", "Check the model's name and base_url"),
        ({}, "sk-wrong", "Incorrect API key provided: ***"),
        ({}, "forbidden-key", "this key may not do that"),
        ({}, "no-quota-key", "this key may not do that"),
    ],
)
def test_what_no_retry_can_mend_stops_at_once(
    settings: dict[str, object], key: str, words: str, root: Path, recording: Path
) -> None:
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url, **settings))
        done = call(root, *GENERATE, environ={"OPENAI_API_KEY": key})
        rephrased = COUNT if "validation__model" in settings else 0
        assert server.stats()["received"] <= rephrased + 8
    assert (done.code, done.out) == (8, "")
    assert words in done.err
    assert "test-server refused: " in done.err
    assert statuses(root) == ["failed"]
    error = rows(root, "SELECT error FROM generation_run")[0][0]
    assert done.err.splitlines()[0].removeprefix("Error: ") in error
    assert data_files(root) == ""
    assert rows(root, "SELECT lease_pid FROM shared_experiment") == [(None,)]


def test_an_endpoint_that_cannot_be_reached(root: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        write_config(root, served(f"http://127.0.0.1:{held.getsockname()[1]}/v1"))
        done = call(root, *GENERATE)
    assert done.code == 8
    assert "test-server is not worth asking any more: it has not answered once in 20 attempts" in done.err
    assert "127.0.0.1" in done.err
    assert statuses(root) == ["failed"]


def test_a_missing_key_is_named_before_anything_is_made(root: Path) -> None:
    write_config(root, served("http://127.0.0.1:9/v1"))
    done = call(root, *GENERATE, environ={"OPENAI_API_KEY": None})
    assert done.code == 9
    assert "export OPENAI_API_KEY=" in done.err
    assert not (root / "tracker.db").exists()
    named = call(root, *GENERATE, "--set", "generation.api_key_env=MY_KEY")
    assert (named.code, "export MY_KEY=" in named.err) == (9, True)


def test_what_is_made_already_needs_no_key(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url))
        call(root, *GENERATE)
    done = call(root, *GENERATE, "--batch", "second", environ={"OPENAI_API_KEY": None})
    assert (done.code, done.err) == (0, "")


def test_an_unknown_price_cannot_be_capped(root: Path) -> None:
    write_config(root, served("http://127.0.0.1:9/v1"))
    done = call(root, *GENERATE, "--max-cost", "1")
    assert done.code == 3
    assert "no price is known for gpt-4o at test-server" in done.err
    assert "price: {input_per_mtok" in done.err


def spent(root: Path) -> float:
    return float(rows(root, "SELECT coalesce(sum(cost_usd), 0) FROM attempt")[0][0])


def priced(base_url: str, **more: object) -> dict[str, object]:
    # A judge takes over the price of a generator that has its model.
    return served(base_url, generation__price=PRICE, generation__max_tokens=30, **more)


def test_a_cost_cap_holds_and_a_higher_one_goes_on(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        write_config(root, priced(server.base_url))
        done = call(root, *GENERATE, "--max-cost", "0.25")
        assert done.code == 10, done.err
        assert "above $0.25" in done.err
        assert "Raise --max-cost" in done.err
        assert statuses(root) == ["interrupted"]
        assert 0.1 < spent(root) <= 0.25
        answered = server.stats()["received"]
        [entry] = json.loads(call(root, *GENERATE, "--max-cost", "0.25", "--json").out)
        assert (entry["outcome"], entry["exit_code"], entry["status"]) == ("interrupted", 10, "unfinished")
        assert entry["reference"].startswith("Copa/")
        assert "above $0.2500" in entry["error"]
        again = call(root, *GENERATE, "--max-cost", "0.25")
        assert again.code == 10
        assert spent(root) <= 0.25
        assert data_files(root) == ""
        assert call(root, *GENERATE, "--max-cost", "5").code == 0
        assert server.stats()["received"] == 2 * COUNT > answered
    assert premises(train_file(root)) == made()
    assert rows(root, "SELECT count(*) FROM cost_reservation") == [(0,)]


def test_a_cost_cap_holds_over_processes_on_one_batch(root: Path, recording: Path) -> None:
    with running_server(recorded=recording, latency=0.02) as server:
        commands = []
        for temperature in (0.1, 0.2):
            name = f"t{temperature}.yaml"
            write_config(root, priced(server.base_url, generation__temperature=temperature), name)
            commands.append(start(root, "generate", name, "--no-mlflow", "--max-cost", "0.3"))
        done = [finish(command) for command in commands]
    assert {each.code for each in done} <= {0, 10}, done
    assert 10 in {each.code for each in done}
    assert 0.1 < spent(root) <= 0.3


def test_failures_of_one_config_do_not_hide_the_others(root: Path, recording: Path) -> None:
    with running_server(recorded=recording, poison=f"house {BAD:03}") as server:
        for name, change in (("a", {}), ("b", {"generation__seed": 1}), ("c", {"generation__model": "no-such-model"})):
            write_config(root, served(server.base_url, generation__max_retries=0, **change), f"study/{name}.yaml")
        done = call(root, "generate", "study", "--no-mlflow", "--json", "--accept-partial")
    assert done.code == 8
    *made, failed = json.loads(done.out)
    assert [each["status"] for each in made] == ["partial", "partial"]
    assert (failed["outcome"], failed["exit_code"]) == ("failed", 8)
    assert statuses(root) == ["partial", "partial", "failed"]
    with running_server(recorded=recording, poison=f"house {BAD:03}") as server:
        plain = call(root, "generate", "study/a.yaml", "study/b.yaml", "--no-mlflow", *at(server.base_url))
    assert plain.code == 1
    assert plain.err.count("records still fail") == 2


def test_a_failure_shows_no_traceback(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url, generation__model="no-such-model"))
        done: Done = execute(root, *GENERATE)
    assert done.code == 8
    assert "Traceback" not in done.err
    assert done.err.startswith("Error: ")
    assert SAME not in done.err


def test_a_judge_that_says_nothing_is_said_to(root: Path, tmp_path: Path) -> None:
    numbers = dict.fromkeys(range(1, 21), "hard to say")
    write_recording(tmp_path / "vague.jsonl", 20, numbers)
    with running_server(recorded=tmp_path / "vague.jsonl") as server:
        write_config(root, served(server.base_url))
        done = call(root, *GENERATE)
    assert done.code == 0
    assert "verdicts say neither `same` nor `not the same`" in done.err
