"""What the benchmarks of training share: random Llamas, and records of the tasks in tokens of a tokenizer made here."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.training.encoding import Encoded, encode
from pipeline.training.tasks import TASKS
from tracker import clock

VOCABULARY = 16_384
SHAPES = {"tiny": (32, 2, 4), "5M": (192, 4, 4), "100M": (768, 12, 12)}
"""Width, layers, heads; the names are the parameters with ``VOCABULARY`` tokens."""
SAMPLE = Path(__file__).parents[1] / "configs/sample"
REAL = Path(__file__).parents[2] / "shared/data/original"


def data() -> Path:
    """Where records are read if nothing else is said: the real ones beside the checkout, else the sample that ships."""
    return REAL if REAL.is_dir() else SAMPLE


def tasks(directory: Path) -> list[str]:
    """The tasks that ``directory`` has data of."""
    return [name for name in TASKS if (directory / name).is_dir()]


def llama(shape: str, vocabulary: int = VOCABULARY) -> LlamaForCausalLM:
    """A Llama with random weights, the same ones every time; input and output embeddings are one."""
    width, layers, heads = SHAPES[shape]
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=width, intermediate_size=width * 8 // 3, num_hidden_layers=layers,
            num_attention_heads=heads, tie_word_embeddings=True,
        )
    )  # fmt: skip


def encoded(
    directory: Path, split: str, names: Iterable[str], vocabulary: int = VOCABULARY
) -> dict[str, list[Encoded]]:
    """Every record of a split by task, in tokens of one tokenizer, trained on that split of all tasks there are."""
    records = {name: _records(directory / name, split) for name in tasks(directory)}
    texts = (json.dumps(record, ensure_ascii=False) for own in records.values() for record in own)
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=vocabulary, show_progress=False)

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text).ids)

    return {
        name: [encode(TASKS[name].question(record, "llama"), ids, max_length=2048) for record in records[name]]
        for name in names
    }


def about(device: str = "cpu") -> str:
    """Machine, versions, date and load, for the head of a section."""
    processor = f"one thread of {platform.machine()}" if device == "cpu" else torch.cuda.get_device_name(device)
    return (
        f"{clock.now():%Y-%m-%d}; {processor}, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}; load before the run "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


def millions(model: torch.nn.Module) -> str:
    """How many parameters a model has, as 98M."""
    return f"{sum(each.numel() for each in model.parameters()) / 1e6:.0f}M"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; the first column is of words, the others are of figures."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _records(directory: Path, split: str) -> list[dict[str, Any]]:
    [path] = directory.glob(f"*_{split}.jsonl")
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
