"""Workspaces for tests of whole commands: records, configs, the command itself, and what it leaves behind."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from cli.main import run

REPOSITORY = Path(__file__).parents[1]
SNAPSHOTS = Path(__file__).parent / "snapshots"
SAME, NOT_THE_SAME, UNCLEAR = "Same.", "Not the same", "Hard to tell"


@dataclass(frozen=True)
class Done:
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


def environment(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """This process's environment with both keys set and none of synthtrack's own settings; None removes a variable."""
    ours = ("SYNTHTRACK_", "MLFLOW_", "OPENAI_", "TOGETHER_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    given = {"OPENAI_API_KEY": "test-key", "TOGETHER_API_KEY": "test-key", "PYTHONPATH": str(REPOSITORY)}
    return {name: value for name, value in {**kept, **given, **(changes or {})}.items() if value is not None}


def call(root: Path, *arguments: object, environ: Mapping[str, str | None] | None = None) -> Done:
    """A command in this process, with ``root`` as workspace and current directory."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(root),
        mock.patch.dict(os.environ, environment(environ), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = run(["--root", str(root), *map(str, arguments)])
    return Done(code, out.getvalue(), err.getvalue())


def start(root: Path, *arguments: object, environ: Mapping[str, str | None] | None = None) -> subprocess.Popen[str]:
    """A command in a process of its own, started."""
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *map(str, arguments)],
        cwd=root,
        env=environment({"SYNTHTRACK_ROOT": str(root), **(environ or {})}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 120) -> Done:
    """What a started command left, once it has ended."""
    out, err = process.communicate(timeout=timeout)
    return Done(process.returncode, out, err)


def execute(root: Path, *arguments: object, environ: Mapping[str, str | None] | None = None) -> Done:
    """A command in a process of its own."""
    return finish(start(root, *arguments, environ=environ))


def records(count: int) -> list[dict[str, Any]]:
    """COPA-like records; fields in COPA's order."""
    return [
        {
            "premise": f"The man in house {number:03} fell.",
            "choice1": "He slipped.",
            "choice2": "He slept.",
            "question": "cause",
            "idx": number,
            "label": number % 2,
        }
        for number in range(count)
    ]


def verdict(number: int) -> str:
    """What the recorded judge says about record ``number``: every fifth is not the same, from 3 on."""
    return NOT_THE_SAME if number % 5 == 3 else SAME


def write_records(root: Path, count: int) -> Path:
    """The three splits of a source data set, ``count`` records in the first; gives its path."""
    directory = root / "Data/original/Copa"
    directory.mkdir(parents=True, exist_ok=True)
    for split, number in (("train", count), ("validation", 2), ("test", 1)):
        write_lines(directory / f"copa_{split}.jsonl", records(number))
    return directory / "copa_train.jsonl"


def new_root(tmp_path: Path, count: int) -> Path:
    """A workspace's directory with that many records, apart from what else a test puts into ``tmp_path``."""
    root = tmp_path / "workspace"
    root.mkdir()
    write_records(root, count)
    return root


def write_recording(path: Path, count: int, verdicts: Mapping[int, str] | None = None) -> Path:
    """What the test server answers to those records, as ``--recorded``."""
    rows = [
        {
            "idx": record["idx"],
            "original_premise": record["premise"],
            "rephrased_premise": f"In house {record['idx']:03}, the man had a fall.",
            "verdict": (verdicts or {}).get(record["idx"], verdict(record["idx"])),
        }
        for record in records(count)
    ]
    return write_lines(path, rows)


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def config(**changes: Any) -> dict[str, Any]:
    """A configuration for those records; ``generation__temperature=0.9`` changes one setting, None takes it away."""
    document: dict[str, Any] = {
        "experiment": {"batch_id": "first", "purpose": "trial"},
        "dataset": {"input_path": "Data/original/Copa/copa_train.jsonl"},
        "generation": {
            "provider": "offline",
            "model": "rules-v1",
            "temperature": 0.7,
            "field_to_rephrase": "premise",
            "rephrase_prompt": "Rephrase: {premise}",
        },
        "validation": {
            "provider": "offline",
            "model": "rules-v1",
            "validation_prompt": "Original: {original_premise}\nRephrased: {rephrased_premise}\nSame?",
        },
    }
    return changed(document, changes)


def changed(document: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``document`` with changed settings: ``group__key`` is set to a value, or taken away by None."""
    for name, value in changes.items():
        *groups, key = name.split("__")
        target = document
        for group in groups:
            target = target.setdefault(group, {})
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value
    return document


def served(base_url: str, **changes: Any) -> dict[str, Any]:
    """The same, asked of the test server through the openai client; the service is named, so that it may move."""
    reached = {"provider": "openai", "model": "gpt-4o"}
    over: dict[str, Any] = {
        f"{section}__{key}": value for section in ("generation", "validation") for key, value in reached.items()
    }
    gate: dict[str, Any] = {"base_url": base_url, "endpoint": "test-server", "timeout": 2, "concurrency": 8}
    over |= {f"generation__{key}": value for key, value in gate.items()}
    return config(**{**over, **changes})


def write_config(root: Path, document: Mapping[str, Any], name: str = "copa.yaml") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def rows(root: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """The rows of a query on the record."""
    with contextlib.closing(sqlite3.connect(f"file:{root / 'tracker.db'}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, parameters).fetchall()


def statuses(root: Path) -> list[str]:
    """The status of every run, oldest first."""
    return [status for (status,) in rows(root, "SELECT status FROM generation_run ORDER BY id")]


def train_file(root: Path, name: str = "temp07_topp10_gpt4o", group: str = "_shared") -> Path:
    return root / "Data_v2/synthetic" / group / "Copa" / name / "Copa/copa_train.jsonl"


def premises(path: Path) -> list[str]:
    return [json.loads(line)["premise"] for line in path.read_text(encoding="utf-8").splitlines()]


_VARIES = {"experiment_metadata.json"}
_OWN = re.compile(r"tracker\.db(-wal|-shm)?|\.(tracker\.db|view)\.lock")


def tree(top: Path, *, digests: bool = True) -> str:
    """Every file below ``top``: its digest, or a link's target; the database's own files are left out."""
    return "".join(f"{line}\n" for line in _tree(top, digests=digests))


def _tree(top: Path, *, digests: bool) -> Iterator[str]:
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if path.is_symlink():
            yield f"{name} -> {path.readlink()}"
        elif path.is_file() and not _OWN.fullmatch(name):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            yield name if path.name in _VARIES or not digests else f"{name} {digest}"


def steady(text: str, root: Path) -> str:
    """``text`` without what differs from run to run: the workspace's place, dates and seconds."""
    text = text.replace(str(root), "ROOT")
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*Z?", "MOMENT", text)
    text = re.sub(r"batch_\d{8}_", "batch_DATE_", text)
    text = re.sub(r'"uuid": "\w+"', '"uuid": "UUID"', text)
    text = re.sub(r'("(?:duration_s|latency_p\d+_s|pid_started|pid)": )[\d.e-]+', r"\1NUMBER", text)
    text = re.sub(r'("(?:host|command)": )"[^"]*"', r'\1"..."', text)
    return re.sub(r"\b\d+\.\d s\b", "N s", text)


def matches_snapshot(name: str, found: str) -> bool:
    """Whether ``found`` is what ``tests/snapshots`` holds; SYNTHTRACK_SNAPSHOTS=write writes it there."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("SYNTHTRACK_SNAPSHOTS") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    expected = path.read_text(encoding="utf-8")
    assert found == expected
    return True
