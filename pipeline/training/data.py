"""The data that a config's path means: which files, whose experiment, and their records.

A path of the synthetic tree is looked up in the record and brought up to date on the disk. Any other directory is taken
as it is; where its training file is, byte for byte, that of an experiment (a published copy), it is that experiment's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.sources.lines import read_lines
from pipeline.training.specs import DataSpec
from pipeline.training.tasks import Record, Task, check
from tracker.errors import ConfigError, Corrupt, DataError, Problem, UnknownReference, WrongStep
from tracker.fingerprint import bytes_digest
from tracker.listings import references
from tracker.paths import SHARED, Workspace
from tracker.record import imported
from tracker.record.catalogue import Reader, Row
from tracker.views import synthetic_view

TRAIN, VALIDATION = "train", "validation"
ORIGINAL = "original"
_ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".parquet")
_SHOWN = 20
_EXPERIMENT = """
    SELECT e.id, e.fingerprint, e.dataset, e.name, e.status, e.data_digest, e.record_limit, e.source_dataset_id,
           e.import_run_id, e.directory
    FROM shared_experiment e WHERE e.id = :id"""
# Of several with the same data the one that was published there. Not one that rephrased nothing: it has the data of its
# source, and no part in it.
_MADE = """
    SELECT e.id FROM shared_experiment e WHERE e.data_digest = :digest AND NOT EXISTS
        (SELECT 1 FROM source_split p WHERE p.source_dataset_id = e.source_dataset_id AND p.digest = e.data_digest)
    ORDER BY COALESCE((SELECT MAX(p.id) FROM publication p WHERE p.shared_experiment_id = e.id
                       AND p.directory = :directory), 0) DESC, e.id LIMIT 1"""
_SOURCE = """
    SELECT d.name FROM source_split p JOIN source_dataset d ON d.id = p.source_dataset_id
    WHERE p.digest = :digest AND p.split = 'train' ORDER BY d.id LIMIT 1"""
_REPHRASED = """
    SELECT COUNT(*) AS n FROM sample
    WHERE shared_experiment_id = :id AND position >= :first AND status = 'accepted' AND rephrased <> original"""


@dataclass(frozen=True)
class DataSet:
    """A data set as it lies on the disk; digests are SHA-256 of the files' bytes.

    ``experiment`` is its row where it is one of ours, ``batch_id`` the batch whose link named it.
    """

    given: str
    directory: Path
    dataset: str
    name: str
    train_file: Path
    eval_file: Path | None
    train_digest: str
    eval_digest: str | None
    experiment: Row | None = None
    batch_id: int | None = None
    batches: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str | None:
        return None if self.experiment is None else str(self.experiment["fingerprint"])


def resolve(workspace: Workspace, reader: Reader | None, spec: DataSpec, task: Task, where: str) -> list[DataSet]:
    """The data sets that ``spec`` names, the first of them with validation records; ``where`` is the config's place.

    ``reader`` is None where there is no record yet. Raises UnknownReference, DataError, ConfigError, WrongStep (an
    experiment that is not finished) or Corrupt (files that are not what the record says).
    """
    given = [spec.path] if spec.path is not None else list(spec.paths or ())
    if spec.type is not None:
        given = _of_type(workspace, reader, spec.type, task, where)
    found = [_resolve(workspace, reader, path, task) for path in given]
    if found[0].eval_file is None:
        raise DataError(
            "There is nothing to evaluate on.",
            [Problem(str(found[0].directory), "no validation split: a file whose name ends in validation.jsonl")],
        )
    twice = [each.given for at, each in enumerate(found) if each.train_digest in {e.train_digest for e in found[:at]}]
    if twice:
        raise ConfigError("A mix holds the same data twice.", [Problem(where, f"data.paths: {each}") for each in twice])
    return found


def read(file: Path, task: Task) -> list[Record]:
    """The records of a split. Raises DataError with every line that does not fit the task."""
    problems: list[Problem] = []
    numbered: list[tuple[int, Record]] = []
    for number, line in enumerate(read_lines(file), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            problems.append(Problem(f"{file}:{number}", f"not JSON: {error}"))
            continue
        if isinstance(record, dict):
            numbered.append((number, record))
        else:
            problems.append(Problem(f"{file}:{number}", f"a record is a JSON object, this is {type(record).__name__}"))
    problems += check(task, numbered, str(file))
    if not numbered and not problems:
        problems.append(Problem(str(file), "no records"))
    if problems:
        more = len(problems) - _SHOWN
        shown = [*problems[:_SHOWN], *([Problem(str(file), f"and {more} more")] if more > 0 else [])]
        raise DataError(f"The data does not fit task {task.name}.", shown)
    return [record for _, record in numbered]


def rephrased_tail(reader: Reader, data: DataSet, num_dev: int, n_records: int) -> int:
    """How many of the last ``num_dev`` training records an experiment rephrased."""
    if data.experiment is None:
        return 0
    return int(reader.rows(_REPHRASED, id=data.experiment["id"], first=n_records - num_dev)[0]["n"])


def _resolve(workspace: Workspace, reader: Reader | None, path: str, task: Task) -> DataSet:
    found = None
    if reader is not None:
        try:
            found = references.find(reader, workspace, path)
        except UnknownReference as error:
            if not os.path.lexists(workspace.find(path)):
                error.hint = "\n".join(filter(None, [error.hint, "There is no such directory either."]))
                raise
    # What is at an older place may have been changed since: it is read as it is, and known by its digest.
    is_there = found is not None and found.is_older and os.path.lexists(workspace.find(path))
    if reader is not None and found is not None and not is_there:
        return _experiment(workspace, reader, found, path)
    return _directory(workspace, reader, path, task)


def _experiment(workspace: Workspace, reader: Reader, found: references.Found, path: str) -> DataSet:
    row = reader.rows(_EXPERIMENT, id=found.id)[0]
    reference = f"{row['dataset']}/{row['name']}"
    if row["status"] == "unfinished" or row["data_digest"] is None:
        raise WrongStep(
            f"{reference} is not finished: there is nothing to train on yet.",
            hint=f"`synthtrack experiment show {reference}` says what is missing, and the command that makes it.",
        )
    splits, home = imported.splits(reader, row), imported.home_in_place(workspace, row)
    files = {name: home / splits[name]["path"] for name in (TRAIN, VALIDATION) if name in splits}
    recorded = {name: str(splits[name]["digest"]) for name in files}
    directory = files[TRAIN].parent
    # Before the tree is brought up to date, which would put a changed file aside without a word.
    _check(workspace, reference, {file: recorded[name] for name, file in files.items() if file.exists()})
    synthetic_view.refresh(workspace, reader, [found.id])
    _check(workspace, reference, {file: recorded[name] for name, file in files.items()})
    batch = reader.rows("SELECT id FROM batch WHERE name = :name", name=found.batch) if found.batch else []
    return DataSet(
        path, directory, row["dataset"], row["name"], files[TRAIN], files.get(VALIDATION), recorded[TRAIN],
        recorded.get(VALIDATION), row, batch[0]["id"] if batch else None, _batches(reader, found.id),
    )  # fmt: skip


def _check(workspace: Workspace, reference: str, recorded: Mapping[Path, str]) -> None:
    for file, digest in recorded.items():
        found = _digest(file)
        if found != digest:
            raise Corrupt(
                f"{workspace.relative(file)} is not what the record says of {reference} (SHA-256 {found[:12]}, "
                f"recorded {digest[:12]}): it was changed after it was made.",
                hint="`synthtrack verify` checks everything; `synthtrack view rebuild` brings the recorded data back.",
            )


def _directory(workspace: Workspace, reader: Reader | None, path: str, task: Task) -> DataSet:
    given = workspace.find(path)
    directory = _with_splits(given, task)
    train_file, eval_file = _split(directory, TRAIN), _split(directory, VALIDATION)
    if train_file is None:
        raise _no_train(given, path)
    train_digest = _digest(train_file)
    row = _known(reader, train_digest, workspace.relative(directory))
    dataset = directory.name if row is None else row["dataset"]
    if row is not None:
        name = row["name"]
    elif reader is not None and reader.rows(_SOURCE, digest=train_digest):
        name = ORIGINAL
    else:
        name = _name(workspace, directory, task)
    return DataSet(
        path, directory, dataset, name, train_file, eval_file, train_digest,
        None if eval_file is None else _digest(eval_file), row,
        batches=() if reader is None or row is None else _batches(reader, row["id"]),
    )  # fmt: skip


def _known(reader: Reader | None, digest: str, directory: str) -> Row | None:
    found = [] if reader is None else reader.rows(_MADE, digest=digest, directory=directory)
    return reader.rows(_EXPERIMENT, id=found[0]["id"])[0] if reader is not None and found else None


def _batches(reader: Reader, experiment_id: int) -> tuple[str, ...]:
    rows = reader.rows(
        """SELECT b.name FROM batch_membership m JOIN batch b ON b.id = m.batch_id
           WHERE m.shared_experiment_id = :id ORDER BY b.id""",
        id=experiment_id,
    )
    return tuple(row["name"] for row in rows)


def _with_splits(given: Path, task: Task) -> Path:
    """``given``, or the data set's directory below it."""
    if _split(given, TRAIN) is not None:
        return given
    below = [each for each in _entries(given) if _split(each, TRAIN) is not None]
    named = [each for each in below if each.name.lower() == task.name.lower()]
    return (named or (below if len(below) == 1 else [given]))[0]


def _split(directory: Path, split: str) -> Path | None:
    """The file of a split: `copa_train.jsonl`, `ARC-Challenge_train.jsonl`, `train.jsonl`. Raises DataError for two."""
    found = [each for each in _entries(directory) if _stem(each).endswith(split) and each.is_file()]
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise DataError(f"Two files could be the {split} split.", [Problem(str(directory), names)])
    return found[0] if found else None


def _entries(directory: Path) -> list[Path]:
    if not os.path.isdir(directory):  # noqa: PTH112  Path.is_dir raises for names that are too long
        return []
    try:
        return sorted(directory.iterdir())
    except OSError as error:
        raise _unreadable(directory, error) from error


def _stem(file: Path) -> str:
    """The name without its ending, in lower case; empty where it is hidden, or not a file of records."""
    endings = [] if file.name.startswith(".") else [each for each in _ENDINGS if file.name.endswith(each)]
    return file.name.removesuffix(endings[0]).lower() if endings else ""


def _name(workspace: Workspace, directory: Path, task: Task) -> str:
    """What a directory of splits is called in the results: `original`, or the name above the data set's directory."""
    real, original = Path(os.path.realpath(directory)), Path(os.path.realpath(workspace.original_dir))
    if real.is_relative_to(original):
        return ORIGINAL
    above = directory.absolute().parent.name
    is_dataset = directory.name.lower() == task.name.lower()
    return above if is_dataset and above not in {"", SHARED} else directory.name


def _no_train(given: Path, path: str) -> DataError:
    what = "no train split: a file whose name ends in train.jsonl"
    if not os.path.isdir(given):  # noqa: PTH112  Path.is_dir raises for names that are too long
        what = "not a directory" if os.path.lexists(given) else "no such directory"
    hint = "`synthtrack path list` prints the paths of all finished data, `--format yaml` ready for a config."
    return DataError("There is no data to train on.", [Problem(path, what)], hint=hint)


def _of_type(workspace: Workspace, reader: Reader | None, kind: str, task: Task, where: str) -> list[str]:
    """The paths that `data.type` of older configs means, by the labels that the data's config has."""
    original = str(workspace.original_dir / task.name)
    if kind == ORIGINAL:
        return [original]
    how, _, rest = kind.partition("_")
    if how not in {"synthetic", "mixed"} or rest.count("_") < 2:
        what = "expected original, synthetic_{method}_{model}_{version} or mixed_{method}_{model}_{version}"
        raise ConfigError("The data cannot be found.", [Problem(where, f"data.type {kind!r}: {what}")])
    found = [] if reader is None else [row for row in _labelled(reader, task) if _label(row) == rest]
    if not found:
        hint = "Name its directory with data.path; `synthtrack path list` prints the paths of all finished data."
        raise UnknownReference("data of type", kind, [], hint=hint)
    if len(found) > 1:
        names = ", ".join(f"{row['dataset']}/{row['name']}" for row in found)
        raise ConfigError(
            "The data is not clear.", [Problem(where, f"data.type {kind!r} could be {names}")], hint="Use data.path."
        )
    made = f"{found[0]['dataset']}/{found[0]['name']}"
    return [original, made] if how == "mixed" else [made]


def _labelled(reader: Reader, task: Task) -> Sequence[Row]:
    return reader.rows(
        """SELECT DISTINCT e.dataset, e.name, e.model, g.training_method, g.version
           FROM generation_run g JOIN shared_experiment e ON e.id = g.shared_experiment_id
           WHERE g.training_method IS NOT NULL AND g.version IS NOT NULL AND e.status <> 'unfinished'
             AND LOWER(e.dataset) = :dataset""",
        dataset=task.name.lower(),
    )


def _label(row: Mapping[str, str]) -> str:
    model = "".join(char for char in row["model"].rpartition("/")[2].lower() if char.isalnum())
    return f"{row['training_method']}_{model}_{row['version']}"


def _digest(file: Path) -> str:
    try:
        return bytes_digest([file.read_bytes()])
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError("The data cannot be read.", [Problem(str(path), error.strerror or str(error))])
