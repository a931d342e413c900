"""An experiment at its annotation, for tests of decisions that come and go as files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.annotating.annotations import History, load_history
from pipeline.two_stage import ANNOTATION
from tests.two_stage import OFFLINE
from tests.workspaces import Done, call, rows
from tracker.paths import find_workspace
from tracker.record.catalogue import Row, reading

MOMENT = "2024-11-20T21:46:52.000000Z"


def history_of(root: Path, reference: str = OFFLINE) -> History:
    """What the record of ``root`` says was decided."""
    workspace = find_workspace(str(root))
    with reading(workspace) as reader:
        return load_history(reader, workspace, reference)


def decision(number: int, annotator: str, verdict: str = "same", **columns: Any) -> Row:
    """A row of decision_side_by_side on a sample by its number."""
    values = {"note": "", "settles": 0, "decided_at": MOMENT}
    return {"position": number - 1, "annotator": annotator, "verdict": verdict, **values, **columns}


def having(history: History, decisions: Iterable[Row]) -> History:
    """The history with these decisions, oldest first, and no others."""
    found: dict[int, list[Row]] = {}
    for row in decisions:
        found.setdefault(row["position"], []).append(row)
    return replace(history, decisions=found)


def jsonl(lines: Iterable[Mapping[str, Any]]) -> str:
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def answers(
    first: int, last: int, verdict: str | None = "same", annotator: str | None = None, **more: Any
) -> list[dict[str, Any]]:
    """Rows of a file for samples ``first`` to ``last``, by number."""
    named = {} if annotator is None else {"annotator": annotator}
    return [{"sample": number, "verdict": verdict, **named, **more} for number in range(first, last + 1)]


def take(root: Path, lines: Iterable[Mapping[str, Any]], *arguments: object, reference: str = OFFLINE) -> Done:
    """What `annotations import` says to a file of these lines."""
    (root / "given.jsonl").write_text(jsonl(lines), encoding="utf-8")
    return call(root, "annotations", "import", reference, "given.jsonl", *arguments)


def decisions(root: Path, checkpoint: str = ANNOTATION) -> list[tuple[Any, ...]]:
    """Every decision at a checkpoint in the order in which they came."""
    columns = "position + 1, annotator, verdict, note, settles, decided_at, via"
    return rows(root, f"SELECT {columns} FROM decision WHERE checkpoint = ? ORDER BY id", checkpoint)
