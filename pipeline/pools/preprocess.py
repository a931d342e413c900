"""`pool preprocess`: every benchmark read in full, scored, and put into the record."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.job import has_record
from pipeline.pools.difficulty import SCORERS, Difficulty, Scorer, scaled
from pipeline.pools.sources import Full, read_full
from pipeline.pools.specs import HUB, BenchmarksConfig, BenchmarkSpec
from tracker import pools, store
from tracker.catalogue import Row, reading
from tracker.database import Database, open_database
from tracker.errors import ConfigError, DataError, Error, Problem
from tracker.fingerprint import Identity, Json, bytes_digest, identify
from tracker.paths import Workspace
from tracker.spec import identity, public

SCORING = 1
"""Part of the identity: to be raised when the same tasks would get other scores."""
_CURRENT = "SELECT * FROM benchmark WHERE is_current AND name = :name"


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
    that fails does not stop the others. Raises ConfigError where a benchmark has no scorer.
    """
    known = {**SCORERS, **(scorers or {})}
    wanted = [name for name, spec in config.benchmarks.items() if spec.enabled and (names is None or name in names)]
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


def entry(spec: BenchmarkSpec) -> dict[str, Json]:
    """The entry of a benchmark as the record has it."""
    return {name: value for name, value in public(spec).items() if name != "enabled"}


def _one(
    workspace: Workspace, database: Database, name: str, spec: BenchmarkSpec, scorer: Scorer, *, force: bool
) -> Preprocessed:
    before = current(workspace, name)
    is_same_entry = before is not None and json.loads(before["config"]) == entry(spec)
    if before is not None and is_same_entry and spec.path.startswith(HUB) and not force:
        made = before["created_at"][:10]
        reason = f"as it was had from the hub on {made}; --force looks again"
        return Preprocessed(name, "cached", reason, before["n_tasks"], before["fingerprint"], before["id"])
    full = read_full(name, spec, workspace.find)
    named = _identity(name, spec, full, scorer)
    if before is not None and before["fingerprint"] == named.fingerprint and not force:
        return Preprocessed(name, "cached", "nothing has changed", len(full.texts), named.fingerprint, before["id"])
    difficulty = scorer(full.records)
    _check(name, full, difficulty)
    scores = scaled(difficulty.scores)
    columns = {
        "name": name, "path": spec.path, "source_digest": full.digest, "n_tasks": len(full.texts),
        "score_low": min(difficulty.scores), "score_high": max(difficulty.scores),
        "constants": store.to_json(dict(difficulty.constants)), "config": store.to_json(entry(spec)),
    }  # fmt: skip
    tasks = [
        {
            "part": part, "difficulty_score": score, "raw_score": float(raw),
            "scorer_metadata": store.to_json(dict(features)), "raw_data": text,
        }
        for part, text, raw, score, features in zip(
            full.parts, full.texts, difficulty.scores, scores, difficulty.features, strict=True
        )
    ]  # fmt: skip
    registered = pools.register_benchmark(database, named, columns, tasks)
    reason = _reason(before, named, spec, full, forced=force)
    return Preprocessed(name, "scored", reason, len(tasks), named.fingerprint, registered.id)


def _identity(name: str, spec: BenchmarkSpec, full: Full, scorer: Scorer) -> Identity:
    own = identity(spec)
    own.pop("path")
    return identify("benchmark", {"name": name, **own, "source": full.digest, "scorer": _version(name, scorer)})


def _version(name: str, scorer: Scorer) -> str:
    if SCORERS.get(name) is scorer:
        return f"{name} {SCORING}"
    return bytes_digest([inspect.getsource(scorer).encode()])[:16]


def _check(name: str, full: Full, difficulty: Difficulty) -> None:
    n = len(full.texts)
    if not len(difficulty.scores) == len(difficulty.features) == n:
        what = f"its scorer gave {len(difficulty.scores)} scores and {len(difficulty.features)} rows of features"
        raise DataError("A benchmark cannot be scored.", [Problem(name, f"{what} for {n} tasks")])


def _reason(before: Row | None, named: Identity, spec: BenchmarkSpec, full: Full, *, forced: bool) -> str:
    if before is None:
        return "new"
    was = json.loads(before["config"])
    changed = [key for key in dict.fromkeys([*was, *entry(spec)]) if was.get(key) != entry(spec).get(key)]
    reasons = [f"{', '.join(changed)} changed in the config"] if changed else []
    if before["source_digest"] != full.digest:
        reasons.append("the source changed")
    elif before["fingerprint"] != named.fingerprint and not changed:
        reasons.append("the scorer changed")
    return "; ".join(reasons) or ("--force" if forced else "it was another one's turn")
