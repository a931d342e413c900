"""Figures out of logs in the dialects that older trainings wrote, with what is known of each."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.importing.logs import lines_of, read_log

ARGUMENTS = "OurArguments(\n_n_gpu=1,\nlogging_steps=10,\nmax_steps=40,\nper_device_train_batch_size=16,\nseed=42,\n)\n"
TRAINER = """{'loss': 0.6931, 'learning_rate': 1e-06, 'epoch': 0.5}
{'eval_loss': 0.66, 'eval_accuracy': 0.7, 'eval_runtime': 1.2, 'epoch': 0.5}
{'loss': '0.61', 'grad_norm': '1.5', 'learning_rate': '1e-06', 'epoch': '1.0'}
{'train_runtime': 812.5, 'train_samples_per_second': 0.7, 'train_loss': 0.63, 'epoch': 2.0}
"""
MEZO = """INFO:__main__:There are 0 training samples and 100 validation samples
100%|##########| 100/100 [00:01<00:00, 1it/s]
INFO:__main__:There are 0 training samples and 50 validation samples
2024-12-29 12:00:00,123 - INFO - {'accuracy': 0.77, 'dev_accuracy': 0.74}
"""
TRACEBACK = """Traceback (most recent call last):
  File "run.py", line 530, in <module>
    main()
FileNotFoundError: [Errno 2] No such file or directory: 'result/x.json'
"""


def test_the_reference_code_and_the_trainer_together() -> None:
    found = read_log(ARGUMENTS + TRAINER, MEZO + TRACEBACK)
    assert (found.accuracy, found.dev_accuracy, found.n_eval, found.n_dev) == (0.77, 0.74, 100, 50)
    assert found.counts == {"logging_steps": 10, "steps": 40, "batch_size": 16, "seed": 42}
    assert (found.train_loss, found.duration_s) == (0.61, 812.5)
    assert found.metrics == {
        ("train/loss", 10): 0.6931, ("train/learning_rate", 10): 1e-6, ("dev/loss", 10): 0.66,
        ("dev/accuracy", 10): 0.7,
        ("train/loss", 20): 0.61, ("train/grad_norm", 20): 1.5, ("train/learning_rate", 20): 1e-6,
    }  # fmt: skip
    assert found.error is not None
    assert found.error.endswith("No such file or directory: 'result/x.json'")
    assert str(found.last_time) == "2024-12-29 12:00:00"


@pytest.mark.parametrize(
    ("text", "accuracy"),
    [
        ("{'accuracy': 0.77}", 0.77),
        ("{'accuracy': np.float64(0.77)}", 0.77),
        ('{"accuracy": 77.0}', 0.77),
        ("{'eval_accuracy': 0.77, 'eval_loss': 0.5, 'epoch': 3.0}", 0.77),
        ("Acc=85.2%", 0.852),
        ("Test accuracy: 76.0", 0.76),
        ("2025-01-01 10:00:00 INFO [run.py:12] final_accuracy = 0.5", 0.5),
        ("Evaluation accuracy is 62.5 %.", 0.625),
        ("accuracy: 0.5\naccuracy: 0.6", 0.6),
        ("accuracy: 1.0", 1.0),
        ("100%|##########| 100/100 [00:01<00:00, 1it/s]Accuracy: 50%", 0.5),
        ("accuracy: 1\naccuracy: 76.0", 0.76),
        ("best dev acc: 0.9", None),
        ("train accuracy: 0.99", None),
        ("val_accuracy: 0.7", None),
        ("{'accuracy': nan}", None),
        ("accuracy: 140", None),
        ("accuracy: -0.2", None),
        ("the accuracy was good", None),
        ("", None),
    ],
)
def test_a_final_accuracy(text: str, accuracy: float | None) -> None:
    found = read_log(text)
    assert found.accuracy == (None if accuracy is None else pytest.approx(accuracy))
    assert found.measured == (accuracy is not None)


def test_an_accuracy_that_training_follows_is_not_the_result() -> None:
    found = read_log(
        "{'accuracy': 0.6}\n{'loss': 0.7, 'step': 10}\n{'accuracy': 0.7, 'step': 10}\n{'loss': 0.6, 'step': 20}\n"
    )
    assert found.accuracy is None
    assert found.metrics == {("train/loss", 10): 0.7, ("eval/accuracy", 10): 0.7, ("train/loss", 20): 0.6}


def test_epochs_are_steps_where_it_is_known_how_many() -> None:
    steps = "  Total optimization steps = 1,000\n"
    found = read_log(f"{steps}{{'loss': 0.5, 'epoch': 1.0}}\n{{'train_runtime': 5.0, 'epoch': 4.0}}\n")
    assert found.metrics == {("train/loss", 250): 0.5}
    unknown = read_log("{'loss': 0.5, 'epoch': 1.0}\n")
    assert (unknown.metrics, unknown.n_without_step, unknown.train_loss) == ({}, 1, 0.5)


def test_what_a_trainer_says_before_it_begins_places_its_epochs() -> None:
    found = read_log("""***** Running training *****
  Num examples = 1,000
  Total train batch size (w. parallel, distributed & accumulation) = 16
{'loss': 0.5, 'epoch': 1.0}
***** Running Evaluation *****
  Num examples = 50
{'dev_loss': 0.4, 'val_accuracy': 0.7, 'macro_f1': 0.65, 'epoch': 2.0}
***** Running prediction *****
  Num examples = 7
{'train_runtime': 60.0}
***** Running Evaluation *****
  Num examples = 100
{'val_accuracy': 0.8, 'accuracy': '.', 'f1_macro': 0.75}
""")
    assert (found.n_train, found.n_dev, found.dev_accuracy, found.accuracy) == (1000, 50, 0.7, 0.8)
    assert (found.macro_f1, found.duration_s) == (0.75, 60.0)
    assert found.metrics == {("train/loss", 63): 0.5, ("dev/loss", 126): 0.4}


def test_a_progress_bar_says_how_far_it_came() -> None:
    found = read_log(
        "max_steps=200\n  1%|1 | 2/200 [00:01<01:00]\r 10%|# | 20/200 [00:10<01:00]\r  5%| | 5/100 [0:01<0:09]"
    )
    assert (found.step, found.accuracy, found.error) == (20, None, None)


@pytest.mark.parametrize(
    ("text", "error", "killed"),
    [
        (TRACEBACK, "FileNotFoundError: [Errno 2] No such file or directory: 'result/x.json'", None),
        (f"{TRACEBACK}wandb: waiting\nwandb: done\n", "FileNotFoundError: [Errno 2] No such file", None),
        (f"{TRACEBACK}{{'loss': 0.5}}\n", None, None),
        ("{'loss': 0.5}\nslurmstepd: error: *** JOB 1 CANCELLED DUE TO TIME LIMIT ***\n", None, "slurmstepd: error"),
        ("bash: mezo.sh: No such file or directory\n", "bash: mezo.sh", None),
        ("{'loss': 0.5}\n", None, None),
    ],
)
def test_how_a_log_ends(text: str, error: str | None, killed: str | None) -> None:
    found = read_log(text)
    assert (found.error is None) == (error is None)
    assert error is None or error in str(found.error)
    assert (found.killed or "").startswith(killed or "")


WORDS = st.sampled_from(
    [
        *("{'loss': 0.5, 'epoch': 1}", "{'accuracy': 0.7}", "Acc=85.2%", "Traceback (most recent call last):"),
        *("ValueError: x", "{'train_runtime': 3}", " 5%|x| 1/40 [", "max_steps=40", "{", "}", "'accuracy':", "1e400"),
        *("{'loss': inf}", "\x00"),
    ]
)


@given(st.lists(st.one_of(WORDS, st.text(max_size=40)), max_size=30))
@example(["{'accuracy': 1e400}"])
@example(["max_steps=" + "9" * 30, "{'loss': 1, 'step': 1e300}"])
def test_any_log_is_read_and_every_figure_is_one(pieces: list[str]) -> None:
    found = read_log("\n".join(pieces), "".join(pieces))
    for share in (found.accuracy, found.dev_accuracy, found.macro_f1):
        assert share is None or 0 <= share <= 1
    assert all(0 <= step < 2**31 and math.isfinite(value) for (_, step), value in found.metrics.items())


def test_lines_that_a_bar_wrote_over_are_lines() -> None:
    assert lines_of("a\rb\r\nc\n") == ["a", "b", "c", ""]
