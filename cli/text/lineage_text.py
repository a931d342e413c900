"""How a lineage looks in a terminal: a tree from the source files down, with the prompts in it."""

from __future__ import annotations

from collections.abc import Iterator

from cli.render import RULE, columns, counted, harmless
from cli.text.lineage_details import NARROWEST, details
from cli.text.side_by_side import wrapped
from tracker.tracing.lineage import CHECKPOINT, IMPORT, JUDGE_TEST, Lineage, More, Node
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
)

ASKED = "◀ asked for"
_UUID = 8
_WHOLE = 4
"""Experiments whose prompts are shown; a batch of more is looked through first."""
_BEFORE = (IMPORT, RUN, BATCH, CHECKPOINT, JUDGE_TEST, AGENT_RUN)
"""What leads to data and stands below it in the tree: who made it, held it and decided on it."""
_ORDER = (*_BEFORE, PUBLICATION, EXPERIMENT, AGENTS, POOL, VALIDATION, TRAINING)
_WORDS = {
    AGENTS: ("agent data set", "agent data sets"),
    BATCH: ("batch", "batches"),
    POOL: ("task pool", "task pools"),
    EXPERIMENT: ("experiment", "experiments"),
}


def drawn(found: Lineage) -> Iterator[str]:
    """The lineage as lines of a terminal."""
    nodes = {node.id: node for node in found.nodes}
    names = [_called(nodes[each]) for each in found.asked]
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    yield from (RULE, *wrapped(f"Lineage of {names[0]}{more}", columns()), RULE, "")
    tree = _Tree(found, nodes)
    for root in tree.roots():
        yield from tree.drawn(root)
    for hint in _hints(found, nodes):
        yield from ("", hint)


def _hints(found: Lineage, nodes: dict[str, Node]) -> Iterator[str]:
    if any(not each.is_sibling for each in found.left_out):
        yield "💾 --limit 0 shows everything that is left out."
    siblings = {nodes[each.node].name for each in found.left_out if each.is_sibling and each.kind != SWEEP}
    if siblings:
        yield f"💾 What else became of the data: synthtrack lineage {harmless(min(siblings))}"
    n = sum(node.kind == EXPERIMENT for node in found.nodes)
    if n > _WHOLE:
        one = next(node for node in found.nodes if node.kind == EXPERIMENT)
        yield f"💾 The prompts of one experiment: synthtrack lineage {harmless(one.name)}"


class _Tree:
    """The graph as a tree: what was seen already is named and not repeated."""

    def __init__(self, found: Lineage, nodes: dict[str, Node]) -> None:
        self.found = found
        self.nodes = nodes
        self.children: dict[str, list[tuple[str, str]]] = {node: [] for node in nodes}
        self.more: dict[str, list[More]] = {}
        self.seen: set[str] = set()
        self.brief = sum(node.kind == EXPERIMENT for node in found.nodes) > _WHOLE
        self.below: set[str] = set()
        for edge in found.edges:
            parent, child = edge.source, edge.target
            if nodes[parent].kind in _BEFORE:
                parent, child = child, parent
                if nodes[child].kind == BATCH and child in found.asked:
                    continue
            self.children[parent].append((child, edge.relation))
            self.below.add(child)
        for each in found.left_out:
            self.more.setdefault(each.node, []).append(each)

    def roots(self) -> list[str]:
        return sorted(
            (node for node in self.nodes if node not in self.below), key=lambda node: self.nodes[node].kind != BATCH
        )

    def drawn(self, key: str, relation: str = "", first: str = "", rest: str = "") -> Iterator[str]:
        """A node with everything below it; ``first`` and ``rest`` are what its first line and the others begin with."""
        node = self.nodes[key]
        width = max(NARROWEST, columns() - len(rest) - 4)
        mark = f"  {ASKED}" if key in self.found.asked else ""
        again = " (above)" if key in self.seen else ""
        head, *others = wrapped(f"{_title(node, relation)}{again}{mark}", width)
        yield f"{first}{head}"
        yield from (f"{rest}   {line}" for line in others)
        if again:
            return
        self.seen.add(key)
        order = sorted(self.children[key], key=lambda each: _ORDER.index(self.nodes[each[0]].kind))
        notes = [f"… {left_out(each)}" for each in self.more.get(key, ())]
        stem = "│  " if order or notes else "   "
        whole = key in self.found.asked or (not self.brief and node.kind != TRAINING)
        for line in details(node, width - 3, whole=whole):
            yield f"{rest}{stem}{line}".rstrip()
        for at, (child, how) in enumerate(order):
            last = at == len(order) - 1 and not notes
            yield from self.drawn(child, how, f"{rest}{'└─ ' if last else '├─ '}", f"{rest}{'   ' if last else '│  '}")
        for at, line in enumerate(notes):
            yield f"{rest}{'└─ ' if at == len(notes) - 1 else '├─ '}{line}"


def left_out(each: More) -> str:
    """What is not in a lineage, in words: ``4 other training runs``."""
    if each.kind == SWEEP:
        word = "other" if each.is_sibling else "more"
        return counted(each.n, f"{word} run of its sweep", f"{word} runs of its sweep")
    singular, plural = _WORDS.get(each.kind, (each.kind.replace("_", " "), f"{each.kind.replace('_', ' ')}s"))
    if each.is_sibling:
        return counted(each.n, f"other {singular}", f"other {plural}")
    return f"{counted(each.n, f'older {singular}', f'older {plural}')} not shown"


def _called(node: Node) -> str:
    facts = node.facts
    names = {
        TRAINING: f"training run {str(facts.get('uuid'))[:_UUID]}",
        RUN: f"generation run {str(facts.get('uuid'))[:_UUID]}",
        AGENT_RUN: f"agent run {str(facts.get('uuid'))[:_UUID]}",
        VALIDATION: f"validation {str(facts.get('uuid'))[:_UUID]} by {node.name}",
        BATCH: f"batch {node.name}",
        SOURCE: f"source data set {node.name}",
        AGENTS: f"agent data set {node.name}",
        POOL: f"task pool {node.name}",
        PUBLICATION: f"publication {node.name}",
    }
    return " ".join(names.get(node.kind, node.name).split())


def _title(node: Node, relation: str) -> str:
    facts, name = node.facts, " ".join(node.name.split())
    if node.kind == TRAINING:
        return f"📊 Training run {str(facts['uuid'])[:_UUID]}: {accuracy(node)}"
    if node.kind in {RUN, AGENT_RUN}:
        word = "Generation" if node.kind == RUN else "Agent"
        return f"⚡ {word} run {str(facts['uuid'])[:_UUID]}: {facts['outcome']}, {facts['status']}"
    if node.kind == BATCH:
        gone = " (deleted)" if facts["deleted_at"] else ""
        how = {"reuses": ", which found the data already made"}.get(relation, "")
        return f"📦 Batch {name}{gone}{how}"
    if node.kind == VALIDATION:
        return f"⚖️ Validation {str(facts['uuid'])[:_UUID]} by {name}: {facts['status']}"
    titles: dict[str, str] = {
        SOURCE: f"📁 Source data set {name}",
        EXPERIMENT: f"📦 Experiment {name}",
        IMPORT: f"📁 Imported from {name}",
        CHECKPOINT: f"✅ People at the {name}",
        JUDGE_TEST: f"⚖️ Judge test of {name}",
        PUBLICATION: f"📁 Published as {name}",
        AGENTS: f"📦 Agent data set {name}",
        POOL: f"📦 Task pool {name}",
    }
    return titles.get(node.kind, f"📁 {node.kind.capitalize()} {name}")


def accuracy(node: Node) -> str:
    """What came of a training run: its accuracy with the interval, or its status."""
    facts = node.facts
    if facts["accuracy"] is None:
        return f"{facts['status']}, no result"
    bounds = [facts["accuracy_low"], facts["accuracy_high"]]
    known = "" if None in bounds else f" (95% interval {bounds[0]:.1%} to {bounds[1]:.1%})"
    status = "" if facts["status"] == "complete" else f", {facts['status']}"
    return f"accuracy {facts['accuracy']:.1%}{known}{status}"
