"""Benchmark task pools: scored benchmarks, pools, what models made of them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

VIEWS = {
    "benchmark_overview": """
        SELECT b.id, b.fingerprint, b.name, b.is_current, b.path, b.source_digest, b.n_tasks, b.constants, b.created_at,
               (SELECT COUNT(*) FROM task_pool_benchmark p WHERE p.benchmark_id = b.id) AS n_pools
        FROM benchmark b""",
    "task_pool_overview": """
        SELECT p.id, p.fingerprint, p.name, p.description, p.random_seed, p.difficulty_split, p.with_replacement,
               p.n_wanted, p.n_tasks, p.n_easy, p.n_hard, p.n_short, p.mean_difficulty, p.created_at, p.data_digest,
               (SELECT COUNT(*) FROM task_pool_benchmark b WHERE b.task_pool_id = p.id) AS n_benchmarks,
               (SELECT COUNT(*) FROM pool_validation v WHERE v.task_pool_id = p.id) AS n_validations
        FROM task_pool p""",
    "task_pool_benchmark_overview": """
        SELECT p.id AS task_pool_id, p.fingerprint, p.name AS pool, b.name AS benchmark,
               b.fingerprint AS benchmark_fingerprint, c.position, c.ratio, c.low_percentile, c.high_percentile,
               c.low_threshold, c.high_threshold, c.n_easy_wanted, c.n_easy, c.n_hard_wanted, c.n_hard
        FROM task_pool_benchmark c JOIN task_pool p ON p.id = c.task_pool_id JOIN benchmark b ON b.id = c.benchmark_id""",
    "task_pool_task_overview": """
        SELECT p.id AS task_pool_id, p.fingerprint, p.name AS pool, t.position, b.name AS benchmark, k.part,
               k.position AS benchmark_position, k.difficulty_score, t.difficulty_bin, k.scorer_metadata, k.raw_data,
               k.id AS benchmark_task_id
        FROM task_pool_task t JOIN task_pool p ON p.id = t.task_pool_id
        JOIN benchmark_task k ON k.id = t.benchmark_task_id JOIN benchmark b ON b.id = k.benchmark_id""",
    "pool_answer_overview": """
        SELECT v.id AS pool_validation_id, v.uuid, p.name AS pool, v.model, v.temperature, a.position,
               b.name AS benchmark, t.difficulty_bin, k.difficulty_score, a.status, a.expected, a.extracted, a.correct,
               a.error, a.request_key
        FROM pool_answer a JOIN pool_validation v ON v.id = a.pool_validation_id
        JOIN task_pool p ON p.id = v.task_pool_id
        JOIN task_pool_task t ON t.task_pool_id = p.id AND t.position = a.position
        JOIN benchmark_task k ON k.id = t.benchmark_task_id JOIN benchmark b ON b.id = k.benchmark_id""",
}
REFERRING = (
    ("attempt", "pool_validation", False),
    ("mlflow_outbox", "task_pool", True),
    ("mlflow_outbox", "pool_validation", True),
)
"""(table, what it now points to, whether to each from one row)."""


def upgrade() -> None:
    op.create_table(
        "benchmark",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=12), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("scheme", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("is_current", sa.Boolean(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("source_digest", sa.String(), nullable=False),
        sa.Column("n_tasks", sa.Integer(), nullable=False),
        sa.Column("score_low", sa.Float(), nullable=False),
        sa.Column("score_high", sa.Float(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("constants", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_benchmark")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_benchmark_fingerprint")),
    )
    op.create_index(op.f("ix_benchmark_is_current"), "benchmark", ["is_current"], unique=False)
    op.create_index(op.f("ix_benchmark_name"), "benchmark", ["name"], unique=False)
    op.create_table(
        "task_pool",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(length=12), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("scheme", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("wanted_name", sa.String(), nullable=False),
        sa.Column("random_seed", sa.Integer(), nullable=False),
        sa.Column("difficulty_split", sa.String(), nullable=False),
        sa.Column("with_replacement", sa.Boolean(), nullable=False),
        sa.Column("n_wanted", sa.Integer(), nullable=False),
        sa.Column("n_tasks", sa.Integer(), nullable=False),
        sa.Column("n_easy", sa.Integer(), nullable=False),
        sa.Column("n_hard", sa.Integer(), nullable=False),
        sa.Column("n_short", sa.Integer(), nullable=False),
        sa.Column("mean_difficulty", sa.Float(), nullable=True),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("data_digest", sa.String(), nullable=False),
        sa.Column("config_path", sa.String(), nullable=True),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("versions", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("statistics", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_pool")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_task_pool_fingerprint")),
        sa.UniqueConstraint("name", name=op.f("uq_task_pool_name")),
        sa.UniqueConstraint("uuid", name=op.f("uq_task_pool_uuid")),
    )
    op.create_index(op.f("ix_task_pool_created_at"), "task_pool", ["created_at"], unique=False)
    op.create_table(
        "benchmark_task",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("benchmark_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("part", sa.String(), nullable=True),
        sa.Column("difficulty_score", sa.Float(), nullable=False),
        sa.Column("raw_score", sa.Float(), nullable=False),
        sa.Column("scorer_metadata", sa.Text(), nullable=False),
        sa.Column("raw_data", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["benchmark_id"], ["benchmark.id"], name=op.f("fk_benchmark_task_benchmark_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_benchmark_task")),
        sa.UniqueConstraint("benchmark_id", "position", name=op.f("uq_benchmark_task_benchmark_id_position")),
    )
    op.create_table(
        "pool_validation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(length=12), nullable=False),
        sa.Column("task_pool_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("temperature", sa.Float(), nullable=True),
        sa.Column("n_samples", sa.Integer(), nullable=False),
        sa.Column("random_seed", sa.Integer(), nullable=False),
        sa.Column("run_code", sa.Boolean(), nullable=False),
        sa.Column("n_tasks", sa.Integer(), nullable=False),
        sa.Column("n_graded", sa.Integer(), nullable=False),
        sa.Column("n_failed", sa.Integer(), nullable=False),
        sa.Column("n_ungraded", sa.Integer(), nullable=False),
        sa.Column("easy_accuracy", sa.Float(), nullable=True),
        sa.Column("hard_accuracy", sa.Float(), nullable=True),
        sa.Column("accuracy_gap", sa.Float(), nullable=True),
        sa.Column("rank_correlation", sa.Float(), nullable=True),
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
        sa.Column("started_at", sa.String(), nullable=False),
        sa.Column("finished_at", sa.String(), nullable=True),
        sa.Column("duration_s", sa.Float(), nullable=True),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("pid_started", sa.Float(), nullable=False),
        sa.Column("heartbeat", sa.String(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("versions", sa.Text(), nullable=False),
        sa.Column("price_list", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["task_pool_id"], ["task_pool.id"], name=op.f("fk_pool_validation_task_pool_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pool_validation")),
        sa.UniqueConstraint("uuid", name=op.f("uq_pool_validation_uuid")),
    )
    op.create_index(op.f("ix_pool_validation_fingerprint"), "pool_validation", ["fingerprint"], unique=False)
    op.create_index(op.f("ix_pool_validation_model"), "pool_validation", ["model"], unique=False)
    op.create_index(op.f("ix_pool_validation_started_at"), "pool_validation", ["started_at"], unique=False)
    op.create_index(op.f("ix_pool_validation_status"), "pool_validation", ["status"], unique=False)
    op.create_index(op.f("ix_pool_validation_task_pool_id"), "pool_validation", ["task_pool_id"], unique=False)
    op.create_table(
        "task_pool_benchmark",
        sa.Column("task_pool_id", sa.Integer(), nullable=False),
        sa.Column("benchmark_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("ratio", sa.Float(), nullable=False),
        sa.Column("low_percentile", sa.Float(), nullable=False),
        sa.Column("high_percentile", sa.Float(), nullable=False),
        sa.Column("low_threshold", sa.Float(), nullable=False),
        sa.Column("high_threshold", sa.Float(), nullable=False),
        sa.Column("n_easy_wanted", sa.Integer(), nullable=False),
        sa.Column("n_easy", sa.Integer(), nullable=False),
        sa.Column("n_hard_wanted", sa.Integer(), nullable=False),
        sa.Column("n_hard", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["benchmark_id"], ["benchmark.id"], name=op.f("fk_task_pool_benchmark_benchmark_id")),
        sa.ForeignKeyConstraint(["task_pool_id"], ["task_pool.id"], name=op.f("fk_task_pool_benchmark_task_pool_id")),
        sa.PrimaryKeyConstraint("task_pool_id", "benchmark_id", name=op.f("pk_task_pool_benchmark")),
    )
    op.create_index(op.f("ix_task_pool_benchmark_benchmark_id"), "task_pool_benchmark", ["benchmark_id"], unique=False)
    op.create_table(
        "pool_answer",
        sa.Column("pool_validation_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("request_key", sa.String(length=32), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("expected", sa.Text(), nullable=True),
        sa.Column("extracted", sa.Text(), nullable=True),
        sa.Column("correct", sa.Boolean(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["pool_validation_id"], ["pool_validation.id"], name=op.f("fk_pool_answer_pool_validation_id")
        ),
        sa.ForeignKeyConstraint(["request_key"], ["request.key"], name=op.f("fk_pool_answer_request_key")),
        sa.PrimaryKeyConstraint("pool_validation_id", "position", name=op.f("pk_pool_answer")),
    )
    op.create_index(op.f("ix_pool_answer_request_key"), "pool_answer", ["request_key"], unique=False)
    op.create_table(
        "task_pool_task",
        sa.Column("task_pool_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("benchmark_task_id", sa.Integer(), nullable=False),
        sa.Column("difficulty_bin", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["benchmark_task_id"], ["benchmark_task.id"], name=op.f("fk_task_pool_task_benchmark_task_id")
        ),
        sa.ForeignKeyConstraint(["task_pool_id"], ["task_pool.id"], name=op.f("fk_task_pool_task_task_pool_id")),
        sa.PrimaryKeyConstraint("task_pool_id", "position", name=op.f("pk_task_pool_task")),
    )
    op.create_index(op.f("ix_task_pool_task_benchmark_task_id"), "task_pool_task", ["benchmark_task_id"], unique=False)
    for table, target, unique in REFERRING:
        # Inline, because SQLite takes a foreign key only with its column.
        key = f"CONSTRAINT fk_{table}_{target}_id REFERENCES {target} (id)"
        op.execute(f"ALTER TABLE {table} ADD COLUMN {target}_id INTEGER {key}")
        op.create_index(f"ix_{table}_{target}_id", table, [f"{target}_id"], unique=unique)
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")
