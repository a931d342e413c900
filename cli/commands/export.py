"""``synthtrack export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options, render
from tracker.paths import Workspace, expanded
from tracker.record.catalogue import reading

if TYPE_CHECKING:
    from tracker.archives.exchange import Exported

_SHOWN = 10


@click.command()
@click.argument("refs", nargs=-1, required=True, metavar="REF... FILE")
@click.option("--output", "-o", metavar="FILE", help="The archive, where it is not the last argument.")
@click.option("--no-results", is_flag=True, help="Leave out the training runs on the data.")
@click.option("--with-models", is_flag=True, help="Take the weights of trained models along.")
@options.overwrite
@options.as_json
@options.workspace
def export(
    workspace: Workspace,
    *,
    refs: tuple[str, ...],
    output: str | None,
    no_results: bool,
    with_models: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Put all that belongs to REF into one archive, FILE, for `synthtrack import` on another machine.

    REF is a batch (with its experiments), an experiment, an agent data set or a task pool. With it come the original
    records, samples, people's decisions, runs, every answer that was paid for, and the training runs on the data with
    the files of their result directories.
    """
    if output is None and len(refs) < 2:
        raise click.UsageError("Name the archive: last, or with --output.")
    *others, last = refs
    named, given = (others, last) if output is None else (list(refs), output)
    path = expanded(given, "FILE")
    from pipeline.importing.keys import lines_with_keys
    from tracker.archives.exchange import export as write

    with reading(workspace) as reader:
        done = write(
            workspace, reader, named, path, results=not no_results, models=with_models, overwrite=overwrite,
            has_key=lambda text: bool(lines_with_keys(text)),
        )  # fmt: skip
    if as_json:
        render.show_json({
            "file": str(path), "bytes": done.n_bytes, "rows": dict(done.rows), "files": done.n_files,
            "others": list(done.others), "left_out": [{"path": each, "why": why} for each, why in done.left_out],
        })  # fmt: skip
        return
    _show(path, done)
    for where, why in done.left_out[:_SHOWN]:
        render.note(f"⚠️  Left out: {render.harmless(where)} ({render.harmless(why)}).")
    if len(done.left_out) > _SHOWN:
        render.note(f"⚠️  ... and {len(done.left_out) - _SHOWN:,} more.")


def _show(path: Path, done: Exported) -> None:
    from cli.commands.exchange import counted_kinds, said_of_others

    asked = {**done.rows, "batch": done.rows.get("batch", 0) - len(done.others)}
    what = counted_kinds(asked)
    if done.others:
        names = f"the name of {len(done.others)}" if len(done.others) == 1 else f"the names of {len(done.others):,}"
        if asked["batch"]:
            what[0] += f" (and {names} {'other' if len(done.others) == 1 else 'others'})"
        else:
            what.append(f"{names} {'batch' if len(done.others) == 1 else 'batches'}")
    files = f", {render.counted(done.n_files, 'result file')}" if done.n_files else ""
    render.show(f"📦 {path}: {', '.join(what)}{files}; {done.n_bytes:,} bytes.")
    if done.others:
        render.show(said_of_others(done.others))
    render.note(f"`synthtrack import {path}` takes it in on another machine.")
