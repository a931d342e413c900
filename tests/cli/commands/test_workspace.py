"""``synthtrack init`` and ``synthtrack config``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.workspaces import REPOSITORY, call, execute, tree


def test_init_makes_a_workspace_with_examples_that_run(tmp_path: Path) -> None:
    done = call(tmp_path, "init")
    assert done.code == 0
    assert done.out.startswith(f"✅ Workspace: {tmp_path}\n")
    assert (tmp_path / "tracker.db").exists()
    shipped = {
        path.relative_to(REPOSITORY)
        for part in ("stage1", "stage2", "perspectives", "pools")
        for path in (REPOSITORY / "configs" / part).rglob("*.*")
    }
    assert {path.suffix for path in shipped} == {".yaml", ".json"}
    assert shipped <= {path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")}
    assert "sample data under Data/original/ and data/inputs/\n" in done.out
    inputs = REPOSITORY / "configs/inputs"
    assert {path.suffix for path in inputs.rglob("*.*")} == {".json", ".jsonl"}
    for path in inputs.rglob("*.*"):
        assert (tmp_path / "data/inputs" / path.relative_to(inputs)).read_bytes() == path.read_bytes()
    commands = [line.partition("synthtrack ")[2].split() for line in done.out.splitlines()[-2:]]
    assert [command[0] for command in commands] == ["generate", "perspectives"]
    for command in commands:
        assert call(tmp_path, *command, "--no-mlflow").code == 0


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    call(tmp_path, "init")
    edited = tmp_path / "configs/stage1/copa_offline.yaml"
    edited.write_text("mine")
    (tmp_path / "configs/stage1/copa_gpt4o.yaml").unlink()
    before = tree(tmp_path)
    done = call(tmp_path, "init")
    assert "1 file written" in done.out
    assert edited.read_text() == "mine"
    assert len(tree(tmp_path)) > len(before)


def test_init_follows_the_variables_that_place_configs_and_data(tmp_path: Path) -> None:
    done = call(tmp_path, "init", environ={"SYNTHTRACK_DATA_DIR": "d", "SYNTHTRACK_CONFIGS_DIR": "c"})
    assert "Data/original/ and d/inputs/" in done.out
    assert (tmp_path / "d/inputs/translation.json").is_file()
    assert (tmp_path / "c/perspectives/translation.json").is_file()
    assert (tmp_path / "c/pools/sample.yaml").is_file()


def test_init_as_json_names_what_was_written(tmp_path: Path) -> None:
    written = json.loads(call(tmp_path, "init", "--json").out)
    assert written["workspace"] == str(tmp_path)
    assert "configs/stage1/copa_offline.yaml" in written["written"]
    assert all((tmp_path / path).is_file() for path in written["written"])
    (tmp_path / "configs/stage1/copa_gpt4o.yaml").unlink()
    assert json.loads(call(tmp_path, "init", "--json").out)["written"] == ["configs/stage1/copa_gpt4o.yaml"]


@pytest.mark.parametrize(
    "arguments", [("batch", "list"), ("init",), ("config",), ("view", "check"), ("mlflow", "sync")]
)
@pytest.mark.parametrize("root", ["~nouser/x", "loop", "a" * 300])
def test_a_root_that_can_be_no_directory_is_explained(root: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    done = call(tmp_path, "--root", root, *arguments)
    assert (done.code, done.out) == (3, "")
    assert f"--root: {root[:80]}" in done.err


def test_init_takes_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert call(tmp_path, "init", "deep/new").code == 0
    assert (tmp_path / "deep/new/tracker.db").exists()


def test_init_within_a_workspace_says_so_once(tmp_path: Path) -> None:
    within = f"💾 Note: this lies within the workspace {tmp_path}; what is there is not seen from here.\n"
    said = [call(tmp_path, "init", *where).err for where in ((), ("inner",), ("inner",))]
    assert said == ["", within, ""]
    assert (tmp_path / "inner/tracker.db").exists()


def test_init_where_a_file_stands(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = call(tmp_path, "init", "file")
    assert done.code == 11
    assert str(tmp_path / "file") in done.err


def test_commands_find_the_workspace_from_any_place_below_it(tmp_path: Path) -> None:
    call(tmp_path, "init")
    below = tmp_path / "configs/stage1"
    done = execute(below, "config", "--json", environ={"SYNTHTRACK_ROOT": None})
    places = {row["name"]: row for row in json.loads(done.out)}
    assert places["root"]["value"] == str(tmp_path)
    assert places["root"]["origin"] == "nearest tracker.db"


def test_config_tells_where_every_setting_comes_from(tmp_path: Path) -> None:
    changes = {"SYNTHTRACK_RESULTS_DIR": "/elsewhere", "OPENAI_API_KEY": "sk-secret", "TOGETHER_API_KEY": None}
    done = call(tmp_path, "config", "--json", environ=changes)
    places = {row["name"]: (row["value"], row["origin"], row["usable"]) for row in json.loads(done.out)}
    root = str(tmp_path)
    assert places["root"] == (root, "--root", "yes")
    assert places["database"] == (f"{root}/tracker.db", "root", "not there yet")
    synthetic = f"{root}/Data_v2/synthetic"
    assert places["synthetic_dir"] == (synthetic, "default Data_v2/synthetic", "not there yet")
    assert places["results_dir"][:2] == ("/elsewhere", "SYNTHTRACK_RESULTS_DIR")
    assert places["mlflow"][0] == f"sqlite:///{root}/mlruns/mlflow.db"
    assert places["OPENAI_API_KEY"] == ("set", "environment", "yes")
    assert places["TOGETHER_API_KEY"] == ("not set", "environment", "no key")
    assert "sk-secret" not in done.out + call(tmp_path, "config", environ=changes).out


def test_config_shows_what_is_set_otherwise_and_whether_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    changes = {
        "SYNTHTRACK_BUSY_TIMEOUT": "soon",
        "SYNTHTRACK_DB_URL": "postgresql://host:abc/db",
        "SYNTHTRACK_DATA_DIR": "a" * 300,
        "SYNTHTRACK_RESULTS_DIR": "loop",
        "OPENAI_BASE_URL": "https://me:hunter2@host/v1",
    }
    done = call(tmp_path, "config", "--json", environ=changes)
    places = {row["name"]: (row["value"], row["origin"], row["usable"]) for row in json.loads(done.out)}
    assert places["busy_timeout"] == ("soon", "SYNTHTRACK_BUSY_TIMEOUT", "no: expected seconds, such as 30")
    assert places["database"][2].startswith("no: expected postgresql://")
    assert places["data_dir"][2] == "no: File name too long"
    assert places["results_dir"][2] == "no: Too many levels of symbolic links"
    assert places["OPENAI_BASE_URL"][:2] == ("https://me:***@host/v1", "environment")
    assert places["OPENAI_BASE_URL"][2].startswith("no: it holds a user or password")
    assert places["TOGETHER_BASE_URL"] == ("https://api.together.xyz/v1", "default", "yes")
    unset = {row["name"]: row for row in json.loads(call(tmp_path, "config", "--json").out)}
    assert [unset["busy_timeout"][key] for key in ("value", "origin", "usable")] == ["30", "default 30", "yes"]


def test_config_as_a_table_has_a_row_for_each(tmp_path: Path) -> None:
    names = [row["name"] for row in json.loads(call(tmp_path, "config", "--json").out)]
    table = call(tmp_path, "config").out.splitlines()
    assert [line.split()[0] for line in table[2:]] == names


def test_config_hides_the_password_of_a_database(tmp_path: Path) -> None:
    url = "postgresql+psycopg://me:hunter2@127.0.0.1/tracker"
    done = call(tmp_path, "config", environ={"SYNTHTRACK_DB_URL": url})
    assert "hunter2" not in done.out
    assert "me:***@127.0.0.1" in done.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_config_says_what_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    usable = {row["name"]: row["usable"] for row in json.loads(call(tmp_path, "config", "--json").out)}
    tmp_path.chmod(0o755)
    assert usable["root"] == "read-only"
    assert usable["database"] == "cannot be made"
