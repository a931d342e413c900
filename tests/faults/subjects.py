"""What is killed: each command with the workspace that it needs, what finishes it, and what must come of it."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.training import places
from tests import perspectives, two_stage
from tests.faults.killing import Forge
from tests.old_trees import write_run, write_tree
from tests.workspaces import config, new_root, rows, served, write_config

IN_FLIGHT = 4
N_RECORDS, N_INPUTS = 16, 8
GENERATE = ("generate", "copa.yaml", "--no-mlflow")
ONE, TWO = "Copa/temp07_topp10_rulesv1", "Copa/temp09_topp10_rulesv1"
TARGET = "Data/published/0_data"
WORKER = "tests.faults.killing:worker"
Command = tuple[str, ...]
Found = Mapping[str, object]


class Ground:
    """A place where commands run, and what was made of it before.

    All is done at ``place``, so that paths that are kept somewhere stay right; ``url`` is the test server's.
    """

    def __init__(self, top: Path, forge: Forge, url: str) -> None:
        self.place, self.root = top / "place", top / "place/workspace"
        self.forge, self.url = forge, url
        self._top = top

    def run(self, *arguments: object, program: str = "cli.main:run") -> None:
        """A command in the workspace, which must succeed."""
        done = self.forge.run(self.root, *arguments, program=program)
        assert done.code == 0, (arguments, done)

    def take(self, prepare: Callable[[Ground], object]) -> None:
        """Fills the place as ``prepare`` does it; the next time with a copy of that."""
        if not self.has(prepare.__name__):
            self.clear()
            prepare(self)
            self.keep(prepare.__name__)
        self.put(prepare.__name__)

    def has(self, name: str) -> bool:
        return (self._top / name).exists()

    def keep(self, name: str) -> None:
        shutil.copytree(self.place, self._top / name, symlinks=True)

    def put(self, name: str) -> None:
        self.clear(make=False)
        shutil.copytree(self._top / name, self.place, symlinks=True)

    def clear(self, *, make: bool = True) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        if make:
            self.place.mkdir()


@dataclass(frozen=True)
class Subject:
    """Commands that follow each other in one workspace, each of which can be killed.

    ``prepare`` fills a place with ``workspace`` and what else is needed. A command that was killed is given again, and
    ends with 0 or with one of ``codes`` (there is nothing left to delete). ``found`` is what must be the same as where
    nothing was killed. ``mends``: who would end it is no part of the script, so `verify --fix` does it.
    """

    name: str
    prepare: Callable[[Ground], object]
    script: tuple[Command, ...]
    found: Callable[[Path], Found]
    codes: frozenset[int] = frozenset()
    program: str = "cli.main:run"
    asks: bool = field(default=False, kw_only=True)
    mends: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def execute(root: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        for sql in statements:
            connection.execute(sql)


_VARYING = re.compile(
    r"(.*_)?(id|uuid|at|host|pid|started|since|heartbeat|command|versions|user|by|report|spent|archive|origin)"
    r"|duration_s|latency_.*|cost_usd|(prompt|completion|cached)_tokens|n_(calls|cached|retries|resumed|failed)"
    r"|.*per_s|speed.*|peak_.*|config_path|mean_latency_s|reused|archive_digest|n_bytes|paths"
)
_OF_THE_WAY = {"generation_run", "agent_run", "attempt", "cost_reservation", "import_run", "mlflow_outbox"}
_TIMED = re.compile(
    r"\b[0-9a-f]{32}\b|(?<=_)\d{8}_\d{6}|\"\.publish_metadata\.json\": \"\w+\"|\d{4}-\d\d-\d\dT[\d:.]+Z"
)


def record(root: Path) -> Found:
    """Every row of the record, without keys, times, processes and what the way to it cost; answers as a set."""
    with contextlib.closing(sqlite3.connect(f"file:{root / 'tracker.db'}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: dict[str, object] = {}
        for table in sorted(set(tables) - _OF_THE_WAY):
            info = connection.execute(f"PRAGMA table_info({table})")
            columns = [name for _, name, *_ in info if not _VARYING.fullmatch(name)]
            if columns:
                taken = connection.execute(f"SELECT {', '.join(columns)} FROM {table}")
                found[table] = sorted(_TIMED.sub("", repr(row)) for row in taken)
        answers = connection.execute("SELECT DISTINCT request_key FROM attempt WHERE failure IS NULL")
        found["answers"] = sorted(map(repr, answers))
    return found


_TIMES = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*Z?")
_OURS = re.compile(r"tracker\.db(-wal|-shm)?|\..*\.lock")


def files(top: Path) -> Found:
    """Every file and link below a directory but the database and the trash, without the times that some tell."""
    return dict(_files(top))


def _files(top: Path) -> Iterator[tuple[str, object]]:
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if _OURS.fullmatch(path.name) or name.startswith((".trash", "data/agents")):
            continue
        if path.is_symlink():
            yield name, str(path.readlink())
        elif path.is_file():
            said = _TIMES.sub(b"", path.read_bytes())
            said = re.sub(rb'"(uuid|host|published_by|duration_s)": *[^,\n]*', b"", said)
            yield name, hashlib.sha256(said.replace(str(top.parent).encode(), b"")).hexdigest()[:16]


def trash(root: Path) -> list[str]:
    """What the files say that were moved to the trash, in order; archives are told by the record."""
    found = (path for path in (root / ".trash").rglob("*") if path.is_file() and path.suffix not in {".zip", ".db"})
    return sorted(hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in found)


def all_of_it(place: Path) -> Found:
    """The record, the files, the trash."""
    root = place / "workspace"
    return {**record(root), **files(root), ".trash": trash(root)}


def database(file: Path) -> str:
    """All that a database says."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return "\n".join(connection.iterdump())


def generating(ground: Ground) -> None:
    write_config(new_root(ground.place, N_RECORDS), served(ground.url, generation__concurrency=IN_FLIGHT))


def staging(ground: Ground) -> None:
    root = new_root(ground.place, two_stage.N_RECORDS)
    write_config(root, two_stage.staged(ground.url, generation__concurrency=IN_FLIGHT))


def asking_agents(ground: Ground) -> None:
    root = perspectives.new_root(ground.place, N_INPUTS)
    perspectives.write_config(root, perspectives.served(ground.url, model_config__concurrency=IN_FLIGHT))


def agent_files(place: Path) -> Found:
    """The record, and the files without what the way to them took."""
    root = place / "workspace"
    return {**record(root), "files": [perspectives.lasting(path) for path in perspectives.files(root)]}


def training_zo(ground: Ground) -> None:
    registered(ground, method="zo")


def training_first_order(ground: Ground) -> None:
    registered(ground, method="fo_full")


def registered(ground: Ground, **changes: Any) -> None:
    """A workspace whose run 1 is to be trained by a worker."""
    ground.root.mkdir()
    write_config(ground.root, {**_SHORT, **changes}, "changes.yaml")
    ground.run(program="tests.faults.subjects:register")
    where, rate = rows(ground.root, "SELECT directory, learning_rate FROM training_run")[0]
    # Who starts a worker gives it these.
    for path in places.output_files(ground.root / where, rate):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def register(_: list[str]) -> None:
    """In a process of its own: torch is loaded there."""
    import yaml

    from tests import trainings

    root = trainings.new_root(Path.cwd())
    given = yaml.safe_load((root / "changes.yaml").read_text())
    assert trainings.registered(root, **given) == [1]


_MEASURED = ("status", "fingerprint", "accuracy", "eval_loss", "dev_loss", "dev_accuracy", "best_step", "step")


def trained(place: Path) -> Found:
    """Weights, log, answers and what was measured: the bits, but for the losses of a half second that a kill took."""
    root = place / "workspace"
    where = Path(str(rows(root, "SELECT directory FROM training_run")[0][0]))
    kept = [*(root / where).glob("model/*.safetensors"), *(root / where).glob("checkpoint/steps-*.log")]
    shown = ("position", "stage", "label", "predicted", "correct", "scores")
    curve = "SELECT name, step, value FROM training_metric WHERE name LIKE 'dev/%' ORDER BY name, step"
    return {
        "run": rows(root, f"SELECT {', '.join(_MEASURED)} FROM training_run"),
        "predictions": sorted(rows(root, f"SELECT {', '.join(shown)} FROM prediction")),
        "curve": rows(root, curve),
        "checkpoint": sorted(path.name for path in (root / where / "checkpoint").iterdir()),
        **{path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in kept},
    }


def one_experiment(ground: Ground) -> None:
    write_config(new_root(ground.place, 6), config())
    ground.run(*GENERATE)


def two_experiments(ground: Ground) -> None:
    """One of two batches, and one of the second."""
    ground.take(one_experiment)
    ground.run(*GENERATE, "--batch", "second")
    ground.run(*GENERATE, "--batch", "second", "--set", "generation.temperature=0.9")


def damaged(ground: Ground) -> None:
    """A tree and an agents' file of which much is missing, edited or in the way."""
    ground.take(two_experiments)
    root = ground.root
    perspectives.write_inputs(root, perspectives.pairs(3))
    perspectives.write_config(root, perspectives.offline())
    ground.run("perspectives", "config.json", "--no-mlflow")
    shared, batches = root / "Data_v2/synthetic/_shared", root / "Data_v2/synthetic"
    shutil.rmtree(shared / TWO)
    (shared / ONE / "Copa/copa_train.jsonl").write_text("edited")
    (shared / ONE / "Copa/copa_test.jsonl").unlink()
    (shared / ONE / "notes.txt").write_text("mine")
    (batches / "first" / ONE).unlink()
    (batches / "second" / ONE).unlink()
    (batches / "second" / ONE).mkdir()
    (batches / "second" / ONE / "mine.txt").write_text("in the way")
    (agents,) = perspectives.files(root)
    agents.write_text("edited too")


def rebuilt(place: Path) -> Found:
    """All of it, and the agents' file."""
    (agents,) = perspectives.files(place / "workspace")
    return {**all_of_it(place), "agents": agents.read_bytes()}


def old_tree(ground: Ground) -> None:
    write_run(write_tree(ground.place / "old"))
    ground.root.mkdir()


def imported(place: Path) -> Found:
    return {**all_of_it(place), "old": files(place / "old")}


def exported(ground: Ground) -> None:
    """An archive of another workspace, and one that has one of its experiments already."""
    ground.take(two_experiments)
    ground.run("export", "second", "first", ground.place / "work.zip")
    shutil.rmtree(ground.root)
    one_experiment(ground)


def archived(place: Path) -> Found:
    """The archive's bytes, and what else is beside it."""
    return {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}


def unneeded(ground: Ground) -> None:
    """One experiment that nothing references, one that was never finished, and what killed processes left."""
    ground.take(two_experiments)
    root = ground.root
    ground.run(*GENERATE, "--set", "generation.temperature=0.3")
    ground.run("batch", "remove", "second", TWO)
    old = "2020-01-01T00:00:00.000000Z"
    execute(
        root,
        f"UPDATE shared_experiment SET created_at = '{old}', completed_at = '{old}'",
        "UPDATE shared_experiment SET status = 'unfinished', completed_at = NULL WHERE temperature = 0.3",
        f"UPDATE generation_run SET started_at = '{old}', finished_at = '{old}'",
    )
    ground.run("view", "rebuild")


PUBLISH = (
    ("publish", ONE, "--target", TARGET, "--archive", "archive/version_1"),
    ("publish", TWO, "--target", TARGET),
    ("publish", ONE, "--target", TARGET, "--symlink"),
    ("publish", TWO, "--target", "Data/other"),
    ("publish", "remove", TWO, "--yes"),
)


def backed_up(ground: Ground) -> None:
    """Two experiments, an earlier backup of when there was one less, and megabytes to copy."""
    ground.take(two_experiments)
    root = ground.root
    kept = ground.place / "kept"
    kept.mkdir()
    ground.run("backup", kept / "two.db")
    shutil.copyfile(kept / "two.db", kept / "copy.db")
    ground.run(*GENERATE, "--set", "generation.temperature=0.5")
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        filling = ((f"filling-{number}", "user", "x" * 2000) for number in range(2000))
        connection.executemany("INSERT INTO message (key, role, content) VALUES (?, ?, ?)", filling)


def copies(place: Path) -> Found:
    """What the database and every file beside the backup say."""
    found = {path.name: database(path) for path in sorted((place / "kept").iterdir())}
    return {"tracker.db": database(place / "workspace/tracker.db"), **found}


def restored(place: Path) -> Found:
    """The same, and the tree that belongs to it; the one that was replaced is in the trash, as often as it began."""
    root = place / "workspace"
    kept = {database(path) for path in (root / ".trash").glob("tracker-before-restore-*.db")}
    return {**copies(place), **files(root), "replaced": sorted(kept)[-1:]}


def with_notes(ground: Ground) -> None:
    """An experiment in a batch, and a file of a person's own beside its files."""
    ground.take(one_experiment)
    (ground.root / "Data_v2/synthetic/_shared" / ONE / "notes.txt").write_text("mine")


DELETE = (
    ("batch", "delete", "first", "--yes", "--no-mlflow"),
    ("experiment", "delete", ONE, "--yes", "--no-mlflow"),
    ("restore", ONE, "--no-mlflow"),
    ("restore", "first", "--no-mlflow"),
    ("batch", "delete", "first", "--yes", "--no-mlflow"),
    ("experiment", "delete", ONE, "--yes", "--no-mlflow"),
    ("trash", "empty", "--older-than", "0d", "--yes"),
)
TWO_STAGE = (
    GENERATE,
    ("review", two_stage.SERVED, "--reject", "2"),
    GENERATE,
    ("annotate", two_stage.SERVED, "--not-same", "9,14", "--all-same"),
    ("judge-test", two_stage.SERVED, "--no-mlflow"),
    GENERATE,
)
_STEPS = {"steps": 32, "eval_steps": 8, "batch_size": 8, "lr_schedule": "linear", "learning_rate": 2e-4}
_SHORT = {f"hyperparameters__{name}": value for name, value in _STEPS.items()}
_NOTHING_LEFT, _ENDED = frozenset({4, 14}), frozenset({5})

SUBJECTS = (
    Subject("generate", generating, (GENERATE,), all_of_it, asks=True),
    Subject("two_stage", staging, TWO_STAGE, all_of_it, _NOTHING_LEFT, asks=True),
    Subject("perspectives", asking_agents, (("perspectives", "config.json", "--no-mlflow"),), agent_files, asks=True),
    Subject("train zo", training_zo, (("1",),), trained, _ENDED, program=WORKER, mends=True),
    Subject("train first order", training_first_order, (("1",),), trained, _ENDED, program=WORKER, mends=True),
    Subject("view rebuild", damaged, (("view", "rebuild"),), rebuilt),
    Subject("import tree", old_tree, (("import", "../old"),), imported, frozenset({1})),
    Subject("import tree by copy", old_tree, (("import", "../old", "--copy"),), imported, frozenset({1})),
    Subject("import archive", exported, (("import", "../work.zip"),), all_of_it),
    Subject("export", two_experiments, (("export", "second", "first", "../work.zip", "--overwrite"),), archived),
    Subject("gc", unneeded, (("gc", "--yes", "--no-mlflow"),), all_of_it),
    Subject("publish", two_experiments, PUBLISH, all_of_it, _NOTHING_LEFT),
    Subject("backup", backed_up, (("backup", "../kept/copy.db", "--overwrite"),), copies),
    Subject("restore", backed_up, (("restore", "../kept/two.db", "--yes"),), restored),
    Subject("delete", with_notes, DELETE, all_of_it, _NOTHING_LEFT),
)
