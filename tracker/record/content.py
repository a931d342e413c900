"""The bytes of a shared experiment's directory: a function of its rows and of nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from tracker.errors import Corrupt
from tracker.fingerprint import Json, bytes_digest
from tracker.record.catalogue import Row
from tracker.record.checkpoints import WORDS, Checkpoints, ranges, standing
from tracker.record.findings import RESTORE

FINGERPRINT = ".fingerprint"
METADATA = "experiment_metadata.json"
CONFIG = "generation_config.yaml"

_BLANK = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


def experiment_files(
    experiment: Row,
    dataset: Row,
    splits: Sequence[Row],
    records: Iterable[Row],
    run: Row | None,
    *,
    checkpoints: Checkpoints | None = None,
    imported: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """Every file of the experiment's directory, by path below it.

    ``experiment`` is its row with ``original_batch`` (a name), ``splits`` are the rows of the source data set in order
    of id, ``records`` the records of the rephrased split in file order, with ``line``, ``status`` and ``rephrased`` of
    their sample, ``run`` the run that completed it, ``checkpoints`` those of strategy two_stage, ``imported`` all
    but our own three files of one that was not made here. Raises Corrupt where these contradict each other.
    """
    from tracker.yaml_text import to_yaml

    files = {
        FINGERPRINT: f"{experiment['fingerprint']}\n".encode(),
        METADATA: _json_bytes(metadata(experiment, dataset, splits, run, checkpoints)),
        CONFIG: to_yaml(json.loads(experiment["config"])).encode(),
    }
    if imported is not None:
        return {**imported, **files}
    for split in splits:
        copied = split["content"] is not None
        data = unpacked(split, split["filename"]) if copied else _rephrased(experiment, records)
        files[f"{experiment['dataset']}/{split['filename']}"] = data
    return files


def metadata(
    experiment: Row, dataset: Row, splits: Sequence[Row], run: Row | None, checkpoints: Checkpoints | None = None
) -> dict[str, Json]:
    """The complete metadata of an experiment. Money is US dollars, null where no price is known."""
    accepted, rejected = experiment["n_accepted"], experiment["n_rejected"]
    is_known = accepted + rejected > 0 and experiment["import_run_id"] is None
    settings = json.loads(experiment["settings"])
    return {
        **{key: experiment[key] for key in ("fingerprint", "digest", "scheme", "dataset", "name", "semantic_name")},
        **{key: experiment[key] for key in ("status", "purpose", "description", "original_batch")},
        **{key: experiment[key] for key in ("created_at", "completed_at", "data_digest")},
        "models": {"generation": experiment["model"], "validation": experiment["validation_model"]},
        "provider": experiment["provider"],
        "llm": experiment["provider"] != "offline",
        "settings": settings,
        "source": {
            **{key: dataset[key] for key in ("name", "task_name", "digest", "origin")},
            "field": experiment["field_to_rephrase"],
            "record_limit": experiment["record_limit"],
            "splits": {split["split"]: _source(split) for split in splits},
        },
        "counts": {
            "records": experiment["n_records"],
            "accepted": accepted,
            "rejected": rejected,
            "unclear": experiment["n_unclear"],
            "failed": experiment["n_failed"],
        },
        "acceptance_rate": accepted / (accepted + rejected) if is_known else None,
        "provenance": {
            "rephrased": accepted,
            "original_kept_rejected": rejected,
            "original_kept_failed": experiment["n_failed"],
            **({} if checkpoints is None else _deciders(checkpoints)),
        },
        "tokens": {"prompt": experiment["prompt_tokens"], "completion": experiment["completion_tokens"]},
        "cost_usd": experiment["cost_usd"],
        **({} if experiment["import_run_id"] is None else {"legacy_fingerprint": experiment["legacy_fingerprint"]}),
        "versions": json.loads(run["versions"]) if run else None,
        **({} if checkpoints is None else _people(settings, checkpoints)),
    }


def synthetic_data(records: Iterable[Row], field: str) -> bytes:
    """The synthetic file: each record's ``line``, with ``rephrased`` in place of ``field`` where it was accepted."""
    return "".join(f"{_line(record, field)}\n" for record in records).encode()


def replace_field(line: str, field: str, value: str) -> str:
    """``line``, a JSON object, with the value of its key ``field`` replaced and every other character as it was.

    Where the key is there twice the last one is meant, as ``json.loads`` has it. Raises KeyError where it is not there,
    ValueError where ``line`` is no JSON object.
    """
    start, end = _span(line, field)
    return f"{line[:start]}{json.dumps(value, ensure_ascii=False)}{line[end:]}"


def _span(line: str, field: str) -> tuple[int, int]:
    found: tuple[int, int] | None = None
    position = _after(line, "{", 0)
    while line[position : position + 1] != "}":
        key, position = _decode(line, position)
        start = _after(line, ":", position)
        _, end = _decode(line, start)
        if key == field:
            found = (start, end)
        position = _skip(line, end)
        if line[position : position + 1] != "}":
            position = _after(line, ",", position)
    if found is None:
        raise KeyError(field)
    return found


def _after(line: str, mark: str, position: int) -> int:
    position = _skip(line, position)
    if line[position : position + 1] != mark:
        raise ValueError(f"no JSON object: {mark!r} expected at character {position}")
    return _skip(line, position + 1)


def _skip(line: str, position: int) -> int:
    blank = _BLANK.match(line, position)
    assert blank is not None
    return blank.end()


def unpacked(row: Row, name: str) -> bytes:
    """The bytes of a file whose ``content`` is stored with their digest; ``name`` is for the error. Raises Corrupt."""
    import zlib

    try:
        data = zlib.decompress(row["content"])
    except zlib.error as error:
        raise Corrupt(f"The stored content of {name} is damaged: {error}.", hint=RESTORE) from error
    if bytes_digest([data]) != row["digest"]:
        raise Corrupt(f"The stored content of {name} is not what its digest says.", hint=RESTORE)
    return data


def _rephrased(experiment: Row, records: Iterable[Row]) -> bytes:
    data = synthetic_data(records, experiment["field_to_rephrase"])
    if experiment["data_digest"] is not None and bytes_digest([data]) != experiment["data_digest"]:
        raise Corrupt(
            f"The samples of {experiment['dataset']}/{experiment['name']} do not give the data that was recorded.",
            hint=RESTORE,
        )
    return data


def _line(record: Row, field: str) -> str:
    line: str = record["line"]
    return replace_field(line, field, record["rephrased"]) if record["status"] == "accepted" else line


def _source(split: Row) -> dict[str, Json]:
    keys = ("filename", "digest", "n_records", "n_bytes")
    return {**{key: split[key] for key in keys}, "rephrased": split["content"] is None}


def _deciders(checkpoints: Checkpoints) -> dict[str, int]:
    return {f"verdicts_by_{who}": checkpoints.decided_by.get(who, 0) for who in ("person", "judge")}


def _people(settings: Mapping[str, Json], checkpoints: Checkpoints) -> dict[str, Json]:
    test = checkpoints.test
    keys = ("model", "temperature", "accuracy", "n_tested", "n_correct", "required_accuracy", "created_at")
    return {
        "checkpoints": {name: of | _checkpoint(checkpoints, name) for name, of in ranges(settings).items()},
        "decisions": [
            {
                "sample": position + 1,
                "checkpoint": name,
                "verdict": standing(answers),
                "answers": [_answer(row) for row in answers],
            }
            for name in WORDS
            for position, answers in checkpoints.counting(name).items()
        ],
        "judge_test": test and {"experiment": f"{test['dataset']}/{test['name']}", **{key: test[key] for key in keys}},
    }


def _checkpoint(checkpoints: Checkpoints, name: str) -> dict[str, Json]:
    closed = checkpoints.closed.get(name)
    return {
        "closed_at": closed and closed["closed_at"],
        **checkpoints.figures(name),
        "cohen_kappa": checkpoints.kappa(name),
        "annotators": checkpoints.annotators(name),
        "examples": [position + 1 for position in checkpoints.examples(name)],
    }


def _answer(row: Row) -> dict[str, Json]:
    said = {key: row[key] for key in ("annotator", "verdict", "note", "decided_at")}
    return said | {"settles": bool(row["settles"]), "adopted": row["adopted_from_id"] is not None}


def _json_bytes(value: Json) -> bytes:
    return f"{json.dumps(value, indent=2, ensure_ascii=False)}\n".encode()
