"""How a checkpoint looks on the terminal: one sample with what changed in it, and the words for what people did."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.render import harmless, moment
from cli.screens.review_text import progress, purpose, verdict_of, visible_decisions
from pipeline.two_stage import ANNOTATION, DISPUTED, NOT_THE_SAME, REVIEW, SAME, SKIPPED
from tracker.record.catalogue import Row

if TYPE_CHECKING:
    from rich.console import OverflowMethod, RenderableType
    from rich.text import Text

    from pipeline.annotating.checkpoints import Card, Sheet
    from pipeline.annotating.differences import Piece

SIDE_BY_SIDE_COLUMNS = 100
_NAME_CELLS = 20
_COLOURS = {SAME: "green", NOT_THE_SAME: "red", SKIPPED: "yellow", DISPUTED: "magenta"}
_GONE, _NEW = ("bold red strike", "[-", "-]"), ("bold green underline", "{+", "+}")
_Keys = tuple[tuple[str, str], ...]
_DO = {REVIEW: ("approve", "reject"), ANNOTATION: ("same", "not the same")}
_HELP = """\
y             {yes}
n             {no}
s             skip: no verdict, and nobody is asked for it again
b, left       the sample before, to look at it or to answer it anew
right         the next sample, without an answer
g             go to a sample by its number
e, +          a note of one line, kept with the answer; Escape leaves it as it was
up, down      scroll a long text by a line; space and the page keys by a screen
q             quit; the next start goes on where this one stopped, or shows what all answers come to

The original shows {gone} what the rephrased text no longer has, the rephrased text {new} what is new in it.

Every answer is saved at once. An answer to a sample that you have answered before replaces yours. Where annotators \
differ, all answers are kept and the sample is disputed, until somebody who has seen that answers it."""


@dataclass(frozen=True)
class Look:
    """Lines as they are written to a terminal of so many columns, with or without colour."""

    columns: int
    colour: bool

    def head(self, sheet: Sheet) -> list[str]:
        """Three lines: what this is and who answers; how far they are, in words and as a bar."""
        from rich.table import Table
        from rich.text import Text

        who = _text(f"as {sheet.annotator}")
        who.truncate(_NAME_CELLS, overflow="ellipsis")
        title = Table.grid(expand=True, padding=(0, 1))
        title.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        title.add_column(no_wrap=True, justify="right")
        independent = ", independent" if sheet.independent else ""
        title.add_row(Text.assemble(_text(sheet.checkpoint, "bold"), independent, " · ", _text(sheet.reference)), who)
        done = self.columns * (len(sheet.cards) - len(sheet.open)) // len(sheet.cards)
        bar = Text.assemble(("━" * done, "green"), ("─" * (self.columns - done), "dim"))
        return [*self._lines(title), self.line(progress(sheet)), *self._lines(bar)]

    def body(self, sheet: Sheet, card: Card, *, note: str | None = None) -> list[str]:
        """The sample: both texts, the other fields, who decided what; ``note`` is one that is not saved yet."""
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = [self._title(sheet, card), Text(), self._texts(sheet, card), Text()]
        others = {name: value for name, value in card.record.items() if name != sheet.field}
        if others:
            parts += [_fields(others), Text()]
        parts += [_decision(sheet, row) for row in visible_decisions(sheet, card)]
        if verdict_of(sheet, card) == DISPUTED:
            parts.append(Text("The annotators differ; your answer settles it.", _COLOURS[DISPUTED]))
        if note:
            parts.append(Text.assemble("Your note, kept with your answer: ", _text(note, "italic")))
        return self._lines(Group(*parts))

    def keys(self, sheet: Sheet, *, at_end: bool = False) -> str:
        """The line of keys, as long as there is room for; ``at_end``: there is no sample to be answered."""
        yes, no = _DO[sheet.checkpoint]
        long: _Keys = (("y", yes), ("n", no), ("s", "skip"), ("←", "back"), ("→", "on"), ("e", "note"))
        ends = (("?", "help"), ("q", "quit"))
        short: _Keys = (("y", ""), ("n", ""), ("s", ""), ("←", ""), ("→", ""), ("e", "note"))
        if at_end:
            long = short = (("←", "back"), ("g", "go to"))
        for keys in ((*long, *ends), (*short, *ends)):
            if sum(len(key) + len(word) + 3 for key, word in keys) <= self.columns:
                break
        return self._lines(_join((f"{key} ", "bold cyan", word) for key, word in keys))[0]

    def typed(self, prompt: str, text: str) -> str:
        """A line that is being typed: its end, where it is longer than the screen."""
        from rich.cells import cell_len

        text = harmless(text).replace("\n", "␊")
        while cell_len(prompt + text) >= self.columns:
            text = text[1:]
        return f"{prompt}{text}▏"

    def help(self, sheet: Sheet) -> list[str]:
        """What the keys do."""
        yes, no = _DO[sheet.checkpoint]
        gone, new = (
            ("red and struck out", "green and underlined")
            if self.colour
            else ("between [- and -]", "between {+ and +}")
        )
        return self.paragraphs(_HELP.format(yes=yes, no=no, gone=gone, new=new))

    def paragraphs(self, text: str) -> list[str]:
        """Lines of text, wrapped."""
        return self._lines(_text(text))

    def line(self, text: str, right: str = "") -> str:
        """One line, cut where it is too long, with ``right`` at its end."""
        from rich.table import Table

        grid = Table.grid(expand=True, padding=(0, 1) if right else 0)
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        grid.add_row(_text(text, overflow="ellipsis"), _text(right))
        return self._lines(grid)[0]

    def _title(self, sheet: Sheet, card: Card) -> Text:
        from rich.text import Text

        at = next(index for index, each in enumerate(sheet.cards, 1) if each.position == card.position)
        title = Text.assemble((f"Sample {card.number}", "bold"), f" · {at} of {len(sheet.cards)}")
        verdict = verdict_of(sheet, card)
        if verdict is not None:
            title.append(f" · {sheet.words.get(verdict, verdict)}", _COLOURS[verdict])
        if card.original == card.rephrased:
            title.append(" · the two texts are equal", "yellow")
        title.append(f" · {purpose(sheet, card)}", "dim")
        return title

    def _texts(self, sheet: Sheet, card: Card) -> RenderableType:
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        from pipeline.annotating.differences import differences

        old, new = differences(card.original, card.rephrased)
        shown = self._marked(old, _GONE), self._marked(new, _NEW)
        titles = [_text(f"{which} {sheet.field}", "dim") for which in ("original", "rephrased")]
        if self.columns < SIDE_BY_SIDE_COLUMNS:
            return Group(titles[0], shown[0], Text(), titles[1], shown[1])
        table = Table(box=box.MINIMAL, expand=True, show_edge=False, header_style="", border_style="dim")
        for title in titles:
            table.add_column(title, ratio=1, overflow="fold")
        table.add_row(*shown)
        return table

    def _marked(self, pieces: Iterable[Piece], marks: tuple[str, str, str]) -> Text:
        from pipeline.annotating.differences import marked

        style, before, after = marks
        if not self.colour:
            return _text(marked(pieces, before, after))
        text = _text("")
        for piece in pieces:
            text.append(harmless(piece.text), style if piece.changed else None)
        return text

    def _lines(self, shown: RenderableType) -> list[str]:
        from rich.console import Console

        console = Console(
            file=io.StringIO(), width=self.columns, height=100, force_terminal=True, no_color=not self.colour,
            color_system="standard" if self.colour else None, legacy_windows=False, markup=False, emoji=False,
            highlight=False,
        )  # fmt: skip
        with console.capture() as captured:
            console.print(shown)
        return captured.get().removesuffix("\n").split("\n")


def _text(text: str, style: str = "", *, overflow: OverflowMethod = "fold") -> Text:
    from rich.text import Text

    return Text(harmless(text), style, overflow=overflow)


def _join(parts: Iterable[tuple[str, str, str]]) -> Text:
    from rich.text import Text

    text = Text(no_wrap=True, overflow="crop")
    for key, style, word in parts:
        text.append(key, style)
        text.append(f"{word}  " if word else "")
    return text


def _fields(record: dict[str, object]) -> RenderableType:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(max_width=_NAME_CELLS, overflow="fold")
    grid.add_column(overflow="fold")
    for name, value in record.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        grid.add_row(_text(name, "dim"), _text(shown))
    return grid


def _decision(sheet: Sheet, row: Row) -> Text:
    from rich.text import Text

    settled = ", settled" if row["settles"] else ""
    text = Text.assemble(
        _text(row["annotator"], "bold"),
        ": ",
        (sheet.words[row["verdict"]], _COLOURS[row["verdict"]]),
        (f"{settled} · {moment(row['decided_at'])} · {row['via']}", "dim"),
    )
    if row["note"]:
        text.append("\n  ")
        text.append(harmless(row["note"]), "italic")
    return text
