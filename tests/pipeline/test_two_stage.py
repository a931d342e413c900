"""Which step an experiment is at, what is learned from people, and what a judge and its test set are told apart by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.two_stage import (
    ANNOTATION,
    DISPUTED,
    NOT_THE_SAME,
    REVIEW,
    SAME,
    SKIPPED,
    STEPS,
    Ranges,
    State,
    Step,
    judge_key,
    load,
    numbers,
    positions,
    ranges_of,
)
from tests.records import add_batch, add_experiment, add_source
from tracker.errors import WrongStep
from tracker.listings import listings
from tracker.paths import Workspace
from tracker.record.catalogue import Row, reading
from tracker.record.database import open_database

RANGES = Ranges(range(2), range(2, 4), range(5, 8))
N_RECORDS = 10
JUDGE = {"model": "gpt-4o", "validation_prompt": "Same?", "few_shot_examples": "", "few_shot_range": "3-4"}
IDENTITY = {"validation": JUDGE, "generation": {"field_to_rephrase": "premise"}, "reading": 1, "draw": 0}
SETTINGS: dict[str, Any] = {"generation.few_shot_examples": [], "validation.few_shot_examples": []}
ANNOTATED = [2, 3, 5, 6, 7]


def sample(position: int, status: str = "undecided") -> Row:
    rephrased = None if status == "failed" else f"R{position}"
    return {"position": position, "original": f"O{position}", "rephrased": rephrased, "status": status}


def verdicts(said: Mapping[int, str]) -> dict[int, Row]:
    return {at: {"position": at, "verdict": verdict} for at, verdict in said.items()}


def state(
    there: Sequence[int] = (),
    said: Mapping[int, str] | None = None,
    closed: Mapping[str, list[int]] | None = None,
    *,
    failed: Sequence[int] = (),
    status: str = "unfinished",
    **more: Any,
) -> State:
    """An experiment of ten records with those samples rephrased, those verdicts, those checkpoints closed."""
    found = {at: sample(at, "failed" if at in failed else "undecided") for at in (*there, *failed)}
    return State(
        experiment={"dataset": "Copa", "name": "x", "status": status, "n_records": N_RECORDS, "source_digest": "d"},
        settings=SETTINGS,
        identity=IDENTITY,
        ranges=RANGES,
        samples={at: row for at, row in found.items() if at < 8},
        decisions=verdicts(said or {}),
        closed=closed or {},
        tests=(),
        required_accuracy=0.75,
        n_rephrased=len(there),
        n_failed=len(failed),
        **more,
    )


ALL = range(N_RECORDS)
APPROVED = {0: SAME, 1: NOT_THE_SAME}
SAID = APPROVED | dict.fromkeys(ANNOTATED, SAME)


def having_test(found: State, accuracy: float, **changes: str) -> State:
    """The state after a test of its own judge, or of another one, on its test set, or another one."""
    test = {"judge_key": found.judge_key, "test_set_key": found.test_set_key, "accuracy": accuracy, **changes}
    return replace(found, tests=[*found.tests, test])


WAITING = state(ALL, SAID, {REVIEW: [0]})


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (state(), Step.REPHRASE_FIRST),
        (state([0]), Step.REPHRASE_FIRST),
        (state([0], failed=[1]), Step.REPHRASE_FIRST),
        (state([0], failed=[1], accept_failures=True), Step.REVIEW),
        (state([0], {0: SAME}, failed=[1], accept_failures=True), Step.REPHRASE_REST),
        (state([0, 1]), Step.REVIEW),
        (state([0, 1], {0: SAME}), Step.REVIEW),
        (state([0, 1], {0: SAME, 1: DISPUTED}), Step.REVIEW),
        (state([0, 1], APPROVED), Step.REPHRASE_REST),
        (state([0, 1], {0: SKIPPED, 1: SKIPPED}), Step.REPHRASE_REST),
        (state([0, 1], APPROVED, {REVIEW: [0]}), Step.REPHRASE_REST),
        (state(range(9), SAID, {REVIEW: [0]}), Step.REPHRASE_REST),
        (state(range(9), SAID, {REVIEW: [0]}, failed=[9]), Step.REPHRASE_REST),
        (state(range(9), SAID, {REVIEW: [0]}, failed=[9], accept_failures=True), Step.JUDGE_TEST),
        (state(ALL, APPROVED, {REVIEW: [0]}), Step.ANNOTATE),
        (state(ALL, SAID | {3: DISPUTED}, {REVIEW: [0]}), Step.ANNOTATE),
        (state(ALL, {at: said for at, said in SAID.items() if at != 7}, {REVIEW: [0]}), Step.ANNOTATE),
        (WAITING, Step.JUDGE_TEST),
        (state(ALL, SAID | dict.fromkeys(ANNOTATED, SKIPPED), {REVIEW: [0]}), Step.JUDGE_TEST),
        (having_test(WAITING, 0.74), Step.JUDGE_TEST),
        (having_test(WAITING, 0.75), Step.VALIDATE),
        (having_test(WAITING, 0.75 - 1e-12), Step.VALIDATE),
        (having_test(WAITING, 1.0, judge_key="another"), Step.JUDGE_TEST),
        (having_test(WAITING, 1.0, test_set_key="another"), Step.JUDGE_TEST),
        (having_test(having_test(WAITING, 1.0), 0.5), Step.JUDGE_TEST),
        (having_test(having_test(WAITING, 0.5), 1.0), Step.VALIDATE),
        (state(ALL, SAID, {REVIEW: [0], ANNOTATION: [2]}), Step.VALIDATE),
        (state(ALL, SAID, {REVIEW: [0], ANNOTATION: [2]}, status="partial"), Step.VALIDATE),
        (state(ALL, SAID, {REVIEW: [0], ANNOTATION: [2]}, status="partial", accept_failures=True), Step.COMPLETE),
        (state(ALL, SAID, {REVIEW: [0], ANNOTATION: [2]}, status="complete"), Step.COMPLETE),
    ],
)
def test_the_step_of(found: State, step: Step) -> None:
    assert found.step() is step


@st.composite
def states(draw: st.DrawFn) -> State:
    """Any state that the steps can leave behind."""
    n_there = draw(st.integers(0, N_RECORDS))
    failed = draw(st.sets(st.sampled_from(range(n_there)))) if n_there else set()
    there = [at for at in range(n_there) if at not in failed]
    people = st.sampled_from([SAME, NOT_THE_SAME, SKIPPED, DISPUTED])
    said = draw(st.dictionaries(st.sampled_from([0, 1, *ANNOTATED]), people))
    examples = {REVIEW: [at for at in there if at < 1], ANNOTATION: [at for at in there if at == 3]}
    closed = {name: examples[name] for name in draw(st.sampled_from([(), (REVIEW,), (REVIEW, ANNOTATION)]))}
    accept = draw(st.booleans())
    found = state(there, said, closed, failed=sorted(failed), accept_failures=accept)
    return having_test(found, draw(st.sampled_from([0.5, 1.0]))) if draw(st.booleans()) else found


def has_run(found: State, until: int) -> bool:
    """Whether the first ``until`` records were rephrased, or failed for good where that is accepted."""
    return found.n_rephrased + (found.n_failed if found.accept_failures else 0) >= until


def answered(found: State, among: Sequence[int]) -> bool:
    """Whether people have said something that stands about each of those that can be looked at."""
    seen = [at for at in among if at in found.samples and found.samples[at]["status"] != "failed"]
    return all(at in found.decisions and found.decisions[at]["verdict"] != DISPUTED for at in seen)


@given(states())
def test_nobody_is_asked_too_early(found: State) -> None:
    step = found.step()
    is_closed = [REVIEW in found.closed, ANNOTATION in found.closed]
    if not any(is_closed):
        assert step in {Step.REPHRASE_FIRST, Step.REVIEW, Step.REPHRASE_REST}
    if step in {Step.REVIEW, Step.REPHRASE_REST} and not is_closed[0]:
        assert all(at in found.samples for at in RANGES.review)
        assert answered(found, RANGES.review) is (step is Step.REPHRASE_REST)
    if step in {Step.ANNOTATE, Step.JUDGE_TEST}:
        assert has_run(found, N_RECORDS)
        assert answered(found, ANNOTATED) is (step is Step.JUDGE_TEST)
    if step is Step.VALIDATE and not is_closed[1]:
        assert has_run(found, N_RECORDS)
        assert answered(found, ANNOTATED)
        assert found.judge_passed
    assert step is not Step.COMPLETE


@given(states(), st.sampled_from([0, 1, *ANNOTATED]), st.sampled_from([SAME, NOT_THE_SAME, SKIPPED]))
def test_an_answer_never_leads_back_to_an_earlier_step_but_to_the_judge_test(
    found: State, at: int, verdict: str
) -> None:
    after = replace(found, decisions={**found.decisions, **verdicts({at: verdict})})
    before, now = STEPS.index(found.step()), STEPS.index(after.step())
    # Another verdict in the test set, or another example, is another test.
    assert now >= before or (found.step(), after.step()) == (Step.VALIDATE, Step.JUDGE_TEST)


@given(states())
def test_only_what_stands_is_learned(found: State) -> None:
    for checkpoint, among in ((REVIEW, RANGES.review), (ANNOTATION, RANGES.few_shot)):
        learned = found.learned(checkpoint)
        if checkpoint in found.closed:
            assert learned == found.closed[checkpoint]
            continue
        same = {at for at, row in found.decisions.items() if row["verdict"] == SAME}
        assert learned == [at for at in among if at in same and at in found.samples and at in found.there(checkpoint)]
    assert {*found.test_set.values()} <= {SAME, NOT_THE_SAME}
    assert set(found.test_set) <= set(RANGES.test)


def test_examples_are_the_configured_ones_and_then_the_learned_in_file_order() -> None:
    said = {1: SAME, 0: SAME, 3: SAME, 2: NOT_THE_SAME, 5: SAME}
    settings = {"generation.few_shot_examples": ["one"], "validation.few_shot_examples": [{"original": "o"}]}
    found = replace(state(ALL, said, {REVIEW: [0, 1]}), settings=settings)
    assert found.rephrase_examples == [
        "one", {"original": "O0", "rephrased": "R0"}, {"original": "O1", "rephrased": "R1"},
    ]  # fmt: skip
    assert found.judge_examples == [{"original": "o"}, {"original": "O3", "rephrased": "R3", "verdict": "same"}]
    nothing = replace(found, settings=dict.fromkeys(settings, None), decisions={}, closed={})
    assert (nothing.rephrase_examples, nothing.judge_examples) == ([], [])


def test_what_is_closed_stays_as_it_was() -> None:
    found = state(ALL, SAID, {REVIEW: [1], ANNOTATION: [3]})
    assert (found.learned(REVIEW), found.learned(ANNOTATION)) == ([1], [3])


def test_failed_and_missing_samples_cannot_be_looked_at() -> None:
    found = state([0, 2, 5], failed=[1, 6])
    assert (found.there(REVIEW), found.there(ANNOTATION)) == ([0], [2, 5])
    assert (found.open(REVIEW), found.open(ANNOTATION)) == ([0], [2, 5])
    assert state([0, 1], APPROVED).decided([0, 1, 2], NOT_THE_SAME) == [1]


def test_the_test_set_is_told_apart_by_its_texts_and_verdicts_alone() -> None:
    key = WAITING.test_set_key
    assert WAITING.test_set == {5: SAME, 6: SAME, 7: SAME}

    def other(**changes: Any) -> str:
        return replace(WAITING, **changes).test_set_key

    assert other(decisions=verdicts(SAID | {0: NOT_THE_SAME, 2: NOT_THE_SAME, 4: SAME})) == key
    assert other(identity={}, settings={}, required_accuracy=0.1) == key
    for changed in (NOT_THE_SAME, SKIPPED, DISPUTED):
        assert other(decisions=verdicts(SAID | {6: changed})) != key
    for text in ("original", "rephrased"):
        assert other(samples={**WAITING.samples, 6: sample(6) | {text: "another"}}) != key
    assert other(decisions=verdicts(SAID | {6: SKIPPED})) != other(decisions=verdicts(SAID | {7: SKIPPED}))


def test_a_judge_is_told_apart_by_all_that_shapes_its_verdicts() -> None:
    examples = [{"original": "O3", "rephrased": "R3", "verdict": "same"}]
    key = judge_key(JUDGE, examples, IDENTITY)
    assert judge_key(JUDGE | {"few_shot_range": "1-2", "test_range": "8-9"}, examples, IDENTITY) == key
    assert judge_key(JUDGE, examples, {**IDENTITY, "dataset": "another", "record_limit": 3}) == key
    others = [
        judge_key(JUDGE | {"model": "gpt-5"}, examples, IDENTITY),
        judge_key(JUDGE | {"validation_prompt": "Equal?"}, examples, IDENTITY),
        judge_key(JUDGE | {"seed": 1}, examples, IDENTITY),
        judge_key(JUDGE, [], IDENTITY),
        judge_key(JUDGE, [*examples, *examples], IDENTITY),
        judge_key(JUDGE, [dict(reversed(examples[0].items()))], IDENTITY),
        judge_key(JUDGE, examples, {**IDENTITY, "draw": 1}),
        judge_key(JUDGE, examples, {**IDENTITY, "reading": 2}),
        judge_key(JUDGE, examples, {**IDENTITY, "generation": {"field_to_rephrase": "choice1"}}),
    ]
    assert len({key, *others}) == 1 + len(others)


def test_the_newest_test_of_the_own_judge_counts() -> None:
    found = having_test(having_test(having_test(WAITING, 0.1), 0.2), 0.9, judge_key="another")
    test = found.test()
    assert test is not None
    assert test["accuracy"] == 0.2
    assert WAITING.test() is None
    assert replace(found, required_accuracy=0.2).judge_passed
    assert not replace(found, required_accuracy=0.2000001).judge_passed


@given(st.integers(1, 10**9), st.integers(0, 10**6))
def test_numbers_are_positions_that_begin_with_one(first: int, more: int) -> None:
    text = f"{first}-{first + more}"
    found = positions(text)
    assert (found.start, len(found), numbers(found)) == (first - 1, more + 1, text)


def test_ranges_of_settings() -> None:
    found = ranges_of(
        {"generation.review_size": 20, "validation.few_shot_range": "41-80", "validation.test_range": "21-40"}
    )
    assert found == Ranges(range(20), range(40, 80), range(20, 40))
    assert found.of(REVIEW) == list(range(20))
    assert found.of(ANNOTATION) == list(range(20, 80))


def test_an_experiment_without_steps_has_no_state(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        source, batch = add_source(connection, "Copa", ['{"premise": "It rained."}']), add_batch(connection, "first")
        add_experiment(connection, "direct", batch=batch, source=source)
    with reading(workspace) as reader:
        row = listings.experiment(reader, "Copa/direct", workspace)
        with pytest.raises(WrongStep, match="made with strategy direct_all: nobody reviews or annotates it"):
            load(reader, row)
