"""What nothing needs any more, and what is left alone."""

from __future__ import annotations

import os
import time
from datetime import timedelta

from tests import agent_rows
from tracker.deleting import garbage
from tracker.record.catalogue import reading
from tracker.record.database import Database
from tracker.schema import table

OLD = "2020-01-01T00:00:00.000000Z"


def age(database: Database) -> None:
    """Makes everything of agents years old."""
    with database.writing() as connection:
        connection.execute(table("agent_dataset").update().values(completed_at=OLD, created_at=OLD))
        connection.execute(table("agent_run").update().values(finished_at=OLD, started_at=OLD))


def set_trial(database: Database, dataset_id: int) -> None:
    datasets = table("agent_dataset")
    with database.writing() as connection:
        connection.execute(datasets.update().where(datasets.c.id == dataset_id).values(is_trial=True))


def found(database: Database) -> list[tuple[str, str]]:
    with reading(database.workspace) as reader:
        return [(each.plan.name, each.why) for each in garbage.unneeded(reader, database.workspace)]


def test_trials_go_after_a_day_and_other_data_sets_stay(database: Database) -> None:
    trial = agent_rows.make(database)
    agent_rows.make(database, draw=1)
    set_trial(database, trial.dataset_id)
    assert found(database) == []
    age(database)
    assert found(database) == [(trial.name, "it is a trial (--test)")]


def test_a_trial_that_is_being_made_stays(database: Database) -> None:
    claimed = agent_rows.claim(database, agent_rows.wanted(database))
    set_trial(database, claimed.dataset_id)
    age(database)
    assert found(database) == []


def test_temporary_files_go_when_their_process_is_gone(database: Database) -> None:
    here = database.workspace
    gone = here.synthetic_dir / "_shared/Copa/.synthtrack-tmp-1-elsewhere-0"
    fresh = here.data_dir / "agents/.synthtrack-tmp-1-elsewhere-1"
    for path in (gone, fresh):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    long_ago = time.time() - 7200
    os.utime(gone, (long_ago, long_ago))
    assert garbage.abandoned(here) == [gone]


def test_copies_of_the_database_are_told_by_their_age(database: Database) -> None:
    here = database.workspace
    old, new = (here.root / f"tracker.db.v3-{stamp}.bak" for stamp in ("20200101T000000", "29990101T000000"))
    for path in (old, new, here.root / "tracker.db.bak"):
        path.write_bytes(b"")
    assert garbage.old_copies(here, timedelta(days=30)) == [old]
