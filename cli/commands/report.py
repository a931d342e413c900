"""``synthtrack report``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cli.options import workspace
from cli.render import harmless, note, show
from tracker.errors import Conflict
from tracker.paths import Workspace
from tracker.record.catalogue import reading

_HEAD = 4096


@click.command()
@click.argument("name", metavar="BATCH|PURPOSE")
@click.option(
    "--output", "-o", metavar="FILE", help="Where it is written; - is stdout. Default: report_{name}.html, here."
)
@click.option("--batch", "wanted", flag_value="batch", default=None, help="The name is a batch's.")
@click.option("--purpose", "wanted", flag_value="purpose", help="The name is a purpose's.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is no report.")
@workspace
def report(place: Workspace, *, name: str, output: str | None, wanted: str | None, overwrite: bool) -> None:
    """Write one page about a batch or a purpose: settings, acceptance, cost, accuracies, samples, lineage.

    The page is a single HTML file that loads nothing and runs no script, to be sent round or opened anywhere. A purpose
    is that of data or of trainings; a name that is a batch's, too, means the batch. The same record gives the same
    bytes; an older report in the file's place is replaced.
    """
    from cli.output_file import write_output
    from cli.text.report_page import rendered
    from tracker.reports.batch_report import gather
    from tracker.reports.report_subject import BATCH, find

    with reading(place) as reader:
        subject = find(reader, name, wanted)
        if subject.others:
            other = "--purpose" if BATCH in subject.roles else "--batch"
            took, left = " and ".join(subject.roles), " and ".join(subject.others)
            note(f"Note: {harmless(subject.name)} is taken as a {took}; it is a {left}, too: {other} reports that.")
        page = rendered(gather(reader, subject), lambda path: place.relative(Path(path)))
    if output == "-":
        show(page)
        return
    path = Path(output if output is not None else f"report_{_file_name(subject.name)}.html")
    if os.path.lexists(path) and not overwrite and not _is_report(path):
        raise Conflict(f"{path} is there already and no report.", hint="--overwrite replaces it.")
    write_output(path, page, overwrite=True)
    show(f"📄 {harmless(str(path))} ({len(page.encode()) / 1024:,.0f} KiB)")


def _file_name(name: str) -> str:
    """``name`` with what no file's name should hold replaced, and not longer than a file's name can be."""
    kept = "".join(char if char.isalnum() or char in "-_." else "_" for char in name)
    return kept.encode()[:120].decode(errors="ignore").lstrip(".") or "unnamed"


def _is_report(path: Path) -> bool:
    from cli.text.report_page import SIGN

    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f'<meta name="generator" content="{SIGN}">'.encode() in file.read(_HEAD)
