"""What forbids a deletion, and what it would take along."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training_rows import Study, training_study
from tracker.deleting import deletion
from tracker.deleting.deletion import EXPERIMENT, RUN, SWEEP, Plan
from tracker.paths import Workspace
from tracker.record import sweeps
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.schema import table
from tracker.views.pending import without_pending
from tracker.views.plan import Difference


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return training_study(tmp_path_factory.mktemp("study"))


def plan(study: Study, kind: str, row_id: int) -> Plan:
    with reading(study.workspace) as reader:
        return deletion.plan(reader, study.workspace, kind, row_id)


def test_every_run_that_was_trained_on_an_experiment_is_in_the_way(study: Study) -> None:
    with reading(study.workspace) as reader:
        experiment = reader.rows("SELECT id FROM shared_experiment WHERE name LIKE 'temp09%'")[0]["id"]
    reasons = plan(study, EXPERIMENT, experiment).reasons
    assert [each.what.split()[0] for each in reasons] == ["batch", "training", "training"]
    uuid = study.uuid("temp09 1e-06 seed 0")[:8]
    assert reasons[1].remedy == f"`synthtrack result delete {uuid}` deletes that first."


def test_a_run_whose_process_is_gone_can_go(study: Study) -> None:
    with reading(study.workspace) as reader:
        running = reader.rows("SELECT id FROM training_run WHERE status = 'running'")[0]["id"]
    assert plan(study, RUN, running).reasons == ()


def test_a_sweep_takes_its_log_along(study: Study) -> None:
    sweep_id = study.sweeps["model_comparison"]
    with reading(study.workspace) as reader:
        log = sweeps.log_file(study.workspace, sweeps.sweep(reader, sweep_id))
    log.parent.mkdir(parents=True)
    log.write_text("")
    assert plan(study, SWEEP, sweep_id).paths[-1] == study.workspace.relative(log)


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("Results_v2/a/b", True),
        ("data/exp1", True),
        ("Data_v2/synthetic/_shared/Copa/x", True),
        ("Results_v2", False),
        ("Results_v2/../tracker.db", False),
        ("tracker.db", False),
        ("/etc/passwd", False),
        ("Data_v2/synthetic/first/Copa", False),
    ],
)
def test_only_what_lies_in_a_tree_of_the_workspace_is_moved(path: str, own: bool, tmp_path: Path) -> None:
    here = Workspace(tmp_path, environ={})
    assert deletion.is_own(here, here.root / path) is own


def test_differences_of_what_is_pending_are_none(tmp_path: Path) -> None:
    here = Workspace(tmp_path, environ={})
    row = {
        "uuid": "u", "kind": EXPERIMENT, "name": "Copa/x", "deleted_at": "", "deleted_by": "", "archive": "",
        "archive_digest": "", "n_rows": 0, "n_bytes": 0, "command": "", "mlflow_runs": "[]", "spent": "{}",
        "paths": '["Data_v2/synthetic/_shared/Copa/x"]',
    }  # fmt: skip
    with open_database(here) as database, database.writing() as connection:
        connection.execute(table("deletion").insert().values(**row))
    found = [
        Difference("_shared/Copa/x", "unknown"),
        Difference("_shared/Copa/x/notes.txt", "unknown"),
        Difference("_shared/Copa", "unknown"),
        Difference("_shared/Copa", "replaced"),
        Difference("_shared/Copa/xy", "unknown"),
    ]
    with reading(here) as reader:
        assert without_pending(reader, here, found, here.synthetic_dir) == found[3:]
