"""Training runs as their workers leave them, for tests of what looks at them.

``training_study`` has, with fixed times, uuids and answers: a grid of two rates and two seeds on synthetic data of
temperature 0.5; the better rate on data of temperature 0.9 and on original data (where a seed failed, one was stopped
and one is running in a process that is gone); CB with LoRA on original and on mixed data; and a second attempt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text, update

from pipeline.training.specs import TrainingConfig, effective, without_effect
from tests import records
from tracker.clock import Process, host, to_text
from tracker.fingerprint import identify
from tracker.paths import Workspace
from tracker.record import training
from tracker.record.columns import to_json
from tracker.record.database import Database, open_database
from tracker.record.lease import Busy
from tracker.spec import identity, public, settings
from tracker.statistics import macro_f1, wilson

MODEL = "meta-llama/Llama-3.2-1B"
BATCH = "batch_20241229_temperature"
COOL, HOT = "temp05_topp10_gpt4o", "temp09_topp10_gpt4o"
ORIGINAL = "original"
N_EVAL = {"Copa": 100, "CB": 57}
CLASSES = {"CB": ("Yes", "No", "Maybe")}
GONE = Process(host(), 2**22 + 1, 1.0)
DIVERGED = "Loss is not finite (nan) at step 412, learning rate 1e-06.\nUse a lower learning_rate."
"""A process of this machine that is not there: the PID is above what Linux gives."""
_EVAL_DIGESTS = {name: hashlib.sha256(name.encode()).hexdigest() for name in N_EVAL}
_START = datetime(2025, 12, 26, 14, 30, tzinfo=UTC)
_STEPS = (0, 200, 400, 600, 800, 1000)


@dataclass(frozen=True)
class Trained:
    """One training run to be made: its settings, how it ended, and which of its answers are right.

    A record is answered rightly where its place in an order of difficulty, moved by ``shift``, is below ``n_correct``.
    """

    data: tuple[str, ...] = (COOL,)
    task: str = "Copa"
    method: str = "zo"
    model: str = MODEL
    n_correct: int = 76
    shift: int = 0
    status: str = training.COMPLETE
    hyperparameters: dict[str, Any] = field(default_factory=lambda: {"learning_rate": 1e-6})
    other: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Study:
    """The sweeps by purpose (ids), and the runs by a short name such as ``temp05 1e-06 seed 0`` (ids)."""

    workspace: Workspace
    sweeps: dict[str, int]
    runs: dict[str, int]

    def uuid(self, name: str) -> str:
        return fixed_uuid("run", self.runs[name])


def fixed_uuid(kind: str, row_id: int) -> str:
    """The uuid of a ``run`` or ``sweep`` by its id."""
    return hashlib.md5(f"{kind} {row_id}".encode()).hexdigest()


def workspace_with_data(root: Path | Workspace) -> Workspace:
    """A workspace with two experiments on Copa and one on CB, as `generate` leaves them."""
    workspace = root if isinstance(root, Workspace) else Workspace(root, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        copa, cb = (records.add_source(connection, name, records.LINES) for name in ("Copa", "CB"))
        batch = records.add_batch(connection, BATCH)
        for name, temperature in ((COOL, 0.5), (HOT, 0.9)):
            experiment = records.add_experiment(
                connection, name, batch=batch, source=copa, temperature=temperature, n_records=4, n_accepted=3,
                n_rejected=1, cost_usd=0.012, data_digest=hashlib.sha256(name.encode()).hexdigest(),
            )  # fmt: skip
            records.add_run(connection, experiment, batch, mlflow_run_id=f"mlflow-{name}")
        records.add_experiment(connection, COOL, batch=batch, source=cb, dataset="CB", temperature=0.5, n_records=4)
    return workspace


def add_sweep(
    database: Database, purpose: str, runs: Sequence[Trained], *, varied: Sequence[str] = ("learning_rate",)
) -> training.Registered:
    """Registers a sweep of ``runs`` and works through it as a supervisor and its workers do."""
    first = runs[0]
    columns = {
        "key": hashlib.md5(purpose.encode()).hexdigest(), "purpose": purpose, "description": "",
        "model": first.model, "task": first.task, "method": first.method, "background": False,
        "continue_on_error": True, "config_path": f"configs/stage2/{purpose}.yaml",
        "varied": to_json(list(varied)), "devices": to_json(["cpu"]),
        "command": f"synthtrack train configs/stage2/{purpose}.yaml", "config": "{}",
    }  # fmt: skip
    with database.reading() as connection:
        points = [_point(connection, database.workspace, purpose, run, at) for at, run in enumerate(runs)]
    registered = training.register(database, columns, points, GONE)
    for run_id, run in zip(registered.run_ids, runs, strict=True):
        _work(database, run_id, run)
    statuses = {run.status for run in runs}
    for status in (training.RUNNING, training.STOPPED, training.FAILED, training.COMPLETE):
        if status in statuses:
            if status != training.RUNNING:
                training.end_sweep(database, registered.id, status)
            break
    with database.writing() as connection:
        _fix(connection, "training_sweep", "sweep", [registered.id])
        _fix(connection, "training_run", "run", registered.run_ids)
    return registered


def training_study(root: Path | Workspace) -> Study:
    """The study of this module's docstring."""
    workspace = workspace_with_data(root)
    wanted: dict[str, dict[str, Trained]] = {
        "hyperparameter_tuning": {
            f"temp05 {rate} seed {seed}": Trained(
                n_correct=n_correct, shift=3 * seed, hyperparameters={"learning_rate": rate, "seed": seed}
            )
            for rate, seed, n_correct in ((1e-6, 0, 76), (1e-6, 1, 74), (5e-7, 0, 70), (5e-7, 1, 69))
        },
        "data_quality_impact": {
            f"temp09 1e-06 seed {seed}": Trained(
                (HOT,), n_correct=n_correct, shift=3 * seed + 1, hyperparameters={"learning_rate": 1e-6, "seed": seed}
            )
            for seed, n_correct in ((0, 79), (1, 75))
        },
        "baseline_comparison": {
            f"original 1e-06 seed {seed}": Trained(
                (ORIGINAL,),
                n_correct=73,
                shift=5,
                status=status,
                error=DIVERGED if status == "failed" else None,
                hyperparameters={"learning_rate": 1e-6, "seed": seed},
            )
            for seed, status in enumerate(("complete", "failed", "stopped", "running", "pending"))
        },
        "model_comparison": {
            f"CB {'+'.join(data)}": Trained(
                data, "CB", "fo_lora", n_correct=n_correct, hyperparameters={"learning_rate": 5e-5, "lora_rank": 16}
            )
            for data, n_correct in (((ORIGINAL,), 41), ((ORIGINAL, COOL), 44))
        },
        "hyperparameter_tuning again": {
            "temp05 1e-06 seed 0 again": Trained(hyperparameters={"learning_rate": 1e-6, "seed": 0})
        },
    }
    sweeps: dict[str, int] = {}
    runs: dict[str, int] = {}
    with open_database(workspace) as database:
        for name, points in wanted.items():
            varied = ["learning_rate", "seed"] if len(points) > 1 else []
            registered = add_sweep(database, name.partition(" ")[0], list(points.values()), varied=varied)
            sweeps[name] = registered.id
            runs |= dict(zip(points, registered.run_ids, strict=True))
    return Study(workspace, sweeps, runs)


def answers(run: Trained) -> list[dict[str, Any]]:
    """The rows of its predictions on the evaluation set."""
    n_choices = len(CLASSES.get(run.task, ("1", "2")))
    n = N_EVAL[run.task]
    found = []
    for position in range(n):
        label = position * 7 % n_choices
        correct = (position * 37 + run.shift) % n < run.n_correct
        predicted = label if correct else (label + 1) % n_choices
        scores = [-1.5 if each == predicted else -2.0 - each / 10 for each in range(n_choices)]
        found.append(
            {"position": position, "label": label, "predicted": predicted, "correct": correct,
             "scores": to_json(scores)}
        )  # fmt: skip
    return found


def _point(connection: Connection, workspace: Workspace, purpose: str, run: Trained, position: int) -> training.Point:
    config = _config(purpose, run)
    given = config.hyperparameters
    data = [_data(connection, run.task, name, at) for at, name in enumerate(run.data)]
    shaping = {
        **identity(config), "model": {"name": run.model}, "evaluation": data[0]["eval_digest"],
        "data": [{"fingerprint": row["fingerprint"], "train": row["train_digest"]} for row in data],
    }  # fmt: skip
    name = "+".join(run.data)
    parent = f"Results_v2/{purpose}/{run.model}/{run.task}_{run.method}_{name}_{_rate(given.learning_rate)}"
    directory = _new_directory(connection, parent, position)
    columns = {
        "purpose": purpose, "description": "", "model": run.model, "task": run.task, "method": run.method, "data": name,
        "learning_rate": given.learning_rate, "batch_size": given.batch_size, "steps": given.steps, "seed": given.seed,
        "zo_eps": given.zo_eps if run.method == "zo" else None, "lora_rank": given.lora_rank,
        "precision": config.precision, "n_train": sum(row["n_train"] for row in data), "n_dev": 100,
        "n_eval": N_EVAL[run.task], "n_parameters": 1_235_814_400, "majority_accuracy": 0.55,
        "classes": to_json(CLASSES[run.task]) if run.task in CLASSES else None,
        "settings": to_json({k: v for k, v in settings(config).items() if k not in without_effect(config)}),
        "config": to_json(public(config)), "command": f"synthtrack train configs/stage2/{purpose}.yaml",
    }  # fmt: skip
    return training.Point(identify("training_run", shaping), directory, columns, tuple(data))


def _config(purpose: str, run: Trained) -> TrainingConfig:
    paths = [_path(run.task, name) for name in run.data]
    given = {
        "experiment": {"purpose": purpose}, "model": run.model, "task": run.task, "method": run.method,
        "data": {"path": paths[0]} if len(paths) == 1 else {"paths": paths},
        "hyperparameters": run.hyperparameters, "num_dev": 100, **run.other,
    }  # fmt: skip
    return effective(TrainingConfig.model_validate(given), num_dev=100, classification=run.task != "Copa")


def _path(task: str, name: str) -> str:
    return f"Data_v2/original/{task}" if name == ORIGINAL else f"Data_v2/synthetic/{BATCH}/{task}/{name}/{task}"


def _data(connection: Connection, task: str, name: str, position: int) -> dict[str, Any]:
    experiment = connection.execute(
        text("SELECT id, fingerprint FROM shared_experiment WHERE dataset = :task AND name = :name"),
        {"task": task, "name": name},
    ).first()
    batch = connection.execute(text("SELECT id FROM batch WHERE name = :name"), {"name": BATCH}).scalar_one()
    return {
        "path": _path(task, name), "dataset": task, "name": name,
        "directory": _path(task, name).replace(BATCH, "_shared"),
        "shared_experiment_id": None if experiment is None else experiment.id,
        "batch_id": None if experiment is None else batch,
        "fingerprint": None if experiment is None else experiment.fingerprint,
        "train_digest": hashlib.sha256(f"{task} {name}".encode()).hexdigest(), "eval_digest": _EVAL_DIGESTS[task],
        "n_records": 400, "first_record": 300 * position, "n_train": 300, "warning": None,
    }  # fmt: skip


def _work(database: Database, run_id: int, run: Trained) -> None:
    if run.status == training.PENDING:
        return
    claimed = training.claim(
        database, run_id, GONE, {"device": "cpu", "threads": 1, "versions": '{"synthtrack": "0"}', "environment": "{}"}
    )
    assert not isinstance(claimed, Busy)
    complete = run.status == training.COMPLETE
    n_steps = 1000 if complete else 412
    training.beat(
        database, run_id, GONE, training.Measured(list(_metrics(run, n_steps)), {"step": n_steps, "train_loss": 0.61})
    )
    if run.status == training.RUNNING:
        return
    directory = database.workspace.root / claimed["directory"]
    directory.mkdir(parents=True)
    name = _rate(claimed["learning_rate"])
    for file in ("experiment_config.yaml", f"{name}_train.out", f"{name}_train.err"):
        (directory / file).write_text("", encoding="utf-8")
    columns: dict[str, Any] = {"duration_s": 61.5 if complete else 25.0, "peak_memory_bytes": 5_000_000_000}
    if complete:
        (directory / "metrics.json").write_text("{}\n", encoding="utf-8")
        rows = answers(run)
        training.save_predictions(database, run_id, "trained", rows)
        training.save_predictions(
            database, run_id, "zero_shot", answers(Trained(task=run.task, n_correct=N_EVAL[run.task] * 6 // 10))
        )
        columns |= _measured(run, rows)
    training.end_run(database, run_id, run.status, columns, error=run.error)


def _metrics(run: Trained, n_steps: int) -> Iterable[tuple[str, int, float]]:
    for step in (each for each in _STEPS if each <= n_steps):
        yield from (("dev/loss", step, 0.7 - step / 10_000), ("dev/accuracy", step, 0.6 + step / 10_000))
        if step:
            yield from (
                ("train/loss", step, 0.71 - step / 10_000),
                ("train/learning_rate", step, run.hyperparameters["learning_rate"]),
                ("train/step_time_s", step, 0.06),
                ("train/tokens_per_s", step, 8000.0),
                ("memory/peak_bytes", step, 5e9),
            )


def _measured(run: Trained, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    n_correct = sum(row["correct"] for row in rows)
    low, high = wilson(n_correct, len(rows))
    labels, predicted = ([row[name] for row in rows] for name in ("label", "predicted"))
    return {
        "n_correct": n_correct, "accuracy": n_correct / len(rows), "accuracy_low": low, "accuracy_high": high,
        "macro_f1": macro_f1(labels, predicted, len(CLASSES[run.task])) if run.task in CLASSES else None,
        "eval_loss": 0.62, "dev_loss": 0.6, "dev_accuracy": 0.7, "best_step": 1000, "n_truncated": 0,
        "n_trainable": 1_235_814_400, "zero_shot_accuracy": N_EVAL[run.task] * 6 // 10 / len(rows),
        "zero_shot_key": hashlib.md5(f"{run.model} {run.task}".encode()).hexdigest(), "step_time_s": 0.06,
        "tokens_per_s": 8000.0,
    }  # fmt: skip


def _new_directory(connection: Connection, parent: str, position: int) -> str:
    taken = connection.execute(
        text("SELECT COUNT(*) FROM training_run WHERE directory LIKE :parent"), {"parent": f"{parent}/%"}
    ).scalar_one()
    moment = _START + timedelta(minutes=10 * position, days=taken)
    return f"{parent}/{moment:%Y%m%d_%H%M%S}"


def _fix(connection: Connection, table: str, kind: str, ids: Iterable[int]) -> None:
    """Fixed uuids and times, a minute from one to the next, so that what is shown can be compared as text."""
    rows = {"training_sweep": training.SWEEP, "training_run": training.RUN}[table]
    for row_id in ids:
        began = _START + timedelta(minutes=row_id)
        values: dict[str, Any] = {"uuid": fixed_uuid(kind, row_id), "started_at": to_text(began)}
        if kind == "run":
            values["created_at"] = to_text(began)
        found = connection.execute(rows.select().where(rows.c.id == row_id)).mappings().one()
        if found["finished_at"] is not None:
            values["finished_at"] = to_text(began + timedelta(seconds=found.get("duration_s") or 60))
        if found["started_at"] is None:
            values.pop("started_at")
        connection.execute(update(rows).where(rows.c.id == row_id).values(**values))


def _rate(learning_rate: float) -> str:
    mantissa, _, exponent = f"{learning_rate:.0e}".partition("e")
    return f"{mantissa}_{-int(exponent)}"
