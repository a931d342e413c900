"""What a person may call a thing, and that each name leads to it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from sqlalchemy import text

from tests import records
from tests.training_rows import BATCH, COOL, Study, training_study
from tracker.errors import UnknownReference
from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.schema import Deletion, ImportRun, Publication
from tracker.tracing.lineage_start import Start, find

RUN = "temp05 1e-06 seed 0"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The training study with a publication, an imported experiment in place, and something that was deleted."""
    made = training_study(tmp_path_factory.mktemp("lineage") / "workspace")
    with open_database(made.workspace) as database, database.writing() as connection:
        records._insert(
            connection, Publication, shared_experiment_id=1, dataset="Copa", directory="/published/data/Copa",
            kind="target", mode="copy", fingerprint="f", published_at=records.MOMENT, published_by="ann", files="{}",
        )  # fmt: skip
        imported = records._insert(
            connection, ImportRun, uuid="feedfacefeedface", kind="tree", origin="/old", started_at=records.MOMENT,
            host="here", command="synthtrack import /old",
        )  # fmt: skip
        records.add_experiment(
            connection, "old_one", batch=1, source=1, temperature=0.1, import_run_id=imported,
            legacy_fingerprint="0ddba110ddba", directory="/old/_shared/Copa/old_one",
        )  # fmt: skip
        records._insert(
            connection, Deletion, uuid="u", kind="experiment", name="Copa/gone", fingerprint="badbadbadbad",
            deleted_at=records.MOMENT, deleted_by="delete", archive="a", archive_digest="d", n_rows=1, n_bytes=1,
            command="synthtrack experiment delete Copa/gone", paths="[]", mlflow_runs="[]",
        )  # fmt: skip
    return made


def found(study: Study, ref: str, here: Path | None = None) -> Start:
    # Names are read as text: nothing of the tree need be there.
    with reading(study.workspace) as reader, contextlib.chdir(here or study.workspace.root):
        return find(reader, study.workspace, ref)


def row(study: Study, run: str = RUN) -> dict[str, str]:
    with reading(study.workspace) as reader:
        return reader.rows(
            """SELECT r.uuid, r.fingerprint, r.directory, w.uuid AS sweep FROM training_run r
               JOIN training_sweep w ON w.id = r.training_sweep_id WHERE r.id = :id""",
            id=study.runs[run],
        )[0]


def fingerprint(study: Study) -> str:
    with reading(study.workspace) as reader:
        return str(reader.rows("SELECT fingerprint FROM shared_experiment WHERE id = 1")[0]["fingerprint"])


@pytest.mark.parametrize(
    ("ref", "batch"),
    [
        (f"Copa/{COOL}", None),
        (f" Copa/{COOL}/ ", None),
        (f"_shared/Copa/{COOL}", None),
        (f"Data_v2/synthetic/_shared/Copa/{COOL}/Copa", None),
        (f"Data_v2/synthetic/{BATCH}/Copa/{COOL}", BATCH),
        (f"Data_v2/synthetic/{BATCH}/Copa/{COOL}/Copa/", BATCH),
        (f"Data_v2/synthetic/{BATCH}/Copa/{COOL}/Copa/copa_train.jsonl", BATCH),
    ],
)
def test_an_experiment_by_its_name_and_the_paths_of_its_data(study: Study, ref: str, batch: str | None) -> None:
    assert found(study, ref) == Start("shared_experiment", (1,), batch)


def test_an_experiment_by_its_fingerprint_old_or_new_and_its_beginning(study: Study) -> None:
    digits = fingerprint(study)
    for ref in (digits, digits[:4], digits.upper()):
        assert found(study, ref) == Start("shared_experiment", (1,))
    with reading(study.workspace) as reader:
        [old] = reader.rows("SELECT id FROM shared_experiment WHERE name = 'old_one'")
    for ref in ("0ddba110ddba", "0ddb", "/old/_shared/Copa/old_one", "/old/_shared/Copa/old_one/Copa/copa_train.jsonl"):
        assert found(study, ref) == Start("shared_experiment", (old["id"],))


def test_a_training_run_by_its_digits_and_by_any_path_in_its_results(study: Study) -> None:
    its, run = row(study), study.runs[RUN]
    refs = [its["uuid"], its["uuid"][:8], its["directory"], f"{its['directory']}/metrics.json"]
    refs += [str(study.workspace.root / its["directory"]), its["directory"].removeprefix("Results_v2/")]
    for ref in refs:
        assert found(study, ref) == Start("training_run", (run,))
    assert found(study, "20251226_143000", study.workspace.root / its["directory"] / "..") == Start(
        "training_run", (run,)
    )


def test_of_several_attempts_the_newest_is_meant(study: Study) -> None:
    newest = study.runs[f"{RUN} again"]
    assert found(study, row(study)["fingerprint"]) == Start("training_run", (newest,))
    assert found(study, str(Path(row(study)["directory"]).parent)) == Start("training_run", (newest,))


def test_a_sweep_by_its_uuid(study: Study) -> None:
    its = row(study)["sweep"]
    assert found(study, its[:10]) == Start("training_sweep", (study.sweeps["hyperparameter_tuning"],))


def test_mlflow_runs_by_their_ids(study: Study) -> None:
    assert found(study, f"mlflow-{COOL}") == Start("generation_run", (1,))


def test_a_batch_by_its_name_and_its_directory(study: Study) -> None:
    for ref in (BATCH, f"Data_v2/synthetic/{BATCH}", f"Data_v2/synthetic/{BATCH}/Copa"):
        assert found(study, ref).kind == "batch"
        assert found(study, ref).ids == (1,)


def test_a_batch_by_its_directory_in_the_tree_it_was_imported_from(tmp_path: Path) -> None:
    workspace = records.temperature_study(tmp_path / "own")
    old = tmp_path / "old"
    batch = old / "Data_v2" / "synthetic" / "batch_20241228_pilot"
    with reading(workspace) as reader, pytest.raises(UnknownReference):
        find(reader, workspace, str(batch))
    with open_database(workspace) as database, database.writing() as connection:
        connection.execute(
            text(
                "INSERT INTO import_run (uuid, kind, origin, started_at, n_taken, n_skipped, n_wrong, host, command,"
                " report) VALUES ('u', 'tree', :origin, 't', 1, 0, 0, 'h', 'c', '[]')"
            ),
            {"origin": str(old)},
        )
    with reading(workspace) as reader:
        for ref in (batch, batch / "Copa", workspace.root / ".." / "old" / batch.relative_to(old)):
            assert find(reader, workspace, str(ref)) == Start("batch", (1,), "batch_20241228_pilot")


def test_a_batch_that_was_deleted_is_still_found(tmp_path: Path) -> None:
    workspace = records.temperature_study(tmp_path)
    with open_database(workspace) as database, database.writing() as connection:
        connection.execute(text("UPDATE batch SET deleted_at = created_at WHERE id = 1"))
    with reading(workspace) as reader:
        assert find(reader, workspace, "batch_20241228_pilot") == Start("batch", (1,))


@pytest.mark.parametrize(
    "ref",
    [
        "Copa", "Data/original/Copa/copa_train.jsonl", "Data/original/Copa/copa_test.jsonl", "Data/original/Copa/",
        "Data/original/Copa/copa_validation.jsonl",
    ],
)  # fmt: skip
def test_a_source_data_set_by_its_name_and_files(study: Study, ref: str) -> None:
    assert found(study, ref) == Start("source_dataset", (1,))
    assert found(study, str(study.workspace.root / ref) if "/" in ref else ref) == Start("source_dataset", (1,))


def test_splits_are_found_by_their_digest_whoever_has_them(study: Study) -> None:
    with reading(study.workspace) as reader:
        digest = reader.rows("SELECT digest FROM source_split")[0]["digest"]
    assert found(study, digest) == Start("source_dataset", (1, 2))


@pytest.mark.parametrize("ref", ["/published/data/Copa", "/published/data/Copa/copa_train.jsonl", "/published/data"])
def test_published_data_by_its_directory_with_and_without_that_of_the_data_set(study: Study, ref: str) -> None:
    assert found(study, ref) == Start("publication", (1,))


def test_a_beginning_that_fits_several_things_names_them_all(study: Study) -> None:
    with reading(study.workspace) as reader:
        rows = reader.rows("SELECT substr(uuid, 1, 4) AS low FROM training_run")
    # Two things of different kinds are made to begin alike.
    low = rows[0]["low"]
    with open_database(study.workspace) as database, database.writing() as connection:
        connection.execute(
            text("UPDATE shared_experiment SET legacy_fingerprint = :digits WHERE id = 2"), {"digits": f"{low}00000000"}
        )
    with pytest.raises(UnknownReference) as error:
        found(study, low)
    assert "shared experiment: Copa/temp09_topp10_gpt4o" in str(error.value.hint)
    assert "training run: Results_v2/" in str(error.value.hint)
    assert found(study, f"{low}00000000") == Start("shared_experiment", (2,)), "but the whole of one is that one"


def test_what_is_not_there_is_one_error_with_close_matches(study: Study) -> None:
    for ref, close in ((f"Copa/{COOL[:-1]}", f"Copa/{COOL}"), ("batch_20241229_temperatur", BATCH)):
        with pytest.raises(UnknownReference) as error:
            found(study, ref)
        assert close in error.value.matches


@pytest.mark.parametrize(
    "ref", ["", "  ", "/", "\x00", "a\x00b/c", "\udcff", "~nobody/x", "'; DROP TABLE batch", "..", "%", "x" * 9000]
)
def test_nonsense_is_not_found(study: Study, ref: str) -> None:
    with pytest.raises(UnknownReference):
        found(study, ref)


@pytest.mark.parametrize("ref", ["Copa/gone", "badbadbadbad"])
def test_what_was_deleted_is_said_to_be(study: Study, ref: str) -> None:
    with pytest.raises(UnknownReference) as error:
        found(study, ref)
    assert "The experiment Copa/gone was deleted at 2024-12-29T10:30:00" in str(error.value.hint)


def test_an_empty_workspace_knows_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    open_database(workspace).close()
    with reading(workspace) as reader, pytest.raises(UnknownReference):
        find(reader, workspace, "Copa")
