"""Tree and plain layout give the same scores, losses and gradients, whatever the packs; a naive scorer agrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from pipeline.training import tree
from pipeline.training.encoding import Encoded
from tests.pipeline.training.tiny import RECORDS, TREES, VOCABULARY, encoded, model

ALL = [record for task in RECORDS for record in encoded(task)]
LOSS = pytest.mark.parametrize("classification", [True, False])


def one_by_one(net: nn.Module, records: Sequence[Encoded]) -> Tensor:
    """Each candidate in a forward of its own, without a mask."""
    found = []
    for record in records:
        for ids, start in zip(record.sequences, record.starts, strict=True):
            logs = net(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
            found.append(logs[range(start - 1, len(ids) - 1), ids[start:]].mean())
    return torch.stack(found)


def score(net: nn.Module, records: Sequence[Encoded], budget: int, layout: str) -> Tensor:
    packs = tree.pack(records, token_budget=budget, device="cpu", layout=layout)
    return torch.cat([tree.scores(net, each) for each in packs])


def gradients(net: nn.Module) -> Tensor:
    given = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    net.zero_grad()
    return torch.cat([gradient.flatten() for gradient in given])


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())


@pytest.mark.parametrize("task", RECORDS)
@pytest.mark.parametrize("name", TREES)
def test_scores_are_those_of_each_candidate_alone(name: str, task: str) -> None:
    net, records = model(name), encoded(task)
    with torch.no_grad():
        alone = one_by_one(net, records)
        for budget in (1, 300, 10_000):
            for layout in ("tree", "plain"):
                assert largest(score(net, records, budget, layout) - alone) < 1e-6


@pytest.mark.parametrize("name", TREES)
def test_in_double_precision_nothing_but_rounding_is_left(name: str) -> None:
    net = model(name, torch.float64)
    with torch.no_grad():
        alone = one_by_one(net, ALL)
        # The eager attention of transformers has its softmax in single precision.
        assert largest(score(net, ALL, 400, "tree") - alone) < (1e-6 if "eager" in name else 1e-12)


def test_bf16_is_as_near_as_bf16_can_be() -> None:
    net = model("llama", torch.bfloat16)
    with torch.no_grad():
        exact = score(model("llama", torch.float64), ALL, 400, "tree")
        halves = [score(net, ALL, budget, layout) for budget in (1, 400) for layout in ("tree", "plain")]
        with torch.autocast("cpu", torch.bfloat16):
            halves.append(score(model("llama"), ALL, 400, "tree"))
    assert max(largest(half - exact) for half in halves) < 0.1
    assert min(largest(half - exact) for half in halves) > 1e-4


@LOSS
@pytest.mark.parametrize("task", RECORDS)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_losses_and_gradients_do_not_depend_on_layout_or_packs(name: str, task: str, classification: bool) -> None:
    net, records = model(name), encoded(task)
    losses, slopes = [], []
    for layout, budget in (("plain", 1), ("plain", 10_000), ("tree", 1), ("tree", 250), ("tree", 10_000)):
        packs = tree.pack(records, token_budget=budget, device="cpu", layout=layout)
        losses.append(tree.backward(net, packs, classification=classification))
        slopes.append(gradients(net))
        tree.batch_loss(net, packs, classification=classification).backward()  # type: ignore[no-untyped-call]  # torch
        losses.append(tree.batch_loss(net, packs, classification=classification).detach())
        slopes.append(gradients(net))
    assert largest(torch.stack(losses) - losses[0]) < 1e-6
    assert largest(torch.stack(slopes) - slopes[0]) < 1e-5 * largest(slopes[0])


@LOSS
def test_the_loss_is_what_its_name_says(classification: bool) -> None:
    net = model("llama", torch.float64)
    alone = one_by_one(net, ALL).detach()
    expected, tokens = 0.0, 0
    for record in ALL:
        own, alone = alone[: len(record.sequences)], alone[len(record.sequences) :]
        options = [len(ids) - start for ids, start in zip(record.sequences, record.starts, strict=True)]
        expected -= float((own.log_softmax(0) if classification else own * torch.tensor(options))[record.answer])
        tokens += 1 if classification else options[record.answer]
    packs = tree.pack(ALL, token_budget=300, device="cpu")
    assert tree.batch_loss(net, packs, classification=classification).item() == pytest.approx(expected / tokens)
    assert tree.weight(packs, classification=classification) == tokens


def test_the_language_model_loss_needs_the_right_candidates_only() -> None:
    net = model("llama")
    whole, answers = (tree.pack(ALL, token_budget=300, device="cpu", only_answers=only) for only in (False, True))
    found = [tree.backward(net, packs, classification=False) for packs in (whole, answers)]
    assert largest(found[0] - found[1]) < 1e-6
    assert sum(each.tokens for each in answers) < sum(each.tokens for each in whole)
    with pytest.raises(ValueError, match="every candidate"):
        tree.batch_loss(net, answers, classification=True)


@LOSS
def test_parts_of_a_batch_add_up_to_its_loss(classification: bool) -> None:
    net = model("llama")
    packs = tree.pack(ALL, token_budget=300, device="cpu")
    whole = tree.backward(net, packs, classification=classification)
    expected = gradients(net)
    total = tree.weight(packs, classification=classification)
    parts = [tree.backward(net, share, classification=classification, total=total) for share in (packs[:2], packs[2:])]
    assert largest(sum(parts) - whole) < 1e-9
    assert largest(gradients(net) - expected) < 1e-6 * largest(expected)


def test_what_goes_backward_can_be_given() -> None:
    net = model("llama")
    seen: list[Tensor] = []
    packs = tree.pack(ALL, token_budget=300, device="cpu")
    tree.backward(net, packs, classification=True, backward=seen.append)
    assert len(seen) == len(packs) > 2
    assert all(part.requires_grad for part in seen)


def test_a_record_without_a_label_has_scores_and_no_loss() -> None:
    net, records = model("llama"), [replace(ALL[0], answer=-1), ALL[1]]
    with torch.no_grad():
        assert largest(score(net, records, 1000, "tree") - score(net, ALL[:2], 1000, "tree")) == 0
    with pytest.raises(ValueError, match="without a label"):
        tree.batch_loss(net, tree.pack(records, token_budget=1000, device="cpu"), classification=True)


@pytest.mark.parametrize("name", [*TREES, "bloom", "mistral, near-sighted"])
def test_the_layout_is_found_by_trying(name: str) -> None:
    net = model(name).train()
    layout = tree.layout_for(net, ALL)
    assert layout == ("tree" if name in TREES else "plain")
    assert net.training
    with tree.evaluating(net):
        assert largest(score(net, ALL, 300, layout) - one_by_one(net, ALL)) < 1e-6


def test_a_near_sighted_model_takes_trees_of_what_it_sees_whole() -> None:
    short = [Encoded(((1, 2, 3), (1, 4, 5)), (1, 1), 0), Encoded(((1, 9, 7), (1, 2)), (1, 1), 0)]
    assert tree.layout_for(model("mistral, near-sighted"), short) == "tree"


class Deaf(nn.Module):
    """Takes positions and heeds none of them, and knows no logits_to_keep."""

    def __init__(self, net: nn.Module, *, heeds: bool) -> None:
        super().__init__()
        self.net, self.heeds = net, heeds

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor | None = None, **_: bool
    ) -> object:
        return self.net(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids if self.heeds else None
        )


def test_a_model_that_ignores_positions_is_found_out() -> None:
    assert tree.layout_for(Deaf(model("llama"), heeds=False), ALL) == "plain"


def test_logits_everywhere_are_cut_where_a_model_knows_no_better() -> None:
    net = model("llama")
    wrapped = Deaf(net, heeds=True)
    assert tree.layout_for(wrapped, ALL) == "tree"
    with torch.no_grad():
        assert largest(score(wrapped, ALL, 300, "tree") - score(net, ALL, 300, "tree")) < 1e-6


def test_only_logits_that_score_something_are_computed() -> None:
    net = model("llama")
    rows: list[int] = []
    net.get_submodule("lm_head").register_forward_hook(lambda _module, _inputs, output: rows.append(output.shape[1]))
    [packed] = tree.pack(encoded("CB"), token_budget=10_000, device="cpu")
    tree.scores(net, packed)
    assert rows == [len(packed.keep)]
    assert 10 * rows[0] < packed.tokens


def test_adapters_are_seen_through() -> None:
    net = get_peft_model(model("llama"), LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    rows: list[int] = []
    net.get_submodule("base_model.model.lm_head").register_forward_hook(
        lambda _module, _inputs, output: rows.append(output.shape[1])
    )
    assert tree.layout_for(net, ALL) == "tree"
    assert max(rows) < VOCABULARY
    with tree.evaluating(net):
        assert largest(score(net, ALL, 300, "tree") - one_by_one(net, ALL)) < 1e-6


def test_evaluation_mode_ends_as_it_began() -> None:
    net = model("gpt2")
    net.train()
    net.get_input_embeddings().eval()
    before = [module.training for module in net.modules()]
    with tree.evaluating(net):
        assert not any(module.training for module in net.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in net.modules()] == before
    assert torch.is_grad_enabled()
