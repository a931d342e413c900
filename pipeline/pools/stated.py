"""What a text states as its answer: a number, a letter, a word; the last statement counts. Pure functions.

A statement is what follows ``Answer:`` or ``####``, or stands in a LaTeX box; prose (``the answer is``) counts only
where there is none of these, and the last line where there is neither, if that leaves no doubt.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from pipeline.pools.stated_number import DOUBT, FUNCTION, NUMBER, digits, number_at, number_of, read_number

Found = TypeVar("Found")

_VERB = r"(?::|=|\b(?:is|are|was|be)\b(?:[ \t]*:)?)"
_NOUN = (
    r"(?:answer|(?:correct|right|best|final|true)[ \t]+"
    r"(?:option|choice|one|statement|date|number|value|result|total|amount|diagnosis|result))"
)
_CUE = re.compile(rf"\b{_NOUN}\b(?P<gap>(?:(?!\b(?:is|are|was|be)\b)[^.:=\n]){{0,60}}){_VERB}", re.IGNORECASE)
_FORM = re.compile(
    r"(?:^|(?<=[.!?>]))[ \t>#\u2022-]*(?:(?:so|thus|hence|therefore)[ \t,]+)?(?:(?:the|my)[ \t]+)?"
    r"(?:(?:final|correct|right|best)[ \t]+)?answer(?:[ \t]*\([^()\n]{1,30}\))?[ \t]*[:=]|<answer>",
    re.IGNORECASE | re.MULTILINE,
)
# "####" begins an answer, and a heading too.
_HEADING = r"(?:(?:step|part|option|choice|case)\b|\d+[.):][ \t]+[A-Za-z]|[A-Z][.):][ \t]+\w)"
_HASHES = re.compile(rf"^[ \t]*####[ \t]+(?!{_HEADING})", re.MULTILINE | re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|fbox)[ \t]*\{")
_NO_STATEMENT = re.compile(
    r"\b(?:not|never|no longer|isn't|wasn't|choices|options|if|whether|whose|form|format)\b", re.IGNORECASE
)
_NEGATED = re.compile(r"[ \t]*(?:not|never|neither|incorrect|wrong|unknown|unclear)\b", re.IGNORECASE)
_MARKUP = re.compile(
    r"</answer>|(?<=\d)\*{2,3}|(?<![\s\d])\*{1,3}|(?<!\d)\*{1,3}(?=\S)|`+|(?<![A-Za-z0-9])_{1,3}(?=[A-Za-z0-9(\\$-])|(?<=[A-Za-z0-9).])_{1,3}(?![A-Za-z0-9])"
)
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textrm|mbox)[ \t]*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac[ \t]*\{(-?[\d.]{1,20})\}[ \t]*\{([\d.]{1,20})\}")
_LATEX_NOISE = re.compile(r"\\[()\[\]]|\$\$|\\(?:left|right|displaystyle|quad|qquad)\b|\\[;:! ]|\{,\}")
_LEAD = (
    r"(?i:(?:it(?:[ \t]is|'s)|i[ \t](?:think|choose|pick|would[ \t](?:say|choose))|(?:most[ \t])?(?:likely|probably)"
    r"|clearly|definitely|the|option|choice|answer|letter|is)\b[ \t:,]*){0,5}"
)
_LETTER = re.compile(
    rf"[\s\"'\u201c]*{_LEAD}"
    r"(?:[(\[<]([A-Za-z])[)\]>]|([A-Z])(?![\w'\u2019])|([a-z])(?=[).:](?:\s|\Z))|([a-z])[\s.]*\Z)"
)
# A bare "A" before any other word is an article.
_AFTER_LETTER = r"(?:is|because|since|as|due|for|which|or|and|but|given|rather|not|only|would|seems)\b"
_ARTICLE = re.compile(rf"[ \t]+(?!{_AFTER_LETTER})[a-z]")
_HEDGED = re.compile(
    r"[\s).\]]*(?:,[ \t]*)?(?:/|&|\bor\b|\bversus\b|\bvs\b)|[\s).\]]*,[ \t]*\(?[A-Z]\)?\s*(?:,|or\b|and\b|\Z)"
)
_WITH = re.compile(
    r"[\s).\]]*(?:,[ \t]*)?(?:and|as well as)[ \t]+(?:also[ \t]+)?(?:option[ \t]+)?\(?([A-Z])\b", re.IGNORECASE
)
_SAID_RIGHT = re.compile(
    r"(?<![\w'\u2019])(?:\(([A-Z])\)|[Oo]ption[ \t]([A-Z])\b|([A-Z])[).:]|(A|I)(?=[ \t]+is\b)"
    r"|([B-HJ-Z])(?![\w'\u2019]))(?:(?!(?<![\w'\u2019])[A-Z](?![\w'\u2019])"
    r"|\b(?:wrong|incorrect|but|not|neither|nor|while|whereas|than|except|unless|if)\b"
    r"|n['\u2019]t\b)[^.;\n]){0,80}?[ \t]is[ \t](?:the[ \t])?(?:most[ \t]likely[ \t]|single[ \t]|best[ \t])*"
    r"(?:correct|right|best|answer)\b(?![ \t]+(?:only|if|when|unless|\w+ed|distractor)\b)"
)
_INSTEAD = re.compile(
    r"[ \t]*not[ \t]+\W{0,3}(?:-?[\d.,]*\d|[A-Z]\b|[A-Za-z]+)\W{0,3},?[ \t]*\bbut[ \t]+(?:rather[ \t]+)?", re.IGNORECASE
)
_IS = re.compile(r"(?:the|it|that|this)\b[^.:=]{0,60}?\b(?:is|are|was|would be)\b[ \t:]*", re.IGNORECASE)
_N_WORDS = re.compile(r"\S+(?:[ \t]+\S+)?[ \t]*$", re.MULTILINE)
_PROSE, _DEMANDED = 0, 1
_LOOKED_AT = 30
_SENTENCE_ENDS = ".!,;: \t\"'\u201c\u201d"


def number_in(text: str) -> str | None:
    """The number that is stated last, as Python writes numbers: ``-1234.5``, ``3/4``."""
    found = _last(text, read_number)
    if found is not None:
        return found or None
    line = _last_line(text)
    bold = re.findall(r"\*\*([^*\n]{1,80})\*\*", _last_line(text, keep_markup=True))
    for part in (*reversed(bold), line.rpartition("=")[2] if "=" in line else ""):
        number = read_number(_unmarked(part)) if part else None
        if number is not None:
            return number or None
    line = digits(line)
    numbers = {number_of(match[0]): match for match in NUMBER.finditer(line)}
    if len(numbers) != 1 or FUNCTION.search(line):
        return None
    return number_at(line, next(iter(numbers.values()))) or None


def choice_in(text: str, options: Mapping[str, str]) -> str | None:
    """The letter of the option that is stated last, by its letter or in its words."""

    def chosen(statement: str) -> str | None:
        return _choice(statement, options)

    # What is said to be right may stand before, or after, a cue that names the option behind it.
    named_right = [
        (_PROSE, match.start(), _named(match)) for match in _some(_SAID_RIGHT, _without_words(_unmarked(text), options))
    ]
    said = _last(text, chosen, named_right)
    if said is not None:
        return said if said != DOUBT else None
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
        if match is None:
            return None
        return DOUBT if re.match(r"\W{0,3}(?:/|\b(?:or|and)\b)", line[match.end() :]) else match[1].casefold()

    found = _last(text, chosen)
    if found is not None:
        return found if found != DOUBT else None
    line = _last_line(text).strip(f"(){_SENTENCE_ENDS}")
    if re.search(rf"\b(?:{'|'.join(words)})[ \t]*(?:/|\bor\b)[ \t]*(?:{'|'.join(words)})\Z", line, re.IGNORECASE):
        return None
    for pattern in (r"(?:.*\W)?({})", r"({})[.,;:!].*"):
        match = re.fullmatch(pattern.format("|".join(words)), line, re.IGNORECASE)
        if match is not None and not re.search(rf"\bnot[ \t]+{match[1]}\Z", line, re.IGNORECASE):
            return match[1].casefold()
    return None


def plain(text: str) -> str:
    """``text`` as it is compared: case, blanks, commas and what ends a sentence do not count."""
    found = " ".join(text.casefold().replace(",", " ").split()).strip(_SENTENCE_ENDS)
    return found.replace(" ", "") if re.fullmatch(r"[\s()\[\]{}<>]+", found) else found


def _last(text: str, read: Callable[[str], Found | None], more: Sequence[tuple[int, int, str]] = ()) -> Found | None:
    """What ``read`` makes of the last statement that it can read: in the form that is asked for, else in prose."""
    for _, _, statement in sorted([*_statements(text), *more], key=lambda cue: cue[:2], reverse=True):
        found = read(statement)
        if found is not None:
            return found
    return None


def _statements(text: str) -> Iterator[tuple[int, int, str]]:
    """The rank of each statement, where it begins in the text without markup, and what it says."""
    unmarked = _MARKUP.sub("", text)
    for match in _some(_BOXED, unmarked):
        yield _DEMANDED, match.start(), _unmarked(_braced(unmarked, match.end()))
    for match in _some(_HASHES, unmarked):
        # A line of many words is a heading, unless it is the end.
        is_answer = not unmarked[match.end() :].strip().partition("\n")[2] or _N_WORDS.match(unmarked, match.end())
        yield _DEMANDED if is_answer else _PROSE, match.start(), _following(unmarked, match.end())
    for rank, cue in ((_DEMANDED, _FORM), (_PROSE, _CUE)):
        for match in _some(cue, unmarked):
            start = match.end()
            if rank == _PROSE and _NO_STATEMENT.search(match["gap"]):
                continue
            instead = _INSTEAD.match(unmarked, start)
            if instead is not None:
                start = instead.end()
            elif _NEGATED.match(unmarked, start):
                continue
            yield rank, match.start(), _following(unmarked, start)


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


def _choice(statement: str, options: Mapping[str, str]) -> str | None:
    line = _first_line(statement)
    if not line or _NEGATED.match(line):
        return None
    words = sorted(((plain(text), letter) for letter, text in options.items()), key=lambda each: -len(each[0]))
    said = plain(line)
    in_words = next((letter for text, letter in words if text and re.match(rf"{re.escape(text)}(?!\w)", said)), None)
    match = _LETTER.match(line)
    if match is None or not _is_option(_named(match), options):
        if in_words is None:
            lead = _IS.match(line)
            return _choice(line[lead.end() :], options) if lead is not None else None
        return in_words
    found, rest = _named(match), line[match.end() :]
    # "A fracture of ..." begins with an article.
    is_bare = match[1] is None and rest.startswith(" ")
    if is_bare and (in_words is not None or (found in "AI" and _ARTICLE.match(rest))):
        return in_words
    rest = _behind(rest, options.get(found, ""))
    also = _WITH.match(rest)
    if _HEDGED.match(rest) or (also is not None and also[1].upper() != found and _is_option(also[1].upper(), options)):
        return DOUBT
    return found


def _behind(rest: str, words: str) -> str:
    """What follows a letter and its own words."""
    lead = re.match(rf"[\s).:\](-]*{re.escape(words)}\)?", rest, re.IGNORECASE) if words else None
    return rest[lead.end() :] if lead is not None else rest


def _without_words(text: str, options: Mapping[str, str]) -> str:
    """``text`` in which an option's letter stands without its words, which may hold letters of others."""
    for letter, words in options.items():
        if words:
            own = rf"(?<!\w)\(?{re.escape(letter)}[).:]{{0,2}}[ \t(-]{{0,3}}{re.escape(words)}\)?"
            text = re.sub(own, f"({letter})", text, flags=re.IGNORECASE)
    return text


def _named(match: re.Match[str]) -> str:
    return next(each for each in match.groups() if each is not None).upper()


def _is_option(letter: str, options: Mapping[str, str]) -> bool:
    return letter in options if options else True
