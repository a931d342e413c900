"""What is the same for every SDK of the OpenAI chat format: one attempt over aiohttp, and what its errors mean.

``chat_openai`` and ``chat_together`` bring their SDKs; one generator made both, so their parts have the same names.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from types import ModuleType
from typing import Any

from pipeline.chats import chat_wire as wire
from pipeline.chats.chat import Answer, ChatRequest
from tracker import clock
from tracker.errors import ProviderError


class SDKChat:
    """A Chat over at most ``connections`` connections to ``base_url``, which ends in ``/v1``.

    ``client`` is the SDK's asynchronous client, ``http`` the HTTP library under it. Of the SDK serve its transport, its
    address and its headers; bodies and answers are ``chat_wire``'s.
    Raises MissingKey where ``api_key`` cannot be one, ProviderError where ``base_url`` cannot.
    """

    def __init__(
        self,
        sdk: ModuleType,
        http: ModuleType,
        client: type[Any],
        *,
        api_key: str,
        base_url: str,
        connections: int,
    ) -> None:
        import aiohttp

        self._key = wire.clean_key(api_key)
        address = wire.clean_base_url(base_url)
        # What its transport maps to, and what aiohttp raises beyond that, which comes through as it is.
        self._connection_errors = (http.HTTPError, aiohttp.ClientError, OSError)
        self._never_connected = aiohttp.ClientConnectorError
        self._http = sdk.DefaultAioHttpClient(
            # complete() bounds the whole exchange; timeouts of single reads cost a timer each.
            timeout=None,
            limits=http.Limits(max_connections=connections, max_keepalive_connections=connections),
        )
        # Never without an address: the SDK would read the environment, and the endpoint is part of an experiment's
        # identity.
        self._client = client(api_key=self._key, base_url=address, http_client=self._http)
        # The same for every request, so made once: the SDK's own way there costs twice the CPU of all the rest, and
        # chat.completions.create, which makes objects of answers as well, three times.
        self._post = partial(
            http.Request, "POST", http.URL(f"{address}/chat/completions"), headers=self._headers(http.Headers)
        )

    def _headers(self, headers: type[Any]) -> Any:
        # The transport's own tell which encodings it can read: aiohttp would name those that it could.
        found = headers(self._http.headers)
        # In the SDK's order, and one by one: those that the environment asks for come last, however they are spelled.
        for name, value in [*self._client.auth_headers.items(), *self._client.default_headers.items()]:
            if not isinstance(value, str):
                continue  # the SDK's mark of one that is left out
            if not (value.isascii() and value.isprintable()):
                raise ProviderError(
                    f"The header {name!r} holds characters that no header can carry.",
                    hint="Correct the environment variable that it comes from, such as OPENAI_ORG_ID.",
                )
            found[name] = value
        return found

    async def complete(self, request: ChatRequest, *, timeout: float) -> Answer:
        """One attempt within ``timeout`` seconds, which covers the whole exchange. Raises ChatError."""
        body = json.dumps(wire.build_body(request), ensure_ascii=False, separators=(",", ":")).encode()
        try:
            async with asyncio.timeout(timeout):
                response = await self._http.send(self._post(content=body), follow_redirects=True)
        except TimeoutError:
            raise wire.timeout_failure(timeout) from None
        except self._connection_errors as error:
            raise wire.connection_failure(error, sent=self._was_sent(error), api_key=self._key) from None
        if response.is_success:
            return wire.parse_answer(response.content, response.headers, request, api_key=self._key)
        raise wire.status_failure(
            response.status_code, response.content, response.headers, now=clock.now(), api_key=self._key
        )

    def _was_sent(self, error: BaseException) -> bool:
        # To the SDKs a lost connection is a timeout like any other; what aiohttp said at the bottom is exact.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, self._never_connected):
            cause = cause.__cause__
        return cause is None

    async def aclose(self) -> None:
        """Closes the connections; a second time does nothing."""
        await self._client.close()
