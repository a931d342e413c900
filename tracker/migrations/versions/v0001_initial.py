"""The first schema: sources, experiments, batches, runs, ledger, samples, MLflow outbox, and the SQL views."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

VIEWS = {
    "experiment_overview": """
        SELECT e.id, e.fingerprint, e.dataset, e.name, e.dataset || '/' || e.name AS reference, e.status,
               e.provider, e.endpoint, e.model, e.temperature, e.top_p, e.max_tokens,
               e.validation_model, e.validation_temperature, e.strategy, e.field_to_rephrase, e.record_limit, e.draw,
               e.purpose, e.description, b.name AS original_batch,
               (SELECT COUNT(*) FROM batch_membership m WHERE m.shared_experiment_id = e.id) AS n_batches,
               e.n_records, e.n_accepted, e.n_rejected, e.n_unclear, e.n_failed,
               CASE WHEN e.n_accepted + e.n_rejected > 0
                    THEN 1.0 * e.n_accepted / (e.n_accepted + e.n_rejected) END AS acceptance_rate,
               e.prompt_tokens, e.completion_tokens, e.cost_usd,
               CASE WHEN e.n_accepted > 0 THEN e.cost_usd / e.n_accepted END AS cost_per_accepted_usd,
               e.created_at, e.completed_at, e.data_digest, e.digest, e.settings
        FROM shared_experiment e JOIN batch b ON b.id = e.original_batch_id""",
    "batch_overview": """
        SELECT b.id, b.name, b.purpose, b.description, b.created_at,
               (SELECT COUNT(*) FROM batch_membership m WHERE m.batch_id = b.id) AS n_experiments,
               (SELECT COUNT(*) FROM batch_membership m WHERE m.batch_id = b.id AND m.reused) AS n_reused,
               (SELECT CASE WHEN COUNT(*) = COUNT(r.cost_usd) THEN SUM(r.cost_usd) END
                FROM generation_run r WHERE r.batch_id = b.id) AS cost_usd
        FROM batch b""",
    "batch_experiment": """
        SELECT b.id AS batch_id, b.name AS batch, m.reused, m.created_at AS joined_at, e.*
        FROM batch_membership m JOIN batch b ON b.id = m.batch_id
        JOIN experiment_overview e ON e.id = m.shared_experiment_id""",
    "sample_side_by_side": """
        SELECT e.dataset, e.name, e.fingerprint, s.position, s.original, s.rephrased, s.status, s.verdict,
               CASE WHEN s.status = 'accepted' THEN s.rephrased ELSE s.original END AS final,
               s.error, s.rephrase_request_key, s.judge_request_key, s.shared_experiment_id
        FROM sample s JOIN shared_experiment e ON e.id = s.shared_experiment_id""",
    "ledger": """
        SELECT a.id AS attempt_id, a.request_key, r.endpoint, r.model, r.sample_index, a.generation_run_id, a.ordinal,
               a.started_at, a.latency_s, a.failure, a.http_status, a.error, a.answer, a.finish_reason,
               a.prompt_tokens, a.completion_tokens, a.tokens_estimated, a.cost_usd, a.provider_request_id,
               r.messages, r.settings
        FROM attempt a JOIN request r ON r.key = a.request_key""",
    "spending": """
        SELECT g.id AS generation_run_id, b.name AS batch, g.purpose, e.dataset, e.name, e.model, g.outcome, g.status,
               g.started_at, g.n_calls, g.n_cached, g.prompt_tokens, g.completion_tokens, g.cost_usd
        FROM generation_run g JOIN batch b ON b.id = g.batch_id
        JOIN shared_experiment e ON e.id = g.shared_experiment_id""",
}


def upgrade() -> None:
    op.create_table(
        "batch",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
        sa.UniqueConstraint("name", name=op.f("uq_batch_name")),
    )
    op.create_table(
        "endpoint_limit",
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("key_name", sa.String(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "key_name", name=op.f("pk_endpoint_limit")),
    )
    op.create_table(
        "message",
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_message")),
    )
    op.create_table(
        "request",
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("messages", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("sample_index", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_request")),
    )
    op.create_index(op.f("ix_request_model"), "request", ["model"], unique=False)
    op.create_table(
        "source_dataset",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("task_name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_dataset")),
        sa.UniqueConstraint("digest", name=op.f("uq_source_dataset_digest")),
    )
    op.create_index(op.f("ix_source_dataset_name"), "source_dataset", ["name"], unique=False)
    op.create_table(
        "shared_experiment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=12), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("scheme", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("semantic_name", sa.String(), nullable=False),
        sa.Column("source_dataset_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("temperature", sa.Float(), nullable=True),
        sa.Column("top_p", sa.Float(), nullable=True),
        sa.Column("max_tokens", sa.Integer(), nullable=True),
        sa.Column("strategy", sa.String(), nullable=False),
        sa.Column("field_to_rephrase", sa.String(), nullable=False),
        sa.Column("record_limit", sa.Integer(), nullable=True),
        sa.Column("draw", sa.Integer(), nullable=False),
        sa.Column("validation_model", sa.String(), nullable=True),
        sa.Column("validation_temperature", sa.Float(), nullable=True),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("original_batch_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("completed_at", sa.String(), nullable=True),
        sa.Column("n_records", sa.Integer(), nullable=False),
        sa.Column("n_accepted", sa.Integer(), nullable=False),
        sa.Column("n_rejected", sa.Integer(), nullable=False),
        sa.Column("n_unclear", sa.Integer(), nullable=False),
        sa.Column("n_failed", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.Column("data_digest", sa.String(), nullable=True),
        sa.Column("lease_host", sa.String(), nullable=True),
        sa.Column("lease_pid", sa.Integer(), nullable=True),
        sa.Column("lease_started", sa.Float(), nullable=True),
        sa.Column("lease_since", sa.String(), nullable=True),
        sa.Column("lease_heartbeat", sa.String(), nullable=True),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["original_batch_id"], ["batch.id"], name=op.f("fk_shared_experiment_original_batch_id")
        ),
        sa.ForeignKeyConstraint(
            ["source_dataset_id"], ["source_dataset.id"], name=op.f("fk_shared_experiment_source_dataset_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shared_experiment")),
        sa.UniqueConstraint("dataset", "name", name=op.f("uq_shared_experiment_dataset_name")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_shared_experiment_fingerprint")),
    )
    op.create_index(op.f("ix_shared_experiment_created_at"), "shared_experiment", ["created_at"], unique=False)
    op.create_index(op.f("ix_shared_experiment_model"), "shared_experiment", ["model"], unique=False)
    op.create_index(op.f("ix_shared_experiment_purpose"), "shared_experiment", ["purpose"], unique=False)
    op.create_index(
        op.f("ix_shared_experiment_source_dataset_id"), "shared_experiment", ["source_dataset_id"], unique=False
    )
    op.create_index(op.f("ix_shared_experiment_status"), "shared_experiment", ["status"], unique=False)
    op.create_table(
        "source_split",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_dataset_id", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("n_records", sa.Integer(), nullable=False),
        sa.Column("n_bytes", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["source_dataset_id"], ["source_dataset.id"], name=op.f("fk_source_split_source_dataset_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_split")),
        sa.UniqueConstraint("source_dataset_id", "split", name=op.f("uq_source_split_source_dataset_id_split")),
    )
    op.create_table(
        "batch_membership",
        sa.Column("batch_id", sa.Integer(), nullable=False),
        sa.Column("shared_experiment_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("reused", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_batch_membership_batch_id")),
        sa.ForeignKeyConstraint(
            ["shared_experiment_id"], ["shared_experiment.id"], name=op.f("fk_batch_membership_shared_experiment_id")
        ),
        sa.PrimaryKeyConstraint("batch_id", "shared_experiment_id", name=op.f("pk_batch_membership")),
    )
    op.create_index(
        op.f("ix_batch_membership_batch_id_reused"), "batch_membership", ["batch_id", "reused"], unique=False
    )
    op.create_index(
        op.f("ix_batch_membership_shared_experiment_id"), "batch_membership", ["shared_experiment_id"], unique=False
    )
    op.create_table(
        "generation_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(), nullable=False),
        sa.Column("shared_experiment_id", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("task_name", sa.String(), nullable=True),
        sa.Column("training_method", sa.String(), nullable=True),
        sa.Column("version", sa.String(), nullable=True),
        sa.Column("started_at", sa.String(), nullable=False),
        sa.Column("finished_at", sa.String(), nullable=True),
        sa.Column("duration_s", sa.Float(), nullable=True),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("pid_started", sa.Float(), nullable=False),
        sa.Column("config_path", sa.String(), nullable=True),
        sa.Column("n_records", sa.Integer(), nullable=False),
        sa.Column("n_accepted", sa.Integer(), nullable=False),
        sa.Column("n_rejected", sa.Integer(), nullable=False),
        sa.Column("n_unclear", sa.Integer(), nullable=False),
        sa.Column("n_failed", sa.Integer(), nullable=False),
        sa.Column("n_calls", sa.Integer(), nullable=False),
        sa.Column("n_cached", sa.Integer(), nullable=False),
        sa.Column("n_retried", sa.Integer(), nullable=False),
        sa.Column("n_rate_limited", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("tokens_estimated", sa.Boolean(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.Column("at_risk_usd", sa.Float(), nullable=True),
        sa.Column("latency_p50_s", sa.Float(), nullable=True),
        sa.Column("latency_p95_s", sa.Float(), nullable=True),
        sa.Column("latency_p99_s", sa.Float(), nullable=True),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("versions", sa.Text(), nullable=False),
        sa.Column("price_list", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_generation_run_batch_id")),
        sa.ForeignKeyConstraint(
            ["shared_experiment_id"], ["shared_experiment.id"], name=op.f("fk_generation_run_shared_experiment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generation_run")),
        sa.UniqueConstraint("uuid", name=op.f("uq_generation_run_uuid")),
    )
    op.create_index(op.f("ix_generation_run_batch_id"), "generation_run", ["batch_id"], unique=False)
    op.create_index(
        op.f("ix_generation_run_shared_experiment_id"), "generation_run", ["shared_experiment_id"], unique=False
    )
    op.create_index(op.f("ix_generation_run_started_at"), "generation_run", ["started_at"], unique=False)
    op.create_index(op.f("ix_generation_run_status"), "generation_run", ["status"], unique=False)
    op.create_table(
        "source_record",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_split_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["source_split_id"], ["source_split.id"], name=op.f("fk_source_record_source_split_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_record")),
        sa.UniqueConstraint("source_split_id", "position", name=op.f("uq_source_record_source_split_id_position")),
    )
    op.create_table(
        "attempt",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("request_key", sa.String(), nullable=False),
        sa.Column("generation_run_id", sa.Integer(), nullable=True),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.String(), nullable=False),
        sa.Column("latency_s", sa.Float(), nullable=False),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("finish_reason", sa.String(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("tokens_estimated", sa.Boolean(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.Column("provider_request_id", sa.String(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["generation_run_id"], ["generation_run.id"], name=op.f("fk_attempt_generation_run_id")
        ),
        sa.ForeignKeyConstraint(["request_key"], ["request.key"], name=op.f("fk_attempt_request_key")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
    )
    op.create_index(op.f("ix_attempt_generation_run_id"), "attempt", ["generation_run_id"], unique=False)
    op.create_index(op.f("ix_attempt_request_key"), "attempt", ["request_key"], unique=False)
    op.create_table(
        "cost_reservation",
        sa.Column("generation_run_id", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.Integer(), nullable=False),
        sa.Column("amount_usd", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_cost_reservation_batch_id")),
        sa.ForeignKeyConstraint(
            ["generation_run_id"], ["generation_run.id"], name=op.f("fk_cost_reservation_generation_run_id")
        ),
        sa.PrimaryKeyConstraint("generation_run_id", name=op.f("pk_cost_reservation")),
    )
    op.create_index(op.f("ix_cost_reservation_batch_id"), "cost_reservation", ["batch_id"], unique=False)
    op.create_table(
        "mlflow_outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("generation_run_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("logged_at", sa.String(), nullable=True),
        sa.Column("mlflow_run_id", sa.String(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["generation_run_id"], ["generation_run.id"], name=op.f("fk_mlflow_outbox_generation_run_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mlflow_outbox")),
        sa.UniqueConstraint("generation_run_id", name=op.f("uq_mlflow_outbox_generation_run_id")),
    )
    op.create_index(op.f("ix_mlflow_outbox_mlflow_run_id"), "mlflow_outbox", ["mlflow_run_id"], unique=False)
    op.create_index("ix_mlflow_outbox_pending", "mlflow_outbox", ["logged_at", "id"], unique=False)
    op.create_table(
        "sample",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("shared_experiment_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("source_record_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("original", sa.Text(), nullable=False),
        sa.Column("rephrased", sa.Text(), nullable=True),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("rephrase_request_key", sa.String(length=32), nullable=True),
        sa.Column("judge_request_key", sa.String(length=32), nullable=True),
        sa.Column("updated_at", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["judge_request_key"], ["request.key"], name=op.f("fk_sample_judge_request_key")),
        sa.ForeignKeyConstraint(["rephrase_request_key"], ["request.key"], name=op.f("fk_sample_rephrase_request_key")),
        sa.ForeignKeyConstraint(
            ["shared_experiment_id"], ["shared_experiment.id"], name=op.f("fk_sample_shared_experiment_id")
        ),
        sa.ForeignKeyConstraint(["source_record_id"], ["source_record.id"], name=op.f("fk_sample_source_record_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sample")),
        sa.UniqueConstraint("shared_experiment_id", "position", name=op.f("uq_sample_shared_experiment_id_position")),
    )
    op.create_index(op.f("ix_sample_judge_request_key"), "sample", ["judge_request_key"], unique=False)
    op.create_index(op.f("ix_sample_rephrase_request_key"), "sample", ["rephrase_request_key"], unique=False)

    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")
