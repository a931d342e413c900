"""`pool preprocess`: every benchmark read in full, scored, and put into the record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.generation.job import has_record
from pipeline.pools.difficulty import SCORERS, Difficulty, Scorer, scaled
from pipeline.pools.sources import Full, read_full
from pipeline.pools.specs import HUB, BenchmarksConfig, BenchmarkSpec
from tracker.errors import ConfigError, DataError, Error, Problem, UnknownReference
from tracker.fingerprint import Identity, Json, canonical_json, content_key, identify
from tracker.paths import Workspace
from tracker.record import pools
from tracker.record.catalogue import Row, reading
from tracker.record.columns import to_json
from tracker.record.database import Database, open_database
from tracker.spec import public

SCORING = 1
"""Part of the identity: to be raised when the same tasks would get other scores."""
_CURRENT = "SELECT * FROM benchmark WHERE is_current AND name = :name"
_TASKS = "SELECT part, raw_data FROM benchmark_task WHERE benchmark_id = :id ORDER BY position"


@dataclass(frozen=True)
class Preprocessed:
    """What became of one benchmark: scored, cached or failed; ``reason`` is why it was scored, or what is wrong."""

    name: str
    status: str
    reason: str
    n_tasks: int = 0
    fingerprint: str = ""
    id: int | None = None
    error: Error | None = None


def preprocess(
    workspace: Workspace,
    config: BenchmarksConfig,
    *,
    names: Sequence[str] | None = None,
    force: bool = False,
    scorers: Mapping[str, Scorer] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Preprocessed]:
    """Brings the enabled benchmarks (or ``names``) of ``config`` into the record; ``tell`` gets the name of each.

    Data of the hub that is there is taken as it is unless ``force``; local files are compared by content each time. One
    that fails does not stop the others. Raises UnknownReference and ConfigError for ``names`` that are not there or
    disabled, ConfigError where a benchmark has no scorer.
    """
    known = {**SCORERS, **(scorers or {})}
    wanted = _wanted(config, names)
    without = [name for name in wanted if name not in known]
    if without:
        raise ConfigError(
            "A benchmark has no scorer.",
            [Problem(name, f"known here: {', '.join(known)}") for name in without],
            hint="Give a file with one function of that name: --scorers FILE (docs/pools.md shows one).",
        )
    found = []
    with open_database(workspace) as database:
        for name in wanted:
            tell(name)
            try:
                found.append(_one(workspace, database, name, config.benchmarks[name], known[name], force=force))
            except (DataError, ConfigError) as error:
                found.append(Preprocessed(name, "failed", error.message, error=error))
    return found


def current(workspace: Workspace, name: str) -> Row | None:
    """The row of the benchmark that pools are drawn from now, or None."""
    if not has_record(workspace):
        return None
    with reading(workspace) as reader:
        rows = reader.rows(_CURRENT, name=name)
    return rows[0] if rows else None


def changed_since(workspace: Workspace, benchmark: Row) -> str | None:
    """What is not as it was when a benchmark (its row) was preprocessed, or None; local files are read for it."""
    name, spec = benchmark["name"], BenchmarkSpec.model_validate(json.loads(benchmark["config"]))
    scorer = str(_scorer_of(benchmark))
    if scorer.startswith(f"{name} ") and scorer != _known_scorer(name):
        return "its scorer changed"
    if spec.path.startswith(HUB):
        return None
    try:
        found = read_full(name, spec, workspace.find)
    except (DataError, ConfigError):
        return "its source cannot be read any more"
    return "its source changed" if found.digest != benchmark["source_digest"] else None


def rescore(benchmark: Row, tasks: Sequence[Row]) -> Difficulty | None:
    """What a benchmark's scorer gives for its tasks (rows of both); None where it is not one that ships.

    Raises DataError where a task cannot be scored.
    """
    name = benchmark["name"]
    try:
        is_shipped = name in SCORERS and _scorer_of(benchmark) == _known_scorer(name)
    except (ValueError, TypeError, LookupError):  # an identity that cannot be read names none
        return None
    return SCORERS[name](_full(tasks).records) if is_shipped else None


def _wanted(config: BenchmarksConfig, names: Sequence[str] | None) -> list[str]:
    enabled = [name for name, spec in config.benchmarks.items() if spec.enabled]
    for name in names or ():
        if name not in config.benchmarks:
            there = f"There are: {', '.join(config.benchmarks)}."
            raise UnknownReference("benchmark", name, config.benchmarks, hint=there)
    off = [Problem(f"benchmarks.{name}.enabled", "false") for name in names or () if name not in enabled]
    if off:
        raise ConfigError("A benchmark is disabled.", off)
    return enabled if names is None else [name for name in enabled if name in names]


def entry(spec: BenchmarkSpec) -> dict[str, Json]:
    """The entry of a benchmark as the record has it."""
    return {name: value for name, value in public(spec).items() if name != "enabled"}


def _one(
    workspace: Workspace, database: Database, name: str, spec: BenchmarkSpec, scorer: Scorer, *, force: bool
) -> Preprocessed:
    before = current(workspace, name)
    is_same_entry = before is not None and json.loads(before["config"]) == entry(spec)
    is_known_scorer = SCORERS.get(name) is scorer
    had = before if is_same_entry and spec.path.startswith(HUB) and not force else None
    if had is not None and is_known_scorer and _scorer_of(had) == _known_scorer(name):
        return _cached(had, _as_had(had))
    full = read_full(name, spec, workspace.find) if had is None else _recorded(workspace, had)
    difficulty = None if is_known_scorer else _scored(name, full, scorer)
    named = _identity(name, full, difficulty)
    if before is not None and before["fingerprint"] == named.fingerprint and not force:
        if not is_same_entry:
            pools.register_benchmark(database, named, _entry_columns(name, spec), ())
            changed = " and ".join(_changes(before, spec))
            return _cached(before, f"its {changed} changed, its tasks did not")
        return _cached(before, "nothing has changed" if had is None else _as_had(had))
    difficulty = _scored(name, full, scorer) if difficulty is None else difficulty
    scores = scaled(difficulty.scores)
    columns = _entry_columns(name, spec) | {
        "source_digest": full.digest, "n_tasks": len(full.texts), "score_low": min(difficulty.scores),
        "score_high": max(difficulty.scores), "constants": to_json(difficulty.constants),
    }  # fmt: skip
    tasks = [
        {
            "part": part, "difficulty_score": score, "raw_score": raw, "scorer_metadata": to_json(features),
            "raw_data": text,
        }
        for part, text, raw, score, features in zip(
            full.parts, full.texts, difficulty.scores, scores, difficulty.features, strict=True
        )
    ]  # fmt: skip
    registered = pools.register_benchmark(database, named, columns, tasks)
    reason = _reason(before, named, spec, full, forced=force)
    return Preprocessed(name, "scored", reason, len(tasks), named.fingerprint, registered.id)


def _cached(row: Row, reason: str) -> Preprocessed:
    return Preprocessed(row["name"], "cached", reason, row["n_tasks"], row["fingerprint"], row["id"])


def _as_had(row: Row) -> str:
    return f"as it was had from the hub on {row['created_at'][:10]}; --force looks again"


def _recorded(workspace: Workspace, benchmark: Row) -> Full:
    with reading(workspace) as reader:
        rows = reader.rows(_TASKS, id=benchmark["id"])
    return _full(rows)


def _full(tasks: Sequence[Row]) -> Full:
    return Full(tuple(row["raw_data"] for row in tasks), tuple(row["part"] for row in tasks))


def _entry_columns(name: str, spec: BenchmarkSpec) -> dict[str, Json]:
    return {"name": name, "path": spec.path, "config": to_json(entry(spec))}


def _identity(name: str, full: Full, own: Difficulty | None) -> Identity:
    """Made of the tasks, not of where and how they are had: ``split`` and ``configs`` are in them.

    Of a scorer of one's own only what it gives is known: its text does not hold what it calls.
    """
    scorer = _known_scorer(name) if own is None else content_key([own.scores, own.features, own.constants])
    return identify("benchmark", {"name": name, "source": full.digest, "scorer": scorer})


def _known_scorer(name: str) -> str:
    return f"{name} {SCORING}"


def _scorer_of(row: Row) -> Json:
    return json.loads(row["identity"])["identity"]["scorer"]


def _scored(name: str, full: Full, scorer: Scorer) -> Difficulty:
    n = len(full.texts)
    try:
        found = scorer(full.records)
        scores, features = [float(each) for each in found.scores], [_plain(dict(each)) for each in found.features]
        constants = _plain(dict(found.constants))
        canonical_json([scores, features, constants])
    except (Error, KeyboardInterrupt):
        raise
    # A scorer of one's own can go wrong in any way, and the other benchmarks are to be had all the same.
    except BaseException as error:
        what = f"its scorer failed: {type(error).__name__}: {error}"
        raise DataError("A benchmark cannot be scored.", [Problem(name, what)]) from error
    if not len(scores) == len(features) == n:
        what = f"its scorer gave {len(scores)} scores and {len(features)} rows of features for {n} tasks"
        raise DataError("A benchmark cannot be scored.", [Problem(name, what)])
    return Difficulty(scores, features, constants)


def _changes(before: Row, spec: BenchmarkSpec) -> list[str]:
    """The keys in which an entry of the config differs from the recorded one."""
    was, now = json.loads(before["config"]), entry(spec)
    return [key for key in dict.fromkeys([*was, *now]) if was.get(key) != now.get(key)]


def _plain(value: Any) -> Any:
    """With numpy's numbers, which know what Python's they are, as these."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value.item() if hasattr(value, "dtype") and not getattr(value, "shape", ()) else value


def _reason(before: Row | None, named: Identity, spec: BenchmarkSpec, full: Full, *, forced: bool) -> str:
    if before is None:
        return "new"
    changed = _changes(before, spec)
    reasons = [f"{', '.join(changed)} changed in the config"] if changed else []
    if before["source_digest"] != full.digest:
        reasons.append("the source changed")
    elif before["fingerprint"] != named.fingerprint and not changed:
        reasons.append("the scorer changed")
    return "; ".join(reasons) or ("--force" if forced else "it was another one's turn")
