"""What the older system's files say of an experiment: its settings, its purpose, its batch and when it was made.

The shape of its metadata is read generously, since it varied; where metadata and config say different things the config
goes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipeline.importing.files import Kept
from pipeline.importing.keys import without_keys
from pipeline.importing.tree import Found
from tracker import clock, configs
from tracker.configs import Document
from tracker.errors import ConfigError
from tracker.fingerprint import Json
from tracker.record.content import CONFIG, FINGERPRINT, METADATA

_SECTIONS = ("experiment", "dataset", "generation", "validation")
_INSIDE = (
    "config", "configuration", "full_config", "generation_config", "experiment_config", "parameters", "params",
    "settings",
)  # fmt: skip
_ALSO = {
    "generation": ("generation", "generation_config", "generation_params", "generation_parameters"),
    "validation": ("validation", "validation_config", "validation_params", "validation_parameters"),
    "experiment": ("experiment", "experiment_info"),
    "dataset": ("dataset", "dataset_info", "dataset_config"),
}
_FLAT = {
    "gen_": "generation",
    "val_": "validation",
}
_CREATED = ("created_at", "created", "creation_time", "created_time", "timestamp", "date")
_FINGERPRINTS = ("parameter_fingerprint", "fingerprint", "param_fingerprint")
_BATCHES = ("original_batch", "original_batch_id", "batch_id", "batch")
_TIMES = ("%Y%m%d_%H%M%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y%m%d", "%Y-%m-%d_%H-%M-%S", "%Y/%m/%d %H:%M:%S")
_DIGITS = re.compile(r"[0-9a-f]{12}\Z")
_LABELS = ("task_name", "training_method", "version")


@dataclass
class OldSettings:
    """What is known of an experiment's making; ``document`` is its config without keys, with each value's place."""

    document: Document
    validation_known: bool
    recorded: dict[str, str] = field(default_factory=dict)
    """Old fingerprints by the file that gives them."""
    purpose: str | None = None
    description: str = ""
    batch: str | None = None
    created_at: str | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    """What is wrong: where, and what."""
    secrets: list[str] = field(default_factory=list)
    """Where literal keys stand."""

    def section(self, name: str) -> Mapping[str, Json] | None:
        """A section of the config; None where it is not there."""
        found = self.document.data.get(name)
        return found if isinstance(found, dict) else None


def read(found: Found, files: Mapping[str, Kept]) -> OldSettings:
    """The settings of an experiment from what its directory holds."""
    problems: list[tuple[str, str]] = []
    secrets: list[str] = []
    document = _document(found, CONFIG, files, problems)
    metadata = _document(found, METADATA, files, problems)
    about: dict[str, Json] = metadata.data if metadata is not None else {}
    data, where = _merged(document, metadata, problems)
    for source, each in ((CONFIG, document), (METADATA, metadata)):
        if each is not None:
            secrets += [_placed(each, name, source) for name in without_keys(each.data)[1]]
    clean, _ = without_keys(data)
    settings = OldSettings(
        Document(clean, where.source if where else str(found.directory), where.places if where else {}),
        isinstance(clean.get("validation"), dict),
        problems=problems,
        secrets=secrets,
    )
    _say(settings, found, about, files)
    return settings


def moment(value: Json) -> str | None:
    """A time as the older system wrote it, as the record has it; one without a zone is taken as UTC."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value) if 10**13 <= value < 10**14 else value
        if not isinstance(value, str):
            return _of_epoch(value)
    if not isinstance(value, str):
        return None
    found = None
    try:
        found = datetime.fromisoformat(value.strip())
    except ValueError:
        for form in _TIMES:
            try:
                found = datetime.strptime(value.strip(), form)  # noqa: DTZ007  given a zone below
                break
            except ValueError:
                continue
    if found is None:
        return None
    try:
        return clock.to_text(found if found.tzinfo is not None else found.replace(tzinfo=UTC))
    except (OverflowError, ValueError):
        return None


def _of_epoch(value: float) -> str | None:
    try:
        return clock.to_text(datetime.fromtimestamp(value, UTC)) if value > 10**8 else None
    except (OverflowError, ValueError, OSError):
        return None


def _document(found: Found, name: str, files: Mapping[str, Kept], problems: list[tuple[str, str]]) -> Document | None:
    kept = files.get(name)
    if kept is None:
        return None
    where = str(found.directory / name)
    try:
        text = kept.content.decode("utf-8-sig")
        return configs.parse_json(text, where) if name == METADATA else configs.parse(text, where)
    except UnicodeDecodeError as error:
        line = kept.content[: error.start].count(b"\n") + 1
        problems.append((f"{where}:{line}", "not UTF-8; nothing in it was read"))
    except ConfigError as error:
        # One file is one thing wrong, however many places in it are.
        first, *more = error.problems
        others = f", and {len(more)} more" if more else ""
        problems.append((first.where, f"{_one_line(first.what)}{others}; nothing in it was read"))
    return None


def _one_line(text: str) -> str:
    return text.partition("\n")[0]


def _merged(
    document: Document | None, metadata: Document | None, problems: list[tuple[str, str]]
) -> tuple[dict[str, Json], Document | None]:
    """The config, filled up from the metadata; with where its values stand."""
    said = _sections(metadata.data) if metadata is not None else {}
    if document is None:
        return said, metadata
    data = {name: value for name, value in document.data.items() if name in (*_SECTIONS, *_LABELS)}
    for section, value in _sections(document.data).items():
        data.setdefault(section, value)
    for section in _SECTIONS:
        own, other = data.get(section), said.get(section)
        if isinstance(own, dict) and isinstance(other, dict):
            if section in {"generation", "validation"}:
                problems += [
                    (document.where((section, name)), f"{section}.{name} is {own[name]!r} here, not as in {METADATA}")
                    for name in own
                    if name in other and own[name] != other[name] and _is_short(name, own[name])
                ]
            # A judge or a model is described by one of the two files, not by both together.
            data[section] = own if section in {"generation", "validation"} else {**other, **own}
        elif other is not None and own is None and not (section == "validation" and "generation" in data):
            data[section] = other
    return data, document


def _is_short(name: str, value: Json) -> bool:
    return isinstance(value, (str, int, float)) and len(str(value)) < 100 and "key" not in name.lower()


def _sections(data: Mapping[str, Json]) -> dict[str, Json]:
    """The sections of a config within metadata, wherever they stand."""
    found: dict[str, Json] = {}
    for level in _levels(data):
        for section, names in _ALSO.items():
            for name in names:
                value = level.get(name)
                if section not in found and isinstance(value, dict) and not _is_whole(value):
                    found[section] = value
        for name in _LABELS:
            if isinstance(level.get(name), (str, int, float)):
                found.setdefault(name, level[name])
    if "generation" not in found:
        found |= _flat(data)
    return found


def _levels(data: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    yield data
    for name in _INSIDE:
        below = data.get(name)
        if isinstance(below, dict) and _is_whole(below):
            yield below


def _is_whole(value: Mapping[str, Json]) -> bool:
    """Whether an object holds sections of its own."""
    return any(isinstance(value.get(section), dict) for section in ("generation", "validation", "dataset"))


def _flat(data: Mapping[str, Json]) -> dict[str, Json]:
    """Settings that stand side by side under the names that went into the old fingerprint."""
    found: dict[str, Json] = {}
    for level in (data, *(each for name in _INSIDE if isinstance(each := data.get(name), dict))):
        for name, value in level.items():
            for prefix, section in _FLAT.items():
                if name.startswith(prefix) and not isinstance(value, (dict, list)):
                    found.setdefault(section, {}).setdefault(name.removeprefix(prefix), value)
    return found


def _say(settings: OldSettings, found: Found, about: Mapping[str, Json], files: Mapping[str, Kept]) -> None:
    experiment = settings.section("experiment") or {}
    inner = about.get("experiment")
    places = [experiment, about, inner if isinstance(inner, dict) else {}]
    settings.purpose = _text(_first(places, ("purpose", "experiment_purpose"))) or found.purpose
    settings.description = _text(_first(places, ("description", "experiment_description"))) or ""
    # A batch that made data and one that asked for it again are told apart by the metadata alone.
    settings.batch = _text(_first([about, *places], _BATCHES))
    settings.created_at = moment(_first([about, *places], _CREATED))
    if isinstance(about.get("scheme"), int) and isinstance(about.get("digest"), str):
        # Another workspace's own tree: its fingerprints are ours, and say nothing of the older ones.
        return
    for name in _FINGERPRINTS:
        value = about.get(name)
        if isinstance(value, str) and METADATA not in settings.recorded:
            settings.recorded[METADATA] = value.strip()
    kept = files.get(FINGERPRINT)
    if kept is not None:
        lines = kept.content.decode("utf-8", "replace").split()
        settings.recorded[FINGERPRINT] = lines[0] if lines else ""
    for name, value in list(settings.recorded.items()):
        if not _DIGITS.match(value):
            settings.problems.append((str(found.directory / name), "its fingerprint is not 12 hex digits"))
            del settings.recorded[name]


def _first(places: Sequence[Mapping[str, Json]], names: Sequence[str]) -> Json:
    values = (place.get(name) for name in names for place in places)
    return next(
        (value for value in values if isinstance(value, (str, int, float)) and value not in ("", True, False)), None
    )


def _text(value: Json) -> str | None:
    return str(without_keys(str(value))[0]).strip() if value is not None else None


def _placed(document: Document, name: str, source: str) -> str:
    parts = re.split(r"\.|(?=\[)", name)
    location = [int(part[1:-1]) if re.fullmatch(r"\[\d+\]", part) else part for part in parts]
    where = document.where(tuple(location))
    shown = name if len(name) <= 80 and name.isprintable() else "a value"
    return f"{source}{where[where.rindex(':') :] if re.search(r':[0-9]+$', where) else ''} ({shown})"
