"""A validated template: what people approved in a two_stage experiment, as a config for parameter studies."""

from __future__ import annotations

import shlex
import textwrap
from itertools import product
from typing import Any

from pipeline.generation.job import nested
from pipeline.generation.plan import SAMPLING
from pipeline.providers import resolve
from pipeline.specs import GenerationConfig, ModelSpec
from pipeline.two_stage import ANNOTATION, REVIEW, State
from tracker import configs, spec
from tracker.errors import WrongStep
from tracker.fingerprint import Json
from tracker.yaml_text import to_yaml

_TWO_STAGE_ONLY = ("review_size", "few_shot_range", "test_range", "required_accuracy")
_LABELS = ("task_name", "training_method", "version")
_READ_FIRST = (
    "provider", "model", *SAMPLING, "strategy", "field_to_rephrase", "system_prompt", "rephrase_prompt",
    "validation_prompt", "few_shot_examples",
)  # fmt: skip
_WIDTH = 100
_OPERATIONAL = [name for name, field in ModelSpec.model_fields.items() if spec.marks(field).get("operational")]

Group = dict[str, Any]


def check(state: State, following: str | None) -> None:
    """Raises WrongStep where the first samples are not reviewed, or the judge has not passed.

    ``following`` is the experiment's next command.
    """
    if REVIEW not in state.closed:
        what = "its first samples are to be reviewed, and the others rephrased with the approved ones as examples"
    elif ANNOTATION not in state.closed and not state.judge_passed:
        what = "its judge is to agree with people first"
    else:
        return
    raise WrongStep(f"{state.reference} has no validated prompts yet: {what}.", hint=f"Next: {following}")


def text(state: State, name: str, path: str) -> str:
    """The template as a YAML file that lies at ``path``."""
    head = [
        f"Template {name}: prompts and few-shot examples as people validated them in {state.reference}",
        f"(fingerprint {state.experiment['fingerprint']}). Each value of a setting is a data set of its own:",
        f"  {study(path)}",
        "Who changes a prompt or an example has another prompt than the one that was validated.",
        *caveats(state),
    ]
    blocks = ["".join(f"# {line}\n" for line in head)]
    return "\n".join([*blocks, *(to_yaml({key: value}) for key, value in document(state).items())])


def learned(state: State) -> list[int]:
    """The numbers of the samples that are examples in the template."""
    return sorted(at + 1 for checkpoint in (REVIEW, ANNOTATION) for at in state.learned(checkpoint))


def caveats(state: State) -> list[str]:
    """What to know before data that is made with the template is compared with other data."""
    decided = "People's decisions are not in it: the judge decides every record."
    samples = ", ".join(map(str, learned(state)))
    if not samples:
        return [decided]
    examples = (
        f"Its learned examples are records of this data set themselves (samples {samples}): prompts for these hold "
        "their own answer as an example. Leave them out when you compare data sets, or use the template on other "
        "records."
    )
    return [decided, *textwrap.wrap(examples, _WIDTH)]


def study(path: str) -> str:
    """A command that varies the template at ``path``."""
    return f"synthtrack generate {shlex.quote(path)} --set generation.temperature=0.5"


def document(state: State) -> dict[str, Json]:
    """The template's config: the experiment's own, without its steps, with what was learned in them.

    Every setting that shapes data is named, so that no default can change it.
    """
    given = nested(state.settings)
    generation = {**given["generation"], "strategy": "direct_all", "few_shot_examples": state.rephrase_examples}
    validation = {**given["validation"], "few_shot_examples": state.judge_examples}
    files = _given(given["dataset"]["files"])
    return _shortened(
        {
            "experiment": {"purpose": state.experiment["purpose"], "description": description(state)},
            **_given({label: given[label] for label in _LABELS}),
            "dataset": _given({**given["dataset"], "files": files or None}),
            "generation": _ordered(generation),
            "validation": _ordered(validation),
        }
    )


def description(state: State) -> str:
    """Where the template comes from, in a sentence."""
    origin = f"Prompts and examples validated in {state.reference} ({state.experiment['fingerprint']})"
    test = state.test()
    if test is None:
        return origin
    return f"{origin}; its judge agreed with people on {test['accuracy']:.1%} of {test['n_tested']} samples"


def _ordered(model: Group) -> Group:
    """A model's settings as people read them, without its steps and what is null by default."""
    kept = {name: value for name, value in model.items() if name not in _TWO_STAGE_ONLY}
    for name, field in ModelSpec.model_fields.items():
        if name not in _OPERATIONAL and field.default is None and kept.get(name) is None:
            kept.pop(name, None)
    return {name: kept[name] for name in (*_READ_FIRST, *kept) if name in kept}


def _shortened(config: dict[str, Group]) -> dict[str, Json]:
    """``config`` without the operational settings, and names of endpoints, that it has anyway."""
    whole = _resolved(config)
    for section, name in product(("generation", "validation"), (*_OPERATIONAL, "endpoint")):
        shorter = {**config, section: {key: value for key, value in config[section].items() if key != name}}
        if _resolved(shorter) == whole:
            config = shorter
    return config


def _resolved(config: dict[str, Group]) -> dict[str, Json]:
    given = configs.validate(GenerationConfig, configs.Document(config, "the template"))
    return spec.settings(resolve(given, {}))


def _given(group: Group) -> Group:
    return {name: value for name, value in group.items() if value is not None}
