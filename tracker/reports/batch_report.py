"""Everything that a report says of a batch or a purpose, out of the record: settings, acceptance, cost, lineage."""

# ruff: noqa: S608  what is put into a text here are lists of ids and conditions of this module; values are parameters

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tracker.listings import listings
from tracker.listings.compare import Comparison, compare
from tracker.record.catalogue import Reader, Row, portions
from tracker.reports import report_accuracy, report_samples
from tracker.reports.report_accuracy import Accuracies
from tracker.reports.report_samples import Samples
from tracker.reports.report_subject import BATCH, EXPERIMENTS_OF, GENERATION, RUNS_OF, TRAINING, Subject
from tracker.reports.report_sums import (
    Acceptance,
    Cost,
    Share,
    accepted,
    asked,
    by_setting,
    is_judged,
    paid_by,
    plus,
    summed,
)

MOST_EXPERIMENTS = 200
"""So many of the newest are listed one by one; figures of all count all."""
_EXPERIMENT = """
    SELECT o.id, o.fingerprint, o.dataset, o.name, o.reference, o.status, o.provider, o.model, o.temperature,
           o.validation_model, o.strategy, o.field_to_rephrase, o.purpose, o.description, o.original_batch, o.n_records,
           o.n_accepted, o.n_rejected, o.n_unclear, o.n_failed, o.prompt_tokens, o.completion_tokens, o.cost_usd,
           o.created_at, o.completed_at, o.legacy_fingerprint, o.directory, o.imported_from, o.data_digest,
           e.source_dataset_id, d.digest AS source_digest, d.origin AS source_origin
    FROM experiment_overview o JOIN shared_experiment e ON e.id = o.id
    JOIN source_dataset d ON d.id = e.source_dataset_id
    WHERE o.id IN ({ids})"""


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment's row; ``label`` by which it is shown; its acceptance, None where nobody judged.

    ``paid`` is what runs of the subject paid for it; None where no run of the subject asked an LLM: it was there.
    """

    row: Row
    label: str
    acceptance: Acceptance | None
    paid: Cost | None
    batches: tuple[str, ...]
    command: Row | None
    n_trained: int

    @property
    def cost_per_accepted_usd(self) -> float | None:
        """US dollars; None where the cost is not known, or nothing was accepted."""
        cost, accepted = self.row["cost_usd"], self.row["n_accepted"]
        return cost / accepted if cost is not None and accepted else None


@dataclass(frozen=True, slots=True)
class Report:
    """What is shown of a subject. ``experiments`` are the newest ones; the other figures count all ``n_experiments``.

    ``paid`` is what runs of the subject paid, ``paid_on_deleted`` in it for experiments that were deleted since.
    ``data_cost`` is that of the finished ones, which have ``n_paid`` accepted records; where nobody judged, these are
    all. ``settings`` have their values in the order of ``compared_ids``. ``as_of`` is the time of the newest row, so
    that the same record gives the same report.
    """

    subject: Subject
    as_of: str | None
    since: str | None
    experiments: tuple[Experiment, ...]
    n_experiments: int
    compared_ids: tuple[int, ...]
    statuses: dict[str, int]
    settings: Comparison | None
    acceptance: Acceptance
    by_setting: dict[str, list[Share]]
    n_unjudged: int
    n_imported: int
    paid: Cost
    paid_on_deleted: Cost
    data_cost: Cost
    n_paid: int
    n_calls: int
    n_cached: int
    n_tokens: int
    accuracies: Accuracies
    samples: tuple[Samples, ...]
    decisions: tuple[Row, ...]
    judge_tests: tuple[Row, ...]
    sources: tuple[Row, ...]
    sweeps: tuple[Row, ...]
    versions: dict[str, str]

    @property
    def n_left_out(self) -> int:
        return self.n_experiments - len(self.experiments)

    @property
    def cost_per_accepted_usd(self) -> float | None:
        """``data_cost`` for each accepted record of the same experiments; None where a part is not known."""
        whole = self.data_cost.usd
        return whole / self.n_paid if whole is not None and self.n_paid else None


def gather(reader: Reader, subject: Subject) -> Report:
    """All that is reported of the subject, read in one snapshot."""
    name = subject.name
    ids = sorted({row["id"] for role in subject.roles for row in reader.rows(EXPERIMENTS_OF[role], name=name)})
    rows = [row for some in portions(ids) for row in reader.rows(_EXPERIMENT.format(ids=some))]
    rows.sort(key=lambda row: (row["dataset"], row["name"]))
    settings = compare(listings.with_settings(reader, rows)) if rows else None
    runs = _generation_runs(reader, subject)
    on_deleted = _spent_on_deleted(reader, subject)
    run_ids = _training_runs(reader, subject, ids)
    shown_ids = set(sorted(ids)[-MOST_EXPERIMENTS:])
    shown = [row for row in rows if row["id"] in shown_ids]
    judged = [row for row in rows if is_judged(row)]
    finished = [row for row in rows if row["status"] != "unfinished"]
    return Report(
        subject=subject, as_of=_newest(reader, rows, runs, run_ids),
        since=min((row["created_at"] for row in rows), default=None),
        experiments=tuple(_experiments(reader, shown, runs)), n_experiments=len(rows),
        compared_ids=tuple(row["id"] for row in rows), statuses=_counted(row["status"] for row in rows),
        settings=settings, acceptance=accepted(judged), n_unjudged=len(rows) - len(judged),
        by_setting=by_setting(settings, rows) if settings else {},
        n_imported=sum(row["imported_from"] is not None for row in rows),
        paid=plus(paid_by(runs), on_deleted), paid_on_deleted=on_deleted,
        data_cost=summed([row["cost_usd"] for row in finished]), n_paid=sum(row["n_accepted"] for row in finished),
        n_calls=sum(row["n_calls"] for row in runs), n_cached=sum(row["n_cached"] for row in runs),
        n_tokens=sum(row["prompt_tokens"] + row["completion_tokens"] for row in runs),
        accuracies=report_accuracy.gather(reader, run_ids), samples=report_samples.gather(reader, shown),
        decisions=tuple(_decisions(reader, shown)), judge_tests=tuple(_judge_tests(reader, shown)),
        sources=tuple(_sources(reader, rows)), sweeps=tuple(_sweeps(reader, run_ids)), versions=_versions(reader, rows),
    )  # fmt: skip


def _generation_runs(reader: Reader, subject: Subject) -> list[Row]:
    where = " OR ".join(RUNS_OF[role] for role in subject.roles if role in RUNS_OF)
    if not where:
        return []
    return reader.rows(
        f"""SELECT g.id, g.shared_experiment_id, g.outcome, g.status, g.n_calls, g.n_cached, g.prompt_tokens,
                   g.completion_tokens, g.cost_usd, g.started_at, g.finished_at
            FROM generation_run g WHERE {where} ORDER BY g.id""",
        name=subject.name,
    )


def _spent_on_deleted(reader: Reader, subject: Subject) -> Cost:
    """What a batch paid for experiments that are in the trash, or gone; of a purpose nobody knows."""
    if BATCH not in subject.roles:
        return summed([])
    rows = reader.rows("SELECT spent FROM deletion WHERE restored_at IS NULL AND spent <> '{}' ORDER BY id")
    spent = [json.loads(row["spent"]) for row in rows]
    return summed([each[subject.name] for each in spent if subject.name in each])


def _training_runs(reader: Reader, subject: Subject, ids: Sequence[int]) -> list[int]:
    """The runs of the training purpose, or else those that trained on the experiments, whatever for."""
    if TRAINING in subject.roles:
        found = {row["id"] for row in reader.rows(
            "SELECT id FROM training_run WHERE purpose = :name", name=subject.name)}  # fmt: skip
        if GENERATION not in subject.roles:
            return sorted(found)
    else:
        found = set()
    for some in portions(ids):
        sql = f"SELECT DISTINCT training_run_id AS id FROM training_data WHERE shared_experiment_id IN ({some})"
        found |= {row["id"] for row in reader.rows(sql)}
    return sorted(found)


def _newest(reader: Reader, rows: Sequence[Row], runs: Sequence[Row], run_ids: Collection[int]) -> str | None:
    times = [row[name] for row in rows for name in ("created_at", "completed_at")]
    times += [row[name] for row in runs for name in ("started_at", "finished_at")]
    for some in portions(sorted(run_ids)):
        sql = "SELECT MAX(created_at) AS a, MAX(started_at) AS b, MAX(finished_at) AS c FROM training_run"
        times += reader.rows(f"{sql} WHERE id IN ({some})")[0].values()
    for some in portions([row["id"] for row in rows]):
        sql = "SELECT MAX(decided_at) AS at FROM decision"
        times += reader.rows(f"{sql} WHERE shared_experiment_id IN ({some})")[0].values()
    return max((each for each in times if each is not None), default=None)


def _counted(values: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in values:
        found[each] = found.get(each, 0) + 1
    return dict(sorted(found.items()))


def _experiments(reader: Reader, rows: Sequence[Row], runs: Sequence[Row]) -> list[Experiment]:
    ids = [row["id"] for row in rows]
    own: dict[int, list[Row]] = {each: [] for each in ids}
    for run in runs:
        if asked(run) and run["shared_experiment_id"] in own:
            own[run["shared_experiment_id"]].append(run)
    batches = listings.memberships(reader, ids)
    made = {
        row["id"]: row
        for some in portions(ids)
        for row in reader.rows(
            f"""SELECT g.shared_experiment_id AS id, g.command, g.config_path, g.started_at FROM generation_run g
                WHERE g.id IN (SELECT MAX(n.id) FROM generation_run n WHERE n.shared_experiment_id IN ({some})
                    AND n.outcome IN ('made', 'resumed') GROUP BY n.shared_experiment_id)"""
        )
    }
    trained = {
        row["id"]: row["n"]
        for some in portions(ids)
        for row in reader.rows(
            f"""SELECT shared_experiment_id AS id, COUNT(DISTINCT training_run_id) AS n FROM training_data
                WHERE shared_experiment_id IN ({some}) GROUP BY shared_experiment_id"""
        )
    }
    several = len({row["dataset"] for row in rows}) > 1
    return [
        Experiment(
            row, row["reference"] if several else row["name"],
            accepted([row]) if is_judged(row) else None,
            paid_by(own[row["id"]]) if own[row["id"]] else None,
            tuple(each["batch"] for each in batches[row["id"]]), made.get(row["id"]), trained.get(row["id"], 0),
        )
        for row in rows
    ]  # fmt: skip


def _decisions(reader: Reader, rows: Sequence[Row]) -> list[Row]:
    """For each experiment and checkpoint: how many samples people found what, and who they are."""
    names = {row["id"]: row["reference"] for row in rows}
    found: dict[tuple[int, str], Row] = {}
    for some in portions(list(names)):
        for row in reader.rows(
            f"""SELECT shared_experiment_id AS id, checkpoint, verdict, COUNT(*) AS n FROM sample_decision
                WHERE shared_experiment_id IN ({some}) GROUP BY shared_experiment_id, checkpoint, verdict"""
        ):
            empty = {"reference": names[row["id"]], "checkpoint": row["checkpoint"], "annotators": [], "verdicts": {}}
            found.setdefault((row["id"], row["checkpoint"]), empty)["verdicts"][row["verdict"]] = row["n"]
        for row in reader.rows(
            f"""SELECT DISTINCT shared_experiment_id AS id, checkpoint, annotator FROM decision
                WHERE shared_experiment_id IN ({some}) ORDER BY annotator"""
        ):
            if (row["id"], row["checkpoint"]) in found:
                found[row["id"], row["checkpoint"]]["annotators"].append(row["annotator"])
    return sorted(found.values(), key=lambda row: (row["reference"], row["checkpoint"] != "review"))


def _judge_tests(reader: Reader, rows: Sequence[Row]) -> list[Row]:
    return [
        row | {"passed": bool(row["passed"]), "reference": f"{row['dataset']}/{row['name']}"}
        for some in portions([row["id"] for row in rows])
        for row in reader.rows(
            f"""SELECT dataset, name, model, temperature, n_tested, n_correct, accuracy, required_accuracy, passed,
                       created_at FROM judge_test_overview WHERE shared_experiment_id IN ({some}) ORDER BY id"""
        )
    ]


def _sources(reader: Reader, rows: Sequence[Row]) -> list[Row]:
    return [
        row
        for some in portions(sorted({row["source_dataset_id"] for row in rows}))
        for row in reader.rows(
            f"""SELECT d.id, d.name, d.digest, d.origin, (SELECT SUM(s.n_records) FROM source_split s
                    WHERE s.source_dataset_id = d.id) AS n_records
                FROM source_dataset d WHERE d.id IN ({some}) ORDER BY d.name, d.id"""
        )
    ]


def _sweeps(reader: Reader, run_ids: Collection[int]) -> list[Row]:
    """The calls of `train` behind the runs, oldest first, with how many of the runs are theirs."""
    found: dict[int, Row] = {}
    for some in portions(sorted(run_ids)):
        for row in reader.rows(
            f"""SELECT w.id, w.uuid, w.purpose, w.command, w.config_path, w.started_at, w.model, w.task, w.method,
                       COUNT(*) AS n_runs
                FROM training_run r JOIN training_sweep w ON w.id = r.training_sweep_id WHERE r.id IN ({some})
                GROUP BY w.id, w.uuid, w.purpose, w.command, w.config_path, w.started_at, w.model, w.task, w.method"""
        ):
            before = found.get(row["id"], {"n_runs": 0})["n_runs"]
            found[row["id"]] = row | {"n_runs": row["n_runs"] + before}
    return [found[each] for each in sorted(found)]


def _versions(reader: Reader, rows: Sequence[Row]) -> dict[str, str]:
    """The packages of the newest generation run of these experiments."""
    newest = [
        row["id"]
        for some in portions([row["id"] for row in rows])
        for row in reader.rows(f"SELECT MAX(id) AS id FROM generation_run WHERE shared_experiment_id IN ({some})")
        if row["id"] is not None
    ]
    if not newest:
        return {}
    found = json.loads(reader.rows("SELECT versions FROM generation_run WHERE id = :id", id=max(newest))[0]["versions"])
    return {str(name): str(value) for name, value in found.items()}
