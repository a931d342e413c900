"""``python -m benchmarks.memory``: what training takes beyond the weights, by method.

Every figure is the most memory that a process of its own had resident after the model was loaded, less what a process
has that only loads it: so the libraries that a method needs count too, and are shown. The loops are those of
`synthtrack train`, with their evaluations and checkpoints, on random records of COPA's size; SGD and MeZO as published
are plain loops beside them. Needs Linux. Prints markdown.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from transformers import AutoModelForCausalLM

from benchmarks import llamas
from benchmarks.zo import Nobody, Rows, reference_loss, reference_step
from pipeline.training.encoding import Encoded
from pipeline.training.evaluate import evaluate
from pipeline.training.setup import Setup
from pipeline.training.specs import Hyperparameters
from pipeline.training.tree import backward, default_token_budget, evaluating, pack

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_Way: TypeAlias = "Callable[[PreTrainedModel, Sequence[Encoded], int], None]"
VOCABULARY = 50_304
"""As GPT-2's: then the large shape has 124M parameters."""
BATCH = 16
METHODS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "nothing but loading it": ("load", {}),
    "evaluation": ("evaluation", {}),
    "zo, `in_place`": ("zo", {"zo_memory": "in_place"}),
    "zo, `keep`": ("zo", {"zo_memory": "keep"}),
    "zo, `in_place`, bf16": ("zo", {"zo_memory": "in_place", "precision": "bf16"}),
    "zo, `keep`, bf16": ("zo", {"zo_memory": "keep", "precision": "bf16"}),
    "zo on LoRA matrices, `keep`": ("zo", {"zo_memory": "keep", "lora": True}),
    "fo_lora": ("fo_lora", {"lora": True}),
    "fo_lora, `gradient_checkpointing`": ("fo_lora", {"lora": True, "gradient_checkpointing": True}),
    "fo_full": ("fo_full", {}),
    "fo_full, `gradient_checkpointing`": ("fo_full", {"gradient_checkpointing": True}),
    "MeZO as published (plain loop)": ("reference", {}),
    "SGD (plain loop)": ("sgd", {}),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, then prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=llamas.SHAPES, default=["100M"])
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY, help="of the models")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if given.case:
        print(json.dumps(_measure(Path(given.case[0]), given.case[1], given.steps)))
        return
    print(
        f"`python -m benchmarks.memory`, medians of {given.rounds}, batches of {BATCH} records of 22 tokens; "
        f"{llamas.about()}"
    )
    for shape in given.models:
        with tempfile.TemporaryDirectory() as directory:
            model = llamas.llama(shape, given.vocabulary)
            model.save_pretrained(directory)
            weights = sum(each.numel() for each in model.parameters()) * 4 / 1e6
            print(f"\nA Llama of {llamas.millions(model)} parameters, {weights:,.0f} MB in fp32\n")
            del model
            _print_table(Path(directory), weights, given)


def _print_table(directory: Path, weights: float, given: argparse.Namespace) -> None:
    rows, base = [], 0.0
    first = next(iter(METHODS))
    for name in [first, *(each for each in given.methods if each != first)]:
        found = [_in_own_process(directory, name, given) for _ in range(given.rounds)]
        peak, libraries = (statistics.median(each[key] for each in found) for key in ("peak", "libraries"))
        base = base or peak
        shown = (peak - base, (peak - base) / weights, libraries)
        rows.append((name, f"{peak:,.0f}", *(f"{value:,.{n}f}" for value, n in zip(shown, (0, 2, 0), strict=True))))
    head = ("process", "peak, MB", "beyond the loaded model, MB", "of the weights", "of it libraries, MB")
    print(llamas.table(head, rows), flush=True)


def _in_own_process(directory: Path, name: str, given: argparse.Namespace) -> dict[str, float]:
    command = (sys.executable, "-m", "benchmarks.memory", "--steps", str(given.steps))
    done = subprocess.run(
        [*command, "--case", str(directory), name],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(directory: Path, name: str, steps: int) -> dict[str, float]:
    """In MB: the most that was resident from when the model was loaded, and what importing the method took of it."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    method, settings = METHODS[name]
    records = _records(model.config.vocab_size)
    # Loading only maps the file: what was read of it is resident.
    sum(each.sum().item() for each in model.parameters())
    gc.collect()
    # The peak from here on: making a model may take more than using it.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run = _way(method, settings)
    imported = _status("VmRSS")
    if run is not None:
        run(model, records, steps)
    return {"peak": _status("VmHWM"), "libraries": imported - before}


def _way(method: str, settings: Mapping[str, Any]) -> _Way | None:
    """What is measured, with all that it imports."""
    if method == "load":
        return None
    if method in {"evaluation", "reference", "sgd"}:
        return {"evaluation": _evaluate, "reference": _reference, "sgd": _sgd}[method]
    if settings.get("lora"):
        import peft  # noqa: F401  what with_lora imports
    if method == "zo":
        from pipeline.training import zo_loop

        return partial(_train, train=zo_loop.train, method=method, settings=settings)
    from pipeline.training import first_order

    return partial(_train, train=first_order.train, method=method, settings=settings)


def _train(
    model: PreTrainedModel,
    records: Sequence[Encoded],
    steps: int,
    *,
    train: Callable[[Setup], object],
    method: str,
    settings: Mapping[str, Any],
) -> None:
    from pipeline.training.models import with_lora

    own = dict(settings)
    if own.pop("lora", False):
        model = with_lora(model, rank=8, alpha=16.0, seed=0)
    with tempfile.TemporaryDirectory() as checkpoint:
        train(
            Setup(
                model=model, train=records, dev=records[:BATCH], method=method, layout="tree", device="cpu",
                hyperparameters=Hyperparameters(learning_rate=1e-6, batch_size=BATCH, steps=steps, eval_steps=steps),
                classification=False, token_budget=default_token_budget("cpu"), checkpoint=Path(checkpoint),
                monitor=Nobody(), **{"precision": "fp32", **own},
            )
        )  # fmt: skip


def _evaluate(model: PreTrainedModel, records: Sequence[Encoded], steps: int) -> None:
    for _ in range(steps):
        evaluate(
            model, records, range(len(records)), classification=False, token_budget=default_token_budget("cpu"),
            layout="tree",
        )  # fmt: skip


def _reference(model: PreTrainedModel, records: Sequence[Encoded], steps: int) -> None:
    rows = Rows.of(records[:BATCH], classification=False)

    def loss() -> float:
        with evaluating(model):
            return reference_loss(model, rows).item()

    for step in range(steps):
        with torch.no_grad():
            reference_step(model, loss, seed=step, eps=1e-3, rate=1e-6)


def _sgd(model: PreTrainedModel, records: Sequence[Encoded], steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    packs = pack(records[:BATCH], token_budget=default_token_budget("cpu"), device="cpu", only_answers=True)
    for _ in range(steps):
        optimizer.zero_grad()
        backward(model, packs, classification=False)
        optimizer.step()


def _records(vocabulary: int) -> list[Encoded]:
    """Two batches of records of COPA's size: two candidates of 22 tokens that share 14."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(2 * BATCH):
        one, two = (tuple(torch.randint(vocabulary, (22,), generator=generator).tolist()) for _ in range(2))
        found.append(Encoded((one, one[:14] + two[14:]), (14, 14), 0))
    return found


def _status(field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
