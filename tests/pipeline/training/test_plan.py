"""A training config made ready: what is its identity and what is not, what is warned of, what is resumed."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training import plan
from pipeline.training.data import DataSet
from pipeline.training.material import Material, Share
from pipeline.training.plan import Options, Plan, data_name, prepare, recorded_config, recorded_settings
from pipeline.training.specs import METHODS, Hyperparameters, TrainingConfig, effective, without_effect
from pipeline.training.tasks import Question
from pipeline.training.train import register
from tests.workspaces import call, config, write_config, write_lines, write_records
from tests.workspaces import records as copa
from tracker.clock import this_process
from tracker.errors import ConfigError, DataError, UnknownReference
from tracker.paths import Workspace
from tracker.record import training
from tracker.record.database import open_database
from tracker.spec import marks, settings

QUESTIONS = Material(
    (Question("It rained because ", ("it was wet.", "it was dry."), 0),),
    (Question("He fell so ", ("he slept.", "he hurt himself."), 1),),
    (Question("She sang because ", ("she was sad.", "she was glad."), 1),),
    (0,),
    (Share(2, 0, 1),),
)
DATA = DataSet(
    "Data/original/Copa", Path("Data/original/Copa"), "Copa", "original", Path("t"), Path("v"), "1" * 64, "2" * 64
)
MODEL = {"scratch": {"layers": 2}, "tokenizer": "bytes"}


def spec(**changes: Any) -> TrainingConfig:
    """A config with its defaults filled in; ``hyperparameters__steps=10`` changes one setting."""
    document: dict[str, Any] = {
        "model": "scratch:llama-tiny", "task": "Copa", "method": "zo", "data": {"path": "d"},
        "hyperparameters": {"learning_rate": 1e-6},
    }  # fmt: skip
    for name, value in changes.items():
        group, _, key = name.rpartition("__")
        target = document.setdefault(group, {}) if group else document
        target[key] = value
    return effective(TrainingConfig.model_validate(document), num_dev=100, classification=False)


def fingerprint(config: TrainingConfig, *data: DataSet, questions: Material = QUESTIONS, model: Any = MODEL) -> str:
    return plan.training_identity(config, data=data or (DATA,), questions=questions, model=model).fingerprint


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "baf1aa724b5d"),
        ({"hyperparameters__seed": 1}, "dacba9795cc5"),
        ({"hyperparameters__lora_rank": 4}, "e3e9ded987c8"),
        ({"method": "fo_full"}, "1295720337f1"),
        ({"method": "fo_lora"}, "076a341d8640"),
        ({"method": "fo_full", "precision": "bf16", "task": "CB", "prompt_style": "mezo_paper"}, "877810951888"),
    ],
)
def test_fingerprints_are_known(changes: dict[str, Any], expected: str) -> None:
    """Another result here makes every training that was ever recorded a stranger: raise plan.TRAINING instead."""
    assert fingerprint(spec(**changes)) == expected


def test_an_identity_holds_what_shapes_the_run() -> None:
    found = plan.training_identity(spec(method="fo_lora"), data=(DATA,), questions=QUESTIONS, model=MODEL)
    assert json.loads(found.canonical) == {
        "scheme": 1,
        "kind": "training_run",
        "identity": {
            "model": MODEL,
            "task": "Copa",
            "method": "fo_lora",
            "hyperparameters": {
                "learning_rate": 1e-6, "batch_size": 16, "steps": 1000, "seed": 0, "lora_rank": 8, "lora_alpha": 16,
                "weight_decay": 0, "warmup": 0, "lr_schedule": "linear", "gradient_accumulation": 1, "eval_steps": 200,
                "max_length": 2048,
            },
            "prompt_style": "llama",
            "train_as_classification": False,
            "num_train": 1000,
            "num_dev": 100,
            "num_eval": 1000,
            "precision": "fp32",
            "data": [{"fingerprint": None, "train": "1" * 64}],
            "evaluation": "2" * 64,
            "questions": QUESTIONS.digest(),
            "training": 1,
        },
    }  # fmt: skip


OPERATIONAL: dict[str, st.SearchStrategy[Any]] = {
    "experiment__purpose": st.sampled_from(["tuning", "a b", "1e-6"]),
    "experiment__description": st.text(),
    "data__path": st.text(min_size=1),
    "cuda_devices": st.sampled_from(["cpu", "0,1"]),
    "wait_for_completion": st.booleans(),
    "continue_on_error": st.booleans(),
    "gradient_checkpointing": st.booleans(),
    "save_model": st.booleans(),
}


@given(st.fixed_dictionaries({}, optional=OPERATIONAL), st.sampled_from(METHODS))
def test_what_only_operates_a_run_is_no_part_of_it(changes: dict[str, Any], method: str) -> None:
    assert fingerprint(spec(**changes, method=method)) == fingerprint(spec(method=method))


def test_every_setting_that_only_operates_a_run_was_tried() -> None:
    names = [name for name, field in TrainingConfig.model_fields.items() if marks(field)["operational"]]
    assert {name.partition("__")[0] for name in OPERATIONAL} == set(names)


OTHER: Mapping[str, Any] = {
    "task": "CB", "method": "?", "prompt_style": "mezo_paper", "train_as_classification": True, "num_train": 7,
    "num_dev": 7, "num_eval": 7, "precision": "bf16", "zo_memory": "keep", "hyperparameters__learning_rate": 2e-6,
    "hyperparameters__batch_size": 7, "hyperparameters__steps": 7, "hyperparameters__seed": 7,
    "hyperparameters__zo_eps": 0.7, "hyperparameters__zo_directions": 7, "hyperparameters__lora_rank": 7,
    "hyperparameters__lora_alpha": 7, "hyperparameters__weight_decay": 0.7, "hyperparameters__warmup": 0.7,
    "hyperparameters__lr_schedule": "cosine", "hyperparameters__gradient_accumulation": 7,
    "hyperparameters__eval_steps": 7, "hyperparameters__max_length": 77,
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize(
    ("method", "rank"), [("zo", None), ("zo", 4), ("fo_full", None), ("fo_full", 4), ("fo_lora", 4)]
)
def test_every_other_setting_is_part_of_it_where_it_has_an_effect(name: str, method: str, rank: int | None) -> None:
    first = {"method": method, "hyperparameters__lora_rank": rank}
    value = OTHER[name] if name != "method" else METHODS[METHODS.index(method) - 1]
    changed = spec(**{**first, name: value})
    has_effect = name.replace("__", ".") not in without_effect(changed)
    assert (fingerprint(changed) != fingerprint(spec(**first))) is has_effect


def test_every_setting_was_tried() -> None:
    names = {name for name, field in TrainingConfig.model_fields.items() if not marks(field)["operational"]}
    own = {f"hyperparameters__{name}" for name in Hyperparameters.model_fields}
    # The model's name is not its identity, see below.
    assert OTHER.keys() == (names | own) - {"hyperparameters", "model"}


def test_a_default_that_is_written_out_is_the_same_point() -> None:
    written = {"lr_schedule": "constant", "eval_steps": 200, "steps": 1000, "learning_rate": "0.000001", "warmup": 0}
    same = spec(hyperparameters=written, num_dev=100, train_as_classification=False, precision="fp32")
    assert fingerprint(same) == fingerprint(spec())
    lora = spec(method="fo_lora", hyperparameters__lora_rank=8, hyperparameters__lora_alpha=16.0)
    assert fingerprint(lora) == fingerprint(spec(method="fo_lora"))


def test_a_model_is_what_it_is_and_not_what_it_is_called() -> None:
    assert fingerprint(spec(model="/elsewhere/llama")) == fingerprint(spec())
    assert fingerprint(spec(), model={**MODEL, "revision": "abc"}) != fingerprint(spec())


def test_data_is_its_content_and_the_experiment_it_comes_from() -> None:
    elsewhere = replace(DATA, given="/x", directory=Path("/x"), dataset="x", name="x", batch_id=3, batches=("b",))
    assert fingerprint(spec(), elsewhere) == fingerprint(spec())
    found = {
        fingerprint(spec(), *data)
        for data in [
            (DATA,),
            (replace(DATA, train_digest="3" * 64),),
            (replace(DATA, eval_digest="3" * 64),),
            (replace(DATA, experiment={"fingerprint": "249e24609e12"}),),
            (DATA, replace(DATA, train_digest="3" * 64)),
            (replace(DATA, train_digest="3" * 64), DATA),
        ]
    }
    assert len(found) == 6
    asked = replace(QUESTIONS, train=QUESTIONS.train * 2)
    assert fingerprint(spec(), questions=asked) != fingerprint(spec())


def test_what_has_no_effect_is_not_recorded_as_a_setting() -> None:
    found = recorded_settings(spec(method="fo_full"))
    assert found.keys() == settings(spec()).keys() - without_effect(spec(method="fo_full"))
    assert not {"zo_memory", "hyperparameters.lora_rank", "hyperparameters.zo_eps"} & found.keys()
    assert found["hyperparameters.learning_rate"] == 1e-6
    own = recorded_config(spec(method="fo_full"))
    assert "zo_memory" not in own
    assert own["hyperparameters"].keys() == {
        "learning_rate", "batch_size", "steps", "seed", "weight_decay", "warmup", "lr_schedule",
        "gradient_accumulation", "eval_steps", "max_length",
    }  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with twelve original records and an experiment on them."""
    root = tmp_path_factory.mktemp("plans")
    write_records(root, 12)
    write_config(root, config())
    assert call(root, "generate", "copa.yaml", "--no-mlflow").code == 0
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(made, tmp_path / "workspace", symlinks=True)), environ={})


SHARED = "data.path=Data_v2/synthetic/_shared/Copa/temp07_topp10_rulesv1/Copa"
TRAIN: Mapping[str, Any] = {
    "experiment": {"purpose": "tuning"}, "model": "scratch:llama-tiny", "task": "Copa", "method": "zo",
    "data": {"path": "Data/original/Copa"}, "num_dev": 4, "cuda_devices": "cpu",
    "hyperparameters": {"learning_rate": [1e-6, 5e-7], "seed": [0, 1], "steps": 10, "batch_size": 2},
}  # fmt: skip


def prepared(here: Workspace, *overrides: str, document: Mapping[str, Any] = TRAIN, **options: Any) -> Plan:
    path = write_config(here.root, document, "train.yaml")
    with contextlib.chdir(here.root):
        return prepare(here, path, Options(overrides, **options))


def test_a_plan_has_a_point_for_every_place_of_the_grid(here: Workspace) -> None:
    found = prepared(here)
    assert [(p.config.hyperparameters.learning_rate, p.config.hyperparameters.seed) for p in found.points] == [
        (1e-6, 0), (1e-6, 1), (5e-7, 0), (5e-7, 1),
    ]  # fmt: skip
    home = here.root / "Results_v2/tuning/scratch-llama-tiny"
    assert [point.place for point in found.points] == [
        home / f"Copa_zo_original_{lr}" for lr in ("1_6", "1_6", "5_7", "5_7")
    ]
    assert (found.varied, found.warnings, found.data_name) == (("learning_rate", "seed"), (), "original")
    assert (len(found.material.train), len(found.material.dev), len(found.material.evaluation)) == (8, 4, 2)
    assert len({point.identity.digest for point in found.points}) == 4
    expected = plan.training_identity(
        found.points[0].config, data=found.data, questions=found.material, model=found.model.identity
    )
    assert found.points[0].identity == expected
    assert found.wanted() == found.points


def test_points_that_differ_in_nothing_that_has_an_effect_are_one(here: Workspace) -> None:
    overrides = (
        "method=fo_full", "hyperparameters.lora_rank=[4, 8]", "hyperparameters.eval_steps=[null, 2]",
        "hyperparameters.lr_schedule=[linear, null, cosine]", "hyperparameters.learning_rate=1e-6",
    )  # fmt: skip
    found = prepared(here, *overrides)
    assert found.varied == ("seed", "lr_schedule")
    assert [(p.config.hyperparameters.seed, p.config.hyperparameters.lr_schedule) for p in found.points] == [
        (0, "linear"), (0, "cosine"), (1, "linear"), (1, "cosine"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "warnings"),
    [
        ((), []),
        (("experiment={}",), ["No experiment.purpose is given: results go to uncategorized/."]),
        (("method=fo_lora", "hyperparameters.lora_alpha=32"), []),
        (("hyperparameters.lora_rank=[null, 4]", "hyperparameters.lora_alpha=32"), []),
        (("hyperparameters.lora_alpha=32",), ["`hyperparameters.lora_alpha` has no effect with method zo."]),
        (
            ("method=fo_full", "zo_memory=keep", "hyperparameters.zo_eps=1e-3"),
            ["`hyperparameters.zo_eps`", "`zo_memory`"],
        ),
        (("gradient_checkpointing=true",), ["`gradient_checkpointing` has no effect with method zo."]),
        ((SHARED,), ["4 of its last 4 records, which choose the checkpoint (dev), are rephrased"]),
    ],
)
def test_what_may_surprise_is_warned_of(here: Workspace, overrides: tuple[str, ...], warnings: list[str]) -> None:
    found = prepared(here, *overrides).warnings
    assert len(found) == len(warnings)
    assert all(part in warning for part, warning in zip(warnings, found, strict=True))


def test_a_purpose_is_never_taken_from_the_data(here: Workspace) -> None:
    found = prepared(here, SHARED, "experiment={}")
    assert found.data[0].experiment is not None
    assert {point.place.relative_to(here.root / "Results_v2").parts[0] for point in found.points} == {"uncategorized"}


def test_trials_and_partial_data_are_warned_of(here: Workspace) -> None:
    write_config(here.root, config())
    assert call(here.root, "generate", "copa.yaml", "--no-mlflow", "--limit", "6").code == 0
    [trial] = (here.root / "Data_v2/synthetic/_shared/Copa").glob("*first6*")
    found = prepared(here, f"data.path={trial}", "num_dev=2")
    assert any("a trial of the first 6 records" in warning for warning in found.warnings)
    with open_database(here) as database, database.writing() as connection:
        connection.exec_driver_sql("UPDATE shared_experiment SET status = 'partial'")
    assert any("partial; records that failed" in warning for warning in prepared(here, SHARED).warnings)


def test_a_mix_is_named_by_all_its_data(here: Workspace) -> None:
    mixed = {**TRAIN, "data": {"paths": ["Data/original/Copa", SHARED.partition("=")[2]]}}
    found = prepared(here, document=mixed)
    assert found.data_name == data_name(found.data) == "original+temp07_topp10_rulesv1"
    assert len(found.material.train) == 16
    assert found.points[0].place.name == "Copa_zo_original+temp07_topp10_rulesv1_1_6"


@pytest.mark.parametrize(
    ("name", "hint"), [("copa", "Did you mean Copa?"), ("Cop", "Did you mean Copa?"), ("x", "Known:")]
)
def test_an_unknown_task_is_answered_with_those_close(here: Workspace, name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=rf"train.yaml:\d+: `task`: No task '{name}'") as caught:
        prepared(here, document={**TRAIN, "task": name})
    assert hint in str(caught.value)


def test_a_directory_is_a_model_wherever_it_is_named_from(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (here.root / "models/llama").mkdir(parents=True)
    monkeypatch.chdir(here.root / "models")
    assert [plan.locate_model(here, name) for name in ("llama", "models/llama")] == [
        str(here.root / "models/llama")
    ] * 2
    assert plan.locate_model(here, "gpt2") == "gpt2"
    assert plan.locate_model(here, "x" * 300) == "x" * 300


def test_a_workspace_without_a_record_will_do(tmp_path: Path) -> None:
    write_records(tmp_path, 12)
    found = prepared(Workspace(tmp_path, environ={}))
    assert (found.data_name, found.unfinished, len(found.points)) == ("original", None, 4)
    assert not (tmp_path / "tracker.db").exists()
    with pytest.raises(UnknownReference):
        prepared(Workspace(tmp_path, environ={}), "data.path=null", "data.type=synthetic_zo_gpt4o_v1")


def registered(here: Workspace, found: Plan) -> int:
    with open_database(here) as database:
        return register(here, database, found, ["cpu"])


def ended(here: Workspace, sweep_id: int, statuses: Mapping[int, str]) -> None:
    """Ends the runs at these positions of the sweep, and the sweep."""
    with open_database(here) as database:
        with database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT id, position FROM training_run WHERE training_sweep_id = {sweep_id}"
            ).all()
        for run_id, position in rows:
            if position in statuses:
                training.claim(database, run_id, this_process(), {})
                training.end_run(database, run_id, statuses[position], {})
        training.end_sweep(database, sweep_id, training.FAILED)


def test_what_was_trained_before_is_known_and_can_be_left_out(here: Workspace) -> None:
    sweep = registered(here, prepared(here))
    ended(here, sweep, {0: "complete", 1: "failed", 2: "complete"})
    found = prepared(here)
    assert [(point.n_attempts, point.n_complete) for point in found.points] == [(1, 1), (1, 0), (1, 1), (1, 0)]
    rest = prepared(here, skip_done=True)
    assert rest.wanted() == (rest.points[1], rest.points[3])


def test_an_unfinished_sweep_is_found_by_its_points_and_purpose(here: Workspace) -> None:
    sweep = registered(here, prepared(here))
    assert prepared(here).unfinished == {**(prepared(here).unfinished or {}), "id": sweep, "status": "running"}
    assert prepared(here, "cuda_devices=0", "experiment.description=other", "save_model=false").unfinished is not None
    for override in ("experiment.purpose=other", "hyperparameters.seed=[0]", "num_train=3"):
        assert prepared(here, override).unfinished is None
    assert prepared(here, fresh=True).unfinished is None
    ended(here, sweep, dict.fromkeys(range(4), "complete"))
    assert prepared(here).unfinished is None


def test_of_several_sweeps_only_the_newest_can_go_on(here: Workspace) -> None:
    first = registered(here, prepared(here))
    second = registered(here, prepared(here, fresh=True))
    assert (prepared(here).unfinished or {})["id"] == second != first
    ended(here, second, dict.fromkeys(range(4), "complete"))
    assert prepared(here).unfinished is None


def test_records_that_do_not_fit_the_task_are_said(here: Workspace) -> None:
    path = write_lines(here.root / "Data/original/Copa/copa_train.jsonl", [*copa(11), {"premise": "x"}])
    with pytest.raises(DataError, match=rf"{path}:12: no field 'choice1'"):
        prepared(here)
