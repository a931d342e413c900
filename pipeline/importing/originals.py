"""The originals behind imported data, and the identity that `generate` would give to an older config."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.generation.plan import Plan, make_plan
from pipeline.importing.files import Kept
from pipeline.importing.records import read_records
from pipeline.importing.settings import OldSettings
from pipeline.importing.tree import RECORDS, Found, OldTree, is_directory
from pipeline.providers import resolve
from pipeline.sources.records import Source, Split, read_source
from pipeline.specs import DatasetSpec, ExperimentSpec, GenerationConfig
from tracker.configs import Document, validate
from tracker.errors import ConfigError, DataError
from tracker.fingerprint import Json
from tracker.paths import Workspace, name_problem, plain

_ORIGINALS = (("Data", "original"), ("Data_v2", "original"))
_LABELS = ("task_name", "training_method", "version")


@dataclass
class Originals:
    """Finds source data sets for a tree; what was read once is kept."""

    workspace: Workspace
    tree: OldTree
    cache: dict[tuple[str, str], Source | str] = field(default_factory=dict)

    def plan(self, settings: OldSettings, found: Found) -> Plan | str:
        """What `generate` would make of the experiment's config; or why it could make nothing of it."""
        data = _usable(settings)
        if isinstance(data, str):
            return data
        document = Document(data, settings.document.source, settings.document.places)
        try:
            config = resolve(validate(GenerationConfig, document), self.workspace.environ)
        except ConfigError as error:
            first = error.problems[0]
            return f"its config is not complete: {first.what} ({_line(first.where)})"
        if config.dataset.hub is not None:
            return "its original is on the hub, which an import does not ask"
        source = self.read(config.dataset, config.generation.field_to_rephrase, found)
        if isinstance(source, str) or (problem := name_problem(source.name)) is not None:
            return source if isinstance(source, str) else str(problem)
        try:
            return make_plan(config, document, source)
        except ConfigError as error:
            return f"its prompts do not fit its original: {error.problems[0].what}"

    def read(self, dataset: DatasetSpec, text_field: str, found: Found) -> Source | str:
        """The source data set that a config means, from where this tree or the workspace has it; or why not."""
        key = (f"{dataset.model_dump_json()} {found.dataset}", text_field)
        if key not in self.cache:
            self.cache[key] = self._read(dataset, text_field, found)
        return self.cache[key]

    def by_name(self, found: Found) -> Path | None:
        """The train file of the original of a data set, by the data set's name."""
        for top in self._tops():
            for directory in (each for each in _sorted(top) if each.name.lower() == found.dataset.lower()):
                for file in _sorted(directory):
                    matched = RECORDS.match(file.name)
                    if matched is not None and matched["split"].lower() == "train" and self._allowed(file):
                        return file
        return None

    def guess(self, found: Found, text_field: str) -> Source | str:
        """The original of a data set by the data set's name; or why there is none."""
        path = self.by_name(found)
        if path is None:
            return f"no original of {found.dataset} was found"
        return self.read(DatasetSpec(input_path=str(path), dataset_name=found.dataset), text_field, found)

    def _read(self, dataset: DatasetSpec, text_field: str, found: Found) -> Source | str:
        def find(given: str) -> Path:
            return next(self._candidates(given, found), Path(given))

        given = dataset.input_path or str(Path(dataset.original_dir or ".") / str(dataset.files.train))
        if next(self._candidates(given, found), None) is None:
            return f"its original {given} was not found"
        try:
            return read_source(dataset, text_field, find)
        except DataError as error:
            first = error.problems[0]
            return f"its original cannot be used: {first.what} ({_line(first.where)})"
        except (ConfigError, OSError, ValueError) as error:
            return f"its original cannot be read: {str(error).partition(chr(10))[0]}"

    def _candidates(self, given: str, found: Found) -> Iterator[Path]:
        """Files and directories that ``given`` could mean, of those that an import may look into."""
        path = Path(given)
        for base in dict.fromkeys((self.tree.project, self.tree.top, self.workspace.root)):
            if self._allowed(base / path):
                yield plain(base / path)
        for top in self._tops():
            for tail in (Path(*path.parts[-2:]), Path(found.dataset) / path.name, Path(path.name)):
                if path.name and self._allowed(top / tail):
                    yield top / tail

    def _tops(self) -> list[Path]:
        inside = [self.tree.project.joinpath(*parts) for parts in _ORIGINALS]
        return [each for each in dict.fromkeys([*inside, self.workspace.original_dir]) if is_directory(each)]

    def _allowed(self, path: Path) -> bool:
        """Whether ``path`` is there, in the project or in what is the workspace's own."""
        try:
            real = Path(os.path.realpath(path))
            tops = [self.tree.project, self.workspace.root, self.workspace.original_dir]
            return os.path.lexists(real) and any(real.is_relative_to(os.path.realpath(top)) for top in tops)
        except (OSError, ValueError):
            return False


def splits_alone(name: str, task_name: str, data: dict[str, Kept]) -> Source:
    """A source data set of which only the splits are known that its synthetic data came with."""
    splits = [copied_split(split, data[split]) for split in ("validation", "test") if split in data]
    return Source(name, task_name, "unknown", (), tuple(splits))


def copied_split(split: str, file: Kept) -> Split:
    """A split that was copied from the original, as the record stores it."""
    import zlib

    n_records = read_records(file).n_lines
    return Split(split, file.name, file.digest, n_records, len(file.content), zlib.compress(file.content, 6))


def _usable(settings: OldSettings) -> dict[str, Json] | str:
    """The parts of an older config that `generate` knows; or which setting it does not know."""
    if settings.section("generation") is None:
        return "nothing says how it was made: no generation section in its config or metadata"
    data = {name: value for name, value in settings.document.data.items() if name in {"generation", "validation"}}
    for name in _LABELS:
        if isinstance(settings.document.data.get(name), (str, int, float)):
            data[name] = settings.document.data[name]
    dataset = settings.section("dataset") or {}
    data["dataset"] = {name: value for name, value in dataset.items() if name in DatasetSpec.model_fields}
    about: dict[str, Json] = {name: getattr(settings, name) for name in ("purpose", "description")}
    data["experiment"] = {
        name: value
        for name, value in about.items()
        if value and name in ExperimentSpec.model_fields and (name != "purpose" or name_problem(value) is None)
    }
    return data


def _sorted(directory: Path) -> Sequence[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _line(where: str) -> str:
    return where.rpartition("/")[2]
