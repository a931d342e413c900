"""The tables. Times are UTC text of fixed width (``tracker.clock.to_text``), so that text order is time order.

Table classes do not validate: what comes in here has been a spec or a result of our own before. Columns exist for what
people filter and join by; everything else about a setting is in the JSON columns. Long texts come last in a table, so
that SQLite need not step over them.
"""

from __future__ import annotations

from sqlalchemy import Table

from tracker.schema.agents import (
    AgentDataset,
    AgentPerspective,
    AgentResponse,
    AgentRun,
)
from tracker.schema.base import METADATA
from tracker.schema.decisions import (
    Checkpoint,
    Decision,
    JudgeTest,
    JudgeTestSample,
)
from tracker.schema.generation import (
    Batch,
    BatchMembership,
    GenerationRun,
    Publication,
    Sample,
    SharedExperiment,
    SourceDataset,
    SourceRecord,
    SourceSplit,
)
from tracker.schema.ledger import (
    Attempt,
    ChatMessage,
    CostReservation,
    EndpointLimit,
    Request,
)
from tracker.schema.outbox import (
    MlflowOutbox,
)
from tracker.schema.pools import (
    Benchmark,
    BenchmarkTask,
    PoolAnswer,
    PoolValidation,
    TaskPool,
    TaskPoolBenchmark,
    TaskPoolTask,
)
from tracker.schema.training import (
    Prediction,
    TrainingData,
    TrainingMetric,
    TrainingRun,
    TrainingSweep,
)
from tracker.schema.upkeep import (
    Deletion,
    ImportedFile,
    ImportRun,
)

__all__ = [
    "METADATA",
    "AgentDataset",
    "AgentPerspective",
    "AgentResponse",
    "AgentRun",
    "Attempt",
    "Batch",
    "BatchMembership",
    "Benchmark",
    "BenchmarkTask",
    "ChatMessage",
    "Checkpoint",
    "CostReservation",
    "Decision",
    "Deletion",
    "EndpointLimit",
    "GenerationRun",
    "ImportRun",
    "ImportedFile",
    "JudgeTest",
    "JudgeTestSample",
    "MlflowOutbox",
    "PoolAnswer",
    "PoolValidation",
    "Prediction",
    "Publication",
    "Request",
    "Sample",
    "SharedExperiment",
    "SourceDataset",
    "SourceRecord",
    "SourceSplit",
    "TaskPool",
    "TaskPoolBenchmark",
    "TaskPoolTask",
    "TrainingData",
    "TrainingMetric",
    "TrainingRun",
    "TrainingSweep",
    "table",
]


def table(name: str) -> Table:
    """The table of that name, for SQLAlchemy Core."""
    return METADATA.tables[name]
