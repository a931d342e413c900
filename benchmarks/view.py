"""``python -m benchmarks.view``: what it costs to make, mend and look at a tree of 100,000 links.

Every build goes into a fresh directory, and nothing is deleted before the end: after a large ``rm -rf`` ext4 makes
links at a thirtieth of its speed for minutes. Medians of three, seconds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.views import synthetic_view
from tracker.views.plan import Changes, link_target

ROUNDS = 3
BARE = "links of a new tree, bare os.symlink"
Timed = Callable[[str, Callable[[], object]], None]
MOMENT = "2026-11-20T21:46:52.123456Z"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--links", type=int, default=100_000)
    parser.add_argument("--experiments", type=int, default=1_000)
    given = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="synthtrack-bench-"))
    try:
        _measure(base, given.experiments, given.links)
    finally:
        shutil.rmtree(base)


def _measure(base: Path, experiments: int, links: int) -> None:
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        times.setdefault(name, []).append(time.perf_counter() - start)

    seen = [_round(base / str(number), experiments, links, timed) for number in range(ROUNDS)]
    for number in range(ROUNDS):
        here = _workspace(base / f"small{number}", experiments, links // 10)
        _rebuild(here)
        timed(f"refresh of 100 experiments in a tree of {links // 10:,} links", partial(_refresh, here, 100))
    _print(times, experiments, links)
    print(f"\nA reader looked at replaced links {sum(found[0] for found in seen):,} times", end=" ")
    print(f"and missed one {sum(found[1] for found in seen):,} times.")


def _round(base: Path, experiments: int, links: int, timed: Timed) -> tuple[int, int]:
    here = _workspace(base / "workspace", experiments, links)
    timed("directories of all experiments, every file synced", partial(_directories_only, here, experiments))
    paths = _link_paths(here)
    timed(BARE, partial(_bare, base / "bare", paths))
    timed("links of a new tree, `view rebuild`", partial(_rebuild, here))
    timed("`view rebuild`, nothing to do", partial(_rebuild, here))
    seen = _swaps_with_a_reader(here, paths, timed)
    timed("`view check`", partial(_check, here))
    for count in (1, 100):
        timed(f"refresh of {count} experiments in a tree of {links:,} links", partial(_refresh, here, count))
    return seen


def _print(times: dict[str, list[float]], experiments: int, links: int) -> None:
    bare = statistics.median(times[BARE])
    print(f"{links:,} links to {experiments:,} experiments; Python {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    print("| what | median s | of bare os.symlink | all |")
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


def _refresh(here: Workspace, count: int) -> None:
    with reading(here) as reader:
        assert not synthetic_view.refresh(here, reader, range(1, count + 1))


def _directories_only(here: Workspace, experiments: int) -> None:
    """The directories without a link: what is measured is the links."""
    with sqlite3.connect(here.database) as connection:
        connection.execute("ALTER TABLE batch_membership RENAME TO kept")
        connection.execute("CREATE TABLE batch_membership AS SELECT * FROM kept WHERE 0")
    for first in range(1, experiments + 1, 100):
        with reading(here) as reader:
            synthetic_view.refresh(here, reader, range(first, first + 100))
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
