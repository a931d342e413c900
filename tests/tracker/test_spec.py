"""Marks on a declaration decide what is hashed, stored, shown and named."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from tracker.fingerprint import identify
from tracker.spec import Real, Spec, Whole, identity, key_of, marks, name_parts, public, setting, settings


class Inner(Spec):
    depth: Whole = setting(3, ge=1, help="how deep")
    workers: Whole = setting(4, operational=True, help="how many at once")


class Study(Spec):
    temperature: Real | None = setting(0.7, ge=0, le=2, abbreviation="temp", help="sampling temperature")
    model: str = setting("org/GPT-4o mini", abbreviation="", help="the model")
    inner: Inner = setting(Inner(), help="a group")
    timeout: Real = setting(60.0, operational=True, help="seconds")
    key: SecretStr | None = setting(None, secret=True, help="never stored")
    words: tuple[str, ...] = setting((), help="some words")


class Later(Study):
    """The same study after a release that adds one annotated line to it."""

    style: str = setting("plain", absent="plain", help="added later")


class Renamed(Spec):
    """A group whose key in the file is a name that pydantic keeps for itself."""

    inner: Inner = setting(Inner(), alias="model_config", help="a group")
    cost: Real = setting(1.0, alias="copy", operational=True, help="a value")


def fingerprint(spec: Spec) -> str:
    return identify("study", identity(spec)).fingerprint


def test_what_shapes_the_result_is_the_identity() -> None:
    assert identity(Study(words=("a", "b"))) == {
        "temperature": 0.7,
        "model": "org/GPT-4o mini",
        "inner": {"depth": 3},
        "words": ["a", "b"],
    }


def test_a_field_added_later_is_one_line_and_keeps_old_fingerprints() -> None:
    assert fingerprint(Later()) == fingerprint(Study())
    assert fingerprint(Later(style="ornate")) != fingerprint(Study())
    assert settings(Later())["style"] == "plain"
    assert marks(Later.model_fields["style"])["absent"] == "plain"


@pytest.mark.parametrize("given", [1, 1.0, "1", "1.0", " 1 ", "1e0", "10e-1"])
def test_one_number_however_it_is_written(given: Any) -> None:
    assert fingerprint(Study(temperature=given)) == fingerprint(Study(temperature=1.0))
    assert fingerprint(Study(temperature=given)) != fingerprint(Study())


@pytest.mark.parametrize(
    ("given", "number"), [("1e3", 1000), ("1.5E2", 150), ("256.0", 256), (7.0, 7), ("1_000", 1000)]
)
def test_a_whole_number_however_it_is_written(given: Any, number: int) -> None:
    assert Inner(depth=given).depth == number


@pytest.mark.parametrize("given", [True, 1.5, "1.5e0", "x", 2**63, 0, "1e99", None])
def test_what_is_no_whole_number_or_out_of_bounds(given: Any) -> None:
    with pytest.raises(ValidationError):
        Inner(depth=given)


@pytest.mark.parametrize("given", [True, False, "yes", float("nan"), float("inf"), "nan", 3])
def test_what_is_no_real_number_or_out_of_bounds(given: Any) -> None:
    with pytest.raises(ValidationError):
        Study(temperature=given)


def test_a_secret_is_nowhere() -> None:
    spec = Study(key=SecretStr("sk-very-secret"))
    everything = [repr(spec), str(spec), repr(identity(spec)), repr(settings(spec)), repr(public(spec))]
    assert not [text for text in everything if "sk-very-secret" in text]
    assert not any("key" in found for found in (identity(spec), settings(spec), public(spec)))
    assert fingerprint(spec) == fingerprint(Study())


def test_settings_stand_under_their_dotted_names() -> None:
    assert settings(Study()) == {
        "temperature": 0.7,
        "model": "org/GPT-4o mini",
        "inner.depth": 3,
        "inner.workers": 4,
        "timeout": 60.0,
        "words": [],
    }


def test_what_is_public_is_nested_and_leaves_out_what_is_not_given() -> None:
    assert public(Study(temperature=None)) == {
        "model": "org/GPT-4o mini",
        "inner": {"depth": 3, "workers": 4},
        "timeout": 60.0,
        "words": [],
    }


@pytest.mark.parametrize(
    ("temperature", "piece"),
    [(0.7, "temp07"), (1, "temp10"), (0, "temp00"), (0.75, "temp075"), (1.25, "temp125"), (1e-6, "temp0000001")],
)
def test_the_pieces_of_a_name(temperature: float, piece: str) -> None:
    assert list(name_parts(Study(temperature=temperature))) == [piece, "gpt4omini"]


def test_what_is_not_sent_is_not_in_the_name() -> None:
    assert list(name_parts(Study(temperature=None))) == ["gpt4omini"]


def test_a_spec_is_frozen_and_knows_no_other_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Study().timeout = 3.0  # type: ignore[misc]  # that is the test
    with pytest.raises(ValidationError, match="extra"):
        Study(colour="red")  # type: ignore[call-arg]  # that is the test


def test_a_default_is_checked_too() -> None:
    class Wrong(Spec):
        depth: Whole = setting(0, ge=1, help="how deep")

    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Wrong()


def test_a_setting_with_an_alias_is_called_so_everywhere() -> None:
    spec = Renamed.model_validate({"model_config": {"depth": 5}, "copy": 2})
    assert (spec.inner.depth, spec.cost) == (5, 2.0)
    assert identity(spec) == {"model_config": {"depth": 5}}
    assert settings(spec) == {"model_config.depth": 5, "model_config.workers": 4, "copy": 2.0}
    assert public(spec) == {"model_config": {"depth": 5, "workers": 4}, "copy": 2.0}
    assert [key_of(name, field) for name, field in Renamed.model_fields.items()] == ["model_config", "copy"]
    assert Renamed.model_validate(public(spec)) == spec


def test_the_python_name_of_a_setting_with_an_alias_is_no_key() -> None:
    for given in ("inner", "cost"):
        with pytest.raises(ValidationError, match="extra"):
            Renamed.model_validate({given: {}})


def test_a_copy_is_made_by_the_python_name() -> None:
    changed = Renamed().model_copy(update={"inner": Inner(depth=9)})
    assert (changed.inner.depth, identity(changed)) == (9, {"model_config": {"depth": 9}})
