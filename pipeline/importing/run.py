"""Imports a tree of the older layout: every experiment, every batch link, and the results of its trainings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.execution import register
from pipeline.importing.experiments import Prepared, prepare
from pipeline.importing.files import Kept, read_directory
from pipeline.importing.keys import lines_with_keys
from pipeline.importing.originals import Originals
from pipeline.importing.report import DataFound, Report
from pipeline.importing.resolve import DataPaths
from pipeline.importing.settings import OldSettings, read
from pipeline.importing.tree import BATCH_LINK, EXPERIMENT, Found, OldTree, scan
from pipeline.job import has_record
from tracker import clock, legacy, view
from tracker.catalogue import Reader, Row, reading, sqlite_version
from tracker.content import FINGERPRINT
from tracker.errors import Corrupt
from tracker.migrations import SCHEMA_VERSION
from tracker.paths import Workspace, name_problem

if TYPE_CHECKING:
    from tracker.database import Database
    from tracker.imports import Put, WantedBatch

LITERAL_KEY, OLD_FINGERPRINT, SETTINGS = "literal key", "fingerprint", "settings"
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
    reader: Reader | None = None
    seen: dict[str, str] = field(default_factory=dict)
    ids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.originals = Originals(self.workspace, self.tree)
        self.paths = DataPaths(self.workspace, self.tree)

    def take(self, found: Found) -> None:
        """Takes one experiment, or says why not."""
        shown = self.tree.shown(found.directory)
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
        old = settings.recorded.get(FINGERPRINT) or next(iter(settings.recorded.values()), None)
        if self.database is None:
            self._foresee(prepared, shown)
        else:
            self._put(prepared, old, shown, settings)

    def _check_fingerprint(self, found: Found, settings: OldSettings) -> None:
        generation, validation = settings.section("generation"), settings.section("validation")
        derived = legacy.fingerprint(generation, validation) if generation is not None else None
        for name, recorded in settings.recorded.items():
            if derived is not None and recorded != derived:
                what = f"{recorded} is recorded, its settings give {derived}: made by other settings, or edited; "
                self.report.wrong(OLD_FINGERPRINT, f"{self.tree.shown(found.directory)}/{name}", f"{what}kept as found")
        if generation is not None and not settings.recorded:
            what = f"no fingerprint is recorded; its settings give {derived}"
            self.report.skipped(OLD_FINGERPRINT, self.tree.shown(found.directory), what)

    def _put(self, prepared: Prepared, old: str | None, shown: str, settings: OldSettings) -> None:
        from tracker.imports import WantedImport, put

        assert self.database is not None
        assert self.import_run_id is not None
        found = prepared.found
        wanted = WantedImport(
            prepared.identity, prepared.dataset, found.name, register(self.database, prepared.source),
            self._batches(prepared, settings), prepared.columns, prepared.samples, prepared.files, self.import_run_id,
            old, None if self.copy else self._place(found),
        )  # fmt: skip
        try:
            done = put(self.database, wanted)
        except Corrupt as error:
            self.report.wrong(EXPERIMENT, shown, f"{error.message} Left out")
            return
        self._tell(prepared, done, shown)
        self.ids.append(done.experiment_id)
        self._remember(prepared, done)

    def _tell(self, prepared: Prepared, done: Put, shown: str) -> None:
        reference = f"{prepared.dataset}/{done.name} ({done.fingerprint})"
        told: dict[str, tuple[Callable[[str, str, str], None], str]] = {
            "taken": (self.report.taken, _as_what(prepared, reference)),
            "known": (self.report.known, _known_as(prepared.found, reference, done.name)),
            "moved": (self.report.taken, f"{reference} is in the record; its directory is here now"),
            "copied": (self.report.taken, f"{reference} is in the record; copied into the workspace's tree"),
            "different": (self.report.wrong, f"{reference} has these settings and other data in the record: not taken"),
            "unfinished": (self.report.skipped, f"{reference} is being made here, or was left unfinished: not taken"),
        }  # fmt: skip
        say, what = told[done.outcome]
        say(EXPERIMENT, shown, what)
        for batch in prepared.found.batches:
            link = f"{batch}/{prepared.found.dataset}/{prepared.found.name}"
            if batch in done.joined:
                self.report.taken(BATCH_LINK, link, reference)
            elif done.outcome != "unfinished":
                self.report.known(BATCH_LINK, link, reference)

    def _foresee(self, prepared: Prepared, shown: str) -> None:
        fingerprint = prepared.identity.fingerprint
        reference = f"{prepared.dataset}/{prepared.found.name} ({fingerprint})"
        known = self._known(prepared)
        if known is not None and known["data_digest"] != prepared.train.digest:
            self.report.wrong(
                EXPERIMENT, shown, f"{reference} has these settings and other data in the record: not taken"
            )
        elif known is not None:
            self.report.known(
                EXPERIMENT, shown, f"{known['dataset']}/{known['name']} ({known['fingerprint']}) is in the record"
            )
        elif fingerprint in self.seen:
            same = self.seen[fingerprint] == prepared.train.digest
            say = self.report.known if same else self.report.wrong
            say(
                EXPERIMENT,
                shown,
                f"{reference} was in this tree before, {'the same' if same else 'with other data: not taken'}",
            )
        else:
            self.report.taken(EXPERIMENT, shown, _as_what(prepared, reference))
            for batch in prepared.found.batches:
                self.report.taken(BATCH_LINK, f"{batch}/{prepared.found.dataset}/{prepared.found.name}", reference)
        self.seen.setdefault(fingerprint, prepared.train.digest)
        self._remember(prepared, None)

    def _known(self, prepared: Prepared) -> Row | None:
        if self.reader is None:
            return None
        sql = "SELECT dataset, name, fingerprint, data_digest FROM shared_experiment WHERE "
        rows = self.reader.rows(f"{sql}fingerprint = :f", f=prepared.identity.fingerprint)
        rows = rows or self.reader.rows(
            f"{sql}dataset = :dataset AND semantic_name = :name AND data_digest = :digest AND import_run_id > 0",
            dataset=prepared.dataset, name=prepared.found.name, digest=prepared.train.digest,
        )  # fmt: skip
        return rows[0] if rows else None

    def _remember(self, prepared: Prepared, done: Put | None) -> None:
        found = prepared.found
        data = DataFound(
            None if done is None else done.experiment_id,
            prepared.identity.fingerprint if done is None else done.fingerprint,
            prepared.dataset, found.name if done is None else done.name, str(found.directory), prepared.train.digest,
            None if prepared.evaluation is None else prepared.evaluation.digest, prepared.columns["n_records"],
        )  # fmt: skip
        self.paths.add(found.directory, found.batches, data)

    def _batches(self, prepared: Prepared, settings: OldSettings) -> list[WantedBatch]:
        """The batches of an experiment, the one that first made it before the others."""
        from tracker.imports import WantedBatch

        named = prepared.found.batches
        original = settings.batch if settings.batch and name_problem(settings.batch) is None else None
        there = original in named or (original is not None and not self.tree.has_batches)
        if original is None:
            original, there = (named[0] if named else batch_for(prepared.purpose)), True
        first = WantedBatch(original, prepared.purpose, prepared.created_at, is_there=there)
        rest = [WantedBatch(each, prepared.purpose, self._made(each)) for each in named if each != original]
        return [first, *rest]

    def _made(self, batch: str) -> str:
        assert self.tree.synthetic is not None
        try:
            seconds = (self.tree.synthetic / batch).lstat().st_mtime
        except OSError:
            return clock.to_text(clock.now())
        return clock.to_text(datetime.fromtimestamp(seconds, UTC))

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
        _foresee(TreeImport(workspace, tree, report, copy), progress)
        return report
    from tracker import imports
    from tracker.database import open_database

    with open_database(workspace) as database:
        run_id = imports.begin(database, "tree", str(tree.top), command)
        job = TreeImport(workspace, tree, report, copy, database, run_id)
        _take_all(job, progress)
        counts = {outcome: report.count(outcome) for outcome in ("taken", "skipped", "wrong")}
        imports.finish(database, run_id, **counts, report=report.to_json()["items"])
    with reading(workspace) as reader:
        view.refresh(workspace, reader, job.ids)
    return report


def batch_for(purpose: str) -> str:
    """The batch of what was imported without one."""
    name = f"imported_{purpose}"
    return name if name_problem(name) is None else "imported"


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


def _foresee(job: TreeImport, progress: Progress) -> None:
    workspace = job.workspace
    # A reader would bring an older database up to date, and nothing at all is to be written.
    older = workspace.database_url is None and has_record(workspace) and sqlite_version(workspace) < SCHEMA_VERSION
    if not has_record(workspace) or older:
        _take_all(job, progress)
        return
    with reading(workspace) as reader:
        job.reader = reader
        _take_all(job, progress)


def _known_as(found: Found, reference: str, name: str) -> str:
    same = name == found.name or name.startswith(f"{found.name}_")
    return f"{reference} is in the record" if same else f"the same as {reference}, which is in the record"


def _as_what(prepared: Prepared, reference: str) -> str:
    columns = prepared.columns
    said = f"{reference}: {columns['n_records']:,} records"
    if prepared.samples:
        said += f", {columns['n_accepted']:,} rephrased, {columns['n_rejected']:,} kept as they were"
    return said if prepared.why is None else f"{said}; known by its files alone: {prepared.why}"
