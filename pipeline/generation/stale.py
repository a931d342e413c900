"""Which data, and which results, rest on settings that a config no longer has, and what new data would cost.

Nothing is asked of an LLM, and nothing is written.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from pipeline.generation.identity import recorded_settings
from pipeline.generation.job import Job, Options, prepare
from pipeline.generation.preview import Preview, preview
from pipeline.specs import GenerationSpec, ValidationSpec
from tracker import configs
from tracker.errors import ConfigError, Problem
from tracker.fingerprint import Json
from tracker.listings.compare import compare_settings, dotted
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row, portions, reading
from tracker.spec import key_of, marks
from tracker.tracing import lineage_rows

INPUT, PROMPT, FEW_SHOTS, MODEL, JUDGE, PROGRAM = "input", "prompt", "few_shots", "model", "judge", "program"
KINDS = (INPUT, PROMPT, FEW_SHOTS, MODEL, JUDGE, PROGRAM)
_PROMPTS = ("generation.rephrase_prompt", "generation.system_prompt")
_EXAMPLES = "generation.few_shot_examples"
_NO_SETTINGS = ("record_limit", "draw")
"""What tells trials and further draws apart: the config does not say it, the command does."""
_OTHERS = {
    "agent_perspectives": ("a perspectives config", "`synthtrack perspectives {} --dry-run` shows what it would ask."),
    "hyperparameters": ("a training config", "`synthtrack lineage` shows what a result rests on."),
    "benchmarks": ("a config of pools", "`synthtrack verify` says which pools are drawn from data that has changed."),
}
_BELONGS = """
    SELECT e.id, e.fingerprint, e.dataset || '/' || e.name AS reference, e.status, e.identity, e.record_limit, e.draw,
           e.n_records, e.cost_usd, e.created_at, e.import_run_id, e.settings FROM shared_experiment e
    WHERE e.id IN ({some}) ORDER BY e.id"""
_RUNS = """
    SELECT shared_experiment_id AS id, command, batch_id, config_path FROM generation_run
    WHERE outcome <> 'tested' AND {where} ORDER BY id"""


@dataclass(frozen=True)
class Change:
    """A setting that is not what it was; ``kind`` is one of ``KINDS``, None a value that is not set."""

    kind: str
    name: str
    then: Json
    now: Json


@dataclass(frozen=True)
class Made:
    """An experiment that belongs to a config: made from it, or (``config_path`` is another's) in its batch.

    ``overrides`` are the `--set` options of its runs. ``is_known`` is False where nobody knows its settings. Of
    what is imported (``is_imported``) no config is recorded: what differs least in its batch is taken for its own.
    """

    reference: str
    fingerprint: str
    status: str
    is_own: bool
    config_path: str | None
    overrides: tuple[str, ...]
    record_limit: int | None
    draw: int
    is_known: bool
    changes: tuple[Change, ...]
    trainings: tuple[Row, ...]
    n_trainings: int
    is_imported: bool = False

    @property
    def is_current(self) -> bool:
        """Whether the config still has the settings that the data was made with."""
        return self.is_known and not self.changes


class Again(NamedTuple):
    """How `generate` is to be called for new data: its `--set` options and its `--limit`."""

    overrides: tuple[str, ...] = ()
    record_limit: int | None = None


@dataclass(frozen=True)
class Staleness:
    """What belongs to a config, and what `generate` would do now in place of what is stale.

    A trial is renewed by the whole where that is stale, too: it asks the same of the same records.
    """

    config: str
    fingerprint: str
    batches: tuple[str, ...]
    made: tuple[Made, ...]
    renewals: Mapping[Again, Preview]


def staleness(workspace: Workspace, path: Path, *, n_trainings: int = 10) -> Staleness:
    """Compares a stage 1 config with what was made from it, and with the rest of its batch on the same data set.

    Of each experiment the newest ``n_trainings`` training runs are given (0: all). Raises ConfigError, also for another
    kind of config, DataError and UnknownReference.
    """
    check_kind(path)
    base = prepare(workspace, path, Options())
    jobs: dict[tuple[str, ...], Job] = {(): base}
    with reading(workspace) as reader:
        own = _runs_of(reader, workspace, path)
        batches = _batches(reader, base, own)
        rows = _rows(reader, base, own, batches)
        trained = lineage_rows.trainings_on(reader, [row["id"] for row in rows], n_trainings)
        makers = _makers(reader, [row["id"] for row in rows if row["id"] not in own])
    made = []
    for row in rows:
        runs = own.get(row["id"], [])
        candidates = _jobs(workspace, path, jobs, [overrides_of(each["command"]) for each in runs])
        overrides, changes = _nearest(row, candidates)
        trainings = tuple(each for each in trained.rows if each["of"] == row["id"])
        config_path = runs[-1]["config_path"] if runs else makers.get(row["id"])
        made.append(Made(
            row["reference"], row["fingerprint"], row["status"], bool(runs), config_path, overrides,
            row["record_limit"], row["draw"], changes is not None, changes or (), trainings,
            len(trainings) + trained.left_out.get(row["id"], 0), row["import_run_id"] is not None,
        ))  # fmt: skip
    made = _with_imported(made)
    renewals = {each: preview(workspace, _again(workspace, path, jobs, each)) for each in _to_renew(made)}
    names = tuple(batches.values())
    return Staleness(str(path), base.plan.identity.fingerprint, names, tuple(made), renewals)


def _with_imported(made: Sequence[Made]) -> list[Made]:
    """The same, with the imported ones that are most like the config for its own: no run says which config they had."""
    imported = [each for each in made if each.is_imported and each.is_known and each.config_path is None]
    least = min((len(each.changes) for each in imported), default=0)
    return [replace(each, is_own=True) if each in imported and len(each.changes) == least else each for each in made]


def _to_renew(made: Sequence[Made]) -> list[Again]:
    """What is to be made again, or, where nothing was made from the config, for the first time."""
    if not any(each.is_own for each in made):
        return [Again()]
    stale = {Again(each.overrides, each.record_limit) for each in made if each.is_own and not each.is_current}
    needed = [each for each in stale if each.record_limit is None or Again(each.overrides) not in stale]
    return sorted(needed, key=lambda each: (each.overrides, each.record_limit or 0))


def _again(workspace: Workspace, path: Path, jobs: Mapping[tuple[str, ...], Job], wanted: Again) -> Job:
    if wanted.record_limit is None:
        return jobs[wanted.overrides]
    return prepare(workspace, path, Options(overrides=wanted.overrides, record_limit=wanted.record_limit))


def check_kind(path: Path) -> None:
    """Raises ConfigError for a config that makes no synthetic data set."""
    given = configs.load(path).data
    for name, (what, hint) in _OTHERS.items():
        if name in given and "generation" not in given:
            raise ConfigError(
                "Only configs of `generate` are compared with the data that was made from them.",
                [Problem(str(path), f"this is {what}")],
                hint=hint.format(path),
            )


def overrides_of(command: str) -> tuple[str, ...]:
    """The `--set` options of a command line as it was recorded."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ()
    found = [after for word, after in pairwise(words) if word == "--set"]
    return (*found, *(word.removeprefix("--set=") for word in words if word.startswith("--set=")))


def changes(then: Mapping[str, Json], now: Mapping[str, Json]) -> tuple[Change, ...]:
    """The settings that differ between two identities of experiments, by kind; trials and draws are no difference."""
    settings = [
        {name: value for name, value in dotted(each) if name not in _NO_SETTINGS and value not in (None, "", [], {})}
        for each in (then, now)
    ]
    _, different = compare_settings(settings)
    found = [Change(_kind(name), name, *values) for name, values in different.items()]
    return tuple(sorted(found, key=lambda each: KINDS.index(each.kind)))


def _kind(name: str) -> str:
    group = name.partition(".")[0]
    if group == "generation":
        return PROMPT if name in _PROMPTS else FEW_SHOTS if name == _EXAMPLES else MODEL
    return {"dataset": INPUT, "validation": JUDGE}.get(group, PROGRAM)


def _nearest(row: Row, candidates: Mapping[tuple[str, ...], Job]) -> tuple[tuple[str, ...], tuple[Change, ...] | None]:
    """The overrides under which a config is most like an experiment, and what differs; None: nobody knows."""
    then = json.loads(row["identity"]).get("identity", {})
    if "generation" in then:
        found = {each: changes(then, job.plan.identity_parts) for each, job in candidates.items()}
    else:
        said = _said(json.loads(row["settings"])) if row["import_run_id"] is not None else {}
        if not said or () not in candidates:
            return (), None
        now = recorded_settings(candidates[()].plan.config)
        found = {(): changes(said, {name: now.get(name) for name in said})}
    best = min(found, key=lambda each: len(found[each]))
    return best, found[best]


def _said(settings: Mapping[str, Json]) -> dict[str, Json]:
    """Of the settings that an older config says, those that shape data."""
    shaping = {
        f"{section}.{key_of(name, field)}"
        for section, spec in (("generation", GenerationSpec), ("validation", ValidationSpec))
        for name, field in spec.model_fields.items()
        if not marks(field).get("operational")
    }
    return {name: value for name, value in settings.items() if name in shaping}


def _jobs(
    workspace: Workspace, path: Path, jobs: dict[tuple[str, ...], Job], wanted: Sequence[tuple[str, ...]]
) -> dict[tuple[str, ...], Job]:
    """The config under each of several sets of overrides; ``jobs`` are those that are known already."""
    for overrides in dict.fromkeys(wanted):
        if overrides not in jobs:
            try:
                jobs[overrides] = prepare(workspace, path, Options(overrides=overrides))
            except ConfigError:
                continue  # what was overridden then is no setting of the config any more
    return {each: jobs[each] for each in dict.fromkeys(wanted) if each in jobs} or {(): jobs[()]}


def _runs_of(reader: Reader, workspace: Workspace, path: Path) -> dict[int, list[Row]]:
    """The generation runs that read this config, by experiment, oldest first."""
    here = os.path.realpath(workspace.root / path)
    paths = reader.rows("SELECT DISTINCT config_path FROM generation_run WHERE config_path IS NOT NULL")
    names = [row["config_path"] for row in paths if os.path.realpath(workspace.root / row["config_path"]) == here]
    found: dict[int, list[Row]] = {}
    for name in names:
        for row in reader.rows(_RUNS.format(where="config_path = :path"), path=name):
            found.setdefault(row["id"], []).append(row)
    return found


def _batches(reader: Reader, base: Job, own: Mapping[int, Sequence[Row]]) -> dict[int, str]:
    """The batch that the config names, else those that its runs were made for."""
    if base.plan.config.experiment.batch_id is not None:
        rows = reader.rows("SELECT id, name FROM batch WHERE name = :name AND deleted_at IS NULL", name=base.batch)
    else:
        ids = sorted({row["batch_id"] for rows in own.values() for row in rows})
        rows = [row for row in lineage_rows.batches_by_id(reader, ids) if row["deleted_at"] is None]
    return {row["id"]: row["name"] for row in rows}


def _rows(reader: Reader, base: Job, own: Mapping[int, object], batches: Mapping[int, str]) -> list[Row]:
    ids = set(own)
    for batch in batches:
        rows = reader.rows(
            """SELECT e.id FROM batch_membership m CROSS JOIN shared_experiment e
               WHERE m.batch_id = :batch AND e.id = m.shared_experiment_id AND e.dataset = :dataset""",
            batch=batch,
            dataset=base.plan.source.name,
        )
        ids |= {row["id"] for row in rows}
    return [row for some in portions(sorted(ids)) for row in reader.rows(_BELONGS.format(some=some))]


def _makers(reader: Reader, ids: Sequence[int]) -> dict[int, str | None]:
    """The config that the newest run of each experiment read."""
    return {
        row["id"]: row["config_path"]
        for some in portions(ids)
        for row in reader.rows(_RUNS.format(where=f"shared_experiment_id IN ({some})"))
    }


def by_kind(found: Sequence[Change]) -> Iterator[tuple[str, list[Change]]]:
    """The changes of each kind that has some."""
    for kind in KINDS:
        if some := [each for each in found if each.kind == kind]:
            yield kind, some
