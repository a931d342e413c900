from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tracker.mlflow_runs.agent_note import note
from tracker.mlflow_runs.agent_report import (
    AgentReport,
    condition_keys,
    condition_table,
    metrics,
    parameters,
    response_table,
    tags,
)
from tracker.mlflow_runs.mlflow_run import PARAMETER_LIMIT, TABLE_LIMIT
from tracker.paths import Workspace

FIGURES = ("chrf", "mean_words", "mean_characters", "mean_completion_tokens", "mean_latency_s")
SPACE = Workspace(Path("/w"), environ={})
HOSTILE = [
    "a/b",
    "a?b",
    "50% off",
    "Émile",
    "..",
    "",
    "👩",
    "perspectives",
    "System",
    "x" * 100,
    " .v1.2 ",
    "A/B",
    "批次",
]


def perspective(position: int, condition: str, **changes: Any) -> dict[str, Any]:
    known = {"mean_words": 3.0 + position, "mean_characters": 12.0, "mean_completion_tokens": 4.0, "chrf": None}
    row = {"position": position, "condition": condition, "is_reference": False, "reading": None, "strategy": "Do."}
    return {**row, **known, "mean_latency_s": 0.5, "n_responses": 2, "n_failed": 0, **changes}


REFERENCE = perspective(0, "Reference", is_reference=True, strategy=None, mean_latency_s=None)


def report(
    perspectives: list[dict[str, Any]],
    inputs: list[dict[str, Any]] | None = None,
    answers: dict[tuple[int, int], dict[str, Any]] | None = None,
    maker: dict[str, Any] | None = None,
    **run: Any,
) -> AgentReport:
    texts = ("uuid", "host", "command", "task_type", "model", "name", "purpose", "fingerprint", "source_digest")
    zeros = (
        "n_calls",
        "n_cached",
        "n_retried",
        "n_rate_limited",
        "prompt_tokens",
        "completion_tokens",
        "draw",
        "is_trial",
    )
    unknown = ("cost_usd", "duration_s", "latency_p50_s", "latency_p95_s", "latency_p99_s", "temperature")
    given = inputs if inputs is not None else [{"input": "Ja"}, {"input": "Nein"}]
    found = answers if answers is not None else {}
    row: dict[str, Any] = {name: name for name in (*texts, "inputs_digest", "source_origin")} | dict.fromkeys(zeros, 0)
    row |= dict.fromkeys((*unknown, "error")) | {"outcome": "made", "status": "complete", "dataset_status": "complete"}
    row |= {"n_inputs": len(given), "n_perspectives": len([p for p in perspectives if not p["is_reference"]])}
    row |= {"settings": "{}", "config": "{}", "completed_at": "now", "data_digest": "d", "task_description": ""}
    row |= {"n_responses": len(found), "n_failed": 0, "d_n_responses": len(found)}
    return AgentReport({**row, **run}, perspectives, given, found, maker)


def test_every_condition_gets_a_name_of_its_own_that_mlflow_takes() -> None:
    keys = condition_keys(HOSTILE)
    assert keys[:5] == ["a_b", "a_b_2", "50_off", "Émile", "condition_5"]
    assert keys[5:9] == ["condition_6", "condition_7", "perspectives_2", "System_2"]
    assert keys[9:] == ["x" * 100, "v1.2", "A_B_3", "批次"]
    assert len({key.casefold() for key in keys}) == len(HOSTILE)


def test_the_names_of_conditions_do_not_depend_on_those_after_them() -> None:
    assert [condition_keys(HOSTILE[:n]) for n in range(len(HOSTILE))] == [
        condition_keys(HOSTILE)[:n] for n in range(len(HOSTILE))
    ]


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"model": "meta-llama/Llama-3.3-70B", "temperature": 0.7}, "Llama-3.3-70B t0.7 · 1 condition · 2 inputs"),
        ({"model": "gpt-4o"}, "gpt-4o · 1 condition · 2 inputs"),
        ({"model": "gpt-4o", "temperature": 1.0, "draw": 2}, "gpt-4o t1 · 1 condition · 2 inputs · draw 2"),
        ({"model": "gpt-4o", "temperature": 1.0, "is_trial": 1}, "gpt-4o t1 · 1 condition · 2 inputs · trial"),
    ],
)
def test_a_title_holds_what_tells_runs_apart(run: dict[str, Any], expected: str) -> None:
    assert report([perspective(0, "Original")], **run).title == f"task_type · {expected} · made"


@pytest.mark.parametrize(
    ("outcome", "run", "dataset", "expected"),
    [
        ("made", "complete", "complete", "FINISHED"),
        ("resumed", "partial", "unfinished", "FAILED"),
        ("made", "partial", "partial", "FINISHED"),
        ("reused", "partial", "complete", "FINISHED"),
        ("made", "interrupted", "unfinished", "KILLED"),
        ("made", "failed", "unfinished", "FAILED"),
    ],
)
def test_a_partial_run_is_finished_only_where_its_failures_were_accepted(
    outcome: str, run: str, dataset: str, expected: str
) -> None:
    assert report([], outcome=outcome, status=run, dataset_status=dataset).status == expected


@pytest.mark.parametrize(
    ("chrf", "first"), [(40.0, ["Original/chrf", "Lazy/chrf"]), (None, ["Original/mean_words", "Lazy/mean_words"])]
)
def test_the_first_metric_is_that_of_the_first_condition_that_was_asked(chrf: float | None, first: list[str]) -> None:
    asked = [perspective(1, "Original", chrf=chrf), perspective(2, "Lazy", chrf=chrf)]
    found = metrics(report([REFERENCE, *asked]))
    assert list(found)[:2] == first
    assert "Reference/mean_latency_s" not in found
    assert found["Reference/mean_words"] == 3.0
    assert found["perspectives/n_calls"] == 0


def test_what_the_data_set_became_later_is_no_figure_of_an_earlier_run() -> None:
    asked, answers = [perspective(0, "Original")], {(0, 0): {"response": "Yes", "preparation": None}}
    earlier = report(asked, answers=answers, d_n_responses=2, status="interrupted", n_responses=0, n_failed=1)
    assert metrics(earlier).items() >= {"perspectives/n_responses": 1.0, "perspectives/n_failed": 1.0}.items()
    assert [name for name in metrics(earlier) if not name.startswith("perspectives/")] == []
    assert "synthtrack.data_digest" not in tags(earlier)
    assert "| Condition |" not in note(earlier, SPACE)
    assert "| Data | not finished |" in note(earlier, SPACE)


def test_the_responses_to_an_input_stand_side_by_side_before_its_reference_and_the_notes() -> None:
    asked = [perspective(1, "input"), perspective(2, "Noted", reading="Read."), perspective(3, "noted")]
    answers: dict[tuple[int, int], dict[str, Any]] = {
        (0, 1): {"response": "Yes", "preparation": None},
        (0, 2): {"response": "Yeah", "preparation": "short"},
        (1, 3): {"response": "No", "preparation": None},
    }
    inputs = [{"input": "Ja", "reference": "Yes."}, {"input": "Ja"}, {"input": "x" * 5000}]
    found = response_table(report([REFERENCE, *asked], inputs, answers))
    assert found == {
        "columns": ["input", "input (2)", "Noted", "noted (2)", "reference", "Noted: notes"],
        "data": [
            ["Ja", "Yes", "Yeah", None, "Yes.", "short"],
            ["Ja (2)", None, None, "No", None, None],
            ["x" * 1000 + " ...", None, None, None, None, None],
        ],
    }


def test_a_table_has_at_most_2000_rows_and_a_parameter_6000_characters() -> None:
    asked = [perspective(0, "Original", strategy="go " * 5000)]
    of = report(asked, [{"input": f"{n}"} for n in range(2100)])
    assert len(response_table(of)["data"]) == TABLE_LIMIT == 2000
    assert "holds the first 2,000 of 2,100 inputs" in note(of, SPACE)
    assert len(parameters(of)["agent_perspectives.Original.strategy"]) == PARAMETER_LIMIT == 6000


@pytest.mark.parametrize(("chrf", "second"), [(31.5, "chrf"), (None, "mean_words")])
def test_the_second_column_of_the_conditions_is_what_is_compared(chrf: float | None, second: str) -> None:
    found = condition_table(report([REFERENCE, perspective(1, "Original", chrf=chrf)]))
    assert found["columns"][:2] == ["condition", second]
    assert set(found["columns"]) == {"condition", *FIGURES, "n_responses", "n_failed", "strategy", "reading"}
    assert [row[0] for row in found["data"]] == ["Reference", "Original"]
    assert found["data"][1][1] == (4.0 if chrf is None else chrf)


def test_a_note_cannot_be_broken_by_the_name_of_a_condition() -> None:
    found = note(report([perspective(0, "a|b", n_failed=3, n_responses=1)]), SPACE)
    assert "| a\\|b |  | 3.0 | 4.0 | 0.5 s | 1 (3 failed) |" in found
