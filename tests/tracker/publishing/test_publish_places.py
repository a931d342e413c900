"""Where a data set is published to: what a person means, and what nobody may."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tracker.errors import ConfigError, Conflict, Error
from tracker.paths import Workspace
from tracker.publishing.publish_places import Place, find_places


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    root = tmp_path / "workspace"
    for name in ("Data_v2/synthetic", "Data/original/Copa", "below", "mlruns"):
        (root / name).mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    monkeypatch.chdir(root)
    return Workspace(root, environ={})


def places(here: Workspace, target: str = "Data/published", dataset: str = "Copa", **options: Any) -> list[Place]:
    return find_places(here, target=target, dataset=dataset, **options)


def directory(here: Workspace, target: str, **options: Any) -> str:
    return os.path.relpath(places(here, target, **options)[0].directory, here.root.parent)


@pytest.mark.parametrize(
    ("now", "target", "expected"),
    [
        ("workspace", "Data/published", "workspace/Data/published/Copa"),
        ("workspace", "./Data/../Data/published/", "workspace/Data/published/Copa"),
        ("workspace", ".", "workspace/Copa"),
        ("workspace", "../outside/new", "outside/new/Copa"),
        ("workspace/below", "Data/published", "workspace/Data/published/Copa"),
        ("workspace/below", "there", "workspace/below/there/Copa"),
        ("workspace/below", ".", "workspace/below/Copa"),
        ("outside", "new", "outside/new/Copa"),
        ("outside", "Data/original", "workspace/Data/original/Copa"),
        ("outside", "{tmp_path}/absolute", "absolute/Copa"),
    ],
)
def test_a_target_is_where_a_person_means_it(
    here: Workspace, monkeypatch: pytest.MonkeyPatch, now: str, target: str, expected: str
) -> None:
    (here.root / "below/there").mkdir()
    monkeypatch.chdir(here.root.parent / now)
    assert directory(here, target.format(tmp_path=here.root.parent)) == expected


def test_a_directory_has_one_name_whatever_link_leads_to_it(here: Workspace) -> None:
    (here.root / "link").symlink_to("../outside")
    assert directory(here, "link/new") == directory(here, "../outside/new") == "outside/new/Copa"


def test_an_archive_lies_beside_the_target_and_is_a_copy(here: Workspace) -> None:
    target, archive = places(here, "Data/sampling/0_data", archive="mezo_gpt/version_1", symlink=True)
    assert (target.kind, target.mode) == ("target", "symlink")
    assert archive == Place("archive", here.root / "Data/sampling/mezo_gpt/version_1/Copa", "copy")
    assert places(here, archive="kept/")[1].directory == here.root / "Data/kept/Copa"


@pytest.mark.parametrize("archive", ["..", "../up", "/absolute", "a/../b", "a/b/c", "", "a//b", "-a", ".hidden"])
def test_an_archive_stays_beside_the_target(here: Workspace, archive: str) -> None:
    with pytest.raises(ConfigError, match="--archive"):
        places(here, archive=archive)


@pytest.mark.parametrize("archive", ["published", "published/Copa"])
def test_an_archive_is_not_the_target_nor_in_it(here: Workspace, archive: str) -> None:
    with pytest.raises(ConfigError, match="--archive"):
        places(here, archive=archive)


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc", ".hidden", "_shared", "tab\t", "x" * 201])
def test_a_data_set_name_is_a_directory_name(here: Workspace, name: str) -> None:
    with pytest.raises(ConfigError, match="--dataset"):
        places(here, dataset=name)


@pytest.mark.parametrize(
    ("target", "dataset", "error"),
    [
        ("", "Copa", ConfigError),
        ("~nobody-of-that-name/x", "Copa", ConfigError),
        (os.fsdecode(b"bad\xff"), "Copa", ConfigError),
        ("Data_v2/synthetic", "Copa", Conflict),
        ("Data_v2/synthetic/_shared/Copa", "Copa", Conflict),
        ("Data_v2", "synthetic", Conflict),
        ("into_the_view", "Copa", Conflict),
        ("mlruns/1", "Copa", Conflict),
        (".trash", "Copa", Conflict),
        ("..", "workspace", Conflict),
        ("Data", "original", Conflict),
        (".", "Data_v2", Conflict),
        ("a_file", "Copa", Conflict),
        ("a_file/deeper", "Copa", Conflict),
        ("unmounted/Data", "Copa", Conflict),
    ],
)
def test_what_nobody_may_publish_to(here: Workspace, target: str, dataset: str, error: type[Error]) -> None:
    (here.root / "into_the_view").symlink_to("Data_v2/synthetic/first")
    (here.root / "Data_v2/synthetic/first").mkdir()
    (here.root / "a_file").write_text("mine")
    (here.root / "unmounted").symlink_to(here.root.parent / "disk")
    with pytest.raises(error):
        places(here, target, dataset)


def test_an_archive_is_no_way_into_the_view(here: Workspace) -> None:
    with pytest.raises(Conflict, match="synthtrack's own"):
        places(here, "Data_v2/published", archive="synthetic/first")


@pytest.mark.parametrize(
    ("target", "dataset"),
    [
        (".", "tracker.db"),
        (".", "tracker.db-wal"),
        (".", "tracker.db-shm"),
        (".", "tracker.db.v1-20261120T214652.bak"),
        (".", "notes.bak"),
        ("tracker.db", "Copa"),
        (".tracker.db.lock", "Copa"),
        (".publish.lock/deeper", "Copa"),
        (".view.lock", "Copa"),
        (".synthtrack", "Copa"),
        ("..", "elsewhere"),
        ("../elsewhere", "record.db"),
        ("../elsewhere", "record.db-wal"),
    ],
)
def test_the_record_is_in_nobodys_way(here: Workspace, target: str, dataset: str) -> None:
    (here.root.parent / "elsewhere").mkdir()
    (here.root.parent / "elsewhere/record.db").write_text("the record")
    here.database.symlink_to("../elsewhere/record.db")
    (here.root / "notes.bak").write_text("mine")
    with pytest.raises(Conflict, match=r"belongs to the database|is in the way"):
        places(here, target, dataset)
    assert places(here, ".", "Copa")


def test_a_data_set_is_not_published_where_source_data_was_read_from(here: Workspace) -> None:
    source = here.root / "Data/original/Copa"
    (source / "train.jsonl").symlink_to(here.root.parent / "outside/train.jsonl")
    origins = ["hub:org/copa", str(source / "train.jsonl"), str(here.root / "gone/by/now.jsonl")]
    for target, dataset in (("Data/original", "Copa"), ("..", "outside"), ("gone", "by"), (".", "gone")):
        with pytest.raises(Conflict, match="where source data was read from"):
            places(here, target, dataset, origins=origins)
    for target, dataset in (("Data/original", "CB"), ("Data/original/Copa", "published"), (".", "hub:org")):
        assert places(here, target, dataset, origins=origins)


def test_source_data_that_was_moved_with_its_workspace_is_known_again(here: Workspace) -> None:
    origins = ["/before/it/moved/Data/original/Copa/train.jsonl", "/elsewhere/CB/train.jsonl"]
    with pytest.raises(Conflict, match="where source data was read from"):
        places(here, "Data/original", origins=origins)
    assert places(here, "Data/original", "CB", origins=origins)
