from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.records import MOMENT, add_batch, add_experiment, add_membership, add_run, add_source, temperature_study
from tracker.listings import listings
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, reading
from tracker.record.database import open_database

STUDY = "batch_20241229_temperature"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return temperature_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def reader(workspace: Workspace) -> Iterator[Reader]:
    with reading(workspace) as found:
        yield found


def references(listing: listings.Listing) -> list[str]:
    return [row["reference"] for row in listing.rows]


def test_a_limit_takes_the_newest_in_order_of_name(reader: Reader) -> None:
    newest = listings.experiments(reader, limit=2)
    assert references(newest) == ["CB/temp07_topp10_gpt4o", "Copa/temp09_topp10_gpt4o"]
    assert (newest.total, newest.left_out) == (4, 2)
    assert listings.experiments(reader).left_out == 0


def test_filters_by_data_set(reader: Reader) -> None:
    copa = listings.experiments(reader, "Copa", limit=1)
    assert references(copa) == ["Copa/temp09_topp10_gpt4o"]
    assert copa.total == 3
    assert references(listings.batch_experiments(reader, STUDY, "CB")) == ["CB/temp07_topp10_gpt4o"]
    assert listings.batch_experiments(reader, "batch_20241228_pilot", "CB") == listings.Listing([], 0)


def test_large_batches_are_filtered_alike(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    small = [listings.batch_experiments(reader, STUDY, "Copa", limit) for limit in (0, 2)]
    monkeypatch.setattr(listings, "_LARGE", 0)
    assert [listings.batch_experiments(reader, STUDY, "Copa", limit) for limit in (0, 2)] == small
    assert references(small[1]) == ["Copa/temp05_topp10_gpt4o", "Copa/temp09_topp10_gpt4o"]
    assert small[1].total == 3


def test_a_membership_tells_whether_it_reused(reader: Reader) -> None:
    rows = listings.batch_experiments(reader, STUDY).rows
    assert {row["reference"]: row["reused"] for row in rows} == {
        "CB/temp07_topp10_gpt4o": False,
        "Copa/temp05_topp10_gpt4o": False,
        "Copa/temp07_topp10_gpt4o": True,
        "Copa/temp09_topp10_gpt4o": False,
    }
    assert {row["batch"] for row in rows} == {STUDY}


def test_a_batch_counts_runs_of_unknown_price(reader: Reader) -> None:
    study = listings.batch(reader, STUDY)
    assert (study["n_experiments"], study["n_reused"], study["cost_usd"], study["n_unpriced"]) == (4, 1, None, 1)
    pilot = listings.batch(reader, "batch_20241228_pilot")
    assert (pilot["cost_usd"], pilot["n_unpriced"]) == (0.012, 0)


def test_an_experiment_has_its_settings_and_its_source(workspace: Workspace, reader: Reader) -> None:
    row = listings.experiment(reader, "Copa/temp05_topp10_gpt4o", workspace)
    assert row["settings"]["generation.timeout"] == 30.0
    assert row["identity"]["generation"]["temperature"] == 0.5
    assert row["source_origin"] == "Data/original/Copa/copa_train.jsonl"
    assert row["cost_usd"] is None
    (with_settings,) = listings.with_settings(reader, listings.experiments(reader, "Copa").rows[:1])
    assert (with_settings["settings"], with_settings["identity"]) == (row["settings"], row["identity"])


def test_runs_come_with_mlflows_id_where_they_were_logged(reader: Reader) -> None:
    runs = listings.generation_runs(reader, 1)
    assert [(run["batch"], run["outcome"], run["mlflow_run_id"]) for run in runs] == [
        ("batch_20241228_pilot", "made", "0123abcd"),
        (STUDY, "reused", None),
    ]
    assert runs[0]["started_at"] == MOMENT


def test_samples_are_the_first_records(reader: Reader) -> None:
    found = listings.samples(reader, 1, 2)
    assert [(each["position"], each["status"]) for each in found] == [(0, "accepted"), (1, "accepted")]
    assert listings.samples(reader, 1, 0) == []


def test_memberships_of_very_many_experiments(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        source, one, two = add_source(connection), add_batch(connection, "one"), add_batch(connection, "two")
        ids = [add_experiment(connection, f"e{n:04d}", batch=one, source=source) for n in range(1100)]
        add_membership(connection, two, ids[-1])
        add_run(connection, ids[0], one)
    with reading(workspace) as reader:
        held_by = listings.memberships(reader, ids)
        assert len(listings.with_settings(reader, listings.experiments(reader).rows)) == 1100
    assert held_by[ids[0]] == [{"batch": "one", "reused": False}]
    assert held_by[ids[-1]] == [{"batch": "one", "reused": False}, {"batch": "two", "reused": True}]


def test_paths_follow_the_directories_in_force(workspace: Workspace, reader: Reader) -> None:
    moved = Workspace(workspace.root, environ={"SYNTHTRACK_SYNTHETIC_DIR": "/elsewhere/synthetic"})
    (row,) = listings.data_paths(reader, moved, "batch_20241228_pilot").rows
    assert row["batch_path"] == "/elsewhere/synthetic/batch_20241228_pilot/Copa/temp07_topp10_gpt4o/Copa"
    assert row["shared_path"] == "/elsewhere/synthetic/_shared/Copa/temp07_topp10_gpt4o/Copa"
    resolved = listings.resolve_path(reader, moved, row["batch_path"])
    assert (resolved["batch"], resolved["shared_path"]) == ("batch_20241228_pilot", row["shared_path"])
