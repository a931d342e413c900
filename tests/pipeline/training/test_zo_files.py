"""Weights come back to the bit or not at all; an evaluation is kept whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.training.evaluate import Evaluation, Prediction
from pipeline.training.zo_files import Evaluations, digest, load, save
from tracker.errors import Corrupt, StorageError


def evaluation(loss: float) -> Evaluation:
    return Evaluation(loss, 0.5, 1, 2, [Prediction(0, 1, 1, (-1.25, -0.1)), Prediction(1, 0, 2, (-3.0, -2.0, -1 / 3))])


def weights() -> dict[str, torch.Tensor]:
    # Views of one buffer, as they are trained.
    flat = torch.linspace(-1, 1, 10)
    return {"matrix": flat[:6].view(2, 3), "bias": flat[6:]}


def test_evaluations_are_read_again(tmp_path: Path) -> None:
    evaluations = Evaluations(tmp_path / "evaluations")
    assert evaluations.best() is None
    given = {0: evaluation(2.0), 5: evaluation(0.1), 10: evaluation(0.1)}
    for step, each in given.items():
        evaluations.append(step, each)
    again = Evaluations(tmp_path / "evaluations")
    assert again.found == evaluations.found
    assert [(step, each.loss, each.accuracy, each.n_correct, each.n) for step, each in again.found.items()] == [
        (step, each.loss, each.accuracy, each.n_correct, each.n) for step, each in given.items()
    ]
    assert again.best() == 5


def test_predictions_are_kept_neither_on_the_disk_nor_in_memory(tmp_path: Path) -> None:
    path, few, many = tmp_path / "evaluations", evaluation(1.0), evaluation(1.0)
    many.predictions.extend(many.predictions * 100)
    evaluations = Evaluations(path)
    kept = [evaluations.append(step, each) for step, each in enumerate([few, many])]
    assert kept == list(evaluations.found.values())
    assert all(each.predictions == [] for each in kept)
    first, second = path.read_text().splitlines()
    assert len(first) == len(second)


@pytest.mark.parametrize("line", ["{", "[]", "3", "{}", '{"step": 1}', '{"step": null}', "\udcff"])
def test_a_damaged_evaluation_is_refused_in_words(tmp_path: Path, line: str) -> None:
    path = tmp_path / "evaluations"
    Evaluations(path).append(0, evaluation(2.0))
    with path.open("a", errors="surrogateescape") as file:
        file.write(f"{line}\n")
    with pytest.raises(Corrupt, match=r"evaluations:2 is no evaluation of this run") as refused:
        Evaluations(path)
    assert refused.value.hint == f"Remove {tmp_path} to train the run from its beginning."


def test_half_an_evaluation_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "evaluations"
    Evaluations(path).append(0, evaluation(2.0))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-1])
    torn = Evaluations(path)
    assert list(torn.found) == [0]
    torn.append(5, evaluation(1.0))
    assert list(Evaluations(path).found) == [0, 5]


def test_weights_come_back_to_the_bit(tmp_path: Path) -> None:
    given = weights()
    save(tmp_path / "weights", given)
    found = {name: torch.zeros_like(each) for name, each in given.items()}
    load(tmp_path / "weights", found)
    assert digest(found.items()) == digest(given.items())
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_other_or_torn_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    save(path, weights())
    with pytest.raises(Corrupt, match="does not hold the weights of this run"):
        load(path, {"other": torch.zeros(2)})
    with pytest.raises(Corrupt, match="does not hold the weights of this run"):
        load(path, {"bias": torch.zeros(3)})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Corrupt, match="does not hold the weights of this run"):
        load(path, weights())
    path.unlink()
    with pytest.raises(Corrupt, match="does not hold the weights of this run"):
        load(path, weights())


def test_a_place_that_takes_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        save(tmp_path / "file" / "weights", weights())
    with pytest.raises(StorageError, match="cannot be written"):
        Evaluations(tmp_path / "file" / "evaluations").append(0, evaluation(1.0))


def test_the_digest_is_of_names_types_shapes_and_numbers() -> None:
    ones = torch.ones(2, 3)
    same = {"a": ones}
    others = [
        {"b": ones}, {"a": ones.reshape(3, 2)}, {"a": ones.to(torch.bfloat16)}, {"a": -ones}, {"a": ones, "b": ones}
    ]  # fmt: skip
    assert digest(same.items()) == digest({"a": torch.ones(3, 2).T}.items())
    assert len({digest(each.items()) for each in [same, *others]}) == 6
