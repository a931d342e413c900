"""Tiny random models, and records of every task as byte tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from pipeline.training.encoding import Encoded, encode
from pipeline.training.tasks import TASKS

VOCABULARY, BOS, WIDTH = 258, 256, 32
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
}
_LLAMA: dict[str, Any] = {"num_key_value_heads": 2, "intermediate_size": 48}
_OLD: dict[str, Any] = {"bos_token_id": BOS, "eos_token_id": BOS + 1}
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_SIZES, **_LLAMA)),
    "llama, eager": lambda: _eager(LlamaConfig(**_SIZES, **_LLAMA)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**_SIZES, **_OLD)),
    "opt": lambda: OPTForCausalLM(
        OPTConfig(**_SIZES, **_OLD, init_std=0.2, ffn_dim=48, word_embed_proj_dim=WIDTH, dropout=0.1)
    ),
    "bloom": lambda: BloomForCausalLM(BloomConfig(**_SIZES, **_OLD)),
    "mistral, near-sighted": lambda: MistralForCausalLM(MistralConfig(**_SIZES, **_LLAMA, sliding_window=16)),
}
TREES = ("llama", "llama, eager", "gpt2", "opt")

_PLACES = [
    ("The lake froze over.", "People skated on it.", "The fish came up to breathe in the morning sun."),
    ("I dropped the cup.", "It broke.", "I drank from it."),
    ("The train was late, as it was on most days of that long winter.", "Ann missed her bus.", "Ann sang."),
]
_ASKED = [
    ("Which of these is a metal?", ["iron", "wood", "glass"], ["1", "2", "3"], "1"),
    ("What do plants need to make sugar?", ["light", "light and water", "salt", "sand", "rain"], list("ABCDE"), "B"),
    ("What is frozen water called?", ["ice", "steam", "ice", "mist"], list("ABCD"), "C"),
]


def _eager(config: LlamaConfig) -> LlamaForCausalLM:
    config._attn_implementation = "eager"
    return LlamaForCausalLM(config)


def _pairs(classes: int) -> list[dict[str, Any]]:
    return [{"premise": a, "hypothesis": b, "label": i % classes} for i, (a, b, _) in enumerate(_PLACES)]


RECORDS: dict[str, list[dict[str, Any]]] = {
    "Copa": [
        {"premise": a, "choice1": b, "choice2": c, "question": ("cause", "effect")[i % 2], "label": i % 2}
        for i, (a, b, c) in enumerate(_PLACES)
    ],
    "CB": _pairs(3),
    "RTE": _pairs(2),
    "BOOLQ": [
        {"passage": f"{a} {b} {c}" * (1 + i), "question": "is it cold", "answer": i != 1}
        for i, (a, b, c) in enumerate(_PLACES)
    ],
    **{
        name: [
            {"question": asked, "choices": {"text": texts, "label": labels}, "answerKey": key}
            for asked, texts, labels, key in _ASKED
        ]
        for name in ("ArcC_Cloze", "ArcC_MC")
    },
}


def model(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(0)
    found = MODELS[name]()
    found.train(mode=False)
    for parameter in found.parameters():
        parameter.data = parameter.data.to(dtype)
    return found


def tokenize(text: str) -> Sequence[int]:
    return [BOS, *text.encode()]


def encoded(task: str) -> list[Encoded]:
    questions = (TASKS[task].question(record, "llama") for record in RECORDS[task])
    return [encode(question, tokenize, max_length=2048) for question in questions]
