"""The worker's program, on the tiny model: what it trains on, what it measures, and how it ends."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from pipeline.training import record_monitor, scratch
from tests.trainings import (
    N_DEV,
    N_TRAIN,
    ORIGINAL,
    UNLABELLED,
    copa,
    curve,
    directory,
    model_digest,
    new_root,
    plain_scores,
    predictions,
    registered,
    run,
    texts,
    trained,
    until,
    validation,
    work,
    write_data,
)
from tests.workspaces import rows, write_lines
from tracker import clock
from tracker.errors import UnknownReference
from tracker.paths import Workspace
from tracker.record import training
from tracker.record.database import open_database

REPOSITORY = Path(__file__).parents[3]
METHODS = ("zo", "fo_full", "fo_lora")
ENDING = """
import atexit, gc, runpy, sys
atexit.register(lambda: print("left alone:", gc.get_freeze_count() > 0))
sys.argv = ["worker", *sys.argv[1:]]
runpy.run_module("pipeline.training.worker", run_name="__main__")
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_root(tmp_path_factory.mktemp("trainings") / "workspace")


def random_model(seed: int) -> LlamaForCausalLM:
    """What `scratch:llama-tiny` is with that seed."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(scratch.config("scratch:llama-tiny"))


@pytest.fixture(scope="module")
def model(root: Path) -> Path:
    """A model in a directory: its weights do not depend on a run's seed."""
    random_model(7).save_pretrained(root / "model")
    scratch.tokenizer().save_pretrained(root / "model")
    return root / "model"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is looked at after every step or two, not twice a second."""
    monkeypatch.setattr(record_monitor, "BEAT_S", 0.01)


def test_it_measures_the_labelled_records_and_counts_them(root: Path) -> None:
    (run_id,) = trained(root)
    row = run(root, run_id)
    labels = {at: record["label"] for at, record in enumerate(validation()) if at not in UNLABELLED}
    for stage in ("trained", "zero_shot"):
        found = predictions(root, run_id, stage)
        assert {each["position"]: each["label"] for each in found} == labels
        assert all(each["correct"] == (each["label"] == each["predicted"]) for each in found)
        assert all(len(each["scores"]) == 2 for each in found)
        assert all(each["predicted"] == each["scores"].index(max(each["scores"])) for each in found)
    n_correct = sum(each["correct"] for each in predictions(root, run_id, "trained"))
    assert (row["n_correct"], row["accuracy"]) == (n_correct, n_correct / len(labels))
    zero_shot = predictions(root, run_id, "zero_shot")
    assert row["zero_shot_accuracy"] == sum(each["correct"] for each in zero_shot) / len(labels)
    assert (row["n_train"], row["n_dev"], row["n_eval"]) == (N_TRAIN, N_DEV, len(labels))
    # Two thirds of the training records have label 0.
    assert row["majority_accuracy"] == sum(label == 0 for label in labels.values()) / len(labels)
    assert (row["n_truncated"], row["macro_f1"]) == (0, None)


@pytest.mark.parametrize("method", METHODS)
def test_dev_and_evaluation_agree_where_they_are_the_same_records(root: Path, method: str) -> None:
    same = write_data(root / "same" / method / "Copa", copa(N_TRAIN + N_DEV))
    write_lines(same / "copa_validation.jsonl", copa(N_DEV, first=N_TRAIN))
    measured = []
    for precision in ("fp32", "bf16"):
        (run_id,) = trained(root, method=method, precision=precision, data__path=str(same))
        row = run(root, run_id)
        # zo measures dev with parameters that are bf16 themselves.
        tolerance = 2e-3 if (method, precision) == ("zo", "bf16") else 1e-12
        assert row["eval_loss"] == pytest.approx(row["dev_loss"], rel=tolerance), precision
        assert row["dev_loss"] == min(curve(root, run_id, "dev/loss").values())
        if precision == "fp32":
            assert row["accuracy"] == row["dev_accuracy"]
        assert row["best_step"] > 0
        measured.append(curve(root, run_id, "dev/loss")[0])
    # It computes in what it was told to.
    assert measured[0] != measured[1]
    assert measured[0] == pytest.approx(measured[1], rel=2e-2)


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_is_over_candidates_or_over_the_answer(root: Path, method: str) -> None:
    """An untrained model has no preference among two candidates, and none among 258 tokens."""
    for classification, near in ((True, math.log(2)), (False, math.log(258))):
        (run_id,) = trained(
            root, method=method, train_as_classification=classification, hyperparameters__steps=1, save_model=False
        )
        assert curve(root, run_id, "dev/loss")[0] == pytest.approx(near, rel=0.2)
        assert curve(root, run_id, "train/loss")[1] == pytest.approx(near, rel=0.3)
        assert run(root, run_id)["eval_loss"] == pytest.approx(near, rel=0.3)


@pytest.mark.parametrize("method", ["zo", "fo_lora"])
def test_rank_and_alpha_of_lora_are_used(root: Path, method: str) -> None:
    places = []
    for rank, alpha in ((4, 8.0), (8, 8.0), (4, 32.0)):
        (run_id,) = trained(
            root, method=method, hyperparameters__lora_rank=rank, hyperparameters__lora_alpha=alpha,
            hyperparameters__steps=2, hyperparameters__learning_rate=1e-2,
        )  # fmt: skip
        row = run(root, run_id)
        adapter = json.loads((directory(root, run_id) / "model" / "adapter_config.json").read_text())
        assert (adapter["r"], adapter["lora_alpha"], row["lora_rank"]) == (rank, alpha, rank)
        # Seven linear layers in each of two blocks: four of 64 to 64, three of 64 to 176 or back.
        assert row["n_trainable"] == rank * 2 * (4 * (64 + 64) + 3 * (64 + 176))
        assert row["n_parameters"] - row["n_trainable"] == 133_696
        places.append(curve(root, run_id, "train/loss"))
    assert places[0] != places[1]
    assert places[0] != places[2]


@pytest.mark.usefixtures("quick")
def test_a_signal_makes_it_save_and_end(root: Path) -> None:
    (run_id,) = registered(root, hyperparameters__steps=5000, hyperparameters__eval_steps=5000)

    def ask() -> None:
        until(lambda: run(root, run_id)["step"] >= 3)
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    left = work(root, run_id)
    asking.join()
    row = run(root, run_id)
    assert (left.code, row["status"]) == (130, "stopped")
    assert 3 <= row["step"] < 5000
    assert "stopped; its checkpoint is kept" in left.out
    log = (directory(root, run_id) / "checkpoint" / "steps-000000000.log").read_bytes()
    assert (len(log) - 16 - int.from_bytes(log[8:12], "little")) // 16 == row["step"]


@pytest.mark.parametrize(("method", "rate", "best"), [("zo", 1e-2, 0), ("fo_full", 3.0, 0), ("fo_lora", 30.0, 2)])
def test_the_best_weights_are_measured_and_saved_not_the_last(root: Path, method: str, rate: float, best: int) -> None:
    """At such a rate the model is worse in the end than it was."""
    config: dict[str, Any] = {
        "method": method, "hyperparameters__learning_rate": rate, "hyperparameters__max_length": 500,
        "hyperparameters__lr_schedule": "constant",
    }  # fmt: skip
    (run_id,) = trained(root, **config)
    row, measured = run(root, run_id), curve(root, run_id, "dev/loss")
    assert min(measured, key=lambda step: measured[step]) == row["best_step"] == best
    assert (row["dev_loss"], row["dev_accuracy"]) == (measured[best], curve(root, run_id, "dev/accuracy")[best])
    if best == 0:
        # The model as it was; another run may have measured that.
        other = rows(root, "SELECT MIN(id) FROM training_run WHERE zero_shot_key = ?", row["zero_shot_key"])[0][0]
        assert predictions(root, run_id, "trained") == predictions(root, other, "zero_shot")
    else:
        (other,) = trained(root, **config, hyperparameters__steps=best)
        assert predictions(root, run_id, "trained") == predictions(root, other, "trained")
        assert model_digest(root, run_id) == model_digest(root, other)


def test_zero_shot_is_measured_once_for_all_that_share_it(root: Path, model: Path) -> None:
    base: dict[str, Any] = {"model": str(model), "hyperparameters__steps": 2, "save_model": False}
    first, other_seed = trained(root, **base, hyperparameters__seed=[0, 1])
    (other_method,) = trained(root, **base, method="fo_lora")
    (shorter,) = trained(root, **base, hyperparameters__max_length=300)
    (fewer,) = trained(root, **base, num_eval=5)
    (scratch_0,) = trained(root, hyperparameters__steps=2, hyperparameters__max_length=299)
    (scratch_1,) = trained(root, hyperparameters__steps=2, hyperparameters__max_length=299, hyperparameters__seed=1)
    n_rows = {
        each: len(predictions(root, each, "zero_shot"))
        for each in (first, other_seed, other_method, shorter, fewer, scratch_0, scratch_1)
    }
    # A scratch model is another model with another seed.
    assert list(n_rows.values()) == [12, 0, 0, 12, 5, 12, 12]
    untrained, tokenizer = random_model(7), scratch.tokenizer()
    for each in predictions(root, first, "zero_shot"):
        assert each["scores"] == pytest.approx(
            plain_scores(untrained, tokenizer, validation()[each["position"]]), abs=2e-5
        )
    same = [run(root, each)["zero_shot_accuracy"] for each in (first, other_seed, other_method)]
    assert same == [same[0]] * 3
    assert same[0] == sum(each["correct"] for each in predictions(root, first, "zero_shot")) / 12


@pytest.mark.parametrize(
    ("method", "batch_size", "what"), [("zo", 24, "noise"), ("fo_full", 5, "order"), ("fo_lora", 24, "initialisation")]
)
def test_a_seed_changes_order_noise_and_initialisation(
    root: Path, model: Path, method: str, batch_size: int, what: str
) -> None:
    """With all records in a batch their order counts for nothing, and the model's weights are the same."""
    ids = trained(
        root, model=str(model), method=method, hyperparameters__batch_size=batch_size, hyperparameters__seed=[0, 1],
        hyperparameters__steps=2, hyperparameters__eval_steps=1, hyperparameters__learning_rate=1e-2,
    )  # fmt: skip
    before, after = ([curve(root, each, "dev/loss")[step] for each in ids] for step in (0, 2))
    assert before[0] == before[1]
    assert after[0] != pytest.approx(after[1], rel=1e-4), what
    assert model_digest(root, ids[0]) != model_digest(root, ids[1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("quick")
def test_stopped_and_resumed_it_ends_with_the_same_bits(root: Path, method: str) -> None:
    config: dict[str, Any] = {
        "method": method, "hyperparameters__steps": 24, "hyperparameters__eval_steps": 9, "hyperparameters__seed": 5,
        "hyperparameters__warmup": 0.2, "hyperparameters__weight_decay": 0.1, "hyperparameters__lr_schedule": "cosine",
    }  # fmt: skip
    (undisturbed,) = trained(root, **config)
    (run_id,) = registered(root, **config)
    for number, at in enumerate((3, 12)):
        left = stopped_at(root, run_id, at)
        row = run(root, run_id)
        assert (left, row["status"], row["stop_requested"]) == (130, "stopped", 0)
        assert at <= row["step"] < 24
        assert (row["n_resumed"], row["accuracy"], row["error"]) == (number, None, None)
        assert not (directory(root, run_id) / "metrics.json").exists()
    assert work(root, run_id).code == 0
    first, second = run(root, undisturbed), run(root, run_id)
    assert model_digest(root, run_id) == model_digest(root, undisturbed)
    assert (second["status"], second["n_resumed"], second["attempt"]) == ("complete", 2, first["attempt"] + 1)
    same = ("train_loss", "dev_loss", "eval_loss", "accuracy", "best_step", "step", "zero_shot_accuracy")
    assert [first[name] for name in same] == [second[name] for name in same]
    assert predictions(root, run_id, "trained") == predictions(root, undisturbed, "trained")
    for name in ("dev/loss", "dev/accuracy", "train/loss", "train/learning_rate"):
        assert curve(root, run_id, name) == curve(root, undisturbed, name)
    assert list(curve(root, run_id, "dev/loss")) == [0, 9, 18, 24]
    assert list(curve(root, run_id, "train/loss")) == list(range(1, 25))


def stopped_at(root: Path, run_id: int, step: int) -> int:
    """Asks for an end once that step is recorded; the worker's exit code."""

    def ask() -> None:
        until(lambda: run(root, run_id)["step"] >= step and run(root, run_id)["status"] == "running")
        with open_database(Workspace(root, environ={})) as database:
            training.request_stop(database, [run_id])

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    code = work(root, run_id).code
    asking.join()
    return code


@pytest.mark.parametrize("method", METHODS)
def test_the_model_that_is_saved_answers_as_the_predictions_say(root: Path, method: str) -> None:
    (run_id,) = trained(root, method=method, hyperparameters__learning_rate=3e-3)
    place = directory(root, run_id) / "model"
    if method == "fo_lora":
        from peft import PeftModel

        found: Any = PeftModel.from_pretrained(random_model(0), str(place))
        assert sorted(each.name for each in place.iterdir() if "model" in each.name) == ["adapter_model.safetensors"]
    else:
        found = AutoModelForCausalLM.from_pretrained(place)
    assert found.config.use_cache
    tokenizer = AutoTokenizer.from_pretrained(place)
    for each in predictions(root, run_id, "trained"):
        assert each["scores"] == pytest.approx(plain_scores(found, tokenizer, validation()[each["position"]]), abs=2e-5)


def test_a_model_that_sees_only_so_far_back_is_scored_as_it_was_made(root: Path) -> None:
    """The first training records are short enough for the tree layout, the records behind them are not."""
    torch.manual_seed(3)
    sizes: dict[str, Any] = {
        "vocab_size": 258, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "initializer_range": 0.3, "bos_token_id": 256, "eos_token_id": 257,
    }  # fmt: skip
    MistralForCausalLM(MistralConfig(**sizes, sliding_window=64)).save_pretrained(root / "near-sighted")
    scratch.tokenizer().save_pretrained(root / "near-sighted")
    data = write_data(root / "long" / "Copa")
    told = [
        record | {"premise": f"{record['premise'][:-1]}, as all {'old ' * 20}houses do."} for record in validation()
    ]
    write_lines(data / "copa_validation.jsonl", told)
    (run_id,) = trained(root, model="near-sighted", method="fo_full", data__path=str(data), hyperparameters__steps=1)
    found = AutoModelForCausalLM.from_pretrained(directory(root, run_id) / "model")
    tokenizer = AutoTokenizer.from_pretrained(directory(root, run_id) / "model")
    for each in predictions(root, run_id, "trained"):
        assert each["scores"] == pytest.approx(plain_scores(found, tokenizer, told[each["position"]]), abs=2e-5)


def test_records_longer_than_max_length_are_counted(root: Path) -> None:
    measured = [*copa(N_TRAIN + N_DEV), *(each for each in validation() if each["label"] >= 0)]
    lengths = [1 + max(len(text.encode()) for text in texts(record)[1]) for record in measured]
    limit = sorted(lengths)[len(lengths) // 2]
    n_longer = sum(length > limit for length in lengths)
    assert 0 < n_longer < len(lengths)
    (run_id,) = registered(root, hyperparameters__max_length=limit, hyperparameters__steps=1)
    left = work(root, run_id)
    assert (left.code, run(root, run_id)["n_truncated"]) == (0, n_longer)
    assert f"{n_longer} records are longer than {limit} tokens" in left.out


def test_records_whose_answers_alone_are_too_long_are_refused_by_number(root: Path) -> None:
    (run_id,) = registered(root, hyperparameters__max_length=13, hyperparameters__steps=1)
    left = work(root, run_id)
    row = run(root, run_id)
    assert (left.code, row["status"]) == (12, "failed")
    error = str(row["error"]).splitlines()
    assert error[0] == "Records do not fit into the model."
    # An option is its text with the blank before it; a token begins every prompt.
    too_long = [
        at
        for at, record in enumerate(copa(N_TRAIN), 1)
        if max(len(record[name]) for name in ("choice1", "choice2")) + 2 > 13
    ]
    assert error[1:-2] == [f"  train record {at}: an option alone does not fit into 13 tokens" for at in too_long[:10]]
    assert error[-2] == f"  train records: and {len(too_long) - 10} more"
    assert "Raise max_length" in error[-1]
    assert str(row["error"]) in left.err
    assert predictions(root, run_id, "trained") == []


def test_a_mix_trains_on_a_share_of_each(root: Path) -> None:
    other = write_data(root / "other" / "Copa", copa(30, first=300))
    (run_id,) = trained(root, data={"paths": [ORIGINAL, str(other)]}, num_train=10, hyperparameters__steps=1)
    names = "position, name, n_records, first_record, n_train"
    found = rows(root, f"SELECT {names} FROM training_data WHERE training_run_id = ? ORDER BY position", run_id)
    assert found == [(0, "original", N_TRAIN + N_DEV, 0, 10), (1, "other", 30, 10, 10)]
    row = run(root, run_id)
    assert (row["n_train"], row["data"]) == (20, "original+other")
    written = yaml.safe_load((directory(root, run_id) / "experiment_config.yaml").read_text())
    assert [source["n_train"] for source in written["data"]["sources"]] == [10, 10]


def test_another_task_has_a_macro_f1_over_its_classes(root: Path) -> None:
    asked = {"hypothesis": "It was wet."}
    records = [asked | {"premise": f"It rained {at} times.", "idx": at, "label": at % 3} for at in range(20)]
    data = root / "CB"
    data.mkdir()
    for split, chosen in (("train", records), ("validation", records[:9])):
        write_lines(data / f"cb_{split}.jsonl", chosen)
    (run_id,) = trained(root, task="CB", data__path="CB", hyperparameters__steps=2)
    row, found = run(root, run_id), predictions(root, run_id, "trained")
    assert json.loads(row["classes"]) == ["entailment", "contradiction", "neutral"]
    f1 = []
    for label in range(3):
        right = sum(each["label"] == each["predicted"] == label for each in found)
        given = sum(each["label"] == label for each in found) + sum(each["predicted"] == label for each in found)
        f1.append(2 * right / given)
    assert row["macro_f1"] == pytest.approx(sum(f1) / 3)


def test_data_that_changed_since_is_refused(root: Path) -> None:
    data = write_data(root / "changing" / "Copa", copa(N_TRAIN + N_DEV))
    for name in ("train", "validation"):
        (run_id,) = registered(root, data__path=str(data))
        with (data / f"copa_{name}.jsonl").open("a") as file:
            file.write(json.dumps(copa(1, first=400)[0]) + "\n")
        left = work(root, run_id)
        row = run(root, run_id)
        assert (left.code, row["status"]) == (6, "failed")
        assert "changing/Copa was changed since this run was registered" in str(row["error"])
        assert "synthtrack verify" in left.err
        assert (curve(root, run_id, "dev/loss"), row["zero_shot_accuracy"]) == ({}, None)


def test_a_model_that_changed_since_is_refused(root: Path, model: Path) -> None:
    shutil.copytree(model, root / "other-model")
    (run_id,) = registered(root, model="other-model")
    random_model(8).save_pretrained(root / "other-model")
    left = work(root, run_id)
    assert (left.code, run(root, run_id)["status"]) == (6, "failed")
    assert "The model, the task's prompts or synthtrack itself changed" in left.err


def test_a_loss_that_is_not_finite_is_said_at_once(root: Path) -> None:
    (run_id,) = registered(
        root, hyperparameters__learning_rate=100, hyperparameters__weight_decay=10, hyperparameters__steps=40,
        hyperparameters__eval_steps=40,
    )  # fmt: skip
    left, row = work(root, run_id), run(root, run_id)
    assert (left.code, row["status"], row["accuracy"]) == (17, "failed", None)
    assert 1 < row["step"] < 40
    assert f"loss of step {row['step'] + 1} is not finite; the learning rate was 100" in str(row["error"])
    assert f"Error: {row['error']}" in left.err
    assert len(curve(root, run_id, "train/loss")) == row["step"]
    assert (directory(root, run_id) / "experiment_config.yaml").exists()
    assert not (directory(root, run_id) / "metrics.json").exists()
    assert (row["duration_s"] > 0, row["finished_at"] > row["started_at"]) == (True, True)


def test_what_a_bug_leaves_is_its_last_lines(root: Path) -> None:
    (run_id,) = registered(root, hyperparameters__steps=1)
    with open_database(Workspace(root, environ={})) as database, database.writing() as connection:
        connection.execute(training.RUN.update().where(training.RUN.c.id == run_id).values(identity="[]"))
    with pytest.raises(TypeError):
        work(root, run_id)
    row = run(root, run_id)
    assert row["status"] == "failed"
    lines = str(row["error"]).splitlines()
    assert 5 < len(lines) <= 20
    assert lines[-1].startswith("TypeError: ")


def test_a_run_that_has_ended_is_not_trained_again(root: Path) -> None:
    (complete,) = trained(root, hyperparameters__steps=1, hyperparameters__eval_steps=1)
    before = run(root, complete)
    left = work(root, complete)
    assert (left.code, run(root, complete)) == (5, before)
    assert "This run has ended already: complete" in left.err
    assert work(root, 10_000).code == 4


def test_a_run_that_another_process_trains_is_left_to_it(root: Path) -> None:
    (run_id,) = registered(root)
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            with open_database(Workspace(root, environ={})) as database:
                training.claim(database, run_id, clock.process_of(other.pid), {})
            left = work(root, run_id)
            assert left.code == 5
            assert f"This run is being trained by PID {other.pid}" in left.err
            assert (run(root, run_id)["status"], run(root, run_id)["pid"]) == ("running", other.pid)
        finally:
            other.kill()
    # It is gone now.
    assert work(root, run_id).code == 0
    assert run(root, run_id)["status"] == "complete"


def test_what_only_resumes_is_removed_at_the_end(root: Path) -> None:
    for method, left in (("zo", ["evaluations.jsonl", "steps-000000000.log"]), ("fo_full", [])):
        (run_id,) = trained(root, method=method, save_model=False, hyperparameters__steps=2)
        place = directory(root, run_id)
        assert sorted(each.name for each in (place / "checkpoint").iterdir()) == left
        assert sorted(each.name for each in place.iterdir()) == [
            "checkpoint", "experiment_config.yaml", "metrics.json", "predictions.jsonl",
        ]  # fmt: skip


def test_a_disk_that_takes_no_more_interrupts_a_run_and_it_goes_on_from_there(root: Path) -> None:
    (run_id,) = registered(root, hyperparameters__steps=3)
    in_the_way = directory(root, run_id) / "metrics.json"
    in_the_way.mkdir()
    left, row = work(root, run_id), run(root, run_id)
    assert (left.code, row["status"], row["step"]) == (11, "interrupted", 3)
    assert "metrics.json cannot be written: Is a directory." in str(row["error"])
    assert row["finished_at"] is not None
    in_the_way.rmdir()
    assert "  loss " in left.out
    left, row = work(root, run_id), run(root, run_id)
    assert (left.code, row["status"], row["error"], row["n_resumed"]) == (0, "complete", None, 1)
    # No step was made again.
    assert "  loss " not in left.out


@pytest.mark.usefixtures("quick")
def test_a_record_that_is_locked_for_a_while_ends_no_run(root: Path) -> None:
    (run_id,) = registered(root, hyperparameters__steps=30, hyperparameters__eval_steps=1)
    measured = directory(root, run_id) / "checkpoint" / "evaluations.jsonl"

    def lock() -> None:
        until(lambda: run(root, run_id)["step"] >= 2)
        with open_database(Workspace(root, environ={})) as database, database.writing() as connection:
            connection.execute(training.SWEEP.update().values(description="locked"))
            until(lambda: len(measured.read_text().splitlines()) == 31)
            # Its training is over, and it has results to record.
            time.sleep(0.5)

    locking = threading.Thread(target=lock, daemon=True)
    locking.start()
    left = work(root, run_id, environ={"SYNTHTRACK_BUSY_TIMEOUT": "0.05"})
    locking.join()
    assert (left.code, run(root, run_id)["status"]) == (0, "complete")
    assert list(curve(root, run_id, "dev/loss")) == list(range(31))
    assert list(curve(root, run_id, "train/loss")) == list(range(1, 31))
    assert len(predictions(root, run_id, "trained")) == 12


def test_a_worker_does_not_look_through_what_the_libraries_made_before_it_ends(tmp_path: Path) -> None:
    open_database(Workspace(tmp_path, environ={})).close()
    command = (sys.executable, "-c", ENDING, "--root", str(tmp_path), "7")
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == UnknownReference.exit_code, done.stderr
    assert done.stdout == "left alone: True\n"
