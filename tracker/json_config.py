"""Reads JSON as people write it: with ``//`` comments, with commas before a closing bracket, and with its lines.

The standard library tells no lines, keeps the last of two equal keys and stops at the first mistake. Here the mistakes
that leave no doubt about what was meant (a key without quotes, a `True`) are noted and reading goes on. No message
repeats what the file holds: it may be an API key.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, NoReturn

from tracker.errors import Problem

_MAX_DEPTH = 100
_LINE_END = re.compile(r"\r\n?|\n")
_BLANK = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*)*")
_NOT_JSON = re.compile(r"#[^\r\n]*|/\*(?:.*?\*/|.*)", re.DOTALL)
_TEXT = re.compile(r"""(["'])(?:(?!\1)[^\\\r\n]|\\[^\r\n])*\1""")
_WORD = re.compile(r"""(?:[^\s,:{}\[\]"'/#]|/(?![/*]))+""")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity)", re.IGNORECASE)
_CONTROL = "a control character in a text is written as an escape (a tab is \\t)"
_ESCAPE = r"no such escape in JSON: there are \" \\ \/ \b \f \n \r \t and \u with four hexadecimal digits"


@dataclass(frozen=True, slots=True)
class Node:
    """A value as it is written: ``kind`` is map (of pairs of nodes), seq (of nodes), str, int, float, bool or null."""

    kind: str
    value: Any
    line: int


class _Stop(Exception):
    """Reading cannot go on."""


def read(text: str, source: str, most: int) -> tuple[Node | None, list[Problem]]:
    """The object in ``text``, of at most ``most`` values, and what is wrong; None where reading could not go on."""
    reader = _Reader(text, source, most)
    try:
        return reader.document(), reader.problems
    except _Stop:
        return None, reader.problems


class _Reader:
    def __init__(self, text: str, source: str, most: int) -> None:
        self.text, self.source, self.most = text, source, most
        self.position = self.count = 0
        self.starts = [0, *(end.end() for end in _LINE_END.finditer(text))]
        self.problems: list[Problem] = []

    def document(self) -> Node:
        if self.next() != "{":
            self.stop('a configuration in JSON begins with {; one in YAML has a name that ends in ".yaml"')
        root = self.value(0)
        if self.next():
            self.stop("nothing may follow the } that closes the configuration")
        return root

    def value(self, depth: int) -> Node:
        char, start = self.next(), self.position
        self.count += 1
        if self.count > self.most:
            self.stop(f"more than {self.most:,} values")
        if depth > _MAX_DEPTH:
            self.stop("nested too deeply")
        if char == "{":
            return Node("map", self.inside(self.pair, "}", depth), self.line(start))
        if char == "[":
            return Node("seq", self.inside(self.value, "]", depth), self.line(start))
        return self.string() if char in {'"', "'"} else self.word()

    def inside(self, one: Any, closing: str, depth: int) -> list[Any]:
        opening = self.position
        self.position += 1
        found: list[Any] = []
        separated = True
        while (char := self.next()) != closing:
            if char == ",":
                if separated:
                    self.note(self.position, "there is nothing before this comma")
                self.position += 1
                separated = True
                continue
            if char in "}]":  # or the end, which is the empty text
                self.stop(f"the {self.text[opening]} of line {self.line(opening)} is not closed before this")
            if not separated:
                if char not in '"{[':
                    self.stop(f"a comma or {closing} must come here")
                self.note(self.position, "a comma is missing before this")
            found.append(one(depth + 1))
            separated = False
        self.position += 1
        return found

    def pair(self, depth: int) -> tuple[Node, Node]:
        key = self.key()
        if self.next() != ":":
            self.stop("a colon must come here, after the key")
        self.position += 1
        return key, self.value(depth)

    def key(self) -> Node:
        start = self.position
        if self.text[start] in "\"'":
            return self.string()
        word = _WORD.match(self.text, start)
        if word is None:
            self.stop('a key in double quotes (") must come here')
        self.note(start, 'a key stands in double quotes (")')
        self.position = word.end()
        return Node("str", word[0], self.line(start))

    def string(self) -> Node:
        start, found = self.position, _TEXT.match(self.text, self.position)
        if found is None:
            self.stop("this text is not closed in its line (a new line within a text is written \\n)")
        self.position = found.end()
        value = found[0][1:-1]
        if found[1] == "'":
            self.note(start, "a text stands in double quotes (\"), not in single ones (')")
            return Node("str", value, self.line(start))
        try:
            value = json.loads(found[0])
        except json.JSONDecodeError as error:
            at, control = error.pos, found[0][error.pos] < " "
            # Of a wrong \u the library names a place behind its backslash.
            at = at if control else found[0].rindex("\\", 0, at + 1)
            self.note(start + at, _CONTROL if control else _ESCAPE)
        return Node("str", value, self.line(start))

    def word(self) -> Node:
        start, found = self.position, _WORD.match(self.text, self.position)
        if found is None:
            self.stop("a value must come here")
        self.position, word, line = found.end(), found[0], self.line(start)
        if word in {"true", "false"}:
            return Node("bool", word, line)
        if number := _NUMBER.fullmatch(word):
            return Node("float" if any(number.groups()) else "int", word, line)
        if word != "null":
            self.note(start, _advice(word))
        return Node("null", "null", line)

    def next(self) -> str:
        """The character that comes next, after blanks and comments; an empty text at the end."""
        while True:
            blank = _BLANK.match(self.text, self.position)
            self.position = blank.end() if blank else self.position
            strange = _NOT_JSON.match(self.text, self.position)
            if strange is None:
                return self.text[self.position : self.position + 1]
            self.note(self.position, "a comment begins with // and ends with its line; JSON has no other")
            self.position = strange.end()

    def line(self, position: int) -> int:
        return bisect_right(self.starts, position)

    def note(self, position: int, what: str) -> None:
        line = self.line(position)
        self.problems.append(
            Problem(f"{self.source}:{line}", f"{what} (column {position - self.starts[line - 1] + 1})")
        )

    def stop(self, what: str) -> NoReturn:
        self.note(self.position, what)
        raise _Stop


def _advice(word: str) -> str:
    if word.lower() in {"true", "false", "null", "none"}:
        return "JSON has true, false and null, in small letters"
    if _NOT_FINITE.fullmatch(word):
        return "a number must be finite"
    if word[0] in "+-.0123456789":
        return "no number in JSON: they are like 7, -0.5 and 1e-6, with digits around a point and no 0 or + in front"
    return 'a text stands in double quotes (")'
