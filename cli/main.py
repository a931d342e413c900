"""The entry point: the list of commands, each loaded when it is called, and the one place that catches errors."""

from __future__ import annotations

import errno
import gc
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tracker.errors import Error, Interrupted, StorageError, Unsupported

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS = {
    "demo": ("cli.commands.demo:demo", "Show the main job end to end, offline, in a new workspace."),
    "init": ("cli.commands.workspace:init", "Make a workspace with example configs and sample data."),
    "config": ("cli.commands.workspace:config", "Show every path and setting in force, and whether it is usable."),
    "generate": ("cli.commands.generate:generate", "Make a synthetic data set, resume it, or find it already made."),
    "perspectives": (
        "cli.commands.perspectives:perspectives",
        "Let agents under several conditions answer every input.",
    ),
    "pool": ("cli.commands.pool:pool", "Score benchmarks, and draw task pools of easy and hard tasks."),
    "data": ("cli.commands.data:data", "Fetch inputs for agents from the hub."),
    "review": ("cli.commands.review:review", "Checkpoint 1: approve or reject the first rephrased samples."),
    "annotate": (
        "cli.commands.review:annotate",
        "Checkpoint 2: same or not the same, for the judge to learn and be tested.",
    ),
    "annotations": ("cli.commands.annotations:annotations", "Exchange people's decisions, and see how far they agree."),
    "judge-test": ("cli.commands.judge_test:judge_test", "Test the judge on what people decided."),
    "template": (
        "cli.commands.template:template",
        "Save validated prompts and examples as a config for parameter studies.",
    ),
    "publish": (
        "cli.commands.publish:publish",
        "Copy or link a finished data set to where other programs look for it.",
    ),
    "train": ("cli.commands.train:train", "Train and measure a model on a data set: every point of a grid."),
    "training": ("cli.commands.training:training", "Look at trainings under way, stop them, go on with them."),
    "result": ("cli.commands.result:result", "List, show and compare what trainings gave, and find the best setting."),
    "batch": ("cli.commands.batch:batch", "List and show batches."),
    "experiment": ("cli.commands.experiment:experiment", "List, show and compare experiments."),
    "path": ("cli.commands.path:path", "Find data paths and convert between batch and shared ones."),
    "verify": ("cli.commands.verify:verify", "Check that record, data and results are what they were made as."),
    "view": ("cli.commands.view:view", "Rebuild and check the directory tree."),
    "import": ("cli.commands.import_command:import_", "Take over an older tree, finished data, or an archive."),
    "export": ("cli.commands.export:export", "Put a batch, or single things, into one file for another machine."),
    "lineage": ("cli.commands.lineage:lineage", "Trace anything to its sources and prompts, and to what became of it."),
    "stale": ("cli.commands.stale:stale", "Say what rests on settings that a config no longer has."),
    "sql": ("cli.commands.sql:sql", "Ask the database a question in SQL, which cannot change it."),
    "report": ("cli.commands.report:report", "Write a page about a batch or a purpose, to be sent round."),
    "gc": ("cli.commands.gc:gc", "Move what nothing needs to the trash, and clear leftovers away."),
    "trash": ("cli.commands.trash:trash", "List what was deleted, and empty the trash by age."),
    "backup": ("cli.commands.backup:backup", "Copy the database while it is in use."),
    "restore": ("cli.commands.restore:restore", "Bring back what was deleted, or a backup."),
    "completion": ("cli.commands.completion:completion", "Let the TAB key complete commands and names in your shell."),
    "mlflow": ("cli.commands.mlflow:mlflow", "Bring MLflow up to date with the record."),
    "ui": ("cli.commands.mlflow:ui", "Start MLflow's user interface on this workspace."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is called."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        if context.resilient_parsing:
            from cli.completing import attach

            attach(name, command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        # Not the group's own way, which imports each command for its help.
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, n=2)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--root", metavar="DIR", help="The workspace; default: SYNTHTRACK_ROOT, the nearest parent that is one, or here."
)
@click.version_option(package_name="synthtrack", prog_name="synthtrack")
@click.pass_context
def cli(context: click.Context, root: str | None) -> None:
    """Make synthetic training data with LLMs, and trace every result to the settings behind it."""
    context.obj = root


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code; errors go to stderr in words."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal or pipe that cannot show a character is no reason to stop a run that is paid for.
            stream.reconfigure(errors="replace")
    try:
        if os.name != "posix":
            raise Unsupported(
                f"synthtrack needs a POSIX system (symlinks, file locks); this is {sys.platform}.",
                hint="On Windows, run it inside WSL.",
            )
        cli.main(args=None if arguments is None else list(arguments), prog_name="synthtrack", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _report(Interrupted("Interrupted."))
    except Error as error:
        return _report(error)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; Python would complain again while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        # Whoever knows more says more. Without a name it is stdout or stderr, which nobody else explains.
        return _report(_unexplained(error))
    return 0


def _unexplained(error: OSError) -> StorageError:
    where = "The output could not be written" if error.filename is None else str(error.filename2 or error.filename)
    found = StorageError(f"{where}: {error.strerror or error}.")
    found.__cause__ = error
    return found


def _report(error: Error) -> int:
    click.echo(f"Error: {error.message}", err=True)
    hint = error.hint or (_remedy(error.__cause__) if isinstance(error.__cause__, OSError) else None)
    if hint:
        click.echo(hint, err=True)
    return error.exit_code


def _remedy(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "Free some disk space, then run the same command again."
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return "Check the permissions, then run the same command again."
    return "Check the disk and the path, then run the same command again."


def main() -> None:
    """The console script."""
    if os.environ.get("_SYNTHTRACK_COMPLETE"):
        from cli.commands.completion import complete

        sys.exit(complete(cli, os.environ["_SYNTHTRACK_COMPLETE"]))
    code = run()
    # Nothing is left open, and to look through what MLflow or torch made, only to end, takes a second.
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
