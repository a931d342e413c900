"""Full disks: an error that says what to do, nothing that was paid for lost, and the same bytes once there is room.

Covered here: generate in the midst of its answers, waiting for room, and every kind of work with several amounts of
room left, in the workspace and where only its results go. Elsewhere: a model's weights
``tests/pipeline/training/test_results.py``, publishing ``tests/tracker/publishing/test_published_tree.py``, the writer
``tests/pipeline/engine/test_writer.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.training import record_monitor, workers
from tests import perspectives, trainings
from tests.faults.surroundings import fill, is_told, mounted, within_own_mounts
from tests.llm_server import running_server
from tests.workspaces import (
    call,
    config,
    execute,
    finish,
    rows,
    served,
    start,
    train_file,
    tree,
    write_config,
    write_recording,
    write_records,
)
from tracker.paths import Workspace
from tracker.record import training
from tracker.record.database import open_database

COUNT = 40
LEFT = 600_000
"""Bytes: enough to begin a run, and too little for its answers."""
GENERATE = ("generate", "copa.yaml", "--no-mlflow")
OFFLINE = "temp07_topp10_rulesv1"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "recording.jsonl", COUNT)


def test_a_full_disk_stops_the_run_and_loses_nothing(recording: Path, tmp_path: Path) -> None:
    with (
        mounted(tmp_path / "disk", "6m") as root,
        running_server(recorded=recording, latency=0.1) as server,
    ):
        write_records(root, COUNT)
        write_config(root, served(server.base_url, generation__concurrency=4))
        assert call(root, *GENERATE, "--limit", 1).code == 0
        with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        filler = fill(root, LEFT)
        done = finish(start(root, *GENERATE))
        assert done.code == 11, (done.out, done.err)
        assert "disk is full" in done.err
        assert "Free some disk space, then run the same command" in done.err
        assert not train_file(root).exists()
        stored = rows(root, "SELECT count(*) FROM attempt WHERE failure IS NULL")[0][0]
        assert 0 < stored < 2 * COUNT
        filler.unlink()
        again = call(root, *GENERATE)
        assert again.code == 0, again.err
        assert again.out.startswith("✅ Copa/temp07_topp10_gpt4o: resumed, complete")
        # Lost is what waited for the commit that failed, and what was in flight then.
        assert sum(server.stats()["answered"].values()) - 2 * COUNT <= 3 * 4
        assert len(server.stats()["answered"]) == 2 * COUNT
        assert call(root, "view", "check").code == 0


def test_a_disk_that_gets_space_again_is_waited_for(recording: Path, tmp_path: Path) -> None:
    with (
        mounted(tmp_path / "disk", "6m") as root,
        running_server(recorded=recording, latency=0.1) as server,
    ):
        write_records(root, COUNT)
        write_config(root, served(server.base_url, generation__concurrency=4))
        assert call(root, *GENERATE, "--limit", 1).code == 0
        with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        filler = fill(root, LEFT)
        process = start(root, *GENERATE)
        timer = threading.Timer(6.0, filler.unlink)
        timer.start()
        done = finish(process)
        timer.join()
        assert done.code == 0, done.err
        assert max(server.stats()["answered"].values()) == 1


def test_a_full_disk_leaves_nothing_half_written_in_the_view(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "8m") as root:
        write_records(root, 5)
        # It takes no space in the record, where it is compressed, and too much in the tree.
        (root / "Data/original/Copa/copa_validation.jsonl").write_bytes(b'{"premise": "' + b"a" * 2_000_000 + b'"}\n')
        write_config(root, config())
        filler = fill(root, 1_500_000)
        done = call(root, *GENERATE)
        assert done.code == 11
        assert "No space left on device" in done.err
        assert "the record itself is safe" in done.err
        assert tree(root / "Data_v2") == ""
        filler.unlink()
        again = call(root, *GENERATE)
        assert again.out.startswith(f"⚡ Copa/{OFFLINE}: already made")
        assert train_file(root, OFFLINE).exists()
        assert call(root, "view", "check").code == 0


@dataclass(frozen=True)
class Work:
    """A command that writes, and what it made: bytes that are the same however often it was tried.

    ``place`` is the variable that sends only its results to the disk; without one its arguments do that.
    """

    command: tuple[str, ...]
    made: Callable[[Path, Path], str]
    place: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)


def entries(archive: Path) -> str:
    """What is in an archive but for its manifest, which tells when it was made."""
    with zipfile.ZipFile(archive) as file:
        found = {name: hashlib.sha256(file.read(name)).hexdigest() for name in file.namelist()}
    return str(sorted((name, each) for name, each in found.items() if name != "manifest.json"))


def published(_: Path, to: Path) -> str:
    # Its metadata tell when it was published.
    return "".join(line for line in tree(to / "published").splitlines() if "metadata" not in line)


def dump(file: Path) -> str:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return "\n".join(connection.iterdump())


def synthetic(root: Path, to: Path) -> str:
    return tree(root / "Data_v2/synthetic" if to == root else to)


def agents(root: Path, to: Path) -> str:
    found = sorted({*to.rglob("translation_*.json"), *(root / "data").rglob("translation_*.json")})
    return str([perspectives.lasting(path) for path in found])


def in_mlflow(root: Path, to: Path) -> str:
    """What MLflow shows: its runs with their figures, and the files of each."""
    (store,) = {*to.rglob("mlflow.db"), *root.glob("mlruns/mlflow.db")}
    with contextlib.closing(sqlite3.connect(store)) as connection:
        runs = connection.execute("SELECT name, status FROM runs WHERE lifecycle_stage = 'active' ORDER BY name")
        params = connection.execute("SELECT key, value FROM params ORDER BY 1, 2").fetchall()
        files = sorted(path.name for path in store.parent.rglob("*") if path.is_file() and "artifacts" in path.parts)
        return str((runs.fetchall(), [each for each in params if str(root.parent) not in each[1]], files))


SYNTHETIC, DATA, MLRUNS = "SYNTHTRACK_SYNTHETIC_DIR", "SYNTHTRACK_DATA_DIR", "SYNTHTRACK_MLRUNS_DIR"
ELSEWHERE = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""What keeps MLflow out of where disks are full."""
WORK: dict[str, Work] = {
    "generate": Work((*GENERATE, "--set", "generation.temperature=0.9", "--batch", "third"), synthetic, SYNTHETIC),
    "perspectives": Work(("perspectives", "agents.json", "--no-mlflow"), agents, DATA),
    "view": Work(("view", "rebuild"), synthetic, SYNTHETIC),
    "backup": Work(("backup", "{to}/copy.db", "--overwrite"), lambda _, to: dump(to / "copy.db")),
    "export": Work(("export", "first", "{to}/work.zip", "--overwrite"), lambda _, to: entries(to / "work.zip")),
    "import": Work(("import", "../other.zip"), synthetic, SYNTHETIC, environ=ELSEWHERE),
    "publish": Work(("publish", f"Copa/{OFFLINE}", "--target", "{to}/published"), published),
    "mlflow": Work(("mlflow", "sync"), in_mlflow, MLRUNS),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two experiments that MLflow was not told of, inputs for agents, and another one's archive."""
    top = tmp_path_factory.mktemp("made")
    for name, temperature in (("other", 0.2), ("workspace", 0.7)):
        root = top / name
        root.mkdir()
        write_records(root, COUNT)
        write_config(root, config(generation__temperature=temperature, experiment__batch_id="first"))
        assert call(root, *GENERATE).code == 0
    assert call(top / "other", "export", "first", top / "other.zip").code == 0
    assert call(top / "workspace", *GENERATE, "--batch", "second", "--set", "generation.temperature=0.5").code == 0
    perspectives.write_inputs(top / "workspace", perspectives.pairs(20))
    perspectives.write_config(top / "workspace", perspectives.offline(), "agents.json")
    return top


@contextlib.contextmanager
def workplace(made: Path, tmp_path: Path, work: Work, where: str) -> Iterator[tuple[Path, Path, Path, dict[str, str]]]:
    """The workspace, where results go, the small disk, and the environment that has it so."""
    shutil.copyfile(made / "other.zip", tmp_path / "other.zip")
    with mounted(tmp_path / "disk", "24m") as disk:
        root = disk / "workspace" if where == "workspace" else tmp_path / "workspace"
        shutil.copytree(made / "workspace", root, symlinks=True)
        shutil.copyfile(made / "other.zip", root.parent / "other.zip")
        to = root if where == "workspace" else disk / "results"
        to.mkdir(exist_ok=True)
        given = {work.place: str(to)} if work.place and where == "results" else {}
        given |= work.environ
        if given.get(SYNTHETIC):
            assert call(root, "view", "rebuild", environ=given).code == 0
        if work.command[0] == "view":
            shutil.rmtree(to / "_shared" if given else root / "Data_v2/synthetic")
        yield root, to, disk, given


def used(disk: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in disk.rglob("*") if path.is_file() and not path.is_symlink())


SHORT, LONG = [0.0, 0.5], [number / 16 for number in range(20)]
CASES = [(name, where, SHORT) for name in WORK for where in ("workspace", "results")]


@pytest.mark.parametrize(
    ("name", "where", "shares"),
    [
        *(
            each if each[:2] != ("mlflow", "workspace") else pytest.param(*each, marks=pytest.mark.soak)
            for each in CASES
        ),
        *(pytest.param(name, where, LONG, marks=pytest.mark.soak) for name, where, _ in CASES if name != "mlflow"),
    ],
)
def test_whatever_does_not_fit_is_made_the_same_once_there_is_room(
    name: str, where: str, shares: list[float], made: Path, tmp_path: Path
) -> None:
    """``shares`` of the room that it needs."""
    work = WORK[name]
    # MLflow keeps what it knows of a store for as long as its process lives.
    run = execute if name == "mlflow" else call
    (tmp_path / "quiet").mkdir()
    (tmp_path / "full").mkdir()
    with workplace(made, tmp_path / "quiet", work, where) as (root, to, disk, environ):
        before = used(disk)
        command = [word.format(to=to) for word in work.command]
        done = run(root, *command, environ=environ)
        assert done.code == 0, done.err
        needed, expected = used(disk) - before, work.made(root, to)
    refused = 0
    with workplace(made, tmp_path / "full", work, where) as (root, to, disk, environ):
        command = [word.format(to=to) for word in work.command]
        for share in shares:
            filler = fill(disk, int(share * needed))
            done = run(root, *command, environ={"SYNTHTRACK_BUSY_TIMEOUT": "1", **environ})
            refused += done.code != 0
            if done.code:
                assert is_told(done, 11)
            filler.unlink()
        done = run(root, *command, environ=environ)
        assert done.code == 0, done.err
        assert work.made(root, to) == expected
        wrong = [line for line in call(root, "verify", environ=environ).out.splitlines() if line[:1] == "❌"]
        assert [line for line in wrong if "MLflow outbox" not in line] == []
    assert refused


@pytest.mark.parametrize("method", ["zo", "fo_lora"])
def test_a_full_disk_ends_a_training_which_goes_on_where_it_was(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_monitor, "FULL_PATIENCE_S", 1.0)
    given: dict[str, Any] = {"method": method, "hyperparameters__steps": 60, "hyperparameters__eval_steps": 20}
    (quiet,) = trainings.trained(trainings.new_root(tmp_path / "quiet"), **given)
    with mounted(tmp_path / "disk", "24m") as disk:
        root = trainings.new_root(disk / "workspace")
        (run_id,) = trainings.registered(root, **given)
        last = trainings.n_logged if method == "zo" else trainings.n_saved

        def fill_once_there_is_a_checkpoint() -> None:
            trainings.until(lambda: last(root, run_id))
            # The training writes as well: both may find it full.
            with contextlib.suppress(OSError):
                fill(disk, 0)

        filling = threading.Thread(target=fill_once_there_is_a_checkpoint)
        filling.start()
        left = trainings.work(root, run_id)
        filling.join()
        assert (left.code, "Free some disk space" in left.err) == (11, True), left
        assert last(root, run_id)
        (disk / "filler").unlink()
        # As whoever started the worker does where it could not itself.
        status, error = workers.verdict(left.code, left.err, asked=False)
        with open_database(Workspace(root, environ={})) as database:
            training.end_run(database, run_id, status, {}, error=error)
        again = trainings.work(root, run_id)
        assert again.code == 0, again.err
        assert trainings.run(root, run_id)["n_resumed"] == 1
        expected = trainings.predictions(tmp_path / "quiet", quiet, "trained")
        assert trainings.predictions(root, run_id, "trained") == expected


def test_an_ordinary_user_sees_the_same() -> None:
    within_own_mounts(__file__)
