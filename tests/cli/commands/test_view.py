"""``synthtrack view`` as a person meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cli.main import run
from tests import agent_rows, pool_rows
from tests.view_rows import Made, execute, snapshot, workspace
from tracker.paths import Workspace
from tracker.record.database import open_database


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "workspace")


def test_rebuild_says_what_it_wrote_and_then_that_there_is_nothing_to_do(
    here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--root", str(here.root), "view", "rebuild"]) == 0
    assert capsys.readouterr() == ("Wrote 1 experiment.\nWrote 1 link.\n", "")
    assert run(["--root", str(here.root), "view", "rebuild"]) == 0
    assert capsys.readouterr() == ("The tree is what the database says; nothing to do.\n", "")


def test_rebuild_says_where_an_edited_file_went(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    run(["--root", str(here.root), "view", "rebuild"])
    edited = here.synthetic_dir / Made().home / ".fingerprint"
    edited.write_text("by hand")
    (here.synthetic_dir / "notes.txt").write_text("mine")
    capsys.readouterr()
    assert run(["--root", str(here.root), "view", "rebuild"]) == 0
    out = capsys.readouterr().out
    (trash,) = here.trash_dir.iterdir()
    assert out == (
        "Wrote 1 file.\n"
        f"Moved to {trash}, because the database says otherwise:\n"
        f"  {Made().home}/.fingerprint\n"
        f"Unknown to the database and left alone in {here.synthetic_dir}:\n"
        "  notes.txt\n"
    )
    assert (trash / Made().home / ".fingerprint").read_text() == "by hand"


def test_rebuild_as_json(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--root", str(here.root), "view", "rebuild", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["directories"] == [Made().home]
    assert found["links"] == [["batch_a/Copa/temp07_topp10_gpt4o", "../../_shared/Copa/temp07_topp10_gpt4o"]]
    assert found["trash"] is None


def test_check_lists_differences_and_ends_with_code_6(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    run(["--root", str(here.root), "view", "rebuild"])
    capsys.readouterr()
    assert run(["--root", str(here.root), "view", "check"]) == 0
    assert capsys.readouterr().out == "Data_v2/synthetic is what the database says.\n"

    (here.synthetic_dir / "notes.txt").write_text("mine")
    assert run(["--root", str(here.root), "view", "check"]) == 0
    assert "left alone" in capsys.readouterr().out

    (here.synthetic_dir / Made().home / ".fingerprint").write_text("by hand")
    shutil.rmtree(here.synthetic_dir / "batch_a")
    before = snapshot(here)
    assert run(["--root", str(here.root), "view", "check"]) == 6
    out, err = capsys.readouterr()
    assert out == (
        "unknown           notes.txt  (left alone)\n"
        f"edited            {Made().home}/.fingerprint\n"
        "missing           batch_a/Copa/temp07_topp10_gpt4o\n"
        "\n"
        "1 unknown, 1 edited, 1 missing\n"
    )
    assert err == (
        f"Error: 2 differences between the database and {here.synthetic_dir}.\n"
        "`synthtrack view rebuild` mends the tree; what was edited is kept in .trash.\n"
    )
    assert snapshot(here) == before


def test_check_as_json_is_json_and_ends_with_code_6(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--root", str(here.root), "view", "check", "--json"]) == 6
    assert json.loads(capsys.readouterr().out) == [
        {"path": Made().home, "what": "missing", "detail": "", "tree": "synthetic"},
        {"path": "batch_a/Copa/temp07_topp10_gpt4o", "what": "missing", "detail": "", "tree": "synthetic"},
    ]


def test_rows_that_contradict_each_other_are_listed_and_the_rest_is_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = workspace(tmp_path, [Made(), Made(name="temp09")])
    execute(here, "UPDATE sample SET rephrased = 'edited' WHERE shared_experiment_id = 1 AND position = 0")
    assert run(["--root", str(here.root), "view", "rebuild"]) == 6
    assert "The database contradicts itself." in capsys.readouterr().err
    assert [path.name for path in here.shared_dir.glob("*/*")] == ["temp09"]
    assert run(["--root", str(here.root), "view", "check"]) == 6
    out, err = capsys.readouterr()
    assert f"contradiction     {Made().home}" in out
    assert "restore the database" in err


def test_without_a_workspace_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--root", str(tmp_path), "view", "rebuild"]) == 4
    assert list(tmp_path.iterdir()) == []
    assert "synthtrack init" in capsys.readouterr().err


@pytest.fixture
def both(here: Workspace) -> Workspace:
    """An experiment and two agent data sets, with their trees."""
    with open_database(here) as database:
        for number, name in enumerate(NAMES):
            agent_rows.make(database, name=name, draw=number)
    assert run(["--root", str(here.root), "view", "rebuild"]) == 0
    return here


NAMES = ("translation_m_1", "translation_m_2")
FILES = tuple(f"agents/{name}.json" for name in NAMES)


def test_the_agents_files_are_rebuilt_with_the_tree_and_told_apart_from_it(
    both: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(both.synthetic_dir)
    shutil.rmtree(both.data_dir)
    capsys.readouterr()
    assert run(["--root", str(both.root), "view", "rebuild"]) == 0
    assert capsys.readouterr().out == "Wrote 1 experiment.\nWrote 1 link.\nWrote 2 files in data/agents.\n"
    assert run(["--root", str(both.root), "view", "rebuild"]) == 0
    assert capsys.readouterr() == ("The tree is what the database says; nothing to do.\n", "")
    (both.data_dir / FILES[0]).write_text("by hand")
    (both.data_dir / "agents" / "notes.txt").write_text("mine")
    assert run(["--root", str(both.root), "view", "rebuild"]) == 0
    (trash,) = both.trash_dir.iterdir()
    assert capsys.readouterr().out == (
        "Wrote 1 file in data/agents.\n"
        f"Moved to {trash}, because the database says otherwise:\n"
        f"  data/{FILES[0]}\n"
        f"Unknown to the database and left alone in {both.root}:\n"
        "  data/agents/notes.txt\n"
    )
    assert (trash / FILES[0]).read_text() == "by hand"


def test_the_agents_files_are_checked_with_the_tree(both: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["--root", str(both.root), "view", "check"]) == 0
    assert capsys.readouterr().out == "Data_v2/synthetic and data/agents are what the database says.\n"
    (both.data_dir / "agents" / "notes.txt").write_text("mine")
    assert run(["--root", str(both.root), "view", "check"]) == 0
    assert capsys.readouterr().out == "unknown           data/agents/notes.txt  (left alone)\n\n1 unknown\n"
    (both.data_dir / FILES[0]).write_text("by hand")
    (both.data_dir / FILES[1]).unlink()
    assert run(["--root", str(both.root), "view", "check"]) == 6
    out, err = capsys.readouterr()
    assert out == (
        "unknown           data/agents/notes.txt  (left alone)\n"
        f"edited            data/{FILES[0]}\n"
        f"missing           data/{FILES[1]}\n"
        "\n"
        "1 unknown, 1 edited, 1 missing\n"
    )
    agents = both.data_dir / "agents"
    assert err.startswith(f"Error: 2 differences between the database and {agents}.\n`synthtrack view rebuild` mends")
    (both.synthetic_dir / Made().home / ".fingerprint").unlink()
    assert run(["--root", str(both.root), "view", "check"]) == 6
    expected = f"Error: 3 differences between the database and {both.synthetic_dir} and {agents}.\n"
    assert capsys.readouterr().err.startswith(expected)


def test_the_agents_files_as_json(both: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    (both.data_dir / FILES[1]).unlink()
    (both.synthetic_dir / Made().home / ".fingerprint").unlink()
    capsys.readouterr()
    assert run(["--root", str(both.root), "view", "check", "--json"]) == 6
    assert json.loads(capsys.readouterr().out) == [
        {"path": f"{Made().home}/.fingerprint", "what": "missing", "detail": "", "tree": "synthetic"},
        {"path": f"data/{FILES[1]}", "what": "missing", "detail": "", "tree": "agents"},
    ]
    assert run(["--root", str(both.root), "view", "rebuild", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["files"], found["agents"]["files"]) == ([f"{Made().home}/.fingerprint"], [f"data/{FILES[1]}"])
    assert found["agents"].keys() == found.keys() - {"agents"}


def test_where_there_are_no_agents_nothing_is_said_of_them(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--root", str(here.root), "view", "rebuild", "--json"]) == 0
    assert "agents" not in json.loads(capsys.readouterr().out)
    assert not here.data_dir.exists()


@pytest.mark.parametrize("damaged", ["agent_response SET response = 'edited'", "sample SET rephrased = 'edited'"])
def test_rows_that_contradict_each_other_in_one_tree_keep_the_other_from_nothing(
    both: Workspace, capsys: pytest.CaptureFixture[str], damaged: str
) -> None:
    shutil.rmtree(both.synthetic_dir)
    shutil.rmtree(both.data_dir)
    execute(both, f"UPDATE {damaged}")
    assert run(["--root", str(both.root), "view", "rebuild"]) == 6
    assert "The database contradicts itself." in capsys.readouterr().err
    is_agents = damaged.startswith("agent")
    assert (both.synthetic_dir / Made().home).exists() is is_agents
    assert (both.data_dir / FILES[0]).exists() is not is_agents
    assert run(["--root", str(both.root), "view", "check"]) == 6
    place = f"data/{FILES[0]}" if is_agents else Made().home
    assert f"contradiction     {place}" in capsys.readouterr().out


@pytest.fixture
def pools(here: Workspace) -> Workspace:
    """An experiment, three benchmarks and three pools, with their trees."""
    pool_rows.populate(here)
    assert run(["--root", str(here.root), "view", "rebuild"]) == 0
    return here


def test_the_pools_files_are_rebuilt_with_the_tree_and_told_apart_from_it(
    pools: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(pools.synthetic_dir)
    shutil.rmtree(pools.data_dir)
    capsys.readouterr()
    assert run(["--root", str(pools.root), "view", "rebuild"]) == 0
    assert (
        capsys.readouterr().out
        == "Wrote 1 experiment.\nWrote 1 link.\nWrote 3 pools in data.\nWrote 6 files in data.\n"
    )
    assert run(["--root", str(pools.root), "view", "rebuild"]) == 0
    assert capsys.readouterr() == ("The tree is what the database says; nothing to do.\n", "")
    (pools.data_dir / "exp1/statistics.json").write_text("by hand")
    (pools.data_dir / "exp1/results").mkdir()
    (pools.data_dir / "my_own").mkdir()
    assert run(["--root", str(pools.root), "view", "rebuild"]) == 0
    (trash,) = pools.trash_dir.iterdir()
    assert capsys.readouterr().out == (
        "Wrote 1 file in data.\n"
        f"Moved to {trash}, because the database says otherwise:\n"
        "  data/exp1/statistics.json\n"
        f"Unknown to the database and left alone in {pools.root}:\n"
        "  data/exp1/results\n"
    )
    assert (trash / "exp1/statistics.json").read_text() == "by hand"


def test_the_pools_files_are_checked_with_the_tree(pools: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["--root", str(pools.root), "view", "check"]) == 0
    assert capsys.readouterr().out == "Data_v2/synthetic and the pools in data are what the database says.\n"
    (pools.data_dir / "exp1/answers.json").write_text("mine")
    assert run(["--root", str(pools.root), "view", "check"]) == 0
    assert capsys.readouterr().out == "unknown           data/exp1/answers.json  (left alone)\n\n1 unknown\n"
    (pools.data_dir / "exp1/task_pool.jsonl").write_text("by hand")
    (pools.data_dir / "benchmarks/full/gsm8k_full_meta.json").unlink()
    (pools.data_dir / "my_own").mkdir()
    assert run(["--root", str(pools.root), "view", "check"]) == 6
    out, err = capsys.readouterr()
    assert out == (
        "edited            data/exp1/task_pool.jsonl\n"
        "unknown           data/exp1/answers.json  (left alone)\n"
        "missing           data/benchmarks/full/gsm8k_full_meta.json\n"
        "\n"
        "1 edited, 1 unknown, 1 missing\n"
    )
    assert err.startswith(f"Error: 2 differences between the database and {pools.data_dir}.\n`synthtrack view rebuild`")


def test_where_there_is_everything_it_is_listed(pools: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with open_database(pools) as database:
        agent_rows.make(database, name=NAMES[0])
    assert run(["--root", str(pools.root), "view", "rebuild"]) == 0
    capsys.readouterr()
    assert run(["--root", str(pools.root), "view", "check"]) == 0
    assert capsys.readouterr().out == (
        "Data_v2/synthetic, data/agents and the pools in data are what the database says.\n"
    )
    (pools.data_dir / FILES[0]).unlink()
    shutil.rmtree(pools.data_dir / "exp2")
    (pools.synthetic_dir / Made().home / ".fingerprint").unlink()
    assert run(["--root", str(pools.root), "view", "check", "--json"]) == 6
    out, err = capsys.readouterr()
    assert json.loads(out) == [
        {"path": f"{Made().home}/.fingerprint", "what": "missing", "detail": "", "tree": "synthetic"},
        {"path": f"data/{FILES[0]}", "what": "missing", "detail": "", "tree": "agents"},
        {"path": "data/exp2", "what": "missing", "detail": "", "tree": "pools"},
    ]
    where = f"{pools.synthetic_dir}, {pools.data_dir / 'agents'} and {pools.data_dir}"
    assert err.startswith(f"Error: 3 differences between the database and {where}.\n")
    assert run(["--root", str(pools.root), "view", "rebuild", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["agents"]["files"], found["pools"]["directories"]) == ([f"data/{FILES[0]}"], ["data/exp2"])
    assert found["pools"].keys() == found.keys() - {"agents", "pools"}


def test_where_there_are_no_pools_nothing_is_said_of_them(both: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    (both.data_dir / "benchmarks/full").mkdir(parents=True)
    (both.data_dir / "benchmarks/full/notes.txt").write_text("mine")
    capsys.readouterr()
    assert run(["--root", str(both.root), "view", "rebuild", "--json"]) == 0
    assert "pools" not in json.loads(capsys.readouterr().out)
    assert run(["--root", str(both.root), "view", "check"]) == 0
    assert "pools" not in capsys.readouterr().out


def test_rows_that_contradict_each_other_in_a_pool_keep_nothing_else(
    pools: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(pools.synthetic_dir)
    shutil.rmtree(pools.data_dir)
    execute(pools, "UPDATE task_pool_task SET difficulty_bin = 'hard' WHERE task_pool_id = 1")
    assert run(["--root", str(pools.root), "view", "rebuild"]) == 6
    assert "exp1: The tasks of pool exp1 are not those that it was made of." in capsys.readouterr().err
    assert (pools.synthetic_dir / Made().home).exists()
    assert (pools.data_dir / "exp2/task_pool.jsonl").exists()
    assert run(["--root", str(pools.root), "view", "check"]) == 6
    assert "contradiction     data/exp1" in capsys.readouterr().out
