"""The settings of stage 1, each declared once: its YAML key, its bounds, its help, whether it shapes the data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, model_validator

from pipeline.chats.chat_offline import OFFLINE_MODEL
from pipeline.prompts import format_examples
from pipeline.two_stage import TWO_STAGE
from tracker.errors import ConfigError, Problem
from tracker.fingerprint import Identity, Json, identify
from tracker.paths import name_problem
from tracker.spec import Real, Spec, Whole, identity, key_of, marks, name_parts, public, setting, settings

PROVIDERS: Mapping[str, Mapping[str, str]] = {
    "openai": {"api_key_env": "OPENAI_API_KEY", "base_url_env": "OPENAI_BASE_URL", "url": "https://api.openai.com/v1"},
    "together": {
        "api_key_env": "TOGETHER_API_KEY",
        "base_url_env": "TOGETHER_BASE_URL",
        "url": "https://api.together.xyz/v1",
    },
    "offline": {"api_key_env": "", "base_url_env": "", "url": "offline"},
}
_ONLY_TWO_STAGE = ("review_size", "few_shot_range", "test_range")
_CHECKPOINTS = frozenset(
    {
        "generation.review_size",
        "validation.few_shot_range",
        "validation.test_range",
        "validation.required_accuracy",
    }
)
_OPENAI_MODEL = re.compile(r"(gpt-|o1|o3|o4|chatgpt-|text-davinci-|davinci-)")


def detect_provider(model: str) -> str:
    """The provider that serves ``model``, by its name: OpenAI's prefixes, everything else is Together's."""
    return "openai" if _OPENAI_MODEL.match(model) else "together"


def _directory_name(name: str) -> str:
    problem = name_problem(name)
    if problem:
        raise ValueError(problem)
    return name


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _address_problem(url: str) -> str | None:
    # It becomes part of the identity, so it is stored and shown.
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


def _sample_range(value: object) -> object:
    if isinstance(value, (list, tuple)) and len(value) == 2:
        value = f"{value[0]}-{value[1]}"
    found = re.fullmatch(r"\s*([1-9]\d{0,8})\s*-\s*([1-9]\d{0,8})\s*", value) if isinstance(value, str) else None
    if found is None or int(found[1]) > int(found[2]):
        raise ValueError("must be two sample numbers from 1, as 21-40")
    return f"{found[1]}-{found[2]}"


SampleRange = Annotated[str, BeforeValidator(_sample_range)]
DirectoryName = Annotated[str, BeforeValidator(_as_text), AfterValidator(_directory_name)]
Label = Annotated[str, BeforeValidator(_as_text)]
Example = str | dict[str, Any]
Provider = Literal["openai", "together", "offline"]


class ExperimentSpec(Spec):
    """What the experiment is for. None of it shapes the data."""

    batch_id: DirectoryName | None = setting(
        None, operational=True, help="the batch it belongs to; default batch_{YYYYMMDD}_{purpose}"
    )
    purpose: DirectoryName = setting("uncategorized", operational=True, help="why this data is made")
    description: str = setting("", operational=True, help="a sentence for those who read it later")
    experiment_id: Label | None = setting(
        None, operational=True, deprecated="names come from the settings", help="of older configs, without effect"
    )
    overwrite_strategy: Label | None = setting(
        None, operational=True, deprecated="data is never overwritten", help="of older configs, without effect"
    )


class FilesSpec(Spec):
    """File names of the splits, where they are not {task_name}_{split}.jsonl."""

    train: str | None = setting(None, operational=True, help="file of the split that is rephrased")
    validation: str | None = setting(None, operational=True, help="file that is copied as validation split")
    test: str | None = setting(None, operational=True, help="file that is copied as test split")


class DatasetSpec(Spec):
    """The source data set. Its content and its names shape the data, the paths to it do not."""

    # The names of the data set and its files are in the digest of the source, so they are not counted twice here.
    task_name: DirectoryName | None = setting(
        None, operational=True, help="file stem (copa); default: the input file's name without _train"
    )
    dataset_name: DirectoryName | None = setting(
        None, operational=True, help="directory name (Copa); default: that of the input file's directory"
    )
    input_path: str | None = setting(
        None, operational=True, min_length=1, help="the records to rephrase: .jsonl, .jsonl.gz, .json or .parquet"
    )
    original_dir: str | None = setting(
        None, operational=True, help="where the other splits lie; default: beside input_path"
    )
    files: FilesSpec = setting(FilesSpec(), operational=True, help="file names of the splits")
    fields: tuple[str, ...] | None = setting(None, help="the fields to keep; default: all")
    hub: str | None = setting(
        None,
        operational=True,
        min_length=1,
        help="a data set of the Hugging Face hub: NAME, NAME/CONFIG or a directory",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        files = bool(self.input_path or self.files.train)
        if files == bool(self.hub):
            raise ValueError("give input_path (a file; or files.train) or hub (a data set of the hub), one of the two")
        return self


class PriceSpec(Spec):
    """Prices for endpoints that the price list does not know."""

    input_per_mtok: Real = setting(operational=True, ge=0, help="US dollars for a million prompt tokens")
    output_per_mtok: Real = setting(operational=True, ge=0, help="US dollars for a million completion tokens")


class AskedSpec(Spec):
    """A model that is asked: how it samples, and how it is reached."""

    # In this order they make the semantic name: temp07_topp10_gpt4o.
    temperature: Real | None = setting(
        0.7, ge=0, le=2, abbreviation="temp", help="sampling temperature; null: not sent"
    )
    top_p: Real | None = setting(1.0, gt=0, le=1, abbreviation="topp", help="nucleus sampling; null: not sent")
    model: str = setting(abbreviation="", min_length=1, max_length=150, help="the model's name at its provider")
    endpoint: str | None = setting(
        None, min_length=1, help="a name for the service behind base_url, so that its address may change"
    )
    base_url: str | None = setting(
        None, operational=True, help="address of the service; part of the identity unless endpoint names it"
    )
    max_tokens: Whole = setting(256, ge=1, le=10_000_000, help="longest answer, in tokens")
    frequency_penalty: Real = setting(0.0, ge=-2, le=2, help="penalty for frequent tokens")
    presence_penalty: Real = setting(0.0, ge=-2, le=2, help="penalty for tokens that were there before")
    seed: Whole | None = setting(None, help="the provider's sampling seed")
    stop: str | tuple[str, ...] | None = setting(None, help="texts that end an answer")
    system_prompt: str | None = setting(None, help="the system message")
    api_key_env: str | None = setting(
        None,
        operational=True,
        pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$",
        help="name of the variable that holds the API key",
    )
    api_key: SecretStr | None = setting(None, secret=True, help="a literal key: works, is warned of, is never stored")
    timeout: Real = setting(60.0, operational=True, gt=0, le=3600, help="seconds for one whole request")
    concurrency: Whole = setting(50, operational=True, ge=1, le=2000, help="most requests in flight")
    requests_per_minute: Whole | None = setting(None, operational=True, ge=1, help="limit; default: none")
    tokens_per_minute: Whole | None = setting(None, operational=True, ge=1, help="limit; default: none")
    max_retries: Whole = setting(
        10,
        operational=True,
        ge=0,
        le=100,
        help="tries after the first; a 429 costs none, what is cut off, empty or refused gets at most 3",
    )
    price: PriceSpec | None = setting(None, operational=True, help="prices, where the price list knows none")

    @model_validator(mode="after")
    def _no_credentials(self) -> Self:
        problem = None if self.base_url is None else _address_problem(self.base_url)
        if problem is not None:
            raise ValueError(f"base_url {problem}")
        return self


class ModelSpec(AskedSpec):
    """A model, how it samples, who serves it and how it is reached."""

    provider: Provider | None = setting(None, help="who serves it; default: by the model's name")
    few_shot_examples: tuple[Example, ...] = setting((), help="examples that a {{..._FEWSHOT}} placeholder brings in")


class GenerationSpec(ModelSpec):
    """The model that rephrases."""

    field_to_rephrase: str = setting(min_length=1, help="the field whose text is rephrased")
    rephrase_prompt: str = setting(min_length=1, help="template over a record's fields")
    strategy: Literal["direct_all", "two_stage"] = setting(
        "direct_all", help="direct_all: every record in one go; two_stage: people look before the rest is paid for"
    )
    review_size: Whole = setting(
        20, absent=20, ge=1, help="two_stage: so many records are rephrased and reviewed first"
    )


class ValidationSpec(ModelSpec):
    """The judge: whether a rephrased text still means the same."""

    temperature: Real | None = setting(0.0, ge=0, le=2, help="sampling temperature; null: not sent")
    validation_prompt: str = setting(min_length=1, help="template over original_<field> and rephrased_<field>")
    few_shot_range: SampleRange = setting(
        "21-40", absent="21-40", help="two_stage: samples (from 1) that people annotate as examples for the judge"
    )
    test_range: SampleRange = setting(
        "41-80", absent="41-80", help="two_stage: samples that people annotate to test the judge"
    )
    required_accuracy: Real = setting(
        0.95, operational=True, ge=0, le=1, help="two_stage: share of the test set on which the judge must agree"
    )


class GenerationConfig(Spec):
    """A configuration of `synthtrack generate`."""

    experiment: ExperimentSpec = setting(ExperimentSpec(), operational=True, help="what it is for")
    task_name: Label | None = setting(None, operational=True, help="a label")
    training_method: Label | None = setting(None, operational=True, help="a label")
    version: Label | None = setting(None, operational=True, help="a label")
    dataset: DatasetSpec = setting(help="the source data set")
    generation: GenerationSpec = setting(help="the model that rephrases")
    validation: ValidationSpec | None = setting(None, help="the judge; without it every answer is accepted")

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if self.generation.strategy == TWO_STAGE and self.validation is None:
            raise ValueError("strategy two_stage needs a judge: add a validation section")
        return self


READING = 1
"""Part of the identity: to be raised when other data would be made of the same answers (cleaning, reading verdicts)."""

_REACH = ("endpoint", "base_url")
_KEY = ("api_key_env", "api_key")
PACE = ("timeout", "concurrency", "requests_per_minute", "tokens_per_minute", "max_retries")


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
        problem = _address_problem(base_url)
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


def experiment_identity(
    config: GenerationConfig, *, dataset: str, source_digest: str, record_limit: int | None, draw: int
) -> Identity:
    """What makes a shared experiment itself; ``config`` is resolved, ``source_digest`` stands for all source splits."""
    return identify(
        "shared_experiment",
        {
            "dataset": {"name": dataset, "source": source_digest, **identity(config.dataset)},
            "generation": _model_identity(config.generation, config.generation.strategy),
            "validation": None
            if config.validation is None
            else _model_identity(config.validation, config.generation.strategy),
            "reading": READING,
            "record_limit": record_limit,
            "draw": draw,
        },
    )


def _model_identity(model: ModelSpec, strategy: str) -> dict[str, Json]:
    # Examples count as the text that is sent: the order of an example's keys is in it, canonical JSON sorts them.
    found = {**identity(model), "few_shot_examples": format_examples(model.few_shot_examples)}
    if strategy != TWO_STAGE:
        for name in _ONLY_TWO_STAGE:
            found.pop(name, None)
    return found


def semantic_name(config: GenerationConfig, *, record_limit: int | None, draw: int) -> str:
    """``temp07_topp10_gpt4o``, and what else sets this experiment apart at a glance."""
    parts = list(name_parts(config.generation))
    if record_limit is not None:
        parts.append(f"first{record_limit}")
    if draw:
        parts.append(f"draw{draw}")
    return "_".join(parts)


def recorded_settings(config: GenerationConfig) -> dict[str, Json]:
    """Every setting of ``config`` but the secrets under its dotted name; without those of the other strategy."""
    return {name: value for name, value in settings(config).items() if name not in _without_effect(config)}


def recorded_config(config: GenerationConfig) -> dict[str, Json]:
    """``config`` as YAML has it, without secrets and without the settings of the other strategy."""
    found = public(config)
    for name in _without_effect(config):
        section, _, key = name.partition(".")
        found.get(section, {}).pop(key, None)
    return found


def _without_effect(config: GenerationConfig) -> frozenset[str]:
    return frozenset() if config.generation.strategy == TWO_STAGE else _CHECKPOINTS


def deprecations(spec: Spec, prefix: str = "") -> list[str]:
    """A warning for each deprecated or risky setting that is given."""
    found: list[str] = []
    for name, field in type(spec).model_fields.items():
        key, value = f"{prefix}{key_of(name, field)}", getattr(spec, name)
        if isinstance(value, Spec):
            found += deprecations(value, f"{key}.")
            continue
        mark: Mapping[str, Json] = marks(field)
        if mark.get("deprecated") and value is not None:
            found.append(f"`{key}` is deprecated and has no effect: {mark['deprecated']}.")
        if mark.get("secret") and value is not None:
            found.append(f"`{key}` holds a literal key: put it into an environment variable (api_key_env).")
    return found
