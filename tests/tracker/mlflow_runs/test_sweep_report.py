"""What MLflow shows of a sweep; read back from a real store, which the tests share."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from tests.mlflow_reading import Logged, artifact, artifacts, found, inputs
from tests.training_rows import COOL
from tracker.mlflow_runs import sweep_report
from tracker.mlflow_runs.mlflow_ui import comparisons
from tracker.mlflow_runs.sweep_report import SweepReport
from tracker.mlflow_runs.training_note import sweep_note
from tracker.mlflow_runs.training_report import GROUP_TAG
from tracker.record.catalogue import reading

TUNING = "hyperparameter_tuning"


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    return Logged(tmp_path_factory.mktemp("sweeps"))


def report(logged: Logged, name: str) -> SweepReport:
    with reading(logged.study.workspace) as reader:
        return sweep_report.load_sweep(reader, logged.study.sweeps[name])


def test_a_sweep_is_one_flat_run_beside_those_that_it_sums_up(logged: Logged) -> None:
    run = logged.sweep(TUNING)
    assert run.info.run_name == f"sweep · Copa zo · {COOL} · learning_rate and seed · 4 runs · Llama-3.2-1B"
    assert run.info.status == "FINISHED"
    assert run.info.experiment_id == logged.run("temp05 1e-06 seed 0").info.experiment_id
    assert "mlflow.parentRunId" not in run.data.tags
    assert run.data.tags["synthtrack.kind"] == "training_sweep"


def test_one_tag_finds_the_runs_of_a_sweep_and_its_summary(logged: Logged) -> None:
    together = found(logged.client, GROUP_TAG, logged.sweep(TUNING).data.tags[GROUP_TAG])
    assert sorted(run.data.tags["synthtrack.kind"] for run in together) == ["training_run"] * 4 + ["training_sweep"]


def test_a_sweep_of_one_run_has_no_summary_and_one_that_goes_on_has_none_yet(logged: Logged) -> None:
    summaries = found(logged.client, "synthtrack.kind", "training_sweep")
    assert sorted(run.data.tags["synthtrack.purpose"] for run in summaries) == [
        *("data_quality_impact", TUNING, "model_comparison"),
    ]


def test_what_was_varied_is_listed_and_what_was_constant_stands_under_its_name(logged: Logged) -> None:
    parameters = logged.sweep(TUNING).data.params
    run = logged.run("temp05 1e-06 seed 0").data.params
    assert parameters["sweep.varied"] == "learning_rate, seed"
    assert (parameters["sweep.learning_rate"], parameters["sweep.seed"]) == ("1e-06, 5e-07", "0, 1")
    varied = {"hyperparameters.learning_rate", "hyperparameters.seed"}
    own = {name for name in run if name.startswith("run.")}
    assert {name: value for name, value in parameters.items() if not name.startswith("sweep.")} == {
        name: value for name, value in run.items() if name not in varied | own
    }
    assert parameters["generation.temperature"] == "0.5"


def test_the_figures_of_a_sweep(logged: Logged) -> None:
    metrics = logged.sweep(TUNING).data.metrics
    assert next(iter(metrics)) == "sweep/best_accuracy"
    assert metrics == {
        "sweep/best_accuracy": 0.76,
        "sweep/best_mean_over_seeds": 0.75,
        "sweep/mean_accuracy": pytest.approx(0.7225),
        # Of (0.76, 0.74) and (0.70, 0.69): the root of (0.0002 + 0.00005) / 2.
        "sweep/sd_over_seeds": pytest.approx(0.0111803, abs=1e-6),
        "sweep/n_points": 4,
        "sweep/n_complete": 4,
        "sweep/n_failed": 0,
        "sweep/duration_s": 4 * 61.5,
        "sweep/zero_shot_accuracy": 0.6,
        "sweep/majority_accuracy": 0.55,
    }


def test_the_points_are_a_table_with_the_best_first_and_the_mlflow_run_of_each(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = logged.sweep(TUNING)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", logged.study.workspace.mlflow_uri)
    table = logged.client.load_table(run.info.experiment_id, "sweep.json", [run.info.run_id])
    assert list(table.columns) == list(sweep_report.COLUMNS)
    assert list(table["accuracy"]) == pytest.approx([0.76, 0.74, 0.7, 0.69])
    assert table["point"][0] == "learning_rate 1e-06, seed 0"
    assert table["mlflow_run_id"][0] == logged.run("temp05 1e-06 seed 0").info.run_id
    assert set(table["status"]) == {"complete"}


def test_the_files_and_data_of_a_sweep(logged: Logged) -> None:
    run = logged.sweep(TUNING)
    pictures = {"plots/accuracy.png", "plots/learning_curves.png"}
    assert artifacts(run) == pictures | {"sweep.json", "config/training_config.yaml"}
    for name in pictures:
        assert artifact(run, name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    given = inputs(run)
    assert [each.dataset.name for each in given["training"]] == [f"Copa/{COOL}"]


def test_the_note_ranks_the_settings_by_their_mean_over_the_seeds(logged: Logged) -> None:
    note = logged.sweep(TUNING).data.tags["mlflow.note.content"]
    assert "4 of 4 runs have a result, 0 failed." in note
    first, second = (line for line in note.splitlines() if line.startswith("| learning_rate"))
    assert first == "| learning_rate 1e-06 | 75.0% | 1.4% | 2 |"
    assert second == "| learning_rate 5e-07 | 69.5% | 0.7% | 2 |"
    assert "zero-shot 60.0%, majority class 55.0%" in note
    assert "Made by `synthtrack train configs/stage2/hyperparameter_tuning.yaml`." in note
    assert f"synthtrack result compare --sweep {logged.sweep(TUNING).data.tags[GROUP_TAG][:8]}\n" in note
    assert f"tags.`{GROUP_TAG}` = '{logged.sweep(TUNING).data.tags[GROUP_TAG]}'" in note


def test_a_point_counts_with_its_last_attempt(logged: Logged) -> None:
    found = report(logged, "baseline_comparison")
    assert [run["status"] for run in found.runs] == ["complete", "failed", "stopped", "running", "pending"]
    figures = sweep_report.metrics(found)
    assert (figures["sweep/n_complete"], figures["sweep/n_failed"], figures["sweep/best_accuracy"]) == (1, 1, 0.73)
    assert "sweep/sd_over_seeds" not in figures, "one value has no spread"
    assert [row[4] for row in sweep_report.table(found)["data"]].count("failed") == 1


def test_a_sweep_of_which_nothing_came_is_told_all_the_same(logged: Logged) -> None:
    found = report(logged, "baseline_comparison")
    failed = SweepReport(found.sweep, [run for run in found.runs if run["status"] == "failed"], found.first, [])
    assert set(sweep_report.metrics(failed)) == {
        *("sweep/n_points", "sweep/n_complete", "sweep/n_failed", "sweep/duration_s"),
    }
    assert set(sweep_report.files(failed)) == {"config/training_config.yaml"}
    assert "0 of 1 runs have a result, 1 failed." in sweep_note(failed)


def test_many_settings_are_cut_in_the_note(logged: Logged) -> None:
    found = report(logged, TUNING)
    runs = [_with_rate(found.runs[0], (at + 1) * 1e-6) for at in range(60)]
    note = sweep_note(SweepReport(found.sweep, runs, found.first, []))
    assert sum(line.startswith("| learning_rate") for line in note.splitlines()) == 50
    assert "`sweep.json` holds all 60 points." in note


def test_a_picture_has_a_panel_for_each_varied_hyperparameter_but_the_seed(logged: Logged) -> None:
    found = report(logged, TUNING)
    one = sweep_report.files(found)["plots/accuracy.png"]
    two = {**found.sweep, "varied": '["learning_rate", "batch_size", "seed"]'}
    runs = [_with_rate(run, 1e-6, batch_size=8 * (1 + at % 2)) for at, run in enumerate(found.runs)]
    both = sweep_report.files(SweepReport(two, runs, found.first, found.curves))["plots/accuracy.png"]
    assert (_width(one), _width(both)) == (800, 1100)


def _with_rate(run: dict[str, Any], rate: float, **others: Any) -> dict[str, Any]:
    settings = {f"hyperparameters.{name}": value for name, value in {"learning_rate": rate, **others}.items()}
    return {**run, "settings": json.dumps({**json.loads(run["settings"]), **settings})}


def _width(png: bytes) -> int:
    return int(struct.unpack(">I", png[16:20])[0])


def test_the_ui_is_given_a_link_that_compares_the_trainings_of_a_purpose(logged: Logged) -> None:
    links = comparisons(logged.study.workspace, "http://here")
    assert [(link.batch, link.kind, link.n_runs) for link in links] == [
        # With the second attempt in place of the first.
        (TUNING, "training run", 4),
        ("model_comparison", "training run", 2),
        ("data_quality_impact", "training run", 2),
    ]
    again, before = (logged.run(f"temp05 1e-06 seed 0{which}").info.run_id for which in (" again", ""))
    assert again in links[0].url
    assert before not in links[0].url
    assert "synthtrack.kind%60%20%3D%20%27training_run%27" in links[0].samples_url
