"""Whether the record still says what it was made of, and whether the disk holds what the record says.

Every fingerprint and digest is derived anew from what is stored with it, and compared; nothing is changed.
"""

# ruff: noqa: S608  what is put into a text here are names of columns and whole numbers; values are parameters

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row
from tracker.record.findings import (
    AGENTS,
    BENCHMARK,
    DATA,
    DELETION,
    EXPERIMENT,
    GENERATION,
    JUDGE_TEST,
    MLFLOW,
    POOL,
    PUBLICATION,
    REPEATED,
    RESTORE,
    RESULTS,
    RUN,
    SOURCE,
    TREE,
    Finding,
    agent_findings,
    answer_findings,
    data_findings,
    identity_findings,
    source_findings,
)
from tracker.verifying import verify_places, verify_record
from tracker.verifying.pool_findings import Rescore, benchmark_findings, pool_findings
from tracker.verifying.sample_findings import Answers
from tracker.verifying.verify_mlflow import mlflow_findings
from tracker.verifying.verify_places import imported_findings
from tracker.views import agent_view, pool_view, synthetic_view
from tracker.views.plan import Difference

_CHUNK, _FEW = 500, 20
_ALWAYS = (EXPERIMENT, AGENTS, SOURCE, RUN, DATA, RESULTS)
REBUILD = "rebuild"
"""The fix of what is not in the tree as the record has it: it is written anew, and what was edited is kept."""

LINK = "link"
"""The fix of a training whose data is of an experiment that is here, and that has no link to it."""

Changed = Callable[[Path, Row, Sequence[Row]], Iterable[tuple[str, str]]]
"""Result files of a directory, and what of them is not as the whole row of a run and its answers say."""
Progress = Callable[[str, int, int], None]
"""Is told the kind of thing that is looked at, how many are done, and of how many; 0: that is not known."""

_EXPERIMENTS = f"""
    SELECT id, fingerprint, digest, scheme, identity, name, status, {", ".join(REPEATED[EXPERIMENT])},
           source_dataset_id, data_digest, import_run_id, directory, n_records, n_accepted, n_rejected, n_unclear,
           n_failed, prompt_tokens, completion_tokens, cost_usd
    FROM shared_experiment WHERE :only ORDER BY id"""
_SOURCES = "SELECT id, name, task_name, digest FROM source_dataset WHERE :only ORDER BY id"
_SPLITS = "SELECT * FROM source_split WHERE source_dataset_id = :id ORDER BY id"
_LINES = "SELECT line FROM source_record WHERE source_split_id = :id ORDER BY position"
_RUNS = f"""
    SELECT id, fingerprint, digest, scheme, identity, attempt, status, directory, n_eval, n_correct, accuracy, config,
           import_run_id, {", ".join(REPEATED[RUN])}
    FROM training_run WHERE :only ORDER BY id"""
_DATA = """
    SELECT d.training_run_id AS id, d.directory, d.fingerprint, d.train_digest, d.eval_digest, d.shared_experiment_id,
           e.data_digest, e.fingerprint AS made_fingerprint, e.dataset || '/' || e.name AS reference
    FROM training_data d LEFT JOIN shared_experiment e ON e.id = d.shared_experiment_id
    WHERE :only ORDER BY d.training_run_id, d.position"""
_UNLINKED = """
    SELECT r.directory || ' (' || r.fingerprint || ')' AS run, e.dataset || '/' || e.name AS reference
    FROM training_data d JOIN training_run r ON r.id = d.training_run_id
    JOIN shared_experiment e ON e.fingerprint = d.fingerprint AND e.data_digest = d.train_digest
    WHERE :only AND d.shared_experiment_id IS NULL ORDER BY d.training_run_id, d.position"""
_PLACES = """
    SELECT d.directory, d.train_digest, d.eval_digest, COUNT(*) AS n,
           MIN(CASE WHEN e.id IS NOT NULL THEN e.dataset || '/' || e.name END) AS reference, MIN(d.position) AS position
    FROM training_data d JOIN training_run r ON r.id = d.training_run_id
    LEFT JOIN shared_experiment e ON e.id = d.shared_experiment_id
    WHERE :only AND r.import_run_id IS NULL
    GROUP BY d.directory, d.train_digest, d.eval_digest ORDER BY MIN(d.training_run_id), MIN(d.position)"""
_ANSWERS = """
    SELECT training_run_id AS id, COUNT(*) AS n, SUM(CASE WHEN correct THEN 1 ELSE 0 END) AS n_correct,
           SUM(CASE WHEN correct <> (label = predicted) THEN 1 ELSE 0 END) AS n_wrong
    FROM prediction WHERE :only GROUP BY training_run_id, stage HAVING stage = 'trained'"""
_TRAINED = """
    SELECT position, label, predicted, correct, scores FROM prediction
    WHERE training_run_id = :id AND stage = 'trained' ORDER BY position"""

_AGENTS = "SELECT * FROM agent_dataset WHERE :only ORDER BY id"
_PERSPECTIVES = "SELECT * FROM agent_perspective WHERE agent_dataset_id = :id ORDER BY position"
_RESPONSES = """
    SELECT r.position, r.perspective, r.status, r.preparation, r.response,
           CASE WHEN c.position = r.position AND p.source_dataset_id = :source THEN 1 ELSE 0 END AS is_input
    FROM agent_response r JOIN source_record c ON c.id = r.source_record_id
    JOIN source_split p ON p.id = c.source_split_id WHERE r.agent_dataset_id = :id ORDER BY r.position, r.perspective"""

_BENCHMARKS = "SELECT * FROM benchmark WHERE :only ORDER BY id"
_TASKS = """
    SELECT part, difficulty_score, raw_score, scorer_metadata, raw_data FROM benchmark_task WHERE benchmark_id = :id
    ORDER BY position"""
_SCORES = "SELECT difficulty_score FROM benchmark_task WHERE benchmark_id = :id"
_POOLS = "SELECT * FROM task_pool WHERE :only ORDER BY id"
_PARTS = """
    SELECT c.*, b.name AS benchmark, b.digest AS benchmark_digest
    FROM task_pool_benchmark c JOIN benchmark b ON b.id = c.benchmark_id
    WHERE c.task_pool_id = :id ORDER BY c.position"""
_POOL_TASKS = "SELECT * FROM task_pool_task_overview WHERE task_pool_id = :id ORDER BY position"


@dataclass(frozen=True, slots=True)
class Subject:
    """The experiments, training runs, agent data sets and pools (ids) that are to be checked."""

    experiment_ids: tuple[int, ...] = ()
    run_ids: tuple[int, ...] = ()
    agent_dataset_ids: tuple[int, ...] = ()
    pool_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Verified:
    """What was checked, and what is not as it was recorded.

    ``counts`` are by kind, without the kinds of which there is nothing; ``notes`` are what is to be known and no fault.
    """

    counts: Mapping[str, int]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """What the pipeline knows and the tracker does not.

    ``result_files`` are the names that a complete run's row promises, ``rescore`` gives what the scorers that ship make
    of a benchmark, ``answers`` says how an answer becomes a sample, ``changed`` which result files say something else
    than the record (None: that is not looked at).
    """

    result_files: Callable[[Row], Collection[str]]
    rescore: Rescore
    answers: Answers | None = None
    changed: Changed | None = None


def verify(
    workspace: Workspace,
    reader: Reader,
    rules: Rules,
    subject: Subject | None = None,
    progress: Progress | None = None,
) -> Verified:
    """Checks everything, or what ``subject`` names; ``progress`` is told the kind, how many are done, and of how many.

    Rows are looked at in small groups, so that memory does not grow with their number. Raises StorageError where the
    tree cannot be read.
    """
    look = _Look(workspace, reader, rules, progress or (lambda _, __, ___: None))
    look.experiments(None if subject is None else subject.experiment_ids)
    if subject is None:
        look.sources()
    look.agents(None if subject is None else subject.agent_dataset_ids)
    if subject is None:
        look.benchmarks()
    look.pools(None if subject is None else subject.pool_ids)
    look.trees(subject)
    look.runs(None if subject is None else subject.run_ids)
    if subject is None:
        look.everything_else()
    counts = {kind: number for kind, number in look.counts.items() if number or kind in _ALWAYS}
    return Verified(counts, tuple(look.findings), tuple(look.notes))


class _Look:
    """One look at the record: what it has found so far."""

    def __init__(self, workspace: Workspace, reader: Reader, rules: Rules, progress: Progress) -> None:
        self._workspace, self._reader, self._rules, self._progress = workspace, reader, rules, progress
        self.counts: dict[str, int] = dict.fromkeys(_ALWAYS, 0)
        self.findings: list[Finding] = []
        self.notes: list[str] = []

    def experiments(self, only: Sequence[int] | None) -> None:
        for rows in self._groups(EXPERIMENT, _EXPERIMENTS, "shared_experiment", only, _FEW):
            for row in rows:
                self.findings += identity_findings(EXPERIMENT, row)
                if row["import_run_id"] is not None:
                    self.findings += imported_findings(self._reader, self._workspace, row)
            self.findings += verify_record.of_experiments(self._reader, rows, self._rules.answers)

    def sources(self) -> None:
        for rows in self._groups(SOURCE, _SOURCES, "source_dataset", None, 1):
            for row in rows:
                self.findings += _source(self._reader, row)

    def agents(self, only: Sequence[int] | None) -> None:
        for rows in self._groups(AGENTS, _AGENTS, "agent_dataset", only, 1):
            for row in rows:
                self.findings += _agents(self._reader, row)

    def benchmarks(self) -> None:
        for rows in self._groups(BENCHMARK, _BENCHMARKS, "benchmark", None, 1):
            for row in rows:
                self.findings += identity_findings(BENCHMARK, row)
                tasks = self._reader.rows(_TASKS, id=row["id"])
                self.findings += benchmark_findings(row, tasks, self._rules.rescore)

    def pools(self, only: Sequence[int] | None) -> None:
        for rows in self._groups(POOL, _POOLS, "task_pool", only, 1):
            for row in rows:
                self.findings += _pool(self._reader, row)

    def trees(self, subject: Subject | None) -> None:
        self.findings += _trees(self._workspace, self._reader, subject, partial(self._progress, TREE))

    def runs(self, only: Sequence[int] | None) -> None:
        """Training runs, their data and their results."""
        for rows in self._groups(RUN, _RUNS, "training_run", only, _CHUNK):
            own = [row["id"] for row in rows if row["import_run_id"] is None]
            data = _by_id(_of(self._reader, _DATA, "d.training_run_id", own))
            answers = {row["id"]: row for row in _of(self._reader, _ANSWERS, "training_run_id", own)}
            for row in rows:
                self.findings += identity_findings(RUN, row)
                # What was imported has no answers, other files, and no more than its logs say.
                if row["import_run_id"] is not None:
                    continue
                self.findings += data_findings(row, data.get(row["id"], []))
                if row["status"] == "complete":
                    self.counts[RESULTS] += 1
                    self.findings += answer_findings(row, answers.get(row["id"]))
                    self.findings += verify_places.result_findings(self._workspace, row, self._rules.result_files(row))
                    self.findings += self._changed(row)
            self.findings += _unlinked(self._reader, [row["id"] for row in rows])
        self._data(only)

    def _changed(self, run: Row) -> Iterator[Finding]:
        if self._rules.changed is not None:
            [whole] = self._reader.rows("SELECT * FROM training_run WHERE id = :id", id=run["id"])
            answers = self._reader.rows(_TRAINED, id=run["id"])
            for name, what in self._rules.changed(self._workspace.root / run["directory"], whole, answers):
                remedy = "The record is right; put the file back, or take its figures from `synthtrack result show`."
                yield Finding(RESULTS, f"{name} {what}", run["directory"], remedy)

    def _data(self, only: Sequence[int] | None) -> None:
        rows = (
            self._reader.rows(_PLACES.replace(":only", "1 = 1"))
            if only is None
            else _of(self._reader, _PLACES, "d.training_run_id", only)
        )
        self.counts[DATA] = len({row["directory"] for row in rows})
        self.findings += verify_places.directory_findings(
            self._workspace, rows, partial(self._progress, DATA), is_tree_checked=only is None
        )

    def everything_else(self) -> None:
        """What runs cost, tests of judges, publications, the trash, processes and MLflow."""
        last = self._reader.rows("SELECT COALESCE(MAX(id), 0) AS n FROM generation_run")[0]["n"]
        for after in range(0, last, _CHUNK):
            self._progress(GENERATION, after, last)
            number, findings = verify_record.of_generation_runs(self._reader, after, after + _CHUNK)
            self._count(GENERATION, number, findings)
        self._count(JUDGE_TEST, *verify_record.of_judge_tests(self._reader))
        self._progress(PUBLICATION, 0, 0)
        self._count(PUBLICATION, *verify_places.publication_findings(self._reader, self._workspace))
        self._count(DELETION, *verify_places.deletion_findings(self._reader, self._workspace))
        self.findings += verify_places.work_findings(self._reader)
        self.findings += verify_places.leftover_findings(self._reader, self._workspace)
        self._progress(MLFLOW, 0, 0)
        looked = mlflow_findings(self._reader, self._workspace)
        self._count(MLFLOW, looked.n_runs, looked.findings)
        self.notes += looked.notes

    def _count(self, kind: str, number: int, findings: Iterable[Finding]) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + number
        self.findings += findings

    def _groups(self, kind: str, sql: str, table: str, only: Sequence[int] | None, size: int) -> Iterator[list[Row]]:
        """The rows of ``sql``, or those of ``only``, ``size`` at a time and in the order of their ids."""
        ids = sorted(only) if only is not None else self._ids(table)
        self.counts[kind] = 0
        for start in range(0, len(ids), size):
            self._progress(kind, start, len(ids))
            rows = _of(self._reader, sql, "id", ids[start : start + size])
            self.counts[kind] += len(rows)
            yield rows
        if ids:
            self._progress(kind, len(ids), len(ids))

    def _ids(self, table: str) -> Sequence[int]:
        # Numbers alone: of a hundred thousand rows a few megabytes.
        return array("q", (row["id"] for row in self._reader.rows(f"SELECT id FROM {table} ORDER BY id")))


def _unlinked(reader: Reader, runs: Sequence[int]) -> Iterator[Finding]:
    for row in _of(reader, _UNLINKED, "d.training_run_id", runs):
        what = f"its data is that of {row['reference']}, which is here; it has no link to it"
        yield Finding(DATA, what, row["run"], "`synthtrack verify --fix` links them.", LINK)


def _of(reader: Reader, sql: str, column: str, ids: Sequence[int]) -> list[Row]:
    chunks = [", ".join(map(str, ids[start : start + _CHUNK])) for start in range(0, len(ids), _CHUNK)]
    return [row for chunk in chunks for row in reader.rows(sql.replace(":only", f"{column} IN ({chunk})"))]


def _by_id(rows: Sequence[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["id"], []).append(row)
    return found


def _source(reader: Reader, source: Row) -> Iterator[Finding]:
    splits = reader.rows(_SPLITS, id=source["id"])
    rephrased = [split["id"] for split in splits if split["content"] is None]
    lines = {split_id: [row["line"] for row in reader.rows(_LINES, id=split_id)] for split_id in rephrased}
    return source_findings(source, splits, lines)


def _agents(reader: Reader, dataset: Row) -> Iterator[Finding]:
    yield from identity_findings(AGENTS, dataset)
    source = dataset["source_dataset_id"]
    inputs = [split["digest"] for split in reader.rows(_SPLITS, id=source)]
    responses = reader.rows(_RESPONSES, id=dataset["id"], source=source)
    yield from agent_findings(dataset, reader.rows(_PERSPECTIVES, id=dataset["id"]), responses, inputs)


def _pool(reader: Reader, pool: Row) -> Iterator[Finding]:
    yield from identity_findings(POOL, pool)
    parts = reader.rows(_PARTS, id=pool["id"])
    scores = {
        part["benchmark_id"]: [row["difficulty_score"] for row in reader.rows(_SCORES, id=part["benchmark_id"])]
        for part in parts
    }
    yield from pool_findings(pool, parts, reader.rows(_POOL_TASKS, id=pool["id"]), scores)


def _trees(
    workspace: Workspace, reader: Reader, subject: Subject | None, progress: Callable[[int, int], None]
) -> Iterator[Finding]:
    made, answered, drawn = (
        (None, None, None) if subject is None else (subject.experiment_ids, subject.agent_dataset_ids, subject.pool_ids)
    )
    data = workspace.relative(workspace.data_dir)
    found = [(each, each.path) for each in synthetic_view.check(workspace, reader, made, progress)]
    found += [(each, f"{data}/{each.path}") for each in agent_view.check(workspace, reader, answered)]
    found += [(each, f"{data}/{each.path}") for each in pool_view.check(workspace, reader, drawn)]
    yield from (_of_tree(each, where) for each, where in found if each.what != "unknown")


def _of_tree(found: Difference, where: str) -> Finding:
    what = f"{found.what}: {found.detail}" if found.detail else found.what
    if found.what == "contradiction":
        return Finding(TREE, what, where, RESTORE)
    return Finding(TREE, what, where, "`synthtrack view rebuild` mends the tree.", REBUILD)
