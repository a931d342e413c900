"""``synthtrack lineage``."""

from __future__ import annotations

import click

from cli.options import as_json, workspace
from cli.render import show, show_json
from tracker.paths import Workspace
from tracker.record.catalogue import reading

_LIMIT = 10
"""What a person is shown of each kind at one thing: the chain matters more than its length."""


@click.command()
@click.argument("ref")
@click.option("--mermaid", is_flag=True, help="Print a flowchart in Mermaid's language.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Show of each kind the newest N at one thing; 0 is all. Default: {_LIMIT}, with --json all.",
)
@as_json
@workspace
def lineage(place: Workspace, *, ref: str, mermaid: bool, limit: int | None, as_json: bool) -> None:
    """Where REF comes from and what became of it: source files, settings and prompts, runs, batches, people, results.

    REF is a result directory, a data path, DATASET/NAME, a batch, a source data set, an agent data set, a task pool, a
    fingerprint, a uuid, or an MLflow run id.
    """
    from tracker.tracing.lineage import lineage as find

    if mermaid and as_json:
        raise click.UsageError("--mermaid and --json are two forms of the same answer: choose one.")
    with reading(place) as reader:
        found = find(reader, place, ref, limit if limit is not None else 0 if as_json else _LIMIT)
    if as_json:
        show_json(found.plain())
    elif mermaid:
        from cli.text.lineage_mermaid import flowchart

        show("\n".join(flowchart(found)))
    else:
        from cli.text.lineage_text import drawn

        show("\n".join(drawn(found)))
