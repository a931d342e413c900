"""Figures of each condition, on rows whose figures are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.chrf import CHRF

from pipeline.perspectives.results import chrf, results
from tests.perspectives import Row

REFERENCE = {"position": 0, "condition": "Reference", "is_reference": True}
ORIGINAL = {"position": 1, "condition": "Original", "is_reference": False}
SILENT = {"position": 2, "condition": "Silent", "is_reference": False}
INPUTS = [
    {"input": "Der Mann fällt.", "reference": "The man falls."},
    {"input": "Ein Hund.", "reference": "A dog."},
    {"input": "Ohne."},
]
SENTENCE = st.text("abcdef äö.", min_size=1).filter(str.strip)


def answer(position: int, response: str | None, reference: str | None, perspective: int = 1, **changes: object) -> Row:
    return {
        "position": position, "perspective": perspective, "response": response, "reference": reference,
        "status": "failed" if response is None else "answered", "completion_tokens": 10 * (position + 1),
        "latency_s": 0.5 * position, **changes,
    }  # fmt: skip


def test_figures_are_those_of_what_was_answered() -> None:
    answers = [
        answer(0, "The man falls.", "The man falls."),
        answer(1, "One  dog\nruns", "A dog."),
        answer(2, "Without", None, completion_tokens=None, latency_s=None),
        answer(0, None, "The man falls.", 2),
        answer(1, None, "A dog.", 2, completion_tokens=99),
    ]
    found = results([REFERENCE, ORIGINAL, SILENT], INPUTS, answers)
    assert found[0] == {"n_responses": 2, "n_failed": 0, "mean_words": 2.5, "mean_characters": 10.0}
    assert found[1] == {
        "n_responses": 3, "n_failed": 0, "mean_words": 2.333333, "mean_characters": 11.333333,
        "mean_completion_tokens": 15.0, "mean_latency_s": 0.25,
        "chrf": chrf([answers[0], answers[1]]),
    }  # fmt: skip
    assert found[2] == {
        "n_responses": 0, "n_failed": 2, "mean_words": None, "mean_characters": None,
        "mean_completion_tokens": None, "mean_latency_s": None, "chrf": None,
    }  # fmt: skip


def test_an_answer_from_before_may_be_known_without_its_cost_of_time() -> None:
    found = results([ORIGINAL], INPUTS, [answer(2, "x", None), answer(1, "y", None, latency_s=None)])
    assert (found[1]["mean_latency_s"], found[1]["mean_completion_tokens"]) == (1.0, 25.0)
    assert found[1]["chrf"] is None


@pytest.mark.parametrize(
    ("response", "reference", "score"),
    [("same", "same", 100.0), ("abc", "xyz", 0.0), ("the cat", "the hat", 28.055556)],
)
def test_chrf_of_known_pairs(response: str, reference: str, score: float) -> None:
    assert chrf([answer(0, response, reference)]) == pytest.approx(score, abs=1e-6)


@given(st.lists(st.tuples(SENTENCE, SENTENCE), min_size=1, max_size=5))
def test_chrf_is_that_of_sacrebleu_over_all_pairs(both: list[tuple[str, str]]) -> None:
    responses, references = [response for response, _ in both], [reference for _, reference in both]
    expected = CHRF(char_order=6, word_order=0, beta=2).corpus_score(responses, [references]).score
    assert chrf([answer(0, *each) for each in both]) == pytest.approx(expected, abs=1e-6)


def test_without_references_there_is_no_chrf() -> None:
    assert chrf([]) is None
    assert results([ORIGINAL], INPUTS[2:], [answer(0, "x", None)])[1]["chrf"] is None
