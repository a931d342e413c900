"""Packs: what they hold, how they are cut, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.training.encoding import Encoded
from pipeline.training.packing import default_token_budget, estimate_tokens, pack
from tests.pipeline.training.tiny import RECORDS, encoded

FORK = Encoded(((1, 2, 3, 4, 5), (1, 2, 6, 7)), (2, 2), 1)
SHORT = Encoded(((1, 8, 9), (1, 8, 10)), (2, 2), 0)


def test_a_pack_holds_the_shared_prefix_once_then_the_branches() -> None:
    [found] = pack([FORK, SHORT], token_budget=100, device="cpu")
    assert found.input_ids.tolist() == [[1, 2, 3, 4, 6, 1, 8]]
    assert found.position_ids is not None
    assert found.position_ids.tolist() == [[0, 1, 2, 3, 2, 0, 1]]
    assert found.ends.tolist() == [5, 5, 4, 4, 5, 7, 7]
    predicted_from = found.keep[found.predictors].tolist()
    options = [
        list(zip(at[:n], ids[:n], strict=True))
        for at, ids, n in zip(predicted_from, found.targets.tolist(), found.lengths.tolist(), strict=True)
    ]
    assert options == [[(1, 3), (2, 4), (3, 5)], [(1, 6), (4, 7)], [(6, 9)], [(6, 10)]]
    assert found.keep.tolist() == [1, 2, 3, 4, 6]


def test_the_plain_layout_is_a_row_per_candidate() -> None:
    [found] = pack([FORK, SHORT], token_budget=100, device="cpu", layout="plain")
    assert found.input_ids.tolist() == [[1, 2, 3, 4], [1, 2, 6, 0], [1, 8, 0, 0], [1, 8, 0, 0]]
    assert found.ends.tolist() == [4, 3, 2, 2]
    assert found.position_ids is None
    assert found.tokens == 16
    assert estimate_tokens([FORK, SHORT], layout="plain") == 11


def test_equal_candidates_are_one_branch() -> None:
    twice = Encoded(((1, 2, 3, 4), (1, 5, 6, 7), (1, 2, 3, 4)), (1, 1, 1), 0)
    [found] = pack([twice], token_budget=100, device="cpu")
    assert found.input_ids.tolist() == [[1, 2, 3, 5, 6]]
    assert found.predictors[0].tolist() == found.predictors[2].tolist()


def test_a_candidate_may_continue_another() -> None:
    longer = Encoded(((1, 2), (1, 2, 3), (1, 2, 3, 4)), (1, 1, 1), 0)
    [found] = pack([longer], token_budget=100, device="cpu")
    assert found.keep[found.predictors].tolist()[0][0] == 0
    assert found.lengths.tolist() == [1, 2, 3]
    assert found.tokens == estimate_tokens([longer])


@pytest.mark.parametrize("task", RECORDS)
@pytest.mark.parametrize("layout", ["tree", "plain"])
@pytest.mark.parametrize("budget", [1, 150, 400, 10_000])
def test_packs_keep_the_order_and_the_budget(task: str, layout: str, budget: int) -> None:
    records = encoded(task) * 3
    packs = pack(records, token_budget=budget, device="cpu", layout=layout)
    assert [count for each in packs for count in each.counts] == [len(record.sequences) for record in records]
    assert all(each.tokens <= budget or len(each.counts) == 1 for each in packs)
    if layout == "tree":
        assert sum(each.tokens for each in packs) == estimate_tokens(records)


def test_only_answers_leaves_out_the_rest() -> None:
    [found] = pack([FORK, SHORT], token_budget=100, device="cpu", only_answers=True)
    assert found.input_ids.tolist() == [[1, 2, 6, 1, 8]]
    assert found.counts == (1, 1)
    assert found.answer_tokens == 3
    assert estimate_tokens([FORK, SHORT], only_answers=True) == 5


def test_nothing_makes_no_pack() -> None:
    assert pack([], token_budget=100, device="cpu") == []


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing predicts"):
        pack([replace(FORK, starts=(0, 2))], token_budget=100, device="cpu")
    with pytest.raises(ValueError, match="without a label"):
        pack([replace(FORK, answer=-1)], token_budget=100, device="cpu", only_answers=True)


def test_a_gpu_gets_larger_packs_than_a_cpu() -> None:
    assert default_token_budget("cuda:1") > default_token_budget("cpu")
