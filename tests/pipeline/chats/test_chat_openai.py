"""The openai SDK keeps what every chat promises, and its environment variables choose no endpoint."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.chats.chat_openai import OpenAIChat
from tests.pipeline.chat_contract import ChatContract


class TestOpenAIChat(ChatContract):
    variables = "OPENAI"
    make = OpenAIChat

    def test_the_environment_does_not_choose_the_endpoint(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        chat = OpenAIChat(api_key="test-key", base_url="http://127.0.0.1:2/v1", connections=1)
        assert str(chat._client.base_url) == "http://127.0.0.1:2/v1/"
        asyncio.run(chat.aclose())
