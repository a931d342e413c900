from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import KINDS, empty_workspace
from tests.training_rows import COOL, DIVERGED, HOT, MODEL, Study, training_study
from tracker.errors import UnknownReference
from tracker.listings.listings import Listing
from tracker.listings.results import Filters, alike, answers, curve, details, finished, run, runs, summary
from tracker.record.catalogue import Reader, Row, reading


@pytest.fixture(scope="module", params=KINDS)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    with empty_workspace(request.param, tmp_path_factory.mktemp("study")) as workspace:
        yield training_study(workspace)


@pytest.fixture
def reader(study: Study) -> Iterator[Reader]:
    with reading(study.workspace) as found:
        yield found


def names(study: Study, rows: list[Row]) -> list[str]:
    by_id = {run_id: name for name, run_id in study.runs.items()}
    return [by_id[row["id"]] for row in rows]


def test_sums_up_by_purpose_and_model(reader: Reader) -> None:
    found = summary(reader, Filters())
    assert [(row["purpose"], row["n_runs"]) for row in found] == [
        ("baseline_comparison", 5),
        ("data_quality_impact", 2),
        ("hyperparameter_tuning", 5),
        ("model_comparison", 2),
    ]
    statuses = {"complete": 1, "pending": 1, "stopped": 1, "interrupted": 1, "failed": 1}
    assert found[0]["statuses"] == statuses
    assert [(best["task"], best["accuracy"], best["data"]) for row in found for best in row["best"]] == [
        ("Copa", 0.73, "original"),
        ("Copa", 0.79, HOT),
        ("Copa", 0.76, COOL),
        ("CB", 44 / 57, f"original+{COOL}"),
    ]


def test_the_best_is_of_the_newest_complete_attempts(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    with sqlite3.connect(study.workspace.database) as connection:
        connection.execute("UPDATE training_run SET accuracy = 0.99 WHERE id = ?", (study.runs["temp05 1e-06 seed 0"],))
        connection.execute("UPDATE training_run SET accuracy = 0.98 WHERE status = 'stopped'")
    connection.close()
    with reading(study.workspace) as reader:
        found = {row["purpose"]: row["best"] for row in summary(reader, Filters(task="Copa"))}
    assert [(row["accuracy"], row["n_runs"]) for row in found["hyperparameter_tuning"]] == [(0.76, 4)]
    assert [(row["accuracy"], row["n_runs"]) for row in found["baseline_comparison"]] == [(0.73, 1)]


def test_a_summary_counts_what_was_asked_for(reader: Reader) -> None:
    (found,) = summary(reader, Filters(task="Copa", status="failed"))
    assert (found["n_runs"], found["statuses"], found["best"]) == (1, {"failed": 1}, [])


def test_details_give_the_newest_in_the_order_of_their_names(study: Study, reader: Reader) -> None:
    found = details(reader, Filters(purpose="hyperparameter_tuning"), limit=2)
    assert names(study, found.rows) == ["temp05 1e-06 seed 0 again", "temp05 5e-07 seed 1"]
    assert (found.total, found.left_out) == (5, 3)
    assert [row["attempt"] for row in found.rows] == [2, 1]
    assert details(reader, Filters()).total == 14


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(model=MODEL), 14),
        (Filters(model="Llama-3.2-1B", task="CB"), 2),
        (Filters(method="fo_lora"), 2),
        (Filters(data="original"), 7),
        (Filters(data=f"original+{COOL}"), 1),
        (Filters(data="Copa/" + HOT), 2),
        (Filters(data=COOL), 6),
        (Filters(status="interrupted"), 1),
        (Filters(status="running"), 0),
        (Filters(status="complete", purpose="baseline_comparison"), 1),
    ],
    ids=str,
)
def test_chooses_runs(reader: Reader, filters: Filters, expected: int) -> None:
    assert details(reader, filters).total == expected
    assert sum(row["n_runs"] for row in summary(reader, filters)) == expected


def test_data_is_chosen_by_its_fingerprint_too(study: Study, reader: Reader) -> None:
    hot = runs(reader, [study.runs["temp09 1e-06 seed 0"]])[0]["data_fingerprint"]
    assert names(study, details(reader, Filters(data=hot)).rows) == ["temp09 1e-06 seed 0", "temp09 1e-06 seed 1"]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (Filters(task="Coppa"), "No training run with task 'Coppa'.\nDid you mean Copa?\nThere are CB, Copa."),
        (Filters(method="lora"), "No training run with method 'lora'.\nDid you mean fo_lora?\nThere are fo_lora, zo."),
    ],
    ids=str,
)
def test_what_no_run_ever_had_is_no_empty_answer(reader: Reader, filters: Filters, message: str) -> None:
    for asked in (summary, details, finished):
        with pytest.raises(UnknownReference) as caught:
            asked(reader, filters)
        assert str(caught.value) == message


def test_a_listing_of_nothing(tmp_path: Path) -> None:
    with empty_workspace("sqlite", tmp_path) as workspace:
        from tracker.record.database import open_database

        open_database(workspace).close()
        with reading(workspace) as reader:
            assert summary(reader, Filters()) == []
            assert details(reader, Filters()) == Listing([], 0)
            with pytest.raises(UnknownReference, match="There are no training runs yet"):
                details(reader, Filters(task="Copa"))


def test_a_mix_names_all_its_data(study: Study, reader: Reader) -> None:
    rows = details(reader, Filters(task="CB")).rows
    assert {len(row["data_paths"]) for row in rows} == {1, 2}
    mixed = next(row for row in rows if row["n_data"] == 2)
    assert mixed["data_paths"][0] == "Data_v2/original/CB"
    assert mixed["data_paths"][1].endswith(f"/CB/{COOL}/CB")


def test_of_each_point_the_newest_complete_attempt_is_what_it_gave(study: Study, reader: Reader) -> None:
    assert names(study, finished(reader, Filters(task="Copa"))) == [
        "temp05 1e-06 seed 1",
        "temp05 5e-07 seed 0",
        "temp05 5e-07 seed 1",
        "temp09 1e-06 seed 0",
        "temp09 1e-06 seed 1",
        "original 1e-06 seed 0",
        "temp05 1e-06 seed 0 again",
    ]


def test_runs_come_in_the_order_in_which_they_are_asked_for(study: Study, reader: Reader) -> None:
    ids = [study.runs["temp09 1e-06 seed 0"], study.runs["temp05 1e-06 seed 0"]]
    found = runs(reader, ids)
    assert [row["id"] for row in found] == ids
    assert found[0]["generation_temperature"] == 0.9
    assert found[0]["settings"]["hyperparameters.learning_rate"] == 1e-6
    assert "identity" not in found[0]
    assert runs(reader, []) == []


def test_a_dead_run_is_interrupted_wherever_it_is_shown(study: Study, reader: Reader) -> None:
    dead = study.runs["original 1e-06 seed 3"]
    assert runs(reader, [dead])[0]["status"] == "interrupted"
    assert [each["status"] for each in run(reader, dead)["attempts"]] == ["interrupted"]


def test_everything_about_one_run(study: Study, reader: Reader) -> None:
    found = run(reader, study.runs[f"CB original+{COOL}"])
    assert found["classes"] == ["Yes", "No", "Maybe"]
    assert found["config_path"] == "configs/stage2/model_comparison.yaml"
    assert [(each["name"], each["experiment"]) for each in found["data_sets"]] == [
        ("original", None),
        (COOL, f"CB/{COOL}"),
    ]
    predictions = found["predictions"]
    assert (predictions["n"], predictions["n_correct"]) == (57, 44)
    assert predictions["confusion"] == [[15, 4, 0], [0, 15, 4], [5, 0, 14]]
    assert len(predictions["wrong"]) == 13
    assert predictions["wrong"][0] == {"position": 20, "label": "Maybe", "predicted": "Yes", "margin": -0.7}
    assert [each["margin"] for each in predictions["wrong"]] == sorted(each["margin"] for each in predictions["wrong"])
    # 44 against the 34 of the untrained model, on the same records.
    assert predictions["gain"] == {"learnt": 10, "lost": 0, "difference": 10 / 57, "p": 2 / 2**10}


def test_answers_without_names_are_numbers(study: Study, reader: Reader) -> None:
    found = run(reader, study.runs["temp05 1e-06 seed 0"])
    assert found["classes"] is None
    assert found["predictions"]["confusion"] is None
    assert found["predictions"]["wrong"][0]["label"] in (0, 1)
    assert [each["attempt"] for each in found["attempts"]] == [1, 2]


def test_a_run_without_predictions_says_so(study: Study, reader: Reader) -> None:
    found = run(reader, study.runs["original 1e-06 seed 1"])
    assert found["predictions"] is None
    assert found["error"] == DIVERGED
    pending = run(reader, study.runs["original 1e-06 seed 4"])
    assert (pending["status"], pending["curve"], pending["versions"]) == ("pending", [], {})


def test_a_curve_has_the_train_loss_last_seen_at_each_evaluation(study: Study, reader: Reader) -> None:
    found = curve(reader, study.runs["original 1e-06 seed 1"])
    assert [row["step"] for row in found] == [0, 200, 400]
    assert [row["train_loss"] for row in found] == [None, pytest.approx(0.69), pytest.approx(0.67)]
    assert found[2]["dev_loss"] == pytest.approx(0.66)
    assert found[2]["dev_accuracy"] == pytest.approx(0.64)


def test_answers_are_by_record(study: Study, reader: Reader) -> None:
    first, second = study.runs["temp05 1e-06 seed 0"], study.runs["original 1e-06 seed 1"]
    found = answers(reader, [first, second])
    assert sum(found[first].values()) == 76
    assert sorted(found[first]) == list(range(100))
    assert found[second] == {}
    assert sum(answers(reader, [first], "zero_shot")[first].values()) == 60


def test_the_gain_needs_the_answers_of_the_untrained_model(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    with sqlite3.connect(study.workspace.database) as connection:
        connection.execute("DELETE FROM prediction WHERE stage = 'zero_shot'")
    connection.close()
    with reading(study.workspace) as reader:
        assert run(reader, study.runs["temp05 1e-06 seed 0"])["predictions"]["gain"] is None


def test_runs_that_are_alike_differ_in_the_seed_or_in_lesser_settings(study: Study, reader: Reader) -> None:
    (row,) = runs(reader, [study.runs["temp05 1e-06 seed 0"]])
    assert names(study, alike(reader, row)) == ["temp05 1e-06 seed 1", "temp05 1e-06 seed 0 again"]
