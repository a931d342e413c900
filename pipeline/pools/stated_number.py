"""The number that a statement gives, if it gives one without hedging. Pure functions."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

DOUBT = ""
"""What is read where a statement leaves open which of several it means, or qualifies it."""

NUMBER = re.compile(
    r"(?<![\w.^√])-?(?:\d{1,40}(?:\.\d{1,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3}(?!\w))?(?:[ \t]?/[ \t]?\d{1,40})?(?![\d])"
)
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\\,|\{,\}|[\u00a0\u2009\u202f])(?=\d{3}(?!\d))")
_SPACED = re.compile(r"(?<![\w.,/])(\d{1,3})((?: \d{3})+)(?![\w,/-])")
_POWER_OF_TEN = re.compile(r"(?<=\d)[ \t]*(?:\\times|\\cdot|[x*×·])[ \t]*10\^\{?(-?\d{1,3})\}?")  # noqa: RUF001  in use
_MIXED = re.compile(r"(?<![\w.])(-?)(\d{1,20})[ \t](\d{1,20})/(\d{1,20})(?!\d)")
_VULGAR = re.compile(r"(?<=\d)?([¼½¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])")
_SCALES = {"hundred": 10**2, "thousand": 10**3, "k": 10**3, "million": 10**6, "m": 10**6, "billion": 10**9}
_SCALE = re.compile(r"[ \t]*(hundred|thousand|million|billion)\b|[ \t]?(k)(?!\w)|(M)(?!\w)", re.IGNORECASE)
_OPERATOR = re.compile(r"[ \t]*(?:[+*/=×÷^]|-[ \t]*\d|\\times|\\div|\\cdot|[x·][ \t]*\d)")  # noqa: RUF001  signs in use
_CLAUSE = re.compile(
    r"[;(]|,\s|\.\s|\.\Z|\s[-\u2013\u2014]\s(?!\d)|\b(?:because|since|so|which|after|per)\b", re.IGNORECASE
)
_HEDGE = re.compile(
    r"(?:\b(?:not|never|between|either|(?:more|greater|less|fewer|larger|smaller|higher|lower)[ \t]+than"
    r"|at[ \t]+(?:least|most)|over|under|above|below|up[ \t]to)\b|[<>≤≥±]|\\(?:leq?|geq?|lt|gt|pm|neq?)\b)"
    r"[ \t]*(?:[A-Za-z]+[ \t]+)?\Z",
    re.IGNORECASE,
)
FUNCTION = re.compile(r"\\(?:sqrt|pi|log|ln|sin|cos|tan|binom|[dt]?frac)(?![A-Za-z])|[√π]")
# What may follow a number: the end, a mark with nothing numeric behind it, a unit with or without a blank.
_TAIL = re.compile(
    r"\s*\Z|[ \t]*[%°$€£\u2014\"'\u2019)\]}>]|[.,;:!?]+(?![\d.,])(?![ \t]*(?:or|and)\b|[ \t]*[$-]?\d)|[ \t]*[\n;(]"
    r"|-[A-Za-z]|[ \t]*(?:[-\u2013\u2014]{1,2}|[<>≈≤≥])[ \t]|[ \t]+(?=[A-Za-z])"
    r"|(?=[A-Za-z])(?![xyzabknipqre](?![A-Za-z]))"
)
_NO_UNIT = re.compile(r"[ \t]*(?:or|and|to|x|y|z|n|plus|minus|times|divided)\b(?![ \t]*so\b)", re.IGNORECASE)
_SECOND = re.compile(r"[^.,;\d\n=]{0,40}?\b(?:or|and)\b[ \t]+[^\w.,;\n-]{0,3}(-?[\d.]+)", re.IGNORECASE)
_CONCLUDED = re.compile(
    r"\b(?:so|therefore|thus|hence|making|giving|totall?ing)[ \t,]+(?:(?:it|that|this|the[ \t](?:total|answer|result))"
    r"[ \t]is[ \t]+)?(-?[\d.]*\d)(?:[ \t]*[A-Za-z%]+)?[\s.!]*\Z",
    re.IGNORECASE,
)


def number_of(text: str) -> Fraction | None:
    """The value of a number: ``18``, ``18.00``, ``1,800``, ``3/4``, ``1.8e1``; None where it is none."""
    found = _THOUSANDS.sub("", text.strip()).replace(" ", "")
    form = r"-?(?:\d{1,60}(?:\.\d{0,60})?|\.\d{1,60})(?:[eE][+-]?\d{1,3})?(?:/\d{1,60})?"
    if not re.fullmatch(form, found, re.ASCII):
        return None
    above, _, below = found.partition("/")
    divisor = int(below) if below else 1
    return Fraction(above) / divisor if divisor else None


def read_number(statement: str) -> str | None:
    """The number that a statement begins with, else the one its first clause comes to; DOUBT where it hedges."""
    text = digits(re.sub(r"\A[ \t]*\([A-E]\)(?=.*\d)", "", statement)).strip(" \t~≈!,;:\"'\u201c\u201d")
    text = re.sub(r"\A[\[<]+(-?[\d.]+)[\]>]+", r"\1", text)
    mixed = _MIXED.match(text)
    if mixed is not None and int(mixed[4]):
        whole = int(mixed[2]) + Fraction(int(mixed[3]), int(mixed[4]))
        return str(-whole if mixed[1] else whole)
    first = NUMBER.match(text)
    if first is None:
        return _inside(_CLAUSE.split(text, maxsplit=1)[0])
    concluded = _CONCLUDED.search(text)
    if concluded is not None and len(NUMBER.findall(text[: concluded.start()])) > 1:
        return clean(concluded[1])
    if not _OPERATOR.match(text, first.end()):
        return number_at(text, first)
    left, equals, right = text.rpartition("=")
    found = NUMBER.match(right.strip())
    result = number_at(right.strip(), found) if found is not None else None
    if result:
        return result
    # "18 = 9 * 2" gives its result first.
    is_first = equals and re.match(r"[ \t]*=", text[first.end() :])
    return clean(first[0]) if is_first and not FUNCTION.search(left) else DOUBT


def number_at(text: str, number: re.Match[str]) -> str:
    """A number found in a text with what scales it, DOUBT where what stands around it qualifies it."""
    if _HEDGE.search(text[: number.start()]):
        return DOUBT
    scale, cleaned = _SCALE.match(text, number.end()), clean(number[0])
    end = number.end() if scale is None else scale.end()
    if not _TAIL.match(text, end) or _NO_UNIT.match(text, end) or FUNCTION.match(text[end:].lstrip()):
        return DOUBT
    if re.match(r"[ \t]*[A-Za-z]{1,3}[ \t]*[+*=][ \t]*\w", text[end:]):
        return DOUBT
    value, second = number_of(cleaned), _SECOND.match(text, end)
    if second is not None and not _because(text[end : second.start(1)]) and number_of(second[1].rstrip(".")) != value:
        return DOUBT
    if scale is None or value is None:
        return cleaned
    return str(value * _SCALES[next(each for each in scale.groups() if each).lower()])


def digits(text: str) -> str:
    """``text`` with its numbers as Python writes them."""
    found = re.sub(r"[\u2212\u2013](?=[\d.$])", "-", text)
    found = re.sub(r"(?<!\d)(?<!\d[ \t])\b(?:minus|negative)[ \t]+(?=[\d.$])", "-", found, flags=re.IGNORECASE)
    found = re.sub(r"\^\{?[ \t]*\\circ[ \t]*\}?", "°", found)
    found = _VULGAR.sub(lambda match: f" {unicodedata.normalize('NFKC', match[1]).replace(chr(0x2044), '/')}", found)
    found = _POWER_OF_TEN.sub(r"e\1", _THOUSANDS.sub("", found))
    found = _SPACED.sub(lambda match: match[0].replace(" ", ""), found)
    return re.sub(r"(-?)[ \t]*\\?[$€£]+[ \t]*(-?)(?=[\d.])", r" \1\2", found).replace("$", " ").rstrip()


def clean(number: str) -> str:
    """A number without the blanks in it."""
    return re.sub(r"[ \t]", "", number)


def _inside(clause: str) -> str | None:
    """The number that a clause which begins with words comes to; None where it has none, or several."""
    if FUNCTION.search(clause):
        return DOUBT if NUMBER.search(clause) or re.search(r"\d", clause) else None
    result = clause.rpartition("=")[2] if "=" in clause else clause
    found = [*NUMBER.finditer(result)]
    if not found:
        return None
    if "=" not in clause and len({number_of(each[0]) for each in found}) > 1:
        return DOUBT if _HEDGE.search(result[: found[0].start()]) else None
    return number_at(result, found[0])


def _because(text: str) -> bool:
    return re.search(r"\b(?:because|since|as|if|when|for)\b", text, re.IGNORECASE) is not None
