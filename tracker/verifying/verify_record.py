"""Looks through samples, spending and tests of judges, some experiments and runs at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracker.record.catalogue import Reader, Row
from tracker.record.findings import Finding
from tracker.verifying.sample_findings import (
    Answers,
    checkpoint_findings,
    count_findings,
    judge_findings,
    run_findings,
    sample_findings,
    spending_findings,
)

_COUNTS = """
    SELECT shared_experiment_id AS id, COUNT(*) AS n,
           SUM(CASE WHEN status = 'accepted' THEN 1 ELSE 0 END) AS n_accepted,
           SUM(CASE WHEN status = 'rejected' THEN 1 ELSE 0 END) AS n_rejected,
           SUM(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) AS n_failed,
           SUM(CASE WHEN verdict = 'unclear' THEN 1 ELSE 0 END) AS n_unclear
    FROM sample WHERE shared_experiment_id IN (:ids) GROUP BY shared_experiment_id"""
_IMPORTED = "SELECT DISTINCT shared_experiment_id AS id FROM imported_file WHERE shared_experiment_id IN (:ids)"
# Most answers are the rephrased text, letter for letter; only of the others there is more to be done than to compare.
_UNLIKE = """
    SELECT s.shared_experiment_id AS id, s.position, s.original, s.rephrased, a.answer
    FROM sample s LEFT JOIN attempt a ON a.request_key = s.rephrase_request_key AND a.failure IS NULL
    WHERE s.shared_experiment_id IN (:ids) AND s.rephrased IS NOT NULL AND s.rephrase_request_key IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM attempt o WHERE o.request_key = s.rephrase_request_key AND o.failure IS NULL
                      AND o.answer = s.rephrased)
    ORDER BY s.shared_experiment_id, s.position"""
_VERDICTS = """
    SELECT s.shared_experiment_id AS id, MIN(s.position) AS position, s.verdict, a.answer
    FROM sample s LEFT JOIN attempt a ON a.request_key = s.judge_request_key AND a.failure IS NULL
    WHERE s.shared_experiment_id IN (:ids) AND s.decided_by = 'judge' AND s.judge_request_key IS NOT NULL
    GROUP BY s.shared_experiment_id, s.judge_request_key, s.verdict, a.answer
    ORDER BY s.shared_experiment_id, position"""
# Where an archive brought the runs of others who made the same, which of them paid for what is here cannot be told.
_SPENT = """
    SELECT e.id, r.finished_at <= e.completed_at AND (
               SELECT COUNT(*) FROM generation_run m WHERE m.shared_experiment_id = e.id AND m.outcome = 'made') = 1
           AS is_before,
           COALESCE(SUM(a.prompt_tokens), 0) AS prompt_tokens,
           COALESCE(SUM(a.completion_tokens), 0) AS completion_tokens, SUM(a.cost_usd) AS cost_usd,
           COUNT(a.prompt_tokens) - COUNT(a.cost_usd) AS n_unpriced
    FROM shared_experiment e JOIN generation_run r ON r.shared_experiment_id = e.id
    JOIN attempt a ON a.generation_run_id = r.id WHERE e.id IN (:ids)
    GROUP BY e.id, is_before"""
_CHECKPOINTS = """
    SELECT shared_experiment_id AS id, name, examples FROM checkpoint WHERE shared_experiment_id IN (:ids)
    ORDER BY shared_experiment_id, name"""
_POSITIONS = "SELECT position FROM sample WHERE shared_experiment_id = :id"

_GENERATION_RUNS = """
    SELECT r.id, r.uuid, e.dataset || '/' || e.name AS name, r.prompt_tokens, r.completion_tokens, r.cost_usd,
           COALESCE(SUM(a.prompt_tokens), 0) AS own_prompt_tokens,
           COALESCE(SUM(a.completion_tokens), 0) AS own_completion_tokens,
           CASE WHEN COUNT(a.prompt_tokens) = COUNT(a.cost_usd) THEN COALESCE(SUM(a.cost_usd), 0.0) END AS own_cost_usd
    FROM generation_run r JOIN shared_experiment e ON e.id = r.shared_experiment_id
    LEFT JOIN attempt a ON a.generation_run_id = r.id
    WHERE r.id > :after AND r.id <= :last AND r.status IN ('complete', 'partial', 'waiting')
      AND e.import_run_id IS NULL
    GROUP BY r.id, r.uuid, e.dataset, e.name, r.prompt_tokens, r.completion_tokens, r.cost_usd ORDER BY r.id"""
_JUDGE_TESTS = """
    SELECT t.id, e.dataset || '/' || e.name AS name, t.model, t.created_at, t.n_tested, t.n_correct, t.accuracy,
           t.required_accuracy, t.passed, COUNT(s.position) AS own_tested,
           COALESCE(SUM(CASE WHEN s.verdict = s.expected THEN 1 ELSE 0 END), 0) AS own_correct
    FROM judge_test t JOIN shared_experiment e ON e.id = t.shared_experiment_id
    LEFT JOIN judge_test_sample s ON s.judge_test_id = t.id
    GROUP BY t.id, e.dataset, e.name, t.model, t.created_at, t.n_tested, t.n_correct, t.accuracy, t.required_accuracy,
             t.passed
    ORDER BY t.id"""
_NOTHING: dict[str, float | None] = {"prompt_tokens": 0, "completion_tokens": 0, "cost_usd": 0.0}


def of_experiments(reader: Reader, experiments: Sequence[Row], answers: Answers | None) -> Iterator[Finding]:
    """What does not fit of the samples, counts and costs of these experiments; those that are not finished have none.

    What was imported has no samples of its own to be counted.
    """
    finished = [row for row in experiments if row["status"] in {"complete", "partial"} and row["data_digest"]]
    if not finished:
        return
    ids = [row["id"] for row in finished]
    imported = {row["id"] for row in _rows(reader, _IMPORTED, ids)}
    counts = {row["id"]: row for row in _rows(reader, _COUNTS, ids)}
    unlike = _by_id(_rows(reader, _UNLIKE, ids)) if answers else {}
    verdicts = _by_id(_rows(reader, _VERDICTS, ids)) if answers else {}
    spent, checkpoints = _by_id(_rows(reader, _SPENT, ids)), _by_id(_rows(reader, _CHECKPOINTS, ids))
    for row in finished:
        if row["id"] not in imported:
            yield from count_findings(row, counts.get(row["id"]))
        if answers:
            yield from sample_findings(row, unlike.get(row["id"], ()), verdicts.get(row["id"], ()), answers)
        if row["import_run_id"] is None:
            yield from spending_findings(row, *_bounds(spent.get(row["id"], ())))
        for checkpoint in checkpoints.get(row["id"], ()):
            positions = [each["position"] for each in reader.rows(_POSITIONS, id=row["id"])]
            yield from checkpoint_findings(row, checkpoint, positions)


def of_generation_runs(reader: Reader, after: int, last: int) -> tuple[int, list[Finding]]:
    """How many runs with ids from ``after`` (exclusive) to ``last`` have ended, and what does not fit of their cost."""
    rows = reader.rows(_GENERATION_RUNS, after=after, last=last)
    return len(rows), [each for row in rows for each in run_findings(row)]


def of_judge_tests(reader: Reader) -> tuple[int, list[Finding]]:
    """How many tests of judges there are, and what is not as their samples give it."""
    rows = reader.rows(_JUDGE_TESTS)
    return len(rows), [each for row in rows for each in judge_findings(row)]


def _bounds(spent: Sequence[Row]) -> tuple[Row, Row]:
    """The least and the most that an experiment can have cost, of what its runs paid before its end, and after."""
    least: dict[str, float | None] = dict(_NOTHING)
    most: dict[str, float | None] = dict(_NOTHING)
    for row in spent:
        for bound in (least, most) if row["is_before"] else (most,):
            for name, so_far in bound.items():
                unknown = so_far is None or (name == "cost_usd" and row["n_unpriced"])
                bound[name] = None if unknown or so_far is None else so_far + (row[name] or 0)
    return least, most


def _rows(reader: Reader, sql: str, ids: Sequence[int]) -> list[Row]:
    return reader.rows(sql.replace(":ids", ", ".join(map(str, ids))))


def _by_id(rows: Sequence[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["id"], []).append(row)
    return found
