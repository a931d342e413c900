"""`synthtrack review` and `synthtrack annotate`: the checkpoints at which a person looks at samples."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cli import options, render
from cli.screens.review_text import FLAGS, Outcome, as_json, command, listed, summary, told, whole
from pipeline.two_stage import ANNOTATION, NOT_THE_SAME, REVIEW, SAME, SKIPPED
from tracker.paths import Workspace

if TYPE_CHECKING:
    from pipeline.annotating.checkpoints import Card, Sheet
    from pipeline.two_stage import State
    from tracker.record.catalogue import Row
    from tracker.record.decisions import Answer

Command = Callable[..., Any]


@dataclass(frozen=True)
class Asked:
    """What the person asked for at a checkpoint."""

    named: Mapping[str, list[int]]
    rest: bool
    only: bool
    annotator: str | None
    note: str
    independent: bool
    listing: bool
    web: bool
    port: int | None
    as_json: bool
    samples: str | None = None

    @property
    def by_name(self) -> bool:
        """Whether options name samples."""
        return any(self.named.values())


def _numbers_of(_: click.Context, __: click.Parameter, given: Sequence[str]) -> list[int]:
    """The numbers in ``3,7,15`` or ``3-5``, as often as the option is given."""
    found: list[int] = []
    for part in ",".join(given).split(",") if given else ():
        matched = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", part, re.ASCII)
        first, last = (int(matched[1]), int(matched[2] or matched[1])) if matched else (0, 0)
        if not 1 <= first <= last:
            raise click.BadParameter(f"{part!r} is no sample number; give them as 3,7,15 or 3-5.")
        found += range(first, last + 1)
    return found


def _numbers(flag: str, what: str) -> Callable[[Command], Command]:
    return click.option(flag, callback=_numbers_of, multiple=True, metavar="NUMBERS", help=what)


_EVERY = {REVIEW: "--approve-all", ANNOTATION: "--all-same"}


def _shared(command: Command) -> Command:
    for option in reversed(
        (
            click.option("--only", is_flag=True, help="Decide the named samples only; all others wait as before."),
            click.option(
                "--annotator",
                callback=options.checked_name,
                metavar="NAME",
                help="Who answers; default: the user of this machine.",
            ),
            click.option(
                "--note",
                default="",
                metavar="TEXT",
                help="Kept with the samples that are named, else with every answer.",
            ),
            click.option(
                "--independent", is_flag=True, help="Ask for all that you have not answered; hide what others said."
            ),
            click.option("--list", "listing", is_flag=True, help="Print the samples with everybody's answers."),
            click.option("--web", is_flag=True, help="Answer in the browser."),
            click.option(
                "--port", type=click.IntRange(0, 65535), metavar="N", help="With --web: its port; default: a free one."
            ),
            options.as_json,
            options.workspace,
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("experiment")
@_numbers("--reject", "Reject these (3,7,15 or 3-5); without --approve, approve all others that nobody has decided.")
@_numbers("--approve", "Approve these.")
@_numbers("--skip", "Skip these.")
@click.option("--approve-all", is_flag=True, help="Approve every other sample that nobody has decided.")
@_shared
def review(
    place: Workspace,
    *,
    experiment: str,
    reject: list[int],
    approve: list[int],
    skip: list[int],
    approve_all: bool,
    **shared: Any,
) -> None:
    """Checkpoint 1: approve or reject the first rephrased samples of EXPERIMENT, one by one on the terminal.

    The approved ones become examples for the rest, the rejected ones keep their original. Every answer is saved at
    once; the next start goes on where this one stopped.
    """
    named = _named(REVIEW, {SAME: approve, NOT_THE_SAME: reject, SKIPPED: skip})
    _run(place, experiment, REVIEW, _asked(REVIEW, named, approve_all, **shared))


@click.command()
@click.argument("experiment")
@click.option(
    "--range", "samples", callback=options.checked_range, metavar="FROM-TO", help="Only these samples, as 21-40."
)
@_numbers("--not-same", "These are not the same (3,7 or 3-5); --all-same says of the others that they are.")
@_numbers("--same", "These are the same.")
@_numbers("--skip", "Skip these.")
@click.option("--all-same", is_flag=True, help="Every other sample that nobody has decided is the same.")
@_shared
def annotate(
    place: Workspace,
    *,
    experiment: str,
    samples: str | None,
    not_same: list[int],
    same: list[int],
    skip: list[int],
    all_same: bool,
    **shared: Any,
) -> None:
    """Checkpoint 2: does the rephrased text of EXPERIMENT's samples say the same? One by one on the terminal.

    The judge learns from the first range (21-40) and is tested with the second (41-80). Every answer is saved at once;
    the next start goes on where this one stopped.
    """
    named = _named(ANNOTATION, {SAME: same, NOT_THE_SAME: not_same, SKIPPED: skip})
    _run(place, experiment, ANNOTATION, _asked(ANNOTATION, named, all_same, samples=samples, **shared))


def _asked(checkpoint: str, named: Mapping[str, list[int]], every: bool, *, only: bool, **shared: Any) -> Asked:
    """What the options come to; ``every`` sample that nobody has decided gets the verdict same."""
    flag = _EVERY[checkpoint]
    if only and every:
        raise click.UsageError(f"--only and {flag} exclude each other.")
    if only and not any(named.values()):
        raise click.UsageError("--only goes with options that name samples, such as --skip 3.")
    # A review may be done in one go by what is wrong in it. What tests a judge is said of each sample, or of all.
    implied = checkpoint == REVIEW and named[NOT_THE_SAME] and not named[SAME] and not only
    return Asked(named, every or bool(implied), only, **shared)


def _named(checkpoint: str, given: Mapping[str, Iterable[int]]) -> dict[str, list[int]]:
    """The numbers under each verdict, once. Raises UsageError for one under two of them."""
    named = {verdict: sorted(set(numbers)) for verdict, numbers in given.items()}
    flags: dict[int, str] = {}
    for verdict, numbers in named.items():
        flag = FLAGS[checkpoint][verdict]
        for number in numbers:
            if number in flags:
                raise click.UsageError(f"Sample {number} is in both {flags[number]} and {flag}.")
            flags[number] = flag
    return named


def _run(place: Workspace, experiment: str, checkpoint: str, asked: Asked) -> None:
    from pipeline.annotating.checkpoints import open_sheet

    by_options = asked.rest or asked.by_name
    listing = asked.listing or (asked.as_json and not by_options and not asked.web)
    if asked.web and (by_options or listing):
        raise click.UsageError("--web asks in the browser; leave out --list and what answers by itself.")
    if asked.listing and by_options:
        raise click.UsageError("--list prints samples; leave out what answers them.")
    if asked.port is not None and not asked.web:
        raise click.UsageError("--port goes with --web.")
    with open_sheet(
        place,
        experiment,
        checkpoint,
        annotator=asked.annotator,
        samples=asked.samples,
        independent=asked.independent,
        only_read=listing,
    ) as sheet:
        others: list[int] = []
        if by_options:
            others = _decide(sheet, asked)
        elif not listing:
            _ask(sheet, asked)
        _show(sheet, asked, others, listing=listing)


def _decide(sheet: Sheet, asked: Asked) -> list[int]:
    """Saves the answers that the options come to; the numbers of the samples that no option named."""
    given = answers(sheet, asked.named, rest=asked.rest, note=asked.note)
    others = sheet.save(given, via="option")
    by_position = {card.position: card for card in sheet.cards}
    for answer in given:
        theirs = [row for row in others if row["position"] == answer.position]
        news = told(sheet, by_position[answer.position], theirs)
        if news:
            render.note(f"⚠️  {render.harmless(news)}")
    named = {number for numbers in asked.named.values() for number in numbers}
    return [answer.position + 1 for answer in given if answer.position + 1 not in named]


def answers(sheet: Sheet, named: Mapping[str, list[int]], *, rest: bool, note: str) -> list[Answer]:
    """The answers that options come to: the named samples, and with ``rest`` `same` for all that nobody has decided.

    An answer that this person has given already is not given again. Raises UnknownReference for a number that is not
    on the sheet.
    """
    from pipeline.annotating.checkpoints import chosen_numbers
    from tracker.record.decisions import Answer

    is_named = any(named.values())
    found: dict[int, Answer] = {}
    for verdict, numbers in named.items():
        for card in chosen_numbers(sheet, numbers):
            found[card.position] = Answer(card.position, verdict, note, sheet.settles(card, verdict))
    if rest:
        for card in sheet.cards:
            undecided = card.of(sheet.annotator) is None if sheet.independent else not card.decisions
            if undecided and card.position not in found:
                found[card.position] = Answer(card.position, SAME, "" if is_named else note)
    return [found[card.position] for card in sheet.cards if card.position in found and _is_new(sheet, card, found)]


def _is_new(sheet: Sheet, card: Card, found: Mapping[int, Answer]) -> bool:
    answer, own = found[card.position], card.of(sheet.annotator)
    if own is None or own["verdict"] != answer.verdict or own["settles"] != answer.settles:
        return True
    return bool(answer.note) and answer.note != own["note"]


def _ask(sheet: Sheet, asked: Asked) -> None:
    from cli.screens.review_screen import ask, has_screen

    if asked.web:
        from cli.screens.browse import serve

        serve(sheet, port=asked.port or 0)
        sheet.refresh()
    elif not sheet.open and not has_screen():
        render.note(f"Every sample of this {sheet.checkpoint} is decided already.")
    else:
        flags = FLAGS[sheet.checkpoint]
        others = " (and all others are approved; with --only they wait)" if sheet.checkpoint == REVIEW else ""
        ways = f"{flags[NOT_THE_SAME]} 3,7,15{others}, {_EVERY[sheet.checkpoint]}, {flags[SAME]}, --skip; "
        told_at_end = ask(
            sheet,
            note=asked.note,
            options=f"{ways}--list shows the samples",
            summed=lambda: summary(sheet, _outcome(sheet, asked, [])),
        )
        for line in told_at_end:
            render.note(line)


def _show(sheet: Sheet, asked: Asked, others: list[int], *, listing: bool) -> None:
    outcome = _outcome(sheet, asked, others)
    if asked.as_json:
        render.show_json(as_json(sheet, outcome))
    elif listing:
        render.show(listed(sheet))
    else:
        render.show("\n".join(summary(sheet, outcome)))


def _outcome(sheet: Sheet, asked: Asked, others: list[int]) -> Outcome:
    from pipeline.two_stage import load
    from tracker.listings import listings
    from tracker.record.catalogue import reading

    workspace = sheet.database.workspace
    with reading(workspace) as reader:
        state = load(reader, listings.experiment(reader, sheet.reference, workspace))
        runs = listings.generation_runs(reader, state.experiment["id"])
    # Under another name the answer would not take the place of the one before.
    who = [] if asked.annotator is None else ["--annotator", asked.annotator]
    correcting = " ".join([command(sheet), *map(shlex.quote, who), "--only"])
    following = _next_command(sheet, asked, state, runs)
    return Outcome(following, correcting, whole(sheet, state), others, asked.by_name)


def _next_command(sheet: Sheet, asked: Asked, state: State, runs: Sequence[Row]) -> str | None:
    from cli.text.next_command import next_command

    if sheet.open:
        given = [("--annotator", asked.annotator), ("--range", asked.samples)]
        words = [word for flag, value in given if value is not None for word in (flag, value)]
        return " ".join([command(sheet), *map(shlex.quote, words), *["--independent"] * sheet.independent])
    return next_command(state, runs)
