"""`synthtrack batch`: which batches there are, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator

import click

from cli.commands.delete_commands import delete_batch, remove_from_batch
from cli.options import as_json, workspace
from cli.render import RULE, THIN_RULE, counted, moment, show_either, usd
from cli.text.listing import bring_up_to_date, by_dataset, left_out, limit_of, limited, of_dataset, reuse, verbose
from tracker.listings import listings, references
from tracker.listings.listings import Listing
from tracker.paths import SHARED, Workspace
from tracker.record.catalogue import Reader, Row, reading

_NAMES = 1000
_FEW_NAMES = 10


@click.group()
def batch() -> None:
    """List, show and delete batches."""


@batch.command("list")
@verbose
@limited
@as_json
@workspace
def list_batches(place: Workspace, *, verbose: bool, limit: int | None, as_json: bool) -> None:
    """Every batch, with the number of its experiments; --verbose names them."""
    with reading(place) as reader:
        found = listings.batches(reader, limit_of(limit, as_json=as_json))
        if verbose:
            _name_experiments(reader, found, every=as_json or limit == 0)
        show_either(found.rows, lambda: _batches(found), as_json=as_json)
        bring_up_to_date(place, reader, (each["id"] for row in found.rows for each in row.get("experiments", ())))


@batch.command("show")
@click.argument("name", metavar="BATCH")
@of_dataset
@verbose
@limited
@as_json
@workspace
def show_batch(
    place: Workspace, *, name: str, dataset: str | None, verbose: bool, limit: int | None, as_json: bool
) -> None:
    """The experiments of a batch, and which of them it did not have to make."""
    with reading(place) as reader:
        row = listings.batch(reader, name) if verbose or as_json else references.batch(reader, name)
        found = listings.batch_experiments(reader, name, dataset, limit_of(limit, as_json=as_json))
        show_either(row | {"experiments": found.rows}, lambda: _batch(row, found, verbose=verbose), as_json=as_json)
        bring_up_to_date(place, reader, (each["id"] for each in found.rows))


def _name_experiments(reader: Reader, found: Listing, *, every: bool) -> None:
    at_most = 0 if every else max(_FEW_NAMES, _NAMES // max(1, len(found.rows)))
    for row in found.rows:
        row["experiments"] = listings.names_in_batch(reader, row["id"], at_most)


def _batches(found: Listing) -> Iterator[str]:
    yield from (RULE, f"Found {counted(found.total, 'batch', 'batches')}", RULE)
    for row in found.rows:
        yield from ("", f"📦 {row['name']}", f"   Experiments: {row['n_experiments']:,}")
        named = Listing(row.get("experiments", []), row["n_experiments"])
        for dataset, how_many, experiments in by_dataset(named):
            yield f"   {dataset}: {how_many}"
            yield from (f"      - {each['name']}" for each in experiments)
        if named.rows and named.left_out:
            yield f"   {named.left_out:,} more: synthtrack batch show {row['name']} --limit 0"
    if not found.rows:
        yield from ("", "💾 `synthtrack generate CONFIG` makes the first one.")
    if found.left_out:
        yield from ("", *left_out(found, "batch", "batches"))


def _batch(row: Row, found: Listing, *, verbose: bool) -> Iterator[str]:
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


batch.add_command(delete_batch)
batch.add_command(remove_from_batch)

_SAMPLING = (("temperature", "Temperature"), ("top_p", "Top_p"))
