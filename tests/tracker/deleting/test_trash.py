"""Agent data sets and pools to the trash and back, other disks, several at once, what stands in the way."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from tests import agent_rows, pool_rows
from tests.databases import rows
from tests.workspaces import call, config, execute, finish, new_root, start, write_config
from tracker.deleting import deletion, trash, trash_entries
from tracker.deleting.trash_restore import find_entry, restore_entry
from tracker.errors import Conflict, UnknownReference
from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.record.database import Database, open_database
from tracker.views import agent_view, pool_view

NAME = "Copa/temp07_topp10_rulesv1"


def delete(database: Database, kind: str, row_id: int) -> trash.Deleted:
    with reading(database.workspace) as reader:
        plan = deletion.plan(reader, database.workspace, kind, row_id)
    return trash.delete(database.workspace, database, plan, by="delete", command="synthtrack ...")


def test_an_agent_data_set_goes_and_comes_back_byte_for_byte(database: Database) -> None:
    here = database.workspace
    claimed = agent_rows.make(database)
    with reading(here) as reader:
        agent_view.refresh(here, reader, [claimed.dataset_id])
    (file,) = (here.data_dir / "agents").iterdir()
    before, content = agent_rows.dataset(here), file.read_bytes()
    done = delete(database, deletion.AGENTS, claimed.dataset_id)
    assert done.contents.rows["agent_response"] == 4
    assert (file.exists(), rows(here, "SELECT id FROM agent_run")) == (False, [])
    restored = restore_entry(here, database, done.uuid[:6])
    assert (restored.kind, restored.damaged, restored.left) == (deletion.AGENTS, (), None)
    assert file.read_bytes() == content
    after = agent_rows.dataset(here, rows(here, "SELECT id FROM agent_dataset")[0]["id"])
    assert {**after, "id": 0} == {**before, "id": 0}


def test_a_pool_goes_and_comes_back_byte_for_byte(tmp_path: Path) -> None:
    here = pool_rows.populate(Workspace(tmp_path / "workspace", environ={}))
    home = here.data_dir / "exp1"
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    (home / "mine.txt").write_text("mine")
    with open_database(here) as database:
        (row,) = rows(here, "SELECT id FROM task_pool WHERE name = 'exp1'")
        delete(database, deletion.POOL, row["id"])
        assert not home.exists()
        restore_entry(here, database, "exp1")
    assert {path.name: path.read_bytes() for path in home.iterdir()} == {**before, "mine.txt": b"mine"}
    with reading(here) as reader:
        assert [(each.path, each.what) for each in pool_view.check(here, reader)] == [("exp1/mine.txt", "unknown")]


def test_the_newest_of_a_name_is_meant_and_unknown_ones_are_told(database: Database) -> None:
    here = database.workspace
    first = delete(database, deletion.AGENTS, agent_rows.make(database).dataset_id)
    second = delete(database, deletion.AGENTS, agent_rows.make(database, draw=1).dataset_id)
    with reading(here) as reader:
        name = find_entry(reader, second.contents.plan.name)
        assert (name["uuid"], find_entry(reader, first.entry)["uuid"]) == (second.uuid, first.uuid)
        with pytest.raises(UnknownReference, match="No entry of the trash 'nothing'") as caught:
            find_entry(reader, "nothing")
        assert "no backup file of that name either" in str(caught.value.hint)
        states = [row["state"] for row in trash_entries.entries(reader, here)]
    assert states == ["restorable", "restorable"]


def test_what_is_restored_is_no_longer_in_the_trash(database: Database) -> None:
    done = delete(database, deletion.AGENTS, agent_rows.make(database).dataset_id)
    restore_entry(database.workspace, database, done.uuid)
    with pytest.raises(UnknownReference):
        restore_entry(database.workspace, database, done.uuid)
    assert list(database.workspace.trash_dir.iterdir()) == []


def test_what_is_deleted_twice_at_once_is_deleted_once(database: Database) -> None:
    claimed = agent_rows.make(database)
    with reading(database.workspace) as reader:
        plan = deletion.plan(reader, database.workspace, deletion.AGENTS, claimed.dataset_id)
    trash.delete(database.workspace, database, plan, by="delete", command="")
    with pytest.raises(Conflict, match="was deleted at this moment"):
        trash.delete(database.workspace, database, plan, by="delete", command="")
    assert len(list(database.workspace.trash_dir.glob("*.zip"))) == 1


def test_several_processes_delete_an_experiment_once(tmp_path: Path) -> None:
    root = new_root(tmp_path, 3)
    write_config(root, config())
    call(root, "generate", "copa.yaml", "--no-mlflow")
    call(root, "batch", "delete", "first", "--yes")
    done = [finish(each) for each in [start(root, "experiment", "delete", NAME, "--yes") for _ in range(4)]]
    assert {each.code for each in done} <= {0, 4, 5}, done
    assert [each.code for each in done].count(0) == 1
    assert not any("Traceback" in each.err for each in done)
    assert execute(root, "restore", NAME, "--no-mlflow").code == 0
    assert call(root, "view", "check").code == 0


def test_what_was_made_anew_is_not_moved_by_a_pending_deletion(tmp_path: Path) -> None:
    root = new_root(tmp_path, 3)
    write_config(root, config())
    call(root, "generate", "copa.yaml", "--no-mlflow")
    here = Workspace(root, environ={})
    call(root, "batch", "delete", "first", "--yes")
    call(root, "experiment", "delete", NAME, "--yes", "--no-mlflow")
    path = f"Data_v2/synthetic/_shared/{NAME}"
    with open_database(here) as database, database.writing() as connection:
        connection.exec_driver_sql(f"UPDATE deletion SET settled_at = NULL, paths = '{json.dumps([path])}'")
    call(root, "generate", "copa.yaml", "--no-mlflow")
    assert call(root, "view", "rebuild").code == 0
    assert (root / path / "Copa/copa_train.jsonl").is_file()
    assert rows(here, "SELECT COUNT(*) AS n FROM deletion WHERE settled_at IS NULL") == [{"n": 0}]


def test_what_has_no_place_any_more_is_named_and_kept(tmp_path: Path) -> None:
    root = new_root(tmp_path, 3)
    write_config(root, config())
    call(root, "generate", "copa.yaml", "--no-mlflow")
    home = root / f"Data_v2/synthetic/_shared/{NAME}"
    (home / "notes.txt").write_text("mine")
    call(root, "batch", "delete", "first", "--yes")
    call(root, "experiment", "delete", NAME, "--yes", "--no-mlflow")
    # Other settings take the name that is free now.
    other = call(root, "generate", "copa.yaml", "--no-mlflow", "--set", "generation.rephrase_prompt=Say {premise} anew")
    assert other.out.startswith(f"✅ {NAME}: made"), other
    done = call(root, "restore", NAME, "--no-mlflow")
    assert (done.code, f"{NAME.rpartition('/')[2]}_2" in done.out) == (0, True), done
    assert "they are still in .trash/experiment-" in done.out
    assert len(list((root / ".trash").rglob("notes.txt"))) == 1
    assert not (home / "notes.txt").exists()
    assert call(root, "view", "check").code == 0


def test_from_another_disk_it_is_copied_and_comes_back(tmp_path: Path, other_disk: Path) -> None:
    root = new_root(tmp_path, 3)
    write_config(root, config())
    environ = {"SYNTHTRACK_SYNTHETIC_DIR": str(other_disk / "synthetic")}
    call(root, "generate", "copa.yaml", "--no-mlflow", environ=environ)
    home = other_disk / "synthetic/_shared" / NAME
    (home / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    call(root, "batch", "delete", "first", "--yes", environ=environ)
    done = call(root, "experiment", "delete", NAME, "--yes", "--no-mlflow", environ=environ)
    assert (done.code, home.exists()) == (0, False), done
    assert len(list((root / ".trash").rglob("notes.txt"))) == 1
    assert call(root, "restore", NAME, "--no-mlflow", environ=environ).code == 0
    assert {path.name: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_an_age_counts_from_the_deletion(database: Database) -> None:
    delete(database, deletion.AGENTS, agent_rows.make(database).dataset_id)
    here = database.workspace
    (here.trash_dir / "view-20200101T000000.000000Z").mkdir()
    done = trash_entries.empty(here, database, timedelta(days=30))
    assert (done.entries, done.strays) == ((), ("view-20200101T000000.000000Z",))
    assert len(list(here.trash_dir.iterdir())) == 1
    assert trash_entries.empty(here, database, timedelta(0)).entries != ()
    assert list(here.trash_dir.iterdir()) == []
