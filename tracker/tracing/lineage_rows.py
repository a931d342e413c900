"""The rows behind a lineage: what each kind of node says of itself, and what is at each of several others.

Each row has a ``key``, which names it on every machine, a ``name`` for people and, where it is found through something
else, ``of``: that one's id.
"""

# ruff: noqa: S608  what is put into a text here are queries of this module and lists of our own ids

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tracker.paths import SHARED
from tracker.record import sweeps
from tracker.record.catalogue import EVERY, Reader, Row, portions
from tracker.record.checkpoints import standing

_OWNERS = {
    "generation_run": "shared_experiment_id",
    "publication": "shared_experiment_id",
    "agent_run": "agent_dataset_id",
    "pool_validation": "task_pool_id",
}
_EXPERIMENT = """
    SELECT e.id, e.fingerprint AS key, e.dataset || '/' || e.name AS name, e.fingerprint, e.digest,
           e.legacy_fingerprint, e.status, e.source_dataset_id, e.provider, e.endpoint, e.model, e.temperature, e.top_p,
           e.max_tokens, e.strategy, e.field_to_rephrase, e.record_limit, e.draw, e.validation_model,
           e.validation_temperature, e.purpose, e.description, e.created_at, e.completed_at, e.n_records, e.n_accepted,
           e.n_rejected, e.n_unclear, e.n_failed, e.prompt_tokens, e.completion_tokens, e.cost_usd, e.data_digest,
           e.import_run_id, e.directory, b.name AS original_batch, e.settings
    FROM shared_experiment e JOIN batch b ON b.id = e.original_batch_id"""
_SOURCE = "SELECT d.id, d.digest AS key, d.name, d.digest, d.origin, d.created_at FROM source_dataset d"
_SPLITS = """
    SELECT source_dataset_id, split, filename, digest, n_records FROM source_split
    WHERE source_dataset_id IN ({some})
    ORDER BY CASE split WHEN 'train' THEN 0 WHEN 'validation' THEN 1 ELSE 2 END, split"""
_RUN = """
    SELECT r.id, r.uuid AS key, r.uuid AS name, r.shared_experiment_id AS of, r.outcome AS relation, r.uuid, r.outcome,
           r.step, r.status, b.name AS batch, b.deleted_at AS batch_deleted_at, r.started_at, r.finished_at,
           r.duration_s, r.host, r.config_path, r.n_calls, r.n_cached, r.prompt_tokens, r.completion_tokens, r.cost_usd,
           o.mlflow_run_id, r.command, r.error
    FROM generation_run r JOIN batch b ON b.id = r.batch_id LEFT JOIN mlflow_outbox o ON o.generation_run_id = r.id"""
_RUNS_OF = """
    SELECT shared_experiment_id AS at_id, id, CASE WHEN outcome IN ('reused', 'tested') THEN 1 ELSE 0 END AS late
    FROM generation_run WHERE shared_experiment_id IN ({some})"""
_MAKERS_OF = f"{_RUNS_OF} AND outcome NOT IN ('reused', 'tested')"
_BATCH = """
    SELECT b.id, b.name AS key, b.name, b.purpose, b.description, b.created_at, b.deleted_at,
           (SELECT COUNT(*) FROM batch_membership m WHERE m.batch_id = b.id) AS n_experiments FROM batch b"""
# A batch that was deleted has no members any more; runs and experiments still say that it was there.
_BATCHES_OF = """
    SELECT m.shared_experiment_id AS at_id, m.batch_id AS id, 0 AS late FROM batch_membership m
    WHERE m.shared_experiment_id IN ({some})
    UNION SELECT e.id, b.id, 1 FROM shared_experiment e JOIN batch b ON b.id = e.original_batch_id
    WHERE e.id IN ({some}) AND b.deleted_at IS NOT NULL
    UNION SELECT r.shared_experiment_id, b.id, 1 FROM generation_run r JOIN batch b ON b.id = r.batch_id
    WHERE r.shared_experiment_id IN ({some}) AND b.deleted_at IS NOT NULL"""
_JUDGE_TEST = """
    SELECT t.id, g.uuid AS key, t.model AS name, t.shared_experiment_id AS of, t.model, t.temperature, t.n_tested,
           t.n_correct, t.accuracy, t.required_accuracy, t.passed, t.created_at, g.uuid AS generation_run, g.cost_usd
    FROM judge_test t JOIN generation_run g ON g.id = t.generation_run_id"""
_PUBLICATION = """
    SELECT p.id, p.directory || '@' || p.published_at AS key, p.directory AS name, p.shared_experiment_id AS of,
           p.directory, p.kind, p.mode, p.fingerprint, p.published_at, p.published_by,
           (SELECT MAX(n.published_at) FROM publication n WHERE n.directory = p.directory AND n.id > p.id)
           AS replaced_at
    FROM publication p"""
_TRAINING = """
    SELECT r.id, r.uuid AS key, r.directory AS name, r.uuid, r.fingerprint, r.attempt, r.status, r.purpose, r.model,
           r.task, r.method, r.data, r.directory, r.learning_rate, r.batch_size, r.steps, r.seed, r.step, r.n_train,
           r.n_eval, r.n_correct, r.accuracy, r.accuracy_low, r.accuracy_high, r.macro_f1, r.eval_loss, r.dev_accuracy,
           r.majority_accuracy, r.zero_shot_accuracy, r.created_at, r.started_at, r.finished_at, r.duration_s, r.host,
           r.pid, r.pid_started, r.heartbeat, r.command, w.uuid AS sweep, w.config_path, o.mlflow_run_id,
           i.origin AS imported_from,
           (SELECT COUNT(*) FROM training_data d WHERE d.training_run_id = r.id) AS n_data
    FROM training_run r JOIN training_sweep w ON w.id = r.training_sweep_id
    LEFT JOIN mlflow_outbox o ON o.training_run_id = r.id LEFT JOIN import_run i ON i.id = r.import_run_id"""
_TRAININGS_ON = """
    SELECT DISTINCT shared_experiment_id AS at_id, training_run_id AS id, 0 AS late FROM training_data
    WHERE shared_experiment_id IN ({some})"""
_TRAININGS_ON_SOURCES = """
    SELECT DISTINCT s.source_dataset_id AS at_id, d.training_run_id AS id, 0 AS late
    FROM source_split s JOIN training_data d ON d.train_digest = s.digest AND d.shared_experiment_id IS NULL
    WHERE s.source_dataset_id IN ({some})"""
_DATA = """
    SELECT training_run_id, position, path, directory, dataset, name, shared_experiment_id, batch_id, fingerprint,
           train_digest, eval_digest, n_records, n_train, warning,
           (SELECT uuid FROM training_run WHERE id = training_run_id) AS training_run
    FROM training_data WHERE training_run_id IN ({some}) ORDER BY training_run_id, position"""
_AGENTS = """
    SELECT id, fingerprint AS key, name, fingerprint, task_type, task_description, source_dataset_id, status, provider,
           endpoint, model, temperature, top_p, max_tokens, draw, is_trial, n_inputs, n_perspectives, n_responses,
           n_failed, prompt_tokens, completion_tokens, cost_usd, created_at, completed_at, data_digest
    FROM agent_dataset"""
_AGENT_RUN = """
    SELECT r.id, r.uuid AS key, r.uuid AS name, r.agent_dataset_id AS of, r.outcome AS relation, r.uuid, r.outcome,
           r.status, r.started_at, r.finished_at, r.duration_s, r.host, r.config_path, r.n_calls, r.n_cached,
           r.prompt_tokens, r.completion_tokens, r.cost_usd, o.mlflow_run_id, r.command, r.error
    FROM agent_run r LEFT JOIN mlflow_outbox o ON o.agent_run_id = r.id"""
_AGENT_RUNS_OF = """
    SELECT agent_dataset_id AS at_id, id, CASE outcome WHEN 'reused' THEN 1 ELSE 0 END AS late FROM agent_run
    WHERE agent_dataset_id IN ({some})"""
_VALIDATION = """
    SELECT v.id, v.uuid AS key, v.model AS name, v.task_pool_id AS of, v.uuid, v.fingerprint, v.status, v.model,
           v.temperature, v.n_samples, v.n_tasks, v.n_graded, v.n_failed, v.easy_accuracy, v.hard_accuracy,
           v.accuracy_gap, v.rank_correlation, v.cost_usd, v.started_at, v.duration_s, o.mlflow_run_id, v.command
    FROM pool_validation v LEFT JOIN mlflow_outbox o ON o.pool_validation_id = v.id"""
_VALIDATIONS_OF = """
    SELECT task_pool_id AS at_id, id, 0 AS late FROM pool_validation WHERE task_pool_id IN ({some})"""
# A newer answer of the same annotator stands for the older one.
_DECISIONS = """
    SELECT d.shared_experiment_id AS of, e.fingerprint, d.checkpoint, d.position, d.annotator, d.verdict, d.settles,
           d.decided_at, d.adopted_from_id
    FROM decision d JOIN shared_experiment e ON e.id = d.shared_experiment_id
    WHERE d.shared_experiment_id IN ({some}) AND NOT EXISTS (
        SELECT 1 FROM decision l WHERE l.shared_experiment_id = d.shared_experiment_id AND l.position = d.position
        AND l.annotator = d.annotator AND l.id > d.id)
    ORDER BY d.shared_experiment_id, d.position, d.id"""
_CLOSED = (
    "SELECT shared_experiment_id, name, closed_at, examples FROM checkpoint WHERE shared_experiment_id IN ({some})"
)


_Chosen = tuple[list[tuple[int, int]], dict[int, int]]
"""Pairs of what something is found at and its own id, and how many are left out at each."""


@dataclass(frozen=True, slots=True)
class Of:
    """Rows that are found at others, oldest first, and how many older ones are ``left_out``, by the others' ids."""

    rows: list[Row]
    left_out: dict[int, int] = field(default_factory=dict)


def owner(reader: Reader, kind: str, row_id: int) -> int:
    """The id of the experiment, agent data set or pool that a run, publication or validation belongs to."""
    return int(reader.rows(f"SELECT {_OWNERS[kind]} AS of FROM {kind} WHERE id = :id", id=row_id)[0]["of"])


def experiments(reader: Reader, ids: Sequence[int]) -> list[Row]:
    """Experiments with their ``settings`` as an object, in the order of the ids."""
    found = _by_id(reader, _EXPERIMENT, "e.id", ids)
    for row in found:
        row["settings"] = json.loads(row["settings"])
    return found


def sources(reader: Reader, ids: Iterable[int]) -> list[Row]:
    """Source data sets with their ``splits``."""
    some = list(dict.fromkeys(ids))
    splits: dict[int, list[Row]] = {each: [] for each in some}
    for row in _in(reader, _SPLITS, some):
        splits[row.pop("source_dataset_id")].append(row)
    return [row | {"splits": splits[row["id"]]} for row in _by_id(reader, _SOURCE, "d.id", some)]


def sources_with(reader: Reader, digests: Iterable[str]) -> dict[str, Row]:
    """The source data set that has a file of each digest, where there is one."""
    found = {}
    for digest in dict.fromkeys(digests):
        rows = reader.rows(
            "SELECT source_dataset_id AS id FROM source_split WHERE digest = :digest ORDER BY id LIMIT 1", digest=digest
        )
        if rows:
            found[digest] = sources(reader, [rows[0]["id"]])[0]
    return found


def file(row: Row) -> Row:
    """The data of a training run that is none of ours, of a row of ``data_of``; without a digest one by its path."""
    names = ("path", "directory", "dataset", "train_digest", "eval_digest", "n_records")
    key = row["train_digest"] or f"{row['dataset']}/{row['path'] or row['training_run']}"
    return {"key": key, "name": row["path"] or row["name"], **{name: row[name] for name in names}}


def imports(reader: Reader, ids: Iterable[int]) -> dict[int, Row]:
    """Calls of `import` by id."""
    rows = _in(
        reader,
        """SELECT id, uuid AS key, origin AS name, uuid, kind, origin, started_at, host, command FROM import_run
           WHERE id IN ({some})""",
        list(dict.fromkeys(ids)),
    )
    return {row["id"]: row for row in rows}


def runs(reader: Reader, of: Sequence[int], limit: int, always: Sequence[int] = (), *, makers: bool = False) -> Of:
    """Generation runs of experiments, those that made data before others; ``makers``: only those."""
    return _rows(reader, _chosen(reader, _MAKERS_OF if makers else _RUNS_OF, of, limit, always), _RUN, "r.id")


def batches(reader: Reader, of: Sequence[int], limit: int) -> Of:
    """The batches that hold experiments, with ``relation`` holds, or reuses where they found the data made."""
    chosen, left = _chosen(reader, _BATCHES_OF, of, limit)
    found = {row["id"]: row for row in batches_by_id(reader, [batch for _, batch in chosen])}
    how = {
        (row["at_id"], row["id"]): "reuses" if row["reused"] else "holds"
        for row in _in(
            reader,
            """SELECT shared_experiment_id AS at_id, batch_id AS id, reused FROM batch_membership
               WHERE shared_experiment_id IN ({some})""",
            of,
        )
    }
    return Of([found[each[1]] | {"of": each[0], "relation": how.get(each, "held")} for each in chosen], left)


def batches_by_id(reader: Reader, ids: Sequence[int]) -> list[Row]:
    """Batches, deleted ones too."""
    return _by_id(reader, _BATCH, "b.id", list(dict.fromkeys(ids)))


def in_batch(reader: Reader, batch_id: int, limit: int) -> tuple[list[int], int]:
    """The newest experiments of a batch, and how many it has."""
    rows = reader.rows(
        """SELECT shared_experiment_id AS id FROM batch_membership WHERE batch_id = :batch
           ORDER BY shared_experiment_id DESC LIMIT :limit""",
        batch=batch_id,
        limit=limit or EVERY,
    )
    n = reader.rows("SELECT COUNT(*) AS n FROM batch_membership WHERE batch_id = :batch", batch=batch_id)[0]["n"]
    return [row["id"] for row in reversed(rows)], int(n)


def made_of(reader: Reader, table: str, source_id: int, limit: int) -> tuple[list[int], int]:
    """The newest experiments, or agent data sets, on a source data set, and how many there are."""
    rows = reader.rows(
        f"SELECT id FROM {table} WHERE source_dataset_id = :source ORDER BY id DESC LIMIT :limit",
        source=source_id,
        limit=limit or EVERY,
    )
    n = reader.rows(f"SELECT COUNT(*) AS n FROM {table} WHERE source_dataset_id = :source", source=source_id)[0]["n"]
    return [row["id"] for row in reversed(rows)], int(n)


def decisions(reader: Reader, of: Sequence[int]) -> Of:
    """What people decided at each checkpoint of experiments: samples by verdict, answers by annotator."""
    groups: dict[tuple[int, str, str], list[Row]] = {}
    for row in _in(reader, _DECISIONS, of):
        groups.setdefault((row["of"], row["fingerprint"], row["checkpoint"]), []).append(row)
    closed = {(row["shared_experiment_id"], row["name"]): row for row in _in(reader, _CLOSED, of)}
    found = []
    for (experiment, fingerprint, name), rows in groups.items():
        end = closed.get((experiment, name))
        found.append({
            "of": experiment, "key": f"{fingerprint}:{name}", "name": name, **_counts(rows),
            "n_adopted": sum(row["adopted_from_id"] is not None for row in rows),
            "first_at": min(row["decided_at"] for row in rows), "last_at": max(row["decided_at"] for row in rows),
            "closed_at": end and end["closed_at"], "n_examples": end and len(json.loads(end["examples"])),
        })  # fmt: skip
    return Of(found)


def _counts(rows: Sequence[Row]) -> Row:
    samples: dict[int, list[Row]] = {}
    annotators: dict[str, int] = {}
    for row in rows:
        samples.setdefault(row["position"], []).append(row)
        annotators[row["annotator"]] = annotators.get(row["annotator"], 0) + 1
    verdicts: dict[str, int] = {}
    for each in samples.values():
        verdict = standing(each)
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
    return {"n_samples": len(samples), "verdicts": verdicts, "annotators": annotators}


def judge_tests(reader: Reader, of: Sequence[int], limit: int) -> Of:
    """Tests of judges on experiments."""
    chosen = (
        "SELECT shared_experiment_id AS at_id, id, 0 AS late FROM judge_test WHERE shared_experiment_id IN ({some})"
    )
    found = _rows(reader, _chosen(reader, chosen, of, limit), _JUDGE_TEST, "t.id")
    return Of([row | {"passed": bool(row["passed"])} for row in found.rows], found.left_out)


def publications(reader: Reader, of: Sequence[int], limit: int, always: Sequence[int] = ()) -> Of:
    """Where experiments were published to; ``replaced_at`` where something newer was published there."""
    chosen = (
        "SELECT shared_experiment_id AS at_id, id, 0 AS late FROM publication WHERE shared_experiment_id IN ({some})"
    )
    return _rows(reader, _chosen(reader, chosen, of, limit, always), _PUBLICATION, "p.id")


def published_at(reader: Reader, directory: str, experiment_id: int) -> list[Row]:
    """The newest publication of an experiment at a directory, if there is one."""
    return reader.rows(
        f"{_PUBLICATION} WHERE p.directory = :directory AND p.shared_experiment_id = :id ORDER BY p.id DESC LIMIT 1",
        directory=directory,
        id=experiment_id,
    )


def trainings(reader: Reader, ids: Sequence[int]) -> list[Row]:
    """Training runs, in the order of the ids."""
    return [_as_it_is(row) for row in _by_id(reader, _TRAINING, "r.id", ids)]


def trainings_on(reader: Reader, of: Sequence[int], limit: int) -> Of:
    """Training runs on experiments."""
    return _trained(reader, _TRAININGS_ON, of, limit)


def trainings_on_sources(reader: Reader, of: Sequence[int], limit: int) -> Of:
    """Training runs on the original files of source data sets."""
    return _trained(reader, _TRAININGS_ON_SOURCES, of, limit)


def data_of(reader: Reader, ids: Sequence[int]) -> list[Row]:
    """The data sets of training runs, by run and position; of imported runs with the batch that their path names."""
    return [
        row if row["batch_id"] is not None else row | {"batch_id": _batch_of(reader, row)}
        for row in _in(reader, _DATA, ids)
    ]


def _batch_of(reader: Reader, row: Row) -> int | None:
    parts = (row["path"] or "").split("/")
    if row["shared_experiment_id"] is None or SHARED in parts:
        return None
    held = reader.rows(
        """SELECT b.id, b.name FROM batch_membership m JOIN batch b ON b.id = m.batch_id
           WHERE m.shared_experiment_id = :id ORDER BY b.id""",
        id=row["shared_experiment_id"],
    )
    return next((int(each["id"]) for each in held if each["name"] in parts), None)


def sweep_runs(reader: Reader, sweep_id: int, limit: int) -> tuple[list[int], int]:
    """The first ``limit`` points of a sweep, each by its newest attempt, and how many there are."""
    rows = reader.rows(
        """SELECT MAX(id) AS id FROM training_run WHERE training_sweep_id = :sweep GROUP BY position
           ORDER BY position""",
        sweep=sweep_id,
    )
    return [row["id"] for row in rows[: limit or None]], len(rows)


def others_in_sweep(reader: Reader, run_id: int) -> int:
    """How many other runs the sweep of a run has."""
    rows = reader.rows(
        """SELECT COUNT(*) - 1 AS n FROM training_run
           WHERE training_sweep_id = (SELECT training_sweep_id FROM training_run WHERE id = :id)""",
        id=run_id,
    )
    return int(rows[0]["n"])


def siblings(
    reader: Reader, of: Sequence[int], batches: Iterable[int], runs: Sequence[int]
) -> list[tuple[int, str, int]]:
    """``(id, kind, number)`` of what else there is at experiments: training runs, ``batches`` and publications."""
    known, own = (", ".join(str(int(each)) for each in ids) or "-1" for ids in (batches, runs))
    counts = {
        "training_run": f"COUNT(DISTINCT CASE WHEN training_run_id NOT IN ({own}) THEN training_run_id END) AS n "
        "FROM training_data",
        "batch": f"COUNT(CASE WHEN batch_id NOT IN ({known}) THEN 1 END) AS n FROM batch_membership",
        "publication": "COUNT(*) AS n FROM publication",
    }
    return [
        (each, kind, int(reader.rows(f"SELECT {count} WHERE shared_experiment_id = :id", id=each)[0]["n"]))
        for each in of
        for kind, count in counts.items()
    ]


def agent_datasets(reader: Reader, ids: Sequence[int]) -> list[Row]:
    """Agent data sets with their ``perspectives``: what each agent was told, and what came of it."""
    perspectives: dict[int, list[Row]] = {each: [] for each in ids}
    for row in _in(
        reader,
        """SELECT agent_dataset_id AS of, condition, is_reference, reading, strategy, n_responses, n_failed, chrf
           FROM agent_perspective WHERE agent_dataset_id IN ({some}) ORDER BY agent_dataset_id, position""",
        ids,
    ):
        perspectives[row.pop("of")].append(row | {"is_reference": bool(row["is_reference"])})
    found = _by_id(reader, _AGENTS, "id", ids)
    return [row | {"is_trial": bool(row["is_trial"]), "perspectives": perspectives[row["id"]]} for row in found]


def agent_runs(reader: Reader, of: Sequence[int], limit: int, always: Sequence[int] = ()) -> Of:
    """Runs of `perspectives`, those that made data before others."""
    return _rows(reader, _chosen(reader, _AGENT_RUNS_OF, of, limit, always), _AGENT_RUN, "r.id")


def pool(reader: Reader, pool_id: int) -> Row:
    """A task pool."""
    return reader.rows(
        """SELECT p.id, p.fingerprint AS key, p.name, p.uuid, p.fingerprint, p.random_seed, p.difficulty_split,
                  p.n_tasks, p.n_easy, p.n_hard, p.n_short, p.mean_difficulty, p.created_at, p.data_digest,
                  p.config_path, p.description, p.command, o.mlflow_run_id
           FROM task_pool p LEFT JOIN mlflow_outbox o ON o.task_pool_id = p.id WHERE p.id = :id""",
        id=pool_id,
    )[0]


def benchmarks(reader: Reader, pool_id: int) -> list[Row]:
    """The benchmarks that a pool was drawn from, in the order of its config."""
    return reader.rows(
        """SELECT b.id, b.fingerprint AS key, b.name, b.fingerprint, b.path, b.source_digest, b.n_tasks, b.is_current,
                  b.created_at
           FROM task_pool_benchmark p JOIN benchmark b ON b.id = p.benchmark_id WHERE p.task_pool_id = :id
           ORDER BY p.position""",
        id=pool_id,
    )


def validations(reader: Reader, of: Sequence[int], limit: int, always: Sequence[int] = ()) -> Of:
    """What models made of pools."""
    return _rows(reader, _chosen(reader, _VALIDATIONS_OF, of, limit, always), _VALIDATION, "v.id")


def _trained(reader: Reader, chosen: str, of: Sequence[int], limit: int) -> Of:
    pairs, left = _chosen(reader, chosen, of, limit)
    found = {row["id"]: row for row in trainings(reader, list(dict.fromkeys(run for _, run in pairs)))}
    return Of([found[run] | {"of": at} for at, run in pairs], left)


def _as_it_is(row: Row) -> Row:
    if row["status"] == "running" and not sweeps.is_held(row):
        row["status"] = "interrupted"
    for hidden in ("pid", "pid_started", "heartbeat"):
        del row[hidden]
    return row


def _rows(reader: Reader, chosen: _Chosen, sql: str, column: str) -> Of:
    return Of(_by_id(reader, sql, column, [each for _, each in chosen[0]]), chosen[1])


def _chosen(reader: Reader, chosen: str, of: Sequence[int], limit: int, always: Sequence[int] = ()) -> _Chosen:
    """Of what is at each of ``of`` the newest ``limit``, oldest first, and those of ``always``; how many are left."""
    marked = ", ".join(str(int(each)) for each in always) or "-1"
    pairs: list[tuple[int, int]] = []
    left: dict[int, int] = {}
    for some in portions(of):
        rows = reader.rows(
            f"""SELECT at_id, id, total FROM (
                    SELECT at_id, id, COUNT(*) OVER (PARTITION BY at_id) AS total,
                           ROW_NUMBER() OVER (PARTITION BY at_id ORDER BY late, id DESC) AS place
                    FROM ({chosen.format(some=some)}) c) n
                WHERE place <= :limit OR id IN ({marked}) ORDER BY at_id, id""",
            limit=limit or EVERY,
        )
        pairs += [(row["at_id"], row["id"]) for row in rows]
        for row in rows:
            left[row["at_id"]] = left.get(row["at_id"], int(row["total"])) - 1
    return pairs, {at: n for at, n in left.items() if n}


def _by_id(reader: Reader, sql: str, column: str, ids: Sequence[int]) -> list[Row]:
    rows = {row["id"]: row for row in _in(reader, f"{sql} WHERE {column} IN ({{some}})", ids)}
    return [rows[each] for each in dict.fromkeys(ids)]


def _in(reader: Reader, sql: str, ids: Sequence[int]) -> list[Row]:
    return [row for some in portions(list(ids)) for row in reader.rows(sql.format(some=some))]
