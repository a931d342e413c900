"""``generate`` through the openai and together clients: what is asked, what is paid for, and what never is again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import termios
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.llm_server import Server, running_server
from tests.workspaces import (
    SAME,
    UNCLEAR,
    Done,
    call,
    environment,
    execute,
    new_root,
    premises,
    records,
    rows,
    served,
    statuses,
    train_file,
    tree,
    verdict,
    write_config,
    write_lines,
    write_recording,
)

COUNT = 12
REJECTED = sum(verdict(number) != SAME for number in range(COUNT))
GENERATE = ("generate", "copa.yaml", "--no-mlflow")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path, COUNT)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "recording.jsonl", COUNT + 1)


def expected(count: int, kept: set[int]) -> list[str]:
    """The premises that the recording gives, with the original where it was ``kept``."""
    return [
        str(record["premise"]) if number in kept else f"In house {number:03}, the man had a fall."
        for number, record in enumerate(records(count))
    ]


def usual(count: int = COUNT) -> list[str]:
    return expected(count, {number for number in range(count) if verdict(number) != SAME})


def received(server: Server) -> int:
    return int(server.stats()["received"])


def asked(root: Path, server: Server, *arguments: object) -> tuple[Done, int]:
    """A generate command, and how many requests it sent."""
    before = received(server)
    return call(root, *GENERATE, *arguments), received(server) - before


def bodies(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize("provider", ["openai", "together"])
def test_records_are_rephrased_and_judged(provider: str, root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        given = {"generation__provider": provider, "validation__provider": provider}
        write_config(root, served(server.base_url, **given))
        done, sent = asked(root, server)
        assert (done.code, done.err) == (0, "")
        assert sent == 2 * COUNT
        assert premises(train_file(root)) == usual()
        again, sent = asked(root, server, "--batch", "second")
        assert (again.code, sent) == (0, 0)
        assert "already made, nothing generated" in again.out
    original = (root / "Data/original/Copa/copa_train.jsonl").read_text().splitlines()
    made = train_file(root).read_text().splitlines()
    untouched = [old for old, new in zip(original, made, strict=True) if old == new]
    assert len(untouched) == REJECTED
    without = [{key: value for key, value in json.loads(line).items() if key != "premise"} for line in made]
    assert without == [{key: value for key, value in each.items() if key != "premise"} for each in records(COUNT)]
    assert [list(json.loads(line)) for line in made] == [list(record) for record in records(COUNT)]


def test_every_setting_and_message_reaches_the_server(root: Path, recording: Path, tmp_path: Path) -> None:
    log = tmp_path / "bodies.jsonl"
    examples = [{"original": "It rained.", "rephrased": "Rain fell."}]
    given = {
        "generation__system_prompt": "You are brief.",
        "generation__few_shot_examples": examples,
        "generation__rephrase_prompt": "{{REPHRASE_FEWSHOT}}\n{premise} {choice1 if label == 0 else choice2} {{x}}",
        "generation__top_p": 0.9,
        "generation__seed": 5,
        "generation__stop": ["END"],
        "validation__max_tokens": 9,
    }
    with running_server(recorded=recording, log=log) as server:
        write_config(root, served(server.base_url, **given))
        assert asked(root, server)[0].code == 0
    first = next(body for body in bodies(log) if "house 000 fell. He slipped." in body["messages"][-1]["content"])
    system, user = first.pop("messages")
    assert system == {"role": "system", "content": "You are brief."}
    assert user["role"] == "user"
    assert "Original: It rained." in user["content"]
    assert "Rephrased: Rain fell." in user["content"]
    assert user["content"].endswith("The man in house 000 fell. He slipped. {x}")
    assert first.items() >= {"model": "gpt-4o", "temperature": 0.7, "top_p": 0.9, "max_tokens": 256}.items()
    assert first.items() >= {"seed": 5, "stop": ["END"]}.items()
    judged = [body for body in bodies(log) if "Same?" in body["messages"][-1]["content"]]
    assert {(body["max_tokens"], body["temperature"], len(body["messages"])) for body in judged} == {(9, 0.0, 1)}


def test_the_judge_may_be_another_service(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as writer, running_server(recorded=recording, api_key="other") as judge:
        given = {
            "validation__provider": "together",
            "validation__model": "judge-model",
            "validation__base_url": judge.base_url,
            "validation__api_key_env": "JUDGE_KEY",
        }
        write_config(root, served(writer.base_url, **given))
        done = call(root, *GENERATE, environ={"JUDGE_KEY": "other"})
        assert done.code == 0, done.err
        assert (received(writer), received(judge)) == (COUNT, COUNT)
    assert premises(train_file(root)) == usual()


def test_without_a_judge_every_answer_is_taken(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url) | {"validation": None})
        done, sent = asked(root, server)
    assert (done.code, sent) == (0, COUNT)
    assert premises(train_file(root)) == expected(COUNT, set())
    assert rows(root, "SELECT DISTINCT verdict, status FROM sample") == [(None, "accepted")]


def test_an_unclear_verdict_is_asked_for_again_then_rejected(root: Path, tmp_path: Path) -> None:
    unclear = write_recording(tmp_path / "unclear.jsonl", COUNT, {2: UNCLEAR, 5: UNCLEAR})
    with running_server(recorded=unclear) as server:
        write_config(root, served(server.base_url))
        done, sent = asked(root, server)
    assert (done.code, sent) == (0, 2 * COUNT + 2)
    assert f"{REJECTED + 2} kept the original (2 unclear)" in done.out
    found = rows(root, "SELECT position, status, verdict FROM sample WHERE verdict = 'unclear' ORDER BY position")
    assert found == [(2, "rejected", "unclear"), (5, "rejected", "unclear")]
    assert rows(root, "SELECT n_unclear, n_rejected FROM shared_experiment") == [(2, REJECTED + 2)]
    assert (
        f"rejected (unclear, the judge: {UNCLEAR}" in call(root, "experiment", "show", "Copa/temp07_topp10_gpt4o").out
    )
    kept = {2, 5} | {number for number in range(COUNT) if verdict(number) != SAME}
    assert premises(train_file(root)) == expected(COUNT, kept)


def test_another_judge_prompt_pays_only_for_judging(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url))
        asked(root, server)
        prompt = "validation.validation_prompt='Equal? {original_premise} / {rephrased_premise}'"
        preview = json.loads(call(root, *GENERATE, "--set", prompt, "--dry-run", "--json").out)[0]
        assert (preview["rephrase_calls"], preview["already_paid"], preview["judge_calls"]) == (0, COUNT, COUNT)
        done, sent = asked(root, server, "--set", prompt)
        assert (done.code, sent) == (0, COUNT)
    assert f"Calls: {COUNT} sent, {COUNT} answered from the ledger" in done.out
    assert train_file(root, "temp07_topp10_gpt4o_2").read_bytes() == train_file(root).read_bytes()


def test_one_more_record_pays_for_one_record(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url))
        asked(root, server)
        inserted = [*records(COUNT)[:4], {**records(COUNT + 1)[COUNT]}, *records(COUNT)[4:]]
        write_lines(root / "Data/original/Copa/copa_train.jsonl", inserted)
        done, sent = asked(root, server)
        assert (done.code, sent) == (0, 2)
    made = premises(train_file(root, "temp07_topp10_gpt4o_2"))
    assert made == [*usual()[:4], usual(COUNT + 1)[COUNT], *usual()[4:]]
    assert premises(train_file(root)) == usual()


def test_a_trial_pays_for_the_records_that_the_whole_needs(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url))
        assert asked(root, server, "--limit", 5)[1] == 10
        preview = json.loads(call(root, *GENERATE, "--dry-run", "--json").out)[0]
        assert (preview["rephrase_calls"], preview["already_paid"]) == (COUNT - 5, 5)
        assert asked(root, server)[1] == 2 * (COUNT - 5)
    assert len(premises(train_file(root, "temp07_topp10_gpt4o_first5"))) == 5


def test_fresh_asks_anew_and_resumes_what_it_began(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url))
        asked(root, server)
        assert asked(root, server, "--fresh")[1] == 2 * COUNT
    with running_server(recorded=recording, poison="house 007") as server:
        done = call(root, *GENERATE, "--fresh", "--set", f"generation.base_url={server.base_url}",
                    "--set", "generation.max_retries=0")  # fmt: skip
        assert done.code == 1
    with running_server(recorded=recording) as server:
        resumed, sent = asked(root, server, "--fresh", "--set", f"generation.base_url={server.base_url}")
        assert sent == 2
    assert resumed.out.startswith("✅ Copa/temp07_topp10_gpt4o_draw2: resumed, complete")
    assert premises(train_file(root, "temp07_topp10_gpt4o_draw2")) == usual()


def test_equal_records_and_messages_are_asked_and_stored_once(root: Path, recording: Path) -> None:
    twins = [{**record, "idx": number} for number, record in enumerate(records(COUNT) * 2)]
    write_lines(root / "Data/original/Copa/copa_train.jsonl", twins)
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url, generation__system_prompt="Be brief."))
        done, sent = asked(root, server)
    assert (done.code, sent) == (0, 2 * COUNT)
    assert premises(train_file(root)) == usual() * 2
    roles = Counter(role for (role,) in rows(root, "SELECT role FROM message"))
    assert roles == {"system": 1, "user": 2 * COUNT}
    assert rows(root, "SELECT count(*) FROM sample") == [(2 * COUNT,)]


def test_every_attempt_is_a_row_that_tells_all(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        price = {"input_per_mtok": 2.0, "output_per_mtok": 10.0}
        write_config(root, served(server.base_url, generation__price=price))
        assert asked(root, server)[0].code == 0
    found = rows(root, "SELECT answer, finish_reason, prompt_tokens, completion_tokens, cost_usd, latency_s, "
                       "provider_request_id, ordinal, http_status FROM attempt")  # fmt: skip
    assert len(found) == 2 * COUNT
    for answer, finish_reason, prompt, completion, cost, latency, request_id, ordinal, status in found:
        assert answer
        assert (finish_reason, ordinal, status) == ("stop", 1, 200)
        assert cost == pytest.approx((2 * prompt + 10 * completion) / 1e6)
        assert latency > 0
        assert request_id.startswith("req_")
    total = sum(cost for *_, cost, _, _, _, _ in found)
    assert rows(root, "SELECT cost_usd FROM generation_run") == [(pytest.approx(total),)]
    assert rows(root, "SELECT cost_usd FROM shared_experiment") == [(pytest.approx(total),)]
    assert rows(root, "SELECT count(*) FROM sample WHERE rephrase_request_key IN (SELECT key FROM request) "
                      "AND judge_request_key IN (SELECT key FROM request)") == [(COUNT,)]  # fmt: skip


def test_unknown_costs_are_null_and_never_zero(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url))
        done, _ = asked(root, server)
    assert "cost: unknown" in done.out
    assert rows(root, "SELECT DISTINCT cost_usd FROM attempt") == [(None,)]
    assert rows(root, "SELECT cost_usd FROM generation_run") == [(None,)]
    assert rows(root, "SELECT cost_usd FROM shared_experiment") == [(None,)]
    metadata = json.loads((train_file(root).parents[1] / "experiment_metadata.json").read_text())
    assert metadata["cost_usd"] is None


def test_tokens_that_the_endpoint_does_not_report_are_marked_estimated(root: Path, recording: Path) -> None:
    with running_server(recorded=recording, no_usage=True) as server:
        write_config(root, served(server.base_url))
        done, _ = asked(root, server)
    assert "completion (estimated)" in done.out
    assert rows(root, "SELECT DISTINCT tokens_estimated FROM attempt") == [(1,)]


def test_a_terminal_shows_how_far_it_is(root: Path, recording: Path) -> None:
    with running_server(recorded=recording, latency=0.3) as server:
        price = {"input_per_mtok": 2.0, "output_per_mtok": 10.0}
        write_config(root, served(server.base_url, generation__price=price, generation__concurrency=4))
        mine, its = os.openpty()
        termios.tcsetwinsize(its, (50, 200))
        command = [sys.executable, "-m", "cli.main", *GENERATE]
        environ = environment({"SYNTHTRACK_ROOT": str(root)})
        with subprocess.Popen(command, cwd=root, env=environ, stdout=subprocess.DEVNULL, stderr=its) as process:
            os.close(its)
            shown = everything(mine)
    assert process.returncode == 0, shown
    assert re.search(rf"Copa/temp07_topp10_gpt4o:.* \d+/{COUNT} \[", shown)
    assert re.search(r"\$0\.\d{4} of about \$0\.\d{4}, \d+ accepted, \d+ rejected, [\d,]+ tokens", shown)
    assert "Traceback" not in shown


def everything(terminal: int) -> str:
    """What is written to a pseudo-terminal until its other side is closed."""
    found = b""
    # Linux says EIO at the end.
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 65536):
            found += part
    os.close(terminal)
    return found.decode()


SECRET = "sk-literal-0123456789abcdef"


@pytest.mark.parametrize("given", ["file", "option", "group", "variable"])
def test_the_key_is_written_nowhere(given: str, root: Path, recording: Path) -> None:
    with running_server(recorded=recording, api_key=SECRET) as server:
        arguments: list[str] = []
        environ: dict[str, str | None] = {"OPENAI_API_KEY": None}
        document = served(server.base_url)
        match given:
            case "file":
                document["generation"]["api_key"] = SECRET
            case "option":
                arguments = [f"--set=generation.api_key={SECRET}"]
            case "group":
                group = {**document.pop("generation"), "api_key": SECRET}
                arguments = ["--set", f"generation={json.dumps(group)}"]
            case "variable":
                environ = {"OPENAI_API_KEY": SECRET}
        config = write_config(root, document)
        command = ("generate", "copa.yaml") if given == "variable" else GENERATE
        done = execute(root, *command, *arguments, environ=environ)
        assert done.code == 0, done.err
        assert ("holds a literal key" in done.err) is (given != "variable")
    assert SECRET not in done.out + done.err
    config.unlink()
    assert [path for path in root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []
    assert (root / "mlruns/mlflow.db").exists() is (given == "variable")


def test_an_endpoint_that_repeats_a_refused_key_does_not_bring_it_in(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url))
        done = call(root, *GENERATE, environ={"OPENAI_API_KEY": SECRET})
    assert done.code == 8
    assert "Incorrect API key provided: ***" in done.err
    assert statuses(root) == ["failed"]
    assert [path for path in root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []


def test_a_literal_key_is_no_part_of_the_identity(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url))
        asked(root, server)
        done, sent = asked(root, server, "--set", "generation.api_key=test-key", "--batch", "second")
    assert (done.code, sent) == (0, 0)


def test_a_named_service_may_move_and_an_unnamed_one_may_not(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server, running_server(recorded=recording) as other:
        write_config(root, served(server.base_url))
        asked(root, server)
        assert call(root, *GENERATE, "--set", f"generation.base_url={other.base_url}").code == 0
        assert received(other) == 0
        unnamed = ("--set", "generation.endpoint=null", "--set", f"generation.base_url={other.base_url}")
        assert call(root, *GENERATE, *unnamed).code == 0
        assert received(other) == 2 * COUNT


def test_operational_settings_change_nothing(root: Path, recording: Path) -> None:
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url))
        asked(root, server)
        before = tree(root / "Data_v2/synthetic/_shared")
        settings = ("timeout=9", "concurrency=1", "requests_per_minute=600", "max_retries=3")
        words = [word for setting in settings for word in ("--set", f"generation.{setting}")]
        assert asked(root, server, *words)[1] == 0
        assert tree(root / "Data_v2/synthetic/_shared") == before
