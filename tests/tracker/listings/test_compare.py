from __future__ import annotations

from typing import Any

from tracker.listings.compare import compare, compare_batches, compare_settings, difference, is_long, short


def row(number: int, *, source: str = "s", settings: dict[str, Any] | None = None, **shaping: Any) -> dict[str, Any]:
    return {
        "id": number,
        "fingerprint": f"{number:012x}",
        "source_digest": source,
        "settings": {f"generation.{name}": value for name, value in shaping.items()} | (settings or {}),
        "identity": {
            "dataset": {"name": "Copa", "source": source, "fields": None},
            "generation": shaping,
            "validation": None,
            "record_limit": None,
            "draw": 0,
        },
    }


def test_settings_that_only_some_give_differ() -> None:
    same, different = compare_settings([{"a": 1, "b": 2, "d": None, "e": []}, {"a": 1, "c": 3, "e": []}])
    assert same == {"a": 1}
    assert different == {"b": [2, None], "c": [None, 3]}


def test_what_has_no_effect_on_the_data_is_told_apart() -> None:
    found = compare(
        [row(1, temperature=0.5, settings={"n": 1}), row(2, temperature=0.7, settings={"n": 2}, source="t")]
    )
    assert found.different == {"generation.temperature": [0.5, 0.7]}
    assert found.operational == {"n": [1, 2]}
    assert (found.same_source, found.same_fingerprint) == (False, False)


def test_trials_and_draws_differ_without_being_settings() -> None:
    trial = row(2, temperature=0.5)
    trial["identity"] |= {"record_limit": 20, "draw": 1}
    found = compare([row(1, temperature=0.5), trial])
    assert found.same == {"generation.temperature": 0.5}
    assert found.different == {"record_limit": [None, 20], "draw": [0, 1]}


def test_a_setting_that_older_identities_leave_out_shapes_the_data_all_the_same() -> None:
    older = row(1, temperature=0.5, settings={"generation.style": "plain"})
    found = compare([older, row(2, temperature=0.5, style="odd")])
    assert found.different == {"generation.style": ["plain", "odd"]}
    assert found.operational == {}


def test_batches_share_experiments_and_differ_in_values() -> None:
    one, two, three = (row(n, temperature=n / 10, model="m") for n in (1, 2, 3))
    found = compare_batches([one, two], [two, three])
    assert found.shared == [two]
    assert found.own == ([one], [three])
    assert found.same == {"generation.model": "m"}
    assert found.different == {"generation.temperature": ([0.1, 0.2], [0.2, 0.3])}


def test_an_empty_batch_has_no_values() -> None:
    found = compare_batches([], [row(1, temperature=0.5)])
    assert found.different == {
        "generation.temperature": ([], [0.5]),
        **{name: ([], [None]) for name in ("dataset.fields", "validation", "record_limit")},
        "draw": ([], [0]),
    }


def test_long_texts_are_shortened() -> None:
    assert short("plain") == "plain"
    assert short(None) == "not set"
    assert short(0.7) == "0.7"
    assert short("two\nlines") == "two lines"
    assert short("word " * 40) == f"{('word ' * 16).rstrip()}... (200 characters)"
    assert [is_long(value) for value in ("plain", 0.7, None, "two\nlines", "x" * 81, ["a"])] == [
        False,
        False,
        False,
        True,
        True,
        True,
    ]


def test_the_lines_that_differ() -> None:
    assert difference("a\nb\nc", "a\nB\nc", ("one", "two")) == ["--- one", "+++ two", "@@ -2 +2 @@", "-b", "+B"]
    assert difference({"x": 1}, {"x": 2}, ("one", "two"))[3:] == ['-  "x": 1', '+  "x": 2']
    assert difference("a", "a", ("one", "two")) == []
