"""What makes a shared experiment itself: its settings as they are counted, named and recorded."""

from __future__ import annotations

from pipeline.prompts import format_examples
from pipeline.specs import GenerationConfig, ModelSpec
from pipeline.two_stage import TWO_STAGE
from tracker.fingerprint import Identity, Json, identify
from tracker.spec import identity, name_parts, public, settings

_ONLY_TWO_STAGE = ("review_size", "few_shot_range", "test_range")
_CHECKPOINTS = frozenset(
    {
        "generation.review_size",
        "validation.few_shot_range",
        "validation.test_range",
        "validation.required_accuracy",
    }
)
READING = 1
"""Part of the identity: to be raised when other data would be made of the same answers (cleaning, reading verdicts)."""


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
