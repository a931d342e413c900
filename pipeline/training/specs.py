"""The settings of stage 2, each declared once, and the grid that lists of hyperparameters span."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_validator

from pipeline.specs import DirectoryName, Label
from tracker import configs
from tracker.configs import Document
from tracker.errors import ConfigError, Problem
from tracker.fingerprint import Json, canonical_json
from tracker.spec import Real, Spec, Whole, setting
from tracker.spec_problems import Location

UNCATEGORIZED = "uncategorized"
METHODS = ("zo", "fo_full", "fo_lora")
_GRID = "hyperparameters"
_LORA_RANK = 8
_MOST_POINTS = 10_000


def _devices(value: object) -> object:
    # YAML reads a single device as a number.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Devices = Annotated[str, BeforeValidator(_devices)]


class TrainingExperimentSpec(Spec):
    """What the training is for. None of it shapes the result."""

    purpose: DirectoryName = setting(
        UNCATEGORIZED, operational=True, help="why this training is done; independent of why the data was made"
    )
    description: str = setting("", operational=True, help="a sentence for those who read it later")


class DataSpec(Spec):
    """The data to train on. Its content shapes the result, the paths to it do not."""

    path: str | None = setting(
        None,
        operational=True,
        min_length=1,
        help="a batch path, a shared path, original data, or any directory of splits",
    )
    paths: tuple[str, ...] | None = setting(
        None,
        operational=True,
        min_length=1,
        help="several data sets whose training records are mixed; the first is evaluated on",
    )
    type: Label | None = setting(
        None,
        operational=True,
        help="of older configs: original, synthetic_{method}_{model}_{version} or mixed_{method}_{model}_{version}",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(given is not None for given in (self.path, self.paths, self.type)) != 1:
            raise ValueError(
                "give path (one data set), paths (several, mixed) or type (of older configs), one of the three"
            )
        return self


class Hyperparameters(Spec):
    """How the model is trained. Each is a value or a list of values: lists span a grid."""

    learning_rate: Real = setting(gt=0, le=100, help="step size")
    batch_size: Whole = setting(16, ge=1, le=100_000, help="records of a step")
    steps: Whole = setting(1000, ge=1, le=100_000_000, help="updates of the model")
    seed: Whole = setting(0, ge=0, lt=2**32, help="of data order, noise and initialisation")
    zo_eps: Real = setting(1e-3, gt=0, le=1, help="zo: how far the parameters are moved to measure a slope")
    zo_directions: Whole = setting(1, ge=1, le=1024, help="zo: random directions of a step, averaged")
    lora_rank: Whole | None = setting(
        None, ge=1, le=65_536, help="rank of the LoRA matrices; fo_lora: default 8; zo: perturbs them alone"
    )
    lora_alpha: Real = setting(16.0, gt=0, le=1e6, help="LoRA's scale is lora_alpha / lora_rank")
    weight_decay: Real = setting(0.0, ge=0, le=10, help="of matrices, not of biases and norms")
    warmup: Real = setting(
        0.0, ge=0, le=100_000_000, help="steps in which the learning rate rises; below 1: that share of all steps"
    )
    lr_schedule: Literal["constant", "linear", "cosine"] | None = setting(
        None, help="how the learning rate falls; default: constant for zo, linear otherwise"
    )
    gradient_accumulation: Whole = setting(
        1, ge=1, le=100_000, help="fo: a batch is computed in so many parts; the step is the same but for float noise"
    )
    eval_steps: Whole | None = setting(
        None, ge=1, help="steps between evaluations on dev, which choose the best checkpoint; default: a fifth of steps"
    )
    max_length: Whole = setting(2048, ge=8, le=10_000_000, help="tokens; longer prompts lose their left part")


class TrainingConfig(Spec):
    """A configuration of `synthtrack train`."""

    experiment: TrainingExperimentSpec = setting(TrainingExperimentSpec(), operational=True, help="what it is for")
    model: str = setting(
        min_length=1, max_length=500, help="a name on the Hugging Face hub, a directory, or scratch:llama-tiny"
    )
    task: Label = setting(help="Copa, CB, RTE, BOOLQ, ArcC_Cloze or ArcC_MC")
    method: Literal["zo", "fo_full", "fo_lora"] = setting(
        help="zo (MeZO: no gradients), fo_full (AdamW) or fo_lora (AdamW on LoRA matrices)"
    )
    data: DataSpec = setting(operational=True, help="the data to train on")
    hyperparameters: Hyperparameters = setting(help="how the model is trained")
    prompt_style: Literal["llama", "mezo_paper"] = setting(
        "llama", help="the prompts: llama, or those of the MeZO paper"
    )
    train_as_classification: bool | None = setting(
        None, help="loss over the candidates' scores, else over the right answer's tokens; default: true but for Copa"
    )
    num_train: Whole = setting(1000, ge=1, help="most training records")
    num_dev: Whole | None = setting(
        None,
        ge=1,
        help="the last so many records of the train file choose the checkpoint; default 100 for Copa and CB, else 500",
    )
    num_eval: Whole = setting(1000, ge=1, help="most records of the validation split to measure on")
    precision: Literal["fp32", "bf16"] = setting("fp32", help="what the model computes in; parameters stay fp32")
    zo_memory: Literal["auto", "keep", "in_place"] = setting(
        "auto", help="zo: keep the noise of a step, or make it anew where it is needed; auto: as memory allows"
    )
    gradient_checkpointing: bool = setting(default=False, operational=True, help="fo: less memory for more time")
    save_model: bool = setting(default=True, operational=True, help="keep the best model in the result directory")
    cuda_devices: Devices | None = setting(
        None,
        operational=True,
        help='GPUs by number ("0", "0,1"), one run on each at a time, or cpu; default: 0 where there is one',
    )
    wait_for_completion: bool = setting(default=True, operational=True, help="false: train in the background")
    continue_on_error: bool = setting(
        default=False, operational=True, help="go on with the grid after a run that failed"
    )


@dataclass(frozen=True)
class Grid:
    """The points of a config, each with one value for every hyperparameter; ``varied`` are those that have several."""

    points: tuple[TrainingConfig, ...]
    varied: tuple[str, ...]


def grid(document: Document) -> Grid:
    """The grid that ``document`` spans, the last list varying fastest; equal points count once.

    Raises ConfigError with every problem of every point, each with file and line.
    """
    given = document.data.get(_GRID)
    lists = {name: value for name, value in given.items() if isinstance(value, list)} if isinstance(given, dict) else {}
    empty = [name for name, values in lists.items() if not values]
    if empty:
        where = [Problem(document.where((_GRID, name)), f"`{_GRID}.{name}` is an empty list") for name in empty]
        raise ConfigError("The grid is empty.", where, hint="Give each hyperparameter a value, or a list of values.")
    n_points = math.prod(len(values) for values in lists.values())
    if n_points > _MOST_POINTS:
        what = f"its lists span {n_points:,} points, more than {_MOST_POINTS:,}"
        raise ConfigError("The grid is too large.", [Problem(document.where((_GRID,)), what)])
    points: dict[str, TrainingConfig] = {}
    problems: dict[str, Problem] = {}
    hint = None
    for chosen in itertools.product(*(range(len(values)) for values in lists.values())):
        try:
            point = configs.validate(TrainingConfig, _point(document, lists, dict(zip(lists, chosen, strict=True))))
        except ConfigError as error:
            problems |= {str(problem): problem for problem in error.problems}
            hint = error.hint
        else:
            points.setdefault(canonical_json(point.model_dump(mode="json")), point)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ConfigError(f"{document.source} has {count}.", list(problems.values()), hint=hint)
    found = tuple(points.values())
    values = [point.hyperparameters for point in found]
    varied = tuple(name for name in lists if len({getattr(each, name) for each in values}) > 1)
    return Grid(found, varied)


def _point(document: Document, lists: Mapping[str, list[Json]], chosen: Mapping[str, int]) -> Document:
    if not chosen:
        return document
    values = {name: lists[name][at] for name, at in chosen.items()}
    places: dict[Location, str] = {
        (_GRID, name): document.places[item]
        for name, at in chosen.items()
        if (item := (_GRID, name, at)) in document.places
    }
    data = {**document.data, _GRID: {**document.data[_GRID], **values}}
    return Document(data, document.source, {**document.places, **places})


def effective(config: TrainingConfig, *, num_dev: int, classification: bool) -> TrainingConfig:
    """``config`` with the defaults filled in that depend on other settings, or are the task's (the last two)."""
    given = config.hyperparameters
    filled: dict[str, Any] = {
        "eval_steps": given.eval_steps or max(1, given.steps // 5),
        "lr_schedule": given.lr_schedule or ("constant" if config.method == "zo" else "linear"),
        "lora_rank": given.lora_rank or (_LORA_RANK if config.method == "fo_lora" else None),
    }
    chosen = config.train_as_classification
    return config.model_copy(
        update={
            "hyperparameters": given.model_copy(update=filled),
            "num_dev": config.num_dev or num_dev,
            "train_as_classification": classification if chosen is None else chosen,
        }
    )


def without_effect(config: TrainingConfig) -> frozenset[str]:
    """The settings, under their dotted names, that do nothing for this method, and so are no part of the identity."""
    h = _GRID
    found = set()
    if config.method != "zo":
        found |= {f"{h}.zo_eps", f"{h}.zo_directions", "zo_memory"}
    else:
        found |= {f"{h}.gradient_accumulation", "gradient_checkpointing"}
    if config.method == "fo_full" or config.hyperparameters.lora_rank is None:
        found |= {f"{h}.lora_rank", f"{h}.lora_alpha"}
    return frozenset(found)
