"""What all listings share: how many entries are shown, what is said of the rest, and the tree behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import click

from cli.render import counted, note
from tracker.errors import Conflict, Corrupt, StorageError
from tracker.listings.listings import Listing
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row

if TYPE_CHECKING:
    from tracker.views.plan import Changes

DEFAULT_LIMIT = 100

limited = click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Show the newest N; 0 is all. Default: {DEFAULT_LIMIT}, with --json all.",
)
of_dataset = click.option("--dataset", metavar="NAME", help="Only experiments on this data set (`Copa`).")
verbose = click.option("--verbose", "-v", is_flag=True, help="Show more of each.")


def limit_of(given: int | None, *, as_json: bool) -> int:
    """How many entries to ask for: a person gets a screenful or two, a program everything."""
    return given if given is not None else 0 if as_json else DEFAULT_LIMIT


def left_out(listing: Listing, singular: str, plural: str | None = None) -> Iterator[str]:
    """The line that says how many older entries are not shown, where there are any."""
    if listing.left_out:
        how_many = counted(listing.left_out, f"older {singular}", plural and f"older {plural}")
        yield f"💾 {how_many} not shown; --limit 0 shows all."


def by_dataset(listing: Listing) -> Iterator[tuple[str, str, list[Row]]]:
    """The rows by data set, the largest first: its name, how many there are in words, the rows."""
    groups = [(dataset, list(rows)) for dataset, rows in groupby(listing.rows, key=lambda row: str(row["dataset"]))]
    for dataset, rows in sorted(groups, key=lambda group: -len(group[1])):
        # Of a cut listing nobody has counted what a data set has in all.
        yield dataset, f"{len(rows):,} shown" if listing.left_out else counted(len(rows), "experiment"), rows


def reuse(*, reused: bool, original_batch: str) -> str:
    """Whether the batch found its data already made, and where."""
    return f"⚡ Data reuse: Yes (original batch: {original_batch})" if reused else "⚡ Data reuse: No (newly generated)"


def bring_up_to_date(
    workspace: Workspace, reader: Reader, experiment_ids: Iterable[int], *, required: bool = False
) -> None:
    """Makes the part of the directory tree that was just printed what the record says.

    Where it cannot be written, that is noted, or, where it is ``required``, raised as StorageError.
    """
    ids = list(experiment_ids)
    if ids:
        from tracker.views.synthetic_view import refresh

        _report(lambda: refresh(workspace, reader, ids, patience_s=0), "directory tree", required)


def bring_files_up_to_date(
    workspace: Workspace, reader: Reader, dataset_ids: Iterable[int], *, required: bool = False
) -> None:
    """Makes the files of the agent data sets that were just printed what the record says; see ``bring_up_to_date``."""
    ids = list(dataset_ids)
    if ids:
        from tracker.views.agent_view import refresh

        _report(lambda: refresh(workspace, reader, ids, patience_s=0), "directory of agent data sets", required)


def bring_pools_up_to_date(
    workspace: Workspace, reader: Reader, pool_ids: Iterable[int], *, full: bool = False, required: bool = False
) -> None:
    """Makes the files of the pools that were just printed (``full``: and of all benchmarks) what the record says.

    See ``bring_up_to_date``.
    """
    ids = list(pool_ids)
    if ids:
        from tracker.views.pool_view import refresh

        _report(lambda: refresh(workspace, reader, ids, full=full, patience_s=0), "directory of pools", required)


def _report(refresh: Callable[[], Changes], what: str, required: bool) -> None:
    try:
        changes = refresh()
        for moved in changes.aside:
            note(f"Note: {moved} was not what the record says and was restored; the other is in {changes.trash}.")
    except Corrupt as error:
        note(f"Note: part of the {what} was not brought up to date: {error}")
        note("`synthtrack view check` lists all differences.")
    except (StorageError, Conflict) as error:
        if required and isinstance(error, StorageError):
            raise
        # The answer stands; whoever reads a tree that is not theirs can do no more about it than know.
        note(f"Note: the {what} was not brought up to date: {error}")
