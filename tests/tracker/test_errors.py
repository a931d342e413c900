"""The error tree as it is drawn at the top of its module."""

from __future__ import annotations

import re

import pytest

from tracker import errors
from tracker.errors import ConfigError, Error, Problem, UnknownReference, reason

CLASSES = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, Error) and not each.__name__.startswith("_")
]


def test_the_drawing_names_every_class_with_its_exit_code() -> None:
    drawn = dict(re.findall(r"^ {4}[|` -]*(\w+) +(\d+)\b", errors.__doc__ or "", re.MULTILINE))
    assert drawn == {each.__name__: str(each.exit_code) for each in CLASSES}


def test_exit_codes_tell_errors_apart() -> None:
    codes = [each.exit_code for each in CLASSES if each.__name__ not in {"Error", "PartialResult"}]
    assert len(set(codes)) == len(codes)
    assert not set(codes) & {0, 1, 2}, "0 is success, 1 a partial result, 2 click's usage error"


def test_an_error_says_what_is_wrong_and_what_to_do_next() -> None:
    assert str(Error("It broke.")) == "It broke."
    assert str(Error("It broke.", hint="Mend it.")) == "It broke.\nMend it."


def test_every_problem_stands_under_the_title() -> None:
    error = ConfigError("a.yaml has 2 problems.", [Problem("a.yaml:3", "no"), Problem("a.yaml:9", "nor this")])
    assert str(error) == "a.yaml has 2 problems.\n  a.yaml:3: no\n  a.yaml:9: nor this"
    assert [problem.where for problem in error.problems] == ["a.yaml:3", "a.yaml:9"]


@pytest.mark.parametrize(
    ("name", "hint", "expected"),
    [
        ("batch_tempereture", None, "No batch 'batch_tempereture'.\nDid you mean batch_temperature?"),
        ("zzz", "See `batch list`.", "No batch 'zzz'.\nSee `batch list`."),
        ("zzz", None, "No batch 'zzz'."),
    ],
)
def test_a_wrong_name_is_answered_with_close_ones(name: str, hint: str | None, expected: str) -> None:
    error = UnknownReference("batch", name, ["batch_temperature", "other"], hint=hint)
    assert str(error) == expected
    assert error.matches == (("batch_temperature",) if "mean" in expected else ())


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ("The loss is nan at step 3.\nUse a lower learning_rate.", "The loss is nan at step 3."),
        ("Traceback (most recent call last):\n  File x\nValueError: no", "ValueError: no"),
        ('  File "a.py", line 3, in f\n    g()\nValueError: no', "ValueError: no"),
        ("Loading ...\nIts process ended with exit code 3.", "Its process ended with exit code 3."),
        ("its process ended without a word", "its process ended without a word"),
        ("", "no reason was recorded"),
    ],
)
def test_the_reason_is_what_went_wrong_and_not_what_to_do_about_it(recorded: str, said: str) -> None:
    assert reason(recorded) == said
