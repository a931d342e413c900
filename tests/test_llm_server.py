"""The test server does what tests rely on: what it counts, how it refuses and where it limits."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.llm_server import FAULTS, Server, body_key, openai_duration, recorded_answers, running_server

Seen = tuple[int, dict[str, str], str]
RECORDING = Path(__file__).parents[2] / "shared/data/recorded/copa_rephrasings.jsonl"


def body(text: str, model: str = "test-model") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def ask_all(server: Server, bodies: list[dict[str, Any]], *, key: str = "test-key", timeout: float = 30) -> list[Seen]:
    """Status, headers and text of each answer; status 0 where the connection broke or ``timeout`` seconds passed."""

    async def ask(session: aiohttp.ClientSession, asked: dict[str, Any]) -> Seen:
        try:
            async with session.post(f"{server.base_url}/chat/completions", json=asked) as response:
                return (
                    response.status,
                    {k.lower(): v for k, v in response.headers.items()},
                    await response.text("latin1"),
                )
        except (aiohttp.ClientError, TimeoutError):
            return 0, {}, ""

    async def all_of_them() -> list[Seen]:
        async with aiohttp.ClientSession(
            headers={"authorization": f"Bearer {key}"}, timeout=aiohttp.ClientTimeout(total=timeout)
        ) as session:
            return await asyncio.gather(*(ask(session, asked) for asked in bodies))

    return asyncio.run(all_of_them())


def said(seen: Seen) -> str:
    text: str = json.loads(seen[2])["choices"][0]["message"]["content"]
    return text


def test_an_answer_depends_on_the_last_user_message_alone() -> None:
    with running_server() as server:
        one, again, other = ask_all(server, [body("one"), body("one", "m2"), body("two")])
    assert said(one) == said(again) != said(other)
    assert one[1]["x-request-id"] != again[1]["x-request-id"]
    assert json.loads(one[2])["usage"]["total_tokens"] > 0


def test_the_recording_answers_rephrase_and_judge_by_the_longest_premise(tmp_path: Path) -> None:
    rows = [
        {"idx": 0, "original_premise": "The cat", "rephrased_premise": "A feline", "verdict": "same"},
        {"idx": 1, "original_premise": "The cat sat.", "rephrased_premise": "It rested.", "verdict": "not the same"},
    ]
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = ["Rephrase: The cat sat.", "Is 'The cat sat.' the same as 'It rested.'?", "The cat ran. A feline", "else"]
    with running_server(recorded=recorded) as server:
        answers = [said(seen) for seen in ask_all(server, [body(text) for text in asked])]
    assert answers[:3] == ["It rested.", "not the same", "same"]
    assert answers[3].startswith("Answer ")


def recording(path: Path, *rows: tuple[str, str, str]) -> Path:
    keys = ("original_premise", "rephrased_premise", "verdict")
    path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows), encoding="utf-8")
    return path


def rephrase_prompt(original: str, examples: str = "") -> str:
    return f"Rephrase as shown.\n{examples}\nSentence: {original}\nRephrased:"


def judge_prompt(original: str, rephrased: str, examples: str = "") -> str:
    return f"Compare as shown.\n{examples}\nOriginal: {original}\nRephrased: {rephrased.strip()}\nSame?"


def examples(*rows: tuple[str, str, str]) -> str:
    return "\n\n".join(f"Original: {row[0]}\nRephrased: {row[1].strip()}\nVerdict: {row[2]}" for row in rows)


TRAPS = {
    "plain": ("The man slept.", "The man was asleep.", "same"),
    "becomes another": ("The boy ran home.", "The boy hurried.", "not the same"),
    "another": ("The boy hurried.", "The boy was fast.", "same"),
    "holds another": ("It was late.", "As it was late, the boy hurried. So he did.", "not the same"),
    "lower": ("the boy hurried", "a boy made haste", "same"),
    "unchanged": ("The sun rose.", "The sun rose.", "same"),
    "holds itself": ("He fell.", "He fell. It hurt.", "not the same"),
    "back and forth": ("She sang.", "She made music.", "not the same"),
    "forth and back": ("She made music.", "She sang.", "same"),
    "ends another": ("hurried.", "rushed.", "not the same"),
}


@pytest.mark.parametrize("asked", TRAPS)
def test_the_premise_below_the_examples_is_answered_though_texts_hold_each_other(asked: str, tmp_path: Path) -> None:
    answer = recorded_answers(recording(tmp_path / "recorded.jsonl", *TRAPS.values()))
    original, rephrased, verdict = TRAPS[asked]
    others = [row for name, row in TRAPS.items() if name != asked]
    for shown in ("", examples(*others), examples(*reversed(others))):
        assert answer(rephrase_prompt(original, shown)) == rephrased
        assert answer(judge_prompt(original, rephrased, shown)) == verdict


@pytest.mark.skipif(not RECORDING.exists(), reason="no ../shared/data here")
def test_every_record_of_copa_is_answered_with_and_without_examples() -> None:
    answer, draw = recorded_answers(RECORDING), random.Random(20)
    lines = RECORDING.read_text(encoding="utf-8").split("\n")
    rows = [tuple(json.loads(line).values())[1:] for line in lines if line]
    assert len(rows) == 400
    for row in rows:
        shown = examples(*draw.sample([other for other in rows if other is not row], 20))
        for before in ("", shown):
            assert answer(rephrase_prompt(row[0], before)) == row[1]
            assert answer(judge_prompt(row[0], row[1], before)) == row[2]


@pytest.mark.parametrize(
    ("key", "model", "status", "code"),
    [
        ("other-key", "test-model", 401, "invalid_api_key"),
        ("forbidden-key", "test-model", 403, "forbidden"),
        ("no-quota-key", "test-model", 429, "insufficient_quota"),
        ("test-key", "no-such-model", 404, "model_not_found"),
        ("test-key", "forbidden-model", 403, "forbidden"),
        ("test-key", "bad-request-model", 400, "invalid_request_error"),
        ("test-key", "no-quota-model", 429, "insufficient_quota"),
    ],
)
def test_reserved_keys_and_models_are_refused(key: str, model: str, status: int, code: str) -> None:
    with running_server() as server:
        [(got, _, text)] = ask_all(server, [body("x", model)], key=key)
        stats = server.stats()
    assert (got, json.loads(text)["error"]["code"]) == (status, code)
    assert stats["answered"] == {}
    assert stats["rejected_429"] == 0


def test_a_body_that_is_no_chat_request_is_refused() -> None:
    with running_server() as server:
        [(status, _, _)] = ask_all(server, [{"model": "test-model"}])
    assert status == 400


def test_stats_count_what_was_sent_and_reset_forgets_it() -> None:
    with running_server() as server:
        ask_all(server, [body("a"), body("a"), body("b")])
        stats = server.stats()
        assert stats["answered"] == {body_key(body("a")): 2, body_key(body("b")): 1}
        assert (stats["received"], stats["statuses"], stats["in_flight"]) == (3, {"200": 3}, 0)
        server.reset()
        assert server.stats()["received"] == 0


def test_more_than_max_in_flight_get_429_with_retry_after() -> None:
    with running_server(max_in_flight=5, latency=0.5, retry_after="2") as server:
        seen = ask_all(server, [body(str(number)) for number in range(20)])
        stats = server.stats()
    rejected = [headers for status, headers, _ in seen if status == 429]
    assert [headers["retry-after"] for headers in rejected] == ["2"] * 15
    assert (stats["rejected_429"], stats["peak_in_flight"]) == (15, 5)


def test_requests_per_minute_is_a_bucket_told_by_headers() -> None:
    with running_server(requests_per_minute=3) as server:
        seen = [ask_all(server, [body(str(number))])[0] for number in range(4)]
    assert [status for status, _, _ in seen] == [200, 200, 200, 429]
    assert seen[0][1]["x-ratelimit-limit-requests"] == "3"
    assert seen[0][1]["x-ratelimit-remaining-requests"] == "2"
    assert 0 < int(seen[3][1]["retry-after-ms"]) <= 20_001


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("rate_limit", 429),
        ("server_error", 500),
        ("unavailable", 503),
        ("hang", 0),
        ("drop", 0),
        ("broken_json", 200),
        ("half_json", 200),
        ("truncated", 200),
        ("empty", 200),
        ("html_502", 502),
    ],
)
def test_a_fault_is_seen_counted_and_no_good_answer(fault: str, status: int) -> None:
    with running_server(faults=fault, fault_rate=1) as server:
        seen = ask_all(server, [body(str(number)) for number in range(8)], timeout=1)
        stats = server.stats()
    assert {code for code, _, _ in seen} == {status}
    assert stats["faults"] == {fault: 8}
    assert stats["answered"] == {}


def test_slow_is_a_good_answer_to_whoever_waits() -> None:
    with running_server(faults="slow", fault_rate=1, slow_seconds=0.2) as server:
        [patient] = ask_all(server, [body("a")])
    with running_server(faults="slow", fault_rate=1, slow_seconds=30) as server:
        [hasty] = ask_all(server, [body("a")], timeout=0.5)
        stats = server.stats()
    assert said(patient).startswith("Answer ")
    assert hasty[0] == 0
    assert stats["answered"] == {}


def test_the_same_seed_draws_the_same_faults() -> None:
    def drawn(seed: int) -> list[int]:
        with running_server(fault_rate=0.5, fault_seed=seed, faults="rate_limit,server_error,html_502") as server:
            return [ask_all(server, [body("x")])[0][0] for _ in range(20)]

    first = drawn(1)
    assert first == drawn(1) != drawn(2)
    assert 200 in first


def test_all_means_every_fault() -> None:
    with running_server(fault_rate=1, slow_seconds=0.1) as server:
        ask_all(server, [body(str(number)) for number in range(200)], timeout=2)
        assert set(server.stats()["faults"]) == set(FAULTS)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.02, "20ms"), (1, "1s"), (360, "6m0s"), (3723, "1h2m3s"), (3600, "1h0m0s"), (0, "0ms")]
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert openai_duration(seconds) == text


def test_a_fixed_window_gives_everything_back_at_its_end_and_tokens_are_limited_likewise() -> None:
    with running_server(tokens_per_minute=30, minute_seconds=3, fixed_windows=True) as server:
        seen = [ask_all(server, [body(str(number))])[0] for number in range(5)]
        used = json.loads(seen[0][2])["usage"]["total_tokens"]
        until = int(seen[-1][1]["retry-after-ms"]) / 1000
        time.sleep(until + 0.1)
        again = ask_all(server, [body("again")])[0]
    assert seen[0][1]["x-ratelimit-limit-tokens"] == "30"
    assert int(seen[0][1]["x-ratelimit-remaining-tokens"]) == 30 - used
    assert [status for status, _, _ in seen] == [200] * (30 // used) + [429] * (5 - 30 // used)
    assert again[0] == 200
    assert int(again[1]["x-ratelimit-remaining-tokens"]) == 30 - json.loads(again[2])["usage"]["total_tokens"]


def test_a_server_may_say_no_more_than_retry_after() -> None:
    with running_server(requests_per_minute=1, only_retry_after=True) as server:
        (_, told, _), (status, refused, _) = (ask_all(server, [body(text)])[0] for text in ("a", "b"))
    assert (status, refused["retry-after"], "retry-after-ms" in refused) == (429, "60", False)
    assert not [name for name in [*told, *refused] if name.startswith("x-ratelimit")]
