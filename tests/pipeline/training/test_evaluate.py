"""What an evaluation counts, and when it ends early."""

from __future__ import annotations

import pytest
import torch

from pipeline.training import tree
from pipeline.training.encoding import Encoded
from pipeline.training.evaluate import Evaluation, evaluate
from pipeline.training.setup import Stopped
from tests.pipeline.training.tiny import RECORDS, encoded, model
from tracker.errors import TrainingFailed

ALL = [record for task in RECORDS for record in encoded(task)]
PLACES = list(range(100, 100 + 2 * len(ALL), 2))


def run(*, classification: bool = True, budget: int = 300, layout: str = "tree") -> Evaluation:
    return evaluate(model("llama"), ALL, PLACES, classification=classification, token_budget=budget, layout=layout)


@pytest.mark.parametrize("classification", [True, False])
def test_an_evaluation_does_not_depend_on_layout_or_packs(classification: bool) -> None:
    first = run(classification=classification)
    for budget in (1, 10_000):
        for layout in ("tree", "plain"):
            other = run(classification=classification, budget=budget, layout=layout)
            assert other.loss == pytest.approx(first.loss, abs=1e-6)
            assert other.n_correct == first.n_correct
            for one, two in zip(first.predictions, other.predictions, strict=True):
                assert (one.index, one.label, one.predicted) == (two.index, two.label, two.predicted)
                assert one.scores == pytest.approx(two.scores, abs=1e-6)


@pytest.mark.parametrize("classification", [True, False])
def test_its_loss_is_that_of_training(classification: bool) -> None:
    packs = tree.pack(ALL, token_budget=300, device="cpu")
    loss = tree.batch_loss(model("llama"), packs, classification=classification).item()
    assert run(classification=classification).loss == pytest.approx(loss, abs=1e-9)


def test_every_record_has_its_prediction() -> None:
    found = run()
    assert [each.index for each in found.predictions] == PLACES
    assert [each.label for each in found.predictions] == [record.answer for record in ALL]
    assert [len(each.scores) for each in found.predictions] == [len(record.sequences) for record in ALL]
    assert all(each.scores[each.predicted] == max(each.scores) for each in found.predictions)
    right = sum(each.predicted == each.label for each in found.predictions)
    assert 0 < right < len(ALL)
    assert (found.n, found.n_correct, found.accuracy) == (len(ALL), right, right / len(ALL))


def test_of_equal_candidates_the_first_wins() -> None:
    # Of the choices of this record, ice is there twice.
    record = encoded("ArcC_Cloze")[2]
    rows = record.sequences
    same = Encoded((rows[0], rows[0], rows[2]), (record.starts[0],) * 3, 2)
    found = evaluate(model("llama"), [ALL[0], same], [0, 1], classification=True, token_budget=900, layout="tree")
    assert len(set(found.predictions[1].scores)) == 1
    assert found.predictions[1].predicted == 0


def test_the_model_is_left_as_it_was() -> None:
    net = model("gpt2").train()
    settings = {"classification": True, "token_budget": 300, "layout": "tree"}
    losses = {evaluate(net, ALL, PLACES, **settings).loss for _ in range(2)}  # type: ignore[arg-type]  # of mixed values
    assert len(losses) == 1, "dropout was on"
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())


def test_progress_goes_up_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    evaluate(
        model("llama"),
        ALL,
        PLACES,
        classification=True,
        token_budget=300,
        layout="tree",
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert len(seen) > 3
    assert seen == sorted(set(seen))
    assert seen[-1] == (len(ALL), len(ALL))


def test_it_can_be_abandoned() -> None:
    net, asked = model("llama").train(), iter([False, False, True])
    done: list[int] = []
    with pytest.raises(Stopped):
        evaluate(
            net,
            ALL,
            PLACES,
            classification=True,
            token_budget=300,
            layout="tree",
            on_progress=lambda count, _total: done.append(count),
            stopping=lambda: next(asked),
        )
    assert len(done) == 2
    assert net.training


def test_a_score_that_is_no_number_never_wins() -> None:
    net = model("llama")
    strange = Encoded(((256, 257, 3), (256, 5, 3)), (2, 2), 0)
    net.get_parameter("model.embed_tokens.weight").data[257] = torch.nan
    with pytest.raises(TrainingFailed, match=r"record 41 .*: nan, -"):
        evaluate(net, [ALL[0], strange], [40, 41], classification=True, token_budget=1, layout="plain")


def test_there_must_be_something_to_evaluate() -> None:
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(model("llama"), [], [], classification=True, token_budget=300, layout="tree")
