"""``python -m benchmarks.zo``: whole zo steps against the reference's way, and the memory of mode in_place.

The reference is MeZO's loop as Malladi et al. (2023) published it: every candidate a row padded on the left to a
multiple of eight, logits at every position, the noise of each parameter drawn four times, arithmetic out of place. Both
train the same model on the same batches in turns, CPU time of one thread, medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.training import zo_loop
from pipeline.training.encoding import Encoded, encode
from pipeline.training.setup import Setup
from pipeline.training.specs import Hyperparameters
from pipeline.training.splits import order, split_train
from pipeline.training.tasks import TASKS
from pipeline.training.tree import batch_loss, default_token_budget, evaluating, pack
from pipeline.training.zo import ZeroOrder

if TYPE_CHECKING:
    from pipeline.training.evaluate import Evaluation

DATA = Path(__file__).parents[2] / "shared" / "data" / "original"
VOCABULARY = 32_000
MEMORY_CASES = ("forward", "in_place", "keep")
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="a directory of the tasks' original data")
    parser.add_argument("--tasks", nargs="+", default=["Copa", "CB"])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--memory", choices=MEMORY_CASES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.memory:
        _peak(given.memory)
        return
    if not given.data.is_dir():
        sys.exit(f"No data in {given.data}: give --data a directory with Copa/copa_train.jsonl and so on.")
    millions = sum(each.numel() for each in _llama().parameters()) / 1e6
    print(
        f"A Llama of {millions:.0f}M parameters (width 768, 12 layers, {VOCABULARY:,} tokens, tied), fp32, batches of "
        f"{BATCH}, medians of {given.steps - 1}; one thread of {platform.machine()}, Python "
        f"{platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}\n"
    )
    print("| task | tokens, padded | tokens, packed | reference, s | `keep`, s | ratio | `in_place`, s | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    apart = max(_compare(name, given.data, given.steps) for name in given.tasks)
    print(f"\nOn one batch and the same weights the two losses differ by at most {apart:.1e}.")
    _print_memory()


def _compare(name: str, data: Path, steps: int) -> float:
    """A row of the table; how far the two losses of one batch are apart."""
    encoded = _encoded(data, name)
    found = {memory: _Race(encoded, steps, TASKS[name].classification) for memory in ("keep", "in_place")}
    for memory, race in found.items():
        race.run(memory)
    keep, in_place = (statistics.median(race.ours[1:]) for race in found.values())
    reference = [statistics.median(race.reference[1:]) for race in found.values()]
    padded, packed = (statistics.mean(each) for each in zip(*found["keep"].tokens, strict=True))
    print(
        f"| {name} | {padded:,.0f} | {packed:,.0f} | {reference[0]:.2f} | {keep:.2f} | {keep / reference[0]:.2f} "
        f"| {in_place:.2f} | {in_place / reference[1]:.2f} |",
        flush=True,
    )
    return found["keep"].apart()


@dataclass
class _Race:
    """The monitor of our loop, which takes the reference's step after each of ours."""

    encoded: Sequence[Encoded]
    steps: int
    classification: bool
    ours: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    tokens: list[tuple[float, float]] = field(default_factory=list)
    began: float = 0.0

    def run(self, memory: str) -> None:
        self._other, self._given = _llama(), _hyperparameters(self.steps)
        with tempfile.TemporaryDirectory() as directory:
            zo_loop.train(
                Setup(
                    model=_llama(), train=self.encoded, dev=self.encoded[:2], method="zo", hyperparameters=self._given,
                    classification=self.classification, layout="tree", token_budget=default_token_budget("cpu"),
                    device="cpu", precision="fp32", checkpoint=Path(directory), monitor=self, zo_memory=memory,
                )
            )  # fmt: skip

    def apart(self) -> float:
        model, batch = _llama(), self.encoded[:BATCH]
        packs = pack(
            batch,
            token_budget=default_token_budget("cpu"),
            device="cpu",
            only_answers=not self.classification,
        )
        with evaluating(model):
            ours = batch_loss(model, packs, classification=self.classification)
            return abs((ours - _reference_loss(model, _Rows.of(batch, classification=self.classification))).item())

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self.ours.append(time.process_time() - self.began)
        began = time.process_time()
        batch = [self.encoded[index] for index in order(len(self.encoded), BATCH, self._given.seed, step - 1)]
        rows = _Rows.of(batch, classification=self.classification)
        _reference_step(self._other, rows, step, self._given)
        self.reference.append(time.process_time() - began)
        self.tokens.append((rows.ids.numel(), metrics["train/tokens"]))
        self.began = time.process_time()

    def evaluated(self, step: int, evaluation: Evaluation) -> None:  # noqa: ARG002  it is a Monitor
        self.began = time.process_time()

    def stopping(self) -> bool:
        return False


@dataclass(frozen=True)
class _Rows:
    ids: Tensor
    seen: Tensor
    option: Tensor
    answers: Tensor | None

    @classmethod
    def of(cls, batch: Sequence[Encoded], *, classification: bool) -> _Rows:
        pairs = [
            (ids, start)
            for record in batch
            for at, (ids, start) in enumerate(zip(record.sequences, record.starts, strict=True))
            if classification or at == record.answer
        ]
        width = -(-max(len(ids) for ids, _ in pairs) // 8) * 8
        ids, seen, option = (torch.zeros(len(pairs), width, dtype=torch.long) for _ in range(3))
        for row, (tokens, start) in enumerate(pairs):
            ids[row, width - len(tokens) :] = torch.tensor(tokens)
            seen[row, width - len(tokens) :] = 1
            option[row, width - len(tokens) + start :] = 1
        return cls(ids, seen, option, torch.tensor([each.answer for each in batch]) if classification else None)


def _reference_loss(model: nn.Module, rows: _Rows) -> Tensor:
    logits = model(input_ids=rows.ids, attention_mask=rows.seen).logits[:, :-1].contiguous()
    labels, option = rows.ids[:, 1:].clone(), rows.option[:, 1:].bool()
    labels[~option] = -100
    if rows.answers is None:
        return nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1))
    labels[~option] = 0
    chosen = torch.log_softmax(logits, -1).gather(-1, labels[..., None])[..., 0]
    scores = (chosen * option).sum(-1) / option.sum(-1)
    return nn.functional.cross_entropy(scores.view(len(rows.answers), -1), rows.answers)


def _reference_step(model: nn.Module, rows: _Rows, seed: int, given: Hyperparameters) -> None:
    def noise() -> Iterable[tuple[nn.Parameter, Tensor]]:
        torch.manual_seed(seed)
        for each in model.parameters():
            yield each, torch.normal(mean=0, std=1, size=each.data.size())

    def perturb(factor: float) -> None:
        for each, z in noise():
            each.data = each.data + factor * z * given.zo_eps

    def loss() -> Tensor:
        model.eval()
        with torch.inference_mode():
            return _reference_loss(model, rows).detach()

    perturb(1)
    plus = loss()
    perturb(-2)
    minus = loss()
    slope = ((plus - minus) / (2 * given.zo_eps)).item()
    perturb(1)
    for each, z in noise():
        each.data = each.data - given.learning_rate * (slope * z)


def _print_memory() -> None:
    """Peaks of processes of their own: one that only computes the loss of a batch of COPA's size, two that train."""
    print("\n| process | peak resident, MB | of forwards alone |\n|---|---:|---:|")
    peaks = {}
    for case in MEMORY_CASES:
        command = [sys.executable, "-m", "benchmarks.zo", "--memory", case]
        peaks[case] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"| {case} | {peaks[case]:.0f} | {peaks[case] / peaks['forward']:.2f} |", flush=True)


def _peak(case: str) -> None:
    """Prints the most memory that this process had, MB, after steps on random records of COPA's size."""
    generator = torch.Generator().manual_seed(0)
    model = _llama()
    batch = []
    for _ in range(BATCH):
        one, two = (tuple(torch.randint(VOCABULARY, (22,), generator=generator).tolist()) for _ in range(2))
        batch.append(Encoded((one, one[:14] + two[14:]), (14, 14), 0))
    packs = pack(batch, token_budget=default_token_budget("cpu"), device="cpu", only_answers=True)

    def loss() -> float:
        with evaluating(model):
            return batch_loss(model, packs, classification=False).item()

    # The peak from here on: making a random model takes more than using it.
    Path("/proc/self/clear_refs").write_text("5")
    if case == "forward":
        for _ in range(4):
            loss()
    else:
        zo = ZeroOrder(model.parameters(), seed=0, memory="keep" if case == "keep" else "in_place")
        for step in range(2):
            zo.step(loss, step, 1e-6)
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert peak
    print(int(peak[1]) * 1024 / 1e6)


def _hyperparameters(steps: int) -> Hyperparameters:
    return Hyperparameters(learning_rate=1e-6, batch_size=BATCH, steps=steps, eval_steps=steps, lr_schedule="constant")


def _encoded(data: Path, name: str) -> list[Encoded]:
    task = TASKS[name]
    records = _records(data / name)
    tokenizer = ByteLevelBPETokenizer()
    texts = (json.dumps(record, ensure_ascii=False) for each in TASKS for record in _records(data / each))
    tokenizer.train_from_iterator(texts, vocab_size=VOCABULARY, show_progress=False)
    train, _ = split_train(records, 1000, task.num_dev)
    asked = (task.question(records[index], "llama") for index in train)
    return [encode(each, lambda text: list(tokenizer.encode(text).ids), max_length=2048) for each in asked]


def _records(directory: Path) -> list[dict[str, Any]]:
    [path] = directory.glob("*_train.jsonl")
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=768, intermediate_size=2048, num_hidden_layers=12,
            num_attention_heads=12, tie_word_embeddings=True,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
