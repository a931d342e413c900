"""What only a terminal is shown: bars of long work, and questions before something goes."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from pipeline.two_stage import REVIEW
from tests.llm_server import running_server
from tests.old_trees import write_tree
from tests.terminals import written
from tests.two_stage import AGREEING, SERVED, annotated, decide, drafted, generated, recorded
from tests.workspaces import call, config, new_root, rows, served, write_config

N = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = new_root(tmp_path_factory.mktemp("made"), N)
    write_config(root, config())
    assert call(root, "generate", "copa.yaml", "--no-mlflow").code == 0
    assert call(root, "backup", "before.db").code == 0
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "workspace", symlinks=True))


def test_generate_draws_how_far_it_is(tmp_path: Path) -> None:
    root = new_root(tmp_path, N)
    with running_server(latency=0.3) as server:
        write_config(root, served(server.base_url, generation__concurrency=2))
        code, shown = written(root, "generate", "copa.yaml", environ={"OPENAI_API_KEY": "test-key"})
    assert code == 0, shown
    assert f"/{N} [" in shown
    assert "rec/s" in shown
    assert "Logging to MLflow ..." in shown
    assert rows(root, "SELECT COUNT(*) FROM sample") == [(N,)]


def test_each_step_of_a_staged_experiment_has_a_bar_of_its_own(tmp_path: Path) -> None:
    with running_server(recorded=recorded(tmp_path)) as server:
        root = drafted(tmp_path, server.base_url)
        decide(root, SERVED, REVIEW, {2})
        generated(root)
        annotated(root, SERVED, AGREEING)
        code, shown = written(root, "generate", "copa.yaml", "--no-mlflow")
    assert code == 0, shown
    totals = re.findall(r"/(\d+) \[", shown)
    assert len(dict.fromkeys(totals)) == 2, shown


def test_an_import_draws_how_far_it_is(tmp_path: Path) -> None:
    write_tree(tmp_path / "old")
    root = tmp_path / "workspace"
    root.mkdir()
    code, shown = written(root, "import", tmp_path / "old")
    assert code == 1, shown
    assert "Importing: " in shown
    assert "exp" in shown.partition("Importing: ")[2]
    assert "Importing: " not in call(root, "import", tmp_path / "old").err


@pytest.mark.parametrize(
    ("command", "drawn"),
    [
        (("verify",), "experiment: "),
        (("backup", "again.db"), "copy: "),
        (("restore", "before.db", "--yes"), "copy: "),
        (("view", "rebuild"), " entries"),
        (("mlflow", "sync"), "Logging to MLflow: 1 of 1"),
    ],
)
def test_what_goes_through_everything_draws_it(root: Path, command: tuple[str, ...], drawn: str) -> None:
    code, shown = written(root, *command)
    assert code == 0, shown
    assert drawn in shown, shown
    done = call(root, *command, *(("--overwrite",) if command[0] == "backup" else ()))
    assert (done.code, drawn in done.out, drawn in done.err) == (0, False, False)


@pytest.mark.parametrize(("answer", "code", "said"), [("n", 130, "Nothing was changed."), ("y", 0, "✅ Restored")])
def test_before_a_restore_a_person_is_asked(root: Path, answer: str, code: int, said: str) -> None:
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        connection.execute("UPDATE batch SET description = 'later'")
    done, shown = written(root, "restore", "before.db", typed=f"{answer}\n")
    assert (done, said in shown) == (code, True), shown
    assert "Replace it? It is kept in .trash." in shown
    assert rows(root, "SELECT description FROM batch") == [("later" if code else "",)]


@pytest.mark.parametrize(
    ("command", "question", "left"),
    [
        (
            ("batch", "delete", "second"), "Move this to the trash?",
            "SELECT 1 FROM batch_experiment WHERE batch = 'second'",
        ),
        (
            ("trash", "empty", "--older-than", "0d"), "Remove it for good?",
            "SELECT 1 FROM deletion WHERE emptied_at IS NULL",
        ),
        (
            ("gc", "--older-than", "0d", "--empty-trash"), "Clear this away?",
            "SELECT 1 FROM deletion WHERE emptied_at IS NULL",
        ),
    ],
)  # fmt: skip
def test_before_something_goes_a_person_is_asked(
    root: Path, command: tuple[str, ...], question: str, left: str
) -> None:
    for batch in ("second", "third"):
        assert call(root, "generate", "copa.yaml", "--no-mlflow", "--set", f"experiment.batch_id={batch}").code == 0
    assert call(root, "batch", "delete", "third", "--yes").code == 0
    code, shown = written(root, *command, typed="n\n")
    assert (code, question in shown, "Nothing was changed." in shown) == (130, True, True), shown
    assert rows(root, left) == [(1,)]
    code, shown = written(root, *command, typed="y\n")
    assert (code, question in shown) == (0, True), shown
    assert rows(root, left) == []


def test_what_the_trash_holds_besides_is_listed_and_goes_with_it(root: Path) -> None:
    aside = root / ".trash/view-20200101T000000.000000Z/batch/Copa"
    aside.mkdir(parents=True)
    (aside / "mine.txt").write_text("12345")
    assert call(root, "trash", "list").out == (
        "1 thing put aside by the view or left over, 5 bytes:\n   .trash/view-20200101T000000.000000Z\n"
    )
    (found,) = json.loads(call(root, "trash", "list", "--json").out)["aside"]
    assert (found["path"], found["n_bytes"]) == (".trash/view-20200101T000000.000000Z", 5)
    done = json.loads(call(root, "trash", "empty", "--yes", "--json").out)
    assert (done["dry_run"], done["strays"], done["n_bytes"]) == (False, ["view-20200101T000000.000000Z"], 5)
    found = json.loads(call(root, "gc", "--older-than", "0d", "--empty-trash", "--no-mlflow", "--yes", "--json").out)
    assert (found["dry_run"], found["emptied"]["strays"]) == (False, [])
    assert call(root, "trash", "list").out == "The trash is empty.\n"
