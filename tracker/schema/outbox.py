"""What MLflow is still to be told."""

from __future__ import annotations

from sqlalchemy import Index, Text
from sqlmodel import Field, SQLModel

from tracker.schema import base  # noqa: F401  names constraints, which must be set before the first table


class MlflowOutbox(SQLModel, table=True):
    """What MLflow is to be told; written with the thing itself, drained at the end of a command or later."""

    __tablename__ = "mlflow_outbox"
    __table_args__ = (Index("ix_mlflow_outbox_pending", "logged_at", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    kind: str = Field(
        description="generation_run, training_run, training_sweep, agent_run, task_pool or pool_validation"
    )
    generation_run_id: int | None = Field(default=None, foreign_key="generation_run.id", unique=True)
    created_at: str
    logged_at: str | None = Field(default=None, description="NULL: still to be logged")
    mlflow_run_id: str | None = Field(default=None, index=True)
    error: str | None = Field(default=None, sa_type=Text, description="why the last try failed")
    training_run_id: int | None = Field(default=None, foreign_key="training_run.id", index=True, unique=True)
    training_sweep_id: int | None = Field(default=None, foreign_key="training_sweep.id", index=True, unique=True)
    agent_run_id: int | None = Field(default=None, foreign_key="agent_run.id", index=True, unique=True)
    task_pool_id: int | None = Field(default=None, foreign_key="task_pool.id", index=True, unique=True)
    pool_validation_id: int | None = Field(default=None, foreign_key="pool_validation.id", index=True, unique=True)
