"""`synthtrack pool list|show|stats|compare`: which pools there are, and what is in them."""

from __future__ import annotations

from dataclasses import asdict

import click

from cli.options import as_json, overwrite, workspace
from cli.output_file import write_output
from cli.render import note, show, show_either, show_json
from cli.text.listing import bring_pools_up_to_date, limit_of, limited, verbose
from tracker.listings import pool_listings
from tracker.paths import Workspace, expanded
from tracker.record.catalogue import Row, reading


@click.command("list")
@verbose
@limited
@as_json
@workspace
def list_pools(place: Workspace, *, verbose: bool, limit: int | None, as_json: bool) -> None:
    """Every task pool."""
    from cli.text.pool_text import listed

    with reading(place) as reader:
        found = pool_listings.pools(reader, limit_of(limit, as_json=as_json))
        show_either(found.rows, lambda: listed(found, verbose=verbose), as_json=as_json)
        bring_pools_up_to_date(place, reader, (row["id"] for row in found.rows))


@click.command("show")
@click.argument("ref")
@click.option("--samples", type=click.IntRange(min=0), default=3, show_default=True, help="How many tasks to show.")
@as_json
@workspace
def show_pool(place: Workspace, *, ref: str, samples: int, as_json: bool) -> None:
    """All that is known of one pool. REF: its name, a fingerprint or its beginning, or a path."""
    from cli.text.pool_text import shown

    with reading(place) as reader:
        row = pool_listings.pool(reader, place, ref)
        tasks, files = pool_listings.tasks(reader, row["id"], samples), _files(place, row)
        show_either({**row, "files": files, "tasks": tasks}, lambda: shown(row, tasks, files), as_json=as_json)
        bring_pools_up_to_date(place, reader, [row["id"]])


@click.command("stats")
@click.argument("ref")
@click.option("--plot", metavar="FILE", help="Draw the scores of each benchmark with the thresholds, as a PNG.")
@overwrite
@as_json
@workspace
def pool_stats(place: Workspace, *, ref: str, plot: str | None, overwrite: bool, as_json: bool) -> None:
    """The statistics of a pool, as statistics.json has them."""
    from cli.text.pool_text import figures

    with reading(place) as reader:
        row = pool_listings.pool(reader, place, ref)
        if plot is not None:
            from tracker.mlflow_runs.pool_plots import distribution, panels

            path = expanded(plot, "--plot")
            if path.suffix.lower() != ".png":
                raise click.BadParameter(f"{plot!r} is no name of a PNG: it must end in .png.", param_hint="--plot")
            write_output(path, distribution(row["name"], panels(reader, row)), overwrite=overwrite)
            note(f"📊 {path}")
        show_either(row["statistics"], lambda: figures(row), as_json=as_json)
        bring_pools_up_to_date(place, reader, [row["id"]])


@click.command("compare")
@click.argument("first", metavar="REF")
@click.argument("second", metavar="REF")
@as_json
@workspace
def compare_pools(place: Workspace, *, first: str, second: str, as_json: bool) -> None:
    """How far two pools overlap, and which settings differ."""
    from cli.text.pool_text import compared

    with reading(place) as reader:
        rows = [pool_listings.pool(reader, place, ref) for ref in (first, second)]
        found = pool_listings.overlap(reader, rows[0], rows[1])
        if as_json:
            counts = [
                {"benchmark": name, "bin": each, "first": n[0], "second": n[1], "both": n[2]}
                for (name, each), n in found.counts.items()
            ]
            names = [row["name"] for row in rows]
            show_json({"pools": names, **asdict(found), "shared": found.shared, "counts": counts})
        else:
            show("\n".join(compared(rows, found)))
        bring_pools_up_to_date(place, reader, [row["id"] for row in rows])


def _files(place: Workspace, row: Row) -> list[str]:
    from tracker.views.pool_view import STATISTICS, TASKS

    return [place.relative(place.data_dir / row["name"] / name) for name in (TASKS, STATISTICS)]
