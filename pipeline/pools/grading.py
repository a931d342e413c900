"""What a benchmark's task asks, what is right, and what an answer states: pure functions.

    question(benchmark, raw)            the message to a model, which says how the answer is to be given
    expected(benchmark, raw)            the right answer
    extracted(benchmark, answer, raw)   the answer that was stated last, None where none was
    is_correct(benchmark, answer, raw)

A benchmark of one's own needs ``question`` or ``input`` or ``problem``, and ``answer`` or ``target``; with ``options``
(an object or a list) it is answered by a letter, else as its right answer is: a number, a letter, words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pipeline.pools.stated import choice_in, number_in, plain, text_in
from pipeline.pools.stated_number import number_of
from tracker.errors import DataError, Problem
from tracker.fingerprint import Json

Raw = Mapping[str, Json]

CODE = "humaneval"
"""The benchmark whose answers are programs, graded by running them."""

_ASKED = ("question", "input", "problem", "prompt")
_RIGHT = ("answer_idx", "target", "answer", "label")
_FINAL = re.compile(r"####\s*(.+?)\s*\Z")
_LISTED = re.compile(r"^\s*\(([A-Z])\)\s*(.+?)\s*$", re.MULTILINE)
_LETTER = re.compile(r"\(?([A-Z])\)?")
_WORD_PAIRS = (("yes", "no"), ("true", "false"), ("valid", "invalid"))
_IS = re.compile(r"\A(?:so |therefore,? )?(?:the|it|that|this)\b(?: \w+){0,3} (?:is|are|was|were):? ", re.IGNORECASE)
_STEPS = "Think step by step, then give"


@dataclass(frozen=True)
class Question:
    """A task as it is graded: what is asked, what is right, and the options to choose from, by letter."""

    text: str
    right: str
    options: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of which the answer is one, where that is how it is given."""
        return next((pair for pair in _WORD_PAIRS if self.right.casefold() in pair), ())

    @cached_property
    def kind(self) -> str:
        """choice, number, word or text."""
        if self.options or re.fullmatch(r"\([A-Z]\)", self.right):
            return "choice"
        if self.words:
            return "word"
        return "text" if number_of(self.right) is None else "number"


def question(benchmark: str, raw: Raw) -> str:
    """The message to a model. Raises DataError where the task has no field that could be asked."""
    if benchmark == CODE:
        prompt = str(raw.get("prompt", "")).strip("\n")
        return (
            "Complete the following Python function. Give the whole function, with its imports, in one block of code "
            f"(```python); use the standard library alone, and do not call it.\n\n```python\n{prompt}\n```"
        )
    task = _task(benchmark, raw)
    return f"{_shown(task, raw)}\n\n{_form(task)}"


def expected(benchmark: str, raw: Raw) -> str | None:
    """The right answer, None of a program: its tests tell. Raises DataError where the task has none."""
    return None if benchmark == CODE else _task(benchmark, raw).right


def extracted(benchmark: str, answer: str, raw: Raw) -> str | None:
    """What ``answer`` states last: a number, a letter, words; None where it states none, and of a program."""
    if benchmark == CODE:
        return None
    task = _task(benchmark, raw)
    match task.kind:
        case "number":
            return number_in(answer)
        case "choice":
            letter = choice_in(answer, task.options)
            return f"({letter})" if letter is not None and task.right.startswith("(") else letter
        case "word":
            return text_in(answer, task.words)
        case _:
            found = text_in(answer)
            # "The date is 03/04/2021" says no more than what is right, where that is no sentence.
            return found if found is None or _IS.match(task.right) else _IS.sub("", found, count=1)


def is_correct(benchmark: str, answer: str, raw: Raw) -> bool:
    """Whether what was stated is what is right: numbers as numbers, words without regard to case. Not for programs."""
    task, found = _task(benchmark, raw), extracted(benchmark, answer, raw)
    if found is None:
        return False
    if task.kind == "number":
        return number_of(found) == number_of(task.right)
    return plain(found) == plain(task.right)


def _task(benchmark: str, raw: Raw) -> Question:
    text, right = _field(benchmark, raw, _ASKED), _field(benchmark, raw, _RIGHT)
    options = _options(raw, text)
    final = _FINAL.search(right)
    if benchmark == "gsm8k" and final is not None:
        right = final[1].replace(",", "")
    elif options and right not in options and not _LETTER.fullmatch(right):
        # A benchmark may give its right answer in the words of an option.
        right = next((letter for letter, option in options.items() if plain(option) == plain(right)), right)
    return Question(text, right, options)


def _field(benchmark: str, raw: Raw, names: tuple[str, ...]) -> str:
    value = next(
        (raw[name] for name in names if isinstance(raw.get(name), (str, int, float)) and raw[name] != ""), None
    )
    if value is None:
        given = ", ".join(raw)
        raise DataError(
            "A task cannot be asked and graded.", [Problem(benchmark, f"none of {', '.join(names)} among {given}")]
        )
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _options(raw: Raw, text: str) -> dict[str, str]:
    given = raw.get("options")
    if isinstance(given, Mapping):
        return {str(letter): str(option) for letter, option in given.items()}
    if isinstance(given, list):
        return {chr(ord("A") + at): str(option) for at, option in enumerate(given[:26])}
    listed = text.partition("Options:")[2]
    return {match[1]: match[2] for match in _LISTED.finditer(listed)}


def _shown(task: Question, raw: Raw) -> str:
    if not raw.get("options"):
        return task.text
    return "\n".join([task.text, "", *(f"{letter}. {option}" for letter, option in task.options.items())])


def _form(task: Question) -> str:
    match task.kind:
        case "number":
            return f'{_STEPS} your final answer on a line of its own: "Answer: N", where N is a number without unit.'
        case "choice":
            letters = ", ".join(task.options)
            return f'{_STEPS} the letter of the right option ({letters}) on a line of its own: "Answer: LETTER".'
        case "word":
            first, second = (word.title() if task.right[0].isupper() else word for word in task.words)
            return f'{_STEPS} your final answer on a line of its own: "Answer: {first}" or "Answer: {second}".'
        case _:
            return f'{_STEPS} your final answer, and nothing else, on a line of its own: "Answer: ...".'
