"""What to type next to get an experiment done."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tracker.record.catalogue import Row

if TYPE_CHECKING:
    from pipeline.two_stage import State

_OF_PEOPLE = {"review": "review", "annotate": "annotate", "judge_test": "judge-test"}
"""The steps that have commands of their own; of these `generate` takes the judge test too."""


def generate_command(row: Row, runs: Sequence[Row]) -> str | None:
    """What makes or finishes an experiment's data: its last run's config again, in the same batch; None: complete."""
    if row["status"] == "complete":
        return None
    last = next((run for run in reversed(runs) if run["outcome"] != "tested"), None)
    words = ["synthtrack", "generate", _config(runs)]
    if last is not None:
        words += ["--batch", last["batch"], *_overrides(last["command"])]
    if row["record_limit"] is not None:
        words += ["--limit", str(row["record_limit"])]
    if last is not None and "--accept-partial" in last["command"].split():
        words.append("--accept-partial")
    if row["draw"]:
        # An unfinished draw is what --fresh goes on with.
        words.append("--fresh")
    return shlex.join(words)


def next_command(state: State, runs: Sequence[Row]) -> str | None:
    """The command of a two_stage experiment's next step; None: complete."""
    step = state.step()
    if step not in _OF_PEOPLE:
        return generate_command(state.experiment, runs)
    words = ["synthtrack", _OF_PEOPLE[step], state.reference]
    if state.test() is not None and step == "judge_test":
        # This judge has failed. Which config gives another one is for a person to say; the last one gave this one.
        words += ["--config", "CONFIG"]
    return shlex.join(words)


def perspectives_command(row: Row, runs: Sequence[Row]) -> str | None:
    """What finishes an agent data set, or tries its failures again; None: complete, or made without a config file."""
    if row["status"] == "complete" or not runs or not runs[-1]["config_path"]:
        return None
    command = runs[-1]["command"]
    words = ["synthtrack", "perspectives", runs[-1]["config_path"], *_overrides(command)]
    words += ["--test"] if "--test" in command.split() else []
    # An unfinished draw is what --fresh goes on with.
    words += ["--fresh"] if row["draw"] and row["status"] == "unfinished" else []
    return shlex.join(words)


def _config(runs: Sequence[Row]) -> str:
    """The config that the experiment was last made with; a judge can be tested with another one."""
    paths = [run["config_path"] for run in runs if run["outcome"] != "tested" and run["config_path"]]
    return paths[-1] if paths else "CONFIG"


def _overrides(command: str) -> Iterator[str]:
    try:
        words = shlex.split(command)
    except ValueError:
        return
    for at, word in enumerate(words):
        if word == "--set" and at + 1 < len(words):
            yield from ("--set", words[at + 1])
        elif word.startswith("--set="):
            yield word
