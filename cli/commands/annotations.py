"""`synthtrack annotations`: several people's decisions as files, and how far they agree."""

# No annotations from __future__: the group below has that name, as its command does.

import sys
from pathlib import Path

import click

from cli.options import as_json, checked_name, checked_range, overwrite, workspace
from cli.render import counted, json_text, note, show, show_either
from tracker.errors import DataError, Problem
from tracker.paths import Workspace
from tracker.record.catalogue import reading

in_range = click.option(
    "--range", "samples", metavar="21-80", callback=checked_range, help="Only these samples; 1 is the first record."
)


@click.group()
def annotations() -> None:
    """Exchange people's decisions, and see how far they agree."""


@annotations.command("export")
@click.argument("experiment")
@in_range
@click.option(
    "--annotator",
    metavar="NAME",
    callback=checked_name,
    help="Only this person's decisions; the others to be filled in.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Write into FILE, not to stdout (-).",
)
@overwrite
@workspace
def export_annotations(
    place: Workspace,
    *,
    experiment: str,
    samples: str | None,
    annotator: str | None,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Every decision as a line of JSON, and a line to be filled in for each sample that still waits for one.

    Fill in `verdict` (same, not the same, skipped) and, if you like, `note`; `annotations import` takes the file.
    `record` holds the record's other fields, to judge by.
    """
    from pipeline.annotating.annotations import exported, load_history

    with reading(place) as reader:
        rows = exported(load_history(reader, place, experiment), samples, annotator)
    lines = [json_text(row) for row in rows]
    if output is None or str(output) == "-":
        show("\n".join(lines))
        return
    from cli.output_file import write_output

    write_output(output, "".join(f"{line}\n" for line in lines), overwrite=overwrite)
    open_rows = sum(row["verdict"] is None for row in rows)
    note(f"{counted(len(rows), 'line')} in {output}, {open_rows} of them to be filled in.")


@annotations.command("import")
@click.argument("experiment")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--annotator", metavar="NAME", callback=checked_name, help="Whose they are, whatever the file says.")
@in_range
@as_json
@workspace
def import_annotations(
    place: Workspace, *, experiment: str, file: Path, annotator: str | None, samples: str | None, as_json: bool
) -> None:
    """Take decisions from FILE (- is stdin), JSON Lines as `annotations export` writes them: all that are new, or none.

    A line names its sample by `sample` (1 is the first record) or the record's own `idx`, and holds a `verdict`: same,
    not the same, skipped, approved, rejected; without one it is left out. Texts in it must be those of the sample.
    """
    from cli.text.annotations_text import imported, imported_json
    from pipeline.annotating.annotations_import import import_annotations as take
    from tracker.listings import listings

    found = take(place, experiment, _content(file), str(file), annotator=annotator, samples=samples)
    with reading(place) as reader:
        runs = listings.generation_runs(reader, found.state.experiment["id"])
    show_either(imported_json(found, runs), lambda: imported(found, runs), as_json=as_json)


def _content(file: Path) -> str:
    try:
        return (sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()).decode("utf-8-sig")
    except OSError as error:
        raise DataError("The annotations cannot be read.", [Problem(str(file), str(error.strerror))]) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = Problem(f"{file}:{line}", f"byte {error.object[error.start]:#04x}")
        raise DataError("The annotations are not UTF-8.", [problem]) from error


@annotations.command("agreement")
@click.argument("experiment")
@in_range
@as_json
@workspace
def show_agreement(place: Workspace, *, experiment: str, samples: str | None, as_json: bool) -> None:
    """How far every two annotators agree (Cohen's kappa), and every sample on which they differ."""
    from cli.text.annotations_text import agreed, agreed_json
    from pipeline.annotating.agreement import agreement
    from pipeline.annotating.annotations import load_history

    with reading(place) as reader:
        found = agreement(load_history(reader, place, experiment), samples)
    show_either(agreed_json(found), lambda: agreed(found), as_json=as_json)
