"""`synthtrack publish`: a finished data set where other programs look for it, and what was published where."""

from __future__ import annotations

from pathlib import Path

import click

from cli.commands.delete import confirm, yes_option
from cli.options import as_json, workspace
from cli.render import counted, harmless, note, show, show_either, show_json
from cli.text.listing import limit_of, limited
from cli.text.publish_text import listed, published_as, published_json
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row, reading

_EXPERIMENT = "EXPERIMENT"


class Publish(click.Group):
    """A group whose first word is an experiment where it is no command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [_EXPERIMENT, *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.commands[_EXPERIMENT].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(cls=Publish, options_metavar="", subcommand_metavar="{EXPERIMENT --target DIR [OPTIONS] | list | remove}")
def publish() -> None:
    """Copy or link a finished data set to where other programs look for it.

    Its files appear in DIR/NAME with their bytes, all at once, and `.publish_metadata.json` beside them tells where
    they came from. What was published there before and not touched since is replaced; anything else is left alone.
    `synthtrack publish list` tells what was published where, and whether it is still so.
    """


@publish.command(_EXPERIMENT)
@click.argument("ref", required=False, metavar="")
@click.option("--source", metavar="REF", help="The same as EXPERIMENT: a name, a fingerprint or a path.")
@click.option("--dataset", metavar="NAME", help="Name of the directory in DIR; default: the experiment's data set.")
@click.option(
    "--target",
    required=True,
    metavar="DIR",
    help="A relative one is looked for below the current directory, then below the workspace, and is made below the "
    "workspace if it is not there (outside of the workspace: below the current directory).",
)
@click.option(
    "--archive",
    metavar="NAME[/NAME]",
    help="Also keep a copy beside DIR, which is never replaced: `--target Data/x/0_data --archive mezo_gpt/version_1` "
    "makes Data/x/mezo_gpt/version_1/Copa.",
)
@click.option("--symlink", is_flag=True, help="Link to the shared data instead of copying it.")
@click.option("--force", is_flag=True, help="Move aside what would be lost (to NAME.before-<time>), never deleting it.")
@as_json
@workspace
def publish_experiment(
    place: Workspace,
    *,
    ref: str | None,
    source: str | None,
    dataset: str | None,
    target: str,
    archive: str | None,
    symlink: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Publish an experiment: Copa/temp07_topp10_gpt4o, a fingerprint or its beginning, or a path."""
    from pipeline.publishing.publish import Wish
    from pipeline.publishing.publish import publish as run

    chosen = ref if source is None else source
    if chosen is None or (ref is not None and source is not None):
        raise click.UsageError("Name one experiment: as EXPERIMENT or with --source.")
    wish = Wish(target, dataset, archive, symlink=symlink, force=force)
    experiment, published = run(place, chosen, wish, _following)
    show_either(
        published_json(experiment, published), lambda: published_as(place, experiment, published), as_json=as_json
    )
    for each in published:
        if each.aside is not None:
            note(f"⚠️  What was in its place is now in {harmless(place.relative(each.aside))}")
    if experiment["record_limit"] is not None:
        note(f"⚠️  This is a trial of the first {counted(experiment['record_limit'], 'record')} (--limit).")


@publish.command("list")
@limited
@as_json
@workspace
def list_publications(place: Workspace, *, limit: int | None, as_json: bool) -> None:
    """What was published where, newest first, and whether it is still as it was published."""
    from tracker.publishing.publications import listing

    with reading(place) as reader:
        found = listing(reader, place, limit_of(limit, as_json=as_json))
    show_either(found.rows, lambda: listed(place, found), as_json=as_json)
    if any(row["mode"] == "symlink" and row["missing"] for row in found.rows):
        note("💾 `synthtrack view rebuild` brings back what links lead to.")


@publish.command("remove")
@click.argument("ref", metavar="EXPERIMENT")
@click.option(
    "--keep-files", is_flag=True, help="Leave the files where they are; only forget that they were published."
)
@yes_option
@as_json
@workspace
def remove_publications(place: Workspace, *, ref: str, keep_files: bool, yes: bool, as_json: bool) -> None:
    """Take back what was published of an experiment, so that it can be deleted: its files, and where they were named.

    Files that were added there stay. Refused where published files were changed, unless --keep-files.
    """
    from pipeline.publishing.unpublish import published, unpublish

    found = published(place, ref)
    for row in found:
        note(f"{harmless(place.relative(Path(row['directory'])))}: {harmless(row['state'])}")
    if found:
        confirm("Forget this?" if keep_files else "Remove this?", yes=yes)
        unpublish(place, found, keep_files=keep_files)
    if as_json:
        show_json({"removed": [row["directory"] for row in found], "kept_files": keep_files})
    else:
        show(f"✅ {counted(len(found), 'publication')} {'forgotten' if keep_files else 'taken back'}.")


def _following(reader: Reader, experiment: Row) -> str | None:
    """The command that an unfinished or partial experiment waits for."""
    from cli.text.next_command import generate_command, next_command
    from pipeline.two_stage import TWO_STAGE, load
    from tracker.listings import listings

    runs = listings.generation_runs(reader, experiment["id"])
    if experiment["strategy"] == TWO_STAGE:
        return next_command(load(reader, experiment), runs)
    return generate_command(experiment, runs)
