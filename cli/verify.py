"""``synthtrack verify``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cli import options, render
from tracker.catalogue import Reader, Row, reading
from tracker.errors import Corrupt, UnknownReference
from tracker.paths import Workspace

if TYPE_CHECKING:
    from tracker.findings import Finding
    from tracker.pool_findings import Scored
    from tracker.verify import Subject, Verified

_NAMES = {
    "experiment": ("experiment", None),
    "agent data set": ("agent data set", None),
    "benchmark": ("benchmark", None),
    "task pool": ("task pool", None),
    "source data": ("source data set", None),
    "training run": ("training run", None),
    "training data": ("directory of training data", "directories of training data"),
    "results": ("result directory", "result directories"),
}

_KEYS = {"agent data set": "agent_dataset"}
"""Where SQL and MLflow write a kind's name otherwise than with underlines for its blanks."""


@click.command()
@click.argument("refs", nargs=-1, metavar="[REF]...")
@options.as_json
@options.workspace
def verify(workspace: Workspace, *, refs: tuple[str, ...], as_json: bool) -> None:
    """Check everything, or what REF names, against the fingerprints and digests in the record. Changes nothing.

    REF is an experiment, a training run, a sweep, an agent data set, a task pool or a path. Fingerprints are derived
    anew from the settings, digests from the records and files; accuracies, answers and tasks are counted anew, and
    benchmarks scored anew. What differs is listed with what to do; exit code 6 then.
    """
    from tracker.verify import verify as verify_all

    with reading(workspace) as reader:
        found = verify_all(workspace, reader, _result_files, _rescore, _subject(reader, workspace, refs))
    if as_json:
        checked = {_KEYS.get(kind, kind.replace(" ", "_")): number for kind, number in found.counts.items()}
        render.show_json({"checked": checked, "findings": [asdict(each) for each in found.findings]})
    else:
        _show(found)
    if found.findings:
        what = render.counted(len(found.findings), "thing is", "things are")
        raise Corrupt(f"{what} not as recorded.")


def _subject(reader: Reader, workspace: Workspace, refs: tuple[str, ...]) -> Subject | None:
    if not refs:
        return None
    from tracker.verify import Subject

    named = [_named(reader, workspace, ref) for ref in refs]
    experiments = dict.fromkeys(each for one in named for each in one.experiment_ids)
    runs = dict.fromkeys(each for one in named for each in one.run_ids)
    datasets = dict.fromkeys(each for one in named for each in one.agent_dataset_ids)
    pools = dict.fromkeys(each for one in named for each in one.pool_ids)
    return Subject(tuple(experiments), tuple(runs), tuple(datasets), tuple(pools))


def _named(reader: Reader, workspace: Workspace, ref: str) -> Subject:
    """What one REF means. Raises UnknownReference with what could be meant in any place."""
    kinds = {"experiment": _experiment, "training run": _training, "sweep": _training}
    # What is not there cannot be meant.
    kinds |= {"agent data set": _agents} if reader.rows("SELECT id FROM agent_dataset LIMIT 1") else {}
    kinds |= {"task pool": _pool} if reader.rows("SELECT id FROM task_pool LIMIT 1") else {}
    hints: dict[str, None] = {}
    for find in dict.fromkeys(kinds.values()):
        try:
            return find(reader, workspace, ref)
        except UnknownReference as error:
            hints |= dict.fromkeys((error.hint or "").splitlines())
    *others, last = kinds
    raise UnknownReference(f"{', '.join(others)} or {last}", ref, hint="\n".join(hints))


def _experiment(reader: Reader, workspace: Workspace, ref: str) -> Subject:
    from tracker import references
    from tracker.verify import Subject

    return Subject(experiment_ids=(references.find(reader, workspace, ref).id,))


def _training(reader: Reader, workspace: Workspace, ref: str) -> Subject:
    from tracker import sweeps
    from tracker.verify import Subject

    found = sweeps.find(reader, workspace, ref)
    if found.run_id is not None:
        return Subject(run_ids=(found.run_id,))
    rows = reader.rows("SELECT id FROM training_run WHERE training_sweep_id = :id ORDER BY id", id=found.sweep_id)
    return Subject(run_ids=tuple(row["id"] for row in rows))


def _agents(reader: Reader, workspace: Workspace, ref: str) -> Subject:
    from tracker import agent_references
    from tracker.verify import Subject

    return Subject(agent_dataset_ids=(agent_references.find(reader, workspace, ref),))


def _pool(reader: Reader, workspace: Workspace, ref: str) -> Subject:
    from tracker import pool_listings
    from tracker.verify import Subject

    return Subject(pool_ids=(pool_listings.find(reader, workspace, ref),))


def _rescore(benchmark: Row, tasks: Sequence[Row]) -> Scored | None:
    from pipeline.pools.preprocess import rescore

    return rescore(benchmark, tasks)


def _result_files(run: Row) -> tuple[str, ...]:
    from pipeline.training.places import result_files

    return result_files(run["learning_rate"], with_model=json.loads(run["config"]).get("save_model", True))


def _show(found: Verified) -> None:
    for each in found.findings:
        render.show("\n".join(_lines(each)))
    checked = ", ".join(render.counted(number, *_NAMES[kind]) for kind, number in found.counts.items() if number)
    render.show(
        f"✅ As recorded: {checked or 'nothing is recorded yet'}." if not found.findings else f"Checked: {checked}."
    )


def _lines(each: Finding) -> tuple[str, str]:
    return f"❌ {each.kind} {render.harmless(each.where)}: {render.harmless(each.what)}", f"   {each.remedy}"
