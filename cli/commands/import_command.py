"""`synthtrack import`: a tree of the older layout, finished data sets, and archives of another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from cli import render
from cli.options import as_json, workspace
from cli.progress import command_line
from tracker.errors import ConfigError, PartialResult, Problem
from tracker.paths import Workspace, expanded, is_new, plain


class _ByPath(click.Group):
    """A group whose arguments are a path where they do not begin with one of its commands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args[:1] and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named or not args else ["path", *args])

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "PATH [--dry-run] [--copy]")
        formatter.write_usage(ctx.command_path, "dataset FILES... --dataset NAME --purpose PURPOSE")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.commands["path"].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group("import", cls=_ByPath, context_settings={"help_option_names": ["-h", "--help"]})
def import_() -> None:
    """Take over what was made elsewhere.

    PATH is a directory of the older layout (a project, its Data_v2/synthetic or a _shared) or an archive that
    `synthtrack export` wrote. What was imported before is left as it is.
    """


@import_.command("path", hidden=True, short_help="A tree of the older layout, or an archive.")
@click.argument("given", metavar="PATH")
@click.option("--dry-run", is_flag=True, help="Say what would be taken; write nothing.")
@click.option("--copy", is_flag=True, help="Put the data into the workspace's own tree; default: it stays where it is.")
@click.option(
    "--max-bytes", type=click.IntRange(min=1), metavar="N", help="What an archive may unpack to; default 8 GiB."
)
@as_json
@workspace
def import_path(
    place: Workspace, *, given: str, dry_run: bool, copy: bool, max_bytes: int | None, as_json: bool
) -> None:
    """Import a directory of the older layout, or an archive."""
    path = place.find(expanded(given, "PATH"))
    if path.is_file():
        if copy:
            raise click.BadParameter(f"{given} is an archive; --copy is for directories.")
        from cli.commands.exchange import import_archive

        import_archive(place, path, dry_run=dry_run, as_json=as_json, max_bytes=max_bytes)
        return
    if not path.is_dir():
        raise ConfigError("There is nothing to import.", [Problem(given, "no such file or directory")])
    from pipeline.importing.run import import_tree

    if is_new(place):
        render.note_new_workspace(place.root, dry_run=dry_run)
    with _bar() as progress:
        report = import_tree(place, path, command=command_line(), dry_run=dry_run, copy=copy, progress=progress)
    if as_json:
        render.show_json(report.to_json())
    else:
        from cli.text.import_text import reported

        render.show("\n".join(reported(report, dry_run=dry_run)))
    _end(report.count("wrong"), dry_run=dry_run)


@import_.command("dataset")
@click.argument("files", nargs=-1, required=True, metavar="FILES...")
@click.option("--dataset", required=True, metavar="NAME", help="The data set's directory name: Copa.")
@click.option("--purpose", required=True, metavar="PURPOSE", help="Why it was made.")
@click.option("--original", metavar="FILE", help="The train file it was made of: gives samples side by side.")
@click.option("--name", metavar="NAME", help="The experiment's name; default: imported_ and its fingerprint.")
@click.option("--batch", metavar="BATCH", help="The batch it belongs to; default: imported_ and its purpose.")
@click.option("--model", metavar="MODEL", help="The model that made it, if known.")
@click.option("--temperature", type=click.FloatRange(min=0, max=2), help="Its temperature, if known.")
@click.option("--description", default="", metavar="TEXT", help="A sentence for those who read it later.")
@as_json
@workspace
def import_dataset_files(
    place: Workspace,
    *,
    files: tuple[str, ...],
    dataset: str,
    purpose: str,
    original: str | None,
    name: str | None,
    batch: str | None,
    model: str | None,
    temperature: float | None,
    description: str,
    as_json: bool,
) -> None:
    """Import finished JSONL as an experiment of unknown settings.

    FILES are copa_train.jsonl, copa_validation.jsonl ..., or say which is which: train=FILE validation=FILE.
    """
    from pipeline.importing.dataset import About, import_dataset
    from tracker.listings import listings
    from tracker.record.catalogue import reading

    if is_new(place):
        render.note_new_workspace(place.root)
    about = About(dataset, purpose, name, batch, model, temperature, description)
    path = None if original is None else plain(place.find(original))
    report, experiment_id = import_dataset(place, files, about, original=path, command=command_line())
    with reading(place) as reader:
        row = reader.rows("SELECT reference, fingerprint FROM experiment_overview WHERE id = :id", id=experiment_id)[0]
        shown = listings.path_of(reader, place, row["fingerprint"])
    if as_json:
        render.show_json(
            {**report.to_json(), "experiment": row["reference"], "fingerprint": row["fingerprint"], "path": shown}
        )
    else:
        from cli.text.import_text import reported

        render.show("\n".join([*reported(report, dry_run=False), "", f"   Path: {shown}"]))
    _end(report.count("wrong"))


def _end(n_wrong: int, *, dry_run: bool = False) -> None:
    if n_wrong:
        rest = "nothing was written" if dry_run else "everything else was taken"
        again = "" if dry_run else " Importing again takes what is new then."
        raise PartialResult(
            f"{render.counted(n_wrong, 'thing was', 'things were')} found wrong; {rest}.",
            hint=f"The report above says what, and what to do.{again}",
        )


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar, on a terminal only."""
    if not render.is_terminal():
        yield lambda _done, _of: None
        return
    from tqdm import tqdm

    bar: tqdm[Any] = tqdm(desc="Importing", unit="exp", leave=False, dynamic_ncols=True)

    def progress(done: int, of: int) -> None:
        bar.total, bar.n = of, done
        bar.refresh()

    try:
        yield progress
    finally:
        bar.close()
