"""`... delete`: batches, experiments, training runs and sweeps, agent data sets and pools; `batch remove`."""

from __future__ import annotations

from collections.abc import Callable

import click

from cli.commands.delete import Subject, delete_all, deleting
from cli.options import as_json, workspace
from cli.render import counted, show, show_json
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, reading


def _delete(find: Callable[[Reader, Workspace, str], Subject], metavar: str = "REF...") -> click.Command:
    """A `delete` of whatever ``find`` gives for a name; what it says of itself is its help."""

    @click.command("delete", help=find.__doc__)
    @click.argument("refs", nargs=-1, required=True, metavar=metavar)
    @deleting
    @as_json
    @workspace
    def delete(
        place: Workspace, *, refs: tuple[str, ...], yes: bool, dry_run: bool, no_mlflow: bool, as_json: bool
    ) -> None:
        def named(reader: Reader) -> list[Subject]:
            return [find(reader, place, ref) for ref in refs]

        delete_all(place, named, yes=yes, dry_run=dry_run, no_mlflow=no_mlflow, as_json=as_json)

    return delete


def _batch(reader: Reader, _: Workspace, name: str) -> Subject:
    """Move a batch to the trash: its memberships and links. The data stays.

    Refused while something is being made in it. `synthtrack restore BATCH` brings it back; `generate --batch BATCH`
    begins it anew.
    """
    from tracker.deleting import deletion
    from tracker.listings import references

    return deletion.BATCH, references.batch(reader, name)["id"]


def _experiment(reader: Reader, place: Workspace, ref: str) -> Subject:
    """Move experiments to the trash: samples, people's decisions, runs and the directory.

    Refused while a batch, a publication, a training run or another experiment points to it. What was asked and answered
    stays in the ledger: made again, it costs nothing.
    """
    from tracker.deleting import deletion
    from tracker.listings import references

    return deletion.EXPERIMENT, references.find(reader, place, ref).id


def _result(reader: Reader, place: Workspace, ref: str) -> Subject:
    """Move training runs, or whole sweeps, to the trash: metrics, predictions and the result directory.

    Refused while one is being trained. The directory of an imported result stays where it was found.
    """
    from tracker.deleting import deletion
    from tracker.record import sweeps

    found = sweeps.find(reader, place, ref, shown_by="result list --detail")
    return (deletion.SWEEP, found.sweep_id) if found.run_id is None else (deletion.RUN, found.run_id)


def _agents(reader: Reader, place: Workspace, ref: str) -> Subject:
    """Move agent data sets to the trash: responses, runs and the file. The ledger keeps what was answered."""
    from tracker.deleting import deletion
    from tracker.listings import agent_references

    return deletion.AGENTS, agent_references.find(reader, place, ref)


def _pool(reader: Reader, place: Workspace, ref: str) -> Subject:
    """Move task pools to the trash, each with its directory and the validations of it. Benchmarks stay."""
    from tracker.deleting import deletion
    from tracker.listings import pool_listings

    return deletion.POOL, pool_listings.find(reader, place, ref)


delete_batch = _delete(_batch, "BATCH...")
delete_experiment, delete_result, delete_agents, delete_pool = map(_delete, (_experiment, _result, _agents, _pool))


@click.command("remove")
@click.argument("name", metavar="BATCH")
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@as_json
@workspace
def remove_from_batch(place: Workspace, *, name: str, refs: tuple[str, ...], as_json: bool) -> None:
    """Take experiments out of a batch. The data stays; `generate CONFIG --batch BATCH` puts one back at no cost."""
    from tracker.deleting import trash
    from tracker.listings import references
    from tracker.record.database import open_database

    with reading(place) as reader:
        batch = references.batch(reader, name)
        ids = [references.find(reader, place, ref).id for ref in refs]
    with open_database(place) as database:
        removed = trash.leave_batch(place, database, batch["id"], ids)
    if as_json:
        show_json({"batch": batch["name"], "removed": removed})
    else:
        show(f"✅ {counted(len(removed), 'experiment')} taken out of {batch['name']}: {', '.join(removed) or 'none'}")
