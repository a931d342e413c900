"""From a model's settings to an endpoint that can be asked. The only place that reads API keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipeline.chats.chat import Chat
from pipeline.engine.endpoint import Endpoint, Limits
from pipeline.providers import PROVIDERS
from pipeline.specs import ModelSpec
from tracker.errors import MissingKey

Learned = Mapping[tuple[str, str], int]


def limits_of(models: Sequence[ModelSpec]) -> Limits:
    """What the service that these models share may be asked: the lowest of each limit that any of them sets."""
    return Limits(
        concurrency=min(model.concurrency for model in models),
        requests_per_minute=_least(model.requests_per_minute for model in models),
        tokens_per_minute=_least(model.tokens_per_minute for model in models),
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


def missing_keys(models: Sequence[ModelSpec], environ: Mapping[str, str]) -> list[MissingKey]:
    """For each variable without a key that resolved models need, the error that says so."""
    found: dict[str, MissingKey] = {}
    for model in models:
        try:
            api_key(model, environ)
        except MissingKey as error:
            found.setdefault(str(model.api_key_env), error)
    return list(found.values())


def key_from(model: ModelSpec) -> str:
    """Where a resolved model's key comes from: the name of the variable, or ``api_key in the config``."""
    literal = model.api_key is not None and model.api_key.get_secret_value().strip()
    return "api_key in the config" if literal else str(model.api_key_env)


def base_url(model: ModelSpec) -> str:
    """The address of a resolved model's service: its own, else its provider's, which is what the record names."""
    return (model.base_url or PROVIDERS[str(model.provider)]["url"]).rstrip("/")


def open_chat(model: ModelSpec, environ: Mapping[str, str], connections: int) -> Chat:
    """The chat behind a resolved model. Raises MissingKey."""
    key = api_key(model, environ)
    if model.provider == "offline":
        from pipeline.chats.chat_offline import OfflineChat

        return OfflineChat()
    if model.provider == "together":
        from pipeline.chats.chat_together import TogetherChat

        return TogetherChat(api_key=key, base_url=base_url(model), connections=connections)
    from pipeline.chats.chat_openai import OpenAIChat

    return OpenAIChat(api_key=key, base_url=base_url(model), connections=connections)


def connect(models: Sequence[ModelSpec], environ: Mapping[str, str], learned: Learned) -> list[Endpoint]:
    """An endpoint for each model. Raises MissingKey.

    Models that reach one service with one key share its connections and its gate, for the service counts what comes
    with a key, whoever asked; timeout and retries are each model's own.
    """
    ways = [(model.provider, base_url(model), api_key(model, environ)) for model in models]
    opened: dict[tuple[str | None, str, str], Endpoint] = {}
    for way in dict.fromkeys(ways):
        sharing = [model for model, its_way in zip(models, ways, strict=True) if its_way == way]
        limits = limits_of(sharing)
        known = _least(learned.get((str(model.endpoint), model.api_key_env or "")) for model in sharing)
        chat = open_chat(sharing[0], environ, limits.concurrency)
        opened[way] = Endpoint(str(sharing[0].endpoint), chat, limits, known, key_from=key_from(sharing[0]))
    return [
        opened[way].beside(str(model.endpoint), timeout=model.timeout, max_retries=model.max_retries)
        for model, way in zip(models, ways, strict=True)
    ]


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)
