"""The rows of publications, and what became of the directories."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.databases import add_source, claim, wanted
from tracker.publishing.publications import add, digests, forget, listing, publications_of, published_at, state
from tracker.record.catalogue import Row, reading
from tracker.record.database import Database


@pytest.fixture
def database(database: Database) -> Database:
    source = add_source(database)
    for number in (1, 2):
        claim(database, wanted(source, temperature=number))
    return database


FILES = {"train": b"data", "test": b"more"}


def publication(directory: Path, experiment: int = 1, **columns: Any) -> Row:
    files = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    return {
        "shared_experiment_id": experiment, "dataset": directory.name, "directory": str(directory), "kind": "target",
        "mode": "copy", "fingerprint": f"{experiment:012}", "published_at": "2026-11-20T21:46:52.123456Z",
        "published_by": "alice", "files": files,
    } | columns  # fmt: skip


def there(directory: Path) -> Path:
    directory.mkdir(parents=True)
    for name, data in FILES.items():
        (directory / name).write_bytes(data)
    return directory


def names(database: Database, limit: int = 0) -> list[tuple[str, str, str]]:
    with reading(database.workspace) as reader:
        rows = listing(reader, database.workspace, limit).rows
    return [(row["experiment"], Path(row["directory"]).name, row["state"]) for row in rows]


def test_publications_are_listed_newest_first(database: Database, tmp_path: Path) -> None:
    one, two = there(tmp_path / "target/Copa"), tmp_path / "target/gone"
    add(database, publication(one))
    add(database, publication(one, 2))
    add(database, publication(two, 2))
    assert names(database) == [
        ("Copa/temp07_2", "gone", "missing"),
        ("Copa/temp07_2", "Copa", "as published"),
        ("Copa/temp07", "Copa", "replaced by Copa/temp07_2"),
    ]
    assert names(database, 1) == names(database)[:1]
    with reading(database.workspace) as reader:
        assert listing(reader, database.workspace, 1).left_out == 2
        assert [row["id"] for row in publications_of(reader, database.workspace, 2)] == [3, 2]
        assert [row["replaced_by"] for row in publications_of(reader, database.workspace, 1)] == ["Copa/temp07_2"]
        assert publications_of(reader, database.workspace, 3) == []
        rows = published_at(reader, database.workspace, one)
    assert [row["shared_experiment_id"] for row in rows] == [2, 1]
    assert rows[0]["files"] == publication(one)["files"]


def test_what_did_not_come_about_is_forgotten(database: Database, tmp_path: Path) -> None:
    kept = add(database, publication(tmp_path / "Copa"))
    forget(database, add(database, publication(tmp_path / "Copa", 2)))
    with reading(database.workspace) as reader:
        assert [row["id"] for row in listing(reader, database.workspace).rows] == [kept]


def test_every_digest_of_a_name_is_known() -> None:
    rows = [{"files": {"a": "1", "b": "2"}}, {"files": {"a": "3"}}]
    assert digests(rows) == {"a": {"1", "3"}, "b": {"2"}}


def edited(directory: Path) -> None:
    (directory / "train").write_bytes(b"DATA")


def deleted(directory: Path) -> None:
    (directory / "train").unlink()
    edited(directory)
    (directory / "test").unlink()


def added(directory: Path) -> None:
    (directory / "notes").write_text("mine")


def a_folder(directory: Path) -> None:
    (directory / "train").unlink()
    (directory / "train").mkdir()


def a_link(directory: Path) -> None:
    (directory / "train").rename(directory.with_name("train"))
    (directory / "train").symlink_to("../train")


def a_file_instead(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.write_text("mine")


def a_link_instead(directory: Path) -> None:
    directory.rename(directory.with_name("elsewhere"))
    directory.symlink_to("elsewhere")


def a_file_above(directory: Path) -> None:
    shutil.rmtree(directory.parent)
    directory.parent.write_text("mine")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: None, "as published"),
        (edited, "changed: train"),
        (deleted, "changed: train; missing: test"),
        (added, "as published; added: notes"),
        (a_folder, "changed: train"),
        (a_link, "changed: train"),
        (shutil.rmtree, "missing"),
        (a_file_instead, "changed: a file stands there"),
        (a_link_instead, "changed: a link stands there"),
        (a_file_above, "missing"),
    ],
)
def test_what_became_of_a_copy_is_told(tmp_path: Path, change: Any, expected: str) -> None:
    directory = there(tmp_path / "target/Copa")
    change(directory)
    found = state({**publication(directory), "replaced_by": None})
    assert str(found) == expected
    assert (found.what == "as published") is expected.startswith("as published")


def test_the_bytes_behind_links_count(tmp_path: Path) -> None:
    shared, directory = there(tmp_path / "shared"), tmp_path / "target/Copa"
    directory.mkdir(parents=True)
    for name in FILES:
        (directory / name).symlink_to(shared / name)
    row = {**publication(directory, mode="symlink"), "replaced_by": None}
    assert str(state(row)) == "as published"
    edited(shared)
    assert str(state(row)) == "changed: train"
    shutil.rmtree(shared)
    assert str(state(row)) == "missing: train, test"


def test_what_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    row = {**publication(tmp_path / ("x" * 300)), "replaced_by": None}
    assert str(state(row)).startswith("unreadable: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    directory = there(tmp_path / "target/Copa")
    (directory / "train").chmod(0)
    assert str(state({**publication(directory), "replaced_by": None})) == "unreadable: Permission denied"
