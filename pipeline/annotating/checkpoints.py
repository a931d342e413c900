"""A checkpoint in front of a person: its samples, the answers so far, and the saving of each new one.

The terminal, the browser, the options for scripts and the import of annotations all go through a Sheet.
"""

from __future__ import annotations

import contextlib
import getpass
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.annotating.annotations import LINES
from pipeline.two_stage import (
    ANNOTATION,
    NOT_THE_SAME,
    REVIEW,
    SAME,
    SKIPPED,
    State,
    Step,
    load,
    numbers,
    positions,
)
from tracker.errors import UnknownReference, Unsupported, WrongStep
from tracker.fingerprint import Json
from tracker.listings import listings
from tracker.paths import Workspace
from tracker.record import checkpoints
from tracker.record.catalogue import Reader, Row, reading
from tracker.record.database import Database, open_database
from tracker.record.decisions import Answer, closed, newest, save

VERDICTS = (SAME, NOT_THE_SAME, SKIPPED)
WORDS = {
    REVIEW: {SAME: "approved", NOT_THE_SAME: "rejected", SKIPPED: "skipped"},
    ANNOTATION: {SAME: "same", NOT_THE_SAME: "not the same", SKIPPED: "skipped"},
}
"""What a verdict is called at each checkpoint."""

_EVERY_DECISION = 2**62
_OWN = "SELECT * FROM decision_side_by_side WHERE shared_experiment_id = :id AND id <= :seen ORDER BY id"


@dataclass
class Card:
    """One sample as a person sees it; ``decisions`` are the newest of each annotator, oldest first."""

    position: int
    original: str
    rephrased: str
    record: dict[str, Json]
    decisions: list[Row] = field(default_factory=list)

    @property
    def number(self) -> int:
        """What people call it: 1 is the first record."""
        return self.position + 1

    def of(self, annotator: str) -> Row | None:
        """What that person decided last, or None."""
        found = [row for row in self.decisions if row["annotator"] == annotator]
        return found[-1] if found else None

    def add(self, row: Row) -> None:
        self.decisions = [*(each for each in self.decisions if each["annotator"] != row["annotator"]), row]


@dataclass
class Sheet:
    """The samples of one checkpoint, or some of them, for one person to answer."""

    database: Database
    state: State
    checkpoint: str
    annotator: str
    cards: list[Card]
    independent: bool
    seen: int

    @property
    def reference(self) -> str:
        return self.state.reference

    @property
    def field(self) -> str:
        """The name of the field that was rephrased."""
        return str(self.state.experiment["field_to_rephrase"])

    @property
    def words(self) -> dict[str, str]:
        return WORDS[self.checkpoint]

    def waits(self, card: Card) -> bool:
        """Whether this person is still to be asked for that sample.

        Who annotates independently is asked for what they have not answered themselves, others for what nobody has,
        or on what annotators differ.
        """
        if self.independent:
            return card.of(self.annotator) is None
        return standing(card.decisions) is None

    @property
    def open(self) -> list[Card]:
        """The samples that still wait for this person, in file order."""
        return [card for card in self.cards if self.waits(card)]

    def answer(
        self, card: Card, verdict: str, *, note: str = "", via: str = "terminal", settles: bool = False
    ) -> list[Row]:
        """Saves an answer at once; gives what others decided on that sample since this person began to look.

        Where annotators differ already, and this person can see that, the answer settles it. Raises WrongStep where
        the checkpoint was closed meanwhile.
        """
        given = Answer(card.position, verdict, note, settles or self.settles(card, verdict))
        return self.save([given], via=via)

    def settles(self, card: Card, verdict: str) -> bool:
        """Whether this person's answer is to stand whatever others said: it ends a dispute, or was settled before."""
        if self.independent or verdict == SKIPPED:
            return False
        return is_disputed(card.decisions) or any(row["settles"] for row in card.decisions)

    def save(self, answers: Sequence[Answer], *, via: str) -> list[Row]:
        """Saves several answers in one transaction; see ``answer``."""
        experiment = int(self.state.experiment["id"])
        others = save(
            self.database, experiment, self.checkpoint, answers, annotator=self.annotator, via=via, seen=self.seen
        )
        self.refresh()
        return others

    def refresh(self, *, seen: int | None = None) -> None:
        """Looks at what has been decided meanwhile, by whomever; up to decision ``seen``, where it is given.

        The latter is for who looks at a page: what it shows is what its answer may settle.
        """
        self.seen = newest(self.database, int(self.state.experiment["id"])) if seen is None else seen
        with reading(self.database.workspace) as reader:
            _fill(reader, self.state, self.cards, self.seen)


def standing(decisions: Sequence[Row]) -> str | None:
    """The verdict that decisions on one sample come to; None: none, or disputed."""
    verdict = checkpoints.standing(decisions) if decisions else checkpoints.DISPUTED
    return None if verdict == checkpoints.DISPUTED else verdict


def is_disputed(decisions: Sequence[Row]) -> bool:
    """Whether annotators differ and nobody has settled it."""
    return bool(decisions) and standing(decisions) is None


def user() -> str:
    """Who sits at this machine: the default annotator. Raises Unsupported where the system knows no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # before Python 3.13, and since
        raise Unsupported(
            "This system has no name for the user it runs as.", hint="Say who answers: --annotator NAME"
        ) from error


@contextlib.contextmanager
def open_sheet(
    workspace: Workspace,
    ref: str,
    checkpoint: str,
    *,
    annotator: str | None = None,
    samples: str | None = None,
    independent: bool = False,
    only_read: bool = False,
) -> Iterator[Sheet]:
    """The sheet of an experiment's checkpoint, to be read and answered; ``samples`` (``21-40``) are some of it.

    ``only_read``: it takes no answers, so the checkpoint may be closed and the workspace not writable. Raises
    UnknownReference for another range, WrongStep where the experiment has no such checkpoint, is not there yet or past
    it.
    """
    with reading(workspace) as reader:
        state = load(reader, listings.experiment(reader, ref, workspace))
        chosen = _chosen(state, checkpoint, samples)
        records = _records(reader, state)
        cards = [
            Card(at, state.samples[at]["original"], state.samples[at]["rephrased"], records[at])
            for at in state.there(checkpoint)
            if at in chosen
        ]
        if not only_read or checkpoint not in state.closed:
            check_step(state, checkpoint, cards)
        if only_read:
            _fill(reader, state, cards, _EVERY_DECISION)
    # What is only read needs no database that could be written.
    with Database(workspace) if only_read else open_database(workspace) as database:
        sheet = Sheet(database, state, checkpoint, annotator or user(), cards, independent, 0)
        if not only_read:
            sheet.refresh()
        yield sheet


def check_step(state: State, checkpoint: str, there: Sequence[object]) -> None:
    """Raises WrongStep where people cannot answer at this checkpoint now; ``there``: what is ready to be looked at."""
    if checkpoint in state.closed or state.experiment["status"] in {"complete", "partial"}:
        raise closed(state.reference, checkpoint)
    if checkpoint == ANNOTATION and REVIEW not in state.closed:
        step = state.step()
        following = f"synthtrack review {state.reference}" if step is Step.REVIEW else "synthtrack generate CONFIG"
        raise WrongStep(f"{state.reference} is not at its annotation yet.", hint=f"Next: {following}")
    if not there:
        raise WrongStep(
            f"{state.reference} has no rephrased samples to look at yet.", hint="Next: synthtrack generate CONFIG"
        )


def chosen_numbers(sheet: Sheet, given: Iterable[int]) -> list[Card]:
    """The cards of sample numbers. Raises UnknownReference for one that is not on the sheet."""
    by_number = {card.number: card for card in sheet.cards}
    for number in given:
        if number not in by_number:
            first, last = sheet.cards[0].number, sheet.cards[-1].number
            raise UnknownReference(
                "sample", str(number), hint=f"The {sheet.checkpoint} here is of samples {first} to {last}."
            )
    return [by_number[number] for number in given]


def _chosen(state: State, checkpoint: str, samples: str | None) -> set[int]:
    everything = state.ranges.of(checkpoint)
    if samples is None:
        return set(everything)
    wanted = set(positions(samples))
    if not wanted <= set(everything):
        parts = (state.ranges.review,) if checkpoint == REVIEW else (state.ranges.few_shot, state.ranges.test)
        allowed = " and ".join(numbers(part) for part in parts)
        raise UnknownReference("samples", samples, hint=f"The {checkpoint} of {state.reference} is of {allowed}.")
    return wanted


def _records(reader: Reader, state: State) -> dict[int, dict[str, Json]]:
    end = max(state.samples, default=-1) + 1
    rows = reader.rows(LINES, dataset=state.experiment["source_dataset_id"], end=end)
    return {row["position"]: json.loads(row["line"]) for row in rows}


def _fill(reader: Reader, state: State, cards: Sequence[Card], seen: int) -> None:
    by_position = {card.position: card for card in cards}
    for card in cards:
        card.decisions = []
    for row in reader.rows(_OWN, id=state.experiment["id"], seen=seen):
        if row["position"] in by_position:
            by_position[row["position"]].add(row | {"settles": bool(row["settles"])})
