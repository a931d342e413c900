"""What comes from elsewhere and what is deleted: imports, imported files, the trash; batches that are deleted."""

import re

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
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
               CASE WHEN e.n_accepted + e.n_rejected > 0 AND e.import_run_id IS NULL
                    THEN 1.0 * e.n_accepted / (e.n_accepted + e.n_rejected) END AS acceptance_rate,
               e.prompt_tokens, e.completion_tokens, e.cost_usd,
               CASE WHEN e.n_accepted > 0 THEN e.cost_usd / e.n_accepted END AS cost_per_accepted_usd,
               e.created_at, e.completed_at, e.data_digest, e.digest, e.legacy_fingerprint, e.directory,
               i.origin AS imported_from, e.settings
        FROM shared_experiment e JOIN batch b ON b.id = e.original_batch_id
        LEFT JOIN import_run i ON i.id = e.import_run_id""",
    "batch_overview": """
        SELECT b.id, b.name, b.purpose, b.description, b.created_at,
               (SELECT COUNT(*) FROM batch_membership m WHERE m.batch_id = b.id) AS n_experiments,
               (SELECT COUNT(*) FROM batch_membership m WHERE m.batch_id = b.id AND m.reused) AS n_reused,
               (SELECT CASE WHEN COUNT(*) = COUNT(r.cost_usd) THEN SUM(r.cost_usd) END
                FROM generation_run r WHERE r.batch_id = b.id) AS cost_usd
        FROM batch b WHERE b.deleted_at IS NULL""",
    "batch_experiment": """
        SELECT b.id AS batch_id, b.name AS batch, m.reused, m.created_at AS joined_at, e.*
        FROM batch_membership m JOIN batch b ON b.id = m.batch_id
        JOIN experiment_overview e ON e.id = m.shared_experiment_id""",
}
REFERRING = (("shared_experiment", "import_run"), ("training_run", "import_run"))
"""(table, what it now points to)."""
NULLABLE = {
    "training_run": ("batch_size", "steps", "seed", "n_train", "n_dev", "n_eval"),
    "training_data": ("n_records", "n_train"),
}
"""Counts and settings that nobody wrote down of trainings that were imported."""


def upgrade() -> None:
    op.create_table(
        "deletion",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(length=12), nullable=True),
        sa.Column("deleted_at", sa.String(), nullable=False),
        sa.Column("deleted_by", sa.String(), nullable=False),
        sa.Column("archive", sa.String(), nullable=False),
        sa.Column("archive_digest", sa.String(), nullable=False),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.String(), nullable=True),
        sa.Column("restored_at", sa.String(), nullable=True),
        sa.Column("emptied_at", sa.String(), nullable=True),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("paths", sa.Text(), nullable=False),
        sa.Column("mlflow_runs", sa.Text(), nullable=False),
        sa.Column("spent", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletion")),
        sa.UniqueConstraint("uuid", name=op.f("uq_deletion_uuid")),
    )
    op.create_index(op.f("ix_deletion_deleted_at"), "deletion", ["deleted_at"], unique=False)
    op.create_index(op.f("ix_deletion_fingerprint"), "deletion", ["fingerprint"], unique=False)
    op.create_index(op.f("ix_deletion_name"), "deletion", ["name"], unique=False)
    op.create_table(
        "import_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("started_at", sa.String(), nullable=False),
        sa.Column("finished_at", sa.String(), nullable=True),
        sa.Column("n_taken", sa.Integer(), nullable=False),
        sa.Column("n_skipped", sa.Integer(), nullable=False),
        sa.Column("n_wrong", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_import_run")),
        sa.UniqueConstraint("uuid", name=op.f("uq_import_run_uuid")),
    )
    op.create_index(op.f("ix_import_run_started_at"), "import_run", ["started_at"], unique=False)
    op.create_table(
        "imported_file",
        sa.Column("shared_experiment_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("n_bytes", sa.Integer(), nullable=False),
        sa.Column("n_records", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["shared_experiment_id"], ["shared_experiment.id"], name=op.f("fk_imported_file_shared_experiment_id")
        ),
        sa.PrimaryKeyConstraint("shared_experiment_id", "path", name=op.f("pk_imported_file")),
    )
    for table, target in REFERRING:
        # Inline, because SQLite takes a foreign key only with its column.
        key = f"CONSTRAINT fk_{table}_{target}_id REFERENCES {target} (id)"
        op.execute(f"ALTER TABLE {table} ADD COLUMN {target}_id INTEGER {key}")
        op.create_index(f"ix_{table}_{target}_id", table, [f"{target}_id"], unique=False)
    op.add_column("shared_experiment", sa.Column("legacy_fingerprint", sa.String(), nullable=True))
    op.create_index(
        op.f("ix_shared_experiment_legacy_fingerprint"), "shared_experiment", ["legacy_fingerprint"], unique=False
    )
    op.add_column("shared_experiment", sa.Column("directory", sa.String(), nullable=True))
    op.add_column("batch", sa.Column("deleted_at", sa.String(), nullable=True))
    for table, columns in NULLABLE.items():
        _allow_null(table, columns)
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def _allow_null(table: str, columns: tuple[str, ...]) -> None:
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        for column in columns:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL")
        return
    # SQLite's documentation has this way for constraints (lang_altertable.html, 7): a table that others point to and
    # views read cannot be made anew within a transaction. The rows are not touched.
    read = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
    declared = connection.exec_driver_sql(read, (table,)).scalar_one()
    for column in columns:
        declared, n = re.subn(rf"(\b{column} \w+) NOT NULL", r"\1", declared)
        assert n == 1, f"{table}.{column}"
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    connection.exec_driver_sql("UPDATE sqlite_master SET sql = ? WHERE type = 'table' AND name = ?", (declared, table))
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")
