"""The options that several commands share."""

from __future__ import annotations

import click
import pytest

from cli.options import checked_name, checked_range

CONTEXT, PARAMETER = click.Context(click.Command("it")), click.Option(["--it"])


@pytest.mark.parametrize(
    ("given", "meant"), [(None, None), ("21", "21-21"), ("21-40", "21-40"), (" 021 - 40 ", "21-40"), ("7-7", "7-7")]
)
def test_a_range_is_two_numbers_or_one(given: str | None, meant: str | None) -> None:
    assert checked_range(CONTEXT, PARAMETER, given) == meant


@pytest.mark.parametrize("given", ["", "0", "0-3", "4-3", "-3", "3-", "3,4", "x", "1234567", "\u0663"])
def test_anything_else_is_no_range(given: str) -> None:
    with pytest.raises(click.BadParameter, match="is no range of samples"):
        checked_range(CONTEXT, PARAMETER, given)


@pytest.mark.parametrize(("given", "meant"), [(None, None), (" ann ", "ann"), ("Ann B.", "Ann B.")])
def test_a_name_is_taken_without_the_spaces_around_it(given: str | None, meant: str | None) -> None:
    assert checked_name(CONTEXT, PARAMETER, given) == meant


@pytest.mark.parametrize("given", ["", "  ", "a\nb", "a\x1b[2J"])
def test_what_is_empty_or_steers_a_terminal_is_no_name(given: str) -> None:
    with pytest.raises(click.BadParameter, match="is no name"):
        checked_name(CONTEXT, PARAMETER, given)
