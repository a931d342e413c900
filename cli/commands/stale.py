"""``synthtrack stale``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import render
from cli.config_files import config_files
from cli.options import as_json, workspace
from cli.text.stale_text import shown
from tracker.errors import ConfigError, Problem
from tracker.paths import Workspace

if TYPE_CHECKING:
    from pipeline.generation.stale import Staleness

_SHOWN = 10


@click.command()
@click.argument("config", metavar="CONFIG", type=click.Path(path_type=Path))
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Show of each experiment the newest N training runs; 0 is all. Default: {_SHOWN}, with --json all.",
)
@as_json
@workspace
def stale(place: Workspace, *, config: Path, limit: int | None, as_json: bool) -> None:
    """Which data and results rest on settings that CONFIG no longer has, and what new data would cost.

    CONFIG is a config of `generate`. Looked at are the experiments that were made from it, and those of its batch on
    the same data set: of what was imported, the ones with the settings most like it are taken for its own.
    Nothing is asked of an LLM, and nothing is written.
    """
    from pipeline.generation.stale import staleness

    [path, *more] = config_files(place, (config,))
    if more:
        raise ConfigError("There are several configs.", [Problem(str(config), f"{len(more) + 1} configs; name one")])
    wanted = limit if limit is not None else 0 if as_json else _SHOWN
    found = staleness(place, path, n_trainings=wanted)
    render.show_either(_json(place, found), lambda: shown(place, found), as_json=as_json)


def _json(place: Workspace, found: Staleness) -> dict[str, Any]:
    hidden = {"id", "key", "of", "name"}
    made = [
        asdict(each)
        | {"is_current": each.is_current}
        | {"trainings": [{key: row[key] for key in row if key not in hidden} for row in each.trainings]}
        for each in found.made
    ]
    renewals = [again._asdict() | asdict(each) for again, each in found.renewals.items()]
    config = place.relative(Path(found.config))
    return {
        "config": config, "fingerprint": found.fingerprint, "batches": list(found.batches), "experiments": made,
        "renewals": renewals,
    }  # fmt: skip
