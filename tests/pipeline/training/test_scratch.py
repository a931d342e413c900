"""Models made on the spot: the seed alone decides their weights, and nothing else notices that they were made."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training import models, scratch
from tests.pipeline.training.zo_run import weights
from tracker.errors import UnknownReference

NAME = "scratch:llama-tiny"
TOKENIZER = scratch.tokenizer()


def made(seed: int) -> models.Loaded:
    return models.load(NAME, device="cpu", precision="fp32", seed=seed, environ={})


def test_the_seed_is_the_weights() -> None:
    assert weights(made(0).model) == weights(made(0).model)
    assert weights(made(0).model) != weights(made(1).model)
    drawn, same = (dict(made(seed).model.named_parameters()) for seed in (0, 1))
    # Every matrix is drawn; norms begin as ones.
    assert {name for name in drawn if torch.equal(drawn[name], same[name])} == {
        name for name, each in drawn.items() if each.ndim == 1
    }


def test_nobody_elses_random_numbers_change() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    models.describe(NAME, environ={})
    models.with_lora(made(7).model, rank=2, alpha=1.0, seed=7)
    assert torch.equal(torch.rand(4), expected)


def test_the_seed_is_no_part_of_the_identity() -> None:
    info = models.describe(NAME, environ={})
    assert info.identity == scratch.identity(NAME)
    config = scratch.config(NAME)
    assert (info.n_layers, info.hidden, info.vocab, info.context) == (
        config.num_hidden_layers, config.hidden_size, config.vocab_size, config.max_position_embeddings
    )  # fmt: skip


def test_an_unknown_one_names_those_there_are() -> None:
    for call in (scratch.identity, scratch.config, lambda name: models.describe(name, environ={})):
        with pytest.raises(UnknownReference, match="scratch:llama-tinny") as error:
            call("scratch:llama-tinny")
        assert "scratch:llama-tiny" in str(error.value.hint)


@given(st.text())
@settings(max_examples=200)
def test_tokens_are_the_bytes_of_a_text_after_one_that_begins_it(text: str) -> None:
    begin, *ids = TOKENIZER(text)["input_ids"]
    assert begin == TOKENIZER.bos_token_id == 256
    # A text that spells a special token is that token, as in every tokenizer.
    if "<|" not in text:
        assert bytes(ids) == text.encode(errors="replace")
        assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text


def test_special_tokens_are_the_models() -> None:
    assert (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id) == (
        scratch.config(NAME).bos_token_id,
        scratch.config(NAME).eos_token_id,
    )
    assert len(TOKENIZER) == scratch.config(NAME).vocab_size
