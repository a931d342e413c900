from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pipeline.two_stage import ANNOTATION, REVIEW
from tests.annotating import MOMENT, answers, decisions, jsonl, take
from tests.two_stage import OFFLINE, annotated, decide, drafted, generated, reviewed
from tests.workspaces import call, config, execute, new_root, rows, write_config


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    at_review = drafted(tmp_path_factory.mktemp("review"))
    at_annotation = tmp_path_factory.mktemp("annotation") / "workspace"
    shutil.copytree(at_review, at_annotation, symlinks=True)
    return {REVIEW: at_review, ANNOTATION: reviewed(at_annotation)}


@pytest.fixture
def at_review(templates: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(templates[REVIEW], tmp_path / "workspace", symlinks=True))


@pytest.fixture
def root(templates: dict[str, Path], tmp_path: Path) -> Path:
    """A workspace whose experiment waits at its annotation."""
    return Path(shutil.copytree(templates[ANNOTATION], tmp_path / "workspace", symlinks=True))


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def export(root: Path, *arguments: object) -> list[dict[str, Any]]:
    done = call(root, "annotations", "export", OFFLINE, *arguments)
    assert (done.code, done.err) == (0, "")
    return lines_of(done.out)


def test_two_people_annotate_by_file_and_see_where_they_differ(root: Path) -> None:
    for name, rejected in (("alice", {6}), ("bob", {6, 9, 10})):
        lines = export(root, "--range", "5-16", "--annotator", name)
        assert [line["verdict"] for line in lines] == [None] * 12
        for line in lines:
            line["verdict"] = "not the same" if line["sample"] in rejected else "same"
        done = take(root, lines)
        assert (done.code, done.err) == (0, "")
        assert done.out.splitlines()[:2] == [f"✅ 12 decisions imported into {OFFLINE}", f"   by {name}: 12"]
    assert "⚠️ 2 samples disputed: 9, 10" in done.out
    assert f"synthtrack annotations agreement {OFFLINE}" in done.out
    assert done.out.splitlines()[-1] == f"💾 Next: synthtrack annotate {OFFLINE}"

    shown = call(root, "annotations", "agreement", OFFLINE, "--range", "5-16")
    assert (shown.code, shown.err) == (0, "")
    assert "📊 alice and bob: 12 samples that both answered" in shown.out
    assert "Agreement: 83.3% (10 of 12)" in shown.out
    assert "Cohen's kappa: 0.429" in shown.out  # (10/12 - 102/144) / (1 - 102/144) = 3/7
    assert "⚠️ Sample 9: alice: same; bob: not the same" in shown.out
    assert "Original:  [-The-] man in house 008 fell." in shown.out
    assert "Rephrased: {+A+} man in house 008 fell." in shown.out
    assert f"To settle 9: synthtrack annotate {OFFLINE} --range 9-9\n" in shown.out
    assert f"or at once: synthtrack annotate {OFFLINE} --only --same 9 (or --not-same 9)\n" in shown.out

    found = json.loads(call(root, "annotations", "agreement", OFFLINE, "--range", "5-16", "--json").out)
    assert found["annotators"] == {"alice": 12, "bob": 12}
    [pair] = found["pairs"]
    assert pair["cohens_kappa"] == pytest.approx(3 / 7)
    assert pair["confusion"] == {
        "same": {"same": 9, "not_the_same": 2},
        "not_the_same": {"same": 0, "not_the_same": 1},
    }
    assert [difference["sample"] for difference in pair["differences"]] == [9, 10]


def test_who_was_not_asked_before_is_given_what_is_open_and_it_is_taken(root: Path) -> None:
    lines = export(root, "--annotator", "bob")
    assert [line["sample"] for line in lines] == list(range(5, 17))
    done = take(root, [{**line, "verdict": "same"} for line in lines])
    assert (done.code, done.err) == (0, "")
    assert {row[:2] for row in decisions(root)} == {(number, "bob") for number in range(5, 17)}


def test_what_is_said_to_settle_a_difference_settles_it(root: Path) -> None:
    decide(root, OFFLINE, ANNOTATION, annotator="alice")
    decide(root, OFFLINE, ANNOTATION, {9}, annotator="bob")
    done = call(root, "annotate", OFFLINE, "--range", "9-9", "--not-same", "9", "--annotator", "carol")
    assert done.code == 0, done.err
    shown = call(root, "annotations", "agreement", OFFLINE)
    assert "⚠️ Sample 9: alice: same; bob: not the same (settled: not the same)" in shown.out
    assert "To settle" not in shown.out


def test_decisions_go_from_one_experiment_to_another_as_they_are(
    root: Path, templates: dict[str, Path], tmp_path: Path
) -> None:
    decide(root, OFFLINE, ANNOTATION, {6}, annotator="alice")
    decide(root, OFFLINE, ANNOTATION, {9}, annotator="bob")
    for arguments in (("--not-same", "9", "--note", "another tense"), ("--skip", "10")):
        done = call(root, "annotate", OFFLINE, "--range", "9-10", *arguments, "--annotator", "alice")
        assert done.code == 0, done.err
    exported = call(root, "annotations", "export", OFFLINE, "--output", "all.jsonl")
    assert exported.code == 0, exported.err

    other = Path(shutil.copytree(templates[ANNOTATION], tmp_path / "other", symlinks=True))
    (other / "all.jsonl").write_text((root / "all.jsonl").read_text())
    done = call(other, "annotations", "import", OFFLINE, "all.jsonl", "--range", "5-16")
    assert done.code == 0, done.err
    assert {row[-1] for row in decisions(other)} == {"import"}
    standing = "SELECT position, verdict, n_annotators FROM sample_decision WHERE position > 3 ORDER BY position"
    assert rows(other, standing) == rows(root, standing)
    assert export(other, "--range", "5-16") == export(root, "--range", "5-16")

    before = decisions(other)
    again = json.loads(call(other, "annotations", "import", OFFLINE, "all.jsonl", "--range", "5-16", "--json").out)
    assert (again["n_imported"], again["n_unchanged"], decisions(other)) == (0, 24, before)


def test_an_import_keeps_who_when_and_why(root: Path) -> None:
    lines = [{"idx": 4, "verdict": "reject", "annotator": "alice", "note": "another tense", "decided_at": MOMENT}]
    done = take(root, lines, "--json")
    assert json.loads(done.out) == {
        "experiment": OFFLINE,
        "imported": {"alice": 1},
        "n_imported": 1,
        "n_overriding": 0,
        "n_unchanged": 0,
        "n_older": 0,
        "n_unanswered": 0,
        "n_outside": 0,
        "renamed": {},
        "disputed": [],
        "next_command": f"synthtrack annotate {OFFLINE}",
    }
    assert decisions(root) == [(5, "alice", "not_the_same", "another tense", 0, MOMENT, "import")]


def test_a_file_of_the_whole_data_set_is_taken_in_part(root: Path) -> None:
    lines = [{"idx": number, "verdict": "same" if number % 2 else "not the same"} for number in range(24)]
    done = take(root, lines, "--annotator", "recorded", "--range", "5-16")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"✅ 12 decisions imported into {OFFLINE}",
        "   by recorded: 12",
        "   outside the range: 12",
        f"💾 Next: synthtrack judge-test {OFFLINE}",
    ]
    assert [row[:3] for row in decisions(root)][:2] == [(5, "recorded", "not_the_same"), (6, "recorded", "same")]


def test_a_review_goes_by_file_too(at_review: Path) -> None:
    done = take(at_review, answers(1, 4, "approved"), "--annotator", "alice")
    assert done.code == 0, done.err
    done = take(at_review, [*answers(1, 3, "approved", "bob"), *answers(4, 4, "rejected", "bob")])
    assert "⚠️ 1 sample disputed: 4" in done.out
    shown = call(at_review, "annotations", "agreement", OFFLINE)
    assert f"To settle 4: synthtrack review {OFFLINE}\n" in shown.out
    assert f"or at once: synthtrack review {OFFLINE} --only --approve 4 (or --reject 4)\n" in shown.out
    assert [row[1:3] for row in decisions(at_review, REVIEW)][-1] == ("bob", "not_the_same")


def test_the_option_that_is_offered_approves_nothing_that_nobody_has_seen(at_review: Path) -> None:
    for name, verdict in (("alice", "same"), ("bob", "rejected")):
        take(at_review, answers(4, 4, verdict, name))
    shown = call(at_review, "annotations", "agreement", OFFLINE)
    [offered] = re.findall(r"or at once: synthtrack (.*) \(or", shown.out)
    assert call(at_review, *offered.split()).code == 0
    assert {row[0] for row in decisions(at_review, REVIEW)} == {4}
    assert "To settle" not in call(at_review, "annotations", "agreement", OFFLINE).out


def test_nothing_is_imported_where_anything_is_wrong(root: Path) -> None:
    lines = [*answers(5, 16, "same", "alice"), *answers(17, 17, "same", "alice"), {"sample": 99}]
    done = take(root, lines)
    ranges = f"The review of {OFFLINE} is of 1-4, its annotation of 5-8 and 9-16."
    assert (done.code, done.out) == (12, "")
    assert done.err.splitlines() == [
        "Error: The annotations cannot be imported; nothing was.",
        "  given.jsonl:13: sample 17 is in no checkpoint",
        "  given.jsonl:14: no sample 99: they are 1 to 24",
        f"{ranges} --range 9-16 takes the rows of those samples alone.",
    ]
    assert decisions(root) == []


def test_many_problems_are_shown_in_part(root: Path) -> None:
    done = take(root, answers(100, 149, "same", "alice"))
    told = done.err.splitlines()
    assert len(told) == 22
    assert told[-1] == "  given.jsonl: ... and 30 more"


def test_a_checkpoint_that_is_closed_takes_nothing_new(root: Path) -> None:
    before = decisions(root, REVIEW)
    done = take(root, answers(1, 1, "rejected", "alice"))
    assert done.code == 14
    assert f"The review of {OFFLINE} is closed" in done.err
    both = take(root, answers(4, 5, "rejected", "alice"))
    assert both.code == 14
    for told in (done, both):
        assert "\nOpen now are samples 5-16: --range 5-16 takes the rows of these alone.\n" in told.err
    assert (decisions(root, REVIEW), decisions(root)) == (before, [])
    taken = take(root, answers(4, 5, "rejected", "alice"), "--range", "5-16")
    assert (taken.code, [row[0] for row in decisions(root)]) == (0, [5])
    known = take(root, export(root, "--range", "1-4"))
    assert (known.code, known.out.splitlines()[1]) == (0, "   there already: 4")


def test_an_annotation_that_is_not_reached_takes_nothing(at_review: Path) -> None:
    done = take(at_review, answers(5, 5, "same", "alice"))
    assert done.code == 14
    assert done.err.splitlines() == [
        f"Error: {OFFLINE} is not at its annotation yet.",
        "Open now are samples 1-4: --range 1-4 takes the rows of these alone.",
        f"Next: synthtrack review {OFFLINE}",
    ]


def test_a_complete_experiment_still_tells_what_was_decided(root: Path) -> None:
    decide(root, OFFLINE, ANNOTATION, {9}, annotator="bob")
    annotated(root)
    settled = call(root, "annotate", OFFLINE, "--range", "9-9", "--same", "9", "--annotator", "alice")
    assert settled.code == 0, settled.err
    tested = call(root, "judge-test", OFFLINE, "--no-mlflow")
    assert tested.code == 0, tested.err
    generated(root)
    assert rows(root, "SELECT status FROM shared_experiment") == [("complete",)]

    lines = export(root)
    assert len(lines) == 4 + 2 * 12
    shown = call(root, "annotations", "agreement", OFFLINE)
    assert "bob: not the same (settled: same)" in shown.out
    assert take(root, lines).code == 0
    refused = take(root, answers(9, 9, "rejected", "carol"))
    assert refused.code == 14
    assert "Open now" not in refused.err


@pytest.mark.parametrize("decided", [False, True])
def test_one_annotator_or_none_is_told_in_words(at_review: Path, decided: bool) -> None:
    if decided:
        decide(at_review, OFFLINE, REVIEW)
    done = call(at_review, "annotations", "agreement", OFFLINE)
    assert (done.code, done.err) == (0, "")
    assert ("Only one person has answered" if decided else "Nobody has answered") in done.out
    found = json.loads(call(at_review, "annotations", "agreement", OFFLINE, "--json").out)
    assert (found["annotators"], found["pairs"]) == ({"alice": 4} if decided else {}, [])


def test_pairs_without_a_sample_in_common_are_counted_only(root: Path) -> None:
    for name, samples in (("bob", "5-8"), ("carol", "9-12")):
        decide(root, OFFLINE, ANNOTATION, annotator=name, samples=samples)
    shown = call(root, "annotations", "agreement", OFFLINE)
    assert (shown.code, "📊" in shown.out) == (0, False)
    assert shown.out.endswith("\n3 pairs answered nothing in common.\n")  # alice, who reviewed, is the third person
    decide(root, OFFLINE, ANNOTATION, annotator="dave", samples="9-12")
    shown = call(root, "annotations", "agreement", OFFLINE)
    assert [line for line in shown.out.splitlines() if "📊" in line] == [
        "📊 carol and dave: 4 samples that both answered"
    ]
    assert shown.out.endswith("\n5 other pairs answered nothing in common.\n")
    found = json.loads(call(root, "annotations", "agreement", OFFLINE, "--json").out)
    assert [pair["n_samples"] for pair in found["pairs"]] == [0, 0, 0, 0, 0, 4]


def test_an_undefined_kappa_is_told_as_such(root: Path) -> None:
    for name in ("alice", "bob"):
        decide(root, OFFLINE, ANNOTATION, annotator=name)
    assert "Cohen's kappa: undefined" in call(root, "annotations", "agreement", OFFLINE).out
    found = json.loads(call(root, "annotations", "agreement", OFFLINE, "--json").out)
    assert (found["pairs"][0]["cohens_kappa"], found["pairs"][0]["observed_agreement"]) == (None, 1.0)


def test_an_export_overwrites_only_what_it_is_told_to(root: Path) -> None:
    done = call(root, "annotations", "export", OFFLINE, "--range", "5-16", "-o", "out.jsonl")
    assert (done.code, done.out) == (0, "")
    assert done.err == "12 lines in out.jsonl, 12 of them to be filled in.\n"
    assert lines_of((root / "out.jsonl").read_text()) == export(root, "--range", "5-16")
    (root / "out.jsonl").write_text("mine")
    refused = call(root, "annotations", "export", OFFLINE, "-o", "out.jsonl")
    assert (refused.code, (root / "out.jsonl").read_text()) == (5, "mine")
    assert call(root, "annotations", "export", OFFLINE, "-o", "out.jsonl", "--overwrite").code == 0
    assert len(lines_of((root / "out.jsonl").read_text())) == 16


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "given.jsonl: No such file or directory"),
        (b'{"sample": 5}\n{"note": "\xe9"}', "given.jsonl:2: byte 0xe9"),
        (b"", "given.jsonl: no rows"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(root: Path, content: bytes | None, what: str) -> None:
    if content is not None:
        (root / "given.jsonl").write_bytes(content)
    done = call(root, "annotations", "import", OFFLINE, "given.jsonl")
    assert done.code == 12
    assert done.err.splitlines()[1].strip() == what


def test_a_byte_order_mark_is_no_content(root: Path) -> None:
    (root / "given.jsonl").write_bytes(b"\xef\xbb\xbf" + jsonl(answers(5, 5, "same", "alice")).encode())
    assert call(root, "annotations", "import", OFFLINE, "given.jsonl").code == 0


def test_decisions_come_through_a_pipe(root: Path) -> None:
    given = io.TextIOWrapper(io.BytesIO(jsonl(answers(5, 5, "same", "alice")).encode()))
    with mock.patch("sys.stdin", given):
        done = call(root, "annotations", "import", OFFLINE, "-")
    assert done.code == 0, done.err
    assert len(decisions(root)) == 1


@pytest.mark.parametrize("given", ["0-3", "8-5", "5-", "x", "5-99999999999", "-5"])
def test_a_range_that_is_none_is_told(root: Path, given: str) -> None:
    done = call(root, "annotations", "export", OFFLINE, f"--range={given}")
    assert done.code == 2
    assert "no range of samples" in done.err


def test_a_range_beyond_the_checkpoints_is_told(root: Path) -> None:
    for command in (("export",), ("agreement",)):
        done = call(root, "annotations", *command, OFFLINE, "--range", "5-17")
        assert done.code == 4
        assert "its annotation of 5-8 and 9-16" in done.err
    assert take(root, answers(5, 5, "same", "alice"), "--range", "1-20").code == 4


def test_an_experiment_of_the_other_strategy_has_no_annotations(tmp_path: Path) -> None:
    root = new_root(tmp_path, 3)
    write_config(root, config())
    generated(root)
    for command in ("export", "agreement"):
        done = call(root, "annotations", command, OFFLINE)
        assert done.code == 14
        assert "direct_all" in done.err
    assert take(root, answers(1, 1, "same", "alice")).code == 14


def test_hostile_text_does_not_steer_the_terminal(root: Path) -> None:
    decide(root, OFFLINE, ANNOTATION, annotator="alice")
    assert take(root, answers(9, 9, "rejected", "bob", note="red \x1b[31mtext\nover two lines")).code == 0
    shown = call(root, "annotations", "agreement", OFFLINE)
    assert "\x1b" not in shown.out
    assert "red ␛[31mtext over two lines" in shown.out


def test_an_export_loads_no_orm(root: Path) -> None:
    script = (
        "import sys; from cli.main import run; run(['annotations', 'export', sys.argv[1]]); "
        "sys.exit(bool({'sqlalchemy', 'pydantic', 'mlflow'} & set(sys.modules)))"
    )
    import subprocess
    import sys

    from tests.workspaces import environment

    done = subprocess.run(
        [sys.executable, "-c", script, OFFLINE],
        cwd=root, env=environment({"SYNTHTRACK_ROOT": str(root)}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 16)


def test_the_command_runs_as_a_process(root: Path) -> None:
    done = execute(root, "annotations", "export", OFFLINE, "--range", "5-5")
    assert (done.code, [line["sample"] for line in lines_of(done.out)]) == (0, [5])


def test_what_overrides_and_what_is_too_old_is_said(root: Path) -> None:
    decide(root, OFFLINE, ANNOTATION, annotator="alice")
    old = {"verdict": "reject", "annotator": "alice", "decided_at": "2020-01-01T00:00:00Z"}
    done = take(root, [{**old, "sample": 5}, {**old, "sample": 6, "decided_at": None}])
    assert (done.code, done.err) == (0, "")
    told = done.out.splitlines()
    assert "   in place of an earlier answer of the same person: 1" in told
    assert "   older than their newest answer: 1" in told
    standing = rows(root, "SELECT position, verdict FROM sample_decision WHERE position IN (4, 5) ORDER BY position")
    assert standing == [(4, "same"), (5, "not_the_same")]


def test_a_hyphen_is_stdout_as_it_is_stdin(root: Path) -> None:
    done = call(root, "annotations", "export", OFFLINE, "-o", "-")
    assert (done.code, done.err, lines_of(done.out)) == (0, "", export(root))
    assert not (root / "-").exists()
