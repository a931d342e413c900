"""Imports finished data of which only the files are there: an experiment of unknown settings."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.generation.execution import register
from pipeline.importing.experiments import file_row, of_files, samples_of, unknown_columns
from pipeline.importing.files import DATA_BYTES, SPLITS, Kept, open_file
from pipeline.importing.originals import splits_alone
from pipeline.importing.records import Matched, Records, match, read_records
from pipeline.importing.report import Report
from pipeline.importing.run import batch_for
from pipeline.importing.tree import EXPERIMENT, RECORDS, printable
from pipeline.sources.records import Source, read_source
from pipeline.specs import DatasetSpec
from tracker import clock
from tracker.errors import ConfigError, DataError, Problem
from tracker.paths import Workspace, name_problem
from tracker.record.catalogue import reading
from tracker.record.columns import to_json
from tracker.record.imported import TAKEN
from tracker.views import synthetic_view

_SPLIT = re.compile(r"(train|validation|test)=(.+)", re.DOTALL)
_SHOWN = 20
_HINT = "Name them as copa_train.jsonl and copa_validation.jsonl, or say which is which: train=FILE validation=FILE."


@dataclass(frozen=True)
class About:
    """What is said of data whose making is not known."""

    dataset: str
    purpose: str
    name: str | None = None
    batch: str | None = None
    model: str | None = None
    temperature: float | None = None
    description: str = ""


def import_dataset(
    workspace: Workspace, given: Sequence[str], about: About, *, original: Path | None, command: str
) -> tuple[Report, int]:
    """Makes an experiment of finished files; gives the report and the experiment's id.

    ``given`` are files whose names say the split, or ``split=FILE``; ``original`` is the train file that they were made
    of. Raises DataError for files that cannot be used, ConfigError for names that cannot be.
    """
    data = _read(workspace, given)
    _check_names(about, data)
    records = _usable(data["train"])
    report = Report()
    identity = of_files(about.dataset, data)
    source, matched = _source(about, data, original, report)
    source = source or splits_alone(about.dataset, _task_name(data["train"], about), data)
    now = clock.to_text(clock.now())
    n_changed = 0 if matched is None else sum(made != text for text, made in matched.pairs)
    columns = {
        **_columns(about, matched, n_changed), "created_at": now, "completed_at": now,
        "data_digest": data["train"].digest, "n_records": records.n_lines,
    }  # fmt: skip
    from tracker.record import imports
    from tracker.record.database import open_database

    with open_database(workspace) as database:
        run_id = imports.begin(database, "dataset", ", ".join(printable(each) for each in given), command)
        batch = imports.WantedBatch(about.batch or batch_for(about.purpose), about.purpose, now)
        wanted = imports.WantedImport(
            identity, about.dataset, about.name or f"imported_{identity.fingerprint}",
            register(database, source), [batch], columns, [] if matched is None else samples_of(matched),
            [file_row(each) for each in data.values()], run_id,
        )  # fmt: skip
        done = imports.put(database, wanted)
        reference = f"{about.dataset}/{done.name} ({done.fingerprint})"
        if done.outcome == TAKEN:
            said = f"{records.n_lines:,} records"
            said += "" if matched is None else f", {n_changed:,} of them with another {matched.field} than the original"
            report.taken(EXPERIMENT, reference, said)
        else:
            joined = f"; new in {', '.join(done.joined)}" if done.joined else ""
            report.known(EXPERIMENT, reference, f"the same data is in the record{joined}")
        counts = {outcome: report.count(outcome) for outcome in ("taken", "skipped", "wrong")}
        imports.finish(database, run_id, **counts, report=report.to_json()["items"])
    with reading(workspace) as reader:
        synthetic_view.refresh(workspace, reader, [done.experiment_id])
    return report, done.experiment_id


def _usable(train: Kept) -> Records:
    records = read_records(train)
    if records.problems:
        problems = [Problem(f"{train.name}:{each.partition(': ')[0]}", each.partition(": ")[2])
                    for each in records.problems[:_SHOWN]]  # fmt: skip
        raise DataError("The data cannot be imported.", problems)
    if not records.n_lines:
        raise DataError("The data cannot be imported.", [Problem(train.name, "no records in it")])
    return records


def _columns(about: About, matched: Matched | None, n_changed: int) -> dict[str, Any]:
    """The columns of the experiment that say how it was made, as far as that is known."""
    known = {name: value for name in ("model", "temperature") if (value := getattr(about, name)) is not None}
    columns = {
        **unknown_columns(), **known, "status": "complete", "purpose": about.purpose, "description": about.description,
        "n_accepted": n_changed, "n_rejected": 0 if matched is None else len(matched.pairs) - n_changed,
        "settings": to_json({f"generation.{name}": value for name, value in known.items()}),
        "config": to_json({"generation": known} if known else {}),
    }  # fmt: skip
    return columns if matched is None else columns | {"field_to_rephrase": matched.field}


def _read(workspace: Workspace, given: Sequence[str]) -> dict[str, Kept]:
    problems: list[Problem] = []
    data: dict[str, Kept] = {}
    for each in given:
        said = _SPLIT.fullmatch(each)
        path = workspace.find(said[2] if said else each)
        named = RECORDS.match(path.name)
        split = said[1] if said else SPLITS[named["split"].lower()] if named else "train" if len(given) == 1 else None
        if split is None or split in data:
            what = "its name does not say which split it is" if split is None else f"a second {split} split"
            problems.append(Problem(str(path), what))
            continue
        try:
            data[split] = Kept(path.name, open_file(Path(os.path.realpath(path)), DATA_BYTES), split)
        except OSError as error:
            problems.append(Problem(str(path), error.strerror or str(error)))
    if "train" not in data and not problems:
        problems.append(Problem(", ".join(given), "no train split"))
    names = [each.name for each in data.values()]
    if len(set(names)) < len(names):
        problems.append(Problem(", ".join(names), "two splits have the same file name"))
    if problems:
        raise DataError("The files cannot be imported.", problems, hint=_HINT)
    return {split: data[split] for split in ("train", "validation", "test") if split in data}


def _check_names(about: About, data: dict[str, Kept]) -> None:
    named = {"--dataset": about.dataset, "--purpose": about.purpose, "--name": about.name, "--batch": about.batch}
    problems = [Problem(option, what) for option, name in named.items() if name and (what := name_problem(name))]
    problems += [Problem(each.name, what) for each in data.values() if (what := name_problem(each.name))]
    if problems:
        raise ConfigError("A name cannot be used.", problems)


def _source(
    about: About, data: dict[str, Kept], original: Path | None, report: Report
) -> tuple[Source | None, Matched | None]:
    """The original, and the records beside what was made of them. Raises DataError where it cannot be read."""
    if original is None:
        return None, None
    try:
        originals = read_records(Kept(original.name, open_file(Path(os.path.realpath(original)), DATA_BYTES)))
    except OSError as error:
        raise DataError(
            "The original cannot be read.", [Problem(str(original), error.strerror or str(error))]
        ) from error
    found = match(originals.values, read_records(data["train"]).values, None)
    if isinstance(found, str):
        report.wrong("original", str(original), f"the data does not match it: {found}; imported without samples")
        return None, None
    return read_source(DatasetSpec(input_path=str(original), dataset_name=about.dataset), found.field, Path), found


def _task_name(train: Kept, about: About) -> str:
    named = RECORDS.match(train.name)
    return (named["stem"] if named and named["stem"] else about.dataset).lower()
