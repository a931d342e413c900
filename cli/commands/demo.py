"""``synthtrack demo``: the main job from end to end, offline, explained on the way."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import click

from cli import render
from tracker.errors import Conflict, StorageError
from tracker.paths import current_directory

STUDY, TRAINING = "configs/stage1/copa_offline.yaml", "configs/stage2/copa_tiny.yaml"
FIRST, SECOND, WARMER = (f"Copa/temp{digits}_topp10_rulesv1" for digits in ("07", "07", "09"))

STEPS: Sequence[tuple[str, Sequence[str]]] = (
    (
        "A workspace is one directory with a database. `init` makes it, with example configs and a sample data set.",
        ["init"],
    ),
    (
        "Before anything is paid for: what would be done, what it would cost, what the model would be asked.",
        ["generate", STUDY, "--batch", "batch_first", "--dry-run"],
    ),
    (
        "Generate, with rules instead of an LLM (provider: offline): no key, no network. What the judge rejects stays.",
        ["generate", STUDY, "--batch", "batch_first"],
    ),
    (
        "The same settings again, for another batch: nothing is generated, the batch shares the data.",
        ["generate", STUDY, "--batch", "batch_second"],
    ),
    (
        "One setting changed: other data, and a directory of its own.",
        ["generate", STUDY, "--batch", "batch_second", "--set", "generation.temperature=0.9"],
    ),
    ("What there is, batch by batch; reuse is told.", ["batch", "show", "batch_second", "--verbose"]),
    ("What sets two experiments apart, and what that did.", ["experiment", "compare", FIRST, WARMER]),
    ("The paths to train on, ready for a training config.", ["path", "list", "--batch", "batch_second"]),
    (
        "From a path back to what it is, and to every batch that shares it.",
        ["path", "resolve", f"Data_v2/synthetic/_shared/{FIRST}/Copa"],
    ),
    (
        "The tree is a view of the database: Data_v2/synthetic was just deleted, and comes back byte for byte.",
        ["view", "rebuild"],
    ),
    ("And the record agrees with the disk.", ["view", "check"]),
)
TRAINING_STEPS: Sequence[tuple[str, Sequence[str]]] = (
    (
        "Train on it. Two learning rates are a grid of two runs; their model, tiny and random, is made on the spot.",
        ["train", TRAINING],
    ),
    (
        "The same training on the data of the other temperature.",
        ["train", TRAINING, "--set", f"data.path=Data_v2/synthetic/_shared/{WARMER}/Copa"],
    ),
    (
        "Which temperature gave the best model? And does the difference mean anything? With 10 records hardly.",
        ["result", "best", "--task", "Copa", "--by", "generation.temperature"],
    ),
)
DELETED_BEFORE = ["view", "rebuild"]


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path))
def demo(directory: Path | None) -> None:
    """Show the main job end to end, offline, in a new workspace (default: ./demo, ./demo-2, ...)."""
    if current_directory() is None:
        raise Conflict("The current directory was deleted.", hint="Go to one that exists, and run the command again.")
    directory = directory or _new_directory()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        is_empty = not any(directory.iterdir())
    except OSError as error:
        raise StorageError(f"{directory} cannot be used: {error.strerror}.", hint="Name another directory.") from error
    if not is_empty:
        raise Conflict(f"{directory} is not empty.", hint="Name a new directory: synthtrack demo DIRECTORY")
    with _own_settings():
        for number, (words, arguments) in enumerate(_steps(), 1):
            _step(directory, number, words, arguments)
    render.show(f"\n{render.RULE}\nThat is the main job. In this workspace now:\n")
    where = shlex.quote(str(directory))
    render.show(f"   synthtrack --root {where} ui                 compare the runs in MLflow's user interface")
    render.show(f"   synthtrack --root {where} experiment show {FIRST}")
    render.show(f"   ls -l {where}/Data_v2/synthetic/batch_second/Copa")
    render.show("\nWith an API key, the same with a real model: see the README.")


def _steps() -> Sequence[tuple[str, Sequence[str]]]:
    if find_spec("torch") is not None:
        return (*STEPS, *TRAINING_STEPS)
    render.note("Training is left out: it needs pip install 'synthtrack[train]'.")
    return STEPS


def _new_directory() -> Path:
    candidates = (Path("demo" if number == 1 else f"demo-{number}") for number in itertools.count(1))
    return next(path for path in candidates if not path.exists())


@contextmanager
def _own_settings() -> Iterator[None]:
    """No variable of the environment leads out of the demo: not to another database, tree or MLflow server."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(("SYNTHTRACK_", "MLFLOW_"))}
    try:
        yield
    finally:
        os.environ.update(kept)


def _step(directory: Path, number: int, words: str, arguments: Sequence[str]) -> None:
    from cli.main import cli

    if list(arguments) == DELETED_BEFORE:
        shutil.rmtree(directory / "Data_v2" / "synthetic")
    indent = " " * len(f"{number}. ")
    render.show(f"\n{render.RULE}")
    render.show(click.wrap_text(f"{number}. {words}", width=80, subsequent_indent=indent))
    render.show(f"{render.RULE}\n$ synthtrack {shlex.join(arguments)}\n")
    cli.main(["--root", str(directory), *_rooted(directory, arguments)], standalone_mode=False)


def _rooted(directory: Path, arguments: Sequence[str]) -> list[str]:
    """``init`` takes its directory as an argument; everything else finds the workspace by ``--root``."""
    return [*arguments, str(directory)] if list(arguments) == ["init"] else list(arguments)
