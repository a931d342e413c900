"""How training results look in a terminal: the summary and the details."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from cli.render import RULE, THIN_RULE, counted, harmless
from cli.text.listing import left_out
from cli.text.result_words import accuracy, baselines, data_fingerprint, duration, name_of, number, status, told
from tracker.errors import reason
from tracker.listings.listings import Listing
from tracker.listings.results import STATUSES
from tracker.record.catalogue import Row

_DIGITS = 12


def summed_up(groups: Sequence[Row], results_dir: str) -> Iterator[str]:
    """The summary of `result list`: runs by purpose and model, and the best accuracy on each task."""
    yield from (RULE, f"Training Results Summary - {results_dir}", RULE)
    for purpose, found in groupby(groups, key=lambda group: str(group["purpose"])):
        models = list(found)
        yield from ("", f"📊 Experiment purpose: {harmless(purpose)}", f"   Training runs: {_counts(models)}")
        for group in models:
            counts = f" ({_counts([group])})" if len(models) > 1 else ""
            yield f"   └─ {harmless(group['model'])}: {counted(group['n_runs'], 'training run')}{counts}"
            tasks = Counter(row["task"] for row in group["best"])
            yield from (f"      {harmless(_best(row, several=tasks[row['task']] > 1))}" for row in group["best"])
    if not groups:
        yield from ("", "💾 No training run is there yet; `synthtrack train CONFIG` makes the first one.")
    purposes = counted(len({group["purpose"] for group in groups}), "experiment purpose")
    yield from ("", RULE, f"Total: {purposes}, {counted(sum(g['n_runs'] for g in groups), 'training run')}", RULE)


def _counts(groups: Sequence[Row]) -> str:
    """``12 (10 complete, 1 running, 1 failed)``."""
    counts = {status: sum(group["statuses"].get(status, 0) for group in groups) for status in STATUSES}
    words = ", ".join(f"{n:,} {status}" for status, n in counts.items() if n)
    return f"{sum(counts.values()):,} ({words})"


def _best(row: Row, *, several: bool) -> str:
    where = f" (validation file {str(row['eval_digest'])[:_DIGITS]})" if several else ""
    return (
        f"Best of {counted(row['n_runs'], 'run')} on {row['task']}{where}: {accuracy(row)}, {row['method']}, "
        f"{row['data']}, lr {number(row['learning_rate'])}, seed {told(row['seed'])}"
    )


def detailed(found: Listing) -> Iterator[str]:
    """The details of `result list --detail`."""
    yield from (RULE, "Training Results Details", RULE)
    for purpose, rows in groupby(found.rows, key=lambda row: str(row["purpose"])):
        yield from ("", f"📊 Experiment purpose: {harmless(purpose)}", THIN_RULE)
        for place, row in enumerate(rows, 1):
            yield from ("", f"  [{place}] {harmless(name_of(row))}")
            yield from (f"      {harmless(line)}" for line in _details(row))
    if not found.rows:
        yield from ("", "💾 No training run is like that; `synthtrack result list` shows what there is.")
    if found.left_out:
        yield from ("", *left_out(found, "training run"))


def _details(row: Row) -> Iterator[str]:
    yield f"Model: {row['model']}"
    yield f"Time: {row['directory'].rpartition('/')[2]}"
    yield f"Path: {row['directory']}"
    yield f"Task: {row['task']}"
    yield f"Method: {row['method']}"
    yield from ("Hyperparameters:", f"  - LR: {number(row['learning_rate'])}", f"  - BS: {told(row['batch_size'])}")
    yield from (f"  - Steps: {told(row['steps'])}", f"  - Seed: {told(row['seed'])}")
    yield f"Data: {' + '.join(row['data_paths'])}"
    yield f"Data fingerprint: {data_fingerprint(row)}"
    yield f"Run: {row['uuid'][:8]}, training fingerprint {row['fingerprint']}"
    yield f"Status: {status(row)}"
    if row["accuracy"] is not None:
        yield f"Accuracy: {accuracy(row)}"
        yield f"Baselines: {baselines(row)}"
    if row["duration_s"] is not None:
        yield f"Duration: {duration(row['duration_s'])}"
    if row["error"] and row["status"] == "failed":
        yield f"Error: {reason(row['error'])}"
