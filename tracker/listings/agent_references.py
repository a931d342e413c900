"""What a person means by an agent data set's name: a fingerprint, a name or a part of it, a path, a run, a task type.

Paths are read as text, against the record and not the disk: a file that was deleted still leads to its data set.
"""

# ruff: noqa: S608  what is put into a text here are conditions of this module; values are parameters

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tracker.errors import UnknownReference
from tracker.fingerprint import MIN_DIGITS
from tracker.paths import Workspace, current_directory
from tracker.record.catalogue import Reader, Row
from tracker.views.agent_view import DIRECTORY

_SUFFIX = ".json"
_NAMED = 5
_KNOWN = 200
_BY_DIGITS = """
    SELECT id, fingerprint, name FROM agent_dataset WHERE fingerprint >= :low AND fingerprint < :high
    UNION SELECT d.id, d.fingerprint, d.name FROM agent_run r JOIN agent_dataset d ON d.id = r.agent_dataset_id
    WHERE r.uuid >= :low AND r.uuid < :high
    UNION SELECT d.id, d.fingerprint, d.name FROM mlflow_outbox o JOIN agent_run r ON r.id = o.agent_run_id
    JOIN agent_dataset d ON d.id = r.agent_dataset_id WHERE o.mlflow_run_id >= :low AND o.mlflow_run_id < :high
    ORDER BY name"""


def find(reader: Reader, workspace: Workspace, ref: str) -> int:
    """The id of the agent data set that ``ref`` names.

    A fingerprint, a run's uuid or MLflow's id of it may be cut down to four digits; of a name any part will do that no
    other has. Raises UnknownReference: close matches, or what it could be.
    """
    text = ref.strip().rstrip("/")
    ways = (_by_name, _by_digits, _by_path, _by_task, _by_part)
    for way in ways if text else ():
        rows = way(reader, workspace, text)
        if len(rows) == 1:
            return int(rows[0]["id"])
        if rows:
            raise _ambiguous(ref, rows)
    raise _unknown(reader, ref)


def named(reader: Reader, workspace: Workspace, text: str) -> int | None:
    """The agent data set of a whole name or a path, None where it is none."""
    rows = _by_name(reader, workspace, text) or _by_path(reader, workspace, text)
    return int(rows[0]["id"]) if rows else None


def _by_name(reader: Reader, _: Workspace, text: str) -> list[Row]:
    return _rows(reader, "name = :text", text=text)


def _by_digits(reader: Reader, _: Workspace, text: str) -> list[Row]:
    digits = text.lower()
    if not re.fullmatch(rf"[0-9a-f]{{{MIN_DIGITS},32}}", digits):
        return []
    return reader.rows(_BY_DIGITS, low=digits, high=f"{digits}g")


def _by_path(reader: Reader, workspace: Workspace, text: str) -> list[Row]:
    for name in _names(workspace, text):
        if rows := _rows(reader, "name = :text", text=name):
            return rows
    return []


def _names(workspace: Workspace, text: str) -> Iterator[str]:
    """What the data set would be called: by the place of its file, else by a copy's name."""
    if not text.endswith(_SUFFIX):
        return
    here = current_directory()
    given = Path(os.path.expanduser(text))  # noqa: PTH111  Path.expanduser raises where there is no such user
    # The directory may be reached through a link (to a bigger disk).
    places = {Path(read(workspace.data_dir / DIRECTORY)) for read in (os.path.abspath, os.path.realpath)}
    for base in (*([] if here is None else [here]), workspace.root, workspace.data_dir, workspace.data_dir / DIRECTORY):
        for path in (Path(read(base / given)) for read in (os.path.abspath, os.path.realpath)):
            if path.parent in places:
                yield path.name.removesuffix(_SUFFIX)
    yield given.name.removesuffix(_SUFFIX)


def _by_task(reader: Reader, _: Workspace, text: str) -> list[Row]:
    return _likely(_rows(reader, "task_type = :text", text=text))


def _by_part(reader: Reader, _: Workspace, text: str) -> list[Row]:
    escaped = re.sub(r"([!%_])", r"!\1", text.lower())
    for pattern in (f"{escaped}%", f"%{escaped}%"):
        if rows := _rows(reader, "LOWER(name) LIKE :text ESCAPE '!'", text=pattern):
            return _likely(rows)
    return []


def _likely(rows: list[Row]) -> list[Row]:
    """Those that are probably meant, where there are such: no trials, and none whose first request was refused."""
    begun = [row for row in rows if row["is_begun"]] or rows
    return [row for row in begun if not row["is_trial"]] or begun


def _rows(reader: Reader, where: str, **of: str) -> list[Row]:
    # What is not UTF-8 in a path is in no name.
    known = {name: value.encode(errors="replace").decode() for name, value in of.items()}
    return reader.rows(
        f"""SELECT id, fingerprint, name, temperature, n_inputs, n_perspectives, draw, is_trial,
            status <> 'unfinished' OR EXISTS (
                SELECT 1 FROM agent_response r WHERE r.agent_dataset_id = agent_dataset.id AND r.status = 'answered'
            ) AS is_begun FROM agent_dataset WHERE {where} ORDER BY id DESC""",
        **known,
    )


def _ambiguous(ref: str, rows: Sequence[Row]) -> UnknownReference:
    could_be = [f"  {row['fingerprint']}  {row['name']}{_told(row)}" for row in rows[:_NAMED]]
    more = [f"  ... and {len(rows) - _NAMED:,} more"] if len(rows) > _NAMED else []
    return UnknownReference("single agent data set", ref, hint="\n".join(["It could be:", *could_be, *more]))


def _told(row: Row) -> str:
    """What tells a data set from others of its task."""
    if "n_inputs" not in row:
        return ""
    parts = [f"{row['n_inputs']} x {row['n_perspectives']}"]
    parts += [] if row["temperature"] is None else [f"temperature {row['temperature']:g}"]
    parts += [f"draw {row['draw']}"] if row["draw"] else []
    parts += ["trial"] if row["is_trial"] else []
    return f"  ({', '.join(parts)})"


def _unknown(reader: Reader, ref: str) -> UnknownReference:
    rows = reader.rows(
        "SELECT fingerprint, name, task_type FROM agent_dataset ORDER BY id DESC LIMIT :limit", limit=_KNOWN
    )
    if not rows:
        hint = "There are none yet; `synthtrack perspectives CONFIG` makes the first one."
        return UnknownReference("agent data set", ref, hint=hint)
    known = dict.fromkeys(str(row[key]) for key in ("name", "task_type", "fingerprint") for row in rows)
    hint = (
        "A name or a part of it, a fingerprint, a path or a run names one; `synthtrack perspectives list` shows them."
    )
    return UnknownReference("agent data set", Path(ref.strip()).name.removesuffix(_SUFFIX) or ref, known, hint=hint)
