"""What agents are asked: every word of it, and that what an agent is told decides alone whether it is asked again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.chats.chat import ChatRequest
from pipeline.perspectives.job import TEST_PERSPECTIVES
from pipeline.perspectives.plan import Agent, Plan, shown
from tests.perspectives import PERSPECTIVES, Row, agent, document, pairs, plan

SENT = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 50, "frequency_penalty": 0.0, "presence_penalty": 0.0}
TEXT = "Der Mann in Haus 001 fällt."


def told(request: ChatRequest) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in request.messages]


def perspectives(rows: Sequence[Row], **options: Any) -> Plan:
    return plan(given=document(agent_perspectives=list(rows)), **options)


def keys(found: Plan, at: Iterable[int] = (0,)) -> dict[str, list[str]]:
    """The keys of each condition's requests over some inputs, as if all took the same notes."""
    positions = list(at)
    by_condition = {}
    for each in found.agents:
        asked = [found.request(position, each, each.reading and "The notes.") for position in positions]
        asked += [found.reading_request(position, each) for position in positions if each.reading is not None]
        by_condition[each.condition] = [request.key for request in asked]
    return by_condition


def test_a_response_is_asked_for_with_the_strategy_and_the_input() -> None:
    found = plan()
    request = found.request(1, found.agents[0])
    assert told(request) == [("user", f"Translate this sentence.\n\n{TEXT}")]
    assert (request.endpoint, request.model, request.sample_index) == ("https://api.openai.com/v1", "gpt-4o", 0)
    assert {name: value for name, value in request.settings.items() if value is not None} == SENT
    assert request.about == {"task": "respond", "text": TEXT, "condition": "Original"}
    assert request.key == "45ca804160697fbd6127c9d550f0761a"


def test_notes_are_asked_for_first_and_stand_beside_the_input() -> None:
    found = plan("model_config.system_prompt=Be brief.")
    noted = found.agents[1]
    reading = found.reading_request(1, noted)
    assert told(reading) == [("system", "Be brief."), ("user", f"Note what matters.\n\n{TEXT}")]
    assert reading.about == {"task": "read", "text": TEXT}
    response = found.request(1, noted, "A man\n\nfalls {down}.")
    assert told(response) == [
        ("system", "Be brief."),
        ("user", f"Translate it with your notes.\n\n{TEXT}\n\nYour notes:\nA man\n\nfalls {{down}}."),
    ]
    assert response.sample_index == 0
    assert shown([reading]) == f"[system]\nBe brief.\n\n[user]\nNote what matters.\n\n{TEXT}"


def test_what_reads_like_a_placeholder_is_sent_as_it_stands() -> None:
    found = perspectives([agent("A", "Keep {input} and {{x}} and %s.")], inputs=[{"input": "{strategy} {0}"}])
    assert told(found.request(0, found.agents[0])) == [("user", "Keep {input} and {{x}} and %s.\n\n{strategy} {0}")]


def test_all_are_asked_input_by_input_in_the_order_of_the_config() -> None:
    found = plan(inputs=pairs(2))
    assert [(at, each.condition) for at, each in found.items()] == [
        (at, name) for at in (0, 1) for name in ("Original", "Noted", "Low Effort")
    ]
    assert found.n_responses == 6
    assert [each.position for each in found.agents] == [0, 1, 2]


def test_a_reference_comes_first_and_is_not_asked() -> None:
    found = plan("add_references=true")
    assert [each.position for each in found.agents] == [1, 2, 3]
    assert [(row["condition"], row["is_reference"]) for row in found.perspectives] == [
        ("Reference", True), ("Original", False), ("Noted", False), ("Low Effort", False),
    ]  # fmt: skip
    assert found.perspectives[0] == {
        "condition": "Reference", "is_reference": True, "reading": None, "strategy": None,
    }  # fmt: skip
    assert found.n_responses == 9
    assert keys(found) == keys(plan())


PERSPECTIVE = st.builds(agent, st.uuids().map(str), st.sampled_from(["a", "b", "c"]), st.sampled_from([None, "r", "s"]))


@given(st.lists(PERSPECTIVE, min_size=1, max_size=7), st.data())
def test_adding_moving_and_renaming_others_asks_nobody_again(rows: list[Row], data: st.DataObject) -> None:
    # Of those who are told the very same, the first stays the first: who of them it is, nobody is told.
    more = data.draw(st.lists(PERSPECTIVE, max_size=3))
    changed = [{**row, "condition": f"new {row['condition']}"} for row in data.draw(st.permutations([*rows, *more]))]
    before, after = keys(perspectives(rows)), keys(perspectives(changed))
    asked = {key for each in before.values() for key in each}
    asked_now = {key for each in after.values() for key in each}
    assert asked <= asked_now
    assert (asked == asked_now) == (not more)


@given(st.lists(PERSPECTIVE, min_size=2, max_size=7), st.data())
def test_removing_one_asks_for_nothing_new(rows: list[Row], data: st.DataObject) -> None:
    rest = list(rows)
    gone = rest.pop(data.draw(st.integers(0, len(rows) - 1)))
    before, after = keys(perspectives(rows)), keys(perspectives(rest))
    assert {key for each in after.values() for key in each} <= {key for each in before.values() for key in each}
    alike = [row for row in rows if (row["reading"], row["strategy"]) == (gone["reading"], gone["strategy"])]
    for row in rest:
        if row not in alike:
            assert after[row["condition"]] == before[row["condition"]]


@given(st.lists(PERSPECTIVE, min_size=1, max_size=7))
def test_no_two_agents_share_a_request_whatever_they_are_told(rows: list[Row]) -> None:
    readers = [row for row in rows if row["reading"] is not None]
    found = perspectives(rows)
    notes = {found.reading_request(0, each).key for each in found.agents if each.reading is not None}
    assert len(notes) == len(readers)
    responses = {found.request(0, each, each.reading and f"Notes of {each.condition}").key for each in found.agents}
    assert len(responses) == len(rows)


def test_who_is_told_the_same_answers_for_itself_even_with_the_same_notes() -> None:
    found = perspectives([agent("A", "Do.", "Read."), agent("B", "Do.", "Read."), agent("C", "Do."), agent("D", "Do.")])
    assert [each.seat for each in found.agents] == [0, 1, 0, 1]
    flat = [key for each in keys(found).values() for key in each]
    assert len(set(flat)) == len(flat) == 6


def test_every_draw_is_asked_anew_for_all() -> None:
    by_draw = [{key for each in keys(plan(draw=draw)).values() for key in each} for draw in (0, 1, 2, 999)]
    assert len(set().union(*by_draw)) == 4 * 4
    twins = [agent("A", "Do.", "Read."), agent("B", "Do.", "Read.")]
    drawn = [{key for each in keys(perspectives(twins, draw=draw)).values() for key in each} for draw in (0, 1, 2)]
    assert len(set().union(*drawn)) == 3 * 4
    assert len({plan(draw=draw).identity.fingerprint for draw in range(3)}) == 3


@pytest.mark.parametrize(
    "assignment",
    [
        "task_type=other",
        "task_description=other",
        "add_references=true",
        "seed=7",
        "data_config.input_data_path=other.json",
        "data_config.sample_size=2",
        "model_config.timeout=7",
        "model_config.api_key=sk-other",
        "model_config.price={input_per_mtok: 1, output_per_mtok: 1}",
    ],
)
def test_what_no_agent_sees_changes_no_request(assignment: str) -> None:
    assert keys(plan(assignment)) == keys(plan())


@pytest.mark.parametrize(
    "assignment",
    [
        "model_config.model_name=gpt-4.1",
        "model_config.temperature=0.8",
        "model_config.max_tokens=51",
        "model_config.seed=1",
        "model_config.system_prompt=Be brief.",
        "model_config.base_url=http://127.0.0.1:1/v1",
    ],
)
def test_what_shapes_an_answer_changes_every_request(assignment: str) -> None:
    before, after = keys(plan()), keys(plan(assignment))
    assert not {key for each in before.values() for key in each} & {key for each in after.values() for key in each}


def test_a_trial_asks_what_the_whole_asks() -> None:
    rows = [agent(f"Agent {number}", reading="Read." if number % 2 else None) for number in range(6)]
    whole, trial = perspectives(rows, inputs=pairs(12)), perspectives(rows[:TEST_PERSPECTIVES], inputs=pairs(10))
    first = keys(whole, range(10))
    assert keys(trial, range(10)) == {name: first[name] for name in list(first)[:TEST_PERSPECTIVES]}


def test_more_inputs_ask_about_those_that_are_new() -> None:
    some, more = plan(inputs=pairs(2)), plan(inputs=[*pairs(3)[2:], *pairs(2)])
    assert keys(some, (0, 1)) == keys(more, (1, 2))
    assert some.identity.digest != more.identity.digest


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "translation_Llama-3.3-70B-Instruct-Turbo_20241220_153000"),
        ("gpt-4o", "translation_gpt-4o_20241220_153000"),
        ("ft:gpt-4o:org::id", "translation_ft-gpt-4o-org-id_20241220_153000"),
        ("a b\\c", "translation_a-b-c_20241220_153000"),
    ],
)
def test_a_file_is_called_by_task_model_and_moment(model: str, name: str) -> None:
    moment = datetime(2024, 12, 20, 15, 30, tzinfo=UTC)
    assert plan(f"model_config.model_name='{model}'").name(moment) == name


@example("ä" * 100, "ä" * 80)
@example("x" * 150, "\U0001f600" * 50)
@given(st.text(min_size=1, max_size=150), st.text("aä語\U0001f600", min_size=1, max_size=80))
def test_any_model_and_task_make_a_name_that_a_file_can_have(model: str, task_type: str) -> None:
    if len(task_type.encode()) > 200:
        return
    found = plan(given=document(model_config__model_name=model, task_type=task_type))
    name = f"{found.name(datetime(2024, 12, 20, tzinfo=UTC))}_99.json"
    assert "/" not in name
    assert "\0" not in name
    assert len(name.encode()) <= 255


def test_agents_are_as_the_config_has_them() -> None:
    assert plan().agents[1] == Agent(1, "Noted", PERSPECTIVES[1]["reading"], PERSPECTIVES[1]["strategy"], 0)
