"""``synthtrack verify``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options, render
from cli.commands.backup import bars
from tracker.errors import Corrupt, UnknownReference
from tracker.fingerprint import Json
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row, reading

if TYPE_CHECKING:
    from tracker.record.findings import Finding
    from tracker.verifying.pool_findings import Scored
    from tracker.verifying.sample_findings import Answers
    from tracker.verifying.verify import Subject, Verified

_NAMES = {
    "experiment": ("experiment", None),
    "agent data set": ("agent data set", None),
    "benchmark": ("benchmark", None),
    "task pool": ("task pool", None),
    "source data": ("source data set", None),
    "training run": ("training run", None),
    "training data": ("directory of training data", "directories of training data"),
    "results": ("result directory", "result directories"),
    "generation run": ("generation run", None),
    "judge test": ("test of a judge", "tests of judges"),
    "publication": ("publication", None),
    "deletion": ("entry of the trash", "entries of the trash"),
    "MLflow": ("run in MLflow", "runs in MLflow"),
}

_KEYS = {"agent data set": "agent_dataset"}
"""Where SQL and MLflow write a kind's name otherwise than with underlines for its blanks."""


@click.command()
@click.argument("refs", nargs=-1, metavar="[REF]...")
@click.option("--fix", is_flag=True, help="Mend what can be mended without losing anything, and look again.")
@options.as_json
@options.workspace
def verify(workspace: Workspace, *, refs: tuple[str, ...], fix: bool, as_json: bool) -> None:
    """Check everything, or what REF names, against the fingerprints and digests in the record.

    REF is an experiment, a training run, a sweep, an agent data set, a task pool or a path. Fingerprints are derived
    anew from the settings, digests from the records and files; accuracies, answers, counts, costs and tasks are counted
    anew, and benchmarks scored anew. Without REF also the database's file, publications, the trash, processes that are
    gone, and MLflow. What differs is listed with what to do; exit code 6 then. Nothing is changed but by --fix, which
    writes the tree anew, publishes again what is missing, counts anew, finishes what killed processes began, and logs
    again what MLflow lost.
    """
    found, done = _look(workspace, refs), []
    if fix and any(each.fix for each in found.findings):
        done = list(_mended(workspace, found, as_json=as_json))
        found = _look(workspace, refs)
    if as_json:
        checked = {_KEYS.get(kind, kind.replace(" ", "_").lower()): number for kind, number in found.counts.items()}
        answer: dict[str, Json] = {
            "checked": checked,
            "findings": [{**_plain(each), "fixable": bool(each.fix)} for each in found.findings],
            "notes": list(found.notes),
        }
        render.show_json(answer | ({"done": done} if fix else {}))
    else:
        _show(found, is_mended=fix)
    if found.findings:
        what = render.counted(len(found.findings), "thing is", "things are")
        can = not fix and any(each.fix for each in found.findings)
        raise Corrupt(f"{what} not as recorded.", hint="`synthtrack verify --fix` mends what is safe." if can else None)


def _look(workspace: Workspace, refs: tuple[str, ...]) -> Verified:
    from tracker.verifying.verify import Rules, Verified
    from tracker.verifying.verify import verify as verify_all
    from tracker.verifying.verify_database import INDEX, database_findings

    with bars() as progress:
        damage = [] if refs else database_findings(workspace, progress)
        if any(each.fix != INDEX and each.where == str(workspace.database) for each in damage):
            # Of what cannot be read nothing can be said.
            return Verified({}, tuple(damage), ("Nothing else was checked: the database comes first.",))
        with reading(workspace) as reader:
            rules = Rules(_result_files, _rescore, _answers(), _changed)
            found = verify_all(workspace, reader, rules, _subject(reader, workspace, refs), progress)
    return replace(found, findings=(*damage, *found.findings))


def _mended(workspace: Workspace, found: Verified, *, as_json: bool) -> Iterator[str]:
    from tracker.verifying.mend import mend

    with bars() as progress:
        for line in mend(workspace, found.findings, partial(_publish, workspace), progress):
            if not as_json:
                render.show(f"🔧 {render.harmless(line)}")
            yield line


def _publish(workspace: Workspace, publication_id: int) -> str:
    """Publishes again what a publication put somewhere; what stands there now is left as it is."""
    from pipeline.publishing.publish import Wish, publish
    from tracker.publishing import publications

    with reading(workspace) as reader:
        [row] = [each for each in publications.listing(reader, workspace).rows if each["id"] == publication_id]
    directory = Path(row["directory"])
    wish = Wish(str(directory.parent), dataset=directory.name, symlink=row["mode"] == publications.SYMLINK)
    publish(workspace, row["experiment"], wish, lambda _, __: None)
    return f"Published {row['experiment']} to {workspace.relative(directory)} again."


def _plain(each: Finding) -> dict[str, Json]:
    return {name: getattr(each, name) for name in ("kind", "what", "where", "remedy")}


def _subject(reader: Reader, workspace: Workspace, refs: tuple[str, ...]) -> Subject | None:
    if not refs:
        return None
    from tracker.verifying.verify import Subject

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
    from tracker.listings import references
    from tracker.verifying.verify import Subject

    return Subject(experiment_ids=(references.find(reader, workspace, ref).id,))


def _training(reader: Reader, workspace: Workspace, ref: str) -> Subject:
    from tracker.record import sweeps
    from tracker.verifying.verify import Subject

    found = sweeps.find(reader, workspace, ref)
    if found.run_id is not None:
        return Subject(run_ids=(found.run_id,))
    rows = reader.rows("SELECT id FROM training_run WHERE training_sweep_id = :id ORDER BY id", id=found.sweep_id)
    return Subject(run_ids=tuple(row["id"] for row in rows))


def _agents(reader: Reader, workspace: Workspace, ref: str) -> Subject:
    from tracker.listings import agent_references
    from tracker.verifying.verify import Subject

    return Subject(agent_dataset_ids=(agent_references.find(reader, workspace, ref),))


def _pool(reader: Reader, workspace: Workspace, ref: str) -> Subject:
    from tracker.listings import pool_listings
    from tracker.verifying.verify import Subject

    return Subject(pool_ids=(pool_listings.find(reader, workspace, ref),))


def _rescore(benchmark: Row, tasks: Sequence[Row]) -> Scored | None:
    from pipeline.pools.preprocess import rescore

    return rescore(benchmark, tasks)


def _result_files(run: Row) -> tuple[str, ...]:
    from pipeline.training.places import result_files

    return result_files(run["learning_rate"], with_model=json.loads(run["config"]).get("save_model", True))


def _answers() -> Answers:
    from pipeline.generation.verdict import read_verdict
    from tracker.verifying.sample_findings import Answers

    return Answers(_rephrased, lambda answer: read_verdict(answer).value)


def _changed(directory: Path, run: Row, answers: Sequence[Row]) -> Iterator[tuple[str, str]]:
    from pipeline.training.result_check import changed

    return changed(directory, run, answers)


def _rephrased(answer: str, original: str) -> str:
    # Few answers need it: most are the text itself.
    from pipeline.generation.plan import clean

    return clean(answer, original)


def _show(found: Verified, *, is_mended: bool) -> None:
    for each in found.findings:
        render.show("\n".join(_lines(each)))
    for note in found.notes:
        render.show(f"💡 {render.harmless(note)}")
    checked = ", ".join(render.counted(number, *_NAMES[kind]) for kind, number in found.counts.items() if number)
    if found.findings:
        remains = "What remains needs a person. " if is_mended else ""
        render.show(f"{remains}Checked: {checked or 'the database'}.")
    else:
        render.show(f"✅ As recorded: {checked or 'nothing is recorded yet'}.")


def _lines(each: Finding) -> tuple[str, str]:
    return f"❌ {each.kind} {render.harmless(each.where)}: {render.harmless(each.what)}", f"   {each.remedy}"
