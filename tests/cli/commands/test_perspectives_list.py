from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest
from rich.cells import cell_len

from cli.text.side_by_side import MOST_CHARACTERS, beside, hanging, wrapped
from tests import perspectives
from tests.llm_server import running_server
from tests.perspectives import agent, offline, pairs, served, write_config, write_inputs
from tests.terminals import session
from tests.workspaces import call, execute, matches_snapshot, start, write_lines

FIRST, SECOND = "translation_rules-v1_20261120_214652", "translation_rules-v1_20261120_220000"
MOMENT = "2026-11-20T21:46:52.123456Z"
REAL = Path(__file__).parents[4] / "shared/data/translation/de_en_200.json"
HOSTILE = {
    "Steering": "\x1b[31mred\x1b[0m\x07 and\rback\nnext\x1b]0;title\x07",
    "Turned": "\u202eevil\u202c \u05e9\u05dc\u05d5\u05dd and \u2066hidden\u2069",
    "Long": "x" * 3000,
    "Wide": "日本語のとても長い文" * 40,
    "Blanks": "  \t  indented\n\n\n   - a list\n   - of two",
}


def ask(root: Path, *arguments: object, code: int = 0) -> str:
    """What `perspectives` says; the exit code must be ``code``."""
    done = call(root, "perspectives", *arguments)
    assert done.code == code, done.err
    return done.out if code == 0 else done.err


def settle(root: Path) -> None:
    """Gives what varies from run to run values of its own."""
    connection = sqlite3.connect(root / "tracker.db")
    with connection:
        connection.execute("UPDATE agent_perspective SET mean_latency_s = 0.25 WHERE mean_latency_s IS NOT NULL")
        for at, (dataset_id,) in enumerate(connection.execute("SELECT id FROM agent_dataset ORDER BY id").fetchall()):
            connection.execute(
                "UPDATE agent_dataset SET name = ?, created_at = ?, completed_at = ? WHERE id = ?",
                ((FIRST, SECOND)[at], MOMENT, MOMENT, dataset_id),
            )
        connection.execute(
            "UPDATE agent_run SET started_at = ?, duration_s = 3.2, uuid = printf('%032x', id), "
            "command = 'synthtrack perspectives ' || config_path, latency_p50_s = 0.2, latency_p95_s = 0.3, "
            "latency_p99_s = 0.4, finished_at = ?, host = 'h', pid = id",
            (MOMENT, MOMENT),
        )
    connection.close()


def new_root(path: Path, records: list[dict[str, str]] | None = None) -> Path:
    path.mkdir(parents=True)
    write_inputs(path, pairs(4) if records is None else records)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two agent data sets by the offline rules: the second hotter, with references, and one condition otherwise."""
    root = new_root(tmp_path_factory.mktemp("built") / "workspace")
    write_config(root, offline(), "cool.json")
    others = [*perspectives.PERSPECTIVES[:2], agent("Omission")]
    hot = offline(agent_perspectives=others, model_config__temperature=1.2, add_references=True)
    write_config(root, hot | {"data_config": {"input_data_path": "inputs.json", "sample_size": 3}}, "hot.json")
    ask(root, "cool.json", "--no-mlflow")
    ask(root, "hot.json", "--no-mlflow")
    settle(root)
    return root


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("list", ["list"]),
        ("list_verbose", ["list", "--verbose", "--limit", "1"]),
        ("list_json", ["list", "--json", "--task", "translation"]),
        ("show", ["show", FIRST]),
        ("show_input", ["show", SECOND, "--input", "3"]),
        ("show_condition", ["show", SECOND, "--samples", "1", "--condition", "noted"]),
        ("show_json", ["show", FIRST, "--samples", "1", "--json"]),
        ("compare", ["compare", FIRST, SECOND]),
        ("compare_input", ["compare", FIRST, SECOND, "--input", "4", "--tested", "2"]),
        ("compare_json", ["compare", FIRST, FIRST, "--json"]),
    ],
)
def test_pages(built: Path, name: str, arguments: list[str]) -> None:
    out = ask(built, *arguments)
    assert matches_snapshot(f"perspectives_{name}", out.replace(str(built), "ROOT"))


def test_json_holds_what_the_pages_show(built: Path) -> None:
    (first, second) = json.loads(ask(built, "list", "--json", "--verbose"))
    assert [row["n_responses"] for row in (first, second)] == [12, 9]
    assert [each["condition"] for each in second["conditions"]] == ["Reference", "Original", "Noted", "Omission"]
    shown = json.loads(ask(built, "show", SECOND, "--samples", "9", "--json"))
    assert [each["number"] for each in shown["samples"]] == [1, 2, 3]
    assert shown["samples"][0]["responses"][0]["response"] == "The man in house 000 falls."
    compared = json.loads(ask(built, "compare", FIRST, SECOND, "--json"))
    assert [each["condition"] for each in compared["conditions"]] == ["Original", "Noted"]
    assert compared["own"] == [["Low Effort"], ["Reference", "Omission"]]
    assert compared["conditions"][0]["test"]["n"] == 3


def test_a_listing_brings_its_files_up_to_date(built: Path) -> None:
    path = built / f"data/agents/{FIRST}.json"
    ask(built, "list")
    good = path.read_bytes()
    path.unlink()
    ask(built, "list")
    assert path.read_bytes() == good
    path.write_text("edited")
    done = call(built, "perspectives", "show", f"data/agents/{FIRST}.json")
    assert "was not what the record says and was restored" in done.err
    assert path.read_bytes() == good


def test_a_copy_that_cannot_be_written_is_still_read(built: Path, tmp_path: Path) -> None:
    ask(built, "list")
    done = call(built, "perspectives", "list", environ={"SYNTHTRACK_DATA_DIR": "/proc/nowhere"})
    assert done.code == 0
    assert FIRST in done.out
    assert "Note: the directory of agent data sets was not brought up to date" in done.err


def test_an_empty_workspace_says_how_to_make_the_first(tmp_path: Path) -> None:
    root = new_root(tmp_path / "workspace")
    call(root, "init")
    assert "💾 `synthtrack perspectives CONFIG` makes the first one." in ask(root, "list")
    assert json.loads(ask(root, "list", "--json")) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "nothing"], "No agent data set 'nothing'."),
        (["show", "rules"], f"  {FIRST}"),
        (["show", FIRST, "--input", "5"], f"{FIRST} has 4 inputs, counted from 1."),
        (["show", FIRST, "--condition", "Orignal"], "Did you mean Original?"),
        (["list", "--task", "translatoin"], "Did you mean translation?"),
        (["compare", FIRST, "nothing"], "No agent data set 'nothing'."),
    ],
)
def test_what_is_not_there_is_said(built: Path, arguments: list[str], said: str) -> None:
    assert said in ask(built, *arguments, code=4)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"],
        ["show", FIRST, "--failed", "--samples", "1"],
        ["show", FIRST, "--input", "1", "--samples", "1"],
        ["show", FIRST, "--input", "0"],
        ["compare", FIRST],
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(built: Path, arguments: list[str]) -> None:
    assert ask(built, *arguments, code=2).startswith("Usage: synthtrack perspectives ")


@pytest.mark.parametrize(
    "word", ["lst", "shwo", "compaer", "--test lst", "lst --json", "lst REF --input 3", "--root . lst"]
)
def test_a_misspelt_command_is_said_to_be_one(built: Path, word: str) -> None:
    err = ask(built, *word.split(), code=4)
    named = next(each for each in word.split() if each not in {"--test", "--root", "."})
    assert f"No command or config {named!r}." in err
    assert f"Did you mean {'list' if named == 'lst' else 'show' if named == 'shwo' else 'compare'}?" in err
    assert "Commands are compare, delete, list, run, show." in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["cool.json"],
        ["run", "cool.json"],
        ["--test", "cool.json"],
        ["--config", "cool.json", "--test"],
        ["--config=cool.json"],
        ["--root", ".", "cool.json"],
        ["--set", "model_config.temperature=0.3", "cool.json"],
        ["--max-cost", "5", "--fresh", "cool.json"],
        ["--", "cool.json"],
    ],
    ids=" ".join,
)
def test_options_may_stand_before_the_config(built: Path, arguments: list[str]) -> None:
    assert "cool.json: translation (" in ask(built, "--dry-run", *arguments) if arguments[0] == "--" else True
    if arguments[0] not in {"run", "--"}:
        assert "cool.json: translation (" in ask(built, *arguments, "--dry-run")
        assert "cool.json: translation (" in ask(built, "--dry-run", *arguments)


@pytest.mark.parametrize(
    "arguments", [["--json", "list"], ["--root", ".", "list"], ["--limit", "1", "list"]], ids=" ".join
)
def test_options_may_stand_before_a_command(built: Path, arguments: list[str]) -> None:
    assert SECOND in ask(built, *arguments)


def test_a_config_that_is_called_like_nothing_else_is_found(built: Path) -> None:
    (built / "lst").mkdir(exist_ok=True)
    write_config(built, offline(), "lst/cool.json")
    assert "lst/cool.json: translation (" in ask(built, "lst", "--dry-run")
    for path in sorted((built / "lst").iterdir()):
        path.unlink()
    (built / "lst").rmdir()


def test_a_config_that_is_missing_is_said_to_be(built: Path) -> None:
    assert "no.json cannot be read" in ask(built, "no.json", code=3)


def test_help_names_commands_and_where_the_options_are(built: Path) -> None:
    for arguments, code in ((["--help"], 0), ([], 2)):
        done = call(built, "perspectives", *arguments)
        assert done.code == code
        text = " ".join((done.out + done.err).split())
        assert "`synthtrack perspectives run --help` lists its options" in text
        assert [name for name in ("compare", "list", "run", "show") if f" {name} " in text] != []


def test_a_run_names_the_next_command(tmp_path: Path) -> None:
    root = new_root(tmp_path / "workspace")
    write_config(root, offline())
    last = ask(root, "config.json", "--no-mlflow").splitlines()[-1]
    assert last.startswith("💾 Next: synthtrack perspectives show translation_rules-v1_")
    assert "Agent data set: translation_rules-v1_" in ask(root, *last.split()[4:])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers of an LLM that would steer a terminal, hide, or do not end."""
    tmp_path = tmp_path_factory.mktemp("hostile")
    texts = {"Ein Satz.\x1b[2J": "A sentence.", "Noch einer.": "Another."}
    records = [{"input": text, "reference": reference} for text, reference in texts.items()]
    agents = [agent(name, f"Do {name}.", f"Note {name}.") for name in HOSTILE]
    recording = [
        {"original_premise": f"{verb} {name}.\n\n{record['input']}", "rephrased_premise": text, "verdict": text}
        for record in records
        for name, text in HOSTILE.items()
        for verb in ("Do", "Note")
    ]
    root = new_root(tmp_path / "workspace", records)
    with running_server(recorded=write_lines(tmp_path / "recording.jsonl", recording)) as server:
        write_config(root, served(server.base_url, agent_perspectives=agents))
        ask(root, "config.json", "--no-mlflow")
    connection = sqlite3.connect(root / "tracker.db")
    with connection:
        connection.execute("UPDATE agent_response SET preparation = '' WHERE perspective = 4")
    connection.close()
    return root


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "-v"],
        ["show", "translation", "--input", "1"],
        ["show", "translation"],
        ["compare", "translation", "translation"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("columns", [80, 132])
def test_nothing_that_a_model_wrote_reaches_the_terminal(hostile: Path, arguments: list[str], columns: int) -> None:
    with session(hostile, "perspectives", *arguments, columns=columns) as terminal:
        code, text = terminal.end()
    assert code == 0
    assert "\x1b" not in terminal.received
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", text)
    commands = ("synthtrack ", "💾 An input", "Run: ", "1: ", "2: ")
    wide = [line for line in text.splitlines() if cell_len(line) > columns and not line.strip().startswith(commands)]
    assert wide == []
    if "--input" in arguments:
        assert "␛[31mred␛[0m" in text
        assert "<U+202E>evil" in text
        assert "(empty)" in text
        # The whole text is there, in the width that there is.
        assert text.count("x") > 2 * 3000
        assert max(cell_len(line) for line in text.splitlines() if "xxx" in line) > columns - 4


def test_json_has_texts_as_they_are(hostile: Path) -> None:
    shown = json.loads(ask(hostile, "show", "translation", "--input", "1", "--json"))
    found = {each["condition"]: each["response"] for each in shown["samples"][0]["responses"]}
    assert found["Turned"] == HOSTILE["Turned"]
    assert found["Steering"].startswith("\x1b[31mred")


def test_failures_and_what_is_left_are_shown_with_the_next_command(tmp_path: Path) -> None:
    root = new_root(tmp_path / "workspace")
    with running_server(poison="Haus 002") as server:
        write_config(root, served(server.base_url, model_config__max_retries=0))
        assert execute(root, "perspectives", "--test", "config.json", "--no-mlflow").code == 1
        out = ask(root, "list", "-v")
        assert "⚠️ unfinished" in out
        assert "Responses: 9 of 12 (4 inputs x 3 conditions), 3 failed" in out
        assert "File: none yet, responses are missing" in out
        out = ask(root, "show", "translation", "--input", "3")
        assert "Next: synthtrack perspectives config.json --test\n" in out
        assert "❌ HTTP 500" in out
        # The table counts what the line above it counts, and knows no more.
        [line] = [line for line in out.splitlines() if line.startswith("Original  ")][:1]
        assert line.split()[1:] == ["3", "1", "-", "-", "-", "-", "-"]
        compared = ask(root, "compare", "translation", "translation")
        assert re.search(r"Original +answered +3 +3 +0\n +failed +1 +1 +0\nNoted", compared)
        shown = json.loads(ask(root, "show", "translation", "--json"))
        assert [(each["n_responses"], each["n_failed"], each["mean_words"]) for each in shown["conditions"]] == [
            (3, 1, None)
        ] * 3
        again = ("perspectives", "--test", "config.json", "--no-mlflow", "--accept-partial")
        assert execute(root, *again).code == 0
    out = ask(root, "show", "translation", "--input", "3")
    assert "Status: ⚠️ partial\n" in out
    assert "To try failures again: synthtrack perspectives config.json --test\n" in out
    assert re.search(r"⚡ 2 runs\n.*made, partial, 3 failed", out)
    conditions = [line.split() for line in out.splitlines() if line.startswith("Original  ")]
    assert conditions[0][1:3] == ["3", "1"]
    assert "-" not in conditions[0]
    name = next(iter((root / "data/agents").iterdir())).stem
    assert f"💾 What failed: synthtrack perspectives show {name} --failed\n" in out
    failed = ask(root, "show", "translation", "--failed")
    assert "Failed: 3 of 12 responses\nTo try them again: synthtrack perspectives config.json --test\n" in failed
    told = [line.split(": ")[0] for line in failed.splitlines() if line.startswith("❌")]
    assert told == [f"❌ Input 3, {each['condition']}" for each in perspectives.PERSPECTIVES]
    [only] = json.loads(ask(root, "show", "translation", "--failed", "--condition", "noted", "--json"))
    assert (only["number"], only["condition"], only["error"][:8]) == (3, "Noted", "HTTP 500")
    assert json.loads(ask(root, "show", "translation", "--failed", "--input", "1", "--json")) == []


def test_where_nothing_was_answered_is_marked_and_not_meant(tmp_path: Path) -> None:
    root = new_root(tmp_path / "workspace")
    with running_server() as server:
        write_config(root, served(server.base_url, model_config__model_name="no-such-model"), "wrong.json")
        assert call(root, "perspectives", "wrong.json", "--no-mlflow").code == 8
    assert "Status: ⚠️ unfinished, nothing answered\n" in ask(root, "list")
    out = ask(root, "show", "translation")
    assert "Responses: 0 of 12 (4 inputs x 3 conditions)\n" in out
    # What to do about it is said, and what it is: the hint is not all.
    [why] = [line for line in out.splitlines() if "❌" in line]
    assert "no-such-model" in why
    assert "Check" not in why
    write_config(root, offline())
    ask(root, "config.json", "--no-mlflow")
    assert "Status: complete\n" in ask(root, "show", "translation")


def test_another_draw_is_said_to_be_one(tmp_path: Path) -> None:
    root = new_root(tmp_path / "workspace")
    write_config(root, offline())
    for arguments in ((), ("--fresh",)):
        ask(root, "config.json", "--no-mlflow", *arguments)
    assert [line.rpartition("Model: ")[2] for line in ask(root, "list").splitlines() if "Model: " in line] == [
        "rules-v1, temperature 0.7", "rules-v1, temperature 0.7, draw 1"
    ]  # fmt: skip
    second = json.loads(ask(root, "list", "--json"))[1]["name"]
    assert "\nDraw: 1 " in ask(root, "show", second)


def test_a_name_stays_in_one_piece_where_its_agent_reads_first(tmp_path: Path) -> None:
    root = new_root(tmp_path / "workspace")
    names = ("Original with Notes", "Score Mismatch", "Unfounded Harshness")
    write_config(root, offline(agent_perspectives=[agent(name, reading="Read.") for name in names]))
    ask(root, "config.json", "--no-mlflow")
    out = ask(root, "show", "translation")
    assert all(f"\n{name} *  " in out for name in names)
    assert out.count("* reads first, and answers with its notes\n") == 1


def test_who_makes_it_now_is_shown(tmp_path: Path) -> None:
    root = new_root(tmp_path / "workspace")
    with running_server(latency=30) as server:
        write_config(root, served(server.base_url, model_config__timeout=60))
        process = start(root, "perspectives", "config.json", "--no-mlflow")
        try:
            while "being made now" not in call(root, "perspectives", "list").out:
                assert process.poll() is None
            out = ask(root, "list")
            assert f"Status: ⚠️ unfinished, being made now by PID {process.pid} on " in out
            assert "being made now by" in ask(root, "show", "translation")
        finally:
            process.kill()
            process.communicate()
    out = ask(root, "list")
    assert "Status: ⚠️ unfinished, nothing answered\n" in out
    assert "Next: synthtrack perspectives config.json\n" in ask(root, "show", "translation")


def test_an_unfinished_one_is_compared(tmp_path: Path) -> None:
    root = new_root(tmp_path / "workspace")
    write_config(root, offline(), "good.json")
    ask(root, "good.json", "--no-mlflow")
    with running_server(poison="Haus") as server:
        write_config(root, served(server.base_url, model_config__max_retries=0, task_type="other"))
        call(root, "perspectives", "config.json", "--no-mlflow")
    out = ask(root, "compare", "translation", "other")
    assert "Original: 0 of 0 pairs are equal texts" in out
    assert "No test of chrF: no responses with references in both." in out


@pytest.mark.skipif(not REAL.exists(), reason="the shared data are not here")
def test_real_pairs_are_compared(tmp_path: Path) -> None:
    root = new_root(tmp_path / "workspace", json.loads(REAL.read_text(encoding="utf-8")))
    for name, temperature in (("a", 0.0), ("b", 1.5)):
        write_config(root, offline(task_type=name, model_config__temperature=temperature), f"{name}.json")
        ask(root, f"{name}.json", "--no-mlflow")
    out = ask(root, "compare", "a", "b", "--input", "117")
    assert "✅ Same inputs: 200 (digest " in out
    assert re.search(r"Original: \d+ of 200 pairs are equal texts", out)
    assert re.search(r"Original: \d+\.\d and \d+\.\d; (no difference|the difference of \d+\.\d points) ", out)
    assert "corrected for 3 tests (Holm)" in " ".join(out.split())
    assert "🔍 Input 117\n" in out


def test_of_a_very_long_text_the_beginning_is_shown_and_how_much_more_there_is() -> None:
    text = "word " * (MOST_CHARACTERS // 5)
    more = f"{text}and 16 chars more"
    assert "more characters" not in "\n".join(wrapped(text, 80))
    assert wrapped(more, 80) == [*wrapped(text, 80), "... 17 more characters; --json shows all"]
    assert " ".join(wrapped(text, 77)) == text.rstrip()
    assert wrapped(more, 80, 2) == [*wrapped(text, 80)[:1], f"{'word ' * 15}w ..."]
    lines = beside([["A", "x" * 5_000_000, "y"]], 80)
    assert len(lines) < 3_000
    assert "4,900,000 more" in " ".join(lines[-3:])


def test_texts_are_wrapped_at_blanks_and_in_words_that_are_too_long() -> None:
    assert wrapped("one two three", 7) == ["one two", "three"]
    assert wrapped("one two", 7) == ["one two"]
    assert wrapped("abcdefghij kl", 4) == ["abcd", "efgh", "ij", "kl"]
    assert wrapped("", 9) == [""]
    assert wrapped("a\n\nb", 9) == ["a", "", "b"]
    assert wrapped("日本語です", 4) == ["日本", "語で", "す"]
    assert wrapped("e\u0301" * 4, 4) == ["e\u0301" * 4]
    assert wrapped("one two three four", 9, 1) == ["one t ..."]


def test_columns_have_equal_widths_and_rows_are_apart_where_a_text_is_long() -> None:
    assert beside([["A", "one"], ["Label", "two"]], 30) == ["A      one", "Label  two"]
    assert beside([["A", "one two three"], ["B", "x"]], 12) == ["A  one two", "   three", "", "B  x"]
    assert beside([], 80) == []
    assert beside([["A", "1 1 1", "2"]], 30, most_lines=1) == ["A  1 1 1         2"]
    lines = beside([["日本", "日本語" * 30, "b " * 90]], 60)
    assert max(map(cell_len, lines)) <= 60
    assert list(hanging("one two three", 9)) == ["one two", "  three"]
