"""What is the same for every SDK of the OpenAI chat format: one attempt over aiohttp, and what its errors mean.

``chat_openai`` and ``chat_together`` bring their SDKs; one generator made both, so their parts have the same names.
"""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any

from pipeline.chats import chat_wire as wire
from pipeline.chats.chat import Answer, ChatRequest
from tracker import clock


class SDKChat:
    """A Chat over at most ``connections`` connections to ``base_url``, which ends in ``/v1``.

    ``client`` is the SDK's asynchronous client, ``error`` the base of its errors, ``http`` the HTTP library under it.
    Raises MissingKey where ``api_key`` cannot be one, ProviderError where ``base_url`` cannot.
    """

    def __init__(
        self,
        sdk: ModuleType,
        http: ModuleType,
        client: type[Any],
        error: type[Exception],
        *,
        api_key: str,
        base_url: str,
        connections: int,
    ) -> None:
        import aiohttp

        self._key = wire.clean_key(api_key)
        self._response = http.Response
        self._status_error = sdk.APIStatusError
        # The SDK wraps what its transport maps; what aiohttp raises beyond that comes through as it is.
        self._connection_errors = (error, http.HTTPError, aiohttp.ClientError, OSError)
        self._never_connected = aiohttp.ClientConnectorError
        self._client = client(
            api_key=self._key,
            # Never None: the SDK would read the environment, and the endpoint is part of an experiment's identity.
            base_url=wire.clean_base_url(base_url),
            max_retries=0,
            # complete() bounds the whole exchange; the SDK's timeouts bound single reads and cost a timer each.
            timeout=None,
            http_client=sdk.DefaultAioHttpClient(
                timeout=None, limits=http.Limits(max_connections=connections, max_keepalive_connections=connections)
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
            raise wire.connection_failure(error, sent=self._was_sent(error), api_key=self._key) from None
        return wire.parse_answer(response.content, response.headers, request, api_key=self._key)

    def _was_sent(self, error: BaseException) -> bool:
        # To the SDKs a lost connection is a timeout like any other; what aiohttp said at the bottom is exact.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, self._never_connected):
            cause = cause.__cause__
        return cause is None

    async def aclose(self) -> None:
        """Closes the connections; a second time does nothing."""
        await self._client.close()
