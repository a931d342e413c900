"""`synthtrack training`: what is under way, from any terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import test_startup
from tests.training_bench import Bench, bench, is_gone, until
from tests.training_rows import GONE, Study, fixed_uuid, training_study
from tests.workspaces import call, finish, new_root, start
from tracker import clock
from tracker.clock import Process
from tracker.paths import Workspace
from tracker.record import training
from tracker.record.database import open_database


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return training_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path / "workspace") as found:
        yield found


def ref(study: Study, name: str) -> str:
    return fixed_uuid("sweep", study.sweeps[name])[:8]


def test_looking_loads_nothing_heavy(study: Study) -> None:
    for arguments in (["status"], ["status", "--all", "--json"], ["status", ref(study, "model_comparison")], ["logs"]):
        done = test_startup.start(study.workspace.root, "training", *arguments)
        assert done.stderr.endswith("0 []\n")


def test_status_shows_every_run_of_what_is_unfinished(study: Study) -> None:
    done = call(study.workspace.root, "training", "status")
    newest, unfinished = done.out.split("\n\n")
    assert newest.startswith(f"🔧 Sweep {ref(study, 'hyperparameter_tuning again')} [complete]: Copa, zo, meta-llama")
    lines = unfinished.splitlines()
    assert lines[1] == "   Purpose: baseline_comparison; 1 of 5 runs complete"
    cells = [line.split() for line in lines if "e-06  " in line]
    assert [row[2:5] for row in cells] == [
        ["0", "complete", "1,000/1,000"],
        ["1", "failed", "412/1,000"],
        ["2", "stopped", "412/1,000"],
        ["3", "interrupted", "412/1,000"],
        ["4", "pending", "0/1,000"],
    ]
    assert cells[2][0] == study.uuid("original 1e-06 seed 2")[:8]
    assert cells[2][5:] == ["0.61", "64.0%", "-", "-", "-", "cpu", "-"]
    assert "   ⚠️  lr 1e-06, seed 1: Loss is not finite (nan) at step 412, learning rate 1e-06." in lines
    assert lines[-1] == f"   `synthtrack training resume {ref(study, 'baseline_comparison')}` goes on with it."
    assert len(call(study.workspace.root, "training", "status", "--all").out.split("\n\n")) == 5


def test_status_of_one_run_says_where_it_is(study: Study) -> None:
    uuid = study.uuid("original 1e-06 seed 2")
    done = call(study.workspace.root, "training", "status", uuid[:8])
    assert done.out.count("1e-06") == 1
    tail = done.out.splitlines()[-4:]
    assert tail[0].startswith(
        "   Results: Results_v2/baseline_comparison/meta-llama/Llama-3.2-1B/Copa_zo_original_1_6/"
    )
    assert [line.rpartition("_")[2] for line in tail[1:3]] == ["train.out", "train.err"]
    assert tail[3].startswith(f"   Run:     {uuid}, fingerprint ")


def test_status_as_json_has_everything(study: Study) -> None:
    done = call(study.workspace.root, "training", "status", ref(study, "baseline_comparison"), "--json")
    (sweep,) = json.loads(done.out)
    assert (sweep["status"], sweep["devices"], sweep["log"], len(sweep["runs"])) == ("interrupted", ["cpu"], None, 5)
    run = sweep["runs"][3]
    assert (run["status"], run["step"], run["dev_accuracy"], run["seed"]) == ("interrupted", 412, 0.64, 3)
    assert run["seconds_left"] == pytest.approx(0.06 * 588)


def test_what_is_not_there_is_refused_with_close_matches(study: Study) -> None:
    text = "0" + ref(study, "baseline_comparison")[1:]
    done = call(study.workspace.root, "training", "status", text)
    assert done.code == 4
    assert f"No sweep or training run '{text}'." in done.err
    assert f"Did you mean {ref(study, 'baseline_comparison')}" in done.err


def test_an_empty_workspace_has_nothing_to_say(tmp_path: Path) -> None:
    root = new_root(tmp_path, 1)
    open_database(Workspace(root, environ={})).close()
    assert "Nothing is trained, and nothing was" in call(root, "training", "status").out
    assert call(root, "training", "status", "--json").out == "[]\n"
    assert "Nothing was trained yet." in call(root, "training", "logs").err
    assert call(root, "training", "stop").out == "💾 Nothing is being trained.\n"
    assert call(root, "training", "resume").out == "💾 Nothing is left to train.\n"


def test_a_living_run_is_shown_with_its_process(two: Bench) -> None:
    working = two.working()
    pid = two.wait_for_start(two.run_ids[0])["pid"]
    until(lambda: two.run(two.run_ids[0])["step"])
    out = call(two.workspace.root, "training", "status").out
    assert f"[running]: Copa, zo, {two.sweep()['model']}" in out
    assert f"supervised by PID {os.getpid()} on {clock.host()}" in out
    (row,) = [line.split() for line in out.splitlines() if "running  " in line]
    assert (row[-1], row[-2], row[5:7]) == (str(pid), "cpu", ["0.5", "60.0%"])
    two.tell("complete")
    working.end()


def test_stop_from_another_terminal_saves_and_says_where(two: Bench) -> None:
    first, second = two.run_ids
    working = two.working()
    two.wait_for_start(first)
    done = call(two.workspace.root, "training", "stop")
    assert working.end().status == "stopped"
    assert (two.statuses(), two.sweep()["status"]) == (["stopped", "pending"], "stopped")
    row = two.run(first)
    assert done.out.splitlines() == [
        f"💾 lr 1e-06, seed 0: stopped at step {row['step']} of 1,000 ({row['directory']})",
        f"💾 lr 5e-07, seed 0: pending at step 0 of 1,000 ({two.run(second)['directory']})",
    ]
    assert "Waiting for its checkpoint." in done.err
    assert (two.workspace.root / row["directory"] / "checkpoint.txt").read_text() == str(row["step"])
    # What was asked to end then is not now.
    two.tell("complete")
    assert two.working().end().status == "complete"


def test_stop_of_one_run_leaves_the_sweep_to_the_others(two: Bench) -> None:
    first, second = two.run_ids
    working = two.working()
    two.wait_for_start(first)
    done = call(two.workspace.root, "training", "stop", two.run(first)["uuid"][:8])
    assert (done.code, done.out.count("\n")) == (0, 1)
    two.wait_for_start(second)
    two.tell("complete")
    assert working.end().status == "stopped"
    assert two.statuses() == ["stopped", "complete"]


def test_stop_of_a_run_that_waits_keeps_it_from_beginning(two: Bench) -> None:
    first, second = two.run_ids
    working = two.working()
    two.wait_for_start(first)
    assert call(two.workspace.root, "training", "stop", two.run(second)["uuid"]).code == 0
    two.tell("complete")
    assert working.end().status == "stopped"
    assert (two.statuses(), two.began(second)) == (["complete", "pending"], [])


def test_stop_now_kills_who_does_not_listen(two: Bench) -> None:
    two.tell("hang")
    working = two.working()
    pid = two.wait_for_start(two.run_ids[0])["pid"]
    done = call(two.workspace.root, "training", "stop", "--now")
    assert is_gone(pid)
    assert working.end().status == "stopped"
    assert (two.statuses(), two.run(two.run_ids[0])["error"]) == (["interrupted", "pending"], None)
    assert "lr 1e-06, seed 0: interrupted at step" in done.out


def test_stop_reaches_a_worker_whose_supervisor_is_gone(two: Bench) -> None:
    first = two.run_ids[0]
    working = two.working()
    two.wait_for_start(first)
    # As if this process, which supervises, had been killed.
    elsewhere = Process("another-host.invalid", 7, 1.0)
    two.change("training_sweep", host=elsewhere.host, pid=7, heartbeat="2020-01-01T00:00:00.000000Z")
    out = call(two.workspace.root, "training", "status").out
    assert "Its supervisor is gone; what runs goes on, and nothing else begins." in out
    assert "lr 1e-06, seed 0: stopped at step" in call(two.workspace.root, "training", "stop").out
    assert two.statuses() == ["stopped", "pending"]
    two.change(
        "training_sweep", host=clock.host(), pid=os.getpid(), pid_started=clock.this_process().started, status="running"
    )
    working.interrupts.count = 1
    assert working.end().status == "stopped"


def test_stop_of_what_is_not_trained_says_so(study: Study) -> None:
    done = call(study.workspace.root, "training", "stop", ref(study, "data_quality_impact"))
    assert (done.code, done.out) == (0, "💾 It is not being trained.\n")


def test_of_several_sweeps_one_must_be_named(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    with open_database(study.workspace) as database:
        for name in ("baseline_comparison", "model_comparison"):
            training.supervise(database, study.sweeps[name], clock.this_process())
    done = call(tmp_path, "training", "stop")
    assert done.code == 5
    assert (
        f"2 sweeps are being trained: {ref(study, 'model_comparison')}, {ref(study, 'baseline_comparison')}."
        in done.err
    )


def test_logs_of_a_run_and_of_a_sweep(two: Bench) -> None:
    first, second = two.run_ids
    two.tell("complete", first)
    two.tell("exit", second)
    two.working().end()
    names = [f"{two.run(run_id)['directory']}/{rate}_train.out" for run_id, rate in ((first, "1_6"), (second, "5_7"))]
    root = two.workspace.root
    assert call(root, "training", "logs").out == "".join(
        f"{'' if at == 0 else chr(10)}==> {name} <==\nrun {run_id} goes on from step 0\n"
        for at, (run_id, name) in enumerate(zip(two.run_ids, names, strict=True))
    )
    uuid = two.run(second)["uuid"]
    assert call(root, "training", "logs", uuid, "--err").out == "Something broke.\nNobody wrote it down.\n"
    assert call(root, "training", "logs", two.run(first)["uuid"], "--err").err.startswith(
        "Nothing was written yet: Res"
    )


def test_logs_show_what_steers_no_terminal(two: Bench) -> None:
    row = two.run(two.run_ids[0])
    path = two.workspace.root / row["directory"] / "1_6_train.out"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"10%\r20%\r30%\r\n\x1b[2Jgone \xff\nunfinished")
    out = call(two.workspace.root, "training", "logs", row["uuid"]).out
    assert out == "30%\n␛[2Jgone �\nunfinished\n"


def test_following_goes_on_until_the_run_has_ended(two: Bench) -> None:
    first, second = two.run_ids
    following = start(two.workspace.root, "training", "logs", "-f", two.run(first)["uuid"])
    early = finish(following)
    assert (early.code, early.out) == (0, "")
    assert early.err == "💾 lr 1e-06, seed 0: pending at step 0 of 1,000\n"
    working = two.working()
    two.wait_for_start(first)
    both = [
        start(two.workspace.root, "training", "logs", "-f", of) for of in (two.run(first)["uuid"], two.sweep()["uuid"])
    ]
    for process in both:
        assert process.stdout is not None
        while "goes on from step 0" not in process.stdout.readline():
            assert process.poll() is None
    two.tell("complete", first)
    one = finish(both[0])
    assert (one.code, one.err) == (0, "💾 lr 1e-06, seed 0: complete at step 1,000 of 1,000\n")
    two.wait_for_start(second)
    assert both[1].poll() is None
    two.tell("fail", second)
    working.end()
    whole = finish(both[1])
    assert (whole.code, whole.out.splitlines()[-1]) == (0, f"run {second} goes on from step 0")
    assert whole.err.startswith("💾 lr 5e-07, seed 0: failed at step ")


def test_following_ends_with_ctrl_c(two: Bench) -> None:
    working = two.working()
    two.wait_for_start(two.run_ids[0])
    process = start(two.workspace.root, "training", "logs", "-f")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 130
    two.tell("complete")
    assert working.end().status == "complete"


def test_resume_of_what_is_done_says_so(study: Study) -> None:
    root = study.workspace.root
    assert call(root, "training", "resume", ref(study, "model_comparison")).out == "💾 Nothing is left to train.\n"
    failed = call(root, "training", "resume", study.uuid("original 1e-06 seed 1"))
    assert failed.out == ("💾 Nothing is left to train. `synthtrack train` on its config tries what failed again.\n")


def test_resume_is_refused_while_somebody_works_on_it(two: Bench) -> None:
    working = two.working()
    two.wait_for_start(two.run_ids[0])
    for more in ([], ["--background"]):
        done = finish(start(two.workspace.root, "training", "resume", "--no-mlflow", *more))
        assert done.code == 5
        assert f"is being trained by PID {os.getpid()} on {clock.host()}" in done.err
    two.tell("complete")
    assert working.end().status == "complete"


def test_resume_starts_real_workers_and_tells_how_they_end(two: Bench) -> None:
    # Their data is not there, so that each says so and fails.
    two.change("training_sweep", continue_on_error=True)
    done = finish(start(two.workspace.root, "training", "resume", "--no-mlflow"))
    assert done.code == 16, done.err
    assert two.statuses() == ["failed", "failed"]
    assert [line.split()[1] for line in done.out.splitlines()[2:]] == ["failed", "failed"]
    assert "Error: 2 of 2 runs failed. lr 1e-06, seed 0: " in done.err
    assert "⚠️  lr 5e-07, seed 0: failed at step 0 of 1,000: " in done.err


def test_resume_in_the_background_returns_at_once(two: Bench) -> None:
    second = two.run_ids[1]
    uuid = two.run(second)["uuid"]
    done = finish(start(two.workspace.root, "training", "resume", uuid, "--background", "--no-mlflow"))
    log = f"Results_v2/study/.sweeps/{two.sweep()['uuid']}.log"
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"💾 Sweep {two.sweep()['uuid'][:8]} goes on in the background; its log is {log}.\n")
    until(lambda: two.sweep()["status"] != "running")
    assert two.statuses() == ["pending", "failed"]
    assert f"   Log:     {log}" in call(two.workspace.root, "training", "status").out


def test_a_reused_pid_is_no_running_training(study: Study) -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger, open_database(study.workspace) as database:
        try:
            there = clock.process_of(stranger.pid)
            reused = Process(there.host, there.pid, there.started - 3600)
            with database.writing() as connection:
                connection.execute(
                    training.RUN.update()
                    .where(training.RUN.c.status == "running")
                    .values(pid=reused.pid, pid_started=reused.started, heartbeat="2020-01-01T00:00:00.000000Z")
                )
            out = call(study.workspace.root, "training", "status").out
        finally:
            stranger.kill()
            with database.writing() as connection:
                connection.execute(
                    training.RUN.update()
                    .where(training.RUN.c.status == "running")
                    .values(pid=GONE.pid, pid_started=GONE.started)
                )
    assert "running" not in out
