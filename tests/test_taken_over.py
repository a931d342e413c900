"""A run that stood still while another process took its experiment over: it must not end what is not its own."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.engine.asking import Progress
from pipeline.generation.generate import generate
from pipeline.generation.job import Options, prepare
from tests.workspaces import config, new_root, rows, write_config
from tracker import clock
from tracker.clock import Process
from tracker.errors import Conflict
from tracker.paths import Workspace
from tracker.record import ledger
from tracker.record.database import open_database

ELSEWHERE = Process("another-host.invalid", 7, 1.0)


def take_over(workspace: Workspace) -> None:
    """What a claim from another host does to the only experiment."""
    with open_database(workspace) as database, database.writing() as connection:
        now = clock.to_text(clock.now() + timedelta(seconds=1))
        lease = {
            "lease_host": ELSEWHERE.host, "lease_pid": ELSEWHERE.pid, "lease_started": ELSEWHERE.started,
            "lease_since": now, "lease_heartbeat": now,
        }  # fmt: skip
        connection.execute(ledger.EXPERIMENT.update().values(**lease))
        connection.execute(ledger.RUN.update().values(status="interrupted"))


@pytest.mark.parametrize("after", [0, 6], ids=["before the first record", "after the last record"])
def test_its_answers_are_kept_and_the_experiment_is_left_to_the_other(tmp_path: Path, after: int) -> None:
    root = new_root(tmp_path, 6)
    workspace = Workspace(root, environ={})
    job = prepare(workspace, write_config(root, config()), Options())
    taken = False

    def display(progress: Progress) -> None:
        nonlocal taken
        if not taken and progress.done >= after:
            taken = True
            take_over(workspace)

    with pytest.raises(Conflict, match="has taken this over"):
        generate(workspace, job, display)
    assert rows(root, "SELECT status, data_digest, lease_host FROM shared_experiment") == [
        ("unfinished", None, ELSEWHERE.host)
    ]
    assert rows(root, "SELECT status FROM generation_run") == [("interrupted",)]
    assert rows(root, "SELECT COUNT(*) FROM attempt WHERE failure IS NULL")[0][0] > 0
    if not after:
        assert rows(root, "SELECT COUNT(*) FROM sample") == [(0,)]
    assert not (root / "Data_v2").exists()


def test_a_run_that_has_nothing_left_to_save_notices_it_at_its_end(tmp_path: Path) -> None:
    root = new_root(tmp_path, 6)
    workspace = Workspace(root, environ={})
    job = prepare(workspace, write_config(root, config()), Options())
    generate(workspace, job)
    with open_database(workspace) as database, database.writing() as connection:
        # As a crash between the last record and the end of the run leaves it.
        connection.execute(ledger.EXPERIMENT.update().values(status="unfinished", data_digest=None))
    with pytest.raises(Conflict, match="has taken this over"):
        generate(workspace, job, lambda _: take_over(workspace))
    assert rows(root, "SELECT status, data_digest FROM shared_experiment") == [("unfinished", None)]
