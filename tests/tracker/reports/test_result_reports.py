from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training_rows import COOL, HOT, ORIGINAL, Study, Trained, add_sweep, training_study
from tracker.errors import UnknownReference
from tracker.listings import results
from tracker.listings.result_settings import load
from tracker.listings.results import Filters
from tracker.record.catalogue import Reader, reading
from tracker.record.database import open_database
from tracker.reports import result_reports
from tracker.statistics import wilson

COPA = Filters(task="Copa")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return training_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def reader(study: Study) -> Iterator[Reader]:
    with reading(study.workspace) as found:
        yield found


def test_a_sweep_stands_for_its_finished_runs(study: Study, reader: Reader) -> None:
    def ids(*names: str) -> list[int]:
        return [study.runs[name] for name in names]

    baseline = reader.rows("SELECT uuid FROM training_sweep WHERE purpose = 'baseline_comparison'")[0]["uuid"]
    refs = [study.uuid("temp09 1e-06 seed 0")[:8], baseline[:8], study.uuid("original 1e-06 seed 0")]
    assert result_reports.run_ids(reader, study.workspace, refs) == ids("temp09 1e-06 seed 0", "original 1e-06 seed 0")
    by_path = reader.rows("SELECT directory FROM training_run WHERE id = 1")[0]["directory"]
    assert result_reports.run_ids(reader, study.workspace, [by_path]) == [1]
    with pytest.raises(UnknownReference):
        result_reports.run_ids(reader, study.workspace, ["nothing"])


def test_compares_seeds_of_points(study: Study, reader: Reader) -> None:
    names = ("temp05 1e-06 seed 0", "temp05 1e-06 seed 1", "temp09 1e-06 seed 0")
    found = result_reports.compare(reader, [study.runs[name] for name in names])
    assert [each.mean for each in found.pools] == [0.75, 0.79]
    assert found.settings.different["generation.temperature"] == [0.5, 0.9]
    assert found.settings.without_effect == ("experiment.purpose",)
    (test,) = found.tests
    assert test.difference == pytest.approx(-0.04)
    assert test.n == 100
    # What else the record knows of the second one's point, of the first the newest attempt.
    assert [[run.row["seed"] for run in each.results] for each in found.seeds] == [[0, 1], [0, 1]]
    assert found.seeds[0].first.row["attempt"] == 2
    plain = json.loads(json.dumps(found.plain()))
    assert plain["best"] == 2
    assert (plain["tests"][0]["first"], plain["tests"][0]["second"]) == (1, 2)
    assert plain["results"][0]["mean_accuracy"] == 0.75
    assert [run["seed"] for run in plain["results"][1]["seeds_in_record"]["runs"]] == [0, 1]
    assert plain["results"][1]["accuracy_low"] == wilson(79, 100)[0]


def test_nothing_is_best_of_what_cannot_be_compared(study: Study, reader: Reader) -> None:
    found = result_reports.compare(reader, [study.runs["temp05 1e-06 seed 0"], study.runs["CB original"]])
    assert not found.is_comparable
    assert found.plain()["best"] is None
    assert found.tests[0].obstacle == "different tasks"


def test_ranks_a_setting_of_the_data(study: Study, reader: Reader) -> None:
    found = result_reports.rank(reader, result_reports.finished(reader, COPA), "generation.temperature")
    assert [(group.value, group.n_runs, len(group.points)) for group in found.groups] == [
        (0.5, 4, 2),
        (0.9, 2, 1),
        (None, 1, 1),
    ]
    assert [each.mean for each in found.best] == [0.75, 0.77, 0.73]
    assert [(each.first, each.second) for each in found.tests] == [(1, 0), (1, 2)]
    assert found.others == []
    assert [group.is_original for group in found.groups] == [False, False, True]
    plain = json.loads(json.dumps(found.plain()))
    assert (plain["setting"], plain["task"], plain["best"]) == ("generation.temperature", "Copa", 2)
    assert plain["values"][2]["value"] is None
    assert plain["values"][0]["best_point"]["sd_over_seeds"] == pytest.approx(0.0141421, rel=1e-5)


def test_a_mix_is_a_value_of_its_own_in_no_pure_one_as_in_sql(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    with open_database(study.workspace) as database:
        add_sweep(database, "mixes", [Trained((ORIGINAL, COOL)), Trained((COOL, COOL)), Trained((COOL, HOT))])
    with reading(study.workspace) as reader:
        groups = result_reports.rank(reader, result_reports.finished(reader, COPA), "generation.temperature").groups
        in_sql = reader.rows(
            """SELECT generation_temperature AS value, COUNT(DISTINCT fingerprint) AS n FROM training_overview
               WHERE task = 'Copa' AND status = 'complete' AND generation_temperature IS NOT NULL
               GROUP BY generation_temperature"""
        )
    found = {group.value: group.n_runs for group in groups}
    assert found == {0.5: 4, 0.9: 2, "0.5 + 0.5": 1, "0.5 + 0.9": 1, "original + 0.5": 1, None: 1}
    assert [(row["value"], row["n"]) for row in in_sql] == [(0.5, 4), (0.9, 2)]


def test_ranking_a_setting_of_the_run_names_what_else_differs(study: Study, reader: Reader) -> None:
    found = result_reports.rank(reader, result_reports.finished(reader, COPA), "learning_rate")
    assert [group.value for group in found.groups] == [5e-7, 1e-6]
    assert found.others == ["data", "generation.temperature"]
    of_one_data = result_reports.finished(reader, Filters(task="Copa", data=COOL))
    assert result_reports.rank(reader, of_one_data, "learning_rate").others == []


def test_there_must_be_something_finished(reader: Reader) -> None:
    with pytest.raises(UnknownReference) as caught:
        result_reports.finished(reader, Filters(task="Copa", method="fo_lora"))
    assert str(caught.value).startswith("No finished training run in 'task Copa, method fo_lora'.")


def test_the_values_of_all_settings(reader: Reader) -> None:
    names = result_reports.by_settings(result_reports.finished(reader, COPA))
    values = {name: result_reports.plain_values(groups) for name, groups in names.items()}
    assert values["generation.temperature"] == [0.5, 0.9, None]
    assert values["data"] == [ORIGINAL, COOL, HOT]
    assert values["hyperparameters.seed"] == [0, 1]
    assert list(values) == sorted(values)


def test_of_a_point_that_never_finished_it_stands_alone(study: Study, reader: Reader) -> None:
    (failed,) = load(reader, results.runs(reader, [study.runs["original 1e-06 seed 1"]]))
    assert [each.row["seed"] for each in result_reports.siblings(reader, failed).results] == [0]
    with open_database(study.workspace) as database:
        alone = add_sweep(database, "alone", [Trained((HOT,), status="failed", hyperparameters={"learning_rate": 1.0})])
    with reading(study.workspace) as fresh:
        (failed,) = load(fresh, results.runs(fresh, alone.run_ids))
        pool = result_reports.siblings(fresh, failed)
    assert pool.results == (failed,)
    assert result_reports.plain_pool(pool)["mean_accuracy"] is None
