"""``synthtrack export``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from cli import options, render
from tracker.catalogue import reading
from tracker.paths import Workspace, expanded

_SHOWN = 10


@click.command()
@click.argument("refs", nargs=-1, required=True, metavar="REF... FILE")
@click.option("--output", "-o", metavar="FILE", help="The archive, where it is not the last argument.")
@click.option("--no-results", is_flag=True, help="Leave out the training runs on the data.")
@click.option("--with-models", is_flag=True, help="Take the weights of trained models along.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there already.")
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
    from tracker.exchange import export as write

    with reading(workspace) as reader:
        done = write(
            workspace, reader, named, path, results=not no_results, models=with_models, overwrite=overwrite,
            has_key=lambda text: bool(lines_with_keys(text)),
        )  # fmt: skip
    if as_json:
        render.show_json({
            "file": str(path), "bytes": done.n_bytes, "rows": dict(done.rows), "files": done.n_files,
            "left_out": [{"path": each, "why": why} for each, why in done.left_out],
        })  # fmt: skip
        return
    _show(path, done.rows, done.n_files, done.n_bytes)
    for where, why in done.left_out[:_SHOWN]:
        render.note(f"⚠️  Left out: {render.harmless(where)} ({render.harmless(why)}).")
    if len(done.left_out) > _SHOWN:
        render.note(f"⚠️  ... and {len(done.left_out) - _SHOWN:,} more.")


def _show(path: Path, rows: Mapping[str, int], n_files: int, n_bytes: int) -> None:
    from cli.exchange import counted_kinds

    what = counted_kinds(rows)
    files = f", {render.counted(n_files, 'result file')}" if n_files else ""
    render.show(f"📦 {path}: {', '.join(what)}{files}; {n_bytes:,} bytes.")
    render.note(f"`synthtrack import {path}` takes it in on another machine.")
