"""A source data set is stored once, with the lines of the split that is rephrased."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.databases import LINES, add_source, rows
from tracker.paths import BUSY_TIMEOUT_VARIABLE, Workspace
from tracker.record.database import open_database
from tracker.record.sources import blocks


def test_the_same_digest_is_the_same_source(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database:
        first, again, other = add_source(database), add_source(database), add_source(database, "CB", LINES[:2])
    assert first == again != other
    stored = "SELECT s.split, r.position, r.line FROM source_record r JOIN source_split s ON s.id = r.source_split_id "
    stored += "WHERE s.source_dataset_id = :id ORDER BY r.position"
    for source, lines in ((first, LINES), (other, LINES[:2])):
        found = rows(workspace, stored, id=source)
        assert [(row["split"], row["position"], row["line"]) for row in found] == [
            ("train", position, line) for position, line in enumerate(lines)
        ]
    assert rows(workspace, "SELECT COUNT(*) AS n FROM source_split") == [{"n": 4}]


def test_what_is_there_is_found_while_another_writes(tmp_path: Path) -> None:
    with open_database(Workspace(tmp_path, environ={BUSY_TIMEOUT_VARIABLE: "0.1"})) as database:
        first = add_source(database)
        with database.writing():
            assert add_source(database) == first


@given(st.lists(st.integers()), st.integers(1, 5))
def test_blocks_are_the_rows_in_their_order_and_full_but_for_the_last(numbers: list[int], size: int) -> None:
    found = list(blocks(numbers, size))
    assert [number for block in found for number in block] == numbers
    assert all(len(block) == size for block in found[:-1])
    assert all(0 < len(block) <= size for block in found)
