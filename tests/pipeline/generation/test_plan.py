"""What a run would ask: requests made of content alone, prompts tried before the first call, answers cleaned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chats.chat import ChatRequest
from pipeline.generation.plan import SAMPLING, clean, make_plan
from pipeline.specs import ModelSpec
from tests.generation import RECORDS, config, plan, source
from tracker.configs import Document
from tracker.errors import ConfigError
from tracker.spec import marks


def problems(root: Path, *assignments: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        plan(root, *assignments, **options)
    return str(caught.value)


def test_a_request_is_made_of_the_record_and_the_settings(tmp_path: Path) -> None:
    found = plan(tmp_path, "generation.system_prompt=Be brief.", "generation.seed=7", "generation.stop=[x]")
    request = found.rephrase_request(1)
    assert request == ChatRequest(
        endpoint="https://api.openai.com/v1",
        model="gpt-4o",
        messages=request.messages,
        settings={
            "temperature": 0.7, "top_p": 1.0, "max_tokens": 256, "frequency_penalty": 0.0, "presence_penalty": 0.0,
            "seed": 7, "stop": ("x",),
        },
        sample_index=0,
    )  # fmt: skip
    assert [(message.role, message.content) for message in request.messages] == [
        ("system", "Be brief."),
        ("user", "Say it in other words: The man fell."),
    ]
    assert request.key == "e751dbdf4c33b711e19092c0aa9ae062"


def test_a_judge_is_asked_about_both_texts(tmp_path: Path) -> None:
    found = plan(tmp_path)
    request = found.judge_request(1, "A man fell down.")
    assert [message.content for message in request.messages] == ["Do The man fell. and A man fell down. mean the same?"]
    assert request.settings["temperature"] == 0
    assert request.about == {"task": "judge", "original": "The man fell.", "rephrased": "A man fell down."}


def test_every_draw_is_asked_anew(tmp_path: Path) -> None:
    keys = set()
    for draw in range(3):
        found = plan(tmp_path, draw=draw)
        keys.add(found.rephrase_request(0).key)
        keys |= {found.judge_request(0, "x", again=again).key for again in (False, True)}
    assert len(keys) == 9


@pytest.mark.parametrize("assignment", ["concurrency=3", "timeout=9", "max_retries=1", "api_key_env=X", "api_key=sk-1"])
def test_how_it_is_asked_is_not_what_is_asked(tmp_path: Path, assignment: str) -> None:
    before, after = plan(tmp_path), plan(tmp_path, f"generation.{assignment}")
    assert before.rephrase_request(0).key == after.rephrase_request(0).key
    assert before.identity == after.identity


def test_every_setting_of_a_model_is_sent_or_said_to_shape_the_prompt_or_operational() -> None:
    rest = {"model", "provider", "endpoint", "system_prompt", "few_shot_examples"}
    shaping = {name for name, field in ModelSpec.model_fields.items() if not marks(field).get("operational")}
    assert shaping == {*SAMPLING, *rest}


def test_a_limit_takes_the_first_records(tmp_path: Path) -> None:
    assert plan(tmp_path).n_records == 3
    found = plan(tmp_path, record_limit=2)
    assert (found.n_records, found.semantic_name) == (2, "temp07_topp10_gpt4o_first2")
    assert plan(tmp_path, record_limit=99).n_records == 3
    assert found.identity != plan(tmp_path).identity


def test_every_name_that_no_record_has_is_said_with_those_that_there_are(tmp_path: Path) -> None:
    found = problems(
        tmp_path, "generation.rephrase_prompt='{mood} {premise} {time}'", "validation.validation_prompt='{premise}'"
    )
    known = ", ".join(RECORDS[0])
    judged = ", ".join([f"original_{name}" for name in RECORDS[0]] + [f"rephrased_{name}" for name in RECORDS[0]])
    assert found.splitlines() == [
        "f has a prompt that cannot be used.",
        f"  f: `generation.rephrase_prompt` uses {{mood}}; fields here: {known}",
        f"  f: `generation.rephrase_prompt` uses {{time}}; fields here: {known}",
        f"  f: `validation.validation_prompt` uses {{premise}}; fields here: {judged}",
    ]


def test_a_prompt_that_could_run_code_is_refused(tmp_path: Path) -> None:
    found = problems(
        tmp_path, "generation.rephrase_prompt='{premise.__class__}'", "validation.validation_prompt='{x()}'"
    )
    assert "`generation.rephrase_prompt`, line 1, column 1: {premise.__class__} holds attribute access" in found
    assert "`validation.validation_prompt`, line 1, column 1: {x()} holds a call" in found


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("generation.rephrase_prompt='{[1][label]} {premise}'", "`generation.rephrase_prompt`, record 2 of"),
        ("validation.validation_prompt='{[1][original_label]}'", "`validation.validation_prompt`, record 2 of"),
        ("generation.rephrase_prompt='{extra} {premise}'", "`generation.rephrase_prompt`, record 1 of"),
    ],
)
def test_a_prompt_that_fits_not_every_record_is_found_before_the_first_call(
    tmp_path: Path, assignment: str, said: str
) -> None:
    records = [*RECORDS, {**RECORDS[0], "idx": 9, "extra": "only here"}]
    assert said in problems(tmp_path, assignment, records=records)


def test_a_limit_looks_only_at_its_records(tmp_path: Path) -> None:
    assignment = "generation.rephrase_prompt='{[1][label]} {premise}'"
    assert plan(tmp_path, assignment, record_limit=1).n_records == 1


def test_without_a_judge_there_is_none(tmp_path: Path) -> None:
    given = config().model_copy(update={"validation": None})
    found = make_plan(given, Document({}, "f"), source(tmp_path))
    assert found.judge is None
    assert found.warnings == ()


def test_what_is_probably_not_meant_is_said(tmp_path: Path) -> None:
    found = plan(
        tmp_path,
        "generation.rephrase_prompt=Say something.",
        "generation.few_shot_examples=[a]",
        "validation.few_shot_examples=[b]",
        "validation.validation_prompt='{{VALIDATION_FEWSHOT}} {rephrased_premise}'",
    )
    assert found.warnings == (
        "generation.few_shot_examples are not used: the prompt has no {{REPHRASE_FEWSHOT}}.",
        "The rephrase prompt does not contain {premise}: the model will not see that text.",
        "The validation prompt does not contain {original_premise}: the judge will judge without what it was made of.",
    )
    assert found.judge_warnings == found.warnings[2:]
    assert found.judge_request(0, "x").messages[-1].content == "b x"
    (tmp_path / "Copa/copa_test.jsonl").unlink()
    assert plan(tmp_path).warnings == ()


@pytest.mark.parametrize(
    ("answer", "original", "text"),
    [
        (" A man fell.\n", "x", "A man fell."),
        ('"A man fell."', "x", "A man fell."),
        ("\u201cA man fell.\u201d", "x", "A man fell."),
        ('" A man fell. "', "x", "A man fell."),
        ('"A man fell."', '"The man fell."', '"A man fell."'),
        ('"Stop!" he said, and "Go!"', "x", '"Stop!" he said, and "Go!"'),
        ('"A man fell.', "x", '"A man fell.'),
        ('""', "x", '""'),
        ('" "', "x", '" "'),
        ('"', "x", '"'),
        ("'A man fell.'", "x", "'A man fell.'"),
        ("", "x", ""),
    ],
)
def test_an_answer_loses_its_blanks_and_one_pair_of_quotes(answer: str, original: str, text: str) -> None:
    assert clean(answer, original) == text


@given(st.text(), st.text())
def test_a_cleaned_answer_is_part_of_the_answer_and_never_nothing(answer: str, original: str) -> None:
    found = clean(answer, original)
    assert found in answer
    assert bool(found) == bool(answer.strip())
    assert found == found.strip()
