"""What is not as it was recorded: checks of rows against the identities, digests and answers that belong to them.

Functions of rows alone, which know no database and no disk; ``tracker.verify`` fetches what they look at.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracker.catalogue import Row
from tracker.fingerprint import Json, bytes_digest, canonical_json, identified, identify

EXPERIMENT, RUN = "experiment", "training run"
SOURCE, DATA, RESULTS, TREE = "source data", "training data", "results", "tree"
RESTORE = "The database was changed by hand or damaged: restore it from a backup."

_MISSING = object()
_KINDS = {EXPERIMENT: "shared_experiment", RUN: "training_run"}
REPEATED: Mapping[str, Mapping[str, str]] = {
    EXPERIMENT: {
        "dataset": "dataset.name", "record_limit": "record_limit", "draw": "draw",
        **{name: f"generation.{name}" for name in (
            "provider", "endpoint", "model", "temperature", "top_p", "max_tokens", "strategy", "field_to_rephrase",
        )},
        "validation_model": "validation.model", "validation_temperature": "validation.temperature",
    },
    RUN: {
        **{name: name for name in ("task", "method", "precision")},
        **{name: f"hyperparameters.{name}" for name in (
            "learning_rate", "batch_size", "steps", "seed", "zo_eps", "lora_rank",
        )},
    },
}  # fmt: skip
"""Columns that say what the identity says, under its name there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was recorded: what kind of thing, what is wrong, where, and what to do about it."""

    kind: str
    what: str
    where: str
    remedy: str


def identity_findings(kind: str, row: Row) -> Iterator[Finding]:
    """What does not follow from the identity that is stored with an experiment or a training run."""
    where = f"{row['dataset']}/{row['name']}" if kind == EXPERIMENT else f"{row['directory']} ({row['fingerprint']})"

    def finding(what: str) -> Finding:
        return Finding(kind, what, where, RESTORE)

    found = identified(_KINDS[kind], row["identity"])
    for name in ("fingerprint", "digest"):
        derived = getattr(found, name)
        if derived != row[name]:
            yield finding(f"{name} {row[name][:12]} is recorded, its identity has {derived[:12]}")
    try:
        parts = json.loads(row["identity"])
        if canonical_json(parts) != row["identity"]:
            yield finding("its identity is not in canonical form")
        own = (parts["kind"], parts["scheme"])
        settings = parts["identity"]
    except (ValueError, TypeError, LookupError):
        yield finding("its identity cannot be read")
        return
    if own != (_KINDS[kind], row["scheme"]):
        yield finding(f"its identity is of {own[0]}, scheme {own[1]}")
    for column, name in REPEATED[kind].items():
        stored = _setting(settings, name)
        if stored is not _MISSING and stored != row[column]:
            yield finding(f"{column} is {row[column]!r}, in its identity {stored!r}")


def data_findings(run: Row, data: Sequence[Row]) -> Iterator[Finding]:
    """Where the data sets of a run are not those of its identity, or of the experiments that they name."""
    where = f"{run['directory']} ({run['fingerprint']})"
    try:
        settings = json.loads(run["identity"])["identity"]
        wanted = [(each["fingerprint"], each["train"]) for each in settings["data"]]
        evaluation = settings["evaluation"]
    except (ValueError, TypeError, LookupError):
        return  # what is wrong with an identity has been said
    if [(row["fingerprint"], row["train_digest"]) for row in data] != wanted:
        yield Finding(DATA, "its data sets are not those of its identity", where, RESTORE)
    elif data[0]["eval_digest"] != evaluation:
        yield Finding(DATA, "its validation records are not those of its identity", where, RESTORE)
    for row in data:
        own = (row["made_fingerprint"], row["data_digest"])
        if row["shared_experiment_id"] is not None and own != (row["fingerprint"], row["train_digest"]):
            what = f"it was trained on other data than {row['reference']} is recorded with"
            yield Finding(DATA, what, where, RESTORE)


def answer_findings(run: Row, answers: Row | None) -> Iterator[Finding]:
    """Where a run's accuracy is not what its answers give; ``answers`` counts them, None where there are none."""
    n, n_correct, n_wrong = (0, 0, 0) if answers is None else (answers[name] for name in ("n", "n_correct", "n_wrong"))
    recorded = (run["n_eval"], run["n_correct"], run["accuracy"])
    where = f"{run['directory']} ({run['fingerprint']})"
    if n_wrong:
        what = f"of its {n} answers {n_wrong} have a wrong mark (correct is not whether label is predicted)"
        yield Finding(RUN, what, where, RESTORE)
    elif recorded != (n, n_correct, n_correct / n if n else None):
        what = f"accuracy {run['accuracy']} of {run['n_eval']} is recorded, its answers give {n_correct} of {n}"
        yield Finding(RUN, what, where, RESTORE)


def source_findings(source: Row, splits: Sequence[Row], lines: Mapping[int, Iterable[str]]) -> Iterator[Finding]:
    """Where a source data set is not what its digests say; ``lines`` are the records of splits that are rephrased."""

    def finding(what: str) -> Finding:
        return Finding(SOURCE, what, source["name"], RESTORE)

    for split in splits:
        try:
            chunks = (
                [zlib.decompress(split["content"])]
                if split["content"] is not None
                else (f"{line}\n".encode() for line in lines[split["id"]])
            )
            found = bytes_digest(chunks)
        except zlib.error as error:
            yield finding(f"{split['filename']}: its content is damaged ({error})")
            continue
        if found != split["digest"]:
            yield finding(
                f"{split['filename']}: SHA-256 {split['digest'][:12]} is recorded, its records have {found[:12]}"
            )
    own = {split["split"]: [split["filename"], split["digest"]] for split in splits}
    parts = {"name": source["name"], "task_name": source["task_name"], "splits": own}
    derived = identify("source_dataset", parts).digest
    if derived != source["digest"]:
        yield finding(f"digest {source['digest'][:12]} is recorded, its splits give {derived[:12]}")


def _setting(settings: Json, name: str) -> Any:
    for part in name.split("."):
        if not isinstance(settings, dict) or part not in settings:
            return _MISSING
        settings = settings[part]
    return settings
