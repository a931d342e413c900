"""The settings of `perspectives`, each declared once; what a model is asked with is shared with stage 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from pipeline.specs import AskedSpec, DirectoryName, Label, ModelSpec, Provider, resolve_model
from tracker.fingerprint import Json
from tracker.spec import Spec, Whole, identity, public, setting, settings

REFERENCE = "Reference"
"""The condition of the reference where it is the first agent."""


def _with_text(text: str) -> str:
    if not text.strip():
        raise ValueError("holds no text")
    return text


def _none_if_empty(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _distinct(perspectives: tuple[PerspectiveSpec, ...]) -> tuple[PerspectiveSpec, ...]:
    # Not min_length: pydantic counts what is left of a list in which something else is wrong.
    if not perspectives:
        raise ValueError("holds no perspective, and at least one must answer")
    names = [each.condition for each in perspectives]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        where = {name: " and ".join(str(at) for at, each in enumerate(names, 1) if each == name) for name in twice}
        raise ValueError("; ".join(f"condition {name!r} is there twice (perspectives {where[name]})" for name in twice))
    return perspectives


class PerspectiveSpec(Spec):
    """One condition under which an agent answers."""

    condition: Annotated[Label, AfterValidator(str.strip), AfterValidator(_with_text)] = setting(
        max_length=100, help="its name in results, tables and plots; no two are the same"
    )
    reading: Annotated[str | None, BeforeValidator(_none_if_empty)] = setting(
        None,
        help="what the agent does with the input first, for notes that it has when it answers; null: nothing",
    )
    strategy: Annotated[str, AfterValidator(_with_text)] = setting(help="what the agent is told to do with the input")


class AgentModelSpec(AskedSpec):
    """The model behind all agents, how it samples and how it is reached."""

    model: str = setting(
        alias="model_name", abbreviation="", min_length=1, max_length=150, help="the model's name at its provider"
    )


class DataConfigSpec(Spec):
    """The inputs. Their content shapes the data, where they lie does not."""

    input_data_path: str = setting(
        operational=True, min_length=1, help="list of {input, reference?}: .json, .jsonl, .jsonl.gz or .parquet"
    )
    sample_size: Whole | None = setting(None, operational=True, ge=1, help="how many inputs to use; default: all")


class PerspectivesConfig(Spec):
    """A configuration of `synthtrack perspectives`."""

    task_type: DirectoryName = setting(max_length=80, help="what the agents do, in a word: it begins the file's name")
    task_description: str = setting("", help="a sentence for those who read the file; no agent sees it")
    agent_model: AgentModelSpec = setting(alias="model_config", help="the model behind all agents")
    agent_perspectives: Annotated[tuple[PerspectiveSpec, ...], AfterValidator(_distinct)] = setting(
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

    @model_validator(mode="after")
    def _one_reference(self) -> Self:
        if self.add_references and any(each.condition == REFERENCE for each in self.agent_perspectives):
            raise ValueError(f"with add_references no other condition can be called {REFERENCE!r}")
        return self


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
    found = public(config)
    # `reading: null` is part of the form, and what an agent did not do is worth reading.
    found["agent_perspectives"] = [each.model_dump() for each in config.agent_perspectives]
    return found


def recorded_settings(config: PerspectivesConfig) -> dict[str, Json]:
    """Every setting of ``config`` but the secrets under its dotted name."""
    return settings(config)
