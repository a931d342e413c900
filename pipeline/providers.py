"""Who serves a model, and how it is reached."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.chats.chat_offline import OFFLINE_MODEL
from tracker.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pipeline.specs import GenerationConfig

PROVIDERS: Mapping[str, Mapping[str, str]] = {
    "openai": {"api_key_env": "OPENAI_API_KEY", "base_url_env": "OPENAI_BASE_URL", "url": "https://api.openai.com/v1"},
    "together": {
        "api_key_env": "TOGETHER_API_KEY",
        "base_url_env": "TOGETHER_BASE_URL",
        "url": "https://api.together.xyz/v1",
    },
    "offline": {"api_key_env": "", "base_url_env": "", "url": "offline"},
}
_OPENAI_MODEL = re.compile(r"(gpt-|o1|o3|o4|chatgpt-|text-davinci-|davinci-)")
_REACH = ("endpoint", "base_url")
_KEY = ("api_key_env", "api_key")
PACE = ("timeout", "concurrency", "requests_per_minute", "tokens_per_minute", "max_retries")


def detect_provider(model: str) -> str:
    """The provider that serves ``model``, by its name: OpenAI's prefixes, everything else is Together's."""
    return "openai" if _OPENAI_MODEL.match(model) else "together"


def address_problem(url: str) -> str | None:
    """What is wrong with the address of a service; it becomes part of the identity, so it is stored and shown."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return f"is no URL: {error}"
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        return "must begin with http:// or https://"
    if "@" in parts.netloc:
        return "holds a user or password, which would be stored; use api_key_env"
    if parts.query or parts.fragment:
        return "has a query or fragment, which would be stored and is not sent"
    return None


def resolve(config: GenerationConfig, environ: Mapping[str, str]) -> GenerationConfig:
    """``config`` with provider, endpoint, address and key variable of both models filled in.

    A judge that does not say how it is reached is reached like the generator, if that has the same provider.
    Raises ConfigError where a variable holds an address that cannot be used.
    """
    generation = resolve_model(config.generation, environ)
    judge = config.validation
    if judge is not None:
        given = judge.model_fields_set
        provider = judge.provider or (
            generation.provider if config.generation.provider else detect_provider(judge.model)
        )
        inherited: dict[str, Any] = {}
        elsewhere = judge.base_url is not None or judge.endpoint not in {None, generation.endpoint}
        if provider == generation.provider and not elsewhere:
            names = [*_REACH, *PACE]
            names += ["price"] if judge.model == generation.model else []
            names += [] if given & set(_KEY) else _KEY
            inherited = {name: getattr(generation, name) for name in names if name not in given}
        judge = resolve_model(judge.model_copy(update={**inherited, "provider": provider}), environ)
    return config.model_copy(update={"generation": generation, "validation": judge})


def resolve_model(spec: Any, environ: Mapping[str, str]) -> Any:
    """The ModelSpec ``spec`` with provider, endpoint, address and key variable filled in. Raises ConfigError."""
    provider = spec.provider or detect_provider(spec.model)
    if provider == "offline":
        return _resolve_offline(spec)
    known = PROVIDERS[provider]
    base_url = spec.base_url
    if base_url is None and environ.get(known["base_url_env"]):
        variable = known["base_url_env"]
        base_url = environ[variable]
        problem = address_problem(base_url)
        if problem is not None:
            raise ConfigError("The address of an endpoint cannot be used.", [Problem(variable, problem)])
    return spec.model_copy(
        update={
            "provider": provider,
            "base_url": base_url,
            "endpoint": spec.endpoint or (base_url or known["url"]).rstrip("/"),
            "api_key_env": spec.api_key_env or known["api_key_env"],
        }
    )


def _resolve_offline(spec: Any) -> Any:
    """Rules that went under the name of a model or a service would be taken for its answers."""
    problems = []
    if spec.model != OFFLINE_MODEL:
        problems.append(Problem(f"model: {spec.model}", f"the rules are called {OFFLINE_MODEL}"))
    asked = spec.base_url or spec.endpoint
    if asked not in {None, PROVIDERS["offline"]["url"]}:
        problems.append(Problem(f"endpoint: {asked}", "the rules are asked nowhere"))
    if problems:
        what = "Provider offline answers by rules; it is no LLM and cannot stand for one."
        raise ConfigError(what, problems, hint=f"Set model: {OFFLINE_MODEL}, without endpoint and base_url.")
    return spec.model_copy(update={"provider": "offline", "endpoint": PROVIDERS["offline"]["url"], "api_key_env": ""})
