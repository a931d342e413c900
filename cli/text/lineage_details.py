"""What is said of each node of a lineage below its title: figures, where it is from, and the prompts in it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

from cli.render import counted, harmless, moment, usd
from cli.text.side_by_side import wrapped
from tracker.fingerprint import Json, canonical_json
from tracker.tracing.lineage import CHECKPOINT, IMPORT, JUDGE_TEST, Node
from tracker.tracing.lineage_start import (
    AGENT_RUN,
    AGENTS,
    BATCH,
    EXPERIMENT,
    POOL,
    PUBLICATION,
    RUN,
    SOURCE,
    TRAINING,
    VALIDATION,
)

_DIGITS = 12
NARROWEST = 30
_QUOTED = "   | "
"""What sets off the lines of a prompt, those that had to be broken too."""


def details(node: Node, width: int, *, whole: bool) -> Iterator[str]:
    """The lines about ``node``, none wider than ``width`` but for what is to be copied; ``whole`` with all of it."""
    describe: dict[str, Callable[[Node], Iterator[str]]] = {
        SOURCE: _source, TRAINING: _training if whole else _trained, RUN: _run, AGENT_RUN: _run, BATCH: _batch,
        CHECKPOINT: _people,
        JUDGE_TEST: _judge_test, PUBLICATION: _publication, AGENTS: _agents, POOL: _pool, VALIDATION: _validation,
        EXPERIMENT: _experiment if whole else _brief, IMPORT: _import,
    }  # fmt: skip
    for text in describe.get(node.kind, _file)(node):
        begin = _QUOTED if text.startswith(_QUOTED) else ""
        lines = _fitted(text.removeprefix(begin), max(NARROWEST, width - len(begin)))
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
