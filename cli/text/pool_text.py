"""How pools look in a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from cli.render import RULE, counted, harmless, moment, table, usd
from cli.text.listing import left_out
from tracker.listings.listings import Listing
from tracker.listings.pool_listings import Overlap
from tracker.record.catalogue import Row

_SHOWN = 200


def listed(found: Listing, *, verbose: bool) -> Iterator[str]:
    """`pool list`."""
    if not found.rows:
        yield "💾 No pool is there yet; `synthtrack pool build CONFIG` makes the first one."
        return
    yield table(
        ("pool", "fingerprint", "tasks", "easy", "hard", "split", "seed", "benchmarks", "made"),
        [
            (
                row["name"], row["fingerprint"], f"{row['n_tasks']:,}", f"{row['n_easy']:,}", f"{row['n_hard']:,}",
                row["difficulty_split"], row["random_seed"], ", ".join(row["benchmarks"]), moment(row["created_at"]),
            )
            for row in found.rows
        ],
    )  # fmt: skip
    for row in found.rows:
        if row["n_short"]:
            yield f"⚠️  {row['name']}: {row['n_short']:,} of {row['n_wanted']:,} tasks were not there"
        if verbose:
            again = "with replacement" if row["with_replacement"] else "without replacement"
            asked = counted(row["n_validations"], "validation")
            yield f"{row['name']}: {again}, mean difficulty {_number(row['mean_difficulty'])}, {asked}"
            if row["description"]:
                yield f"   {harmless(row['description'])}"
    yield from left_out(found, "pool")


def shown(row: Row, tasks: Sequence[Row], files: Sequence[str]) -> Iterator[str]:
    """`pool show`."""
    yield from (RULE, f"📊 {row['name']} ({row['fingerprint']})", RULE)
    if row["description"]:
        yield harmless(row["description"])
    again = "with replacement" if row["with_replacement"] else "without replacement"
    yield f"Tasks: {row['n_tasks']:,} of {row['n_wanted']:,}, {row['n_easy']:,} easy and {row['n_hard']:,} hard"
    yield f"Split {row['difficulty_split']}, seed {row['random_seed']}, {again}"
    yield f"Made: {moment(row['created_at'])} by {harmless(row['command'])}"
    yield ""
    yield table(
        ("benchmark", "share", "thresholds", "easy (wanted)", "hard (wanted)", "distinct", "data"),
        [
            (
                part["benchmark"], f"{part['ratio']:.3g}",
                f"<= {part['low_threshold']:.3f}, >= {part['high_threshold']:.3f}",
                f"{part['n_easy']:,} ({part['n_easy_wanted']:,})", f"{part['n_hard']:,} ({part['n_hard_wanted']:,})",
                f"{part['n_distinct']:,}", part["benchmark_fingerprint"],
            )
            for part in row["benchmarks"]
        ],
    )  # fmt: skip
    yield from ("", "Files:", *(f"  {path}" for path in files))
    if row["validations"]:
        yield from ("", validations(row["validations"]))
    for task in tasks:
        yield ""
        score = f"{task['difficulty_score']:.3f}, {task['difficulty_bin']}"
        yield f"[{task['position']}] {task['benchmark']}, difficulty {score}; {_features(task['scorer_metadata'])}"
        yield f"  {_cut(json.dumps(task['raw_data'], ensure_ascii=False))}"


def validations(rows: Sequence[Row]) -> str:
    """What models made of a pool, a line each."""
    return table(
        ("model", "temperature", "per bin", "status", "graded", "easy", "hard", "gap", "rank corr.", "cost", "asked"),
        [
            (
                harmless(row["model"]), "-" if row["temperature"] is None else f"{row['temperature']:g}",
                f"{row['n_samples']:,}", row["status"], _graded(row),
                _percent(row["easy_accuracy"]), _percent(row["hard_accuracy"]), _percent(row["accuracy_gap"]),
                _number(row["rank_correlation"]), usd(row["cost_usd"]), moment(row["started_at"]),
            )
            for row in rows
        ],
    )  # fmt: skip


def _graded(row: Row) -> str:
    left = ((row["n_ungraded"], "not run"), (row["n_failed"], "failed"))
    return ", ".join([f"{row['n_graded']:,} of {row['n_tasks']:,}", *(f"{n:,} {what}" for n, what in left if n)])


def figures(row: Row) -> Iterator[str]:
    """`pool stats`: statistics.json as a table."""
    found = row["statistics"]
    spread = found["difficulty_distribution"]
    yield f"📊 {row['name']}: {found['n_total']:,} tasks"
    yield (
        f"Difficulty: mean {_number(spread['mean'])}, std {_number(spread['std'])}, "
        f"min {_number(spread['min'])}, max {_number(spread['max'])}"
    )
    yield table(
        ("benchmark", "tasks", "mean difficulty", "easy", "hard"),
        [
            (name, f"{own['count']:,}", _number(own["mean_difficulty"]), f"{own['easy']:,}", f"{own['hard']:,}")
            for name, own in found["benchmark_breakdown"].items()
        ],
    )
    for each in found.get("shortfalls", ()):
        yield f"⚠️  {each['benchmark']} has {each['got']:,} {each['bin']} tasks, {each['wanted']:,} were wanted."


def compared(rows: Sequence[Row], found: Overlap) -> Iterator[str]:
    """`pool compare`."""
    names = [row["name"] for row in rows]
    yield from (RULE, f"📊 {names[0]} and {names[1]}", RULE)
    share = "no tasks at all" if found.shared is None else f"{found.shared:.1%} of the tasks in either"
    yield f"Distinct tasks: {found.n_first:,} and {found.n_second:,}; in both {found.n_both:,} ({share})"
    yield ""
    yield table(
        ("benchmark", "bin", *names, "in both"),
        [(*key, *(f"{n:,}" for n in counts)) for key, counts in found.counts.items()],
    )
    if found.different:
        yield ""
        yield table(("setting", *names), [(name, *map(_value, values)) for name, values in found.different.items()])
    else:
        yield from ("", "All settings are the same.")


def _features(metadata: Mapping[str, object]) -> str:
    shown = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in metadata.items()}
    return harmless(", ".join(f"{name} {value}" for name, value in shown.items()))


def _cut(text: str) -> str:
    line = harmless(text)
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
