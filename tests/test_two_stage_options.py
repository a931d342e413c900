"""Strategy two_stage with options of `generate`: dry runs, trials, further draws, caps; settings that do not fit."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.two_stage import ANNOTATION, REVIEW
from tests.llm_server import Server, running_server
from tests.two_stage import (
    AGREEING,
    GENERATE,
    N_RECORDS,
    OFFLINE,
    SERVED,
    annotated,
    decide,
    decided,
    drafted,
    final_lines,
    generated,
    recorded,
    reviewed,
    runs,
    staged,
)
from tests.workspaces import call, new_root, rows, statuses, train_file, tree, write_config

PRICE = {"input_per_mtok": 100.0, "output_per_mtok": 1000.0}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(recorded=recorded(tmp_path)) as found:
        yield found


def received(server: Server) -> int:
    return int(server.stats()["received"])


def everything(root: Path) -> list[str]:
    """The whole database as SQL, and the tree."""
    if not (root / "tracker.db").exists():
        return [tree(root)]
    with contextlib.closing(sqlite3.connect(f"file:{root / 'tracker.db'}?mode=ro", uri=True)) as connection:
        return [*connection.iterdump(), tree(root)]


def calls(root: Path, server: Server) -> tuple[int, int, int]:
    """What a dry run says that `generate` will ask: to rephrase, to judge, and already paid. It must write nothing."""
    before, sent = everything(root), received(server)
    done = call(root, *GENERATE, "--dry-run", "--json")
    assert (done.code, everything(root) == before, received(server)) == (0, True, sent)
    (found,) = json.loads(done.out)
    return found["rephrase_calls"], found["judge_calls"], found["already_paid"]


def test_a_dry_run_tells_what_is_left_at_each_step(tmp_path: Path, server: Server) -> None:
    root = new_root(tmp_path, N_RECORDS)
    write_config(root, staged(server.base_url))
    assert calls(root, server) == (24, 16, 0)
    shown = call(root, *GENERATE, "--dry-run").out
    assert "people look after the first 4 records, and before the judge decides" in shown
    generated(root)
    assert calls(root, server) == (20, 16, 0)
    decide(root, SERVED, REVIEW, {2}, {3})
    assert calls(root, server) == (20, 17, 0)
    generated(root)
    assert calls(root, server) == (0, 17, 0)
    decide(root, SERVED, ANNOTATION, {9}, {7, 12})
    assert calls(root, server) == (0, 18, 0)
    assert call(root, *GENERATE).code == 15
    assert calls(root, server) == (0, 18 - 7, 0)
    assert call(root, *GENERATE, "--set", "validation.required_accuracy=0.8").code == 0
    assert calls(root, server) == (0, 0, 0)
    assert received(server) == 24 + 18
    assert "Data reuse: Yes (original batch: first)" in call(root, *GENERATE, "--dry-run").out


def dry_run(root: Path, *arguments: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(call(root, *GENERATE, "--dry-run", "--json", *arguments).out)
    return found[0]


def test_a_dry_run_shows_what_was_learned(tmp_path: Path, server: Server) -> None:
    root = drafted(tmp_path, server.base_url)
    decide(root, SERVED, REVIEW, {1, 2, 4})
    found = dry_run(root)
    learned = "Original: The man in house 002 fell.\nRephrased: In house 002, the man had a fall.\n"
    assert found["rephrase_prompt"] == f"[user]\nExample 1:\n{learned}Rephrase: The man in house 004 fell."
    assert found["shown_record"] == 5
    assert "Rephrase prompt of record 5:" in call(root, *GENERATE, "--dry-run").out
    generated(root)
    decide(root, SERVED, ANNOTATION, {6, 7, 8, *AGREEING})
    found = dry_run(root)
    assert found["validation_prompt"].startswith(
        "[user]\nExample 1:\nOriginal: The man in house 004 fell.\nRephrased: In house 004, the man had a fall.\n"
        "Verdict: same\nOriginal: The man in house 008 fell.\n"
    )


def test_a_dry_run_reckons_with_examples_that_people_have_not_approved_yet(tmp_path: Path, server: Server) -> None:
    root = new_root(tmp_path, N_RECORDS)
    write_config(root, staged(server.base_url))
    before = dry_run(root)["prompt_tokens"]
    without = dry_run(root, "--set", "generation.strategy=direct_all")["prompt_tokens"]
    generated(root)
    annotated(reviewed(root, SERVED, set()), SERVED, AGREEING)
    assert call(root, *GENERATE).code == 0
    ((sent,),) = rows(root, "SELECT SUM(prompt_tokens) FROM generation_run")
    assert 2 * without < before
    assert 0.8 * sent < before < 1.25 * sent


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--limit", "10"), "`validation.test_range` (samples 9-16) goes beyond the data: there are 10 records"),
        (("--limit", "3"), "`generation.review_size` (samples 1-4) goes beyond the data: there are 3 records"),
        (
            ("--set", "validation.test_range=20-25"),
            "`validation.test_range` (samples 20-25) goes beyond the data: there are 24 records",
        ),
        (
            ("--set", "validation.few_shot_range=23-99"),
            "`validation.few_shot_range` (samples 23-99) goes beyond the data",
        ),
        (
            ("--set", "generation.review_size=5"),
            "`generation.review_size` (samples 1-5) and `validation.few_shot_range` (samples 5-8) share",
        ),
        (
            ("--set", "validation.test_range=8-9"),
            "`validation.few_shot_range` (samples 5-8) and `validation.test_range` (samples 8-9) share",
        ),
        (("--set", "validation.test_range=9"), "must be two sample numbers from 1, as 21-40"),
        (("--set", "validation=null"), "strategy two_stage needs a judge: add a validation section"),
    ],
)
def test_ranges_that_do_not_fit(tmp_path: Path, given: tuple[str, ...], told: str) -> None:
    root = new_root(tmp_path, N_RECORDS)
    write_config(root, staged())
    done = call(root, *GENERATE, *given)
    assert (done.code, told in done.err) == (3, True), done.err
    assert not (root / "tracker.db").exists()


def test_a_trial_without_a_record_for_the_judge(tmp_path: Path) -> None:
    root = new_root(tmp_path, N_RECORDS)
    write_config(root, staged())
    limited = ("--limit", "16")
    first, trial = f"{OFFLINE}_first16", "temp07_topp10_rulesv1_first16"
    assert "--limit 16" not in generated(root, *limited).out, "a person needs no limit"
    decide(root, first, REVIEW, {2})
    shown = call(root, "experiment", "show", first).out
    assert "--limit 16" in next(line for line in shown.splitlines() if line.startswith("Next: "))
    generated(root, *limited)
    decide(root, first, ANNOTATION, {5, 9})
    generated(root, *limited, "--set", "validation.required_accuracy=0.5")
    assert {row[2] for row in decided(root, first).values()} == {"person"}
    assert rows(root, "SELECT n_calls, status FROM generation_run WHERE step = 'validate'") == [(0, "complete")]
    assert len(train_file(root, trial).read_bytes().splitlines()) == 16


def test_another_draw_is_gone_on_with_until_it_is_done(tmp_path: Path) -> None:
    root = drafted(tmp_path)
    draw = f"{OFFLINE}_draw1"
    made = generated(root, "--fresh")
    assert made.out.startswith(f"✅ {draw}: made, waiting")
    assert "nothing to generate before a person has looked" in generated(root, "--fresh").out
    assert rows(root, "SELECT draw FROM shared_experiment ORDER BY id") == [(0,), (1,)]
    decide(root, draw, REVIEW)
    shown = json.loads(call(root, "experiment", "show", draw, "--json").out)
    assert shown["next_command"].endswith("--fresh")
    generated(root, "--fresh")
    generated(annotated(root, draw), "--fresh")
    found = dict(rows(root, "SELECT draw, status FROM shared_experiment"))
    assert found == {0: "unfinished", 1: "complete"}
    asked = "SELECT rephrase_request_key FROM sample WHERE shared_experiment_id = ? AND position < 4"
    assert not set(rows(root, asked, 1)) & set(rows(root, asked, 2))
    generated(root, "--fresh")
    assert rows(root, "SELECT draw FROM shared_experiment ORDER BY id") == [(0,), (1,), (2,)]


def spent(root: Path) -> float:
    return float(rows(root, "SELECT COALESCE(SUM(cost_usd), 0) FROM attempt")[0][0])


def test_a_cap_counts_what_all_steps_have_cost(tmp_path: Path, server: Server) -> None:
    root = new_root(tmp_path, N_RECORDS)
    write_config(root, staged(server.base_url, generation__price=PRICE, generation__max_tokens=30))

    def capped(cap: float) -> int:
        done = call(root, *GENERATE, "--max-cost", str(cap))
        assert done.code == 0 or f"above ${cap:,.4f}" in done.err, done.err
        assert spent(root) <= cap
        return done.code

    assert capped(0.3) == 0
    decide(root, SERVED, REVIEW)
    assert capped(0.3) == 10
    assert 4 < received(server) < N_RECORDS
    assert capped(10) == 0
    decide(root, SERVED, ANNOTATION, AGREEING)
    in_test = spent(root) + 0.1
    assert capped(in_test) == 10
    assert runs(root)[-1] == ("tested", "judge_test", "interrupted")
    assert rows(root, "SELECT COUNT(*) FROM judge_test") == [(0,)]
    assert capped(10) == 0
    assert statuses(root) == ["waiting", "interrupted", "waiting", "interrupted", "complete", "complete"]
    assert received(server) == N_RECORDS + 16
    assert rows(root, "SELECT COUNT(*) FROM cost_reservation") == [(0,)]
    total = rows(root, "SELECT e.cost_usd, SUM(r.cost_usd) FROM shared_experiment e JOIN generation_run r")
    assert total == [(pytest.approx(spent(root)), pytest.approx(spent(root)))]


def test_prompts_that_learn_nothing_are_warned_of(tmp_path: Path) -> None:
    root = new_root(tmp_path, N_RECORDS)
    plain = "Is {rephrased_premise} the same as {original_premise}?"
    changes: dict[str, Any] = {"generation__rephrase_prompt": "Rephrase: {premise}"}
    write_config(root, staged(validation__validation_prompt=plain, **changes))
    done = generated(root)
    for section, name in (("generation", "REPHRASE_FEWSHOT"), ("validation", "VALIDATION_FEWSHOT")):
        assert f"What people approve teaches {section} nothing: its prompt has no {{{{{name}}}}}." in done.err
    assert "teaches" not in generated(reviewed_with(root)).err


def reviewed_with(root: Path) -> Path:
    """The same workspace with a config whose prompts do learn."""
    write_config(root, staged())
    return root


def test_several_configs_each_do_their_next_step(tmp_path: Path, server: Server) -> None:
    root = new_root(tmp_path, N_RECORDS)
    for name, temperature in (("a", 0.1), ("b", 0.2)):
        document = staged(server.base_url, generation__temperature=temperature)
        write_config(root, document, f"study/{name}.yaml")
    study = ("generate", "study", "--no-mlflow")
    assert call(root, *study).code == 0
    first, second = "Copa/temp01_topp10_gpt4o", "Copa/temp02_topp10_gpt4o"
    decide(root, first, REVIEW)
    mixed = call(root, *study)
    assert f"✅ {first}: resumed, waiting" in mixed.out
    assert f"💾 {second}: nothing to generate before a person has looked" in mixed.out
    decide(root, first, ANNOTATION)
    decide(root, second, REVIEW)
    failed = call(root, *study, "--json")
    assert failed.code == 15
    found = json.loads(failed.out)
    assert [(each["outcome"], each.get("step")) for each in found] == [("failed", None), ("resumed", "annotate")]
    assert found[1]["next_command"] == f"synthtrack annotate {second}"


def test_another_batch_shares_a_finished_experiment_only(tmp_path: Path, server: Server) -> None:
    root = annotated(reviewed(drafted(tmp_path, server.base_url), SERVED), SERVED, AGREEING)
    done = generated(root, "--batch", "second")
    assert "Batch path:  Data_v2/synthetic/second/Copa/temp07_topp10_gpt4o/Copa" in done.out
    assert train_file(root, group="second").read_bytes() == b"".join(final_lines(root, {2, 9, 14, 19, 24}))
    found = rows(
        root, "SELECT b.name, m.reused FROM batch_membership m JOIN batch b ON b.id = m.batch_id ORDER BY b.id"
    )
    assert found == [("first", 0), ("second", 1)]


def test_no_key_is_needed_while_a_person_is_to_look(server: Server, tmp_path: Path) -> None:
    root = drafted(tmp_path, server.base_url)
    done = call(root, "generate", "copa.yaml", "--no-mlflow", environ={"OPENAI_API_KEY": None})
    assert done.code == 0, done.err
    assert f"Next: synthtrack review {SERVED}" in done.out


def test_a_dry_run_with_another_judge_knows_what_is_paid_for_already(tmp_path: Path, server: Server) -> None:
    root = reviewed(drafted(tmp_path, server.base_url), SERVED)
    found = dry_run(root, "--set", "validation.seed=1")
    assert (found["status"], found["rephrase_calls"], found["already_paid"]) == ("new", 0, N_RECORDS)
