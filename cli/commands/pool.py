"""``synthtrack pool``: benchmarks and the task pools that are drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options, render
from cli.commands.delete_commands import delete_pool
from cli.commands.pool_browse import compare_pools, list_pools, pool_stats, show_pool
from cli.commands.pool_validate import validate_pool
from cli.progress import command_line, logged_to_mlflow
from tracker.errors import ConfigError, Error, PartialResult, Problem
from tracker.paths import Workspace, is_new

if TYPE_CHECKING:
    from pipeline.pools.build import Built, PoolJob
    from pipeline.pools.preprocess import Preprocessed
    from pipeline.pools.specs import BenchmarksConfig

benchmarks_config = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The benchmarks; default: configs/pools/data_config.yaml, or what the pool's config names.",
)
_SYMBOLS = {"scored": "✅", "cached": "⚡", "failed": "❌"}


@click.group()
def pool() -> None:
    """Score benchmarks, draw task pools with a wanted mix of easy and hard, and ask models about them."""


@pool.command()
@click.argument("names", nargs=-1, metavar="[BENCHMARK]...")
@benchmarks_config
@click.option("--force", is_flag=True, help="Read and score again what is there.")
@click.option("--scorers", type=click.Path(path_type=Path), metavar="FILE", help="Python functions for own benchmarks.")
@options.as_json
@options.workspace
def preprocess(
    workspace: Workspace,
    /,
    *,
    names: tuple[str, ...],
    config: Path | None,
    force: bool,
    scorers: Path | None,
    as_json: bool,
) -> None:
    """Read and score every benchmark of the configuration, or those that are named, in full.

    What is there is left as it is where neither its entry nor its source has changed. FILE holds one function for each
    own benchmark, named like it, and is run.
    """
    from pipeline.pools.configs import load_benchmarks
    from pipeline.pools.preprocess import preprocess as run
    from pipeline.pools.scorer_file import load_scorers
    from tracker.record.catalogue import reading
    from tracker.views import pool_view

    benchmarks = load_benchmarks(workspace, config)
    own = {} if scorers is None else load_scorers(workspace.find(scorers))
    for name in benchmarks.splits_of_files:
        render.note(f"⚠️  {name}: `split` is of the hub's data sets alone, of a file it has no effect.")
    if is_new(workspace):
        render.note_new_workspace(workspace.root)
    found = run(workspace, benchmarks, names=names or None, force=force, scorers=own, tell=_telling(benchmarks))
    with reading(workspace) as reader:
        changes = pool_view.refresh(workspace, reader, full=True)
    for moved in changes.aside:
        render.note(f"⚠️  {moved} was not what the record says; it was moved to {changes.trash}.")
    if as_json:
        render.show_json([_preprocessed_json(each) for each in found])
    else:
        for each in found:
            _show_preprocessed(each)
        if all(each.error is None for each in found):
            render.show(f"   Files: {workspace.relative(workspace.data_dir / pool_view.FULL)}/")
    failed = [each.error for each in found if each.error is not None]
    if failed:
        raise failed[0]


@pool.command()
@click.argument("given", nargs=-1, metavar="[CONFIG|NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every config below configs/pools whose benchmarks are there.")
@benchmarks_config
@click.option("--name", metavar="NAME", help="The pool's directory below data/, instead of the config's.")
@click.option("--benchmarks", metavar="A,B", help="The benchmarks in it.")
@click.option("--ratios", metavar="A=0.7,B=0.3", help="The share of each; they sum to 1.")
@click.option("--split", "difficulty_split", metavar="EASY:HARD", help="As 80:20.")
@click.option("--n", "n_total_tasks", type=click.IntRange(min=1), metavar="N", help="How many tasks.")
@click.option("--seed", "random_seed", type=click.IntRange(min=0), metavar="SEED", help="Draws tasks and their order.")
@click.option("--percentiles", metavar="20:80|A=10:90,...", help="Thresholds of easy and hard, of all or by benchmark.")
@click.option(
    "--with-replacement/--without-replacement",
    "sample_with_replacement",
    default=None,
    help="Whether tasks may repeat.",
)
@click.option("--strict", is_flag=True, help="Exit code 1 where tasks were missing, or --all left out a pool.")
@options.no_mlflow
@options.as_json
@options.workspace
def build(
    workspace: Workspace,
    /,
    *,
    given: tuple[str, ...],
    everything: bool,
    config: Path | None,
    strict: bool,
    no_mlflow: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Draw the task pool that CONFIG describes, or find it already drawn.

    NAME is that of a config below configs/pools. Options change what the config says; with --name and --benchmarks they
    are enough without one. The same settings give the same bytes.
    """
    from cli.commands.pool_options import pool_changes
    from pipeline.pools.configs import DIRECTORY, all_pools, given_pool, load_pool
    from pipeline.pools.jobs import prepare_pools

    changes, found = pool_changes(chosen), all_pools(workspace) if everything else []
    if everything and not found:
        problem = Problem(str(workspace.configs_dir / DIRECTORY), "no config of a pool here")
        raise ConfigError("There is no configuration.", [problem])
    if not given and not found and not {"name", "benchmarks"} <= changes.keys():
        raise click.UsageError("Missing argument '[CONFIG|NAME]...'; or give --name and --benchmarks, or --all.")
    if len(given) + len(found) > 1 and "name" in changes:
        raise click.UsageError("--name is for one pool.")
    named = [load_pool(workspace, each, changes) for each in given]
    asked = named if named or found else [given_pool(changes)]
    others = [load_pool(workspace, each, changes) for each in found]
    # Ratios name benchmarks in any order, and the order is part of a pool.
    in_order = chosen["ratios"] is not None and chosen["benchmarks"] is None
    jobs = prepare_pools(workspace, asked, others, benchmarks=config, command=command_line(), in_order=in_order)
    _note_changes(workspace, jobs.ready)
    for name, why in jobs.left_out:
        render.note(f"⚠️  {name} was left out: {why.message}")
    with logged_to_mlflow(workspace, leave=no_mlflow):
        short = _build_all(workspace, jobs.ready, as_json=as_json)
    if strict:
        _refuse(short, [name for name, _ in jobs.left_out])


def _note_changes(workspace: Workspace, jobs: Sequence[PoolJob]) -> None:
    from pipeline.pools.preprocess import changed_since

    for row in {each.name: each.row for job in jobs for each in job.sources}.values():
        what = changed_since(workspace, row)
        if what is not None:
            render.note(f"⚠️  {row['name']}: {what} since `synthtrack pool preprocess`, which brings it up to date.")


def _refuse(short: list[str], left_out: list[str]) -> None:
    if short:
        raise PartialResult(
            f"Fewer tasks than wanted in {', '.join(short)}.",
            hint="Use --with-replacement, percentiles closer to the middle (--percentiles 30:70), or fewer tasks.",
        )
    if left_out:
        raise PartialResult(f"Left out: {', '.join(left_out)}.", hint="Preprocess their benchmarks.")


def _build_all(workspace: Workspace, jobs: Sequence[PoolJob], *, as_json: bool) -> list[str]:
    """Builds one pool after the other; gives the names of those that are short of tasks."""
    from pipeline.pools.build import build as run
    from tracker.listings import pool_listings
    from tracker.record.catalogue import reading
    from tracker.views import pool_view

    found, short = [], []
    try:
        for job in jobs:
            built = run(workspace, job)
            with reading(workspace) as reader:
                changes = pool_view.refresh(workspace, reader, [built.pool["id"]], deep=True)
                parts = pool_listings.pool(reader, workspace, built.pool["name"])["benchmarks"]
            for moved in changes.aside:
                render.note(f"⚠️  {moved} was not what the record says; it was moved to {changes.trash}.")
            found.append(_built_json(workspace, built))
            if not as_json:
                _show_built(workspace, job, built, sum(part["n_distinct"] for part in parts))
            for each in built.shortfalls:
                render.note(
                    f"⚠️  {built.pool['name']}: {each.benchmark} has {each.got:,} {each.bin} tasks, "
                    f"{each.wanted:,} were wanted."
                )
            short += [built.pool["name"]] if built.shortfalls else []
    finally:
        # What was built before an error is still built.
        if as_json:
            render.show_json(found)
    return short


def _telling(benchmarks: BenchmarksConfig) -> Callable[[str], None]:
    def tell(name: str) -> None:
        # The hub takes its time, above all where it cannot be reached.
        if benchmarks.benchmarks[name].path.startswith("datasets:"):
            render.note(f"Reading {name} from the hub ...")
        elif render.is_terminal():
            render.note(f"Reading {name} ...")

    return tell


def _preprocessed_json(each: Preprocessed) -> dict[str, Any]:
    error: Error | None = each.error
    return {
        "benchmark": each.name, "status": each.status, "reason": each.reason, "n_tasks": each.n_tasks,
        "fingerprint": each.fingerprint or None, "exit_code": 0 if error is None else error.exit_code,
    }  # fmt: skip


def _show_preprocessed(each: Preprocessed) -> None:
    symbol = _SYMBOLS[each.status]
    if each.error is not None:
        render.show(f"{symbol} {each.name}: {each.reason}")
    else:
        render.show(f"{symbol} {each.name}: {each.n_tasks:,} tasks, {each.status} ({each.reason}); {each.fingerprint}")


def _built_json(workspace: Workspace, built: Built) -> dict[str, Any]:
    from tracker.views import pool_view

    keys = ("name", "fingerprint", "n_wanted", "n_tasks", "n_easy", "n_hard", "n_short", "random_seed", "data_digest")
    return {
        "outcome": built.outcome,
        **{key: built.pool[key] for key in keys},
        "path": workspace.relative(workspace.data_dir / built.pool["name"] / pool_view.TASKS),
        "shortfalls": [
            {"benchmark": each.benchmark, "bin": each.bin, "wanted": each.wanted, "got": each.got}
            for each in built.shortfalls
        ],
    }


def _show_built(workspace: Workspace, job: PoolJob, built: Built, n_distinct: int) -> None:
    row = built.pool
    reused = "already drawn, nothing to do" if built.outcome == "reused" else "made"
    render.show(f"{'⚡' if built.outcome == 'reused' else '✅'} {row['name']}: {reused}")
    if row["name"] != job.config.name:
        render.show(f"   The name {job.config.name} is taken by a pool of other settings.")
    render.show(f"   Parameter fingerprint: {row['fingerprint']}")
    render.show(
        f"   Tasks: {row['n_tasks']:,} of {row['n_wanted']:,} ({row['n_easy']:,} easy, {row['n_hard']:,} hard) "
        f"from {', '.join(each.name for each in job.sources)}"
    )
    if row["with_replacement"]:
        render.show(f"   Drawn with replacement: {n_distinct:,} different tasks")
    render.show(f"   Files: {workspace.relative(workspace.data_dir / row['name'])}/")


for _command in (list_pools, show_pool, pool_stats, compare_pools, validate_pool, delete_pool):
    pool.add_command(_command)
