"""``train`` as a person uses it: grids by each method on synthetic and original data, and what it leaves behind."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.mlflow_reading import client_of, found, inputs, only
from tests.trainings import (
    N_TRAIN,
    ORIGINAL,
    config,
    curve,
    directory,
    generate,
    model_digest,
    new_root,
    predictions,
    run,
    trained,
)
from tests.workspaces import Done, call, rows, write_config
from tracker.mlflow_runs.sweep_report import SWEEP_TAG
from tracker.mlflow_runs.training_report import RUN_TAG
from tracker.paths import Workspace

SECRETS = {"HF_TOKEN": "hf_3b1cTheFirstSecret", "OPENAI_API_KEY": "sk-77TheSecondSecret", "OMP_NUM_THREADS": "1"}
RATES, SEEDS = [1e-3, 5e-3], [0, 1]
GRID = [(rate, seed) for rate in RATES for seed in SEEDS]
# Processes of their own take seconds to begin, and more where many tests run at once.
pytestmark = pytest.mark.timeout(900)
FILES = {
    "experiment_config.yaml", "metrics.json", "predictions.jsonl", "model", "checkpoint",
}  # fmt: skip


@dataclass(frozen=True)
class Study:
    """A workspace with data of two temperatures; ``runs`` are ids by method in the order of the grid."""

    root: Path
    cool: str
    hot: str
    done: Mapping[str, Done]
    runs: Mapping[str, list[int]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The grid by zo from the command line, a point of it by the other methods; their grids by workers here."""
    root = new_root(tmp_path_factory.mktemp("study") / "workspace")
    cool, hot = generate(root, 0.7), generate(root, 0.9)
    grid = {"hyperparameters__learning_rate": RATES, "hyperparameters__seed": SEEDS}
    write_config(root, config(data__path=cool, **grid), "zo.yaml")
    write_config(root, config(method="fo_full", data__path=hot), "fo_full.yaml")
    write_config(root, config(method="fo_lora", experiment__purpose="baseline"), "fo_lora.yaml")
    done = {
        method: call(root, "train", f"{method}.yaml", "--no-mlflow", *options, environ=SECRETS)
        for method, options in (("zo", []), ("fo_full", ["--json"]), ("fo_lora", []))
    }
    runs = {
        "zo": [1, 2, 3, 4],
        "fo_full": trained(root, environ=SECRETS, method="fo_full", data__path=hot, **grid),
        "fo_lora": trained(root, environ=SECRETS, method="fo_lora", **grid),
    }
    return Study(root, cool, hot, done, runs)


def test_every_point_of_the_grid_is_a_run_that_is_complete(study: Study) -> None:
    assert [done.code for done in study.done.values()] == [0, 0, 0], study.done
    found = rows(study.root, "SELECT learning_rate, seed, status, attempt, n_resumed, position FROM training_run")
    assert found[:4] == [(*point, "complete", 1, 0, at) for at, point in enumerate(GRID)]
    assert {row[2] for row in found} == {"complete"}
    assert [row[:2] for row in found[6:10]] == [row[:2] for row in found[10:]] == GRID
    sweeps = rows(study.root, "SELECT status, n_points, method, varied, config_path FROM training_sweep")
    assert sweeps[0] == ("complete", 4, "zo", '["learning_rate", "seed"]', "zo.yaml")
    assert len(sweeps) == 5


def test_the_terminal_shows_what_each_reached(study: Study) -> None:
    out = study.done["zo"].out.splitlines()
    runs = study.runs["zo"]
    for run_id, line in zip(runs, out[2 : 2 + len(runs)], strict=True):
        row = run(study.root, run_id)
        for part in ("complete", f"{row['accuracy']:.1%}", row["uuid"][:8], directory(study.root, run_id).name):
            assert part in line
    shown = json.loads(study.done["fo_full"].out)
    assert [each["status"] for each in shown] == ["complete"]
    assert shown[0]["runs"][0]["accuracy"] == run(study.root, shown[0]["runs"][0]["id"])["accuracy"]
    for done in study.done.values():
        assert "Traceback" not in done.err


def test_the_result_directories_are_those_of_the_seed_and_hold_its_files(study: Study) -> None:
    for method, runs in study.runs.items():
        data = {"zo": "temp07_topp10_rulesv1", "fo_full": "temp09_topp10_rulesv1", "fo_lora": "original"}[method]
        for run_id, (rate, _) in zip(runs, GRID, strict=True):
            place = directory(study.root, run_id)
            name = {1e-3: "1_3", 5e-3: "5_3"}[rate]
            assert place.parent == (
                study.root / "Results_v2/tuning/scratch-llama-tiny" / f"Copa_{method}_{data}_{name}"
            )
            written = {f"{name}_train.out", f"{name}_train.err"} if method == "zo" else set()
            assert {each.name for each in place.iterdir()} == FILES | written
    assert len(set(rows(study.root, "SELECT directory FROM training_run"))) == 14
    out, err = (directory(study.root, 1) / f"1_3_train.{end}" for end in ("out", "err"))
    assert err.read_text() == ""
    said = out.read_text().splitlines()
    assert said[0].startswith("zero-shot accuracy ")
    assert "step 6/6  dev loss" in said[-2]
    assert said[-1].startswith(f"accuracy {run(study.root, 1)['accuracy']:.4f} (95% interval ")


def test_the_config_of_a_run_is_written_with_the_keys_of_the_seed(study: Study) -> None:
    experiments = dict(rows(study.root, "SELECT name, fingerprint FROM shared_experiment"))
    row = run(study.root, 4)
    found = yaml.safe_load((directory(study.root, 4) / "experiment_config.yaml").read_text())
    assert [found[key] for key in ("experiment_purpose", "model", "task", "method")] == [
        "tuning", "scratch:llama-tiny", "Copa", "zo",
    ]  # fmt: skip
    assert found["timestamp"] == directory(study.root, 4).name
    assert found["data"]["path"] == study.cool
    assert found["data"]["fingerprint"] == experiments["temp07_topp10_rulesv1"]
    given = found["hyperparameters"]
    assert (given["learning_rate"], given["seed"], given["zo_eps"], given["steps"]) == (5e-3, 1, 1e-3, 6)
    info = found["training_info"]
    assert (info["fingerprint"], info["attempt"], info["run"]) == (row["fingerprint"], 1, row["uuid"])
    assert (info["device"], info["threads"], info["command"]) == ("cpu", 1, row["command"])
    assert study.root / info["out_file"] == directory(study.root, 4) / "5_3_train.out"
    assert {"torch", "transformers", "python"} <= info["versions"].keys()
    assert info["env_vars"]["CUDA_VISIBLE_DEVICES"] == ""


def test_no_secret_is_written_anywhere(study: Study) -> None:
    searched = [path for path in study.root.rglob("*") if path.is_file()]
    assert {"tracker.db", "1_3_train.out", "experiment_config.yaml"} <= {path.name for path in searched}
    for path in searched:
        content = path.read_bytes()
        for name in ("HF_TOKEN", "OPENAI_API_KEY"):
            assert SECRETS[name].encode() not in content, path


def test_a_run_knows_its_data(study: Study) -> None:
    sql = """
        SELECT d.path, d.directory, d.dataset, d.name, e.name, b.name, d.fingerprint = e.fingerprint, d.train_digest,
               d.eval_digest, d.n_records, d.first_record, d.n_train
        FROM training_data d LEFT JOIN shared_experiment e ON e.id = d.shared_experiment_id
        LEFT JOIN batch b ON b.id = d.batch_id WHERE d.training_run_id = ?"""
    (found,) = rows(study.root, sql, 1)
    shared = "Data_v2/synthetic/_shared/Copa/temp07_topp10_rulesv1/Copa"
    name = "temp07_topp10_rulesv1"
    digests = [
        hashlib.sha256((study.root / shared / f"copa_{split}.jsonl").read_bytes()).hexdigest()
        for split in ("train", "validation")
    ]
    batch = study.cool.split("/")[2]
    assert found == (study.cool, shared, "Copa", name, name, batch, 1, *digests, 32, 0, N_TRAIN)
    (original,) = rows(study.root, sql, study.runs["fo_lora"][0])
    assert original[:7] == (ORIGINAL, ORIGINAL, "Copa", "original", None, None, None)


def test_metrics_are_there_by_step(study: Study) -> None:
    for runs in study.runs.values():
        for run_id in runs:
            row = run(study.root, run_id)
            losses, accuracies = curve(study.root, run_id, "dev/loss"), curve(study.root, run_id, "dev/accuracy")
            assert list(losses) == list(accuracies) == [0, 2, 4, 6]
            for name in ("train/loss", "train/learning_rate", "memory/peak_bytes"):
                assert list(curve(study.root, run_id, name)) == [1, 2, 3, 4, 5, 6]
            for name in ("train/step_time_s", "train/tokens_per_s"):
                assert list(curve(study.root, run_id, name)) == [2, 3, 4, 5, 6]
                assert min(curve(study.root, run_id, name).values()) > 0
            best = min(losses, key=lambda step: losses[step])
            assert (row["best_step"], row["dev_loss"], row["dev_accuracy"]) == (best, losses[best], accuracies[best])
            assert (row["step"], row["train_loss"]) == (6, curve(study.root, run_id, "train/loss")[6])
            rate = row["learning_rate"]
            wanted = [rate] * 6 if row["method"] == "zo" else [rate * (1 - step / 6) for step in range(6)]
            assert list(curve(study.root, run_id, "train/learning_rate").values()) == pytest.approx(wanted)


def test_accuracy_comes_with_its_interval_and_baselines(study: Study) -> None:
    z = 1.959963984540054
    for runs in study.runs.values():
        for run_id in runs:
            row = run(study.root, run_id)
            n, share = row["n_eval"], row["n_correct"] / row["n_eval"]
            assert row["accuracy"] == share
            # Wilson's bounds are where the observed share is just z standard errors off.
            for bound in (row["accuracy_low"], row["accuracy_high"]):
                assert abs(share - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / n), abs=1e-9)
            assert row["accuracy_low"] <= share <= row["accuracy_high"]
            assert 0 <= row["zero_shot_accuracy"] <= 1
            assert row["majority_accuracy"] == 8 / 12


def test_the_files_say_what_the_rows_say(study: Study) -> None:
    for run_id in (study.runs["zo"][1], study.runs["fo_lora"][2]):
        row, place = run(study.root, run_id), directory(study.root, run_id)
        metrics = json.loads((place / "metrics.json").read_text())
        assert {name: row[name] for name in metrics} == metrics
        assert {"accuracy", "accuracy_low", "dev_loss", "best_step", "zero_shot_accuracy"} <= metrics.keys()
        lines = [json.loads(line) for line in (place / "predictions.jsonl").read_text().splitlines()]
        recorded = predictions(study.root, run_id, "trained")
        assert len(lines) == len(recorded) == 12
        for line, each in zip(lines, recorded, strict=True):
            assert [line[name] for name in ("index", "label", "predicted", "correct")] == [
                each[name] for name in ("position", "label", "predicted", "correct")
            ]
            assert line["scores"] == pytest.approx(each["scores"], abs=1e-6)


def test_zero_shot_is_measured_by_the_first_run_of_a_seed_and_taken_over_by_all_others(study: Study) -> None:
    measured = rows(study.root, "SELECT DISTINCT training_run_id FROM prediction WHERE stage = 'zero_shot'")
    assert measured == [(1,), (2,)]
    by_seed = rows(study.root, "SELECT seed, COUNT(DISTINCT zero_shot_accuracy) FROM training_run GROUP BY seed")
    assert by_seed == [(0, 1), (1, 1)]


def test_the_same_seed_gives_the_same_bits_and_another_one_others(study: Study) -> None:
    """The points that two processes trained, of which one is this one."""
    for first, method in ((5, "fo_full"), (6, "fo_lora")):
        second = study.runs[method][0]
        assert [run(study.root, each)["fingerprint"] for each in (first,)] == [run(study.root, second)["fingerprint"]]
        assert [run(study.root, each)["attempt"] for each in (first, second)] == [1, 2]
        for name in ("train/loss", "dev/loss", "dev/accuracy"):
            assert curve(study.root, first, name) == curve(study.root, second, name)
        assert model_digest(study.root, first) == model_digest(study.root, second)
        assert predictions(study.root, first, "trained") == predictions(study.root, second, "trained")
    for runs in study.runs.values():
        losses = [curve(study.root, each, "train/loss") for each in runs]
        # A model made on the spot is another one with another seed.
        before = [curve(study.root, each, "dev/loss")[0] for each in runs]
        assert before[0] == before[2] != before[1] == before[3]
        # Same seed, other rate: the first loss is measured before the first update.
        assert losses[0][1] == losses[2][1]
        assert losses[1][1] == losses[3][1]
        for first, second in ((0, 1), (2, 3)):
            assert all(losses[first][step] != losses[second][step] for step in losses[0])


def test_sql_says_which_temperature_gave_the_best_model(study: Study) -> None:
    found = rows(
        study.root,
        """SELECT generation_temperature, method, COUNT(*), AVG(accuracy), MIN(data_experiment)
           FROM training_overview WHERE attempt = 1 AND purpose = 'tuning' GROUP BY 1, 2 ORDER BY 1, 2""",
    )
    assert [row[:3] for row in found] == [(None, "fo_lora", 3), (0.7, "zo", 4), (0.9, "fo_full", 4)]
    assert found[1][3] == pytest.approx(sum(run(study.root, each)["accuracy"] for each in study.runs["zo"]) / 4)
    assert [row[4] for row in found] == [None, "Copa/temp07_topp10_rulesv1", "Copa/temp09_topp10_rulesv1"]


def test_what_was_trained_is_left_out_if_wished(study: Study) -> None:
    before = rows(study.root, "SELECT COUNT(*) FROM training_run")
    done = call(study.root, "train", "zo.yaml", "--skip-done", "--no-mlflow")
    assert (done.code, done.out) == (0, "")
    assert "every point was trained before" in done.err
    more = ("--set", "hyperparameters.learning_rate=[0.001,0.009]")
    done = call(study.root, "train", "zo.yaml", "--skip-done", "--dry-run", "--json", *more)
    (plan,) = json.loads(done.out)
    assert [(each["learning_rate"], each["seed"], each["wanted"], each["attempt"]) for each in plan["points"]] == [
        (1e-3, 0, False, 2), (1e-3, 1, False, 2), (9e-3, 0, True, 1), (9e-3, 1, True, 1),
    ]  # fmt: skip
    assert rows(study.root, "SELECT COUNT(*) FROM training_run") == before


def test_what_cannot_be_trained_is_refused_before_anything_is_written(study: Study, tmp_path: Path) -> None:
    sql = "SELECT (SELECT COUNT(*) FROM training_run), (SELECT COUNT(*) FROM training_sweep)"
    before = rows(study.root, sql)
    done = call(study.root, "train", "zo.yaml", "--no-mlflow", "--set", "num_dev=32")
    assert done.code == 12
    assert "Nothing is left to train on: of 32 records the last 32 are kept for dev." in done.err
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    # Read-only even for root.
    for place in (in_the_way / "results", Path("/sys/results")):
        environ = {"SYNTHTRACK_RESULTS_DIR": str(place)}
        done = call(study.root, "train", "zo.yaml", "--no-mlflow", "--fresh", environ=environ)
        assert done.code == 11, done.err
        assert f"The result directory {place}/tuning" in done.err
    assert rows(study.root, sql) == before


def test_data_that_is_not_what_was_recorded_is_refused(study: Study) -> None:
    train = study.root / study.hot / "Copa/copa_train.jsonl"
    whole = train.read_bytes()
    real = train.resolve()
    real.unlink()
    real.write_bytes(whole.replace(b"house", b"mouse"))
    try:
        done = call(study.root, "train", "fo_full.yaml", "--no-mlflow")
        assert done.code == 6
        assert "is not what the record says of Copa/temp09_topp10_rulesv1" in done.err
    finally:
        real.write_bytes(whole)
    assert call(study.root, "train", "fo_full.yaml", "--dry-run").code == 0


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Done]]:
    """A sweep whose first point diverges: first it ends there, then it continues, with MLflow."""
    root = new_root(tmp_path_factory.mktemp("failing") / "workspace")
    changes = {
        "hyperparameters__learning_rate": [100, 1e-4], "hyperparameters__weight_decay": 10,
        "hyperparameters__steps": 20, "hyperparameters__eval_steps": 10,
    }  # fmt: skip
    write_config(root, config(**changes), "failing.yaml")
    more = ((), ("--set", "continue_on_error=true", "--set", "cuda_devices='cpu,cpu'"))
    return root, [call(root, "train", "failing.yaml", *each, environ={"OMP_NUM_THREADS": "1"}) for each in more]


def test_a_failure_ends_the_sweep_unless_it_continues(failing: tuple[Path, list[Done]]) -> None:
    root, (first, second) = failing
    assert [first.code, second.code] == [16, 16]
    found = rows(root, "SELECT id, position, attempt, status, training_sweep_id FROM training_run ORDER BY id")
    # The second time, in the same sweep, what failed is tried again and what was left is trained.
    assert found == [(1, 0, 1, "failed", 1), (2, 1, 1, "complete", 1), (3, 0, 2, "failed", 1)]
    assert "pending" in first.out
    assert "1 of 2 runs failed. lr 100, seed 0: The loss of step" in first.err
    assert "Going on with the unfinished sweep" in second.err
    for run_id in (1, 3):
        row = run(root, run_id)
        assert "is not finite; the learning rate was 100" in str(row["error"])
        assert str(row["error"]) in (directory(root, run_id) / "1_-2_train.err").read_text()
    assert run(root, 1)["error"] == run(root, 3)["error"]
    # How a sweep is worked through is as it was said last.
    sweep = rows(root, "SELECT status, continue_on_error, devices FROM training_sweep")
    assert sweep == [("failed", 1, '["cpu", "cpu"]')]
    assert run(root, 2)["status"] == "complete"


def test_mlflow_shows_flat_runs_that_name_their_sweep(failing: tuple[Path, list[Done]]) -> None:
    root, _ = failing
    client = client_of(Workspace(root, environ={}))
    ((sweep,),) = rows(root, "SELECT uuid FROM training_sweep")
    for run_id, status in ((1, "FAILED"), (2, "FINISHED"), (3, "FAILED")):
        row = run(root, run_id)
        logged = only(client, RUN_TAG, row["uuid"])
        assert logged.info.status == status
        assert "mlflow.parentRunId" not in logged.data.tags
        assert sweep in logged.data.tags.values()
        assert logged.data.params["hyperparameters.learning_rate"] == f"{row['learning_rate']:g}"
        assert {each.dataset.name for each in inputs(logged)["training"]} == {"Copa/original"}
        history = client.get_metric_history(logged.info.run_id, "train/loss")
        assert {each.step: each.value for each in history} == curve(root, run_id, "train/loss")
    assert len(found(client, SWEEP_TAG, sweep)) == 1
