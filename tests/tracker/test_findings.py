"""What follows from an identity, a digest or a set of answers, and what does not."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.findings import (
    EXPERIMENT,
    RUN,
    answer_findings,
    data_findings,
    identity_findings,
    source_findings,
)
from tracker.fingerprint import bytes_digest, identify

SETTINGS: Mapping[str, Any] = {
    "task": "Copa", "method": "zo", "precision": "fp32",
    "hyperparameters": {"learning_rate": 1e-6, "batch_size": 16, "steps": 1000, "seed": 0, "zo_eps": 1e-3},
    "data": [{"fingerprint": "0" * 12, "train": "t"}, {"fingerprint": None, "train": "u"}], "evaluation": "e",
}  # fmt: skip


def run(settings: Mapping[str, Any] = SETTINGS, kind: str = "training_run", **columns: Any) -> dict[str, Any]:
    own = identify(kind, settings)
    return {
        "fingerprint": own.fingerprint, "digest": own.digest, "identity": own.canonical, "scheme": 1, "directory": "R",
        "task": "Copa", "method": "zo", "precision": "fp32", "learning_rate": 1e-6, "batch_size": 16, "steps": 1000,
        "seed": 0, "zo_eps": 1e-3, "lora_rank": None, "n_eval": 4, "n_correct": 3, "accuracy": 0.75, **columns,
    }  # fmt: skip


def said(row: Mapping[str, Any], kind: str = RUN) -> list[str]:
    return [each.what for each in identity_findings(kind, dict(row))]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text().filter(lambda name: name not in SETTINGS), JSON, max_size=4))
def test_what_was_identified_is_found_to_be_itself(more: dict[str, Any]) -> None:
    assert said(run({**SETTINGS, **more})) == []


@given(st.integers(0, 10**6), st.characters(codec="utf-8"))
def test_an_identity_that_was_changed_anywhere_is_seen(at: int, char: str) -> None:
    row = run()
    place = at % len(row["identity"])
    changed = row["identity"][:place] + char + row["identity"][place + 1 :]
    found = said({**row, "identity": changed})
    assert (len(found) >= 2) is (changed != row["identity"])
    if found:
        assert found[0].startswith(f"fingerprint {row['fingerprint']} is recorded, its identity has ")
        assert found[1].startswith(f"digest {row['digest'][:12]} is recorded, its identity has ")


@pytest.mark.parametrize("name", ["fingerprint", "digest"])
def test_a_name_that_was_changed_is_seen(name: str) -> None:
    row = run()
    other = "f" * len(row[name])
    assert said({**row, name: other}) == [f"{name} {other[:12]} is recorded, its identity has {row[name][:12]}"]


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"learning_rate": 1e-5}, "learning_rate is 1e-05, in its identity 1e-06"),
        ({"seed": 1}, "seed is 1, in its identity 0"),
        ({"task": "CB"}, "task is 'CB', in its identity 'Copa'"),
        ({"zo_eps": None}, "zo_eps is None, in its identity 0.001"),
        ({"scheme": 2}, "its identity is of training_run, scheme 1"),
    ],
)
def test_columns_that_repeat_the_identity_agree_with_it(columns: dict[str, Any], what: str) -> None:
    assert said(run(**columns)) == [what]


def test_what_the_identity_leaves_out_is_not_missed() -> None:
    assert said(run(lora_rank=8)) == []
    assert said(run(steps=1000.0)) == []


def test_an_identity_of_another_kind_is_seen() -> None:
    assert said(run(kind="shared_experiment")) == ["its identity is of shared_experiment, scheme 1"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"kind": "training_run"}', '{"identity": 1, "kind": 2}']
)
def test_an_identity_that_is_none_is_said(text: str) -> None:
    found = said(run(identity=text))
    assert found[-1] == "its identity cannot be read"
    assert list(data_findings(run(identity=text), [])) == []


def test_an_identity_in_another_form_is_said() -> None:
    row = run()
    spread = json.dumps(json.loads(row["identity"]), indent=1)
    own = identify("training_run", SETTINGS)
    assert said({**row, "identity": spread})[2:] == ["its identity is not in canonical form"]
    assert own.canonical == row["identity"]


def test_an_experiment_is_checked_by_its_own_columns() -> None:
    settings = {
        "dataset": {"name": "Copa"},
        "generation": {"temperature": 0.7, "model": "m"},
        "validation": None,
        "draw": 0,
    }
    own = identify("shared_experiment", settings)
    row: dict[str, Any] = {
        "fingerprint": own.fingerprint, "digest": own.digest, "identity": own.canonical, "scheme": 1, "name": "temp07",
        "dataset": "Copa", "temperature": 0.7, "model": "m", "draw": 0, "validation_model": None,
    }  # fmt: skip
    assert said(row, EXPERIMENT) == []
    [found] = identity_findings(EXPERIMENT, {**row, "temperature": 0.9})
    assert (found.kind, found.what) == ("experiment", "temperature is 0.9, in its identity 0.7")
    assert (found.where, "backup" in found.remedy) == ("Copa/temp07", True)


def data(**columns: Any) -> list[dict[str, Any]]:
    one = {
        "fingerprint": "0" * 12, "train_digest": "t", "eval_digest": "e", "shared_experiment_id": 1,
        "made_fingerprint": "0" * 12, "data_digest": "t", "reference": "Copa/temp07", **columns,
    }  # fmt: skip
    plain = dict.fromkeys(("fingerprint", "shared_experiment_id", "made_fingerprint", "data_digest", "reference"))
    return [one, {**plain, "train_digest": "u", "eval_digest": "x"}]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({}, []),
        ({"train_digest": "x"}, ["its data sets are not those of its identity", "it was trained on other data than"]),
        ({"eval_digest": "x"}, ["its validation records are not those of its identity"]),
        ({"data_digest": "x"}, ["it was trained on other data than Copa/temp07 is recorded with"]),
        ({"made_fingerprint": "1" * 12}, ["it was trained on other data than Copa/temp07 is recorded with"]),
    ],
)
def test_the_data_of_a_run_are_those_of_its_identity(columns: dict[str, Any], found: list[str]) -> None:
    said = [each.what for each in data_findings(run(), data(**columns))]
    assert len(said) == len(found)
    assert all(one.startswith(start) for one, start in zip(said, found, strict=True))


def test_data_sets_that_are_missing_or_in_another_order_are_seen() -> None:
    for rows in ([], data()[:1], data()[::-1]):
        [found] = data_findings(run(), rows)
        assert found.what == "its data sets are not those of its identity"


@pytest.mark.parametrize(
    ("answers", "is_right"),
    [
        ({"n": 4, "n_correct": 3, "n_wrong": 0}, True),
        ({"n": 4, "n_correct": 2, "n_wrong": 0}, False),
        ({"n": 5, "n_correct": 3, "n_wrong": 0}, False),
        ({"n": 4, "n_correct": 3, "n_wrong": 1}, False),
        (None, False),
    ],
)
def test_an_accuracy_is_what_its_answers_give(answers: dict[str, Any] | None, is_right: bool) -> None:
    assert (list(answer_findings(run(), answers)) == []) is is_right
    assert list(answer_findings(run(accuracy=0.8), answers)) != []


def source(**changes: bytes) -> tuple[dict[str, Any], list[dict[str, Any]], dict[int, list[str]]]:
    content = {"train": b'{"a": 1}\n{"a": 2}\n', "test": b"{}\r\n"}
    splits = {name: ("copa_" + name, bytes_digest([value])) for name, value in content.items()}
    parts = {"name": "Copa", "task_name": "copa", "splits": {name: list(pair) for name, pair in splits.items()}}
    row = {"name": "Copa", "task_name": "copa", "digest": identify("source_dataset", parts).digest}
    test = changes.get("test", zlib.compress(content["test"]))
    rows = [
        {"id": at, "split": name, "filename": filename, "digest": digest, "content": test if name == "test" else None}
        for at, (name, (filename, digest)) in enumerate(splits.items())
    ]
    return row, rows, {0: changes.get("train", content["train"]).decode().splitlines()}


def test_a_source_is_what_its_digests_say() -> None:
    assert list(source_findings(*source())) == []
    for changes, what in (
        ({"train": b'{"a": 1}\n'}, "copa_train: SHA-256 "),
        ({"test": zlib.compress(b"{}\n")}, "copa_test: SHA-256 "),
        ({"test": b"damaged"}, "copa_test: its content is damaged (Error -3 "),
    ):
        [found] = source_findings(*source(**changes))
        assert (found.kind, found.where, found.what.startswith(what)) == ("source data", "Copa", True)


@pytest.mark.parametrize("change", [{"name": "Copy"}, {"task_name": "copy"}, {"digest": "0" * 64}])
def test_the_digest_of_a_source_is_derived_anew(change: dict[str, str]) -> None:
    row, splits, lines = source()
    [found] = source_findings({**row, **change}, splits, lines)
    assert "its splits give" in found.what
