"""What the data path of an older training config means, and that imported data can be trained on where it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.importing.report import DataFound, Report
from pipeline.importing.run import TreeImport, import_tree
from pipeline.importing.tree import scan
from pipeline.training.data import resolve
from pipeline.training.specs import DataSpec
from pipeline.training.tasks import TASKS
from tests.old_trees import ORIGINALS, jsonl, rephrased, write_tree
from tracker.errors import Corrupt
from tracker.fingerprint import bytes_digest
from tracker.paths import Workspace
from tracker.record.catalogue import reading

NAME = "temp05_topp10_gpt4o"
TRAIN = bytes_digest([jsonl(rephrased()).encode()])


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "old")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace", environ={})


def resolved(workspace: Workspace, old: Path, given: str) -> DataFound | None:
    job = TreeImport(workspace, scan(old, report := Report()), report)
    for each in job.tree.experiments:
        job.take(each)
    return job.paths.resolve(given)


@pytest.mark.parametrize(
    "given",
    [
        f"Data_v2/synthetic/_shared/Copa/{NAME}",
        f"Data_v2/synthetic/_shared/Copa/{NAME}/Copa/",
        f"Data_v2/synthetic/batch_20241229_temperature/Copa/{NAME}/Copa",
        f"_shared/Copa/{NAME}",
        f"/another/machine/project/Data_v2/synthetic/_shared/Copa/{NAME}/Copa",
        f"/another/machine/Data_v2/synthetic/batch_20241229_temperature/Copa/{NAME}/Copa",
    ],
)
def test_paths_of_synthetic_data_lead_to_their_experiment(workspace: Workspace, old: Path, given: str) -> None:
    found = resolved(workspace, old, given)
    assert found is not None
    assert (found.dataset, found.name, found.train_digest, found.n_records) == ("Copa", NAME, TRAIN, 6)
    assert found.eval_digest == bytes_digest([jsonl(ORIGINALS[:2]).encode()])


def test_a_path_of_original_data_is_read(workspace: Workspace, old: Path) -> None:
    found = resolved(workspace, old, "Data/original/Copa")
    assert found is not None
    assert (found.experiment_id, found.name, found.n_records) == (None, "original", 6)
    assert found.train_digest == bytes_digest([jsonl(ORIGINALS).encode()])


@pytest.mark.parametrize("given", ["", "nowhere", "Data_v2/synthetic/_shared/Copa/gone", "/etc", "../../..", "a\0b"])
def test_other_paths_mean_nothing(workspace: Workspace, old: Path, given: str) -> None:
    assert resolved(workspace, old, given) is None


def test_imported_data_can_be_trained_on_where_it_lies(workspace: Workspace, old: Path) -> None:
    import_tree(workspace, old, command="synthtrack import")
    given = old / "Data_v2/synthetic/batch_20241230_model/Copa/temp07_topp10_gpt4o"
    with reading(workspace) as reader:
        [data] = resolve(workspace, reader, DataSpec(path=str(given)), TASKS["Copa"], "c.yaml")
        assert data.train_file == old / "Data_v2/synthetic/_shared/Copa/temp07_topp10_gpt4o/copa_train.jsonl"
        assert (data.train_digest, data.name) == (TRAIN, "temp07_topp10_gpt4o")
        assert data.eval_file is not None
        assert data.batch_id is not None
        data.train_file.write_text("{}\n")
        with pytest.raises(Corrupt, match="is not what the record says"):
            resolve(workspace, reader, DataSpec(path=str(given)), TASKS["Copa"], "c.yaml")
