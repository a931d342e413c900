"""What a shell is offered where a name is typed: batches, experiments, trainings and their like, out of the record.

A completion reads and never writes: no workspace is made, no database upgraded, and whatever is wrong it offers
nothing, since an error would only spoil the line that is being typed.
"""

# ruff: noqa: S608  what is put into a text here are names of this module; values are parameters

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator

import click
from click.shell_completion import CompletionItem

from tracker.migrations import SCHEMA_VERSION
from tracker.paths import Workspace, find_workspace
from tracker.record.catalogue import Row

_LIMIT = 100
_DIGITS = 8
_HEX = frozenset("0123456789abcdef")
_PATHS = frozenset({"FILE", "DIR", "PATH"})
_UNSPOKEN = ("EXPERIMENT", "path")
"""Commands of such groups that nobody types."""
_LAST = "\U0010ffff"

Query = Callable[..., list[Row]]
Found = Iterator[tuple[str, str]]
Source = Callable[[Query, str], Found]
"""From the beginning of a word: what it can become, each with a line of help."""


def batches(query: Query, begun: str) -> Found:
    rows = query("SELECT name, purpose FROM batch WHERE deleted_at IS NULL AND {name} ORDER BY name", name=begun)
    yield from ((row["name"], row["purpose"] or "batch") for row in rows)


def experiments(query: Query, begun: str) -> Found:
    dataset, slash, name = begun.partition("/")
    of = "dataset = :dataset AND {name}" if slash else "{dataset}"
    given = {"dataset": dataset, "name": name} if slash else {"dataset": dataset}
    rows = query(f"SELECT dataset, name, purpose FROM shared_experiment WHERE {of} ORDER BY dataset, name", **given)
    yield from ((f"{row['dataset']}/{row['name']}", row["purpose"] or "experiment") for row in rows)
    if _is_hex(begun):
        rows = query("SELECT fingerprint, dataset, name FROM shared_experiment WHERE {fingerprint}", fingerprint=begun)
        yield from ((row["fingerprint"], f"{row['dataset']}/{row['name']}") for row in rows)


def data_sets(query: Query, begun: str) -> Found:
    rows = query("SELECT dataset, COUNT(*) AS n FROM shared_experiment WHERE {dataset} GROUP BY dataset", dataset=begun)
    yield from ((row["dataset"], f"{row['n']} experiments") for row in rows)


_TOLD = ("task", "method", "data", "learning_rate", "seed", "status")


def trainings(query: Query, begun: str) -> Found:
    """Runs and sweeps by the beginning of their uuid, the newest first, and runs by their directory."""
    if "/" in begun:
        rows = query("SELECT directory, status FROM training_run WHERE {directory} ORDER BY id DESC", directory=begun)
        yield from ((row["directory"], row["status"]) for row in rows)
        return
    rows = query(
        """SELECT uuid, task, method, data, learning_rate, seed, status FROM training_run WHERE {uuid}
           ORDER BY id DESC""",
        uuid=begun,
    )
    yield from ((row["uuid"][:_DIGITS], " ".join(str(row[name]) for name in _TOLD)) for row in rows)
    rows = query("SELECT uuid, task, method, n_points FROM training_sweep WHERE {uuid} ORDER BY id DESC", uuid=begun)
    yield from (
        (row["uuid"][:_DIGITS], f"sweep of {row['n_points']}: {row['task']} {row['method']}")
        for row in rows
        if row["n_points"] > 1
    )


def agent_data_sets(query: Query, begun: str) -> Found:
    rows = query("SELECT name, task_type FROM agent_dataset WHERE {name} ORDER BY name", name=begun)
    yield from ((row["name"], row["task_type"]) for row in rows)


def task_types(query: Query, begun: str) -> Found:
    rows = query("SELECT DISTINCT task_type FROM agent_dataset WHERE {task_type} ORDER BY task_type", task_type=begun)
    yield from ((row["task_type"], "") for row in rows)


def pools(query: Query, begun: str) -> Found:
    rows = query("SELECT name, fingerprint FROM task_pool WHERE {name} ORDER BY name", name=begun)
    yield from ((row["name"], row["fingerprint"]) for row in rows)


def benchmarks(query: Query, begun: str) -> Found:
    rows = query("SELECT DISTINCT name FROM benchmark WHERE {name} ORDER BY name", name=begun)
    yield from ((row["name"], "") for row in rows)


def trash(query: Query, begun: str) -> Found:
    of = "restored_at IS NULL AND emptied_at IS NULL"
    rows = query(f"SELECT id, kind, name FROM deletion WHERE {of} AND {{name}} ORDER BY id DESC", name=begun)
    yield from ((row["name"], f"{row['kind']}, entry {row['id']}") for row in rows)


def tables(query: Query, begun: str) -> Found:
    kinds = "type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
    rows = query(f"SELECT name, type FROM sqlite_master WHERE {kinds} AND {{name}} ORDER BY name", name=begun)
    yield from ((row["name"], row["type"]) for row in rows)


def settings(query: Query, begun: str) -> Found:
    """The settings by which results can be ranked: of the newest runs, and of the newest data."""
    names: set[str] = set()
    for table in ("training_run", "shared_experiment"):
        for row in query(f"SELECT settings FROM {table} ORDER BY id DESC"):
            names |= json.loads(row["settings"]).keys()
    yield from ((name, "") for name in sorted(names) if name.startswith(begun))


def values_of(column: str) -> Source:
    """The values that a column of training_run has."""

    def values(query: Query, begun: str) -> Found:
        sql = f"SELECT DISTINCT {column} AS value FROM training_run WHERE {{{column}}} ORDER BY value"
        yield from ((str(row["value"]), "") for row in query(sql, **{column: begun}))

    return values


def purposes(query: Query, begun: str) -> Found:
    sql = "SELECT DISTINCT purpose FROM {} WHERE {{purpose}} ORDER BY purpose"
    for table in ("shared_experiment", "training_run"):
        yield from ((row["purpose"], "purpose") for row in query(sql.format(table), purpose=begun) if row["purpose"])


def several(*sources: Source) -> Source:
    """What any of them has."""

    def found(query: Query, begun: str) -> Found:
        for source in sources:
            yield from source(query, begun)

    return found


ANYTHING = several(experiments, batches, trainings, agent_data_sets, pools)
SOURCES: dict[str, Source] = {
    **dict.fromkeys(
        ("batch", "batch1", "batch2", "batch show.name", "batch delete.refs", "batch remove.name"), batches
    ),
    **dict.fromkeys(("dataset", "dataset1", "dataset2"), data_sets),
    **dict.fromkeys(("experiment", "shared", "ref", "refs", "path resolve.given", "publish.source"), experiments),
    **dict.fromkeys(("training.ref", "result.ref", "result.refs", "of_sweeps"), trainings),
    **dict.fromkeys(("perspectives.ref", "perspectives.refs"), agent_data_sets),
    **dict.fromkeys(("pool.ref", "pool.refs", "pool.first", "pool.second"), pools),
    **dict.fromkeys(("verify.refs", "lineage.ref", "export.refs"), ANYTHING),
    **{f"result.{name}": values_of(name) for name in ("purpose", "task", "model", "method")},
    "result.data": several(values_of("data"), experiments),
    "result best.by": settings,
    "perspectives list.task": task_types,
    "pool preprocess.names": benchmarks,
    "pool.benchmarks": benchmarks,
    "report.name": several(batches, purposes),
    "restore.what": trash,
    "sql.schema": tables,
}
"""By parameter: of a command, of all commands of a group, of any command."""
WITHOUT_NAME: dict[str, Source | None] = {"publish": experiments, "import": None}
"""Groups that take a name where a command could stand."""


class _Named(click.ParamType[str]):
    """A text that is completed from the record."""

    name = "text"

    def __init__(self, source: Source | None) -> None:
        self._source = source

    def shell_complete(self, context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return offered(context, self._source, incomplete)


def offered(context: click.Context, source: Source | None, begun: str) -> list[CompletionItem]:
    """What ``source`` has; files where it has nothing, because most names can be paths."""
    items: dict[str, CompletionItem] = {}
    if source is not None:
        roots = [found.params.get("root") for found in (context, context.find_root())]
        with _reading(next((root for root in roots if root), None)) as query:
            found = source(query, begun) if query is not None else iter(())
            items = {value: CompletionItem(value, help=_line(text)) for value, text in found}
    return list(items.values()) or [CompletionItem(begun, type="file")]


def attach(name: str, command: click.Command) -> None:
    """Gives the parameters of a command, and of those below it, what they are completed from."""
    for parameter in command.params:
        source = next((SOURCES[key] for key in _keys(name, str(parameter.name)) if key in SOURCES), None)
        plain = parameter.type.name == "text" and not getattr(parameter, "is_flag", False)
        if plain and (source is not None or str(parameter.metavar).strip("[]") in _PATHS or parameter.name == "root"):
            parameter.type = _Named(source)
    if isinstance(command, click.Group):
        for below, each in command.commands.items():
            attach(f"{name} {below}", each)
        if name in WITHOUT_NAME:
            _with_names(command, WITHOUT_NAME[name])


def _keys(command: str, parameter: str) -> list[str]:
    return [f"{command}.{parameter}", f"{command.partition(' ')[0]}.{parameter}", parameter]


def _with_names(group: click.Group, source: Source | None) -> None:
    own = group.shell_complete

    def both(context: click.Context, incomplete: str) -> list[CompletionItem]:
        commands = [item for item in own(context, incomplete) if item.value not in _UNSPOKEN]
        names = [item for item in offered(context, source, incomplete) if item.type == "plain" or not commands]
        return [*commands, *names]

    group.shell_complete = both  # type: ignore[assignment]  # of one object, for one completion


@contextlib.contextmanager
def _reading(root: str | None) -> Iterator[Query | None]:
    """Runs a query with ``{column}`` for "begins with"; None where there is no record of this version."""
    workspace = find_workspace(root)
    if workspace.database_url is not None:
        from tracker.record.catalogue import reading

        with reading(workspace) as reader:
            yield lambda sql, **begun: reader.rows(
                f"{_sql(sql, 'SUBSTR({0}, 1, LENGTH(:{0})) = :{0}', begun)} LIMIT {_LIMIT}", **begun
            )
        return
    connection = _connect(workspace)
    if connection is None:
        yield None
        return
    with contextlib.closing(connection):
        connection.row_factory = sqlite3.Row

        def query(sql: str, **begun: str) -> list[Row]:
            bounds = {f"{name}_end": f"{text}{_LAST}" for name, text in begun.items()}
            text = f"{_sql(sql, '{0} >= :{0} AND {0} < :{0}_end', begun)} LIMIT {_LIMIT}"
            return [dict(row) for row in connection.execute(text, {**begun, **bounds})]

        yield query


def _connect(workspace: Workspace) -> sqlite3.Connection | None:
    path = workspace.database.absolute()
    if not path.is_file():
        return None
    beside = [path.with_name(f"{path.name}-{name}") for name in ("wal", "shm")]
    # Without both files nobody writes now, and to read through the log would make them.
    flags = "mode=ro" if all(each.exists() for each in beside) else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"{path.as_uri()}?{flags}", uri=True, timeout=0.5)
    if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
        connection.close()
        return None
    return connection


def _sql(sql: str, condition: str, begun: dict[str, str]) -> str:
    return sql.format(**{name: condition.format(name) for name in begun})


def _is_hex(text: str) -> bool:
    return len(text) > 1 and set(text) <= _HEX


def _line(text: str) -> str | None:
    return " ".join(text.split())[:80] or None
