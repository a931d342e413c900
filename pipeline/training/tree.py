"""Candidates scored in packs, for training and for evaluation alike.

A tree mask keeps the questions of a pack, and the candidates of a question, from seeing each other.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.training.encoding import Encoded
from pipeline.training.packing import Pack, default_token_budget, estimate_tokens, pack, packs

__all__ = [
    "Layout",
    "Pack",
    "backward",
    "batch_loss",
    "default_token_budget",
    "estimate_tokens",
    "evaluating",
    "layout_for",
    "losses",
    "pack",
    "packs",
    "parts",
    "scores",
    "weight",
]

Layout = Literal["tree", "plain"]
# How far two layouts may be apart by rounding alone, of a score and of one.
_TOLERANCE = {torch.float64: 1e-7, torch.float32: 2e-5, torch.bfloat16: 6e-2, torch.float16: 1e-2}


def scores(model: nn.Module, pack: Pack) -> Tensor:
    """The mean log-probability of each candidate's option tokens, candidates in order, differentiable; in float64."""
    architecture = _architecture(model)
    given: dict[str, Any] = {"input_ids": pack.input_ids, "use_cache": False}
    if pack.position_ids is None:
        columns = torch.arange(pack.input_ids.shape[1], device=pack.ends.device)
        given["attention_mask"] = (columns < pack.ends[:, None]).long()
    else:
        given |= {"position_ids": pack.position_ids, "attention_mask": _tree_mask(pack.ends, _dtype(architecture))}
    if _takes(architecture, "logits_to_keep"):
        logits = model(**given, logits_to_keep=pack.keep).logits
    else:
        logits = model(**given).logits[:, pack.keep]
    logits = logits.flatten(0, 1)
    shifted = logits.to(torch.promote_types(logits.dtype, torch.float32)) - logits.detach().amax(-1, keepdim=True)
    # What is small by now is subtracted in double: in single precision, half of a score's error comes from here.
    norms = shifted.exp().sum(-1).double().log()
    found = shifted[pack.predictors, pack.targets].double() - norms[pack.predictors]
    option = torch.arange(found.shape[1], device=found.device) < pack.lengths[:, None]
    sums: Tensor = found.where(option, 0.0).sum(1)
    return sums / pack.lengths


def losses(scores: Tensor, pack: Pack, *, classification: bool) -> Tensor:
    """One loss per record: cross-entropy over its candidates' scores, or -log p of its right answer's tokens, summed.

    Raises ValueError where a record has no label, or there is nothing to choose from.
    """
    if not pack.answer_tokens:
        raise ValueError("a record without a label has no loss")
    if not classification:
        right = pack.table.gather(1, pack.answers[:, None])[:, 0]
        return -(scores * pack.lengths)[right]
    if min(pack.counts) < 2:
        raise ValueError("classification needs every candidate of a record")
    # The missing candidates of shorter rows can neither win nor take part in the sum.
    padded = torch.cat([scores, scores.new_full((1,), -torch.inf)])
    return nn.functional.cross_entropy(padded[pack.table], pack.answers, reduction="none")


def weight(packs: Iterable[Pack], *, classification: bool) -> int:
    """What the losses of ``packs`` are averaged over: records (classification), or right answers' option tokens."""
    return sum(len(pack.counts) if classification else pack.answer_tokens for pack in packs)


def parts(
    model: nn.Module, packs: Sequence[Pack], *, classification: bool, total: int | None = None
) -> Iterator[Tensor]:
    """A part of ``batch_loss`` for each pack; the parts add up to it.

    ``total`` is the ``weight`` of the whole batch where ``packs`` are a share of it. Drop each part, after going
    backward from it, before taking the next: then only one pack's graph is held.
    """
    whole = weight(packs, classification=classification) if total is None else total
    for each in packs:
        yield losses(scores(model, each), each, classification=classification).sum() / whole


def batch_loss(model: nn.Module, packs: Sequence[Pack], *, classification: bool) -> Tensor:
    """The loss of a batch, a scalar that does not depend on how it is packed.

    Classification: mean over records of the cross-entropy over their candidates' scores. Else the mean over all option
    tokens of all right candidates of -log p, as in MeZO's code (Malladi et al. 2023).
    """
    return torch.stack(list(parts(model, packs, classification=classification))).sum()


def backward(
    model: nn.Module,
    packs: Sequence[Pack],
    *,
    classification: bool,
    total: int | None = None,
    backward: Callable[[Tensor], object] = Tensor.backward,
) -> Tensor:
    """The loss of a batch, without a graph; adds its gradients to those of the parameters, pack by pack.

    ``backward`` is what goes backward from a part (accelerate has its own); ``total`` as for ``parts``.
    """
    found: list[Tensor] = []
    for part in parts(model, packs, classification=classification, total=total):
        backward(part)
        found.append(part.detach())
        del part
    return torch.stack(found).sum()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No gradients and evaluation mode within; every module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def layout_for(model: nn.Module, sample: Sequence[Encoded]) -> Layout:
    """``tree`` where the model scores three of ``sample`` in one pack as it scores them in plain rows, else ``plain``.

    Give every record there is: the longest is among the three, since some architectures see only so far back, which a
    tree mask would undo. Raises whatever the model raises for plain rows.
    """
    architecture = _architecture(model)
    longest, shortest = (pick(sample, key=_columns) for pick in (max, min))
    if not _takes(architecture, "position_ids") or _columns(longest) > _sight(architecture):
        return "plain"
    chosen = [shortest, longest, max(sample, key=lambda record: len(record.sequences))]
    device = next(model.parameters()).device
    with evaluating(model):
        rows = packs(chosen, token_budget=1, device=device, layout="plain")
        plain = torch.cat([scores(model, each) for each in rows])
        try:
            tree = scores(model, pack(chosen, token_budget=sys.maxsize, device=device)[0])
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            # So an architecture refuses a mask that it does not know.
            return "plain"
    tolerance = _TOLERANCE.get(_dtype(architecture), 0.0)
    return "tree" if torch.allclose(tree, plain, rtol=tolerance, atol=tolerance) else "plain"


def _architecture(model: nn.Module) -> nn.Module:
    # What accelerate and peft wrap around a model takes any argument, and says nothing of what is inside.
    inner = getattr(model, "module", model)
    unwrap = getattr(inner, "get_base_model", None)
    return unwrap() if unwrap else inner


def _takes(architecture: nn.Module, argument: str) -> bool:
    return argument in inspect.signature(architecture.forward).parameters


def _columns(record: Encoded) -> int:
    return max(map(len, record.sequences))


def _sight(architecture: nn.Module) -> int:
    config = getattr(architecture, "config", None)
    limits = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((limit for limit in limits if limit), default=sys.maxsize)


def _dtype(architecture: nn.Module) -> torch.dtype:
    found = next(parameter for parameter in architecture.parameters() if parameter.is_floating_point())
    device = found.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else found.dtype


def _tree_mask(ends: Tensor, dtype: torch.dtype) -> Tensor:
    columns = torch.arange(len(ends), device=ends.device)
    hidden = (columns[:, None] < columns) | (columns[:, None] >= ends)
    # Added to the attention scores: every implementation takes that, not every one takes truth values.
    mask = torch.zeros(hidden.shape, dtype=dtype, device=ends.device)
    return mask.masked_fill_(hidden, torch.finfo(dtype).min)[None, None]
