"""What a run of `generate` would do: a pure function of a config, the source data and a few options."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

from pipeline import prompts
from pipeline.chats.chat import ChatRequest, Message
from pipeline.generation.identity import experiment_identity, semantic_name
from pipeline.prompts import Template, TemplateError
from pipeline.sources.records import Source
from pipeline.specs import GenerationConfig, ModelSpec
from pipeline.two_stage import TWO_STAGE, numbers, positions
from tracker.configs import Document
from tracker.errors import ConfigError, Problem
from tracker.fingerprint import Identity, Json

SAMPLING = ("temperature", "top_p", "max_tokens", "frequency_penalty", "presence_penalty", "seed", "stop")


@dataclass(frozen=True)
class Plan:
    """One experiment, planned: its identity, its name, and every request it can make."""

    config: GenerationConfig
    source: Source
    rephrase: Template
    judge: Template | None
    record_limit: int | None = None
    draw: int = 0
    rephrase_rest: Template | None = None

    @cached_property
    def identity(self) -> Identity:
        return experiment_identity(
            self.config,
            dataset=self.source.name,
            source_digest=self.source.digest,
            record_limit=self.record_limit,
            draw=self.draw,
        )

    @property
    def identity_parts(self) -> dict[str, Json]:
        """What the fingerprint is made of, as the record has it."""
        parts: dict[str, Json] = json.loads(self.identity.canonical)["identity"]
        return parts

    @property
    def semantic_name(self) -> str:
        return semantic_name(self.config, record_limit=self.record_limit, draw=self.draw)

    @property
    def n_records(self) -> int:
        return len(self.source.lines) if self.record_limit is None else min(self.record_limit, len(self.source.lines))

    @property
    def is_two_stage(self) -> bool:
        return self.config.generation.strategy == TWO_STAGE

    @property
    def field(self) -> str:
        return self.config.generation.field_to_rephrase

    def original(self, position: int) -> str:
        """The text that is to be rephrased."""
        return str(self.source.records[position][self.field])

    def rephrase_request(self, position: int) -> ChatRequest:
        """The request for one record. Raises TemplateError."""
        record = self.source.records[position]
        about = {"task": "rephrase", "text": self.original(position)}
        template = self.rephrase
        if self.rephrase_rest is not None and position >= self.config.generation.review_size:
            template = self.rephrase_rest
        return chat_request(self.config.generation, template.render(record), self.draw, about)

    def judge_request(self, position: int, rephrased: str, *, again: bool = False) -> ChatRequest:
        """The judge's request for one rephrased record; ``again`` is another draw of it. Raises TemplateError."""
        assert self.judge is not None
        assert self.config.validation is not None
        fields = prompts.judge_fields(self.source.records[position], self.field, rephrased)
        about = {"task": "judge", "original": self.original(position), "rephrased": rephrased}
        return chat_request(self.config.validation, self.judge.render(fields), 2 * self.draw + again, about)

    def taught(self, rephrase: Sequence[Json], judge: Sequence[Json]) -> Plan:
        """The plan with few-shot examples that people approved: for the records after the review, and for the judge."""
        assert self.config.validation is not None
        generation, validation = self.config.generation, self.config.validation
        return replace(
            self,
            rephrase_rest=prompts.parse(generation.rephrase_prompt, fewshot=prompts.format_examples(rephrase)),
            judge=prompts.parse(validation.validation_prompt, fewshot=prompts.format_examples(judge)),
        )

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and probably not meant."""
        found = list(self.source.warnings)
        found += [f"No {split}: the experiment will have no such split." for split in self.source.missing]
        found += self._unused_examples("generation", self.rephrase)
        if self.field not in self.rephrase.names:
            found.append(f"The rephrase prompt does not contain {{{self.field}}}: the model will not see that text.")
        return (*found, *self.judge_warnings)

    @cached_property
    def judge_warnings(self) -> tuple[str, ...]:
        """What is allowed of the judge and probably not meant."""
        if self.judge is None:
            return ()
        found = self._unused_examples("validation", self.judge)
        for prefix, blindly in (("original", "without what it was made of"), ("rephrased", "blindly")):
            if f"{prefix}_{self.field}" not in self.judge.names:
                missing = f"{{{prefix}_{self.field}}}"
                found.append(f"The validation prompt does not contain {missing}: the judge will judge {blindly}.")
        return tuple(found)

    def _unused_examples(self, section: str, template: Template) -> list[str]:
        name = prompts.FEWSHOT[section]
        if template.uses_fewshot:
            return []
        if getattr(self.config, section).few_shot_examples:
            return [f"{section}.few_shot_examples are not used: the prompt has no {{{{{name}}}}}."]
        taught = f"What people approve teaches {section} nothing: its prompt has no {{{{{name}}}}}."
        return [taught] if self.is_two_stage else []


def make_plan(
    config: GenerationConfig, document: Document, source: Source, *, record_limit: int | None = None, draw: int = 0
) -> Plan:
    """The plan for a resolved config. Raises ConfigError where a prompt does not fit the records."""
    problems: list[Problem] = []
    known = dict.fromkeys(name for record in source.records for name in record)
    rephrase = _template(config.generation, ("generation", "rephrase_prompt"), known, document, problems)
    judge = None
    if config.validation is not None:
        judged = [f"{prefix}_{name}" for prefix in ("original", "rephrased") for name in known]
        judge = _template(config.validation, ("validation", "validation_prompt"), judged, document, problems)
    if problems:
        raise ConfigError(f"{document.source} has a prompt that cannot be used.", problems)
    assert rephrase is not None
    if record_limit is not None and record_limit >= len(source.lines):
        # A trial of all records is no trial: it is the data set itself.
        record_limit = None
    plan = Plan(config, source, rephrase, judge, record_limit, draw)
    _check_ranges(plan, document)
    _render_all(plan, document)
    return plan


def _template(
    model: ModelSpec, key: tuple[str, str], known: Iterable[str], document: Document, problems: list[Problem]
) -> Template | None:
    where, name = document.where(key), ".".join(key)
    try:
        template = prompts.parse(getattr(model, key[1]), fewshot=prompts.format_examples(model.few_shot_examples))
    except TemplateError as error:
        problems.append(Problem(where, f"`{name}`, {error}"))
        return None
    fields = list(known)
    unknown = sorted(template.names - set(fields))
    problems += [Problem(where, f"`{name}` uses {{{field}}}; fields here: {', '.join(fields)}") for field in unknown]
    return template


def _check_ranges(plan: Plan, document: Document) -> None:
    """A checkpoint of samples that are not there could never be passed; a judge is not tested on what it learned."""
    judge = plan.config.validation
    if not plan.is_two_stage or judge is None:
        return
    ranges = {
        ("generation", "review_size"): range(plan.config.generation.review_size),
        ("validation", "few_shot_range"): positions(judge.few_shot_range),
        ("validation", "test_range"): positions(judge.test_range),
    }
    words = {key: f"`{'.'.join(key)}` (samples {numbers(found)})" for key, found in ranges.items()}
    problems = [
        Problem(document.where(key), f"{words[key]} goes beyond the data: there are {plan.n_records:,} records")
        for key, found in ranges.items()
        if found.stop > plan.n_records
    ]
    problems += [
        Problem(document.where(second), f"{words[first]} and {words[second]} share samples: none can serve both ends")
        for first, second in combinations(ranges, 2)
        if ranges[first].start < ranges[second].stop and ranges[second].start < ranges[first].stop
    ]
    if problems:
        raise ConfigError(f"{document.source} has checkpoints that cannot be.", problems, hint=_fitting(plan.n_records))


def _fitting(n_records: int) -> str:
    """Ranges in the usual proportions that fit the data, as a hint."""
    part = min(20, n_records // 5)
    if part == 0:
        return "Strategy two_stage needs at least 5 records: some to review, some to teach the judge, some to test it."
    ends = f"few_shot_range: {part + 1}-{2 * part}, test_range: {2 * part + 1}-{4 * part}"
    return f"For example generation.review_size: {part}, and in validation {ends}."


def _render_all(plan: Plan, document: Document) -> None:
    for position in range(plan.n_records):
        key = ("generation", "rephrase_prompt")
        try:
            plan.rephrase.render(plan.source.records[position])
            if plan.judge is not None:
                key = ("validation", "validation_prompt")
                record = plan.source.records[position]
                plan.judge.render(prompts.judge_fields(record, plan.field, plan.original(position)))
        except TemplateError as error:
            where = document.where(key)
            what = f"`{'.'.join(key)}`, record {position + 1} of {plan.source.origin}: {error}"
            raise ConfigError(
                f"{document.source} has a prompt that fits not every record.", [Problem(where, what)]
            ) from error


def chat_request(model: ModelSpec, prompt: str, sample_index: int, about: Mapping[str, str]) -> ChatRequest:
    """The request that sends ``prompt`` to a resolved model."""
    system = (Message("system", model.system_prompt),) if model.system_prompt else ()
    settings: dict[str, Json] = {name: getattr(model, name) for name in SAMPLING}
    return ChatRequest(
        endpoint=str(model.endpoint),
        model=model.model,
        messages=(*system, Message("user", prompt)),
        settings=settings,
        sample_index=sample_index,
        about=about,
    )


def clean(answer: str, original: str) -> str:
    """The rephrased text in an answer: blanks and one pair of quotes around it gone, unless the original had them."""
    text = answer.strip()
    for left, right in (('"', '"'), ("\u201c", "\u201d")):
        inner = text[1:-1]
        if (
            text[:1] == left
            and text[-1:] == right
            and inner.strip()
            and left not in inner
            and not original.startswith(left)
        ):
            return inner.strip()
    return text
