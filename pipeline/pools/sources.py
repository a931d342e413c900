"""Reads benchmarks in full: from the hub or from local files, task by task, with all that its source has of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.pools.difficulty import Record
from pipeline.pools.specs import HUB, LOCAL, BenchmarkSpec
from pipeline.sources import hub
from pipeline.sources.lines import is_file, read_json, read_lines
from tracker.errors import DataError, Problem
from tracker.record.pool_files import source_digest

_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")
_SPLIT = "test"
_SHOWN = 20


@dataclass(frozen=True)
class Full:
    """A benchmark's full data: ``texts`` are the JSON of each task, ``parts`` what each is from (None: one part)."""

    texts: tuple[str, ...]
    parts: tuple[str | None, ...]

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """Each task, parsed."""
        return tuple(Record(json.loads(text), part) for text, part in zip(self.texts, self.parts, strict=True))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over parts and texts in their order."""
        return source_digest(zip(self.parts, self.texts, strict=True))


def read_full(name: str, spec: BenchmarkSpec, find: Callable[[str], Path]) -> Full:
    """The full data of a benchmark; ``find`` makes a path of what a config says. Raises DataError."""
    parts = _from_hub(spec) if spec.path.startswith(HUB) else _from_files(name, spec, find)
    texts: list[str] = []
    of: list[str | None] = []
    problems: list[Problem] = []
    for part, where, lines in parts:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                texts.append(_text(line))
            except ValueError as error:
                problems.append(Problem(f"{where}:{number}", str(error)))
            else:
                of.append(part)
    if not texts and not problems:
        problems = [Problem(spec.path, "no tasks")]
    if problems:
        more = [Problem("...", f"and {len(problems) - _SHOWN} more")] if len(problems) > _SHOWN else []
        raise DataError(f"The tasks of {name} cannot be used.", [*problems[:_SHOWN], *more])
    return Full(tuple(texts), tuple(of))


Part = tuple[str | None, str, Iterator[str] | Sequence[str]]


def _from_files(name: str, spec: BenchmarkSpec, find: Callable[[str], Path]) -> Iterator[Part]:
    path = find(spec.path.removeprefix(LOCAL))
    if _is_directory(path):
        for each in _of_directory(path, spec):
            yield _stem(each), str(each), read_lines(each)
    elif is_file(path):
        if not path.name.endswith(_SUFFIXES):
            raise DataError("A benchmark cannot be read.", [Problem(str(path), f"expected {', '.join(_SUFFIXES)}")])
        if spec.configs is not None:
            what = "one file has no parts; `configs` is for a directory"
            raise DataError("A benchmark cannot be read.", [Problem(str(path), what)])
        yield None, str(path), read_lines(path)
    else:
        raise DataError(
            f"The benchmark {name} is missing.",
            [Problem(str(path), "no such file or directory")],
            hint="Correct its path: absolute, or relative to the current directory or the workspace.",
        )


def _of_directory(path: Path, spec: BenchmarkSpec) -> list[Path]:
    try:
        files = sorted(each for each in path.iterdir() if each.name.endswith(_SUFFIXES))
    except OSError as error:
        raise DataError("A benchmark cannot be read.", [Problem(str(path), error.strerror or str(error))]) from error
    there: dict[str, Path] = {}
    twice = []
    for each in files:
        first = there.setdefault(_stem(each), each)
        if first is not each:
            twice.append(Problem(str(each), f"{first.name} has the same name but for its end"))
    if twice:
        raise DataError("Parts of a benchmark are there twice.", twice)
    wanted = list(there) if spec.configs is None else list(spec.configs)
    missing = [Problem(str(path), f"no file of {each!r}") for each in wanted if each not in there]
    if missing or not wanted:
        raise DataError("Parts of a benchmark are missing.", missing or [Problem(str(path), "no files of tasks")])
    return [there[each] for each in wanted]


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long or holds a NUL, a directory that may not be looked into
        return False


def _stem(path: Path) -> str:
    return path.name.removesuffix(next(each for each in _SUFFIXES if path.name.endswith(each)))


def _from_hub(spec: BenchmarkSpec) -> Iterator[Part]:
    """Through ``datasets``, whose own cache keeps the download."""
    name, config = _hub_name(spec.path.removeprefix(HUB))
    for part in spec.configs or (config,):
        yield (part if spec.configs else None), f"{name}/{part}" if part else name, _load(spec, name, part)


def _load(spec: BenchmarkSpec, name: str, part: str | None) -> list[str]:
    import datasets

    hub.quiet()
    try:
        rows = datasets.load_dataset(name, part, split=spec.split or _SPLIT)
        return [json.dumps(row, ensure_ascii=False) for row in rows]
    except hub.errors() as error:
        # What is wrong, and in the second line what there is instead.
        what = " ".join(str(error.__cause__ or error).split("\n")[:2]) or type(error).__name__
        raise DataError(
            "A benchmark cannot be had from the hub.",
            [Problem(f"{name}{f'/{part}' if part else ''}", what)],
            hint=f"Check the name and the network, or give `path: {LOCAL}PATH`, a local copy.",
        ) from error


def _hub_name(given: str) -> tuple[str, str | None]:
    """OWNER/NAME/CONFIG, OWNER/NAME or a directory, NAME/CONFIG of the hub's oldest data sets, NAME."""
    if _is_directory(Path(given)):
        return given, None
    parts = given.split("/")
    if len(parts) == 3:
        return "/".join(parts[:2]), parts[2]
    if len(parts) == 2 and parts[0] in _WITHOUT_OWNER:
        return parts[0], parts[1]
    return given, None


_WITHOUT_OWNER = frozenset({"gsm8k", "openai_humaneval"})


def _text(line: str) -> str:
    """One form of a task's JSON, so that a copy of the hub's data gives what the hub gives. Raises ValueError."""
    try:
        record = read_json(line)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"a task is a JSON object, this is {type(record).__name__}")  # noqa: TRY004  it is the data's
    return json.dumps(record, ensure_ascii=False)
