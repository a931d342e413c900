"""The builder as a class, for notebooks and scripts."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.pools.build import PoolJob, build, draw, prepare
from pipeline.pools.configs import load_benchmarks
from pipeline.pools.difficulty import Scorer
from pipeline.pools.preprocess import preprocess
from pipeline.pools.specs import BenchmarksConfig, PoolConfig
from pipeline.pools.stream import Shortfall
from tracker import clock, configs
from tracker.configs import Document
from tracker.durable import place_beside, removed_on_error, write_file
from tracker.fingerprint import Json
from tracker.paths import Workspace, find_workspace
from tracker.record.catalogue import Reader, Row, reading
from tracker.record.pool_files import UNASSIGNED, full_id, statistics, statistics_file, task_id
from tracker.views import pool_view

_CURRENT = "SELECT * FROM benchmark WHERE is_current ORDER BY id"
_TASKS = "SELECT * FROM benchmark_task WHERE benchmark_id = :id ORDER BY position"
_COMMAND = "DatasetBuilder"


@dataclass(frozen=True)
class Task:
    """One task of a benchmark or of a pool; ``difficulty_score`` is from 0 to 1 within its benchmark."""

    task_id: str
    benchmark: str
    difficulty_score: float
    difficulty_bin: str
    raw_data: dict[str, Json]
    scorer_metadata: dict[str, Json]


class TaskStream(list[Task]):
    """Tasks in the order of their pool, the benchmarks it was drawn from, and what was missing."""

    def __init__(self, tasks: Iterable[Task], benchmarks: Sequence[str], shortfalls: Sequence[Shortfall]) -> None:
        super().__init__(tasks)
        self.benchmarks, self.shortfalls = tuple(benchmarks), tuple(shortfalls)


class DatasetBuilder:
    """Scores benchmarks and draws pools as ``config_path`` says: that of a data_config.yaml, or what is in one.

    ``root`` is the workspace (default: found as on the command line), ``scorers`` are those of one's own benchmarks.
    """

    def __init__(
        self,
        config_path: str | Path | Mapping[str, Json],
        root: str | Path | None = None,
        scorers: Mapping[str, Scorer] | None = None,
    ) -> None:
        self.workspace = find_workspace(root)
        self.config = (
            configs.validate(BenchmarksConfig, Document(dict(config_path), "the config"))
            if isinstance(config_path, Mapping)
            else load_benchmarks(self.workspace, Path(config_path))
        )
        self.scorers = scorers

    def preprocess_all_benchmarks(
        self,
        output_dir: str | Path | None = None,
        force_reprocess: bool = False,  # noqa: FBT001, FBT002  as users know it
    ) -> dict[str, list[Task]]:
        """Every enabled benchmark, scored; its files are under data/benchmarks/full, and in ``output_dir`` where given.

        Raises the first error where a benchmark failed, when the others are done.
        """
        found = preprocess(self.workspace, self.config, force=force_reprocess, scorers=self.scorers)
        with reading(self.workspace) as reader:
            pool_view.refresh(self.workspace, reader, full=True)
            names = [each.name for each in found if each.status != "failed"]
            tasks = {name: _full(reader, name) for name in names}
            if output_dir is not None:
                self._copy(self.workspace.find(output_dir), names)
        for each in found:
            if each.error is not None:
                raise each.error
        return tasks

    def build_task_stream(  # noqa: PLR0917  as users know it
        self,
        benchmarks_to_include: Sequence[str],
        difficulty_split: str = "50:50",
        n_total_tasks: int = 1000,
        random_seed: int = 2025,
        difficulty_percentiles: Mapping[str, Sequence[float]] | None = None,
        benchmark_ratios: Mapping[str, float] | None = None,
        sample_with_replacement: bool | None = None,  # noqa: FBT001  as users know it
        *,
        name: str | None = None,
    ) -> TaskStream:
        """The tasks of a pool in their order. With a ``name`` it is recorded, and lies in data/NAME.

        Warns of every bin that held fewer tasks than were wanted; ``shortfalls`` of what it gives has them too.
        Raises ConfigError with every problem, WrongStep before the benchmarks are preprocessed.
        """
        given = {
            "name": name or "stream", "benchmarks": list(benchmarks_to_include), "difficulty_split": difficulty_split,
            "n_total_tasks": n_total_tasks, "random_seed": random_seed, "benchmark_ratios": benchmark_ratios,
            "difficulty_percentiles": difficulty_percentiles or {}, "sample_with_replacement": sample_with_replacement,
        }  # fmt: skip
        config = configs.validate(PoolConfig, Document(given, "the pool"))
        job = prepare(self.workspace, self.config, config, path=None, command=_COMMAND)
        if name is not None:
            self._record(job)
        with reading(self.workspace) as reader:
            drawn = draw(reader, job)
        for each in drawn.shortfalls:
            what = f"{each.benchmark} has {each.got:,} {each.bin} tasks, {each.wanted:,} were wanted"
            warnings.warn(what, stacklevel=2)
        tasks = [_task(task_id(at, row["benchmark"]), row["benchmark"], row) for at, row in enumerate(drawn.tasks)]
        return TaskStream(tasks, config.benchmarks, drawn.shortfalls)

    def save_task_pool(self, task_stream: Sequence[Task], output_path: str | Path) -> Path:
        """Writes tasks as JSON Lines; gives the path."""
        lines = (f"{json.dumps(asdict(task), ensure_ascii=False)}\n" for task in task_stream)
        return self._write(output_path, "".join(lines).encode())

    def save_statistics(self, task_stream: Sequence[Task], output_path: str | Path) -> Path:
        """Writes what there is of which difficulty; gives the path."""
        rows = [(task.benchmark, task.difficulty_bin, task.difficulty_score) for task in task_stream]
        whole = task_stream if isinstance(task_stream, TaskStream) else TaskStream((), [row[0] for row in rows], ())
        short, names = [asdict(each) for each in whole.shortfalls], list(dict.fromkeys(whole.benchmarks))
        return self._write(output_path, statistics_file(statistics(rows, short, names)))

    def _record(self, job: PoolJob) -> None:
        built = build(self.workspace, job)
        with reading(self.workspace) as reader:
            pool_view.refresh(self.workspace, reader, [built.pool["id"]])

    def _copy(self, directory: Path, names: Sequence[str]) -> None:
        own = self.workspace.data_dir / pool_view.FULL
        if directory.resolve() == own.resolve():
            return
        for name in names:
            for end in ("full.jsonl", "full_meta.json"):
                self._write(directory / f"{name}_{end}", (own / f"{name}_{end}").read_bytes())

    def _write(self, given: str | Path, data: bytes) -> Path:
        path = _target(self.workspace, given)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = place_beside(path.parent)
        with removed_on_error(beside):
            write_file(beside, data, round(clock.now().timestamp()) * 1_000_000_000)
            beside.replace(path)
        return path


def _target(workspace: Workspace, given: str | Path) -> Path:
    path = Path(given).expanduser()
    return path if path.is_absolute() else workspace.root / path


def _full(reader: Reader, name: str) -> list[Task]:
    (row,) = [each for each in reader.rows(_CURRENT) if each["name"] == name]
    return [
        _task(full_id(name, task["position"]), name, {**task, "difficulty_bin": UNASSIGNED})
        for task in reader.rows(_TASKS, id=row["id"])
    ]


def _task(own_id: str, benchmark: str, row: Row) -> Task:
    return Task(
        own_id, benchmark, row["difficulty_score"], row["difficulty_bin"], json.loads(row["raw_data"]),
        json.loads(row["scorer_metadata"]),
    )  # fmt: skip
