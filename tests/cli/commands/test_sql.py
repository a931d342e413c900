from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.query_rows import filled
from tests.training_rows import BATCH
from tests.workspaces import REPOSITORY, call
from tracker.tracing.questions import QUESTIONS, VIEWS

NUMBERS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT {n}) SELECT n FROM r"
ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n, hex(n) FROM r"
ENVIRON = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("sql")).workspace.root


def start(root: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", "--root", str(root), "sql", *arguments]
    return subprocess.run(command, env=ENVIRON, input=stdin, capture_output=True, text=True, check=False)


def test_a_table_shows_null_and_the_size_of_a_blob(root: Path) -> None:
    done = call(root, "sql", "SELECT 'a' AS name, 0.1 + 0.2 AS x, NULL AS none, x'000102' AS raw, 7 AS n")
    assert done.out == (
        "name      x  none    raw          n\n"
        "------  ---  ------  ---------  ---\n"
        "a       0.3  NULL    <3 bytes>    7\n"
    )
    assert (done.code, done.err) == (0, "")


def test_csv_is_quoted_as_csv_is(root: Path) -> None:
    hostile = "SELECT 'a \"b\", c' AS \"one, two\", 'x\ny' AS lines, NULL AS none, '' AS empty, 0.1 + 0.2 AS x"
    done = call(root, "sql", hostile, "--csv")
    assert done.out == '"one, two",lines,none,empty,x\n"a ""b"", c","x\ny",,,0.30000000000000004\n'
    assert list(csv.reader(io.StringIO(done.out)))[1] == ['a "b", c', "x\ny", "", "", "0.30000000000000004"]


def test_json_keeps_columns_of_one_name_apart_and_is_json(root: Path) -> None:
    done = call(root, "sql", "SELECT 1 AS a, 'é' AS a, 9e999 AS big, x'00' AS raw, NULL AS none", "--json")
    assert "Infinity" not in done.out
    assert json.loads(done.out) == [{"a": 1, "a_2": "é", "big": "inf", "raw": "<1 byte>", "none": None}]
    assert call(root, "sql", "SELECT 1 AS a WHERE 0", "--json").out == "[]\n"


@pytest.mark.parametrize("n", [1, 999, 1000, 1001, 2500])
def test_every_row_comes_out_whatever_their_number(root: Path, n: int) -> None:
    asked = NUMBERS.format(n=n)
    assert json.loads(call(root, "sql", asked, "--json").out) == [{"n": each} for each in range(1, n + 1)]
    assert call(root, "sql", asked, "--csv").out.split() == ["n", *map(str, range(1, n + 1))]
    assert len(call(root, "sql", asked, "--limit", "0").out.splitlines()) == n + 2


@pytest.mark.parametrize(
    ("options", "rows", "said"),
    [
        ((), 1000, "💾 Only the first 1,000 rows; --limit 0 prints all.\n"),
        (("--limit", "1"), 1, "💾 Only the first 1 row; --limit 0 prints all.\n"),
        (("--limit", "1001"), 1001, ""),
        (("--limit", "5000"), 1001, ""),
    ],
)
def test_where_rows_are_left_out_it_says_so(root: Path, options: tuple[str, ...], rows: int, said: str) -> None:
    done = call(root, "sql", NUMBERS.format(n=1001), *options)
    assert (len(done.out.splitlines()) - 2, done.err) == (rows, said)


def test_an_endless_query_is_cut_or_stopped(root: Path) -> None:
    assert len(call(root, "sql", ENDLESS, "--limit", "3").out.splitlines()) == 5
    done = call(root, "sql", ENDLESS, "--csv", "--timeout", "0.3")
    assert (done.code, done.err.splitlines()[0]) == (18, "Error: The query took more than 0.3 s and was stopped.")


def test_no_rows_are_said_to_be_none(root: Path) -> None:
    done = call(root, "sql", "SELECT name FROM batch WHERE 0")
    assert (done.code, done.out, done.err) == (0, "name\n------\n", "The query gave no rows.\n")


def test_a_query_from_a_file_or_from_standard_input(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "a question.sql"
    file.write_text("-- who\nSELECT 'ü' AS who;\n", encoding="utf-8")
    assert call(root, "sql", "--file", str(file), "--csv").out == "who\nü\n"
    assert start(root, "-", "--csv", stdin="SELECT 3 AS n\n").stdout == "n\n3\n"
    assert call(root, "sql", "--file", str(tmp_path / "none.sql")).code == 11
    file.write_bytes(b"SELECT '\xff'")
    assert "no text in UTF-8" in call(root, "sql", "--file", str(file)).err
    assert call(root, "sql", "SELECT '\udcff'").err == "Error: The query is no text in UTF-8.\n"


@pytest.mark.parametrize(
    "arguments", [(), ("SELECT 1", "--file", "x"), ("SELECT 1", "--csv", "--json"), ("SELECT 1", "--schema", "batch")]
)
def test_what_cannot_be_meant_is_a_wrong_command_line(root: Path, arguments: tuple[str, ...]) -> None:
    assert call(root, "sql", *arguments).code == 2


@pytest.mark.parametrize(
    ("sql", "code", "said"),
    [
        ("DELETE FROM batch", 18, "Error: Refused: DELETE.\n`sql` only reads"),
        ("SELECT nam FROM batch", 4, "Error: No column 'nam'.\nDid you mean name?"),
        ("SELECT * FROM bach", 4, "Did you mean batch"),
        ("SELECT 1; SELECT 2", 18, "more than one statement"),
        ("SELEC", 18, 'near "SELEC": syntax error'),
    ],
)
def test_an_error_says_what_to_do(root: Path, sql: str, code: int, said: str) -> None:
    done = call(root, "sql", sql)
    assert (done.code, done.out, said in done.err) == (code, "", True)


def test_what_steers_a_terminal_is_made_visible_in_a_table(root: Path) -> None:
    done = call(root, "sql", "SELECT char(27) || '[2J' AS x, char(8238) || 'abc' AS y")
    assert "\x1b" not in done.out
    assert ("␛[2J" in done.out, "<U+202E>abc" in done.out) == (True, True)


@pytest.mark.parametrize("options", [("--csv",), ("--json",)])
def test_a_reader_that_has_seen_enough_is_no_error(root: Path, options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "cli.main", "--root", str(root), "sql", ENDLESS, "--timeout", "0", *options]
    with subprocess.Popen(command, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        assert started.stdout.readline()
        started.stdout.close()
        # Click ends with 1 where a pipe is closed, the shell's convention is 141.
        assert (started.stderr.read(), started.wait(60) in {1, 141}) == ("", True)


def test_ctrl_c_ends_an_answer_without_end(root: Path) -> None:
    command = [sys.executable, "-m", "cli.main", "--root", str(root), "sql", ENDLESS, "--timeout", "0", "--csv"]
    with subprocess.Popen(command, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "n,hex(n)\n"
        started.send_signal(signal.SIGINT)
        _, said = started.communicate(timeout=60)
        assert (said.strip(), started.returncode) == ("Error: Interrupted.", 130)


def test_long_cells_are_cut_on_a_terminal_only(root: Path) -> None:
    asked = "SELECT 'line 1' || char(10) || printf('%.200c', 'x') AS text"
    assert "x" * 200 in start(root, asked).stdout
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cli.main", "--root", str(root), "sql", asked]
    done = subprocess.run(command, env=ENVIRON, stdout=theirs, check=True)
    os.close(theirs)
    with os.fdopen(ours, encoding="utf-8", newline="") as terminal:
        lines = [terminal.readline().rstrip() for _ in range(3)]
    assert (done.returncode, lines[2]) == (0, f"line 1␊{'x' * 52}…")


def test_the_schema_names_views_tables_and_questions(root: Path) -> None:
    done = call(root, "sql", "--schema")
    assert done.code == 0
    assert all(f"\n  {name}\n    {view.row[:30]}" in done.out for name, view in VIEWS.items())
    assert "\n  shared_experiment\n    - id, fingerprint, digest" in done.out
    assert all(f"\n  -- {each.title}\n  {each.sql.splitlines()[0]}\n" in done.out for each in QUESTIONS)


def test_the_schema_of_one_view_says_what_its_columns_mean(root: Path) -> None:
    done = call(root, "sql", "--schema", "batch_cost")
    assert "  n_unpriced_runs        runs whose cost is not known\n" in done.out
    assert "  -- What did each batch cost, and an accepted record in it?\n" in done.out
    assert "What did each batch cost" not in call(root, "sql", "--schema", "batch").out
    (found,) = json.loads(call(root, "sql", "--schema", "batch_cost", "--json").out)
    assert found["kind"] == "view"
    assert {"name": "batch", "type": "varchar", "meaning": None} in found["columns"]
    assert [each["title"] for each in found["questions"]] == ["What did each batch cost, and an accepted record in it?"]
    (table,) = json.loads(call(root, "sql", "--schema", "batch", "--json").out)
    assert table["questions"] == [], "a column of that name is another thing"
    unknown = call(root, "sql", "--schema", "batch_cots")
    assert (unknown.code, "Did you mean batch_cost" in unknown.err) == (4, True)


def test_a_workspace_is_found_as_everywhere(root: Path, tmp_path: Path) -> None:
    done = call(tmp_path, "sql", f"SELECT purpose FROM batch WHERE name = '{BATCH}'", "--csv", "--root", str(root))
    assert done.out == "purpose\ntemperature_study\n"
    assert call(tmp_path, "sql", "SELECT 1").code == 4
