"""Who is at work in a workspace: every row that a process holds, and whether that process is still there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tracker.clock import Process, is_gone
from tracker.record.catalogue import Reader

CHECKPOINT = "checkpoint"
CHECKPOINT_KEPT = frozenset({"steps-000000000.log", "evaluations.jsonl"})
"""What stays of the checkpoint, in a training run's directory, of a run that is complete: it replays it."""

_ROWS = {
    "generation run": """
        SELECT r.id, e.dataset || '/' || e.name AS name, r.host, r.pid, r.pid_started, r.started_at AS since,
               CASE r.outcome WHEN 'reused' THEN r.started_at WHEN 'tested' THEN COALESCE(r.heartbeat, r.started_at)
                    ELSE COALESCE(e.lease_heartbeat, r.started_at) END AS last_seen
        FROM generation_run r JOIN shared_experiment e ON e.id = r.shared_experiment_id WHERE r.status = 'running'
        ORDER BY r.id""",
    "experiment": """
        SELECT id, dataset || '/' || name AS name, lease_host AS host, lease_pid AS pid, lease_started AS pid_started,
               lease_since AS since, lease_heartbeat AS last_seen
        FROM shared_experiment e WHERE lease_host IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM generation_run r WHERE r.shared_experiment_id = e.id AND r.status = 'running')
        ORDER BY id""",
    "agent run": """
        SELECT r.id, d.name, r.host, r.pid, r.pid_started, r.started_at AS since,
               COALESCE(d.lease_heartbeat, r.started_at) AS last_seen
        FROM agent_run r JOIN agent_dataset d ON d.id = r.agent_dataset_id WHERE r.status = 'running' ORDER BY r.id""",
    "agent data set": """
        SELECT id, name, lease_host AS host, lease_pid AS pid, lease_started AS pid_started, lease_since AS since,
               lease_heartbeat AS last_seen
        FROM agent_dataset d WHERE lease_host IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM agent_run r WHERE r.agent_dataset_id = d.id AND r.status = 'running')
        ORDER BY id""",
    "pool validation": """
        SELECT v.id, p.name || ' by ' || v.model AS name, v.host, v.pid, v.pid_started, v.started_at AS since,
               v.heartbeat AS last_seen
        FROM pool_validation v JOIN task_pool p ON p.id = v.task_pool_id WHERE v.status = 'running' ORDER BY v.id""",
    "training run": """
        SELECT id, directory AS name, host, pid, pid_started, COALESCE(started_at, created_at) AS since,
               COALESCE(heartbeat, created_at) AS last_seen
        FROM training_run WHERE status = 'running' ORDER BY id""",
    "training sweep": """
        SELECT id, purpose || ': ' || model || ' on ' || task AS name, host, pid, pid_started, started_at AS since,
               COALESCE(heartbeat, started_at) AS last_seen
        FROM training_sweep WHERE status = 'running' ORDER BY id""",
}


@dataclass(frozen=True, slots=True)
class Work:
    """A row that says that a process works on it: its kind, id and name, and since when (stored times)."""

    kind: str
    id: int
    name: str
    process: Process | None
    since: str
    last_seen: str

    def is_alive(self) -> bool:
        """Whether that process lives, as far as anybody can know."""
        return self.process is not None and not is_gone(self.process, self.last_seen)

    def __str__(self) -> str:
        since = self.since[:19].replace("T", " ")
        return f"{self.kind} {self.name}: {self.process or 'nobody'}, since {since} UTC"


def work(reader: Reader) -> Iterator[Work]:
    """Every row of the record that a process is said to work on."""
    for kind, sql in _ROWS.items():
        for row in reader.rows(sql):
            process = None if row["pid"] is None else Process(row["host"], row["pid"], row["pid_started"] or 0.0)
            yield Work(kind, row["id"], row["name"], process, row["since"] or row["last_seen"], row["last_seen"])
