"""The questions that people ask the record: functions over a Reader that give rows by column name.

A listing gives the newest ``limit`` rows (0: all) in the order of their names, and how many there are in all.
"""

# ruff: noqa: S608  what is put into a text here are column lists and subqueries of this module; values are parameters

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tracker.listings import references
from tracker.paths import SHARED, Workspace
from tracker.record.catalogue import EVERY, Reader, Row, portions

_EXPERIMENT = """o.id, o.fingerprint, o.dataset, o.name, o.reference, o.status, o.provider, o.endpoint, o.model,
    o.temperature, o.top_p, o.max_tokens, o.validation_model, o.validation_temperature, o.strategy, o.field_to_rephrase,
    o.record_limit, o.draw, o.purpose, o.description, o.original_batch, o.n_batches, o.n_records, o.n_accepted,
    o.n_rejected, o.n_unclear, o.n_failed, o.acceptance_rate, o.prompt_tokens, o.completion_tokens, o.cost_usd,
    o.cost_per_accepted_usd, o.created_at, o.completed_at, o.data_digest,
    o.legacy_fingerprint, o.directory, CASE WHEN o.directory IS NOT NULL THEN (SELECT i.path FROM imported_file i
        WHERE i.shared_experiment_id = o.id AND i.split = 'train') END AS train_path"""
_LARGE = 20_000

_OF_BATCH = "SELECT m.shared_experiment_id FROM batch_membership m WHERE m.batch_id = :batch"
# From the memberships to the experiments, whose rows are wide ...
_OF_SMALL_BATCH = """
    SELECT m.shared_experiment_id FROM batch_membership m CROSS JOIN shared_experiment e
    WHERE m.batch_id = :batch AND e.id = m.shared_experiment_id AND e.dataset = :dataset"""
# ... or through the data set's index and the membership's, which reads no rows at all.
_OF_LARGE_BATCH = """
    SELECT m.shared_experiment_id FROM shared_experiment e CROSS JOIN batch_membership m
    WHERE m.batch_id = :batch AND e.id = m.shared_experiment_id AND e.dataset = :dataset"""


@dataclass(frozen=True, slots=True)
class Listing:
    """The rows that were asked for, and how many there would be without a limit."""

    rows: list[Row]
    total: int

    @property
    def left_out(self) -> int:
        return self.total - len(self.rows)


def batches(reader: Reader, limit: int = 0) -> Listing:
    """The newest batches with the number of their experiments."""
    rows = reader.rows(
        """SELECT b.id, b.name, b.purpose, b.description, b.created_at,
                  (SELECT COUNT(*) FROM batch_membership m WHERE m.batch_id = b.id) AS n_experiments
           FROM batch b
           WHERE b.id IN (SELECT id FROM batch WHERE deleted_at IS NULL ORDER BY id DESC LIMIT :limit)
           ORDER BY b.name""",
        limit=limit or EVERY,
    )
    return Listing(rows, _count(reader, "SELECT id FROM batch WHERE deleted_at IS NULL", {}))


def batch(reader: Reader, name: str) -> Row:
    """One batch; ``n_unpriced`` runs of it asked an LLM at no known price. Raises UnknownReference.

    ``cost_usd`` is that of the runs that are there; ``deleted`` holds what was paid for each deleted experiment.
    """
    row = references.batch(reader, name)
    found = reader.rows(
        """SELECT b.*, (SELECT COUNT(*) FROM generation_run r
                        WHERE r.batch_id = b.id AND r.n_calls > 0 AND r.cost_usd IS NULL) AS n_unpriced
           FROM batch_overview b WHERE b.id = :id""",
        id=row["id"],
    )[0]
    deleted = reader.rows("SELECT name, spent FROM deletion WHERE restored_at IS NULL AND spent <> '{}' ORDER BY id")
    spent = [(each["name"], json.loads(each["spent"])) for each in deleted]
    return found | {"deleted": [{"name": name, "cost_usd": of[row["name"]]} for name, of in spent if row["name"] in of]}


def batch_experiments(reader: Reader, name: str, dataset: str | None = None, limit: int = 0) -> Listing:
    """The newest experiments of a batch. Raises UnknownReference for an unknown batch or data set."""
    batch_id = references.batch(reader, name)["id"]
    chosen, of = _OF_BATCH, {"batch": batch_id}
    total = _count(reader, chosen, of)
    if dataset is not None:
        references.dataset(reader, dataset)
        chosen, of = (_OF_SMALL_BATCH if total < _LARGE else _OF_LARGE_BATCH), of | {"dataset": dataset}
        total = _count(reader, chosen, of)
    rows = reader.rows(
        f"""SELECT o.batch, o.reused, o.joined_at, {_EXPERIMENT} FROM batch_experiment o
            WHERE o.batch_id = :batch AND o.id IN ({chosen} ORDER BY m.shared_experiment_id DESC LIMIT :limit)
            ORDER BY o.dataset, o.name""",
        **of,
        limit=limit or EVERY,
    )
    return Listing([_booleans(row) for row in rows], total)


def names_in_batch(reader: Reader, batch_id: int, limit: int = 0) -> list[Row]:
    """``id``, ``dataset``, ``name`` and ``status`` of the newest experiments of a batch."""
    return reader.rows(
        f"""SELECT id, dataset, name, status FROM shared_experiment
            WHERE id IN ({_OF_BATCH} ORDER BY m.shared_experiment_id DESC LIMIT :limit) ORDER BY dataset, name""",
        batch=batch_id,
        limit=limit or EVERY,
    )


def experiments(reader: Reader, dataset: str | None = None, limit: int = 0) -> Listing:
    """The newest shared experiments. Raises UnknownReference for an unknown data set."""
    chosen, newest, of = "SELECT id FROM shared_experiment", "id", {}
    if dataset is not None:
        references.dataset(reader, dataset)
        # The sign keeps SQLite from walking through the wide rows by id until enough of the data set are found.
        chosen, newest, of = f"{chosen} WHERE dataset = :dataset", "+id", {"dataset": dataset}
    rows = reader.rows(
        f"""SELECT {_EXPERIMENT} FROM experiment_overview o
            WHERE o.id IN ({chosen} ORDER BY {newest} DESC LIMIT :limit) ORDER BY o.dataset, o.name""",
        **of,
        limit=limit or EVERY,
    )
    # Counted by itself a table is not read, only the smallest of its indexes.
    total = reader.rows("SELECT COUNT(*) AS n FROM shared_experiment")[0]["n"] if not of else _count(reader, chosen, of)
    return Listing(rows, total)


def experiment(reader: Reader, ref: str, workspace: Workspace) -> Row:
    """Everything in one experiment's row, ``settings`` and ``identity`` as objects.

    REF is what ``references.find`` takes. Raises UnknownReference.
    """
    found = references.find(reader, workspace, ref)
    row = reader.rows(
        f"""SELECT {_EXPERIMENT}, o.digest, o.settings, e.identity, e.import_run_id, d.id AS source_dataset_id,
                   d.digest AS source_digest, d.origin AS source_origin, e.lease_host, e.lease_pid, e.lease_since
            FROM experiment_overview o JOIN shared_experiment e ON e.id = o.id
            JOIN source_dataset d ON d.id = e.source_dataset_id WHERE o.id = :id""",
        id=found.id,
    )[0]
    return _parsed(row)


def with_settings(reader: Reader, rows: Sequence[Row]) -> list[Row]:
    """Rows of experiments with ``settings`` and ``identity`` as objects, as ``experiment`` gives them."""
    found: dict[int, Row] = {}
    for some in portions([row["id"] for row in rows]):
        for each in reader.rows(f"SELECT id, settings, identity FROM shared_experiment WHERE id IN ({some})"):
            found[each["id"]] = _parsed(each)
    return [row | found[row["id"]] for row in rows]


def memberships(reader: Reader, experiment_ids: Sequence[int]) -> dict[int, list[Row]]:
    """The batches that hold each experiment (``batch``, ``reused``), in the order in which they asked for it."""
    found: dict[int, list[Row]] = {experiment_id: [] for experiment_id in experiment_ids}
    for some in portions(experiment_ids):
        for row in reader.rows(
            f"""SELECT m.shared_experiment_id AS id, b.name AS batch, m.reused FROM batch_membership m
                JOIN batch b ON b.id = m.batch_id WHERE m.shared_experiment_id IN ({some})
                ORDER BY m.created_at, b.id"""
        ):
            found[row.pop("id")].append(_booleans(row))
    return found


def generation_runs(reader: Reader, experiment_id: int) -> list[Row]:
    """The generation runs of an experiment, oldest first, with MLflow's run id where it was logged."""
    return reader.rows(
        """SELECT r.uuid, b.name AS batch, r.outcome, r.step, r.status, r.started_at, r.duration_s,
                  r.config_path, r.command,
                  r.n_calls, r.n_cached, r.n_retried, r.n_rate_limited, r.prompt_tokens, r.completion_tokens,
                  r.cost_usd, r.error, o.mlflow_run_id
           FROM generation_run r JOIN batch b ON b.id = r.batch_id
           LEFT JOIN mlflow_outbox o ON o.generation_run_id = r.id
           WHERE r.shared_experiment_id = :id ORDER BY r.started_at, r.id""",
        id=experiment_id,
    )


def judge_tests(reader: Reader, experiment_id: int) -> list[Row]:
    """Every test of a judge on an experiment, oldest first; ``settings`` as an object, with the prompt.

    ``number`` counts the tests, ``prompt_number`` their different prompts in the order in which they were first tried.
    """
    rows = reader.rows(
        """SELECT t.model, t.temperature, t.n_tested, t.n_correct, t.accuracy, t.required_accuracy, t.passed,
                  t.created_at, t.judge_key, t.test_set_key, t.run_uuid, t.cost_usd, o.mlflow_run_id, t.settings
           FROM judge_test_overview t LEFT JOIN mlflow_outbox o ON o.generation_run_id = t.generation_run_id
           WHERE t.shared_experiment_id = :id ORDER BY t.id""",
        id=experiment_id,
    )
    found = [row | {"passed": bool(row["passed"]), "settings": json.loads(row["settings"])} for row in rows]
    prompts = list(dict.fromkeys(row["settings"]["validation_prompt"] for row in found))
    return [
        row | {"number": number, "prompt_number": prompts.index(row["settings"]["validation_prompt"]) + 1}
        for number, row in enumerate(found, 1)
    ]


def samples(reader: Reader, experiment_id: int, limit: int) -> list[Row]:
    """The first ``limit`` records of an experiment: original, rephrased, status, verdict, and what people decided.

    ``judge_answer`` is what a judge said that is unclear.
    """
    return reader.rows(
        """SELECT s.position, s.original, s.rephrased, s.status, s.verdict, s.decided_by, d.verdict AS decision,
                  s.error, CASE WHEN s.verdict = 'unclear' THEN
                      (SELECT a.answer FROM attempt a WHERE a.request_key = s.judge_request_key AND a.failure IS NULL
                       ORDER BY a.id LIMIT 1) END AS judge_answer
           FROM sample_side_by_side s
           LEFT JOIN sample_decision d
               ON d.shared_experiment_id = s.shared_experiment_id AND d.position = s.position
           WHERE s.shared_experiment_id = :id ORDER BY s.position LIMIT :limit""",
        id=experiment_id,
        limit=limit,
    )


def files(reader: Reader, experiment: Row) -> list[Row]:
    """The data files of an experiment, a row as ``experiment`` gives it: ``split``, ``filename``, ``n_records``."""
    from tracker.record.imported import splits

    found = splits(reader, experiment)
    return [
        {"split": split, "filename": found[split]["path"].rpartition("/")[2], "n_records": found[split]["n_records"]}
        for split in ("train", "validation", "test")
        if split in found
    ]


def data_paths(
    reader: Reader, workspace: Workspace, batch: str | None = None, dataset: str | None = None, limit: int = 0
) -> Listing:
    """Where the newest experiments lie: ``batch_path`` and ``shared_path``.

    The batch is ``batch``, else the first that asked for the experiment; ``batches`` has all of them. Paths are those
    a training config takes: relative to the root, with the data set's directory at the end.
    """
    if batch is None:
        found = experiments(reader, dataset, limit)
    else:
        batch = str(references.batch(reader, batch)["name"])
        found = batch_experiments(reader, batch, dataset, limit)
    held_by = memberships(reader, [row["id"] for row in found.rows])
    rows = [_paths(workspace, row, batch, [held["batch"] for held in held_by[row["id"]]]) for row in found.rows]
    return Listing(rows, found.total)


def resolve_path(reader: Reader, workspace: Workspace, path: str) -> Row:
    """The other side of a path: from a batch's to the shared one, from the shared one to every batch's.

    ``batch`` is the batch in the path, None where a shared path (or any other REF) was given; ``references`` holds
    every batch with its path. Answers from the record, so it also tells where data that was deleted belongs.
    """
    found = references.find(reader, workspace, path)
    row = reader.rows(f"SELECT {_EXPERIMENT} FROM experiment_overview o WHERE o.id = :id", id=found.id)[0]
    held_by = memberships(reader, [found.id])[found.id]
    reused = next((held["reused"] for held in held_by if held["batch"] == found.batch), None)
    resolved = _paths(workspace, row, found.batch, [held["batch"] for held in held_by])
    return resolved | {
        "batch": found.batch,
        "batch_path": resolved["batch_path"] if found.batch is not None else None,
        "reused": reused,
        "references": [held | {"path": data_path(workspace, row, held["batch"])} for held in held_by],
    }


def path_of(reader: Reader, workspace: Workspace, fingerprint: str, batch: str | None = None) -> str:
    """``data_path`` of the experiment with a fingerprint."""
    sql = f"SELECT {_EXPERIMENT} FROM experiment_overview o WHERE o.fingerprint = :fingerprint"
    return data_path(workspace, reader.rows(sql, fingerprint=fingerprint)[0], batch)


def data_path(workspace: Workspace, row: Row, batch: str | None = None) -> str:
    """What a training config takes for an experiment: its data in ``batch``, or under ``_shared``.

    For data that was imported and stays where it is, that place, whatever the batch.
    """
    dataset, name, directory = row["dataset"], row["name"], row.get("directory")
    below = str(row["train_path"] or "").rpartition("/")[0] if directory is not None else dataset
    if directory is not None and directory != workspace.relative(workspace.experiment_dir(dataset, name)):
        return workspace.relative(workspace.root / directory / below)
    return workspace.relative(workspace.link(batch or SHARED, dataset, name) / below)


def _paths(workspace: Workspace, row: Row, batch: str | None, held_by: Sequence[str]) -> Row:
    shown = batch if batch is not None else next(iter(held_by), None)
    return {
        **{key: row[key] for key in ("id", "dataset", "name", "reference", "fingerprint", "status", "original_batch")},
        "batch": shown,
        "batch_path": data_path(workspace, row, shown) if shown is not None else None,
        "shared_path": data_path(workspace, row),
        "batches": list(held_by),
    }


def _count(reader: Reader, chosen: str, of: Row) -> int:
    return int(reader.rows(f"SELECT COUNT(*) AS n FROM ({chosen}) c", **of)[0]["n"])


def _parsed(row: Row) -> Row:
    identity = json.loads(row["identity"])
    return row | {"settings": json.loads(row["settings"]), "identity": identity.get("identity", identity)}


def _booleans(row: Row) -> Row:
    return row | {"reused": bool(row["reused"])}
