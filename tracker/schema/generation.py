"""Stage 1: sources, experiments, batches, runs, the ledger of requests, people's decisions, publications."""

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


class ChatMessage(SQLModel, table=True):
    """The text of a message, stored once however often it is sent."""

    __tablename__ = "message"

    key: str = Field(primary_key=True, max_length=32, description="128 bits of the SHA-256 of role and content")
    role: str
    content: str = Field(sa_type=Text)


class Request(SQLModel, table=True):
    """A request to an LLM, keyed by its content: what is in here with a good attempt is never paid again."""

    __tablename__ = "request"

    key: str = Field(primary_key=True, max_length=32, description="128 bits of the SHA-256 of all that follows")
    endpoint: str
    model: str = Field(index=True)
    messages: str = Field(sa_type=Text, description="JSON array of message keys")
    settings: str = Field(sa_type=Text, description="JSON object: sampling settings")
    sample_index: int = Field(description="tells independent draws of one request apart")
    created_at: str


class Attempt(SQLModel, table=True):
    """One try of a request that cost, or may have cost, money."""

    __tablename__ = "attempt"

    id: int | None = Field(default=None, primary_key=True)
    request_key: str = Field(foreign_key="request.key", index=True)
    generation_run_id: int | None = Field(default=None, foreign_key="generation_run.id", index=True)
    ordinal: int = Field(description="1 is the first try within its run")
    started_at: str
    latency_s: float
    failure: str | None = Field(default=None, description="NULL: a good answer; else transient, truncated, empty ...")
    http_status: int | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tokens_estimated: bool = False
    cost_usd: float | None = Field(default=None, description="US dollars; NULL: no price is known")
    provider_request_id: str | None = None
    error: str | None = Field(default=None, sa_type=Text, description="what the endpoint or the connection said")
    answer: str | None = Field(default=None, sa_type=Text, description="the raw answer, before any parsing")
    agent_run_id: int | None = Field(
        default=None, foreign_key="agent_run.id", index=True, description="the run that paid, where it is of agents"
    )
    pool_validation_id: int | None = Field(
        default=None, foreign_key="pool_validation.id", index=True, description="likewise of a pool's validation"
    )


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


class Decision(SQLModel, table=True):
    """One answer of a person at a checkpoint. Nothing is overwritten: of each annotator the newest counts."""

    __tablename__ = "decision"
    __table_args__ = (Index(None, "shared_experiment_id", "position"),)

    id: int | None = Field(default=None, primary_key=True)
    shared_experiment_id: int = Field(foreign_key="shared_experiment.id")
    position: int = Field(description="0-based, in file order; people are shown position + 1")
    checkpoint: str = Field(description="review or annotation")
    verdict: str = Field(description="same (approved), not_the_same (rejected) or skipped")
    annotator: str = Field(description="who")
    settles: bool = Field(default=False, description="stands where annotators differ")
    decided_at: str
    via: str = Field(description="terminal, web, option, import or adopted")
    adopted_from_id: int | None = Field(
        default=None,
        foreign_key="decision.id",
        description="the decision on the same two texts in an experiment that differs in its judge only",
    )
    note: str = Field(default="", sa_type=Text)


class Checkpoint(SQLModel, table=True):
    """A checkpoint that is closed: what people decided there has been used, and can change no more."""

    __tablename__ = "checkpoint"
    __table_args__ = (UniqueConstraint("shared_experiment_id", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    shared_experiment_id: int = Field(foreign_key="shared_experiment.id")
    name: str = Field(description="review or annotation")
    generation_run_id: int = Field(foreign_key="generation_run.id", description="the run that used it")
    closed_at: str
    examples: str = Field(
        sa_type=Text, description="JSON array: positions of the samples that became few-shot examples"
    )
    judge_test_id: int | None = Field(
        default=None,
        foreign_key="judge_test.id",
        description="annotation: the test that let the judge decide the rest; maybe one of another experiment",
    )


class JudgeTest(SQLModel, table=True):
    """One test of a judge against people's verdicts on the same samples."""

    __tablename__ = "judge_test"

    id: int | None = Field(default=None, primary_key=True)
    shared_experiment_id: int = Field(foreign_key="shared_experiment.id", index=True)
    generation_run_id: int = Field(foreign_key="generation_run.id", unique=True)
    judge_key: str = Field(
        max_length=32, index=True, description="content key of the judge: settings, prompt, examples"
    )
    test_set_key: str = Field(max_length=32, description="content key of the samples and people's verdicts on them")
    model: str
    temperature: float | None = None
    n_tested: int
    n_correct: int = Field(description="verdicts that are the person's; an unclear one is not")
    accuracy: float = Field(description="n_correct / n_tested")
    required_accuracy: float
    passed: bool
    created_at: str
    settings: str = Field(sa_type=Text, description="JSON object: the validation section, with the prompt")


class JudgeTestSample(SQLModel, table=True):
    """One sample of a judge test."""

    __tablename__ = "judge_test_sample"

    judge_test_id: int = Field(foreign_key="judge_test.id", primary_key=True)
    position: int = Field(primary_key=True)
    expected: str = Field(description="the person's verdict: same or not_the_same")
    verdict: str = Field(description="the judge's: same, not_the_same or unclear")
    request_key: str = Field(sa_column=Column(ForeignKey("request.key"), nullable=False, index=True))


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


class EndpointLimit(SQLModel, table=True):
    """The concurrency that an endpoint was found to bear, where the next run starts."""

    __tablename__ = "endpoint_limit"

    endpoint: str = Field(primary_key=True)
    key_name: str = Field(primary_key=True, description="name of the variable that holds the API key, never the key")
    concurrency: int
    updated_at: str


class CostReservation(SQLModel, table=True):
    """Money that running processes may still spend under `--max-cost`."""

    __tablename__ = "cost_reservation"

    generation_run_id: int = Field(foreign_key="generation_run.id", primary_key=True)
    batch_id: int = Field(foreign_key="batch.id", index=True)
    amount_usd: float
