"""The graph behind a result: what is upstream, what became of data, and how much is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests import agent_rows, pool_rows, records
from tests.training_rows import BATCH, COOL, HOT, Study, Trained, add_sweep, training_study
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row, reading
from tracker.record.database import open_database
from tracker.schema import Checkpoint, Decision, ImportRun, JudgeTest, Publication
from tracker.tracing import lineage_rows
from tracker.tracing.lineage import Lineage, More, lineage

RUN = "temp05 1e-06 seed 0"
MIXED = f"CB original+{COOL}"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return training_study(tmp_path_factory.mktemp("lineage") / "workspace")


def traced(workspace: Workspace, ref: str, limit: int = 0) -> Lineage:
    with reading(workspace) as reader:
        return lineage(reader, workspace, ref, limit)


def names(found: Lineage, kind: str) -> list[str]:
    return [node.name for node in found.nodes if node.kind == kind]


def edges(found: Lineage) -> set[tuple[str, str, str]]:
    called = {node.id: f"{node.kind} {node.facts.get('uuid', node.name)}" for node in found.nodes}
    return {(called[edge.source], edge.relation, called[edge.target]) for edge in found.edges}


def test_every_edge_joins_nodes_that_are_there_and_every_id_is_once(study: Study) -> None:
    for ref in (f"Copa/{COOL}", "Copa", BATCH, study.uuid(RUN), study.uuid(MIXED)):
        found = traced(study.workspace, ref)
        ids = [node.id for node in found.nodes]
        assert len(set(ids)) == len(ids)
        assert {end for edge in found.edges for end in (edge.source, edge.target)} | set(found.asked) <= set(ids)


def test_from_an_experiment_both_ways(study: Study) -> None:
    found = traced(study.workspace, f"Copa/{COOL}")
    experiment = f"shared_experiment Copa/{COOL}"
    runs = {study.uuid(name) for name in study.runs if name.startswith("temp05")}
    assert edges(found) == {
        ("source_dataset Copa", "made of", experiment),
        ("generation_run uuid-1-1-0", "made", experiment),
        (f"batch {BATCH}", "holds", experiment),
        *((experiment, "trained", f"training_run {uuid}") for uuid in runs),
    }
    assert len(runs) == 5
    [node] = [node for node in found.nodes if node.id in found.asked]
    assert node.facts["settings"]["generation.rephrase_prompt"] == records.PROMPT
    assert found.left_out == ()


def test_from_a_training_run_what_is_upstream_and_the_number_of_its_siblings(study: Study) -> None:
    found = traced(study.workspace, study.uuid(RUN))
    experiment = f"shared_experiment Copa/{COOL}"
    assert edges(found) == {
        ("source_dataset Copa", "made of", experiment),
        ("generation_run uuid-1-1-0", "made", experiment),
        (f"batch {BATCH}", "holds", experiment),
        (experiment, "trained", f"training_run {study.uuid(RUN)}"),
    }
    assert {(each.kind, each.n, each.is_sibling) for each in found.left_out} == {
        ("training_run", 4, True), ("training_sweep", 3, True)
    }  # fmt: skip
    [node] = [node for node in found.nodes if node.id in found.asked]
    assert node.facts["accuracy"] == 0.76
    assert (node.facts["accuracy_low"], node.facts["accuracy_high"]) == pytest.approx((0.668, 0.833), abs=1e-3)


def test_a_mix_comes_from_all_its_data_sets_and_foreign_files_are_told_by_their_digest(study: Study) -> None:
    found = traced(study.workspace, study.uuid(MIXED))
    run = f"training_run {study.uuid(MIXED)}"
    assert {edge for edge in edges(found) if edge[1] == "trained"} == {
        (f"shared_experiment CB/{COOL}", "trained", run), ("file Data_v2/original/CB", "trained", run)
    }  # fmt: skip
    # From the one data set the run shows the other too.
    assert edges(traced(study.workspace, f"CB/{COOL}")) == edges(found)


def test_data_of_which_no_file_is_known_is_one_where_it_was_called_the_same(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    runs = {name: study.uuid(name) for name in study.runs}
    called = dict(zip(runs, ("Data/lost/Copa", "Data/lost/Copa", "Data/gone/Copa", "", ""), strict=False))
    with open_database(study.workspace) as database, database.writing() as connection:
        for name, path in called.items():
            connection.execute(
                text(
                    "UPDATE training_data SET path = :path, name = 'x', train_digest = '', eval_digest = NULL,"
                    " shared_experiment_id = NULL WHERE training_run_id = :id"
                ),
                {"path": path, "id": study.runs[name]},
            )
    files = {}
    for name in called:
        found = traced(study.workspace, runs[name])
        [file] = [node for node in found.nodes if node.kind == "file"]
        files[name] = (file.id, file.name)
    assert [shown for _, shown in files.values()] == ["Data/lost/Copa", "Data/lost/Copa", "Data/gone/Copa", "x", "x"]
    assert len({key for key, _ in files.values()}) == 4
    assert not any(key.endswith(":") for key, _ in files.values())


def test_original_files_are_the_source_data_set_that_has_them(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    uuid = study.uuid("original 1e-06 seed 0")
    with open_database(study.workspace) as database, database.writing() as connection:
        connection.execute(
            text(
                """UPDATE source_split SET digest = (SELECT train_digest FROM training_data d
                   JOIN training_run r ON r.id = d.training_run_id WHERE r.uuid = :uuid)
                   WHERE split = 'train' AND source_dataset_id = 1"""
            ),
            {"uuid": uuid},
        )
    expected = ("source_dataset Copa", "trained", f"training_run {uuid}")
    assert edges(traced(study.workspace, uuid)) == {expected}
    assert expected in edges(traced(study.workspace, "Copa"))


def test_of_a_sweep_every_point_is_asked_for(study: Study) -> None:
    with reading(study.workspace) as reader:
        [sweep] = reader.rows("SELECT uuid FROM training_sweep WHERE id = :id", id=study.sweeps["data_quality_impact"])
    found = traced(study.workspace, sweep["uuid"])
    assert {each.partition(":")[2] for each in found.asked} == {
        study.uuid(f"temp09 1e-06 seed {seed}") for seed in (0, 1)
    }
    assert names(found, "shared_experiment") == [f"Copa/{HOT}"]


def test_a_run_whose_process_is_gone_is_interrupted(study: Study) -> None:
    found = traced(study.workspace, study.uuid("original 1e-06 seed 3"))
    [node] = [node for node in found.nodes if node.id in found.asked]
    assert node.facts["status"] == "interrupted"
    assert not {"pid", "heartbeat", "id"} & set(node.facts)


def test_a_limit_keeps_the_newest_and_counts_the_others(study: Study) -> None:
    found = traced(study.workspace, f"Copa/{COOL}", 2)
    with reading(study.workspace) as reader:
        newest = reader.rows(
            """SELECT r.uuid FROM training_run r JOIN training_data d ON d.training_run_id = r.id
               WHERE d.shared_experiment_id = 1 ORDER BY r.id DESC LIMIT 2"""
        )
    runs = [node.facts["uuid"] for node in found.nodes if node.kind == "training_run"]
    assert runs == [row["uuid"] for row in reversed(newest)]
    assert found.left_out == (More(found.asked[0], "training_run", 3),)
    limited = traced(study.workspace, BATCH, 1)
    assert len(names(limited, "shared_experiment")) == 1
    assert More(limited.asked[0], "shared_experiment", 2) in limited.left_out


def test_batches_that_made_reused_and_were_deleted(tmp_path: Path) -> None:
    workspace = records.temperature_study(tmp_path)
    with open_database(workspace) as database, database.writing() as connection:
        connection.execute(text("DELETE FROM batch_membership WHERE batch_id = 1"))
        connection.execute(text("UPDATE batch SET deleted_at = '2025-01-01T00:00:00.000000Z' WHERE id = 1"))
    found = traced(workspace, "Copa/temp07_topp10_gpt4o")
    experiment = "shared_experiment Copa/temp07_topp10_gpt4o"
    assert {edge for edge in edges(found) if edge[0].startswith("batch")} == {
        ("batch batch_20241228_pilot", "held", experiment), (f"batch {BATCH}", "reuses", experiment)
    }  # fmt: skip
    runs = {node.facts["outcome"]: node.facts for node in found.nodes if node.kind == "generation_run"}
    assert runs["made"]["batch_deleted_at"] is not None
    assert runs["reused"]["batch_deleted_at"] is None
    assert runs["made"]["mlflow_run_id"] == "0123abcd"
    assert runs["made"]["cost_usd"] == 0.012


def test_the_run_that_made_data_is_shown_before_those_that_reused_it(tmp_path: Path) -> None:
    workspace = records.temperature_study(tmp_path)
    with open_database(workspace) as database, database.writing() as connection:
        for number in range(5):
            records.add_run(connection, 1, 2, uuid=f"beef{number}", outcome="reused")
    found = traced(workspace, "Copa/temp07_topp10_gpt4o", 2)
    assert [node.facts["outcome"] for node in found.nodes if node.kind == "generation_run"] == ["made", "reused"]
    assert More(found.asked[0], "generation_run", 5) in found.left_out
    # What was asked for is there, however old.
    asked = traced(workspace, "beef0", 1)
    assert asked.asked == ("generation_run:beef0",)
    assert names(asked, "generation_run") == ["uuid-1-1-2", "beef0"]


def _decision(position: int, annotator: str, verdict: str, **columns: Any) -> dict[str, Any]:
    return {
        "shared_experiment_id": 1, "position": position, "checkpoint": "review", "verdict": verdict, "via": "terminal",
        "annotator": annotator, "decided_at": f"2024-12-30T10:00:0{position}.000000Z", **columns,
    }  # fmt: skip


def test_peoples_decisions_are_counted_as_they_stand(tmp_path: Path) -> None:
    workspace = records.temperature_study(tmp_path)
    rows = [
        _decision(0, "ann", "not_the_same"), _decision(0, "ann", "same"), _decision(0, "bo", "same"),
        _decision(1, "ann", "same"), _decision(1, "bo", "not_the_same"), _decision(2, "ann", "skipped"),
        _decision(3, "ann", "same"), _decision(3, "bo", "not_the_same", settles=True),
        _decision(0, "ann", "same", checkpoint="annotation", shared_experiment_id=2),
    ]  # fmt: skip
    with open_database(workspace) as database, database.writing() as connection:
        for row in rows:
            records._insert(connection, Decision, **row)
        records._insert(
            connection, Checkpoint, shared_experiment_id=1, name="review", generation_run_id=1,
            closed_at=records.MOMENT, examples="[0, 1, 3]",
        )  # fmt: skip
        records._insert(
            connection, JudgeTest, shared_experiment_id=1, generation_run_id=2, judge_key="k", test_set_key="t",
            model="gpt-4o", temperature=0.0, n_tested=4, n_correct=3, accuracy=0.75, required_accuracy=0.8,
            passed=False, created_at=records.MOMENT, settings="{}",
        )  # fmt: skip
    found = traced(workspace, "Copa/temp07_topp10_gpt4o")
    [people] = [node for node in found.nodes if node.kind == "checkpoint"]
    assert people.name == "review"
    assert people.facts["verdicts"] == {"same": 1, "disputed": 1, "skipped": 1, "not_the_same": 1}
    assert people.facts["annotators"] == {"ann": 4, "bo": 3}
    assert (people.facts["n_samples"], people.facts["n_examples"]) == (4, 3)
    [test] = [node for node in found.nodes if node.kind == "judge_test"]
    assert (test.facts["passed"], test.facts["accuracy"]) == (False, 0.75)


def test_a_run_that_read_published_data_comes_through_the_publication(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    with open_database(study.workspace) as database, database.writing() as connection:
        for number, directory in enumerate((f"Data_v2/synthetic/_shared/Copa/{COOL}/Copa", "/elsewhere/Copa")):
            records._insert(
                connection, Publication, shared_experiment_id=1, dataset="Copa", directory=directory, kind="target",
                mode="copy", fingerprint="f", published_at=f"2025-01-0{number + 1}", published_by="ann", files="{}",
            )  # fmt: skip
    found = traced(study.workspace, study.uuid(RUN))
    place = f"publication Data_v2/synthetic/_shared/Copa/{COOL}/Copa"
    assert (f"shared_experiment Copa/{COOL}", "published as", place) in edges(found)
    assert (place, "trained", f"training_run {study.uuid(RUN)}") in edges(found)
    assert ("publication", 1) in {(each.kind, each.n) for each in found.left_out}


def test_imported_data_says_so_and_keeps_its_old_fingerprint(tmp_path: Path) -> None:
    workspace = records.temperature_study(tmp_path)
    with open_database(workspace) as database, database.writing() as connection:
        number = records._insert(
            connection, ImportRun, uuid="abc", kind="tree", origin="/old", started_at=records.MOMENT, host="h",
            command="synthtrack import /old",
        )  # fmt: skip
        records.add_experiment(
            connection, "old", batch=1, source=1, import_run_id=number, legacy_fingerprint="0ddba110ddba",
            provider="unknown", endpoint="unknown", model="unknown", directory="/old/old",
        )  # fmt: skip
    found = traced(workspace, "0ddba110ddba")
    assert ("import_run abc", "brought in", "shared_experiment Copa/old") in edges(found)
    [node] = [node for node in found.nodes if node.id in found.asked]
    assert (node.facts["legacy_fingerprint"], node.facts["model"]) == ("0ddba110ddba", "unknown")


def test_an_imported_run_names_the_batch_of_its_path(tmp_path: Path) -> None:
    workspace = training_study(tmp_path).workspace
    with open_database(workspace) as database, database.writing() as connection:
        connection.exec_driver_sql("UPDATE training_data SET batch_id = NULL")
        (uuid, path) = connection.exec_driver_sql(
            "SELECT r.uuid, d.path FROM training_run r JOIN training_data d ON d.training_run_id = r.id"
            " WHERE d.shared_experiment_id IS NOT NULL ORDER BY r.id LIMIT 1"
        ).one()
        assert BATCH in path
    found = traced(workspace, uuid)
    assert f"batch {BATCH}" in {f"{node.kind} {node.name}" for node in found.nodes}
    assert "batch" not in {each.kind for each in found.left_out if each.n == 1}


def test_agent_data_sets_with_what_each_agent_was_told(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database:
        claimed = agent_rows.make(database)
    with reading(workspace) as reader:
        row = reader.rows("SELECT d.name, r.uuid FROM agent_run r JOIN agent_dataset d ON d.id = r.agent_dataset_id")[0]
    for ref, asked in ((row["name"], "agent_dataset"), (f"data/agents/{row['name']}.json", "agent_dataset"),
                       (row["uuid"], "agent_run"), ("translation", "source_dataset")):  # fmt: skip
        found = traced(workspace, ref)
        assert [each.partition(":")[0] for each in found.asked] == [asked]
        assert ("source_dataset translation", "made of", f"agent_dataset {row['name']}") in edges(found)
    [node] = [node for node in traced(workspace, row["name"]).nodes if node.kind == "agent_dataset"]
    assert [each["strategy"] for each in node.facts["perspectives"]] == [told for _, _, told in agent_rows.ASKED]
    assert claimed.dataset_id == 1


def test_task_pools_with_their_benchmarks(tmp_path: Path) -> None:
    workspace = pool_rows.populate(Workspace(tmp_path / "workspace", environ={}))
    with reading(workspace) as reader:
        row = reader.rows("SELECT name, fingerprint, uuid FROM task_pool WHERE name = 'exp1'")[0]
    for ref in (row["name"], row["fingerprint"][:6], row["uuid"], "data/exp1", "data/exp1/task_pool.jsonl"):
        found = traced(workspace, ref)
        assert found.asked == (f"task_pool:{row['fingerprint']}",)
        assert {edge[:2] for edge in edges(found)} == {
            (f"benchmark {name}", "drawn from") for name in pool_rows.BENCHMARKS
        }


class Counting:
    """A reader that asks SQLite how it would find the rows."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.plans: list[tuple[str, str]] = []

    def rows(self, sql: str, **parameters: Any) -> list[Row]:
        plan = "; ".join(row["detail"] for row in self.reader.rows(f"EXPLAIN QUERY PLAN {sql}", **parameters))
        self.plans.append((sql, plan))
        return self.reader.rows(sql, **parameters)


@pytest.mark.parametrize("ref", [f"Copa/{COOL}", "RUN", "DIRECTORY", "FINGERPRINT"])
def test_large_tables_are_never_read_from_end_to_end(study: Study, ref: str) -> None:
    with reading(study.workspace) as reader:
        row = reader.rows("SELECT uuid, directory, fingerprint FROM training_run WHERE id = 1")[0]
        counting = Counting(reader)
        lineage(counting, study.workspace, {"RUN": row["uuid"], "DIRECTORY": row["directory"],
                                            "FINGERPRINT": row["fingerprint"]}.get(ref, ref), 10)  # fmt: skip
    large = ("training_run", "generation_run", "shared_experiment", "training_data", "decision", "batch_membership",
             "mlflow_outbox", "r", "d", "e", "g", "m", "o", "l", "t")  # fmt: skip
    scans = [(sql, plan) for sql, plan in counting.plans for name in large if f"SCAN {name};" in f"{plan};"]
    assert counting.plans
    assert scans == []


def test_many_ids_are_asked_for_in_portions(tmp_path: Path) -> None:
    workspace = records.temperature_study(tmp_path)
    with reading(workspace) as reader:
        found = lineage_rows.batches_by_id(reader, [1, 2, 1])
    assert [row["name"] for row in found] == ["batch_20241228_pilot", BATCH]


def test_a_training_run_of_a_batch_that_was_deleted(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    with open_database(study.workspace) as database:
        [run_id] = add_sweep(database, "late", [Trained(data=(HOT,), n_correct=50)]).run_ids
        with database.writing() as connection:
            connection.execute(text("DELETE FROM batch_membership"))
            connection.execute(text("UPDATE batch SET deleted_at = created_at"))
            uuid = connection.execute(text("SELECT uuid FROM training_run WHERE id = :id"), {"id": run_id}).scalar_one()
    found = traced(study.workspace, uuid)
    assert (f"batch {BATCH}", "held", f"shared_experiment Copa/{HOT}") in edges(found)
