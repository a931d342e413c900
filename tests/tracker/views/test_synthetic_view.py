"""The tree is a view of the record: made, damaged, killed, hindered, and always back as it was."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.view_rows import Made, execute, snapshot, workspace
from tracker.errors import StorageError
from tracker.paths import TEMPORARY, Workspace
from tracker.record.catalogue import reading
from tracker.views import rows as view_rows
from tracker.views import synthetic_view
from tracker.views.plan import Changes, Difference
from tracker.views.tree import writing

LATER = "2026-11-21T08:00:00.000000Z"
MANY = (
    Made(batches=("batch_a", "batch_b")),
    Made(name="temp09", outcomes=("x", "failed", "y"), status="partial", batches=("batch_b",)),
    Made(dataset="CB", batches=("batch_a",)),
    Made(name="running", status="unfinished"),
)


def rebuild(here: Workspace) -> Changes:
    with reading(here) as reader:
        return synthetic_view.rebuild(here, reader)


def refresh(here: Workspace, *ids: int, deep: bool = False) -> Changes:
    with reading(here) as reader:
        return synthetic_view.refresh(here, reader, ids, deep=deep)


def check(here: Workspace) -> list[Difference]:
    with reading(here) as reader:
        return synthetic_view.check(here, reader)


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    found = workspace(tmp_path / "workspace", MANY)
    rebuild(found)
    return found


def test_the_tree_holds_what_is_finished_and_links_to_it(here: Workspace) -> None:
    tree = snapshot(here)
    links = {path: target for path, (kind, target, _) in tree.items() if kind == "link"}
    assert links == {
        "batch_a/CB/temp07_topp10_gpt4o": "../../_shared/CB/temp07_topp10_gpt4o",
        "batch_a/Copa/temp07_topp10_gpt4o": "../../_shared/Copa/temp07_topp10_gpt4o",
        "batch_b/Copa/temp07_topp10_gpt4o": "../../_shared/Copa/temp07_topp10_gpt4o",
        "batch_b/Copa/temp09": "../../_shared/Copa/temp09",
    }
    assert sorted(path for path, (kind, _, _) in tree.items() if kind == "file" and "/Copa/temp09/" in path) == [
        "_shared/Copa/temp09/.fingerprint",
        "_shared/Copa/temp09/Copa/copa_test.jsonl",
        "_shared/Copa/temp09/Copa/copa_train.jsonl",
        "_shared/Copa/temp09/Copa/copa_validation.jsonl",
        "_shared/Copa/temp09/experiment_metadata.json",
        "_shared/Copa/temp09/generation_config.yaml",
    ]
    assert not any("running" in path for path in tree)
    assert check(here) == []


def test_a_deleted_tree_comes_back_byte_for_byte(here: Workspace) -> None:
    before = snapshot(here)
    shutil.rmtree(here.synthetic_dir)
    assert rebuild(here)
    assert snapshot(here) == before
    assert not rebuild(here)


def test_refresh_makes_only_what_it_is_asked_for(tmp_path: Path) -> None:
    here = workspace(tmp_path, MANY)
    changes = refresh(here, 2, 4, 99)
    assert changes.directories == ("_shared/Copa/temp09",)
    assert changes.links == (("batch_b/Copa/temp09", "../../_shared/Copa/temp09"),)
    assert sorted(path.name for path in here.shared_dir.glob("*/*")) == ["temp09"]
    assert not refresh(here, 2)
    assert not refresh(here)


def test_where_nothing_is_to_be_done_no_lock_is_taken(here: Workspace) -> None:
    with FileLock(here.root / ".view.lock"):
        assert not refresh(here, 1, 2, 3, 4)
        assert not refresh(here, 1, 2, 3, 4, deep=True)
        assert check(here) == []


def test_an_edit_of_the_same_size_is_seen_without_reading(here: Workspace) -> None:
    train = here.synthetic_dir / MANY[0].home / "Copa/copa_train.jsonl"
    before = train.read_bytes()
    train.write_bytes(before.swapcase())
    changes = refresh(here, 1)
    assert changes.files == changes.aside == (f"{MANY[0].home}/Copa/copa_train.jsonl",)
    assert train.read_bytes() == before
    assert changes.trash is not None
    assert (Path(changes.trash) / changes.aside[0]).read_bytes() == before.swapcase()


def test_an_edit_that_hides_its_time_is_seen_by_content(here: Workspace) -> None:
    train = here.synthetic_dir / MANY[0].home / "Copa/copa_train.jsonl"
    before, moment = train.read_bytes(), train.stat().st_mtime_ns
    train.write_bytes(before.swapcase())
    os.utime(train, ns=(moment, moment))
    assert not refresh(here, 1)
    assert [(each.path, each.what) for each in check(here)] == [
        (f"{MANY[0].home}/Copa/copa_train.jsonl", "edited"),
    ]
    assert refresh(here, 1, deep=True)
    assert train.read_bytes() == before


def test_a_copy_with_other_times_is_right(here: Workspace) -> None:
    before = snapshot(here)
    for path in here.shared_dir.rglob("*"):
        os.utime(path)
    assert check(here) == []
    assert not refresh(here, 1, 2, 3)
    assert snapshot(here) == before


def test_every_kind_of_difference_is_named(here: Workspace) -> None:
    top, home = here.synthetic_dir, here.synthetic_dir / MANY[0].home
    (home / "generation_config.yaml").unlink()
    (home / ".fingerprint").write_text("edited")
    (home / "experiment_metadata.json").unlink()
    (home / "experiment_metadata.json").mkdir()
    (home / "notes.txt").write_text("mine")
    (top / "batch_mine").mkdir()
    (top / "batch_mine" / "deep").mkdir()
    shutil.rmtree(top / MANY[1].home)
    link = top / "batch_a/CB/temp07_topp10_gpt4o"
    link.unlink()
    link.symlink_to("../../_shared/CB")
    (top / "batch_a/Copa/temp07_topp10_gpt4o").unlink()
    (top / "batch_b/Copa/temp07_topp10_gpt4o").unlink()
    (top / "batch_b/Copa/temp07_topp10_gpt4o").write_text("a file")
    (top / "batch_a/Copa/temp09").symlink_to("../../_shared/Copa/temp09")
    (top / "_shared/Copa/running").mkdir()
    assert {(each.what, each.path) for each in check(here)} == {
        ("dangling", "batch_b/Copa/temp09"),
        ("edited", f"{MANY[0].home}/.fingerprint"),
        ("missing", "_shared/Copa/temp09"),
        ("missing", f"{MANY[0].home}/generation_config.yaml"),
        ("missing", "batch_a/Copa/temp07_topp10_gpt4o"),
        ("not in the record", "_shared/Copa/running"),
        ("not in the record", "batch_a/Copa/temp09"),
        ("replaced", f"{MANY[0].home}/experiment_metadata.json"),
        ("replaced", "batch_b/Copa/temp07_topp10_gpt4o"),
        ("unknown", f"{MANY[0].home}/notes.txt"),
        ("unknown", "batch_mine"),
        ("wrong target", "batch_a/CB/temp07_topp10_gpt4o"),
    }
    changes = rebuild(here)
    assert set(changes.unknown) == {f"{MANY[0].home}/notes.txt", "batch_mine"}
    assert {each.what for each in check(here)} == {"unknown"}
    assert (home / "notes.txt").read_text() == "mine"
    assert changes.trash is not None
    assert (Path(changes.trash) / "batch_b/Copa/temp07_topp10_gpt4o").read_text() == "a file"


@pytest.mark.parametrize(
    "place", ["_shared", "_shared/Copa", MANY[0].home, f"{MANY[0].home}/Copa", "batch_a", "batch_a/Copa"]
)
def test_a_link_out_of_the_workspace_is_moved_aside_and_not_followed(
    here: Workspace, tmp_path: Path, place: str
) -> None:
    before, outside = snapshot(here), tmp_path / "outside"
    shutil.move(here.synthetic_dir / place, outside)
    (here.synthetic_dir / place).symlink_to(outside)
    for path in outside.rglob("*.jsonl"):
        path.write_text("outside")
    files = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    assert any(each.path == place and each.what == "replaced" for each in check(here))
    for changes in (refresh(here, 1, 2, 3), rebuild(here)):
        assert snapshot(here) == before
        assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == files
        if changes:
            assert changes.trash is not None
            assert (Path(changes.trash) / place).readlink() == outside


def test_the_tree_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    here = workspace(tmp_path / "workspace", SYNTHTRACK_SYNTHETIC_DIR=str(tmp_path / "link" / "synthetic"))
    rebuild(here)
    link = tmp_path / "disk/synthetic/batch_a/Copa/temp07_topp10_gpt4o"
    assert (link / "Copa/copa_train.jsonl").read_bytes() == Made().data
    assert check(here) == []


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a second file system")
def test_what_lies_on_another_file_system_gets_into_the_trash_too(tmp_path: Path) -> None:
    with TemporaryDirectory(dir="/dev/shm") as elsewhere:
        here = workspace(tmp_path, MANY, SYNTHTRACK_SYNTHETIC_DIR=elsewhere)
        rebuild(here)
        before = snapshot(here)
        home, link = here.synthetic_dir / MANY[0].home, here.synthetic_dir / "batch_a/CB/temp07_topp10_gpt4o"
        (home / ".fingerprint").write_text("by hand")
        link.unlink()
        link.mkdir()
        (link / "inside").symlink_to("/nowhere")
        trash = rebuild(here).trash
        assert snapshot(here) == before
        assert trash is not None
        assert (Path(trash) / MANY[0].home / ".fingerprint").read_text() == "by hand"
        assert (Path(trash) / "batch_a/CB/temp07_topp10_gpt4o/inside").is_symlink()


def test_of_very_many_memberships_the_newest_are_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_rows, "MAX_LINKS", 2)
    here = workspace(tmp_path, [Made(batches=("batch_a", "batch_b", "batch_c"))])
    execute(here, "UPDATE batch_membership SET created_at = '2025' WHERE batch_id = 2")
    assert [path for path, _ in refresh(here, 1).links] == [
        "batch_a/Copa/temp07_topp10_gpt4o",
        "batch_c/Copa/temp07_topp10_gpt4o",
    ]
    assert [path for path, _ in rebuild(here).links] == ["batch_b/Copa/temp07_topp10_gpt4o"]


def test_the_links_of_many_experiments_are_all_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_rows, "MAX_LINKS", 2)
    made = [Made(name=f"temp{number:02}", batches=("batch_a", "batch_b")) for number in range(5)]
    here = workspace(tmp_path, made)
    assert len(refresh(here, *range(1, 6)).links) == 10
    assert check(here) == []


def test_what_left_the_record_leaves_the_tree(here: Workspace) -> None:
    execute(here, "DELETE FROM batch_membership WHERE batch_id = 2")
    assert rebuild(here).aside == ("batch_b/Copa/temp07_topp10_gpt4o", "batch_b/Copa/temp09")
    assert not (here.synthetic_dir / "batch_b").exists()
    assert check(here) == []


def test_a_batch_that_left_the_record_leaves_the_tree(tmp_path: Path) -> None:
    here = workspace(tmp_path, [Made(batches=("batch_a", "batch_z")), Made(dataset="CB", batches=("batch_a",))])
    rebuild(here)
    notes = here.synthetic_dir / "batch_z/notes.txt"
    notes.write_text("mine")
    execute(here, "DELETE FROM batch_membership WHERE batch_id = 2", "DELETE FROM batch WHERE id = 2")
    link = "batch_z/Copa/temp07_topp10_gpt4o"
    assert {(each.path, each.what) for each in check(here)} == {
        (link, "not in the record"),
        ("batch_z/notes.txt", "unknown"),
    }
    assert rebuild(here).aside == (link,)
    assert list(notes.parent.iterdir()) == [notes]
    assert rebuild(here).unknown == ("batch_z",)


def test_an_experiment_completed_anew_is_written_anew(here: Workspace) -> None:
    anew = Made(name="temp09", outcomes=("x", "now it came", "y"), batches=("batch_b",), completed_at=LATER)
    other = workspace(here.root.parent / "other", [MANY[0], anew])
    shutil.copyfile(other.database, here.database)
    assert f"{anew.home}/Copa/copa_train.jsonl" in refresh(here, 2).files
    assert (here.synthetic_dir / anew.home / "Copa/copa_train.jsonl").read_bytes() == anew.data


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(here: Workspace) -> None:
    from tracker.durable import HOST

    dead = subprocess.Popen(["true"])
    dead.wait()
    home = here.synthetic_dir / MANY[0].home
    for parent in (here.synthetic_dir, here.shared_dir, home, home / "Copa", here.synthetic_dir / "batch_a/Copa"):
        (parent / f"{TEMPORARY}{dead.pid}-{HOST}-0").write_text("half")
    living = home.parent / f"{TEMPORARY}{os.getppid()}-{HOST}-0"
    living.mkdir()
    elsewhere = home.parent / f"{TEMPORARY}1-elsewhere.example-0"
    elsewhere.write_text("old")
    os.utime(elsewhere, (0, 0))
    assert len(rebuild(here).leftovers) == 6
    assert [path.name for path in here.synthetic_dir.rglob(f"{TEMPORARY}*")] == [living.name]
    assert not rebuild(here)


@st.composite
def made(draw: st.DrawFn) -> list[Made]:
    outcome = st.sampled_from(["rejected", "failed"]) | st.text(st.characters(codec="utf-8"), max_size=20)
    found = {}
    for _ in range(draw(st.integers(1, 4))):
        each = Made(
            dataset=draw(st.sampled_from(["Copa", "CB"])),
            name=draw(st.sampled_from(["temp07", "temp09", "ein Name"])),
            outcomes=draw(st.tuples(outcome, outcome, outcome)),
            batches=tuple(sorted(draw(st.sets(st.sampled_from(["batch_a", "batch_b"]))))),
            status=draw(st.sampled_from(["complete", "complete", "partial", "unfinished"])),
            record_limit=draw(st.none() | st.integers(1, 3)),
        )
        found[each.home] = each
    return list(found.values())


DAMAGE = ["delete", "edit", "grow", "directory", "link", "wrong link", "stranger", "time"]


def damage(path: Path, how: str, outside: Path) -> None:
    if how == "stranger":
        (path if path.is_dir() and not path.is_symlink() else path.parent).joinpath("stranger").write_text("mine")
        return
    if how == "time":
        os.utime(path, (1, 1), follow_symlinks=False)
        return
    old = path.read_bytes() if path.is_file() else b"data"
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    if how in {"edit", "grow"}:
        path.write_bytes(old.swapcase() if how == "edit" else old * 2)
    elif how == "directory":
        path.mkdir()
        (path / "inside").write_text("mine")
    elif how in {"link", "wrong link"}:
        path.symlink_to(outside if how == "link" else "../../_shared/nothing")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made(), st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(DAMAGE)), max_size=6), st.booleans())
def test_whatever_was_done_to_it_the_tree_comes_back(
    rows: list[Made], blows: list[tuple[int, str]], by_refresh: bool
) -> None:
    with TemporaryDirectory() as directory:
        root, outside = Path(directory) / "workspace", Path(directory) / "outside"
        here = workspace(root, rows)
        outside.mkdir()
        (outside / "precious").write_text("mine")
        rebuild(here)
        before = snapshot(here)
        for number, how in blows:
            paths = sorted(here.synthetic_dir.rglob("*")) if here.synthetic_dir.exists() else []
            if paths:
                damage(paths[number % len(paths)], how, outside)
        ids = range(1, len(rows) + 1)
        if by_refresh:
            refresh(here, *ids, deep=True)
            after = snapshot(here)
            assert {path: after.get(path) for path in before} == before
            assert not refresh(here, *ids)
            assert not refresh(here, *ids, deep=True)
        unknown = rebuild(here).unknown
        after = snapshot(here)
        assert {path: after.get(path) for path in before} == before
        for path in after.keys() - before.keys():
            assert any(path == each or path.startswith(f"{each}/") for each in unknown)
        again = rebuild(here)
        assert not again
        assert set(again.unknown) == {each.path for each in check(here)} == set(unknown)
        assert [path.read_text() for path in outside.iterdir()] == ["mine"]


PROGRAM = """
import sys
from pathlib import Path
from tracker.views import rows as view_rows
from tracker.views import synthetic_view
from tracker.record.catalogue import reading
from tracker.paths import Workspace
import tracker.configs, filelock
here = Workspace(Path(sys.argv[1]), environ={})
print("ready", flush=True)
sys.stdin.readline()
with reading(here) as reader:
    if sys.argv[2] == "rebuild":
        synthetic_view.rebuild(here, reader)
    else:
        synthetic_view.refresh(here, reader, range(1, 100))
"""


def start(here: Workspace, how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(here.root), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


TWENTY = [Made(name=f"temp{number:02}", batches=("batch_a", f"batch_{number % 5}")) for number in range(20)]


def test_processes_that_write_at_once_do_not_fail_and_make_one_tree(tmp_path: Path) -> None:
    here = workspace(tmp_path / "here", TWENTY)
    processes = [start(here, how) for how in ("refresh", "rebuild", "refresh", "rebuild")]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    other = workspace(tmp_path / "other", TWENTY)
    rebuild(other)
    assert snapshot(here) == snapshot(other)
    assert not here.trash_dir.exists()


def test_a_kill_at_any_moment_leaves_nothing_half_written(tmp_path: Path) -> None:
    reference = workspace(tmp_path / "reference", TWENTY)
    rebuild(reference)
    exact = snapshot(reference)
    chance = random.Random(7)
    for attempt in range(8):
        here = workspace(tmp_path / str(attempt), TWENTY)
        if attempt % 2:
            rebuild(here)
            for path in here.shared_dir.rglob("*.jsonl"):
                path.write_text("edited")
        process = start(here, "rebuild")
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        time.sleep(chance.random() * 0.3)
        process.kill()
        process.communicate(timeout=60)
        for name, found in snapshot(here).items():
            if TEMPORARY not in name and found[1] != b"edited":
                assert found == exact[name]
        rebuild(here)
        assert snapshot(here) == exact


def test_a_reader_finds_every_path_while_it_is_replaced(here: Workspace) -> None:
    top = here.synthetic_dir
    link, train = top / "batch_a/Copa/temp07_topp10_gpt4o", top / MANY[0].home / "Copa/copa_train.jsonl"
    missed: list[Path] = []
    looks = 0
    stop = threading.Event()

    def look() -> None:
        nonlocal looks
        while not stop.is_set():
            missed.extend(path for path in (link, train) if not os.path.lexists(path))
            looks += 1

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(40):
        beside = link.with_name("beside")
        beside.symlink_to("../../_shared/Copa/temp09")
        beside.rename(link)
        os.utime(train)
        with train.open("ab") as file:
            file.write(b"\n")
        assert refresh(here, 1)
    stop.set()
    thread.join()
    assert looks > 0
    assert missed == []


def as_somebody(work: Callable[[], object]) -> str:
    """What ``work`` raises in a process that permissions hold for; root is above them."""
    receive, send = os.pipe()
    if os.fork() == 0:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            work()
            said = "nothing"
        except StorageError as error:
            said = f"StorageError {error}"
        except BaseException as error:  # noqa: BLE001  the child must not run on into pytest, whatever happened
            said = repr(error)
        os.write(send, said.encode())
        os._exit(0)
    os.close(send)
    with os.fdopen(receive) as pipe:
        said = pipe.read()
    os.wait()
    return said


def test_a_read_only_tree_is_named_and_a_right_one_needs_no_writing() -> None:
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        here = workspace(Path(directory) / "workspace", MANY)
        rebuild(here)
        for path in [here.root, *here.root.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o555 if path.is_dir() else 0o444)
        assert as_somebody(lambda: refresh(here, 1, 2, 3, 4, deep=True)) == "nothing"
        assert as_somebody(lambda: check(here)) == "nothing"
        train = here.synthetic_dir / MANY[0].home / "Copa/copa_train.jsonl"
        train.chmod(0o644)
        train.write_text("edited")
        for bring in (lambda: refresh(here, 1), lambda: rebuild(here)):
            said = as_somebody(bring)
            assert said.startswith("StorageError")
            assert "Permission denied" in said
            assert "Check the permissions" in said
        for path in [here.root, *here.root.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)


def test_where_a_write_breaks_off_nothing_bears_the_final_name(tmp_path: Path) -> None:
    import resource

    here = workspace(tmp_path, [Made(outcomes=("long " * 40_000, "rejected", "rejected"))])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Enough for what SQLite needs to read, too little for the synthetic file.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="File too large"):
            refresh(here, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in here.synthetic_dir.rglob("*") if not path.is_dir()] == []
    assert not list(here.synthetic_dir.rglob(f"{TEMPORARY}*"))
    assert refresh(here, 1)
    assert check(here) == []


def test_directories_written_together_are_seen_together_or_not_at_all(tmp_path: Path) -> None:
    here = Workspace(tmp_path, environ={})
    homes = [f"_shared/Copa/temp{number}" for number in range(5)]

    def seen() -> list[str]:
        return sorted(path.name for path in (here.synthetic_dir / "_shared/Copa").iterdir())

    def write() -> None:
        with writing(here, ahead=2) as tree:
            for at, home in enumerate(homes):
                tree.apply(Changes(directories=(home,)), {f"{home}/Copa/copa_train.jsonl": b"{}\n"})
                finished = [f"temp{number}" for number in range(2 * ((at + 1) // 2))]
                assert [name for name in seen() if not name.startswith(TEMPORARY)] == finished
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert seen() == [f"temp{number}" for number in range(4)]


def test_what_is_written_ahead_is_seen_before_links_lead_to_it(tmp_path: Path) -> None:
    here = Workspace(tmp_path, environ={})
    link = ("batch/Copa/temp0", "../../_shared/Copa/temp0")
    with writing(here, ahead=100) as tree:
        tree.apply(Changes(directories=("_shared/Copa/temp0",)), {"_shared/Copa/temp0/.fingerprint": b"0\n"})
        tree.apply(Changes(links=(link,)), {})
        assert (here.synthetic_dir / link[0] / ".fingerprint").read_bytes() == b"0\n"


SAME_PID = """
import os, sys
from pathlib import Path
from tracker.paths import Workspace
from tracker.views.plan import Changes
from tracker.durable import place_beside
from tracker.views.tree import writing

pid, here = sys.argv[1], Workspace(Path(sys.argv[2]), environ={})
parent = here.synthetic_dir / "_shared/Copa"
parent.mkdir(parents=True, exist_ok=True)
if not pid:
    for _ in range(9):
        place_beside(parent).mkdir()
    sys.exit(print(os.getpid()))
for left in list(parent.iterdir()):
    left.rename(left.with_name(left.name.replace(f"-{pid}-", f"-{os.getpid()}-", 1)))
with writing(here, ahead=9) as tree:
    for number in range(9):
        tree.apply(Changes(directories=(f"_shared/Copa/temp{number}",)), {})
"""


def test_what_an_earlier_process_of_the_same_pid_left_is_in_nobodys_way_and_goes(tmp_path: Path) -> None:
    # In containers that begin anew a PID is the same each time, and so is the host's name where that is given.
    def run(pid: str) -> str:
        command = [sys.executable, "-c", SAME_PID, pid, str(tmp_path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    run(run(""))
    parent = Workspace(tmp_path, environ={}).synthetic_dir / "_shared/Copa"
    assert sorted(path.name for path in parent.iterdir()) == [f"temp{number}" for number in range(9)]


NO_THREADS = """
import resource, sys, threading
from pathlib import Path
from tracker.durable import sync

size = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmSize" in line)
threading.stack_size(1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (size * 1024 + (1 << 28),) * 2)
try:
    threading.Thread(target=print).start()
except RuntimeError:
    sync([Path(sys.argv[1]), Path(sys.argv[1]).parent])
    print("synced")
"""


def test_where_no_thread_can_be_had_all_is_synced_nevertheless(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    done = subprocess.run([sys.executable, "-c", NO_THREADS, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "synced\n"), done.stderr
