from __future__ import annotations

from typing import Any

from pipeline.training.news import news


def run(run_id: int, status: str, **columns: Any) -> dict[str, Any]:
    return {
        "id": run_id, "status": status, "learning_rate": 1e-6, "seed": run_id, "step": 40, "steps": 1000,
        "device": "cuda:1", "directory": "Results_v2/d", "n_resumed": 0, "accuracy": None, "best_step": None,
        "error": None, **columns,
    }  # fmt: skip


def test_at_first_only_what_runs_is_said() -> None:
    first = [run(0, "complete"), run(1, "running"), run(2, "pending"), run(3, "stopped")]
    assert list(news(None, first)) == ["🔧 lr 1e-06, seed 1: training on cuda:1 (Results_v2/d)"]


def test_each_change_is_said_once() -> None:
    before = [run(0, "running"), run(1, "running"), run(2, "running"), run(3, "stopped"), run(4, "running")]
    now = [
        run(0, "complete", accuracy=0.762),
        run(1, "failed", error="Traceback (most recent call last):\n  ...\nLoss is not finite.\n"),
        run(2, "interrupted"),
        run(3, "running", n_resumed=1),
        run(4, "running", step=41),
    ]
    assert list(news(before, now)) == [
        "✅ lr 1e-06, seed 0: complete, accuracy 76.2%",
        "⚠️  lr 1e-06, seed 1: failed at step 40 of 1,000: Loss is not finite.",
        "⚠️  lr 1e-06, seed 2: interrupted at step 40 of 1,000",
        "🔧 lr 1e-06, seed 3: training on cuda:1, goes on from about step 40 of 1,000 (Results_v2/d)",
    ]
    assert list(news(now, now)) == []


def test_a_new_attempt_is_a_run_of_its_own() -> None:
    assert list(news([run(0, "failed")], [run(7, "pending")])) == []
    assert list(news([run(0, "failed")], [run(7, "running")])) != []


def test_a_training_that_led_nowhere_is_no_success() -> None:
    [said] = news([run(0, "running")], [run(0, "complete", accuracy=0.5, best_step=0)])
    assert said.endswith("accuracy 50.0%, which is the untrained model's: no step lowered the loss on dev")
    [said] = news([run(0, "running")], [run(0, "complete", accuracy=0.5, best_step=4)])
    assert said.endswith("accuracy 50.0%")
