from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.fetch import ORIGINS, fetch, filename, pairs, sample
from tracker.errors import DataError

WMT, CNN = "wmt14-de-en", "cnn-dailymail"


def translations(count: int) -> list[dict[str, Any]]:
    return [{"translation": {"de": f"Satz {number}, schön.", "en": f"Sentence {number}."}} for number in range(count)]


def numbers(found: tuple[dict[str, str], ...]) -> list[int]:
    return [int(pair["reference"].removeprefix("Sentence ").rstrip(".")) for pair in found]


def as_json(directory: Path, rows: list[dict[str, Any]]) -> None:
    directory.mkdir(parents=True)
    (directory / "test.json").write_text(json.dumps(rows), encoding="utf-8")


def as_jsonl(directory: Path, rows: list[dict[str, Any]]) -> None:
    directory.mkdir(parents=True)
    (directory / "test.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def as_parquet(directory: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    directory.mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(rows), directory / "test-00000-of-00001.parquet")


def as_clone(directory: Path, rows: list[dict[str, Any]]) -> None:
    """The hub's repository: a directory for each config, and a README that names more than were downloaded."""
    as_parquet(directory / "de-en", rows)
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: test\n    path: {name}/test-*\n"
        for name in ("cs-en", "de-en")
    )
    (directory / "README.md").write_text(f"---\nconfigs:\n{configs}---\n", encoding="utf-8")


def as_saved(directory: Path, rows: list[dict[str, Any]]) -> None:
    import datasets

    datasets.Dataset.from_list(rows).save_to_disk(str(directory))


def as_saved_splits(directory: Path, rows: list[dict[str, Any]]) -> None:
    import datasets

    whole = datasets.Dataset.from_list(rows)
    datasets.DatasetDict(train=whole.select(range(2)), test=whole).save_to_disk(str(directory))


WAYS = [as_json, as_jsonl, as_parquet, as_clone, as_saved, as_saved_splits]


@pytest.mark.parametrize("write", WAYS)
def test_every_kind_of_copy_gives_the_same_bytes(
    write: Callable[[Path, list[dict[str, Any]]], None], tmp_path: Path
) -> None:
    write(tmp_path / "copy", translations(20))
    found = fetch(WMT, size=5, seed=2025, directory=tmp_path / "copy")
    assert numbers(found.pairs) == [5, 12, 13, 16, 19]
    assert (found.n_available, found.n_left_out) == (20, 0)
    assert found.content.decode().startswith(
        '[\n  {\n    "input": "Satz 5, schön.",\n    "reference": "Sentence 5."\n  },\n'
    )
    digest = "57fd1087058716bd7ca3a95a92710f4832248ba92363402e40261c4d993ea487"
    assert hashlib.sha256(found.content).hexdigest() == digest
    assert found.lines.decode().startswith('{"input": "Satz 5, schön.", "reference": "Sentence 5."}\n{"input"')
    assert found.lines.count(b"\n") == 5


def test_articles_keep_their_lines(tmp_path: Path) -> None:
    rows = [{"article": f"Article {number}.\n\nMore.", "highlights": "One .\nTwo .", "id": "x"} for number in range(3)]
    as_parquet(tmp_path / "copy", rows)
    found = fetch(CNN, size=3, seed=0, directory=tmp_path / "copy")
    assert found.pairs[2] == {"input": "Article 2.\n\nMore.", "reference": "One .\nTwo ."}


def test_records_without_text_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = translations(6)
    rows[0]["translation"]["en"] = " \n"
    rows[3]["translation"]["de"] = ""
    rows[4]["translation"]["de"] = None
    as_parquet(tmp_path / "copy", rows)
    found = fetch(WMT, size=3, seed=0, directory=tmp_path / "copy")
    assert (numbers(found.pairs), found.n_available, found.n_left_out) == ([1, 2, 5], 3, 3)
    with pytest.raises(DataError, match=r"split 'test' has 3 records; 3 more hold no text, not 4"):
        fetch(WMT, size=4, seed=0, directory=tmp_path / "copy")


def test_the_character_that_no_database_takes_is_left_out() -> None:
    rows = [{"article": "a\0b", "highlights": "a"}, {"article": "a", "highlights": "b"}]
    assert list(pairs(rows, ORIGINS[CNN], "f")) == [None, {"input": "a", "reference": "b"}]


def test_a_sample_larger_than_the_data_is_told_how_many_there_are(tmp_path: Path) -> None:
    as_json(tmp_path / "copy", translations(7))
    with pytest.raises(DataError, match=r"has 7 records, not 5,000") as caught:
        fetch(WMT, size=5000, seed=0, directory=tmp_path / "copy")
    assert caught.value.hint == "Give a smaller --sample."


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"text": "a"}, r"copy:1: no field 'translation\.de'; there: text"),
        ({"translation": {"de": "a", "fr": "b"}}, r"copy:1: no field 'translation\.en'; there: de, fr"),
        ({"translation": "a"}, r"copy:1: no field 'translation\.de'$"),
        ({"translation": {"de": "a", "en": 3}}, r"copy:1: field 'translation\.en' is no text"),
    ],
)
def test_data_of_another_shape(row: dict[str, Any], what: str, tmp_path: Path) -> None:
    as_jsonl(tmp_path / "copy", [row])
    with pytest.raises(DataError, match=what):
        fetch(WMT, size=1, seed=0, directory=tmp_path / "copy")


def test_another_split_and_one_that_is_missing(tmp_path: Path) -> None:
    as_saved_splits(tmp_path / "copy", translations(4))
    assert fetch(WMT, size=1, seed=0, split="train", directory=tmp_path / "copy").n_available == 2
    with pytest.raises(DataError, match="no split 'validation'; there: train, test"):
        fetch(WMT, size=1, seed=0, split="validation", directory=tmp_path / "copy")


@pytest.mark.parametrize(
    ("name", "what"),
    [("none", "no such directory"), ("file", "not a directory"), ("empty", "doesn't contain any data"), ("bad", ".")],
)
def test_a_directory_that_is_no_copy(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/test.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=rf"cannot be read\.\n  .*{name}: .*{what}") as caught:
        fetch(WMT, size=1, seed=0, directory=tmp_path / name)
    assert caught.value.hint is not None
    assert "--from" in caught.value.hint


@pytest.mark.parametrize("name", ORIGINS)
def test_a_hub_that_cannot_be_reached(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    # The hub's client reads HF_HUB_OFFLINE when it is imported; without it, it tries for twenty seconds.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="cannot be had from the hub") as caught:
        fetch(name, size=1, seed=0)
    assert caught.value.problems[0].where == f"{ORIGINS[name].hub} ({ORIGINS[name].config})"
    assert caught.value.hint == "Is there a network? --from DIR reads a copy on the disk."


def test_names_of_files() -> None:
    assert filename(WMT, 500) == "wmt14_de_en_500.json"
    assert filename(CNN, 500) == "cnn_dailymail_500.json"
    assert filename(CNN, 20, "validation") == "cnn_dailymail_validation_20.json"


usable = st.lists(st.booleans(), max_size=40)
seeds = st.integers(0, 2**64)


def rows_of(present: list[bool]) -> list[dict[str, str] | None]:
    return [{"reference": f"Sentence {at}."} if there else None for at, there in enumerate(present)]


@given(usable, st.integers(1, 40), seeds)
def test_a_sample_is_a_part_of_the_data_in_its_order(present: list[bool], size: int, seed: int) -> None:
    found = sample(rows_of(present), size=size, seed=seed)
    drawn = numbers(found.pairs)
    assert drawn == sorted(set(drawn))
    assert all(present[at] for at in drawn)
    assert len(drawn) == min(size, sum(present))
    assert (found.n_available, found.n_available + found.n_left_out) == (sum(present), len(present))


@given(usable, st.integers(1, 20), st.integers(0, 20), seeds)
def test_a_smaller_sample_is_part_of_a_larger_one(present: list[bool], size: int, more: int, seed: int) -> None:
    small, large = (set(numbers(sample(rows_of(present), size=n, seed=seed).pairs)) for n in (size, size + more))
    assert small <= large


def test_every_record_is_drawn_equally_often() -> None:
    """The mean of 2,000 samples is within 4 standard errors of 3 in 10 for every record."""
    counts = [0] * 10
    for seed in range(2000):
        for at in numbers(sample(rows_of([True] * 10), size=3, seed=seed).pairs):
            counts[at] += 1
    deviation = (2000 * 0.3 * 0.7) ** 0.5
    assert all(abs(count - 600) < 4 * deviation for count in counts)
