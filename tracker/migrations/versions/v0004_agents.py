"""Many perspectives on one input: agent data sets, their conditions, responses and runs."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_FIELD = {"sqlite": "json_extract({line}, '$.{name}')", "postgresql": "(CAST({line} AS json) ->> '{name}')"}
"""How each database reads a field of a record; the only expression in here that they do not share."""

VIEWS = {
    "agent_dataset_overview": """
        SELECT d.id, d.fingerprint, d.name, d.task_type, d.task_description, d.status, d.provider, d.endpoint, d.model,
               d.temperature, d.top_p, d.max_tokens, d.draw, d.is_trial, d.add_references, d.n_inputs, d.n_perspectives,
               d.n_responses, d.n_failed, d.n_calls, d.n_cached, d.estimated_prompt_tokens,
               d.estimated_completion_tokens, d.prompt_tokens, d.completion_tokens, d.cost_usd,
               CASE WHEN d.n_responses > 0 THEN d.cost_usd / d.n_responses END AS cost_per_response_usd,
               (SELECT COUNT(*) FROM agent_run r WHERE r.agent_dataset_id = d.id) AS n_runs,
               d.created_at, d.completed_at, d.data_digest, d.settings, s.origin, s.digest AS source_digest
        FROM agent_dataset d JOIN source_dataset s ON s.id = d.source_dataset_id""",
    "agent_perspective_overview": """
        SELECT p.agent_dataset_id, d.fingerprint, d.name, d.task_type, d.status, d.model, d.temperature, d.draw, d.is_trial,
               p.position,
               p.condition, p.is_reference, p.n_responses, p.n_failed, p.mean_words, p.mean_characters,
               p.mean_completion_tokens, p.mean_latency_s, p.chrf, p.reading, p.strategy
        FROM agent_perspective p JOIN agent_dataset d ON d.id = p.agent_dataset_id""",
    "agent_response_overview": """
        SELECT r.agent_dataset_id, d.fingerprint, d.name, d.task_type, d.status AS dataset_status, d.model, d.temperature,
               d.draw, d.is_trial, r.position,
               p.position AS perspective, p.condition, {input} AS input, {reference} AS reference, r.preparation,
               r.response, r.status, r.error, p.reading, p.strategy, t.prompt_tokens, t.completion_tokens, t.latency_s, t.cost_usd,
               r.reading_request_key, r.request_key
        FROM agent_response r JOIN agent_dataset d ON d.id = r.agent_dataset_id
        JOIN agent_perspective p ON p.agent_dataset_id = r.agent_dataset_id AND p.position = r.perspective
        JOIN source_record c ON c.id = r.source_record_id
        LEFT JOIN attempt t ON t.id = (
            SELECT MAX(a.id) FROM attempt a WHERE a.request_key = r.request_key AND a.failure IS NULL)""",
}
REFERRING = {"attempt": False, "mlflow_outbox": True}
"""Tables that now point to a run of agents, and whether to each run from one row."""


def upgrade() -> None:
    op.create_table(
        "agent_dataset",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=12), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("scheme", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("task_type", sa.String(), nullable=False),
        sa.Column("task_description", sa.String(), nullable=False),
        sa.Column("source_dataset_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("temperature", sa.Float(), nullable=True),
        sa.Column("top_p", sa.Float(), nullable=True),
        sa.Column("max_tokens", sa.Integer(), nullable=True),
        sa.Column("draw", sa.Integer(), nullable=False),
        sa.Column("is_trial", sa.Boolean(), nullable=False),
        sa.Column("add_references", sa.Boolean(), nullable=False),
        sa.Column("n_inputs", sa.Integer(), nullable=False),
        sa.Column("n_perspectives", sa.Integer(), nullable=False),
        sa.Column("n_responses", sa.Integer(), nullable=False),
        sa.Column("n_failed", sa.Integer(), nullable=False),
        sa.Column("estimated_prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("estimated_completion_tokens", sa.Integer(), nullable=False),
        sa.Column("tokenizer", sa.String(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.Column("n_calls", sa.Integer(), nullable=False),
        sa.Column("n_cached", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("completed_at", sa.String(), nullable=True),
        sa.Column("data_digest", sa.String(), nullable=True),
        sa.Column("lease_host", sa.String(), nullable=True),
        sa.Column("lease_pid", sa.Integer(), nullable=True),
        sa.Column("lease_started", sa.Float(), nullable=True),
        sa.Column("lease_since", sa.String(), nullable=True),
        sa.Column("lease_heartbeat", sa.String(), nullable=True),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["source_dataset_id"], ["source_dataset.id"], name=op.f("fk_agent_dataset_source_dataset_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_dataset")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_agent_dataset_fingerprint")),
        sa.UniqueConstraint("name", name=op.f("uq_agent_dataset_name")),
    )
    op.create_index(op.f("ix_agent_dataset_created_at"), "agent_dataset", ["created_at"], unique=False)
    op.create_index(op.f("ix_agent_dataset_model"), "agent_dataset", ["model"], unique=False)
    op.create_index(op.f("ix_agent_dataset_source_dataset_id"), "agent_dataset", ["source_dataset_id"], unique=False)
    op.create_index(op.f("ix_agent_dataset_status"), "agent_dataset", ["status"], unique=False)
    op.create_index(op.f("ix_agent_dataset_task_type"), "agent_dataset", ["task_type"], unique=False)
    op.create_table(
        "agent_perspective",
        sa.Column("agent_dataset_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("condition", sa.String(), nullable=False),
        sa.Column("is_reference", sa.Boolean(), nullable=False),
        sa.Column("n_responses", sa.Integer(), nullable=False),
        sa.Column("n_failed", sa.Integer(), nullable=False),
        sa.Column("mean_words", sa.Float(), nullable=True),
        sa.Column("mean_characters", sa.Float(), nullable=True),
        sa.Column("mean_completion_tokens", sa.Float(), nullable=True),
        sa.Column("mean_latency_s", sa.Float(), nullable=True),
        sa.Column("chrf", sa.Float(), nullable=True),
        sa.Column("reading", sa.Text(), nullable=True),
        sa.Column("strategy", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["agent_dataset_id"], ["agent_dataset.id"], name=op.f("fk_agent_perspective_agent_dataset_id")
        ),
        sa.PrimaryKeyConstraint("agent_dataset_id", "position", name=op.f("pk_agent_perspective")),
    )
    op.create_index(op.f("ix_agent_perspective_condition"), "agent_perspective", ["condition"], unique=False)
    op.create_table(
        "agent_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(), nullable=False),
        sa.Column("agent_dataset_id", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("started_at", sa.String(), nullable=False),
        sa.Column("finished_at", sa.String(), nullable=True),
        sa.Column("duration_s", sa.Float(), nullable=True),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("pid_started", sa.Float(), nullable=False),
        sa.Column("config_path", sa.String(), nullable=True),
        sa.Column("n_responses", sa.Integer(), nullable=False),
        sa.Column("n_failed", sa.Integer(), nullable=False),
        sa.Column("n_calls", sa.Integer(), nullable=False),
        sa.Column("n_cached", sa.Integer(), nullable=False),
        sa.Column("n_retried", sa.Integer(), nullable=False),
        sa.Column("n_rate_limited", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("tokens_estimated", sa.Boolean(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.Column("reserved_usd", sa.Float(), nullable=True),
        sa.Column("at_risk_usd", sa.Float(), nullable=True),
        sa.Column("latency_p50_s", sa.Float(), nullable=True),
        sa.Column("latency_p95_s", sa.Float(), nullable=True),
        sa.Column("latency_p99_s", sa.Float(), nullable=True),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("versions", sa.Text(), nullable=False),
        sa.Column("price_list", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["agent_dataset_id"], ["agent_dataset.id"], name=op.f("fk_agent_run_agent_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_run")),
        sa.UniqueConstraint("uuid", name=op.f("uq_agent_run_uuid")),
    )
    op.create_index(
        op.f("ix_agent_run_agent_dataset_id_status"), "agent_run", ["agent_dataset_id", "status"], unique=False
    )
    op.create_index(op.f("ix_agent_run_started_at"), "agent_run", ["started_at"], unique=False)
    op.create_index(op.f("ix_agent_run_status"), "agent_run", ["status"], unique=False)
    op.create_table(
        "agent_response",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("agent_dataset_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("perspective", sa.Integer(), nullable=False),
        sa.Column("source_record_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("updated_at", sa.String(), nullable=False),
        sa.Column("reading_request_key", sa.String(length=32), nullable=True),
        sa.Column("request_key", sa.String(length=32), nullable=True),
        sa.Column("preparation", sa.Text(), nullable=True),
        sa.Column("response", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["agent_dataset_id"], ["agent_dataset.id"], name=op.f("fk_agent_response_agent_dataset_id")
        ),
        sa.ForeignKeyConstraint(
            ["reading_request_key"], ["request.key"], name=op.f("fk_agent_response_reading_request_key")
        ),
        sa.ForeignKeyConstraint(["request_key"], ["request.key"], name=op.f("fk_agent_response_request_key")),
        sa.ForeignKeyConstraint(
            ["source_record_id"], ["source_record.id"], name=op.f("fk_agent_response_source_record_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_response")),
        sa.UniqueConstraint(
            "agent_dataset_id",
            "position",
            "perspective",
            name=op.f("uq_agent_response_agent_dataset_id_position_perspective"),
        ),
    )
    op.create_index(
        op.f("ix_agent_response_reading_request_key"), "agent_response", ["reading_request_key"], unique=False
    )
    op.create_index(op.f("ix_agent_response_request_key"), "agent_response", ["request_key"], unique=False)
    for table, unique in REFERRING.items():
        # Inline, because SQLite takes a foreign key only with its column.
        key = f"CONSTRAINT fk_{table}_agent_run_id REFERENCES agent_run (id)"
        op.execute(f"ALTER TABLE {table} ADD COLUMN agent_run_id INTEGER {key}")
        op.create_index(f"ix_{table}_agent_run_id", table, ["agent_run_id"], unique=unique)
    field = _FIELD[op.get_bind().dialect.name]
    fields = {name: field.format(line="c.line", name=name) for name in ("input", "reference")}
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query.format(**fields)}")
