"""Many perspectives on one input: agent data sets, the conditions in them, what each agent answered, and the runs."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from tracker.schema import base  # noqa: F401  names constraints, which must be set before the first table


class AgentDataset(SQLModel, table=True):
    """Inputs and what agents under several conditions answered to each of them: a file under `data/agents`."""

    __tablename__ = "agent_dataset"

    id: int | None = Field(default=None, primary_key=True)
    fingerprint: str = Field(unique=True, max_length=12, description="12 hex digits that stand for the settings")
    digest: str = Field(description="SHA-256 of the same canonical JSON")
    scheme: int = Field(description="version of the identity's form")
    name: str = Field(unique=True, description="stem of its file: {task_type}_{model}_{YYYYMMDD_HHMMSS}")
    task_type: str = Field(index=True)
    task_description: str
    source_dataset_id: int = Field(foreign_key="source_dataset.id", index=True, description="its inputs")
    status: str = Field(index=True, description="unfinished, complete, or partial (failures were accepted)")
    provider: str
    endpoint: str = Field(description="the service behind it: a URL or the name the config gives it")
    model: str = Field(index=True)
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    draw: int = Field(default=0, description="0, or which --fresh draw of the same settings")
    is_trial: bool = Field(default=False, description="only ever asked for with --test: few inputs and perspectives")
    add_references: bool = Field(description="whether the reference is the first agent")
    n_inputs: int
    n_perspectives: int = Field(description="without the reference")
    n_responses: int = Field(default=0, description="answers that are there; n_inputs * n_perspectives when complete")
    n_failed: int = Field(default=0, description="no answer after all retries")
    estimated_prompt_tokens: int
    estimated_completion_tokens: int
    tokenizer: str = Field(description="how tokens were counted for the estimate")
    prompt_tokens: int = Field(default=0, description="paid by its runs; answers from the ledger cost nothing again")
    completion_tokens: int = 0
    cost_usd: float | None = Field(default=None, description="US dollars; NULL: no price is known")
    n_calls: int = Field(default=0, description="requests sent by its runs")
    n_cached: int = Field(default=0, description="answers that its runs found in the ledger")
    created_at: str = Field(index=True)
    completed_at: str | None = None
    data_digest: str | None = Field(default=None, description="SHA-256 of the answers in their order")
    lease_host: str | None = Field(default=None, description="who is making it now")
    lease_pid: int | None = None
    lease_started: float | None = Field(default=None, description="start time of that process, seconds since the epoch")
    lease_since: str | None = None
    lease_heartbeat: str | None = None
    identity: str = Field(sa_type=Text, description="the canonical JSON that both are made of")
    settings: str = Field(sa_type=Text, description="JSON object: every setting under its dotted name")
    config: str = Field(sa_type=Text, description="JSON object: the config of the run that first made it, without keys")


class AgentPerspective(SQLModel, table=True):
    """One condition of an agent data set, and what came of it over all inputs."""

    __tablename__ = "agent_perspective"

    agent_dataset_id: int = Field(foreign_key="agent_dataset.id", primary_key=True)
    position: int = Field(primary_key=True, description="0-based, in the order of the config")
    condition: str = Field(index=True, description="its name; a reference's is Reference")
    is_reference: bool = Field(default=False, description="the reference in an agent's place: nothing was asked")
    n_responses: int = 0
    n_failed: int = 0
    mean_words: float | None = Field(default=None, description="words of a response, split at blanks")
    mean_characters: float | None = None
    mean_completion_tokens: float | None = Field(default=None, description="of the response, without its notes")
    mean_latency_s: float | None = Field(default=None, description="of the request that gave the response, seconds")
    chrf: float | None = Field(default=None, description="corpus chrF against the references, 0-100; NULL: none")
    reading: str | None = Field(default=None, sa_type=Text, description="what the agent is to do first; NULL: nothing")
    strategy: str | None = Field(default=None, sa_type=Text, description="what the agent is to do; NULL: a reference")


class AgentResponse(SQLModel, table=True):
    """What one agent answered to one input, and the requests behind it."""

    __tablename__ = "agent_response"
    __table_args__ = (UniqueConstraint("agent_dataset_id", "position", "perspective"),)

    id: int | None = Field(default=None, primary_key=True)
    agent_dataset_id: int = Field(foreign_key="agent_dataset.id")
    position: int = Field(description="of the input, 0-based, in the order of the file")
    perspective: int = Field(description="agent_perspective.position")
    source_record_id: int = Field(foreign_key="source_record.id")
    status: str = Field(description="answered or failed")
    updated_at: str
    reading_request_key: str | None = Field(
        default=None, sa_column=Column(ForeignKey("request.key"), nullable=True, index=True)
    )
    request_key: str | None = Field(
        default=None, sa_column=Column(ForeignKey("request.key"), nullable=True, index=True)
    )
    preparation: str | None = Field(default=None, sa_type=Text, description="the agent's notes, where it read first")
    response: str | None = Field(default=None, sa_type=Text)
    error: str | None = Field(default=None, sa_type=Text)


class AgentRun(SQLModel, table=True):
    """One call of `perspectives`: it made an agent data set, resumed it, or found it already made."""

    __tablename__ = "agent_run"
    __table_args__ = (Index(None, "agent_dataset_id", "status"),)

    id: int | None = Field(default=None, primary_key=True)
    uuid: str = Field(unique=True, description="the same in MLflow's tags and on every machine")
    agent_dataset_id: int = Field(foreign_key="agent_dataset.id")
    outcome: str = Field(description="made, resumed or reused")
    status: str = Field(index=True, description="running, complete, partial, interrupted or failed")
    started_at: str = Field(index=True)
    finished_at: str | None = None
    duration_s: float | None = None
    host: str
    pid: int
    pid_started: float
    config_path: str | None = None
    n_responses: int = Field(default=0, description="those of the data set when it ended")
    n_failed: int = 0
    n_calls: int = Field(default=0, description="requests sent")
    n_cached: int = Field(default=0, description="answers that were in the ledger")
    n_retried: int = 0
    n_rate_limited: int = Field(default=0, description="429s: sent, not paid")
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens_estimated: bool = False
    cost_usd: float | None = Field(default=None, description="US dollars; NULL: no price is known")
    reserved_usd: float | None = Field(default=None, description="under --max-cost: what it may have spent by now")
    at_risk_usd: float | None = Field(
        default=None, description="under --max-cost: what requests without an answer may have cost; not in cost_usd"
    )
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    latency_p99_s: float | None = None
    command: str = Field(sa_type=Text)
    config: str = Field(sa_type=Text, description="JSON object: the whole config as validated, without keys")
    versions: str = Field(sa_type=Text, description="JSON object: synthtrack, Python and the packages that matter")
    price_list: str | None = Field(default=None, sa_type=Text, description="JSON: the prices that costs were made of")
    error: str | None = Field(default=None, sa_type=Text)
