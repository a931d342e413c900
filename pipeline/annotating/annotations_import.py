"""Takes people's decisions from a file of JSON Lines: finds everything that is wrong with it, saves all or nothing."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.annotating.annotations import History, load_history, ranges_in_words, within, word
from pipeline.annotating.annotations_row import MEANINGS, Given, other_text, parsed, position_of
from pipeline.two_stage import ANNOTATION, DISPUTED, REVIEW, State, load, numbers
from tracker.errors import DataError, Problem, WrongStep
from tracker.fingerprint import Json
from tracker.listings import listings
from tracker.paths import Workspace
from tracker.record.catalogue import reading

_SHOWN = 20


@dataclass
class Read:
    """What a file comes to: the answers that are new, everything that is wrong, and what was left out.

    ``renamed`` counts the rows that name another annotator than the one who was asked for; ``early`` are the
    checkpoints of samples that are not rephrased yet, ``n_elsewhere`` the rows of samples in no checkpoint,
    ``n_older`` those from before the same person's newest answer to that sample; ``n_overriding`` are the answers that
    take the place of an earlier one of the same person.
    """

    answers: list[Given] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    renamed: Counter[str] = field(default_factory=Counter)
    early: set[str] = field(default_factory=set)
    n_unchanged: int = 0
    n_unanswered: int = 0
    n_outside: int = 0
    n_elsewhere: int = 0
    n_older: int = 0
    n_overriding: int = 0


@dataclass(frozen=True)
class Imported:
    """What an import did, the experiment as it is afterwards, and the positions that are disputed in it."""

    read: Read
    state: State

    @property
    def by_annotator(self) -> Counter[str]:
        return Counter(given.annotator for given in self.read.answers)

    @property
    def disputed(self) -> list[int]:
        return sorted(at for at, row in self.state.decisions.items() if row["verdict"] == DISPUTED)


def import_annotations(
    workspace: Workspace, ref: str, text: str, name: str, *, annotator: str | None = None, samples: str | None = None
) -> Imported:
    """Saves the answers in ``text``, the content of the file ``name``: all that are new, or none.

    ``annotator``: whose they are, whatever the rows say. Raises DataError with every problem of the file, WrongStep
    where its answers belong to a checkpoint that is closed or not reached yet, UnknownReference.
    """
    from tracker.record.database import open_database
    from tracker.record.decisions import Answer, save

    with reading(workspace) as reader:
        history = load_history(reader, workspace, ref)
    state = history.state
    found = read(history, text, name, annotator=annotator, among=within(state, samples))
    answers: dict[str, list[Answer]] = {}
    for given in found.answers:
        answer = Answer(
            given.position, given.verdict, given.note or "", bool(given.settles), given.annotator,
            decided_at=given.decided_at,
        )  # fmt: skip
        answers.setdefault(str(history.checkpoint(given.position)), []).append(answer)
    # Before the problems of the file: there is no use in mending what can never be taken.
    _check_steps(state, found.early | set(answers))
    if found.problems:
        raise _error(state, found, name)
    if answers:
        with open_database(workspace) as database:
            for checkpoint, new in answers.items():
                save(database, int(state.experiment["id"]), checkpoint, new, annotator="", via="import")
    with reading(workspace) as reader:
        return Imported(found, load(reader, listings.experiment(reader, ref, workspace)))


def _check_steps(state: State, checkpoints: Collection[str]) -> None:
    from pipeline.annotating.checkpoints import check_step

    for checkpoint in sorted(checkpoints):
        try:
            check_step(state, checkpoint, state.there(checkpoint))
        except WrongStep as error:
            now = open_range(state)
            if now is None:
                raise
            hint = f"Open now are samples {now}: --range {now} takes the rows of these alone."
            raise WrongStep(error.message, hint=f"{hint}\n{error.hint}") from error


def open_range(state: State) -> str | None:
    """From the first to the last sample of the checkpoint that is open, as ``--range`` takes it."""
    from pipeline.annotating.checkpoints import check_step

    for checkpoint in (REVIEW, ANNOTATION):
        there = state.there(checkpoint)
        with contextlib.suppress(WrongStep):
            check_step(state, checkpoint, there)
            return numbers(range(there[0], there[-1] + 1))
    return None


def _error(state: State, found: Read, name: str) -> DataError:
    shown = found.problems[:_SHOWN]
    if len(found.problems) > _SHOWN:
        shown.append(Problem(name, f"... and {len(found.problems) - _SHOWN} more"))
    hint = f"{ranges_in_words(state)} --range {numbers(state.ranges.test)} takes the rows of those samples alone."
    return DataError(
        "The annotations cannot be imported; nothing was.", shown, hint=hint if found.n_elsewhere else None
    )


def read(
    history: History, text: str, name: str, *, annotator: str | None = None, among: Collection[int] | None = None
) -> Read:
    """What the file ``name`` that holds ``text`` comes to; rows of samples that are not ``among`` are only counted."""
    file = _File(history, name, annotator, among)
    # Not splitlines: U+2028 and its like are legal inside JSON strings.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            file.add(number, line)
    return file.close()


class _File:
    def __init__(self, history: History, name: str, annotator: str | None, among: Collection[int] | None) -> None:
        self._history = history
        self._name = name
        self._annotator = annotator
        self._among = among
        self._n_rows = 0
        self._nameless: list[int] = []
        self._seen: dict[tuple[int, str], Given] = {}
        self._read = Read()

    def add(self, number: int, line: str) -> None:
        self._n_rows += 1
        try:
            row = parsed(line)
            position = position_of(self._history, row)
        except ValueError as error:
            self._problem(number, str(error))
            return
        if self._among is not None and position not in self._among:
            self._read.n_outside += 1
        elif row.get("verdict") is None or not str(row["verdict"]).strip():
            self._read.n_unanswered += 1
        else:
            self._answer(number, row, position)

    def close(self) -> Read:
        if not self._n_rows:
            self._read.problems.append(Problem(self._name, "no rows"))
        if self._nameless:
            more = f" here and in {len(self._nameless) - 1} more rows" if len(self._nameless) > 1 else ""
            self._problem(self._nameless[0], f"no annotator{more}: --annotator NAME says whose answers these are")
        return self._read

    def _problem(self, number: int, what: str) -> None:
        self._read.problems.append(Problem(f"{self._name}:{number}", what))

    def _answer(self, number: int, row: dict[str, Json], position: int) -> None:
        told: dict[str, Any] = {}
        wrong = list(self._misplaced(row, position))
        for name, meaning in MEANINGS.items():
            try:
                told[name] = meaning(row.get(name))
            except ValueError as error:
                wrong.append(str(error))
        for what in wrong:
            self._problem(number, what)
        named = told.get("annotator")
        who = self._annotator or named
        if who is None and "annotator" in told:
            self._nameless.append(number)
        elif not wrong and who is not None:
            if named not in {None, who}:
                self._read.renamed[str(named)] += 1
            self._take(Given(number, position, **{**told, "annotator": who}))

    def _misplaced(self, row: Mapping[str, Json], position: int) -> Iterator[str]:
        """What keeps a row from being an answer to that sample."""
        checkpoint = self._history.checkpoint(position)
        sample = self._history.state.samples.get(position)
        if checkpoint is None:
            self._read.n_elsewhere += 1
            yield f"sample {position + 1} is in no checkpoint"
        elif sample is None or not sample["rephrased"]:
            self._read.early.add(checkpoint)
            yield f"sample {position + 1} is not rephrased yet"
        else:
            for kind in ("original", "rephrased"):
                name = f"{kind}_{self._history.field}"
                yield from other_text(name, row.get(name), sample[kind], position)

    def _take(self, given: Given) -> None:
        first = self._seen.setdefault((given.position, given.annotator), given)
        if first.verdict != given.verdict:
            verdicts = f"{word(given.verdict)!r}, and {word(first.verdict)!r} in line {first.line}"
            self._problem(given.line, f"{given.annotator} says of sample {given.position + 1} {verdicts}")
            return
        differing = _differing(first, given)
        if differing:
            what = f"{given.annotator} says the same of sample {given.position + 1} in line {first.line}"
            self._problem(given.line, f"{what}, with another {' and '.join(differing)}")
            return
        own = [row for row in self._history.decisions.get(given.position, ()) if row["annotator"] == given.annotator]
        known = (row for row in own if row is own[-1] or row["decided_at"] == given.decided_at)
        if first is not given or any(given.is_said_by(row) for row in known):
            self._read.n_unchanged += 1
            return
        newest = max((row["decided_at"] for row in own), default="")
        if given.decided_at is not None and given.decided_at < newest:
            self._read.n_older += 1
            return
        self._read.n_overriding += bool(own)
        # Of the same moment: changed in the file after it was exported, so that moment is another answer's.
        self._read.answers.append(replace(given, decided_at=None) if given.decided_at == newest else given)


def _differing(first: Given, given: Given) -> list[str]:
    """In what two rows of the same verdict differ; one that says nothing of it has no note and settles nothing."""
    said = {
        "note": (first.note or "", given.note or ""),
        "settles": (bool(first.settles), bool(given.settles)),
        "decided_at": (first.decided_at, given.decided_at),
    }
    return [name for name, (one, other) in said.items() if one != other]
