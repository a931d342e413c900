"""``synthtrack export`` and ``import`` of its archives: work made in one workspace goes on in another."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import perspectives, pool_rows, trainings, two_stage
from tests.old_trees import RUN, write_run, write_tree
from tests.workspaces import call, config, new_root, rows, start, train_file, write_config, write_records
from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.record.ledger import find_answer

COUNT = 12
GENERATE = ("generate", "copa.yaml", "--no-mlflow")
WEIGHTS = "results/{}/model/model.safetensors"


def dump(root: Path) -> list[str]:
    """Everything in the record."""
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection:
        return list(connection.iterdump())


def one(root: Path, sql: str) -> tuple[object, ...]:
    (found,) = rows(root, sql)
    return found


def export(root: Path, *arguments: object) -> Path:
    path = root.parent / "work.zip"
    path.unlink(missing_ok=True)
    done = call(root, "export", *arguments, path)
    assert done.code == 0, done.err
    return path


def imported(root: Path, path: Path) -> str:
    done = call(root, "import", path)
    assert done.code == 0, done.err
    return done.out


def is_clean(root: Path) -> bool:
    """Whether verify and view check find nothing."""
    verified, viewed = call(root, "verify"), call(root, "view", "check")
    assert verified.code == 0, verified.out
    assert viewed.code == 0, viewed.out
    return True


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other"
    path.mkdir()
    return path


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A workspace with one experiment that two batches share, and another of the second batch."""
    root = new_root(tmp_path, COUNT)
    for batch, temperature in (("first", 0.7), ("second", 0.7), ("second", 0.9)):
        write_config(root, config(experiment__batch_id=batch, generation__temperature=temperature))
        assert call(root, *GENERATE).code == 0
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a training on rephrased data."""
    root = trainings.new_root(tmp_path_factory.mktemp("trained") / "workspace")
    (run,) = trainings.trained(root, data__path=trainings.generate(root, 0.7), method="fo_full")
    for end in ("out", "err"):  # of a worker that is a process of its own
        (trainings.directory(root, run) / f"1_3_train.{end}").write_text("Trained.\n", encoding="utf-8")
    return root


def test_a_batch_goes_to_another_workspace_and_is_the_same_there(made: Path, other: Path) -> None:
    batch = str(one(made, "SELECT name FROM batch ORDER BY id DESC LIMIT 1")[0])
    out = imported(other, export(made, batch))
    assert "2 experiments" in out
    query = "SELECT fingerprint, digest, data_digest, dataset, name FROM shared_experiment ORDER BY fingerprint"
    assert rows(made, query) == rows(other, query)
    assert (
        train_file(made, "temp09_topp10_rulesv1").read_bytes()
        == train_file(other, "temp09_topp10_rulesv1").read_bytes()
    )
    assert is_clean(other)
    links = sorted(path.name for path in (other / "Data_v2/synthetic" / batch / "Copa").iterdir())
    assert links == ["temp07_topp10_rulesv1", "temp09_topp10_rulesv1"]


def test_batches_that_nobody_asked_for_are_said_to_be(made: Path, other: Path) -> None:
    done = call(made, "export", "second", made.parent / "work.zip")
    assert ": 1 batch (and the name of 1 other), 2 experiments, " in done.out
    assert "Named, not asked for: first, where experiments of these are" in done.out
    assert "Named, not asked for: first, where experiments of these are" in imported(other, made.parent / "work.zip")
    alone = call(made, "export", "second", made.parent / "json.zip", "--json")
    assert json.loads(alone.out)["others"] == ["first"]


def test_importing_twice_changes_nothing(made: Path, other: Path) -> None:
    path = export(made, "Copa/temp07_topp10_rulesv1")
    imported(other, path)
    before = dump(other)
    assert "nothing is new" in imported(other, path)
    assert dump(other) == before
    assert one(other, "SELECT kind, n_taken > 0 FROM import_run") == ("archive", 1)


def test_the_same_content_is_the_same_bytes(made: Path) -> None:
    first = export(made, "Copa/temp07_topp10_rulesv1").read_bytes()
    time.sleep(2.1)  # a zip's times have steps of two seconds
    assert export(made, "Copa/temp07_topp10_rulesv1").read_bytes() == first


def test_an_archive_takes_the_place_of_another_where_that_is_wanted(made: Path) -> None:
    path = export(made, "first")
    path.write_bytes(b"older")
    done = call(made, "export", "first", path)
    assert (done.code, path.read_bytes()) == (5, b"older")
    assert done.err.endswith("--overwrite replaces a file; or name another one.\n")
    assert call(made, "export", "first", path, "--overwrite").code == 0
    assert path.read_bytes()[:2] == b"PK"


def test_what_was_deleted_and_comes_in_again_is_counted_once(made: Path) -> None:
    paid = "SELECT batch, ROUND(cost_usd, 6) FROM batch_cost ORDER BY batch"
    with contextlib.closing(sqlite3.connect(made / "tracker.db")) as connection, connection:
        connection.execute("UPDATE attempt SET cost_usd = 0.01 WHERE answer IS NOT NULL")
        connection.execute(
            """UPDATE generation_run SET cost_usd = (SELECT SUM(a.cost_usd) FROM attempt a
               WHERE a.generation_run_id = generation_run.id)"""
        )
    before = rows(made, paid)
    assert all(usd > 0 for _, usd in before), before
    path = export(made, "first", "second")
    assert call(made, "batch", "delete", "first", "second", "--yes").code == 0
    names = [name for (name,) in rows(made, "SELECT dataset || '/' || name FROM shared_experiment")]
    assert call(made, "experiment", "delete", *names, "--yes", "--no-mlflow").code == 0
    assert rows(made, paid) == before
    imported(made, path)
    assert rows(made, paid) == before
    assert call(made, "experiment", "delete", names[0], "--yes").code == 5
    assert call(made, "batch", "delete", "first", "second", "--yes").code == 0
    assert call(made, "experiment", "delete", *names, "--yes", "--no-mlflow").code == 0
    assert rows(made, paid) == before


def test_a_rehearsal_writes_nothing(made: Path, other: Path) -> None:
    path = export(made, "Copa/temp07_topp10_rulesv1")
    done = call(other, "import", path, "--dry-run")
    assert (done.code, list(other.iterdir())) == (0, [])
    assert "would be taken: 2 batches, 1 experiment, 12 samples" in done.out
    imported(other, path)
    before = dump(other)
    wider = export(made, "Copa/temp09_topp10_rulesv1")
    assert "would be taken: 1 experiment" in call(other, "import", wider, "--dry-run").out
    assert dump(other) == before


def test_the_same_config_is_reused_there_and_the_ledger_answers_more(made: Path, other: Path) -> None:
    path = export(made, "Copa/temp07_topp10_rulesv1")
    imported(other, path)
    shutil.copytree(made / "Data/original", other / "Data/original")
    write_config(other, config(experiment__batch_id="third"))
    done = call(other, *GENERATE, "--json")
    assert done.code == 0, done.err
    assert one(other, "SELECT outcome, n_calls FROM generation_run ORDER BY id DESC LIMIT 1") == ("reused", 0)
    # Another judge: the rephrasings are in the ledger that came along.
    write_config(other, config(validation__validation_prompt="{original_premise} / {rephrased_premise}: same?"))
    assert call(other, *GENERATE).code == 0
    last = "SELECT outcome, n_cached, n_calls FROM generation_run ORDER BY id DESC LIMIT 1"
    assert one(other, last) == ("made", COUNT, COUNT)


def test_decisions_of_people_come_along_and_the_steps_go_on(tmp_path: Path, other: Path) -> None:
    root = two_stage.reviewed(two_stage.drafted(tmp_path))
    imported(other, export(root, two_stage.OFFLINE))
    query = "SELECT position, checkpoint, verdict, annotator, decided_at, via FROM decision ORDER BY id"
    assert rows(root, query) == rows(other, query) != []
    assert rows(other, "SELECT name FROM checkpoint") == [("review",)]
    for name in ("Data", "copa.yaml"):
        (shutil.copytree if (root / name).is_dir() else shutil.copy)(root / name, other / name)
    for each in (root, other):
        two_stage.annotated(each)
        two_stage.generated(each)
    first, second = (two_stage.state_of(Workspace(each), two_stage.OFFLINE).step() for each in (root, other))
    assert first == second
    samples = "SELECT position, status, rephrased, verdict FROM sample ORDER BY position"
    assert rows(root, samples) == rows(other, samples)


def test_new_decisions_on_an_unfinished_experiment_are_added(tmp_path: Path, other: Path) -> None:
    root = two_stage.drafted(tmp_path)
    imported(other, export(root, two_stage.OFFLINE))
    two_stage.decide(root, two_stage.OFFLINE, "review", annotator="bob")
    imported(other, export(root, two_stage.OFFLINE))
    query = "SELECT position, verdict, annotator, decided_at FROM decision ORDER BY position"
    assert rows(root, query) == rows(other, query) != []


def test_an_older_export_adds_nothing_to_what_is_finished(tmp_path: Path, other: Path) -> None:
    root = two_stage.reviewed(two_stage.drafted(tmp_path))
    older = export(root, two_stage.OFFLINE).rename(tmp_path / "older.zip")
    two_stage.generated(two_stage.annotated(root))
    assert one(root, "SELECT status FROM shared_experiment") == ("complete",)
    imported(other, export(root, two_stage.OFFLINE))
    for each in (root, other):
        call(each, "mlflow", "sync")
        before = dump(each)
        assert "nothing is new" in imported(each, older)
        assert dump(each) == before
        assert is_clean(each)


def test_what_is_finished_elsewhere_does_not_replace_what_is_not_here(tmp_path: Path, other: Path) -> None:
    root = two_stage.reviewed(two_stage.drafted(tmp_path))
    imported(other, export(root, two_stage.OFFLINE))
    two_stage.generated(two_stage.annotated(root))
    before = dump(other)
    done = call(other, "import", export(root, two_stage.OFFLINE))
    assert done.code == 5
    assert "unfinished here, complete there" in done.err
    assert dump(other) == before


def test_training_runs_come_with_their_results(trained: Path, other: Path) -> None:
    path = export(trained, "Copa/temp07_topp10_rulesv1")
    assert "1 result directory written" in imported(other, path)
    query = "SELECT uuid, fingerprint, accuracy, directory FROM training_run"
    assert rows(trained, query) == rows(other, query)
    (run, directory) = one(other, "SELECT uuid, directory FROM training_run")
    here, there = (root / str(directory) for root in (other, trained))
    for name in ("metrics.json", "experiment_config.yaml", "predictions.jsonl"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert WEIGHTS.format(run) not in zipfile.ZipFile(path).namelist()
    assert [each.name for each in (here / "model").iterdir()] == ["LEFT_OUT.txt"]
    assert is_clean(other)
    assert call(other, "result", "show", str(run)).code == 0


def test_models_and_results_are_a_choice(trained: Path, other: Path) -> None:
    run = one(trained, "SELECT uuid FROM training_run")[0]
    assert (
        WEIGHTS.format(run)
        in zipfile.ZipFile(export(trained, "Copa/temp07_topp10_rulesv1", "--with-models")).namelist()
    )
    path = export(trained, "Copa/temp07_topp10_rulesv1", "--no-results")
    imported(other, path)
    assert rows(other, "SELECT id FROM training_run") == []


def test_results_go_where_results_go_there(trained: Path, other: Path) -> None:
    environ = {"SYNTHTRACK_RESULTS_DIR": "elsewhere/results"}
    done = call(other, "import", export(trained, "Copa/temp07_topp10_rulesv1"), environ=environ)
    assert done.code == 0, done.err
    directory = str(one(other, "SELECT directory FROM training_run")[0])
    assert directory.startswith("elsewhere/results/tuning/")
    assert (other / directory / "metrics.json").is_file()


def test_results_of_an_older_tree_keep_their_places(tmp_path: Path, other: Path) -> None:
    root, old = tmp_path / "root", write_tree(tmp_path / "old")
    root.mkdir()
    write_run(old)
    call(root, "import", old, "--copy")
    first = export(root, "Copa/temp05_topp10_gpt4o")
    shutil.rmtree(old / "Results_v2")
    done = call(root, "export", "Copa/temp05_topp10_gpt4o", tmp_path / "gone.zip")
    assert f"Left out: {old / RUN} (it is not there any more" in done.err, done
    imported(other, first)
    assert one(other, "SELECT directory FROM training_run") == (RUN,)
    assert (other / RUN / "1_6_train.err").is_file()


def test_a_file_with_a_key_is_left_out(trained: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(trained, root, symlinks=True)
    directory = root / str(one(root, "SELECT directory FROM training_run")[0])
    (directory / "notes.txt").write_text('api_key = "abcdefgh12345678"\n', encoding="utf-8")
    path = tmp_path / "keyless.zip"
    done = call(root, "export", "Copa/temp07_topp10_rulesv1", path)
    assert "notes.txt (it holds an API key)" in done.err
    with zipfile.ZipFile(path) as archive:
        assert not any(b"abcdefgh12345678" in archive.read(name) for name in archive.namelist())


def test_names_that_are_taken_get_a_number(made: Path, other: Path) -> None:
    shutil.copytree(made / "Data", other / "Data")
    write_config(other, config(generation__rephrase_prompt="Say it otherwise: {premise}"))
    assert call(other, *GENERATE).code == 0
    assert "is called Copa/temp07_topp10_rulesv1_2 here" in imported(
        other, export(made, "Copa/temp07_topp10_rulesv1")
    ).replace("is called temp", "is called Copa/temp")
    assert is_clean(other)


def test_the_same_settings_with_other_data_are_refused(made: Path, other: Path) -> None:
    path = export(made, "Copa/temp07_topp10_rulesv1")
    imported(other, path)
    with contextlib.closing(sqlite3.connect(other / "tracker.db")) as connection, connection:
        connection.execute("UPDATE shared_experiment SET data_digest = 'f' || substr(data_digest, 2)")
    before = dump(other)
    done = call(other, "import", path)
    assert done.code == 5
    assert "its data has SHA-256" in done.err
    assert dump(other) == before


def test_agents_and_pools_go_the_same_way(tmp_path: Path, other: Path) -> None:
    root = perspectives.new_root(tmp_path, 3)
    perspectives.write_config(root, perspectives.offline())
    done = call(root, "perspectives", "config.json", "--no-mlflow")
    assert done.code == 0, done.err
    pool_rows.populate(Workspace(root))
    agents = str(one(root, "SELECT name FROM agent_dataset")[0])
    out = imported(other, export(root, agents, "exp1", "exp2"))
    assert "1 agent data set" in out
    assert "2 task pools" in out
    assert is_clean(other)
    assert (other / f"data/agents/{agents}.json").read_bytes() == (root / f"data/agents/{agents}.json").read_bytes()


def test_what_is_not_known_is_said(made: Path, tmp_path: Path) -> None:
    done = call(made, "export", "Copa/temp08", tmp_path / "x.zip")
    assert done.code == 4
    assert list(tmp_path.glob("*.zip")) == []
    assert call(made, "export", "Copa/temp07_topp10_rulesv1").code == 2
    (tmp_path / "x.zip").write_text("mine", encoding="utf-8")
    assert call(made, "export", "Copa/temp07_topp10_rulesv1", tmp_path / "x.zip").code == 5
    assert (tmp_path / "x.zip").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("seed", range(3))
def test_killed_in_the_middle_the_same_command_completes_it(trained: Path, other: Path, seed: int) -> None:
    path = export(trained, "Copa/temp07_topp10_rulesv1")
    draw = random.Random(seed)
    for _ in range(4):
        process = start(other, "import", path)
        time.sleep(draw.uniform(0.2, 1.6))
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    imported(other, path)
    assert is_clean(other)
    assert one(other, "SELECT COUNT(*), SUM(n_taken > 0) FROM import_run") == (1, 1)
    assert [each.name for each in (other / "Results_v2").iterdir()] == ["tuning"]
    sent = json.loads(json.dumps(rows(trained, "SELECT uuid FROM training_run")))
    assert [list(row) for row in rows(other, "SELECT uuid FROM training_run")] == sent


def repacked(path: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """An archive with the first row of a table changed, and digests that are right."""
    with zipfile.ZipFile(path) as archive:
        content = {each: archive.read(each) for each in archive.namelist()}
    first, *rest = content[f"rows/{name}.jsonl"].splitlines(keepends=True)
    row = json.loads(first)
    change(row)
    content[f"rows/{name}.jsonl"] = json.dumps(row).encode() + b"\n" + b"".join(rest)
    manifest = json.loads(content.pop("manifest.json"))
    for each, data in content.items():
        manifest["members"][each] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in (content | {"manifest.json": json.dumps(manifest).encode()}).items():
            archive.writestr(each, data)
    return path


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("batch", {"name": "../../x"}, 12),
        ("sample", {"rephrased": "Something else."}, 6),
        ("source_record", {"line": "{}"}, 6),
        ("shared_experiment", {"directory": "/etc"}, 0),
        ("training_run", {"directory": "../../outside"}, 12),
        ("training_run", {"directory": "Results_v2/../../x"}, 12),
        ("training_run", {"directory": "/tmp/a/b/c/d"}, 0),
        ("training_data", {"directory": "/etc"}, 0),
        ("request", {"model": "another"}, 6),
        ("request", {"messages": "[]"}, 6),
    ],
)
def test_an_archive_that_was_changed_does_no_harm(
    trained: Path, other: Path, name: str, change: dict[str, str], code: int
) -> None:
    path = repacked(export(trained, "Copa/temp07_topp10_rulesv1"), name, lambda row: row.update(change))
    around = sorted(other.parent.iterdir())
    done = call(other, "import", path)
    assert done.code == code, done.err
    assert sorted(other.parent.iterdir()) == around
    if code == 0:
        assert is_clean(other)
        assert not rows(other, "SELECT id FROM training_run WHERE directory NOT LIKE 'Results_v2/%'")
        assert not rows(other, "SELECT position FROM training_data WHERE directory NOT LIKE 'Data_v2/synthetic/%'")
        assert not rows(other, "SELECT id FROM shared_experiment WHERE directory IS NOT NULL")
    else:
        assert "taken" in done.err
        assert {each.name for each in other.iterdir()} <= {"tracker.db", ".tracker.db.lock"}
        assert not (other / "tracker.db").exists() or rows(other, "SELECT id FROM batch") == []


def test_an_archive_is_named_as_it_was_given(made: Path, other: Path) -> None:
    export(made, "Copa/temp07_topp10_rulesv1")
    assert call(other, "import", "../work.zip").out.startswith("📦 ../work.zip: taken")
    assert one(other, "SELECT origin FROM import_run") == (str(made.parent / "work.zip"),)
    (made.parent / "bad.zip").write_text("no zip", encoding="utf-8")
    assert "Error: ../bad.zip is no archive" in call(other, "import", "../bad.zip").err


def test_places_on_a_machine_are_refused(made: Path, other: Path) -> None:
    path = export(made, "Copa/temp07_topp10_rulesv1")
    row = {
        "id": 1, "shared_experiment_id": 1, "dataset": "Copa", "directory": "/etc/data", "kind": "target",
        "mode": "copy", "fingerprint": "0" * 12, "published_at": "2026-11-21T10:00:00.000000Z", "published_by": "eve",
        "files": "{}",
    }  # fmt: skip
    with zipfile.ZipFile(path) as archive:
        content = {each: archive.read(each) for each in archive.namelist()}
    content["rows/publication.jsonl"] = json.dumps(row).encode() + b"\n"
    manifest = json.loads(content["manifest.json"])
    manifest["rows"]["publication"] = 1
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in (content | {"manifest.json": json.dumps(manifest).encode()}).items():
            archive.writestr(each, data)
    done = call(other, "import", repacked(path, "publication", lambda _: None))
    assert done.code == 12
    assert "publication: is of one machine" in done.err
    assert list(other.glob("tracker.db")) == []


def test_an_answer_that_is_here_stays_the_one_that_counts(made: Path, other: Path) -> None:
    path = export(made, "Copa/temp07_topp10_rulesv1")
    (key, answer) = one(made, "SELECT request_key, answer FROM attempt ORDER BY id LIMIT 1")
    imported(other, path)

    def later(row: dict[str, Any]) -> None:
        row.update(started_at="2036-01-01T00:00:00.000000Z", answer="Something else.")

    imported(other, repacked(path, "attempt", later))
    assert one(other, f"SELECT COUNT(*) FROM attempt WHERE request_key = '{key}'") == (2,)
    with reading(Workspace(other)) as reader:
        found = find_answer(reader, str(key))
    assert found is not None
    assert found["answer"] == answer


def test_what_was_made_here_stays_made_here(made: Path, other: Path) -> None:
    path = export(made, "Copa/temp07_topp10_rulesv1")
    imported(other, path)
    with contextlib.closing(sqlite3.connect(other / "tracker.db")) as connection, connection:
        connection.execute("UPDATE shared_experiment SET import_run_id = 1")
    back = export(other, "Copa/temp07_topp10_rulesv1")
    imported(made, back)
    assert one(made, "SELECT import_run_id FROM shared_experiment ORDER BY id LIMIT 1") == (None,)
    assert is_clean(made)


def test_what_two_machines_made_and_paid_is_no_fault_where_it_comes_together(made: Path, other: Path) -> None:
    write_records(other, COUNT)
    write_config(other, config())
    assert call(other, *GENERATE).code == 0
    imported(other, export(made, "Copa/temp07_topp10_rulesv1"))
    assert one(other, "SELECT COUNT(*) FROM generation_run WHERE outcome = 'made'") == (2,)
    assert is_clean(other)
