"""Models made on the spot, randomly initialised, for demos and tests: nothing is downloaded. Needs transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tracker.errors import UnknownReference
from tracker.fingerprint import Json

if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedTokenizerBase

PREFIX = "scratch:"
_BOS, _EOS = 256, 257

# Each a Llama over bytes. The wide initialisation gives forward differences (zo) a slope to follow from the start.
SCRATCH: Mapping[str, Mapping[str, int | float]] = {
    "scratch:llama-tiny": {
        "hidden_size": 64,
        "intermediate_size": 176,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 4096,
        "initializer_range": 0.1,
    },
}


def settings(name: str) -> Mapping[str, int | float]:
    """The configuration of the scratch model ``name``. Raises UnknownReference with close matches."""
    if name not in SCRATCH:
        raise UnknownReference("scratch model", name, SCRATCH, hint=f"Those are: {', '.join(SCRATCH)}.")
    return SCRATCH[name]


def identity(name: str) -> Json:
    """What the model is, but for the seed that initialises it."""
    return {"scratch": dict(settings(name)), "architecture": "llama", "tokenizer": "bytes"}


def config(name: str) -> LlamaConfig:
    """The configuration as transformers takes it."""
    from transformers import LlamaConfig

    # A checked dataclass: types are the keys' own, which a mapping of numbers cannot say.
    return LlamaConfig.from_dict(
        {**settings(name), "vocab_size": _EOS + 1, "bos_token_id": _BOS, "eos_token_id": _EOS, "use_cache": True}
    )


def tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer whose tokens are the bytes of a text, with a token that begins it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    begin, end = "<|begin_of_text|>", "<|end_of_text|>"
    plain = Tokenizer(models.BPE(vocab={_letter(byte): byte for byte in range(256)}, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    plain.decoder = decoders.ByteLevel()
    plain.add_special_tokens([begin, end])
    plain.post_processor = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, _BOS)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=plain, bos_token=begin, eos_token=end
    )


def _letter(byte: int) -> str:
    # GPT-2's alphabet of bytes: printable ones stand for themselves, the others for letters from U+0100 on.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if byte in printable:
        return chr(byte)
    return chr(0x100 + [other for other in range(256) if other not in printable].index(byte))
