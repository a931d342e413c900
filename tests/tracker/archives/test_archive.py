"""The file that a bundle is kept in, and archives that were made to do harm."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import SQLModel

from tests import agent_rows, pool_rows, training_rows
from tracker.archives import archive
from tracker.archives.archive_check import Limits
from tracker.archives.archive_rows import JSON_COLUMNS
from tracker.archives.bundle import gather
from tracker.archives.bundle_tables import LOCAL
from tracker.errors import DataError, Error, SchemaError
from tracker.fingerprint import identify
from tracker.migrations import SCHEMA_VERSION
from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.schema import table

Members = dict[str, bytes]
ABOUT = {"kind": "export", "places": {"synthetic": "Data_v2/synthetic", "results": "Results_v2"}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with trainings on experiments, an agent data set and pools."""
    here = training_rows.training_study(tmp_path_factory.mktemp("archive") / "here").workspace
    with open_database(here) as database:
        agent_rows.add_source(database)
        agent_rows.make(database)
        identity = identify("shared_experiment", {"dataset": {"name": "Copa"}})
        with database.writing() as connection:
            of = table("shared_experiment")
            columns = {"identity": identity.canonical, "digest": identity.digest, "fingerprint": identity.fingerprint}
            connection.execute(of.update().where(of.c.id == 1).values(columns))
    return pool_rows.populate(here)


@pytest.fixture(scope="module")
def whole(place: Workspace) -> Path:
    """An archive of an experiment, a training run with a file, an agent data set and a pool."""
    path = place.root / "whole.zip"
    note = place.root / "note.txt"
    note.write_text("Trained.\n", encoding="utf-8")
    with reading(place) as reader:
        roots = {name: [1] for name in ("shared_experiment", "training_run", "agent_dataset", "task_pool")}
        archive.write(path, gather(reader, roots), ABOUT, [("results/run1/note.txt", note)])
    return path


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as found:
        return {name: found.read(name) for name in found.namelist()}


def packed(path: Path, content: Mapping[str, bytes], *, declared: bool = True) -> Path:
    """An archive of ``content``; with ``declared`` its manifest has the right digests."""
    content = dict(content)
    if declared and "manifest.json" in content:
        manifest = json.loads(content["manifest.json"])
        manifest["members"] = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for name, data in content.items()
            if name != "manifest.json"
        }
        content["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in content.items():
            out.writestr(name, data)
    return path


def refused(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(DataError) as caught, archive.opened(path, limits):
        pass
    return str(caught.value)


def edited(content: Members, name: str, change: Callable[[dict[str, Any]], object]) -> Members:
    """With the first row of a table changed."""
    first, *rest = content[f"rows/{name}.jsonl"].splitlines(keepends=True)
    row = json.loads(first)
    change(row)
    return content | {f"rows/{name}.jsonl": json.dumps(row).encode() + b"\n" + b"".join(rest)}


def managed(content: Members, change: Callable[[dict[str, Any]], object]) -> Members:
    manifest = json.loads(content["manifest.json"])
    change(manifest)
    return content | {"manifest.json": json.dumps(manifest).encode()}


def test_what_is_written_is_read(place: Workspace, whole: Path) -> None:
    with reading(place) as reader, archive.opened(whole) as found:
        bundle = gather(
            reader, {name: [1] for name in ("shared_experiment", "training_run", "agent_dataset", "task_pool")}
        )
        assert found.about == ABOUT
        assert found.bundle.counts == bundle.counts
        for name in bundle.tables():
            assert list(found.bundle.read(name)) == list(bundle.read(name)), name
        assert list(found.bundle.mentions) == list(bundle.mentions)
        assert list(found.bundle.backlinks) == list(bundle.backlinks)
        assert found.open("results/run1/note.txt").read() == b"Trained.\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "absolute"),
        ("C:/x", "absolute"),
        ("results\\..\\x", "absolute"),
        ("results/run1/../../x", "leads out"),
        ("../x", "leads out"),
        ("results/run1/./x", "no name of a file"),
        ("results/run1/.bashrc", "no name of a file"),
        ("results/run1/a\nb", "no name of a file"),
        ("results/run1/" + "x" * 300, "no name of a file"),
        ("results/x", "nothing that an archive holds"),
        ("tracker.db", "nothing that an archive holds"),
        ("rows/../x.jsonl", "leads out"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(whole: Path, tmp_path: Path, name: str, reason: str) -> None:
    assert reason in refused(packed(tmp_path / "bad.zip", members(whole) | {name: b"x"}))


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o060666, 0o010666, 0o140777, 0o040755])
def test_links_and_devices_are_refused(whole: Path, tmp_path: Path, mode: int) -> None:
    path = packed(tmp_path / "bad.zip", members(whole))
    info = zipfile.ZipInfo("results/run1/link")
    info.external_attr = mode << 16
    with zipfile.ZipFile(path, "a") as out:
        out.writestr(info, "/etc/passwd")
    assert "link or a device" in refused(path)


def test_a_name_twice_is_refused(whole: Path, tmp_path: Path) -> None:
    path = packed(tmp_path / "bad.zip", members(whole))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as out:
        out.writestr("results/run1/note.txt", "other")
    assert "twice" in refused(path)


def test_what_the_manifest_does_not_name_is_refused(whole: Path, tmp_path: Path) -> None:
    content = members(whole)
    assert "not in the manifest" in refused(
        packed(tmp_path / "a.zip", content | {"results/run1/more.txt": b"x"}, declared=False)
    )
    del content["results/run1/note.txt"]
    assert "is missing" in refused(packed(tmp_path / "b.zip", content, declared=False))
    del content["manifest.json"]
    assert "there is none" in refused(packed(tmp_path / "c.zip", content))


def test_other_content_than_declared_is_refused(whole: Path, tmp_path: Path) -> None:
    content = members(whole)
    same_size = content | {"results/run1/note.txt": b"trained.\n"}
    assert "SHA-256" in refused(packed(tmp_path / "a.zip", same_size, declared=False))
    longer = content | {"results/run1/note.txt": b"Trained.\n\n"}
    assert "are declared" in refused(packed(tmp_path / "b.zip", longer, declared=False))


def test_bombs_are_refused_before_they_are_unpacked(whole: Path, tmp_path: Path) -> None:
    path = packed(tmp_path / "bomb.zip", members(whole) | {"results/run1/zeros": bytes(80 << 20)})
    assert "a bomb?" in refused(path)
    assert "more than 1,000 (--max-bytes raises this)" in refused(path, Limits(n_bytes=1000))
    assert "holds" in refused(path, Limits(n_members=3))
    with archive.opened(path, Limits(ratio=None)) as found:
        assert found.files["results/run1/zeros"] == 80 << 20


def test_a_size_that_lies_is_refused(whole: Path, tmp_path: Path) -> None:
    path = packed(tmp_path / "bomb.zip", members(whole) | {"results/run1/zeros": bytes(1 << 20)})
    with zipfile.ZipFile(path, "a") as out:
        out.getinfo("results/run1/zeros").file_size = 100
        out._didModify = True  # type: ignore[attr-defined]  # so that the directory is written anew
    assert "zeros: is damaged" in refused(path)


def test_files_that_overlap_are_refused(whole: Path, tmp_path: Path) -> None:
    path = packed(tmp_path / "bomb.zip", members(whole))
    with zipfile.ZipFile(path, "a") as out:
        info = out.getinfo("results/run1/note.txt")
        for number in range(40):
            again = zipfile.ZipInfo(f"results/run1/{number}")
            again.header_offset, again.CRC = info.header_offset, info.CRC
            again.compress_size, again.file_size, again.compress_type = 1 << 16, info.file_size, info.compress_type
            out.filelist.append(again)
        out._didModify = True  # type: ignore[attr-defined]  # so that the directory is written anew
    assert "overlap" in refused(path)


CHANGES: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "an unknown column": ("batch", lambda row: row.update(extra=1), "extra is no column"),
    "a missing column": ("batch", lambda row: row.pop("purpose"), "purpose is missing"),
    "text for a number": ("source_record", lambda row: row.update(position="1"), "is no whole number"),
    "true for a number": ("source_record", lambda row: row.update(position=True), "is no whole number"),
    "a number that is too large": ("source_record", lambda row: row.update(position=2**63), "too large"),
    "a number for text": ("batch", lambda row: row.update(purpose=7), "is no text"),
    "a list for text": ("batch", lambda row: row.update(purpose=[]), "is no text"),
    "no text at all": ("batch", lambda row: row.update(purpose="\ud800"), "what is no text"),
    "null where there must be something": ("batch", lambda row: row.update(name=None), "must not be null"),
    "a number for a mark": ("batch_membership", lambda row: row.update(reused=1), "neither true nor false"),
    "no base64": ("source_split", lambda row: row.update(content="?"), "no base64"),
    "a batch that leads out": ("batch", lambda row: row.update(name="../../x"), "separator"),
    "an experiment that leads out": ("shared_experiment", lambda row: row.update(name=".."), "no name"),
    "a data set that leads out": ("shared_experiment", lambda row: row.update(dataset="/"), "dataset"),
    "a file that leads out": ("source_split", lambda row: row.update(filename="../x"), "separator"),
    "a pool that leads out": ("task_pool", lambda row: row.update(name="a/b"), "separator"),
    "another fingerprint": ("shared_experiment", lambda row: row.update(fingerprint="0" * 12), "fingerprint"),
    "another setting than its identity has": ("training_run", lambda row: row.update(seed=99), "in its identity"),
    "a status that there is not": ("shared_experiment", lambda row: row.update(status="done"), "status is done"),
    "a fingerprint that is too long": ("agent_dataset", lambda row: row.update(fingerprint="0" * 13), "longer than 12"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_rows_that_are_none_are_refused(whole: Path, tmp_path: Path, what: str) -> None:
    name, change, reason = CHANGES[what]
    assert reason in refused(packed(tmp_path / "bad.zip", edited(members(whole), name, change)))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
        (b'{"id": ', "no JSON"),
        (b"[1]", "no object"),
        (b'{"id": NaN}', "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b'{"id": ' + b"9" * 5000 + b"}", "no JSON"),
    ],
)
def test_lines_that_are_no_rows_are_refused(whole: Path, tmp_path: Path, line: bytes, reason: str) -> None:
    content = members(whole)
    content["rows/batch.jsonl"] += line + b"\n"
    assert reason in refused(packed(tmp_path / "bad.zip", content))


@pytest.mark.parametrize("name", ["mlflow_outbox", "sqlite_master", "endpoint_limit", "deletion"])
def test_tables_that_are_not_to_be_moved_are_refused(whole: Path, tmp_path: Path, name: str) -> None:
    content = members(whole) | {f"rows/{name}.jsonl": b"{}\n"}
    content = managed(content, lambda manifest: manifest["rows"].update({name: 1}))
    assert "no table that an archive holds" in refused(packed(tmp_path / "bad.zip", content))


def test_rows_are_counted(whole: Path, tmp_path: Path) -> None:
    content = managed(members(whole), lambda manifest: manifest["rows"].update(batch=99))
    assert "99 are declared" in refused(packed(tmp_path / "bad.zip", content))


@pytest.mark.parametrize("name", ["format", "schema_version"])
def test_newer_ones_are_refused(whole: Path, tmp_path: Path, name: str) -> None:
    path = packed(tmp_path / "new.zip", managed(members(whole), lambda manifest: manifest.update({name: 99})))
    with pytest.raises(SchemaError, match="99"), archive.opened(path):
        pass


def test_what_an_older_schema_did_not_have_gets_its_default(whole: Path, tmp_path: Path) -> None:
    def older(row: dict[str, Any]) -> None:
        del row["legacy_fingerprint"], row["description"]

    content = edited(members(whole), "shared_experiment", older)
    assert "is missing" in refused(packed(tmp_path / "same.zip", content))
    content = managed(content, lambda manifest: manifest.update(schema_version=SCHEMA_VERSION - 1))
    with archive.opened(packed(tmp_path / "older.zip", content)) as found:
        row = next(iter(found.bundle.read("shared_experiment")))
    assert (row["legacy_fingerprint"], row["description"]) == (None, "")


MANIFESTS: list[Callable[[dict[str, Any]], object]] = [
    lambda manifest: manifest.pop("members"),
    lambda manifest: manifest.update(rows=[]),
    lambda manifest: manifest.update(about=[]),
    lambda manifest: manifest.update(format="1"),
    lambda manifest: manifest.update(mentions=[{"table": "sqlite_master", "id": 1, "key": []}]),
    lambda manifest: manifest.update(mentions=[{"table": "batch", "id": 1, "key": [[]]}]),
    lambda manifest: manifest.update(backlinks=[{"child": "batch", "key": ["x"], "column": "name; DROP", "target": 1}]),
    lambda manifest: manifest.update(members={"rows/batch.jsonl": 1}),
]


@pytest.mark.parametrize("change", MANIFESTS)
def test_a_manifest_that_is_none_is_refused(
    whole: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    content = managed(members(whole), change)
    assert "cannot be read" in refused(packed(tmp_path / "bad.zip", content, declared=False))


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_manifest_with_a_number_that_json_has_not_is_refused(whole: Path, tmp_path: Path, number: str) -> None:
    content = members(whole)
    content["manifest.json"] = content["manifest.json"].replace(b"{", f'{{"more": [{number}], '.encode(), 1)
    path = packed(tmp_path / "bad.zip", content, declared=False)
    assert f"manifest.json: cannot be read ({number} is no number)" in refused(path)


def test_a_manifest_that_is_nested_too_deep_is_refused(whole: Path, tmp_path: Path) -> None:
    content = members(whole) | {"manifest.json": b"[" * 200_000}
    assert "nested too deep" in refused(packed(tmp_path / "bad.zip", content, declared=False))


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all", b"SQLite format 3\x00" + bytes(100)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.zip"
    path.write_bytes(content)
    assert "no archive of synthtrack" in refused(path)


def test_a_damaged_manifest_is_said(whole: Path, tmp_path: Path) -> None:
    content = bytearray(whole.read_bytes())
    with zipfile.ZipFile(whole) as found:
        start = found.getinfo("manifest.json").header_offset + 30 + len("manifest.json")
    extra = int.from_bytes(content[start - len("manifest.json") - 2 : start - len("manifest.json")], "little")
    content[start + extra : start + extra + 8] = b"\xff" * 8
    path = tmp_path / "damaged.zip"
    path.write_bytes(content)
    assert "no archive of synthtrack" in refused(path)


def test_what_lists_too_many_files_is_refused_before_they_are_read(whole: Path, tmp_path: Path) -> None:
    path = packed(tmp_path / "many.zip", members(whole) | {f"results/run1/{at}.txt": b"" for at in range(50)})
    assert "files, more than 40" in refused(path, Limits(n_members=40))


@pytest.mark.parametrize(
    ("n_zeros", "n_bytes", "reason"),
    [(80 << 20, 80 << 20, "a bomb?"), (80 << 20, 1000, "does not unpack to"), (1000, 9 << 30, "--max-bytes")],
)
def test_bombs_in_a_row_are_refused(whole: Path, tmp_path: Path, n_zeros: int, n_bytes: int, reason: str) -> None:
    packed_zeros = base64.b64encode(zlib.compress(bytes(n_zeros))).decode()
    bomb = {"content": packed_zeros, "n_bytes": n_bytes}
    content = edited(members(whole), "source_split", lambda row: row.update(bomb))
    assert reason in refused(packed(tmp_path / "bomb.zip", content))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("shared_experiment", {"settings": "[" * 100_000}),
        ("shared_experiment", {"settings": '{"a":' + "[" * 200 + "]" * 200 + "}"}),
        ("training_run", {"config": "null"}),
        ("training_run", {"environment": "{not JSON"}),
        ("training_run", {"status": "strange"}),
        ("prediction", {"scores": "{}"}),
        ("training_run", {"accuracy": float("1e999")}),
    ],
)
def test_values_that_commands_would_stumble_over_are_refused(
    whole: Path, tmp_path: Path, name: str, change: dict[str, Any]
) -> None:
    content = edited(members(whole), name, lambda row: row.update(change))
    content[f"rows/{name}.jsonl"] = content[f"rows/{name}.jsonl"].replace(b"Infinity", b"1e999")
    assert next(iter(change)) in refused(packed(tmp_path / "bad.zip", content))


_KINDS = {"JSON objec": dict, "JSON array": list}


def test_every_column_of_json_is_known_as_one() -> None:
    models = {str(each.__tablename__): each for each in SQLModel.__subclasses__() if hasattr(each, "__table__")}
    described = {
        (name, column): _KINDS.get((field.description or "")[:10], object)
        for name, model in models.items()
        for column, field in model.model_fields.items()
        if (field.description or "").startswith(("JSON", "the canonical JSON")) and name not in LOCAL
    }
    described |= {key: dict for key in described if key[1] == "identity"}
    unsaid = {("pool_validation", "versions"): dict}
    assert {(name, column): kind for name, of in JSON_COLUMNS.items() for column, kind in of.items()} == (
        described | unsaid
    )


@given(st.data())
def test_whatever_bytes_are_changed_nothing_but_an_error_comes_of_it(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    del content[data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content)))) :]
    path = tmp_path_factory.getbasetemp() / "fuzzed.zip"
    path.write_bytes(content)
    expected = members(whole)
    try:
        with archive.opened(path) as found:
            # What was changed is nothing that is read, such as a time.
            for name in found.manifest["members"]:
                assert found.open(name).read() == expected[name]
    except Error:
        pass


def test_an_archive_is_not_written_over_another_file(place: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "mine.zip"
    path.write_text("mine", encoding="utf-8")
    with reading(place) as reader, pytest.raises(Error, match="cannot be written"):
        archive.write(path, gather(reader, {"batch": [1]}))
    assert path.read_text(encoding="utf-8") == "mine"


def test_nothing_says_when_it_was_packed(whole: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(whole.read_bytes())) as found:
        assert {info.date_time for info in found.infolist()} == {(1980, 1, 1, 0, 0, 0)}
