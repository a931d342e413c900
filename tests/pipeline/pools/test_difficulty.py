"""The difficulty of tasks: against figures worked out by hand, and against numpy on anything else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pools.difficulty import (
    BASE_COMPLEXITY,
    MEDICAL_WORDS,
    SCORERS,
    Difficulty,
    Record,
    amc,
    bbh,
    gsm8k,
    humaneval,
    medical_qa,
    scaled,
    share,
    top,
)
from tests import benchmark_tasks
from tracker.errors import DataError


def scored(benchmark: str, *tasks: dict[str, Any], parts: Sequence[str] | None = None) -> Difficulty:
    given: Sequence[str | None] = parts or [None] * len(tasks)
    return SCORERS[benchmark]([Record(task, part) for task, part in zip(tasks, given, strict=True)])


def code(n_asserts: int, n_words: int) -> dict[str, Any]:
    return {"test": "assert f() == 1\n" * n_asserts, "prompt": "w " * n_words}


def test_humaneval_by_hand() -> None:
    # Asserts 2, 4, 6: the 95th percentile is at 0.95 * 2 = 1.9 between the sorted values, so 4 + 0.9 * 2 = 5.8.
    found = scored("humaneval", code(2, 10), code(4, 20), code(6, 30))
    assert found.constants == {"max_asserts": pytest.approx(5.8), "max_prompt_len": pytest.approx(29.0)}
    assert list(found.scores) == [
        pytest.approx(0.6 * 2 / 5.8 + 0.4 * 10 / 29),
        pytest.approx(0.6 * 4 / 5.8 + 0.4 * 20 / 29),
        pytest.approx(1.0),
    ]
    assert found.features[0] == {"n_asserts": 2, "prompt_len": 10}


def test_each_term_of_humaneval_is_capped_by_itself() -> None:
    many = [code(1, 1)] * 50
    asserts, words = scored("humaneval", *many, code(1000, 1)), scored("humaneval", *many, code(1, 1000))
    assert asserts.constants == words.constants == {"max_asserts": 1.0, "max_prompt_len": 1.0}
    assert asserts.scores[-1] == words.scores[-1] == pytest.approx(1.0)


def test_what_counts_as_an_assert() -> None:
    test = "def check(candidate):\n    assert candidate(1)\n    assert(x)\n    my_assert (2)\ncheck(f)  # assert"
    (features,) = scored("humaneval", {"test": test, "prompt": " a\n\tb  c "}).features
    assert features == {"n_asserts": 4, "prompt_len": 3}
    assert scored("humaneval", {"test": "self.assert x\nrecheck(y)", "prompt": ""}).features[0]["n_asserts"] == 2


def test_the_three_counts_of_gsm8k() -> None:
    answer = "1. First he buys.\n  12. More\na) So then, therefore.\nB) thus, next\nc. no\n(d) no\nFINALLY 3.5 and 4"
    (features,) = scored("gsm8k", {"answer": answer}).features
    # Every line; four that begin so; all seven words, and "thus," is one of its own.
    assert features == {"reasoning_steps": (7 + 4 + 7) / 3, "n_lines": 7, "n_numbered": 4, "n_step_words": 7}


def test_the_least_an_answer_of_gsm8k_has() -> None:
    (features,) = scored("gsm8k", {"answer": ""}).features
    assert features == {"reasoning_steps": 2 / 3, "n_lines": 1, "n_numbered": 1, "n_step_words": 0}
    (features,) = scored("gsm8k", {"answer": "also the strengthening"}).features
    assert features["n_step_words"] == 2, "words are looked for as parts of others: so, then"


def test_gsm8k_by_hand() -> None:
    # Steps (n + 1) / 3 for n lines of nothing: 2/3, 1, 4/3; the percentile is 1 + 0.9 / 3 = 1.3.
    found = scored("gsm8k", {"answer": "x"}, {"answer": "x\nx"}, {"answer": "x\nx\nx"})
    assert found.constants == {"max_reasoning_steps": pytest.approx(1.3)}
    assert found.scores == [pytest.approx(2 / 3 / 1.3), pytest.approx(1 / 1.3), 1.0]


def test_bbh_by_hand() -> None:
    tasks = [{"input": "w " * 10}, {"input": "w " * 20}, {"input": "w " * 30}, {"input": "w " * 400}]
    parts = ["navigate", "sports_understanding", "boolean_expressions", "web_of_lies"]
    found = scored("bbh", *tasks, parts=parts)
    # At 0.95 * 3 = 2.85: 30 + 0.85 * 370.
    assert found.constants == {"max_input_len": pytest.approx(344.5)}
    assert list(found.scores) == [
        pytest.approx(0.7 + 0.3 * 10 / 344.5),
        pytest.approx(0.25 + 0.3 * 20 / 344.5),
        pytest.approx(0.5 + 0.3 * 30 / 344.5),
        1.0,
    ]
    assert found.features[0] == {"task_name": "navigate", "base_complexity": 0.7, "input_len": 10}


def test_the_complexity_of_tasks() -> None:
    assert dict(BASE_COMPLEXITY) == {
        "sports_understanding": 0.25, "movie_recommendation": 0.30, "date_understanding": 0.45,
        "disambiguation_qa": 0.50, "navigate": 0.70, "web_of_lies": 0.75,
    }  # fmt: skip
    assert scored("bbh", {"input": "w"}).features[0]["base_complexity"] == 0.5


@pytest.mark.parametrize(
    ("task", "number"),
    [
        ({"number": 7}, 7),
        ({"number": 7.0}, 7),
        ({"number": "30"}, 30),
        ({"number": 7, "url": "https://a/Problem_9"}, 7),
        ({"number": None, "url": "https://a/2023_AMC_12A_Problems/Problem_9"}, 9),
        ({"number": "", "url": "https://a/Problem_9"}, 9),
        ({"number": " ", "url": "https://a/Problem_9/"}, 9),
        ({"url": "https://a/Problem_25?action=edit"}, 25),
        ({"url": "https://a/Problem_1#Solution_2"}, 1),
    ],
)
def test_the_number_of_an_amc_problem(task: dict[str, Any], number: int) -> None:
    found = scored("amc", task)
    assert found.constants == {"max_problem": 30}
    assert (found.scores, found.features) == ([number / 30], [{"problem_number": number}])


@pytest.mark.parametrize(
    "task",
    [
        {},
        {"number": 0},
        {"number": 31},
        {"number": -1},
        {"number": 7.5},
        {"number": "seven"},
        {"number": True},
        {"number": [7]},
        {"number": 10**400},
        {"number": 40, "url": "https://a/Problem_9"},
        {"url": "https://a/Problems"},
        {"number": ""},
        {"url": "https://a/Problem_9/Solution"},
        {"url": "https://a/Problem_9_or_so"},
        {"url": "https://a/Problem_0"},
        {"url": "https://a/Problem_31"},
        {"url": "https://a/Problem_123"},
        {"url": None},
        {"problem": "Problem_3"},
    ],
)
def test_an_amc_problem_without_a_number_is_named(task: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        amc([Record({"number": 1}), Record({**task, "id": "the second"})])
    (problem,) = caught.value.problems
    assert str(problem) == (
        "record 2 (the second): no problem number from 1 to 30: neither a `number` nor a `url` that ends in Problem_N"
    )


def test_a_record_is_named_by_its_task_before_its_id() -> None:
    with pytest.raises(DataError) as caught:
        gsm8k([Record({"id": 7, "task_id": "HumanEval/0"}), Record({"id": 7})])
    assert [problem.where for problem in caught.value.problems] == ["record 1 (HumanEval/0)", "record 2 (7)"]


def medical(question: str, options: Any = ("one two", "three")) -> dict[str, Any]:
    return {"question": question, "options": list(options) if isinstance(options, tuple) else options}


def test_medical_qa_by_hand() -> None:
    tasks = [
        medical("w " * 10),
        medical("Patient diagnosis " + "w " * 98, {"A": "a b c", "B": "d"}),
        medical("w " * 101, ("a b c d",)),
    ]
    found = scored("medical_qa", *tasks)
    # Words 10, 100, 101: 100 + 0.9; medical words 0, 2, 0: 0.9 * 2; words an option 1.5, 2, 4: 2 + 0.9 * 2.
    most = (100.9, 1.8, 3.8)
    assert found.constants == {
        "max_question_len": pytest.approx(most[0]),
        "max_keywords": pytest.approx(most[1]),
        "max_option_len": pytest.approx(most[2]),
    }
    assert found.features == [
        {"question_len": 10, "n_keywords": 0, "mean_option_len": 1.5},
        {"question_len": 100, "n_keywords": 2, "mean_option_len": 2.0},
        {"question_len": 101, "n_keywords": 0, "mean_option_len": 4.0},
    ]
    assert list(found.scores) == [
        pytest.approx(0.4 * 10 / most[0] + 0.2 * 1.5 / most[2]),
        pytest.approx(0.4 * 100 / most[0] + 0.3 + 0.2 * 2 / most[2]),
        pytest.approx(0.4 + 0.2 + 0.2),
    ]


def test_medical_words_are_parts_of_others_in_any_case_and_count_once() -> None:
    questions = [
        "INPATIENT, patients, a patient",
        "Psychopathology; untreatment",
        "evident",
        " ".join(MEDICAL_WORDS),
    ]
    found = scored("medical_qa", *map(medical, questions))
    assert [each["n_keywords"] for each in found.features] == [1, 2, 0, 19]


def test_options_as_a_list_are_those_of_an_object() -> None:
    one = scored("medical_qa", medical("q", {"A": "a b", "B": "c"}), medical("q q", {"A": "d"}))
    assert one == scored("medical_qa", medical("q", ["a b", "c"]), medical("q q", ["d"]))


@pytest.mark.parametrize("options", [None, "a", [], {}, ["a", 1], {"A": None}, 3])
def test_options_that_are_none_are_named(options: Any) -> None:
    with pytest.raises(DataError, match=r"record 1: no `options`: an object or a list of texts"):
        medical_qa([Record(medical("q", options))])


FIELDS = {
    "humaneval": (benchmark_tasks.humaneval(3), ("test", "prompt")),
    "gsm8k": (benchmark_tasks.gsm8k(3), ("answer",)),
    "bbh": (benchmark_tasks.bbh("navigate", 3), ("input",)),
    "medical_qa": (benchmark_tasks.medical_qa(3), ("question",)),
}


@pytest.mark.parametrize(("benchmark", "field"), [(name, field) for name in FIELDS for field in FIELDS[name][1]])
@pytest.mark.parametrize("wrong", [None, 3, ["text"], "absent"])
def test_a_record_without_its_text_is_named(benchmark: str, field: str, wrong: Any) -> None:
    tasks = [dict(task) for task in FIELDS[benchmark][0]]
    if wrong == "absent":
        del tasks[1][field]
    else:
        tasks[1][field] = wrong
    with pytest.raises(DataError) as caught:
        scored(benchmark, *tasks, parts=["navigate"] * 3)
    (problem,) = caught.value.problems
    assert problem.where.startswith("navigate, record 2")
    assert problem.what == f"no text in `{field}`"


def test_of_many_wrong_records_the_first_are_shown() -> None:
    with pytest.raises(DataError) as caught:
        gsm8k([Record({})] * 25)
    assert [problem.where for problem in caught.value.problems[:20]] == [f"record {at}" for at in range(1, 21)]
    assert caught.value.problems[20:] == (type(caught.value.problems[0])("...", "and 5 more"),)
    assert caught.value.message.startswith("The difficulty of some tasks cannot be told.\n")
    with pytest.raises(DataError) as exactly:
        gsm8k([Record({})] * 20)
    assert len(exactly.value.problems) == 20


features = st.lists(st.integers(0, 1000), min_size=1, max_size=60)


@given(features)
def test_the_top_is_numpys_percentile(values: list[int]) -> None:
    assert top(values) == (np.percentile(values, 95, method="linear") or 1.0)


@given(st.lists(st.floats(-1e6, 1e6), max_size=40))
def test_scaling_keeps_the_order_and_fills_0_to_1(scores: list[float]) -> None:
    found = scaled(scores)
    assert all(0 <= each <= 1 for each in found)
    for first, second in pairwise(sorted(scores)):
        assert found[scores.index(first)] <= found[scores.index(second)]
    if len(set(scores)) > 1:
        assert (min(found), max(found)) == (0, 1)
    else:
        assert found == [0.0] * len(scores)


def test_a_share_is_at_most_1() -> None:
    assert [share(each, 4) for each in (0, 2, 4, 5)] == [0, 0.5, 1, 1]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 200)), min_size=1, max_size=40))
def test_every_score_is_the_formula_over_the_full_data(counts: list[tuple[int, int]]) -> None:
    found = humaneval([Record(code(*each)) for each in counts])
    columns = np.array(counts, dtype=float)
    most = np.percentile(columns, 95, axis=0)
    most[most == 0] = 1
    assert np.allclose(found.scores, np.minimum(columns / most, 1) @ [0.6, 0.4])
    inputs = bbh([Record({"input": "w " * words}, "navigate") for _, words in counts])
    assert np.allclose(inputs.scores, np.minimum(0.7 + 0.3 * np.minimum(columns[:, 1] / most[1], 1), 1))
