"""What comes from elsewhere: archives, trees of the older layout, results, people's decisions, backups."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests import old_trees
from tests.fuzz import odd
from tests.fuzz.cage import Cage
from tests.fuzz.odd import Json, fuzzed
from tests.fuzz.test_references import EXPERIMENT, STAGED

Members = dict[str, bytes]


@pytest.fixture(scope="session")
def packed(filled: Cage) -> bytes:
    """An archive of a whole experiment."""
    with filled.fresh() as root:
        assert filled.call("export", STAGED, "packed").code == 0
        return (root / "packed").read_bytes()


def imported(cage: Cage, content: bytes) -> tuple[int, int]:
    """The archive in the workspace that it came from, and in a new one: how that ended."""
    with cage.fresh() as root:
        (root / "odd").write_bytes(content)
        if (known := cage.call("import", "odd", "--json").code) == 0:
            assert cage.call("verify").code in {0, 6}
        new = root / "new"
        new.mkdir()
        if (anew := cage.call("import", "../odd", "--root", new, "--max-bytes", 5_000_000).code) == 0:
            cage.call("verify", "--root", new)
            cage.call("lineage", STAGED, "--root", new)
    return known, anew


@fuzzed
@given(st.data())
def test_damaged_archives(filled: Cage, packed: bytes, data: st.DataObject) -> None:
    imported(filled, data.draw(odd.damaged(packed)))


@fuzzed
@given(st.data())
def test_forged_rows(filled: Cage, packed: bytes, data: st.DataObject) -> None:
    members = unpacked(packed)
    name = data.draw(st.sampled_from(sorted(name for name in members if name.startswith("rows/"))))
    lines = members[name].splitlines(keepends=True)
    rows = data.draw(odd.documents([json.loads(line) for line in lines[:2]]))
    members[name] = lines_of(rows) + b"".join(lines[2:])
    imported(filled, zipped(list(vouched(members).items())))


@fuzzed
@given(st.data())
def test_forged_manifests(filled: Cage, packed: bytes, data: st.DataObject) -> None:
    members = unpacked(packed)
    members["manifest.json"] = odd.json_text(data.draw(odd.documents(json.loads(members["manifest.json"]))))
    imported(filled, zipped(list(members.items())))


MEMBERS = (
    "../out", "/tmp/out", "rows/../../out", "files/../../out", "rows/none.jsonl", "rows/", "manifest.json", "files/a",
    "rows/batch.jsonl", "C:\\out", "a\\..\\..\\out", "", ".", "\x1b[31m", "x" * 300, "files/" + "a/" * 200 + "b",
    "é\u202e", "results/../../out",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@fuzzed
@given(st.data(), st.sampled_from(MEMBERS), st.sampled_from((0o644, stat.S_IFLNK | 0o777, stat.S_IFDIR, stat.S_IFIFO)))
def test_members_that_are_none(filled: Cage, packed: bytes, data: st.DataObject, name: str, mode: int) -> None:
    content = data.draw(st.sampled_from((b"", b"{}\n", b"../../out", b"\x00" * 3_000_000, b"[" * 100_000)))
    members = unpacked(packed)
    if name and name not in members and data.draw(st.booleans()):
        pairs = list(vouched({**members, name: content}).items())
    else:
        pairs = [*members.items(), (name, content)]
    assert imported(filled, zipped(data.draw(st.permutations(pairs)), {name: mode})) == (12, 12)


def unpacked(content: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: Sequence[tuple[str, bytes]], modes: dict[str, int] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, 0o644) << 16
            archive.writestr(info, content)
    return out.getvalue()


def vouched(members: Members) -> Members:
    """The members with a manifest that says of each what it is."""
    manifest = json.loads(members["manifest.json"])
    rest = {name: content for name, content in members.items() if name != "manifest.json"}
    manifest["members"] = {
        name: {"sha256": sha256(content).hexdigest(), "size": len(content)} for name, content in rest.items()
    }
    tables = {name: content for name, content in rest.items() if name.startswith("rows/") and name.endswith(".jsonl")}
    manifest["rows"] = {name[5:-6]: content.count(b"\n") for name, content in tables.items()}
    return {**rest, "manifest.json": json.dumps(manifest).encode()}


SYNTHETIC = "Data_v2/synthetic/_shared/Copa/temp05_topp10_gpt4o"
TREE_FILES = (
    f"{SYNTHETIC}/Copa/copa_train.jsonl", f"{SYNTHETIC}/experiment_metadata.json", f"{SYNTHETIC}/.fingerprint",
    f"{SYNTHETIC}/generation_config.yaml", f"{SYNTHETIC}/README.md", "Data/original/Copa/copa_train.jsonl",
    f"{old_trees.RUN}/experiment_config.yaml", f"{old_trees.RUN}/1_6_train.out", f"{old_trees.RUN}/1_6_train.err",
)  # fmt: skip


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("older") / "old"
    old_trees.write_tree(project)
    old_trees.write_run(project)
    return project


@fuzzed
@given(st.data(), st.sampled_from(TREE_FILES))
def test_older_trees(filled: Cage, old: Path, data: st.DataObject, name: str) -> None:
    """One file of a tree damaged, or its values changed where it is JSON or JSON Lines."""
    sound = (old / name).read_bytes()
    content = data.draw(odd.damaged(sound) | changed(sound))
    with filled.fresh() as root:
        place = root / "old"
        shutil.copytree(old, place, symlinks=True)
        (place / name).write_bytes(content)
        taken(filled, "old")


def changed(sound: bytes) -> st.SearchStrategy[bytes]:
    try:
        rows = [json.loads(line) for line in sound.splitlines()]
    except ValueError:
        return odd.values().map(odd.json_text)
    return odd.documents(rows if len(rows) > 1 else rows[0]).map(
        lambda found: odd.jsonl(found) if len(rows) > 1 and isinstance(found, list) else odd.json_text(found)
    )


def taken(cage: Cage, place: str) -> None:
    before = cage.rows()
    cage.call("import", place, "--dry-run", "--json")
    assert cage.rows() == before
    if cage.call("import", place, "--json").code in {0, 1}:
        assert cage.call("verify").code in {0, 6}
        cage.call("result", "list", "--json")
        cage.call("experiment", "list", "--json")


@fuzzed
@example([("link", "x" * 300), ("name", "")])
@given(st.lists(st.tuples(st.sampled_from(("name", "link", "folder", "fifo", "empty")), odd.texts()), max_size=4))
def test_names_in_older_trees(filled: Cage, old: Path, changes: Sequence[tuple[str, str]]) -> None:
    """Directories and links of any name, beside and instead of those that belong there."""
    with filled.fresh() as root:
        place = root / "old"
        shutil.copytree(old, place, symlinks=True)
        for number, (kind, text) in enumerate(changes):
            # Not rglob, which in Python 3.11 fails at a link to a name that is too long.
            folders = sorted(Path(folder) for folder, _, _ in os.walk(place))[1:]
            name = os.fsencode(text.replace("/", "_").replace("\x00", "").encode("utf-8", "replace").decode())[:255]
            if name in {b"", b".", b".."}:
                continue
            put(kind, folders[(number * 7 + len(text)) % len(folders)] / os.fsdecode(name), text)
        taken(filled, "old")


def put(kind: str, path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        if kind == "link":
            path.symlink_to(text.replace("\x00", "").encode("utf-8", "replace").decode() or "..")
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "empty":
            path.write_bytes(b"")
        elif kind == "folder":
            path.mkdir()
        else:
            path.parent.rename(path)


@pytest.fixture(scope="session")
def decisions(filled: Cage) -> bytes:
    """People's decisions, as they are exported."""
    done = filled.call("annotations", "export", STAGED)
    return done.out.encode()


@fuzzed
@given(st.data())
def test_decisions(filled: Cage, decisions: bytes, data: st.DataObject) -> None:
    rows: list[Json] = [json.loads(line) for line in decisions.splitlines()[:4]]
    content = data.draw(odd.documents(rows).map(lines_of) | odd.damaged(decisions))
    with filled.fresh() as root:
        (root / "odd.jsonl").write_bytes(content)
        arguments = data.draw(st.sampled_from(((), ("--annotator", "else"), ("--annotator", "else", "--range", "2-3"))))
        if filled.call("annotations", "import", STAGED, "odd.jsonl", *arguments, "--json").code == 0:
            assert filled.call("verify").code == 0
            filled.call("annotations", "agreement", STAGED, "--json")


def lines_of(value: Json) -> bytes:
    return odd.jsonl(value if isinstance(value, list) else [value])


@fuzzed
@given(st.data())
def test_backups(filled: Cage, data: st.DataObject) -> None:
    """A damaged backup is refused, or what it says is carried out; the record that it would replace is whole then."""
    with filled.fresh() as root:
        assert filled.call("backup", "kept.db").code == 0
        sound = (root / "kept.db").read_bytes()
        head = data.draw(odd.damaged(sound[:8192]))
        content = head + sound[8192:] if data.draw(st.booleans()) else data.draw(odd.damaged(sound))
        (root / "kept.db").write_bytes(content)
        if filled.call("restore", "kept.db", "--yes", "--no-mlflow").code != 0:
            assert filled.call("verify").code == 0


@fuzzed
@given(st.data())
def test_damaged_records(filled: Cage, data: st.DataObject) -> None:
    """Every command says so where the database itself is damaged."""
    with filled.fresh() as root:
        database = root / "tracker.db"
        database.write_bytes(data.draw(odd.damaged(database.read_bytes())))
        for command in ("verify", "batch list", "experiment show " + EXPERIMENT, "lineage Copa", "view check"):
            filled.call(*command.split())
