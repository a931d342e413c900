"""The questions that a training run learns from and is measured on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.sources.lines import read_lines
from pipeline.training import splits
from pipeline.training.data import DataSet, read
from pipeline.training.specs import TrainingConfig
from pipeline.training.tasks import Question, Record, Task
from tracker.errors import DataError, Problem
from tracker.fingerprint import bytes_digest, canonical_json

_SHOWN = 20


@dataclass(frozen=True)
class Share:
    """What a data set gives to the training records: ``n_train`` of its ``n_records``, from ``first_record`` on."""

    n_records: int
    first_record: int
    n_train: int


@dataclass(frozen=True)
class Material:
    """Questions to train on, to choose the checkpoint by, to measure on; ``eval_indices`` are records of the split."""

    train: tuple[Question, ...]
    dev: tuple[Question, ...]
    evaluation: tuple[Question, ...]
    eval_indices: tuple[int, ...]
    shares: tuple[Share, ...]

    def digest(self) -> str:
        """SHA-256 over every question: another prompt, record or order is another digest."""
        return bytes_digest(canonical_json(line).encode() for line in self._lines())

    def evaluation_digest(self) -> str:
        """SHA-256 over the questions that are measured on."""
        return bytes_digest(canonical_json(_plain(each)).encode() for each in self.evaluation)

    def _lines(self) -> Iterator[list[object]]:
        for name in ("train", "dev", "evaluation"):
            yield [name]
            yield from (_plain(question) for question in getattr(self, name))

    def majority_accuracy(self) -> float:
        """The accuracy of always giving the answer that is most frequent in training; the lowest of equals."""
        answers = [question.answer for question in self.train]
        most = min(set(answers), key=lambda answer: (-answers.count(answer), answer))
        return sum(question.answer == most for question in self.evaluation) / len(self.evaluation)


def material(data: Sequence[DataSet], task: Task, config: TrainingConfig) -> Material:
    """The questions of ``config`` (with its defaults filled in) on these data sets.

    Each data set gives its first ``num_train`` records before its tail; dev and validation records are the first one's.
    Raises DataError.
    """
    assert config.num_dev is not None
    train: list[Question] = []
    dev: list[Question] = []
    shares = []
    for at, each in enumerate(data):
        records = read(each.train_file, task)
        try:
            chosen, tail = splits.split_train(records, config.num_train, config.num_dev)
        except DataError as error:
            what = Problem(str(each.train_file), f"{len(records)} records")
            raise DataError(error.message, [what], hint=error.hint) from error
        used = [*chosen, *(tail if at == 0 else ())]
        _check_labels(each, [index for index in used if task.question(records[index], config.prompt_style).answer < 0])
        shares.append(Share(len(records), len(train), len(chosen)))
        train += _questions(task, [records[index] for index in chosen], config)
        if at == 0:
            dev = _questions(task, [records[index] for index in tail], config)
    assert data[0].eval_file is not None
    questions = _questions(task, read(data[0].eval_file, task), config)
    indices = splits.select_eval([question.answer for question in questions], config.num_eval)
    if not indices:
        raise DataError("There is nothing to evaluate on.", [Problem(str(data[0].eval_file), "no record has a label")])
    return Material(tuple(train), tuple(dev), tuple(questions[at] for at in indices), tuple(indices), tuple(shares))


def _check_labels(data: DataSet, unlabelled: Sequence[int]) -> None:
    if not unlabelled:
        return
    lines = [number for number, line in enumerate(read_lines(data.train_file), 1) if line.strip()]
    problems = [Problem(f"{data.train_file}:{lines[index]}", "no label (-1)") for index in unlabelled[:_SHOWN]]
    if len(unlabelled) > _SHOWN:
        problems.append(Problem(str(data.train_file), f"and {len(unlabelled) - _SHOWN} more"))
    raise DataError("Records without a label cannot be trained on.", problems)


def _questions(task: Task, records: Sequence[Record], config: TrainingConfig) -> list[Question]:
    return [task.question(record, config.prompt_style) for record in records]


def _plain(question: Question) -> list[object]:
    return [question.prompt, list(question.candidates), question.answer]
