"""Together AI through the together SDK over its aiohttp transport."""

from __future__ import annotations

import logging

from pipeline.chats.chat_sdk import SDKChat


class TogetherChat(SDKChat):
    """See SDKChat."""

    def __init__(self, *, api_key: str, base_url: str, connections: int) -> None:
        import httpx
        import together

        # At DEBUG this SDK logs whole requests, prompts and all; everything else that it logs stays.
        logging.getLogger("together._base_client").addFilter(_tells_no_body)
        super().__init__(
            together, httpx, together.AsyncTogether,
            api_key=api_key, base_url=base_url, connections=connections,
        )  # fmt: skip


def _tells_no_body(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Request options")
