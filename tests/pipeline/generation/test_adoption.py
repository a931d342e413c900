"""Another judge is another experiment: what people decided on the same texts comes along, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.two_stage import ANNOTATION, NOT_THE_SAME, REVIEW, SAME
from tests.llm_server import Server, running_server
from tests.two_stage import (
    GENERATE,
    N_RECORDS,
    OFFLINE,
    RANGES,
    SERVED,
    annotated,
    decide,
    decided,
    drafted,
    final_lines,
    generated,
    recorded,
    reviewed,
    staged,
)
from tests.workspaces import SAME as SAYS_SAME
from tests.workspaces import call, rows, train_file, write_config

OTHER_PROMPT = f"Do they mean the same?\n{RANGES['validation__validation_prompt']}"
SECOND, SECOND_OFFLINE = f"{SERVED}_2", f"{OFFLINE}_2"
OTHER_JUDGE = ("--set", "validation.seed=1")
THIRD_JUDGE = ("--set", "validation.seed=2")


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    """A workspace whose judge says of sample 14 what the person does not."""
    with running_server(recorded=recorded(tmp_path)) as server:
        root = annotated(reviewed(drafted(tmp_path, server.base_url), SERVED), SERVED, {9})
        done = call(root, *GENERATE)
        assert (done.code, server.stats()["received"]) == (15, N_RECORDS + 8)
    return root


@pytest.fixture
def better(tmp_path: Path) -> Iterator[Server]:
    """A server whose judge agrees on sample 14."""
    with running_server(recorded=recorded(tmp_path, s14=SAYS_SAME)) as server:
        yield server


def of_second(root: Path, columns: str, table: str) -> list[tuple[Any, ...]]:
    return rows(root, f"SELECT {columns} FROM {table} WHERE shared_experiment_id = 2 ORDER BY id")


def test_another_prompt_goes_on_with_what_people_decided(refused: Path, better: Server) -> None:
    root = refused
    decide(root, SERVED, ANNOTATION, {9}, annotator="bob", samples="5-8")
    write_config(root, staged(better.base_url, validation__validation_prompt=OTHER_PROMPT))
    done = generated(root)
    assert better.stats()["received"] == 16
    assert f"Took over 4 decisions of alice from {SERVED}: it differs in its judge only" in done.err
    assert f"Took over 16 decisions of alice, bob from {SERVED}" in done.err
    assert done.out.startswith(f"✅ {SECOND}: resumed, complete")
    first, second = rows(root, "SELECT name, status, fingerprint FROM shared_experiment ORDER BY id")
    assert (first[:2], second[:2]) == (
        ("temp07_topp10_gpt4o", "unfinished"), ("temp07_topp10_gpt4o_2", "complete"),
    )  # fmt: skip
    assert first[2] != second[2]
    assert of_second(root, "outcome, step, status, n_calls, n_cached", "generation_run") == [
        ("made", "rephrase_first", "waiting", 0, 4),
        ("resumed", "rephrase_rest", "waiting", 0, 20),
        ("tested", "judge_test", "complete", 8, 0),
        ("resumed", "validate", "complete", 8, 0),
    ]
    theirs = rows(root, "SELECT id, position, verdict, annotator, decided_at, settles, checkpoint FROM decision "
                        "WHERE shared_experiment_id = 1 ORDER BY id")  # fmt: skip
    columns = "adopted_from_id, position, verdict, annotator, decided_at, settles, checkpoint"
    assert sorted(of_second(root, columns, "decision")) == theirs
    assert {via for (via,) in of_second(root, "via", "decision")} == {"adopted"}
    made = train_file(root, "temp07_topp10_gpt4o_2").read_bytes().splitlines(keepends=True)
    assert made == final_lines(root, {2, 9, 19, 24})
    assert {number for number, row in decided(root, SECOND).items() if row[2] == "person"} == set(range(1, 17))


def test_an_attempt_that_passed_is_not_asked_for_again(refused: Path, better: Server) -> None:
    root = refused
    write_config(root, staged(better.base_url, validation__validation_prompt=OTHER_PROMPT), "better.yaml")
    tried = call(root, "judge-test", SERVED, "--config", "better.yaml", "--no-mlflow", "--json")
    assert (tried.code, better.stats()["received"]) == (0, 8)
    assert json.loads(tried.out)["is_own"] is False
    assert call(root, *GENERATE).code == 15
    done = call(root, "generate", "better.yaml", "--no-mlflow")
    assert (done.code, better.stats()["received"]) == (0, 16)
    assert of_second(root, "step", "generation_run") == [("rephrase_first",), ("rephrase_rest",), ("validate",)]
    assert rows(root, "SELECT shared_experiment_id, name, judge_test_id FROM checkpoint WHERE judge_test_id > 0") == [
        (2, "annotation", 2)
    ]
    assert rows(root, "SELECT shared_experiment_id, passed FROM judge_test ORDER BY id") == [(1, 0), (1, 1)]


def test_an_attempt_on_another_test_set_does_not_count(refused: Path, better: Server) -> None:
    root = refused
    write_config(root, staged(better.base_url, validation__validation_prompt=OTHER_PROMPT), "better.yaml")
    assert call(root, "judge-test", SERVED, "--config", "better.yaml", "--no-mlflow").code == 0
    decide(root, SERVED, ANNOTATION, {9, 10}, samples="9-16")
    done = call(root, "generate", "better.yaml", "--no-mlflow")
    assert (done.code, better.stats()["received"]) == (15, 8)
    assert "agrees with the people on 7 of 8 samples (87.5%)" in done.err
    assert of_second(root, "step, n_calls, n_cached", "generation_run")[-1] == ("judge_test", 0, 8)


def adopted(root: Path) -> list[tuple[Any, ...]]:
    """What the second experiment took over: sample, annotator, verdict."""
    found = rows(root, "SELECT position + 1, annotator, verdict FROM decision "
                       "WHERE shared_experiment_id = 2 AND via = 'adopted' ORDER BY id")  # fmt: skip
    return sorted(found)


def test_what_was_not_decided_there_is_waited_for_here(tmp_path: Path) -> None:
    root = drafted(tmp_path)
    decide(root, OFFLINE, REVIEW, {2}, samples="1-3")
    done = generated(root, *OTHER_JUDGE)
    assert "3 decisions of alice" in done.err
    assert adopted(root) == [(1, "alice", SAME), (2, "alice", NOT_THE_SAME), (3, "alice", SAME)]
    assert "2 approved, 1 rejected, 1 to be decided" in done.out
    assert f"Next: synthtrack review {SECOND_OFFLINE}" in done.out
    again = generated(root, *OTHER_JUDGE)
    assert ("Took over" in again.err, len(adopted(root))) == (False, 3)
    decide(root, OFFLINE, REVIEW, {4}, annotator="bob", samples="3-4")
    assert "2 decisions of bob" in generated(root, *OTHER_JUDGE).err
    assert [row for row in adopted(root) if row[1] == "bob"] == [(3, "bob", SAME), (4, "bob", NOT_THE_SAME)]


def test_a_dispute_and_what_settles_it_come_along(tmp_path: Path) -> None:
    root = drafted(tmp_path)
    decide(root, OFFLINE, REVIEW, {1})
    decide(root, OFFLINE, REVIEW, {1, 2}, {3}, annotator="bob")
    assert "2 approved, 1 rejected, 1 disputed (2)" in generated(root, *OTHER_JUDGE).out
    settling = call(root, "review", OFFLINE, "--approve", "2", "--annotator", "carol")
    assert settling.code == 0, settling.err
    assert "1 decision of carol" in generated(root, *OTHER_JUDGE).err
    assert decided(root, SECOND_OFFLINE)[2] == ("accepted", SAME, "person")


def test_only_the_newest_answer_of_each_comes_along(tmp_path: Path) -> None:
    root = drafted(tmp_path)
    decide(root, OFFLINE, REVIEW, {1, 2, 3, 4})
    decide(root, OFFLINE, REVIEW, {2})
    generated(root, *OTHER_JUDGE)
    assert adopted(root) == [(1, "alice", SAME), (2, "alice", NOT_THE_SAME), (3, "alice", SAME), (4, "alice", SAME)]


def test_whoever_has_decided_here_is_not_overruled(tmp_path: Path) -> None:
    root = drafted(tmp_path)
    generated(root, *OTHER_JUDGE)
    decide(root, SECOND_OFFLINE, REVIEW, {1}, samples="1-2")
    decide(root, OFFLINE, REVIEW, {2, 3})
    generated(root, *OTHER_JUDGE)
    assert adopted(root) == [(3, "alice", NOT_THE_SAME), (4, "alice", SAME)]
    found = decided(root, SECOND_OFFLINE)
    assert [found[number][0] for number in range(1, 5)] == ["rejected", "accepted", "rejected", "accepted"]


def test_decisions_on_other_texts_stay_where_they_are(tmp_path: Path) -> None:
    # This server's answers differ with every prompt, so the rest is other texts where other samples were approved.
    with running_server() as server:
        root = drafted(tmp_path, server.base_url)
        generated(root, *OTHER_JUDGE)
        decide(root, SECOND, REVIEW, {3}, annotator="bob")
        decide(root, SERVED, REVIEW, {2})
        generated(root)
        decide(root, SERVED, ANNOTATION)
        generated(root, *OTHER_JUDGE)
        assert adopted(root) == []
        generated(root, *THIRD_JUDGE)
    # Both reviews were taken over there, and they differ: none of the rest is made yet.
    assert rows(root, "SELECT COUNT(*) FROM decision WHERE shared_experiment_id = 3 AND via = 'adopted'") == [(8,)]


def test_it_is_taken_over_once_through_several_judges(tmp_path: Path) -> None:
    root = reviewed(drafted(tmp_path), rejected={2})
    annotated(root, rejected={9})
    generated(root, *OTHER_JUDGE, "--set", "validation.required_accuracy=0.5")
    generated(root, *THIRD_JUDGE, "--set", "validation.required_accuracy=0.5")
    sources = rows(root, "SELECT DISTINCT s.shared_experiment_id FROM decision d "
                         "JOIN decision s ON s.id = d.adopted_from_id WHERE d.shared_experiment_id = 3")  # fmt: skip
    assert sources == [(1,)], "from who decided, not from who took over"
    assert rows(root, "SELECT COUNT(*) FROM decision WHERE shared_experiment_id = 3") == [(16,)]
    moments = rows(root, "SELECT position, decided_at, verdict FROM decision ORDER BY shared_experiment_id, position")
    assert moments[:16] == moments[16:32] == moments[32:]


def test_another_range_takes_over_what_lies_in_it(tmp_path: Path) -> None:
    root = annotated(reviewed(drafted(tmp_path)))
    ranges = ("validation.few_shot_range=17-18", "validation.test_range=9-12")
    done = generated(root, *(word for each in ranges for word in ("--set", each)))
    assert [number for number, *_ in adopted(root)] == [1, 2, 3, 4, 9, 10, 11, 12]
    assert "Annotation of samples 17-18 and 9-12: 4 same, 0 not the same, 2 to be decided" in done.out


@pytest.mark.parametrize(
    "change",
    [
        ("--set", "generation.temperature=0.8"),
        ("--set", "generation.top_p=0.9"),
        ("--set", "generation.review_size=3"),
        ("--set", "generation.seed=1"),
        ("--fresh",),
        ("--limit", "20"),
    ],
)
def test_an_experiment_that_differs_in_more_takes_nothing_over(tmp_path: Path, change: tuple[str, ...]) -> None:
    root = drafted(tmp_path)
    decide(root, OFFLINE, REVIEW)
    done = generated(root, *change)
    assert rows(root, "SELECT COUNT(*) FROM shared_experiment") == [(2,)]
    assert (adopted(root), "Took over" in done.err) == ([], False)


def test_another_data_set_takes_nothing_over(tmp_path: Path) -> None:
    root = drafted(tmp_path)
    decide(root, OFFLINE, REVIEW)
    with (root / "Data/original/Copa/copa_train.jsonl").open("a") as lines:
        lines.write(
            '{"premise": "It rained.", "choice1": "a", "choice2": "b", "question": "c", "idx": 99, "label": 0}\n'
        )
    generated(root)
    assert (rows(root, "SELECT COUNT(*) FROM shared_experiment"), adopted(root)) == ([(2,)], [])


def test_a_correction_is_taken_over_and_an_outdated_copy_is_not(tmp_path: Path) -> None:
    root = annotated(reviewed(drafted(tmp_path)), rejected={9, 10, 11})
    assert call(root, *GENERATE, *OTHER_JUDGE).code == 15
    decide(root, OFFLINE, ANNOTATION, set(), samples="9-16")
    assert call(root, *GENERATE, *THIRD_JUDGE).code == 0
    verdicts = "SELECT verdict FROM sample_decision WHERE shared_experiment_id = ? AND position IN (8, 9, 10)"
    assert rows(root, verdicts, 3) == [("same",)] * 3
    assert rows(root, verdicts, 2) == [("not_the_same",)] * 3
    assert call(root, *GENERATE, *OTHER_JUDGE).code == 0, "what was taken over before hears of the correction"
    assert rows(root, verdicts, 2) == [("same",)] * 3


def test_nobody_who_decided_here_is_overruled(tmp_path: Path) -> None:
    root = drafted(tmp_path)
    generated(root, *OTHER_JUDGE)
    decide(root, f"{OFFLINE}_2", REVIEW, {1, 3}, annotator="bob", samples="1-3")
    decide(root, OFFLINE, REVIEW, set(), annotator="alice")
    done = generated(root, *OTHER_JUDGE)
    assert "Took over 1 decision of alice" in done.err
    found = rows(root, "SELECT verdict FROM sample_decision WHERE shared_experiment_id = 2 ORDER BY position")
    assert found == [("not_the_same",), ("same",), ("not_the_same",), ("same",)]
