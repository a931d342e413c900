"""The OpenAI chat format, read and written: bodies, answers, failures and rate-limit windows, without any SDK.

Everything here is pure. ``chat_openai`` and ``chat_together`` do the sending.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from pipeline.chats.chat import Answer, ChatError, ChatRequest, Failure, RateWindow
from pipeline.chats.tokens import approximate, prompt_tokens
from tracker.errors import MissingKey, ProviderError
from tracker.fingerprint import Json

# OpenAI's reasoning models refuse max_tokens: https://platform.openai.com/docs/api-reference/chat/create
_REASONING = re.compile(r"(?:openai/)?(?:ft:)?(?:o[134](?:-|:|$)|gpt-5)")
_RETRIED_4XX = (408, 409, 425)
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d*)?)d)?(?:(\d+(?:\.\d*)?)h)?(?:(\d+(?:\.\d*)?)m(?!s))?(?:(\d+(?:\.\d*)?)s)?(?:(\d+(?:\.\d*)?)ms)?"
)
_UNIT_S = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
_LONGEST_MESSAGE = 500
_SHORTEST_KEY = 8
"""A shorter key is none, and would blot out half of what is said."""
_MOST_TOKENS = 2**53
_LONGEST_WINDOW_S = 2 * 86_400.0
REFUSAL = "refusal"


def build_body(request: ChatRequest) -> dict[str, Json]:
    """The body of ``request`` without settings that are None. Raises ChatError(FATAL) for text that is no UTF-8."""
    if not all(_is_utf8(message.content) for message in request.messages):
        raise ChatError(Failure.FATAL, "a message holds half a surrogate pair and cannot be sent as UTF-8")
    body: dict[str, Json] = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
    }
    body.update((name, value) for name, value in request.settings.items() if value is not None)
    if "max_tokens" in body and _REASONING.match(request.model):
        body["max_completion_tokens"] = body.pop("max_tokens")
    return body


def parse_answer(content: bytes, headers: Mapping[str, str], request: ChatRequest, *, api_key: str) -> Answer:
    """The Answer in a 200 response. A refusal is its text with the finish reason ``refusal``.

    Tokens that the endpoint does not tell are estimated by ``pipeline.chats.tokens``. Raises ChatError(TRANSIENT)
    where the body is no chat completion.
    """
    try:
        found = json.loads(content)
        choice = found["choices"][0]
        message = choice["message"]
        text, refusal = _text(message.get("content")), message.get("refusal")
        usage = found.get("usage") or {}
        prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        finish_reason = str(choice.get("finish_reason") or "unknown")
        request_id = headers.get("x-request-id") or str(found.get("id") or "")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        what = f"the answer is no chat completion: {_said(content, api_key) or 'an empty body'}"
        raise ChatError(Failure.TRANSIENT, what, status=200, maybe_paid=True) from None
    refused = not text and isinstance(refusal, str) and bool(refusal)
    text = _storable(refusal if refused else text)
    return Answer(
        text=text,
        finish_reason=REFUSAL if refused else _storable(finish_reason),
        prompt_tokens=prompt_tokens([request]) if prompt is None else prompt,
        completion_tokens=approximate(text) if completion is None else completion,
        tokens_estimated=prompt is None or completion is None,
        provider_request_id=_storable(request_id) or None,
        requests_window=parse_window(headers, "requests"),
        tokens_window=parse_window(headers, "tokens"),
    )


def status_failure(
    status: int, content: bytes, headers: Mapping[str, str], *, now: datetime, api_key: str
) -> ChatError:
    """What an answer of another status than 200 means, with what the endpoint said. ``now`` is aware."""
    if status == 429:
        failure = Failure.FATAL if _is_quota(content) else Failure.RATE_LIMIT
    elif 400 <= status < 500 and status not in _RETRIED_4XX:
        failure = Failure.FATAL
    else:
        failure = Failure.TRANSIENT
    said = _said(content, api_key)
    wait = None if failure is Failure.FATAL else parse_retry_after(headers, now=now)
    return ChatError(failure, f"HTTP {status}: {said}" if said else f"HTTP {status}", status=status, retry_after=wait)


def connection_failure(error: BaseException, *, sent: bool, api_key: str) -> ChatError:
    """What a broken connection means, and whether the request was ``sent`` before it broke.

    The SDKs say only "Connection error."; their cause has the reason.
    """
    cause = error.__cause__ or error
    return ChatError(Failure.TRANSIENT, _one_line(str(cause) or type(cause).__name__, api_key), maybe_paid=sent)


def timeout_failure(timeout: float) -> ChatError:
    """What it means that the whole exchange took longer than ``timeout`` seconds."""
    return ChatError(Failure.TRANSIENT, f"no complete answer within {timeout:g} s", maybe_paid=True)


def parse_window(headers: Mapping[str, str], kind: str) -> RateWindow | None:
    """The window that ``x-ratelimit-*-{kind}`` headers tell; None unless all three are there and make sense.

    No window is longer than a day or two; some gateways tell the moment of the reset in seconds since 1970, and a run
    that took it for a duration would never ask again.
    """
    limit, remaining = (headers.get(f"x-ratelimit-{part}-{kind}", "").strip() for part in ("limit", "remaining"))
    reset_s = parse_duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
    if reset_s is None or reset_s > _LONGEST_WINDOW_S or not (_is_whole(limit) and _is_whole(remaining)):
        return None
    return RateWindow(int(limit), int(remaining), reset_s)


def parse_duration(text: str) -> float | None:
    """Seconds in ``6m0s``, ``20ms``, ``1h2m3.5s`` or plain seconds; None for anything else."""
    text = text.strip()
    seconds = _finite(text)
    if seconds is not None:
        return seconds
    parts = _DURATION.fullmatch(text)
    if not text or parts is None or not text.isascii():
        return None
    total = sum(float(part) * unit for part, unit in zip(parts.groups(), _UNIT_S, strict=True) if part)
    return total if math.isfinite(total) else None


def parse_retry_after(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Seconds to wait by ``retry-after-ms``, else ``retry-after`` (seconds or an HTTP date); a past date gives 0.

    Source: RFC 9110, section 10.2.3; ``retry-after-ms`` is OpenAI's.
    """
    milliseconds = _finite(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after", "")
    seconds = _finite(text)
    if seconds is not None:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())


def clean_key(api_key: str) -> str:
    """``api_key`` without the white space around it. Raises MissingKey where no HTTP header can carry it."""
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise MissingKey(
            "The API key is empty or holds characters that no key has.",
            hint="Set it again without quotes, spaces or line breaks.",
        )
    return key


def clean_base_url(base_url: str) -> str:
    """``base_url`` without the slash at its end. Raises ProviderError where it is no address of a web server."""
    try:
        parts = urlsplit(base_url.strip())
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not base_url.isascii():
        raise ProviderError(f"{base_url!r} is no base_url.", hint="It looks like https://api.example.com/v1.")
    return base_url.strip().rstrip("/")


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    if content is not None and not isinstance(content, str):
        raise TypeError("content is neither text nor parts")
    return content or ""


def _storable(text: str) -> str:
    # JSON can spell half a surrogate pair, which no database takes, and NUL, which PostgreSQL does not.
    whole = text if _is_utf8(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "\ufffd")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else None


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _error(content: bytes) -> Any:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found.get("error", found) if isinstance(found, dict) else None


def _is_quota(content: bytes) -> bool:
    error = _error(content)
    return isinstance(error, dict) and "insufficient_quota" in (error.get("code"), error.get("type"))


def _said(content: bytes, api_key: str) -> str:
    error = _error(content)
    said = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return _one_line(said if isinstance(said, str) else content.decode("utf-8", "replace"), api_key)


def _without_key(text: str, api_key: str) -> str:
    if len(api_key) < _SHORTEST_KEY:
        return text
    # Also where it was broken into lines.
    return re.sub(r"\s*".join(map(re.escape, api_key)), "***", text)


def _one_line(text: str, api_key: str) -> str:
    # Endpoints like to repeat the key; it is blotted out before a cut could leave half of it.
    text = _without_key(text, api_key)
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}..."
