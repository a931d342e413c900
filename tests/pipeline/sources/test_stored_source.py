"""A hub data set is read once; after that the record has it, and no network is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import run
from pipeline.sources.records import source_of_splits
from pipeline.sources.stored_source import stored_source
from pipeline.specs import DatasetSpec
from tracker.paths import Workspace
from tracker.record import sources
from tracker.record.catalogue import reading
from tracker.record.database import open_database

RECORDS = {
    "train": [{"premise": f"It rained on day {day}.", "idx": day, "label": day % 2} for day in range(6)],
    "validation": [{"premise": "It snowed.", "idx": 0, "label": 1}],
}
CONFIG = """
experiment: {batch_id: from_the_hub}
dataset: {hub: weather/rain}
generation:
  provider: offline
  model: rules-v1
  field_to_rephrase: premise
  rephrase_prompt: "Rephrase: {premise}"
"""


def store_as_fetched(workspace: Workspace, dataset: DatasetSpec) -> None:
    source = source_of_splits(dataset, RECORDS, "premise")
    splits = [
        {
            "split": split.name,
            "filename": split.filename,
            "digest": split.digest,
            "n_records": split.n_records,
            "n_bytes": split.n_bytes,
            "content": split.content,
        }
        for split in source.splits
    ]
    row = {"name": source.name, "task_name": source.task_name, "digest": source.digest, "origin": source.origin}
    with open_database(workspace) as database:
        sources.register_source(database, row, splits, source.lines)


def test_what_was_fetched_once_comes_back_the_same(tmp_path: Path) -> None:
    workspace, dataset = Workspace(tmp_path), DatasetSpec(hub="weather/rain")
    store_as_fetched(workspace, dataset)
    with reading(workspace) as reader:
        found = stored_source(reader, dataset, "premise")
        other = stored_source(reader, DatasetSpec(hub="weather/rain", fields=("premise",)), "premise")
        unknown = stored_source(reader, DatasetSpec(hub="weather/snow"), "premise")
    assert found == source_of_splits(dataset, RECORDS, "premise")
    assert other is None
    assert unknown is None


def test_generate_needs_no_network_for_a_data_set_that_the_record_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_as_fetched(Workspace(tmp_path), DatasetSpec(hub="weather/rain"))
    config = tmp_path / "rain.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    assert run(["--root", str(tmp_path), "generate", str(config), "--no-mlflow", "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)[0]
    data = tmp_path / outcome["shared_path"]
    assert len((data / "rain_train.jsonl").read_text(encoding="utf-8").splitlines()) == 6
    assert json.loads((data / "rain_validation.jsonl").read_text(encoding="utf-8")) == RECORDS["validation"][0]
