from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.training_rows import Study, Trained, add_sweep, training_study
from tracker.listings.results import Filters
from tracker.record.catalogue import Reader, reading
from tracker.record.database import open_database
from tracker.reports import result_reports
from tracker.reports.result_plots import by_setting, is_logarithmic, is_number


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    found = training_study(tmp_path_factory.mktemp("study"))
    rates = [
        Trained(n_correct=60 + at, hyperparameters={"learning_rate": 10.0**-at}, model="other") for at in range(1, 12)
    ]
    with open_database(found.workspace) as database:
        add_sweep(database, "many", rates)
        add_sweep(database, "only", [Trained(model="only one")])
    return found


@pytest.fixture
def reader(study: Study) -> Iterator[Reader]:
    with reading(study.workspace) as found:
        yield found


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("filters", "name"),
    [
        (Filters(task="Copa"), "generation.temperature"),  # with runs that have none
        (Filters(task="Copa"), "learning_rate"),  # rates, more than fit on the axis
        (Filters(task="Copa"), "data"),  # words
        (Filters(task="Copa"), "generation.rephrase_prompt"),  # long texts
        (Filters(task="Copa"), "train_as_classification"),  # one value, no number
        (Filters(task="CB"), "generation.temperature"),
        (Filters(model="only one"), "generation.temperature"),  # one value
        (Filters(data="original", task="Copa"), "train_data.fingerprint"),  # never set
    ],
)
def test_the_picture_is_drawn_whatever_the_setting(reader: Reader, filters: Filters, name: str) -> None:
    png = by_setting(result_reports.rank(reader, result_reports.finished(reader, filters), name))
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (850, 520)


def test_numbers_have_a_place_on_an_axis() -> None:
    assert [is_number(value) for value in (1, 0.5, True, "1", None, [1])] == [True, True, False, False, False, False]


def test_rates_are_seen_by_their_ratios() -> None:
    assert is_logarithmic("hyperparameters.learning_rate", [5e-7, 1e-6])
    assert is_logarithmic("hyperparameters.batch_size", [1, 16])
    assert not is_logarithmic("generation.temperature", [0.5, 0.9])
    assert not is_logarithmic("hyperparameters.weight_decay", [0.0, 0.1])
    assert not is_logarithmic("hyperparameters.learning_rate", [1e-6])
