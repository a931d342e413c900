"""Whether the record still says what it was made of, and whether the disk holds what the record says.

Every fingerprint and digest is derived anew from what is stored with it, and compared; nothing is changed.
"""

# ruff: noqa: S608  what is put into a text here are names of columns and whole numbers; values are parameters

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tracker import agent_view, pool_view, view
from tracker.catalogue import Reader, Row
from tracker.findings import (
    AGENTS,
    BENCHMARK,
    DATA,
    EXPERIMENT,
    POOL,
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
from tracker.paths import Workspace
from tracker.pool_findings import Rescore, benchmark_findings, pool_findings
from tracker.view_plan import Difference

_ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".parquet")
_CHUNK = 500
_EXPERIMENTS = f"""
    SELECT id, fingerprint, digest, scheme, identity, name, {", ".join(REPEATED[EXPERIMENT])}
    FROM shared_experiment :only ORDER BY id"""
_SOURCES = "SELECT id, name, task_name, digest FROM source_dataset ORDER BY id"
_SPLITS = "SELECT * FROM source_split WHERE source_dataset_id = :id ORDER BY id"
_LINES = "SELECT line FROM source_record WHERE source_split_id = :id ORDER BY position"
_RUNS = f"""
    SELECT id, fingerprint, digest, scheme, identity, attempt, status, directory, n_eval, n_correct, accuracy, config,
           {", ".join(REPEATED[RUN])}
    FROM training_run :only ORDER BY id"""
_DATA = """
    SELECT d.training_run_id AS id, d.directory, d.fingerprint, d.train_digest, d.eval_digest, d.shared_experiment_id,
           e.data_digest, e.fingerprint AS made_fingerprint, e.dataset || '/' || e.name AS reference
    FROM training_data d LEFT JOIN shared_experiment e ON e.id = d.shared_experiment_id
    :only ORDER BY d.training_run_id, d.position"""
_ANSWERS = """
    SELECT training_run_id AS id, COUNT(*) AS n, SUM(CASE WHEN correct THEN 1 ELSE 0 END) AS n_correct,
           SUM(CASE WHEN correct <> (label = predicted) THEN 1 ELSE 0 END) AS n_wrong
    FROM prediction :only GROUP BY training_run_id, stage HAVING stage = 'trained'"""

_AGENTS = "SELECT * FROM agent_dataset :only ORDER BY id"
_PERSPECTIVES = "SELECT * FROM agent_perspective WHERE agent_dataset_id = :id ORDER BY position"
_RESPONSES = """
    SELECT r.position, r.perspective, r.status, r.preparation, r.response,
           CASE WHEN c.position = r.position AND p.source_dataset_id = :source THEN 1 ELSE 0 END AS is_input
    FROM agent_response r JOIN source_record c ON c.id = r.source_record_id
    JOIN source_split p ON p.id = c.source_split_id WHERE r.agent_dataset_id = :id ORDER BY r.position, r.perspective"""

_BENCHMARKS = "SELECT * FROM benchmark ORDER BY id"
_TASKS = """
    SELECT part, difficulty_score, raw_score, scorer_metadata, raw_data FROM benchmark_task WHERE benchmark_id = :id
    ORDER BY position"""
_SCORES = "SELECT difficulty_score FROM benchmark_task WHERE benchmark_id = :id"
_POOLS = "SELECT * FROM task_pool :only ORDER BY id"
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
    """What was checked, and what is not as it was recorded; ``counts`` by kind, without benchmarks where none are."""

    counts: Mapping[str, int]
    findings: tuple[Finding, ...]


def verify(
    workspace: Workspace,
    reader: Reader,
    result_files: Callable[[Row], Collection[str]],
    rescore: Rescore,
    subject: Subject | None = None,
) -> Verified:
    """Checks everything, or what ``subject`` names; ``result_files`` are the names that a complete run's row promises.

    ``rescore`` gives what the scorers that ship make of a benchmark. Raises StorageError where the tree cannot be read.
    """
    made, trained, answered, drawn = (
        (None, None, None, None)
        if subject is None
        else (subject.experiment_ids, subject.run_ids, subject.agent_dataset_ids, subject.pool_ids)
    )
    experiments = _rows(reader, _EXPERIMENTS, "id", made)
    sources = reader.rows(_SOURCES) if subject is None else []
    datasets = _rows(reader, _AGENTS, "id", answered)
    benchmarks = reader.rows(_BENCHMARKS) if subject is None else []
    pools = _rows(reader, _POOLS, "id", drawn)
    runs = _rows(reader, _RUNS, "id", trained)
    data = _rows(reader, _DATA, "d.training_run_id", trained)
    data_of = {run_id: list(rows) for run_id, rows in groupby(data, key=lambda row: row["id"])}
    complete = [run for run in runs if run["status"] == "complete"]
    answers = {row["id"]: row for row in _rows(reader, _ANSWERS, "training_run_id", trained)}
    findings: list[Finding] = []
    for row in experiments:
        findings += identity_findings(EXPERIMENT, row)
    for row in sources:
        findings += _source(reader, row)
    for row in datasets:
        findings += _agents(reader, row)
    for row in benchmarks:
        findings += identity_findings(BENCHMARK, row)
        findings += benchmark_findings(row, reader.rows(_TASKS, id=row["id"]), rescore)
    for row in pools:
        findings += _pool(reader, row)
    findings += _trees(workspace, reader, made, answered, drawn)
    for row in runs:
        findings += identity_findings(RUN, row)
        findings += data_findings(row, data_of.get(row["id"], []))
    for row in complete:
        findings += answer_findings(row, answers.get(row["id"]))
        findings += _results(workspace, row, result_files(row))
    findings += _directories(workspace, data, is_tree_checked=subject is None)
    counts = {
        EXPERIMENT: len(experiments), AGENTS: len(datasets), SOURCE: len(sources), RUN: len(runs),
        DATA: len({row["directory"] for row in data}), RESULTS: len(complete),
    }  # fmt: skip
    counts |= {kind: len(rows) for kind, rows in ((BENCHMARK, benchmarks), (POOL, pools)) if rows}
    return Verified(counts, tuple(findings))


def _rows(reader: Reader, sql: str, column: str, ids: Sequence[int] | None) -> list[Row]:
    """The rows of ``sql``, or of those of ``ids``."""
    if ids is None:
        return reader.rows(sql.replace(":only", ""))
    chunks = [", ".join(map(str, ids[start : start + _CHUNK])) for start in range(0, len(ids), _CHUNK)]
    return [row for chunk in chunks for row in reader.rows(sql.replace(":only", f"WHERE {column} IN ({chunk})"))]


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
    workspace: Workspace,
    reader: Reader,
    made: Sequence[int] | None,
    answered: Sequence[int] | None,
    drawn: Sequence[int] | None,
) -> Iterator[Finding]:
    data = workspace.relative(workspace.data_dir)
    found = [(each, each.path) for each in view.check(workspace, reader, made)]
    found += [(each, f"{data}/{each.path}") for each in agent_view.check(workspace, reader, answered)]
    found += [(each, f"{data}/{each.path}") for each in pool_view.check(workspace, reader, drawn)]
    yield from (_of_tree(each, where) for each, where in found if each.what != "unknown")


def _of_tree(found: Difference, where: str) -> Finding:
    what = f"{found.what}: {found.detail}" if found.detail else found.what
    remedy = RESTORE if found.what == "contradiction" else "`synthtrack view rebuild` mends the tree."
    return Finding(TREE, what, where, remedy)


def _directories(workspace: Workspace, data: Sequence[Row], *, is_tree_checked: bool) -> Iterator[Finding]:
    """Where the files that runs were trained on are no longer to be found."""
    by_directory: dict[str, list[Row]] = {}
    for row in data:
        by_directory.setdefault(row["directory"], []).append(row)
    for name, rows in by_directory.items():
        directory = workspace.root / name
        if not (is_tree_checked and directory.is_relative_to(workspace.synthetic_dir)):
            yield from _directory(directory, name, rows)


def _directory(directory: Path, name: str, rows: Sequence[Row]) -> Iterator[Finding]:
    try:
        found = _digests(directory)
    except OSError as error:
        yield Finding(DATA, f"cannot be read: {error.strerror or error}", name, "Check its permissions.")
        return
    for split, column in (("train", "train_digest"), ("validation", "eval_digest")):
        for digest in dict.fromkeys(row[column] for row in rows if row[column] not in {None, *found}):
            using = [row for row in rows if row[column] == digest]
            what = f"no {split} split with SHA-256 {digest[:12]}" if found else f"no {split} split there"
            plural = "" if len(using) == 1 else "s"
            yield Finding(DATA, f"{what}, as {len(using):,} training run{plural} used it", name, _remedy(using[0]))


def _digests(directory: Path) -> set[str]:
    """The SHA-256 of every file of records."""
    found = set()
    try:
        files = [each for each in directory.iterdir() if each.name.endswith(_ENDINGS) and each.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return set()
    for each in files:
        with each.open("rb") as content:
            found.add(hashlib.file_digest(content, "sha256").hexdigest())
    return found


def _remedy(row: Row) -> str:
    if row["reference"] is not None:
        return f"`synthtrack view rebuild`, and `synthtrack publish {row['reference']}`, bring this data back."
    return "Put the file back: without it these runs can be neither resumed nor repeated."


def _results(workspace: Workspace, run: Row, names: Collection[str]) -> Iterator[Finding]:
    directory = workspace.root / run["directory"]
    missing = [name for name in names if not (directory / name).exists()]
    if missing:
        what = f"missing: {', '.join(missing)}" if directory.is_dir() else "the directory is missing"
        remedy = "Put it back; what the record and MLflow have of the run is not lost."
        yield Finding(RESULTS, what, run["directory"], remedy)
