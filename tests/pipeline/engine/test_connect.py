"""From settings to endpoints: which key, which limits, and who shares a gate."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from pipeline.chats.chat import Failure
from pipeline.chats.chat_sdk import SDKChat
from pipeline.engine.connect import api_key, connect
from pipeline.engine.endpoint import Attempt, Endpoint, Limits
from pipeline.specs import ModelSpec
from tests.generation import config
from tracker.errors import MissingKey, ProviderError

KEYS = {"OPENAI_API_KEY": "sk-environment", "TOGETHER_API_KEY": "sk-together"}


def models(*assignments: str) -> list[ModelSpec]:
    given = config(*assignments)
    assert given.validation is not None
    return [given.generation, given.validation]


@pytest.mark.parametrize(
    ("assignments", "environ", "key"),
    [
        ([], KEYS, "sk-environment"),
        ([], {"OPENAI_API_KEY": " sk-blank\n"}, "sk-blank"),
        (["generation.api_key=sk-literal"], KEYS, "sk-literal"),
        (["generation.api_key=''"], KEYS, "sk-environment"),
        (["generation.api_key_env=LAB"], {**KEYS, "LAB": "sk-lab"}, "sk-lab"),
        (["generation.model=meta/llama"], KEYS, "sk-together"),
        (["generation.provider=offline", "generation.model=rules-v1", "validation.model=rules-v1"], {}, ""),
    ],
)
def test_where_a_key_comes_from(assignments: list[str], environ: dict[str, str], key: str) -> None:
    assert api_key(models(*assignments)[0], environ) == key


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": ""}, {"OPENAI_API_KEY": "  "}])
def test_a_key_that_is_missing_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(MissingKey, match="export OPENAI_API_KEY=") as caught:
        api_key(models()[0], environ)
    assert "No API key for gpt-4o at https://api.openai.com/v1." in str(caught.value)


def opened(*assignments: str, environ: dict[str, str] | None = None) -> list[Endpoint]:
    """The endpoints of both models, closed."""

    async def main() -> list[Endpoint]:
        endpoints = connect(models(*assignments), environ or KEYS, {})
        for endpoint in endpoints:
            await endpoint.chat.aclose()
        return endpoints

    return asyncio.run(main())


def test_whose_key_was_refused_is_named_without_the_key() -> None:
    async def refused(endpoint: Endpoint) -> str:
        ticket = await endpoint.gate.admit(0.0)
        at = datetime(2026, 1, 1, tzinfo=UTC)
        attempt = Attempt(0, at, 0.1, Failure.FATAL, 401, "HTTP 401: Bad key: ***", None, None)
        with pytest.raises(ProviderError) as caught:
            endpoint.refused(ticket, "key", attempt, None)
        return str(caught.value.hint)

    for assignment, where in (
        ("generation.temperature=0", "OPENAI_API_KEY"),
        ("generation.api_key_env=TOGETHER_API_KEY", "TOGETHER_API_KEY"),
        ("generation.api_key=sk-literal", "api_key in the config"),
    ):
        assert asyncio.run(refused(opened(assignment)[0])) == f"Check the API key ({where})."


def test_the_limits_are_those_of_the_model() -> None:
    given = [
        "generation.concurrency=7", "generation.requests_per_minute=60", "generation.tokens_per_minute=1e4",
        "generation.timeout=9", "generation.max_retries=0",
    ]  # fmt: skip
    assert opened(*given)[0].limits == Limits(
        concurrency=7, requests_per_minute=60, tokens_per_minute=10_000, timeout=9, max_retries=0
    )


def test_one_gate_holds_at_the_lower_limits_and_each_model_keeps_its_own_patience() -> None:
    one, two = opened(
        "generation.concurrency=7", "generation.requests_per_minute=60", "generation.timeout=9",
        "validation.concurrency=20", "validation.requests_per_minute=30", "validation.tokens_per_minute=1e4",
        "validation.timeout=3", "validation.max_retries=1",
    )  # fmt: skip
    assert one.gate is two.gate
    assert one.gate.throttle.concurrency.most == 7
    assert one.limits == Limits(7, 30, 10_000, timeout=9, max_retries=10)
    assert two.limits == Limits(7, 30, 10_000, timeout=3, max_retries=1)


@pytest.mark.parametrize(
    ("assignments", "shared"),
    [
        ([], True),
        (["validation.temperature=1", "validation.model=gpt-4.1"], True),
        (["validation.concurrency=3"], True),
        (["validation.timeout=3", "validation.max_retries=1"], True),
        (["validation.api_key_env=SAME_KEY"], True),
        (["validation.base_url=https://api.openai.com/v1/"], True),
        (["validation.endpoint=lab", "validation.base_url=https://api.openai.com/v1"], True),
        (["validation.api_key_env=TOGETHER_API_KEY"], False),
        (["validation.api_key=sk-other"], False),
        (["validation.model=meta/llama"], False),
        (["validation.base_url=http://127.0.0.1:9/v1"], False),
        (["generation.provider=offline", "generation.model=rules-v1", "validation.model=rules-v1"], True),
        (["generation.provider=offline", "generation.model=rules-v1", "validation.provider=openai"], False),
    ],
)
def test_models_that_reach_one_service_with_one_key_share_a_gate(assignments: list[str], shared: bool) -> None:
    one, two = opened(*assignments, environ={**KEYS, "SAME_KEY": "sk-environment"})
    assert (one.gate is two.gate, one.chat is two.chat) == (shared, shared)


@pytest.mark.parametrize("model", ["gpt-4o", "meta/llama"])
def test_the_endpoint_that_is_recorded_is_the_one_that_is_asked(model: str) -> None:
    async def asked() -> str:
        (endpoint,) = connect(models(f"generation.model={model}")[:1], KEYS, {})
        await endpoint.chat.aclose()
        assert isinstance(endpoint.chat, SDKChat)
        return str(endpoint.chat._client.base_url)

    assert asyncio.run(asked()).rstrip("/") == models(f"generation.model={model}")[0].endpoint


def test_an_endpoint_starts_at_the_limit_that_was_learned_with_that_key() -> None:
    async def main(*assignments: str) -> int:
        learned = {("https://api.openai.com/v1", "OPENAI_API_KEY"): 5}
        (endpoint,) = connect(models(*assignments)[:1], KEYS, learned)
        await endpoint.chat.aclose()
        return endpoint.gate.throttle.concurrency.limit

    assert asyncio.run(main()) == 5
    assert asyncio.run(main("generation.api_key_env=TOGETHER_API_KEY")) != 5
