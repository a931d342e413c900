"""`synthtrack review` and `annotate` without a terminal: options, listings, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from cli.screens.review_text import spans
from pipeline.two_stage import ANNOTATION, NOT_THE_SAME, REVIEW, SAME, SKIPPED
from tests.two_stage import OFFLINE, decide, drafted, generated, reviewed
from tests.workspaces import Done, call, config, execute, finish, new_root, rows, start, write_config

HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold red]not markup[/] \u202eevil\r\x9b31m"


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drafted(tmp_path_factory.mktemp("drafted"))


@pytest.fixture(scope="module")
def further(waiting: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reviewed(Path(shutil.copytree(waiting, tmp_path_factory.mktemp("reviewed") / "workspace")))


@pytest.fixture
def root(waiting: Path, tmp_path: Path) -> Path:
    """A workspace that waits at the review of samples 1 to 4."""
    return Path(shutil.copytree(waiting, tmp_path / "workspace"))


@pytest.fixture
def annotating(further: Path, tmp_path: Path) -> Path:
    """A workspace that waits at the annotation of samples 5 to 16."""
    return Path(shutil.copytree(further, tmp_path / "workspace"))


def review(root: Path, *options: str, annotator: str = "alice") -> Done:
    return call(root, "review", OFFLINE, "--annotator", annotator, *options)


def annotate(root: Path, *options: str, annotator: str = "alice") -> Done:
    return call(root, "annotate", OFFLINE, "--annotator", annotator, *options)


def stands(root: Path, checkpoint: str = REVIEW) -> dict[int, str]:
    """The verdict on each sample by its number."""
    found = rows(root, "SELECT position + 1, verdict FROM sample_decision WHERE checkpoint = ?", checkpoint)
    return dict(found)


def answers(root: Path) -> list[tuple[Any, ...]]:
    return rows(root, "SELECT position + 1, verdict, annotator, settles FROM decision ORDER BY id")


def named(value: object) -> str:
    """The options alone name a case."""
    return " ".join(value) if isinstance(value, list) else ""


def test_reject_some_and_approve_the_others(root: Path) -> None:
    done = review(root, "--reject", "2,4")
    assert done.code == 0, done.err
    assert stands(root) == {1: SAME, 2: NOT_THE_SAME, 3: SAME, 4: NOT_THE_SAME}
    assert set(rows(root, "SELECT annotator, via, checkpoint FROM decision")) == {("alice", "option", "review")}
    way = f"synthtrack review {OFFLINE} --annotator alice --only"
    assert done.out.splitlines() == [
        f"✅ Review of {OFFLINE}, 4 samples: 2 approved, 2 rejected (2, 4), 0 skipped",
        "   2 others, which nobody had decided, were approved",
        f"   To change an answer, until it is used: {way} --approve N (or --reject N)",
        f"   Next: synthtrack generate {rows(root, 'SELECT config_path FROM generation_run')[0][0]} --batch first",
    ]


def test_the_same_again_changes_nothing(root: Path) -> None:
    review(root, "--reject", "2")
    before = answers(root)
    assert review(root, "--reject", "2").code == 0
    assert review(root, "--approve-all").code == 0
    assert answers(root) == before


def test_what_was_decided_before_stands_unless_it_is_named(root: Path) -> None:
    assert review(root, "--reject", "1", "--approve", "2", "--skip", "3").code == 0
    assert review(root, "--reject", "2").code == 0
    assert stands(root) == {1: NOT_THE_SAME, 2: NOT_THE_SAME, 3: SKIPPED, 4: SAME}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--approve", "1-3"], {1: SAME, 2: SAME, 3: SAME}),
        (["--approve", "1", "--approve", "3, 2 - 2"], {1: SAME, 2: SAME, 3: SAME}),
        (["--skip", "4"], {4: SKIPPED}),
        (["--approve", "1", "--reject", "2"], {1: SAME, 2: NOT_THE_SAME}),
        (["--approve-all"], dict.fromkeys(range(1, 5), SAME)),
        (["--approve-all", "--skip", "4"], {1: SAME, 2: SAME, 3: SAME, 4: SKIPPED}),
        (["--reject", "2", "--skip", "4"], {1: SAME, 2: NOT_THE_SAME, 3: SAME, 4: SKIPPED}),
        (["--reject", "2", "--only"], {2: NOT_THE_SAME}),
        (["--only", "--reject", "2", "--skip", "4"], {2: NOT_THE_SAME, 4: SKIPPED}),
        (["--only", "--approve", "1,3"], {1: SAME, 3: SAME}),
    ],
    ids=named,
)
def test_lists_decide_what_they_name(root: Path, options: list[str], expected: dict[int, str]) -> None:
    assert review(root, *options).code == 0
    assert stands(root) == expected


def test_what_was_decided_without_being_named_is_said(root: Path) -> None:
    assert "others" not in review(root, "--only", "--reject", "2").out
    assert "which nobody had decided" not in review(root, "--approve", "1").out
    done = review(root, "--reject", "2", "--skip", "4")
    assert "   1 other, which nobody had decided, was approved\n" in done.out
    done = review(root, "--independent", "--approve-all", annotator="bob")
    assert "   4 samples, which you had not answered, were approved\n" in done.out
    assert "which" not in review(root, "--approve-all").out


def test_one_answer_is_changed_while_others_wait(annotating: Path) -> None:
    annotate(annotating, "--same", "6")
    done = annotate(annotating, "--only", "--not-same", "6")
    assert (done.code, stands(annotating, ANNOTATION)) == (0, {6: NOT_THE_SAME})
    assert "   Waiting: 11 (5, 7-16)\n" in done.out


def test_what_waits_is_said(root: Path) -> None:
    done = review(root, "--approve", "2")
    assert "📊" in done.out
    assert "   Waiting: 3 (1, 3-4)\n" in done.out
    assert f"   Next: synthtrack review {OFFLINE} --annotator alice\n" in done.out


def test_a_note_is_kept_with_the_samples_that_are_named(root: Path) -> None:
    review(root, "--reject", "2", "--note", "another tense")
    assert rows(root, "SELECT position + 1, note FROM decision ORDER BY position") == [
        (1, ""), (2, "another tense"), (3, ""), (4, ""),
    ]  # fmt: skip
    review(root, "--reject", "2", "--note", "no: another person")
    assert rows(root, "SELECT note FROM decision WHERE position = 1") == [("another tense",), ("no: another person",)]


def test_a_note_is_kept_with_every_answer_where_none_is_named(root: Path) -> None:
    review(root, "--approve-all", "--note", "looked at them on paper")
    assert rows(root, "SELECT DISTINCT note FROM decision") == [("looked at them on paper",)]


def test_annotators_who_differ_settle_it_with_another_answer(root: Path) -> None:
    review(root, "--approve-all", annotator="bob")
    done = review(root, "--reject", "3")
    assert "bob approved sample 3 before." in done.err
    assert "sample 3 is disputed until one of you settles it" in done.err
    way = f"synthtrack review {OFFLINE} --annotator alice --only --approve 3 (or --reject 3)"
    assert f"   Disputed: 1 (3); the next answer settles it: {way}\n" in done.out
    assert stands(root)[3] == "disputed"
    assert "disputed" not in review(root, "--reject", "3").out.lower()
    assert stands(root)[3] == NOT_THE_SAME
    assert answers(root)[-2:] == [(3, NOT_THE_SAME, "alice", 0), (3, NOT_THE_SAME, "alice", 1)]


def test_who_annotates_independently_sees_no_other(root: Path) -> None:
    review(root, "--reject", "1", annotator="bob")
    done = review(root, "--independent", "--approve", "1")
    assert (done.err, "bob" in done.out, "disputed" in done.out.lower()) == ("", False, False)
    assert f"   Next: synthtrack review {OFFLINE} --annotator alice --independent\n" in done.out
    listed = review(root, "--independent", "--list", "--json")
    assert [(each["verdict"], len(each["decisions"])) for each in json.loads(listed.out)["samples"]] == [
        (SAME, 1), (None, 0), (None, 0), (None, 0),
    ]  # fmt: skip
    assert review(root, "--independent", "--approve-all").code == 0
    assert [answer for answer in answers(root) if answer[2] == "alice"] == [
        (number, SAME, "alice", 0) for number in range(1, 5)
    ]


def test_the_sheet_as_json(root: Path) -> None:
    found = json.loads(review(root, "--reject", "2", "--note", "tense", "--json").out)
    assert (found["experiment"], found["checkpoint"], found["annotator"]) == (OFFLINE, "review", "alice")
    assert found["n_waiting"] == 0
    assert found["next_command"].startswith("synthtrack generate ")
    listed = json.loads(review(root, "--list", "--json").out)
    assert found.pop("others_called_same") == [1, 3, 4]
    assert listed.pop("others_called_same") == []
    assert listed == found
    second = found["samples"][1]
    assert second.pop("decisions")[0] | {"decided_at": ""} == {
        "annotator": "alice", "verdict": NOT_THE_SAME, "settles": False, "note": "tense", "decided_at": "",
        "via": "option",
    }  # fmt: skip
    assert second == {
        "number": 2, "field": "premise", "original": "The man in house 001 fell.",
        "rephrased": "A man in house 001 fell.", "verdict": NOT_THE_SAME,
    }  # fmt: skip


def test_the_sheet_as_a_table(root: Path) -> None:
    review(root, "--reject", "2", "--note", "tense")
    review(root, "--reject", "1", annotator="bob")
    lines = [re.split(r"\s{2,}", line.strip()) for line in review(root, "--list").out.splitlines()]
    assert lines[0] == ["#", "Original premise", "Rephrased premise", "Stands", "Answers"]
    first = ["1", "The man in house 000 fell.", "A man in house 000 fell.", "disputed", "alice: approved"]
    assert lines[2:4] == [first, ["bob: rejected"]]
    assert lines[4][3:] == ["rejected", "alice: rejected (tense)"]


def test_hostile_text_is_listed_harmlessly(root: Path) -> None:
    review(root, "--approve", "1", "--note", HOSTILE)
    with sqlite3.connect(root / "tracker.db") as connection:
        connection.execute("UPDATE sample SET rephrased = ? WHERE position = 0", (HOSTILE,))
        connection.execute("UPDATE decision SET annotator = ?", (HOSTILE,))
    connection.close()
    listed, done = review(root, "--list"), review(root, "--reject", "1")
    assert "sample 1 is disputed" in done.err
    for text in (done.out, done.err, listed.out):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "[bold red]not markup[/]" in listed.out
    assert json.loads(review(root, "--json").out)["samples"][0]["rephrased"] == HOSTILE


def test_disputes_elsewhere_and_those_just_made_are_named(annotating: Path) -> None:
    annotate(annotating, "--range", "5-15", "--not-same", "9", "--all-same", annotator="bob")
    done = annotate(annotating, "--independent", "--range", "5-8", "--not-same", "5-7", "--all-same")
    assert done.out.startswith("📊")
    assert "   In the whole annotation: 4 of 12 samples wait\n   Disputed: 3 (5-7); the next answer" in done.out
    whole = {"n_samples": 12, "n_waiting": 4, "disputed": [5, 6, 7]}
    assert json.loads(annotate(annotating, "--json").out)["whole"] == whole
    done = annotate(annotating, "--range", "9-9", "--same", "9")
    assert "   In the whole annotation: 5 of 12 samples wait\n   Disputed: 4 (5-7, 9)" in done.out
    done = annotate(annotating, "--independent", "--only", "--same", "10")
    assert done.out.startswith("📊")
    assert "   In the whole annotation: nobody has decided 1 of 12 samples\n" in done.out
    assert "disputed" not in done.out.lower()
    assert json.loads(annotate(annotating, "--independent", "--json").out)["whole"]["disputed"] is None
    annotate(annotating, "--independent", "--skip", "11", "--all-same")
    way = f"synthtrack annotate {OFFLINE} --annotator alice --only --same 5 (or --not-same 5)"
    assert (
        f"Disputed: 4 (5-7, 9); the next answer settles it: {way}" in annotate(annotating, "--only", "--skip", "11").out
    )
    done = annotate(annotating, "--only", "--same", "5-7,9")
    assert done.out.startswith("✅")


def test_ten_disputed_samples_are_named_at_most(annotating: Path) -> None:
    annotate(annotating, "--all-same", annotator="bob")
    done = annotate(annotating, "--independent", "--not-same", "5-16")
    assert "   Disputed: 12 (5-14 and 2 more); " in done.out
    annotate(annotating, "--only", "--same", "6,8")
    assert "   Disputed: 10 (5, 7, 9-16); " in annotate(annotating, "--only", "--same", "6").out


def test_the_annotation_in_two_ranges(annotating: Path) -> None:
    annotate(annotating, "--range", "5-8", "--not-same", "7")
    assert stands(annotating, ANNOTATION) == {7: NOT_THE_SAME}, "nothing is said of what nobody named"
    done = annotate(annotating, "--range", "5-8", "--all-same")
    assert stands(annotating, ANNOTATION) == {5: SAME, 6: SAME, 7: NOT_THE_SAME, 8: SAME}
    way = f"synthtrack annotate {OFFLINE} --annotator alice --only"
    assert done.out.splitlines() == [
        f"📊 Annotation of {OFFLINE}, 4 samples: 3 same, 1 not the same (7), 0 skipped",
        "   3 samples, which nobody had decided, were called the same",
        "   In the whole annotation: 8 of 12 samples wait",
        f"   To change an answer, until it is used: {way} --same N (or --not-same N)",
        f"   Next: synthtrack annotate {OFFLINE}",
    ]
    done = annotate(annotating, "--range", "9-16", "--same", "9-12")
    assert f"   Next: synthtrack annotate {OFFLINE} --annotator alice --range 9-16\n" in done.out
    done = annotate(annotating, "--skip", "16", "--all-same")
    assert f"✅ Annotation of {OFFLINE}, 12 samples: 10 same, 1 not the same (7), 1 skipped (16)" in done.out
    assert "In the whole" not in done.out
    assert "✅" in annotate(annotating, "--range", "5-8", "--only", "--same", "7").out
    assert f"   Next: synthtrack judge-test {OFFLINE}\n" in done.out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--reject", "3", "--approve", "1-3"], "Sample 3 is in both --approve and --reject."),
        (["--skip", "4", "--reject", "4"], "Sample 4 is in both --reject and --skip."),
        (["--reject", "three"], "'three' is no sample number"),
        (["--reject", "3-1"], "'3-1' is no sample number"),
        (["--reject", "0"], "'0' is no sample number"),
        (["--reject", "-2"], "'-2' is no sample number"),
        (["--reject", "1,,2"], "'' is no sample number"),
        (["--reject", ""], "'' is no sample number"),
        (["--reject", "1-99999999999"], "is no sample number"),
        (["--annotator", "al\x1b[2Jice"], "is no name"),
        (["--annotator", " "], "is no name"),
        (["--only"], "--only goes with options that name samples"),
        (["--only", "--list"], "--only goes with options that name samples"),
        (["--only", "--approve-all", "--skip", "4"], "--only and --approve-all exclude each other."),
        (["--port", "8000"], "--port goes with --web."),
        (["--web", "--list"], "--web asks in the browser"),
        (["--web", "--approve-all"], "--web asks in the browser"),
    ],
    ids=named,
)
def test_what_makes_no_sense_is_a_usage_error(root: Path, options: list[str], told: str) -> None:
    done = review(root, *options)
    assert done.code == 2
    assert told in done.err
    assert answers(root) == []


@pytest.mark.parametrize("given", ["8-", "8-5", "0-3", "a-b", "5-8-9", ""])
def test_what_is_no_range(annotating: Path, given: str) -> None:
    done = annotate(annotating, "--range", given)
    assert (done.code, f"{given!r} is no range of samples, such as 21-40." in done.err) == (2, True)


def test_a_number_that_is_not_on_the_sheet(root: Path) -> None:
    for number in ("5", "999999"):
        done = review(root, "--reject", f"1,{number}")
        assert done.code == 4
        assert done.err == f"Error: No sample '{number}'.\nThe review here is of samples 1 to 4.\n"
    assert answers(root) == []


def test_a_range_that_is_not_of_the_annotation(annotating: Path) -> None:
    done = annotate(annotating, "--range", "1-8", "--all-same")
    assert (done.code, done.err.splitlines()[0]) == (4, "Error: No samples '1-8'.")


def test_an_unknown_experiment(root: Path) -> None:
    assert call(root, "review", "Copa/none").code == 4


def test_an_experiment_of_the_other_strategy(tmp_path: Path) -> None:
    root = new_root(tmp_path, 3)
    write_config(root, config())
    assert call(root, "generate", "copa.yaml", "--no-mlflow").code == 0
    for command in ("review", "annotate"):
        done = call(root, command, OFFLINE, "--list")
        assert (done.code, "strategy direct_all" in done.err) == (14, True)


def test_the_annotation_waits_for_the_review(root: Path) -> None:
    done = annotate(root, "--all-same")
    assert (done.code, done.err.splitlines()[-1]) == (14, f"Next: synthtrack review {OFFLINE}")


def test_a_closed_review(annotating: Path) -> None:
    done = review(annotating, "--reject", "1")
    assert done.code == 14
    assert "The review of Copa/temp07_topp10_rulesv1 is closed" in done.err


def test_without_a_terminal(root: Path) -> None:
    for done in (review(root), execute(root, "review", OFFLINE)):
        assert (done.code, done.out) == (13, "")
        assert (
            "--reject 3,7,15 (and all others are approved; with --only they wait), --approve-all, --approve, --skip"
            in done.err
        )
        assert "--web" in done.err


def test_the_annotation_without_a_terminal(annotating: Path) -> None:
    done = annotate(annotating)
    assert done.code == 13
    assert "--not-same 3,7,15, --all-same, --same, --skip" in done.err


def test_everything_is_decided_already(root: Path) -> None:
    decide(root, OFFLINE, REVIEW, {2})
    done = review(root)
    assert (done.code, done.err) == (0, "Every sample of this review is decided already.\n")
    assert "3 approved, 1 rejected (2), 0 skipped" in done.out
    assert f"synthtrack review {OFFLINE} --annotator alice --only --approve N (or --reject N)\n" in done.out


def test_in_the_browser(root: Path) -> None:
    process = start(root, "review", OFFLINE, "--web", "--approve-all")
    assert finish(process).code == 2
    process = start(root, "review", OFFLINE, "--web", "--annotator", "alice")
    assert process.stderr is not None
    assert "http://127.0.0.1:" in process.stderr.readline()
    decide(root, OFFLINE, REVIEW, {2})
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert (done.code, "3 approved, 1 rejected (2), 0 skipped" in done.out) == (0, True)


def test_what_was_decided_is_used(root: Path) -> None:
    review(root, "--reject", "2")
    generated(root)
    assert rows(root, "SELECT position + 1, status, decided_by FROM sample WHERE position < 4") == [
        (1, "accepted", "person"), (2, "rejected", "person"), (3, "accepted", "person"), (4, "accepted", "person"),
    ]  # fmt: skip


def test_spans() -> None:
    assert [spans(given) for given in ([], [3], [1, 2, 3, 5, 7, 8])] == ["", "3", "1-3, 5, 7-8"]


def test_a_listing_decides_nothing(annotating: Path) -> None:
    done = annotate(annotating, "--list", "--all-same")
    assert (done.code, "--list prints samples; leave out what answers them." in done.err) == (2, True)
    assert stands(annotating, ANNOTATION) == {}


def test_what_is_closed_can_still_be_listed(annotating: Path) -> None:
    done = call(annotating, "review", OFFLINE, "--list")
    assert (done.code, done.err) == (0, "")
    assert "rejected" in done.out
