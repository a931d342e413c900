"""What can learn does learn: by every method the tiny model answers the COPA records that it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.training import first_order, models, zo_loop
from pipeline.training.encoding import encode
from pipeline.training.setup import Setup
from pipeline.training.specs import Hyperparameters
from pipeline.training.tasks import TASKS
from tests.pipeline.training.zo_run import Watch

COPA = Path(__file__).parents[1] / "configs/sample/Copa/copa_train.jsonl"


@pytest.mark.parametrize(
    ("method", "classification", "n", "given"),
    [
        ("fo_full", True, 32, {"learning_rate": 3e-3, "steps": 10}),
        ("fo_full", False, 32, {"learning_rate": 3e-3, "steps": 40}),
        ("fo_lora", True, 32, {"learning_rate": 1e-2, "steps": 15, "lora_rank": 8}),
        ("fo_lora", False, 32, {"learning_rate": 1e-2, "steps": 60, "lora_rank": 16}),
        ("zo", True, 16, {"learning_rate": 3e-3, "steps": 120, "eval_steps": 40}),
    ],
)
def test_it_answers_what_it_was_trained_on(
    tmp_path: Path, method: str, classification: bool, n: int, given: dict[str, Any]
) -> None:
    loaded = models.load("scratch:llama-tiny", device="cpu", precision="fp32", seed=0, environ={})
    task, lines = TASKS["Copa"], COPA.read_text().splitlines()[:n]
    questions = [task.question(json.loads(line), "llama") for line in lines]
    records = [encode(each, loaded.tokenize, max_length=512, eos=loaded.eos) for each in questions]
    hyperparameters = Hyperparameters(batch_size=n, **given)
    model = loaded.model
    if hyperparameters.lora_rank is not None:
        model = models.with_lora(model, rank=hyperparameters.lora_rank, alpha=hyperparameters.lora_alpha, seed=0)
    watch = Watch()
    setup = Setup(
        model=model, train=records, dev=records, method=method, hyperparameters=hyperparameters,
        classification=classification, layout="tree", token_budget=512, device="cpu", precision="fp32",
        checkpoint=tmp_path, monitor=watch,
    )  # fmt: skip
    outcome = (zo_loop if method == "zo" else first_order).train(setup)
    correct = {step: evaluation.n_correct for step, evaluation in watch.evaluations}
    assert correct[0] < n * 3 // 4
    assert correct[outcome.best_step] == n
