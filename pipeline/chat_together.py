"""Together AI through the together SDK over its aiohttp transport."""

from __future__ import annotations

import asyncio
import logging

from pipeline import chat_wire as wire
from pipeline.chat import Answer, ChatRequest
from tracker import clock

# Where the SDK itself sends chats.
DEFAULT_BASE_URL = "https://api-inference.together.ai/v1"


class TogetherChat:
    """A Chat over at most ``connections`` connections to ``base_url`` (it ends in ``/v1``; None is Together itself).

    Raises MissingKey where ``api_key`` cannot be one, ProviderError where ``base_url`` cannot.
    """

    def __init__(self, *, api_key: str, base_url: str | None, connections: int) -> None:
        import aiohttp
        import httpx
        import together

        # At DEBUG this SDK logs whole requests, prompts and all; everything else that it logs stays.
        logging.getLogger("together._base_client").addFilter(_tells_no_body)
        self._key = wire.clean_key(api_key)
        self._response = httpx.Response
        self._status_error = together.APIStatusError
        # The SDK wraps what its transport maps; what aiohttp raises beyond that comes through as it is.
        self._connection_errors = (together.TogetherError, httpx.HTTPError, aiohttp.ClientError, OSError)
        self._client = together.AsyncTogether(
            api_key=self._key,
            # Never None: the SDK would read TOGETHER_BASE_URL, and the endpoint is part of an experiment's identity.
            base_url=wire.clean_base_url(base_url or DEFAULT_BASE_URL),
            max_retries=0,
            # complete() bounds the whole exchange; the SDK's timeouts bound single reads and cost a timer each.
            timeout=None,
            http_client=together.DefaultAioHttpClient(
                timeout=None,
                limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            ),
        )

    async def complete(self, request: ChatRequest, *, timeout: float) -> Answer:
        """One attempt within ``timeout`` seconds, which covers the whole exchange. Raises ChatError."""
        try:
            async with asyncio.timeout(timeout):
                # chat.completions.create spends 0.4 ms more on a request, for objects that are not needed here.
                response = await self._client.post(
                    "/chat/completions", body=wire.build_body(request), cast_to=self._response
                )
        except TimeoutError:
            raise wire.timeout_failure(timeout) from None
        except self._status_error as error:
            answer = error.response
            raise wire.status_failure(
                answer.status_code, answer.content, answer.headers, now=clock.now(), api_key=self._key
            ) from None
        except self._connection_errors as error:
            raise wire.connection_failure(error, api_key=self._key) from None
        return wire.parse_answer(response.content, response.headers, request, api_key=self._key)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.close()


def _tells_no_body(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Request options")
