"""Checkpoints: people's decisions, tests of the judge, publications; who decided a sample, and a run's step."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

VIEWS = {
    "sample_side_by_side": """
        SELECT e.dataset, e.name, e.fingerprint, s.position, s.original, s.rephrased, s.status, s.verdict, s.decided_by,
               CASE WHEN s.status = 'accepted' THEN s.rephrased ELSE s.original END AS final,
               s.error, s.rephrase_request_key, s.judge_request_key, s.shared_experiment_id
        FROM sample s JOIN shared_experiment e ON e.id = s.shared_experiment_id""",
    "spending": """
        SELECT g.id AS generation_run_id, b.name AS batch, g.purpose, e.dataset, e.name,
               CASE WHEN g.outcome <> 'tested' THEN e.model
                    ELSE COALESCE(t.model, (SELECT MAX(r.model) FROM attempt a JOIN request r ON r.key = a.request_key
                                            WHERE a.generation_run_id = g.id)) END AS model,
               g.outcome, g.step, g.status, g.started_at, g.n_calls, g.n_cached, g.prompt_tokens, g.completion_tokens,
               g.cost_usd
        FROM generation_run g JOIN batch b ON b.id = g.batch_id
        JOIN shared_experiment e ON e.id = g.shared_experiment_id
        LEFT JOIN judge_test t ON t.generation_run_id = g.id""",
    "sample_decision": """
        SELECT n.shared_experiment_id, n.position, MAX(n.checkpoint) AS checkpoint,
               COALESCE(
                   MAX(CASE WHEN n.id = n.settled_id THEN n.verdict END),
                   CASE WHEN COUNT(DISTINCT CASE WHEN n.verdict <> 'skipped' THEN n.verdict END) > 1 THEN 'disputed'
                        ELSE MAX(CASE WHEN n.verdict <> 'skipped' THEN n.verdict END) END,
                   'skipped') AS verdict,
               COUNT(*) AS n_annotators, MAX(n.decided_at) AS decided_at
        FROM (SELECT d.*, MAX(CASE WHEN d.settles THEN d.id END)
                          OVER (PARTITION BY d.shared_experiment_id, d.position) AS settled_id
              FROM decision d
              WHERE NOT EXISTS (SELECT 1 FROM decision l
                                WHERE l.shared_experiment_id = d.shared_experiment_id AND l.position = d.position
                                      AND l.annotator = d.annotator AND l.id > d.id)) n
        GROUP BY n.shared_experiment_id, n.position""",
    "decision_side_by_side": """
        SELECT e.dataset, e.name, e.fingerprint, d.position, d.checkpoint, s.original, s.rephrased, d.verdict,
               d.annotator, d.settles, d.note, d.decided_at, d.via, d.id, d.adopted_from_id, d.shared_experiment_id
        FROM decision d JOIN shared_experiment e ON e.id = d.shared_experiment_id
        JOIN sample s ON s.shared_experiment_id = d.shared_experiment_id AND s.position = d.position""",
    "judge_test_overview": """
        SELECT t.id, e.dataset, e.name, e.fingerprint, t.model, t.temperature, t.n_tested, t.n_correct, t.accuracy,
               t.required_accuracy, t.passed, t.created_at, t.judge_key, t.test_set_key, t.shared_experiment_id,
               t.generation_run_id, g.uuid AS run_uuid, g.cost_usd, t.settings
        FROM judge_test t JOIN shared_experiment e ON e.id = t.shared_experiment_id
        JOIN generation_run g ON g.id = t.generation_run_id""",
}
CHANGED = ("sample_side_by_side", "spending")


def upgrade() -> None:
    for name in CHANGED:
        op.execute(f"DROP VIEW {name}")
    op.create_table(
        "decision",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("shared_experiment_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("checkpoint", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("annotator", sa.String(), nullable=False),
        sa.Column("settles", sa.Boolean(), nullable=False),
        sa.Column("decided_at", sa.String(), nullable=False),
        sa.Column("via", sa.String(), nullable=False),
        sa.Column("adopted_from_id", sa.Integer(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["adopted_from_id"], ["decision.id"], name=op.f("fk_decision_adopted_from_id")),
        sa.ForeignKeyConstraint(
            ["shared_experiment_id"], ["shared_experiment.id"], name=op.f("fk_decision_shared_experiment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision")),
    )
    op.create_index(
        op.f("ix_decision_shared_experiment_id_position"),
        "decision",
        ["shared_experiment_id", "position"],
        unique=False,
    )
    op.create_table(
        "publication",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("shared_experiment_id", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("directory", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("published_at", sa.String(), nullable=False),
        sa.Column("published_by", sa.String(), nullable=False),
        sa.Column("files", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["shared_experiment_id"], ["shared_experiment.id"], name=op.f("fk_publication_shared_experiment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publication")),
    )
    op.create_index(op.f("ix_publication_directory"), "publication", ["directory"], unique=False)
    op.create_index(op.f("ix_publication_shared_experiment_id"), "publication", ["shared_experiment_id"], unique=False)
    op.create_table(
        "judge_test",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("shared_experiment_id", sa.Integer(), nullable=False),
        sa.Column("generation_run_id", sa.Integer(), nullable=False),
        sa.Column("judge_key", sa.String(length=32), nullable=False),
        sa.Column("test_set_key", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("temperature", sa.Float(), nullable=True),
        sa.Column("n_tested", sa.Integer(), nullable=False),
        sa.Column("n_correct", sa.Integer(), nullable=False),
        sa.Column("accuracy", sa.Float(), nullable=False),
        sa.Column("required_accuracy", sa.Float(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["generation_run_id"], ["generation_run.id"], name=op.f("fk_judge_test_generation_run_id")
        ),
        sa.ForeignKeyConstraint(
            ["shared_experiment_id"], ["shared_experiment.id"], name=op.f("fk_judge_test_shared_experiment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judge_test")),
        sa.UniqueConstraint("generation_run_id", name=op.f("uq_judge_test_generation_run_id")),
    )
    op.create_index(op.f("ix_judge_test_judge_key"), "judge_test", ["judge_key"], unique=False)
    op.create_index(op.f("ix_judge_test_shared_experiment_id"), "judge_test", ["shared_experiment_id"], unique=False)
    op.create_table(
        "checkpoint",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("shared_experiment_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("generation_run_id", sa.Integer(), nullable=False),
        sa.Column("closed_at", sa.String(), nullable=False),
        sa.Column("examples", sa.Text(), nullable=False),
        sa.Column("judge_test_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["generation_run_id"], ["generation_run.id"], name=op.f("fk_checkpoint_generation_run_id")
        ),
        sa.ForeignKeyConstraint(["judge_test_id"], ["judge_test.id"], name=op.f("fk_checkpoint_judge_test_id")),
        sa.ForeignKeyConstraint(
            ["shared_experiment_id"], ["shared_experiment.id"], name=op.f("fk_checkpoint_shared_experiment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoint")),
        sa.UniqueConstraint("shared_experiment_id", "name", name=op.f("uq_checkpoint_shared_experiment_id_name")),
    )
    op.create_table(
        "judge_test_sample",
        sa.Column("judge_test_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("expected", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("request_key", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["judge_test_id"], ["judge_test.id"], name=op.f("fk_judge_test_sample_judge_test_id")),
        sa.ForeignKeyConstraint(["request_key"], ["request.key"], name=op.f("fk_judge_test_sample_request_key")),
        sa.PrimaryKeyConstraint("judge_test_id", "position", name=op.f("pk_judge_test_sample")),
    )
    op.create_index(op.f("ix_judge_test_sample_request_key"), "judge_test_sample", ["request_key"], unique=False)
    op.add_column("generation_run", sa.Column("step", sa.String(), nullable=True))
    op.add_column("generation_run", sa.Column("heartbeat", sa.String(), nullable=True))
    op.add_column("generation_run", sa.Column("judge_key", sa.String(length=32), nullable=True))
    op.add_column("sample", sa.Column("decided_by", sa.String(), nullable=True))
    op.execute("UPDATE sample SET decided_by = 'judge' WHERE judge_request_key IS NOT NULL AND verdict IS NOT NULL")
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")
