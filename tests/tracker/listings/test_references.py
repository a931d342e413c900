from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.records import add_batch, add_experiment, add_source, temperature_study
from tracker.errors import UnknownReference
from tracker.listings.references import Found, batch, dataset, find
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, reading
from tracker.record.database import open_database

TREE = "Data_v2/synthetic"
SHARED = f"{TREE}/_shared/Copa/temp07_topp10_gpt4o"
PILOT = f"{TREE}/batch_20241228_pilot/Copa/temp07_topp10_gpt4o"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return temperature_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def reader(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    with reading(workspace) as found:
        yield found


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        ("Copa/temp07_topp10_gpt4o", Found(1)),
        ("CB/temp07_topp10_gpt4o", Found(4)),
        (" Copa/temp07_topp10_gpt4o/ ", Found(1)),
        ("0133d6452eaa", Found(1)),
        ("0133", Found(1)),
        ("0133D", Found(1)),
        (SHARED, Found(1)),
        (f"{SHARED}/", Found(1)),
        (f"{SHARED}/Copa", Found(1)),
        (f"{SHARED}/Copa/copa_train.jsonl", Found(1)),
        (f"./{SHARED}/Copa/", Found(1)),
        (f"{TREE}/CB/../_shared/Copa/temp07_topp10_gpt4o", Found(1)),
        (PILOT, Found(1, "batch_20241228_pilot")),
        (f"{PILOT}/Copa", Found(1, "batch_20241228_pilot")),
        ("_shared/Copa/temp07_topp10_gpt4o", Found(1)),
        ("batch_20241228_pilot/Copa/temp07_topp10_gpt4o", Found(1, "batch_20241228_pilot")),
    ],
)
def test_finds_what_a_reference_names(workspace: Workspace, reader: Reader, ref: str, found: Found) -> None:
    assert not workspace.synthetic_dir.exists()
    assert find(reader, workspace, ref) == found


def test_finds_paths_where_the_current_directory_was_deleted(
    workspace: Workspace, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert find(reader, workspace, PILOT) == Found(1, "batch_20241228_pilot")


def test_finds_paths_where_the_tree_is_a_link_to_itself(workspace: Workspace, reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    elsewhere = Workspace(workspace.root, environ={"SYNTHTRACK_SYNTHETIC_DIR": str(tmp_path / "loop")})
    with pytest.raises(UnknownReference):
        find(reader, elsewhere, PILOT)


def test_finds_absolute_paths(workspace: Workspace, reader: Reader) -> None:
    assert find(reader, workspace, str(workspace.root / PILOT)) == Found(1, "batch_20241228_pilot")


def test_finds_paths_from_below_the_root(workspace: Workspace, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    below = workspace.root / "somewhere"
    below.mkdir(exist_ok=True)
    monkeypatch.chdir(below)
    assert find(reader, workspace, f"../{PILOT}/Copa") == Found(1, "batch_20241228_pilot")


def test_finds_paths_through_a_link_to_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    workspace = temperature_study(tmp_path / "study")
    (workspace.root / "Data_v2").symlink_to(disk)
    monkeypatch.chdir(disk)
    with reading(workspace) as reader:
        for path in (workspace.root / SHARED, disk / "synthetic/_shared/Copa/temp07_topp10_gpt4o"):
            assert find(reader, workspace, str(path)) == Found(1)
        assert find(reader, workspace, "synthetic/_shared/Copa/temp07_topp10_gpt4o/Copa") == Found(1)


def test_a_batch_path_is_not_followed_on_the_disk(tmp_path: Path) -> None:
    workspace = temperature_study(tmp_path)
    link = tmp_path / PILOT
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(tmp_path / TREE / "_shared/Copa/temp05_topp10_gpt4o", link.parent))
    with reading(workspace) as reader:
        assert find(reader, workspace, PILOT) == Found(1, "batch_20241228_pilot")


@pytest.mark.parametrize(
    ("ref", "message", "hint"),
    [
        ("Copa/temp05_topp10_gpt4", "No experiment 'Copa/temp05_topp10_gpt4'.", "Copa/temp05_topp10_gpt4o"),
        ("copa/temp05_topp10_gpt4o", "No experiment 'copa/temp05_topp10_gpt4o'.", "Copa/temp05_topp10_gpt4o"),
        ("temp05_topp10_gpt4o", "No experiment 'temp05_topp10_gpt4o'.", "mean Copa/temp05_topp10_gpt4o?"),
        (f"{TREE}/_shared/Copa/temp5", "No experiment 'Copa/temp5'.", "Did you mean Copa/temp"),
        (f"{SHARED}/CB", f"No experiment '{SHARED}/CB'.", "a path names one"),
        (f"{TREE}/batch_20241228/Copa/temp07_topp10_gpt4o", "No batch 'batch_20241228'.", "mean batch_20241228_pilot"),
        (
            f"{TREE}/batch_20241228_pilot/Copa/temp05_topp10_gpt4o",
            "No experiment in batch_20241228_pilot named 'Copa/temp05_topp10_gpt4o'.",
            "path resolve Copa/temp05_topp10_gpt4o",
        ),
        ("013", "No experiment '013'.", "shorter than 4 digits"),
        ("ffffff", "No experiment 'ffffff'.", "No fingerprint begins so"),
        ("", "No experiment ''.", "`synthtrack experiment list` shows them."),
        ("/etc/passwd", "No experiment '/etc/passwd'.", "a path names one"),
        ("% _", "No experiment '% _'.", "a path names one"),
    ],
)
def test_an_unknown_reference_says_what_was_meant(
    workspace: Workspace, reader: Reader, ref: str, message: str, hint: str
) -> None:
    with pytest.raises(UnknownReference) as caught:
        find(reader, workspace, ref)
    assert caught.value.message == message
    assert hint in (caught.value.hint or "")


def test_an_ambiguous_fingerprint_says_what_it_could_be(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        source, study = add_source(connection), add_batch(connection, "batch_study")
        for n in range(7):
            add_experiment(connection, f"e{n}", batch=study, source=source, fingerprint=f"abcd0000000{n}")
    with reading(workspace) as reader:
        with pytest.raises(UnknownReference) as caught:
            find(reader, workspace, "abcd")
        assert find(reader, workspace, "abcd00000003") == Found(4)
    assert str(caught.value) == (
        "No single experiment with fingerprint 'abcd...'.\nIt could be:\n  abcd00000000  Copa/e0\n"
        "  abcd00000001  Copa/e1\n  abcd00000002  Copa/e2\n  abcd00000003  Copa/e3\n"
        "  abcd00000004  Copa/e4\n  ... and more"
    )


def test_close_matches_are_found_among_many(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        source = add_source(connection)
        batches = [add_batch(connection, f"batch_{n:03d}_of_a_long_study") for n in range(300)]
        for n in range(300):
            add_experiment(connection, f"temp{n:03d}_gpt4o", batch=batches[n], source=source)
    with reading(workspace) as reader:
        for wrong, right in (("Copa/temp250_gpt4", "Copa/temp250_gpt4o"), ("Copa/tmp250_gpt4o", "Copa/temp250_gpt4o")):
            with pytest.raises(UnknownReference) as caught:
                find(reader, workspace, wrong)
            assert caught.value.matches[0] == right
        with pytest.raises(UnknownReference) as caught:
            batch(reader, "bacht_123_of_a_long_study")
        assert caught.value.matches[0] == "batch_123_of_a_long_study"


def test_a_batch_may_be_named_by_its_path(reader: Reader) -> None:
    assert batch(reader, f"{TREE}/batch_20241228_pilot/") == {"id": 1, "name": "batch_20241228_pilot"}


def test_an_unknown_data_set_names_the_known(reader: Reader) -> None:
    dataset(reader, "CB")
    with pytest.raises(UnknownReference, match=r"There are experiments on CB, Copa\."):
        dataset(reader, "RTE")
