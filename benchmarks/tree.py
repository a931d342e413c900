"""``python -m benchmarks.tree``: tree-packed evaluation against one candidate at a time, on the six tasks' shapes.

Random Llamas, a tokenizer trained on the spot, real records. Medians of three, seconds of
CPU time of one thread (of the clock on a GPU).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.training import tree
from pipeline.training.encoding import Encoded, encode
from pipeline.training.tasks import TASKS

ROUNDS = 3
VOCABULARY = 16_384
DATA = Path(__file__).parents[2] / "shared" / "data" / "original"
SHAPES = {"5M": (192, 4, 4), "100M": (768, 12, 12)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="a directory of the tasks' original data")
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["5M"])
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY, help="of the models; the tokenizer's is as it is")
    parser.add_argument("--records", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--budgets", type=int, nargs="*", default=[], help="compare these token budgets too")
    given = parser.parse_args()
    if not given.data.is_dir():
        sys.exit(f"No data in {given.data}: give --data a directory with Copa/copa_validation.jsonl and so on.")
    torch.set_num_threads(1)
    sets = _encoded(given.data, given.records)
    print(
        f"\n{given.records} validation records of each task, medians of {ROUNDS}; {_processor(given.device)}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    )
    for name in given.models:
        model = _llama(given.vocabulary, *SHAPES[name]).to(given.device)
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        print(f"\nA Llama of {millions:.0f}M parameters, {given.vocabulary:,} words, fp32\n")
        with tree.evaluating(model):
            _against_single(model, sets, given.device)
            if given.budgets:
                _budgets(model, sets, given.budgets, given.device)


def _against_single(model: nn.Module, sets: dict[str, list[Encoded]], device: str) -> None:
    print("| task | tokens, single | tokens, tree | single, s | plain rows, s | tree, s | single/tree | plain/tree |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    budget, apart = tree.default_token_budget(device), 0.0
    for task, records in sets.items():
        ways = [
            partial(_single, model, records, device),
            partial(_packed, model, records, budget, device, "plain"),
            partial(_packed, model, records, budget, device, "tree"),
        ]
        single, plain, packed = _medians(ways, device)
        found = [way() for way in ways]
        apart = max(apart, *((each - found[0]).abs().max().item() for each in found[1:]))
        tokens = sum(len(ids) for record in records for ids in record.sequences), tree.estimate_tokens(records)
        print(
            f"| {task} | {tokens[0]:,} | {tokens[1]:,} | {single:.3f} | {plain:.3f} | {packed:.3f} "
            f"| {single / packed:.1f} | {plain / packed:.1f} |"
        )
    print(f"\nNo candidate's score differs by more than {apart:.1e}.")


def _budgets(model: nn.Module, sets: dict[str, list[Encoded]], budgets: Sequence[int], device: str) -> None:
    print("\nTokens a second by token budget\n")
    print(f"| task | {' | '.join(f'{budget:,}' for budget in budgets)} |\n|---|{'---:|' * len(budgets)}")
    for task, records in sets.items():
        ways = [partial(_packed, model, records, budget, device, "tree") for budget in budgets]
        rates = [tree.estimate_tokens(records) / seconds for seconds in _medians(ways, device)]
        print(f"| {task} | {' | '.join(f'{rate:,.0f}' for rate in rates)} |")


def _single(model: nn.Module, records: Sequence[Encoded], device: str) -> Tensor:
    """One forward for each candidate, logits everywhere, as the code that this replaces has it."""
    found = []
    for record in records:
        for ids, start in zip(record.sequences, record.starts, strict=True):
            given = torch.tensor([ids], device=device)
            logs = model(input_ids=given, use_cache=False).logits[0, start - 1 : -1].double().log_softmax(-1)
            found.append(logs.gather(1, given[0, start:, None]).mean())
    return torch.stack(found)


def _packed(model: nn.Module, records: Sequence[Encoded], budget: int, device: str, layout: str) -> Tensor:
    packs = tree.packs(records, token_budget=budget, device=device, layout=layout)
    return torch.cat([tree.scores(model, each) for each in packs])


def _medians(ways: Sequence[Callable[[], Tensor]], device: str) -> list[float]:
    """Each way's median; in turns, so that a busy moment meets them all. What was not timed warms up."""
    seconds: list[list[float]] = [[] for _ in ways]
    for round_ in range(ROUNDS + 1):
        for way, kept in zip(ways, seconds, strict=True):
            begin = _now(device)
            way()
            if round_:
                kept.append(_now(device) - begin)
    return [statistics.median(kept) for kept in seconds]


def _now(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _encoded(data: Path, count: int) -> dict[str, list[Encoded]]:
    questions = {
        name: [task.question(record, "llama") for record in _records(data / name, count)]
        for name, task in TASKS.items()
    }
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(_texts(data), vocab_size=VOCABULARY, show_progress=False)

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text).ids)

    return {name: [encode(each, ids, max_length=2048) for each in asked] for name, asked in questions.items()}


def _records(directory: Path, count: int | None = None) -> list[dict[str, object]]:
    [path] = directory.glob("*_validation.jsonl")
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines][:count]


def _texts(data: Path) -> Iterable[str]:
    return (json.dumps(record, ensure_ascii=False) for name in TASKS for record in _records(data / name))


def _llama(vocabulary: int, width: int, layers: int, heads: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=width * 8 // 3,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            tie_word_embeddings=True,
        )
    )


def _processor(device: str) -> str:
    return f"one thread of {platform.machine()}" if device == "cpu" else torch.cuda.get_device_name(device)


if __name__ == "__main__":
    main()
