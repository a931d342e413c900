"""What a config's path means: an experiment however it is named, a published copy, original data, any directory."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.importing.run import import_tree
from pipeline.training.data import DataSet, read, rephrased_tail, resolve
from pipeline.training.specs import DataSpec
from pipeline.training.tasks import TASKS
from tests.old_trees import ORIGINALS, jsonl, write_tree
from tests.view_rows import COPIED, LINES, Made, execute, workspace
from tests.workspaces import call, records, write_lines
from tracker.errors import ConfigError, Corrupt, DataError, Error, UnknownReference, WrongStep
from tracker.fingerprint import bytes_digest
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, reading
from tracker.views import synthetic_view

COPA = TASKS["Copa"]
NAME = "temp07_topp10_gpt4o"
MADE = (
    Made(batches=("batch_a", "batch_b")),
    Made(name="temp09", outcomes=("x", "failed", "y"), status="partial", batches=("batch_b",)),
    Made(name="kept", outcomes=("rejected",) * 3),
    Made(name="running", status="unfinished"),
    Made(dataset="CB", outcomes=("a", "b", "c")),
)
TREE = "Data_v2/synthetic"
SHARED = f"{TREE}/_shared/Copa/{NAME}"


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "workspace", MADE)


def found(here: Workspace, *, task: str = "Copa", **data: Any) -> list[DataSet]:
    with contextlib.chdir(here.root), reading(here) as reader:
        return resolve(here, reader, DataSpec(**data), TASKS[task], "c.yaml:4")


def one(here: Workspace, path: str, *, task: str = "Copa") -> DataSet:
    [only] = found(here, path=path, task=task)
    return only


def splits(directory: Path, stem: str = "copa_", *, train: bytes = b"{}\n", validation: bytes | None = b"{}\n") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{stem}train.jsonl").write_bytes(train)
    if validation is not None:
        (directory / f"{stem}validation.jsonl").write_bytes(validation)
    return directory


@pytest.mark.parametrize(
    ("path", "batch_id"),
    [
        (f"{TREE}/batch_a/Copa/{NAME}/Copa", 1),
        (f"{TREE}/batch_a/Copa/{NAME}", 1),
        (f"{TREE}/batch_b/Copa/{NAME}/", 2),
        (f"{SHARED}/Copa", None),
        (SHARED, None),
        (f"{SHARED}/Copa/", None),
        (f"ROOT/{SHARED}/Copa", None),
        (f"ROOT/{TREE}/batch_b/Copa/{NAME}", 2),
        (f"../workspace/{SHARED}", None),
        (f"batch_a/Copa/{NAME}", 1),
        (f"Copa/{NAME}", None),
        ("000000000001", None),
    ],
)
def test_an_experiment_is_found_however_it_is_named(here: Workspace, path: str, batch_id: int | None) -> None:
    data = one(here, path.replace("ROOT", str(here.root)))
    assert (data.directory, data.dataset, data.name) == (here.root / SHARED / "Copa", "Copa", NAME)
    assert (data.fingerprint, data.batch_id, data.batches) == ("000000000001", batch_id, ("batch_a", "batch_b"))
    assert data.train_digest == bytes_digest([MADE[0].data]) == bytes_digest([data.train_file.read_bytes()])
    assert data.eval_digest == bytes_digest([COPIED["validation"]])
    assert data.eval_file is not None
    assert data.eval_file.read_bytes() == COPIED["validation"]


def test_a_path_below_the_current_directory_will_do(here: Workspace) -> None:
    one(here, SHARED)
    with contextlib.chdir(here.root / TREE / "_shared"), reading(here) as reader:
        [data] = resolve(here, reader, DataSpec(path=f"Copa/{NAME}/Copa"), COPA, "c.yaml")
    assert data.directory == here.root / SHARED / "Copa"


def test_a_partial_experiment_can_be_trained_on(here: Workspace) -> None:
    data = one(here, "Copa/temp09")
    assert data.experiment is not None
    assert (data.experiment["status"], data.train_file.read_bytes()) == ("partial", MADE[1].data)


def test_an_unfinished_experiment_cannot(here: Workspace) -> None:
    with pytest.raises(WrongStep, match="Copa/running is not finished") as caught:
        one(here, f"{TREE}/_shared/Copa/running/Copa")
    assert caught.value.exit_code == 14
    assert "synthtrack experiment show Copa/running" in str(caught.value.hint)


def test_a_name_that_is_none_is_answered_with_those_close(here: Workspace) -> None:
    with pytest.raises(UnknownReference, match="temp08") as caught:
        one(here, f"{TREE}/_shared/Copa/temp08_topp10_gpt4o")
    assert f"Copa/{NAME}" in str(caught.value.hint)
    with pytest.raises(UnknownReference, match="single experiment"):
        one(here, "00000000000")


def test_a_tree_that_is_missing_or_lacks_files_comes_back(here: Workspace) -> None:
    assert not here.synthetic_dir.exists()
    data = one(here, SHARED)
    data.train_file.unlink()
    assert one(here, SHARED).train_file.read_bytes() == MADE[0].data


@pytest.mark.parametrize("split", ["train", "validation"])
def test_data_that_was_changed_is_refused_and_left_as_it_is(here: Workspace, split: str) -> None:
    file = one(here, SHARED).directory / f"copa_{split}.jsonl"
    before = file.stat()
    changed = file.read_bytes().swapcase()
    file.write_bytes(changed)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(Corrupt, match=f"copa_{split}.jsonl is not what the record says of Copa/{NAME}") as caught:
        one(here, SHARED)
    assert (caught.value.exit_code, file.read_bytes()) == (6, changed)
    assert "synthtrack verify" in str(caught.value.hint)


def test_a_published_copy_is_the_experiment(here: Workspace) -> None:
    assert call(here.root, "publish", f"Copa/{NAME}", "--target", "Data/published").code == 0
    data = one(here, "Data/published/Copa")
    assert (data.directory, data.name, data.batches) == (
        here.root / "Data/published/Copa",
        NAME,
        ("batch_a", "batch_b"),
    )
    assert (data.fingerprint, data.batch_id) == ("000000000001", None)
    assert data.experiment == one(here, SHARED).experiment
    (data.directory / "copa_train.jsonl").write_bytes(b"{}\n")
    changed = one(here, "Data/published/Copa")
    assert (changed.experiment, changed.name) == (None, "published")


def test_an_older_path_means_what_is_there_and_where_nothing_is_the_experiment(tmp_path: Path) -> None:
    here, old = Workspace(tmp_path / "workspace", environ={}), write_tree(tmp_path / "old")
    import_tree(here, old, command="synthtrack import", copy=True)
    home = old / "Data_v2/synthetic/_shared/Copa/temp05_topp10_gpt4o"
    given = str(home / "Copa")
    data = one(here, given)
    assert (data.name, data.directory) == (home.name, home / "Copa")
    (home / "Copa/copa_train.jsonl").write_text(jsonl(ORIGINALS[:4]))
    assert one(here, given).experiment is None
    shutil.rmtree(old)
    data = one(here, given)
    assert (data.name, data.directory) == (home.name, here.experiment_dir("Copa", home.name) / "Copa")


def test_of_experiments_with_the_same_data_the_one_that_was_published_is_meant(here: Workspace) -> None:
    execute(here, "UPDATE shared_experiment SET data_digest = (SELECT data_digest FROM shared_experiment WHERE id = 1)")
    copy = here.root / "Data/published/Copa"
    shutil.copytree(one(here, SHARED).directory, copy)
    assert one(here, str(copy)).name == NAME
    publication = "'2026', 'me', '{}', 'Copa', 'Data/published/Copa', 'target', 'copy'"
    columns = "published_at, published_by, files, dataset, directory, kind, mode, shared_experiment_id, fingerprint"
    for experiment_id, name in ((2, "temp09"), (1, NAME), (2, "temp09")):
        execute(here, f"INSERT INTO publication ({columns}) VALUES ({publication}, {experiment_id}, 'f')")
        assert one(here, str(copy)).name == name


def test_an_experiment_that_kept_every_original_does_not_pass_for_original_data(here: Workspace) -> None:
    data = one(here, str(splits(here.root / "anywhere", train=MADE[2].data)))
    assert (data.name, data.experiment) == ("original", None)
    assert one(here, "Copa/kept").train_digest == data.train_digest


@pytest.mark.parametrize(
    ("directory", "given", "dataset", "name"),
    [
        ("mine/Copa", "mine/Copa", "Copa", "mine"),
        ("mine/Copa", "mine", "Copa", "mine"),
        ("mine/copa", "mine/", "copa", "mine"),
        ("mine", "mine", "mine", "mine"),
        ("a/b/records", "a/b", "records", "records"),
        ("Data/original/Copa", "Data/original/Copa", "Copa", "original"),
        ("Data/original/Copa", "ROOT/Data/original/Copa", "Copa", "original"),
    ],
)
def test_any_directory_of_splits_will_do(here: Workspace, directory: str, given: str, dataset: str, name: str) -> None:
    splits(here.root / directory)
    data = one(here, given.replace("ROOT", str(here.root)))
    assert (data.directory, data.dataset, data.name) == (here.root / directory, dataset, name)
    assert (data.experiment, data.fingerprint, data.batch_id, data.batches) == (None, None, None, ())
    assert data.train_digest == data.eval_digest == bytes_digest([b"{}\n"])
    with contextlib.chdir(here.root):
        assert resolve(here, None, DataSpec(path=given.replace("ROOT", str(here.root))), COPA, "c.yaml") == [data]


def test_of_several_data_sets_in_a_directory_the_tasks_is_meant(here: Workspace) -> None:
    for name in ("CB", "Copa"):
        splits(here.root / "mine" / name)
    assert one(here, "mine").dataset == "Copa"
    assert one(here, "mine", task="CB").dataset == "CB"
    with pytest.raises(DataError, match="mine: no train split"):
        one(here, "mine", task="RTE")


def test_a_link_to_original_data_is_original_data(here: Workspace) -> None:
    splits(here.root / "Data/original/Copa")
    (here.root / "link").symlink_to("Data/original/Copa")
    assert one(here, "link").name == "original"


@pytest.mark.parametrize("stem", ["ARC-Challenge_", "", "v1.1_", "ARC-Challenge-"])
def test_splits_are_known_by_the_end_of_their_names(here: Workspace, stem: str) -> None:
    mine = splits(here.root / "mine/ArcC_Cloze", stem)
    (mine / f"{stem}test.jsonl").write_text("{}\n")
    (mine / "._copa_train.jsonl").write_text("of a Mac")
    (mine / "train.txt").write_text("no records")
    (mine / "test_train.jsonl").mkdir()
    data = one(here, "mine", task="ArcC_Cloze")
    assert data.eval_file is not None
    assert (data.train_file.name, data.eval_file.name) == (f"{stem}train.jsonl", f"{stem}validation.jsonl")


def test_two_files_for_a_split_are_one_too_many(here: Workspace) -> None:
    mine = splits(here.root / "mine")
    (mine / "other_train.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"mine: copa_train.jsonl, other_train.jsonl"):
        one(here, "mine")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("empty", "empty: no train split"),
        ("Data/original/Copa", "Data/original/Copa: no such directory"),
        ("file", "file: not a directory"),
        ("x" * 300, "no such directory"),
    ],
)
def test_without_a_train_split_there_is_nothing_to_train_on(here: Workspace, path: str, problem: str) -> None:
    (here.root / "empty").mkdir()
    (here.root / "file").write_text("")
    with contextlib.chdir(here.root), pytest.raises(DataError, match=problem) as caught:
        resolve(here, None, DataSpec(path=path), COPA, "c.yaml")
    assert caught.value.exit_code == 12
    assert "synthtrack path list" in str(caught.value.hint)


def test_a_file_is_no_directory_of_splits(here: Workspace) -> None:
    with pytest.raises(DataError, match=r"copa_train.jsonl: not a directory"):
        one(here, str(splits(here.root / "mine") / "copa_train.jsonl"))


def test_without_a_validation_split_there_is_nothing_to_evaluate_on(here: Workspace) -> None:
    splits(here.root / "mine", validation=None)
    with pytest.raises(DataError, match=r"nothing to evaluate on(.|\n)*mine: no validation split"):
        one(here, "mine")


@contextlib.contextmanager
def somebody() -> Iterator[Path]:
    """A directory that is not ours to read, as it is for a user who is not root."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        locked = splits(top / "locked")
        locked.chmod(0o000)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            yield top
        finally:
            if is_root:
                os.seteuid(0)
            locked.chmod(0o755)


def test_a_directory_that_cannot_be_read_is_said() -> None:
    with somebody() as top, pytest.raises(DataError, match="locked: Permission denied"):
        resolve(Workspace(top, environ={}), None, DataSpec(path="locked"), COPA, "c.yaml")


def test_a_mix_keeps_its_data_sets_apart_and_in_order(here: Workspace) -> None:
    splits(here.root / "Data/original/Copa")
    splits(here.root / "more", validation=None, train=b"{}\n{}\n")
    mixed = found(here, paths=["Data/original/Copa", f"{TREE}/batch_a/Copa/{NAME}", "more"])
    assert [(data.name, data.batch_id, data.fingerprint) for data in mixed] == [
        ("original", None, None), (NAME, 1, "000000000001"), ("more", None, None),
    ]  # fmt: skip
    with pytest.raises(DataError, match="nothing to evaluate on"):
        found(here, paths=["more", "Data/original/Copa"])


def test_a_mix_holds_no_data_twice(here: Workspace) -> None:
    shutil.copytree(one(here, SHARED).directory, here.root / "copy")
    with pytest.raises(ConfigError) as caught:
        found(here, paths=[f"Copa/{NAME}", "Copa/temp09", "copy"])
    assert [str(problem) for problem in caught.value.problems] == ["c.yaml:4: data.paths: copy"]


LABELLED = (
    "UPDATE generation_run SET training_method = 'mezo', version = 'v1' WHERE shared_experiment_id IN (1, 2, 5)",
    "UPDATE shared_experiment SET model = 'openai/GPT-4o' WHERE id = 1",
    "UPDATE shared_experiment SET model = 'gpt-4o-mini' WHERE id = 2",
)


def test_data_types_of_older_configs_are_understood(here: Workspace) -> None:
    original = splits(here.root / "Data/original/Copa")
    execute(here, *LABELLED)
    assert [data.directory for data in found(here, type="original")] == [original]
    assert [data.name for data in found(here, type="synthetic_mezo_gpt4o_v1")] == [NAME]
    assert [data.name for data in found(here, type="synthetic_mezo_gpt4omini_v1")] == ["temp09"]
    assert [data.dataset for data in found(here, type="synthetic_mezo_gpt4o_v1", task="CB")] == ["CB"]
    assert [data.name for data in found(here, type="mixed_mezo_gpt4o_v1")] == ["original", NAME]


def test_data_types_that_mean_nothing_or_several_are_said(here: Workspace) -> None:
    execute(here, *LABELLED, "UPDATE shared_experiment SET model = 'gpt-4o'")
    for kind in ("orginal", "synthetic_gpt4o", "other_mezo_gpt4o_v1"):
        with pytest.raises(ConfigError, match=f"c.yaml:4: data.type '{kind}': expected original, synthetic_"):
            found(here, type=kind)
    with pytest.raises(UnknownReference, match="synthetic_mezo_gpt4o_v2"):
        found(here, type="synthetic_mezo_gpt4o_v2")
    with pytest.raises(ConfigError, match=f"could be Copa/{NAME}, Copa/temp09"):
        found(here, type="synthetic_mezo_gpt4o_v1")
    with pytest.raises(UnknownReference, match=r"original/Copa'(.|\n)*no such directory either"):
        found(here, type="original")
    with pytest.raises(UnknownReference):
        resolve(here, None, DataSpec(type="synthetic_mezo_gpt4o_v1"), COPA, "c.yaml")


@pytest.mark.parametrize(("num_dev", "changed"), [(1, 1), (2, 1), (3, 2), (9, 2)])
def test_records_of_the_tail_that_were_rephrased_are_counted(here: Workspace, num_dev: int, changed: int) -> None:
    with reading(here) as reader:
        assert rephrased_tail(reader, one(here, SHARED), num_dev, len(LINES)) == changed
        assert rephrased_tail(reader, one(here, "Copa/kept"), num_dev, len(LINES)) == 0
        plain = one(here, str(splits(here.root / "mine")))
        assert rephrased_tail(reader, plain, num_dev, 1) == 0


def test_a_split_is_read(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "copa_train.jsonl", records(3))
    path.write_text("\ufeff" + path.read_text().replace("\n", "\n\n"))
    assert read(path, COPA) == records(3)
    packed = tmp_path / "copa_train.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(packed, COPA) == records(3)


def test_every_line_that_does_not_fit_is_said_with_its_number(tmp_path: Path) -> None:
    good, missing, typed, labelled = (records(1)[0] for _ in range(4))
    del missing["choice2"]
    typed["label"] = "0"
    labelled["label"] = 2
    lines = [json.dumps(good), "", json.dumps(missing), "{", "[1]", json.dumps(typed), json.dumps(labelled)]
    path = tmp_path / "copa_train.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        read(path, COPA)
    assert [str(problem).removeprefix(f"{path}:").partition(": not JSON")[0] for problem in caught.value.problems] == [
        "4",
        "5: a record is a JSON object, this is list",
        "3: no field 'choice2'",
        "6: field 'label' is text, expected a whole number",
        "7: label 2, expected 0 to 1, or -1 where it is not known",
    ]


def test_of_many_problems_the_first_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "copa_train.jsonl"
    path.write_text("{}x\n" * 30)
    with pytest.raises(DataError) as caught:
        read(path, COPA)
    assert len(caught.value.problems) == 21
    assert str(caught.value.problems[-1]) == f"{path}: and 10 more"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\n"])
def test_a_split_without_records_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "copa_train.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)):
        read(path, COPA)


def test_a_tree_that_cannot_be_written_is_said(here: Workspace) -> None:
    here.synthetic_dir.parent.mkdir()
    here.synthetic_dir.write_text("in the way")
    with pytest.raises(Error) as caught:
        one(here, SHARED)
    assert caught.value.exit_code in {5, 11}


def test_looking_a_data_set_up_leaves_the_rest_of_the_tree_alone(here: Workspace) -> None:
    one(here, SHARED)
    assert sorted(path.name for path in here.shared_dir.glob("*/*")) == [NAME]
    with reading(here) as reader:
        assert _missing(here, reader) == {"_shared/CB/temp07_topp10_gpt4o", "_shared/Copa/kept", "_shared/Copa/temp09"}


def _missing(here: Workspace, reader: Reader) -> set[str]:
    return {
        each.path for each in synthetic_view.check(here, reader) if each.what == "missing" and each.path.startswith("_")
    }
