"""Strategy two_stage from its first rephrasings to the finished file: who decides what, who is asked, and when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.annotating.checkpoints import open_sheet
from pipeline.generation.generate import generate
from pipeline.generation.job import Options, prepare
from pipeline.two_stage import ANNOTATION, NOT_THE_SAME, REVIEW, SAME
from tests.databases import KINDS, empty_workspace
from tests.databases import rows as rows_of
from tests.llm_server import Server, running_server
from tests.two_stage import (
    AGREEING,
    GENERATE,
    N_RECORDS,
    OFFLINE,
    SERVED,
    Prompt,
    annotated,
    decide,
    decided,
    drafted,
    final_lines,
    generated,
    original_lines,
    prompts,
    recorded,
    reviewed,
    runs,
    staged,
)
from tests.workspaces import NOT_THE_SAME as SAYS_NOT
from tests.workspaces import Done, call, new_root, premises, rows, served, train_file, tree, write_config, write_records
from tracker.errors import WrongStep
from tracker.paths import find_workspace
from tracker.record.decisions import Answer

FIRST = ("made", "rephrase_first", "waiting")
REST = ("resumed", "rephrase_rest", "waiting")
TEST = ("tested", "judge_test", "complete")
LAST = ("resumed", "validate", "complete")
KEPT = frozenset({2, 3, 6, 9, 14, 19, 24})
SKIPPED = frozenset({3, 7, 12})
VERDICTS = {number: NOT_THE_SAME if number in KEPT else SAME for number in range(1, N_RECORDS + 1)}
PEOPLE = {number: verdict for number, verdict in VERDICTS.items() if number <= 16 and number not in SKIPPED}
JUDGED = {number: verdict for number, verdict in VERDICTS.items() if number not in PEOPLE}


@dataclass
class Story:
    """A finished experiment, with what was sent and said at each of its commands."""

    root: Path
    sent: dict[str, list[Prompt]] = field(default_factory=dict)
    said: dict[str, Done] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)

    @property
    def everything(self) -> list[Prompt]:
        return [prompt for sent in self.sent.values() for prompt in sent]

    def step(self, name: str, log: Path, *arguments: object) -> None:
        before = len(self.everything)
        self.said[name] = generated(self.root, *arguments)
        self.sent[name] = prompts(log)[before:] if log.exists() else []


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """One person reviews and annotates, skipping some; the judge agrees on the test set."""
    place = tmp_path_factory.mktemp("story")
    log = place / "bodies.jsonl"
    told = Story(new_root(place, N_RECORDS))
    with running_server(recorded=recorded(place, s3=SAYS_NOT), log=log) as server:
        write_config(told.root, staged(server.base_url))
        told.step("first", log)
        told.step("too early", log)
        decide(told.root, SERVED, REVIEW, {2}, {3})
        told.step("rest", log)
        told.step("too early again", log)
        decide(told.root, SERVED, ANNOTATION, {6, 9, 14}, {7, 12})
        told.step("end", log)
        told.step("again", log, "--batch", "second")
        told.answered = server.stats()["answered"]
    return told


def test_the_final_file_is_what_decisions_and_verdicts_say(story: Story) -> None:
    made = train_file(story.root)
    assert made.read_bytes().splitlines(keepends=True) == final_lines(story.root, KEPT)
    untouched = zip(original_lines(story.root), final_lines(story.root, KEPT), strict=True)
    assert {number for number, (old, new) in enumerate(untouched, 1) if old == new} == KEPT
    for split in ("validation", "test"):
        assert (made.parent / f"copa_{split}.jsonl").read_bytes() == b"".join(original_lines(story.root, split))
    assert train_file(story.root, group="second").read_bytes() == made.read_bytes()
    assert call(story.root, "view", "check").code == 0


def test_every_sample_says_who_decided_it(story: Story) -> None:
    assert decided(story.root) == {
        number: (
            "accepted" if verdict == SAME else "rejected",
            verdict,
            "person" if number in PEOPLE else "judge",
        )
        for number, verdict in VERDICTS.items()
    }


def test_each_step_is_a_run_and_looking_for_a_person_is_none(story: Story) -> None:
    assert runs(story.root) == [FIRST, REST, TEST, LAST, ("reused", None, "complete")]
    counts = "n_records, n_accepted, n_rejected, n_failed, n_calls, n_cached"
    found = rows(story.root, f"SELECT {counts} FROM generation_run ORDER BY id")
    assert found == [
        (4, 0, 0, 0, 4, 0),
        (24, 2, 1, 0, 20, 0),
        (7, 0, 0, 0, 7, 0),
        (24, 17, 7, 0, 11, 0),
        (24, 17, 7, 0, 0, 0),
    ]
    assert rows(story.root, "SELECT status, n_accepted, n_rejected FROM shared_experiment") == [("complete", 17, 7)]
    for name in ("too early", "too early again"):
        assert "nothing to generate before a person has looked" in story.said[name].out


def test_each_command_says_what_is_next(story: Story) -> None:
    assert "Step 2 of 6: checkpoint 1" in story.said["first"].out
    assert f"Next: synthtrack review {SERVED}" in story.said["first"].out
    assert "Review of samples 1-4: 2 approved, 1 rejected, 1 skipped" in story.said["rest"].out
    assert f"Next: synthtrack annotate {SERVED}" in story.said["rest"].out
    assert "The judge agrees with the people on 7 of 7 samples (100.0%; 95% is required)." in story.said["end"].err
    assert "17 accepted, 7 kept the original" in story.said["end"].out
    assert story.said["again"].out.startswith("⚡ Copa/temp07_topp10_gpt4o: already made, nothing generated")


def test_every_record_is_rephrased_in_the_step_it_belongs_to(story: Story) -> None:
    about = {name: [prompt.about for prompt in sent if not prompt.judging] for name, sent in story.sent.items()}
    assert sorted(about["first"]) == [1, 2, 3, 4]
    assert sorted(about["rest"]) == list(range(5, N_RECORDS + 1))
    assert about["too early"] == about["too early again"] == about["end"] == about["again"] == []


def test_the_approved_samples_and_only_those_teach_the_rest(story: Story) -> None:
    assert {prompt.examples for prompt in story.sent["first"]} == {()}
    assert {prompt.examples for prompt in story.sent["rest"]} == {(1, 4)}
    found = next(prompt.text for prompt in story.sent["rest"] if prompt.about == 17)
    assert found == (
        "Example 1:\nOriginal: The man in house 000 fell.\nRephrased: In house 000, the man had a fall.\n\n"
        "Example 2:\nOriginal: The man in house 003 fell.\nRephrased: In house 003, the man had a fall.\n"
        "Rephrase: The man in house 016 fell."
    )


def test_the_judge_learns_from_the_annotated_and_is_asked_about_what_is_left(story: Story) -> None:
    judging = [prompt for prompt in story.everything if prompt.judging]
    assert {prompt.examples for prompt in judging} == {(5, 8)}
    assert story.sent["end"] == judging
    tested, asked = judging[:7], judging[7:]
    assert sorted(prompt.about for prompt in tested) == [9, 10, 11, 13, 14, 15, 16]
    assert sorted(prompt.about for prompt in asked) == sorted(JUDGED)
    assert tested[0].text == (
        "Example 1:\nOriginal: The man in house 004 fell.\nRephrased: In house 004, the man had a fall.\n"
        "Verdict: same\n\n"
        "Example 2:\nOriginal: The man in house 007 fell.\nRephrased: In house 007, the man had a fall.\n"
        "Verdict: same\n"
        f"Original: The man in house {tested[0].about - 1:03} fell.\n"
        f"Rephrased: In house {tested[0].about - 1:03}, the man had a fall.\nSame?"
    )


def test_nothing_is_asked_for_twice(story: Story) -> None:
    assert set(story.answered.values()) == {1}
    assert len(story.answered) == len(story.everything) == N_RECORDS + 7 + len(JUDGED)


def test_what_was_closed_is_in_the_record(story: Story) -> None:
    found = rows(story.root, "SELECT c.name, c.examples, r.step, c.judge_test_id FROM checkpoint c "
                             "JOIN generation_run r ON r.id = c.generation_run_id ORDER BY c.id")  # fmt: skip
    assert found == [("review", "[0, 3]", "rephrase_rest", None), ("annotation", "[4, 7]", "validate", 1)]
    assert rows(story.root, "SELECT n_tested, n_correct, accuracy, passed FROM judge_test") == [(7, 7, 1.0, 1)]
    tested = rows(story.root, "SELECT position + 1, expected, verdict FROM judge_test_sample ORDER BY position")
    assert tested == [(number, PEOPLE[number], PEOPLE[number]) for number in (9, 10, 11, 13, 14, 15, 16)]


def test_offline_it_goes_the_same_way(tmp_path: Path) -> None:
    root = drafted(tmp_path)
    assert runs(root) == [FIRST]
    assert rows(root, "SELECT status, lease_pid FROM shared_experiment") == [("unfinished", None)]
    assert decided(root, OFFLINE) == dict.fromkeys(range(1, 5), ("undecided", None, None))
    reviewed(root)
    assert runs(root) == [FIRST, REST]
    found = decided(root, OFFLINE)
    assert [found[number] for number in (1, 2)] == [("accepted", SAME, "person"), ("rejected", NOT_THE_SAME, "person")]
    assert {found[number] for number in range(5, N_RECORDS + 1)} == {("undecided", None, None)}
    assert not (root / "Data_v2").exists()
    generated(annotated(root, rejected={5}))
    assert runs(root) == [FIRST, REST, TEST, LAST]
    rephrased = [text for (text,) in rows(root, "SELECT rephrased FROM sample ORDER BY position")]
    original = premises(root / "Data/original/Copa/copa_train.jsonl")
    expected = [original[at] if at in {1, 4} else rephrased[at] for at in range(N_RECORDS)]
    assert premises(train_file(root, "temp07_topp10_rulesv1")) == expected
    assert all(old != new for old, new in zip(original, rephrased, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_on_either_database(kind: str, tmp_path: Path) -> None:
    root = new_root(tmp_path, N_RECORDS)
    with empty_workspace(kind, root) as workspace:
        job = prepare(workspace, write_config(root, staged()), Options())
        steps = []
        for checkpoint, rejected in ((REVIEW, {2}), (ANNOTATION, {5}), (None, set())):
            state = generate(workspace, job).state
            assert state is not None
            steps.append(state.step().value)
            if checkpoint is not None:
                with open_sheet(workspace, OFFLINE, checkpoint, annotator="alice") as sheet:
                    said = [NOT_THE_SAME if card.number in rejected else SAME for card in sheet.cards]
                    answers = [Answer(card.position, each) for card, each in zip(sheet.cards, said, strict=True)]
                    sheet.save(answers, via="option")
        assert steps == ["review", "annotate", "complete"]
        found = rows_of(workspace, "SELECT decided_by, status, COUNT(*) AS n FROM sample GROUP BY decided_by, status")
        assert {(row["decided_by"], row["status"]): row["n"] for row in found} == {
            ("person", "accepted"): 14, ("person", "rejected"): 2, ("judge", "accepted"): 8,
        }  # fmt: skip
        standing = rows_of(workspace, "SELECT position, verdict FROM sample_decision ORDER BY position")
        assert [row["verdict"] for row in standing] == [
            NOT_THE_SAME if row["position"] in {1, 4} else SAME for row in standing
        ]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(recorded=recorded(tmp_path), log=tmp_path / "bodies.jsonl") as found:
        yield found


def waits(root: Path) -> str:
    """What generate says where it has nothing to do."""
    before = runs(root)
    said = generated(root).out
    assert runs(root) == before
    assert "nothing to generate before a person has looked" in said
    return said


def test_a_checkpoint_waits_until_everybody_is_heard_and_agrees(tmp_path: Path, server: Server) -> None:
    root = drafted(tmp_path, server.base_url)
    decide(root, SERVED, REVIEW, samples="1-3")
    assert "3 approved, 0 rejected, 1 to be decided" in waits(root)
    decide(root, SERVED, REVIEW, {2})
    decide(root, SERVED, REVIEW, {2, 4}, annotator="bob")
    assert "2 approved, 1 rejected, 1 disputed (4)" in waits(root)
    with open_sheet(find_workspace(str(root)), SERVED, REVIEW, annotator="carol") as sheet:
        sheet.answer(sheet.cards[3], NOT_THE_SAME)
    generated(root)
    assert {prompt.examples for prompt in prompts(tmp_path / "bodies.jsonl") if prompt.about > 4} == {(1, 3)}
    assert decided(root)[4] == ("rejected", NOT_THE_SAME, "person")

    decide(root, SERVED, ANNOTATION, AGREEING, samples="9-16")
    assert "6 same, 2 not the same, 4 to be decided" in waits(root)
    decide(root, SERVED, ANNOTATION, AGREEING)
    decide(root, SERVED, ANNOTATION, AGREEING | {7}, annotator="bob")
    assert "9 same, 2 not the same, 1 disputed (7)" in waits(root)
    decide(root, SERVED, ANNOTATION, AGREEING, annotator="bob")
    generated(root)
    assert decided(root)[7] == ("accepted", SAME, "person")
    assert server.stats()["received"] == N_RECORDS + 16


def test_who_skips_everything_teaches_nothing_and_tests_nobody(tmp_path: Path, server: Server) -> None:
    root = drafted(tmp_path, server.base_url)
    decide(root, SERVED, REVIEW, skipped=set(range(1, 5)))
    generated(root)
    assert {prompt.examples for prompt in prompts(tmp_path / "bodies.jsonl")} == {()}
    decide(root, SERVED, ANNOTATION, skipped=set(range(5, 17)))
    done = call(root, *GENERATE)
    assert (done.code, server.stats()["received"]) == (14, N_RECORDS)
    assert f"The test set of {SERVED} is empty: all of its samples were skipped." in done.err
    assert f"synthtrack annotate {SERVED} --only --same" in done.err
    decide(root, SERVED, ANNOTATION, AGREEING)
    generated(root)
    assert {prompt.about for prompt in prompts(tmp_path / "bodies.jsonl") if prompt.judging} == {
        *range(1, 5), *range(9, 25),
    }  # fmt: skip
    assert decided(root)[4] == ("rejected", NOT_THE_SAME, "judge")


def test_configured_examples_come_before_those_of_people(tmp_path: Path, server: Server) -> None:
    given: list[dict[str, Any]] = [{"original": "It rained in house 100.", "rephrased": "Rain fell."}]
    more = {"generation__few_shot_examples": given, "validation__few_shot_examples": given}
    root = annotated(reviewed(drafted(tmp_path, server.base_url, **more), SERVED), SERVED, AGREEING)
    generated(root)
    found = prompts(tmp_path / "bodies.jsonl")
    assert {prompt.examples for prompt in found if prompt.about <= 4} == {(101,)}
    assert {prompt.examples for prompt in found if prompt.about > 4 and not prompt.judging} == {(101, 1, 3, 4)}
    assert {prompt.examples for prompt in found if prompt.judging} == {(101, 5, 6, 7, 8)}


def test_a_text_that_looks_like_a_template_is_shown_as_it_is(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    odd = [json.loads(line) for line in path.read_text().splitlines()]
    odd[0]["rephrased_premise"] = "{choice1} {{REPHRASE_FEWSHOT}} }} in house 000"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in odd))
    with running_server(recorded=path, log=tmp_path / "bodies.jsonl") as server:
        reviewed(drafted(tmp_path, server.base_url), SERVED)
    shown = {prompt.text.splitlines()[2] for prompt in prompts(tmp_path / "bodies.jsonl") if prompt.about > 4}
    assert shown == {"Rephrased: {choice1} {{REPHRASE_FEWSHOT}} }} in house 000"}


def test_a_closed_checkpoint_takes_no_more_answers(tmp_path: Path) -> None:
    root = drafted(tmp_path)
    workspace = find_workspace(str(root))
    with open_sheet(workspace, OFFLINE, REVIEW, annotator="alice") as early:
        reviewed(root)
        with pytest.raises(WrongStep, match=r"The review of .* is closed: the other records were rephrased with"):
            early.save([Answer(0, NOT_THE_SAME)], via="terminal")
    with open_sheet(workspace, OFFLINE, ANNOTATION, annotator="alice") as late:
        generated(annotated(root))
        with pytest.raises(WrongStep, match=r"The annotation of .* is closed: the judge learned from it"):
            late.save([Answer(6, NOT_THE_SAME)], via="terminal")
    assert rows(root, "SELECT COUNT(*) FROM decision") == [(16,)]


def test_a_data_set_of_another_strategy_is_another_experiment(tmp_path: Path, server: Server) -> None:
    root = drafted(tmp_path, server.base_url)
    write_records(root, N_RECORDS)
    write_config(root, served(server.base_url), "direct.yaml")
    assert call(root, "generate", "direct.yaml", "--no-mlflow").code == 0
    assert [name for (name,) in rows(root, "SELECT name FROM shared_experiment ORDER BY id")] == [
        "temp07_topp10_gpt4o", "temp07_topp10_gpt4o_2",
    ]  # fmt: skip
    assert "temp07_topp10_gpt4o_2/Copa/copa_train.jsonl" in tree(root / "Data_v2")
    assert waits(root)
