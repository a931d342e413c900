"""The questions of a run: which records of which data set, in which order, and the digest over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.training.data import DataSet, read
from pipeline.training.material import Material, Share, material
from pipeline.training.specs import TrainingConfig
from pipeline.training.tasks import TASKS, Question
from tests.workspaces import records, write_lines
from tracker.errors import DataError
from tracker.fingerprint import bytes_digest

COPA = TASKS["Copa"]


def data_set(directory: Path, train: Sequence[Any], validation: Sequence[Any] | None) -> DataSet:
    directory.mkdir()
    files = [write_lines(directory / "copa_train.jsonl", train)]
    if validation is not None:
        files.append(write_lines(directory / "copa_validation.jsonl", validation))
    digests = [bytes_digest([path.read_bytes()]) for path in files]
    name = directory.name
    return DataSet(
        name, directory, "Copa", name, files[0], files[1] if validation is not None else None, digests[0],
        digests[1] if validation is not None else None,
    )  # fmt: skip


def config(num_train: int = 100, num_dev: int = 2, num_eval: int = 100, style: str = "llama") -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "model": "m", "task": "Copa", "method": "zo", "data": {"path": "d"}, "prompt_style": style,
            "hyperparameters": {"learning_rate": 1}, "num_train": num_train, "num_dev": num_dev, "num_eval": num_eval,
        }
    )  # fmt: skip


def numbers(questions: Sequence[Question]) -> list[int]:
    """Which of ``records`` they are."""
    return [int(question.prompt.split()[4]) for question in questions]


def made(tmp_path: Path, **changes: Any) -> Material:
    return material([data_set(tmp_path / "one", records(10), records(5))], COPA, config(**changes))


def test_dev_is_the_tail_and_train_the_start_of_the_rest(tmp_path: Path) -> None:
    found = made(tmp_path, num_train=6, num_dev=3)
    assert (numbers(found.train), numbers(found.dev)) == ([0, 1, 2, 3, 4, 5], [7, 8, 9])
    assert (numbers(found.evaluation), found.eval_indices) == ([0, 1, 2, 3, 4], (0, 1, 2, 3, 4))
    assert found.shares == (Share(10, 0, 6),)
    assert found.train[1] == Question("The man in house 001 fell because ", ("he slipped.", "he slept."), 1)


def test_a_mix_trains_on_all_and_is_measured_on_the_first(tmp_path: Path) -> None:
    other = [record | {"premise": f"The man in house {100 + at} fell."} for at, record in enumerate(records(8))]
    data = [
        data_set(tmp_path / "one", records(10), records(5)),
        data_set(tmp_path / "two", other, [*other[:1]] * 4),
        data_set(tmp_path / "three", records(3), None),
    ]
    found = material(data, COPA, config(num_train=5, num_dev=2))
    assert numbers(found.train) == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104, 0]
    assert (numbers(found.dev), numbers(found.evaluation)) == ([8, 9], [0, 1, 2, 3, 4])
    assert found.shares == (Share(10, 0, 5), Share(8, 5, 5), Share(3, 10, 1))


def test_every_data_set_of_a_mix_has_records_to_give(tmp_path: Path) -> None:
    data = [data_set(tmp_path / "one", records(10), records(5)), data_set(tmp_path / "two", records(2), None)]
    with pytest.raises(
        DataError, match=r"of 2 records the last 2 are kept for dev(.|\n)*two/copa_train.jsonl: 2 records"
    ):
        material(data, COPA, config())


def test_records_without_a_label_are_not_measured_on(tmp_path: Path) -> None:
    validation = [record | {"label": -1 if at in {0, 3} else record["label"]} for at, record in enumerate(records(5))]
    found = material([data_set(tmp_path / "one", records(10), validation)], COPA, config())
    assert (numbers(found.evaluation), found.eval_indices) == ([1, 2, 4], (1, 2, 4))


def test_of_many_records_the_same_are_always_measured_on(tmp_path: Path) -> None:
    data = [data_set(tmp_path / "one", records(10), records(50))]
    found = material(data, COPA, config(num_eval=5))
    # numpy's RandomState(0).permutation(50)[:5], as MeZO's code takes its sample.
    assert found.eval_indices == (28, 11, 10, 41, 2)
    assert numbers(found.evaluation) == list(found.eval_indices)


@pytest.mark.parametrize("where", ["train", "dev"])
def test_records_without_a_label_cannot_be_trained_on(tmp_path: Path, where: str) -> None:
    train = records(10)
    train[0 if where == "train" else 9]["label"] = -1
    line = 1 if where == "train" else 10
    with pytest.raises(DataError, match=rf"cannot be trained on(.|\n)*one/copa_train.jsonl:{line}: no label"):
        material([data_set(tmp_path / "one", train, records(5))], COPA, config())


def test_a_record_without_a_label_is_named_in_the_file_that_holds_it(tmp_path: Path) -> None:
    other = [record | {"label": -1} for record in records(30)]
    data = [data_set(tmp_path / "one", records(10), records(5)), data_set(tmp_path / "two", other, None)]
    with_blanks = data[1].train_file.read_text().replace("\n", "\n\n")
    data[1].train_file.write_text(with_blanks)
    with pytest.raises(DataError) as refused:
        material(data, COPA, config())
    places = [each.where for each in refused.value.problems]
    assert places == [*(f"{data[1].train_file}:{line}" for line in range(1, 40, 2)), str(data[1].train_file)]
    assert refused.value.problems[-1].what == "and 8 more"


def test_the_tail_of_a_second_data_set_needs_no_labels(tmp_path: Path) -> None:
    other = [record | {"label": -1 if at >= 8 else 0} for at, record in enumerate(records(10))]
    data = [data_set(tmp_path / "one", records(10), records(5)), data_set(tmp_path / "two", other, None)]
    assert material(data, COPA, config()).shares[1] == Share(10, 8, 8)


def test_without_any_label_there_is_nothing_to_evaluate_on(tmp_path: Path) -> None:
    validation = [record | {"label": -1} for record in records(3)]
    with pytest.raises(DataError, match=r"nothing to evaluate on(.|\n)*copa_validation.jsonl: no record has a label"):
        material([data_set(tmp_path / "one", records(10), validation)], COPA, config())


def test_a_majority_is_that_of_training(tmp_path: Path) -> None:
    ones = [record | {"label": 1} for record in records(10)]
    found = material([data_set(tmp_path / "one", ones, records(5))], COPA, config())
    assert found.majority_accuracy() == 0.4


def test_of_two_majorities_the_first_answer_counts(tmp_path: Path) -> None:
    assert made(tmp_path, num_train=8).majority_accuracy() == 0.6


def changed(tmp_path: Path, split: str, number: int, **values: Any) -> Material:
    splits = {"train": records(10), "validation": records(5)}
    splits[split][number] |= values
    return material([data_set(tmp_path / "changed", splits["train"], splits["validation"])], COPA, config())


def test_the_digest_is_known(tmp_path: Path) -> None:
    found = made(tmp_path)
    assert found.digest() == "e0677a538eb8d41ad5765fda6382d638e85e215f1466bd20d4250a4a7f71cd69"
    assert found.evaluation_digest() == "d87cf885607e2190c2ad0524176a8efd4aa140b96d70b8973967b0abd15dd6b3"


@pytest.mark.parametrize(
    ("split", "number", "values", "counts", "is_measured"),
    [
        ("train", 0, {"premise": "Another 0 0 0 0 one."}, True, False),
        ("train", 9, {"label": 0}, True, False),
        ("validation", 4, {"choice1": "Other."}, True, True),
        ("validation", 4, {"label": 1}, True, True),
        ("train", 0, {"idx": 77}, False, False),
    ],
)
def test_another_question_is_another_digest(
    tmp_path: Path, split: str, number: int, values: dict[str, Any], *, counts: bool, is_measured: bool
) -> None:
    before, after = made(tmp_path), changed(tmp_path, split, number, **values)
    assert (after.digest() != before.digest()) is counts
    assert (after.evaluation_digest() != before.evaluation_digest()) is is_measured


def test_the_order_and_the_split_count(tmp_path: Path) -> None:
    before = made(tmp_path)
    reversed_ = data_set(tmp_path / "reversed", records(10)[::-1], records(5))
    moved = data_set(tmp_path / "moved", records(10), records(5))
    assert material([reversed_], COPA, config()).digest() != before.digest()
    assert material([moved], COPA, config(num_dev=3)).digest() != before.digest()
    assert material([moved], COPA, config()).digest() == before.digest()


def test_the_prompts_count(tmp_path: Path) -> None:
    record = {"premise": "It rained.", "hypothesis": "It was wet.", "label": 0}
    data = [data_set(tmp_path / "rte", [record] * 3, [record])]
    styles = [material(data, TASKS["RTE"], config(style=style)).digest() for style in ("llama", "mezo_paper")]
    assert styles[0] != styles[1]
    assert read(data[0].train_file, TASKS["RTE"]) == [record] * 3
