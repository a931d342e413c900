"""A small first-order run, for tests in this process and, as ``python -m``, in processes that are killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from pipeline.training import first_order
from pipeline.training.models import quiet, with_lora
from pipeline.training.setup import Setup
from tests.pipeline.training import zo_run
from tests.pipeline.training.tiny import model
from tests.pipeline.training.zo_run import Told, Watch, weights


def setup(checkpoint: Path, monitor: Watch, **given: Any) -> Setup:
    """A run on three records of CB, two a step; what is ``given`` are fields of Setup, or hyperparameters."""
    defaults: dict[str, Any] = {"method": "fo_full", "learning_rate": 1e-2, "weight_decay": 0.1, "steps": 12}
    given = defaults | given
    if given["method"] == "fo_lora" and "model" not in given:
        given["model"] = with_lora(model("llama"), rank=given.setdefault("lora_rank", 2), alpha=8.0, seed=3)
    return zo_run.setup(checkpoint, monitor, **given)


def killed(checkpoint: Path, after: int | None, **given: Any) -> str:
    """The last line that a run in a process of its own says; ``after`` that many lines it is killed with SIGKILL.

    The process is forked from this one, which must not have computed anything yet: importing takes seconds.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        run = setup(checkpoint, Told(), **given)
        outcome = first_order.train(run)
        sys.stdout.write(f"{outcome} {weights(run.model)}\n")
        sys.stdout.flush()
        os._exit(0)
    os.close(write)
    line = ""
    with os.fdopen(read) as said:
        for count, line in enumerate(said, 1):  # noqa: B007  the last one is wanted
            if count == after:
                os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (0 if after is None else -signal.SIGKILL)
    return line


def main() -> None:
    """Of each method how an undisturbed run ended, and how one did that was killed again and again."""
    torch.set_num_threads(1)
    quiet()
    place, kills = Path(sys.argv[1]), json.loads(sys.argv[2])
    for method, after in kills.items():
        given = {"method": method, "steps": 30}
        sys.stdout.write(killed(place / method / "alone", None, **given))
        for count in after:
            killed(place / method / "killed", count, **given)
        sys.stdout.write(killed(place / method / "killed", None, **given))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
