"""What a waiting `train` shows."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from cli.text.training_progress import training_progress
from pipeline.training.sweep import Progress
from tests.workspaces import environment


def run(run_id: int, status: str, step: int = 0, **columns: Any) -> dict[str, Any]:
    return {
        "id": run_id, "status": status, "learning_rate": 1e-6, "seed": run_id, "step": step, "steps": 1000,
        "device": "cuda:1", "directory": "Results_v2/d", "n_resumed": 0, "accuracy": None, "best_step": None,
        "error": None, "train_loss": None, "dev_accuracy": None, **columns,
    }  # fmt: skip


LOOKS = [
    ([run(0, "pending"), run(1, "pending")], 0),
    ([run(0, "running", 40), run(1, "pending")], 0),
    ([run(0, "running", 500, train_loss=0.61234, dev_accuracy=0.712), run(1, "pending")], 0),
    ([run(0, "complete", 1000, accuracy=0.76), run(1, "running", 250)], 0),
    ([run(0, "complete", 1000, accuracy=0.76), run(1, "running", 300)], 1),
    ([run(0, "complete", 1000, accuracy=0.76), run(1, "stopped", 310)], 1),
]
ENDS = ["✅ lr 1e-06, seed 0: complete, accuracy 76.0%", "💾 lr 1e-06, seed 1: stopped at step 310 of 1,000"]
HEARD = "Saving 1 checkpoint; Ctrl-C again stops at once."


def test_without_a_terminal_each_start_and_end_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with training_progress() as display:
        for runs, n_interrupts in LOOKS:
            display(Progress(runs, n_interrupts))
    shown = capsys.readouterr()
    begins = [f"🔧 lr 1e-06, seed {seed}: training on cuda:1 (Results_v2/d)" for seed in (0, 1)]
    assert shown.out == ""
    assert shown.err.splitlines() == [begins[0], ENDS[0], begins[1], HEARD, ENDS[1]]


def test_who_has_nothing_to_save_stops(capsys: pytest.CaptureFixture[str]) -> None:
    with training_progress() as display:
        display(Progress([run(0, "pending")], 1))
    assert capsys.readouterr().err == "Stopping; Ctrl-C again stops at once.\n"


SHOW = """
import json, sys
from cli.text.training_progress import training_progress
from pipeline.training.sweep import Progress
with training_progress() as display:
    for runs, n_interrupts in json.loads(sys.argv[1]):
        display(Progress(runs, n_interrupts))
        print("shown", flush=True)
        sys.stdin.readline()
print("done")
"""


def on_terminal() -> tuple[subprocess.Popen[str], int]:
    """A program that shows the looks on a terminal, one for each line of its input; the other end of that."""
    own, others = pty.openpty()
    termios.tcsetwinsize(own, (24, 200))
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW, json.dumps(LOOKS)],
        env=environment({"PYTHONPATH": str(Path(__file__).parents[3])}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=others,
        text=True,
    )
    os.close(others)
    return process, own


def test_on_a_terminal_there_is_a_bar_and_what_ended() -> None:
    process, own = on_terminal()
    out, _ = process.communicate("\n" * len(LOOKS), timeout=60)
    assert out == "shown\n" * len(LOOKS) + "done\n"
    shown = os.read(own, 65536).decode()
    os.close(own)
    drawn = [each.strip() for each in re.split(r"[\r\n]|\x1b\[A", shown)]
    bars = [each for each in drawn if "%|" in each]
    measured = "lr 1e-06, seed 0: 500/1,000, loss 0.6123, dev 71.2%]"
    assert any(bar.startswith("run 1 of 2:  25%|") and bar.endswith(measured) for bar in bars)
    assert any(re.match(r"run 2 of 2:  62%\|.*\| 1250/2000 ", bar) for bar in bars)
    assert [each for each in drawn if each and "%|" not in each] == [ENDS[0], HEARD, ENDS[1]]


def test_a_terminal_that_is_gone_stops_nothing() -> None:
    process, own = on_terminal()
    assert process.stdout is not None
    assert process.stdout.readline() == "shown\n"
    os.close(own)
    out, _ = process.communicate("\n" * len(LOOKS), timeout=60)
    assert (process.returncode, out) == (0, "shown\n" * (len(LOOKS) - 1) + "done\n")
