"""What a command line names: files, whatever they are called, and the configs of directories."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from cli.config_files import config_files
from tracker.errors import ConfigError
from tracker.paths import Workspace

JSON_TOO = (".json", ".yaml", ".yml")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    for name in ("b.yaml", "a.yml", "c.json", "inner/d.json", "notes.txt"):
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    return Workspace(tmp_path, environ={})


def names(workspace: Workspace, *given: str, suffixes: tuple[str, ...] | None = None) -> list[str]:
    paths = tuple(workspace.root / each for each in given)
    found = config_files(workspace, paths) if suffixes is None else config_files(workspace, paths, suffixes=suffixes)
    return [str(path.relative_to(workspace.root)) for path in found]


def test_a_directory_gives_the_files_of_the_suffixes_by_name(workspace: Workspace) -> None:
    assert names(workspace, "configs") == ["configs/a.yml", "configs/b.yaml"]
    assert names(workspace, "configs", suffixes=JSON_TOO) == [
        "configs/a.yml", "configs/b.yaml", "configs/c.json", "configs/inner/d.json",
    ]  # fmt: skip


def test_a_file_may_be_called_anything(workspace: Workspace) -> None:
    assert names(workspace, "configs/notes.txt", "configs/c.json") == ["configs/notes.txt", "configs/c.json"]


def test_nothing_is_said_in_words_that_fit(workspace: Workspace) -> None:
    with pytest.raises(click.UsageError, match=r"'CONFIG\.\.\.': a YAML file or a directory of them"):
        config_files(workspace, ())
    with pytest.raises(click.UsageError, match=r"'CONFIG\.\.\.': a JSON or YAML file or a directory of them"):
        config_files(workspace, (), suffixes=JSON_TOO)
    with pytest.raises(ConfigError, match=r"no \.yaml files in this directory"):
        names(workspace, "empty")
    with pytest.raises(ConfigError, match=r"no \.json or \.yaml files in this directory"):
        names(workspace, "empty", suffixes=JSON_TOO)
