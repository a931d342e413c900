"""Where a thing comes from and what became of it: a graph from source files over prompts and people to accuracies.

An edge leads from what was there before to what was made of it, or with it. From data everything downstream is in the
graph; from a training run, what is upstream, and its siblings as counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tracker.fingerprint import Json
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row
from tracker.tracing import lineage_rows, lineage_start
from tracker.tracing.lineage_start import (
    AGENT_RUN,
    AGENTS,
    BATCH,
    EXPERIMENT,
    POOL,
    PUBLICATION,
    RUN,
    SOURCE,
    SWEEP,
    TRAINING,
    VALIDATION,
    Start,
)

_NO_FACTS = ("id", "key", "name", "of", "relation")
CHECKPOINT, JUDGE_TEST, IMPORT, BENCHMARK, FILE = "checkpoint", "judge_test", "import_run", "benchmark", "file"


@dataclass(frozen=True, slots=True)
class Node:
    """One thing; ``id`` is its kind and what names it on every machine, ``facts`` is what the record knows of it."""

    id: str
    kind: str
    name: str
    facts: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Edge:
    """From a thing to what was made of it or with it, by the ids of both."""

    source: str
    target: str
    relation: str


@dataclass(frozen=True, slots=True)
class More:
    """``n`` things of a kind at ``node`` that are not in the graph: older than a limit, or the siblings of a result.

    ``is_sibling``: they are no part of the lineage that was asked for.
    """

    node: str
    kind: str
    n: int
    is_sibling: bool = False


@dataclass(frozen=True, slots=True)
class Lineage:
    """The graph; ``asked`` are the nodes that were asked for, ``left_out`` is counted and not in it."""

    asked: tuple[str, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    left_out: tuple[More, ...]

    def plain(self) -> dict[str, Json]:
        """The whole of it for JSON; facts are not copied, since of a large data set there are millions."""
        return {
            "asked": self.asked,
            "nodes": [_plain(each) for each in self.nodes],
            "edges": [_plain(each) for each in self.edges],
            "left_out": [_plain(each) for each in self.left_out],
        }


def _plain(part: Node | Edge | More) -> dict[str, Json]:
    return {name: getattr(part, name) for name in part.__slots__}


def lineage(reader: Reader, workspace: Workspace, ref: str, limit: int = 0) -> Lineage:
    """The lineage of whatever ``ref`` means: of each kind at most the newest ``limit`` things at a node (0: all).

    Raises UnknownReference.
    """
    graph = _Graph(reader, limit)
    graph.follow(lineage_start.find(reader, workspace, ref))
    return Lineage(tuple(graph.asked), tuple(graph.nodes.values()), tuple(graph.edges), tuple(graph.more))


class _Graph:
    """A lineage under construction."""

    def __init__(self, reader: Reader, limit: int) -> None:
        self.reader = reader
        self.limit = limit
        self.nodes: dict[str, Node] = {}
        self.edges: dict[Edge, None] = {}
        self.asked: list[str] = []
        self.more: list[More] = []
        self.keys: dict[tuple[str, int], str] = {}

    def follow(self, start: Start) -> None:
        """Everything about where ``start`` comes from and what became of it."""
        reader, ids = self.reader, start.ids
        if start.kind == EXPERIMENT:
            self.experiments(ids)
        elif start.kind in {RUN, PUBLICATION}:
            of = lineage_rows.owner(reader, start.kind, ids[0])
            self.experiments([of], {start.kind: ids})
            self.ask(start.kind, ids)
            return
        elif start.kind == BATCH:
            self.batch(ids[0])
        elif start.kind == SOURCE:
            self.sources(ids)
        elif start.kind == TRAINING:
            self.trainings(ids)
        elif start.kind == SWEEP:
            self.sweep(ids[0])
            return
        elif start.kind in {AGENTS, AGENT_RUN}:
            dataset = ids[0] if start.kind == AGENTS else lineage_rows.owner(reader, AGENT_RUN, ids[0])
            self.agents([dataset], always=ids if start.kind == AGENT_RUN else ())
        elif start.kind in {POOL, VALIDATION}:
            pool = ids[0] if start.kind == POOL else lineage_rows.owner(reader, VALIDATION, ids[0])
            self.pool(pool, always=ids if start.kind == VALIDATION else ())
        self.ask(start.kind, ids)

    def ask(self, kind: str, ids: Iterable[int]) -> None:
        self.asked += [key for each in ids if (key := self.key(kind, each)) in self.nodes]

    def key(self, kind: str, row_id: int) -> str:
        return self.keys.get((kind, row_id), "")

    def add(self, kind: str, row: Row) -> str:
        """The id of the node of a row, whose ``key`` and ``name`` say what it is called."""
        found = f"{kind}:{row['key']}"
        if found not in self.nodes:
            facts = dict(row)
            for name in _NO_FACTS:
                facts.pop(name, None)
            self.nodes[found] = Node(found, kind, str(row["name"]), facts)
            if "id" in row:
                self.keys[kind, row["id"]] = found
        return found

    def join(self, source: str, target: str, relation: str) -> None:
        self.edges[Edge(source, target, relation)] = None

    def left_out(self, node: str, kind: str, n: int, *, is_sibling: bool = False) -> None:
        if n:
            self.more.append(More(node, kind, n, is_sibling))

    def many(self, kind: str, listing: lineage_rows.Of, keys: Mapping[int, str], relation: str, *, up: bool) -> None:
        """Adds the rows at each of several nodes; ``up``: they were there before the node."""
        for row in listing.rows:
            node = self.add(kind, row)
            at = keys[row["of"]]
            self.join(*((node, at) if up else (at, node)), row.get("relation") or relation)
        for of, n in listing.left_out.items():
            self.left_out(keys[of], kind, n)

    def experiments(
        self, ids: Sequence[int], always: Mapping[str, Sequence[int]] | None = None, *, trained: bool = True
    ) -> dict[int, str]:
        """Experiments with what they come from and, where ``trained``, everything that became of them."""
        keys = self.origins(ids)
        some, limit, reader = list(keys), self.limit, self.reader
        must = always or {}
        self.many(RUN, lineage_rows.runs(reader, some, limit, must.get(RUN, ())), keys, "made", up=True)
        self.many(BATCH, lineage_rows.batches(reader, some, limit), keys, "holds", up=True)
        self.decided(keys)
        published = lineage_rows.publications(reader, some, limit, must.get(PUBLICATION, ()))
        self.many(PUBLICATION, published, keys, "published as", up=False)
        if trained:
            self.many(TRAINING, lineage_rows.trainings_on(reader, some, limit), keys, "trained", up=False)
            self.other_data()
        return keys

    def origins(self, ids: Sequence[int]) -> dict[int, str]:
        """Experiments, their source data sets and what imported them; the nodes' ids by row."""
        keys: dict[int, str] = {}
        rows = lineage_rows.experiments(self.reader, ids)
        sources = {
            row["id"]: self.add(SOURCE, row)
            for row in lineage_rows.sources(self.reader, [each["source_dataset_id"] for each in rows])
        }
        for row in rows:
            keys[row["id"]] = self.add(EXPERIMENT, row)
            self.join(sources[row["source_dataset_id"]], keys[row["id"]], "made of")
        imported = lineage_rows.imports(self.reader, [row["import_run_id"] for row in rows if row["import_run_id"]])
        for row in rows:
            if row["import_run_id"] in imported:
                self.join(self.add(IMPORT, imported[row["import_run_id"]]), keys[row["id"]], "brought in")
        return keys

    def decided(self, keys: Mapping[int, str]) -> None:
        """What people decided on experiments, and how judges were tested on that."""
        some = list(keys)
        self.many(CHECKPOINT, lineage_rows.decisions(self.reader, some), keys, "decided", up=True)
        self.many(JUDGE_TEST, lineage_rows.judge_tests(self.reader, some, self.limit), keys, "tested", up=True)

    def other_data(self) -> None:
        """Joins the training runs in the graph that learned from several data sets to the others of these."""
        runs = {row_id: key for (kind, row_id), key in self.keys.items() if kind == TRAINING}
        mixed = [each for each, key in runs.items() if self.nodes[key].facts["n_data"] > 1]
        self.data(lineage_rows.data_of(self.reader, mixed), runs)

    def data(self, rows: Sequence[Row], runs: Mapping[int, str]) -> None:
        """Joins training runs to their data: experiments, the original files of a data set, or files alone."""
        keys = self.origins(
            list(dict.fromkeys(row["shared_experiment_id"] for row in rows if row["shared_experiment_id"]))
        )
        foreign = [row["train_digest"] for row in rows if row["shared_experiment_id"] is None and row["train_digest"]]
        sources = lineage_rows.sources_with(self.reader, foreign)
        for row in rows:
            if row["shared_experiment_id"] is not None:
                data = keys[row["shared_experiment_id"]]
            elif row["train_digest"] in sources:
                data = self.add(SOURCE, sources[row["train_digest"]])
            else:
                data = self.add(FILE, lineage_rows.file(row))
            self.join(data, runs[row["training_run_id"]], "trained")

    def sweep(self, sweep_id: int) -> None:
        """The runs of a sweep with everything upstream."""
        ids, n = lineage_rows.sweep_runs(self.reader, sweep_id, self.limit)
        self.trainings(ids)
        self.ask(TRAINING, ids)
        for last in ids[-1:]:
            self.left_out(self.key(TRAINING, last), SWEEP, n - len(ids))

    def trainings(self, ids: Sequence[int]) -> None:
        """Training runs with everything upstream; what else there is of their data and sweep is counted."""
        reader = self.reader
        runs = {row["id"]: self.add(TRAINING, row) for row in lineage_rows.trainings(reader, ids)}
        rows = lineage_rows.data_of(reader, ids)
        self.data(rows, runs)
        some = list(dict.fromkeys(row["shared_experiment_id"] for row in rows if row["shared_experiment_id"]))
        keys = {each: self.key(EXPERIMENT, each) for each in some}
        self.many(RUN, lineage_rows.runs(reader, some, self.limit, makers=True), keys, "made", up=True)
        self.through(rows, keys)
        self.decided(keys)
        used = self.places(rows, keys, runs)
        for of, kind, n in lineage_rows.siblings(reader, some, {row["batch_id"] for row in rows} - {None}, ids):
            self.left_out(keys[of], kind, n - used.get(of, 0) * (kind == PUBLICATION), is_sibling=True)
        if len(ids) == 1:
            self.left_out(runs[ids[0]], SWEEP, lineage_rows.others_in_sweep(reader, ids[0]), is_sibling=True)

    def through(self, rows: Sequence[Row], keys: Mapping[int, str]) -> None:
        """The batches in which training runs found their data."""
        pairs = {(row["shared_experiment_id"], row["batch_id"]) for row in rows if row["batch_id"] is not None}
        held = {
            (row["of"], row["id"]): row["relation"] for row in lineage_rows.batches(self.reader, list(keys), 0).rows
        }
        found = {row["id"]: row for row in lineage_rows.batches_by_id(self.reader, sorted(each for _, each in pairs))}
        for of, batch in sorted(pair for pair in pairs if pair[0] in keys):
            self.join(self.add(BATCH, found[batch]), keys[of], held.get((of, batch), "held"))

    def places(self, rows: Sequence[Row], keys: Mapping[int, str], runs: Mapping[int, str]) -> dict[int, int]:
        """Adds the publications that runs read their data from; how many there are, by experiment."""
        used: dict[int, set[str]] = {}
        for row in rows:
            of = row["shared_experiment_id"]
            for each in [] if of is None else lineage_rows.published_at(self.reader, row["directory"], of):
                node = self.add(PUBLICATION, each)
                self.join(keys[of], node, "published as")
                self.join(node, runs[row["training_run_id"]], "trained")
                self.edges.pop(Edge(keys[of], runs[row["training_run_id"]], "trained"), None)
                used.setdefault(of, set()).add(node)
        return {of: len(nodes) for of, nodes in used.items()}

    def batch(self, batch_id: int) -> None:
        """A batch with its experiments, and the training runs on them."""
        [row] = lineage_rows.batches_by_id(self.reader, [batch_id])
        node = self.add(BATCH, row)
        ids, n = lineage_rows.in_batch(self.reader, batch_id, self.limit)
        for key in self.wide(ids).values():
            self.join(node, key, "holds")
        self.left_out(node, EXPERIMENT, n - len(ids))

    def wide(self, ids: Sequence[int]) -> dict[int, str]:
        """Experiments and the training runs on them, no more."""
        keys = self.origins(ids)
        trained = lineage_rows.trainings_on(self.reader, list(keys), self.limit)
        self.many(TRAINING, trained, keys, "trained", up=False)
        self.other_data()
        return keys

    def sources(self, ids: Sequence[int]) -> None:
        """Source data sets, what was made of them, and what was trained on them as they are."""
        reader = self.reader
        keys = {row["id"]: self.add(SOURCE, row) for row in lineage_rows.sources(reader, ids)}
        for source, key in keys.items():
            made, n = lineage_rows.made_of(reader, "shared_experiment", source, self.limit)
            self.wide(made)
            self.left_out(key, EXPERIMENT, n - len(made))
            asked, n = lineage_rows.made_of(reader, "agent_dataset", source, self.limit)
            self.agents(asked, runs=False)
            self.left_out(key, AGENTS, n - len(asked))
        self.many(
            TRAINING, lineage_rows.trainings_on_sources(reader, list(keys), self.limit), keys, "trained", up=False
        )

    def agents(self, ids: Sequence[int], *, always: Sequence[int] = (), runs: bool = True) -> None:
        """Agent data sets with their inputs and, where ``runs``, their runs."""
        rows = lineage_rows.agent_datasets(self.reader, ids)
        inputs = lineage_rows.sources(self.reader, [row["source_dataset_id"] for row in rows])
        sources = {row["id"]: self.add(SOURCE, row) for row in inputs}
        keys = {row["id"]: self.add(AGENTS, row) for row in rows}
        for row in rows:
            self.join(sources[row["source_dataset_id"]], keys[row["id"]], "made of")
        if runs:
            made = lineage_rows.agent_runs(self.reader, list(keys), self.limit, always)
            self.many(AGENT_RUN, made, keys, "made", up=True)

    def pool(self, pool_id: int, *, always: Sequence[int]) -> None:
        """A task pool with its benchmarks and what models made of it."""
        key = self.add(POOL, lineage_rows.pool(self.reader, pool_id))
        for row in lineage_rows.benchmarks(self.reader, pool_id):
            self.join(self.add(BENCHMARK, row), key, "drawn from")
        keys = {pool_id: key}
        self.many(
            VALIDATION, lineage_rows.validations(self.reader, [pool_id], self.limit, always), keys, "answered", up=False
        )
