"""What the SQL views for questions mean, and questions as they are asked: for `sql --schema` and docs/queries.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """What one row of a view is, and what its columns mean; a column that says it by its name may be left out."""

    row: str
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the SQL that answers it on SQLite and PostgreSQL, and what is to be known of the answer."""

    title: str
    sql: str
    answer: str


_TRAINED = {
    "method": "zo, fo_full or fo_lora",
    "steps": "updates; NULL: not known of a run that was imported, as of other settings",
    "n_train": "training records",
    "n_eval": "records that accuracy is measured on",
    "accuracy": "share of `n_eval`, 0 to 1",
    "zero_shot_accuracy": "of the model before training",
    "eval_digest": "SHA-256 of the validation file: accuracies on different files are not comparable",
    "setting": "every setting of the training but seed and data, as JSON; the same text is the same training",
    "standard_error": "of `accuracy`, from the number of records: sqrt(p (1 - p) / n_eval). More seeds do not make it "
    "smaller, since all are measured on the same records; it is the upper bound for their mean",
}
_USED = {
    "is_imported": "1: it was brought in by `import`",
    "cost_usd": "US dollars; NULL: not known",
}

VIEWS: dict[str, View] = {
    "measured_run": View(
        "A training run that is complete and was measured; of several attempts at one point the newest.",
        {
            **_TRAINED,
            "data": "short name of the data, all parts of a mix",
            "n_correct": "right answers among `n_eval`",
            "n_data": "data sets that it was trained on; more than 1 is a mix",
            "is_original": "1: no synthetic data",
            "shared_experiment_id": "the experiment it was trained on; NULL: original data, a mix, or data that is not "
            "in the record",
            "is_imported": "1: it was brought in by `import`, and only what its logs say is known",
            "point": "every setting but the seed, with the data",
        },
    ),
    "training_point": View(
        "A point of a grid: measured runs that differ in their seed only.",
        {
            **_TRAINED,
            "first_run_id": "`training_run.id` of one of them",
            "n_seeds": "its runs",
            "accuracy": "mean over the seeds",
            "seed_error": "standard error of that mean among the seeds, sd / sqrt(n_seeds): how much the seed matters, "
            "not how sure the accuracy is. NULL: one seed",
            "dev_loss": "mean over the seeds, of the best checkpoint: what to choose settings by",
            "duration_s": "seconds at work, all seeds together",
            "is_original": "1: no synthetic data",
            "shared_experiment_id": "the experiment; NULL: original data, a mix, or data that is not in the record",
        },
    ),
    "accuracy_by_temperature": View(
        "A generation temperature under one training: same task, model, method and every setting but data and seed.",
        {
            **_TRAINED,
            "generation_model": "the LLM that made the data",
            "generation_temperature": "NULL: the provider's default, or not known",
            "n_experiments": "data sets made at that temperature; several differ in prompt, judge, draw ...",
            "n_runs": "all their seeds",
            "accuracy": "mean over the experiments, each the mean over its seeds",
            "experiment_error": "standard error of that mean among the experiments, sd / sqrt(n_experiments). "
            "NULL: one experiment",
        },
    ),
    "cost_per_point": View(
        "A training point on synthetic data, or on a mix with some: what a percentage point of accuracy cost.",
        {
            **_TRAINED,
            "accuracy": "mean over the seeds",
            "original_accuracy": "of the same training (`setting`) on original data, mean over its seeds; NULL: none",
            "points_over_original": "100 (accuracy - original_accuracy)",
            "points_over_zero_shot": "100 (accuracy - zero_shot_accuracy)",
            "points_error": "standard error of `points_over_original` as if each had records of its own. They "
            "share them, so that this is mostly too large; `result compare` tests the pair",
            "data_cost_usd": "of all experiments in the data, each counted once; NULL: not known",
            "usd_per_point_over_original": "what a point cost that the original data, there anyway, do not give. "
            "NULL: nothing gained, no such training on original data, or cost not known",
            "usd_per_point_over_zero_shot": "likewise over the untrained model",
        },
    ),
    "experiment_use": View(
        "A shared experiment, and what was done with it.",
        {
            **_USED,
            "reference": "data set and name, as commands take it",
            "n_batches": "batches that hold it",
            "n_publications": "times it was published",
            "n_runs": "training runs on it, alone or in a mix, however they ended; 0: never trained on",
            "n_complete_runs": "those that are complete",
            "last_trained_at": "when the last of them began",
        },
    ),
    "batch_cost": View(
        "A batch, also a deleted one: what it paid, and what the data in it cost.",
        {
            "deleted_at": "NULL: it is there",
            "n_reused": "experiments that were there before it asked for them",
            "n_runs": "its generation runs, judge tests among them",
            "cost_usd": "what its own runs paid, also for experiments that were deleted since: over all batches every "
            "dollar is in here once. NULL: not known of all of them",
            "n_unpriced_runs": "runs whose cost is not known",
            "n_accepted": "accepted records of its experiments",
            "data_cost_usd": "what its experiments cost, whichever batch paid. NULL: not known of all",
            "cost_per_accepted_usd": "`data_cost_usd` / `n_accepted`: that of reused data is in it, too",
        },
    ),
    "acceptance_by_model": View(
        "A data set, the model that rephrased it and the one that judged, over all finished experiments with a judge; "
        "not over imported ones, of which nobody knows what was judged.",
        {
            "n_rejected": "kept the original: judged not the same, or unclear",
            "n_unclear": "those of the rejected whose judge said neither",
            "acceptance_rate": "accepted / (accepted + rejected), over all records",
            "record_error": "standard error of that rate if every record were on its own: too small where experiments "
            "differ",
            "standard_error": "of the rate as it varies among experiments (ratio estimator with experiments as "
            "clusters; Cochran 1977, Sampling Techniques, 2.11). NULL: one experiment",
            "cost_usd": "of those experiments; NULL: not known of all",
        },
    ),
    "experiment_setting": View(
        "One setting of one experiment.",
        {
            "name": "dotted, as in the config: `generation.temperature`; also `dataset.source` (a digest), "
            "`record_limit`, `draw`",
            "value": "as text; NULL: not set",
            "shapes_data": "1: part of the fingerprint; 0: changes how, not what. Settings that are not known of "
            "imported data have no row",
        },
    ),
}

QUESTIONS = (
    Question(
        "Which generation temperature gives the best accuracy, for one model and method?",
        """\
SELECT generation_model, generation_temperature, learning_rate, n_experiments, n_runs,
       accuracy, standard_error, experiment_error
FROM accuracy_by_temperature
WHERE task = 'Copa' AND model = 'meta-llama/Llama-3.2-1B' AND method = 'zo'
ORDER BY learning_rate, generation_temperature""",
        "Rows of one `learning_rate` (of one `setting`, to be exact) differ in their data alone. Two accuracies closer "
        "than about two `standard_error` may well be equal; all are measured on the same records, so that "
        "`synthtrack result compare`, which compares record by record, sees more.",
    ),
    Question(
        "Which data was never trained on?",
        """\
SELECT reference, purpose, status, n_accepted, cost_usd, n_batches, n_publications, created_at
FROM experiment_use
WHERE n_runs = 0 AND status <> 'unfinished'
ORDER BY created_at, reference""",
        "Nor as a part of a mix, nor in a run that failed. With `n_complete_runs = 0` it is data that no result "
        "came of. Programs other than `synthtrack train` leave no row.",
    ),
    Question(
        "What did each batch cost, and an accepted record in it?",
        """\
SELECT batch, n_experiments, n_reused, cost_usd, n_accepted, data_cost_usd, cost_per_accepted_usd
FROM batch_cost
ORDER BY created_at, batch""",
        "`cost_usd` is what the batch paid, `data_cost_usd` what its data cost, whoever paid. Answers that were in the "
        "ledger cost nothing again.",
    ),
    Question(
        "What did an accepted record cost in each experiment?",
        """\
SELECT reference, model, temperature, n_accepted, acceptance_rate, cost_usd, cost_per_accepted_usd
FROM experiment_overview
WHERE status <> 'unfinished'
ORDER BY cost_per_accepted_usd, reference""",
        "The cost is that of all records, the rejected ones and the judge among them.",
    ),
    Question(
        "What did a point of accuracy cost?",
        """\
SELECT task, model, method, data, learning_rate, n_seeds, accuracy, original_accuracy, points_over_original,
       points_error, data_cost_usd, usd_per_point_over_original, usd_per_point_over_zero_shot
FROM cost_per_point
ORDER BY task, model, method, learning_rate, data""",
        "A point is a percentage point. The gain over original data is what synthetic data are for; where the same "
        "training was not done on original data there is only the gain over the untrained model, which original data "
        "might have given for nothing. A gain below twice `points_error` may be none; its price then means nothing.",
    ),
    Question(
        "How much do the judges accept of each model's rephrasings?",
        """\
SELECT dataset, model, validation_model, n_experiments, n_accepted, n_rejected, acceptance_rate,
       standard_error, record_error, lowest_rate, highest_rate
FROM acceptance_by_model
ORDER BY dataset, validation_model, acceptance_rate DESC""",
        "Rates of different judges are not comparable. Prompts and temperatures differ among the experiments of a row; "
        "`lowest_rate` and `highest_rate` say how much that matters.",
    ),
    Question(
        "What changed between two experiments?",
        """\
SELECT name,
       MAX(CASE WHEN reference = 'Copa/temp05_topp10_gpt4o' THEN value END) AS one,
       MAX(CASE WHEN reference = 'Copa/temp09_topp10_gpt4o' THEN value END) AS other,
       MAX(shapes_data) AS shapes_data
FROM experiment_setting
WHERE reference IN ('Copa/temp05_topp10_gpt4o', 'Copa/temp09_topp10_gpt4o')
GROUP BY name
HAVING COUNT(DISTINCT value) > 1 OR COUNT(value) = 1
ORDER BY shapes_data DESC, name""",
        "NULL is a setting that is not set. `synthtrack experiment compare` shows long texts as a diff.",
    ),
    Question(
        "Which prompts were used, and for how many experiments?",
        """\
SELECT value AS prompt, COUNT(*) AS n_experiments, MIN(reference) AS for_example
FROM experiment_setting
WHERE name = 'generation.rephrase_prompt'
GROUP BY value
ORDER BY n_experiments DESC, prompt""",
        "Any other setting can be counted like this.",
    ),
    Question(
        "Which prompts and models are behind a training result?",
        """\
SELECT r.uuid, r.accuracy, s.reference, s.name, s.value
FROM training_run r
JOIN training_data d ON d.training_run_id = r.id
JOIN experiment_setting s ON s.shared_experiment_id = d.shared_experiment_id
WHERE r.purpose = 'data_quality_impact' AND r.seed = 0
  AND s.name IN ('generation.model', 'generation.temperature', 'generation.rephrase_prompt', 'validation.model')
ORDER BY r.uuid, d.position, s.name""",
        "Through `training_data`, so that every part of a mix is found. `synthtrack lineage` prints the whole way.",
    ),
    Question(
        "Which training setting is best for each data set?",
        """\
SELECT task, model, method, data, learning_rate, n_seeds, dev_loss, accuracy, standard_error, seed_error
FROM (SELECT p.*, RANK() OVER (PARTITION BY p.task, p.model, p.method, p.data, p.eval_digest
                               ORDER BY p.dev_loss) AS place
      FROM training_point p WHERE p.dev_loss IS NOT NULL) ranked
WHERE place = 1
ORDER BY task, model, method, data, learning_rate""",
        "Chosen by the loss on dev records, so that `accuracy` stays honest: the highest of several accuracies is "
        "too high as a rule, the more so the more there are.",
    ),
    Question(
        "Which records do the models get wrong most often?",
        """\
SELECT m.task, p.position, COUNT(*) AS n_runs, SUM(CASE WHEN p.correct THEN 0 ELSE 1 END) AS n_wrong,
       1.0 * SUM(CASE WHEN p.correct THEN 0 ELSE 1 END) / COUNT(*) AS share_wrong
FROM prediction p JOIN measured_run m ON m.training_run_id = p.training_run_id
WHERE p.stage = 'trained' AND m.task = 'Copa'
GROUP BY m.task, m.eval_digest, p.position
HAVING SUM(CASE WHEN p.correct THEN 0 ELSE 1 END) > 0
ORDER BY share_wrong DESC, p.position
LIMIT 20""",
        "`position` counts from 0, in the validation file. Imported runs have no predictions.",
    ),
    Question(
        "Where does the money go, month by month?",
        """\
SELECT SUBSTR(started_at, 1, 7) AS month, model, COUNT(*) AS n_runs, SUM(n_calls) AS n_calls,
       SUM(prompt_tokens) AS prompt_tokens, SUM(completion_tokens) AS completion_tokens,
       SUM(cost_usd) AS known_usd, SUM(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END) AS n_unpriced_runs
FROM spending
GROUP BY SUBSTR(started_at, 1, 7), model
ORDER BY month, model""",
        "Of `generate` and judge tests. `known_usd` is the whole only where `n_unpriced_runs` is 0; a run that uses a "
        "judge of another model is all under the model that rephrases.",
    ),
    Question(
        "How often do requests fail, and why?",
        """\
SELECT endpoint, model, COALESCE(failure, 'answered') AS outcome, COUNT(*) AS n_attempts,
       AVG(latency_s) AS mean_latency_s, SUM(cost_usd) AS known_usd
FROM ledger
GROUP BY endpoint, model, COALESCE(failure, 'answered')
ORDER BY endpoint, model, n_attempts DESC""",
        "Attempts that cost, or may have cost, money; refusals by a rate limit are not among them.",
    ),
    Question(
        "Which rephrasings were rejected?",
        """\
SELECT position, original, rephrased, verdict, decided_by
FROM sample_side_by_side
WHERE dataset = 'Copa' AND name = 'temp05_topp10_gpt4o' AND status = 'rejected'
ORDER BY position""",
        "The data have the original in their place. Imported experiments have samples where the original was there.",
    ),
    Question(
        "How good are the judges?",
        """\
SELECT dataset, name, model, temperature, n_tested, n_correct, accuracy,
       SQRT(accuracy * (1 - accuracy) / n_tested) AS standard_error, required_accuracy, passed
FROM judge_test_overview
ORDER BY dataset, name, created_at""",
        "Against people's verdicts. Of several tests on the same samples the best is too good as a rule.",
    ),
)
