"""From a model's settings to an endpoint that can be asked. The only place that reads API keys."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.chat import Chat
from pipeline.engine import Endpoint, Limits
from pipeline.specs import PROVIDERS, ModelSpec
from tracker.errors import MissingKey

Learned = Mapping[tuple[str, str], int]


def limits_of(model: ModelSpec) -> Limits:
    """The operational limits of a model's endpoint."""
    return Limits(
        concurrency=model.concurrency,
        requests_per_minute=model.requests_per_minute,
        tokens_per_minute=model.tokens_per_minute,
        timeout=model.timeout,
        max_retries=model.max_retries,
    )


def api_key(model: ModelSpec, environ: Mapping[str, str]) -> str:
    """The key for a resolved model; empty for offline. Raises MissingKey, which names the variable to set."""
    if model.provider == "offline":
        return ""
    literal = model.api_key.get_secret_value() if model.api_key is not None else ""
    key = (literal or environ.get(str(model.api_key_env), "")).strip()
    if not key:
        raise MissingKey(
            f"No API key for {model.model} at {model.endpoint}.",
            hint=f"export {model.api_key_env}=... , or name another variable with api_key_env in the config.",
        )
    return key


def base_url(model: ModelSpec) -> str:
    """The address of a resolved model's service: its own, else its provider's, which is what the record names."""
    return model.base_url or PROVIDERS[str(model.provider)]["url"]


def open_chat(model: ModelSpec, environ: Mapping[str, str]) -> Chat:
    """The chat behind a resolved model. Raises MissingKey."""
    key = api_key(model, environ)
    if model.provider == "offline":
        from pipeline.chat_offline import OfflineChat

        return OfflineChat()
    if model.provider == "together":
        from pipeline.chat_together import TogetherChat

        return TogetherChat(api_key=key, base_url=base_url(model), connections=model.concurrency)
    from pipeline.chat_openai import OpenAIChat

    return OpenAIChat(api_key=key, base_url=base_url(model), connections=model.concurrency)


def connect(models: list[ModelSpec], environ: Mapping[str, str], learned: Learned) -> list[Endpoint]:
    """An endpoint for each model; models that reach the same service in the same way share one gate."""
    opened: dict[object, Endpoint] = {}
    found = []
    for model in models:
        limits = limits_of(model)
        way = (model.provider, model.endpoint, model.base_url, model.api_key_env, model.api_key, limits)
        if way not in opened:
            name = (str(model.endpoint), str(model.api_key_env))
            opened[way] = Endpoint(name[0], open_chat(model, environ), limits, learned.get(name))
        found.append(opened[way])
    return found
