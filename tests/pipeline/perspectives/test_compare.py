from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu import sentence_chrf

from pipeline.perspectives.compare import compare, differs, matched

Row = dict[str, Any]
TEXTS = ("Guten Tag", "Auf Wiedersehen", "Danke schön")
ENGLISH = ("Good day to you", "Goodbye then", "Thank you so much")
POOR = ("Tag is good", "See again", "Nice thanks")


def condition(name: str, position: int, *, is_reference: bool = False, **figures: float) -> Row:
    names = ("mean_words", "mean_characters", "mean_completion_tokens", "mean_latency_s", "chrf")
    return {
        "condition": name, "position": position, "is_reference": is_reference, "n_responses": 3, "n_failed": 0,
        **dict.fromkeys(names), **figures,
    }  # fmt: skip


def dataset(
    answers: Mapping[str, Sequence[str | None]],
    *,
    inputs: Sequence[str] = TEXTS,
    references: Sequence[str | None] = ENGLISH,
    strategies: Mapping[str, str] | None = None,
    **changes: Any,
) -> Row:
    """A data set whose conditions answered so, in the order of the inputs; None: nothing."""
    told = [
        {"condition": name, "reading": None, "strategy": (strategies or {}).get(name, f"Be {name}.")}
        for name in answers
    ]
    return {
        "fingerprint": "0" * 12,
        "source_digest": "d",
        "conditions": [condition(name, at) for at, name in enumerate(answers)],
        "inputs": [{"input": text, "reference": to} for text, to in zip(inputs, references, strict=True)],
        "answers": {
            (at, seat): {"status": "answered" if text else "failed", "response": text, "preparation": None}
            for seat, texts in enumerate(answers.values())
            for at, text in enumerate(texts)
        },
        "identity": {
            "agent_perspectives": told, "data_config": {"inputs": "|".join(inputs)}, "reading": 1, "draw": 0,
            "model_config": {"temperature": 0.7}, **changes,
        },
        "settings": {"agent_perspectives": told, "data_config.sample_size": len(inputs), "model_config.timeout": 60.0},
    }  # fmt: skip


def test_inputs_match_by_their_text_the_first_with_the_first() -> None:
    first = [{"input": text} for text in "abca"]
    second = [{"input": text} for text in "cadaa"]
    assert matched(first, second) == [(0, 1), (2, 0), (3, 3)]
    assert matched(first, []) == matched([], second) == []


def test_equal_texts_are_counted_where_both_answered() -> None:
    first = dataset({"A": ENGLISH, "B": POOR})
    second = dataset({"A": (ENGLISH[2], None, ENGLISH[0]), "C": POOR}, inputs=TEXTS[::-1], references=ENGLISH[::-1])
    found = compare(first, second, n_tested=0, n_samples=0)
    (both,) = found.conditions
    assert (both.condition, both.n_both, both.n_equal) == ("A", 2, 2)
    assert found.own == (["B"], ["C"])
    assert (found.same_inputs, found.n_shared_inputs) == (False, 3)


def test_settings_are_compared_with_perspectives_by_condition() -> None:
    first = dataset({"A": ENGLISH, "B": POOR})
    second = dataset(
        {"B": POOR, "A": ENGLISH, "C": POOR}, strategies={"A": "Be another A."}, model_config={"temperature": 1.0}
    )
    settings = compare(first, second, n_tested=0, n_samples=0).settings
    assert settings.different == {
        "model_config.temperature": [0.7, 1.0],
        "agent_perspectives.A.strategy": ["Be A.", "Be another A."],
    }
    assert settings.same == {"agent_perspectives.B.strategy": "Be B."}
    assert settings.operational == {}


def test_chrf_is_that_of_each_response_and_corrected_for_the_number_of_tests() -> None:
    first, second = (dataset({"A": ENGLISH, "B": POOR}), dataset({"A": POOR, "B": POOR}))
    a, b = compare(first, second, n_tested=3, n_samples=0).conditions
    assert a.test is not None
    assert b.test is not None
    poor = [float(sentence_chrf(text, [to]).score) for text, to in zip(POOR, ENGLISH, strict=True)]
    assert list(a.test.means) == pytest.approx([100.0, sum(poor) / 3])
    assert a.test.difference == pytest.approx(sum(poor) / 3 - 100)
    # Of the eight ways to turn three differences of one sign, two reach their sum.
    assert (a.test.n, a.test.p, a.test.corrected) == (3, 0.25, 0.5)
    assert (b.test.p, b.test.corrected) == (1.0, 1.0)


def test_chrf_is_tested_on_the_first_inputs_with_references_only() -> None:
    first = dataset({"A": ENGLISH}, references=(None, *ENGLISH[1:]))
    second = dataset({"A": (*ENGLISH[:2], None)})
    test = compare(first, second, n_tested=3, n_samples=0).conditions[0].test
    assert test is not None
    assert test.n == 1
    assert compare(first, second, n_tested=1, n_samples=0).conditions[0].test is None
    assert compare(first, second, n_tested=1, n_samples=0).n_tested == 1


def test_by_itself_it_tests_as_many_as_take_a_few_seconds() -> None:
    many = [f"text {n}" for n in range(400)]
    short = dataset({"A": many}, inputs=many, references=many)
    assert compare(short, short, n_tested=None, n_samples=0).n_tested == 300
    long = dataset({"A": ["word " * 40_000] * 400}, inputs=many, references=[None] * 400)
    assert compare(long, long, n_tested=None, n_samples=0).n_tested == 5
    assert compare(long, short, n_tested=None, n_samples=0).n_tested == 9
    few = dataset({"A": many[:2]}, inputs=many[:2], references=many[:2])
    assert compare(few, short, n_tested=None, n_samples=0).n_tested == 2


def test_a_reference_is_no_agent_to_be_tested() -> None:
    rows = [dataset({"Reference": (None,) * 3, "A": ENGLISH}) for _ in range(2)]
    for row in rows:
        row["conditions"][0]["is_reference"] = True
        del row["identity"]["agent_perspectives"][0]
    reference, a = compare(rows[0], rows[1], n_tested=3, n_samples=1).conditions
    assert (reference.n_both, reference.n_equal, reference.test) == (3, 3, None)
    assert a.test is not None


def test_a_sample_shows_what_each_has() -> None:
    first = dataset({"A": ENGLISH, "B": POOR})
    second = dataset({"A": POOR[1:], "C": ENGLISH[1:]}, inputs=TEXTS[1:], references=ENGLISH[1:])
    (sample,) = compare(first, second, n_tested=0, n_samples=1).samples
    assert (sample.numbers, sample.input) == ((2, 1), TEXTS[1])
    texts = [(name, a and a["response"], b and b["response"]) for name, a, b in sample.responses]
    assert texts == [("A", ENGLISH[1], POOR[1]), ("B", POOR[1], None), ("C", None, ENGLISH[1])]
    (only,) = compare(first, second, n_tested=0, n_samples=1, position=0).samples
    assert (only.numbers, only.references) == ((1, None), (ENGLISH[0], None))
    assert [b for _, _, b in only.responses] == [None, None, None]


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=8))
def test_the_test_is_the_share_of_all_signs_that_reach_the_sum(pairs: list[tuple[int, int]]) -> None:
    first, second = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    sizes = [b - a for a, b in pairs]
    reached = [
        abs(sum(s * d for s, d in zip(signs, sizes, strict=True))) for signs in product((1, -1), repeat=len(sizes))
    ]
    expected = Fraction(sum(each >= abs(sum(sizes)) for each in reached), len(reached))
    assert differs(first, second) == pytest.approx(float(expected))
    assert differs(second, first) == differs(first, second)


def test_very_many_differences_are_rounded_more_and_still_tested() -> None:
    clear = [(0.0, 40.0)] * 1000
    level = [(0.0, 40.0), (40.0, 0.0)] * 500
    assert differs(*zip(*clear, strict=True)) < 1e-9
    assert differs(*zip(*level, strict=True)) == 1.0
