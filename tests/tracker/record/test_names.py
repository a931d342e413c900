"""A name that is not taken yet: what was asked for, or that with the first free number."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import add_source
from tests.records import add_batch, add_experiment
from tracker.paths import Workspace
from tracker.record.database import open_database
from tracker.record.names import first_free, free_name


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "temp07"),
        (["temp07_2", "temp07x"], "temp07"),
        (["temp07"], "temp07_2"),
        (["temp07", "temp07_2", "temp07_4"], "temp07_3"),
        (["temp07", "temp07_topp10"], "temp07_2"),
    ],
)
def test_the_first_number_that_is_free(taken: list[str], expected: str, tmp_path: Path) -> None:
    assert first_free("temp07", taken.__contains__) == expected
    with open_database(Workspace(tmp_path, environ={})) as database:
        source = add_source(database)
        with database.writing() as connection:
            batch = add_batch(connection, "batch_a")
            for name in taken:
                add_experiment(connection, name, batch=batch, source=source)
            assert free_name(connection, "Copa", "temp07") == expected
            assert free_name(connection, "CB", "temp07") == "temp07"
            add_experiment(connection, "temp07", batch=batch, source=source, dataset="CB")
            assert free_name(connection, "CB", "temp07") == "temp07_2", "whatever other data sets have"
