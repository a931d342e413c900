"""A lineage as a flowchart in Mermaid's language, which Markdown pages on many sites show as a picture."""

from __future__ import annotations

from collections.abc import Iterator

from cli.render import harmless
from cli.text.lineage_text import accuracy, left_out
from tracker.tracing.lineage import Lineage, Node
from tracker.tracing.lineage_start import EXPERIMENT, RUN, SOURCE, TRAINING

_PLAIN = frozenset(" .,-/()")
_LONGEST = 60


def flowchart(found: Lineage) -> Iterator[str]:
    """The lines of the flowchart; what was asked for stands out."""
    numbers = {node.id: f"n{at}" for at, node in enumerate(found.nodes)}
    yield "flowchart LR"
    for node in found.nodes:
        lines = [line for line in _label(node) if line]
        yield f'    {numbers[node.id]}["{"<br/>".join(map(escaped, lines))}"]'
    for at, more in enumerate(found.left_out):
        yield f'    m{at}["{escaped(left_out(more))}"]'
        yield f"    {numbers[more.node]} -.- m{at}"
    for edge in found.edges:
        yield f'    {numbers[edge.source]} -->|"{escaped(edge.relation)}"| {numbers[edge.target]}'
    yield "    classDef asked stroke-width:4px"
    for asked in found.asked:
        yield f"    class {numbers[asked]} asked"


def escaped(text: str) -> str:
    """``text`` as part of a label, whatever is in it: all that could be syntax as Mermaid's numeric entities."""
    shown = " ".join(harmless(text).split())
    if len(shown) > _LONGEST:
        shown = f"{shown[: _LONGEST - 3]}..."
    return "".join(char if char.isalnum() or char in _PLAIN else f"#{ord(char)};" for char in shown)


def _label(node: Node) -> tuple[str, ...]:
    facts, kind = node.facts, node.kind.replace("_", " ").capitalize()
    if node.kind == TRAINING:
        settings = f"{facts['task']} {facts['method']}, lr {facts['learning_rate']:g}"
        return f"{kind} {facts['uuid'][:8]}", str(facts["model"]).rpartition("/")[2], settings, accuracy(node)
    if node.kind == EXPERIMENT:
        warmth = "" if facts["temperature"] is None else f", temperature {facts['temperature']:g}"
        return f"{kind} {node.name}", f"{facts['model']}{warmth}", facts["fingerprint"]
    if node.kind == RUN:
        return f"{kind} {facts['uuid'][:8]}", f"{facts['outcome']}, {facts['status']}", facts["started_at"][:10]
    if node.kind == SOURCE:
        return f"{kind} {node.name}", facts["digest"][:12]
    gone = " (deleted)" if facts.get("deleted_at") else ""
    return f"{kind} {node.name}{gone}", str(facts.get("fingerprint") or "")
