"""Stage 1: sources, experiments, batches, runs, samples, publications."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from tracker.schema import base  # noqa: F401  names constraints, which must be set before the first table


class SourceDataset(SQLModel, table=True):
    """The original records of one data set, stored by content."""

    __tablename__ = "source_dataset"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(index=True, description="directory name, `Copa`")
    task_name: str = Field(description="file stem, `copa`")
    digest: str = Field(unique=True, description="SHA-256 over name, stem, file names and split digests")
    origin: str = Field(description="the path or hub name it was first read from")
    created_at: str


class SourceSplit(SQLModel, table=True):
    """One split of a source data set."""

    __tablename__ = "source_split"
    __table_args__ = (UniqueConstraint("source_dataset_id", "split"),)

    id: int | None = Field(default=None, primary_key=True)
    source_dataset_id: int = Field(foreign_key="source_dataset.id")
    split: str = Field(description="train, validation or test")
    filename: str = Field(description="name of its file in the view")
    digest: str = Field(description="SHA-256 of its content")
    n_records: int
    n_bytes: int
    content: bytes | None = Field(
        default=None,
        sa_column=Column(LargeBinary, nullable=True),
        description="zlib-compressed bytes of a split that is copied; a split that is rephrased is in source_record",
    )


class SourceRecord(SQLModel, table=True):
    """One original record of the split that is rephrased."""

    __tablename__ = "source_record"
    __table_args__ = (UniqueConstraint("source_split_id", "position"),)

    id: int | None = Field(default=None, primary_key=True)
    source_split_id: int = Field(foreign_key="source_split.id")
    position: int = Field(description="0-based, in file order")
    line: str = Field(sa_type=Text, description="its JSON as it stands in the file")


class SharedExperiment(SQLModel, table=True):
    """One synthetic data set: a source data set and all settings that shape its content."""

    __tablename__ = "shared_experiment"
    __table_args__ = (UniqueConstraint("dataset", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    fingerprint: str = Field(unique=True, max_length=12, description="12 hex digits that stand for the settings")
    digest: str = Field(description="SHA-256 of the same canonical JSON")
    scheme: int = Field(description="version of the identity's form")
    dataset: str = Field(description="directory name of the source data set, `Copa`")
    name: str = Field(description="directory name: the semantic name, with a suffix where it was taken")
    semantic_name: str = Field(description="`temp07_topp10_gpt4o`")
    source_dataset_id: int = Field(foreign_key="source_dataset.id", index=True)
    status: str = Field(index=True, description="unfinished, complete, or partial (failures were accepted)")
    provider: str
    endpoint: str = Field(description="the service behind it: a URL or the name the config gives it")
    model: str = Field(index=True)
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    strategy: str
    field_to_rephrase: str
    record_limit: int | None = Field(default=None, description="--limit: only the first records; NULL is all")
    draw: int = Field(default=0, description="0, or which --fresh draw of the same settings")
    validation_model: str | None = Field(default=None, description="the judge; NULL: no validation")
    validation_temperature: float | None = None
    purpose: str = Field(index=True, description="why it was first made")
    original_batch_id: int = Field(foreign_key="batch.id", description="the batch that first made it")
    created_at: str = Field(index=True)
    completed_at: str | None = None
    n_records: int
    n_accepted: int = 0
    n_rejected: int = Field(default=0, description="kept the original: judged not the same, or unclear")
    n_unclear: int = Field(default=0, description="those of the rejected whose judge said neither")
    n_failed: int = Field(default=0, description="no answer after all retries")
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = Field(default=None, description="US dollars; NULL: no price is known")
    data_digest: str | None = Field(default=None, description="SHA-256 of the synthetic file")
    import_run_id: int | None = Field(
        default=None, foreign_key="import_run.id", index=True, description="what brought it in; NULL: made here"
    )
    legacy_fingerprint: str | None = Field(
        default=None, index=True, description="what the system that it was imported from called it"
    )
    directory: str | None = Field(
        default=None,
        description="of data that was imported and stays where it is; relative to the workspace where it lies below it",
    )
    lease_host: str | None = Field(default=None, description="who is making it now")
    lease_pid: int | None = None
    lease_started: float | None = Field(default=None, description="start time of that process, seconds since the epoch")
    lease_since: str | None = None
    lease_heartbeat: str | None = None
    description: str = ""
    identity: str = Field(sa_type=Text, description="the canonical JSON that both are made of")
    settings: str = Field(sa_type=Text, description="JSON object: every setting under its dotted name")
    config: str = Field(sa_type=Text, description="JSON object: the config of the run that first made it, without keys")


class Batch(SQLModel, table=True):
    """A named group of experiments."""

    __tablename__ = "batch"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    purpose: str
    description: str = ""
    created_at: str
    deleted_at: str | None = Field(
        default=None, description="it has no members then; asking for it again brings it back"
    )


class BatchMembership(SQLModel, table=True):
    """An experiment in a batch: a symlink in the view."""

    __tablename__ = "batch_membership"
    __table_args__ = (Index(None, "batch_id", "reused"),)

    batch_id: int = Field(foreign_key="batch.id", primary_key=True)
    shared_experiment_id: int = Field(foreign_key="shared_experiment.id", primary_key=True, index=True)
    created_at: str
    reused: bool = Field(description="whether the data was already there when the batch asked for it")


class GenerationRun(SQLModel, table=True):
    """One call of `generate`: it made data, resumed it, or found it already made."""

    __tablename__ = "generation_run"

    id: int | None = Field(default=None, primary_key=True)
    uuid: str = Field(unique=True, description="the same in MLflow's tags and on every machine")
    shared_experiment_id: int = Field(foreign_key="shared_experiment.id", index=True)
    batch_id: int = Field(foreign_key="batch.id", index=True)
    outcome: str = Field(description="made, resumed, reused, or tested (a judge test, which changes no data)")
    step: str | None = Field(
        default=None, description="two_stage: rephrase_first, rephrase_rest, judge_test or validate; NULL: all in one"
    )
    status: str = Field(
        index=True, description="running, complete, partial, waiting (for a person), interrupted or failed"
    )
    purpose: str
    task_name: str | None = Field(default=None, description="a label of the config")
    training_method: str | None = Field(default=None, description="a label of the config")
    version: str | None = Field(default=None, description="a label of the config")
    started_at: str = Field(index=True)
    finished_at: str | None = None
    duration_s: float | None = None
    host: str
    pid: int
    pid_started: float
    heartbeat: str | None = Field(default=None, description="of a judge test, which holds no lease: when it last lived")
    judge_key: str | None = Field(default=None, max_length=32, description="of a judge test: the judge that is asked")
    config_path: str | None = None
    n_records: int = 0
    n_accepted: int = 0
    n_rejected: int = 0
    n_unclear: int = 0
    n_failed: int = 0
    n_calls: int = Field(default=0, description="requests sent")
    n_cached: int = Field(default=0, description="answers that were in the ledger")
    n_retried: int = 0
    n_rate_limited: int = Field(default=0, description="429s: sent, not paid")
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens_estimated: bool = False
    cost_usd: float | None = Field(default=None, description="US dollars; NULL: no price is known")
    at_risk_usd: float | None = Field(
        default=None, description="under --max-cost: what requests without an answer may have cost; not in cost_usd"
    )
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    latency_p99_s: float | None = None
    description: str = ""
    command: str = Field(sa_type=Text)
    config: str = Field(sa_type=Text, description="JSON object: the whole config as validated, without keys")
    versions: str = Field(sa_type=Text, description="JSON object: synthtrack, Python and the packages that matter")
    price_list: str | None = Field(default=None, sa_type=Text, description="JSON: the prices that costs were made of")
    error: str | None = Field(default=None, sa_type=Text)


class Sample(SQLModel, table=True):
    """One record of a shared experiment: the original, what became of it, and the requests behind that."""

    __tablename__ = "sample"
    __table_args__ = (UniqueConstraint("shared_experiment_id", "position"),)

    id: int | None = Field(default=None, primary_key=True)
    shared_experiment_id: int = Field(foreign_key="shared_experiment.id")
    position: int = Field(description="0-based, in file order")
    source_record_id: int = Field(foreign_key="source_record.id")
    status: str = Field(description="accepted, rejected (the original is kept), undecided or failed")
    original: str = Field(sa_type=Text)
    rephrased: str | None = Field(default=None, sa_type=Text)
    verdict: str | None = Field(default=None, description="same, not_the_same or unclear; NULL: not judged")
    decided_by: str | None = Field(default=None, description="judge or person: whose verdict it is")
    error: str | None = Field(default=None, sa_type=Text)
    rephrase_request_key: str | None = Field(
        default=None, sa_column=Column(ForeignKey("request.key"), nullable=True, index=True)
    )
    judge_request_key: str | None = Field(
        default=None, sa_column=Column(ForeignKey("request.key"), nullable=True, index=True)
    )
    updated_at: str


class Publication(SQLModel, table=True):
    """A finished experiment that was copied or linked to where other programs look for it."""

    __tablename__ = "publication"

    id: int | None = Field(default=None, primary_key=True)
    shared_experiment_id: int = Field(foreign_key="shared_experiment.id", index=True)
    dataset: str = Field(description="name of the directory below the target")
    directory: str = Field(index=True, description="relative to the workspace where it lies below it, else absolute")
    kind: str = Field(description="target or archive")
    mode: str = Field(description="copy or symlink")
    fingerprint: str
    published_at: str
    published_by: str
    files: str = Field(sa_type=Text, description="JSON object: SHA-256 of each file by its name")
