"""What a text states as its answer: a number, a letter, a word; the last statement counts. Pure functions.

A statement is what follows ``Answer:``, ``the answer is`` or ``####``, or stands in a LaTeX box; where there is none,
it is the last line, if that leaves no doubt.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

Found = TypeVar("Found")

_VERB = r"(?::|=|\b(?:is|are|was|be)\b(?:[ \t]*:)?)"
_NOUN = (
    r"(?:answer|(?:correct|right|best|final|true)[ \t]+"
    r"(?:option|choice|one|statement|date|number|value|result|total|amount|diagnosis|result))"
)
_CUE = re.compile(rf"\b{_NOUN}\b(?P<gap>(?:(?!\b(?:is|are|was|be)\b)[^.:=\n]){{0,60}}){_VERB}", re.IGNORECASE)
_HASHES = re.compile(r"^[ \t]*####[ \t]+", re.MULTILINE)
_BOXED = re.compile(r"\\(?:boxed|fbox)[ \t]*\{")
_NO_STATEMENT = re.compile(
    r"\b(?:not|never|no longer|isn't|wasn't|choices|options|if|whether|whose|form|format)\b", re.IGNORECASE
)
_NEGATED = re.compile(r"[ \t]*(?:not|never|neither|incorrect|wrong|unknown|unclear)\b", re.IGNORECASE)
_MARKUP = re.compile(
    r"(?<=\d)\*{2,3}|(?<![\s\d])\*{1,3}|(?<!\d)\*{1,3}(?=\S)|`+|(?<![A-Za-z0-9])_{1,3}(?=[A-Za-z0-9(\\$-])|(?<=[A-Za-z0-9).])_{1,3}(?![A-Za-z0-9])"
)
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textrm|mbox)[ \t]*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac[ \t]*\{(-?[\d.]{1,20})\}[ \t]*\{([\d.]{1,20})\}")
_LATEX_NOISE = re.compile(r"\\[()\[\]]|\$\$|\\(?:left|right|displaystyle|quad|qquad)\b|\\[;:! ]|\{,\}")
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\\,|\{,\}|[\u00a0\u2009\u202f])(?=\d{3}(?!\d))")
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,40}(?:\.\d{1,40})?|\.\d{1,40})(?:[ \t]?/[ \t]?\d{1,40})?(?![\d])")
_MIXED = re.compile(r"(?<![\w.])(-?)(\d{1,20})[ \t](\d{1,20})/(\d{1,20})(?!\d)")
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALE = re.compile(r"[ \t]*(thousand|million|billion)\b", re.IGNORECASE)
_OPERATOR = re.compile(r"[ \t]*(?:[+*/=×÷^]|-[ \t]*\d|\\times|\\div|\\cdot|x[ \t]*\d)")  # noqa: RUF001  signs in use
_CLAUSE = re.compile(
    r"[;(]|,\s|\.\s|\.\Z|\s[-\u2013\u2014]\s(?!\d)|\b(?:because|since|so|which|after|per)\b", re.IGNORECASE
)
_LETTER = re.compile(
    r"[\s\"'\u201c]*(?:(?i:option|choice|answer|letter)[ \t]*)?"
    r"(?:\(([A-Za-z])\)|([A-Z])(?![\w'\u2019])|([a-z])(?=[).:](?:\s|\Z))|([a-z])[\s.]*\Z)"
)
_SAID_RIGHT = re.compile(
    r"(?<!\w)\(?([A-Z])\b[).:]?(?:[ \t][^.\n]{0,80}?)?[ \t]is[ \t](?:the[ \t])?"
    r"(?:most[ \t]likely[ \t]|single[ \t]|best[ \t])*(?:correct|right|best|answer)\b"
)
_LOOKED_AT = 30
_SENTENCE_ENDS = ".!,;: \t\"'\u201c\u201d"


def number_in(text: str) -> str | None:
    """The number that is stated last, as Python writes numbers: ``-1234.5``, ``3/4``."""
    found = _last(text, _number)
    if found is not None:
        return found
    line = _last_line(text)
    bold = re.findall(r"\*\*([^*\n]{1,80})\*\*", _last_line(text, keep_markup=True))
    for part in (*reversed(bold), line.rpartition("=")[2] if "=" in line else ""):
        number = _number(_unmarked(part)) if part else None
        if number is not None:
            return number
    numbers = {number_of(match[0]): match[0] for match in _NUMBER.finditer(_digits(line))}
    return _clean(next(iter(numbers.values()))) if len(numbers) == 1 else None


def number_of(text: str) -> Fraction | None:
    """The value of a number: ``18``, ``18.00``, ``1,800``, ``3/4``; None where it is none."""
    found = _THOUSANDS.sub("", text.strip()).replace(" ", "")
    if not re.fullmatch(r"-?(?:\d{1,60}(?:\.\d{0,60})?|\.\d{1,60})(?:/\d{1,60})?", found, re.ASCII):
        return None
    above, _, below = found.partition("/")
    divisor = int(below) if below else 1
    return Fraction(above) / divisor if divisor else None


def choice_in(text: str, options: Mapping[str, str]) -> str | None:
    """The letter of the option that is stated last, by its letter or in its words."""

    def chosen(statement: str) -> str | None:
        return _choice(statement, options)

    cues = [*_statements(text)]
    unmarked = _unmarked(text)
    # A cue in words may stand before, or after, one that names the option first.
    cues += [(match.start(), match[1]) for match in _some(_SAID_RIGHT, unmarked)]
    for _, statement in sorted(cues, key=lambda cue: cue[0], reverse=True):
        found = chosen(statement)
        if found is not None:
            return found
    line = _last_line(text)
    named = {match[1] for match in re.finditer(r"\(([A-Z])\)", line) if _is_option(match[1], options)}
    if len(named) == 1:
        return named.pop()
    words = {plain(option): letter for letter, option in options.items()}
    if plain(line) in words:
        return words[plain(line)]
    letter = _LETTER.match(line)
    if letter is None:
        return None
    found, rest = _named(letter), line[letter.end() :].strip(f"){_SENTENCE_ENDS}")
    is_alone = not rest or plain(rest) == plain(options.get(found, ""))
    return found if is_alone and _is_option(found, options) else None


def text_in(text: str, words: Sequence[str] = ()) -> str | None:
    """The words that are stated last; of ``words`` (lower case) the one that is."""
    if not words:
        found = _last(text, lambda statement: _first_line(statement) or None)
        return found if found is not None else _last_line(text).strip().rstrip(".") or None

    def chosen(statement: str) -> str | None:
        line = _first_line(statement)
        if "=" in line:
            line = line.rpartition("=")[2]
        match = re.match(rf"\W*(?:that )?(?:it is )?({'|'.join(words)})\b", line, re.IGNORECASE)
        return match[1].casefold() if match is not None else None

    found = _last(text, chosen)
    if found is not None:
        return found
    line = _last_line(text).strip(f"(){_SENTENCE_ENDS}")
    for pattern in (r"(?:.*\W)?({})", r"({})[.,;:!].*"):
        match = re.fullmatch(pattern.format("|".join(words)), line, re.IGNORECASE)
        if match is not None and not re.search(rf"\bnot[ \t]+{match[1]}\Z", line, re.IGNORECASE):
            return match[1].casefold()
    return None


def plain(text: str) -> str:
    """``text`` as it is compared: case, blanks, commas and what ends a sentence do not count."""
    found = " ".join(text.casefold().replace(",", " ").split()).strip(_SENTENCE_ENDS)
    return found.replace(" ", "") if re.fullmatch(r"[\s()\[\]{}<>]+", found) else found


def _last(text: str, read: Callable[[str], Found | None]) -> Found | None:
    """What ``read`` makes of the last statement that it can read."""
    for _, statement in sorted(_statements(text), key=lambda cue: cue[0], reverse=True):
        found = read(statement)
        if found is not None:
            return found
    return None


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Where each statement begins in the text without markup, and the text from there to the end of its paragraph."""
    unmarked = _MARKUP.sub("", text)
    for match in _some(_BOXED, unmarked):
        yield match.start(), _unmarked(_braced(unmarked, match.end()))
    for match in _some(_HASHES, unmarked):
        yield match.start(), _following(unmarked, match.end())
    for match in _some(_CUE, unmarked):
        if _NO_STATEMENT.search(match["gap"]) or _NEGATED.match(unmarked, match.end()):
            continue
        yield match.start(), _following(unmarked, match.end())


def _some(pattern: re.Pattern[str], text: str) -> Iterable[re.Match[str]]:
    """The last matches: a model that goes round in circles has thousands."""
    return deque(pattern.finditer(text), maxlen=_LOOKED_AT)


def _following(text: str, start: int) -> str:
    """What is said from ``start`` on: the rest of the line, the next line that says something where that is empty."""
    for line in text[start : start + 2_000].split("\n"):
        if line.strip(f"{_SENTENCE_ENDS}$[]\\"):
            boxed = _BOXED.search(line)
            return _unmarked(_braced(line, boxed.end()) if boxed is not None else line)
    return ""


def _braced(text: str, start: int) -> str:
    """What stands from ``start`` to the brace that closes it."""
    depth = 1
    for at in range(start, min(len(text), start + 2_000)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return text[start:at]
    return text[start : start + 2_000]


def _unmarked(text: str) -> str:
    """``text`` without Markdown's and LaTeX's markup."""
    found = _MARKUP.sub("", text)
    for _ in range(3):
        found = _WRAPPED.sub(r"\1", found)
    found = _FRACTION.sub(r"\1/\2", found)
    return _LATEX_NOISE.sub(" ", found.replace("{,}", ",").replace("\\,", ",").replace("\\%", "%")).strip()


def _last_line(text: str, *, keep_markup: bool = False) -> str:
    lines = [line for line in text.split("\n") if line.strip(f"{_SENTENCE_ENDS}*`_$[]\\")]
    if not lines:
        return ""
    return lines[-1] if keep_markup else _unmarked(lines[-1][-2_000:]).replace("$", " ").strip()


def _first_line(statement: str) -> str:
    return statement.partition("\n")[0].replace("$", " ").strip(f" \t{_SENTENCE_ENDS}")


def _digits(text: str) -> str:
    """``text`` with its numbers as Python writes them."""
    found = re.sub(r"[\u2212\u2013](?=[\d.$])", "-", text)
    found = _THOUSANDS.sub("", found)
    return re.sub(r"(-?)[ \t]*\\?[$€£]+[ \t]*(-?)(?=[\d.])", r" \1\2", found)


def _number(statement: str) -> str | None:
    """The number that a statement begins with, else the one its first clause comes to."""
    text = _digits(statement).strip(f" \t$~≈{_SENTENCE_ENDS.replace('.', '')}")
    mixed = _MIXED.match(text)
    if mixed is not None and int(mixed[4]):
        whole = int(mixed[2]) + Fraction(int(mixed[3]), int(mixed[4]))
        return str(-whole if mixed[1] else whole)
    first = _NUMBER.match(text)
    if first is not None and not _OPERATOR.match(text, first.end()):
        return _scaled(text, first)
    clause = text if first is not None else _CLAUSE.split(text, maxsplit=1)[0]
    result = clause.rpartition("=")[2] if "=" in clause else clause
    found = [*_NUMBER.finditer(result)]
    if not found:
        return None
    return _scaled(result, found[0]) if first is None or "=" in clause else None


def _scaled(text: str, number: re.Match[str]) -> str:
    scale, cleaned = _SCALE.match(text, number.end()), _clean(number[0])
    value = number_of(cleaned)
    if scale is None or value is None:
        return cleaned
    return str(value * _SCALES[scale[1].lower()])


def _clean(number: str) -> str:
    return re.sub(r"[ \t]", "", number)


def _choice(statement: str, options: Mapping[str, str]) -> str | None:
    line = _first_line(statement)
    if not line or _NEGATED.match(line):
        return None
    words = sorted(((plain(text), letter) for letter, text in options.items()), key=lambda each: -len(each[0]))
    said = plain(line)
    in_words = next((letter for text, letter in words if text and re.match(rf"{re.escape(text)}(?!\w)", said)), None)
    match = _LETTER.match(line)
    if match is None or not _is_option(_named(match), options):
        return in_words
    # "A fracture of ..." begins with an article where an option reads so.
    is_bare = match[1] is None and line[match.end() :].startswith(" ")
    return in_words if is_bare and in_words is not None else _named(match)


def _named(match: re.Match[str]) -> str:
    return next(each for each in match.groups() if each is not None).upper()


def _is_option(letter: str, options: Mapping[str, str]) -> bool:
    return letter in options if options else True
