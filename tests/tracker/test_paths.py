"""Where a workspace is found, where its parts lie, and which names may become directories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.errors import ConfigError
from tracker.paths import Workspace, find_workspace, name_problem, plain, without_password


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose subdirectory is the current directory."""
    (tmp_path / "tracker.db").touch()
    below = tmp_path / "Data_v2" / "synthetic"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return tmp_path


def test_a_workspace_is_found_from_any_place_below_it(inside: Path) -> None:
    found = find_workspace(environ={})
    assert (found.root, found.root_origin) == (inside, "nearest tracker.db")


def test_the_option_wins_over_the_variable_and_that_over_the_parents(inside: Path, tmp_path: Path) -> None:
    variable = {"SYNTHTRACK_ROOT": str(tmp_path / "variable")}
    assert find_workspace(tmp_path / "option", variable).root == tmp_path / "option"
    assert find_workspace(environ=variable).root == tmp_path / "variable"
    assert find_workspace(environ=variable).root_origin == "SYNTHTRACK_ROOT"


def test_where_there_is_no_workspace_it_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = find_workspace(environ={"SYNTHTRACK_ROOT": ""})
    assert (found.root, found.root_origin) == (tmp_path, "current directory")


def test_where_the_database_is_on_a_server_the_marker_is_looked_for(inside: Path) -> None:
    (inside / "tracker.db").rename(inside / ".synthtrack")
    found = find_workspace(environ={})
    assert (found.root, found.root_origin) == (inside, "nearest .synthtrack")


@pytest.mark.parametrize(
    ("root", "words"),
    [
        ("~nouser/x", "~nouser/x: no such user"),
        ("\ud800", "'\\ud800': half of a surrogate pair"),
        ("loop", "loop: Too many levels of symbolic links"),
        ("a" * 300, f"{'a' * 80}...: File name too long"),
    ],
)
def test_a_root_that_can_be_no_directory(
    root: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    with pytest.raises(ConfigError) as caught:
        find_workspace(root, {})
    assert [str(problem) for problem in caught.value.problems] == [f"--root: {words}"]
    with pytest.raises(ConfigError, match="SYNTHTRACK_ROOT: "):
        find_workspace(environ={"SYNTHTRACK_ROOT": root})


def test_a_current_directory_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for root in (None, "below"):
        with pytest.raises(ConfigError, match="the current directory: it was deleted"):
            find_workspace(root, {})
    workspace = find_workspace(tmp_path, {})
    assert workspace.root == tmp_path
    assert workspace.find("there.txt") == tmp_path / "there.txt"


def test_the_home_of_a_user_that_is_not_there(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={"SYNTHTRACK_SYNTHETIC_DIR": "~nouser/x"})
    with pytest.raises(ConfigError, match="SYNTHTRACK_SYNTHETIC_DIR: ~nouser/x: no such user"):
        _ = workspace.synthetic_dir
    with pytest.raises(ConfigError, match="no such user"):
        workspace.find("~nouser/x.yaml")


def test_mlruns_that_is_a_link_to_itself_has_an_address_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "mlruns").symlink_to("mlruns")
    assert Workspace(tmp_path, environ={}).mlflow_uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"


def test_directories_are_those_of_the_seeds(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    assert workspace.link("batch", "Copa", "temp07") == tmp_path / "Data_v2/synthetic/batch/Copa/temp07"
    assert workspace.experiment_dir("Copa", "temp07") == tmp_path / "Data_v2/synthetic/_shared/Copa/temp07"
    assert workspace.original_dir == tmp_path / "Data/original"
    assert workspace.results_dir == tmp_path / "Results_v2"
    assert workspace.trash_dir == tmp_path / ".trash"
    assert workspace.mlflow_uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"


def test_every_place_says_its_value_and_where_it_comes_from(tmp_path: Path) -> None:
    environ = {
        "SYNTHTRACK_RESULTS_DIR": "elsewhere",
        "SYNTHTRACK_DATA_DIR": "/srv/data",
        "SYNTHTRACK_DB_URL": "postgresql://me:hidden@db/name?sslpassword=hidden",
        "MLFLOW_TRACKING_URI": "https://me:hidden@mlflow.example",
    }
    places = {place.name: place for place in Workspace(tmp_path, environ=environ).places()}
    assert places["results_dir"].value == str(tmp_path / "elsewhere")
    assert places["results_dir"].origin == "SYNTHTRACK_RESULTS_DIR"
    assert places["data_dir"].value == "/srv/data"
    assert places["synthetic_dir"].origin == "default Data_v2/synthetic"
    assert places["database"].value == "postgresql://me:***@db/name?sslpassword=***"
    assert places["mlflow"].value == "https://me:***@mlflow.example"
    assert "hidden" not in repr(Workspace(tmp_path, environ=environ))


def test_a_file_is_looked_for_here_then_in_the_workspace(inside: Path) -> None:
    workspace = find_workspace(environ={})
    (inside / "there.txt").touch()
    assert workspace.find("there.txt") == inside / "there.txt"
    Path("there.txt").touch()
    assert workspace.find("there.txt") == Path.cwd() / "there.txt"
    assert workspace.find("/abs/there.txt") == Path("/abs/there.txt")
    assert workspace.find("~/there.txt") == Path.home() / "there.txt"
    assert workspace.find("a" * 5000) == inside / ("a" * 5000)


def test_a_path_is_said_from_the_root_on(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    assert workspace.relative(tmp_path / "Data/original") == "Data/original"
    assert workspace.relative(Path("/elsewhere")) == "/elsewhere"


@pytest.mark.parametrize("given", ["soon", "-1", "1e9", "nan"])
def test_a_lock_timeout_that_is_no_number_of_seconds(given: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SYNTHTRACK_BUSY_TIMEOUT"):
        _ = Workspace(tmp_path, environ={"SYNTHTRACK_BUSY_TIMEOUT": given}).busy_timeout
    assert Workspace(tmp_path, environ={"SYNTHTRACK_BUSY_TIMEOUT": "0.5"}).busy_timeout == 0.5


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "a\\b",
        "a\nb",
        "a\0b",
        "a\x7fb",
        ".hidden",
        "-option",
        " a",
        "a ",
        "_shared",
        "é" * 101,
        "\udcff",
    ],
)
def test_names_that_cannot_become_directories(name: str) -> None:
    assert name_problem(name)


@pytest.mark.parametrize("name", ["Copa", "batch_20241229_temperature", "a.b-c d", "Größe", "x" * 200])
def test_names_that_can(name: str) -> None:
    assert name_problem(name) is None


@given(st.text(st.characters(codec=None)))
def test_a_name_without_a_problem_is_one_part_of_a_path(name: str) -> None:
    if name_problem(name) is None:
        assert os.fsencode(name).count(b"/") == 0
        assert (Path("/base") / name).resolve().parent == Path("/base")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@ss@host/db", "postgresql://u:***@host/db"),
        ("postgresql://host/db?user=u&password=hidden", "postgresql://host/db?user=u&password=***"),
        ("postgresql://u@host:5432/db", "postgresql://u@host:5432/db"),
        ("sqlite:////a/b@c:d.db", "sqlite:////a/b@c:d.db"),
        ("https://ghp_secret@host/x", "https://***@host/x"),
        ("HTTPS://name:hidden@host/x", "HTTPS://name:***@host/x"),
        ("http://host/a@b", "http://host/a@b"),
        ("https://host/?access_token=hidden&x=1", "https://host/?access_token=***&x=1"),
        ("https://host/a?se=2026&sig=hidden%3D", "https://host/a?se=2026&sig=***"),
        ("https://host/a?X-Amz-Signature=hidden", "https://host/a?X-Amz-Signature=***"),
        ("https://host/a?design=1&tokens_left=2", "https://host/a?design=1&tokens_left=2"),
        ("host=h password=pw dbname=d", "host=h password=*** dbname=d"),
        (r"password = 'a \' b' host=h", "password = *** host=h"),
        ("http://[::1", "http://[::1"),
        ("", ""),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_path_without_detours(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "old" / "deep").mkdir(parents=True)
    (tmp_path / "own" / "link").symlink_to(tmp_path / "old" / "deep")
    assert plain(tmp_path / "own" / ".." / "old") == tmp_path / "old"
    through = tmp_path / "own" / "link" / ".." / "deep"
    assert plain(through) == through  # without the link's detour it would be another place
