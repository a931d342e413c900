"""Small real trainings for tests: the tiny model on a few records, by workers here or in processes of their own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from pipeline.training import worker
from pipeline.training.plan import Options, prepare
from pipeline.training.train import register
from tests.workspaces import call, changed, environment, rows, write_config, write_lines
from tests.workspaces import config as generation_config
from tracker.clock import this_process
from tracker.paths import Workspace
from tracker.record import training
from tracker.record.database import open_database

ORIGINAL = "Data/original/Copa"
N_TRAIN, N_DEV = 24, 8
UNLABELLED = (3, 7)
"""Validation records without a label, of 14."""
PATIENCE_S = 120
_NOUNS = ("man", "child", "farmer", "driver", "singer", "nurse", "baker")
_CHOICES = (("slipped", "slept"), ("was late", "was early"), ("laughed out loud", "cried"))


def copa(count: int, *, first: int = 0) -> list[dict[str, Any]]:
    """COPA-like records of several lengths, two in three with label 0."""
    return [
        {
            "premise": f"The {_NOUNS[number % len(_NOUNS)]} in house {number:03} fell.",
            "choice1": f"He {_CHOICES[number % 3][0]}.",
            "choice2": f"He {_CHOICES[number % 3][1]}.",
            "question": ("cause", "effect")[number % 2],
            "idx": number,
            "label": int(number % 3 == 0),
        }
        for number in range(first, first + count)
    ]


def validation() -> list[dict[str, Any]]:
    """14 records, 12 of them with a label."""
    found = copa(14, first=100)
    return [record | ({"label": -1} if at in UNLABELLED else {}) for at, record in enumerate(found)]


def write_data(directory: Path, train: Sequence[Mapping[str, Any]] | None = None) -> Path:
    """A data set of three splits in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    splits = {"train": train or copa(N_TRAIN + N_DEV), "validation": validation(), "test": copa(1, first=200)}
    for name, records in splits.items():
        write_lines(directory / f"copa_{name}.jsonl", records)
    return directory


def new_root(root: Path) -> Path:
    """A workspace with original data alone."""
    write_data(root / ORIGINAL)
    return root


def generate(root: Path, temperature: float) -> str:
    """Rephrases the original data offline; the path of what was made."""
    document = generation_config(generation__temperature=temperature)
    write_config(root, document, "generate.yaml")
    done = call(root, "generate", "generate.yaml", "--no-mlflow")
    assert done.code == 0, done.err
    name = f"temp{10 * temperature:02.0f}_topp10_rulesv1"
    (made,) = root.glob(f"Data_v2/synthetic/[!_]*/Copa/{name}")
    return str(made.relative_to(root))


def config(**changes: Any) -> dict[str, Any]:
    """A training config; ``hyperparameters__seed=[0, 1]`` changes one setting, None takes it away."""
    document: dict[str, Any] = {
        "experiment": {"purpose": "tuning"},
        "model": "scratch:llama-tiny",
        "task": "Copa",
        "method": "zo",
        "data": {"path": ORIGINAL},
        "hyperparameters": {"learning_rate": 1e-3, "batch_size": 5, "steps": 6, "eval_steps": 2, "seed": 0},
        "num_dev": N_DEV,
        "cuda_devices": "cpu",
    }
    return changed(document, changes)


@dataclass(frozen=True)
class Left:
    """What a worker in this process left."""

    code: int
    out: str
    err: str


def registered(root: Path, **changes: Any) -> list[int]:
    """The runs of a new sweep of that config, to be trained by ``work``."""
    path = write_config(root, config(**changes), "here.yaml")
    workspace = Workspace(root, environ=environment())
    plan = prepare(workspace, path, Options(fresh=True))
    with open_database(workspace) as database:
        sweep_id = register(workspace, database, plan, ("cpu",))
        training.hand_over(database, sweep_id, this_process())
    found = rows(root, "SELECT id FROM training_run WHERE training_sweep_id = ? ORDER BY position", sweep_id)
    return [run_id for (run_id,) in found]


def work(root: Path, run_id: int, *, environ: Mapping[str, str | None] | None = None) -> Left:
    """The worker's whole program in this process: what a process of its own takes seconds to begin."""
    out, err = io.StringIO(), io.StringIO()
    own = environment({"OMP_NUM_THREADS": "1", **(environ or {})})
    with (
        _surroundings(),
        mock.patch.dict(os.environ, own, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["worker", "--root", str(root), str(run_id)]),
    ):
        code = worker.main()
    return Left(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def trained(root: Path, *, environ: Mapping[str, str | None] | None = None, **changes: Any) -> list[int]:
    """Trains every point of that config here; the ids of the runs."""
    found = registered(root, **changes)
    for run_id in found:
        left = work(root, run_id, environ=environ)
        assert left.code == 0, left
    return found


def run(root: Path, run_id: int) -> dict[str, Any]:
    """The row of a run."""
    names = [name for _, name, *_ in rows(root, "PRAGMA table_info(training_run)")]
    return dict(zip(names, rows(root, "SELECT * FROM training_run WHERE id = ?", run_id)[0], strict=True))


def curve(root: Path, run_id: int, name: str) -> dict[int, float]:
    """A metric by step."""
    sql = "SELECT step, value FROM training_metric WHERE training_run_id = ? AND name = ? ORDER BY step"
    return dict(rows(root, sql, run_id, name))


def directory(root: Path, run_id: int) -> Path:
    return root / str(run(root, run_id)["directory"])


def model_digest(root: Path, run_id: int) -> str:
    """SHA-256 of the weights that a run left."""
    (path,) = (directory(root, run_id) / "model").glob("*.safetensors")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def n_logged(root: Path, run_id: int) -> int:
    """How many steps of a zo run are on the disk: what follows the header, 16 bytes for each."""
    path = directory(root, run_id) / "checkpoint" / "steps-000000000.log"
    content = path.read_bytes() if path.exists() else b""
    header = 16 + int.from_bytes(content[8:12], "little")
    return max(0, len(content) - header) // 16


def n_saved(root: Path, run_id: int) -> int:
    """The step of the newest checkpoint of a first-order run."""
    found = (directory(root, run_id) / "checkpoint").glob("checkpoint-*/complete.json")
    return max((int(path.parent.name.rpartition("-")[2]) for path in found), default=0)


def predictions(root: Path, run_id: int, stage: str) -> list[dict[str, Any]]:
    """What a run answered, by the position of the record."""
    names = ("position", "label", "predicted", "correct", "scores")
    sql = f"SELECT {', '.join(names)} FROM prediction WHERE training_run_id = ? AND stage = ? ORDER BY position"
    found = [dict(zip(names, row, strict=True)) for row in rows(root, sql, run_id, stage)]
    return [row | {"scores": json.loads(row["scores"])} for row in found]


def texts(record: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What a model is asked about a COPA record: the prompt, and the prompt with each choice."""
    prompt = record["premise"].removesuffix(".") + {"cause": " because", "effect": " so"}[record["question"]]
    choices = [str(record[name]) for name in ("choice1", "choice2")]
    return prompt, [f"{prompt} {choice[0].lower()}{choice[1:]}" for choice in choices]


def plain_scores(model: Any, tokenizer: Any, record: Mapping[str, Any]) -> list[float]:
    """The mean log-probability of each choice's tokens: one forward for each, as one would write it down."""
    prompt, whole = texts(record)
    begin = len(tokenizer(prompt)["input_ids"])
    found = []
    for text in whole:
        ids = torch.tensor(tokenizer(text)["input_ids"])
        with torch.no_grad():
            logits = model(ids[None]).logits[0]
        chosen = logits.log_softmax(-1)[begin - 1 : -1].gather(1, ids[begin:, None])
        found.append(float(chosen.mean()))
    return found


def until(condition: Callable[[], object]) -> None:
    """Waits for something that another process does."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
