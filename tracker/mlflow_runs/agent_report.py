"""What MLflow is shown of a run of `perspectives`, as plain data: its name, parameters, metrics, tags and tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tracker.mlflow_runs.mlflow_run import (
    DIGEST_LIMIT,
    FIGURES,
    PARAMETER_LIMIT,
    TABLE_LIMIT,
    Table,
    run_tags,
    setting_parameters,
)
from tracker.mlflow_runs.training_report import short_model, shown_value
from tracker.record.catalogue import Reader, Row
from tracker.views.agent_view import is_finished

RUN_TAG = "synthtrack.agent_run"
CONDITION_FIGURES = ("chrf", "mean_words", "mean_characters", "mean_completion_tokens", "mean_latency_s")
"""What came of a condition, columns of agent_perspective. First chrF: the compare page draws the first metric."""
_RUN = """
    SELECT r.*, 'perspectives_' || d.task_type AS purpose, d.fingerprint, d.name, d.task_type, d.task_description,
           d.model, d.temperature, d.draw, d.is_trial, d.settings, d.n_inputs, d.n_perspectives,
           d.status AS dataset_status, d.completed_at, d.data_digest, d.n_responses AS d_n_responses,
           d.n_failed AS d_n_failed, d.source_dataset_id,
           s.digest AS source_digest, s.task_name AS source_name, s.origin AS source_origin, p.digest AS inputs_digest
    FROM agent_run r
    JOIN agent_dataset d ON d.id = r.agent_dataset_id
    JOIN source_dataset s ON s.id = d.source_dataset_id
    JOIN source_split p ON p.source_dataset_id = s.id
    WHERE r.id = :id"""
_MAKER = """
    SELECT r.uuid, x.mlflow_run_id FROM agent_run r LEFT JOIN mlflow_outbox x ON x.agent_run_id = r.id
    WHERE r.agent_dataset_id = :dataset AND r.id < :id AND r.outcome <> 'reused' ORDER BY r.id DESC LIMIT 1"""
_PERSPECTIVES = "SELECT * FROM agent_perspective WHERE agent_dataset_id = :dataset ORDER BY position"
_INPUTS = """
    SELECT r.line FROM source_record r JOIN source_split p ON p.id = r.source_split_id
    WHERE p.source_dataset_id = :source ORDER BY r.position"""
# What a later run answered was not there when this one ended.
_ANSWERS = """
    SELECT a.position, a.perspective, a.preparation, a.response FROM agent_response a
    WHERE a.agent_dataset_id = :dataset AND a.status = 'answered' AND a.updated_at < COALESCE(
        (SELECT MIN(r.started_at) FROM agent_run r
         WHERE r.agent_dataset_id = :dataset AND r.id > :id AND r.outcome <> 'reused'), '9')"""
_INPUT_LIMIT = 1000
"""Characters of an input in the table: enough to know it again."""
_TAKEN = ("perspectives", "system")
"""First parts of metrics that are not a condition's: the run's own, and MLflow's of the machine."""


@dataclass(frozen=True)
class AgentReport:
    """A run of `perspectives` with all that is shown of it.

    ``inputs`` are parsed records, ``answers`` those that were there at its end, by positions of input and perspective;
    ``maker`` is the run that made what this one reused.
    """

    run: Row
    perspectives: Sequence[Row]
    inputs: Sequence[Row]
    answers: Mapping[tuple[int, int], Row]
    maker: Row | None = None

    @property
    def reused(self) -> bool:
        return bool(self.run["outcome"] == "reused")

    @property
    def title(self) -> str:
        """The essentials, because a run's name is what every table and chart of MLflow shows."""
        run = self.run
        warmth = [] if run["temperature"] is None else [f"t{shown_value(run['temperature'])}"]
        draw = [f"draw {run['draw']}"] if run["draw"] else []
        draw += ["trial"] if run["is_trial"] else []
        parts = [
            run["task_type"],
            " ".join([short_model(run["model"]), *warmth]),
            f"{run['n_perspectives']:,} condition{'' if run['n_perspectives'] == 1 else 's'}",
            f"{run['n_inputs']:,} input{'' if run['n_inputs'] == 1 else 's'}",
            *draw,
            run["outcome"],
        ]
        return " · ".join(parts)

    @property
    def is_current(self) -> bool:
        """Whether the data set still is what it was at this run's end, and complete or accepted as it is."""
        finished = is_finished({"status": self.run["dataset_status"], "completed_at": self.run["completed_at"]})
        return finished and len(self.answers) == self.run["d_n_responses"]

    @property
    def status(self) -> str:
        """MLflow's word for how the run ended. A partial run is finished where its failures were accepted."""
        if self.run["status"] == "partial":
            return "FINISHED" if self.reused or self.run["dataset_status"] == "partial" else "FAILED"
        return {"complete": "FINISHED", "interrupted": "KILLED"}.get(self.run["status"], "FAILED")

    @property
    def data_digest(self) -> str | None:
        """That of the data that this run made or reused."""
        return self.run["data_digest"] if self.is_current else None

    @cached_property
    def keys(self) -> list[str]:
        """A name for each perspective that MLflow takes for metrics and parameters."""
        return condition_keys([each["condition"] for each in self.perspectives])


def load_report(reader: Reader, agent_run_id: int) -> AgentReport:
    """Everything that is shown of one run of `perspectives`."""
    run = reader.rows(_RUN, id=agent_run_id)[0]
    of = {"dataset": run["agent_dataset_id"], "id": agent_run_id}
    makers = reader.rows(_MAKER, **of) if run["outcome"] == "reused" else []
    return AgentReport(
        run=run,
        perspectives=reader.rows(_PERSPECTIVES, dataset=of["dataset"]),
        inputs=[json.loads(row["line"]) for row in reader.rows(_INPUTS, source=run["source_dataset_id"])],
        answers={(row["position"], row["perspective"]): row for row in reader.rows(_ANSWERS, **of)},
        maker=makers[0] if makers else None,
    )


def condition_keys(conditions: Sequence[str]) -> list[str]:
    """``conditions`` with what MLflow takes in a name, one for each: letters, digits, blanks and ``_-.``."""
    legal = [re.sub(r" *[^\w.\- ]+ *", "_", name).strip(" .") for name in conditions]
    named = [key if key.strip("_") else f"condition_{at}" for at, key in enumerate(legal, 1)]
    return _unique(named, "{}_{}", _TAKEN)


def parameters(report: AgentReport) -> dict[str, str]:
    """Every setting of this run under its dotted name, and of each condition what its agent was told.

    The compare page draws the first three by name that differ: the fingerprint, which always does, is a tag alone.
    """
    run = report.run
    shown = setting_parameters(run["settings"], run["config"])
    shown.pop("agent_perspectives", None)
    for each, key in zip(report.perspectives, report.keys, strict=True):
        told = {name: each[name] for name in ("reading", "strategy") if each[name] is not None}
        shown |= {f"agent_perspectives.{key}.{name}": text for name, text in told.items()}
    shown |= {
        "conditions": ", ".join(each["condition"] for each in report.perspectives),
        "inputs_digest": run["inputs_digest"][:DIGEST_LIMIT],
        "n_inputs": str(run["n_inputs"]),
        "draw": str(run["draw"]),
        "outcome": run["outcome"],
    }
    return {name: value[:PARAMETER_LIMIT] for name, value in shown.items()}


def metrics(report: AgentReport) -> dict[str, float]:
    """The figures of each condition, then those of the run; what is unknown is absent."""
    run, found = report.run, {}
    if report.is_current:
        # What was asked comes before the reference.
        of = sorted(zip(report.keys, report.perspectives, strict=True), key=lambda pair: bool(pair[1]["is_reference"]))
        names = (*CONDITION_FIGURES, "n_failed")
        found = {f"{key}/{name}": each[name] for name in names for key, each in of}
    # Of a run that ended without a word nothing was counted.
    figures = {"n_responses": run["n_responses"] or len(report.answers), "n_failed": run["n_failed"]}
    figures |= {name: run[name] for name in FIGURES}
    found |= {f"perspectives/{name}": value for name, value in figures.items()}
    return {name: float(value) for name, value in found.items() if value is not None}


def tags(report: AgentReport) -> dict[str, str]:
    """What a run is found by."""
    run = report.run
    found = run_tags(run, report.maker, "synthtrack perspectives") | {
        RUN_TAG: run["uuid"],
        "synthtrack.agent_dataset": run["name"],
        "synthtrack.task_type": run["task_type"],
        "synthtrack.model": run["model"],
        "synthtrack.purpose": run["purpose"],
        "synthtrack.data_digest": report.data_digest,
    }
    return {name: value for name, value in found.items() if value}


def response_table(report: AgentReport) -> Table:
    """An input, what each agent answered, the reference and the agents' notes: a row for each input, at most 2,000.

    MLflow's evaluation view groups by the first column and compares the second unasked.
    """
    asked = [each for each in report.perspectives if not each["is_reference"]]
    readers = [each for each in asked if each["reading"] is not None]
    names = [each["condition"] for each in asked] + [f"{each['condition']}: notes" for each in readers]
    # The same in every run of the same conditions, whether there are references or not.
    columns = _unique(["input", "reference", *names])
    names, notes = columns[2 : 2 + len(asked)], columns[2 + len(asked) :]
    inputs = report.inputs[:TABLE_LIMIT]
    rows = []
    for at, (text, record) in enumerate(zip(_unique(map(_shortened, inputs)), inputs, strict=True)):
        answers = {each["position"]: report.answers.get((at, each["position"]), {}) for each in asked}
        responses = [answers[each["position"]].get("response") for each in asked]
        preparations = [answers[each["position"]].get("preparation") for each in readers]
        rows.append([text, *responses, record.get("reference"), *preparations])
    return {"columns": ["input", *names, "reference", *notes], "data": rows}


def condition_table(report: AgentReport) -> Table:
    """A row for each condition with its figures; the chrF is the second column where there is one."""
    figures = list(CONDITION_FIGURES)
    if all(each["chrf"] is None for each in report.perspectives):
        figures.append(figures.pop(0))
    columns = ["condition", *figures, "n_responses", "n_failed", "strategy", "reading"]
    return {"columns": columns, "data": [[each[name] for name in columns] for each in report.perspectives]}


def _shortened(record: Row) -> str:
    text = str(record["input"])
    return text if len(text) <= _INPUT_LIMIT else f"{text[:_INPUT_LIMIT]} ..."


def _unique(names: Iterable[str], numbered: str = "{} ({})", taken: Iterable[str] = ()) -> list[str]:
    """``names`` with a number after those that were there already; letters' case does not tell two apart."""
    found: list[str] = []
    there = {name.casefold() for name in taken}
    for name in names:
        number, new = 1, name
        while new.casefold() in there:
            number += 1
            new = numbered.format(name, number)
        there.add(new.casefold())
        found.append(new)
    return found
