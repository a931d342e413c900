"""What people ask the record about agent data sets: functions over a Reader that give rows by column name.

``made_by`` is the process that makes a data set now (``host``, ``pid``, ``since``), None where none lives. Responses,
tokens and costs of what is not finished are counted as they stand.
"""

# ruff: noqa: S608  what is put into a text here are column lists and subqueries of this module; values are parameters

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tracker import clock
from tracker.clock import Process
from tracker.errors import UnknownReference
from tracker.listings.agent_references import find
from tracker.listings.listings import Listing
from tracker.paths import Workspace
from tracker.record.catalogue import EVERY, Reader, Row, portions
from tracker.views.agent_view import is_finished, path_of

_LISTED = """o.id, o.fingerprint, o.name, o.task_type, o.task_description, o.status, o.provider, o.endpoint, o.model,
    o.temperature, o.top_p, o.max_tokens, o.draw, o.is_trial, o.add_references, o.n_inputs, o.n_perspectives,
    o.n_responses, o.n_failed, o.n_calls, o.n_cached, o.estimated_prompt_tokens, o.estimated_completion_tokens,
    d.tokenizer, o.prompt_tokens, o.completion_tokens, o.cost_usd, o.n_runs, o.created_at, o.completed_at,
    o.data_digest, o.origin, o.source_digest, d.lease_host, d.lease_pid, d.lease_started, d.lease_since,
    d.lease_heartbeat"""
_FROM = "FROM agent_dataset_overview o JOIN agent_dataset d ON d.id = o.id"
_UNKNOWN = dict.fromkeys(("mean_words", "mean_characters", "mean_completion_tokens", "mean_latency_s", "chrf"))


def datasets(reader: Reader, workspace: Workspace, task_type: str | None = None, limit: int = 0) -> Listing:
    """The newest ``limit`` agent data sets (0: all), by task type, the newest last.

    Raises UnknownReference for an unknown task type.
    """
    where, of = (
        ("", {})
        if task_type is None
        else ("WHERE task_type = :task", {"task": task_type.encode(errors="replace").decode()})
    )
    total = int(reader.rows(f"SELECT COUNT(*) AS n FROM agent_dataset {where}", **of)[0]["n"])
    if task_type is not None and not total:
        known = [row["task_type"] for row in reader.rows("SELECT DISTINCT task_type FROM agent_dataset")]
        hint = f"Task types are {', '.join(sorted(known)[:10])}." if known else "There are no agent data sets yet."
        raise UnknownReference("agent data sets of task type", task_type, known, hint=hint)
    rows = reader.rows(
        f"""SELECT {_LISTED} {_FROM}
            WHERE o.id IN (SELECT id FROM agent_dataset {where} ORDER BY id DESC LIMIT :limit)
            ORDER BY o.task_type, o.id""",
        **of,
        limit=limit or EVERY,
    )
    return Listing(_complete(reader, workspace, rows), total)


def dataset(reader: Reader, workspace: Workspace, ref: str) -> Row:
    """All in one agent data set's row, ``settings``, ``identity`` and ``config`` as objects.

    REF is what ``agent_references.find`` takes. Raises UnknownReference.
    """
    rows = reader.rows(
        f"""SELECT {_LISTED}, o.settings, d.identity, d.config, d.digest, d.source_dataset_id {_FROM}
            WHERE o.id = :id""",
        id=find(reader, workspace, ref),
    )
    row = _complete(reader, workspace, rows)[0]
    objects = {name: json.loads(row[name]) for name in ("settings", "identity", "config")}
    return row | objects | {"identity": objects["identity"].get("identity", objects["identity"])}


def conditions(reader: Reader, dataset_ids: Sequence[int]) -> dict[int, list[Row]]:
    """The perspectives of each agent data set in their order, with what came of them over all inputs.

    While a data set is being made only what is answered and failed is known: means and chrF are None.
    """
    found: dict[int, list[Row]] = {dataset_id: [] for dataset_id in dataset_ids}
    for some in portions(dataset_ids):
        counted = _by_perspective(reader, some)
        for row in reader.rows(
            f"""SELECT p.agent_dataset_id, p.position, p.condition, p.is_reference, p.n_responses, p.n_failed,
                       p.mean_words, p.mean_characters, p.mean_completion_tokens, p.mean_latency_s, p.chrf, p.reading,
                       p.strategy, d.n_inputs, d.data_digest IS NULL AS is_open
                FROM agent_perspective p JOIN agent_dataset d ON d.id = p.agent_dataset_id
                WHERE p.agent_dataset_id IN ({some}) ORDER BY p.agent_dataset_id, p.position"""
        ):
            dataset_id, n_inputs = row.pop("agent_dataset_id"), row.pop("n_inputs")
            if row.pop("is_open"):
                counts = counted.get((dataset_id, row["position"]), {})
                answered = n_inputs if row["is_reference"] else counts.get("answered", 0)
                row |= {**_UNKNOWN, "n_responses": answered, "n_failed": counts.get("failed", 0)}
            found[dataset_id].append(row | {"is_reference": bool(row["is_reference"])})
    return found


def _by_perspective(reader: Reader, dataset_ids: str) -> dict[tuple[int, int], dict[str, int]]:
    """Responses by status, of what is not finished: of the rest it is recorded."""
    found: dict[tuple[int, int], dict[str, int]] = {}
    for row in reader.rows(
        f"""SELECT r.agent_dataset_id AS id, r.perspective, r.status, COUNT(*) AS n
            FROM agent_response r JOIN agent_dataset d ON d.id = r.agent_dataset_id
            WHERE d.id IN ({dataset_ids}) AND d.data_digest IS NULL
            GROUP BY r.agent_dataset_id, r.perspective, r.status"""
    ):
        found.setdefault((row["id"], row["perspective"]), {})[row["status"]] = row["n"]
    return found


def runs(reader: Reader, dataset_ids: Sequence[int]) -> dict[int, list[Row]]:
    """The runs on each agent data set, oldest first, with MLflow's run id where they were logged.

    ``status`` is interrupted where a run that is not ended has no process any more.
    """
    found: dict[int, list[Row]] = {dataset_id: [] for dataset_id in dataset_ids}
    for some in portions(dataset_ids):
        for row in reader.rows(
            f"""SELECT r.agent_dataset_id, r.uuid, r.outcome, r.status, r.started_at, r.finished_at, r.duration_s,
                       r.config_path, r.command, r.n_responses, r.n_failed, r.n_calls, r.n_cached, r.n_retried,
                       r.n_rate_limited, r.prompt_tokens, r.completion_tokens, r.tokens_estimated, r.cost_usd,
                       r.latency_p50_s, r.latency_p95_s, r.latency_p99_s, r.error, o.mlflow_run_id,
                       r.host, r.pid, r.pid_started, COALESCE(d.lease_heartbeat, r.started_at) AS heartbeat
                FROM agent_run r JOIN agent_dataset d ON d.id = r.agent_dataset_id
                LEFT JOIN mlflow_outbox o ON o.agent_run_id = r.id
                WHERE r.agent_dataset_id IN ({some}) ORDER BY r.started_at, r.id"""
        ):
            process = Process(row["host"], row["pid"], row.pop("pid_started"))
            heartbeat = row.pop("heartbeat")
            gone = row["status"] == "running" and clock.is_gone(process, heartbeat)
            changes = {"tokens_estimated": bool(row["tokens_estimated"])} | ({"status": "interrupted"} if gone else {})
            found[row.pop("agent_dataset_id")].append(row | changes)
    return found


def inputs(reader: Reader, row: Row) -> list[Row]:
    """The inputs of an agent data set in their order: ``input`` and ``reference`` (None where there is none)."""
    lines = reader.rows(
        """SELECT c.line FROM source_record c JOIN source_split p ON p.id = c.source_split_id
           WHERE p.source_dataset_id = :id ORDER BY c.position""",
        id=row["source_dataset_id"],
    )
    parsed = (json.loads(each["line"]) for each in lines)
    return [{"input": each["input"], "reference": each.get("reference")} for each in parsed]


def responses(reader: Reader, dataset_id: int, positions: Sequence[int] | None = None) -> dict[tuple[int, int], Row]:
    """What agents answered, by (position of the input, position of the perspective); ``positions``: only to these."""
    columns = "position, perspective, status, response, preparation, error"
    of = f"SELECT {columns} FROM agent_response WHERE agent_dataset_id = :id"
    chosen = [of] if positions is None else [f"{of} AND position IN ({some})" for some in portions(positions)]
    found = [row for sql in chosen for row in reader.rows(sql, id=dataset_id)]
    return {(row.pop("position"), row.pop("perspective")): row for row in found}


def failures(reader: Reader, dataset_id: int, limit: int = 0) -> list[Row]:
    """The first ``limit`` responses that failed (0: all): input ``number`` from 1, ``condition``, ``error``."""
    return reader.rows(
        """SELECT r.position + 1 AS number, p.condition, r.error FROM agent_response r
           JOIN agent_perspective p ON p.agent_dataset_id = r.agent_dataset_id AND p.position = r.perspective
           WHERE r.agent_dataset_id = :id AND r.status = 'failed' ORDER BY r.position, r.perspective LIMIT :limit""",
        id=dataset_id,
        limit=limit or EVERY,
    )


def samples(reader: Reader, row: Row, shown: Sequence[Row], positions: Sequence[int]) -> list[Row]:
    """Inputs, counted from 1 as ``number``, with their ``responses`` under the conditions ``shown``, in that order."""
    texts = inputs(reader, row)
    answers = responses(reader, row["id"], positions)
    return [
        {
            "number": at + 1,
            **texts[at],
            "responses": [{"condition": each["condition"], **response(each, texts[at], answers, at)} for each in shown],
        }
        for at in positions
    ]


def response(condition: Row, record: Row, answers: Mapping[tuple[int, int], Row], at: int) -> Row:
    """What there is under a condition for the input ``record`` at position ``at``; ``answers`` as ``responses`` gives.

    The status of what is not there yet is missing, that of a reference in an agent's place reference.
    """
    missing = {"status": "missing", "response": None, "preparation": None, "error": None}
    if condition["is_reference"]:
        return missing | {"status": "reference", "response": record["reference"]}
    return dict(answers.get((at, condition["position"]), missing))


def chosen_conditions(all_conditions: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Those of the conditions that are called so, upper or lower case; all where no name is given.

    Raises UnknownReference with close matches.
    """
    known = [str(each["condition"]) for each in all_conditions]
    for name in names:
        if name.casefold() not in map(str.casefold, known):
            raise UnknownReference("condition", name, known, hint=f"There are: {', '.join(known)}.")
    wanted = {name.casefold() for name in names}
    return [each for each in all_conditions if not wanted or str(each["condition"]).casefold() in wanted]


def position_of(row: Row, number: int) -> int:
    """Where input ``number``, counted from 1, lies. Raises UnknownReference where there are fewer."""
    if not 1 <= number <= row["n_inputs"]:
        hint = f"{row['name']} has {row['n_inputs']:,} inputs, counted from 1."
        raise UnknownReference("input", str(number), hint=hint)
    return number - 1


def _complete(reader: Reader, workspace: Workspace, rows: Sequence[Row]) -> list[Row]:
    """Rows with ``path`` and ``made_by``, and what stands of those that are not finished or worked on now."""
    open_ids = [row["id"] for row in rows if row["status"] == "unfinished" or row["lease_host"] is not None]
    counted, spent = _responses_now(reader, open_ids), _spent_now(reader, open_ids)
    found = []
    for row in rows:
        holder = _holder(row)
        path = workspace.relative(workspace.data_dir / path_of(row["name"])) if is_finished(row) else None
        now = {**counted.get(row["id"], {}), **spent.get(row["id"], {})} if row["id"] in open_ids else {}
        kept = {name: value for name, value in row.items() if not name.startswith("lease_")}
        booleans = {name: bool(row[name]) for name in ("add_references", "is_trial")}
        found.append({**kept, **booleans, **now, "path": path, "made_by": holder})
    return found


def _holder(row: Row) -> Row | None:
    if row["lease_host"] is None:
        return None
    process = Process(row["lease_host"], row["lease_pid"], row["lease_started"])
    if clock.is_gone(process, row["lease_heartbeat"]):
        return None
    return {"host": process.host, "pid": process.pid, "since": row["lease_since"]}


def _responses_now(reader: Reader, dataset_ids: Sequence[int]) -> dict[int, Row]:
    found: dict[int, Row] = {dataset_id: {"n_responses": 0, "n_failed": 0} for dataset_id in dataset_ids}
    for some in portions(dataset_ids):
        for row in reader.rows(
            f"""SELECT agent_dataset_id AS id, status, COUNT(*) AS n FROM agent_response
                WHERE agent_dataset_id IN ({some}) GROUP BY agent_dataset_id, status"""
        ):
            found[row["id"]]["n_failed" if row["status"] == "failed" else "n_responses"] = row["n"]
    return found


def _spent_now(reader: Reader, dataset_ids: Sequence[int]) -> dict[int, Row]:
    """Calls, tokens and cost; the cost is unknown as soon as that of one answer is."""
    found: dict[int, Row] = {}
    for some in portions(dataset_ids):
        for row in reader.rows(
            f"""SELECT r.agent_dataset_id AS id, COUNT(a.id) AS n_calls,
                       COALESCE(SUM(a.prompt_tokens), 0) AS prompt_tokens,
                       COALESCE(SUM(a.completion_tokens), 0) AS completion_tokens, SUM(a.cost_usd) AS cost_usd,
                       COUNT(a.prompt_tokens) AS n_answered, COUNT(a.cost_usd) AS n_priced
                FROM agent_run r LEFT JOIN attempt a ON a.agent_run_id = r.id
                WHERE r.agent_dataset_id IN ({some}) GROUP BY r.agent_dataset_id"""
        ):
            is_priced = row.pop("n_answered") == row.pop("n_priced")
            cost = (row["cost_usd"] or 0.0) if is_priced else None
            found[row.pop("id")] = row | {"cost_usd": cost}
    return found
