"""``lineage`` as it is typed: the tree in a terminal, its JSON, and the flowchart."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from cli.text.lineage_mermaid import escaped, flowchart
from cli.text.lineage_text import ASKED
from pipeline.two_stage import REVIEW
from tests import agent_rows, pool_rows, records
from tests.training_rows import BATCH, COOL, Study, training_study
from tests.two_stage import AGREEING, OFFLINE, annotated, decide, drafted, generated
from tests.workspaces import call, environment, matches_snapshot
from tracker.paths import Workspace
from tracker.record.database import open_database
from tracker.tracing.lineage import Edge, Lineage, More, Node

RUN = "temp05 1e-06 seed 0"
HOSTILE = (
    'x"] --> y["', '%%{init: {"theme": "forest"}}%%', "end", "<script>alert(1)</script>", "click n0 href x", "`**m**`",
    "1. list", "a;b#quot;#35;", "style a:#b;", "classDef x fill:#f00;", "\x1b[31mred", "a\nb --> c", "subgraph x",
    "\u202ertl", "$$x$$", "---", "fa:fa-car", "@{ shape: rect }", "&lt;", "x" * 500,
)  # fmt: skip
NODE = re.compile(r'    [nm]\d+\["[^"\[\]{}<>|`;%&]*(?:(?:#\d+;|<br/>)[^"\[\]{}<>|`;%&]*)*"\]')


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return training_study(tmp_path_factory.mktemp("lineage") / "workspace")


def ask(root: Path, *arguments: object, code: int = 0) -> str:
    done = call(root, "lineage", *arguments)
    assert done.code == code, done.err
    return done.out if code == 0 else done.err


@pytest.mark.parametrize(
    ("name", "ref"),
    [
        ("lineage_experiment", f"Copa/{COOL}"), ("lineage_source", "CB"), ("lineage_batch", BATCH),
        ("lineage_training_run", RUN), ("lineage_mix", f"CB original+{COOL}"),
    ],
)  # fmt: skip
def test_the_tree(study: Study, name: str, ref: str) -> None:
    ref = study.uuid(ref) if ref in study.runs else ref
    assert matches_snapshot(name, ask(study.workspace.root, ref))


def test_from_the_directory_of_a_result_to_the_prompt_in_one_command(study: Study) -> None:
    root = study.workspace.root
    [directory] = (root / "Results_v2/data_quality_impact").glob("**/20251226_143000")
    shown = ask(root, directory / "metrics.json")
    for line in records.PROMPT.splitlines():
        assert f"| {line}".rstrip() in shown
    assert "accuracy 79.0% (95% interval 70.0% to 85.8%)" in shown
    assert shown.count(ASKED) == 1


def test_json_has_the_whole_graph(study: Study) -> None:
    found = json.loads(ask(study.workspace.root, f"Copa/{COOL}", "--json"))
    assert set(found) == {"asked", "nodes", "edges", "left_out"}
    assert len([node for node in found["nodes"] if node["kind"] == "training_run"]) == 5
    assert found["left_out"] == []
    limited = json.loads(ask(study.workspace.root, f"Copa/{COOL}", "--json", "--limit", "1"))
    assert [each["n"] for each in limited["left_out"]] == [4]


def test_a_cut_tree_says_how_many_more(study: Study) -> None:
    shown = ask(study.workspace.root, f"Copa/{COOL}", "--limit", "2")
    assert "└─ … 3 older training runs not shown\n" in shown
    assert shown.endswith("💾 --limit 0 shows everything that is left out.\n")
    assert "not shown" not in ask(study.workspace.root, f"Copa/{COOL}", "--limit", "0")


def test_of_many_experiments_the_prompts_are_left_to_a_question_of_their_own(tmp_path: Path) -> None:
    workspace = records.temperature_study(tmp_path)
    with open_database(workspace) as database, database.writing() as connection:
        for number in range(6):
            records.add_experiment(connection, f"more{number}", batch=2, source=1, temperature=number / 10)
    shown = ask(tmp_path, "batch_20241229_temperature")
    assert "Keep the meaning" not in shown
    assert "synthtrack lineage C" in shown.splitlines()[-1]
    assert "Keep the meaning" in ask(tmp_path, "Copa/more0")


def test_deleted_batches_and_unknown_settings_are_said_to_be(tmp_path: Path) -> None:
    workspace = records.temperature_study(tmp_path)
    with open_database(workspace) as database, database.writing() as connection:
        connection.execute(text("DELETE FROM batch_membership WHERE batch_id = 1"))
        connection.execute(text("UPDATE batch SET deleted_at = '2025-01-01T00:00:00.000000Z' WHERE id = 1"))
        connection.execute(
            text("UPDATE shared_experiment SET settings = '{}', model = 'unknown', temperature = NULL WHERE id = 1")
        )
    shown = ask(tmp_path, "Copa/temp07_topp10_gpt4o")
    assert "📦 Batch batch_20241228_pilot (deleted)" in shown
    assert "Model: unknown" in shown
    assert "Rephrase prompt: not known" in shown


def test_agents_and_pools(tmp_path: Path) -> None:
    workspace = pool_rows.populate(Workspace(tmp_path / "workspace", environ={}))
    with open_database(workspace) as database:
        agent_rows.make(database)
    shown = ask(workspace.root, "translation_m_20261120_214652")
    assert "Perspective Noted" in shown
    assert "| Translate with your notes." in shown
    pool = ask(workspace.root, "exp1")
    assert pool.count("📁 Benchmark ") == 3
    assert pool.count("📦 Task pool exp1") == 3
    assert pool.count("(above)") == 2


def test_judges_publications_and_validations_are_described(tmp_path: Path) -> None:
    root = drafted(tmp_path, validation__required_accuracy=0.7)
    decide(root, OFFLINE, REVIEW, {2})
    generated(root)
    annotated(root, OFFLINE, AGREEING)
    generated(root)
    assert call(root, "publish", OFFLINE, "--target", "Data/published").code == 0
    pool_rows.draw(pool_rows.populate(Workspace(root, environ={})), "math", benchmarks=["gsm8k"])
    assert (
        call(root, "pool", "validate", "math", "--model", "rules-v1", "--provider", "offline", "--no-mlflow").code == 0
    )
    shown = ask(root, OFFLINE)
    assert re.search(r"(passed|failed): \d+ of \d+ verdicts as people's \(\d+\.\d%\), required \d+\.\d%", shown)
    assert re.search(r"target, copy, 20\d\d-.* by ", shown), shown
    assert re.search(r"(easy|hard) \d+\.\d%.*; \d+ tasks? graded; cost \$0\.0000", ask(root, "math"))


def test_data_whose_files_nobody_knows_is_said_to_be_unknown(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    with open_database(study.workspace) as database, database.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE training_data SET path = '', name = 'unknown', train_digest = '', n_records = NULL,"
            " shared_experiment_id = NULL"
        )
    told = ask(study.workspace.root, study.uuid("temp05 1e-06 seed 0"))
    assert "File unknown" in told
    assert "No data of this record; its files are not known" in told
    assert "SHA-256" not in told


def test_nothing_in_a_record_steers_the_terminal(tmp_path: Path) -> None:
    workspace = records.temperature_study(tmp_path)
    evil = "\x1b]0;owned\x07\x9b31m\u202e"
    with open_database(workspace) as database, database.writing() as connection:
        for column in ("model", "purpose", "description", "endpoint"):
            connection.execute(text(f"UPDATE shared_experiment SET {column} = :evil"), {"evil": evil})
        connection.execute(
            text("UPDATE shared_experiment SET settings = :s"),
            {"s": json.dumps({"generation.rephrase_prompt": f"a{evil}\nb", "generation.few_shot_examples": [evil]})},
        )
        connection.execute(text("UPDATE source_dataset SET origin = :evil"), {"evil": evil})
        connection.execute(text("UPDATE generation_run SET host = :evil, config_path = :evil"), {"evil": evil})
        connection.execute(text("UPDATE batch SET description = :evil"), {"evil": evil})
    for arguments in (("Copa/temp07_topp10_gpt4o",), ("Copa/temp07_topp10_gpt4o", "--mermaid")):
        shown = ask(tmp_path, *arguments)
        assert not set(shown) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert "owned" in shown or "owned" in ask(tmp_path, "Copa/temp07_topp10_gpt4o")


def test_the_flowchart(study: Study) -> None:
    assert matches_snapshot("lineage_mermaid", ask(study.workspace.root, study.uuid(RUN), "--mermaid"))


def test_no_name_is_syntax_of_the_flowchart() -> None:
    nodes = tuple(Node(f"batch:{at}", "batch", name, {"deleted_at": None}) for at, name in enumerate(HOSTILE))
    edges = tuple(Edge(nodes[at].id, nodes[at - 1].id, name) for at, name in enumerate(HOSTILE))
    left = (More(nodes[0].id, "training_run", 1234),)
    lines = list(flowchart(Lineage((nodes[0].id,), nodes, edges, left)))
    assert lines[0] == "flowchart LR"
    shapes = [line for line in lines if "[" in line]
    assert len(shapes) == len(nodes) + 1
    for line in shapes:
        assert NODE.fullmatch(line), line
    for line in lines[1:]:
        if line not in shapes:
            assert re.fullmatch(
                r'    (n\d+ -->\|"[^"|\[\]{}<>`%&]*"\| n\d+|n\d+ -\.- m\d+|class n\d+ asked|classDef asked [\w:-]+)',
                line,
            )


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a_b", "a#95;b"),
        ('"', "#34;"),
        ("a\nb", "a b"),
        ("\x1b", "#9243;"),
        ("é 中", "é 中"),
        ("x" * 99, f"{'x' * 57}..."),
    ],
)
def test_what_could_be_syntax_is_a_numeric_entity(given: str, shown: str) -> None:
    assert escaped(given) == shown


def test_two_forms_at_once_are_refused(study: Study) -> None:
    assert "choose one" in ask(study.workspace.root, "Copa", "--json", "--mermaid", code=2)


def test_what_is_not_there_is_an_unknown_reference(study: Study) -> None:
    said = ask(study.workspace.root, f"Copa/{COOL[:-1]}", code=4)
    assert f"Did you mean Copa/{COOL}" in said


def test_it_answers_without_sqlalchemy(study: Study) -> None:
    script = f"""
import sys
from cli.main import run
code = run(["--root", {str(study.workspace.root)!r}, "lineage", "Copa/{COOL}"])
heavy = {{"sqlalchemy", "sqlmodel", "pydantic", "mlflow", "torch", "yaml"}} & set(sys.modules)
print(code, sorted(heavy), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment())
    assert done.stderr == "0 []\n"
