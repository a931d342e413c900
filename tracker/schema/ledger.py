"""The ledger: requests by their content, attempts at them, what endpoints bear, and what may still be spent."""

from __future__ import annotations

from sqlalchemy import Text
from sqlmodel import Field, SQLModel

from tracker.schema import base  # noqa: F401  names constraints, which must be set before the first table


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
