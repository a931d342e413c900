from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.training_rows import BATCH, COOL, HOT, Study, Trained, add_sweep, training_study
from tracker.errors import UnknownReference
from tracker.listings import results
from tracker.listings.result_settings import Result, full_name, known, load
from tracker.record.catalogue import Reader, reading
from tracker.record.database import open_database


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    found = training_study(tmp_path_factory.mktemp("study"))
    with open_database(found.workspace) as database:
        mixed = add_sweep(database, "two_temperatures", [Trained((COOL, HOT))])
    found.runs["both"] = mixed.run_ids[0]
    return found


@pytest.fixture
def reader(study: Study) -> Iterator[Reader]:
    with reading(study.workspace) as found:
        yield found


def loaded(study: Study, reader: Reader, *names: str) -> list[Result]:
    return load(reader, results.runs(reader, [study.runs[name] for name in names]))


def test_a_result_has_the_settings_of_its_run_and_of_its_data(study: Study, reader: Reader) -> None:
    (found,) = loaded(study, reader, "temp09 1e-06 seed 0")
    settings = found.settings
    assert settings["hyperparameters.learning_rate"] == 1e-6
    assert settings["generation.temperature"] == 0.9
    assert settings["generation.rephrase_prompt"].endswith("{premise}")
    assert (settings["data"], settings["train_data.batch"]) == (HOT, BATCH)
    assert settings["train_data.fingerprint"] == found.row["data_fingerprint"]
    assert settings["train_data.draw"] == 0
    # Of the data's settings only those that shaped it; and no path, which the data's name and digests stand for.
    assert not {"generation.timeout", "dataset.name", "data.path"} & settings.keys()
    assert {"generation.temperature", "hyperparameters.seed", "model", "train_data.digest"} <= found.shaping
    assert not {"experiment.purpose", "train_data.batch", "save_model"} & found.shaping


def test_what_differs_in_the_seed_alone_is_one_point(study: Study, reader: Reader) -> None:
    one, other, rate, data, again = loaded(
        study, reader, "temp05 1e-06 seed 0", "temp05 1e-06 seed 1", "temp05 5e-07 seed 0", "temp09 1e-06 seed 0",
        "temp05 1e-06 seed 0 again",
    )  # fmt: skip
    assert one.point == other.point == again.point
    assert len({one.point, rate.point, data.point}) == 3


def test_several_data_sets_have_the_values_of_all(study: Study, reader: Reader) -> None:
    both, mixed, original = loaded(study, reader, "both", f"CB original+{COOL}", "original 1e-06 seed 0")
    assert both.settings["generation.temperature"] == "0.5 + 0.9"
    assert both.settings["generation.model"] == "gpt-4o + gpt-4o"
    assert mixed.settings["generation.temperature"] == "original + 0.5"
    fingerprint = results.data_sets(reader, mixed.id)[1]["fingerprint"]
    assert mixed.settings["train_data.fingerprint"] == f"original + {fingerprint}"
    assert (both.is_original, mixed.is_original, original.is_original) == (False, False, True)
    assert "generation.temperature" not in original.settings
    assert original.settings["train_data.fingerprint"] is None


def test_only_a_complete_run_has_an_accuracy(study: Study, reader: Reader) -> None:
    names = "temp05 1e-06 seed 0", "original 1e-06 seed 1", "original 1e-06 seed 4"
    assert [each.accuracy for each in loaded(study, reader, *names)] == [0.76, None, None]


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("generation.temperature", "generation.temperature"),
        ("generation_temperature", "generation.temperature"),
        ("learning_rate", "hyperparameters.learning_rate"),
        ("top_p", "generation.top_p"),
        ("model", "model"),
        ("data", "data"),
        ("seed", "hyperparameters.seed"),
    ],
)
def test_a_setting_is_found_by_its_last_part(study: Study, reader: Reader, name: str, full: str) -> None:
    assert full_name(loaded(study, reader, "temp09 1e-06 seed 0", "original 1e-06 seed 0"), name) == full


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("temperature", "No single setting 'temperature'.\nIt could be generation.temperature or validation.tem"),
        ("generation.temprature", "No setting 'generation.temprature'.\nDid you mean generation.temperature"),
        ("lerning_rate", "No setting 'lerning_rate'.\nDid you mean learning_rate"),
    ],
)
def test_an_unknown_setting_has_neighbours(study: Study, reader: Reader, name: str, message: str) -> None:
    with pytest.raises(UnknownReference) as caught:
        full_name(loaded(study, reader, "temp09 1e-06 seed 0"), name)
    assert str(caught.value).startswith(message)


def test_the_known_settings_are_those_of_all(study: Study, reader: Reader) -> None:
    found = known(loaded(study, reader, "original 1e-06 seed 0", "temp09 1e-06 seed 0", f"CB original+{COOL}"))
    assert {"hyperparameters.zo_eps", "hyperparameters.lora_rank", "generation.temperature"} <= set(found)
    assert len(found) == len(set(found))
    assert load(reader, []) == []
