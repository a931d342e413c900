"""Benchmark task pools: scored benchmarks and their tasks, the pools drawn from them, and what models made of these."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from tracker.schema import base  # noqa: F401  names constraints, which must be set before the first table


class Benchmark(SQLModel, table=True):
    """A benchmark, read and scored in full. Other data, or another entry of the config, is another row."""

    __tablename__ = "benchmark"

    id: int | None = Field(default=None, primary_key=True)
    fingerprint: str = Field(unique=True, max_length=12, description="12 hex digits that stand for data and scoring")
    digest: str = Field(description="SHA-256 of the same canonical JSON")
    scheme: int = Field(description="version of the identity's form")
    name: str = Field(index=True, description="`gsm8k`")
    is_current: bool = Field(index=True, description="whether pools are drawn from it now")
    path: str = Field(description="where it was read from, as the config has it")
    source_digest: str = Field(description="SHA-256 over its records in their order")
    n_tasks: int
    score_low: float = Field(description="the lowest raw score, which is scaled to 0")
    score_high: float = Field(description="the highest raw score, which is scaled to 1")
    created_at: str
    constants: str = Field(sa_type=Text, description="JSON object: the maxima that features were divided by")
    identity: str = Field(sa_type=Text, description="the canonical JSON that both are made of")
    config: str = Field(sa_type=Text, description="JSON object: its entry in the config")


class BenchmarkTask(SQLModel, table=True):
    """One task of a benchmark with its difficulty."""

    __tablename__ = "benchmark_task"
    __table_args__ = (UniqueConstraint("benchmark_id", "position"),)

    id: int | None = Field(default=None, primary_key=True)
    benchmark_id: int = Field(foreign_key="benchmark.id")
    position: int = Field(description="0-based, in the order of the source")
    part: str | None = Field(default=None, description="the part of the benchmark it is from, where there are several")
    difficulty_score: float = Field(description="0 to 1 within the benchmark")
    raw_score: float = Field(description="before it was scaled")
    scorer_metadata: str = Field(sa_type=Text, description="JSON object: the features behind the score")
    raw_data: str = Field(sa_type=Text, description="JSON object: the task as the benchmark has it")


class TaskPool(SQLModel, table=True):
    """A stream of tasks with a wanted mix of easy and hard: `data/{name}/task_pool.jsonl`."""

    __tablename__ = "task_pool"

    id: int | None = Field(default=None, primary_key=True)
    uuid: str = Field(unique=True, description="the same in MLflow's tags and on every machine")
    fingerprint: str = Field(unique=True, max_length=12, description="12 hex digits that stand for the settings")
    digest: str = Field(description="SHA-256 of the same canonical JSON")
    scheme: int = Field(description="version of the identity's form")
    name: str = Field(unique=True, description="its directory; with a suffix where the name was taken")
    wanted_name: str = Field(description="the name that the config gives")
    random_seed: int
    difficulty_split: str = Field(description="easy:hard, `80:20`")
    with_replacement: bool
    n_wanted: int
    n_tasks: int
    n_easy: int
    n_hard: int
    n_short: int = Field(description="tasks that were wanted and not there")
    mean_difficulty: float | None = None
    created_at: str = Field(index=True)
    duration_s: float
    data_digest: str = Field(description="SHA-256 of task_pool.jsonl")
    config_path: str | None = None
    description: str = ""
    command: str = Field(sa_type=Text)
    versions: str = Field(sa_type=Text, description="JSON object: synthtrack, Python and the packages that matter")
    identity: str = Field(sa_type=Text, description="the canonical JSON that both are made of")
    settings: str = Field(sa_type=Text, description="JSON object: every setting under its dotted name")
    config: str = Field(sa_type=Text, description="JSON object: the pool's config")
    statistics: str = Field(sa_type=Text, description="JSON object: statistics.json")


class TaskPoolBenchmark(SQLModel, table=True):
    """What a benchmark contributes to a pool."""

    __tablename__ = "task_pool_benchmark"

    task_pool_id: int = Field(foreign_key="task_pool.id", primary_key=True)
    benchmark_id: int = Field(foreign_key="benchmark.id", primary_key=True, index=True)
    position: int = Field(description="0-based, in the order of the config")
    ratio: float
    low_percentile: float
    high_percentile: float
    low_threshold: float = Field(description="at most this score is easy")
    high_threshold: float = Field(description="at least this score is hard")
    n_easy_wanted: int
    n_easy: int
    n_hard_wanted: int
    n_hard: int


class TaskPoolTask(SQLModel, table=True):
    """One task of a pool."""

    __tablename__ = "task_pool_task"

    task_pool_id: int = Field(foreign_key="task_pool.id", primary_key=True)
    position: int = Field(primary_key=True, description="0-based, in the order of the pool; exp_00000_... in its file")
    benchmark_task_id: int = Field(foreign_key="benchmark_task.id", index=True)
    difficulty_bin: str = Field(description="easy or hard")


class PoolValidation(SQLModel, table=True):
    """A model's answers to a sample of a pool's tasks, graded."""

    __tablename__ = "pool_validation"

    id: int | None = Field(default=None, primary_key=True)
    uuid: str = Field(unique=True, description="the same in MLflow's tags and on every machine")
    fingerprint: str = Field(index=True, max_length=12, description="12 hex digits: the pool, the model, the sample")
    task_pool_id: int = Field(foreign_key="task_pool.id", index=True)
    status: str = Field(index=True, description="running, complete, partial, interrupted or failed")
    provider: str
    endpoint: str
    model: str = Field(index=True)
    temperature: float | None = None
    n_samples: int = Field(description="tasks wanted of each bin of each benchmark")
    random_seed: int = Field(description="draws the sample")
    run_code: bool = Field(description="whether code that the model wrote was run")
    n_tasks: int = Field(default=0, description="tasks in the sample")
    n_graded: int = 0
    n_failed: int = Field(default=0, description="no answer after all retries")
    n_ungraded: int = Field(default=0, description="code that was to be written, not asked for because it is not run")
    easy_accuracy: float | None = None
    hard_accuracy: float | None = None
    accuracy_gap: float | None = Field(default=None, description="easy_accuracy - hard_accuracy")
    rank_correlation: float | None = Field(
        default=None,
        description="Spearman's, of difficulty with error; mean of the benchmarks', weighted by graded answers",
    )
    n_calls: int = 0
    n_cached: int = 0
    n_retried: int = 0
    n_rate_limited: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens_estimated: bool = False
    cost_usd: float | None = Field(default=None, description="US dollars; NULL: no price is known")
    reserved_usd: float | None = Field(default=None, description="under --budget: what it may have spent by now")
    at_risk_usd: float | None = None
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    latency_p99_s: float | None = None
    started_at: str = Field(index=True)
    finished_at: str | None = None
    duration_s: float | None = None
    host: str
    pid: int
    pid_started: float
    heartbeat: str
    command: str = Field(sa_type=Text)
    settings: str = Field(sa_type=Text, description="JSON object: the model's settings")
    versions: str = Field(sa_type=Text)
    price_list: str | None = Field(default=None, sa_type=Text, description="JSON: the prices that costs were made of")
    error: str | None = Field(default=None, sa_type=Text)


class PoolAnswer(SQLModel, table=True):
    """A model's answer to one task of a pool."""

    __tablename__ = "pool_answer"

    pool_validation_id: int = Field(foreign_key="pool_validation.id", primary_key=True)
    position: int = Field(primary_key=True, description="of the task in the pool")
    request_key: str | None = Field(sa_column=Column(ForeignKey("request.key"), nullable=True, index=True))
    status: str = Field(description="graded, ungraded (code that was not run) or failed")
    expected: str | None = Field(default=None, sa_type=Text)
    extracted: str | None = Field(
        default=None, sa_type=Text, description="what was read as the answer, or came of code"
    )
    correct: bool | None = None
    error: str | None = Field(default=None, sa_type=Text)
