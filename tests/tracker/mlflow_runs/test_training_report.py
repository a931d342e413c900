"""What MLflow shows of a training run; read back from a real store, which the tests share."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.mlflow_reading import Logged, artifact, artifacts, inputs, row_of
from tests.training_rows import BATCH, COOL, HOT, MODEL
from tracker.mlflow_runs import generation_note, generation_report, training_artifacts, training_report
from tracker.mlflow_runs.mlflow_run import milliseconds
from tracker.mlflow_runs.training_note import note
from tracker.mlflow_runs.training_report import TrainingReport
from tracker.paths import Workspace
from tracker.record import training
from tracker.record.catalogue import reading
from tracker.record.database import open_database

PURPOSES = {"hyperparameter_tuning", "data_quality_impact", "baseline_comparison", "model_comparison"}
FIRST = "temp05 1e-06 seed 0"
HOTTER = "temp09 1e-06 seed 0"
FAILED = "original 1e-06 seed 1"
MIXED = f"CB original+{COOL}"


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    return Logged(tmp_path_factory.mktemp("training"))


def report(logged: Logged, name: str) -> TrainingReport:
    with reading(logged.study.workspace) as reader:
        return training_report.load_report(reader, logged.study.runs[name])


def test_every_run_that_ended_is_logged_in_the_experiment_of_its_training_purpose(logged: Logged) -> None:
    assert (logged.drained.failed, logged.drained.errors) == (0, [])
    by_id = {each.experiment_id: each.name for each in logged.client.search_experiments()}
    ended = [name for name in logged.study.runs if not name.endswith(("seed 2", "seed 3", "seed 4"))]
    purposes = {by_id[logged.run(name).info.experiment_id] for name in ended}
    assert len(ended) == 11
    assert purposes == PURPOSES


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_run_that_is_stopped_running_or_pending_is_not(logged: Logged, seed: int) -> None:
    uuid = logged.study.uuid(f"original 1e-06 seed {seed}")
    everywhere = [each.experiment_id for each in logged.client.search_experiments()]
    assert logged.client.search_runs(everywhere, f"tags.`{training_report.RUN_TAG}` = '{uuid}'") == []


@pytest.mark.parametrize(
    ("name", "title"),
    [
        (FIRST, f"lr 1e-06 s0 · {COOL} · Copa zo · Llama-3.2-1B"),
        ("temp05 5e-07 seed 1", f"lr 5e-07 s1 · {COOL} · Copa zo · Llama-3.2-1B"),
        (MIXED, f"lr 5e-05 s0 · original+{COOL} · CB fo_lora · Llama-3.2-1B"),
        (f"{FIRST} again", f"lr 1e-06 s0 · {COOL} · Copa zo · Llama-3.2-1B · attempt 2"),
    ],
)
def test_the_title_has_the_essentials_and_what_tells_runs_apart_comes_first(
    logged: Logged, name: str, title: str
) -> None:
    assert logged.run(name).info.run_name == title


def test_what_else_a_sweep_varies_is_in_the_title() -> None:
    run = {
        "learning_rate": 1e-4, "seed": 3, "varied": '["learning_rate", "batch_size", "zo_eps", "seed"]',
        "settings": '{"hyperparameters.batch_size": 8, "hyperparameters.zo_eps": 1e-05}',
    }  # fmt: skip
    assert training_report.point_name(run) == "lr 0.0001 s3 · batch_size 8 · zo_eps 1e-05"


@pytest.mark.parametrize(
    ("model", "short"),
    [(MODEL, "Llama-3.2-1B"), ("/models/tiny/", "tiny"), ("scratch:llama-tiny", "scratch:llama-tiny"), ("/", "/")],
)
def test_a_model_has_a_short_name(model: str, short: str) -> None:
    assert training_report.short_model(model) == short


def test_a_run_is_flat_and_lasts_as_long_as_it_did(logged: Logged) -> None:
    run, row = logged.run(FIRST), row_of(logged.study.workspace, "training_run", logged.study.runs[FIRST])
    assert "mlflow.parentRunId" not in run.data.tags
    assert (run.info.start_time, run.info.end_time) == (
        milliseconds(row["started_at"]),
        milliseconds(row["finished_at"]),
    )
    assert run.info.end_time - run.info.start_time == 61_500


@pytest.mark.parametrize(
    ("status", "expected"),
    [("complete", "FINISHED"), ("failed", "FAILED"), ("stopped", "KILLED"), ("interrupted", "KILLED")],
)
def test_the_status_is_in_mlflows_words(status: str, expected: str) -> None:
    assert training_report.mlflow_status(status) == expected


def test_every_setting_is_a_parameter_and_a_rate_reads_as_people_write_it(logged: Logged) -> None:
    parameters = logged.run(FIRST).data.params
    settings = json.loads(row_of(logged.study.workspace, "training_run", logged.study.runs[FIRST])["settings"])
    given = {name for name, value in settings.items() if value is not None and not name.startswith(("data.", "exp"))}
    assert len(given) > 20
    assert given <= parameters.keys()
    assert parameters["hyperparameters.learning_rate"] == "1e-06"
    assert parameters["hyperparameters.weight_decay"] == "0"
    assert parameters["hyperparameters.batch_size"] == "16"
    assert parameters["train_as_classification"] == "false"
    assert (parameters["model"], parameters["task"], parameters["method"]) == (MODEL, "Copa", "zo")
    assert (parameters["run.attempt"], parameters["n_train"], parameters["run.device"]) == ("1", "300", "cpu")


def test_what_the_data_was_made_with_is_a_parameter_too(logged: Logged) -> None:
    cool, hot = logged.run(FIRST).data.params, logged.run(HOTTER).data.params
    assert (cool["generation.temperature"], hot["generation.temperature"]) == ("0.5", "0.9")
    assert (cool["data"], hot["data"]) == (COOL, HOT)
    assert cool["generation.model"] == "gpt-4o"
    assert "{premise}" in cool["generation.rephrase_prompt"]
    assert "generation.timeout" not in cool, "it operates a generation and shapes no data"
    assert cool["train_data.path"] == f"Data_v2/synthetic/{BATCH}/Copa/{COOL}/Copa"
    assert cool["train_data.batch"] == BATCH
    assert len(cool["train_data.fingerprint"]) == 12
    assert cool["train_data.digest"] == hashlib.sha256(f"Copa {COOL}".encode()).hexdigest()[:36]
    assert cool["eval_data.digest"] == hot["eval_data.digest"]
    assert "generation.temperature" not in logged.run("original 1e-06 seed 0").data.params


def test_the_compare_page_draws_data_temperature_and_rate_unasked(logged: Logged) -> None:
    # It takes the first three by name that differ; more than that is one drop-down away.
    runs = [logged.run(name).data.params for name in (FIRST, "temp05 5e-07 seed 1", HOTTER)]
    names = sorted({name for run in runs for name in run})
    differing = [name for name in names if len({run.get(name) for run in runs}) > 1]
    assert differing[:3] == ["data", "generation.temperature", "hyperparameters.learning_rate"]


def test_of_mixed_data_every_value_is_shown_once(logged: Logged) -> None:
    parameters = logged.run(MIXED).data.params
    original = "Data_v2/original/CB"
    assert parameters["train_data.path"] == f"{original} + Data_v2/synthetic/{BATCH}/CB/{COOL}/CB"
    assert parameters["generation.temperature"] == "original + 0.5"  # neither of its parts
    assert parameters["train_data.batch"] == BATCH


def test_two_temperatures_in_one_mix_are_both_shown() -> None:
    rows = [_made(temperature) for temperature in (0.5, 0.9)]
    found = training_report.parameters(TrainingReport(_run(), rows, []))
    assert found["generation.temperature"] == "0.5 + 0.9"
    assert found["generation.model"] == "gpt-4o"


def _made(temperature: float) -> dict[str, Any]:
    generation = {"temperature": temperature, "model": "gpt-4o"}
    settings = {f"generation.{name}": value for name, value in generation.items()}
    return {
        "made_of": json.dumps({"identity": {"generation": generation}}), "made_with": json.dumps(settings),
        "path": "a", "fingerprint": None, "batch": None, "train_digest": "ab", "eval_digest": None,
        "mlflow_run_id": None,
    }  # fmt: skip


def _run(**values: Any) -> dict[str, Any]:
    names = (
        *("model", "task", "method", "data", "sweep", "n_train", "n_dev", "n_eval", "n_parameters", "n_trainable"),
        *("fingerprint", "attempt", "device", "threads", "classes"),
    )
    return {**dict.fromkeys(names), "settings": "{}", "varied": "[]", **values}


def test_the_final_figures_are_metrics_and_accuracy_is_the_first(logged: Logged) -> None:
    metrics = logged.run(FIRST).data.metrics
    assert next(iter(metrics)) == "eval/accuracy"
    finals = {name: value for name, value in metrics.items() if name.startswith(("eval/", "run/", "dev/best"))}
    assert finals == {
        "eval/accuracy": 0.76,
        "eval/accuracy_low": pytest.approx(0.6677, abs=1e-4),
        "eval/accuracy_high": pytest.approx(0.8331, abs=1e-4),
        "eval/n_correct": 76,
        "eval/loss": 0.62,
        "eval/zero_shot_accuracy": 0.6,
        "eval/majority_accuracy": 0.55,
        "eval/gain_over_zero_shot": pytest.approx(0.16),
        "eval/gain_over_majority": pytest.approx(0.21),
        "dev/best_loss": 0.6,
        "dev/best_accuracy": 0.7,
        "dev/best_step": 1000,
        "run/learning_rate": 1e-6,
        "run/train_loss": 0.61,
        "run/steps": 1000,
        "run/step_time_s": 0.06,
        "run/tokens_per_s": 8000,
        "run/peak_memory_mib": pytest.approx(4768.37, abs=0.01),
        "run/duration_s": 61.5,
        "run/n_resumed": 0,
        "run/n_truncated": 0,
    }
    assert 0.5 < logged.run(MIXED).data.metrics["eval/macro_f1"] < 1


def test_what_is_unknown_of_a_failed_run_is_absent(logged: Logged) -> None:
    metrics = logged.run(FAILED).data.metrics
    assert {name for name in metrics if name.startswith("eval/")} == {"eval/majority_accuracy"}
    assert metrics["run/steps"] == 412


def test_figures_by_step_have_whole_steps_and_the_time_at_which_they_were_measured(logged: Logged) -> None:
    run = logged.run(FIRST)
    history = logged.client.get_metric_history(run.info.run_id, "dev/accuracy")
    assert [(point.step, point.value) for point in history] == [(n, 0.6 + n / 10_000) for n in range(0, 1001, 200)]
    with reading(logged.study.workspace) as reader:
        row, *_ = reader.rows(
            "SELECT recorded_at FROM training_metric WHERE training_run_id = :id AND name = 'dev/loss' ORDER BY step",
            id=logged.study.runs[FIRST],
        )
    assert history[0].timestamp == milliseconds(row["recorded_at"])
    assert len(logged.client.get_metric_history(run.info.run_id, "train/loss")) == 5


def test_the_data_sets_are_inputs_with_our_digests(logged: Logged) -> None:
    given = inputs(logged.run(FIRST))
    assert set(given) == {"training", "evaluation"}
    ((training,), (evaluation,)) = given["training"], given["evaluation"]
    assert (training.dataset.name, len(training.dataset.digest)) == (f"Copa/{COOL}", 36)
    assert hashlib.sha256(f"Copa {COOL}".encode()).hexdigest().startswith(training.dataset.digest)
    assert json.loads(training.dataset.profile or "") == {"num_rows": 300}
    assert (evaluation.dataset.name, json.loads(evaluation.dataset.profile or "")) == (
        "Copa/validation",
        {"num_rows": 100},
    )
    mixed = [each.dataset.name for each in inputs(logged.run(MIXED))["training"]]
    assert sorted(mixed) == ["CB/original", f"CB/{COOL}"]


def test_runs_are_found_by_their_tags(logged: Logged) -> None:
    tags = logged.run(FIRST).data.tags
    sweep = row_of(logged.study.workspace, "training_sweep", logged.study.sweeps["hyperparameter_tuning"])
    assert tags["synthtrack.sweep"] == logged.run(FIRST).data.params["sweep"] == sweep["uuid"]
    assert (tags["synthtrack.kind"], tags["synthtrack.status"]) == ("training_run", "complete")
    assert (tags["synthtrack.task"], tags["synthtrack.method"], tags["synthtrack.data"]) == ("Copa", "zo", COOL)
    assert tags["synthtrack.data_mlflow_run"] == f"mlflow-{COOL}"
    assert tags["synthtrack.data_generation_run"] == "uuid-1-1-0"
    assert tags["mlflow.source.name"] == "synthtrack train"
    assert "step 412" in logged.run(FAILED).data.tags["synthtrack.error"]


def test_what_the_note_of_a_generation_run_says_finds_the_trainings_on_its_data(logged: Logged) -> None:
    with reading(logged.study.workspace) as reader:
        text = generation_note.note(generation_report.load_report(reader, 1), logged.study.workspace)
        digits = reader.rows("SELECT fingerprint FROM shared_experiment WHERE id = 1")[0]["fingerprint"]
    wanted = next(line for line in text.splitlines() if line.startswith("tags.`"))
    everywhere = [each.experiment_id for each in logged.client.search_experiments()]
    found = {run.data.tags[training_report.RUN_TAG] for run in logged.client.search_runs(everywhere, wanted)}
    names = [name for name in logged.study.runs if name.startswith("temp05")]
    assert found == {logged.study.uuid(name) for name in names}
    assert len(found) == 5
    assert f"synthtrack lineage {digits}" in text


def test_the_note_of_a_training_run_names_what_made_its_data_and_the_way_there(logged: Logged) -> None:
    text = logged.run(FIRST).data.tags["mlflow.note.content"]
    assert f"| Made by | MLflow run `mlflow-{COOL}` |" in text
    assert f"synthtrack lineage {logged.study.uuid(FIRST)[:8]}" in text


def test_the_files_of_a_run(logged: Logged) -> None:
    common = {"config/experiment_config.yaml", "metrics.json", "plots/learning_curve.png"}
    assert artifacts(logged.run(FIRST)) == common | {"predictions.json"}
    assert artifacts(logged.run(MIXED)) == common | {"predictions.json", "confusion.json", "plots/confusion.png"}
    config = yaml.safe_load(artifact(logged.run(FIRST), "config/experiment_config.yaml").read_text())
    assert (config["model"], config["hyperparameters"]["learning_rate"]) == (MODEL, 1e-6)
    assert config["training_info"]["command"] == "synthtrack train configs/stage2/hyperparameter_tuning.yaml"
    assert len(config["data"]["fingerprint"]) == 12
    assert (config["experiment_purpose"], config["timestamp"]) == ("hyperparameter_tuning", "20251226_143000")
    assert "lora_alpha" not in config["hyperparameters"], "it has no effect with zo on all parameters"
    metrics = json.loads(artifact(logged.run(FIRST), "metrics.json").read_text())
    assert metrics["eval/accuracy"] == 0.76


def test_the_confusion_is_by_the_names_of_the_answers(logged: Logged) -> None:
    confusion = json.loads(artifact(logged.run(MIXED), "confusion.json").read_text())
    assert confusion["classes"] == ["Yes", "No", "Maybe"]
    counts = confusion["counts_by_label"]
    assert sum(map(sum, counts)) == 57
    assert sum(counts[at][at] for at in range(3)) == 44


def test_the_predictions_are_a_table_that_mlflow_itself_can_load(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [logged.run(name) for name in (FIRST, "temp05 5e-07 seed 0")]
    # It looks for runs through the process-wide address, whatever its client's is.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", logged.study.workspace.mlflow_uri)
    ids = [run.info.run_id for run in runs]
    table = logged.client.load_table(runs[0].info.experiment_id, "predictions.json", ids, ["run_id"])
    assert list(table.columns) == [*training_report.PREDICTION_COLUMNS, "run_id"]
    assert len(table) == 200
    first = table[table["run_id"] == ids[0]]
    assert int(first["correct"].sum()) == 76
    assert all((row.margin > 0) == row.correct == (row.predicted == row.label) for row in first.itertuples())
    assert set(table["zero_shot"]) == set(table["label"]) == {"choice 1", "choice 2"}


def test_a_long_table_is_cut_and_says_so(logged: Logged) -> None:
    found = report(logged, FIRST)
    rows = [{**found.predictions["trained"][0], "position": at} for at in range(2001)]
    long = TrainingReport(found.run, found.data, [], {"trained": rows})
    assert len(training_report.prediction_table(long, {})["data"]) == 2000
    assert "`predictions.json` holds the first 2,000 of 2,001 records." in note(long, logged.study.workspace)


def test_the_texts_of_records_are_those_of_the_very_file_that_was_evaluated(tmp_path: Path) -> None:
    directory = tmp_path / "Data/original/Copa"
    directory.mkdir(parents=True)
    lines = [
        {"premise": "It rained.", "choice1": "I slept.", "choice2": "I got wet.", "label": 1, "idx": 0},
        {"question": "Why?", "choices": {"text": ["so", "thus"], "label": ["A", "B"]}, "answerKey": "A"},
    ]
    content = "\n".join(map(json.dumps, lines)).encode() + b"\n"
    (directory / "copa_validation.jsonl").write_bytes(content)
    row = {"directory": "Data/original/Copa", "eval_digest": hashlib.sha256(content).hexdigest()}
    workspace = Workspace(tmp_path, environ={})
    assert training_artifacts.evaluated_records(workspace, row) == {
        0: "It rained. | I slept. | I got wet.",
        1: "Why? | so / thus / A / B",
    }
    (directory / "copa_validation.jsonl").write_bytes(content.replace(b"wet", b"dry"))
    assert training_artifacts.evaluated_records(workspace, row) == {}
    assert training_artifacts.evaluated_records(workspace, {**row, "eval_digest": None}) == {}
    assert training_artifacts.evaluated_records(workspace, {**row, "directory": "gone"}) == {}


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_texts_with_the_line_ends_of_unicode_are_read(tmp_path: Path, ending: str) -> None:
    directory = tmp_path / "Data"
    directory.mkdir()
    texts = ["It\u2028rained.", "It\u0085snowed.", "It\x0chailed."]
    content = "".join(json.dumps({"premise": text}, ensure_ascii=False) + "\r\n" for text in texts).encode()
    written = gzip.compress(content) if ending else content
    (directory / f"copa_validation.jsonl{ending}").write_bytes(written)
    row = {"directory": "Data", "eval_digest": hashlib.sha256(written).hexdigest()}
    found = training_artifacts.evaluated_records(Workspace(tmp_path, environ={}), row)
    assert found == dict(enumerate(texts))


def test_zero_shot_answers_are_shown_that_another_run_measured(logged: Logged) -> None:
    with open_database(logged.study.workspace) as database:
        training.save_predictions(database, logged.study.runs[HOTTER], "zero_shot", [])
    assert len(report(logged, HOTTER).predictions["zero_shot"]) == 100
    table = training_report.prediction_table(report(logged, HOTTER), {})
    assert {row[4] for row in table["data"]} == {"choice 1", "choice 2"}


def test_a_record_whose_text_is_known_is_shown_with_it(logged: Logged) -> None:
    table = training_report.prediction_table(report(logged, MIXED), {0: "a premise"})
    assert [row[0] for row in table["data"][:2]] == ["1: a premise", "2"]
    assert {row[1] for row in table["data"]} == {"Yes", "No", "Maybe"}


def test_a_failed_run_shows_what_it_printed_last_and_nothing_that_a_link_leads_to(
    logged: Logged, tmp_path: Path
) -> None:
    found = report(logged, FAILED)
    run = {**found.run, "directory": str(tmp_path)}
    (tmp_path / "1_6_train.out").write_text("first\n" + "x" * 30_000 + "\nlast")
    (tmp_path / "secret").write_text("hidden")
    (tmp_path / "1_6_train.err").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "5_7_train.err")
    failed = TrainingReport(run, found.data, [])
    files = training_artifacts.files(failed, logged.study.workspace)
    assert set(files) == {"config/experiment_config.yaml", "metrics.json", "output/1_6_train.out.txt"}
    output = files["output/1_6_train.out.txt"]
    assert (len(output), output[-4:]) == (20_000, b"last")


def test_the_note_says_what_came_of_it_and_what_that_is_worth(logged: Logged) -> None:
    text = logged.run(FIRST).data.tags["mlflow.note.content"]
    assert "**Accuracy 76.0%** (76 of 100 right, 95% interval 66.8% to 83.3%)" in text
    assert "+16.0 points against zero-shot (60.0%), +21.0 points against the majority class (55.0%)." in text
    assert f"300 records of `Copa/{COOL}`, fingerprint" in text
    assert f"| Made by | MLflow run `mlflow-{COOL}` |" in text
    assert "point 1 of 4" in text
    assert f"synthtrack result show {logged.study.uuid(FIRST)[:8]}\n" in text
    failed = logged.run(FAILED).data.tags["mlflow.note.content"]
    assert "No result: failed after 412 of 1,000 steps." in failed
    assert "Loss is not finite (nan) at step 412" in failed
