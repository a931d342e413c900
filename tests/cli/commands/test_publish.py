"""``publish`` as it is typed, from real commands on."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.two_stage import OFFLINE, drafted
from tests.view_rows import Made, workspace
from tests.workspaces import call, config, execute, new_root, rows, steady, train_file, write_config

ONE, TWO = "Copa/temp07_topp10_rulesv1", "Copa/temp09_topp10_rulesv1"
TARGET = "Data/rejection_sampling/0_data"
GENERATE = ("generate", "copa.yaml", "--no-mlflow")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = new_root(tmp_path_factory.mktemp("made"), 6)
    write_config(root, config())
    assert call(root, *GENERATE).code == 0
    assert call(root, *GENERATE, "--set", "generation.temperature=0.9").code == 0
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "workspace", symlinks=True))


def test_publishes_and_lists(root: Path) -> None:
    done = call(root, "publish", ONE, "--target", TARGET, "--archive", "mezo_gpt/version_1")
    assert (done.code, done.err) == (0, "")
    assert (
        done.out
        == f"""\
✅ {ONE}: published
   Target: {TARGET}/Copa (copied)
   Archive: Data/rejection_sampling/mezo_gpt/version_1/Copa (copied)
"""
    )
    published = root / TARGET / "Copa"
    shared = train_file(root, "temp07_topp10_rulesv1").parent
    assert {path.name: path.read_bytes() for path in published.glob("copa_*")} == {
        path.name: path.read_bytes() for path in shared.iterdir()
    }
    again = call(root, "publish", ONE, "--target", TARGET)
    assert again.out == f"⚡ {ONE}: already published\n   Target: {TARGET}/Copa (copied, there already)\n"
    other = call(root, "publish", TWO, "--target", TARGET, "--symlink")
    assert other.out == f"✅ {TWO}: published\n   Target: {TARGET}/Copa (linked, in place of a copy of {ONE})\n"
    listed = call(root, "publish", "list")
    fingerprints = dict(rows(root, "SELECT dataset || '/' || name, fingerprint FROM shared_experiment"))
    assert (listed.code, listed.err) == (0, "")
    assert (
        re.sub("by .*:", "by USER:", steady(listed.out, root))
        == f"""\
✅ {TARGET}/Copa
   {TWO} ({fingerprints[TWO]}), symlink
   MOMENT by USER: as published

✅ Data/rejection_sampling/mezo_gpt/version_1/Copa (archive)
   {ONE} ({fingerprints[ONE]}), copy
   MOMENT by USER: as published

📦 {TARGET}/Copa
   {ONE} ({fingerprints[ONE]}), copy
   MOMENT by USER: replaced by {TWO}
"""
    )
    assert "💾 2 older publications not shown" in call(root, "publish", "list", "--limit", 1).out


def test_what_force_moved_aside_is_listed_with_where_it_is(root: Path) -> None:
    call(root, "publish", ONE, "--target", TARGET)
    (root / TARGET / "Copa/copa_train.jsonl").write_text("edited")
    (root / TARGET / "Copa.before-mine").write_text("mine")
    moved = json.loads(call(root, "publish", TWO, "--target", TARGET, "--force", "--json").out)["publications"]
    aside = Path(moved[0]["moved_aside"])
    listed = call(root, "publish", "list")
    assert f": moved aside to {aside.name} beside it, and replaced by {TWO}\n" in listed.out
    assert (listed.out.count("✅"), listed.out.count("📦")) == (1, 1)
    found = json.loads(call(root, "publish", "list", "--json").out)
    assert [row["moved_aside"] for row in found] == [None, str(aside)]
    shutil.rmtree(aside)
    assert f": replaced by {TWO}\n" in call(root, "publish", "list").out


def test_a_copy_that_takes_the_place_of_links_is_said_to_be_one(root: Path) -> None:
    call(root, "publish", ONE, "--target", TARGET, "--symlink")
    for ref, words, expected in (
        (TWO, ("--symlink",), f"linked, in place of {ONE}"),
        (TWO, (), f"copied, in place of links to {TWO}; --symlink links again"),
        (ONE, (), f"copied, in place of {TWO}"),
    ):
        done = call(root, "publish", ref, "--target", TARGET, *words)
        assert done.out == f"✅ {ref}: published\n   Target: {TARGET}/Copa ({expected})\n"


def test_what_was_changed_is_listed(root: Path) -> None:
    call(root, "publish", ONE, "--target", TARGET, "--symlink")
    call(root, "publish", TWO, "--target", "Data/copied")
    (root / "Data/copied/Copa/copa_train.jsonl").write_text("edited")
    shutil.rmtree(root / "Data_v2")
    listed = call(root, "publish", "list")
    assert "⚠️  Data/copied/Copa\n" in listed.out
    assert ": changed: copa_train.jsonl\n" in listed.out
    assert ": missing: copa_train.jsonl, copa_validation.jsonl, copa_test.jsonl\n" in listed.out
    assert listed.err == "💾 `synthtrack view rebuild` brings back what links lead to.\n"
    assert call(root, "view", "rebuild").code == 0
    assert call(root, "publish", "list").err == ""


@pytest.mark.parametrize("how", ["source", "path", "fingerprint", "option first"])
def test_an_experiment_is_named_in_every_way(root: Path, how: str) -> None:
    shared = "Data_v2/synthetic/_shared/Copa/temp07_topp10_rulesv1"
    fingerprint = rows(root, "SELECT fingerprint FROM shared_experiment ORDER BY id")[0][0]
    words = {
        "source": ("--source", shared, "--dataset", "Copa", "--target", TARGET),
        "path": (f"{shared}/Copa/", "--target", TARGET),
        "fingerprint": (fingerprint[:8], "--target", TARGET),
        "option first": ("--target", TARGET, ONE),
    }[how]
    done = call(root, "publish", *words)
    assert (done.code, done.out.splitlines()[0]) == (0, f"✅ {ONE}: published")


def test_prints_json(root: Path) -> None:
    (root / TARGET / "Copa").mkdir(parents=True)
    (root / TARGET / "Copa/mine").write_text("mine")
    done = call(root, "publish", ONE, "--target", TARGET, "--force", "--json")
    found = json.loads(done.out)
    assert found["reference"] == ONE
    assert sorted(found["files"]) == ["copa_test.jsonl", "copa_train.jsonl", "copa_validation.jsonl"]
    (each,) = found["publications"]
    aside = Path(each.pop("moved_aside"))
    assert (aside / "mine").read_text() == "mine"
    assert done.err == f"⚠️  What was in its place is now in {aside.relative_to(root)}\n"
    directory = str(root / TARGET / "Copa")
    assert each == {
        "kind": "target", "directory": directory, "mode": "copy", "outcome": "replaced", "replaced": None,
        "replaced_mode": None,
    }  # fmt: skip
    (row,) = json.loads(call(root, "publish", "list", "--json").out)
    assert row["files"].items() >= found["files"].items()
    assert (row["experiment"], row["directory"], row["state"]) == (ONE, directory, "as published")
    assert (row["as_published"], row["replaced_by"], row["added"]) == (True, None, [])


def test_nothing_published_yet(root: Path) -> None:
    assert "Nothing published yet" in call(root, "publish", "list").out
    assert json.loads(call(root, "publish", "list", "--json").out) == []


def test_help_explains_both(root: Path) -> None:
    done = call(root, "publish", "--help")
    assert done.code == 0
    for word in ("EXPERIMENT", "list", "--target", "--archive", "--symlink", "--force", "--source"):
        assert word in done.out
    assert call(root, "publish").code == 2
    assert "--limit" in call(root, "publish", "list", "--help").out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((ONE,), "Missing option '--target'"),
        (("--target", TARGET), "Name one experiment"),
        ((ONE, "--source", TWO, "--target", TARGET), "Name one experiment"),
        ((ONE, TWO, "--target", TARGET), "unexpected extra argument"),
        (("list", ONE), "unexpected extra argument"),
        ((ONE, "--target", TARGET, "--what"), "No such option"),
    ],
)
def test_a_wrong_command_line_is_explained(root: Path, words: tuple[str, ...], expected: str) -> None:
    done = call(root, "publish", *words)
    assert done.code == 2
    assert expected in done.err


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("Copa/temp70_topp10_rulesv1",), 4, ONE),
        ((ONE, "--dataset", "../Copa"), 3, "--dataset: '../Copa' holds a separator"),
        ((ONE, "--archive", "../up"), 3, "--archive: '..' is no name"),
        ((ONE, "--target", "Data_v2/synthetic/first"), 5, "synthtrack path list"),
        ((ONE, "--target", "copy.yaml"), 5, "it is no directory"),
        ((ONE, "--target", "Data/original", "--force"), 5, "where source data was read from"),
    ],
)
def test_what_is_refused_is_explained(root: Path, words: tuple[str, ...], code: int, expected: str) -> None:
    (root / "copy.yaml").write_text("mine")
    done = call(root, "publish", *(words if "--target" in words else (*words, "--target", TARGET)))
    assert (done.code, done.out) == (code, "")
    assert expected in done.err
    assert rows(root, "SELECT count(*) FROM publication") == [(0,)]


def test_a_trial_is_said_to_be_one(root: Path) -> None:
    assert call(root, *GENERATE, "--limit", 2).code == 0
    name = rows(root, "SELECT name FROM shared_experiment WHERE record_limit = 2")[0][0]
    done = call(root, "publish", f"Copa/{name}", "--target", TARGET)
    assert done.code == 0
    assert done.err == "⚠️  This is a trial of the first 2 records (--limit).\n"


def test_unfinished_and_partial_data_is_refused_with_what_finishes_it(tmp_path: Path) -> None:
    given = (Made(name="partial", outcomes=("x", "failed", "y"), status="partial"), Made(status="unfinished"))
    root = workspace(tmp_path, given).root
    partial = call(root, "publish", "Copa/partial", "--target", TARGET, "--force")
    assert partial.code == 1
    assert "Try them again: synthtrack generate CONFIG --batch batch_a" in partial.err
    unfinished = call(root, "publish", "Copa/temp07_topp10_gpt4o", "--target", TARGET)
    assert unfinished.code == 14
    assert "Next: synthtrack generate CONFIG --batch batch_a" in unfinished.err


def test_data_that_waits_for_a_person_is_refused_with_the_next_step(tmp_path: Path) -> None:
    root = drafted(tmp_path)
    done = call(root, "publish", OFFLINE, "--target", TARGET)
    assert done.code == 14
    assert f"Next: synthtrack review {OFFLINE}" in done.err


def test_without_a_workspace_nothing_is_made(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        for words in (("publish", "list"), ("publish", ONE, "--target", TARGET)):
            assert call(tmp_path, *words).code == 4
    assert list(tmp_path.iterdir()) == []


def test_in_a_process_of_its_own(root: Path) -> None:
    done = execute(root, "publish", ONE, "--target", TARGET)
    assert (done.code, done.err) == (0, "")
    assert execute(root, "publish", "list").out.count("as published") == 1


def test_what_others_named_steers_no_terminal(root: Path) -> None:
    target = "Data/\x1b[2J\x1b]0;mine\x07"
    done = call(root, "publish", ONE, "--target", target)
    assert done.code == 0
    with sqlite3.connect(root / "tracker.db") as connection:
        connection.execute("UPDATE publication SET published_by = 'ann\x1b[31m'")
    connection.close()
    for told in (done, call(root, "publish", "list"), call(root, "experiment", "show", ONE)):
        assert (told.code, "\x1b" in told.out, "\x07" in told.out) == (0, False, False)
    assert "[2J" in call(root, "experiment", "show", ONE).out
