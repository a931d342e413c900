"""Reads source data sets: the records to rephrase line by line, the other splits byte for byte."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.sources import hub
from pipeline.sources.lines import dump, is_file, read_json, read_lines, unreadable
from pipeline.specs import DatasetSpec
from tracker.errors import DataError, Problem
from tracker.fingerprint import Json, bytes_digest, canonical_json, identify
from tracker.paths import name_problem

TRAIN = "train"
SPLITS = (TRAIN, "validation", "test")
_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")
_SHOWN = 20


@dataclass(frozen=True)
class Split:
    """One split: ``content`` are the bytes of one that is copied, ``origin`` the file that it was read from."""

    name: str
    filename: str
    digest: str
    n_records: int
    n_bytes: int
    content: bytes | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Source:
    """A source data set as read: the records to rephrase and every split's digest."""

    name: str
    task_name: str
    origin: str
    lines: tuple[str, ...]
    splits: tuple[Split, ...]
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 over name, stem, file names and content of all splits."""
        splits = {split.name: [split.filename, split.digest] for split in self.splits}
        return identify("source_dataset", {"name": self.name, "task_name": self.task_name, "splits": splits}).digest

    @cached_property
    def records(self) -> tuple[dict[str, Json], ...]:
        return tuple(json.loads(line) for line in self.lines)


def read_source(dataset: DatasetSpec, field: str, find: Callable[[str], Path]) -> Source:
    """The source data set that ``dataset`` describes; every record has text in ``field``.

    ``find`` makes a path of what a config says. Raises DataError with every problem, with file and line.
    """
    if dataset.hub is not None:
        return _from_hub(dataset, field)
    path = find(dataset.input_path or str(Path(dataset.original_dir or ".") / str(dataset.files.train)))
    _check_file(path)
    name = dataset.dataset_name or path.resolve().parent.name
    stem, suffix = _parts(path)
    task_name = dataset.task_name or stem.removesuffix("_train")
    lines = checked(read_lines(path), str(path), field, dataset.fields)
    directory = find(dataset.original_dir) if dataset.original_dir else path.parent
    splits = [_rephrased_split(lines, f"{stem}.jsonl", str(path))]
    missing = []
    for split in SPLITS[1:]:
        given = getattr(dataset.files, split)
        likely = [given] if given else [f"{task_name}_{split}{end}" for end in dict.fromkeys((suffix, *_SUFFIXES))]
        found = [directory / name for name in likely if is_file(directory / name)]
        other = found[0] if found else directory / likely[0]
        if found:
            splits.append(_copied_split(split, other))
        elif given is not None:
            raise DataError(
                "A split is missing.",
                [Problem(str(other), f"no such file (dataset.files.{split})")],
                hint="Correct dataset.files or dataset.original_dir.",
            )
        else:
            missing.append(f"{split} ({other})")
    _check_names(splits, str(path))
    warnings = tuple(_elsewhere(dataset, path.parent, directory))
    return Source(name, task_name, str(path), lines, tuple(splits), tuple(missing), warnings)


def _elsewhere(dataset: DatasetSpec, train: Path, others: Path) -> Iterator[str]:
    """A warning where ``input_path`` was changed, perhaps, and ``original_dir`` was not."""
    if dataset.input_path and dataset.original_dir and os.path.realpath(train) != os.path.realpath(others):
        yield (
            f"The train split lies in {train} (dataset.input_path), validation and test are looked for in {others} "
            f"(dataset.original_dir). If they belong together, set dataset.original_dir={train} too."
        )


def _rephrased_split(lines: Sequence[str], filename: str, origin: str | None = None) -> Split:
    digest = bytes_digest(f"{line}\n".encode() for line in lines)
    return Split(TRAIN, filename, digest, len(lines), sum(len(line.encode()) + 1 for line in lines), origin=origin)


def _copied_split(name: str, path: Path) -> Split:
    n_records = sum(1 for line in read_lines(path) if line.strip())
    content = path.read_bytes()
    return Split(
        name, path.name, bytes_digest([content]), n_records, len(content), zlib.compress(content, 6), str(path)
    )


def _check_names(splits: Sequence[Split], where: str) -> None:
    names = [split.filename for split in splits]
    problems = [
        Problem(where, f"the {split.name} split: {problem}")
        for split in splits
        if (problem := name_problem(split.filename)) is not None
    ]
    if problems:
        raise DataError(
            "A file name cannot be used in the directory of the synthetic data.",
            problems,
            hint="Rename the file, for example to data_train.jsonl.",
        )
    if len(set(names)) < len(names):
        raise DataError(
            "Two splits have the same file name.",
            [Problem(where, f"{', '.join(names)} would be one file in the directory of the synthetic data")],
            hint="Name them apart, for example data_train.jsonl and data_test.jsonl.",
        )


def checked(lines: Iterable[str], where: str, field: str, kept: Sequence[str] | None) -> tuple[str, ...]:
    """The records among ``lines``, reduced to the fields that are kept. Raises DataError with every bad line."""
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    fields: dict[str, None] = {}
    good = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        what = _line_problem(line, (field, *(kept or ())), number, seen, fields)
        if what is None:
            good.append(line)
        else:
            problems.append(Problem(f"{where}:{number}", what))
    if not good and not problems:
        problems.append(Problem(where, "no records"))
    if len(problems) > 1 and not good and field not in fields and {each.what for each in problems} == {_absent(field)}:
        # That is one wrong name in the config, not a wrong record in every line.
        close = get_close_matches(field, fields, n=1)
        advice = f"; did you mean {close[0]!r}?" if close else ""
        problems = [Problem(where, f"no record has a field {field!r} (generation.field_to_rephrase){advice}")]
    if kept is not None and field not in kept:
        problems.append(Problem(where, f"dataset.fields leaves out {field!r}, which is to be rephrased"))
    if problems:
        more = len(problems) - _SHOWN
        shown = [*problems[:_SHOWN], *([Problem(where, f"and {more} more")] if more > 0 else [])]
        hint = f"Fields of its records: {', '.join(fields)}." if fields else None
        raise DataError("The input data cannot be used.", shown, hint=hint)
    if kept is None:
        return tuple(good)
    return tuple(
        dump({name: value for name, value in json.loads(line).items() if name in kept}) for line in good
    )  # in the order of the file, as every field that is not rephrased stays


def _absent(field: str) -> str:
    return f"no field {field!r}"


def _line_problem(
    line: str, needed: Sequence[str], number: int, seen: dict[str, int], fields: dict[str, None]
) -> str | None:
    try:
        record = read_json(line)
    except ValueError as error:
        return f"not JSON: {error}"
    if not isinstance(record, dict):
        return f"a record is a JSON object, this is {type(record).__name__}"
    fields.update(dict.fromkeys(record))
    what = _field_problem(record, needed)
    if what is not None:
        return what
    if "\\u0000" in line and _holds_nul(record):
        return "the character U+0000, which no database and no model takes"
    if record.get("idx") is not None:
        # As text, so that 1 and 1.0 are one; most are whole numbers, of which this is the text already.
        given = record["idx"]
        first = seen.setdefault(str(given) if type(given) is int else canonical_json(given), number)
        if first != number:
            return f"idx {json.dumps(record['idx'])} was in line {first} already"
    return None


def _field_problem(record: dict[str, Json], needed: Sequence[str]) -> str | None:
    missing = [name for name in needed if name not in record]
    if missing:
        return _absent(missing[0])
    field = needed[0]
    text = record[field]
    return None if isinstance(text, str) and text.strip() else f"field {field!r} holds no text"


def _holds_nul(value: Json) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _holds_nul(item) for key, item in value.items())
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value


def _check_file(path: Path) -> None:
    if not path.name.endswith(_SUFFIXES):
        raise unreadable(path, f"expected a file that ends in {', '.join(_SUFFIXES)}")
    if not is_file(path):
        raise DataError(
            "The input data is missing.",
            [Problem(str(path), "not a file" if os.path.lexists(path) else "no such file")],
            hint="Correct dataset.input_path: absolute, or relative to the current directory or the workspace.",
        )


def _parts(path: Path) -> tuple[str, str]:
    suffix = next(suffix for suffix in _SUFFIXES if path.name.endswith(suffix))
    return path.name.removesuffix(suffix), suffix


def _from_hub(dataset: DatasetSpec, field: str) -> Source:
    """A data set of the hub through ``datasets``, whose own cache keeps the download."""
    import datasets

    hub.quiet()
    problem = ""
    for name, config in _hub_candidates(str(dataset.hub)):
        try:
            found = datasets.load_dataset(name, config)
            splits = {split: list(found[split]) for split in SPLITS if split in found}
            return source_of_splits(dataset, splits, field)
        except hub.errors() as error:
            problem = problem or str(error).partition("\n")[0] or type(error).__name__
    raise DataError(
        "The data set cannot be had from the hub.",
        [Problem(str(dataset.hub), problem)],
        hint="Check the name and the network, or give dataset.input_path, a local file.",
    )


def _hub_candidates(given: str) -> list[tuple[str, str | None]]:
    """What ``given`` can mean, the likeliest first: a directory, OWNER/NAME/CONFIG, OWNER/NAME or NAME/CONFIG, NAME."""
    first, slash, config = given.rpartition("/")
    if not slash or Path(given).is_dir():
        return [(given, None)]
    return [(first, config)] if "/" in first else [(given, None), (first, config)]


def source_of_splits(dataset: DatasetSpec, records: dict[str, list[Any]], field: str) -> Source:
    """The source data set made of records in memory, written the way ``datasets`` writes JSONL."""
    name, task_name = hub_names(dataset)
    if TRAIN not in records:
        raise DataError("The data set has no train split.", [Problem(str(dataset.hub), "no train split")])
    lines = checked(map(dump, records[TRAIN]), str(dataset.hub), field, dataset.fields)
    splits = [_rephrased_split(lines, f"{task_name}_train.jsonl")]
    for split in SPLITS[1:]:
        if split in records:
            content = "".join(f"{dump(record)}\n" for record in records[split]).encode()
            filename = f"{task_name}_{split}.jsonl"
            splits.append(
                Split(
                    split, filename, bytes_digest([content]), len(records[split]), len(content), zlib.compress(content)
                )
            )
    _check_names(splits, str(dataset.hub))
    missing = tuple(split for split in SPLITS[1:] if split not in records)
    return Source(name, task_name, hub_origin(dataset), lines, tuple(splits), missing)


def hub_names(dataset: DatasetSpec) -> tuple[str, str]:
    """The name and the file stem of a hub data set."""
    base = str(dataset.hub).rstrip("/").rsplit("/", 1)[-1]
    return dataset.dataset_name or base.capitalize(), dataset.task_name or base.lower()


def hub_origin(dataset: DatasetSpec) -> str:
    """What the record says of where a hub data set is from: its name, and the fields where not all are kept."""
    return f"hub:{dataset.hub}" + (f" ({', '.join(dataset.fields)})" if dataset.fields is not None else "")
