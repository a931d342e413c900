"""OpenAI, and whatever speaks its format, through the openai SDK over its aiohttp transport."""

from __future__ import annotations

from pipeline.chats.chat_sdk import SDKChat


class OpenAIChat(SDKChat):
    """See SDKChat."""

    def __init__(self, *, api_key: str, base_url: str, connections: int) -> None:
        import httpx2
        import openai

        super().__init__(
            openai, httpx2, openai.AsyncOpenAI,
            api_key=api_key, base_url=base_url, connections=connections,
        )  # fmt: skip
