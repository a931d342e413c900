"""Trains and measures a run that this process has claimed, and writes its files and what it found."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from pipeline.training import data as training_data
from pipeline.training import models, places, results, scratch
from pipeline.training.encoding import Encoded, encode
from pipeline.training.evaluate import Evaluation, evaluate
from pipeline.training.material import Material, material
from pipeline.training.memory import estimate_memory, require_memory
from pipeline.training.plan import locate_model, recorded_config, training_identity
from pipeline.training.record_monitor import RecordMonitor, patiently
from pipeline.training.setup import Outcome, Setup
from pipeline.training.specs import DataSpec, TrainingConfig
from pipeline.training.tasks import TASKS, Question
from pipeline.training.tree import default_token_budget, layout_for
from tracker import clock, statistics
from tracker.errors import Corrupt, DataError, Problem, Unsupported
from tracker.fingerprint import content_key
from tracker.paths import Workspace
from tracker.record import training
from tracker.record.catalogue import reading
from tracker.record.columns import to_json
from tracker.record.database import Database

_SHOWN = 10


@dataclass
class Work:
    """A claimed run and everything around it."""

    workspace: Workspace
    database: Database
    row: training.Row
    config: TrainingConfig
    directory: Path
    device: str
    monitor: RecordMonitor

    @property
    def id(self) -> int:
        return int(self.row["id"])


def train_and_measure(work: Work) -> dict[str, Any]:
    """Trains and measures; the columns that the run ends with."""
    config, given = work.config, work.config.hyperparameters
    _check_device(work)
    _write_config(work)
    location = locate_model(work.workspace, config.model)
    info = models.describe(location, environ=os.environ)
    questions = _material(work, info)
    budget = default_token_budget(work.device)
    _check_memory(work, info, budget)
    loaded = models.load(location, device=work.device, precision=config.precision, seed=given.seed, environ=os.environ)
    model = loaded.model
    if given.lora_rank is not None and config.method != "fo_full":
        model = models.with_lora(model, rank=given.lora_rank, alpha=given.lora_alpha, seed=given.seed)
    longest = min(given.max_length, loaded.context or given.max_length)
    encoded = {
        name: _encoded(getattr(questions, name), loaded, longest, f"{name} record")
        for name in ("train", "dev", "evaluation")
    }
    n_truncated = sum(each.truncated for records in encoded.values() for each in records)
    if n_truncated:
        work.monitor.say(f"{n_truncated} records are longer than {longest} tokens: their prompts lost their left part")
    sizes = {
        "n_truncated": n_truncated, "n_parameters": sum(each.numel() for each in model.parameters()),
        "n_trainable": sum(each.numel() for each in model.parameters() if each.requires_grad),
    }  # fmt: skip
    _note(work, sizes)
    layout = layout_for(model, [each for records in encoded.values() for each in records])
    setup = Setup(
        model=model, train=encoded["train"], dev=encoded["dev"], method=config.method, hyperparameters=given,
        classification=bool(config.train_as_classification), layout=layout,
        token_budget=budget, device=work.device, precision=config.precision,
        checkpoint=work.directory / places.CHECKPOINT, monitor=work.monitor, zo_memory=config.zo_memory,
        gradient_checkpointing=config.gradient_checkpointing,
    )  # fmt: skip
    before = _zero_shot(work, setup, questions, encoded["evaluation"])
    outcome = _loop(config.method)(setup)
    measured = _measure(work, setup, questions, encoded["evaluation"], outcome)
    if config.save_model:
        results.write_model(work.directory, model, loaded.tokenizer, base=config.model)
    columns = sizes | before | measured
    about = {
        name: work.row[name] for name in ("fingerprint", "attempt", "n_train", "n_dev", "n_eval", "majority_accuracy")
    }
    results.write_metrics(work.directory, about | {name: value for name, value in columns.items() if value is not None})
    return columns


def _check_device(work: Work) -> None:
    if work.device == "cuda" and not torch.cuda.is_available():
        raise Unsupported(
            f"The device {work.row['device']} cannot be used: torch sees no GPU here.",
            hint="Set cuda_devices: cpu, or look at nvidia-smi and at how torch was installed.",
        )


def _check_memory(work: Work, info: models.ModelInfo, tokens: int) -> None:
    config, given = work.config, work.config.hyperparameters
    needed = estimate_memory(
        info, method=config.method, precision=config.precision, tokens=tokens, lora_rank=given.lora_rank,
        zo_memory=config.zo_memory, directions=given.zo_directions,
        gradient_checkpointing=config.gradient_checkpointing,
    )  # fmt: skip
    require_memory(needed, device=work.device, method=config.method)


def _loop(method: str) -> Callable[[Setup], Outcome]:
    # transformers' Trainer takes seconds to import, and zo does without it.
    if method == "zo":
        from pipeline.training import zo_loop

        return zo_loop.train
    from pipeline.training import first_order

    return first_order.train


def _material(work: Work, info: models.ModelInfo) -> Material:
    """The questions of the run. Raises Corrupt where they are not those that it was registered with."""
    config, task = work.config, TASKS[work.config.task]
    with reading(work.workspace) as reader:
        rows = reader.rows("SELECT * FROM training_data WHERE training_run_id = :id ORDER BY position", id=work.id)
        paths = tuple(str(work.workspace.root / row["directory"]) for row in rows)
        data = training_data.resolve(work.workspace, reader, DataSpec(paths=paths), task, "data")
    for row, found in zip(rows, data, strict=True):
        if (found.train_digest, found.eval_digest) != (row["train_digest"], row["eval_digest"]):
            raise _changed(f"{row['directory']} was changed since this run was registered.")
    # As the record knew the data when the run was registered: it may have learned since whose it is.
    known = [
        dataclasses.replace(found, experiment=row["fingerprint"] and {"fingerprint": row["fingerprint"]})
        for row, found in zip(rows, data, strict=True)
    ]
    questions = material(data, task, config)
    if training_identity(config, data=known, questions=questions, model=info.identity).digest != work.row["digest"]:
        raise _changed("The model, the task's prompts or synthtrack itself changed since this run was registered.")
    return questions


def _changed(what: str) -> Corrupt:
    return Corrupt(what, hint="`synthtrack verify` checks the data; `synthtrack train` on the config begins a new run.")


def _encoded(questions: Sequence[Question], loaded: models.Loaded, longest: int, what: str) -> list[Encoded]:
    found, problems = [], []
    for at, question in enumerate(questions):
        try:
            found.append(encode(question, loaded.tokenize, max_length=longest, eos=loaded.eos))
        except ValueError as error:
            problems.append(Problem(f"{what} {at + 1}", str(error)))
    if problems:
        hint = "Raise max_length, if the model's context allows it, or leave these records out."
        more = len(problems) - _SHOWN
        shown = [*problems[:_SHOWN], *([Problem(f"{what}s", f"and {more} more")] if more > 0 else [])]
        raise DataError("Records do not fit into the model.", shown, hint=hint)
    return found


def _evaluated(work: Work, setup: Setup, questions: Material, encoded: Sequence[Encoded]) -> Evaluation:
    with setup.autocast():
        return evaluate(
            setup.model, encoded, questions.eval_indices, classification=setup.classification,
            token_budget=setup.token_budget, layout=setup.layout, stopping=work.monitor.stopping,
        )  # fmt: skip


def _zero_shot(work: Work, setup: Setup, questions: Material, encoded: Sequence[Encoded]) -> dict[str, Any]:
    """The accuracy of the model as it was loaded: measured once for all runs that share it."""
    config = work.config
    identity = json.loads(work.row["identity"])["identity"]
    made = config.hyperparameters.seed if config.model.startswith(scratch.PREFIX) else None
    key = content_key(
        [identity["model"], made, questions.evaluation_digest(), config.hyperparameters.max_length, config.precision]
    )
    known = training.zero_shot(work.database, key)
    if known is None:
        found = _evaluated(work, setup, questions, encoded)
        _save_predictions(work, "zero_shot", found)
        known = found.accuracy
    columns = {"zero_shot_key": key, "zero_shot_accuracy": known}
    _note(work, columns)
    work.monitor.say(f"zero-shot accuracy {known:.4f}, majority class {questions.majority_accuracy():.4f}")
    return columns


def _measure(
    work: Work, setup: Setup, questions: Material, encoded: Sequence[Encoded], outcome: Outcome
) -> dict[str, Any]:
    """Measures the best checkpoint and writes the result files; the columns that say so."""
    task = TASKS[work.config.task]
    found = _evaluated(work, setup, questions, encoded)
    low, high = statistics.wilson(found.n_correct, found.n)
    labels = [each.label for each in found.predictions]
    predicted = [each.predicted for each in found.predictions]
    columns: dict[str, Any] = {
        "step": outcome.steps, "train_loss": outcome.train_loss, "best_step": outcome.best_step,
        "dev_loss": outcome.best_dev_loss, "eval_loss": found.loss, "accuracy": found.accuracy, "accuracy_low": low,
        "accuracy_high": high, "n_correct": found.n_correct,
        "macro_f1": statistics.macro_f1(labels, predicted, len(task.classes or ())) if task.macro_f1 else None,
        "dev_accuracy": _dev_accuracy(work, outcome.best_step), **(work.monitor.speed() or _earlier_speed(work)),
    }  # fmt: skip
    _save_predictions(work, "trained", found)
    results.write_predictions(work.directory, found.predictions)
    work.monitor.say(
        f"accuracy {found.accuracy:.4f} (95% interval {low:.4f} to {high:.4f}) at step {outcome.best_step}"
    )
    return columns


def _dev_accuracy(work: Work, step: int) -> float | None:
    work.monitor.flush()
    with reading(work.workspace) as reader:
        rows = reader.rows(
            "SELECT value FROM training_metric WHERE training_run_id = :id AND name = 'dev/accuracy' AND step = :step",
            id=work.id,
            step=step,
        )
    return rows[0]["value"] if rows else None


def _earlier_speed(work: Work) -> dict[str, float]:
    """The speed that an earlier process of the run recorded, where this one had no step left to take."""
    sql = "SELECT value FROM training_metric WHERE training_run_id = :id AND name = :name"
    with reading(work.workspace) as reader:
        found = {
            name: [row["value"] for row in reader.rows(sql, id=work.id, name=f"train/{name}")]
            for name in ("step_time_s", "tokens_per_s")
        }
    return {name: median(values) for name, values in found.items() if values}


def _note(work: Work, columns: Mapping[str, Any]) -> None:
    measured = training.Measured(columns=dict(columns))
    patiently(lambda: training.beat(work.database, work.id, clock.this_process(), measured))


def _save_predictions(work: Work, stage: str, found: Evaluation) -> None:
    rows = [
        {
            "position": each.index, "label": each.label, "predicted": each.predicted,
            "correct": each.label == each.predicted, "scores": to_json([round(s, 6) for s in each.scores]),
        }
        for each in found.predictions
    ]  # fmt: skip
    patiently(lambda: training.save_predictions(work.database, work.id, stage, rows))


def _write_config(work: Work) -> None:
    """``experiment_config.yaml`` with the keys that people know, and all that is needed to say what this was."""
    row, config = work.row, work.config
    out, err = places.output_files(work.directory, config.hyperparameters.learning_rate)
    with reading(work.workspace) as reader:
        data = reader.rows(
            """SELECT path, directory, dataset, name, fingerprint, train_digest, eval_digest, n_records, n_train
               FROM training_data WHERE training_run_id = :id ORDER BY position""",
            id=work.id,
        )
    given = recorded_config(config)
    results.write_config(
        work.directory,
        {
            "timestamp": work.directory.name, "experiment_purpose": row["purpose"], "description": row["description"],
            "model": row["model"], "task": row["task"], "method": row["method"],
            "data": {"path": data[0]["path"], "fingerprint": data[0]["fingerprint"], "sources": data},
            "hyperparameters": given["hyperparameters"],
            **{name: value for name, value in given.items()
               if name not in {"experiment", "model", "task", "method", "data", "hyperparameters"}},
            "training_info": {
                "fingerprint": row["fingerprint"], "attempt": row["attempt"], "run": row["uuid"],
                "command": row["command"], "out_file": work.workspace.relative(out),
                "err_file": work.workspace.relative(err), "device": row["device"], "threads": row["threads"],
                "env_vars": json.loads(row["environment"]), "versions": json.loads(row["versions"]),
            },
        },
    )  # fmt: skip
