"""`synthtrack import`: a tree of the older layout, made by hand, comes in right."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.old_trees import (
    LITERAL,
    ORIGINALS,
    config_text,
    jsonl,
    old_fingerprint,
    rephrased,
    write_experiment,
    write_originals,
    write_tree,
)
from tests.workspaces import call, config, start, write_config, write_records

FIRST, SECOND = "temp05_topp10_gpt4o", "temp07_topp10_gpt4o"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "old")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


def rows(root: Path, sql: str) -> list[dict[str, Any]]:
    with sqlite3.connect(root / "tracker.db") as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql)]


def files(top: Path) -> dict[str, tuple[bytes | str, int]]:
    """Everything below a directory: content or target, and the time."""
    found: dict[str, tuple[bytes | str, int]] = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[str(path.relative_to(top))] = (content, status.st_mtime_ns)
    return found


def wrong(done: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["kind"], each["path"].rpartition("/")[2]) for each in done["items"] if each["outcome"] == "wrong"]


def test_a_tree_comes_in_right(old: Path, root: Path) -> None:
    before = files(old)
    done = call(root, "import", old, "--json")
    report = json.loads(done.out)
    assert done.code == 1
    assert sorted(wrong(report)) == [
        ("batch link", "temp03_topp10_gpt4o"),
        ("experiment", "temp09_topp10_gpt4o"),
        ("fingerprint", ".fingerprint"),
        ("literal key", SECOND),
        ("literal key", SECOND),
    ]
    assert (report["n_taken"], report["n_wrong"]) == (5, 5)
    experiments = rows(root, "SELECT * FROM experiment_overview ORDER BY name")
    assert [(each["name"], each["legacy_fingerprint"]) for each in experiments] == [
        (FIRST, old_fingerprint(0.5)),
        (SECOND, "aaaaaaaaaaaa"),
    ]
    first = experiments[0]
    assert (first["model"], first["temperature"], first["purpose"]) == ("gpt-4o", 0.5, "temperature_study")
    assert (first["n_records"], first["n_accepted"], first["n_rejected"]) == (6, 5, 1)
    assert first["created_at"] == "2024-12-29T10:30:00.000000Z"
    assert first["original_batch"] == "batch_20241229_temperature"
    made = rows(root, "SELECT created_at FROM batch WHERE name = 'batch_20241230_model'")
    assert made == [{"created_at": "2024-12-30T00:00:00.000000Z"}]
    members = rows(root, "SELECT batch, name, reused FROM batch_experiment ORDER BY batch, name")
    assert [(each["batch"], each["name"], each["reused"]) for each in members] == [
        ("batch_20241229_temperature", FIRST, 0),
        ("batch_20241229_temperature", SECOND, 0),
        ("batch_20241230_model", SECOND, 1),
    ]
    samples = rows(root, "SELECT * FROM sample s JOIN shared_experiment e ON e.id = s.shared_experiment_id")
    first_samples = [each for each in samples if each["name"] == FIRST]
    assert [each["status"] for each in first_samples] == ["accepted", "accepted", "rejected"] + ["accepted"] * 3
    assert [each["original"] for each in first_samples] == [record["premise"] for record in ORIGINALS]
    assert first_samples[0]["rephrased"] == "Number 0 went away."
    assert first_samples[2]["rephrased"] is None
    assert {each["verdict"] for each in samples} == {None}
    assert files(old) == before


def test_no_key_is_shown_or_stored(old: Path, root: Path) -> None:
    done = call(root, "import", old, "--copy")
    assert "generation_config.yaml:12 (generation.api_key)" in done.out
    assert "generate.py:1" in done.out
    assert LITERAL not in done.out + done.err
    kept = rows(root, "SELECT path FROM imported_file f JOIN shared_experiment e ON e.id = f.shared_experiment_id "
                      f"WHERE e.name = '{SECOND}' ORDER BY path")  # fmt: skip
    assert [each["path"] for each in kept] == [
        ".fingerprint", "README.md", "copa_test.jsonl", "copa_train.jsonl", "copa_validation.jsonl",
        "experiment_metadata.json",
    ]  # fmt: skip
    for path in root.rglob("*"):
        assert not path.is_file() or LITERAL.encode() not in path.read_bytes(), path


def test_the_same_config_is_not_paid_for_again(old: Path, root: Path) -> None:
    call(root, "import", old)
    shutil.copytree(old / "Data", root / "Data")
    config = root / "config.yaml"
    config.write_text(config_text(0.5))
    done = call(root, "generate", config, "--batch", "again", "--no-mlflow", environ={"OPENAI_API_KEY": None})
    assert done.code == 0, done.err
    assert "already made, nothing generated" in done.out
    made = root / "Data_v2" / "synthetic" / "again" / "Copa" / FIRST / "Copa" / "copa_train.jsonl"
    assert made.read_text() == jsonl(rephrased())
    assert rows(root, "SELECT COUNT(*) AS n FROM attempt") == [{"n": 0}]
    assert rows(root, f"SELECT directory FROM shared_experiment WHERE name = '{FIRST}'") == [{"directory": None}]
    assert call(root, "view", "check").code == 0


def test_a_copy_is_the_old_tree_byte_for_byte(old: Path, root: Path) -> None:
    call(root, "import", old, "--copy")
    shared, theirs = (top / "Data_v2" / "synthetic" / "_shared" / "Copa" for top in (root, old))
    for split in ("train", "validation", "test"):
        name = f"copa_{split}.jsonl"
        assert (shared / FIRST / "Copa" / name).read_bytes() == (theirs / FIRST / "Copa" / name).read_bytes()
        assert (shared / SECOND / "Copa" / name).read_bytes() == (theirs / SECOND / name).read_bytes()
    for name in ("README.md", "generate.py"):
        assert (shared / FIRST / name).read_bytes() == (theirs / FIRST / name).read_bytes()
    link = root / "Data_v2" / "synthetic" / "batch_20241230_model" / "Copa" / SECOND
    assert str(link.readlink()) == f"../../_shared/Copa/{SECOND}"
    assert call(root, "view", "check").code == 0
    before = files(root / "Data_v2")
    shutil.rmtree(root / "Data_v2")
    assert call(root, "view", "rebuild").code == 0
    assert {path: content for path, (content, _) in files(root / "Data_v2").items()} == {
        path: content for path, (content, _) in before.items()
    }


def test_data_in_place_is_found_by_every_path(old: Path, root: Path) -> None:
    call(root, "import", old)
    synthetic = old / "Data_v2" / "synthetic"
    assert not (root / "Data_v2").exists()
    for path in (f"_shared/Copa/{SECOND}", f"batch_20241230_model/Copa/{SECOND}", f"_shared/Copa/{SECOND}/Copa"):
        done = call(root, "path", "resolve", synthetic / path, "--json")
        found = json.loads(done.out)
        assert (found["name"], found["shared_path"]) == (SECOND, str(synthetic / "_shared" / "Copa" / SECOND))
    shown = json.loads(call(root, "experiment", "show", old_fingerprint(0.5), "--json").out)
    assert shown["shared_path"] == str(synthetic / "_shared" / "Copa" / FIRST / "Copa")
    assert [each["filename"] for each in shown["files"]] == [
        "copa_train.jsonl", "copa_validation.jsonl", "copa_test.jsonl",
    ]  # fmt: skip
    assert call(root, "view", "check").code == 0
    published = call(root, "publish", f"Copa/{FIRST}", "--target", root / "out", "--symlink")
    assert published.code == 0, published.err
    assert (root / "out" / "Copa" / "copa_train.jsonl").read_text() == jsonl(rephrased())


def test_data_that_lies_in_the_view_by_now_is_found_by_its_older_paths(old: Path, root: Path) -> None:
    shared = old / "Data_v2/synthetic/_shared/Copa"
    shutil.copytree(shared / FIRST, shared / "twin")
    call(root, "import", old, "--copy")
    synthetic = old / "Data_v2" / "synthetic"
    for gone in (False, True):
        if gone:
            shutil.rmtree(old)
        for path in (f"_shared/Copa/{SECOND}", f"batch_20241230_model/Copa/{SECOND}/Copa", "_shared/Copa/twin"):
            done = call(root, "path", "resolve", synthetic / path, "--json")
            assert done.code == 0, done.err
            name = FIRST if path.endswith("twin") else SECOND
            found = json.loads(done.out)
            assert found["shared_path"] == f"Data_v2/synthetic/_shared/Copa/{name}/Copa"
            assert (found["batch"] == "batch_20241230_model") == path.startswith("batch")
        assert call(root, "lineage", synthetic / "_shared/Copa" / FIRST).code == 0
    assert call(root, "path", "resolve", synthetic / "_shared/Copa/other").code == 4


def test_a_tree_that_is_the_workspace_is_left_alone(old: Path) -> None:
    before = files(old)
    assert call(old, "import", ".").code == 1
    assert call(old, "view", "check").code == 0
    assert call(old, "view", "rebuild").code == 0
    after = files(old)
    assert {path: after.get(path) for path in before} == before
    directories = [each["directory"] for each in rows(old, "SELECT directory FROM shared_experiment ORDER BY name")]
    assert directories == [f"Data_v2/synthetic/_shared/Copa/{name}" for name in (FIRST, SECOND)]
    resolved = json.loads(call(old, "path", "resolve", f"Data_v2/synthetic/_shared/Copa/{SECOND}", "--json").out)
    assert resolved["references"][1]["path"] == f"Data_v2/synthetic/batch_20241230_model/Copa/{SECOND}"


def test_generate_uses_data_of_a_tree_that_is_the_workspace_as_it_stands(old: Path) -> None:
    home = old / "Data_v2" / "synthetic" / "_shared" / "Copa" / SECOND
    (home / "generation_config.yaml").write_text(config_text(0.7))
    call(old, "import", ".")
    before = files(old / "Data_v2")
    done = call(old, "generate", home / "generation_config.yaml", "--batch", "again", "--no-mlflow", "--json")
    assert done.code == 0, done.err
    (made,) = json.loads(done.out)
    assert (made["outcome"], made["batch_path"]) == ("reused", f"Data_v2/synthetic/again/Copa/{SECOND}")
    assert (old / made["batch_path"] / "copa_train.jsonl").read_text() == jsonl(rephrased())
    after = files(old / "Data_v2")
    again = {path for path in after if path.startswith("synthetic/again")}
    assert {path: after[path] for path in after.keys() - again - {"synthetic"}} == {
        path: before[path] for path in before.keys() - {"synthetic"}
    }
    assert len(again) == 3
    assert not (old / ".trash").exists()
    assert call(old, "verify").code == 0


def test_importing_again_takes_nothing_new(old: Path, root: Path) -> None:
    call(root, "import", old)
    tables = ("shared_experiment", "sample", "imported_file", "batch", "batch_membership", "source_dataset")
    before = {name: rows(root, f"SELECT * FROM {name}") for name in tables}
    done = call(root, "import", old)
    assert "Nothing new was found." in done.out
    assert "0 taken, 5 known already, 0 skipped, 5 found wrong." in done.out
    assert {name: rows(root, f"SELECT * FROM {name}") for name in tables} == before
    runs = rows(root, "SELECT n_taken, n_wrong, finished_at IS NOT NULL AS finished FROM import_run ORDER BY id")
    assert runs == [{"n_taken": 5, "n_wrong": 5, "finished": 1}, {"n_taken": 0, "n_wrong": 5, "finished": 1}]


def test_a_dry_run_writes_nothing_and_says_the_same(old: Path, root: Path) -> None:
    foreseen = call(root, "import", old, "--dry-run", "--json")
    assert list(root.iterdir()) == []
    assert foreseen.err.startswith("Error: 5 things were found wrong; nothing was written.")
    taken = call(root, "import", old, "--json")
    assert taken.err.startswith("Error: 5 things were found wrong; everything else was taken.")
    assert json.loads(foreseen.out) == json.loads(taken.out)
    database = (root / "tracker.db").read_bytes()
    again = call(root, "import", old, "--dry-run", "--json")
    assert json.loads(again.out)["n_taken"] == 0
    assert (root / "tracker.db").read_bytes() == database


def test_data_that_was_changed_where_it_was_imported_is_told(old: Path, root: Path) -> None:
    call(root, "import", old)
    other = rephrased(kept=(0, 1))
    (old / "Data_v2/synthetic/_shared/Copa" / FIRST / "Copa" / "copa_train.jsonl").write_text(jsonl(other))
    for options in (("--dry-run",), ()):
        report = json.loads(call(root, "import", old, "--json", *options).out)
        assert ("experiment", FIRST) in wrong(report)
        assert report["n_taken"] == 0
    assert rows(root, f"SELECT n_accepted FROM shared_experiment WHERE name = '{FIRST}'") == [{"n_accepted": 5}]


def test_other_data_under_the_same_settings_is_an_experiment_of_its_own(old: Path, root: Path) -> None:
    shutil.copytree(old, old.with_name("older"), symlinks=True)
    call(root, "import", old)
    again = old.with_name("older")
    other = rephrased(kept=(0, 1))
    (again / "Data_v2/synthetic/_shared/Copa" / FIRST / "Copa" / "copa_train.jsonl").write_text(jsonl(other))
    link = again / "Data_v2/synthetic/batch_other/Copa"
    link.mkdir(parents=True)
    (link / FIRST).symlink_to(f"../../_shared/Copa/{FIRST}")
    foreseen = json.loads(call(root, "import", again, "--dry-run", "--json").out)
    report = json.loads(call(root, "import", again, "--json").out)
    assert foreseen == report
    assert ("experiment", FIRST) not in wrong(report)
    found = rows(root, "SELECT name, n_accepted FROM experiment_overview ORDER BY id")
    assert [tuple(each.values()) for each in found] == [(FIRST, 5), (SECOND, 5), (f"{FIRST}_2", 4)]
    members = rows(root, "SELECT name FROM batch_experiment WHERE batch = 'batch_other'")
    assert members == [{"name": f"{FIRST}_2"}]
    assert call(root, "verify").code == 0


def test_a_second_tree_with_the_same_data_moves_nothing_while_the_first_is_there(old: Path, root: Path) -> None:
    second = old.with_name("second")
    shutil.copytree(old, second, symlinks=True)
    call(root, "import", old)
    places = "SELECT directory FROM shared_experiment ORDER BY id"
    before = rows(root, places)
    report = json.loads(call(root, "import", second, "--json").out)
    assert (report["n_taken"], rows(root, places)) == (0, before)
    shutil.rmtree(old)
    foreseen = json.loads(call(root, "import", second, "--dry-run", "--json").out)
    report = json.loads(call(root, "import", second, "--json").out)
    assert foreseen == report
    assert report["n_taken"] == 2
    assert all(str(each["directory"]).startswith(str(second)) for each in rows(root, places))


def test_a_workspace_is_not_imported_into_itself(root: Path, tmp_path: Path) -> None:
    write_records(root, 5)
    write_config(root, config())
    (made,) = json.loads(call(root, "generate", "copa.yaml", "--no-mlflow", "--json").out)
    for options in (("--dry-run",), ()):
        done = call(root, "import", ".", "--json", *options)
        assert done.code == 0, done.err
        report = json.loads(done.out)
        assert (report["n_taken"], report["n_known"]) == (0, 2)
    assert len(rows(root, "SELECT id FROM shared_experiment")) == 1
    other = tmp_path / "other"
    other.mkdir()
    done = call(other, "import", root, "--json")
    assert done.code == 0, done.out
    found = rows(other, "SELECT fingerprint, legacy_fingerprint FROM shared_experiment")
    assert found == [{"fingerprint": made["fingerprint"], "legacy_fingerprint": None}]


def test_killed_in_the_middle_it_goes_on(tmp_path: Path, root: Path) -> None:
    old = tmp_path / "old"
    write_originals(old)
    names = [f"temp{number:04d}" for number in range(60)]
    for number, name in enumerate(names):
        write_experiment(old / "Data_v2/synthetic/_shared/Copa" / name, number / 100)
    link = old / "Data_v2/synthetic/batch_20241229_temperature/Copa"
    link.mkdir(parents=True)
    for name in names:
        (link / name).symlink_to(f"../../_shared/Copa/{name}/")
    process = start(root, "import", old)
    taken = 0
    while taken < 5 and process.poll() is None:
        if (root / "tracker.db").exists():
            taken = rows(root, "SELECT COUNT(*) AS n FROM shared_experiment")[0]["n"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = rows(root, "SELECT COUNT(*) AS n FROM shared_experiment")[0]["n"]
    assert 5 <= left < 60
    halves = "SELECT e.id FROM shared_experiment e WHERE (SELECT COUNT(*) FROM sample s WHERE s.shared_experiment_id = "
    assert rows(root, f"{halves}e.id) <> 6") == []
    assert call(root, "import", old).code == 0
    assert rows(root, "SELECT COUNT(*) AS n FROM shared_experiment") == [{"n": 60}]
    assert rows(root, "SELECT COUNT(*) AS n FROM batch_membership") == [{"n": 60}]
    assert rows(root, "SELECT COUNT(*) AS n FROM source_dataset") == [{"n": 1}]


def test_what_cannot_be_imported_is_an_error(root: Path, tmp_path: Path) -> None:
    assert call(root, "import", tmp_path / "nowhere").code == 3
    (tmp_path / "empty").mkdir()
    done = call(root, "import", tmp_path / "empty")
    assert done.code == 12
    assert "Nothing of the older layout is there." in done.err
    assert not (root / "tracker.db").exists()


def test_finished_data_gets_a_home(root: Path, tmp_path: Path) -> None:
    originals = write_originals(tmp_path / "project")
    for split, records in (("train", rephrased()), ("validation", ORIGINALS[:2])):
        (tmp_path / f"copa_{split}.jsonl").write_text(jsonl(records, ascii_only=True))
    made_of = originals / "copa_train.jsonl"
    given = ["import", "dataset", tmp_path / "copa_train.jsonl", tmp_path / "copa_validation.jsonl"]
    given += ["--dataset", "Copa", "--purpose", "older", "--original", made_of, "--name", "mezo_v1"]
    done = call(root, *given, "--model", "gpt-4o")
    assert done.code == 0, done.err
    (row,) = rows(root, "SELECT * FROM experiment_overview")
    assert (row["reference"], row["model"], row["provider"], row["n_accepted"]) == (
        "Copa/mezo_v1",
        "gpt-4o",
        "unknown",
        5,
    )
    assert (row["original_batch"], row["field_to_rephrase"]) == ("imported_older", "premise")
    made = root / "Data_v2/synthetic/_shared/Copa/mezo_v1/Copa/copa_train.jsonl"
    assert made.read_bytes() == (tmp_path / "copa_train.jsonl").read_bytes()
    again = call(root, *given)
    assert again.code == 0
    assert "Known already: 1 experiment" in again.out
    assert len(rows(root, "SELECT * FROM shared_experiment")) == 1
    assert call(root, "view", "check").code == 0


def test_a_file_without_records_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty_train.jsonl").write_text("\n")
    done = call(root, "import", "dataset", tmp_path / "empty_train.jsonl", "--dataset", "Copa", "--purpose", "older")
    assert done.code == 12
    assert "no records in it" in done.err
    assert not (root / "tracker.db").exists()


def test_splits_can_be_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(jsonl(rephrased()))
    (tmp_path / "b.jsonl").write_text(jsonl(ORIGINALS[:1]))
    given = ("--dataset", "Copa", "--purpose", "older")
    done = call(
        root, "import", "dataset", f"train={tmp_path / 'a.jsonl'}", f"validation={tmp_path / 'b.jsonl'}", *given
    )
    assert done.code == 0, done.err
    found = rows(root, "SELECT path, split, n_records FROM imported_file ORDER BY path")
    assert [tuple(each.values()) for each in found] == [("a.jsonl", "train", 6), ("b.jsonl", "validation", 1)]
    refused = call(root, "import", "dataset", tmp_path / "a.jsonl", tmp_path / "b.jsonl", *given)
    assert refused.code == 12
    assert "its name does not say which split it is" in refused.err


def test_a_training_comes_in_with_the_experiment_that_it_was_trained_on(old: Path, root: Path) -> None:
    directory = old / "Results_v2/tuning/meta-llama/Llama-3.2-1B/Copa_zo_temp05_topp10_gpt4o_1_6/20251226_143000"
    directory.mkdir(parents=True)
    config = {
        "timestamp": "20251226_143000", "experiment_purpose": "tuning", "model": "meta-llama/Llama-3.2-1B",
        "task": "Copa", "method": "zo", "hyperparameters": {"learning_rate": 1e-6, "batch_size": 16, "seed": 0},
        "data": {"path": f"Data_v2/synthetic/batch_20241229_temperature/Copa/{FIRST}/Copa"},
    }  # fmt: skip
    (directory / "experiment_config.yaml").write_text(json.dumps(config))
    (directory / "1_6_train.out").write_text("{'loss': 0.69, 'step': 10}\n{'train_runtime': 60.0}\n")
    (directory / "1_6_train.err").write_text("{'accuracy': 0.5}\n")
    foreseen = json.loads(call(root, "import", old, "--dry-run", "--json").out)
    report = json.loads(call(root, "import", old, "--json").out)
    assert report["kinds"]["training run"] == {"taken": 1, "known": 0, "skipped": 0, "wrong": 0}
    assert foreseen["kinds"] == report["kinds"]
    (data,) = rows(root, "SELECT t.*, e.name AS experiment FROM training_data t "
                         "JOIN shared_experiment e ON e.id = t.shared_experiment_id")  # fmt: skip
    assert data["experiment"] == FIRST
    lineage = call(root, "lineage", directory)
    assert lineage.code == 0, lineage.err
    assert "Say it in other words: {premise}" in lineage.out
    again = json.loads(call(root, "import", old, "--json").out)
    assert again["n_taken"] == 0


@pytest.mark.parametrize("options", [(), ("--copy",)])
def test_an_imported_record_is_verified(old: Path, root: Path, options: tuple[str, ...]) -> None:
    call(root, "import", old, *options)
    done = call(root, "verify")
    assert (done.code, done.err) == (0, ""), done.out
