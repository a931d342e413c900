"""Runs of `perspectives` in a real MLflow store, made by the pipeline and read back through MLflow's own client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import struct
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import parse_qs

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from sacrebleu.metrics.chrf import CHRF

from pipeline.engine.asking import Progress
from pipeline.perspectives.generate import generate
from pipeline.perspectives.job import Options, prepare_settings
from tests import perspectives
from tests.agent_rows import FAILED, claim, finish, make, wanted
from tests.databases import KINDS, empty_workspace, rows
from tests.llm_server import running_server
from tests.mlflow_reading import artifact, artifacts, client_of, inputs, only
from tracker.errors import Interrupted
from tracker.mlflow_runs.agent_report import RUN_TAG, condition_keys
from tracker.mlflow_runs.mlflow_log import Drained, drain
from tracker.mlflow_runs.mlflow_ui import AGENT_RUN, comparisons
from tracker.paths import Workspace
from tracker.record import agents, outbox
from tracker.record.agents import OUTBOX
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.record.generation import Totals

HOSTILE = ["a/b", "a_b", "50% off", "Émile", "..", "x" * 100]
ASKED = [perspectives.agent(name, reading="Take notes." if name == ".." else None) for name in HOSTILE]
POISON = "Haus 003"
KEY = {"OPENAI_API_KEY": "test-key"}
FIGURES = {"mean_words", "mean_characters", "mean_completion_tokens", "mean_latency_s", "n_failed"}


class Logged:
    """A workspace with runs that ended in every way, drained once."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root, environ=KEY)
        perspectives.write_inputs(root, perspectives.pairs(6))
        plain = [{"input": f"Satz {number}."} for number in range(5)]
        perspectives.write_inputs(root, plain, "plain.json")
        hostile = perspectives.offline(agent_perspectives=ASKED, add_references=True)
        self.made = self.run(hostile)
        self.warmer = self.run({**hostile, "model_config": {**hostile["model_config"], "temperature": 1.5}})
        self.reused = self.run({**hostile, "model_config": {**hostile["model_config"], "concurrency": 7}})
        self.plain = self.run(perspectives.offline(data_config__input_data_path="plain.json", task_type="a b"))
        self.interrupted, self.resumed = self.run_twice()
        self.partial, self.accepted = self.run_poisoned()
        self.drained: Drained = drain(self.workspace)
        self.client: MlflowClient = client_of(self.workspace)

    def run(self, config: dict[str, Any], display: Any = lambda _: None, **options: Any) -> str:
        """The uuid of a run, also of one that was interrupted."""
        job = prepare_settings(self.workspace, config, Options(**options))
        with contextlib.suppress(Interrupted):
            asyncio.run(generate(self.workspace, job, display))
        return str(rows(self.workspace, "SELECT uuid FROM agent_run ORDER BY id DESC LIMIT 1")[0]["uuid"])

    def run_twice(self) -> tuple[str, str]:
        def interrupt(progress: Progress) -> None:
            if progress.done and not progress.interrupted:
                os.kill(os.getpid(), signal.SIGINT)

        with running_server(latency=0.05) as server:
            config = perspectives.served(server.base_url, task_type="stopped", model_config__concurrency=2)
            return self.run(config, interrupt), self.run(config)

    def run_poisoned(self) -> tuple[str, str]:
        with running_server(poison=POISON) as server:
            # Another temperature, because what was asked above is in the ledger.
            own = {"model_config__max_retries": 0, "model_config__temperature": 0.2}
            config = perspectives.served(server.base_url, task_type="poisoned", **own)
            lazy = {**config, "task_type": "refused", "agent_perspectives": config["agent_perspectives"][:1]}
            lazy["data_config"] = {"input_data_path": "poison.json"}
            perspectives.write_inputs(self.workspace.root, [{"input": f"{POISON}."}], "poison.json")
            return self.run(lazy), self.run(config, accept_partial=True)

    def row(self, uuid: str) -> dict[str, Any]:
        sql = "SELECT r.*, d.name, d.data_digest FROM agent_run r JOIN agent_dataset d ON d.id = r.agent_dataset_id"
        return rows(self.workspace, f"{sql} WHERE r.uuid = :uuid", uuid=uuid)[0]

    def shown(self, uuid: str) -> Run:
        return only(self.client, RUN_TAG, uuid)

    def file(self, uuid: str) -> bytes:
        return (self.workspace.data_dir / f"agents/{self.row(uuid)['name']}.json").read_bytes()

    def table(self, uuid: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(artifact(self.shown(uuid), name).read_text())
        return found


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    return Logged(tmp_path_factory.mktemp("logged"))


def test_every_run_is_logged_in_the_experiment_of_its_task(logged: Logged) -> None:
    assert (logged.drained.logged, logged.drained.failed, logged.drained.errors) == (8, 0, [])
    names = {e.experiment_id: e.name for e in logged.client.search_experiments()}
    of = {name: names[logged.shown(getattr(logged, name)).info.experiment_id] for name in ("made", "plain", "partial")}
    assert of == {
        "made": "perspectives_translation",
        "plain": "perspectives_a b",
        "partial": "perspectives_refused",
    }
    assert logged.shown(logged.made).info.run_name == "translation · rules-v1 t0.7 · 6 conditions · 6 inputs · made"


def test_the_figures_of_a_condition_are_those_of_the_file(logged: Logged) -> None:
    found, tasks = logged.shown(logged.made).data.metrics, json.loads(logged.file(logged.made))["tasks"]
    references = [task["responses"][0] for task in tasks]
    for at, key in enumerate(condition_keys(["Reference", *HOSTILE])[1:], 1):
        texts = [task["responses"][at] for task in tasks]
        assert found[f"{key}/mean_words"] == pytest.approx(fmean(len(text.split()) for text in texts))
        assert found[f"{key}/mean_characters"] == pytest.approx(fmean(map(len, texts)))
        assert found[f"{key}/chrf"] == pytest.approx(CHRF().corpus_score(texts, [references]).score, abs=1e-6)
        assert found[f"{key}/n_failed"] == 0
        assert found[f"{key}/mean_latency_s"] > 0
    assert found["Reference/mean_words"] == 6.0
    # One of the six reads first.
    assert (found["perspectives/n_calls"], found["perspectives/n_responses"]) == (42, 36)
    assert found["perspectives/cost_usd"] == 0
    tokens = sum(found[f"perspectives/{name}_tokens"] for name in ("prompt", "completion"))
    assert tokens == json.loads(logged.file(logged.made))["metadata"]["token_usage"]["total_tokens"]


def test_without_references_there_is_no_chrf_and_the_same_columns(logged: Logged) -> None:
    found = logged.shown(logged.plain).data.metrics
    conditions = {name.rpartition("/")[0] for name in found} - {"perspectives"}
    assert conditions == {"Original", "Noted", "Low Effort"}
    assert {name.rpartition("/")[2] for name in found if not name.startswith("perspectives/")} == FIGURES
    columns = ["input", "Original", "Noted", "Low Effort", "reference", "Noted: notes"]
    assert logged.table(logged.plain, "responses.json")["columns"] == columns
    assert logged.table(logged.accepted, "responses.json")["columns"] == columns
    assert logged.table(logged.plain, "conditions.json")["columns"][:2] == ["condition", "mean_words"]


def test_the_settings_are_parameters_and_tell_two_runs_apart(logged: Logged) -> None:
    made, warmer = (logged.shown(uuid).data.params for uuid in (logged.made, logged.warmer))
    different = {name for name in made.keys() | warmer.keys() if made.get(name) != warmer.get(name)}
    # The compare page draws what differs: nothing that always does is a parameter.
    assert different == {"model_config.temperature"}
    assert warmer["model_config.temperature"] == "1.5"
    assert made["conditions"] == ", ".join(["Reference", *HOSTILE])
    assert made["agent_perspectives.50_off.strategy"] == "Do as 50% off would."
    assert made["agent_perspectives.condition_6.reading"] == "Take notes."
    assert (made["n_inputs"], made["outcome"], made["data_config.input_data_path"]) == ("6", "made", "inputs.json")
    assert "agent_perspectives" not in made


def test_the_table_has_an_input_per_row_and_what_each_agent_answered(logged: Logged) -> None:
    table, tasks = logged.table(logged.made, "responses.json"), json.loads(logged.file(logged.made))["tasks"]
    assert table["columns"] == ["input", *HOSTILE, "reference", "..: notes"]
    assert table["data"] == [
        [task["context"], *task["responses"][1:], task["responses"][0], task["preparations"][5]] for task in tasks
    ]
    logged_tables = json.loads(logged.shown(logged.made).data.tags["mlflow.loggedArtifacts"])
    assert [each["path"] for each in logged_tables] == ["responses.json", "conditions.json"]
    conditions = logged.table(logged.made, "conditions.json")
    assert conditions["columns"][:2] == ["condition", "chrf"]
    assert [row[0] for row in conditions["data"]] == ["Reference", *HOSTILE]


def test_the_files_are_the_config_a_picture_and_the_data_itself(logged: Logged) -> None:
    made, name = logged.shown(logged.made), logged.row(logged.made)["name"]
    configs, tables = {"config/config.json", "config/perspectives_config.yaml"}, {"responses.json", "conditions.json"}
    assert artifacts(made) == {*configs, *tables, "plots/conditions.png", f"data/{name}.json"}
    assert artifact(made, f"data/{name}.json").read_bytes() == logged.file(logged.made)
    png = artifact(made, "plots/conditions.png").read_bytes()
    assert struct.unpack(">II", png[16:24])[0] == 1100
    assert json.loads(artifact(made, "config/config.json").read_text())["agent_perspectives"] == ASKED
    assert artifacts(logged.shown(logged.reused)) == {*configs, *tables, "plots/conditions.png"}
    assert artifacts(logged.shown(logged.interrupted)) == {*configs, "responses.json"}
    assert artifacts(logged.shown(logged.partial)) == {*configs, "responses.json"}


def test_the_data_sets_are_the_inputs_and_what_was_made_of_them(logged: Logged) -> None:
    found = {context: of[0].dataset for context, of in inputs(logged.shown(logged.made)).items()}
    assert {context: of.name for context, of in found.items()} == {
        "source": "inputs",
        "generated": logged.row(logged.made)["name"],
    }
    assert json.loads(found["source"].source) == {"uri": "inputs.json"}
    fields = json.loads(found["source"].schema or "")["mlflow_colspec"]
    assert [(each["name"], each["type"]) for each in fields] == [("input", "string"), ("reference", "string")]
    assert json.loads(found["generated"].source)["uri"].endswith(f"/data/agents/{found['generated'].name}.json")
    assert found["generated"].digest == logged.row(logged.made)["data_digest"][:36]
    assert set(inputs(logged.shown(logged.interrupted))) == {"source"}


def test_a_run_that_reused_a_data_set_points_to_the_run_that_made_it(logged: Logged) -> None:
    made, reused = logged.shown(logged.made), logged.shown(logged.reused)
    assert reused.data.tags["synthtrack.made_by"] == logged.made
    assert reused.data.tags["synthtrack.made_by_mlflow_run"] == made.info.run_id
    assert made.info.run_id in reused.data.tags["mlflow.note.content"]
    assert "synthtrack.made_by" not in made.data.tags
    assert reused.data.params["model_config.concurrency"] == "7"
    assert reused.data.metrics["perspectives/n_calls"] == 0
    of_conditions = {name: value for name, value in made.data.metrics.items() if not name.startswith("perspectives/")}
    assert reused.data.metrics.items() >= of_conditions.items()


def test_the_tags_say_what_a_run_made_of_what(logged: Logged) -> None:
    tags, row = logged.shown(logged.made).data.tags, logged.row(logged.made)
    assert {name: value for name, value in tags.items() if name.startswith("synthtrack.")}.items() >= {
        "synthtrack.agent_run": logged.made,
        "synthtrack.agent_dataset": row["name"],
        "synthtrack.task_type": "translation",
        "synthtrack.purpose": "perspectives_translation",
        "synthtrack.status": "complete",
        "synthtrack.data_digest": row["data_digest"],
        "synthtrack.command": "synthtrack perspectives",
    }.items()
    assert tags["mlflow.source.name"] == "synthtrack perspectives"
    assert "synthtrack.error" not in tags


def test_an_interrupted_run_shows_what_was_there_when_it_ended(logged: Logged) -> None:
    stopped, resumed = logged.shown(logged.interrupted), logged.shown(logged.resumed)
    assert (stopped.info.status, resumed.info.status) == ("KILLED", "FINISHED")
    n_there = stopped.data.metrics["perspectives/n_responses"]
    assert 0 < n_there < resumed.data.metrics["perspectives/n_responses"] == 18
    # The other run had finished the data set before either of them was logged.
    answered = [cell for row in logged.table(logged.interrupted, "responses.json")["data"] for cell in row[1:4]]
    assert sum(cell is not None for cell in answered) == n_there
    assert {name.partition("/")[0] for name in stopped.data.metrics} == {"perspectives"}
    assert "Original/mean_words" in resumed.data.metrics
    assert "interrupted" in stopped.data.tags["mlflow.note.content"]
    assert resumed.data.params["outcome"] == "resumed"


def test_a_partial_run_failed_unless_its_failures_were_accepted(logged: Logged) -> None:
    refused, accepted = logged.shown(logged.partial), logged.shown(logged.accepted)
    assert (refused.info.status, accepted.info.status) == ("FAILED", "FINISHED")
    assert refused.data.metrics.items() >= {"perspectives/n_failed": 1, "perspectives/n_responses": 0}.items()
    found = accepted.data.metrics
    assert [found[f"{key}/n_failed"] for key in ("Original", "Noted", "Low Effort", "perspectives")] == [1, 1, 1, 3]
    table = logged.table(logged.accepted, "responses.json")
    assert [row[1:4] for row in table["data"] if POISON in row[0]] == [[FAILED] * 3]
    assert json.loads(logged.file(logged.accepted))["metadata"]["failed_responses"] == 3


def test_the_user_interface_links_the_runs_that_made_data_sets_of_a_task(logged: Logged) -> None:
    (found,) = comparisons(logged.workspace, "http://host")
    assert (found.kind, found.batch, found.n_runs) == (AGENT_RUN, "perspectives_translation", 2)
    for uuid in (logged.made, logged.warmer):
        assert logged.shown(uuid).info.run_id in found.url
    assert logged.shown(logged.reused).info.run_id not in found.url
    experiment = logged.shown(logged.made).info.experiment_id
    assert f"/experiments/{experiment}/runs?" in found.samples_url
    assert beside(logged.client, experiment, found.samples_url) == {logged.made, logged.warmer}


def beside(client: MlflowClient, experiment: str, link: str) -> set[str]:
    """The runs (uuids) that MLflow finds by the filter in a link."""
    [chosen] = parse_qs(link.partition("?")[2])["searchFilter"]
    return {run.data.tags[RUN_TAG] for run in client.search_runs([experiment], chosen)}


def test_a_deleted_mlruns_comes_back_the_same(logged: Logged) -> None:
    uuids = [row["uuid"] for row in rows(logged.workspace, "SELECT uuid FROM agent_run ORDER BY id")]
    before = {uuid: logged.shown(uuid) for uuid in uuids}
    files = {uuid: content(run) for uuid, run in before.items()}
    shutil.rmtree(logged.workspace.mlruns_dir)
    assert drain(logged.workspace).logged == 0
    assert drain(logged.workspace, rebuild=True).logged == len(uuids) == 8
    for uuid, run in before.items():
        after = logged.shown(uuid)
        assert (after.info.status, after.info.run_name) == (run.info.status, run.info.run_name)
        assert (after.data.params, after.data.metrics) == (run.data.params, run.data.metrics)
        own = {"mlflow.note.content", "synthtrack.made_by_mlflow_run"}
        tags = [{name: value for name, value in each.data.tags.items() if name not in own} for each in (after, run)]
        assert tags[0] == tags[1]
        assert content(after) == files[uuid]
    assert drain(logged.workspace, rebuild=True).already_there == 8


def content(run: Run) -> dict[str, bytes]:
    return {name: artifact(run, name).read_bytes() for name in artifacts(run)}


@pytest.mark.parametrize("kind", KINDS)
def test_on_both_databases_runs_that_ended_are_logged_and_linked_and_one_that_goes_on_waits(
    kind: str, tmp_path: Path
) -> None:
    with empty_workspace(kind, tmp_path) as workspace:
        with open_database(workspace) as database:
            make(database)
            make(database, references=True, name="other")
            make(database, (("Hello", FAILED), ("Bye", "See you")), name="partial", draw=1)
            # A failure of its own, and one after which the data set is what it was.
            finish(database, claim(database, wanted(database, name="partial", draw=1)), "failed")
            refused = claim(database, wanted(database, name="refused", draw=3))
            agents.finish(database, refused, Totals(), status="failed", error="HTTP 404")
            going = claim(database, wanted(database, name="going", draw=2))
            row = {"kind": "agent_run", "agent_run_id": going.run_id, "created_at": "now"}
            with database.writing() as connection:
                database.insert_new(connection, OUTBOX, [row])
        with reading(workspace) as reader:
            assert len(outbox.pending(reader)) == len(outbox.pending(reader, everything=True)) == 5
        drained = drain(workspace)
        assert (drained.logged, drained.errors) == (5, [])
        (found,) = comparisons(workspace, "http://host")
        assert (found.kind, found.n_runs) == (AGENT_RUN, 3)
        client = client_of(workspace)
        [experiment] = [each for each in client.search_experiments() if each.name == "perspectives_translation"]
        made = [str(row["uuid"]) for row in rows(workspace, "SELECT uuid FROM agent_run ORDER BY id LIMIT 3")]
        assert beside(client, experiment.experiment_id, found.samples_url) == set(made)
        assert {only(client, RUN_TAG, uuid).info.run_id for uuid in made} == compared(found.url)


def compared(link: str) -> set[str]:
    return set(json.loads(parse_qs(link.partition("?")[2])["runs"][0]))
