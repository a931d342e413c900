"""Stage 2: sweeps, training runs with their data, metrics and predictions; MLflow is told of them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

VIEWS = {
    "training_overview": """
        SELECT r.id, r.uuid, r.fingerprint, r.attempt, r.status, r.purpose, r.model, r.task, r.method, r.data,
               r.learning_rate, r.batch_size, r.steps, r.seed, r.zo_eps, r.lora_rank, r.precision, r.accuracy,
               r.accuracy_low, r.accuracy_high, r.n_correct, r.n_eval, r.macro_f1, r.eval_loss, r.majority_accuracy,
               r.zero_shot_accuracy, r.dev_loss, r.dev_accuracy, r.best_step, r.train_loss, r.step, r.n_train, r.n_dev,
               r.n_truncated, r.n_parameters, r.n_trainable, r.step_time_s, r.tokens_per_s, r.peak_memory_bytes,
               r.duration_s, r.device, r.n_resumed, r.created_at, r.started_at, r.finished_at, r.directory,
               w.uuid AS sweep, d.path AS data_path, d.dataset, d.eval_digest,
               (SELECT COUNT(*) FROM training_data n WHERE n.training_run_id = r.id) AS n_data,
               e.id AS shared_experiment_id,
               CASE WHEN e.id IS NULL THEN NULL ELSE e.dataset || '/' || e.name END AS data_experiment,
               e.fingerprint AS data_fingerprint,
               CASE WHEN EXISTS (SELECT 1 FROM training_data k WHERE k.training_run_id = r.id AND k.position > 0)
                    THEN r.data ELSE COALESCE(e.fingerprint, SUBSTR(d.train_digest, 1, 12)) END AS data_key,
               e.model AS generation_model,
               e.temperature AS generation_temperature, e.top_p AS generation_top_p,
               e.max_tokens AS generation_max_tokens, e.strategy AS generation_strategy,
               e.purpose AS generation_purpose, e.validation_model, e.validation_temperature,
               CASE WHEN e.n_accepted + e.n_rejected > 0
                    THEN 1.0 * e.n_accepted / (e.n_accepted + e.n_rejected) END AS acceptance_rate,
               e.cost_usd AS data_cost_usd
        FROM training_run r
        JOIN training_sweep w ON w.id = r.training_sweep_id
        JOIN training_data d ON d.training_run_id = r.id AND d.position = 0
        LEFT JOIN shared_experiment e ON e.id = d.shared_experiment_id
            AND NOT EXISTS (SELECT 1 FROM training_data m WHERE m.training_run_id = r.id AND m.position > 0)""",
    "prediction_overview": """
        SELECT p.training_run_id, r.uuid, r.fingerprint, r.attempt, r.status, r.task, r.model, r.method, r.data,
               r.learning_rate, r.seed, p.stage, p.position, p.label, p.predicted, p.correct, p.scores, d.eval_digest
        FROM prediction p JOIN training_run r ON r.id = p.training_run_id
        JOIN training_data d ON d.training_run_id = r.id AND d.position = 0""",
}
LOGGED = ("training_run", "training_sweep")


def upgrade() -> None:
    op.create_table(
        "training_sweep",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("n_points", sa.Integer(), nullable=False),
        sa.Column("background", sa.Boolean(), nullable=False),
        sa.Column("continue_on_error", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.String(), nullable=False),
        sa.Column("finished_at", sa.String(), nullable=True),
        sa.Column("host", sa.String(), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("pid_started", sa.Float(), nullable=True),
        sa.Column("heartbeat", sa.String(), nullable=True),
        sa.Column("config_path", sa.String(), nullable=True),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("varied", sa.Text(), nullable=False),
        sa.Column("devices", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_sweep")),
        sa.UniqueConstraint("uuid", name=op.f("uq_training_sweep_uuid")),
    )
    op.create_index(op.f("ix_training_sweep_key"), "training_sweep", ["key"], unique=False)
    op.create_index(op.f("ix_training_sweep_started_at"), "training_sweep", ["started_at"], unique=False)
    op.create_index(op.f("ix_training_sweep_status"), "training_sweep", ["status"], unique=False)
    op.create_table(
        "training_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(), nullable=False),
        sa.Column("training_sweep_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=12), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("scheme", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("data", sa.String(), nullable=False),
        sa.Column("directory", sa.String(), nullable=False),
        sa.Column("learning_rate", sa.Float(), nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("zo_eps", sa.Float(), nullable=True),
        sa.Column("lora_rank", sa.Integer(), nullable=True),
        sa.Column("precision", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=True),
        sa.Column("threads", sa.Integer(), nullable=True),
        sa.Column("n_train", sa.Integer(), nullable=False),
        sa.Column("n_dev", sa.Integer(), nullable=False),
        sa.Column("n_eval", sa.Integer(), nullable=False),
        sa.Column("n_truncated", sa.Integer(), nullable=True),
        sa.Column("n_parameters", sa.BigInteger(), nullable=True),
        sa.Column("n_trainable", sa.BigInteger(), nullable=True),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("train_loss", sa.Float(), nullable=True),
        sa.Column("dev_loss", sa.Float(), nullable=True),
        sa.Column("dev_accuracy", sa.Float(), nullable=True),
        sa.Column("best_step", sa.Integer(), nullable=True),
        sa.Column("eval_loss", sa.Float(), nullable=True),
        sa.Column("accuracy", sa.Float(), nullable=True),
        sa.Column("accuracy_low", sa.Float(), nullable=True),
        sa.Column("accuracy_high", sa.Float(), nullable=True),
        sa.Column("n_correct", sa.Integer(), nullable=True),
        sa.Column("macro_f1", sa.Float(), nullable=True),
        sa.Column("majority_accuracy", sa.Float(), nullable=True),
        sa.Column("zero_shot_accuracy", sa.Float(), nullable=True),
        sa.Column("zero_shot_key", sa.String(length=32), nullable=True),
        sa.Column("step_time_s", sa.Float(), nullable=True),
        sa.Column("tokens_per_s", sa.Float(), nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("n_resumed", sa.Integer(), nullable=False),
        sa.Column("stop_requested", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("started_at", sa.String(), nullable=True),
        sa.Column("finished_at", sa.String(), nullable=True),
        sa.Column("duration_s", sa.Float(), nullable=True),
        sa.Column("host", sa.String(), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("pid_started", sa.Float(), nullable=True),
        sa.Column("heartbeat", sa.String(), nullable=True),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("versions", sa.Text(), nullable=True),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("command", sa.Text(), nullable=True),
        sa.Column("classes", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["training_sweep_id"], ["training_sweep.id"], name=op.f("fk_training_run_training_sweep_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_run")),
        sa.UniqueConstraint("directory", name=op.f("uq_training_run_directory")),
        sa.UniqueConstraint("fingerprint", "attempt", name=op.f("uq_training_run_fingerprint_attempt")),
        sa.UniqueConstraint("uuid", name=op.f("uq_training_run_uuid")),
    )
    op.create_index(op.f("ix_training_run_created_at"), "training_run", ["created_at"], unique=False)
    op.create_index(op.f("ix_training_run_model"), "training_run", ["model"], unique=False)
    op.create_index(op.f("ix_training_run_purpose"), "training_run", ["purpose"], unique=False)
    op.create_index(op.f("ix_training_run_status"), "training_run", ["status"], unique=False)
    op.create_index(op.f("ix_training_run_task_status"), "training_run", ["task", "status"], unique=False)
    op.create_index(op.f("ix_training_run_training_sweep_id"), "training_run", ["training_sweep_id"], unique=False)
    op.create_index(op.f("ix_training_run_zero_shot_key"), "training_run", ["zero_shot_key"], unique=False)
    op.create_table(
        "prediction",
        sa.Column("training_run_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("predicted", sa.Integer(), nullable=False),
        sa.Column("correct", sa.Boolean(), nullable=False),
        sa.Column("scores", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["training_run_id"], ["training_run.id"], name=op.f("fk_prediction_training_run_id")),
        sa.PrimaryKeyConstraint("training_run_id", "stage", "position", name=op.f("pk_prediction")),
    )
    op.create_table(
        "training_data",
        sa.Column("training_run_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("directory", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("shared_experiment_id", sa.Integer(), nullable=True),
        sa.Column("batch_id", sa.Integer(), nullable=True),
        sa.Column("fingerprint", sa.String(length=12), nullable=True),
        sa.Column("train_digest", sa.String(), nullable=False),
        sa.Column("eval_digest", sa.String(), nullable=True),
        sa.Column("n_records", sa.Integer(), nullable=False),
        sa.Column("first_record", sa.Integer(), nullable=False),
        sa.Column("n_train", sa.Integer(), nullable=False),
        sa.Column("warning", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_training_data_batch_id")),
        sa.ForeignKeyConstraint(
            ["shared_experiment_id"], ["shared_experiment.id"], name=op.f("fk_training_data_shared_experiment_id")
        ),
        sa.ForeignKeyConstraint(
            ["training_run_id"], ["training_run.id"], name=op.f("fk_training_data_training_run_id")
        ),
        sa.PrimaryKeyConstraint("training_run_id", "position", name=op.f("pk_training_data")),
    )
    op.create_index(op.f("ix_training_data_batch_id"), "training_data", ["batch_id"], unique=False)
    op.create_index(op.f("ix_training_data_eval_digest"), "training_data", ["eval_digest"], unique=False)
    op.create_index(
        op.f("ix_training_data_shared_experiment_id"), "training_data", ["shared_experiment_id"], unique=False
    )
    op.create_index(op.f("ix_training_data_train_digest"), "training_data", ["train_digest"], unique=False)
    op.create_table(
        "training_metric",
        sa.Column("training_run_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("recorded_at", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["training_run_id"], ["training_run.id"], name=op.f("fk_training_metric_training_run_id")
        ),
        sa.PrimaryKeyConstraint("training_run_id", "name", "step", name=op.f("pk_training_metric")),
    )
    # ### end Alembic commands ###
    for name in LOGGED:
        # Inline, because SQLite takes a foreign key only with its column.
        key = f"CONSTRAINT fk_mlflow_outbox_{name}_id REFERENCES {name} (id)"
        op.execute(f"ALTER TABLE mlflow_outbox ADD COLUMN {name}_id INTEGER {key}")
        op.create_index(f"ix_mlflow_outbox_{name}_id", "mlflow_outbox", [f"{name}_id"], unique=True)
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")
