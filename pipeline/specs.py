"""The settings of stage 1, each declared once: its YAML key, its bounds, its help, whether it shapes the data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, SecretStr, model_validator

from pipeline.providers import address_problem
from pipeline.two_stage import TWO_STAGE
from tracker.fingerprint import Json
from tracker.paths import name_problem
from tracker.spec import Real, Spec, Whole, key_of, marks, setting


def _directory_name(name: str) -> str:
    problem = name_problem(name)
    if problem:
        raise ValueError(problem)
    return name


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


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
        problem = None if self.base_url is None else address_problem(self.base_url)
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
