"""The tasks: what their records hold and how a record becomes a question. A task of one's own is one entry of TASKS.

Prompts are those of the Llama runs that results are compared with; under style ``mezo_paper`` those of Malladi et al.
2023 (arXiv:2305.17333, table of prompts) where they differ. ARC is not in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tracker.errors import Problem, UnknownReference

Record = Mapping[str, Any]
LLAMA, MEZO_PAPER = "llama", "mezo_paper"
UNLABELLED = -1
_CONJUNCTIONS = {"cause": " because ", "effect": " so "}
_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, the texts that can follow it, and the index of the right one (-1 where that is not known).

    Raises ValueError for fewer than two candidates, one without text, or an answer that is none of them.
    """

    prompt: str
    candidates: tuple[str, ...]
    answer: int

    def __post_init__(self) -> None:
        n = len(self.candidates)
        if n < 2:
            raise ValueError(f"{n} candidates, expected two or more")
        if not all(candidate.strip() for candidate in self.candidates):
            raise ValueError("a candidate holds no text")
        if not UNLABELLED <= self.answer < n:
            raise ValueError(f"label {self.answer}, expected 0 to {n - 1}, or -1 where it is not known")


@dataclass(frozen=True)
class Task:
    """A task: its records' fields with their types, and the question that a record asks in a prompt style.

    ``question`` raises ValueError for values that it cannot use. ``classes`` names the answers where they are the same
    for every record; ``num_dev`` and ``classification`` are the defaults of `num_dev` and `train_as_classification`.
    """

    name: str
    fields: Mapping[str, type | tuple[type, ...]]
    question: Callable[[Record, str], Question]
    classes: tuple[str, ...] | None = None
    num_dev: int = 500
    classification: bool = True
    macro_f1: bool = False


def task(name: str) -> Task:
    """The task of that name. Raises UnknownReference."""
    if name not in TASKS:
        raise UnknownReference("task", name, TASKS, hint=f"Known: {', '.join(TASKS)}.")
    return TASKS[name]


def check(task: Task, lines: Iterable[tuple[int, Record]], where: str) -> list[Problem]:
    """Everything that is wrong with records of the file ``where``, given with their line numbers."""
    return [Problem(f"{where}:{number}", what) for number, record in lines for what in _wrong(task, record)]


def _wrong(task: Task, record: Record) -> list[str]:
    found = [what for name, types in task.fields.items() if (what := _field_problem(record, name, types)) is not None]
    if not found:
        try:
            task.question(record, LLAMA)
        except ValueError as error:
            found.append(str(error))
    return found


def _field_problem(record: Record, name: str, types: type | tuple[type, ...]) -> str | None:
    allowed = types if isinstance(types, tuple) else (types,)
    if name not in record:
        return f"no field {name!r}"
    # Not isinstance: to Python true is the number 1.
    if (given := type(record[name])) in allowed:
        return None
    return f"field {name!r} is {_word(given)}, expected {' or '.join(map(_word, allowed))}"


def _word(kind: type) -> str:
    return _WORDS.get(kind, kind.__name__)


def _text(record: Record, name: str) -> str:
    text: str = record[name].strip()
    if not text:
        raise ValueError(f"field {name!r} holds no text")
    return text


def _copa(record: Record, _style: str) -> Question:
    conjunction = _CONJUNCTIONS.get(record["question"])
    if conjunction is None:
        raise ValueError("field 'question' is neither cause nor effect")
    choices = tuple(_continued(_text(record, name)) for name in ("choice1", "choice2"))
    return Question(_text(record, "premise").removesuffix(".") + conjunction, choices, record["label"])


def _continued(sentence: str) -> str:
    first, blank, rest = sentence.partition(" ")
    return (first if first == "I" else first.lower()) + blank + rest


def _cb(record: Record, _style: str) -> Question:
    premise, hypothesis = _text(record, "premise"), _text(record, "hypothesis")
    prompt = f'Suppose {premise} Can we infer that "{hypothesis}"? Yes, No, or Maybe?\n'
    return Question(prompt, ("Yes", "No", "Maybe"), record["label"])


def _rte(record: Record, style: str) -> Question:
    premise, hypothesis = _text(record, "premise"), _text(record, "hypothesis")
    prompt = f'Suppose "{premise}" Can we infer that "{hypothesis}"? Yes or No? '
    if style == MEZO_PAPER:
        prompt = f'{premise}\nDoes this mean that "{hypothesis}" is true? Yes or No?\n'
    return Question(prompt, ("Yes", "No"), record["label"])


def _boolq(record: Record, style: str) -> Question:
    passage, question = _text(record, "passage"), _text(record, "question")
    prompt = f"{passage} {question[0].upper()}{question[1:].removesuffix('?')}?"
    candidates = ("Yes", "No") if style == MEZO_PAPER else (" Yes", " No")
    return Question(prompt + ("\n" if style == MEZO_PAPER else ""), candidates, 0 if record["answer"] else 1)


def _arc_cloze(record: Record, _style: str) -> Question:
    _, texts, answer = _choices(record)
    candidates = tuple(f"\nAnswer: {text}" for text in texts)
    return Question(f"Question: {_text(record, 'question')}", candidates, answer)


def _arc_mc(record: Record, _style: str) -> Question:
    labels, texts, answer = _choices(record)
    lines = [f"({label}) {text}" for label, text in zip(labels, texts, strict=True)]
    prompt = "\n".join([f"Question: {_text(record, 'question')}", *lines])
    return Question(prompt, tuple(f"\nAnswer: {label}" for label in labels), answer)


def _choices(record: Record) -> tuple[list[str], list[str], int]:
    """Labels and texts of ARC's choices, and the index of the right one."""
    labels, texts = (_texts(record["choices"], name) for name in ("label", "text"))
    if len(labels) != len(texts):
        raise ValueError(f"field 'choices' has {len(labels)} labels and {len(texts)} texts")
    if len(set(labels)) < len(labels):
        raise ValueError("field 'choices' has a label twice")
    key = record["answerKey"].strip()
    if key and key not in labels:
        raise ValueError(f"field 'answerKey' is none of the labels {', '.join(labels)}")
    return labels, texts, labels.index(key) if key else UNLABELLED


def _texts(choices: Record, name: str) -> list[str]:
    found = choices.get(name)
    if not isinstance(found, list) or not all(isinstance(each, str) and each.strip() for each in found):
        raise ValueError(f"field 'choices' holds no list of texts {name!r}")
    return [each.strip() for each in found]


_PAIR = {"premise": str, "hypothesis": str, "label": int}
_ARC = {"question": str, "choices": dict, "answerKey": str}
_ENTAILMENT = ("entailment", "contradiction", "neutral")
TASKS: dict[str, Task] = {
    each.name: each
    for each in (
        Task(
            "Copa",
            {"premise": str, "choice1": str, "choice2": str, "question": str, "label": int},
            _copa,
            num_dev=100,
            classification=False,
        ),
        Task("CB", _PAIR, _cb, classes=_ENTAILMENT, num_dev=100, macro_f1=True),
        Task("RTE", _PAIR, _rte, classes=("entailment", "not_entailment")),
        Task("BOOLQ", {"passage": str, "question": str, "answer": bool}, _boolq, classes=("yes", "no")),
        Task("ArcC_Cloze", _ARC, _arc_cloze),
        Task("ArcC_MC", _ARC, _arc_mc),
    )
}
