"""The ``Chat`` port without network or key: rules in an LLM's place, for demos, dry runs and tests. It is no LLM.

It does not read the prompt, which it could not understand; it works from what the request is ``about``:

    {"task": "rephrase", "text": ...}                       other words for the text
    {"task": "judge", "original": ..., "rephrased": ...}    "same" or "not the same"
    {"task": <any other>, "text": ..., "condition": ...}    other words, after the condition in brackets

Equal requests get equal answers in every process and every version of Python. The prompt, the settings and the sample
index are part of a request's key, which seeds the rewriter, so each of them changes the answer.
"""

from __future__ import annotations

import asyncio

from pipeline.chats.chat import Answer, ChatRequest
from pipeline.chats.tokens import approximate, prompt_tokens

OFFLINE_MODEL = "rules-v1"
"""The name of this version of the rules; a change that gives other answers needs another name."""

FINISH_REASON = "offline rule-based rewriter, no LLM"
"""What every answer says of itself."""

_DEFAULT_TEMPERATURE = 1.0


class OfflineChat:
    """Answers by rules, at once and for nothing; tokens are estimated."""

    async def complete(self, request: ChatRequest, *, timeout: float) -> Answer:
        """The rules' answer; it never fails. An empty text gets an empty answer."""
        del timeout  # there is nothing to wait for
        await asyncio.sleep(0)  # an answer without a pause would keep the event loop from everything else
        text = _answer(request)
        return Answer(
            text=text,
            finish_reason=FINISH_REASON,
            prompt_tokens=prompt_tokens([request]),
            completion_tokens=approximate(text),
            tokens_estimated=True,
        )

    async def aclose(self) -> None:
        """Nothing: no connection is open."""


def _answer(request: ChatRequest) -> str:
    from pipeline.chats.offline_rules import rewrite, same

    about = request.about
    if about.get("task") == "judge":
        return "same" if same(about["original"], about["rephrased"]) else "not the same"
    text = about.get("text", request.messages[-1].content if request.messages else "")
    temperature = request.settings.get("temperature")
    written = rewrite(
        text,
        seed=int(request.key, 16),
        temperature=_DEFAULT_TEMPERATURE if temperature is None else float(temperature),
    )
    condition = about.get("condition")
    return f"[{condition}] {written}" if condition and written else written
