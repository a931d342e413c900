"""A worker without a model: it claims its run and does what a file tells it.

``control/{run id}.do`` in the workspace, else ``control/all.do``, says complete, fail, exit or hang (deaf to being
asked); before there is one it makes steps. A step is a heartbeat; its checkpoint is its number. While there is
``control/hold`` it does not begin, with ``control/{run id}.unclaimed`` it breaks before that.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tracker import clock
from tracker.paths import find_workspace
from tracker.record import training
from tracker.record.database import open_database
from tracker.record.lease import Busy

COMMAND = (sys.executable, "-m", "tests.training_worker")
STEPS = 1000


def main() -> int:
    """The worker."""
    root, run_id = Path(sys.argv[2]), int(sys.argv[3])
    control = root / "control"
    (control / f"process.{os.getpid()}").touch()
    while (control / "hold").exists():
        time.sleep(0.01)
    if (control / f"{run_id}.unclaimed").exists():
        sys.exit("It broke before it began.")
    asked = threading.Event()
    with open_database(find_workspace(root)) as database:
        row = training.claim(database, run_id, clock.this_process(), {})
        if isinstance(row, Busy):
            return 5
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: asked.set())
        checkpoint = root / row["directory"] / "checkpoint.txt"
        step = int(checkpoint.read_text()) if checkpoint.exists() else 0
        lock = _take_device(control)
        _begin(control, run_id, step)
        sys.stdout.write(f"run {run_id} goes on from step {step}\n")
        while True:
            told = [each.read_text() for name in (run_id, "all") if (each := control / f"{name}.do").exists()]
            what = told[0] if told else "go on"
            if what == "complete":
                training.end_run(database, run_id, "complete", {"step": STEPS, "accuracy": 0.75})
                return 0
            if what == "fail":
                training.end_run(database, run_id, "failed", {"step": step}, error="Loss is not finite.")
                return 16
            if what == "exit":
                sys.exit("Something broke.\nNobody wrote it down.")
            step += what == "go on"
            measured = training.Measured([("dev/accuracy", step, 0.6)], {"step": step, "train_loss": 0.5})
            lost = training.beat(database, run_id, clock.this_process(), measured)
            if what != "hang" and (asked.is_set() or lost):
                checkpoint.write_text(str(step))
                training.end_run(database, run_id, "stopped", {"step": step})
                lock.close()
                return 130
            time.sleep(0.02)


def _take_device(control: Path) -> Any:
    lock = (control / f"device.{os.environ['CUDA_VISIBLE_DEVICES']}").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        (control / "overlap").touch()
    return lock


def _begin(control: Path, run_id: int, step: int) -> None:
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    seen = {name: os.environ[name] for name in names}
    own = {"pid": os.getpid(), "session": os.getsid(0), "cwd": str(Path.cwd()), "step": step, "stdin": sys.stdin.read()}
    with (control / f"{run_id}.began").open("a") as file:
        file.write(f"{json.dumps(seen | own)}\n")


if __name__ == "__main__":
    sys.exit(main())
