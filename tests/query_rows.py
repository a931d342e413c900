"""A database whose answers can be worked out by hand, for tests of the views and of the page about queries.

Beyond ``training_study``: a batch that reuses one of its experiments and makes three, of which one's cost is not known
and one was never finished; a deleted batch that still cost something; an experiment that was imported with next to
nothing known of it; a run on a mix of two experiments; samples, a judge test, requests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from tests import records
from tests.training_rows import COOL, HOT, Study, Trained, add_sweep, training_study
from tracker.paths import Workspace
from tracker.record.database import open_database

MORE, GONE = "batch_20250103_models", "batch_20250102_deleted"


def filled(root: Path | Workspace) -> Study:
    """The database of this module's docstring."""
    study = training_study(root)
    with open_database(study.workspace) as database:
        with database.writing() as connection:
            _generation(connection)
        add_sweep(database, "mixed", [Trained((COOL, HOT), n_correct=78)])
    return study


def _generation(connection: Connection) -> None:
    for number, name in enumerate((COOL, HOT), 1):
        connection.execute(
            text("UPDATE generation_run SET cost_usd = :cost, n_calls = 8 WHERE shared_experiment_id = :id"),
            {"cost": 0.012, "id": number},
        )
        assert (
            connection.execute(text("SELECT name FROM shared_experiment WHERE id = :id"), {"id": number}).scalar()
            == name
        )
    more, gone = records.add_batch(connection, MORE, purpose="models"), records.add_batch(connection, GONE)
    connection.execute(text("UPDATE batch SET deleted_at = created_at WHERE id = :id"), {"id": gone})
    records.add_membership(connection, more, 1)
    made: dict[str, Any] = {"batch": more, "source": 1, "purpose": "models", "model": "llama-70b"}
    counts: dict[str, Any] = {"n_records": 100, "n_accepted": 60, "n_rejected": 40, "n_unclear": 10}
    one = records.add_experiment(connection, "temp03_llama", temperature=0.3, cost_usd=0.3, **counts, **made)
    two = records.add_experiment(connection, "temp07_llama", **{**counts, "n_accepted": 80, "n_rejected": 20}, **made)
    records.add_experiment(connection, "temp08_llama", temperature=0.8, status="unfinished", completed_at=None, **made)
    records.add_run(connection, 1, more, outcome="reused")
    records.add_run(connection, one, more, cost_usd=0.3, n_calls=200)
    records.add_run(connection, two, more, n_calls=200)
    records.add_run(connection, one, gone, outcome="tested", cost_usd=0.25, n_calls=9)
    _import(connection, gone)
    sample = {"original": "The man opened a door.", "rephrased": "A door was closed.", "status": "rejected"}
    records.add_sample(connection, 1, 0, 1, **sample, verdict="not_the_same", decided_by="judge")
    records.add_sample(connection, 1, 1, 2, original="He ran.", rephrased="Run he did.")


def _import(connection: Connection, batch: int) -> None:
    imported = records.add_experiment(
        connection, "colleague", batch=batch, source=1, model="unknown", provider="unknown", endpoint="unknown",
        strategy="unknown", field_to_rephrase="unknown", judge=False, n_records=50, n_accepted=50, purpose="old",
    )  # fmt: skip
    connection.execute(
        text(
            "INSERT INTO import_run (id, uuid, kind, origin, started_at, n_taken, n_skipped, n_wrong, host, command,"
            " report) VALUES (1, 'u', 'dataset', 'old.jsonl', :at, 1, 0, 0, 'here', 'synthtrack import', '[]')"
        ),
        {"at": records.MOMENT},
    )
    connection.execute(
        text("UPDATE shared_experiment SET import_run_id = 1, settings = :settings, temperature = NULL WHERE id = :id"),
        {"id": imported, "settings": json.dumps({"experiment.purpose": "old"})},
    )
    connection.execute(text("DELETE FROM batch_membership WHERE batch_id = :id"), {"id": batch})
