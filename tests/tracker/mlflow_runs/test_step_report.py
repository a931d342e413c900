"""What MLflow is shown of each step of an experiment that went the whole way through the real commands."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.annotating.checkpoints import open_sheet
from pipeline.two_stage import ANNOTATION, NOT_THE_SAME, REVIEW, SAME
from tests.mlflow_rows import BATCH, add_run, workspace_at
from tests.two_stage import N_RECORDS, OFFLINE, RANGES, decide, drafted, generated, reviewed
from tests.view_rows import execute
from tests.workspaces import call, premises, rows, train_file
from tracker.mlflow_runs.generation_note import note
from tracker.mlflow_runs.generation_report import RUN_TAG, load_report, metrics
from tracker.mlflow_runs.mlflow_log import drain
from tracker.mlflow_runs.mlflow_store import experiment_ids
from tracker.mlflow_runs.mlflow_ui import comparisons
from tracker.mlflow_runs.step_report import samples_then
from tracker.paths import Workspace, find_workspace
from tracker.record.catalogue import reading
from tracker.record.decisions import Answer
from tracker.record.outbox import pending

OTHER_PROMPT = "Is {rephrased_premise} what {original_premise} says? {{VALIDATION_FEWSHOT}}"
STEPS = ("rephrase_first", "rephrase_rest", "judge_test 1", "judge_test 2", "judge_test 3", "validate", "reused")
LATE = "judge_test 4"


class Flow:
    """A workspace whose experiment was reviewed, annotated by two people, judged thrice, finished and reused.

    MLflow was told after every command; ``shown`` is what it showed then, by step.
    """

    def __init__(self, directory: Path) -> None:
        self.root = drafted(directory)
        self.workspace = find_workspace(str(self.root))
        self.log()
        reviewed(self.root, rejected={2})
        self.log()
        decide(self.root, OFFLINE, ANNOTATION, {10})
        decide(self.root, OFFLINE, ANNOTATION, {10, 11}, annotator="bob")
        self.settle(11, SAME)
        self.test(code=15)
        self.test("--set", f"validation.validation_prompt={json.dumps(OTHER_PROMPT)}", code=15)
        self.settle(10, SAME)
        generated(self.root)
        self.log()
        generated(self.root, "--batch", "second")
        self.test("--set", "validation.temperature=0.5", code=0)
        self.shown = dict(self.show())

    def settle(self, number: int, verdict: str) -> None:
        with open_sheet(self.workspace, OFFLINE, ANNOTATION, annotator="alice") as sheet:
            sheet.save([Answer(number - 1, verdict, note="looked again", settles=True)], via="option")

    def test(self, *arguments: str, code: int) -> None:
        done = call(self.root, "judge-test", OFFLINE, *arguments, "--no-mlflow")
        assert done.code == code, done.err
        self.log()

    def log(self) -> None:
        assert drain(self.workspace).failed == 0

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.workspace.mlflow_uri)

    def runs(self) -> list[Run]:
        ids = [each.experiment_id for each in self.client.search_experiments()]
        return list(self.client.search_runs(ids, order_by=["attributes.start_time"]))

    def show(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What MLflow shows of each run, without its own ids."""
        names = [*STEPS, LATE]
        found = self.runs()
        assert len(found) == len(names)
        for name, run in zip(names, found, strict=True):
            tags = {key: value for key, value in run.data.tags.items() if "made_by" not in key}
            if name == "reused":
                del tags["mlflow.note.content"]
            top = Path(run.info.artifact_uri)
            yield (
                name,
                {
                    "name": run.info.run_name,
                    "status": run.info.status,
                    "metrics": run.data.metrics,
                    "params": run.data.params,
                    "tags": tags,
                    "inputs": {each.tags[0].value for each in (run.inputs.dataset_inputs if run.inputs else ())},
                    "curve": self.client.get_metric_history(run.info.run_id, "generation/acceptance_rate_so_far"),
                    "files": {
                        str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()
                    },
                },
            )

    def table(self, step: str, name: str) -> list[dict[str, Any]]:
        content = json.loads(self.shown[step]["files"][name])
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]

    def metrics(self, step: str, group: str) -> dict[str, float]:
        """The metrics of a group, without its name."""
        found: dict[str, float] = self.shown[step]["metrics"]
        return {key.removeprefix(f"{group}/"): value for key, value in found.items() if key.startswith(f"{group}/")}


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    return Flow(tmp_path_factory.mktemp("flow"))


def test_every_step_is_a_finished_run_that_is_named_by_it(flow: Flow) -> None:
    assert {run["status"] for run in flow.shown.values()} == {"FINISHED"}
    assert [run["name"] for run in flow.shown.values()] == [
        *(f"{step} · {OFFLINE} · first" for step in STEPS[:5]),
        f"{OFFLINE} · first · validate",
        f"{OFFLINE} · second · reused",
        f"{LATE} · {OFFLINE} · first",
    ]
    steps = [run["params"].get("step") for run in flow.shown.values()]
    assert steps == ["rephrase_first", "rephrase_rest", *["judge_test"] * 3, "validate", None, "judge_test"]
    assert [run["tags"].get("synthtrack.step") for run in flow.shown.values()] == steps


def test_peoples_work_is_in_every_run_after_its_checkpoint_as_it_stood_then(flow: Flow) -> None:
    review = {"n_approved": 3, "n_rejected": 1, "n_skipped": 0}
    assert [flow.metrics(step, "review") for step in flow.shown] == [{}, *[review] * 7]
    annotation = [flow.metrics(step, "annotation") for step in flow.shown]
    assert annotation[:2] == [{}, {}]
    # Of 12 samples they agreed on 11, as settling a dispute is no independent answer: (11/12 - 112/144) / (32/144).
    kappa = pytest.approx((11 / 12 - (11 * 10 + 1 * 2) / 144) / (1 - (11 * 10 + 1 * 2) / 144))
    then = {"n_same": 11, "n_not_the_same": 1, "n_skipped": 0, "n_annotators": 2, "cohen_kappa": kappa}
    assert annotation[2] == annotation[3] == then
    assert annotation[4] == annotation[7] == then | {"n_same": 12, "n_not_the_same": 0}


def test_a_judges_test_has_its_figures_and_none_of_the_data(flow: Flow) -> None:
    counts = {
        f"{person}_judged_{judge}": 0.0
        for person in ("same", "not_the_same")
        for judge in ("same", "not_the_same", "unclear")
    }
    figures = {"n_tested": 8, "required_accuracy": 0.95}
    failed = {"accuracy": 7 / 8, "n_correct": 7, "passed": 0, "recall_not_the_same": 0}
    failed |= {"same_judged_same": 7, "not_the_same_judged_same": 1}
    assert flow.metrics("judge_test 1", "judge_test") == counts | figures | failed
    passed = {"accuracy": 1, "n_correct": 8, "passed": 1, "same_judged_same": 8}
    assert flow.metrics("judge_test 3", "judge_test") == counts | figures | passed
    spent = flow.metrics("judge_test 1", "generation")
    assert spent["n_calls"] == 8
    assert not {name for name in spent if "accept" in name or "reject" in name or "record" in name}


def test_the_judges_accuracy_is_the_first_metric_of_its_test(flow: Flow) -> None:
    first = flow.runs()[2]
    assert next(iter(first.data.metrics)) == "judge_test/accuracy"


def test_who_let_the_judge_decide_is_told_with_the_data_it_made(flow: Flow) -> None:
    for step in ("validate", "reused"):
        assert flow.metrics(step, "judge_test") == {"accuracy": 1, "n_tested": 8}
        assert flow.metrics(step, "generation")["acceptance_rate"] == (N_RECORDS - 1) / N_RECORDS
        assert flow.shown[step]["inputs"] == {"source", "generated"}
    assert [flow.metrics(step, "judge_test") for step in STEPS[:2]] == [{}, {}]


@pytest.mark.parametrize(("step", "n_rephrased"), [("rephrase_first", 4), ("rephrase_rest", N_RECORDS)])
def test_a_rephrasing_says_nothing_of_verdicts_that_are_not_there_yet(flow: Flow, step: str, n_rephrased: int) -> None:
    found = flow.metrics(step, "generation")
    assert (found["n_rephrased"], found["n_failed"]) == (n_rephrased, 0)
    assert not {"acceptance_rate", "acceptance_rate_so_far", "n_accepted", "n_rejected", "n_records"} & set(found)
    assert flow.shown[step]["inputs"] == {"source"}
    assert "synthtrack.data_digest" not in flow.shown[step]["tags"]


def test_the_samples_of_a_step_are_shown_as_they_were_at_its_end(flow: Flow) -> None:
    first, rest = flow.table("rephrase_first", "samples.json"), flow.table("rephrase_rest", "samples.json")
    assert [(row["status"], row["verdict"], row["final"]) for row in first] == [("undecided", None, None)] * 4
    decided = [("accepted", SAME), ("rejected", NOT_THE_SAME), ("accepted", SAME), ("accepted", SAME)]
    assert [(row["status"], row["verdict"]) for row in rest] == [*decided, *[("undecided", None)] * (N_RECORDS - 4)]
    assert flow.table("judge_test 3", "samples.json") == rest
    final = flow.table("validate", "samples.json")
    assert Counter(row["status"] for row in final) == {"accepted": N_RECORDS - 1, "rejected": 1}
    assert [row["final"] for row in final] == premises(train_file(flow.root, OFFLINE.rpartition("/")[2]))
    assert flow.table("reused", "samples.json") == flow.table(LATE, "samples.json") == final


def test_each_step_keeps_the_files_that_belong_to_it(flow: Flow) -> None:
    config = {"config/config.json", "config/generation_config.yaml", "samples.json"}
    people, test = {"decisions.json"}, {"judge_test.json", "plots/confusion.png"}
    data = {f"data/copa_{split}.jsonl" for split in ("train", "validation", "test")}
    expected = dict.fromkeys((*STEPS[2:5], LATE), config | people | test) | {
        "rephrase_first": config | {"plots/overview.png"},
        "rephrase_rest": config | people | {"plots/overview.png"},
        "validate": config | people | data | {"plots/overview.png"},
        "reused": config | people,
    }
    assert {step: set(run["files"]) for step, run in flow.shown.items()} == expected
    tables = [each["path"] for each in json.loads(flow.shown["judge_test 1"]["tags"]["mlflow.loggedArtifacts"])]
    assert tables == ["judge_test.json", "samples.json", "decisions.json"]


def test_a_test_begins_with_what_people_and_the_judge_differ_on(flow: Flow) -> None:
    found = flow.table("judge_test 1", "judge_test.json")
    assert [row["sample"] for row in found] == [10, 9, *range(11, 17)]
    original, rephrased = rows(flow.root, "SELECT original, rephrased FROM sample WHERE position = 9")[0]
    texts = {"original": original, "rephrased": rephrased}
    assert found[0] == {"sample": 10, "judge": SAME, "person": NOT_THE_SAME, "agrees": False, **texts}
    assert all(row["agrees"] for row in found[1:])
    assert all(row["agrees"] for row in flow.table("judge_test 3", "judge_test.json"))


def test_the_answers_that_count_are_a_table(flow: Flow) -> None:
    assert {row["checkpoint"] for row in flow.table("rephrase_rest", "decisions.json")} == {REVIEW}
    then, now = flow.table("judge_test 2", "decisions.json"), flow.table("validate", "decisions.json")
    assert len(then) == len(now) == 4 + 2 * 12
    ten = [
        [(row["annotator"], row["verdict"], row["settles"], row["note"]) for row in table if row["sample"] == 10]
        for table in (then, now)
    ]
    bob = ("bob", NOT_THE_SAME, False, "")
    assert ten == [[("alice", NOT_THE_SAME, False, ""), bob], [bob, ("alice", SAME, True, "looked again")]]


def test_the_parameters_of_a_test_are_those_of_the_judge_that_was_tested(flow: Flow) -> None:
    name = "validation.validation_prompt"
    prompts = [flow.shown[step]["params"][name] for step in flow.shown]
    own = RANGES[name.replace(".", "__")]
    assert prompts == [own, own, own, OTHER_PROMPT, own, own, own, own]
    assert flow.shown[LATE]["params"]["validation.temperature"] == "0.5"
    first, second = (flow.shown[step]["params"] for step in ("judge_test 1", "judge_test 2"))
    assert {key for key in first if first[key] != second[key]} == {name}


def test_the_note_tells_the_step_the_people_and_the_judge(flow: Flow) -> None:
    notes = {step: run["tags"].get("mlflow.note.content", "") for step, run in flow.shown.items()}
    assert "| Records | 4 of 24 rephrased, 0 failed |" in notes["rephrase_first"]
    assert f"synthtrack review {OFFLINE}" in notes["rephrase_first"]
    assert "| Review | 3 approved, 1 rejected, 0 skipped; decided by `alice` |" in notes["rephrase_rest"]
    agreed = "The judge `rules-v1` agreed with people on 7 of 8 samples (87.5%; 95.0% required): did not pass."
    assert agreed in notes["judge_test 1"]
    assert "| Verdicts | 4 by people, 0 by the judge |" in notes["judge_test 1"]
    assert "8 of 8 samples (100.0%; 95.0% required), so it decided the rest |" in notes["validate"]
    assert "0 skipped; decided by `alice`, `bob`; Cohen's kappa 0.62 |" in notes["validate"]
    assert "| Verdicts | 16 by people, 8 by the judge |" in notes["validate"]


def test_the_tests_of_a_batch_are_compared(flow: Flow) -> None:
    (found,) = comparisons(flow.workspace, "http://here")
    assert (found.batch, found.kind, found.n_runs) == ("first", "judge test", 4)
    tests = [run.info.run_id for run in flow.runs() if run.data.params.get("step") == "judge_test"]
    assert [run_id in found.url for run_id in tests] == [True] * 4
    assert "synthtrack.step%60%20%3D%20%27judge_test%27" in found.samples_url


def test_data_sets_are_compared_by_the_runs_that_made_them(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    made = [add_run(workspace, n_records=5), add_run(workspace, number=1, n_records=5)]
    add_run(workspace, n_records=5, step="rephrase_rest")
    assert drain(workspace).logged == 3
    (found,) = comparisons(workspace, "http://here")
    assert (found.batch, found.kind, found.n_runs) == (BATCH, "run", 2)
    ids = list(experiment_ids(workspace, {"temperature_study"}).values())
    runs = MlflowClient(workspace.mlflow_uri).search_runs(ids)
    assert {run.data.tags[RUN_TAG] for run in runs if run.info.run_id in found.url} == set(made)


def test_what_is_logged_long_after_is_what_was_logged_at_once(flow: Flow, tmp_path: Path) -> None:
    again = Flow.__new__(Flow)
    again.root = tmp_path / "workspace"
    again.root.mkdir()
    shutil.copy(flow.workspace.database, again.root)
    again.workspace = Workspace(again.root, environ={})
    assert drain(again.workspace, rebuild=True).logged == len(flow.shown)
    assert dict(again.show()) == flow.shown
    # Not the test that came after it, which made nothing.
    assert again.runs()[6].data.tags["synthtrack.made_by"] == flow.shown["validate"]["tags"][RUN_TAG]


def test_a_step_that_was_cut_short_shows_what_was_there() -> None:
    end = "2024-12-29T10:30:00.000000Z"
    samples = [
        {"position": at, "status": "accepted", "verdict": "same", "decided_by": "judge", "updated_at": time}
        for at, time in enumerate([f"{end}+", end, f"{end}+", f"{end}+"])
    ]
    run = {"finished_at": end, "started_at": "", "step": "rephrase_rest", "n_records": 2}
    found = samples_then(samples, run)
    assert [(sample["position"], sample["status"]) for sample in found] == [(0, "undecided"), (1, "accepted")]
    assert len(samples_then(samples, run | {"step": "validate"})) == 4


def test_a_test_is_logged_once_it_is_known_what_came_of_it(flow: Flow, tmp_path: Path) -> None:
    shutil.copy(flow.workspace.database, tmp_path)
    workspace = Workspace(tmp_path, environ={})
    execute(workspace, "DELETE FROM judge_test_sample WHERE judge_test_id = 1", "DELETE FROM judge_test WHERE id = 1")
    with reading(workspace) as reader:
        assert 3 not in {entry.subject_id for entry in pending(reader, everything=True)}


def test_a_test_that_came_to_no_end_has_no_figures(flow: Flow, tmp_path: Path) -> None:
    shutil.copy(flow.workspace.database, tmp_path)
    workspace = Workspace(tmp_path, environ={})
    execute(
        workspace,
        "DELETE FROM judge_test_sample WHERE judge_test_id = 1",
        "DELETE FROM judge_test WHERE id = 1",
        "UPDATE generation_run SET status = 'partial' WHERE id = 3",
        "UPDATE shared_experiment SET status = 'partial'",
    )
    with reading(workspace) as reader:
        assert 3 in {entry.subject_id for entry in pending(reader, everything=True)}
        report = load_report(reader, 3)
    assert (report.title, report.status) == (f"judge_test · {OFFLINE} · first", "FAILED")
    assert not {name for name in metrics(report) if name.startswith("judge_test/")}
    assert "A test of the judge that came to no end" in note(report, workspace)
