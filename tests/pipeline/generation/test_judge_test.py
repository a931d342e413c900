"""The judge tried on what people decided: what it is asked, what counts as agreement, and when it is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.generation.judge_test import judge_test
from pipeline.generation.tested import confusion, judge_failed
from pipeline.two_stage import ANNOTATION, NOT_THE_SAME, REVIEW, SAME, Step
from tests.llm_server import Server, running_server
from tests.two_stage import (
    AGREEING,
    GENERATE,
    N_RECORDS,
    OFFLINE,
    SERVED,
    annotated,
    decide,
    drafted,
    generated,
    prompts,
    recorded,
    reviewed,
    runs,
    staged,
    state_of,
)
from tests.workspaces import UNCLEAR, call, config, new_root, rows, train_file, write_config
from tracker.errors import ConfigError, JudgeFailed, MissingKey, PartialResult, WrongStep
from tracker.paths import Workspace

if TYPE_CHECKING:
    # pytest would take it for tests.
    from pipeline.generation.tested import Tested

KEYS = {"OPENAI_API_KEY": "test-key"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A judge that says neither of sample 12."""
    with running_server(recorded=recorded(tmp_path, s12=UNCLEAR), log=tmp_path / "bodies.jsonl") as found:
        yield found


def ready(tmp_path: Path, server: Server | None = None, **changes: Any) -> Workspace:
    """A workspace whose judge is to be tested; the person agrees with the recorded judge on all but 10 and 12."""
    place = drafted(tmp_path, None if server is None else server.base_url, **changes)
    reference = OFFLINE if server is None else SERVED
    annotated(reviewed(place, reference), reference, AGREEING | {10})
    return Workspace(place, environ=KEYS)


def try_judge(workspace: Workspace, *overrides: str, ref: str = SERVED, **more: Any) -> Tested:
    return judge_test(workspace, ref, overrides=overrides, **more)


def received(server: Server) -> int:
    return int(server.stats()["received"])


def moved_to(other: Server) -> tuple[str, ...]:
    """What says that the judge's service has another address now: it is the same judge."""
    return f"validation.base_url={other.base_url}", "validation.endpoint=test-server"


def test_agreement_is_counted_and_disagreements_are_told(tmp_path: Path, server: Server) -> None:
    workspace = ready(tmp_path, server)
    tested = try_judge(workspace)
    assert (tested.n_tested, tested.n_correct, tested.accuracy, tested.passed) == (8, 6, 0.75, False)
    assert (tested.reference, tested.model, tested.required_accuracy) == (SERVED, "gpt-4o", 0.95)
    assert (tested.is_own, tested.n_examples, tested.step) == (True, 4, Step.JUDGE_TEST)
    assert tested.confusion == {
        "same": {"same": 4, "not_the_same": 0, "unclear": 1},
        "not_the_same": {"same": 1, "not_the_same": 2, "unclear": 0},
    }
    fields = {"choice1": "He slipped.", "choice2": "He slept.", "question": "cause"}
    said = {"annotator": "alice", "settles": False, "note": ""}
    assert tested.disagreements == [
        {
            "sample": 10, "original": "The man in house 009 fell.", "rephrased": "In house 009, the man had a fall.",
            "expected": NOT_THE_SAME, "verdict": SAME, "fields": {**fields, "idx": 9, "label": 1},
            "decisions": [{**said, "verdict": NOT_THE_SAME}], "answer": "Same.",
        },
        {
            "sample": 12, "original": "The man in house 011 fell.", "rephrased": "In house 011, the man had a fall.",
            "expected": SAME, "verdict": "unclear", "fields": {**fields, "idx": 11, "label": 1},
            "decisions": [{**said, "verdict": SAME}], "answer": UNCLEAR,
        },
    ]  # fmt: skip
    # What says neither is asked for once more.
    assert (received(server), tested.run["n_calls"]) == (N_RECORDS + 9, 9)
    asked = [prompt.about for prompt in prompts(tmp_path / "bodies.jsonl") if prompt.judging]
    assert sorted(asked) == [9, 10, 11, 12, 12, 13, 14, 15, 16]
    with pytest.raises(JudgeFailed, match=r"on 6 of 8 samples \(75\.0%\); 8 are needed \(95\.0%\)\. It may not decide"):
        tested.check()


def test_a_test_changes_nothing_but_what_is_known_of_the_judge(tmp_path: Path, server: Server) -> None:
    workspace = ready(tmp_path, server)
    tables = ("sample", "decision", "checkpoint", "batch_membership")
    of_data = "status, n_records, n_accepted, n_rejected, n_failed, data_digest, completed_at, config, lease_pid"

    def record() -> list[list[tuple[Any, ...]]]:
        experiment = rows(workspace.root, f"SELECT {of_data} FROM shared_experiment")
        return [experiment, *(rows(workspace.root, f"SELECT * FROM {name}") for name in tables)]

    before = record()
    try_judge(workspace)
    assert record() == before
    assert runs(workspace.root)[-1] == ("tested", "judge_test", "complete")
    assert rows(workspace.root, "SELECT n_tested, n_correct, passed FROM judge_test") == [(8, 6, 0)]
    counts = "n_records, n_accepted, n_rejected, n_failed, n_unclear"
    assert rows(workspace.root, f"SELECT {counts} FROM generation_run WHERE outcome = 'tested'") == [(8, 0, 0, 0, 0)]


def test_what_was_tested_before_is_shown_and_not_asked_again(tmp_path: Path, server: Server) -> None:
    workspace = ready(tmp_path, server)
    first = try_judge(workspace)
    kept = [runs(workspace.root), rows(workspace.root, "SELECT * FROM judge_test"), received(server)]
    keyless = Workspace(workspace.root, environ={})
    again = try_judge(keyless)
    (when,) = rows(workspace.root, "SELECT created_at FROM judge_test")[0]
    assert again == dataclasses.replace(first, tested_before=when)
    assert again.run["n_calls"] == 9
    assert try_judge(keyless, "validation.required_accuracy=0.75").passed
    assert try_judge(keyless, "validation.concurrency=1").tested_before == when, "how it is asked is no other judge"
    assert [runs(workspace.root), rows(workspace.root, "SELECT * FROM judge_test"), received(server)] == kept
    assert try_judge(workspace, "validation.seed=1").tested_before is None
    decide(workspace.root, SERVED, ANNOTATION, {10}, samples="9-10")
    third = try_judge(workspace)
    assert (third.tested_before, third.n_correct, third.run["n_cached"]) == (None, 5, 9), "another test set"
    assert len(rows(workspace.root, "SELECT id FROM judge_test")) == 3


def test_what_another_judge_is_warned_of_is_told_before_it_is_asked(tmp_path: Path, server: Server) -> None:
    workspace = ready(tmp_path, server)
    told: list[tuple[str, int]] = []
    before = received(server)

    def tell(warning: str) -> None:
        told.append((warning, received(server) - before))

    try_judge(workspace, "validation.validation_prompt='{{VALIDATION_FEWSHOT}} {original_premise} Same?'", tell=tell)
    blindly = "The validation prompt does not contain {rephrased_premise}: the judge will judge blindly."
    assert told == [(blindly, 0)]
    told.clear()
    try_judge(workspace, "validation.validation_prompt='{rephrased_premise} Same?'", tell=tell)
    assert [warning for warning, _ in told] == [
        "What people approve teaches validation nothing: its prompt has no {{VALIDATION_FEWSHOT}}.",
        "The validation prompt does not contain {original_premise}: the judge will judge without what it was made of.",
    ]
    told.clear()
    try_judge(workspace, tell=tell)
    assert told == []


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("generation.temperature", "not a setting of the judge; those begin with `validation.`"),
        ("validation", "not a setting of the judge"),
        ("experiment.purpose", "not a setting of the judge"),
        ("validation.few_shot_range", "the samples are what people were asked about"),
        (" validation.test_range ", "the samples are what people were asked about"),
    ],
)
def test_only_the_judges_own_settings_can_be_tried(tmp_path: Path, key: str, what: str) -> None:
    workspace = ready(tmp_path)
    for given in ({}, {"config": workspace.root / "copa.yaml"}):
        with pytest.raises(ConfigError) as caught:
            try_judge(workspace, "validation.temperature=0.1", f"{key}=0.5", ref=OFFLINE, **given)
        (problem,) = caught.value.problems
        assert (problem.where, problem.what.startswith(what)) == (f"--set {key.strip()}", True)
    assert ("tested", "judge_test", "complete") not in runs(workspace.root)


@pytest.mark.parametrize(
    ("n_correct", "n_tested", "required", "said"),
    [
        (37, 40, 0.95, "37 of 40 samples (92.5%); 38 are needed (95.0%)."),
        (0, 3, 0.5, "0 of 3 samples (0.0%); 2 are needed (50.0%)."),
        (39, 40, 0.985, "39 of 40 samples (97.5%); 40 are needed (98.5%)."),
    ],
)
def test_how_many_are_needed(n_correct: int, n_tested: int, required: float, said: str) -> None:
    assert said in judge_failed("Copa/x", n_correct, n_tested, required).message


def test_what_would_be_enough_is_what_is_reached() -> None:
    hint = judge_failed("Copa/x", 2, 3, 0.95).hint
    assert hint is not None
    assert hint.endswith("--set validation.required_accuracy=0.666")


def spent(root: Path, table: str = "generation_run") -> tuple[Any, ...]:
    found = rows(root, f"SELECT SUM(prompt_tokens), SUM(completion_tokens), SUM(cost_usd) FROM {table}")
    return tuple(pytest.approx(value) for value in found[0])


def test_what_tests_cost_is_the_experiments_from_then_on(tmp_path: Path, server: Server) -> None:
    price = {"input_per_mtok": 1000, "output_per_mtok": 1000}
    priced = f"validation.price={json.dumps(price)}"
    prices = {
        "generation__price": price,
        "validation__price": price,
        "validation__required_accuracy": 0.7,
        "validation__model": "gpt-4o-mini",
    }
    workspace = ready(tmp_path, server, **prices)
    before = spent(workspace.root)
    assert spent(workspace.root, "shared_experiment") == before
    assert try_judge(workspace).run["prompt_tokens"] > 0
    assert spent(workspace.root, "shared_experiment") == spent(workspace.root) != before
    with running_server(recorded=recorded(tmp_path), poison="Rephrased: In house 010") as broken:
        with pytest.raises(PartialResult):
            try_judge(workspace, *moved_to(broken), priced, "validation.max_retries=0", "validation.seed=2")
        assert received(broken) == 8
    assert spent(workspace.root, "shared_experiment") == spent(workspace.root), "a test that failed cost something too"
    assert try_judge(workspace, "validation.model=gpt-5", priced).model == "gpt-5"
    found = rows(workspace.root, "SELECT outcome, model, status FROM spending ORDER BY generation_run_id")
    assert found[1:] == [
        ("resumed", "gpt-4o", "waiting"), ("tested", "gpt-4o-mini", "complete"), ("tested", "gpt-4o-mini", "partial"),
        ("tested", "gpt-5", "complete"),
    ]  # fmt: skip
    generated(workspace.root)
    of_all = spent(workspace.root)
    assert spent(workspace.root, "shared_experiment") == of_all
    metadata = [path.read_bytes() for path in workspace.root.rglob("*metadata*.json")]
    assert try_judge(workspace, "validation.seed=1").run["prompt_tokens"] > 0
    assert spent(workspace.root) != of_all
    assert spent(workspace.root, "shared_experiment") == of_all, "what is finished stays as it was written down"
    assert call(workspace.root, "view", "check").code == 0
    assert metadata == [path.read_bytes() for path in workspace.root.rglob("*metadata*.json")] != []


@pytest.mark.parametrize(("required", "passes"), [(0.7501, False), (0.75, True), (0.5, True)])
def test_as_much_as_required_is_enough(tmp_path: Path, server: Server, required: float, passes: bool) -> None:
    workspace = ready(tmp_path, server, validation__required_accuracy=required)
    tested = try_judge(workspace)
    assert (tested.passed, tested.step) == (passes, Step.VALIDATE if passes else Step.JUDGE_TEST)
    assert state_of(workspace, SERVED).judge_passed is passes
    assert call(workspace.root, *GENERATE).code == (0 if passes else 15)


def test_another_judge_is_tried_without_being_taken(tmp_path: Path, server: Server) -> None:
    workspace = ready(tmp_path, server)
    with running_server(recorded=recorded(tmp_path, s10="not the same")) as better:
        tried = try_judge(workspace, "validation.seed=1", f"validation.base_url={better.base_url}")
        assert received(better) == 8
    assert (tried.accuracy, tried.passed, tried.is_own, tried.step) == (1.0, True, False, Step.JUDGE_TEST)
    assert state_of(workspace, SERVED).test() is None
    other = try_judge(workspace, "validation.model=gpt-5")
    assert (other.model, other.accuracy, other.is_own) == ("gpt-5", 0.75, False)
    own = try_judge(workspace)
    assert own.is_own
    found = rows(workspace.root, "SELECT model, accuracy, judge_key, test_set_key FROM judge_test ORDER BY id")
    assert [row[:2] for row in found] == [("gpt-4o", 1.0), ("gpt-5", 0.75), ("gpt-4o", 0.75)]
    assert (len({row[2] for row in found}), len({row[3] for row in found})) == (3, 1)


def test_what_is_required_is_what_the_last_run_was_given(tmp_path: Path, server: Server) -> None:
    workspace = ready(tmp_path, server)
    assert call(workspace.root, *GENERATE).code == 15
    assert try_judge(workspace, "validation.required_accuracy=0.7").passed
    assert state_of(workspace, SERVED).step() is Step.JUDGE_TEST, "trying is not deciding"
    generated(workspace.root, "--set", "validation.required_accuracy=0.7")
    tested = try_judge(workspace)
    assert (tested.required_accuracy, tested.passed, tested.step) == (0.7, True, Step.COMPLETE)
    assert try_judge(workspace, "validation.seed=1").required_accuracy == 0.7


def test_a_finished_experiment_can_try_judges_too(tmp_path: Path) -> None:
    workspace = ready(tmp_path, validation__required_accuracy=0.5)
    generated(workspace.root)
    data = train_file(workspace.root, "temp07_topp10_rulesv1").read_bytes()
    tested = try_judge(workspace, "validation.seed=1", "validation.required_accuracy=0.95", ref=OFFLINE)
    assert (tested.n_tested, tested.step) == (8, Step.COMPLETE)
    with pytest.raises(JudgeFailed, match=r"The judge that was tried on Copa/.* are needed \(95\.0%\)\.\n") as caught:
        tested.check()
    assert caught.value.hint is not None
    assert "annotate" not in caught.value.hint, "what people decided is used"
    assert f"synthtrack judge-test {OFFLINE} --config CONFIG" in caught.value.hint
    assert generated(workspace.root).out.startswith("⚡ ")
    assert train_file(workspace.root, "temp07_topp10_rulesv1").read_bytes() == data
    assert call(workspace.root, "view", "check").code == 0


def test_it_needs_no_source_files(tmp_path: Path) -> None:
    workspace = ready(tmp_path)
    shutil.rmtree(workspace.root / "Data")
    (workspace.root / "copa.yaml").unlink()
    assert try_judge(workspace, ref=OFFLINE).n_tested == 8


def test_the_judge_of_a_config(tmp_path: Path, server: Server) -> None:
    workspace = ready(tmp_path, server)
    given: dict[str, Any] = {"validation__few_shot_examples": [{"original": "It rained in house 100."}]}
    document = staged(server.base_url, validation__few_shot_range="17-18", generation__temperature=0.1, **given)
    tested = try_judge(workspace, config=write_config(workspace.root, document, "other.yaml"))
    assert (tested.is_own, tested.n_tested, tested.n_examples) == (False, 8, 5)
    last = prompts(tmp_path / "bodies.jsonl")[-1]
    assert last.examples == (101, 5, 6, 7, 8), "the people's examples are the experiment's"


def test_a_config_without_a_judge(tmp_path: Path) -> None:
    workspace = ready(tmp_path)
    path = write_config(workspace.root, config() | {"validation": None}, "none.yaml")
    with pytest.raises(ConfigError, match=r"There is no judge to test\.\n  .*none\.yaml: no `validation` section"):
        try_judge(workspace, ref=OFFLINE, config=path)
    assert ("tested", "judge_test", "complete") not in runs(workspace.root)


def test_a_prompt_that_fails_for_some_answers(tmp_path: Path, server: Server) -> None:
    workspace = ready(tmp_path, server)
    prompt = "{1 / (rephrased_premise != 'In house 010, the man had a fall.')} {rephrased_premise}"
    with pytest.raises(PartialResult, match=r"no answer to 1 of 8 samples .*division by zero"):
        try_judge(workspace, f"validation.validation_prompt={json.dumps(prompt)}")
    assert runs(workspace.root)[-1] == ("tested", "judge_test", "partial")
    assert rows(workspace.root, "SELECT COUNT(*) FROM judge_test") == [(0,)]


def test_what_a_judge_did_not_answer_is_asked_for_again_and_nothing_else(tmp_path: Path, server: Server) -> None:
    workspace = ready(tmp_path, server, generation__max_retries=0)
    with running_server(recorded=recorded(tmp_path), poison="Rephrased: In house 010") as broken:
        for sent in (8, 9):
            with pytest.raises(PartialResult, match=r"no answer to 1 of 8 samples \(the first: HTTP 500") as caught:
                try_judge(workspace, *moved_to(broken), "validation.max_retries=0")
            assert received(broken) == sent
        assert "what it did answer is not paid for twice" in str(caught.value)
        done = call(workspace.root, *GENERATE, "--accept-partial", "--set", f"generation.base_url={broken.base_url}")
        assert (done.code, received(broken)) == (1, 10), "a test is whole, or none"
    assert rows(workspace.root, "SELECT COUNT(*) FROM judge_test") == [(0,)]
    before = received(server)
    assert try_judge(workspace).n_correct == 7
    assert received(server) - before == 1


def test_a_missing_key_is_said_before_anything_is_begun(tmp_path: Path, server: Server) -> None:
    workspace = ready(tmp_path, server)
    with pytest.raises(MissingKey, match="No API key for gpt-4o"):
        try_judge(Workspace(workspace.root, environ={}))
    assert runs(workspace.root)[-1][0] == "resumed"


def refused(root: Path) -> WrongStep:
    with pytest.raises(WrongStep) as caught:
        judge_test(Workspace(root, environ={}), OFFLINE)
    return caught.value


def test_what_is_to_be_done_before(tmp_path: Path) -> None:
    root = drafted(tmp_path)
    error = refused(root)
    assert "has no test set for its judge yet" in error.message
    assert error.hint == f"Next: synthtrack review {OFFLINE}"
    decide(root, OFFLINE, REVIEW)
    assert refused(root).hint == "Next: synthtrack generate CONFIG"
    generated(root)
    decide(root, OFFLINE, ANNOTATION, samples="5-8")
    error = refused(root)
    numbers = "9, 10, 11, 12, 13, 14, 15, 16"
    assert error.message == f"Samples of {OFFLINE} wait for a person: 8 without a verdict ({numbers})."
    assert error.hint == f"Next: synthtrack annotate {OFFLINE}"
    decide(root, OFFLINE, ANNOTATION, samples="9-16")
    decide(root, OFFLINE, ANNOTATION, {9, 10}, annotator="bob", samples="9-16")
    assert refused(root).message == f"Samples of {OFFLINE} wait for a person: 2 disputed (9, 10)."
    for annotator in ("alice", "bob"):
        decide(root, OFFLINE, ANNOTATION, skipped=set(range(9, 17)), annotator=annotator)
    error = refused(root)
    assert "is empty: all of its samples were skipped" in error.message
    assert [each for each in runs(root) if each[0] == "tested"] == []


def test_an_experiment_that_nobody_checks_has_no_test(tmp_path: Path) -> None:
    root = new_root(tmp_path, N_RECORDS)
    write_config(root, config())
    generated(root)
    assert "was made with strategy direct_all: nobody reviews or annotates it" in refused(root).message


def test_the_confusion_matrix() -> None:
    pairs = [(SAME, SAME), (SAME, NOT_THE_SAME), (NOT_THE_SAME, "unclear"), (SAME, SAME)]
    assert confusion(pairs) == {
        SAME: {"same": 2, "not_the_same": 1, "unclear": 0},
        NOT_THE_SAME: {"same": 0, "not_the_same": 0, "unclear": 1},
    }
