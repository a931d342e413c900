"""What a report gathers, against rows whose numbers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import records
from tests.records import add_batch, add_experiment, add_membership, add_run, add_sample, add_source, temperature_study
from tests.training_rows import BATCH, COOL, HOT, Trained, add_sweep, training_study, workspace_with_data
from tracker.errors import UnknownReference
from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.reports import batch_report, report_samples
from tracker.reports.batch_report import Report
from tracker.reports.report_subject import BATCH as A_BATCH
from tracker.reports.report_subject import GENERATION, TRAINING, find
from tracker.statistics import wilson, wilson_over_seeds

STUDY = "batch_20241229_temperature"


def gathered(workspace: Workspace, name: str, wanted: str | None = None) -> Report:
    with reading(workspace) as reader:
        return batch_report.gather(reader, find(reader, name, wanted))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return gathered(temperature_study(tmp_path_factory.mktemp("study")), STUDY)


def test_a_batch_is_counted_whole(study: Report) -> None:
    assert study.subject.description == "How warm?"
    assert (study.n_experiments, study.statuses) == (4, {"complete": 3, "unfinished": 1})
    accepted = study.acceptance
    assert (accepted.n_accepted, accepted.n_rejected, accepted.n_unclear, accepted.n_failed) == (7, 5, 1, 0)
    assert accepted.rate == 7 / 12
    assert accepted.interval == wilson(7, 12)
    assert study.n_unjudged == 1
    by_name = {each.row["reference"]: each for each in study.experiments}
    assert by_name["Copa/temp09_topp10_gpt4o"].acceptance is None
    assert study.as_of == records.MOMENT


def test_an_unknown_cost_is_not_nothing(study: Report) -> None:
    assert (study.paid.known_usd, study.paid.n, study.paid.n_unknown) == (0.0, 1, 1)
    assert study.paid.usd is None
    assert (study.data_cost.known_usd, study.data_cost.n, study.data_cost.n_unknown) == (0.012, 3, 2)
    assert study.cost_per_accepted_usd is None


def test_reused_data_is_paid_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        source = add_source(connection, "Copa", records.LINES)
        first, second = add_batch(connection, "first", purpose="a"), add_batch(connection, "second", purpose="b")
        old = add_experiment(connection, "old", batch=first, source=source, n_accepted=4, cost_usd=0.5)
        new = add_experiment(connection, "new", batch=second, source=source, n_accepted=1, cost_usd=0.25)
        add_membership(connection, second, old)
        add_run(connection, old, first, n_calls=8, cost_usd=0.5, purpose="a")
        add_run(connection, old, second, outcome="reused", cost_usd=0.0, purpose="b")
        add_run(connection, new, second, n_calls=2, cost_usd=0.25, purpose="b")
    second_batch, purpose = gathered(workspace, "second"), gathered(workspace, "b")
    for report in (second_batch, purpose):
        assert (report.paid.usd, report.data_cost.usd) == (0.25, 0.75)
        assert report.cost_per_accepted_usd == 0.15
        paid = {each.row["name"]: each.paid for each in report.experiments}
        assert paid["old"] is None
        assert paid["new"] is not None
    assert gathered(workspace, "first").paid.usd == 0.5


def test_what_is_not_finished_is_neither_in_the_cost_nor_in_the_records(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        source, batch = add_source(connection, "Copa", records.LINES), add_batch(connection, "one")
        whole = add_experiment(connection, "whole", batch=batch, source=source, n_accepted=4, cost_usd=0.5)
        add_experiment(connection, "plain", batch=batch, source=source, n_accepted=6, cost_usd=0.1, judge=False)
        half = add_experiment(
            connection, "half", batch=batch, source=source, n_accepted=10, cost_usd=0.25, status="unfinished"
        )
        add_run(connection, whole, batch, n_calls=8, cost_usd=0.5)
        add_run(connection, half, batch, status="running", outcome="made", n_calls=0)
    report = gathered(workspace, "one")
    assert report.cost_per_accepted_usd == pytest.approx(0.6 / 10)
    # What is being made has paid something, and nobody has counted it yet.
    assert (report.paid.usd, report.paid.known_usd, report.paid.n_unknown) == (None, 0.5, 1)
    paid = {each.row["name"]: each.paid for each in report.experiments}
    assert paid["half"] is not None
    assert paid["half"].usd is None


def test_what_a_batch_paid_for_deleted_experiments_stays_paid(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        source, batch = add_source(connection, "Copa", records.LINES), add_batch(connection, "one")
        add_run(connection, add_experiment(connection, "e", batch=batch, source=source), batch, n_calls=8, cost_usd=0.5)
        for number, spent in enumerate(('{"one": 0.25, "two": 9}', '{"two": 1}', "{}")):
            connection.exec_driver_sql(
                "INSERT INTO deletion (uuid, kind, name, deleted_at, deleted_by, archive, archive_digest, n_rows,"
                " n_bytes, command, paths, mlflow_runs, spent)"
                " VALUES (?, 'experiment', 'x', '', 'gc', '', '', 1, 1, '', '[]', '[]', ?)",
                (str(number), spent),
            )
    report = gathered(workspace, "one")
    assert (report.paid.usd, report.paid_on_deleted.usd) == (0.75, 0.25)
    with reading(workspace) as reader:
        assert reader.rows("SELECT cost_usd FROM batch_cost WHERE batch = 'one'") == [{"cost_usd": 0.75}]


def test_settings_that_vary_and_the_others(study: Report) -> None:
    assert study.settings is not None
    assert set(study.settings.different) == {
        "generation.temperature", "generation.rephrase_prompt", "validation.model", "validation.temperature",
    }  # fmt: skip
    assert study.settings.same["generation.model"] == "gpt-4o"
    assert list(study.settings.operational) == ["generation.timeout"]
    assert not study.settings.same_source


def test_acceptance_by_a_setting_that_experiments_share(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        batch, source = add_batch(connection, "one"), add_source(connection)
        for at, (temperature, n_accepted) in enumerate(((0.9, 6), (0.5, 9), (0.5, 10))):
            add_experiment(
                connection, f"e{at}", batch=batch, source=source, temperature=temperature, n_records=10,
                n_accepted=n_accepted, n_rejected=10 - n_accepted, settings={"generation.rephrase_prompt": f"{at}\n"},
            )  # fmt: skip
    found = gathered(workspace, "one").by_setting
    assert list(found) == ["generation.temperature"]
    shares = [(each.value, each.n, each.acceptance.n_accepted, each.acceptance.rate) for each in found.popitem()[1]]
    assert shares == [(0.5, 2, 19, 0.95), (0.9, 1, 6, 0.6)]


def test_samples_are_chosen_by_rule(study: Report) -> None:
    of_copa = study.samples[0]
    assert (of_copa.dataset, of_copa.field, of_copa.n_experiments) == ("Copa", "premise", 3)
    assert [(card.position, card.why) for card in of_copa.cards] == [
        (3, "accepted in some, rejected in others"), (0, "accepted in all"), (1, "accepted in all"),
        (2, "accepted in all"),
    ]  # fmt: skip
    divided = of_copa.cards[0].versions
    assert [(each["experiment"], each["status"]) for each in divided] == [
        ("temp05_topp10_gpt4o", "accepted"), ("temp07_topp10_gpt4o", "rejected"),
    ]  # fmt: skip
    assert study.samples[1].cards[0].why == "rejected most often"


def test_a_failed_and_an_unclear_sample_are_among_the_few(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    lines = [f'{{"premise": "Line {n}", "idx": {n}}}' for n in range(20)]
    with open_database(workspace) as database, database.writing() as connection:
        source, batch = add_source(connection, "Copa", lines), add_batch(connection, "one")
        experiment = add_experiment(connection, "made", batch=batch, source=source, n_records=20)
        odd: dict[int, dict[str, Any]] = {
            11: {"status": "failed", "verdict": None, "error": "HTTP 500"},
            13: {"status": "rejected", "verdict": "unclear"},
            17: {"decided_by": "person"},
        }
        for n in range(20):
            add_sample(connection, experiment, n, n + 1, original=f"Line {n}", **odd.get(n, {}))
    (found,) = gathered(workspace, "one").samples
    assert [(card.position, card.why) for card in found.cards] == [
        (13, "rejected most often"), (11, "failed"), (17, "decided by a person"), (0, "accepted in all"),
        (1, "accepted in all"), (2, "accepted in all"),
    ]  # fmt: skip


def test_spread_keeps_both_ends() -> None:
    rows = [{"id": at} for at in range(100)]
    assert [row["id"] for row in report_samples.spread(rows, 4)] == [0, 33, 66, 99]
    assert report_samples.spread(rows[:4], 4) == rows[:4]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return training_study(tmp_path_factory.mktemp("trained")).workspace


def test_accuracies_of_a_batch_with_its_baselines(trained: Workspace) -> None:
    report = gathered(trained, BATCH)
    # The mix on CB is trained on the batch's data, too.
    assert report.accuracies.statuses == {"complete": 8}
    cb, copa = report.accuracies.panels
    assert (copa.task, copa.method, copa.n_eval) == ("Copa", "zo", 100)
    assert copa.zero_shot == (0.6, 0.6)
    assert copa.majority == (0.55, 0.55)
    found = [(each.data, each.n_seeds, round(each.mean, 4)) for each in copa.points]
    assert found == [("original", 1, 0.73), (COOL, 2, 0.695), (COOL, 2, 0.75), (HOT, 2, 0.77)]
    assert copa.best == 3
    original, _, cool, hot = copa.points
    assert original.is_original
    assert original.elsewhere
    assert original.against is None
    assert hot.error == pytest.approx(0.02)
    assert hot.pool.interval == wilson_over_seeds(list(hot.pool.n_right.values()), 2)
    assert cool.against is not None
    assert cool.is_alike
    assert cool.against.difference == pytest.approx(0.02)
    assert cool.against.corrected is not None
    assert cool.below_best is not None
    # 79 and 75 against 76 and 74 of the same hundred.
    assert cool not in copa.worse
    assert [each.data for each in cb.points] == ["original", f"original+{COOL}"]


def test_a_training_purpose_has_its_runs_and_the_data_behind_them(trained: Workspace) -> None:
    report = gathered(trained, "data_quality_impact")
    assert report.subject.roles == (TRAINING,)
    assert [each.row["name"] for each in report.experiments] == [HOT]
    assert report.accuracies.statuses == {"complete": 2}
    assert report.paid.n == 0
    assert report.data_cost.usd == 0.012
    assert [sweep["n_runs"] for sweep in report.sweeps] == [2]
    (panel,) = report.accuracies.panels
    assert [each.data for each in panel.points] == ["original", HOT]


def test_runs_that_are_not_complete_are_counted_apart(trained: Workspace) -> None:
    report = gathered(trained, "baseline_comparison")
    assert report.accuracies.statuses == {"complete": 1, "failed": 1, "stopped": 1, "interrupted": 1, "pending": 1}
    (panel,) = report.accuracies.panels
    assert [each.n_seeds for each in panel.points] == [1]
    assert report.experiments == ()


def test_of_a_point_tried_again_the_newest_counts(trained: Workspace) -> None:
    (panel,) = gathered(trained, "hyperparameter_tuning").accuracies.panels
    (point,) = [each for each in panel.points if each.values["hyperparameters.learning_rate"] == 1e-6
                and not each.is_original]  # fmt: skip
    assert sorted(each.row["attempt"] for each in point.pool.results) == [1, 2]


def test_a_clear_difference_is_told_from_noise(tmp_path: Path) -> None:
    workspace = workspace_with_data(tmp_path)
    with open_database(workspace) as database:
        points = [Trained(("original",), n_correct=60), Trained((COOL,), n_correct=95), Trained((HOT,), n_correct=61)]
        add_sweep(database, "noise", points)
    (panel,) = gathered(workspace, "noise").accuracies.panels
    assert panel.points[panel.best].data == COOL
    assert [each.data for each in panel.worse] == ["original", HOT]
    real = {each.data: (each.against.corrected or 0.0) < 0.05 for each in panel.compared if each.against}
    assert real == {COOL: True, HOT: False}
    assert panel.seed_deviation is None


def test_a_name_may_be_several_things(tmp_path: Path) -> None:
    workspace = workspace_with_data(tmp_path)
    with open_database(workspace) as database:
        with database.writing() as connection:
            add_batch(connection, "temperature_study")
        add_sweep(database, "temperature_study", [Trained((HOT,))])
    with reading(workspace) as reader:
        taken = find(reader, "temperature_study")
        assert (taken.roles, taken.others) == ((A_BATCH,), (GENERATION, TRAINING))
        forced = find(reader, "temperature_study", "purpose")
        assert (forced.roles, forced.others) == ((GENERATION, TRAINING), (A_BATCH,))
        both = batch_report.gather(reader, forced)
        assert both.n_experiments == 3
        assert both.accuracies.statuses == {"complete": 1}
        with pytest.raises(UnknownReference) as caught:
            find(reader, "temperature_studi")
        assert "temperature_study" in str(caught.value)
        with pytest.raises(UnknownReference):
            find(reader, BATCH, "purpose")
