"""How the tables hang together where rows are taken out of a record or put into one: keys, and what follows what.

Every table and every foreign key of the schema is classified in here; a test holds that none is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from functools import cache
from typing import Any

from tracker.schema import METADATA, table

Row = dict[str, Any]
Key = tuple[Any, ...]

LOCAL = frozenset({"mlflow_outbox", "cost_reservation", "endpoint_limit", "deletion"})
"""Tables that say something about one machine; they are in no bundle."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "source_dataset": ("digest",),
    "source_split": ("source_dataset_id", "split"),
    "source_record": ("source_split_id", "position"),
    "batch": ("name",),
    "import_run": ("uuid",),
    "shared_experiment": ("fingerprint",),
    "imported_file": ("shared_experiment_id", "path"),
    "batch_membership": ("batch_id", "shared_experiment_id"),
    "generation_run": ("uuid",),
    "message": ("key",),
    "request": ("key",),
    "attempt": ("request_key", "started_at", "ordinal"),
    "sample": ("shared_experiment_id", "position"),
    "decision": ("shared_experiment_id", "position", "checkpoint", "annotator", "decided_at"),
    "checkpoint": ("shared_experiment_id", "name"),
    "judge_test": ("generation_run_id",),
    "judge_test_sample": ("judge_test_id", "position"),
    "publication": ("shared_experiment_id", "directory", "published_at"),
    "training_sweep": ("uuid",),
    "training_run": ("uuid",),
    "training_data": ("training_run_id", "position"),
    "training_metric": ("training_run_id", "name", "step"),
    "prediction": ("training_run_id", "stage", "position"),
    "agent_dataset": ("fingerprint",),
    "agent_perspective": ("agent_dataset_id", "position"),
    "agent_response": ("agent_dataset_id", "position", "perspective"),
    "agent_run": ("uuid",),
    "benchmark": ("fingerprint",),
    "benchmark_task": ("benchmark_id", "position"),
    "task_pool": ("fingerprint",),
    "task_pool_benchmark": ("task_pool_id", "benchmark_id"),
    "task_pool_task": ("task_pool_id", "position"),
    "pool_validation": ("uuid",),
    "pool_answer": ("pool_validation_id", "position"),
}
"""The columns by which a row is known again in another record; the key of a parent stands for its id."""


class Follow(Flag):
    """What a foreign key leads to: DELETE and OWN from an owner to what it owns, ALL whatever the parent came for."""

    NOTHING = 0
    DELETE = auto()
    OWN = auto()
    ALL = auto()
    NEED = auto()


_OWNED = Follow.DELETE | Follow.OWN | Follow.NEED
_WHOLE = Follow.DELETE | Follow.ALL | Follow.NEED
_LEDGER = Follow.ALL | Follow.NEED
_PAID = Follow.OWN
_NEEDED = Follow.NEED
_LOOSE = Follow.NOTHING

RELATIONS: Mapping[str, Follow] = {
    "source_split.source_dataset_id": _WHOLE,
    "source_record.source_split_id": _WHOLE,
    "shared_experiment.source_dataset_id": _NEEDED,
    "shared_experiment.original_batch_id": _NEEDED,
    "shared_experiment.import_run_id": _NEEDED,
    "imported_file.shared_experiment_id": _OWNED,
    "batch_membership.batch_id": _OWNED,
    "batch_membership.shared_experiment_id": Follow.DELETE | Follow.OWN,
    "generation_run.shared_experiment_id": _OWNED,
    "generation_run.batch_id": _NEEDED,
    "attempt.request_key": _LEDGER,
    "attempt.generation_run_id": _PAID,
    "attempt.agent_run_id": _PAID,
    "attempt.pool_validation_id": _PAID,
    "sample.shared_experiment_id": _OWNED,
    "sample.source_record_id": _NEEDED,
    "sample.rephrase_request_key": _NEEDED,
    "sample.judge_request_key": _NEEDED,
    "decision.shared_experiment_id": _OWNED,
    "decision.adopted_from_id": _LOOSE,
    "checkpoint.shared_experiment_id": _OWNED,
    "checkpoint.generation_run_id": _NEEDED,
    "checkpoint.judge_test_id": _LOOSE,
    "judge_test.shared_experiment_id": _OWNED,
    "judge_test.generation_run_id": _NEEDED,
    "judge_test_sample.judge_test_id": _OWNED,
    "judge_test_sample.request_key": _NEEDED,
    "publication.shared_experiment_id": _OWNED,
    "training_run.training_sweep_id": _OWNED,
    "training_run.import_run_id": _NEEDED,
    "training_data.training_run_id": _OWNED,
    "training_data.shared_experiment_id": _LOOSE,
    "training_data.batch_id": _LOOSE,
    "training_metric.training_run_id": _OWNED,
    "prediction.training_run_id": _OWNED,
    "agent_dataset.source_dataset_id": _NEEDED,
    "agent_perspective.agent_dataset_id": _OWNED,
    "agent_response.agent_dataset_id": _OWNED,
    "agent_response.source_record_id": _NEEDED,
    "agent_response.reading_request_key": _NEEDED,
    "agent_response.request_key": _NEEDED,
    "agent_run.agent_dataset_id": _OWNED,
    "benchmark_task.benchmark_id": _WHOLE,
    "task_pool_benchmark.task_pool_id": _OWNED,
    "task_pool_benchmark.benchmark_id": _NEEDED,
    "task_pool_task.task_pool_id": _OWNED,
    "task_pool_task.benchmark_task_id": _NEEDED,
    "pool_validation.task_pool_id": _OWNED,
    "pool_answer.pool_validation_id": _OWNED,
    "pool_answer.request_key": _NEEDED,
    "cost_reservation.generation_run_id": Follow.DELETE,
    "cost_reservation.batch_id": Follow.DELETE,
    "mlflow_outbox.generation_run_id": Follow.DELETE,
    "mlflow_outbox.training_run_id": Follow.DELETE,
    "mlflow_outbox.training_sweep_id": Follow.DELETE,
    "mlflow_outbox.agent_run_id": Follow.DELETE,
    "mlflow_outbox.task_pool_id": Follow.DELETE,
    "mlflow_outbox.pool_validation_id": Follow.DELETE,
}
"""Of each foreign key, by table and column, where it leads when rows are taken out or removed."""


@dataclass(frozen=True, slots=True)
class Link:
    """A foreign key: ``column`` of the table ``child`` points to the table ``parent``."""

    child: str
    column: str
    parent: str
    follow: Follow
    nullable: bool


@dataclass(frozen=True, slots=True)
class Mention:
    """A row outside a bundle that rows in it point to, by its id there and its natural key (nested for parents)."""

    table: str
    id: int | str
    key: Key


@dataclass(frozen=True, slots=True)
class Backlink:
    """A row outside a bundle (``child``, by its natural key) whose ``column`` points to ``target`` in it."""

    child: str
    key: Key
    column: str
    target: int | str


@dataclass(frozen=True)
class Bundle:
    """Rows that belong together, by table; ids and foreign keys are those of the record that they come from.

    ``read`` gives the rows of a table, anew each time it is called, so that they need not all be in memory.
    """

    counts: Mapping[str, int]
    read: Callable[[str], Iterable[Row]]
    mentions: Sequence[Mention] = ()
    backlinks: Sequence[Backlink] = ()

    def tables(self) -> Iterator[str]:
        """The tables that have rows in it, parents before children."""
        return (name for name in parents_first() if self.counts.get(name))


@cache
def parents_first() -> tuple[str, ...]:
    """Every table, those that others point to before these."""
    return tuple(each.name for each in METADATA.sorted_tables)


@cache
def primary_key(name: str) -> tuple[str, ...]:
    """The columns of the primary key of a table."""
    return tuple(column.name for column in table(name).primary_key)


@cache
def links() -> tuple[Link, ...]:
    """Every foreign key of the schema."""
    return tuple(
        Link(
            each.name,
            column.name,
            target.column.table.name,
            RELATIONS[f"{each.name}.{column.name}"],
            bool(column.nullable),
        )
        for each in METADATA.sorted_tables
        for column in each.columns
        for target in column.foreign_keys
    )


@cache
def links_from(name: str) -> tuple[Link, ...]:
    """The foreign keys of a table."""
    return tuple(link for link in links() if link.child == name)


@cache
def links_to(name: str) -> tuple[Link, ...]:
    """The foreign keys that point to a table."""
    return tuple(link for link in links() if link.parent == name)
