"""``python -m benchmarks.tree``: tree-packed evaluation against one candidate at a time, on all six tasks.

Random Llamas, a tokenizer trained on the spot, validation records of ``--data``. Medians of the rounds, in which the
ways take turns: seconds of CPU time of one thread (of the clock on a GPU). Prints markdown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import llamas
from pipeline.training import tree
from pipeline.training.encoding import Encoded

RECORDS = {"tiny": 4, "5M": 64, "100M": 8}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, then prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tree", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=llamas.data(), help="a directory of the tasks' original data")
    parser.add_argument("--models", nargs="+", choices=llamas.SHAPES, default=["5M", "100M"])
    parser.add_argument("--vocabulary", type=int, default=llamas.VOCABULARY, help="of the models")
    parser.add_argument("--records", type=int, help="of each task; default 64 for the small model, 8 for the large one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--budgets", type=int, nargs="*", default=[], help="compare these token budgets too")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    all_records = llamas.encoded(given.data, "validation", llamas.tasks(given.data))
    print(f"`python -m benchmarks.tree`, medians of {given.rounds}; {llamas.about(given.device)}")
    for name in given.models:
        model = llamas.llama(name, given.vocabulary).to(given.device)
        count = given.records or RECORDS[name]
        sets = {task: records[:count] for task, records in all_records.items()}
        print(
            f"\nA Llama of {llamas.millions(model)} parameters, {given.vocabulary:,} words, fp32; {count} validation "
            "records of each task\n"
        )
        with tree.evaluating(model):
            _against_single(model, sets, given.device, given.rounds)
            if given.budgets:
                _budgets(model, sets, given)


def _against_single(model: nn.Module, sets: Mapping[str, Sequence[Encoded]], device: str, rounds: int) -> None:
    budget, apart, rows = tree.default_token_budget(device), 0.0, []
    for task, records in sets.items():
        ways = [
            partial(_single, model, device=device),
            partial(_packed, model, budget=budget, device=device, layout="plain"),
            partial(_packed, model, budget=budget, device=device, layout="tree"),
        ]
        seconds, found = _raced(ways, records, device, rounds)
        single, plain, packed = seconds
        apart = max(apart, *((each - found[0]).abs().max().item() for each in found[1:]))
        tokens = sum(len(ids) for record in records for ids in record.sequences), tree.estimate_tokens(records)
        rows.append(
            (
                task, *(f"{each:,}" for each in tokens), *(f"{each:.3f}" for each in seconds),
                f"{single / packed:.1f}", f"{plain / packed:.1f}",
            )
        )  # fmt: skip
    head = (
        "task", "tokens, single", "tokens, tree", "single, s", "plain rows, s", "tree, s", "single/tree", "plain/tree",
    )  # fmt: skip
    print(llamas.table(head, rows))
    print(f"\nNo candidate's score differs by more than {apart:.1e}.", flush=True)


def _budgets(model: nn.Module, sets: Mapping[str, Sequence[Encoded]], given: argparse.Namespace) -> None:
    print("\nTokens a second by token budget\n")
    rows = []
    for task, records in sets.items():
        ways = [partial(_packed, model, budget=budget, device=given.device, layout="tree") for budget in given.budgets]
        seconds, _ = _raced(ways, records, given.device, given.rounds)
        rows.append((task, *(f"{tree.estimate_tokens(records) / each:,.0f}" for each in seconds)))
    print(llamas.table(("task", *(f"{budget:,}" for budget in given.budgets)), rows), flush=True)


def _single(model: nn.Module, records: Sequence[Encoded], *, device: str) -> Tensor:
    """One forward for each candidate, logits everywhere, as MeZO's published code evaluates."""
    found = []
    for record in records:
        for ids, start in zip(record.sequences, record.starts, strict=True):
            given = torch.tensor([ids], device=device)
            logs = model(input_ids=given, use_cache=False).logits[0, start - 1 : -1].double().log_softmax(-1)
            found.append(logs.gather(1, given[0, start:, None]).mean())
    return torch.stack(found)


def _packed(model: nn.Module, records: Sequence[Encoded], *, budget: int, device: str, layout: str) -> Tensor:
    packs = tree.packs(records, token_budget=budget, device=device, layout=layout)
    return torch.cat([tree.scores(model, each) for each in packs])


def _raced(
    ways: Sequence[Callable[[Sequence[Encoded]], Tensor]], records: Sequence[Encoded], device: str, rounds: int
) -> tuple[list[float], list[Tensor]]:
    """Each way's median seconds, and its scores; in turns, so that a busy moment meets them all."""
    seconds: list[list[float]] = [[] for _ in ways]
    for way in ways:
        way(records[:1])
    for _ in range(rounds):
        found = []
        for way, kept in zip(ways, seconds, strict=True):
            begin = _now(device)
            found.append(way(records))
            kept.append(_now(device) - begin)
    return [statistics.median(kept) for kept in seconds], found


def _now(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
