"""``train --dry-run`` as it is typed: what it would do, what is wrong, and that it leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.training.plan import Options, prepare
from pipeline.training.train import register
from tests.workspaces import Done, call, config, rows, tree, write_config, write_lines, write_records
from tests.workspaces import records as copa
from tracker.paths import Workspace
from tracker.record import training
from tracker.record.database import open_database

NAME = "temp07_topp10_rulesv1"
SHARED = f"Data_v2/synthetic/_shared/Copa/{NAME}/Copa"
TRAIN: Mapping[str, Any] = {
    "experiment": {"purpose": "tuning"}, "model": "scratch:llama-tiny", "task": "Copa", "method": "zo",
    "data": {"path": SHARED}, "num_dev": 4, "cuda_devices": "cpu",
    "hyperparameters": {"learning_rate": [1e-3, 5e-4], "seed": [0, 1], "steps": 10, "batch_size": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with twelve original records and an experiment on them."""
    root = tmp_path_factory.mktemp("made")
    write_records(root, 12)
    write_config(root, config())
    assert call(root, "generate", "copa.yaml", "--no-mlflow").code == 0
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    root = Path(shutil.copytree(made, tmp_path / "workspace", symlinks=True))
    write_config(root, TRAIN, "configs/stage2/train.yaml")
    return root


def dry(root: Path, *arguments: object, config: str = "configs/stage2/train.yaml") -> Done:
    return call(root, "train", config, "--dry-run", *arguments)


def plan_of(root: Path, *arguments: object) -> dict[str, Any]:
    done = dry(root, "--json", *arguments)
    assert done.code == 0, done.err
    [found] = json.loads(done.out)
    return dict(found)


def test_a_plan_says_what_would_be_done(root: Path) -> None:
    done = dry(root)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "Plan of configs/stage2/train.yaml (dry run: nothing is written)"
    said = {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines[1:12] if ":" in line}
    [(fingerprint, batch)] = rows(
        root,
        """SELECT e.fingerprint, b.name FROM shared_experiment e
           JOIN batch_membership m ON m.shared_experiment_id = e.id JOIN batch b ON b.id = m.batch_id""",
    )
    assert said["Purpose"] == "tuning"
    assert said["Model"].startswith("scratch:llama-tiny (")
    assert said["Task"] == "Copa (llama prompts; loss on the right answer's tokens)"
    assert said["Method"] == "zo, fp32"
    assert said["Data"] == f"Copa/{NAME}: {SHARED} (fingerprint {fingerprint}, complete; in {batch})"
    assert said["Records"] == "8 train, 4 dev, 2 evaluation (majority class 50.0%)"
    assert said["Devices"] == "cpu; one run at a time on each"
    assert "a run" in said["Memory"]
    assert "free" in said["Memory"]
    assert said["Steps"].startswith("10 of 2 records, 2.5 epochs, about ")
    assert said["Grid"] == "4 points over learning_rate, seed; 4 to train"
    home = "Results_v2/tuning/scratch-llama-tiny"
    table = [line.split() for line in lines if line[:1] in "1234" and line]
    assert [(cells[1], cells[2], cells[-1]) for cells in table] == [
        (rate, seed, f"{home}/Copa_zo_{NAME}_{name}/")
        for rate, name in (("0.001", "1_3"), ("0.0005", "5_4"))
        for seed in "01"
    ]


def test_a_plan_is_data_too(root: Path) -> None:
    found = plan_of(root)
    keys = ("learning_rate", "seed", "attempt", "wanted")
    assert [tuple(point[key] for key in keys) for point in found["points"]] == [
        (1e-3, 0, 1, True), (1e-3, 1, 1, True), (5e-4, 0, 1, True), (5e-4, 1, 1, True),
    ]  # fmt: skip
    assert len({point["fingerprint"] for point in found["points"]}) == 4
    [data] = found["data"]
    assert (data["path"], data["directory"], data["name"], data["n_records"], data["n_train"]) == (
        SHARED,
        SHARED,
        NAME,
        12,
        8,
    )
    assert (data["fingerprint"], data["train_digest"]) == rows(
        root, "SELECT fingerprint, data_digest FROM shared_experiment"
    )[0]
    assert (found["n_train"], found["n_dev"], found["n_eval"], found["devices"]) == (8, 4, 2, ["cpu"])
    assert (found["epochs"], found["step_time_s"], found["resumes"], found["warnings"][1:]) == (2.5, None, None, [])
    assert 0 < found["memory_bytes"] < found["free_bytes"]
    assert found["settings"]["hyperparameters.learning_rate"] == 1e-3
    assert "hyperparameters.gradient_accumulation" not in found["settings"]


def everything(root: Path) -> tuple[str, list[Path]]:
    """Every file and directory; SQLite's own two come and go with who reads."""
    return tree(root), sorted(path for path in root.rglob("*") if not path.name.startswith("tracker.db-"))


@pytest.mark.parametrize("has_record", [True, False])
def test_nothing_is_created(root: Path, has_record: bool) -> None:
    if not has_record:
        (root / "tracker.db").unlink()
        write_config(root, {**TRAIN, "data": {"path": "Data/original/Copa"}}, "configs/stage2/train.yaml")
    before = everything(root)
    for arguments in ((), ("--json",), ("--fresh",), ("--skip-done",), ("--background",)):
        assert dry(root, *arguments).code == 0
    assert dry(root, "--set", "model=scratch:llama-huge").code != 0
    assert everything(root) == before
    assert not (root / "Results_v2").exists()
    if has_record:
        assert rows(root, "SELECT COUNT(*) FROM training_sweep") == [(0,)]


def test_what_may_surprise_goes_to_the_person_and_not_into_the_pipe(root: Path) -> None:
    done = dry(root, "--set", "experiment={}", "--json")
    first, second = done.err.splitlines()
    assert first.startswith("⚠️  No experiment.purpose is given: results go to uncategorized/. Say why you train")
    assert "of its last 4 records" in second
    [found] = json.loads(done.out)
    assert [f"⚠️  {warning}" for warning in found["warnings"]] == [first, second]
    assert {Path(point["directory"]).parts[1] for point in found["points"]} == {"uncategorized"}


def test_several_configs_and_directories_of_them_are_planned_at_once(root: Path) -> None:
    for name, method in (("b/one.yaml", "fo_full"), ("a.yml", "fo_lora"), ("notes.txt", "zo")):
        write_config(root, {**TRAIN, "method": method}, f"configs/stage2/{name}")
    done = dry(root, "--json", config="configs/stage2")
    assert [Path(each["config"]).name for each in json.loads(done.out)] == ["a.yml", "one.yaml", "train.yaml"]
    write_config(root, TRAIN, "mine.yaml")
    both = call(root, "train", "mine.yaml", "--config", "configs/stage2/b", "--dry-run")
    assert both.out.count("(dry run: nothing is written)") == 2
    assert both.out.index("Plan of mine.yaml") < both.out.index("Plan of configs/stage2/b/one.yaml")
    # Warned of once, though it is said by both.
    assert both.err.count("of its last 4 records") == 1


def test_without_a_config_its_absence_is_said(root: Path) -> None:
    assert call(root, "train", "--dry-run").code == 2
    (root / "empty").mkdir()
    done = dry(root, config="empty")
    assert (done.code, "no .yaml files in this directory" in done.err) == (3, True)
    assert dry(root, config="nowhere.yaml").code == 3


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"method": "lora"}, 3, "train.yaml:5: `method`: input should be 'zo', 'fo_full' or 'fo_lora' (got 'lora')"),
        ({"task": "copa2"}, 3, "train.yaml:4: `task`: No task 'copa2'. Did you mean Copa?"),
        ({"cuda_devices": "nvidia"}, 3, "train.yaml:9: `cuda_devices`: no device 'nvidia'"),
        ({"hyperparameters": {"learning_rate": []}}, 3, "`hyperparameters.learning_rate` is an empty list"),
        ({"hyperparameters": {"learning_rate": -1e-6}}, 3, "input should be greater than 0 (got -1e-06)"),
        ({"hyperparameters": None}, 3, "`hyperparameters` is a group of settings"),
        ({"modle": "gpt2"}, 3, "unknown key `modle`; did you mean `model`?"),
        ({"data": {"path": f"Copa/{NAME}x"}}, 4, f"Did you mean Copa/{NAME}?"),
        ({"data": {"path": "Data/original"}, "task": "CB"}, 12, "copa_train.jsonl:1: no field 'hypothesis'"),
        ({"data": {"path": "configs"}}, 12, "configs: no train split"),
        ({"data": {"path": "Data/original/Copa/copa_train.jsonl"}}, 12, "copa_train.jsonl: not a directory"),
        ({"num_dev": 12}, 12, "of 12 records the last 12 are kept for dev"),
        ({"model": "configs"}, 16, "holds no config.json"),
        ({"model": "scratch:llama-huge"}, 4, "scratch:llama-tiny"),
    ],
)
def test_what_is_wrong_is_said(root: Path, changes: dict[str, Any], code: int, said: str) -> None:
    write_config(root, {**TRAIN, **changes}, "configs/stage2/train.yaml")
    done = dry(root)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_wrong_fields_are_said_with_their_line(root: Path) -> None:
    lines = copa(12)
    del lines[4]["choice1"]
    lines[7]["label"] = 5
    (root / "mine/Copa").mkdir(parents=True)
    write_lines(root / "mine/Copa/copa_train.jsonl", lines)
    write_lines(root / "mine/Copa/copa_validation.jsonl", copa(2))
    done = dry(root, "--set", "data.path=mine")
    assert done.code == 12
    assert "copa_train.jsonl:5: no field 'choice1'" in done.err
    assert "copa_train.jsonl:8: label 5, expected 0 to 1" in done.err


def test_an_unfinished_experiment_is_refused(root: Path) -> None:
    with open_database(Workspace(root)) as database, database.writing() as connection:
        connection.exec_driver_sql("UPDATE shared_experiment SET status = 'unfinished'")
    done = dry(root)
    assert (done.code, done.out) == (14, "")
    assert f"Copa/{NAME} is not finished" in done.err


def test_data_that_changed_is_refused(root: Path) -> None:
    path = root / SHARED / "copa_train.jsonl"
    path.write_text(path.read_text().replace("fell", "slept"))
    done = dry(root)
    assert (done.code, done.out) == (6, "")
    assert f"{SHARED}/copa_train.jsonl is not what the record says" in done.err
    assert "`synthtrack verify`" in done.err
    assert "slept" in path.read_text()


def test_a_device_that_is_not_there_is_said_before_anything_trains(root: Path) -> None:
    write_config(root, {**TRAIN, "cuda_devices": "99"}, "configs/stage2/z.yaml")
    done = call(root, "train", "configs/stage2", "--no-mlflow")
    assert (done.code, rows(root, "SELECT COUNT(*) FROM training_sweep")) == (3, [(0,)])


def sweep(root: Path) -> int:
    here = Workspace(root)
    with open_database(here) as database:
        return register(here, database, prepare(here, root / "configs/stage2/train.yaml", Options()), ["cpu"])


def test_a_plan_says_what_was_trained_before(root: Path) -> None:
    sweep_id = sweep(root)
    assert f"an unfinished sweep of this config is resumed ({plan_of(root)['resumes'][:8]}; --fresh" in dry(root).out
    assert plan_of(root, "--fresh")["resumes"] is None
    with open_database(Workspace(root)) as database:
        for (run_id,) in rows(root, "SELECT id FROM training_run ORDER BY id LIMIT 3"):
            training.end_run(database, run_id, training.COMPLETE, {})
        training.end_sweep(database, sweep_id, training.COMPLETE)
    found = plan_of(root, "--fresh", "--skip-done")["points"]
    assert [(each["attempt"], each["n_complete"], each["wanted"]) for each in found] == [
        (2, 1, False), (2, 1, False), (2, 1, False), (2, 0, True),
    ]  # fmt: skip
    done = dry(root, "--fresh", "--skip-done")
    assert "4 points over learning_rate, seed; 1 to train" in done.out
    assert done.out.count("left out (done)") == 3


def test_where_every_point_was_trained_there_is_nothing_to_do(root: Path) -> None:
    sweep(root)
    with open_database(Workspace(root)) as database:
        for (run_id,) in rows(root, "SELECT id FROM training_run"):
            training.end_run(database, run_id, training.COMPLETE, {})
    done = call(root, "train", "configs/stage2/train.yaml", "--skip-done", "--no-mlflow")
    assert done.code == 0, done.err
    assert "every point was trained before; nothing to do (--skip-done)" in done.err
    assert rows(root, "SELECT COUNT(*) FROM training_run") == [(4,)]


def test_an_estimate_is_made_of_earlier_runs(root: Path) -> None:
    sweep(root)
    with open_database(Workspace(root)) as database, database.writing() as connection:
        connection.exec_driver_sql("UPDATE training_run SET step_time_s = 2.0 * id, device = 'cpu'")
    assert plan_of(root)["step_time_s"] == 5.0
    assert "5 s a step in earlier runs, so about 3 min in all" in dry(root).out


def test_several_configs_do_not_go_into_the_background_at_once(made: Path) -> None:
    """Their sweeps would train on the same devices at the same time."""
    for name in ("a.yaml", "b.yaml"):
        write_config(made, TRAIN, name)
    before = tree(made)
    done = call(made, "train", "a.yaml", "b.yaml", "--background")
    assert (done.code, "one at a time" in done.err) == (2, True)
    assert tree(made) == before
