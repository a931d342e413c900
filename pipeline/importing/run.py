"""Imports a tree of the older layout: every experiment, every batch link, and the results of its trainings."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.generation.execution import register
from pipeline.generation.job import has_record
from pipeline.importing.experiments import Prepared, prepare
from pipeline.importing.files import Kept, read_directory
from pipeline.importing.forecast import Forecast
from pipeline.importing.keys import lines_with_keys
from pipeline.importing.originals import Originals
from pipeline.importing.report import DataFound, Report
from pipeline.importing.resolve import DataPaths
from pipeline.importing.settings import OldSettings, moment, read
from pipeline.importing.tree import BATCH_LINK, EXPERIMENT, Found, OldTree, scan
from tracker.errors import Corrupt
from tracker.migrations import SCHEMA_VERSION
from tracker.paths import Workspace, name_problem
from tracker.record import legacy
from tracker.record.catalogue import Reader, Row, reading, sqlite_version
from tracker.record.content import FINGERPRINT
from tracker.record.imported import (
    COPIED,
    DIFFERENT,
    EDITED,
    KNOWN,
    MOVED,
    TAKEN,
    UNFINISHED,
    Put,
)
from tracker.views import synthetic_view

if TYPE_CHECKING:
    from tracker.record.database import Database
    from tracker.record.imports import WantedBatch

LITERAL_KEY, OLD_FINGERPRINT, SETTINGS = "literal key", "fingerprint", "settings"
_DAY = re.compile(r"(?<!\d)(?:19|20)\d{6}(?!\d)")
Progress = Callable[[int, int], None]


@dataclass
class TreeImport:
    """One import under way; without a ``database`` nothing is written."""

    workspace: Workspace
    tree: OldTree
    report: Report
    copy: bool = False
    database: Database | None = None
    import_run_id: int | None = None
    own: Mapping[tuple[str, str], Row] = field(default_factory=dict)
    """Experiments whose directories the view writes, by data set and name."""
    reader: Reader | None = None
    """Of the record that there is, where nothing is written."""
    ids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.forecast = Forecast(self.workspace.root, self.reader)
        self.originals = Originals(self.workspace, self.tree)
        self.paths = DataPaths(self.workspace, self.tree)

    def take(self, found: Found) -> None:
        """Takes one experiment, or says why not."""
        shown = self.tree.shown(found.directory)
        own = self._own(found)
        if own is not None:
            self._tell_own(found, own, shown)
            return
        directory = read_directory(self.tree, found.directory, found.dataset, self.report)
        settings = read(found, directory.settings)
        for where, what in settings.problems:
            self.report.wrong(SETTINGS, self._shown(where), what)
        for where in (*settings.secrets, *_unparsed(directory.settings.values(), settings.secrets), *directory.secrets):
            what = f"holds a literal API key: {where}; it was not imported. Revoke it, and take it out of the file"
            self.report.wrong(LITERAL_KEY, shown, what)
        self._check_fingerprint(found, settings)
        if "train" not in directory.data:
            self.report.wrong(EXPERIMENT, shown, "no data: no file whose name ends in train.jsonl; left out")
            return
        prepared = prepare(self.originals, found, directory, settings)
        for problem in prepared.problems:
            self.report.wrong(
                "data", f"{shown}/{problem.partition(': ')[0]}", f"{problem.partition(': ')[2]}; kept as it is"
            )
        done = self._put(prepared, settings)
        if done is not None and done.outcome == DIFFERENT:
            reference = f"{prepared.dataset}/{done.name} ({done.fingerprint})"
            apart = f"another draw; {reference} has the same settings and other data"
            prepared = prepare(self.originals, found, directory, settings, apart=apart)
            done = self._put(prepared, settings)
        if done is not None:
            self._tell(prepared, done, shown)
            self.ids.append(done.experiment_id)
            if done.outcome != EDITED:
                self._remember(prepared, done)

    def _check_fingerprint(self, found: Found, settings: OldSettings) -> None:
        generation, validation = settings.section("generation"), settings.section("validation")
        derived = legacy.fingerprint(generation, validation) if generation is not None else None
        for name, recorded in settings.recorded.items():
            if derived is not None and recorded != derived:
                what = f"{recorded} is recorded, its settings give {derived}: made by other settings, or edited; "
                self.report.wrong(OLD_FINGERPRINT, f"{self.tree.shown(found.directory)}/{name}", f"{what}kept as found")

    def _put(self, prepared: Prepared, settings: OldSettings) -> Put | None:
        """Writes an experiment, or foresees what that would do; None where it cannot be, which is reported."""
        old = settings.recorded.get(FINGERPRINT) or next(iter(settings.recorded.values()), None)
        directory = None if self.copy else self._place(prepared.found)
        if self.database is None:
            return self.forecast.put(prepared, old, directory)
        from tracker.record.imports import WantedImport, put

        assert self.import_run_id is not None
        wanted = WantedImport(
            prepared.identity, prepared.dataset, prepared.found.name, register(self.database, prepared.source),
            self._batches(prepared, settings), prepared.columns, prepared.samples, prepared.files, self.import_run_id,
            old, directory, prepared.known,
        )  # fmt: skip
        try:
            return put(self.database, wanted)
        except Corrupt as error:
            self.report.wrong(EXPERIMENT, self.tree.shown(prepared.found.directory), f"{error.message} Left out")
            return None

    def _tell(self, prepared: Prepared, done: Put, shown: str) -> None:
        reference = f"{prepared.dataset}/{done.name} ({done.fingerprint})"
        told: dict[str, tuple[Callable[[str, str, str, str | None], None], str]] = {
            TAKEN: (self.report.taken, _as_what(prepared, reference)),
            KNOWN: (self.report.known, _known_as(prepared.found, reference, done.name)),
            MOVED: (self.report.taken, f"{reference} is in the record; its directory is here now"),
            COPIED: (self.report.taken, f"{reference} is in the record; copied into the workspace's tree"),
            EDITED: (self.report.wrong, f"{reference} had other data here when it was imported: not taken"),
            UNFINISHED: (self.report.skipped, f"{reference} is being made here, or was left unfinished: not taken"),
        }  # fmt: skip
        say, what = told[done.outcome]
        say(EXPERIMENT, shown, what, done.fingerprint if done.outcome not in {EDITED, UNFINISHED} else None)
        self._tell_links(prepared.found, done, reference)

    def _tell_links(self, found: Found, done: Put, reference: str) -> None:
        for batch in found.batches if done.outcome not in {UNFINISHED, EDITED} else ():
            say = self.report.taken if batch in done.joined else self.report.known
            say(BATCH_LINK, f"{batch}/{found.dataset}/{found.name}", reference)

    def _own(self, found: Found) -> Row | None:
        """The experiment whose directory the view itself has written here."""
        row = self.own.get((found.dataset, found.name))
        place = self.workspace.experiment_dir(found.dataset, found.name)
        return row if row is not None and os.path.realpath(place) == os.path.realpath(found.directory) else None

    def _tell_own(self, found: Found, row: Row, shown: str) -> None:
        reference = f"{row['dataset']}/{row['name']} ({row['fingerprint']})"
        self.report.known(EXPERIMENT, shown, f"{reference} is this workspace's own")
        done = Put(KNOWN, row["id"], row["fingerprint"], row["name"])
        self._tell_links(found, done, reference)
        data = DataFound(
            row["id"], row["fingerprint"], row["dataset"], row["name"], str(found.directory), row["data_digest"],
            row["eval_digest"], row["n_records"],
        )  # fmt: skip
        self.paths.add(found.directory, found.batches, data)

    def _remember(self, prepared: Prepared, done: Put) -> None:
        found = prepared.found
        data = DataFound(
            done.experiment_id if self.database is not None else None, done.fingerprint, prepared.dataset, done.name,
            str(found.directory), prepared.train.digest,
            None if prepared.evaluation is None else prepared.evaluation.digest, prepared.columns["n_records"],
        )  # fmt: skip
        self.paths.add(found.directory, found.batches, data)

    def _batches(self, prepared: Prepared, settings: OldSettings) -> list[WantedBatch]:
        """The batches of an experiment, the one that first made it before the others."""
        from tracker.record.imports import WantedBatch

        named = prepared.found.batches
        original = settings.batch if settings.batch and name_problem(settings.batch) is None else None
        there = original in named or (original is not None and not self.tree.has_batches)
        if original is None:
            original, there = (named[0] if named else batch_for(prepared.purpose)), True
        made = prepared.created_at if original == settings.batch else _made(original, prepared.created_at)
        first = WantedBatch(original, prepared.purpose, made, is_there=there)
        rest = [
            WantedBatch(each, prepared.purpose, _made(each, prepared.created_at)) for each in named if each != original
        ]
        return [first, *rest]

    def _place(self, found: Found) -> str:
        return place_of(self.workspace, found.directory, found.dataset)

    def _shown(self, where: str) -> str:
        return where.removeprefix(f"{self.tree.top}{os.sep}")


def import_tree(
    workspace: Workspace, top: Path, *, command: str, dry_run: bool = False, copy: bool = False,
    progress: Progress = lambda _done, _of: None,
) -> Report:  # fmt: skip
    """Takes what lies below ``top`` into the record; gives what was taken, known, skipped and found wrong.

    The tree itself is only read. Each experiment is one transaction: what was killed goes on where it stopped. With
    ``copy`` the workspace's view holds the data too, else it stays where it is. Raises DataError where ``top`` is
    nothing of the older layout.
    """
    report = Report()
    tree = scan(Path(os.path.abspath(top)), report)  # noqa: PTH100  resolve() would follow links
    if dry_run:
        _foresee(workspace, tree, report, copy=copy, progress=progress)
        return report
    from tracker.record import imports
    from tracker.record.database import open_database

    with open_database(workspace) as database:
        run_id = imports.begin(database, "tree", str(tree.top), command)
        with reading(workspace) as reader:
            own = _own_experiments(reader)
        job = TreeImport(workspace, tree, report, copy, database, run_id, own=own)
        _take_all(job, progress)
        counts = {outcome: report.count(outcome) for outcome in ("taken", "skipped", "wrong")}
        imports.finish(database, run_id, **counts, report=report.to_json()["items"])
    with reading(workspace) as reader:
        synthetic_view.refresh(workspace, reader, job.ids)
    return report


def batch_for(purpose: str) -> str:
    """The batch of what was imported without one."""
    name = f"imported_{purpose}"
    return name if name_problem(name) is None else "imported"


def _made(batch: str, earliest: str) -> str:
    """When a batch was made: the day in its name, else when the first of its experiments was.

    The times of directories and links are those of the last copy.
    """
    for digits in _DAY.findall(batch):
        day = moment(digits)
        if day is not None:
            return day
    return earliest


def _unparsed(files: Iterable[Kept], found: Sequence[str]) -> Iterator[str]:
    """Where literal keys stand in files of which no value could say so."""
    for kept in files:
        for line in lines_with_keys(kept.content.decode("utf-8", "replace")):
            where = f"{kept.path}:{line}"
            if not any(each.startswith(f"{where} ") for each in found):
                yield where


def place_of(workspace: Workspace, home: Path, dataset: str) -> str:
    """What ``directory`` says of an experiment that stays at ``home``."""
    real = os.path.realpath(home)
    own = workspace.experiment_dir(dataset, home.name)
    if real == os.path.realpath(own):
        return workspace.relative(own)
    root = os.path.realpath(workspace.root)
    return os.path.relpath(real, root) if real.startswith(f"{root}{os.sep}") else real


def _take_all(job: TreeImport, progress: Progress) -> None:
    from pipeline.importing.results import take_results

    total = len(job.tree.experiments)
    for number, found in enumerate(job.tree.experiments):
        progress(number, total)
        job.take(found)
    if total:
        progress(total, total)
    if job.tree.results is not None:
        take_results(job.workspace, job.database, job.tree.results, job.paths.resolve, job.import_run_id, job.report)


def _foresee(workspace: Workspace, tree: OldTree, report: Report, *, copy: bool, progress: Progress) -> None:
    # A reader would bring an older database up to date, and nothing at all is to be written.
    older = workspace.database_url is None and has_record(workspace) and sqlite_version(workspace) < SCHEMA_VERSION
    if not has_record(workspace) or older:
        _take_all(TreeImport(workspace, tree, report, copy), progress)
        return
    with reading(workspace) as reader:
        job = TreeImport(workspace, tree, report, copy, own=_own_experiments(reader), reader=reader)
        _take_all(job, progress)


def _own_experiments(reader: Reader) -> dict[tuple[str, str], Row]:
    rows = reader.rows(
        """SELECT e.id, e.fingerprint, e.dataset, e.name, e.data_digest, e.n_records,
                  (SELECT p.digest FROM source_split p WHERE p.source_dataset_id = e.source_dataset_id
                   AND p.split = 'validation') AS eval_digest
           FROM shared_experiment e WHERE e.directory IS NULL AND e.status <> 'unfinished'"""
    )
    return {(row["dataset"], row["name"]): row for row in rows}


def _known_as(found: Found, reference: str, name: str) -> str:
    same = name == found.name or name.startswith(f"{found.name}_")
    return f"{reference} is in the record" if same else f"the same as {reference}, which is in the record"


def _as_what(prepared: Prepared, reference: str) -> str:
    columns = prepared.columns
    said = f"{reference}: {columns['n_records']:,} records"
    if prepared.samples:
        said += f", {columns['n_accepted']:,} rephrased, {columns['n_rejected']:,} kept as they were"
    return said if prepared.why is None else f"{said}; {prepared.why}"
