"""Rules that say a sentence in other words, and the rule that compares two texts. No LLM, no network.

The rewriter knows words, not meaning: it replaces synonyms, moves clauses and adverbials, turns a plain sentence into
the passive voice, and now and then it loses or reverses something, as a sampled answer would. The judge compares the
words that remain once synonyms are one; it does not see who did what to whom.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from random import Random

from pipeline.chats.offline_words import FUNCTION_WORDS, PLURALS, SILENT, opposites, participles, synonyms

THRESHOLD = 0.95
"""The judge's least overlap (Dice coefficient of the words) of two texts that are the same."""

_SENTENCE = re.compile(r"[^.!?]*[.!?]+[\"'\u201d\u2019)]*\s*|[^.!?]+$")
_CONTRACTIONS = (
    (r"\bcan['\u2019]t\b", "cannot"),
    (r"\bwon['\u2019]t\b", "will not"),
    (r"n['\u2019]t\b", " not"),
    (r"['\u2019]re\b", " are"),
    (r"['\u2019]ve\b", " have"),
    (r"['\u2019]ll\b", " will"),
    (r"\bI['\u2019]m\b", "I am"),
)
_VOWEL = re.compile(r"[aeiouáéíóú]|hour|honest", re.IGNORECASE)
_AUXILIARY = re.compile(r"\b(?:was|were|been|be|being|is|are|has|have|had|got)\s+(?:\w+ly\s+)?$", re.IGNORECASE)

_TIME = (
    r"yesterday|last (?:night|week|month|year)|this (?:morning|afternoon|evening)|every (?:day|morning|night|week)|"
    r"(?:on|before|by|at|around) (?:noon|midnight|night|dawn|dusk|\w+day)|"
    r"(?:during|after|before) (?:the|a) (?:[\w-]+ )?\w+|in the (?:morning|afternoon|evening|middle of the night)|"
    r"because of the \w+"
)
_TIME_LAST = re.compile(rf"^(?P<rest>[^,]+?),? (?P<moved>{_TIME})$", re.IGNORECASE)
_CLAUSE_LAST = re.compile(r"^(?P<rest>[^,]+?) (?P<moved>(?:because|when|while|after|before|although) \w+ [^,]+)$")
_CLAUSE_FIRST = re.compile(r"^(?P<moved>(?:Because|When|While|After|Before|Although) [^,]+), (?P<rest>[^,]+)$")
_NO_MOVE = re.compile(
    r"\b(?:not|said|asked|told|knew|thought|that|who|which|if|whether|named|look(?:ed|ing)?|ran|just|soon|even)\b"
)
_PARTICLE = re.compile(
    r"(?<!was )(?<!were )(?<!been )\b(?P<verb>put|took|turned|switched|blew|picked|threw) "
    r"(?P<particle>on|off|out|up|away) (?P<object>(?:the|his|her|my|their|our) (?:\w+ )?\w+)$"
)
_NOUN = r"(?:the|a|an|my|our|two|fifty) (?:[\w-]+ ){0,2}?[\w-]+"
_ACTIVE = re.compile(
    rf"^(?P<subject>(?:The|A|An|My|Our) (?:[\w-]+ )?[\w-]+) (?P<verb>{'|'.join(participles())}) "
    rf"(?P<object>{_NOUN}(?: of the \w+)?)(?P<tail> (?:open|away|off|down|back|up))?$"
)
_ADVERB = re.compile(r"^(?P<subject>(?:I|He|She|They|We|(?:The|A|My|Our) [\w-]+)) (?P<adverb>\w+ly) (?P<rest>[^,]+)$")
_PERSON = re.compile(
    r"^The (?=(?:old |young )?(?:man|woman|boy|girl|student|teacher|farmer|mechanic|nurse|lady|lad)\b(?!['\u2019]))"
)
_LAST_PHRASE = re.compile(
    r"(?: (?:because|when|while|after|before|although|during) [^,]+|"
    r" (?:in|at|on|onto|into|with|for|from|under|over|beside|before|by|to) (?:the |his |her |my |their |a )?\w+|"
    r"(?: (?:very|really))? (?!family|reply|only)\w+ly)$"
)
_FILLER = "It so happened that "

Rule = Callable[[str], str | None]
"""From a sentence without its full stop to another one, or None where it does not apply."""


def rewrite(text: str, *, seed: int, temperature: float) -> str:
    """``text`` in other words. The higher the temperature, the more changes, and the likelier one that alters it.

    At temperature 0 the seed has no part: each sentence gets its first possible change and keeps its meaning.
    """
    rng = Random(seed) if temperature > 0 else None  # noqa: S311  a repeatable choice of words, no secret
    return "".join(_sentence(found.group(), rng, temperature) for found in _SENTENCE.finditer(text)) or text


def same(original: str, rephrased: str) -> bool:
    """Whether the two texts say the same, going by their words: at least THRESHOLD of them agree, none is reversed."""
    one, other = Counter(_words(original)), Counter(_words(rephrased))
    if not one or not other:
        return one == other
    lost, added = one - other, other - one
    if any(_reversed().get(word) in added for word in lost) or "not" in lost or "not" in added:
        return False
    return 2 * (one & other).total() >= THRESHOLD * (one.total() + other.total())


def _sentence(text: str, rng: Random | None, temperature: float) -> str:
    body = text.rstrip()
    core = body.rstrip(".!?\"'\u201d\u2019)")
    end, gap = body[len(core) :], text[len(body) :]
    changed = _change(core, rng, temperature, movable=end.startswith((".", "!")))
    return changed + end + gap


def _change(core: str, rng: Random | None, temperature: float, *, movable: bool) -> str:
    plain = _expand(core)
    rules = _MOVES if movable else ()
    if rng is None:
        return plain if plain != core else _first((_one_synonym, *rules), plain) or (_fill(plain) if movable else plain)
    rate = min(0.95, 0.1 + 0.8 * temperature)
    found = plain
    if rng.random() < rate:
        found = _first(_shuffled(rules, rng), found) or found
    found = _synonyms(found, rng, rate)
    if found == core:
        found = _synonyms(found, rng, 1.0)
    if found == core:
        found = _first(_shuffled(rules, rng), found) or (_fill(found) if movable else found)
    if movable and rng.random() < 0.2 * temperature:
        found = _first(_shuffled((_reverse, _drop), rng), found) or found
    return found


def _first(rules: Sequence[Rule], text: str) -> str | None:
    return next((found for rule in rules if (found := rule(text)) is not None), None)


def _shuffled(rules: Sequence[Rule], rng: Random) -> list[Rule]:
    # Only Random.random is promised to give the same numbers in every version of Python.
    return [rule for _, _, rule in sorted((rng.random(), index, rule) for index, rule in enumerate(rules))]


def _expand(text: str) -> str:
    for pattern, expanded in _CONTRACTIONS:
        text = re.sub(pattern, expanded, text)
    return text


@cache
def _phrases(forms: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])", re.IGNORECASE)


def _synonyms(text: str, rng: Random, rate: float) -> str:
    def replace(found: re.Match[str]) -> str:
        others = _others(found)
        if not others or rng.random() >= rate:
            return found.group()
        return _put(found, others[int(rng.random() * len(others))])

    return _articles(_phrases(tuple(synonyms())).sub(replace, text))


def _one_synonym(text: str) -> str | None:
    for found in _phrases(tuple(synonyms())).finditer(text):
        if others := _others(found):
            return _articles(text[: found.start()] + _put(found, others[0]) + text[found.end() :])
    return None


def _others(found: re.Match[str]) -> list[str]:
    others = synonyms()[found.group().lower()].others
    after_auxiliary = _AUXILIARY.search(found.string[: found.start()]) is not None
    return [other.lstrip("!") for other in others if not (after_auxiliary and other.startswith("!"))]


def _put(found: re.Match[str], other: str) -> str:
    return _capital(other) if found.group()[0].isupper() else other


def _articles(text: str) -> str:
    # Only before words of the table, whose first sound the rule gets right.
    return _article_pattern().sub(lambda found: f"{found[1]}{'n' if _VOWEL.match(found[2]) else ''} ", text)


@cache
def _article_pattern() -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(a)n? (?=({_phrases(tuple(synonyms())).pattern}))", re.IGNORECASE)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _small(text: str) -> str | None:
    """``text`` as it stands inside a sentence; None where its first word may be a name."""
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    if first == "I":
        return text
    return text[:1].lower() + text[1:] if first.lower() in FUNCTION_WORDS else None


def _fill(text: str) -> str:
    small = _small(text)
    return text if small is None or len(text.split()) < 3 else _FILLER + small


def _clause_to_front(text: str) -> str | None:
    found = _CLAUSE_LAST.match(text) or _TIME_LAST.match(text)
    if found is None or _NO_MOVE.search(found["rest"]) or len(found["rest"].split()) < 3:
        return None
    small = _small(found["rest"])
    return None if small is None else f"{_capital(found['moved'])}, {small}"


def _clause_to_back(text: str) -> str | None:
    found = _CLAUSE_FIRST.match(text)
    return None if found is None else f"{_capital(found['rest'])} {found['moved'][:1].lower()}{found['moved'][1:]}"


def _particle(text: str) -> str | None:
    found = _PARTICLE.search(text)
    return None if found is None else f"{text[: found.start()]}{found['verb']} {found['object']} {found['particle']}"


def _passive(text: str) -> str | None:
    found = _ACTIVE.match(text)
    if found is None or (small := _small(found["subject"])) is None:
        return None
    noun = found["object"].split(" of ")[0].rsplit(" ", 1)[-1]
    plural = noun in PLURALS or (noun.endswith("s") and not noun.endswith("ss"))
    be, participle = "were" if plural else "was", participles()[found["verb"]]
    return f"{_capital(found['object'])} {be} {participle}{found['tail'] or ''} by {small}"


def _adverb_to_end(text: str) -> str | None:
    found = _ADVERB.match(text)
    return None if found is None else f"{found['subject']} {found['rest']} {found['adverb']}"


def _some_person(text: str) -> str | None:
    found = _PERSON.sub("A ", text)
    return None if found == text else re.sub(r"^A (?=old)", "An ", found)


_MOVES: tuple[Rule, ...] = (_clause_to_front, _clause_to_back, _particle, _passive, _adverb_to_end, _some_person)


def _reverse(text: str) -> str | None:
    """Drifts: one word becomes its opposite."""
    found = _phrases(tuple(opposites())).search(text)
    if found is None:
        return None
    before, opposite = text[: found.start()], _put(found, opposites()[found.group().lower()])
    before = re.sub(
        r"\b(a)n? $",
        lambda article: f"{article[1]}{'n' if _VOWEL.match(opposite) else ''} ",
        before,
        flags=re.IGNORECASE,
    )
    return before + opposite + text[found.end() :]


def _drop(text: str) -> str | None:
    """Drifts: the last phrase is lost."""
    short = _LAST_PHRASE.sub("", text)
    words = short.split()
    if short == text or len(words) < 4 or words[-1] in SILENT | {"due"}:
        return None
    return short


@cache
def _reversed() -> Mapping[str, str]:
    return {_words(phrase)[0]: _words(opposite)[0] for phrase, opposite in opposites().items()}


def _words(text: str) -> list[str]:
    plain = _expand(text).lower().replace(_FILLER.lower(), "").replace("cannot", "can not")
    one = _phrases(tuple(synonyms())).sub(lambda found: synonyms()[found.group()].canonical.replace(" ", "_"), plain)
    back = {participle: verb for verb, participle in participles().items()}
    return [back.get(word, word) for word in re.findall(r"\w+", one) if word not in SILENT]
