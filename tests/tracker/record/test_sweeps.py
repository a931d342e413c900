"""Looking at trainings under way, and what is meant by a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training_rows import GONE, Study, Trained, add_sweep, fixed_uuid, training_study
from tracker import clock
from tracker.clock import Process
from tracker.errors import UnknownReference
from tracker.record import sweeps, training
from tracker.record.catalogue import Reader, Row, reading
from tracker.record.database import open_database
from tracker.record.sweeps import Found

HERE = clock.this_process()
ELSEWHERE = Process("another-host.invalid", HERE.pid, HERE.started)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return training_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def own(tmp_path: Path) -> Study:
    """A study to change."""
    return training_study(tmp_path)


def shown(study: Study, *, everything: bool = False) -> list[Row]:
    with reading(study.workspace) as reader:
        return sweeps.sweeps(reader, everything=everything)


def find(study: Study, ref: str) -> Found:
    with reading(study.workspace) as reader:
        return sweeps.find(reader, study.workspace, ref)


def test_what_is_unfinished_and_the_newest_that_is_finished(study: Study) -> None:
    names = {row_id: name for name, row_id in study.sweeps.items()}
    assert [names[row["id"]] for row in shown(study)] == ["hyperparameter_tuning again", "baseline_comparison"]
    assert [row["id"] for row in shown(study, everything=True)] == sorted(names, reverse=True)


class Counted:
    """A reader that counts what is asked."""

    def __init__(self, reader: Reader) -> None:
        self.reader, self.asked = reader, 0

    def rows(self, sql: str, **parameters: Any) -> list[Row]:
        self.asked += 1
        return self.reader.rows(sql, **parameters)


@pytest.mark.parametrize(("status", "n_shown"), [("failed", 2), ("stopped", 32)])
def test_many_sweeps_that_did_not_complete_are_no_query_each(own: Study, status: str, n_shown: int) -> None:
    with open_database(own.workspace) as database:
        for number in range(30):
            add_sweep(database, f"many {number}", [Trained(status=status)])
    with reading(own.workspace) as reader:
        counted = Counted(reader)
        found = sweeps.sweeps(counted)
        assert (len(found), counted.asked) == (n_shown, 3)
        assert [len(sweep["runs"]) for sweep in found[:2]] == ([1, 5] if status == "failed" else [1, 1])
        assert len(sweeps.sweeps(counted, everything=True)) == 35
        assert counted.asked == 5


def test_what_was_tried_again_and_finished_is_not_left(own: Study) -> None:
    newest, before = own.sweeps["hyperparameter_tuning again"], own.sweeps["model_comparison"]
    with open_database(own.workspace) as database, database.writing() as connection:
        for sweep_id in (newest, before):
            of_sweep = training.RUN.c.training_sweep_id == sweep_id
            row = dict(connection.execute(training.RUN.select().where(of_sweep)).mappings().all()[0])
            connection.execute(training.RUN.update().where(training.RUN.c.id == row["id"]).values(status="stopped"))
            again = {"id": 90 + sweep_id, "uuid": f"{sweep_id}" * 32, "attempt": 9, "directory": f"again {sweep_id}"}
            connection.execute(training.RUN.insert().values(**row | again))
    # The newest finished one, and one that is not.
    assert [row["id"] for row in shown(own)] == [newest, own.sweeps["baseline_comparison"]]


def test_a_run_whose_process_is_gone_is_not_running(study: Study) -> None:
    sweep = shown(study)[1]
    assert sweep["status"] == "interrupted"
    assert [run["status"] for run in sweep["runs"]] == ["complete", "failed", "stopped", "interrupted", "pending"]
    assert sweeps.is_unfinished(sweep)
    with reading(study.workspace) as reader:
        assert [run["status"] for run in sweeps.runs(reader, sweep["id"])][3] == "running"
        assert sweeps.run(reader, sweep["runs"][3]["id"]) == sweep["runs"][3]


@pytest.mark.parametrize(("process", "status"), [(HERE, "running"), (ELSEWHERE, "running"), (GONE, "interrupted")])
def test_a_running_run_is_one_whose_process_lives_or_was_heard_of(own: Study, process: Process, status: str) -> None:
    run_id = own.runs["original 1e-06 seed 4"]
    with open_database(own.workspace) as database:
        training.supervise(database, own.sweeps["baseline_comparison"], process)
        training.claim(database, run_id, process, {"device": "cpu", "threads": 3})
        with reading(own.workspace) as reader:
            assert sweeps.busy_threads(reader, but=0) == (3 if process is HERE else 0)
            assert sweeps.busy_threads(reader, but=own.sweeps["baseline_comparison"]) == 0
    sweep = shown(own)[1]
    assert (sweep["status"], sweep["runs"][4]["status"]) == (status, status)
    with open_database(own.workspace) as database, database.writing() as connection:
        connection.execute(training.RUN.update().values(heartbeat="2020-01-01T00:00:00.000000Z"))
    assert shown(own)[1]["runs"][4]["status"] == ("running" if process is HERE else "interrupted")


def test_a_running_run_shows_what_was_measured_last_and_a_finished_one_its_best(study: Study) -> None:
    runs = shown(study)[1]["runs"]
    assert [run["dev_accuracy"] for run in runs] == [0.7, 0.64, 0.64, 0.64, None]
    assert [run["step_time_s"] for run in runs] == [0.06, 0.06, 0.06, 0.06, None]
    assert [run["seconds_left"] for run in runs] == [0, *[pytest.approx(0.06 * 588)] * 3, None]
    assert runs[1]["settings"]["hyperparameters.learning_rate"] == 1e-6
    assert (shown(study)[1]["varied"], shown(study)[1]["devices"]) == (["learning_rate", "seed"], ["cpu"])
    assert json.dumps(shown(study))


def test_of_several_attempts_at_a_point_the_newest_counts(own: Study) -> None:
    sweep_id, failed = own.sweeps["baseline_comparison"], own.runs["original 1e-06 seed 1"]
    with open_database(own.workspace) as database, database.writing() as connection:
        row = dict(connection.execute(training.RUN.select().where(training.RUN.c.id == failed)).mappings().one())
        again = row | {"id": 99, "uuid": "f" * 32, "attempt": 2, "directory": "again", "status": "pending"}
        connection.execute(training.RUN.insert().values(**again))
    with reading(own.workspace) as reader:
        assert [run["id"] for run in sweeps.runs(reader, sweep_id)][1] == 99
        assert len(sweeps.runs(reader, sweep_id)) == 5
        assert sweeps.find(reader, own.workspace, row["fingerprint"]).run_id == 99


NOW, LATER = "2999-01-01T00:00:00.000000Z", "2999-01-01T00:00:01.000000Z"


@pytest.mark.parametrize(
    ("process", "heartbeat", "finished_at", "there"),
    [
        (HERE, NOW, None, True),
        (HERE, NOW, LATER, True),
        (ELSEWHERE, NOW, None, True),
        (ELSEWHERE, LATER, NOW, True),
        (ELSEWHERE, NOW, LATER, False),
        (GONE, LATER, None, False),
    ],
)
def test_a_run_that_is_not_running_may_have_a_process(
    process: Process, heartbeat: str, finished_at: str | None, there: bool
) -> None:
    row: dict[str, Any] = {
        "host": process.host, "pid": process.pid, "pid_started": process.started, "heartbeat": heartbeat,
        "finished_at": finished_at,
    }  # fmt: skip
    assert sweeps.has_process(row) is there
    assert not sweeps.has_process(row | {"pid": None})


def test_a_sweep_by_the_beginning_of_its_uuid(study: Study) -> None:
    sweep_id = study.sweeps["data_quality_impact"]
    for text in (fixed_uuid("sweep", sweep_id), fixed_uuid("sweep", sweep_id)[:6].upper()):
        assert find(study, text) == Found(sweep_id)


def test_a_run_by_its_uuid_its_fingerprint_or_its_directory(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = study.runs["temp09 1e-06 seed 1"]
    found = Found(study.sweeps["data_quality_impact"], run_id)
    with reading(study.workspace) as reader:
        row = sweeps.run(reader, run_id)
    directory = study.workspace.root / row["directory"]
    below_results = str(directory.relative_to(study.workspace.results_dir))
    for text in (row["uuid"][:7], row["fingerprint"], row["fingerprint"][:5], row["directory"] + "/", str(directory),
                 below_results):  # fmt: skip
        assert find(study, text) == found
    monkeypatch.chdir(directory.parent)
    assert find(study, directory.name) == found
    monkeypatch.chdir(directory)
    assert find(study, ".") == found


def test_the_directory_of_a_point_means_its_newest_run(study: Study) -> None:
    newest = study.runs["temp05 1e-06 seed 0 again"]
    with reading(study.workspace) as reader:
        row = sweeps.run(reader, newest)
    assert find(study, str(Path(row["directory"]).parent)).run_id == newest
    assert find(study, row["fingerprint"]).run_id == newest


def test_a_beginning_that_could_be_several_says_which(own: Study) -> None:
    with open_database(own.workspace) as database, database.writing() as connection:
        for number, run_id in enumerate(own.runs.values()):
            uuid = f"abcd{number:028}"
            connection.execute(training.RUN.update().where(training.RUN.c.id == run_id).values(uuid=uuid))
        connection.execute(training.SWEEP.update().where(training.SWEEP.c.id == 1).values(uuid="abcde" + 27 * "0"))
    with pytest.raises(UnknownReference) as refused:
        find(own, "abcd")
    assert "single sweep or training run 'abcd...'" in refused.value.message
    lines = str(refused.value.hint).splitlines()
    assert lines[1] == f"  abcd{0:028}  run: Copa, zo, meta-llama/Llama-3.2-1B"
    assert (len(lines), lines[-1]) == (7, "  ... and more")
    assert find(own, "abcde") == Found(1)


@pytest.mark.parametrize("text", ["", ".", "/", "ab", "nothing", "%", "Results_v2/data_quality_impac", "../.."])
def test_what_is_nothing_is_refused(study: Study, text: str) -> None:
    with pytest.raises(UnknownReference) as refused:
        find(study, text)
    assert "`synthtrack training status --all`" in str(refused.value.hint)


def test_close_matches_are_named(study: Study) -> None:
    uuid = fixed_uuid("sweep", study.sweeps["model_comparison"])
    with pytest.raises(UnknownReference) as refused:
        find(study, "0" + uuid[1:8])
    assert uuid[:8] in str(refused.value.hint)


def test_an_empty_record_has_no_sweeps(tmp_path: Path) -> None:
    from tracker.paths import Workspace

    workspace = Workspace(tmp_path, environ={})
    open_database(workspace).close()
    with reading(workspace) as reader:
        assert sweeps.sweeps(reader) == []
        with pytest.raises(UnknownReference):
            sweeps.find(reader, workspace, "abcd")
