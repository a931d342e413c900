"""Published data: the bytes of the record, all at once, and nothing overwritten that was not published."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.publishing.publish import Wish, publish
from pipeline.publishing.publish_plan import Planned
from tests.faults.surroundings import mounted, read_only
from tests.view_rows import COMPLETED, COPIED, Made, execute, workspace
from tests.workspaces import rows
from tracker.durable import HOST
from tracker.errors import Conflict, Corrupt, PartialResult, StorageError, UnknownReference, WrongStep
from tracker.paths import TEMPORARY, Workspace
from tracker.publishing import publications
from tracker.publishing.published_tree import METADATA
from tracker.record.catalogue import Row, reading
from tracker.record.database import open_database
from tracker.views import synthetic_view

FIRST = Made()
SECOND = Made(name="temp09", outcomes=("x", "rejected", "y"))
MANY = (
    FIRST,
    SECOND,
    Made(name="partial", outcomes=("x", "failed", "y"), status="partial"),
    Made(name="running", status="unfinished"),
    Made(dataset="CB"),
)
ONE, TWO = "Copa/temp07_topp10_gpt4o", "Copa/temp09"


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "workspace", MANY)


def run(here: Workspace, ref: str = ONE, **wish: Any) -> list[Planned]:
    given = {"target": str(here.root / "target"), **wish}
    return publish(here, ref, Wish(**given), lambda _, row: f"finish {row['name']}")[1]


def target(here: Workspace) -> Path:
    return here.root / "target/Copa"


def data(made: Made) -> dict[str, bytes]:
    stem = made.dataset.lower()
    return {f"{stem}_train.jsonl": made.data} | {f"{stem}_{split}.jsonl": content for split, content in COPIED.items()}


def holds(directory: Path) -> dict[str, bytes]:
    """The data files of a published directory, whose metadata must be there and tell of them."""
    found = {path.name: path.read_bytes() for path in directory.iterdir()}
    metadata = json.loads(found.pop(METADATA))
    assert metadata["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
    return found


def states(here: Workspace) -> list[str]:
    with reading(here) as reader:
        return [f"{row['experiment']} {row['kind']} {row['state']}" for row in publications.listing(reader, here).rows]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def count(here: Workspace) -> int:
    return int(rows(here.root, "SELECT count(*) FROM publication")[0][0])


def test_the_files_are_those_of_the_record(here: Workspace) -> None:
    (done,) = run(here)
    assert (done.outcome, done.place.directory) == ("made", target(here))
    assert holds(target(here)) == data(FIRST)
    assert states(here) == [f"{ONE} target as published"]
    metadata = json.loads((target(here) / METADATA).read_bytes())
    expected: Row = {
        "fingerprint": "000000000001", "digest": f"{1:064x}", "experiment": ONE, "kind": "target", "mode": "copy",
        "source": {
            "path": str(here.root / "Data_v2/synthetic" / FIRST.home / "Copa"),
            "data_digest": hashlib.sha256(FIRST.data).hexdigest(),
        },
        "source_dataset": {"digest": f"{2:064x}", "origin": "a test"},
    }  # fmt: skip
    assert expected.items() <= metadata.items()
    assert metadata.keys() - expected.keys() == {"published_at", "published_by", "files", "synthtrack"}
    (row,) = rows(here.root, "SELECT directory, dataset, fingerprint, published_at, published_by FROM publication")
    assert row[:3] == ("target/Copa", "Copa", "000000000001")
    assert row[3:] == (metadata["published_at"], metadata["published_by"])


def test_another_name_is_allowed(here: Workspace) -> None:
    run(here, dataset="Copa_warm")
    assert holds(here.root / "target/Copa_warm") == data(FIRST)


def test_the_same_again_is_nothing_to_do(here: Workspace) -> None:
    run(here, archive="kept")
    before = target(here).stat()
    assert [each.outcome for each in run(here, archive="kept")] == ["unchanged", "unchanged"]
    assert target(here).stat() == before
    (target(here) / "notes.txt").write_text("mine")
    assert [each.outcome for each in run(here)] == ["unchanged"]
    assert count(here) == 2


def test_what_was_published_and_not_touched_is_replaced(here: Workspace) -> None:
    run(here)
    (done,) = run(here, TWO)
    assert (done.outcome, done.replaced, done.aside) == ("replaced", ONE, None)
    assert holds(target(here)) == data(SECOND)
    assert states(here) == [f"{TWO} target as published", f"{ONE} target replaced by {TWO}"]
    (target(here) / "copa_test.jsonl").unlink()
    assert run(here, TWO)[0].outcome == "replaced"
    assert holds(target(here)) == data(SECOND)
    assert names(target(here).parent) == ["Copa"]


def test_files_of_other_names_do_not_stay(here: Workspace) -> None:
    run(here)
    run(here, "CB/temp07_topp10_gpt4o", dataset="Copa")
    assert holds(target(here)) == data(MANY[4])


def test_what_was_not_published_stays_and_is_named(here: Workspace) -> None:
    run(here)
    (target(here) / "copa_train.jsonl").write_text("edited")
    (target(here) / "notes.txt").write_text("mine")
    for ref in (ONE, TWO):
        with pytest.raises(Conflict) as caught:
            run(here, ref)
        assert "copa_train.jsonl: changed since it was published" in caught.value.message
        assert "notes.txt: not published there" in caught.value.message
        assert "copa_test.jsonl" not in caught.value.message
    assert count(here) == 1
    (done,) = run(here, TWO, force=True)
    assert done.aside is not None
    assert done.aside.name.startswith("Copa.before-")
    assert (done.aside / "copa_train.jsonl").read_text() == "edited"
    assert (done.aside / "notes.txt").read_text() == "mine"
    assert holds(target(here)) == data(SECOND)


def test_what_was_moved_aside_is_told_as_long_as_it_is_there(here: Workspace) -> None:
    run(here)
    moved = []
    for old, new in ((ONE, TWO), (TWO, ONE)):
        (target(here) / "notes.txt").write_text("mine")
        moved += [each.aside for each in run(here, new, force=True) if each.aside is not None]
        assert states(here)[:2] == [
            f"{new} target as published",
            f"{old} target moved aside to {moved[-1].name} beside it, and replaced by {new}",
        ]
    run(here, TWO)
    one, two = moved
    assert states(here) == [
        f"{TWO} target as published",
        f"{ONE} target replaced by {TWO}",
        f"{TWO} target moved aside to {two.name} beside it, and replaced by {TWO}",
        f"{ONE} target moved aside to {one.name} beside it, and replaced by {TWO}",
    ]
    (two / METADATA).unlink()
    shutil.rmtree(one)
    assert states(here)[2:] == [f"{each} target replaced by {TWO}" for each in (TWO, ONE)]


@pytest.mark.parametrize("how", ["directory", "file", "link", "link to a directory", "edited metadata"])
def test_what_stands_in_the_way_is_moved_aside_only_by_force(here: Workspace, how: str) -> None:
    target(here).parent.mkdir()
    if how == "directory":
        target(here).mkdir()
        (target(here) / "copa_train.jsonl").write_bytes(FIRST.data)
    elif how == "file":
        target(here).write_text("mine")
    elif how == "edited metadata":
        run(here)
        (target(here) / METADATA).write_text("{}")
    else:
        target(here).symlink_to("elsewhere")
        if how == "link to a directory":
            (here.root / "target/elsewhere").mkdir()
    kind = "link" if target(here).is_symlink() else "other"
    with pytest.raises(Conflict):
        run(here)
    (done,) = run(here, force=True)
    assert done.aside is not None
    assert done.aside.is_symlink() is (kind == "link")
    assert holds(target(here)) == data(FIRST)
    assert not target(here).is_symlink()


def test_an_empty_directory_is_in_nobodys_way(here: Workspace) -> None:
    target(here).mkdir(parents=True)
    assert run(here)[0].outcome == "made"
    assert holds(target(here)) == data(FIRST)


def test_an_archive_is_a_copy_that_is_never_replaced(here: Workspace) -> None:
    run(here, archive="mezo_gpt/version_1", symlink=True)
    kept = here.root / "mezo_gpt/version_1/Copa"
    assert holds(kept) == data(FIRST)
    assert not any(path.is_symlink() for path in kept.iterdir())
    assert states(here) == [f"{ONE} archive as published", f"{ONE} target as published"]
    for force in (False, True):
        with pytest.raises(Conflict, match=r"copa_train\.jsonl: other bytes"):
            run(here, TWO, archive="mezo_gpt/version_1", force=force)
    # Neither was done.
    assert target(here).joinpath("copa_train.jsonl").read_bytes() == FIRST.data
    assert [each.outcome for each in run(here, TWO, archive="mezo_gpt/version_2")] == ["replaced", "made"]
    assert holds(kept) == data(FIRST)


@pytest.mark.parametrize("how", ["edited", "less", "more", "link", "file"])
def test_an_archive_that_is_anything_else_is_refused(here: Workspace, how: str) -> None:
    run(here, archive="kept")
    kept, train = here.root / "kept/Copa", here.root / "kept/Copa/copa_train.jsonl"
    if how == "file":
        shutil.rmtree(kept)
        kept.write_text("mine")
    elif how == "more":
        (kept / "notes.txt").write_text("mine")
    else:
        train.unlink()
    if how == "edited":
        train.write_text("edited")
    elif how == "link":
        train.symlink_to(target(here) / "copa_train.jsonl")
    with pytest.raises(Conflict, match="never replaced"):
        run(here, archive="kept", force=True)


def test_links_lead_to_the_shared_data(here: Workspace) -> None:
    run(here, symlink=True)
    link = target(here) / "copa_train.jsonl"
    assert str(link.readlink()) == f"../../Data_v2/synthetic/{FIRST.home}/Copa/copa_train.jsonl"
    assert not target(here).is_symlink()
    assert holds(target(here)) == data(FIRST)
    assert run(here, symlink=True)[0].outcome == "unchanged"
    with reading(here) as reader:
        assert synthetic_view.check(here, reader) != []  # the other experiments; what was asked for is there
    shutil.rmtree(here.synthetic_dir)
    assert states(here)[0].startswith(f"{ONE} target missing: copa_")
    assert run(here, symlink=True)[0].outcome == "unchanged"
    assert states(here) == [f"{ONE} target as published"]


def test_what_was_edited_behind_a_link_is_mended(here: Workspace) -> None:
    run(here, symlink=True)
    train = here.synthetic_dir / FIRST.home / "Copa/copa_train.jsonl"
    moment = train.stat().st_mtime_ns
    train.write_bytes(FIRST.data.swapcase())
    os.utime(train, ns=(moment, moment))
    assert states(here) == [f"{ONE} target changed: copa_train.jsonl"]
    run(here, symlink=True)
    assert holds(target(here)) == data(FIRST)


@pytest.mark.parametrize("elsewhere", ["target", "tree"])
def test_links_out_of_the_workspace_are_absolute(tmp_path: Path, elsewhere: str) -> None:
    environ = {"SYNTHTRACK_SYNTHETIC_DIR": str(tmp_path / "tree")} if elsewhere == "tree" else {}
    here = workspace(tmp_path / "workspace", MANY, **environ)
    directory = tmp_path / "out/Copa" if elsewhere == "target" else target(here)
    run(here, target=str(directory.parent), symlink=True)
    link = directory / "copa_train.jsonl"
    assert str(link.readlink()) == f"{here.synthetic_dir}/{FIRST.home}/Copa/copa_train.jsonl"
    assert holds(directory) == data(FIRST)


def test_copies_and_links_take_each_others_place(here: Workspace) -> None:
    for symlink in (True, False, True):
        assert run(here, symlink=symlink)[0].outcome in {"made", "replaced"}
        assert (target(here) / "copa_train.jsonl").is_symlink() is symlink
        assert holds(target(here)) == data(FIRST)
    shutil.rmtree(here.synthetic_dir)
    assert run(here, TWO)[0].replaced == ONE


def test_a_link_of_somebody_else_is_not_followed_nor_lost(here: Workspace) -> None:
    run(here, symlink=True)
    mine = here.root / "mine.jsonl"
    mine.write_text("mine")
    (target(here) / "copa_train.jsonl").unlink()
    (target(here) / "copa_train.jsonl").symlink_to(mine)
    with pytest.raises(Conflict, match=r"copa_train\.jsonl: a link, changed"):
        run(here, TWO)
    run(here, TWO, force=True)
    assert mine.read_text() == "mine"


def test_partial_data_is_not_published(here: Workspace) -> None:
    with pytest.raises(PartialResult, match="1 of 3 records failed") as caught:
        run(here, "Copa/partial", force=True)
    assert caught.value.hint == "Try them again: finish partial"
    assert not target(here).exists()


def test_unfinished_data_is_not_published(here: Workspace) -> None:
    with pytest.raises(WrongStep, match="not finished") as caught:
        run(here, "Copa/running", force=True)
    assert caught.value.hint == "Next: finish running"
    with pytest.raises(UnknownReference):
        run(here, "Copa/temp70")


def test_rows_that_contradict_each_other_are_not_published(here: Workspace) -> None:
    execute(here, "UPDATE sample SET rephrased = 'by hand' WHERE shared_experiment_id = 1 AND position = 0")
    with pytest.raises(Corrupt):
        run(here)
    assert not target(here).exists()


def test_a_failure_leaves_no_row(here: Workspace, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "2m") as disk:
        run(here, target=str(disk / "target"))
        with read_only(disk), pytest.raises(StorageError, match="Read-only"):
            run(here, TWO, target=str(disk / "target"))
        assert holds(disk / "target/Copa") == data(FIRST)
    # A directory that a disk is mounted on cannot be replaced.
    with mounted(here.root / "mounted", "2m"), pytest.raises(StorageError, match="busy"):
        run(here, target=str(here.root), dataset="mounted")
    assert count(here) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_target_that_may_not_be_written_is_told(here: Workspace) -> None:
    target(here).parent.mkdir(mode=0o555)
    with pytest.raises(StorageError, match="Permission denied"):
        run(here)
    assert count(here) == 0


def test_somebody_elses_name_is_no_reason_to_fail(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    # A container may run as a user that has no name; here only another process could.
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError("no such user")))
    run(here)
    assert rows(here.root, "SELECT published_by FROM publication") == [(f"user {os.getuid()}",)]


PROGRAM = """
import sys
from itertools import cycle
from pathlib import Path
from pipeline.publishing.publish import Wish, publish
from tracker.publishing import published_tree
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.paths import Workspace
import filelock

root, how, times, *refs = sys.argv[1:]
if how == "two renames":
    published_tree._exchange = lambda *_: False
here = Workspace(Path(root), environ={})
print("ready", flush=True)
sys.stdin.readline()
for ref, _ in zip(cycle(refs), range(int(times))):
    publish(here, ref, Wish(str(Path(root) / "target"), symlink=how == "symlink"), lambda *_: None)
"""


def start(here: Workspace, how: str, times: int, *refs: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(here.root), how, str(times), *refs],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.mark.parametrize("how", ["copy", "symlink", "two renames"])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new(here: Workspace, how: str) -> None:
    run(here, symlink=how == "symlink")
    draw = random.Random(7)
    for _ in range(8):
        process = start(here, how, 10_000, TWO, ONE)
        go(process)
        time.sleep(draw.uniform(0, 0.15))
        process.kill()
        _, errors = process.communicate()
        assert (process.returncode, errors) == (-signal.SIGKILL, "")
        if how != "two renames" or target(here).exists():
            assert holds(target(here)) in (data(FIRST), data(SECOND))
        # It needs no force, and leaves nothing of what was killed.
        for ref, made in ((TWO, SECOND), (ONE, FIRST)):
            run(here, ref, symlink=how == "symlink")
            assert holds(target(here)) == data(made)
            assert states(here)[0] == f"{ref} target as published"
        assert names(target(here).parent) == ["Copa"]


def test_who_is_killed_between_row_and_directory_is_in_nobodys_way(here: Workspace) -> None:
    run(here)
    with reading(here) as reader, open_database(here) as database:
        row = publications.published_at(reader, here, target(here))[0]
        kept = ("shared_experiment_id", "dataset", "directory", "kind", "mode", "fingerprint", "published_by", "files")
        publications.add(
            database, {**{key: row[key] for key in kept}, "shared_experiment_id": 2, "published_at": COMPLETED,
                       "files": {**row["files"], METADATA: "never written"}},
        )  # fmt: skip
    assert states(here)[0] == f"{TWO} target changed: {METADATA}"
    (done,) = run(here, TWO)
    assert (done.outcome, done.replaced) == ("replaced", ONE)
    assert states(here)[0] == f"{TWO} target as published"


def test_who_is_killed_between_two_renames_leaves_nothing_for_good(here: Workspace) -> None:
    run(here)
    dead = subprocess.Popen(["true"])
    dead.wait()
    for number in range(2):
        shutil.copytree(target(here), target(here).with_name(f"{TEMPORARY}{dead.pid}-{HOST}-{number}"))
    shutil.rmtree(target(here))
    assert states(here) == [f"{ONE} target missing"]
    assert run(here)[0].outcome == "made"
    assert names(target(here).parent) == ["Copa"]
    assert holds(target(here)) == data(FIRST)


def test_two_at_once_leave_one_complete_result(here: Workspace) -> None:
    run(here)
    processes = [start(here, "copy", 15, ref) for ref in (ONE, TWO, ONE, TWO)]
    stop, seen = threading.Event(), []

    def watch() -> None:
        while not stop.is_set():
            seen.append(target(here).is_dir())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for process in processes:
        go(process)
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    stop.set()
    watcher.join()
    assert all(seen)
    assert holds(target(here)) in (data(FIRST), data(SECOND))
    first, *others = states(here)
    assert first.endswith("as published")
    assert all(" replaced by " in each for each in others)
    assert not [path for path in target(here).parent.iterdir() if path.name.startswith(TEMPORARY)]


def test_a_file_put_there_meanwhile_is_never_lost(here: Workspace) -> None:
    run(here)
    draw, refused = random.Random(7), 0

    def alternate() -> None:
        nonlocal refused
        for ref in (TWO, ONE) * 3:
            try:
                run(here, ref)
            except Conflict:
                refused += 1

    for _ in range(25):
        publisher = threading.Thread(target=alternate)
        publisher.start()
        time.sleep(draw.uniform(0, 0.06))
        mine = target(here) / "mine.txt"
        try:
            mine.write_text("mine")
        except FileNotFoundError:
            # Its directory was replaced while it was being opened, and nothing was written.
            publisher.join()
            continue
        publisher.join()
        assert mine.read_text() == "mine"
        mine.unlink()
    assert refused


def test_the_time_of_the_files_is_when_the_data_was_completed(here: Workspace) -> None:
    run(here)
    moment = datetime.fromisoformat(COMPLETED).timestamp()
    assert (target(here) / "copa_train.jsonl").stat().st_mtime == pytest.approx(moment)


@pytest.mark.parametrize("force", [False, True])
def test_the_source_data_and_the_record_stay_whatever_is_forced(here: Workspace, force: bool) -> None:
    source = here.root / "Data/original/Copa"
    source.mkdir(parents=True)
    (source / "copa_train.jsonl").write_text("people wrote this")
    execute(here, f"UPDATE source_dataset SET origin = '{source / 'copa_train.jsonl'}' WHERE id = 1")
    before = here.database.read_bytes()
    with pytest.raises(Conflict, match="where source data was read from"):
        run(here, target=str(source.parent), force=force)
    with pytest.raises(Conflict, match="belongs to the database"):
        run(here, target=str(here.root), dataset="tracker.db", force=force)
    assert ((source / "copa_train.jsonl").read_text(), names(source.parent)) == ("people wrote this", ["Copa"])
    assert here.database.read_bytes() == before


@pytest.mark.parametrize("how", ["mv", "cp -a"])
@pytest.mark.parametrize("symlink", [False, True])
def test_a_workspace_can_be_moved_with_what_was_published_in_it(here: Workspace, how: str, symlink: bool) -> None:
    run(here, symlink=symlink, archive="kept")
    run(here, TWO, target=str(here.root.parent / "outside"))
    moved = Workspace(here.root.with_name("moved"), environ={})
    subprocess.run([*how.split(), here.root, moved.root], check=True)
    kept = [f"{ONE} archive as published", f"{ONE} target as published"]
    assert states(moved) == [f"{TWO} target as published", *kept]
    with reading(moved) as reader:
        told = [row["directory"] for row in publications.listing(reader, moved).rows]
    assert told == [str(here.root.parent / "outside/Copa"), str(moved.root / "kept/Copa"), str(target(moved))]
    assert [done.outcome for done in run(moved, symlink=symlink, archive="kept")] == ["unchanged", "unchanged"]
    assert run(moved, TWO)[0].replaced == ONE
    assert states(moved)[-1] == f"{ONE} target replaced by {TWO}"


def test_what_was_written_for_the_first_place_goes_where_the_second_cannot_be_written(here: Workspace) -> None:
    run(here)
    with mounted(here.root / "kept", "2m") as kept, read_only(kept), pytest.raises(StorageError, match="Read-only"):
        run(here, TWO, archive="kept")
    assert names(target(here).parent) == ["Copa"]
    assert states(here) == [f"{ONE} target as published"]


def test_other_data_with_the_same_bytes_is_told_apart(tmp_path: Path) -> None:
    here = workspace(tmp_path / "workspace", (FIRST, Made(name="twin")))
    run(here)
    before = holds(target(here))
    (done,) = run(here, "Copa/twin")
    assert (done.outcome, done.replaced, holds(target(here))) == ("replaced", ONE, before)
    assert json.loads((target(here) / METADATA).read_bytes())["experiment"] == "Copa/twin"
