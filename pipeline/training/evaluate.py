"""What a model answers to questions, and how good that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from pipeline.training import tree
from pipeline.training.encoding import Encoded
from pipeline.training.setup import Stopped
from tracker.errors import Diverged


@dataclass(frozen=True)
class Prediction:
    """One record's answer: ``index`` is its place in the split file; ``scores`` are mean log-probabilities."""

    index: int
    label: int
    predicted: int
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Evaluation:
    """``loss`` is per record (classification) or per token of the right answers; ``accuracy`` from 0 to 1."""

    loss: float
    accuracy: float
    n_correct: int
    n: int
    predictions: list[Prediction]


def evaluate(
    model: nn.Module,
    encoded: Sequence[Encoded],
    indices: Sequence[int],
    *,
    classification: bool,
    token_budget: int,
    layout: str,
    on_progress: Callable[[int, int], None] | None = None,
    stopping: Callable[[], bool] | None = None,
) -> Evaluation:
    """The model's answers to labelled records, whose places in the split file are ``indices``; the first best wins.

    The model is in evaluation mode meanwhile, and as before afterwards. ``on_progress`` gets (done, all) records;
    ``stopping`` is asked before each forward. Raises Stopped, Diverged for a score that is not finite, and
    ValueError where there is no record, or one without a label.
    """
    if not encoded or len(encoded) != len(indices):
        raise ValueError(f"{len(encoded)} records at {len(indices)} places: nothing to evaluate, or not a place each")
    device = next(model.parameters()).device
    predictions: list[Prediction] = []
    losses: list[float] = []
    weight = 0
    with tree.evaluating(model):
        for pack in tree.packs(encoded, token_budget=token_budget, device=device, layout=layout):
            if stopping is not None and stopping():
                raise Stopped
            scores = tree.scores(model, pack)
            values = iter(scores.tolist())
            for count in pack.counts:
                at = len(predictions)
                own = tuple(next(values) for _ in range(count))
                predictions.append(_prediction(indices[at], encoded[at].answer, own))
            losses += tree.losses(scores, pack, classification=classification).tolist()
            weight += tree.weight([pack], classification=classification)
            if on_progress is not None:
                on_progress(len(predictions), len(encoded))
    n_correct, n = sum(each.predicted == each.label for each in predictions), len(predictions)
    return Evaluation(math.fsum(losses) / weight, n_correct / n, n_correct, n, predictions)


def _prediction(index: int, label: int, scores: tuple[float, ...]) -> Prediction:
    if not all(map(math.isfinite, scores)):
        raise Diverged(
            f"The model's scores for record {index} of the evaluation are not finite: {', '.join(map(str, scores))}.",
            hint="Its weights have diverged: take a lower learning rate.",
        )
    return Prediction(index, label, scores.index(max(scores)), scores)
