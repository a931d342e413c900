"""``verify`` as it is typed."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.pool_rows import populate
from tests.tracker.verifying.test_verify import NAME, SHARED, agents, asked, made
from tests.workspaces import call, execute, rows
from tracker.paths import Workspace

__all__ = ["agents", "asked", "made"]
LOGS = ("1_3_train.out", "1_3_train.err")
ALL = (
    "2 experiments, 1 source data set, 3 training runs, 3 directories of training data, 2 result directories, "
    "2 generation runs, 1 publication"
)


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    root = Path(shutil.copytree(made, tmp_path / "workspace", symlinks=True))
    for (directory,) in rows(root, "SELECT directory FROM training_run"):
        for name in LOGS:
            (root / directory / name).write_text("")
    return root


def edit(root: Path, statement: str) -> None:
    with sqlite3.connect(root / "tracker.db") as connection:
        connection.execute(statement)
    connection.close()


def test_where_nothing_differs_a_line_counts_what_was_checked(root: Path) -> None:
    done = call(root, "verify")
    assert (done.code, done.out, done.err) == (0, f"✅ As recorded: {ALL}.\n", "")
    done = call(root, "verify", "--json")
    assert json.loads(done.out) == {
        "checked": {
            "experiment": 2, "agent_dataset": 0, "source_data": 1, "training_run": 3, "training_data": 3, "results": 2,
            "generation_run": 2, "publication": 1,
        },
        "findings": [],
        "notes": [],
    }  # fmt: skip


def test_what_differs_is_listed_with_what_to_do(root: Path) -> None:
    edit(root, "UPDATE shared_experiment SET temperature = 0.8 WHERE id = 1")
    (root / SHARED / "Copa/copa_train.jsonl").unlink()
    directory = rows(root, "SELECT directory FROM training_run WHERE id = 1")[0][0]
    (root / directory / "1_3_train.out").unlink()
    done = call(root, "verify")
    assert (done.code, done.err) == (
        6,
        "Error: 3 things are not as recorded.\n`synthtrack verify --fix` mends what is safe.\n",
    )
    assert (
        done.out
        == f"""\
❌ experiment Copa/{NAME}: temperature is 0.8, in its identity 0.7
   The database was changed by hand or damaged: restore it from a backup.
❌ tree _shared/Copa/{NAME}/Copa/copa_train.jsonl: missing
   `synthtrack view rebuild` mends the tree.
❌ results {directory}: missing: 1_3_train.out
   Put it back; what the record and MLflow have of the run is not lost.
Checked: {ALL}.
"""
    )
    done = call(root, "verify", "--json")
    assert done.code == 6
    found = json.loads(done.out)["findings"]
    assert [each["kind"] for each in found] == ["experiment", "tree", "results"]
    assert found[1] == {
        "kind": "tree", "what": "missing", "where": f"_shared/Copa/{NAME}/Copa/copa_train.jsonl",
        "remedy": "`synthtrack view rebuild` mends the tree.", "fixable": True,
    }  # fmt: skip
    assert call(root, "view", "rebuild").code == 0
    assert [each["kind"] for each in json.loads(call(root, "verify", "--json").out)["findings"]] == [
        "experiment", "results",
    ]  # fmt: skip


def test_a_model_is_missed_only_where_it_was_to_be_kept(root: Path) -> None:
    for (directory,) in rows(root, "SELECT directory FROM training_run"):
        (root / directory / "model").unlink()
    changed = """REPLACE(config, '"save_model": true', '"save_model": false')"""
    edit(root, f"UPDATE training_run SET config = {changed} WHERE id = 1")
    [found] = json.loads(call(root, "verify", "--json").out)["findings"]
    assert (found["where"], found["what"]) == (
        rows(root, "SELECT directory FROM training_run WHERE id = 2")[0][0], "missing: model",
    )  # fmt: skip


def test_what_is_named_is_checked(root: Path) -> None:
    [(uuid,)] = rows(root, "SELECT uuid FROM training_sweep")
    [(fingerprint, directory)] = rows(root, "SELECT fingerprint, directory FROM training_run WHERE id = 1")
    edit(root, "UPDATE training_run SET seed = 9 WHERE id = 3")
    for refs, code, checked in (
        ((f"Copa/{NAME}",), 0, "✅ As recorded: 1 experiment."),
        ((SHARED, f"Copa/{NAME}"), 0, "✅ As recorded: 1 experiment."),
        ((fingerprint,), 0, "✅ As recorded: 1 training run, 3 directories of training data, 1 result directory."),
        ((directory,), 0, "✅ As recorded: 1 training run, 3 directories"),
        ((uuid[:8],), 6, "Checked: 3 training runs, 3 directories of training data, 2 result directories."),
        (
            (f"Copa/{NAME}", Path(directory).parent),
            6,
            "Checked: 1 experiment, 1 training run, 3 directories of training data.",
        ),
    ):
        done = call(root, "verify", *refs)
        assert (done.code, done.out.splitlines()[-1].startswith(checked)) == (code, True), (refs, done)


def test_what_names_nothing_is_answered_with_what_could(root: Path) -> None:
    done = call(root, "verify", "Copa/temp06_topp10_rulesv1")
    assert (done.code, done.out) == (4, "")
    assert "No experiment, training run or sweep 'Copa/temp06_topp10_rulesv1'." in done.err
    assert f"Did you mean Copa/{NAME}" in done.err
    assert "synthtrack training status --all" in done.err


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return populate(Workspace(tmp_path_factory.mktemp("drawn") / "workspace", environ={})).root


@pytest.fixture
def pools(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "drawn"))


def test_benchmarks_and_pools_are_counted_where_there_are_any(pools: Path) -> None:
    done = call(pools, "verify")
    assert (done.code, done.out) == (0, "✅ As recorded: 3 benchmarks, 3 task pools.\n")
    checked = json.loads(call(pools, "verify", "--json").out)["checked"]
    assert {name: number for name, number in checked.items() if number} == {"benchmark": 3, "task_pool": 3}


def test_what_differs_in_benchmarks_and_pools_is_listed(pools: Path) -> None:
    edit(pools, "UPDATE task_pool SET n_easy = 1234 WHERE id = 1")
    in_no_pool = "SELECT MIN(id) FROM benchmark_task WHERE id NOT IN (SELECT benchmark_task_id FROM task_pool_task)"
    edit(pools, f"UPDATE benchmark_task SET scorer_metadata = '{{}}' WHERE id = ({in_no_pool})")
    (pools / "data/exp2/statistics.json").unlink()
    [[own]] = rows(pools, "SELECT fingerprint FROM task_pool WHERE id = 1")
    [[scored]] = rows(pools, "SELECT fingerprint FROM benchmark WHERE id = 1")
    done = call(pools, "verify")
    assert done.code == 6
    assert (
        done.out
        == f"""\
❌ benchmark gsm8k ({scored}): 1 of its rows of features are not what its scorer gives
   The database was changed by hand or damaged: restore it from a backup.
❌ task pool exp1 ({own}): n_easy is 1,234, its rows give 5
   The database was changed by hand or damaged: restore it from a backup.
❌ tree data/exp2/statistics.json: missing
   `synthtrack view rebuild` mends the tree.
❌ tree data/benchmarks/full/gsm8k_full.jsonl: edited
   `synthtrack view rebuild` mends the tree.
Checked: 3 benchmarks, 3 task pools.
"""
    )


def test_a_pool_is_named_as_elsewhere(pools: Path) -> None:
    edit(pools, "UPDATE task_pool SET n_easy = 9 WHERE id = 1")
    [[own]] = rows(pools, "SELECT fingerprint FROM task_pool WHERE id = 2")
    for ref in ("exp2", own, own[:5], "data/exp2", "data/exp2/task_pool.jsonl"):
        assert call(pools, "verify", ref).out == "✅ As recorded: 1 task pool.\n"
    done = call(pools, "verify", "exp1", "exp2", "data/exp2")
    assert (done.code, done.out.splitlines()[-1]) == (6, "Checked: 2 task pools.")
    done = call(pools, "verify", "exq1")
    assert (done.code, done.out) == (4, "")
    assert "No experiment, training run, sweep or task pool 'exq1'." in done.err
    assert "Did you mean exp1" in done.err
    assert "synthtrack pool list" in done.err


def test_without_a_workspace_there_is_nothing_to_check(tmp_path: Path) -> None:
    done = call(tmp_path, "verify")
    assert (done.code, "No workspace" in done.err) == (4, True)
    assert call(tmp_path, "init").code == 0
    assert call(tmp_path, "verify").out == "✅ As recorded: nothing is recorded yet.\n"


def test_it_is_a_command_of_its_own(root: Path) -> None:
    """In a process of its own, as a person's shell has it."""
    edit(root, "UPDATE training_run SET seed = 9")
    done = execute(root, "verify")
    assert (done.code, done.out.count("❌")) == (6, 3)
    assert done.err == "Error: 3 things are not as recorded.\n"


def test_agent_data_sets_are_counted_named_and_found(agents: Path) -> None:
    done = call(agents, "verify")
    assert (done.code, done.out) == (0, "✅ As recorded: 2 agent data sets, 1 source data set.\n")
    assert json.loads(call(agents, "verify", "--json").out)["checked"]["agent_dataset"] == 2
    [(fingerprint, name)] = rows(agents, "SELECT fingerprint, name FROM agent_dataset WHERE id = 2")
    edit(agents, "UPDATE agent_dataset SET temperature = 1 WHERE id = 1")
    for ref in (fingerprint, fingerprint[:6], name, f"data/agents/{name}.json"):
        done = call(agents, "verify", ref)
        assert (done.code, done.out) == (0, "✅ As recorded: 1 agent data set.\n"), ref
    done = call(agents, "verify")
    [(first, first_name)] = rows(agents, "SELECT fingerprint, name FROM agent_dataset WHERE id = 1")
    assert (done.code, done.err) == (6, "Error: 1 thing is not as recorded.\n")
    assert done.out.startswith(
        f"❌ agent data set {first_name} ({first}): temperature is 1.0, in its identity 0.7\n   The database was "
    )
    done = call(agents, "verify", "nothing_of_that_name")
    assert done.code == 4
    assert "No experiment, training run, sweep or agent data set 'nothing_of_that_name'." in done.err
    assert "synthtrack perspectives list" in done.err
