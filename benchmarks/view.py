"""``python -m benchmarks.view``: what it costs to make, mend and look at a tree of 100,000 links.

    python -m benchmarks.view [--links N] [--experiments N] [--rounds N]

Every build goes into a fresh directory, and nothing is deleted before the end: after a large ``rm -rf`` ext4 makes
links at a thirtieth of its speed for minutes. Medians, seconds. A change of 1% is that of all links of 1% of the
experiments, brought by a refresh of these, as a command does it; a rebuild has to look at the whole tree first.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.machine import heading
from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.views import synthetic_view
from tracker.views.plan import Changes, link_target

BARE = "links of a new tree, bare os.symlink"
Timed = Callable[[str, Callable[[], object]], None]
MOMENT = "2026-11-20T21:46:52.123456Z"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--links", type=int, default=100_000)
    parser.add_argument("--experiments", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    print(heading(f"{given.links:,} links to {given.experiments:,} experiments; medians of {given.rounds}"))
    base = Path(tempfile.mkdtemp(prefix="synthtrack-bench-"))
    try:
        _measure(base, given.experiments, given.links, given.rounds)
    finally:
        shutil.rmtree(base)


def _measure(base: Path, experiments: int, links: int, rounds: int) -> None:
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        times.setdefault(name, []).append(time.perf_counter() - start)

    seen = [_round(base / str(number), experiments, links, timed) for number in range(rounds)]
    for number in range(rounds):
        here = _workspace(base / f"small{number}", experiments, links // 10)
        _rebuild(here)
        timed(
            f"refresh of 100 experiments, nothing to do, in a tree of {links // 10:,} links",
            partial(_refresh, here, 100),
        )
    _print(times)
    print(f"\nA reader looked at replaced links {sum(found[0] for found in seen):,} times", end=" ")
    print(f"and missed one {sum(found[1] for found in seen):,} times.")


def _round(base: Path, experiments: int, links: int, timed: Timed) -> tuple[int, int]:
    here = _workspace(base / "workspace", experiments, links)
    timed("files of all experiments, on the disk before they are seen", partial(_directories_only, here))
    files = [(path, path.read_bytes()) for path in here.shared_dir.rglob("*") if path.is_file()]
    for synced in (False, True):
        name = f"the same {len(files):,} files, bare, {'a sync after each' if synced else 'never synced'}"
        timed(name, partial(_bare_files, base / f"files{synced}", here.shared_dir, files, synced=synced))
    paths = _link_paths(here)
    timed(BARE, partial(_bare, base / "bare", paths))
    timed("links of a new tree, `view rebuild`", partial(_rebuild, here))
    timed("`view rebuild`, nothing to do", partial(_rebuild, here))
    changed = max(1, experiments // 100)
    _take_links_away(here, paths, changed)
    timed("1% of the links missing, brought by a refresh", partial(_refresh, here, changed, changes=True))
    seen = _swaps_with_a_reader(here, paths, timed)
    timed("`view check`", partial(_check, here))
    for count in (1, 100):
        timed(
            f"refresh of {count} experiments, nothing to do, in a tree of {links:,} links",
            partial(_refresh, here, count),
        )
    return seen


def _print(times: dict[str, list[float]]) -> None:
    bare = statistics.median(times[BARE])
    print("\n| what | median s | of bare os.symlink | all |")
    print("|---|---|---|---|")
    for name, found in times.items():
        middle = statistics.median(found)
        print(f"| {name} | {middle:.3f} | {middle / bare:.2f} | {', '.join(f'{each:.3f}' for each in found)} |")


def _swaps_with_a_reader(here: Workspace, paths: list[str], timed: Timed) -> tuple[int, int]:
    swapped = [here.synthetic_dir / path for path in paths[::100]]
    for path in swapped:
        beside = path.with_name("beside")
        beside.symlink_to("../../_shared/nothing")
        beside.replace(path)
    missed = looks = 0
    stop = threading.Event()

    def look() -> None:
        nonlocal missed, looks
        while not stop.is_set():
            for path in swapped:
                missed += not os.path.lexists(path)
            looks += len(swapped)

    reader = threading.Thread(target=look)
    reader.start()
    timed("`view rebuild`, 1% of the links replaced by hand, under a reader", partial(_rebuild, here))
    stop.set()
    reader.join()
    for path in swapped:
        path.unlink()
    timed("`view rebuild`, 1% of the links missing", partial(_rebuild, here))
    return looks, missed


def _bare(directory: Path, paths: list[str]) -> None:
    made = set()
    for path in paths:
        batch, dataset, _ = path.split("/")
        if (batch, dataset) not in made:
            made.add((batch, dataset))
            (directory / batch / dataset).mkdir(parents=True)
        os.symlink(link_target(path), f"{directory}/{path}")  # noqa: PTH211  the bare call is what is measured


def _rebuild(here: Workspace) -> Changes:
    with reading(here) as reader:
        return synthetic_view.rebuild(here, reader)


def _check(here: Workspace) -> None:
    with reading(here) as reader:
        assert synthetic_view.check(here, reader) == []


def _refresh(here: Workspace, count: int, *, changes: bool = False) -> None:
    with reading(here) as reader:
        assert bool(synthetic_view.refresh(here, reader, range(1, count + 1))) is changes


def _take_links_away(here: Workspace, paths: list[str], count: int) -> None:
    names = {f"temp{number:06}" for number in range(1, count + 1)}
    for path in paths:
        if path.rpartition("/")[2] in names:
            (here.synthetic_dir / path).unlink()


def _bare_files(directory: Path, source: Path, files: list[tuple[Path, bytes]], *, synced: bool) -> None:
    for path, data in files:
        target = directory / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(data)
            if synced:
                file.flush()
                os.fsync(file.fileno())


def _directories_only(here: Workspace) -> None:
    """The directories without a link: what is measured is the links."""
    with sqlite3.connect(here.database) as connection:
        connection.execute("ALTER TABLE batch_membership RENAME TO kept")
        connection.execute("CREATE TABLE batch_membership AS SELECT * FROM kept WHERE 0")
    _rebuild(here)
    with sqlite3.connect(here.database) as connection:
        connection.execute("DROP TABLE batch_membership")
        connection.execute("ALTER TABLE kept RENAME TO batch_membership")
    connection.close()


def _link_paths(here: Workspace) -> list[str]:
    with reading(here) as reader:
        rows = reader.rows(
            "SELECT b.name || '/' || e.dataset || '/' || e.name AS path FROM batch_membership m "
            "JOIN batch b ON b.id = m.batch_id JOIN shared_experiment e ON e.id = m.shared_experiment_id ORDER BY path"
        )
    return [row["path"] for row in rows]


def _workspace(root: Path, experiments: int, links: int) -> Workspace:
    """A record of small experiments, each in as many batches as make up the number of links."""
    here = Workspace(root, environ={})
    open_database(here).close()
    batches = links // experiments
    with sqlite3.connect(here.database) as connection:
        connection.execute("INSERT INTO source_dataset VALUES (1, 'Copa', 'copa', 'd', 'benchmark', ?)", (MOMENT,))
        connection.execute("INSERT INTO source_split VALUES (1, 1, 'train', 'copa_train.jsonl', 'd', 1, 18, NULL)")
        connection.execute('INSERT INTO source_record VALUES (1, 1, 0, \'{"premise":"a b"}\')')
        connection.executemany(
            "INSERT INTO batch (id, name, purpose, description, created_at) VALUES (?, ?, 'benchmark', '', ?)",
            ((number, f"batch_{number:04}", MOMENT) for number in range(1, batches + 1)),
        )
        connection.executemany(
            "INSERT INTO shared_experiment (id, fingerprint, digest, scheme, identity, dataset, name, semantic_name,"
            " source_dataset_id, status, provider, endpoint, model, strategy, draw, field_to_rephrase, settings,"
            " config, purpose, description, original_batch_id, created_at, completed_at, n_records, n_accepted,"
            " n_rejected, n_unclear, n_failed, prompt_tokens, completion_tokens)"
            " VALUES (?1, ?2, ?2, 1, '{}', 'Copa', ?3, ?3, 1, 'complete', 'offline', 'offline', 'offline',"
            " 'direct_all', 0, 'premise', '{}', '{}', 'benchmark', '', 1, ?4, ?4, 1, 0, 1, 0, 0, 0, 0)",
            ((number, f"{number:012x}", f"temp{number:06}", MOMENT) for number in range(1, experiments + 1)),
        )
        connection.executemany(
            "INSERT INTO batch_membership VALUES (?, ?, ?, 0)",
            ((1 + number // experiments, 1 + number % experiments, MOMENT) for number in range(links)),
        )
    connection.close()
    return here


if __name__ == "__main__":
    main()
