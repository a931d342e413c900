"""Views that answer what people ask of the record: what gave which accuracy, what it cost, what changed."""

# ruff: noqa: S608  what is put into a query here are expressions of this module

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_DIALECT = {
    "sqlite": {
        # What a run is, without its seed; and without its data and the questions made of them.
        "point": "json_remove(r.identity, '$.identity.hyperparameters.seed')",
        "setting": "json_remove(r.identity, '$.identity.hyperparameters.seed', '$.identity.data',"
        " '$.identity.questions')",
        "settings": "json_each(e.settings)",
        "key": "s.key",
        "value": "CASE s.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(s.value AS TEXT) END",
        "shapes": """CASE WHEN INSTR(s.key, '"') > 0 THEN NULL WHEN json_type(e.identity, '$.identity."'
                     || REPLACE(s.key, '.', '"."') || '"') IS NULL THEN 0 ELSE 1 END""",
        "spent": "json_each(x.spent)",
        "amount": "s.value",
    },
    "postgresql": {
        "point": "CAST(CAST(r.identity AS jsonb) #- '{identity,hyperparameters,seed}' AS text)",
        "setting": "CAST(CAST(r.identity AS jsonb) #- '{identity,hyperparameters,seed}' #- '{identity,data}'"
        " #- '{identity,questions}' AS text)",
        "settings": "json_each_text(CAST(e.settings AS json))",
        "key": "s.key",
        "value": "s.value",
        "shapes": """CASE WHEN CAST(e.identity AS jsonb) #> string_to_array('identity.' || s.key, '.') IS NULL
                     THEN 0 ELSE 1 END""",
        "spent": "json_each_text(CAST(x.spent AS json))",
        "amount": "CAST(s.value AS double precision)",
    },
}
"""How each database reads JSON; nothing else in here differs between them."""

_ERROR = "CASE WHEN COUNT(*) > 1 THEN {sd} / SQRT(1.0 * COUNT(*)) END"
_SD = """(CASE WHEN MIN({x}) = MAX({x}) THEN 0.0
              ELSE SQRT(ABS(SUM({x} * {x}) - SUM({x}) * SUM({x}) / COUNT(*)) / (COUNT(*) - 1)) END)"""
# The record of n_eval answers of which a share is right.
_OF_RECORDS = "SQRT({p} * (1 - {p}) / NULLIF({n}, 0))"


def _error_of_mean(x: str) -> str:
    return _ERROR.format(sd=_SD.format(x=x))


VIEWS = {
    "measured_run": """
        SELECT r.id AS training_run_id, r.uuid, r.purpose, r.task, r.model, r.method, r.data, r.learning_rate,
               r.batch_size, r.steps, r.zo_eps, r.lora_rank, r.precision, r.seed, r.n_train, r.n_eval, r.n_correct,
               r.accuracy, r.dev_loss, r.dev_accuracy, r.zero_shot_accuracy, r.majority_accuracy, r.duration_s,
               d.dataset, d.eval_digest,
               (SELECT COUNT(*) FROM training_data n WHERE n.training_run_id = r.id) AS n_data,
               CASE WHEN EXISTS (SELECT 1 FROM training_data o WHERE o.training_run_id = r.id
                                 AND (o.shared_experiment_id IS NOT NULL OR o.name <> 'original'))
                    THEN 0 ELSE 1 END AS is_original,
               CASE WHEN EXISTS (SELECT 1 FROM training_data m WHERE m.training_run_id = r.id AND m.position > 0)
                    THEN NULL ELSE d.shared_experiment_id END AS shared_experiment_id,
               CASE WHEN r.import_run_id IS NULL THEN 0 ELSE 1 END AS is_imported, r.created_at,
               {point} AS point, {setting} AS setting
        FROM training_run r JOIN training_data d ON d.training_run_id = r.id AND d.position = 0
        WHERE r.status = 'complete' AND r.accuracy IS NOT NULL
          AND NOT EXISTS (SELECT 1 FROM training_run l WHERE l.fingerprint = r.fingerprint AND l.attempt > r.attempt
                          AND l.status = 'complete' AND l.accuracy IS NOT NULL)""",
    "training_point": f"""
        SELECT MIN(r.training_run_id) AS first_run_id, r.task, r.model, r.method, MIN(r.data) AS data,
               r.learning_rate, r.batch_size, r.steps, r.zo_eps, r.lora_rank, r.precision,
               COUNT(*) AS n_seeds, AVG(r.accuracy) AS accuracy,
               {_OF_RECORDS.format(p="AVG(r.accuracy)", n="r.n_eval")} AS standard_error,
               {_error_of_mean("r.accuracy")} AS seed_error,
               MIN(r.accuracy) AS lowest_accuracy, MAX(r.accuracy) AS highest_accuracy,
               AVG(r.dev_loss) AS dev_loss, AVG(r.dev_accuracy) AS dev_accuracy,
               AVG(r.zero_shot_accuracy) AS zero_shot_accuracy, AVG(r.majority_accuracy) AS majority_accuracy,
               SUM(r.duration_s) AS duration_s, MAX(r.n_train) AS n_train, r.n_eval,
               MIN(r.dataset) AS dataset, r.eval_digest, MIN(r.n_data) AS n_data, MIN(r.is_original) AS is_original,
               MIN(r.shared_experiment_id) AS shared_experiment_id, MAX(r.is_imported) AS is_imported,
               r.setting
        FROM measured_run r
        GROUP BY r.task, r.model, r.method, r.learning_rate, r.batch_size, r.steps, r.zo_eps, r.lora_rank, r.precision,
                 r.n_eval, r.eval_digest, r.setting, r.point""",
    "accuracy_by_temperature": f"""
        SELECT p.task, p.model, p.method, p.learning_rate, p.batch_size, p.steps, p.zo_eps, p.lora_rank, p.precision,
               e.model AS generation_model, e.temperature AS generation_temperature,
               COUNT(*) AS n_experiments, SUM(p.n_seeds) AS n_runs, AVG(p.accuracy) AS accuracy,
               {_OF_RECORDS.format(p="AVG(p.accuracy)", n="p.n_eval")} AS standard_error,
               {_error_of_mean("p.accuracy")} AS experiment_error,
               MIN(p.accuracy) AS lowest_accuracy, MAX(p.accuracy) AS highest_accuracy,
               AVG(p.zero_shot_accuracy) AS zero_shot_accuracy, p.n_eval, p.eval_digest, p.setting
        FROM (SELECT q.task, q.model, q.method, q.learning_rate, q.batch_size, q.steps, q.zo_eps, q.lora_rank,
                     q.precision, q.n_eval, q.eval_digest, q.setting, q.shared_experiment_id,
                     SUM(q.n_seeds) AS n_seeds, SUM(q.accuracy * q.n_seeds) / SUM(q.n_seeds) AS accuracy,
                     AVG(q.zero_shot_accuracy) AS zero_shot_accuracy
              FROM training_point q WHERE q.shared_experiment_id IS NOT NULL
              GROUP BY q.task, q.model, q.method, q.learning_rate, q.batch_size, q.steps, q.zo_eps, q.lora_rank,
                       q.precision, q.n_eval, q.eval_digest, q.setting, q.shared_experiment_id) p
        JOIN shared_experiment e ON e.id = p.shared_experiment_id
        GROUP BY p.task, p.model, p.method, p.learning_rate, p.batch_size, p.steps, p.zo_eps, p.lora_rank, p.precision,
                 p.n_eval, p.eval_digest, p.setting, e.model, e.temperature""",
    "cost_per_point": """
        SELECT c.*,
               CASE WHEN c.points_over_original > 0
                    THEN c.data_cost_usd / c.points_over_original END AS usd_per_point_over_original,
               CASE WHEN c.points_over_zero_shot > 0
                    THEN c.data_cost_usd / c.points_over_zero_shot END AS usd_per_point_over_zero_shot
        FROM (SELECT p.task, p.model, p.method, p.data, p.learning_rate, p.batch_size, p.steps, p.zo_eps, p.lora_rank,
                     p.precision, p.n_seeds, p.n_eval, p.n_train, p.accuracy, p.zero_shot_accuracy,
                     o.accuracy AS original_accuracy, o.n_seeds AS n_original_seeds,
                     100 * (p.accuracy - o.accuracy) AS points_over_original,
                     100 * (p.accuracy - p.zero_shot_accuracy) AS points_over_zero_shot,
                     100 * SQRT((p.accuracy * (1 - p.accuracy) + o.accuracy * (1 - o.accuracy)) / NULLIF(p.n_eval, 0))
                         AS points_error,
                     (SELECT CASE WHEN COUNT(*) = COUNT(e.cost_usd) AND NOT EXISTS (
                                  SELECT 1 FROM training_data u WHERE u.training_run_id = p.first_run_id
                                  AND u.shared_experiment_id IS NULL AND u.name <> 'original') THEN SUM(e.cost_usd) END
                      FROM shared_experiment e WHERE e.id IN (
                          SELECT t.shared_experiment_id FROM training_data t
                          WHERE t.training_run_id = p.first_run_id)) AS data_cost_usd,
                     p.n_data, p.shared_experiment_id, p.first_run_id, p.eval_digest
              FROM training_point p
              LEFT JOIN (SELECT b.setting, COALESCE(b.n_eval, -1) AS n_eval, SUM(b.n_seeds) AS n_seeds,
                                SUM(b.accuracy * b.n_seeds) / SUM(b.n_seeds) AS accuracy
                         FROM training_point b WHERE b.is_original = 1
                         GROUP BY b.setting, COALESCE(b.n_eval, -1)) o
                ON o.setting = p.setting AND o.n_eval = COALESCE(p.n_eval, -1)
              WHERE p.is_original = 0) c""",
    "experiment_use": """
        SELECT e.id AS shared_experiment_id, e.dataset || '/' || e.name AS reference, e.fingerprint, e.dataset, e.name,
               e.status, e.purpose, e.model, e.temperature, e.n_records, e.n_accepted, e.cost_usd, e.created_at,
               CASE WHEN e.import_run_id IS NULL THEN 0 ELSE 1 END AS is_imported,
               (SELECT COUNT(*) FROM batch_membership m WHERE m.shared_experiment_id = e.id) AS n_batches,
               (SELECT COUNT(*) FROM publication p WHERE p.shared_experiment_id = e.id) AS n_publications,
               (SELECT COUNT(DISTINCT d.training_run_id) FROM training_data d WHERE d.shared_experiment_id = e.id)
                   AS n_runs,
               (SELECT COUNT(*) FROM training_run r WHERE r.status = 'complete' AND r.id IN (
                   SELECT d.training_run_id FROM training_data d WHERE d.shared_experiment_id = e.id))
                   AS n_complete_runs,
               (SELECT MAX(r.started_at) FROM training_run r WHERE r.id IN (
                   SELECT d.training_run_id FROM training_data d WHERE d.shared_experiment_id = e.id))
                   AS last_trained_at
        FROM shared_experiment e""",
    "batch_cost": """
        SELECT c.batch_id, c.batch, c.purpose, c.created_at, c.deleted_at, c.n_experiments, c.n_reused, c.n_runs,
               CASE WHEN c.n_unpriced_runs + c.n_imported + c.n_unpriced_deleted = 0 AND c.n_runs + c.n_deleted > 0
                    THEN COALESCE(c.paid_usd, 0.0) + COALESCE(c.paid_for_deleted_usd, 0.0) END AS cost_usd,
               c.n_unpriced_runs, c.n_accepted, c.data_cost_usd,
               CASE WHEN c.n_accepted > 0 THEN c.data_cost_usd / c.n_accepted END AS cost_per_accepted_usd
        FROM (SELECT b.id AS batch_id, b.name AS batch, b.purpose, b.created_at, b.deleted_at,
                     COUNT(e.id) AS n_experiments, SUM(CASE WHEN m.reused THEN 1 ELSE 0 END) AS n_reused,
                     COUNT(CASE WHEN e.import_run_id IS NOT NULL AND NOT m.reused THEN 1 END) AS n_imported,
                     SUM(e.n_accepted) AS n_accepted,
                     CASE WHEN COUNT(e.id) = COUNT(e.cost_usd) THEN SUM(e.cost_usd) END AS data_cost_usd,
                     (SELECT COUNT(*) FROM generation_run r WHERE r.batch_id = b.id) AS n_runs,
                     (SELECT COUNT(*) FROM generation_run r WHERE r.batch_id = b.id AND r.cost_usd IS NULL
                      AND r.outcome <> 'reused') AS n_unpriced_runs,
                     (SELECT SUM(r.cost_usd) FROM generation_run r WHERE r.batch_id = b.id) AS paid_usd,
                     COALESCE(MAX(d.n), 0) AS n_deleted, COALESCE(MAX(d.n_unpriced), 0) AS n_unpriced_deleted,
                     MAX(d.usd) AS paid_for_deleted_usd
              FROM batch b LEFT JOIN batch_membership m ON m.batch_id = b.id
              LEFT JOIN shared_experiment e ON e.id = m.shared_experiment_id
              LEFT JOIN (SELECT {key} AS batch, COUNT(*) AS n, COUNT(*) - COUNT({amount}) AS n_unpriced,
                                SUM({amount}) AS usd
                         FROM deletion x, {spent} s WHERE x.restored_at IS NULL GROUP BY {key}) d ON d.batch = b.name
              GROUP BY b.id, b.name, b.purpose, b.created_at, b.deleted_at) c""",
    "acceptance_by_model": """
        SELECT a.dataset, a.model, a.validation_model, a.n_experiments, a.n_accepted, a.n_rejected, a.n_unclear,
               a.n_failed, 1.0 * a.n_accepted / a.n_judged AS acceptance_rate,
               SQRT(1.0 * a.n_accepted * a.n_rejected / a.n_judged / a.n_judged / a.n_judged) AS record_error,
               CASE WHEN a.n_experiments > 1
                    THEN SQRT(ABS(a.aa - 2.0 * a.n_accepted / a.n_judged * a.aj
                                  + 1.0 * a.n_accepted * a.n_accepted / a.n_judged / a.n_judged * a.jj)
                              * a.n_experiments / (a.n_experiments - 1)) / a.n_judged END AS standard_error,
               a.lowest_rate, a.highest_rate, a.cost_usd,
               CASE WHEN a.n_accepted > 0 THEN a.cost_usd / a.n_accepted END AS cost_per_accepted_usd
        FROM (SELECT e.dataset, e.model, e.validation_model, COUNT(*) AS n_experiments,
                     SUM(e.n_accepted) AS n_accepted, SUM(e.n_rejected) AS n_rejected, SUM(e.n_unclear) AS n_unclear,
                     SUM(e.n_failed) AS n_failed, SUM(e.n_accepted + e.n_rejected) AS n_judged,
                     SUM(1.0 * e.n_accepted * e.n_accepted) AS aa,
                     SUM(1.0 * e.n_accepted * (e.n_accepted + e.n_rejected)) AS aj,
                     SUM(1.0 * (e.n_accepted + e.n_rejected) * (e.n_accepted + e.n_rejected)) AS jj,
                     MIN(1.0 * e.n_accepted / (e.n_accepted + e.n_rejected)) AS lowest_rate,
                     MAX(1.0 * e.n_accepted / (e.n_accepted + e.n_rejected)) AS highest_rate,
                     CASE WHEN COUNT(*) = COUNT(e.cost_usd) THEN SUM(e.cost_usd) END AS cost_usd
              FROM shared_experiment e
              WHERE e.status <> 'unfinished' AND e.validation_model IS NOT NULL AND e.n_accepted + e.n_rejected > 0
                    AND e.import_run_id IS NULL
              GROUP BY e.dataset, e.model, e.validation_model) a""",
    "experiment_setting": """
        SELECT e.id AS shared_experiment_id, e.dataset || '/' || e.name AS reference, e.fingerprint, {key} AS name,
               {value} AS value, {shapes} AS shapes_data
        FROM shared_experiment e, {settings} s
        UNION ALL
        SELECT e.id, e.dataset || '/' || e.name, e.fingerprint, 'dataset.source', d.digest, 1
        FROM shared_experiment e JOIN source_dataset d ON d.id = e.source_dataset_id
        UNION ALL
        SELECT e.id, e.dataset || '/' || e.name, e.fingerprint, 'record_limit', CAST(e.record_limit AS TEXT), 1
        FROM shared_experiment e
        UNION ALL
        SELECT e.id, e.dataset || '/' || e.name, e.fingerprint, 'draw', CAST(e.draw AS TEXT), 1
        FROM shared_experiment e""",
}


def upgrade() -> None:
    words = _DIALECT[op.get_bind().dialect.name]
    for name, query in VIEWS.items():
        # Format leaves its own braces single, and nothing else in a query has any.
        op.execute(f"CREATE VIEW {name} AS {query.format(**words)}")
