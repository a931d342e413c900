"""Strategy two_stage with records that fail for good: tried again, accepted, and completed once they do not."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pipeline.two_stage import ANNOTATION, REVIEW
from tests.llm_server import Server, running_server
from tests.two_stage import (
    AGREEING,
    GENERATE,
    N_RECORDS,
    SERVED,
    annotated,
    decide,
    decided,
    drafted,
    final_lines,
    generated,
    prompts,
    recorded,
    reviewed,
    runs,
    staged,
)
from tests.workspaces import Done, call, new_root, rows, train_file, write_config

ACCEPT = "--accept-partial"
SOMETHING_BROKE = f"1 of {N_RECORDS} records still fail (the first: HTTP 500: something broke)"


def poisoned(tmp_path: Path, poison: str) -> AbstractContextManager[Server]:
    return running_server(recorded=recorded(tmp_path), poison=poison, log=tmp_path / "bodies.jsonl")


def healthy(tmp_path: Path) -> AbstractContextManager[Server]:
    return running_server(recorded=recorded(tmp_path), log=tmp_path / "later.jsonl")


def at(server: Server) -> tuple[str, str]:
    return "--set", f"generation.base_url={server.base_url}"


def begun(tmp_path: Path, server: Server) -> Path:
    root = new_root(tmp_path, N_RECORDS)
    write_config(root, staged(server.base_url, generation__max_retries=0))
    return root


def received(server: Server) -> int:
    return int(server.stats()["received"])


def asked(root: Path, server: Server, *arguments: object) -> tuple[Done, int]:
    """A generate command, and how many requests it sent."""
    before = received(server)
    return call(root, *GENERATE, *at(server), *arguments), received(server) - before


def final(root: Path) -> list[bytes]:
    return train_file(root).read_bytes().splitlines(keepends=True)


def status(root: Path) -> tuple[str, int]:
    ((found, failed),) = rows(root, "SELECT status, n_failed FROM shared_experiment")
    return found, failed


def test_a_failure_in_the_review_is_tried_again_or_left_out(tmp_path: Path) -> None:
    with poisoned(tmp_path, "house 002") as server:
        root = begun(tmp_path, server)
        first, sent = asked(root, server)
        assert (first.code, sent, SOMETHING_BROKE in first.err) == (1, 4, True)
        assert "Run the same command to try them again, or add --accept-partial" in first.err
        again, sent = asked(root, server)
        assert (again.code, sent) == (1, 1)
        assert "Step 1 of 6" in again.out
        accepted, sent = asked(root, server, ACCEPT, "--json")
        (found,) = json.loads(accepted.out)
        assert (accepted.code, sent) == (0, 1)
        assert (found["step"], found["next_command"]) == ("review", f"synthtrack review {SERVED}")
        assert found["batch_path"] is None
        decide(root, SERVED, REVIEW, {2})
        assert asked(root, server)[0].code == 1
        rest, sent = asked(root, server, ACCEPT)
        # The failing one is tried before, and once more with the rest.
        assert (rest.code, sent) == (0, 22)
        assert "Step 4 of 6: checkpoint 2" in rest.out
        assert {prompt.examples for prompt in prompts(tmp_path / "bodies.jsonl") if prompt.about > 4} == {(1, 4)}
        decide(root, SERVED, ANNOTATION, AGREEING)
        end, _ = asked(root, server, ACCEPT)
        assert (end.code, status(root)) == (0, ("partial", 1))
        assert "1 failed and kept the original" in end.out
        assert final(root) == final_lines(root, {2, 3, 9, 14, 19, 24})
        assert asked(root, server, ACCEPT, "--batch", "second")[0].out.startswith("⚡ ")
    with healthy(tmp_path) as server:
        done, sent = asked(root, server)
        assert (done.code, sent, status(root)) == (0, 2, ("complete", 0))
        assert [prompt.examples for prompt in prompts(tmp_path / "later.jsonl")] == [(), (5, 6, 7, 8)]
    assert decided(root)[3] == ("accepted", "same", "judge"), "nobody has reviewed it"
    assert final(root) == final_lines(root, {2, 9, 14, 19, 24})
    assert call(root, "view", "check").code == 0


def test_a_failure_in_the_rest_is_tried_again_or_accepted(tmp_path: Path) -> None:
    with poisoned(tmp_path, "house 019") as server:
        root = begun(tmp_path, server)
        assert asked(root, server)[0].code == 0
        decide(root, SERVED, REVIEW, {2})
        first, sent = asked(root, server)
        assert (first.code, sent, SOMETHING_BROKE in first.err) == (1, 20, True)
        assert call(root, "review", SERVED, "--reject", "1").code == 14, "the review is closed all the same"
        again, sent = asked(root, server)
        assert (again.code, sent, "Step 3 of 6" in again.out) == (1, 1, True)
        accepted, sent = asked(root, server, ACCEPT)
        assert (accepted.code, sent, f"Next: synthtrack annotate {SERVED}" in accepted.out) == (0, 1, True)
        decide(root, SERVED, ANNOTATION, AGREEING)
        plain, sent = asked(root, server)
        assert (plain.code, sent) == (1, 1), "the judge waits for it, too"
        end, sent = asked(root, server, ACCEPT)
        assert (end.code, sent, status(root)) == (0, 1 + 8 + 8, ("partial", 1))
        assert final(root) == final_lines(root, {2, 9, 14, 19, 20, 24})
        stubborn, sent = asked(root, server)
        assert (stubborn.code, sent, status(root)) == (1, 1, ("partial", 1))
        assert final(root) == final_lines(root, {2, 9, 14, 19, 20, 24})
    with healthy(tmp_path) as server:
        done, sent = asked(root, server)
        assert (done.code, sent, status(root)) == (0, 2, ("complete", 0))
        assert [prompt.examples for prompt in prompts(tmp_path / "later.jsonl")] == [(1, 3, 4), (5, 6, 7, 8)]
    assert done.out.startswith(f"✅ {SERVED}: resumed, complete")
    assert final(root) == final_lines(root, {2, 9, 14, 19, 24})


def test_a_failure_in_the_annotation_is_not_shown_to_anybody(tmp_path: Path) -> None:
    with poisoned(tmp_path, "house 009") as server:
        root = reviewed_with_failures(tmp_path, server)
        decide(root, SERVED, ANNOTATION, AGREEING)
        assert rows(root, "SELECT COUNT(*) FROM decision WHERE checkpoint = 'annotation'") == [(11,)]
        assert asked(root, server, ACCEPT)[0].code == 0
        assert rows(root, "SELECT n_tested, n_correct FROM judge_test") == [(7, 7)]
    with healthy(tmp_path) as server:
        assert asked(root, server)[0].code == 0
    assert decided(root)[10] == ("accepted", "same", "judge")


def test_who_waits_for_it_annotates_what_failed_before(tmp_path: Path) -> None:
    with poisoned(tmp_path, "house 009") as server:
        root = reviewed_with_failures(tmp_path, server)
        decide(root, SERVED, ANNOTATION, AGREEING)
    with healthy(tmp_path) as server:
        more, sent = asked(root, server)
        assert (more.code, sent) == (0, 1)
        assert "1 to be decided" in more.out
        decide(root, SERVED, ANNOTATION, samples="9-16", rejected=AGREEING)
        assert asked(root, server)[0].code == 0
    assert rows(root, "SELECT n_tested, n_correct FROM judge_test") == [(8, 8)]
    assert decided(root)[10] == ("accepted", "same", "person")


def reviewed_with_failures(tmp_path: Path, server: Server) -> Path:
    """A workspace that waits at its annotation with a record that failed and was accepted so."""
    root = begun(tmp_path, server)
    assert asked(root, server)[0].code == 0
    decide(root, SERVED, REVIEW, {2})
    assert asked(root, server, ACCEPT)[0].code == 0
    return root


def test_a_judge_that_fails_for_a_record_fails_the_record(tmp_path: Path) -> None:
    with poisoned(tmp_path, "Rephrased: In house 019") as server:
        root = begun(tmp_path, server)
        assert asked(root, server)[0].code == 0
        decide(root, SERVED, REVIEW, {2})
        assert asked(root, server)[0].code == 0
        decide(root, SERVED, ANNOTATION, AGREEING)
        first, sent = asked(root, server)
        assert (first.code, sent, SOMETHING_BROKE in first.err) == (1, 16, True)
        assert decided(root)[20] == ("failed", None, None)
        again, sent = asked(root, server)
        assert (again.code, sent) == (1, 1)
        assert call(root, "annotate", SERVED, "--same", "5").code == 14, "the annotation is closed all the same"
        accepted, sent = asked(root, server, ACCEPT)
        assert (accepted.code, sent, status(root)) == (0, 1, ("partial", 1))
        assert final(root) == final_lines(root, {2, 9, 14, 19, 20, 24})
    with healthy(tmp_path) as server:
        done, sent = asked(root, server)
        assert (done.code, sent, status(root)) == (0, 1, ("complete", 0)), "its rephrasing is there"
    assert final(root) == final_lines(root, {2, 9, 14, 19, 24})
    assert [step for _, step, _ in runs(root)].count("judge_test") == 1


@pytest.mark.parametrize("number", [20, 12])
def test_a_judges_prompt_that_fails_for_an_answer(tmp_path: Path, number: int) -> None:
    odd = f"{{1 / (rephrased_premise != 'In house {number - 1:03}, the man had a fall.')}}"
    prompt = f"{odd}\nOriginal: {{original_premise}}\nRephrased: {{rephrased_premise}}\nSame?"
    with healthy(tmp_path) as server:
        root = drafted(tmp_path, server.base_url, validation__validation_prompt=prompt)
        root = annotated(reviewed(root, SERVED), SERVED, AGREEING)
        first, sent = asked(root, server)
        assert (first.code, "division by zero" in first.err) == (1, True)
        if number == 12:
            assert (sent, runs(root)[-1]) == (7, ("tested", "judge_test", "partial"))
            assert "The judge gave no answer to 1 of 8 samples" in first.err
            assert asked(root, server, ACCEPT) == (first, 0), "a judge that cannot be asked is not tested"
            return
        assert (sent, decided(root)[20]) == (15, ("failed", None, None))
        accepted, sent = asked(root, server, ACCEPT)
        assert (accepted.code, sent, status(root)) == (0, 0, ("partial", 1))
    assert final(root) == final_lines(root, {2, 9, 14, 19, 20, 24})


def test_requests_that_fail_in_every_way_change_nothing(tmp_path: Path) -> None:
    faulty = running_server(recorded=recorded(tmp_path), fault_rate=0.34, fault_seed=3, slow_seconds=0.5)
    with faulty as server:
        root = annotated(reviewed(drafted(tmp_path, server.base_url, generation__timeout=1), SERVED), SERVED, AGREEING)
        generated(root)
        assert len(server.stats()["faults"]) >= 4
    assert final(root) == final_lines(root, {2, 9, 14, 19, 24})
    assert rows(root, "SELECT COUNT(*) FROM attempt WHERE failure IS NULL") == [(N_RECORDS + 16,)]
    assert rows(root, "SELECT COUNT(*) > 0 FROM attempt WHERE failure IS NOT NULL") == [(1,)]
