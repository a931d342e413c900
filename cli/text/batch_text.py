"""Batches as lines: all of them, and one with its experiments."""

from __future__ import annotations

from collections.abc import Iterator

from cli.render import RULE, THIN_RULE, counted, moment, usd
from cli.text.listing import by_dataset, left_out, reuse
from tracker.listings.listings import Listing
from tracker.paths import SHARED
from tracker.record.catalogue import Row

_SAMPLING = (("temperature", "Temperature"), ("top_p", "Top_p"))


def listed(found: Listing) -> Iterator[str]:
    """Batches with the names of their experiments, and the status of those that are not complete."""
    yield from (RULE, f"Found {counted(found.total, 'batch', 'batches')}", RULE)
    for row in found.rows:
        yield from ("", f"📦 {row['name']}", f"   Experiments: {row['n_experiments']:,}")
        named = Listing(row.get("experiments", []), row["n_experiments"])
        for dataset, how_many, experiments in by_dataset(named):
            yield f"   {dataset}: {how_many}"
            for each in experiments:
                status = "" if each["status"] == "complete" else f" ({each['status']})"
                yield f"      - {each['name']}{status}"
        if named.rows and named.left_out:
            yield f"   {named.left_out:,} more: synthtrack batch show {row['name']} --limit 0"
    if not found.rows:
        yield from ("", "💾 `synthtrack generate CONFIG` makes the first one.")
    if found.left_out:
        yield from ("", *left_out(found, "batch", "batches"))


def shown(row: Row, found: Listing, *, verbose: bool) -> Iterator[str]:
    """One batch with its experiments, by data set."""
    yield from (RULE, f"Batch: {row['name']}", f"Experiments: {found.total:,}")
    if verbose:
        yield from _about(row)
    yield RULE
    for dataset, how_many, experiments in by_dataset(found):
        yield from ("", f"📊 {dataset} ({how_many})", THIN_RULE)
        for each in experiments:
            yield from ("", f"  🔧 {each['name']}")
            yield from (f"     {line}" for line in _experiment(each, verbose=verbose))
    if found.left_out:
        yield from ("", *left_out(found, "experiment"))


def _about(row: Row) -> Iterator[str]:
    yield f"Purpose: {row['purpose']}"
    if row["description"]:
        yield f"Description: {row['description']}"
    yield f"Created: {moment(row['created_at'])}"
    yield f"Reused: {row['n_reused']:,} of {counted(row['n_experiments'], 'experiment')}"
    unpriced = row["n_unpriced"] if row["cost_usd"] is not None else 0
    yield f"Cost: {usd(row['cost_usd'])}" + (
        f", without {counted(unpriced, 'run')} of unknown price" if unpriced else ""
    )
    if row["deleted"]:
        costs = [each["cost_usd"] for each in row["deleted"]]
        paid = None if None in costs else sum(costs)
        yield f"Also paid: {usd(paid)} for {counted(len(costs), 'experiment')} deleted since"


def _experiment(each: Row, *, verbose: bool) -> Iterator[str]:
    yield f"Batch view: {each['batch']}/{each['reference']}"
    if verbose:
        yield f"Physical storage: {SHARED}/{each['reference']}"
        yield f"Created: {moment(each['created_at'])}"
        yield f"Parameter fingerprint: {each['fingerprint']}"
    if each["status"] != "complete":
        yield f"⚠️ Status: {each['status']}"
    yield reuse(reused=each["reused"], original_batch=each["original_batch"])
    if verbose:
        yield f"Generation model: {each['model']}"
        yield from (f"{title}: {each[key]}" for key, title in _SAMPLING if each[key] is not None)
