"""`synthtrack path`: where the data lies, in a form that a training config takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import click

from cli.options import as_json, workspace
from cli.render import counted, show_either, table
from cli.text.listing import bring_up_to_date, left_out, limit_of, limited, of_dataset, reuse
from tracker.listings import listings
from tracker.listings.listings import Listing
from tracker.paths import Workspace
from tracker.record.catalogue import Row, reading

_NAMED_BATCHES = 3

AVAILABLE = ("complete", "partial")


@click.group()
def path() -> None:
    """Find data paths and convert between batch and shared ones."""


@path.command("list")
@click.option("--batch", metavar="BATCH", help="Only data of this batch.")
@of_dataset
@click.option(
    "--format",
    "form",
    type=click.Choice(["simple", "yaml", "table"]),
    default="simple",
    help="yaml: to be copied into a training config.",
)
@limited
@as_json
@workspace
def list_paths(
    place: Workspace, *, batch: str | None, dataset: str | None, form: str, limit: int | None, as_json: bool
) -> None:
    """Every data path that a training config can name."""
    with reading(place) as reader:
        found = listings.data_paths(reader, place, batch, dataset, limit_of(limit, as_json=as_json))
        show_either(found.rows, lambda: _FORMS[form](found), as_json=as_json)
        bring_up_to_date(place, reader, (row["id"] for row in found.rows))


@path.command("resolve")
@click.argument("given", metavar="PATH")
@limited
@as_json
@workspace
def resolve(place: Workspace, *, given: str, limit: int | None, as_json: bool) -> None:
    """From a batch path to the shared one; from a shared path to every batch that references it."""
    with reading(place) as reader:
        row = listings.resolve_path(reader, place, given)
        show_either(row, lambda: _resolved(row, limit_of(limit, as_json=as_json)), as_json=as_json)
        bring_up_to_date(place, reader, [row["id"]])


def _simple(found: Listing) -> Iterator[str]:
    for at, row in enumerate(found.rows):
        yield from ([""] if at else [])
        yield from _title(row)
        if row["status"] not in AVAILABLE:
            yield "   No data yet: `synthtrack experiment show` says what is next."
            continue
        if row["batch_path"] is not None:
            yield from ("   ✅ Batch path (recommended):", f"      {row['batch_path']}")
            yield from _also_in(row)
            yield ""
        yield from ("   📦 Shared path (physical storage):", f"      {row['shared_path']}")
    if not found.rows:
        yield "💾 No data paths yet: `synthtrack generate CONFIG` makes data."
    if found.left_out:
        yield from ("", *left_out(found, "experiment"))


def _yaml(found: Listing) -> Iterator[str]:
    for at, row in enumerate(found.rows):
        # Each is a document of its own: one `data:` is copied, and all together are still YAML.
        yield from (["---"] if at else [])
        status = "" if row["status"] == "complete" else f" ({row['status']})"
        yield f"# {row['dataset']} / {row['name']}{status}"
        if row["status"] not in AVAILABLE:
            yield "# no data yet"
            continue
        yield "data:"
        yield f"  path: {json.dumps(row['batch_path'] or row['shared_path'], ensure_ascii=False)}"
        if row["batch_path"] not in (None, row["shared_path"]):
            yield f"  # path: {json.dumps(row['shared_path'], ensure_ascii=False)}"
    yield from (f"# {line}" for line in left_out(found, "experiment"))


def _table(found: Listing) -> Iterator[str]:
    headers = ("Dataset", "Experiment", "Status", "Batch path", "Shared path")
    columns = ("dataset", "name", "status", "batch_path", "shared_path")
    yield table(headers, [[row[column] for column in columns] for row in found.rows])
    yield from left_out(found, "experiment")


_FORMS: dict[str, Callable[[Listing], Iterator[str]]] = {"simple": _simple, "yaml": _yaml, "table": _table}


def _resolved(row: Row, limit: int) -> Iterator[str]:
    yield from _title(row)
    if row["batch"] is not None:
        yield from ("   ✅ Batch path:", f"      {row['batch_path']}", "")
    yield from ("   📦 Shared path (physical storage):", f"      {row['shared_path']}", "")
    held_by = row["references"]
    if row["batch"] is not None:
        yield f"   {reuse(reused=row['reused'], original_batch=row['original_batch'])}"
    yield f"   {'✅' if held_by else '⚠️'} Referenced by {counted(len(held_by), 'batch', 'batches')}:"
    for held in held_by[: limit or None]:
        original = " (original)" if held["batch"] == row["original_batch"] else " (reused)" if held["reused"] else ""
        # Of data that stays where it was imported from, every batch has the same path.
        via = "" if held["batch"] in held["path"].split("/") else f" in {held['batch']}"
        yield f"      {held['path']}{via}{original}"
    if limit and len(held_by) > limit:
        yield f"      💾 {len(held_by) - limit:,} more not shown; --limit 0 shows all."


def _title(row: Row) -> Iterator[str]:
    yield f"📁 {row['dataset']} / {row['name']}"
    if row["status"] != "complete":
        yield f"   ⚠️ Status: {row['status']}"


def _also_in(row: Row) -> Iterator[str]:
    others = [name for name in row["batches"] if name != row["batch"]]
    if others:
        more = f" and {len(others) - _NAMED_BATCHES:,} more" if len(others) > _NAMED_BATCHES else ""
        yield f"      also in {', '.join(others[:_NAMED_BATCHES])}{more}"
