"""Records as questions: every prompt to the letter, and a Problem with its line for whatever does not fit."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.training.encoding import encode
from pipeline.training.splits import select_eval, split_train
from pipeline.training.tasks import LLAMA, MEZO_PAPER, TASKS, Question, Record, Task, check, task
from tracker.errors import UnknownReference

ORIGINAL = Path(__file__).parents[4] / "shared" / "data" / "original"
COPA = {"premise": "The lamp went out.", "choice1": "The bulb broke.", "choice2": "I read.", "question": "cause"}
PAIR = {"premise": "The shop is shut.", "hypothesis": "nobody can buy bread"}
BOOLQ = {"passage": "Tea is grown in Assam.", "question": "is tea grown in assam", "answer": True}
ARC = {"question": "Which one floats?", "choices": {"text": ["a cork", "a nail", "a coin"], "label": ["A", "B", "C"]}}
RTE_PAPER = 'The shop is shut.\nDoes this mean that "nobody can buy bread" is true? Yes or No?\n'
BOTH = (LLAMA, MEZO_PAPER)


@pytest.mark.parametrize(
    ("name", "record", "styles", "expected"),
    [
        (
            "Copa",
            {**COPA, "label": 0},
            BOTH,
            Question("The lamp went out because ", ("the bulb broke.", "I read."), 0),
        ),
        (
            "Copa",
            {**COPA, "question": "effect", "premise": "It is late.. ", "choice1": " It's cold.", "label": -1},
            BOTH,
            Question("It is late. so ", ("it's cold.", "I read."), -1),
        ),
        (
            "CB",
            {**PAIR, "label": 2},
            BOTH,
            Question(
                'Suppose The shop is shut. Can we infer that "nobody can buy bread"? Yes, No, or Maybe?\n',
                ("Yes", "No", "Maybe"),
                2,
            ),
        ),
        (
            "RTE",
            {**PAIR, "label": 1},
            (LLAMA,),
            Question(
                'Suppose "The shop is shut." Can we infer that "nobody can buy bread"? Yes or No? ', ("Yes", "No"), 1
            ),
        ),
        ("RTE", {**PAIR, "label": 0}, (MEZO_PAPER,), Question(RTE_PAPER, ("Yes", "No"), 0)),
        ("BOOLQ", BOOLQ, (LLAMA,), Question("Tea is grown in Assam. Is tea grown in assam?", (" Yes", " No"), 0)),
        (
            "BOOLQ",
            {**BOOLQ, "question": "Is it?", "answer": False},
            (MEZO_PAPER,),
            Question("Tea is grown in Assam. Is it?\n", ("Yes", "No"), 1),
        ),
        (
            "ArcC_Cloze",
            {**ARC, "answerKey": "B"},
            BOTH,
            Question("Question: Which one floats?", ("\nAnswer: a cork", "\nAnswer: a nail", "\nAnswer: a coin"), 1),
        ),
        (
            "ArcC_MC",
            {**ARC, "answerKey": "C"},
            BOTH,
            Question(
                "Question: Which one floats?\n(A) a cork\n(B) a nail\n(C) a coin",
                ("\nAnswer: A", "\nAnswer: B", "\nAnswer: C"),
                2,
            ),
        ),
        (
            "ArcC_MC",
            {"question": "Which?", "choices": {"text": ["no", "yes"], "label": ["1", "2"]}, "answerKey": ""},
            BOTH,
            Question("Question: Which?\n(1) no\n(2) yes", ("\nAnswer: 1", "\nAnswer: 2"), -1),
        ),
    ],
)
def test_the_question_of_a_record(name: str, record: Record, styles: tuple[str, ...], expected: Question) -> None:
    assert check(task(name), [(1, record)], "f") == []
    assert [task(name).question(record, style) for style in styles] == [expected] * len(styles)


def test_what_each_task_is_trained_and_measured_by() -> None:
    assert {name: (each.num_dev, each.classification, each.macro_f1) for name, each in TASKS.items()} == {
        "Copa": (100, False, False),
        "CB": (100, True, True),
        "RTE": (500, True, False),
        "BOOLQ": (500, True, False),
        "ArcC_Cloze": (500, True, False),
        "ArcC_MC": (500, True, False),
    }


@pytest.mark.parametrize("name", [name for name, each in TASKS.items() if each.classes])
def test_the_classes_are_those_of_the_labels(name: str) -> None:
    classes = {
        "CB": {"entailment": "Yes", "contradiction": "No", "neutral": "Maybe"},
        "RTE": {"entailment": "Yes", "not_entailment": "No"},
        "BOOLQ": {"yes": "Yes", "no": "No"},
    }[name]
    candidates = task(name).question({**PAIR, **BOOLQ, "label": 0}, LLAMA).candidates
    assert dict(zip(task(name).classes or (), (each.strip() for each in candidates), strict=True)) == classes


def test_an_unknown_task_is_told_what_there_is() -> None:
    with pytest.raises(UnknownReference) as caught:
        task("copa")
    assert str(caught.value).splitlines() == [
        "No task 'copa'.",
        "Did you mean Copa?",
        "Known: Copa, CB, RTE, BOOLQ, ArcC_Cloze, ArcC_MC.",
    ]


WRONG: list[tuple[str, dict[str, Any], list[str]]] = [
    ("Copa", {**COPA, "label": 2}, ["label 2, expected 0 to 1, or -1 where it is not known"]),
    ("CB", {**PAIR, "label": -2}, ["label -2, expected 0 to 2, or -1 where it is not known"]),
    ("CB", {**PAIR, "label": True}, ["field 'label' is true or false, expected a whole number"]),
    ("RTE", {**PAIR, "label": None}, ["field 'label' is null, expected a whole number"]),
    ("RTE", {**PAIR, "label": 1.0}, ["field 'label' is a number, expected a whole number"]),
    ("BOOLQ", {**BOOLQ, "answer": 1}, ["field 'answer' is a whole number, expected true or false"]),
    ("BOOLQ", {**BOOLQ, "passage": " \n"}, ["field 'passage' holds no text"]),
    ("Copa", {**COPA, "question": "why", "label": 0}, ["field 'question' is neither cause nor effect"]),
    ("Copa", {"premise": ["x"], "label": 9}, [
        "field 'premise' is a list, expected text",
        "no field 'choice1'",
        "no field 'choice2'",
        "no field 'question'",
    ]),
    ("ArcC_MC", {**ARC, "answerKey": "D"}, ["field 'answerKey' is none of the labels A, B, C"]),
    ("ArcC_MC", {**ARC, "choices": ["a"], "answerKey": "A"}, ["field 'choices' is a list, expected an object"]),
    ("ArcC_MC", {**ARC, "choices": {"text": ["a"]}, "answerKey": ""}, [
        "field 'choices' holds no list of texts 'label'"
    ]),
    ("ArcC_Cloze", {**ARC, "choices": {"text": ["a", " "], "label": ["A", "B"]}, "answerKey": "A"}, [
        "field 'choices' holds no list of texts 'text'"
    ]),
    ("ArcC_Cloze", {**ARC, "choices": {"text": ["a"], "label": ["A", "B"]}, "answerKey": "A"}, [
        "field 'choices' has 2 labels and 1 texts"
    ]),
    ("ArcC_MC", {**ARC, "choices": {"text": ["a", "b"], "label": ["A", "A"]}, "answerKey": "A"}, [
        "field 'choices' has a label twice"
    ]),
    ("ArcC_MC", {**ARC, "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "A"}, [
        "1 candidates, expected two or more"
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "record", "expected"), WRONG)
def test_what_is_wrong_with_a_record(name: str, record: Record, expected: list[str]) -> None:
    assert [problem.what for problem in check(task(name), [(1, record)], "f")] == expected


def test_every_wrong_line_is_named() -> None:
    good, bad = {**PAIR, "label": 0}, {**PAIR, "label": 5}
    found = check(task("CB"), [(1, good), (3, bad), (4, good), (7, {})], "cb_train.jsonl")
    assert [problem.where for problem in found] == ["cb_train.jsonl:3", *["cb_train.jsonl:7"] * 3]


def test_a_task_of_ones_own_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def sentiment(record: Record, _style: str) -> Question:
        return Question(f"{record['sentence']} It was ", ("terrible", "great"), record["label"])

    own = Task("Mood", {"sentence": str, "label": (int,)}, sentiment, classes=("negative", "positive"), num_dev=1)
    monkeypatch.setitem(TASKS, own.name, own)
    records: list[Record] = [{"sentence": f"Film {n}.", "label": n % 2} for n in range(4)]
    found = task("Mood")
    wrong = [problem.what for problem in check(found, enumerate([*records, {"sentence": "x", "label": 2}]), "f")]
    assert wrong == ["label 2, expected 0 to 1, or -1 where it is not known"]
    train, dev = split_train(records, 2, found.num_dev)
    assert (list(train), list(dev)) == ([0, 1], [3])
    encoded = encode(found.question(records[1], LLAMA), lambda text: [*text.encode()], max_length=100)
    assert bytes(encoded.sequences[encoded.answer]).decode() == "Film 1. It was great"
    assert select_eval([record["label"] for record in records], 10) == [0, 1, 2, 3]


LABELS = {
    "Copa/copa_train": {0: 195, 1: 205},
    "Copa/copa_validation": {0: 55, 1: 45},
    "Copa/copa_test": {-1: 500},
    "CB/cb_train": {0: 115, 1: 119, 2: 16},
    "CB/cb_validation": {0: 23, 1: 28, 2: 5},
    "CB/cb_test": {-1: 250},
    "RTE/rte_train": {0: 501, 1: 499},
    "RTE/rte_validation": {0: 146, 1: 131},
    "RTE/rte_test": {-1: 3000},
    "BOOLQ/boolq_train": {0: 624, 1: 376},
    "BOOLQ/boolq_validation": {0: 2033, 1: 1237},
    **{
        f"{name}/ARC-Challenge_{split}": labels
        for name in ("ArcC_Cloze", "ArcC_MC")
        for split, labels in {
            "train": {0: 239, 1: 296, 2: 291, 3: 293},
            "validation": {0: 64, 1: 73, 2: 78, 3: 83, 4: 1},
            "test": {0: 266, 1: 311, 2: 310, 3: 285},
        }.items()
    },
}


@pytest.mark.skipif(not ORIGINAL.is_dir(), reason="no ../shared/data here")
@pytest.mark.parametrize("split", LABELS)
def test_every_real_record_is_a_question_that_encodes(split: str) -> None:
    found = task(split.partition("/")[0])
    # Not splitlines: U+2028 may stand in a JSON text.
    lines = (ORIGINAL / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
    records = [json.loads(line) for line in lines if line]
    assert check(found, enumerate(records, 1), split) == []
    for style in BOTH:
        questions = [found.question(record, style) for record in records]
        assert Counter(question.answer for question in questions) == LABELS[split]
        for question in questions:
            encoded = encode(question, lambda text: [*text.encode()], max_length=100_000)
            for candidate, sequence, start in zip(question.candidates, encoded.sequences, encoded.starts, strict=True):
                assert bytes(sequence[start:]).decode().strip() == candidate.strip()
                assert bytes(sequence).decode() == (question.prompt + candidate).strip(" ")


@pytest.mark.skipif(not ORIGINAL.is_dir(), reason="no ../shared/data here")
def test_every_real_split_is_looked_at() -> None:
    assert {str(path.relative_to(ORIGINAL).with_suffix("")) for path in ORIGINAL.glob("*/*.jsonl")} == set(LABELS)
