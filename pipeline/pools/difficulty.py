"""How difficult the tasks of a benchmark are: one pure function for each benchmark, over its full data.

    scorer(records) -> Difficulty      raw scores, the features behind them, the constants they were divided by

Every ``max_...`` is the 95th percentile (numpy, linear) of a feature over the full data, and every term is capped at 1.
A benchmark of one's own is one such function and one entry of the config.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tracker.errors import DataError, Problem
from tracker.fingerprint import Json

PERCENTILE = 95
PROBLEMS = 30
"""Problems of an AMC paper, which come in order of difficulty."""
BASE_COMPLEXITY: Mapping[str, float] = {
    "sports_understanding": 0.25,
    "movie_recommendation": 0.30,
    "date_understanding": 0.45,
    "disambiguation_qa": 0.50,
    "navigate": 0.70,
    "web_of_lies": 0.75,
}
"""Of BBH's tasks; the others have 0.5."""
STEP_WORDS = ("therefore", "next", "so", "then", "thus", "thus,", "finally")
MEDICAL_WORDS = (
    *("diagnosis", "treatment", "syndrome", "pathology", "etiology", "differential", "contraindication", "adverse"),
    *("comorbidity", "prognosis", "staging", "protocol", "guideline", "evidence", "therapeutic", "pharmacology"),
    *("mechanism", "clinical", "patient"),
)
LONG_QUESTION = 100
"""Words; a longer medical question counts as harder by itself."""

_NUMBERED = re.compile(r"\s*(?:\d+\.|[A-Za-z]\))")
_PROBLEM = re.compile(r"Problem_(\d{1,2})/?(?:[?#].*)?$")
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Record:
    """One task as its benchmark has it; ``task`` is the part of the benchmark it is from, where there are several."""

    raw: Mapping[str, Json]
    task: str | None = None


@dataclass(frozen=True)
class Difficulty:
    """Raw scores of all records in their order, the features of each, and the constants by name."""

    scores: Sequence[float]
    features: Sequence[Mapping[str, Json]]
    constants: Mapping[str, float]


Scorer = Callable[[Sequence[Record]], Difficulty]


def top(values: Sequence[float]) -> float:
    """The 95th percentile of a feature over the full data, 1 where that is 0 so that it can divide."""
    import numpy as np

    return float(np.percentile(np.asarray(values, dtype=np.float64), PERCENTILE)) or 1.0


def share(value: float, most: float) -> float:
    """``value`` of ``most``, at most 1."""
    return min(value / most, 1.0)


def scaled(scores: Sequence[float]) -> list[float]:
    """Scores from 0 to 1 within their benchmark (min-max); all 0 where they are all the same."""
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - low) / (high - low) if high > low else 0.0 for score in scores]


def humaneval(records: Sequence[Record]) -> Difficulty:
    """0.6 of the asserts in the test code and 0.4 of the words of the prompt, each of its maximum."""
    asserts = [text.count("assert ") + text.count("check(") for text in _texts(records, "test")]
    words = [len(text.split()) for text in _texts(records, "prompt")]
    most = {"max_asserts": top(asserts), "max_prompt_len": top(words)}
    return Difficulty(
        [
            0.6 * share(n, most["max_asserts"]) + 0.4 * share(length, most["max_prompt_len"])
            for n, length in zip(asserts, words, strict=True)
        ],
        [{"n_asserts": n, "prompt_len": length} for n, length in zip(asserts, words, strict=True)],
        most,
    )


def gsm8k(records: Sequence[Record]) -> Difficulty:
    """The reasoning steps of the answer, of their maximum."""
    features = [_steps(answer) for answer in _texts(records, "answer")]
    most = top([each["reasoning_steps"] for each in features])
    scores = [share(each["reasoning_steps"], most) for each in features]
    return Difficulty(scores, features, {"max_reasoning_steps": most})


def _steps(answer: str) -> dict[str, float]:
    lines, low = answer.split("\n"), answer.lower()
    found = {
        "n_lines": len(lines),
        "n_numbered": max(1, sum(_NUMBERED.match(line) is not None for line in lines)),
        "n_step_words": sum(word in low for word in STEP_WORDS),
    }
    return {"reasoning_steps": sum(found.values()) / len(found), **found}


def bbh(records: Sequence[Record]) -> Difficulty:
    """The complexity of the task, and 0.3 of the words of the input of their maximum; 1 at most."""
    words = [len(text.split()) for text in _texts(records, "input")]
    base = [BASE_COMPLEXITY.get(str(record.task), 0.5) for record in records]
    most = top(words)
    return Difficulty(
        [min(own + 0.3 * share(length, most), 1.0) for own, length in zip(base, words, strict=True)],
        [
            {"task_name": record.task, "base_complexity": own, "input_len": length}
            for record, own, length in zip(records, base, words, strict=True)
        ],
        {"max_input_len": most},
    )


def amc(records: Sequence[Record]) -> Difficulty:
    """The number of the problem in its paper, of 30."""
    numbers = [_problem_number(record.raw) for record in records]
    _refuse(
        records,
        [number is None for number in numbers],
        "no problem number from 1 to 30: neither a `number` nor a `url` that ends in Problem_N",
    )
    known = [number for number in numbers if number is not None]
    return Difficulty([n / PROBLEMS for n in known], [{"problem_number": n} for n in known], {"max_problem": PROBLEMS})


def _problem_number(raw: Mapping[str, Json]) -> int | None:
    given = raw.get("number")
    if given is None or (isinstance(given, str) and not given.strip()):
        found = _PROBLEM.search(str(raw.get("url") or ""))
        given = found[1] if found is not None else None
    try:
        number = 0.0 if given is None or isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number in range(1, PROBLEMS + 1) else None


def medical_qa(records: Sequence[Record]) -> Difficulty:
    """0.4 of the question's words, 0.3 of its medical words, 0.2 of the words of an option, 0.2 where it is long."""
    questions = list(_texts(records, "question"))
    options = [_options(record.raw) for record in records]
    _refuse(records, [not each for each in options], "no `options`: an object or a list of texts")
    words = [len(text.split()) for text in questions]
    keywords = [sum(word in text.lower() for word in MEDICAL_WORDS) for text in questions]
    lengths = [sum(len(text.split()) for text in each) / len(each) for each in options]
    most = {"max_question_len": top(words), "max_keywords": top(keywords), "max_option_len": top(lengths)}
    rows = list(zip(words, keywords, lengths, strict=True))
    return Difficulty(
        [
            0.4 * share(length, most["max_question_len"])
            + 0.3 * share(n, most["max_keywords"])
            + 0.2 * share(option, most["max_option_len"])
            + 0.2 * (length > LONG_QUESTION)
            for length, n, option in rows
        ],
        [{"question_len": length, "n_keywords": n, "mean_option_len": option} for length, n, option in rows],
        most,
    )


SCORERS: Mapping[str, Scorer] = {
    "humaneval": humaneval, "gsm8k": gsm8k, "bbh": bbh, "amc": amc, "medical_qa": medical_qa,
}  # fmt: skip
"""The benchmarks that are known, by the name that a config gives them."""


def _options(raw: Mapping[str, Json]) -> list[str]:
    given = raw.get("options")
    texts = list(given.values()) if isinstance(given, Mapping) else given
    return texts if isinstance(texts, list) and all(isinstance(text, str) for text in texts) else []


def _texts(records: Sequence[Record], field: str) -> list[str]:
    values = [record.raw.get(field) for record in records]
    _refuse(records, [not isinstance(value, str) for value in values], f"no text in `{field}`")
    return [str(value) for value in values]


def _refuse(records: Sequence[Record], wrong: Sequence[bool], what: str) -> None:
    """Raises DataError with every record that is ``wrong``."""
    places = [at for at, is_wrong in enumerate(wrong, 1) if is_wrong]
    if not places:
        return
    shown = [Problem(_place(records[at - 1], at), what) for at in places[:_SHOWN]]
    more = [Problem("...", f"and {len(places) - _SHOWN} more")] if len(places) > _SHOWN else []
    raise DataError("The difficulty of some tasks cannot be told.", [*shown, *more])


def _place(record: Record, number: int) -> str:
    part = f"{record.task}, " if record.task is not None else ""
    name = next((str(record.raw[key]) for key in ("task_id", "id") if key in record.raw), "")
    return f"{part}record {number}{f' ({name})' if name else ''}"
