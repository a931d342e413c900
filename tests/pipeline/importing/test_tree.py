"""What is found in trees of the older layout, and what a hostile one can do: nothing but be reported."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.text.import_text import reported
from pipeline.importing.report import Report
from pipeline.importing.run import TreeImport, import_tree
from pipeline.importing.tree import scan
from tests.old_trees import (
    LITERAL,
    ORIGINALS,
    config_text,
    jsonl,
    rephrased,
    write_experiment,
    write_originals,
    write_tree,
)
from tracker.errors import DataError, Error
from tracker.paths import Workspace
from tracker.record.catalogue import Row, reading

NAME = "temp05_topp10_gpt4o"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace", environ={})


def run(workspace: Workspace, top: Path) -> Report:
    return import_tree(workspace, top, command="synthtrack import")


def experiments(workspace: Workspace) -> list[Row]:
    with reading(workspace) as reader:
        return reader.rows("SELECT * FROM shared_experiment ORDER BY id")


def wrong(report: Report) -> list[str]:
    return [each.what for each in report.of("wrong")]


@pytest.mark.parametrize("part", ["", "Data_v2/synthetic", "Data_v2/synthetic/_shared"])
def test_a_project_its_tree_or_a_shared_directory_can_be_given(workspace: Workspace, tmp_path: Path, part: str) -> None:
    write_tree(tmp_path / "old")
    run(workspace, tmp_path / "old" / part)
    found = experiments(workspace)
    assert [each["name"] for each in found] == [NAME, "temp07_topp10_gpt4o"]
    assert {each["provider"] for each in found} == {"openai"}
    with reading(workspace) as reader:
        held = reader.rows("SELECT batch, name FROM batch_experiment WHERE batch = 'batch_20241229_temperature'")
    assert len(held) == 2


def test_the_layout_by_purpose_comes_in(workspace: Workspace, tmp_path: Path) -> None:
    home = tmp_path / "old/Data_v2/synthetic/prompt_engineering/copa_mezo_v1"
    (home / "Copa").mkdir(parents=True)
    (home / "Copa" / "copa_train.jsonl").write_text(jsonl(rephrased()))
    (home / "experiment_metadata.json").write_text(json.dumps({"generation": {"model": "gpt-4o", "temperature": 0.7}}))
    report = run(workspace, tmp_path / "old")
    assert report.count("skipped") == 0
    (found,) = experiments(workspace)
    assert (found["dataset"], found["name"], found["purpose"]) == ("Copa", "copa_mezo_v1", "prompt_engineering")
    assert (found["model"], found["temperature"], found["provider"]) == ("gpt-4o", 0.7, "unknown")
    assert json.loads(found["identity"])["identity"].keys() == {"imported"}


def test_links_out_of_the_tree_are_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write_experiment(outside / "Copa" / NAME, 0.5)
    synthetic = tmp_path / "old/Data_v2/synthetic"
    (synthetic / "_shared").mkdir(parents=True)
    (synthetic / "_shared/Copa").symlink_to(outside / "Copa")
    (synthetic / "batch_a/Copa").mkdir(parents=True)
    (synthetic / "batch_a/Copa" / NAME).symlink_to(outside / "Copa" / NAME)
    home = write_experiment(synthetic / "_shared/CB" / NAME, 0.5)
    (home / "Copa" / "copa_train.jsonl").unlink()
    (home / "Copa" / "copa_train.jsonl").symlink_to(outside / "Copa" / NAME / "Copa" / "copa_train.jsonl")
    report = run(workspace, tmp_path / "old")
    assert experiments(workspace) == []
    assert sum("out of the directory that was given" in what for what in wrong(report)) == 3


def test_links_of_all_kinds_lead_to_their_experiment(workspace: Workspace, tmp_path: Path) -> None:
    synthetic = tmp_path / "old/Data_v2/synthetic"
    home = write_experiment(synthetic / "_shared/Copa" / NAME, 0.5)
    for batch, target in {
        "relative": f"../../_shared/Copa/{NAME}", "slash": f"../../_shared/Copa/{NAME}/", "absolute": str(home),
        "moved": f"/somewhere/else/Data_v2/synthetic/_shared/Copa/{NAME}", "dead": "../../_shared/Copa/gone/",
        "elsewhere": "../../_shared/Copa", "loop": f"{NAME}",
    }.items():  # fmt: skip
        (synthetic / batch / "Copa").mkdir(parents=True)
        (synthetic / batch / "Copa" / NAME).symlink_to(target)
    report = Report()
    (found,) = scan(tmp_path / "old", report).experiments
    assert sorted(found.batches) == ["absolute", "moved", "relative", "slash"]
    said = sorted(each.path.split("/")[2] for each in report.of("wrong"))
    assert said == ["dead", "elsewhere", "loop", "moved"]
    (loop,) = [each for each in report.of("wrong") if "/loop/" in each.path]
    assert "leads back to itself" in loop.what


def test_a_directory_in_place_of_a_link_is_taken_and_told(workspace: Workspace, tmp_path: Path) -> None:
    synthetic = tmp_path / "old/Data_v2/synthetic"
    write_experiment(synthetic / "_shared/Copa/other", 0.9)
    home = write_experiment(synthetic / "batch_a/Copa" / NAME, 0.5)
    (home / "Copa/copa_train.jsonl").write_text(jsonl(rephrased(kept=())))
    report = run(workspace, tmp_path / "old")
    (told,) = [each for each in report.of("wrong") if "directory where a link" in each.what]
    assert told.kind == "batch directory"
    shown = "\n".join(reported(report, dry_run=False))
    assert "1 batch directory" in shown
    assert "Put these links right" not in shown
    assert {each["name"] for each in experiments(workspace)} == {"other", NAME}


def test_contradictions_and_broken_files_are_told_with_their_line(workspace: Workspace, tmp_path: Path) -> None:
    shared = tmp_path / "old/Data_v2/synthetic/_shared/Copa"
    metadata = json.dumps({"generation": {"model": "gpt-4o", "temperature": 0.9}})
    write_experiment(shared / "contradicts", 0.5, metadata=metadata)
    home = write_experiment(shared / "broken", 0.5, metadata='{\n"a": 1,\n"b" 2}', config="generation:\n  model: [\n")
    (home / "Copa/copa_train.jsonl").write_text(jsonl(rephrased(kept=())))
    report = run(workspace, tmp_path / "old")
    told = {each.path.rpartition("/")[2]: each.what for each in report.of("wrong") if each.kind == "settings"}
    assert told["generation_config.yaml:10"] == "generation.temperature is 0.5 here, not as in experiment_metadata.json"
    assert told["experiment_metadata.json:3"].endswith("nothing in it was read")
    assert any(path.startswith("generation_config.yaml:") and "read" in what for path, what in told.items())
    assert {each["name"]: each["model"] for each in experiments(workspace)} == {
        "contradicts": "gpt-4o",
        "broken": "unknown",
    }


def test_a_file_with_several_mistakes_is_one_thing_wrong(workspace: Workspace, tmp_path: Path) -> None:
    write_experiment(tmp_path / "old/Data_v2/synthetic/_shared/Copa" / NAME, 0.5, metadata="{not json at all")
    (told,) = wrong(run(workspace, tmp_path / "old"))
    assert told.endswith(", and 1 more; nothing in it was read")


def test_a_key_in_a_file_that_cannot_be_parsed_is_told_too(workspace: Workspace, tmp_path: Path) -> None:
    config = f"generation:\n  api_key: '{LITERAL}'\n  model: [\n"
    write_experiment(tmp_path / "old/Data_v2/synthetic/_shared/Copa" / NAME, 0.5, config=config)
    report = run(workspace, tmp_path / "old")
    (told,) = [each.what for each in report.of("wrong") if each.kind == "literal key"]
    assert "generation_config.yaml:2" in told
    assert LITERAL.encode() not in workspace.database.read_bytes()
    with reading(workspace) as reader:
        assert not reader.rows("SELECT 1 AS one FROM imported_file WHERE path = 'generation_config.yaml'")


def test_a_purpose_that_can_name_no_directory_names_no_batch(workspace: Workspace, tmp_path: Path) -> None:
    metadata = json.dumps({"experiment": {"purpose": "a/b"}, "generation": {"model": "gpt-4o"}})
    home = tmp_path / "old/Data_v2/synthetic/_shared/Copa" / NAME
    write_experiment(home, 0.5, metadata=metadata, config=None)
    report = import_tree(workspace, tmp_path / "old", command="synthtrack import", copy=True)
    assert report.count("taken")
    with reading(workspace) as reader:
        assert reader.rows("SELECT name, purpose FROM batch") == [{"name": "imported", "purpose": "a/b"}]
    assert (workspace.synthetic_dir / "imported/Copa" / NAME / "Copa/copa_train.jsonl").exists()


def test_a_batch_that_is_gone_is_recorded_as_deleted(workspace: Workspace, tmp_path: Path) -> None:
    write_experiment(tmp_path / "old/Data_v2/synthetic/_shared/Copa" / NAME, 0.5)
    run(workspace, tmp_path / "old")
    with reading(workspace) as reader:
        (batch,) = reader.rows("SELECT name, deleted_at FROM batch")
        assert reader.rows("SELECT * FROM batch_membership") == []
    assert batch["name"] == "batch_20241229_temperature"
    assert batch["deleted_at"] is not None


def test_a_setting_that_generate_does_not_know_gives_no_identity_of_settings(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_originals(tmp_path / "old")
    home = tmp_path / "old/Data_v2/synthetic/_shared/Copa" / NAME
    write_experiment(home, 0.5, config=config_text(0.5, more="  best_of: 3\n"))
    report = run(workspace, tmp_path / "old")
    (found,) = experiments(workspace)
    assert json.loads(found["identity"])["identity"].keys() == {"imported"}
    assert "best_of" in report.of("taken")[0].what
    assert (found["n_accepted"], found["field_to_rephrase"]) == (5, "premise")


def test_fewer_records_than_the_original_are_the_first_ones(workspace: Workspace, tmp_path: Path) -> None:
    write_originals(tmp_path / "old")
    home = write_experiment(tmp_path / "old/Data_v2/synthetic/_shared/Copa" / NAME, 0.5)
    (home / "Copa/copa_train.jsonl").write_text(jsonl(rephrased()[:4]))
    run(workspace, tmp_path / "old")
    (found,) = experiments(workspace)
    assert (found["record_limit"], found["n_records"], found["provider"]) == (4, 4, "openai")


def test_data_of_another_original_is_not_taken_for_what_its_settings_make(workspace: Workspace, tmp_path: Path) -> None:
    write_originals(tmp_path / "old")
    home = write_experiment(tmp_path / "old/Data_v2/synthetic/_shared/Copa" / NAME, 0.5)
    (home / "Copa/copa_train.jsonl").write_text(jsonl([{**each, "choice1": "Other."} for each in ORIGINALS]))
    report = run(workspace, tmp_path / "old")
    (found,) = experiments(workspace)
    assert json.loads(found["identity"])["identity"].keys() == {"imported"}
    assert "does not match its original" in report.of("taken")[0].what


def foreseen(workspace: Workspace, top: Path) -> Report:
    return import_tree(workspace, top, command="synthtrack import", dry_run=True)


def test_what_is_known_of_settings_is_kept_and_tells_the_same_data_apart(workspace: Workspace, tmp_path: Path) -> None:
    synthetic = tmp_path / "old/Data_v2/synthetic"
    for name, temperature in (("warm", 0.7), ("hot", 1.1), ("again", 0.7)):
        generation = {"model": "gpt-4o", "temperature": temperature, "timeout": 5}
        metadata = json.dumps({"created_at": "20241229", "generation": generation})
        write_experiment(synthetic / "_shared/Copa" / name, temperature, metadata=metadata, config=None)
        (synthetic / f"batch_{name}/Copa").mkdir(parents=True)
        (synthetic / f"batch_{name}/Copa" / name).symlink_to(f"../../_shared/Copa/{name}")
    ahead = foreseen(workspace, tmp_path / "old").to_json()
    report = run(workspace, tmp_path / "old")
    assert ahead == report.to_json()
    assert [(each["name"], each["temperature"], each["model"]) for each in experiments(workspace)] == [
        ("again", 0.7, "gpt-4o"),
        ("hot", 1.1, "gpt-4o"),
    ]
    settings = json.loads(experiments(workspace)[0]["identity"])["identity"]["imported"]["settings"]
    assert settings == {"generation.model": "gpt-4o", "generation.temperature": 0.7}
    assert [each.path.rpartition("/")[2] for each in report.of("known")] == ["warm"]
    with reading(workspace) as reader:
        held = reader.rows("SELECT batch, name FROM batch_experiment ORDER BY batch")
        made = reader.rows("SELECT DISTINCT created_at FROM batch ORDER BY created_at")
    assert made == [{"created_at": "2024-12-29T00:00:00.000000Z"}]
    assert [tuple(each.values()) for each in held] == [
        ("batch_again", "again"),
        ("batch_hot", "hot"),
        ("batch_warm", "again"),
    ]
    again = foreseen(workspace, tmp_path / "old").to_json()
    assert again == run(workspace, tmp_path / "old").to_json()
    assert again["n_taken"] == 0


@pytest.mark.parametrize("second", [0.5, 0.9])
def test_one_name_with_other_settings_is_another_experiment(
    workspace: Workspace, tmp_path: Path, second: float
) -> None:
    for purpose, said in (("a", {"temperature": 0.5}), ("b", {"temperature": second, "model": "gpt-4o"})):
        home = tmp_path / "old/Data_v2/synthetic" / purpose / NAME
        (home / "Copa").mkdir(parents=True)
        (home / "Copa/copa_train.jsonl").write_text(jsonl(rephrased()))
        (home / "experiment_metadata.json").write_text(json.dumps({"generation": said}))
    ahead = foreseen(workspace, tmp_path / "old").to_json()
    assert ahead == run(workspace, tmp_path / "old").to_json()
    found = [each["temperature"] for each in experiments(workspace)]
    assert found == [0.5] if second == 0.5 else [0.5, 0.9]


def test_a_second_draw_under_the_same_settings_is_an_experiment_of_its_own(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_originals(tmp_path / "old")
    shared = tmp_path / "old/Data_v2/synthetic/_shared/Copa"
    write_experiment(shared / "first", 0.7)
    home = write_experiment(shared / "second", 0.7)
    (home / "Copa/copa_train.jsonl").write_text(jsonl(rephrased(kept=(0, 1))))
    ahead = foreseen(workspace, tmp_path / "old").to_json()
    report = run(workspace, tmp_path / "old")
    assert ahead == report.to_json()
    found = experiments(workspace)
    assert [(each["name"], each["model"], each["temperature"], each["n_accepted"]) for each in found] == [
        ("first", "gpt-4o", 0.7, 5),
        ("second", "gpt-4o", 0.7, 4),
    ]
    assert json.loads(found[1]["identity"])["identity"]["imported"]["settings"]["generation.temperature"] == 0.7
    assert "another draw; Copa/first" in report.of("taken")[1].what
    assert run(workspace, tmp_path / "old").count("taken") == 0


def test_nothing_of_the_layout_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Nothing of the older layout"):
        scan(tmp_path, Report())


def test_special_and_unreadable_files_are_told(workspace: Workspace, tmp_path: Path) -> None:
    home = write_experiment(tmp_path / "old/Data_v2/synthetic/_shared/Copa" / NAME, 0.5)
    os.mkfifo(home / "pipe")
    os.mkfifo(home / "Copa" / "other_test.jsonl")
    (home / "Copa" / "copa_test.jsonl").unlink()
    report = run(workspace, tmp_path / "old")
    assert sum("no plain file" in what for what in wrong(report)) == 2
    assert len(experiments(workspace)) == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda below: st.lists(below, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["generation", "validation", "experiment", "dataset", "config", "model", "temperature", "created_at",
             "api_key", "parameter_fingerprint", "original_batch", "purpose", "input_path", "rephrase_prompt", ""]
        ),
        below, max_size=6,
    ),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(metadata=VALUES | st.text(max_size=60), config=VALUES | st.text(max_size=60), data=st.binary(max_size=80))
def test_whatever_the_files_say_is_a_report(
    tmp_path_factory: pytest.TempPathFactory, metadata: object, config: object, data: bytes
) -> None:
    top = tmp_path_factory.mktemp("old")
    home = write_experiment(
        top / "Data_v2/synthetic/_shared/Copa" / NAME, 0.5,
        metadata=metadata if isinstance(metadata, str) else json.dumps(metadata),
        config=config if isinstance(config, str) else json.dumps(config),
    )  # fmt: skip
    (home / "Copa/copa_validation.jsonl").write_bytes(data)
    report = run(Workspace(top / "workspace", environ={}), top)
    assert report.of("taken")


PARTS = [
    "_shared", "batch_a", "Copa", NAME, ".fingerprint", "copa_train.jsonl", "experiment_metadata.json",
    "generation_config.yaml", "ä", "x\ny", "-a", " ",
]  # fmt: skip


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(PARTS), min_size=1, max_size=4),
            st.sampled_from(["file", "directory", "link", "dead", "loop"]),
            st.binary(max_size=30),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_whatever_the_tree_holds_is_a_report(
    tmp_path_factory: pytest.TempPathFactory, things: list[tuple[list[str], str, bytes]]
) -> None:
    top = tmp_path_factory.mktemp("old")
    synthetic = top / "Data_v2" / "synthetic"
    synthetic.mkdir(parents=True)
    for parts, kind, content in things:
        path = synthetic.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "directory":
                path.mkdir(exist_ok=True)
            elif kind == "file":
                path.write_bytes(content)
            elif not os.path.lexists(path):
                path.symlink_to({"link": "../_shared", "dead": "nowhere", "loop": path.name}[kind])
        except OSError:
            continue
    with contextlib.suppress(Error):  # anything else is a bug
        assert run(Workspace(top / "workspace", environ={}), top).to_json()["items"] is not None


def test_an_import_without_a_database_touches_nothing(workspace: Workspace, tmp_path: Path) -> None:
    tree = scan(write_tree(tmp_path / "old"), report := Report())
    for each in tree.experiments:
        TreeImport(workspace, tree, report).take(each)
    assert not workspace.root.exists()
