"""The settings of `perspectives`, each declared once; what a model is asked with is shared with stage 1."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from pipeline.chats.chat_offline import OFFLINE_MODEL
from pipeline.providers import resolve_model
from pipeline.specs import AskedSpec, DirectoryName, Label, ModelSpec, Provider
from tracker import configs
from tracker.configs import Document
from tracker.errors import Problem
from tracker.fingerprint import Json
from tracker.spec import Spec, Whole, identity, public, setting, settings

REFERENCE = "Reference"
"""The condition of the reference where it is the first agent."""
_ODD = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"
"""Format characters of which letters and emoji are made."""
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and a symbol that are drawn as nothing."""


def _with_text(text: str) -> str:
    if not text.strip():
        raise ValueError("holds no text")
    return text


def _legible(name: str) -> str:
    """A name that looks like what it is wherever it is shown."""
    odd = next((char for char in name if unicodedata.category(char) in _ODD and char not in _JOINERS), None)
    if odd is not None:
        raise ValueError(f"holds U+{ord(odd):04X}, a control or format character, which nobody sees")
    if not any(unicodedata.category(char)[0] in "LNPS" and char not in _BLANK for char in name):
        raise ValueError("holds no character that can be seen")
    return name


def _stripped(text: str | None) -> str | None:
    return None if text is None else text.strip()


def _none_if_empty(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _some(perspectives: tuple[PerspectiveSpec, ...]) -> tuple[PerspectiveSpec, ...]:
    # Not min_length: pydantic counts what is left of a list in which something else is wrong.
    if not perspectives:
        raise ValueError("holds no perspective, and at least one must answer")
    return perspectives


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class PerspectiveSpec(Spec):
    """One condition under which an agent answers."""

    condition: Annotated[Label, AfterValidator(str.strip), AfterValidator(_with_text), AfterValidator(_legible)] = (
        setting(max_length=100, help="its name in results, tables and plots; no two are the same")
    )
    # JSON and YAML differ in how a text ends; what is told does not.
    reading: Annotated[str | None, BeforeValidator(_none_if_empty), AfterValidator(_stripped)] = setting(
        None,
        help="what the agent does with the input first, for notes that it has when it answers; null: nothing",
    )
    strategy: Annotated[str, AfterValidator(_with_text), AfterValidator(str.strip)] = setting(
        help="what the agent is told to do with the input"
    )


class AgentModelSpec(AskedSpec):
    """The model behind all agents, how it samples and how it is reached."""

    model: str = setting(
        alias="model_name", abbreviation="", min_length=1, max_length=150, help="the model's name at its provider"
    )
    # What says the same is the same: one text and a list of it, no message and an empty one.
    stop: Annotated[tuple[str, ...] | None, BeforeValidator(_several)] = setting(None, help="texts that end an answer")
    system_prompt: Annotated[str | None, BeforeValidator(_none_if_empty)] = setting(None, help="the system message")


class DataConfigSpec(Spec):
    """The inputs. Their content shapes the data, where they lie does not."""

    input_data_path: str = setting(
        operational=True, min_length=1, help="list of {input, reference?}: .json, .jsonl, .jsonl.gz or .parquet"
    )
    sample_size: Whole | None = setting(None, operational=True, ge=1, help="how many inputs to use; default: all")


class PerspectivesConfig(Spec):
    """A configuration of `synthtrack perspectives`."""

    # Not of every directory: data sets have names that were given before anybody looked at them so closely.
    task_type: Annotated[DirectoryName, AfterValidator(_legible)] = setting(
        max_length=80, help="what the agents do, in a word: it begins the file's name"
    )
    task_description: str = setting("", help="a sentence for those who read the file; no agent sees it")
    agent_model: AgentModelSpec = setting(alias="model_config", help="the model behind all agents")
    agent_perspectives: Annotated[tuple[PerspectiveSpec, ...], AfterValidator(_some)] = setting(
        help="the conditions, one at least; responses come in their order"
    )
    data_config: DataConfigSpec = setting(help="the inputs")
    add_references: bool = setting(
        default=False,
        help="put each input's reference in front as the first agent's response; nothing is asked",
    )
    api_provider: Provider | None = setting(None, help="who serves the model; default: by the model's name")
    seed: Whole | None = setting(
        None, operational=True, ge=0, help="draws the sample_size inputs at random; default: the first ones are used"
    )


def validated(document: Document) -> PerspectivesConfig:
    """The settings in ``document``. Raises ConfigError with every problem, each with file and line."""
    return configs.validate(
        PerspectivesConfig, document, [*_condition_problems(document), *_offline_problems(document)]
    )


def _condition_problems(document: Document) -> Iterator[Problem]:
    """Conditions that have the name of another one, or of the reference where that is an agent; whatever their case."""
    given = document.data.get("agent_perspectives")
    is_taken = document.data.get("add_references") is True
    first: dict[str, int] = {}
    for at, each in enumerate(given if isinstance(given, list) else []):
        name = each.get("condition") if isinstance(each, Mapping) else None
        if not isinstance(name, str) or not name.strip():
            continue
        own, key = _folded(name), f"agent_perspectives.{at}.condition"
        where = document.where(("agent_perspectives", at, "condition"))
        if first.setdefault(own, at) != at:
            other = f"agent_perspectives.{first[own]}"
            yield Problem(where, f"`{key}`: {name.strip()!r} is the condition of {other} already")
        elif is_taken and own == _folded(REFERENCE):
            yield Problem(where, f"`{key}`: with add_references no other condition can be called {REFERENCE!r}")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()


def _offline_problems(document: Document) -> list[Problem]:
    """What the offline provider, which is no LLM, cannot stand for."""
    model = document.data.get("model_config")
    if document.data.get("api_provider") != "offline" or not isinstance(model, Mapping):
        return []
    wanted = {"model_name": OFFLINE_MODEL, "base_url": None, "endpoint": None}
    return [
        Problem(
            document.where(("model_config", name)),
            f"`model_config.{name}`: the offline provider answers by rules that are called {OFFLINE_MODEL}; "
            + ("it can stand for no LLM" if only else "they are asked nowhere"),
        )
        for name, only in wanted.items()
        if name in model and model[name] not in {only, None}
    ]


READING = 1
"""Part of the identity: to be raised when other data would be made of the same answers."""


def model_of(config: PerspectivesConfig, environ: Mapping[str, str]) -> ModelSpec:
    """The model of ``config`` with provider, endpoint, address and key variable filled in. Raises ConfigError."""
    given = {name: getattr(config.agent_model, name) for name in AskedSpec.model_fields}
    resolved = resolve_model(ModelSpec(**given, provider=config.api_provider), environ)
    assert isinstance(resolved, ModelSpec)
    return resolved


def resolved(config: PerspectivesConfig, model: ModelSpec) -> PerspectivesConfig:
    """``config`` with what was found for its model."""
    found = {"base_url": model.base_url, "endpoint": model.endpoint, "api_key_env": model.api_key_env or None}
    agent_model = config.agent_model.model_copy(update=found)
    return config.model_copy(update={"agent_model": agent_model, "api_provider": model.provider})


def identity_parts(config: PerspectivesConfig, *, inputs: str, draw: int) -> dict[str, Json]:
    """What makes an agent data set itself; ``config`` is resolved, ``inputs`` is the digest of those that are used."""
    return {**identity(config), "data_config": {"inputs": inputs}, "reading": READING, "draw": draw}


def recorded_config(config: PerspectivesConfig) -> dict[str, Json]:
    """``config`` as JSON and YAML have it, without secrets."""
    return public(config)


def recorded_settings(config: PerspectivesConfig) -> dict[str, Json]:
    """Every setting of ``config`` but the secrets under its dotted name."""
    return settings(config)
