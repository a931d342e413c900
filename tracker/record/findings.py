"""What is not as it was recorded: checks of rows against the identities, digests and answers that belong to them.

Functions of rows alone, which know no database and no disk; ``tracker.verifying.verify`` fetches what they look at.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracker.fingerprint import Json, bytes_digest, canonical_json, identified, identify
from tracker.record.agent_file import answers_digest
from tracker.record.catalogue import Row

EXPERIMENT, RUN, AGENTS = "experiment", "training run", "agent data set"
BENCHMARK, POOL = "benchmark", "task pool"
SOURCE, DATA, RESULTS, TREE = "source data", "training data", "results", "tree"
GENERATION, JUDGE_TEST, PUBLICATION, MLFLOW = "generation run", "judge test", "publication", "MLflow"
DATABASE, WORK, DELETION, IMPORTED, LEFTOVER = "database", "work", "deletion", "imported data", "leftover"
RESTORE = "The database was changed by hand or damaged: restore it from a backup."
"""What to do where rows are not what belongs to them."""

_MISSING = object()
_STATUSES = ("answered", "failed")
_OF_THE_IDENTITY = ("data_config.inputs", "reading", "draw")
"""What no config says."""
_KINDS = {
    EXPERIMENT: "shared_experiment",
    RUN: "training_run",
    AGENTS: "agent_dataset",
    BENCHMARK: "benchmark",
    POOL: "task_pool",
}
_NAMED = "{name} ({fingerprint})"
WHERE = {
    EXPERIMENT: "{dataset}/{name}", RUN: "{directory} ({fingerprint})", AGENTS: _NAMED, BENCHMARK: _NAMED, POOL: _NAMED,
}  # fmt: skip
"""How a row is named."""
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
    AGENTS: {
        **{name: name for name in ("task_type", "task_description", "add_references", "draw")},
        "provider": "api_provider", "model": "model_config.model_name",
        **{name: f"model_config.{name}" for name in ("endpoint", "temperature", "top_p", "max_tokens")},
    },
    BENCHMARK: {"name": "name", "source_digest": "source"},
    POOL: {
        "wanted_name": "name", "n_wanted": "n_total_tasks", "random_seed": "random_seed",
        "with_replacement": "sample_with_replacement",
    },
}  # fmt: skip
"""Columns that say what the identity says, under its name there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was recorded: what kind of thing, what is wrong, where, and what to do about it.

    ``fix`` is what `verify --fix` does about it, one of ``tracker.verifying.mend``'s; empty where a person has to
    decide. ``id`` is that of its row, where the fix needs one.
    """

    kind: str
    what: str
    where: str
    remedy: str
    fix: str = ""
    id: int | None = None


def identity_findings(kind: str, row: Row) -> Iterator[Finding]:
    """What does not follow from the identity that is stored with a row."""
    where = WHERE[kind].format_map(row)

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


def agent_findings(
    dataset: Row, perspectives: Sequence[Row], responses: Sequence[Row], inputs: Collection[str]
) -> Iterator[Finding]:
    """Where an agent data set's conditions, inputs, responses and counts are not those of its identity and rows.

    ``responses`` come in the order of inputs and perspectives, with ``is_input``: whether their record is the input at
    their position; ``inputs`` are the digests of its source's splits.
    """

    def finding(what: str) -> Finding:
        return Finding(AGENTS, what, WHERE[AGENTS].format_map(dataset), RESTORE)

    yield from map(finding, _unlike_identity(dataset, perspectives, inputs))
    astray = sum(not row["is_input"] for row in responses)
    if astray:
        yield finding(f"{astray:,} of its responses are not to its inputs")
    reading = {each["position"] for each in perspectives if each["reading"] is not None}
    wrong = sum(not _is_whole(row, reading) for row in responses)
    if wrong:
        yield finding(f"{wrong:,} of its responses are not what their status says")
    # While it is made or resumed nothing has been recorded of its responses yet.
    if dataset["data_digest"] is None:
        return
    derived = answers_digest(responses)
    if derived != dataset["data_digest"]:
        yield finding(f"data_digest {dataset['data_digest'][:12]} is recorded, its responses have {derived[:12]}")
    for what, recorded, found in _counts(dataset, perspectives, responses):
        if recorded != found:
            yield finding(f"{what} is {recorded:,}, its rows give {found:,}")


def _unlike_identity(dataset: Row, perspectives: Sequence[Row], inputs: Collection[str]) -> Iterator[str]:
    try:
        settings = json.loads(dataset["identity"])["identity"]
        wanted = [(each["condition"], each["reading"], each["strategy"]) for each in settings["agent_perspectives"]]
        digest = settings["data_config"]["inputs"]
    except (ValueError, TypeError, LookupError):
        return  # what is wrong with an identity has been said
    asked = [each for each in perspectives if not each["is_reference"]]
    if [(each["condition"], each["reading"], each["strategy"]) for each in asked] != wanted:
        yield "its conditions are not those of its identity"
    places = [(each["position"], bool(each["is_reference"])) for each in perspectives]
    if places != [(at, at == 0 and bool(dataset["add_references"])) for at in range(len(perspectives))]:
        yield "its conditions are not in their places"
    if digest not in inputs:
        yield "its inputs are not those of its identity"
    yield from _unlike_config(dataset, dict(_leaves(settings)))


def _unlike_config(dataset: Row, identity: Mapping[str, Json]) -> Iterator[str]:
    """Where a config and its settings, from which files are made and shown, do not say what the identity says."""
    try:
        config, settings = (dict(_leaves(json.loads(dataset[name]))) for name in ("config", "settings"))
    except (ValueError, TypeError):
        yield "its config or its settings cannot be read"
        return
    for name in dict.fromkeys((*identity, *settings, *config)):
        if name in _OF_THE_IDENTITY:
            continue
        own = identity.get(name, settings.get(name))
        # What was not given is no key of a config; of settings and identity everything is one.
        if config.get(name) != own:
            yield f"`{name}` of its config is not that of its {'identity' if name in identity else 'settings'}"
        if name in identity and settings.get(name) != own:
            yield f"`{name}` of its settings is not that of its identity"


def _leaves(settings: Json, prefix: str = "") -> Iterator[tuple[str, Json]]:
    """Everything in nested settings under its dotted name."""
    if not isinstance(settings, dict):
        raise TypeError
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _counts(dataset: Row, perspectives: Sequence[Row], responses: Sequence[Row]) -> Iterator[tuple[str, int, int]]:
    number = Counter((row["perspective"], row["status"]) for row in responses)
    asked = [each for each in perspectives if not each["is_reference"]]
    n_responses, n_failed = (sum(number[each["position"], status] for each in asked) for status in _STATUSES)
    yield "n_perspectives", dataset["n_perspectives"], len(asked)
    yield "n_responses", dataset["n_responses"], n_responses
    yield "n_failed", dataset["n_failed"], n_failed
    yield "n_inputs * n_perspectives", dataset["n_inputs"] * dataset["n_perspectives"], len(responses)
    for each in perspectives:
        here = (
            (dataset["n_inputs"], 0)
            if each["is_reference"]
            else (number[each["position"], status] for status in _STATUSES)
        )
        for name, found in zip(("n_responses", "n_failed"), here, strict=True):
            yield f"{name} of {each['condition']}", each[name], found


def _is_whole(row: Row, reading: Collection[int]) -> bool:
    if row["status"] != "answered":
        return row["status"] == "failed" and row["response"] is None
    return row["response"] is not None and (row["preparation"] is not None) == (row["perspective"] in reading)


def _setting(settings: Json, name: str) -> Any:
    for part in name.split("."):
        if not isinstance(settings, dict) or part not in settings:
            return _MISSING
        settings = settings[part]
    return settings
