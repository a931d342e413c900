"""A checkpoint on the terminal: what each key does, and that every answer is saved at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cli.screens import terminal
from cli.screens.review_look import Look
from cli.screens.review_text import told
from cli.screens.terminal import Terminal
from pipeline.two_stage import NOT_THE_SAME, SAME, SKIPPED
from tracker.errors import Interrupted, Unsupported

if TYPE_CHECKING:
    from pipeline.annotating.checkpoints import Card, Sheet

LEAST_COLUMNS, LEAST_LINES = 40, 12
_ANSWERS = {"y": SAME, "n": NOT_THE_SAME, "s": SKIPPED}
_HEAD_AND_FOOT = 5
_AT_END = (
    "Answers can still be changed, until the next step uses them: ← or b goes back through the samples, "
    "g goes to one by its number, q quits."
)
_OTHER_WAYS = "answer in the browser with --web, or with options: {options}."


def has_screen() -> bool:
    """Whether somebody sits before a terminal that has room for a sample."""
    return Terminal.is_there() and _fits(Terminal())


def ask(sheet: Sheet, *, note: str = "", options: str, summed: Callable[[], Sequence[str]]) -> list[str]:
    """Asks for the open samples, one screen each, then shows what they come to (``summed``), until the person leaves.

    Gives what to tell them then. What was answered is saved, whatever is raised: Unsupported where there is no
    terminal, or too small a one (``options`` are what else there is), Interrupted at Ctrl-C, WrongStep where the
    checkpoint is closed meanwhile.
    """
    other_ways = _OTHER_WAYS.format(options=options)
    if not Terminal.is_there():
        raise Unsupported("Samples can be shown one by one on a terminal only.", hint=f"Instead, {other_ways}")
    screen = Terminal()
    if not _fits(screen):
        raise Unsupported(
            f"The terminal has {screen.size.columns} columns and {screen.size.lines} lines; at least {LEAST_COLUMNS} "
            f"and {LEAST_LINES} are needed.",
            hint=f"Widen it; or {other_ways}",
        )
    asking = _Asking(sheet, screen, note, summed)
    try:
        with screen:
            asking.run()
    except KeyboardInterrupt:
        raise Interrupted(
            "Interrupted. Every answer that was given is saved.",
            hint="The same command goes on where this one stopped.",
        ) from None
    return [f"The note on sample {position + 1} was not kept: it had no answer." for position in asking.notes]


def _fits(screen: Terminal) -> bool:
    return screen.size.columns >= LEAST_COLUMNS and screen.size.lines >= LEAST_LINES


class _Asking:
    """One person at one sheet: which sample they look at, and the notes that wait for an answer.

    ``end`` is the summary while it is on the screen instead of a sample.
    """

    def __init__(self, sheet: Sheet, screen: Terminal, note: str, summed: Callable[[], Sequence[str]]) -> None:
        self.sheet, self.screen, self.default_note, self.summed = sheet, screen, note, summed
        self.at = len(sheet.cards) - 1
        self.top = 0
        self.end: Sequence[str] | None = None
        self.said = ""
        self.notes: dict[int, str] = {}
        self.go_on()

    @property
    def card(self) -> Card:
        return self.sheet.cards[self.at]

    @property
    def look(self) -> Look:
        return Look(self.screen.size.columns, terminal.has_colour())

    @property
    def room(self) -> int:
        return max(1, self.screen.size.lines - _HEAD_AND_FOOT)

    def run(self) -> None:
        """Until the person leaves."""
        while True:
            is_shown = self.draw()
            key = self.screen.key().lower()
            if key in {"q", terminal.END}:
                return
            if key == terminal.RESIZED or not is_shown:
                continue
            self.said = ""
            if key in _ANSWERS and self.end is None:
                self.answer(_ANSWERS[key])
                self.go_on()
            else:
                self.do(key)

    def do(self, key: str) -> None:
        """What a key does that is no answer."""
        scroll = {
            terminal.UP: -1, terminal.DOWN: 1, terminal.PAGE_UP: -self.room, terminal.PAGE_DOWN: self.room,
            " ": self.room,
        }  # fmt: skip
        if key in {"b", terminal.LEFT}:
            self.move(-1, "This is the first sample.")
        elif key == terminal.RIGHT:
            self.move(1, "This is the last sample.")
        elif key == "g":
            self.go_to()
        elif key in scroll:
            self.top += scroll[key]
        elif key == "?":
            self.tell(self.look.help(self.sheet))
        elif self.end is not None:
            self.said = "Every sample here is decided; q quits."
        elif key in {"e", "+"}:
            self.take_note()

    def move(self, by: int, at_end: str) -> None:
        if self.end is not None and by < 0:
            self.show(self.at)
        elif self.end is None and 0 <= self.at + by < len(self.sheet.cards):
            self.show(self.at + by)
        elif by > 0 and not self.sheet.open:
            self.show_end()
        else:
            self.said = at_end

    def show(self, at: int) -> None:
        self.at, self.top, self.end = at, 0, None

    def show_end(self) -> None:
        self.end, self.top = [*self.summed(), "", _AT_END], 0

    def go_on(self) -> None:
        """To the next sample that waits, after this one and then from the beginning; where none does, to the end."""
        waiting = [at for at, card in enumerate(self.sheet.cards) if self.sheet.waits(card)]
        if waiting:
            self.show(next((at for at in waiting if at > self.at), waiting[0]))
        else:
            self.show_end()

    def go_to(self) -> None:
        number = self.typed_line("Go to sample: ", "", "Enter goes there, Escape stays here.")
        found = [at for at, card in enumerate(self.sheet.cards) if str(card.number) == number]
        if found:
            self.show(found[0])
        elif number:
            self.said = f"There is no sample {number} here."

    def answer(self, verdict: str) -> None:
        card = self.card
        others = self.sheet.answer(card, verdict, note=self.note_on(card))
        self.notes.pop(card.position, None)
        self.said = f"Sample {card.number}: {self.sheet.words[verdict]}."
        news = told(self.sheet, card, others)
        if news is not None:
            # Nobody can have answered what they have not read.
            self.screen.discard()
            self.tell(self.look.paragraphs(news))

    def note_on(self, card: Card) -> str:
        """The note that an answer to this sample is saved with."""
        own = card.of(self.sheet.annotator)
        return self.notes.get(card.position, (own["note"] if own else "") or self.default_note)

    def take_note(self) -> None:
        card, own = self.card, self.card.of(self.sheet.annotator)
        text = self.typed_line("Note: ", self.note_on(card), "Enter keeps the note, Escape leaves it as it was.")
        if text is None:
            return
        if own is None:
            self.notes[card.position] = text
            return
        if text == own["note"]:
            return
        from tracker.record.decisions import Answer

        # The verdict as it was: a note settles nothing, and ends no settlement.
        again = Answer(card.position, own["verdict"], text, own["settles"])
        self.sheet.save([again], via="terminal")
        self.said = f"The note on sample {card.number} is saved."

    def typed_line(self, prompt: str, text: str, said: str) -> str | None:
        """What the person makes of ``text``; None: they leave it as it was."""
        if self.screen.is_dumb:
            return self.screen.line(prompt)
        while True:
            self.draw(self.look.typed(prompt, text), said)
            key = self.screen.key()
            if key in {terminal.ESCAPE, terminal.END}:
                return None
            if key == terminal.ENTER:
                return text.strip()
            text = terminal.edited(text, key)

    def tell(self, lines: Sequence[str]) -> None:
        """Shows something until a key is pressed that does not scroll it."""
        top = 0
        while True:
            room = self.screen.size.lines - 2
            shown = lines[top:] if self.screen.is_dumb else _filled(lines[top : top + room], room)
            more = top + room < len(lines)
            self.screen.draw([*shown, "", self.look.line("Any key goes on.", "↓" if more else "")])
            key = self.screen.key()
            if key == terminal.RESIZED:
                continue
            if not (key in {terminal.DOWN, " "} and more):
                return
            top += 1

    def draw(self, typed: str | None = None, said: str = "") -> bool:
        """Draws the sample or the end, with ``typed``, a line that is being typed, instead of the keys.

        ``said`` is what its keys do. False: no room for it.
        """
        if not _fits(self.screen):
            self.screen.draw(["Too small: widen it,", "or q to quit."])
            return False
        look = self.look
        if self.end is None:
            lines = look.body(self.sheet, self.card, note=self.notes.get(self.card.position))
        else:
            lines = look.paragraphs("\n".join(self.end))
        room = len(lines) if self.screen.is_dumb else self.room
        self.top = max(0, min(self.top, len(lines) - room))
        below = len(lines) - room - self.top
        unseen = [f"↑ {self.top}"] * (self.top > 0) + [f"↓ {below} more lines"] * (below > 0)
        self.screen.draw(
            [
                *look.head(self.sheet),
                *_filled(lines[self.top : self.top + room], room),
                look.line(said or self.said, "  ".join(unseen)),
                look.keys(self.sheet, at_end=self.end is not None) if typed is None else typed,
            ]
        )
        return True


def _filled(lines: Sequence[str], room: int) -> list[str]:
    return [*lines, *[""] * (room - len(lines))]
