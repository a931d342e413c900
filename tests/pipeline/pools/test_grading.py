"""What is read as an answer: real-looking answers, the benchmarks' own solutions, and whatever else a model may say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pools.grading import expected, extracted, is_correct, question
from pipeline.pools.stated_number import number_of
from tests.pipeline.pools.benchmark_files import real
from tracker.errors import DataError

DUCKS = {"question": "How much does she make?", "answer": "She sells 9.\n#### 1,234"}
PROBLEM = {"problem": "What is $m+n$?", "answer": 27.0}
CASE = {
    "question": "Which of the following is the mechanism?",
    "answer": "Cross-linking of DNA",
    "answer_idx": "D",
    "options": {
        "A": "Inhibition of proteasome",
        "B": "Cross-linking",
        "C": "A rise in cAMP",
        "D": "Cross-linking of DNA",
    },
}
DATE = {
    "input": "What is the date tomorrow?\nOptions:\n(A) 12/11/1937\n(B) 12/25/1937\n(C) 01/04/1938",
    "target": "(B)",
}
LOGIC = {"input": "not ( True ) and ( True ) is", "target": "False"}
LIES = {"input": "Does Ann tell the truth?", "target": "Yes"}
NAVIGATE = {"input": "Do you return?\nOptions:\n- Yes\n- No", "target": "No"}
COUNT = {"input": "How many animals do I have?", "target": "-50"}
SORT = {"input": "Sort: pear fig apple", "target": "apple fig pear"}
BRACKETS = {"input": "Complete: < [ (", "target": ") ] >"}

NUMBERS = [
    ("Answer: 1234", "1234"),
    ("#### 1234", "1234"),
    ("#### $1,234.00", "1234"),
    ("The answer is 1,234.", "1234"),
    ("The answer is $1,234.00.", "1234"),
    ("**Answer: 1234**", "1234"),
    ("**Answer:** 1234", "1234"),
    ("### Final Answer\n\n**Answer:**\n\n**$1,234**", "1234"),
    ("The final answer is: $\\boxed{1234}$.", "1234"),
    ("The final answer is: $\\boxed{1{,}234}$", "1234"),
    ("\\[\n\\boxed{1\\,234}\n\\]", "1234"),
    ("So $\\boxed{\\textbf{(E)}\\ 27}$.", "27"),
    ("Therefore, \\boxed{\\$1234 \\text{ dollars}}", "1234"),
    ("Answer: -3", "-3"),
    ("Answer: \u22123", "-3"),
    ("Answer: -$3", "-3"),
    ("Answer: $-3$", "-3"),
    ("Answer: 0.5", "1/2"),
    ("Answer: .5", "1/2"),
    ("Answer: 3/4", "3/4"),
    ("Answer: $\\frac{3}{4}$", "3/4"),
    ("Answer: \\boxed{\\dfrac{3}{4}}", "3/4"),
    ("Answer: 1 1/2 cups", "3/2"),
    ("Answer: 40%", "40"),
    ("Answer: 1.5 million", "1500000"),
    ("Answer: 18 dollars per day for 7 days", "18"),
    ("Answer: 9 * 2 = 18", "18"),
    ("Answer: 36/2 = 18", "18"),
    ("Answer: 16 - 3 - 4 = 9 eggs", "9"),
    ("Answer: x = 5, y = 3", "5"),
    ("Answer: 5 (x = 5, y = 3)", "5"),
    ("The answer is m + n = 9 + 18 = 27.", "27"),
    ("The answer is approximately 27.5 miles", "55/2"),
    ("The answer to the question is therefore 27.", "27"),
    ("The answer would be 27 because 20 + 7 = 27", "27"),
    ("The correct answer is **27**.", "27"),
    ("The total is 30.\n\nThe answer is 27.", "27"),
    ("The answer is 30. Wait, let me check that: 27 + 3 = 30, but 3 were lost. The answer is 27.", "27"),
    ("Answer: 27\n\nNote that 12 of these were bought in 2019.", "27"),
    ("The answer is not 30.\nAnswer: 27", "27"),
    ("She makes 9 * 2 = $18 every day.", "18"),
    ("Step 1: 16 eggs.\nStep 2: 9 eggs.\nShe makes **$18** every day for 7 days.", "18"),
    ("18", "18"),
    ("$18.00", "18"),
    ("So there are 27 of them.", "27"),
    ("Final answer: 27!", "27"),
    ("answer = 27", "27"),
    ("Answer - see above.\n\n27", "27"),
    ("Answer: 1234 < 2000", "1234"),
    ("Answer: ~1234", "1234"),
    ("Answer: 10 \u2013 there are 12 months, 2 of which do not count", "10"),
    ("Answer: 5-3=2", "2"),
    ("<answer>27</answer>\nAnswer: 27", "27"),
    ("**Final Answer:** The company sold 27 units.", "27"),
    ("The number of units is 12.\nThe correct number is 27.", "27"),
    ("_Answer: 27_", "27"),
    ("`Answer: 27`", "27"),
    ("ANSWER: 27", "27"),
    ("", None),
    ("I do not know.", None),
    ("I cannot answer this question.", None),
    ("There are 3 to 5 of them.", None),
    ("The answer is unclear.", None),
    ("First she sells 9, then 12, then 27 eggs.", None),
]
HEDGED = [
    *("18 or 20", "between 18 and 20", "more than 18", "<18", "18+", "18k", "18 K", "18e3", "18x + 3", "18²", "18½"),
    *("18√2", "18:00", "18,5", "18, 20", "18 and 20", "18/20", "at least 18", "$18\\sqrt{2}$", "$18\\pi$", "18 to 20"),
    *(
        "$\\sqrt{18}$",
        "not 18",
        "either 18 or 20",
        "18 eggs or 20 eggs",
        "$18^2$",
        "\\boxed{18\\pi}",
        "18-20",
        "\\frac{18}{\\pi}",
    ),
]
NUMBERS += [
    ("Answer: 70 000", "70000"),
    ("Answer: 70k", "70000"),
    ("Answer: 1.8e1", "18"),
    ("Answer: minus 5", "-5"),
    ("Answer: ½", "1/2"),
    ("Answer: 2½", "5/2"),
    ("Answer: 18 = 9*2", "18"),
    ("Answer: 2 groups of 9, so 18", "18"),
    ("Answer: 18, so 7 are left over", "18"),
    ("The answer is not 17 but 18", "18"),
    ("Answer: 18 cm", "18"),
    ("Answer: 18cm", "18"),
    ("Answer: $45^\\circ$", "45"),
    ("Answer: 18\n\nThe right number of eggs is 16 per day.", "18"),
    ("#### 18\n\nThe right number of eggs is 16 per day.", "18"),
    ("$\\boxed{18}$\n\nThe right number of eggs is 16 per day.", "18"),
    ("#### 3. The total\nShe pays 15.\nThe answer is 15.", "15"),
    ("Answer: Let us see.\nThere are 3 apples and 4 pears. The answer is 7.", "7"),
    ("Answer: 18 because 9 and 9 make 18", "18"),
    ("Answer: 18-inch", "18"),
    ("Answer: 18 ft^2", "18"),
    ("Answer: 18€", "18"),
    ("<answer>18</answer>", "18"),
    ("Answer: 7 * 10^4", "70000"),
    ("Answer: $7 \\times 10^{4}$", "70000"),
]
CHOICES = [
    *[(form.format("D"), "D") for form in ("{}", "({})", "{}.", "**{}**", "Answer: {}", "Answer: ({})", "#### {}")],
    ("Answer: D.", "D"),
    ("Answer: d", "D"),
    ("d) Cross-linking of DNA", "D"),
    ("Answer: d) Cross-linking of DNA", "D"),
    ("Answer: **D. Cross-linking of DNA**", "D"),
    ("**Answer: (D) Cross-linking of DNA**", "D"),
    ("The answer is (D).", "D"),
    ("The correct answer is option D.", "D"),
    ("The correct option is D: Cross-linking of DNA.", "D"),
    ("The best answer is D - cross-linking", "D"),
    ("The answer is Cross-linking of DNA.", "D"),
    ("The answer is cross-linking.", "B"),
    ("Answer: Cross-linking of DNA", "D"),
    ("Cross-linking of DNA", "D"),
    ("D. Cross-linking of DNA", "D"),
    ("$\\boxed{D}$", "D"),
    ("The answer is $\\boxed{\\text{D}}$.", "D"),
    ("\\boxed{\\textbf{(D)}}", "D"),
    ("(A) is wrong, for it is rare. (B) is close.\nSo the choice here would be (D).", "D"),
    ("A is incorrect. B is incorrect. D is the correct answer.", "D"),
    ("Option D (Cross-linking of DNA) is correct.", "D"),
    ("(D) Cross-linking of DNA is the most likely answer.", "D"),
    ("A patient of this age often has renal failure.\n\nAnswer: D", "D"),
    ("The answer is A rise in cAMP.", "C"),
    ("The answer is A because it blocks the proteasome.", "A"),
    ("The answer is B. No, wait: B is too general. The answer is D.", "D"),
    ("The answer is not A.\nThe answer is D.", "D"),
    ("The answer choices are A, B, C and D.\nI would say the answer is D.", "D"),
    ("Answer:\n\nD", "D"),
    ("Answer: D\n\nA is wrong because it is rare.", "D"),
    ("Answer: E", None),
    ("A 67-year-old man comes to the physician.", None),
    ("It is a rare disease.", None),
    ("(A) and (B) are both possible.", None),
    ("I cannot give medical advice.", None),
    ("Answer: a fracture", None),
    ("", None),
]
E_CASE = {"question": "Which?", "answer_idx": "E", "options": {each: f"drug {each.lower()}" for each in "ABCDE"}}
RIGHTS_E = [
    "Option A is wrong, and E is the correct answer.",
    "While A is plausible, E is the best answer.",
    "A is tempting but E is correct.",
    "Answer: E\n\nA urinary agent is the best choice for this.",
    "Answer: E\nA patient like this is best treated at home.",
    "Answer: E\n\n(Option D is the right choice in Lyme disease.)",
    "Answer: E\n\nWhy not the others: B is correct for gonorrhea.",
    "[E]",
    "<E>",
    "Answer: [E]",
    "Answer: <E>",
    "Answer: Most likely E",
    "Answer: It is E.",
    "Answer: I think E",
    "The answer is not A but E.",
    "Answer: E, because B and C are too weak.",
    "Answer: E and not D",
    "Option E (drug e) is the correct answer.",
    "Answer: E) drug e, not drug d",
    "Answer: The best drug is drug e",
]
HEDGED_E = [
    *("Answer: E or D", "Answer: E and D", "Answer: E/D", "E or D", "E and D", "E/D", "Answer: (E) or (D)"),
    *("Answer: E (drug e) or D", "Answer: E, D", "The answer is E or D.", "Answer: A patient like this is sick."),
]
WORDS: list[tuple[dict[str, Any], str, str | None]] = [
    (LOGIC, "False", "false"),
    (LOGIC, "Answer: False", "false"),
    (LOGIC, "**Answer:** `False`.", "false"),
    (LOGIC, "The answer is **False**", "false"),
    (LOGIC, "not ( True ) and ( True ) is False.", "false"),
    (LOGIC, "Answer: not (True) and (True) = False", "false"),
    (LOGIC, "not True is False, so it is False and True.\nAnswer: False", "false"),
    (LOGIC, "Answer: True", "true"),
    (LOGIC, "$\\boxed{\\text{False}}$", "false"),
    (LOGIC, "False, because not True is False.", "false"),
    (LOGIC, "It depends on what True means here to us", None),
    (LIES, "Yes", "yes"),
    (LIES, "Answer: yes", "yes"),
    (LIES, "Yes, Ann tells the truth.", "yes"),
    (LIES, "Ann says Bob lies. So the answer is yes.", "yes"),
    (LIES, "The answer is that there is no way to know.", None),
    (LIES, "There is no way to tell.", None),
    (LIES, "Answer: No", "no"),
    (LIES, "Answer: Yes/No", None),
    (LIES, "Yes/No", None),
    (LIES, "Answer: Yes or No", None),
    (LIES, "Answer: No\n\nThe right answer is yes in other riddles.", "no"),
    (NAVIGATE, "So the answer is No.", "no"),
    (NAVIGATE, "Answer: No, you do not return.", "no"),
    (NAVIGATE, "- No", "no"),
    ({"input": "Is it valid?", "target": "invalid"}, "The argument is\nAnswer: invalid", "invalid"),
    ({"input": "Is it valid?", "target": "invalid"}, "The argument is invalid.", "invalid"),
]
OTHERS: list[tuple[str, dict[str, Any], str, bool]] = [
    ("bbh", DATE, "Answer: (B)", True),
    ("bbh", DATE, "Answer: B", True),
    ("bbh", DATE, "The answer is 12/25/1937.", True),
    ("bbh", DATE, "The answer is 12/11/1937.", False),
    ("bbh", DATE, "12/25/1937", True),
    ("bbh", DATE, "The correct date is **12/25/1937**, option (B).", True),
    ("bbh", DATE, "(A) is wrong, (B) is correct.", True),
    ("bbh", DATE, "Answer: (B)\n\n(C) is correct only in leap years.", True),
    ("bbh", DATE, "(C) is correct only in leap years.", False),
    ("bbh", DATE, "Answer: The date is 12/25/1937", True),
    ("bbh", {"input": "Which date?", "target": "03/04/2021"}, "Answer: The date is 03/04/2021", True),
    ("bbh", COUNT, "The answer is -50.", True),
    ("bbh", COUNT, "The answer is 50.", False),
    ("bbh", SORT, "Answer: apple, fig, pear", True),
    ("bbh", SORT, "Answer: Apple fig pear.", True),
    ("bbh", SORT, "Answer: apple pear fig", False),
    ("bbh", BRACKETS, "Answer: )]>", True),
    ("bbh", BRACKETS, "Answer: ) ] >", True),
    ("own", {"question": "2 + 2?", "answer": "4"}, "2 + 2 = 4", True),
    ("own", {"question": "2 + 2?", "answer": 4}, "Answer: 4.0", True),
    ("own", {"input": "Capital of France?", "target": "Paris"}, "The answer is **Paris**.", True),
    ("own", {"input": "Capital of France?", "target": "Paris"}, "Answer: Lyon", False),
    ("own", {"question": "Which?", "options": ["red", "blue"], "answer": "blue"}, "Answer: B", True),
    ("own", {"question": "Which?", "options": ["red", "blue"], "answer": "B"}, "The answer is blue.", True),
]


@pytest.mark.parametrize(("answer", "found"), NUMBERS)
def test_a_number_is_read_from_what_is_said_of_it(answer: str, found: str | None) -> None:
    got = extracted("amc", answer, PROBLEM)
    assert (got if got is None else number_of(got)) == (found if found is None else number_of(found))


@pytest.mark.parametrize(("answer", "found"), CHOICES)
def test_a_letter_is_read_from_what_is_said_of_it(answer: str, found: str | None) -> None:
    assert extracted("medical_qa", answer, CASE) == found


@pytest.mark.parametrize("form", ["{}", "Answer: {}", "The answer is {}."])
@pytest.mark.parametrize("hedged", HEDGED)
def test_a_number_that_is_hedged_or_goes_on_is_not_right(hedged: str, form: str) -> None:
    assert not is_correct("gsm8k", form.format(hedged), {"question": "How many?", "answer": "#### 18"})


@pytest.mark.parametrize("answer", RIGHTS_E)
def test_the_letter_that_is_meant_is_read_and_no_other(answer: str) -> None:
    assert extracted("medical_qa", answer, E_CASE) == "E"


@pytest.mark.parametrize("answer", HEDGED_E)
def test_of_two_letters_none_is_the_answer(answer: str) -> None:
    assert extracted("medical_qa", answer, E_CASE) is None


@pytest.mark.parametrize(("raw", "answer", "found"), WORDS)
def test_a_word_is_read_from_what_is_said_of_it(raw: dict[str, Any], answer: str, found: str | None) -> None:
    assert extracted("bbh", answer, raw) == found


@pytest.mark.parametrize(("benchmark", "raw", "answer", "correct"), OTHERS)
def test_answers_are_right_or_wrong(benchmark: str, raw: dict[str, Any], answer: str, correct: bool) -> None:
    assert is_correct(benchmark, answer, raw) is correct


def test_numbers_are_compared_as_numbers() -> None:
    right = ["Answer: 1234", "Answer: 1,234.00", "#### 1234.0", "The answer is $1,234."]
    assert all(is_correct("gsm8k", answer, DUCKS) for answer in right)
    assert not is_correct("gsm8k", "Answer: 1235", DUCKS)
    assert expected("gsm8k", DUCKS) == "1234"
    assert expected("amc", PROBLEM) == "27"


def test_the_references_of_gsm8k_are_right() -> None:
    tasks = real("gsm8k_test.jsonl")
    assert len(tasks) == 1319
    assert [task["answer"] for task in tasks if not is_correct("gsm8k", task["answer"], task)] == []


@pytest.mark.parametrize(
    ("benchmark", "file"),
    [
        ("amc", "amc12_2023.jsonl"),
        ("medical_qa", "medqa_sample.jsonl"),
        ("bbh", "bbh/boolean_expressions.jsonl"),
        ("bbh", "bbh/date_understanding.jsonl"),
        ("gsm8k", "gsm8k_test.jsonl"),
    ],
)
def test_what_is_right_is_graded_so_in_every_form(benchmark: str, file: str) -> None:
    forms = (
        "{}",
        "Answer: {}",
        "**Answer:** {}.",
        "So the answer is {}.",
        "\\boxed{{{}}}",
        "It is 1, a.\nAnswer: **{}**",
    )
    wrong = [
        (form, task)
        for task in real(file)
        for form in forms
        if not is_correct(benchmark, form.format(expected(benchmark, task)), task)
    ]
    assert wrong == []


def test_the_options_of_medqa_are_told_apart_in_words() -> None:
    for task in real("medqa_sample.jsonl"):
        for form in ("{}", "Answer: {}", "The answer is {}."):
            for letter, option in task["options"].items():
                assert extracted("medical_qa", form.format(option), task) == letter, (form, option)


def test_another_answer_is_wrong_on_the_real_tasks() -> None:
    for file, benchmark, others in (
        ("gsm8k_test.jsonl", "gsm8k", ("Answer: 0.123", "", "Answer: none")),
        ("amc12_2023.jsonl", "amc", ("Answer: 0.123", "Answer: B", "")),
        ("bbh/date_understanding.jsonl", "bbh", ("Answer: (Z)", "Answer: 1", "")),
    ):
        assert not any(is_correct(benchmark, other, task) for task in real(file) for other in others)


def test_a_question_says_in_what_form_the_answer_is_to_be_given() -> None:
    assert '"Answer: N"' in question("gsm8k", DUCKS)
    assert '"Answer: N"' in question("amc", PROBLEM)
    asked = question("medical_qa", CASE)
    assert "D. Cross-linking of DNA" in asked
    assert '"Answer: LETTER"' in asked
    assert "(A, B, C)" in question("bbh", DATE)
    assert '"Answer: True" or "Answer: False"' in question("bbh", LOGIC)
    assert "```python\ndef f():\n```" in question("humaneval", {"prompt": "\ndef f():\n"})
    assert "standard library alone" in question("humaneval", {"prompt": "def f():"})


def test_a_question_does_not_hold_its_answer() -> None:
    assert "1234" not in question("gsm8k", DUCKS).replace(",", "")
    assert "27" not in question("amc", PROBLEM)


def test_a_task_without_question_or_answer_is_named() -> None:
    with pytest.raises(DataError, match="own: none of question, input"):
        question("own", {"text": "Why?", "answer": "4"})
    with pytest.raises(DataError, match="own: none of answer_idx, target"):
        expected("own", {"question": "Why?", "answer": None})


PIECES = st.sampled_from(
    [
        "Answer:",
        "the answer is",
        "####",
        "\\boxed{",
        "}",
        "**",
        "$",
        "1,234",
        "-3",
        "1/0",
        "B",
        "(C)",
        "yes",
        "\n",
        "=",
        "_",
    ]
)


@given(st.lists(PIECES | st.text(max_size=20), max_size=30).map(" ".join))
def test_nothing_that_is_said_breaks_the_reading(answer: str) -> None:
    for benchmark, raw in (("gsm8k", DUCKS), ("medical_qa", CASE), ("bbh", LOGIC), ("bbh", DATE), ("bbh", SORT)):
        found = extracted(benchmark, answer, raw)
        assert found is None or isinstance(found, str)
        is_correct(benchmark, answer, raw)
    assert extracted("medical_qa", answer, CASE) in {None, *CASE["options"]}


@given(st.integers(-(10**12), 10**12), st.text(alphabet="abcxyz ,.\n", max_size=200), st.booleans())
def test_a_number_said_last_is_found_whatever_was_said_before(value: int, before: str, commas: bool) -> None:
    said = f"{value:,}" if commas else str(value)
    found = extracted("amc", f"The answer is 7.\n{before}\nAnswer: {said}", PROBLEM)
    assert found is not None
    assert number_of(found) == value


@given(st.sampled_from("ABCD"), st.sampled_from(["({})", "{}", "**{}**", "{}.", "\\boxed{{{}}}", "{}) it is"]))
def test_a_letter_said_last_is_found(letter: str, form: str) -> None:
    said = f"The answer is B.\nThat was too fast; D is rare.\nThe answer is {form.format(letter)}"
    assert extracted("medical_qa", said, CASE) == letter


@pytest.mark.parametrize(
    "piece", ["answer ", "the answer is ", "\\boxed{", "_", "*", "1", "1/", "(A", "- ", "=1", "is the "]
)
def test_an_endless_answer_is_read_in_no_time(piece: str) -> None:
    answer = piece * (60_000 // len(piece))
    for benchmark, raw in (("gsm8k", DUCKS), ("medical_qa", CASE), ("bbh", LOGIC), ("bbh", SORT)):
        is_correct(benchmark, answer, raw)
