"""How a lineage looks in a terminal: a tree from the source files down, with the prompts in it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

from cli.render import RULE, columns, counted, harmless, moment, usd
from cli.text.side_by_side import wrapped
from tracker.fingerprint import Json, canonical_json
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
_DIGITS = 12
_UUID = 8
_WHOLE = 4
"""Experiments whose prompts are shown; a batch of more is looked through first."""
_NARROWEST = 30
_QUOTED = "   | "
"""What sets off the lines of a prompt, those that had to be broken too."""
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
        width = max(_NARROWEST, columns() - len(rest) - 4)
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
        for line in _details(node, width - 3, whole=whole):
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


def _details(node: Node, width: int, *, whole: bool) -> Iterator[str]:
    describe: dict[str, Callable[[Node], Iterator[str]]] = {
        SOURCE: _source, TRAINING: _training if whole else _trained, RUN: _run, AGENT_RUN: _run, BATCH: _batch,
        CHECKPOINT: _people,
        JUDGE_TEST: _judge_test, PUBLICATION: _publication, AGENTS: _agents, POOL: _pool, VALIDATION: _validation,
        EXPERIMENT: _experiment if whole else _brief, IMPORT: _import,
    }  # fmt: skip
    for text in describe.get(node.kind, _file)(node):
        begin = _QUOTED if text.startswith(_QUOTED) else ""
        lines = _fitted(text.removeprefix(begin), max(_NARROWEST, width - len(begin)))
        yield from (f"{begin}{line}" for line in lines)


def _fitted(text: str, width: int) -> list[str]:
    """``text`` in lines; a path or a digest that is too long stays whole, to be copied."""
    if max((len(word) for word in text.split()), default=0) <= width:
        return wrapped(text, width)
    return textwrap.wrap(harmless(text), width, break_long_words=False, break_on_hyphens=False)


def _source(node: Node) -> Iterator[str]:
    facts = node.facts
    yield f"Digest {facts['digest'][:_DIGITS]}, first read from {facts['origin']}"
    for each in facts["splits"]:
        records = counted(each["n_records"], "record")
        yield f"{each['split']}: {each['filename']}, {records}, SHA-256 {each['digest'][:_DIGITS]}"


def _brief(node: Node) -> Iterator[str]:
    facts = node.facts
    warmth = "" if facts["temperature"] is None else f", temperature {facts['temperature']:g}"
    yield f"Fingerprint {facts['fingerprint']}; {facts['model']}{warmth}; {_records(node)}"


def _experiment(node: Node) -> Iterator[str]:
    facts, settings = node.facts, node.facts["settings"]
    legacy = f", legacy fingerprint {facts['legacy_fingerprint']}" if facts["legacy_fingerprint"] else ""
    yield f"Fingerprint: {facts['fingerprint']}{legacy}"
    if facts["status"] != "complete":
        yield f"⚠️ Status: {facts['status']}"
    if facts["directory"] is not None:
        yield f"Data: in {facts['directory']}"
    yield f"Purpose: {facts['purpose']}"
    if facts["description"]:
        yield f"Description: {facts['description']}"
    yield f"Model: {facts['model']} at {facts['endpoint']}{_sampling(facts)}"
    yield f"Strategy: {facts['strategy']}, field {facts['field_to_rephrase']}"
    yield f"Records: {_records(node)}; cost {usd(facts['cost_usd'])}"
    yield from _prompt("Rephrase prompt", settings, "generation", "rephrase_prompt")
    if facts["validation_model"] is not None:
        warmth = facts["validation_temperature"]
        yield f"Judge: {facts['validation_model']}{'' if warmth is None else f', temperature {warmth:g}'}"
        yield from _prompt("Validation prompt", settings, "validation", "validation_prompt")


def _sampling(facts: Json) -> str:
    names = ("temperature", "top_p", "max_tokens")
    return "".join(f", {name} {facts[name]:g}" for name in names if facts[name] is not None)


def _records(node: Node) -> str:
    facts = node.facts
    judged = facts["n_accepted"] + facts["n_rejected"]
    if judged and facts["import_run_id"] is not None:
        return f"{facts['n_records']:,}, {facts['n_accepted']:,} rephrased, {facts['n_rejected']:,} kept as they were"
    share = f", {facts['n_accepted']:,} accepted ({facts['n_accepted'] / judged:.1%})" if judged else ""
    return f"{facts['n_records']:,}{share}"


def _prompt(title: str, settings: Json, group: str, name: str) -> Iterator[str]:
    for label, key in ((f"{title}, system", "system_prompt"), (title, name)):
        text = settings.get(f"{group}.{key}")
        if text:
            yield f"{label}:"
            yield from (f"{_QUOTED}{line}" for line in str(text).strip("\n").split("\n"))
        elif key == name:
            yield f"{label}: not known"
    examples = settings.get(f"{group}.few_shot_examples") or ()
    if examples:
        yield f"{counted(len(examples), 'few-shot example')}:"
        yield from (f"{_QUOTED}{each if isinstance(each, str) else canonical_json(each)}" for each in examples)


def _run(node: Node) -> Iterator[str]:
    facts = node.facts
    step = f"{facts['step']}, " if facts.get("step") else ""
    took = "" if facts["duration_s"] is None else f", {facts['duration_s']:,.1f} s"
    batch = ""
    if "batch" in facts:
        batch = f", for batch {facts['batch']}{' (deleted)' if facts['batch_deleted_at'] else ''}"
    yield f"{step}{moment(facts['started_at'])} on {facts['host']}{took}{batch}"
    tokens = f"{facts['prompt_tokens']:,} + {facts['completion_tokens']:,} tokens"
    asked = f"{counted(facts['n_calls'], 'request')}, {facts['n_cached']:,} answers from the ledger"
    yield f"{asked}, {tokens}, cost {usd(facts['cost_usd'])}"
    yield from _whence(facts)


def _whence(facts: Json) -> Iterator[str]:
    if facts.get("config_path"):
        yield f"Config: {facts['config_path']}"
    if facts.get("mlflow_run_id"):
        yield f"MLflow run: {facts['mlflow_run_id']}"


def _batch(node: Node) -> Iterator[str]:
    facts = node.facts
    told = f": {facts['description']}" if facts["description"] else ""
    gone = f", deleted {moment(facts['deleted_at'])}" if facts["deleted_at"] else ""
    yield f"{counted(facts['n_experiments'], 'experiment')}, purpose {facts['purpose']}{told}{gone}"


def _people(node: Node) -> Iterator[str]:
    facts = node.facts
    verdicts = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in facts["verdicts"].items())
    yield f"{counted(facts['n_samples'], 'sample')}: {verdicts}"
    by = ", ".join(f"{name} ({n:,})" for name, n in facts["annotators"].items())
    adopted = f"; {facts['n_adopted']:,} taken over from the same texts elsewhere" if facts["n_adopted"] else ""
    yield f"By {by}, {moment(facts['first_at'])} to {moment(facts['last_at'])}{adopted}"
    if facts["closed_at"]:
        yield f"Closed {moment(facts['closed_at'])}; {counted(facts['n_examples'], 'sample')} became few-shot examples"


def _judge_test(node: Node) -> Iterator[str]:
    facts = node.facts
    word = "passed" if facts["passed"] else "failed"
    right = f"{facts['n_correct']:,} of {facts['n_tested']:,} verdicts as people's ({facts['accuracy']:.1%})"
    yield f"{word}: {right}, required {facts['required_accuracy']:.1%}; {moment(facts['created_at'])}"


def _publication(node: Node) -> Iterator[str]:
    facts = node.facts
    replaced = f"; replaced {moment(facts['replaced_at'])}" if facts["replaced_at"] else ""
    yield f"{facts['kind']}, {facts['mode']}, {moment(facts['published_at'])} by {facts['published_by']}{replaced}"


def _trained(node: Node) -> Iterator[str]:
    facts = node.facts
    seed = "" if facts["seed"] is None else f", seed {facts['seed']}"
    n = "" if facts["n_train"] is None else f", {counted(facts['n_train'], 'training record')}"
    data = f" of {facts['n_data']} data sets" if facts["n_data"] > 1 else ""
    yield f"{facts['model']}, {facts['task']}, {facts['method']}, lr {facts['learning_rate']:g}{seed}{n}{data}"
    yield f"Results: {facts['directory']}"


def _training(node: Node) -> Iterator[str]:
    yield from _trained(node)
    facts = node.facts
    pairs = (("zero_shot_accuracy", "zero-shot"), ("majority_accuracy", "majority class"))
    known = [f"{words} {facts[name]:.1%}" for name, words in pairs if facts[name] is not None]
    if facts["accuracy"] is not None and known:
        yield f"For comparison: {', '.join(known)}"
    when = moment(facts["finished_at"] or facts["started_at"] or facts["created_at"])
    yield f"{facts['purpose']}, {when}, fingerprint {facts['fingerprint']}, attempt {facts['attempt']}"
    if facts["imported_from"]:
        yield f"Imported from {facts['imported_from']}"
    yield from _whence(facts)


def _agents(node: Node) -> Iterator[str]:
    facts = node.facts
    trial = ", a trial" if facts["is_trial"] else ""
    yield f"Fingerprint: {facts['fingerprint']}{trial}"
    yield f"Task: {facts['task_type']}: {facts['task_description']}"
    yield f"Model: {facts['model']} at {facts['endpoint']}{_sampling(facts)}"
    answers = f"{facts['n_responses']:,} answers to {counted(facts['n_inputs'], 'input')}"
    yield f"{facts['status']}: {answers}, {facts['n_failed']:,} failed; cost {usd(facts['cost_usd'])}"
    for each in facts["perspectives"]:
        chrf = "" if each["chrf"] is None else f", chrF {each['chrf']:.1f}"
        told = f"Perspective {each['condition']}: {each['n_responses']:,} answers{chrf}"
        yield f"{told}, taken from the inputs" if each["is_reference"] else told
        for name in ("reading", "strategy"):
            yield from (f"{_QUOTED}{line}" for line in str(each[name] or "").strip("\n").split("\n") if each[name])


def _pool(node: Node) -> Iterator[str]:
    facts = node.facts
    yield f"Fingerprint: {facts['fingerprint']}"
    mix = f"{facts['n_easy']:,} easy, {facts['n_hard']:,} hard (wanted {facts['difficulty_split']})"
    yield f"{counted(facts['n_tasks'], 'task')}: {mix}, seed {facts['random_seed']}"
    yield f"Drawn {moment(facts['created_at'])}"
    yield from _whence(facts)


def _validation(node: Node) -> Iterator[str]:
    facts = node.facts
    shares = [
        f"{name} {facts[f'{name}_accuracy']:.1%}" for name in ("easy", "hard") if facts[f"{name}_accuracy"] is not None
    ]
    graded = counted(facts["n_graded"], "task")
    yield f"{', '.join(shares) or 'no accuracy'}; {graded} graded; cost {usd(facts['cost_usd'])}"
    yield f"{moment(facts['started_at'])}, fingerprint {facts['fingerprint']}"
    yield from _whence(facts)


def _import(node: Node) -> Iterator[str]:
    yield f"{moment(node.facts['started_at'])} on {node.facts['host']}: {node.facts['command']}"


def _file(node: Node) -> Iterator[str]:
    facts = node.facts
    if "train_digest" in facts:
        n = "" if facts["n_records"] is None else f", {counted(facts['n_records'], 'record')}"
        digest = facts["train_digest"]
        files = f"train file SHA-256 {digest[:_DIGITS]}" if digest else "its files are not known"
        yield f"No data of this record{n}; {files}"
        return
    yield f"Fingerprint {facts['fingerprint']}, {counted(facts['n_tasks'], 'task')}, read from {facts['path']}"
