from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from tests.agent_rows import GOOD, INPUTS, answer, claim, finish, make, wanted
from tests.databases import KINDS, attempt, empty_workspace, rows
from tracker.clock import Process, host, this_process
from tracker.errors import UnknownReference
from tracker.listings import agent_listings
from tracker.listings.agent_references import find
from tracker.paths import Workspace
from tracker.record.agents import DATASET, OUTBOX, RUN, Claimed
from tracker.record.catalogue import Reader, reading
from tracker.record.database import Database, open_database
from tracker.schema import table
from tracker.views import agent_view

NAMES = ("translation_m_20261120_214652", "translation_m_20261121_100000", "review_m_20261121_110000")
FIRST, SECOND, REVIEW = NAMES
GONE = Process(host(), 2**22 + 1, 1.0)


class Study:
    """Three agent data sets: complete, partial with references, and of another task that nobody works on any more."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        with open_database(workspace) as database:
            self.first = make(database, name=FIRST)
            self.second = make(database, (("Hello", None), GOOD[1]), name=SECOND, references=True)
            want = wanted(database, name=REVIEW, task_type="review")
            want = dataclasses.replace(want, columns={**want.columns, "task_type": "review"})
            self.review = claim(database, want, GONE)
            answer(database, self.review, (("Hello", "Good day"), (None, "See you")))
            pay(database, self.review, cost_usd=0.01)
            with database.writing() as connection:
                of_first = update(OUTBOX).where(OUTBOX.c.agent_run_id == self.first.run_id)
                connection.execute(of_first.values(mlflow_run_id="0123456789abcdef" * 2))
        found = rows(workspace, "SELECT name, fingerprint FROM agent_dataset")
        self.fingerprints = {row["name"]: row["fingerprint"] for row in found}


def pay(database: Database, claimed: Claimed, **columns: Any) -> None:
    """An answer of a run that has not written down what it paid."""
    request, messages, values = attempt(f"key {claimed.run_id}", None, agent_run_id=claimed.run_id, **columns)
    with database.writing() as connection:
        database.insert_new(connection, table("message"), messages)
        connection.execute(insert(table("request")).values(**request))
        connection.execute(insert(table("attempt")).values(**values))


@pytest.fixture(scope="module", params=KINDS)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    with empty_workspace(request.param, tmp_path_factory.mktemp("study")) as workspace:
        yield Study(workspace)


@pytest.fixture
def reader(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    with reading(study.workspace) as found:
        yield found


def names(study: Study, reader: Reader, **chosen: Any) -> list[str]:
    return [row["name"] for row in agent_listings.datasets(reader, study.workspace, **chosen).rows]


def test_lists_by_task_type_the_newest_last(study: Study, reader: Reader) -> None:
    assert names(study, reader) == [REVIEW, FIRST, SECOND]
    assert names(study, reader, limit=2) == [REVIEW, SECOND]
    assert names(study, reader, task_type="translation", limit=1) == [SECOND]
    found = agent_listings.datasets(reader, study.workspace, "translation", 1)
    assert (found.total, found.left_out) == (2, 1)


def test_an_unknown_task_type_names_those_there_are(study: Study, reader: Reader) -> None:
    with pytest.raises(UnknownReference) as caught:
        agent_listings.datasets(reader, study.workspace, "translatoin")
    assert caught.value.matches == ("translation",)
    assert "review, translation" in str(caught.value.hint)


def test_what_is_not_finished_is_counted_as_it_stands(study: Study, reader: Reader) -> None:
    review, first, second = agent_listings.datasets(reader, study.workspace).rows
    assert (review["status"], review["n_responses"], review["n_failed"]) == ("unfinished", 3, 1)
    assert (review["n_calls"], review["prompt_tokens"], review["completion_tokens"]) == (1, 10, 5)
    assert review["cost_usd"] == pytest.approx(0.01)
    assert (review["made_by"], review["path"]) == (None, None)
    assert (first["status"], first["n_responses"], first["n_failed"]) == ("complete", 4, 0)
    assert (second["status"], second["n_responses"], second["n_failed"]) == ("partial", 3, 1)
    assert [row["add_references"] for row in (review, first, second)] == [False, False, True]
    assert second["path"] == f"data/agents/{SECOND}.json"
    assert not any(name.startswith("lease_") for name in first)


def test_tells_who_makes_it_now_and_what_that_costs_at_no_known_price(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database:
        claimed = claim(database, wanted(database))
        pay(database, claimed, cost_usd=None)
    with reading(workspace) as reader:
        row = agent_listings.dataset(reader, workspace, "translation")
        runs = agent_listings.runs(reader, [row["id"]])[row["id"]]
    process = this_process()
    assert (row["made_by"]["host"], row["made_by"]["pid"]) == (process.host, process.pid)
    assert row["cost_usd"] is None
    assert [run["status"] for run in runs] == ["running"]


def test_the_responses_of_what_is_not_finished_are_counted_by_condition(study: Study, reader: Reader) -> None:
    of = agent_listings.conditions(reader, [study.review.dataset_id, study.second.dataset_id])
    unfinished = of[study.review.dataset_id]
    assert [(each["n_responses"], each["n_failed"]) for each in unfinished] == [(1, 1), (2, 0)]
    assert {each[name] for each in unfinished for name in ("mean_words", "mean_characters", "chrf")} == {None}
    # A data set that is finished has what was recorded.
    assert [(each["n_responses"], each["n_failed"]) for each in of[study.second.dataset_id]] == [(2, 0), (2, 0), (1, 1)]


def test_conditions_of_what_is_made_anew_are_counted_as_they_stand(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database:
        first = make(database, (("Hello", None), GOOD[1]), references=True)
        claimed = claim(database, wanted(database, references=True))
        answer(database, claimed, GOOD)
        with reading(workspace) as reader:
            found = agent_listings.conditions(reader, [first.dataset_id])[first.dataset_id]
            row = agent_listings.dataset(reader, workspace, "translation")
    assert [(each["n_responses"], each["n_failed"]) for each in found] == [(2, 0), (2, 0), (2, 0)]
    assert row["n_responses"] == sum(each["n_responses"] for each in found if not each["is_reference"])


def test_what_was_never_answered_stands_in_nobodys_way(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database:
        empty = claim(database, wanted(database, name="translation_m_20261120_000000", draw=1))
        with reading(workspace) as reader:
            # Alone it is meant all the same.
            assert {find(reader, workspace, ref) for ref in ("translation", "_m_2026")} == {empty.dataset_id}
        good = make(database)
    with reading(workspace) as reader:
        assert {find(reader, workspace, ref) for ref in ("translation", "_m_2026", "2026112")} == {good.dataset_id}
        assert find(reader, workspace, "translation_m_20261120_000000") == empty.dataset_id
        assert find(reader, workspace, "_000000") == empty.dataset_id


def test_a_run_without_a_process_is_interrupted(study: Study, reader: Reader) -> None:
    (run,) = agent_listings.runs(reader, [study.review.dataset_id])[study.review.dataset_id]
    assert (run["status"], run["outcome"]) == ("interrupted", "made")
    assert "pid_started" not in run


def test_runs_are_listed_oldest_first_with_mlflows_id(study: Study, reader: Reader) -> None:
    ids = [study.first.dataset_id, study.second.dataset_id]
    found = agent_listings.runs(reader, ids)
    assert [run["mlflow_run_id"] for run in found[ids[0]]] == ["0123456789abcdef" * 2]
    assert [(run["status"], run["mlflow_run_id"]) for run in found[ids[1]]] == [("partial", None)]
    assert found[ids[0]][0]["tokens_estimated"] is False


def test_runs_have_the_same_columns_whatever_became_of_them(study: Study, reader: Reader) -> None:
    found = agent_listings.runs(reader, [study.first.dataset_id, study.second.dataset_id, study.review.dataset_id])
    every = [run for of in found.values() for run in of]
    assert {run["status"] for run in every} == {"complete", "partial", "interrupted"}
    assert len({frozenset(run) for run in every}) == 1
    assert not {"heartbeat", "pid_started"} & set(every[0])


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        (FIRST, FIRST),
        (f" {SECOND} ", SECOND),
        ("review", REVIEW),
        ("translation_m_20261121", SECOND),
        ("TRANSLATION_M_20261120", FIRST),
        ("20261120", FIRST),
        ("_110000", REVIEW),
        (f"{FIRST}.json", FIRST),
        (f"data/agents/{FIRST}.json", FIRST),
        (f"agents/{FIRST}.json", FIRST),
        (f"./data/../data/agents/{SECOND}.json", SECOND),
        (f"somewhere/else/{SECOND}.json", SECOND),
        ("0123456789abcdef" * 2, FIRST),
        ("01234567", FIRST),
    ],
)
def test_finds_what_a_reference_names(study: Study, reader: Reader, ref: str, found: str) -> None:
    assert not (study.workspace.data_dir / agent_view.path_of(found)).exists()
    assert agent_listings.dataset(reader, study.workspace, ref)["name"] == found


def test_finds_by_fingerprint_run_and_absolute_path(study: Study, reader: Reader) -> None:
    for name, claimed in ((FIRST, study.first), (REVIEW, study.review)):
        fingerprint = study.fingerprints[name]
        path = study.workspace.data_dir / agent_view.path_of(name)
        for ref in (fingerprint, fingerprint[:8].upper(), claimed.run_uuid, claimed.run_uuid[:12], str(path)):
            assert find(reader, study.workspace, ref) == claimed.dataset_id


def test_finds_paths_through_a_link_to_another_disk(
    study: Study, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk/agents").mkdir(parents=True)
    (tmp_path / "data").symlink_to("disk")
    moved = Workspace(
        study.workspace.root, environ={**study.workspace.environ, "SYNTHTRACK_DATA_DIR": str(tmp_path / "data")}
    )
    monkeypatch.chdir(tmp_path / "disk/agents")
    assert find(reader, moved, f"{FIRST}.json") == study.first.dataset_id
    assert find(reader, moved, str(tmp_path / f"disk/agents/{SECOND}.json")) == study.second.dataset_id


@pytest.mark.parametrize("ref", ["translation", "2026", "_m_", "translation_m_"])
def test_what_could_be_several_names_them(study: Study, reader: Reader, ref: str) -> None:
    with pytest.raises(UnknownReference) as caught:
        find(reader, study.workspace, ref)
    hint = str(caught.value.hint)
    assert hint.startswith("It could be:\n")
    assert f"  {study.fingerprints[FIRST]}  {FIRST}  (2 x 2, temperature 0.7)" in hint.splitlines()
    assert f"  {study.fingerprints[SECOND]}  {SECOND}  (2 x 2, temperature 0.7)" in hint.splitlines()


def test_a_trial_is_meant_only_where_there_is_nothing_else(study: Study) -> None:
    with open_database(study.workspace) as database, database.writing() as connection:
        connection.execute(update(DATASET).where(DATASET.c.name == FIRST).values(is_trial=True))
    with reading(study.workspace) as reader:
        assert find(reader, study.workspace, "translation") == study.second.dataset_id
        assert find(reader, study.workspace, FIRST) == study.first.dataset_id


@pytest.mark.parametrize(
    "ref", ["", "nothing", "zz", "%", "translation%", "data/agents", "\udcff", "~nobody/x.json", "x" * 5000]
)
def test_what_names_nothing_is_said(study: Study, reader: Reader, ref: str) -> None:
    with pytest.raises(UnknownReference) as caught:
        find(reader, study.workspace, ref)
    assert "`synthtrack perspectives list` shows them" in str(caught.value.hint)


def test_close_matches_are_offered(study: Study, reader: Reader) -> None:
    with pytest.raises(UnknownReference) as caught:
        find(reader, study.workspace, "data/agents/translation_m_20261120_214653.json")
    assert caught.value.matches[0] == FIRST


def test_an_empty_record_says_how_to_make_the_first(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    open_database(workspace).close()
    with reading(workspace) as reader:
        assert agent_listings.datasets(reader, workspace).rows == []
        with pytest.raises(UnknownReference, match="No agent data set 'x'") as caught:
            find(reader, workspace, "x")
    assert "makes the first one" in str(caught.value.hint)


def test_one_has_its_settings_as_objects(study: Study, reader: Reader) -> None:
    row = agent_listings.dataset(reader, study.workspace, FIRST)
    assert row["identity"]["model_config"]["temperature"] == 0.7
    assert row["config"]["data_config"] == {"input_data_path": "inputs.json"}
    assert row["settings"] == {}
    assert agent_listings.inputs(reader, row) == [dict(each) for each in INPUTS]


def test_conditions_come_in_their_order(study: Study, reader: Reader) -> None:
    ids = [study.second.dataset_id, study.first.dataset_id]
    found = agent_listings.conditions(reader, ids)
    assert [(each["condition"], each["is_reference"]) for each in found[ids[0]]] == [
        ("Reference", True), ("Original", False), ("Noted", False)
    ]  # fmt: skip
    assert [(each["n_responses"], each["n_failed"]) for each in found[ids[0]]] == [(2, 0), (2, 0), (1, 1)]
    assert [each["reading"] for each in found[ids[1]]] == [None, "Take notes."]


def test_a_sample_has_every_response(study: Study, reader: Reader) -> None:
    row = agent_listings.dataset(reader, study.workspace, SECOND)
    conditions = agent_listings.conditions(reader, [row["id"]])[row["id"]]
    (sample,) = agent_listings.samples(reader, row, conditions, [0])
    assert (sample["number"], sample["input"], sample["reference"]) == (1, "Guten Tag", "Good day")
    columns = ("condition", "status", "response", "preparation")
    assert [tuple(each[name] for name in columns) for each in sample["responses"]] == [
        ("Reference", "reference", "Good day", None),
        ("Original", "answered", "Hello", None),
        ("Noted", "failed", None, None),
    ]  # fmt: skip
    assert sample["responses"][2]["error"] == "HTTP 500"


def test_a_response_that_is_not_there_yet_is_missing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database:
        claim(database, wanted(database))
    with reading(workspace) as reader:
        row = agent_listings.dataset(reader, workspace, "translation")
        conditions = agent_listings.conditions(reader, [row["id"]])[row["id"]]
        (sample,) = agent_listings.samples(reader, row, conditions, [1])
    assert [each["status"] for each in sample["responses"]] == ["missing", "missing"]


def test_conditions_are_chosen_by_name(study: Study, reader: Reader) -> None:
    known = agent_listings.conditions(reader, [study.second.dataset_id])[study.second.dataset_id]
    chosen = agent_listings.chosen_conditions(known, ("noted", "REFERENCE"))
    assert [each["condition"] for each in chosen] == ["Reference", "Noted"]
    assert agent_listings.chosen_conditions(known, ()) == known
    with pytest.raises(UnknownReference) as caught:
        agent_listings.chosen_conditions(known, ("Noted", "Orignal"))
    assert caught.value.matches == ("Original",)


def test_inputs_are_counted_from_1(study: Study, reader: Reader) -> None:
    row = agent_listings.dataset(reader, study.workspace, FIRST)
    assert [agent_listings.position_of(row, number) for number in (1, 2)] == [0, 1]
    for number in (0, 3):
        with pytest.raises(UnknownReference, match=f"No input '{number}'"):
            agent_listings.position_of(row, number)


def test_a_file_looks_current_by_its_time(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database:
        claimed = make(database)
        unfinished = claim(database, wanted(database, draw=1, name="translation_m_2"))
    with reading(workspace) as reader:
        row, other = (agent_listings.dataset(reader, workspace, ref) for ref in (claimed.run_uuid, unfinished.run_uuid))
        assert not agent_view.looks_current(workspace, row)
        assert agent_view.looks_current(workspace, other)
        agent_view.refresh(workspace, reader, [row["id"]])
        assert agent_view.looks_current(workspace, row)
        path = workspace.data_dir / agent_view.path_of(row["name"])
        path.write_text("edited")
        assert not agent_view.looks_current(workspace, row)


def test_very_many_are_read_in_portions(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database:
        make(database)
        (row,) = rows(workspace, "SELECT * FROM agent_dataset")
        del row["id"]
        copies = [
            {**row, "fingerprint": f"{n:012x}", "name": f"copy_{n:04}", "status": "unfinished"} for n in range(1100)
        ]
        with database.writing() as connection:
            connection.execute(insert(DATASET), copies)
            run = dict(connection.execute(RUN.select()).mappings().one())
            connection.execute(insert(RUN).values(**{**run, "id": None, "uuid": "f" * 32, "agent_dataset_id": 1101}))
    with reading(workspace) as reader:
        found = agent_listings.datasets(reader, workspace)
        ids = [row["id"] for row in found.rows]
        assert (len(ids), found.total) == (1101, 1101)
        assert len(agent_listings.conditions(reader, ids)[1]) == 2
        assert len(agent_listings.runs(reader, ids)[1101]) == 1
        assert len(agent_listings.responses(reader, 1, range(2000))) == 4


def test_a_finished_one_that_is_made_anew_shows_what_stands(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database:
        make(database, (("Hello", None), GOOD[1]))
        claimed = claim(database, wanted(database))
        answer(database, claimed, GOOD)
        with reading(workspace) as reader:
            row = agent_listings.dataset(reader, workspace, "translation")
            assert (row["status"], row["n_responses"], row["n_failed"]) == ("partial", 4, 0)
            assert row["made_by"] is not None
        finish(database, claimed)
    with reading(workspace) as reader:
        assert agent_listings.dataset(reader, workspace, "translation")["made_by"] is None
