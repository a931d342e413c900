"""Real damage, to the record and to the disk, and what is said of it; and that looking changes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.generation.plan import clean
from pipeline.generation.verdict import read_verdict
from pipeline.pools.preprocess import rescore
from pipeline.training import results as result_files
from pipeline.training.evaluate import Prediction
from pipeline.training.plan import Options, prepare
from pipeline.training.train import register
from tests import perspectives
from tests.workspaces import call, config, rows, tree, write_config, write_records
from tracker.paths import Workspace
from tracker.record import training
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.record.findings import Finding
from tracker.verifying.sample_findings import Answers
from tracker.verifying.verify import Rules, Subject, Verified, verify

NAME = "temp07_topp10_rulesv1"
ANSWERS = Answers(clean, lambda answer: read_verdict(answer).value)
SHARED = f"Data_v2/synthetic/_shared/Copa/{NAME}"
OTHER = "Data_v2/synthetic/_shared/Copa/temp09_topp10_rulesv1_first6"
FILES = ("experiment_config.yaml", "metrics.json", "predictions.jsonl", "train.out", "train.err", "model")


def trained(root: Path) -> None:
    """Two runs on original data and a published copy, complete, and one that was stopped."""
    given = {
        "experiment": {"purpose": "tuning"}, "model": "scratch:llama-tiny", "task": "Copa", "method": "zo",
        "data": {"paths": ["Data/original/Copa", "Data/published/Copa", OTHER]},
        "num_dev": 4, "cuda_devices": "cpu", "hyperparameters": {"learning_rate": 1e-3, "seed": [0, 1, 2], "steps": 9},
    }  # fmt: skip
    here = Workspace(root, environ={})
    plan = prepare(here, write_config(root, given, "train.yaml"), Options())
    with open_database(here) as database:
        register(here, database, plan, ["cpu"])
        for run_id, directory in rows(root, "SELECT id, directory FROM training_run ORDER BY id"):
            for name in FILES:
                (root / directory / name).write_text(name)
            answers = [
                {"position": at, "label": at, "predicted": 1, "correct": at == 1, "scores": "[]"} for at in range(2)
            ]
            training.save_predictions(database, run_id, "trained", answers)
            training.save_predictions(database, run_id, "zero_shot", answers[:1])
            status = training.STOPPED if run_id == 3 else training.COMPLETE
            training.end_run(database, run_id, status, {"accuracy": 0.5, "n_correct": 1})
            said(root, run_id, answers)


def said(root: Path, run_id: int, answers: list[dict[str, Any]]) -> None:
    """The result files that say what the record says, as far as it is compared."""
    names = ("directory", "model", "task", "method", "fingerprint", "uuid", "attempt", "n_eval")
    [row] = rows(root, f"SELECT {', '.join(names)} FROM training_run WHERE id = ?", run_id)
    run = dict(zip(names, row, strict=True))
    directory = root / run["directory"]
    result_files.write_config(directory, {
        **{name: run[name] for name in ("model", "task", "method")}, "hyperparameters": {},
        "training_info": {"fingerprint": run["fingerprint"], "run": run["uuid"]},
    })  # fmt: skip
    metrics = {name: run[name] for name in ("fingerprint", "attempt", "n_eval")}
    result_files.write_metrics(directory, metrics | {"accuracy": 0.5, "n_correct": 1})
    result_files.write_predictions(
        directory, [Prediction(each["position"], each["label"], each["predicted"], ()) for each in answers]
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    write_records(root, 12)
    write_config(root, config())
    for arguments in (
        ("generate", "copa.yaml", "--no-mlflow"),
        ("generate", "copa.yaml", "--no-mlflow", "--set", "generation.temperature=0.9", "--limit", "6"),
        ("publish", f"Copa/{NAME}", "--target", "Data/published"),
    ):
        done = call(root, *arguments)
        assert done.code == 0, done.err
    trained(root)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "workspace", symlinks=True))


def checked(root: Path, subject: Subject | None = None) -> Verified:
    here = Workspace(root, environ={})
    with reading(here) as reader:
        return verify(here, reader, Rules(lambda _: FILES, rescore, ANSWERS), subject)


def found(root: Path, subject: Subject | None = None) -> list[Finding]:
    return list(checked(root, subject).findings)


def edit(root: Path, statement: str, *values: object) -> None:
    """Changes the record behind the program's back."""
    with sqlite3.connect(root / "tracker.db") as connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


def everything(root: Path) -> tuple[str, list[Path]]:
    return tree(root), sorted(path for path in root.rglob("*") if not path.name.startswith("tracker.db-"))


def test_where_all_is_as_it_was_nothing_is_said_and_nothing_done(root: Path) -> None:
    before = everything(root)
    assert checked(root) == Verified(
        {
            "experiment": 2,
            "agent data set": 0,
            "source data": 1,
            "training run": 3,
            "training data": 3,
            "results": 2,
            "generation run": 2,
            "publication": 1,
        },
        (),
    )
    assert everything(root) == before


def of_run(root: Path, number: int) -> str:
    [(directory, fingerprint)] = rows(root, "SELECT directory, fingerprint FROM training_run WHERE id = ?", number)
    return f"{directory} ({fingerprint})"


Damage = tuple[str, tuple[object, ...], list[tuple[str, str]]]
RECORD: dict[str, Damage] = {
    "temperature": (
        "UPDATE shared_experiment SET temperature = 0.8 WHERE id = 1", (),
        [("experiment", "temperature is 0.8, in its identity 0.7")],
    ),
    "digest": (
        "UPDATE shared_experiment SET digest = ? WHERE id = 1", ("0" * 64,),
        [("experiment", "digest 000000000000 is recorded"), ("tree", "edited")],
    ),
    "fingerprint": (
        "UPDATE shared_experiment SET fingerprint = ? WHERE id = 1", ("0" * 12,),
        [("experiment", "fingerprint 000000000000 is recorded"), ("tree", "edited"), ("tree", "edited"),
         *[("training data", f"it was trained on other data than Copa/{NAME}")] * 3],
    ),
    "identity": (
        "UPDATE shared_experiment SET identity = REPLACE(identity, '0.7', '0.8') WHERE id = 1", (),
        [("experiment", "fingerprint "), ("experiment", "digest "),
         ("experiment", "temperature is 0.7, in its identity 0.8")],
    ),
    "sample": (
        "UPDATE sample SET rephrased = 'Another.' WHERE shared_experiment_id = 1 AND position = 3", (),
        [("experiment", "sample 4 has a rephrased text that its answer in the ledger does not give"),
         ("tree", "contradiction: The samples of")],
    ),
    "source record": (
        "UPDATE source_record SET line = REPLACE(line, 'slept', 'sat') WHERE position = 3", (),
        [("source data", "copa_train.jsonl: SHA-256 "), ("tree", "contradiction"), ("tree", "contradiction")],
    ),
    "source split": (
        "UPDATE source_split SET content = ? WHERE split = 'validation'", (zlib.compress(b"{}\n"),),
        [("source data", "copa_validation.jsonl: SHA-256 "), ("tree", "contradiction"), ("tree", "contradiction")],
    ),
    "source name": (
        "UPDATE source_dataset SET task_name = 'cope'", (),
        [("source data", "digest "), ("tree", "edited"), ("tree", "edited")],
    ),
    "rate": (
        "UPDATE training_run SET learning_rate = 0.01 WHERE id = 1", (),
        [("training run", "learning_rate is 0.01, in its identity 0.001")],
    ),
    "identity of a run": (
        "UPDATE training_run SET identity = REPLACE(identity, '\"seed\":2', '\"seed\":5') WHERE id = 3", (),
        [("training run", "fingerprint "), ("training run", "digest "),
         ("training run", "seed is 2, in its identity 5")],
    ),
    "data of a run": (
        "UPDATE training_data SET train_digest = ? WHERE training_run_id = 1 AND position = 1", ("0" * 64,),
        [("training data", "its data sets are not those"),
         ("training data", f"it was trained on other data than Copa/{NAME}"),
         ("training data", "no train split with SHA-256 000000000000, as 1 training run used it")],
    ),
    "accuracy": (
        "UPDATE training_run SET accuracy = 0.9 WHERE id = 1", (),
        [("training run", "accuracy 0.9 of 2 is recorded, its answers give 1 of 2")],
    ),
    "answer": (
        "UPDATE prediction SET correct = 1 WHERE training_run_id = 2 AND stage = 'trained'", (),
        [("training run", "of its 2 answers 1 have a wrong mark")],
    ),
    "prediction": (
        "UPDATE prediction SET predicted = 0 WHERE training_run_id = 2 AND stage = 'trained' AND position = 1", (),
        [("training run", "of its 2 answers 1 have a wrong mark")],
    ),
    "answers": (
        "DELETE FROM prediction WHERE training_run_id = 1", (),
        [("training run", "accuracy 0.5 of 2 is recorded, its answers give 0 of 0")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", RECORD)
def test_what_was_changed_in_the_record_is_said(root: Path, what: str) -> None:
    statement, values, expected = RECORD[what]
    edit(root, statement, *values)
    said = found(root)
    assert len(said) == len(expected)
    for each, (kind, start) in zip(said, expected, strict=True):
        assert (each.kind, each.what.startswith(start)) == (kind, True), each
        assert each.where
        assert each.remedy


def test_where_it_is_and_what_to_do_is_said(root: Path) -> None:
    edit(root, "UPDATE training_run SET seed = 9 WHERE id = 2")
    [only] = found(root)
    assert only.where == of_run(root, 2)
    assert "restore it from a backup" in only.remedy


def replaced(path: Path) -> None:
    path.write_bytes(path.read_bytes().swapcase())


ORIGINAL, PUBLISHED = "Data/original/Copa", "Data/published/Copa"
DISK: dict[str, tuple[Callable[[Path], object], list[tuple[str, str, str, str]]]] = {
    "edited in the tree": (
        lambda root: replaced(root / SHARED / "Copa/copa_train.jsonl"),
        [("tree", f"_shared/Copa/{NAME}/Copa/copa_train.jsonl", "edited", "view rebuild")],
    ),
    "tree missing": (
        lambda root: shutil.rmtree(root / SHARED),
        [("tree", f"_shared/Copa/{NAME}", "missing", "view rebuild"), ("tree", "", "dangling", "view rebuild")],
    ),
    "unknown in the tree": (lambda root: (root / SHARED / "notes").write_text("mine"), []),
    "original changed": (
        lambda root: replaced(root / ORIGINAL / "copa_train.jsonl"),
        [("training data", ORIGINAL, "no train split with SHA-256 ", "Put the file back")],
    ),
    "validation changed": (
        lambda root: replaced(root / ORIGINAL / "copa_validation.jsonl"),
        [("training data", ORIGINAL, "no validation split with SHA-256 ", "Put the file back")],
    ),
    "original missing": (
        lambda root: shutil.rmtree(root / ORIGINAL),
        [("training data", ORIGINAL, f"no {split} split there, as 3 training runs used it", "Put the file back")
         for split in ("train", "validation")],
    ),
    "published changed": (
        lambda root: replaced(root / PUBLISHED / "copa_train.jsonl"),
        [("training data", PUBLISHED, "no train split with SHA-256 ", f"synthtrack publish Copa/{NAME}"),
         ("publication", PUBLISHED, "changed: copa_train.jsonl", "--force` moves what is there aside")],
    ),
    "renamed": (lambda root: (root / ORIGINAL / "copa_train.jsonl").rename(root / ORIGINAL / "train.jsonl"), []),
    "result file missing": (
        lambda root: [(results(root, 1) / name).rename(root / name) for name in ("metrics.json", "model")],
        [("results", "", "missing: metrics.json, model", "Put it back")],
    ),
    "results missing": (
        lambda root: shutil.rmtree(results(root, 2)), [("results", "", "the directory is missing", "Put it back")],
    ),
    "results of a stopped run missing": (lambda root: shutil.rmtree(results(root, 3)), []),
}  # fmt: skip


def results(root: Path, number: int) -> Path:
    return root / Path(rows(root, "SELECT directory FROM training_run WHERE id = ?", number)[0][0])


@pytest.mark.parametrize("what", DISK)
def test_what_was_changed_on_the_disk_is_said(root: Path, what: str) -> None:
    damage, expected = DISK[what]
    damage(root)
    before = everything(root)
    said = found(root)
    assert [each.kind for each in said] == [kind for kind, *_ in expected]
    for each, (_, where, start, remedy) in zip(said, expected, strict=True):
        assert each.where == (where or each.where)
        assert each.what.startswith(start)
        assert remedy in each.remedy
    assert everything(root) == before


def test_only_what_is_named_is_checked(root: Path) -> None:
    edit(root, "UPDATE shared_experiment SET temperature = 0.8 WHERE id = 1")
    edit(root, "UPDATE training_run SET seed = 9 WHERE id = 2")
    edit(root, "UPDATE source_dataset SET task_name = 'cope'")
    replaced(root / OTHER / "Copa/copa_train.jsonl")
    assert found(root, Subject()) == []
    assert [each.what for each in found(root, Subject(experiment_ids=(1,)))] == [
        "temperature is 0.8, in its identity 0.7", "edited",
    ]  # fmt: skip
    # The tree is not compared, but what a run was trained on is.
    assert [(each.kind, each.where) for each in found(root, Subject(run_ids=(1,)))] == [
        ("training data", f"{OTHER}/Copa")
    ]
    assert [each.kind for each in found(root, Subject(run_ids=(2,)))] == ["training run", "training data"]
    assert checked(root, Subject((1, 2), (1, 3))).counts == {
        "experiment": 2, "agent data set": 0, "source data": 0, "training run": 2, "training data": 3, "results": 1,
    }  # fmt: skip


def test_an_unfinished_experiment_has_an_identity_too(root: Path) -> None:
    edit(root, "UPDATE shared_experiment SET status = 'unfinished', temperature = 0.8 WHERE id = 2")
    assert ("experiment", "temperature is 0.8, in its identity 0.9") in [(each.kind, each.what) for each in found(root)]


def test_a_new_workspace_has_nothing_wrong(tmp_path: Path) -> None:
    open_database(Workspace(tmp_path, environ={})).close()
    assert checked(tmp_path) == Verified(
        {"experiment": 0, "agent data set": 0, "source data": 0, "training run": 0, "training data": 0, "results": 0},
        (),
    )


def test_digests_are_those_of_the_files(root: Path) -> None:
    """What the record says is what anybody can reckon."""
    recorded: list[Any] = rows(root, "SELECT directory, train_digest FROM training_data WHERE training_run_id = 1")
    for directory, digest in recorded:
        data = (root / directory / "copa_train.jsonl").read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest
    [(identity, digest)] = rows(root, "SELECT identity, digest FROM training_run WHERE id = 1")
    assert hashlib.sha256(identity.encode()).hexdigest() == digest
    assert json.loads(identity)["kind"] == "training_run"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two agent data sets over the same inputs, the second with references."""
    root = tmp_path_factory.mktemp("asked")
    perspectives.write_inputs(root, perspectives.pairs(3))
    for changes in ({}, {"add_references": True, "model_config__temperature": 0}):
        perspectives.write_config(root, perspectives.offline(**changes))
        done = call(root, "perspectives", "config.json", "--no-mlflow")
        assert done.code == 0, done.err
    return root


@pytest.fixture
def agents(asked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(asked, tmp_path / "asked"))


NONE = {"experiment": 0, "agent data set": 0, "source data": 0, "training run": 0, "training data": 0, "results": 0}


def test_agent_data_sets_are_checked_and_left_as_they_are(agents: Path) -> None:
    before = everything(agents)
    assert checked(agents) == Verified({**NONE, "agent data set": 2, "source data": 1}, ())
    assert checked(agents, Subject(agent_dataset_ids=(2,))) == Verified({**NONE, "agent data set": 1}, ())
    assert everything(agents) == before


AGENTS_RECORD: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "fingerprint": (
        "UPDATE agent_dataset SET fingerprint = '000000000000' WHERE id = 1",
        [("agent data set", "fingerprint 000000000000 is recorded, its identity has "), ("tree", "edited")],
    ),
    "digest": (
        "UPDATE agent_dataset SET digest = '0' || SUBSTR(digest, 2) || '0' WHERE id = 1",
        [("agent data set", "digest 0")],
    ),
    "identity": (
        "UPDATE agent_dataset SET identity = REPLACE(identity, '\"draw\":0', '\"draw\":1') WHERE id = 1",
        [("agent data set", "fingerprint "), ("agent data set", "digest "),
         ("agent data set", "draw is 0, in its identity 1")],
    ),
    "temperature": (
        "UPDATE agent_dataset SET temperature = 0.8 WHERE id = 2",
        [("agent data set", "temperature is 0.8, in its identity 0")],
    ),
    "config": (
        "UPDATE agent_dataset SET config = REPLACE(config, 'inputs.json', 'else.json') WHERE id = 1",
        [("agent data set", "`data_config.input_data_path` of its config is not that of its settings"),
         ("tree", "edited")],
    ),
    "settings": (
        "UPDATE agent_dataset SET settings = REPLACE(settings, 'rules-v1', 'rules-v2') WHERE id = 2",
        [("agent data set", "`model_config.model_name` of its settings is not that of its identity")],
    ),
    "condition": (
        "UPDATE agent_perspective SET condition = 'Else' WHERE agent_dataset_id = 1 AND position = 2",
        [("agent data set", "its conditions are not those of its identity"), ("tree", "edited")],
    ),
    "response": (
        "UPDATE agent_response SET response = 'Else' WHERE agent_dataset_id = 1 AND position = 2 AND perspective = 1",
        [("agent data set", "data_digest "), ("tree", "contradiction: The responses of translation_rules-v1_")],
    ),
    "preparation": (
        "UPDATE agent_response SET preparation = NULL WHERE agent_dataset_id = 1 AND position = 2",
        [("agent data set", "1 of its responses are not what their status says"), ("agent data set", "data_digest "),
         ("tree", "contradiction: ")],
    ),
    "lost response": (
        "DELETE FROM agent_response WHERE agent_dataset_id = 1 AND position = 2 AND perspective = 1",
        [("agent data set", "data_digest "), ("agent data set", "n_responses is 9, its rows give 8"),
         ("agent data set", "n_inputs * n_perspectives is 9, its rows give 8"),
         ("agent data set", "n_responses of Noted is 3, its rows give 2"), ("tree", "contradiction: ")],
    ),
    "response to another input": (
        "UPDATE agent_response SET source_record_id = 1 WHERE agent_dataset_id = 1 AND position = 2",
        [("agent data set", "3 of its responses are not to its inputs")],
    ),
    "count": (
        "UPDATE agent_dataset SET n_responses = 8 WHERE id = 1",
        [("agent data set", "n_responses is 8, its rows give 9")],
    ),
    "inputs": (
        "UPDATE source_record SET line = REPLACE(line, 'Haus', 'Baum') WHERE position = 1",
        [("source data", "inputs.jsonl: SHA-256 "), ("tree", "contradiction: The inputs of "),
         ("tree", "contradiction: The inputs of ")],
    ),
    "digest of the inputs": (
        "UPDATE source_split SET digest = '0' || SUBSTR(digest, 2) || '0'",
        [*[("agent data set", "its inputs are not those of its identity")] * 2, ("source data", "inputs.jsonl: "),
         ("source data", "digest "), *[("tree", "contradiction: The inputs of ")] * 2],
    ),
    "name": (
        "UPDATE agent_dataset SET name = '../../outside' WHERE id = 1",
        [("tree", "contradiction: A name in the database is none")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", AGENTS_RECORD)
def test_what_was_changed_in_the_record_of_agents_is_said(agents: Path, what: str) -> None:
    statement, expected = AGENTS_RECORD[what]
    edit(agents, statement)
    said = sorted(found(agents), key=lambda each: each.kind)
    assert [each.kind for each in said] == [kind for kind, _ in expected], said
    for each, (_, start) in zip(said, expected, strict=True):
        assert each.what.startswith(start), each
        assert each.where
        assert each.remedy


def test_an_agents_file_that_was_changed_is_said_with_its_place(agents: Path) -> None:
    first, second = perspectives.files(agents)
    replaced(first)
    second.unlink()
    (first.parent / "notes").write_text("mine")
    assert [(each.kind, each.what, each.where) for each in found(agents)] == [
        ("tree", "edited", f"data/agents/{first.name}"), ("tree", "missing", f"data/agents/{second.name}"),
    ]  # fmt: skip
    assert all("view rebuild" in each.remedy for each in found(agents))
    assert [each.what for each in found(agents, Subject(agent_dataset_ids=(2,)))] == ["missing"]
    assert found(agents, Subject()) == []
    assert call(agents, "view", "rebuild").code == 0
    assert found(agents) == []


def test_an_agent_data_set_that_is_being_made_has_an_identity_too(agents: Path) -> None:
    edit(agents, "UPDATE agent_dataset SET status = 'unfinished', data_digest = NULL, completed_at = NULL, draw = 3")
    edit(agents, "DELETE FROM agent_response WHERE position = 1")
    assert [each.what for each in found(agents)] == [
        *["draw is 3, in its identity 0"] * 2, *["not in the record"] * 2,
    ]  # fmt: skip
