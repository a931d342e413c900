"""One experiment of the older system as rows of the record: what it is, what it was made of, what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.generation.identity import recorded_config, recorded_settings
from pipeline.generation.plan import Plan
from pipeline.importing.files import DATA_BYTES, SETTINGS, Directory, Kept, open_file
from pipeline.importing.keys import lines_with_keys
from pipeline.importing.originals import Originals, splits_alone
from pipeline.importing.records import Matched, Records, match, read_records
from pipeline.importing.settings import OldSettings
from pipeline.importing.tree import Found
from pipeline.sources.records import Source
from pipeline.specs import GenerationSpec, ValidationSpec
from tracker import clock
from tracker.fingerprint import Identity, Json, identify
from tracker.spec import key_of, marks

UNKNOWN = "unknown"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Prepared:
    """An experiment that is ready to be put into the record; ``why`` says why it has no identity of its settings."""

    found: Found
    identity: Identity
    dataset: str
    source: Source
    columns: Row
    samples: Sequence[Row]
    files: Sequence[Row]
    created_at: str
    purpose: str
    train: Kept
    evaluation: Kept | None
    known: Mapping[str, Json]
    why: str | None
    problems: Sequence[str] = ()


def prepare(
    originals: Originals, found: Found, directory: Directory, settings: OldSettings, *, apart: str | None = None
) -> Prepared:
    """The experiment of a directory that has data. Its identity is that of `generate` where all of it is known.

    ``apart`` says why it cannot have that identity: another experiment has it, with other data.
    """
    train = directory.data["train"]
    records = read_records(train)
    planned = originals.plan(settings, found)
    plan, matched, why = (None, None, planned) if isinstance(planned, str) else _fitted(planned, directory, records)
    known = known_settings(settings)
    if apart is not None:
        plan, why = None, apart
    if plan is not None:
        source, identity = plan.source, plan.identity
    else:
        identity = of_files(found.dataset, directory.data, known)
        why = f"known by its files {'and the settings that are said' if known else 'alone'}: {why}"
        if isinstance(planned, Plan) and matched is not None:
            source = planned.source
        else:
            source, matched = _guessed(originals, found, directory, settings, records)
    created_at = settings.created_at or _file_time(found.directory / train.path)
    purpose = settings.purpose or "uncategorized"
    problems = [f"{train.path}:{problem}" for problem in records.problems[:5]]
    columns = {
        **(_known_columns(plan) if plan is not None else _columns(settings, matched)),
        **_counts(records, matched),
        "status": "complete", "purpose": purpose, "description": settings.description, "created_at": created_at,
        "completed_at": created_at, "data_digest": train.digest,
    }  # fmt: skip
    return Prepared(
        found, identity, source.name if plan is not None else found.dataset, source, columns,
        [] if matched is None else samples_of(matched), [*_rows(directory)], created_at, purpose, train,
        directory.data.get("validation"), known, why, problems,
    )  # fmt: skip


def of_files(dataset: str, data: Mapping[str, Kept], known: Mapping[str, Json] | None = None) -> Identity:
    """The identity of data of which not all settings are known: its data set's name, the names and bytes of its files.

    The settings that are ``known`` belong to it: where two of them gave the same data, it is two experiments.
    """
    files: dict[str, Json] = {split: [kept.name, kept.digest] for split, kept in sorted(data.items())}
    said = {"settings": known} if known else {}
    return identify("shared_experiment", {"imported": {"dataset": dataset, "files": files, **said}})


def known_settings(settings: OldSettings) -> dict[str, Json]:
    """What is said of the settings that shape the data, by dotted name."""
    found: dict[str, Json] = {}
    for section, spec in (("generation", GenerationSpec), ("validation", ValidationSpec)):
        said = settings.section(section) or {}
        operational = {key_of(name, each) for name, each in spec.model_fields.items() if marks(each)["operational"]}
        found |= _leaves({name: value for name, value in said.items() if name not in operational}, f"{section}.")
    # NaN and the infinities, which such a file can hold, have no JSON form: as text they have.
    return dict(json.loads(_json(found), parse_constant=str))


def samples_of(matched: Matched) -> list[Row]:
    """Rows of sample: accepted where the text is another, rejected where the original was kept."""
    return [
        {
            "position": position, "status": "accepted" if made != original else "rejected", "original": original,
            "rephrased": made if made != original else None,
        }
        for position, (original, made) in enumerate(matched.pairs)
    ]  # fmt: skip


def file_row(kept: Kept) -> Row:
    """A row of imported_file, with its content as it was found."""
    n_records = None if kept.split is None else read_records(kept).n_lines
    return {
        "path": kept.path, "split": kept.split, "digest": kept.digest, "n_bytes": len(kept.content),
        "n_records": n_records, "content": kept.content,
    }  # fmt: skip


def unknown_columns() -> dict[str, Any]:
    """The columns of an experiment of which nothing is known."""
    return {
        **dict.fromkeys(("provider", "endpoint", "model", "strategy", "field_to_rephrase"), UNKNOWN),
        **dict.fromkeys(("temperature", "top_p", "max_tokens", "validation_model", "validation_temperature")),
        "settings": "{}", "config": "{}", "record_limit": None, "draw": 0,
    }  # fmt: skip


def _fitted(plan: Plan, directory: Directory, records: Records) -> tuple[Plan | None, Matched | None, str | None]:
    """The plan that the data is the outcome of, and the matched records; else why it is of no such plan."""
    if records.problems:
        return None, None, "not every line of its data is a record"
    found = match(plan.source.records, records.values, plan.field)
    if isinstance(found, str):
        return None, None, f"its data does not match its original: {found}"
    for split in plan.source.splits[1:]:
        kept = directory.data.get(split.name)
        if kept is not None and kept.digest != split.digest and not _same_records(kept, split.content):
            return None, found, f"its {split.name} split is not that of its original"
    n_records = len(found.pairs)
    return replace(plan, record_limit=n_records if n_records < len(plan.source.lines) else None), found, None


def _same_records(kept: Kept, content: bytes | None) -> bool:
    import zlib

    if content is None:
        return False
    return read_records(kept).values == read_records(Kept(kept.path, zlib.decompress(content))).values


def _guessed(
    originals: Originals, found: Found, directory: Directory, settings: OldSettings, records: Records
) -> tuple[Source, Matched | None]:
    """The source of data whose settings do not say it: the data set of that name, if the records match up."""
    task_name = str((settings.section("dataset") or {}).get("task_name") or found.dataset.lower())
    alone = splits_alone(found.dataset, task_name, dict(directory.data))
    path = originals.by_name(found)
    if path is None or records.problems:
        return alone, None
    try:
        original = read_records(Kept(path.name, open_file(path, DATA_BYTES)))
    except OSError:
        return alone, None
    found_match = match(original.values, records.values, None)
    if isinstance(found_match, str):
        return alone, None
    source = originals.guess(found, found_match.field)
    return (alone, None) if isinstance(source, str) else (source, found_match)


def _known_columns(plan: Plan) -> dict[str, Any]:
    generation, judge = plan.config.generation, plan.config.validation
    names = ("provider", "endpoint", "model", "temperature", "top_p", "max_tokens", "strategy", "field_to_rephrase")
    return {
        **{name: getattr(generation, name) for name in names},
        "record_limit": plan.record_limit, "draw": plan.draw,
        "validation_model": judge and judge.model, "validation_temperature": judge and judge.temperature,
        "settings": _json(recorded_settings(plan.config)), "config": _json(recorded_config(plan.config)),
    }  # fmt: skip


def _columns(settings: OldSettings, matched: Matched | None) -> dict[str, Any]:
    generation, judge = settings.section("generation") or {}, settings.section("validation") or {}
    known = unknown_columns()
    for name in ("provider", "endpoint", "model", "strategy", "field_to_rephrase"):
        known[name] = _word(generation.get(name)) or UNKNOWN
    for name in ("temperature", "top_p"):
        known[name] = _number(generation.get(name))
    limit = _number(generation.get("max_tokens"))
    known["max_tokens"] = int(limit) if limit is not None and 0 < limit < 2**31 else None
    known["validation_model"] = _word(judge.get("model"))
    known["validation_temperature"] = _number(judge.get("temperature"))
    if matched is not None:
        known["field_to_rephrase"] = matched.field
    known["settings"] = _json(dict(_leaves(settings.document.data)))
    known["config"] = _json(settings.document.data)
    return known


def _counts(records: Records, matched: Matched | None) -> dict[str, int]:
    accepted = 0 if matched is None else sum(made != original for original, made in matched.pairs)
    rejected = 0 if matched is None else len(matched.pairs) - accepted
    return {"n_records": records.n_lines, "n_accepted": accepted, "n_rejected": rejected}


def _rows(directory: Directory) -> list[Row]:
    kept = [*directory.data.values(), *directory.extras]
    # A config or metadata with a literal key is in the record as it was read, without the key, and not as a file.
    kept += [each for each in directory.settings.values() if not holds_key(each)]
    return [file_row(each) for each in kept]


def holds_key(kept: Kept) -> bool:
    """Whether one of the older system's own files holds a literal key."""
    from pipeline.importing.keys import without_keys
    from tracker import configs
    from tracker.errors import ConfigError

    text = kept.content.decode("utf-8", "replace")
    if lines_with_keys(text):
        return True
    form = configs.parse_json if kept.path == SETTINGS[1] else configs.parse
    try:
        return kept.path != SETTINGS[0] and bool(without_keys(form(text, kept.path).data)[1])
    except ConfigError:
        return False


def _leaves(value: Mapping[str, Json], prefix: str = "") -> list[tuple[str, Json]]:
    found: list[tuple[str, Json]] = []
    for name, item in value.items():
        found += _leaves(item, f"{prefix}{name}.") if isinstance(item, dict) else [(f"{prefix}{name}", item)]
    return found


def _word(value: Json) -> str | None:
    return str(value) if isinstance(value, (str, int, float)) and str(value).strip() else None


def _number(value: Json) -> float | None:
    try:
        found = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        return None
    return found if found is not None and abs(found) < 1e12 else None


def _file_time(path: Path) -> str:
    try:
        return clock.to_text(datetime.fromtimestamp(path.lstat().st_mtime, UTC))
    except (OSError, ValueError, OverflowError):
        return clock.to_text(clock.now())


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)
