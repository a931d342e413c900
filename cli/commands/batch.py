"""`synthtrack batch`: which batches there are, and what is in them."""

from __future__ import annotations

import click

from cli.commands.delete_commands import delete_batch, remove_from_batch
from cli.options import as_json, workspace
from cli.render import show_either
from cli.text.batch_text import listed, shown
from cli.text.listing import bring_up_to_date, limit_of, limited, of_dataset, verbose
from tracker.listings import listings, references
from tracker.listings.listings import Listing
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, reading

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
        show_either(found.rows, lambda: listed(found), as_json=as_json)
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
        show_either(row | {"experiments": found.rows}, lambda: shown(row, found, verbose=verbose), as_json=as_json)
        bring_up_to_date(place, reader, (each["id"] for each in found.rows))


def _name_experiments(reader: Reader, found: Listing, *, every: bool) -> None:
    at_most = 0 if every else max(_FEW_NAMES, _NAMES // max(1, len(found.rows)))
    for row in found.rows:
        row["experiments"] = listings.names_in_batch(reader, row["id"], at_most)


batch.add_command(delete_batch)
batch.add_command(remove_from_batch)
