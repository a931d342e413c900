"""What columns hold."""

from __future__ import annotations

import json

import pytest

from tracker.errors import Corrupt
from tracker.fingerprint import identify
from tracker.record.columns import check_digest, to_json


def test_values_of_columns_are_json() -> None:
    given = {"description": "Tür 👋", "rate": 1e-6}
    assert json.loads(to_json(given)) == given
    assert "Tür 👋" in to_json(given)


def test_a_fingerprint_stands_for_one_digest() -> None:
    identity = identify("shared_experiment", {"draw": 1})
    check_digest(identity, identity.digest, "Copa/first")
    other = identify("shared_experiment", {"draw": 2}).digest
    with pytest.raises(Corrupt, match="stands for other settings in Copa/first") as caught:
        check_digest(identity, other, "Copa/first", hint="Leave it.")
    assert caught.value.hint == "Leave it."
