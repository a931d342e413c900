"""What was brought in from elsewhere, and what was deleted."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary, Text
from sqlmodel import Field, SQLModel

from tracker.schema import base  # noqa: F401  names constraints, which must be set before the first table


class ImportRun(SQLModel, table=True):
    """One call of `import`: what it took, left and found wrong."""

    __tablename__ = "import_run"

    id: int | None = Field(default=None, primary_key=True)
    uuid: str = Field(unique=True)
    kind: str = Field(description="tree, dataset or archive")
    origin: str = Field(description="the directory, file or files that it read")
    started_at: str = Field(index=True)
    finished_at: str | None = None
    n_taken: int = 0
    n_skipped: int = 0
    n_wrong: int = 0
    host: str
    command: str = Field(sa_type=Text)
    report: str = Field(
        default="[]", sa_type=Text, description="JSON array: of each thing its kind, path, outcome and what was said"
    )


class ImportedFile(SQLModel, table=True):
    """A file of an experiment that was not made here, as it was found."""

    __tablename__ = "imported_file"

    shared_experiment_id: int = Field(foreign_key="shared_experiment.id", primary_key=True)
    path: str = Field(primary_key=True, description="below the experiment's directory: `Copa/copa_train.jsonl`")
    split: str | None = Field(default=None, description="train, validation or test; NULL: not a file of records")
    digest: str = Field(description="SHA-256 of its content")
    n_bytes: int
    n_records: int | None = Field(default=None, description="NULL: not a file of records")
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False), description="zlib-compressed")


class Deletion(SQLModel, table=True):
    """Something that was deleted: its rows are in an archive in the workspace's trash until that is emptied."""

    __tablename__ = "deletion"

    id: int | None = Field(default=None, primary_key=True)
    uuid: str = Field(unique=True)
    kind: str = Field(description="batch, experiment, agent_dataset, task_pool, training_run or training_sweep")
    name: str = Field(index=True, description="as a person calls it: `Copa/temp07_topp10_gpt4o`")
    fingerprint: str | None = Field(default=None, max_length=12, index=True)
    deleted_at: str = Field(index=True)
    deleted_by: str = Field(description="`delete` or `gc`")
    archive: str = Field(description="its file, relative to the workspace")
    archive_digest: str = Field(description="SHA-256 of that file")
    n_rows: int
    n_bytes: int = Field(sa_type=BigInteger, description="of the archive and the files that were moved")
    settled_at: str | None = Field(default=None, description="files moved and MLflow told; NULL: still to be done")
    restored_at: str | None = None
    emptied_at: str | None = Field(default=None, description="the archive is gone for good")
    command: str = Field(sa_type=Text)
    paths: str = Field(sa_type=Text, description="JSON array: files and directories to be moved to the trash")
    mlflow_runs: str = Field(sa_type=Text, description="JSON array: ids of MLflow runs that go with it")
    spent: str = Field(
        default="{}",
        sa_type=Text,
        description="JSON object: US dollars that its generation runs paid, by batch; null where a price is not known",
    )
