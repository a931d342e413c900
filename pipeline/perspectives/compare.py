"""What two agent data sets have in common and where they differ: pure functions of their rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from tracker.fingerprint import Json
from tracker.listings.agent_listings import response
from tracker.listings.compare import Comparison
from tracker.listings.compare import compare as compare_settings
from tracker.record.catalogue import Row
from tracker.statistics import holm, sign_flip

FIGURES = (
    "n_responses",
    "n_failed",
    "mean_words",
    "mean_characters",
    "mean_completion_tokens",
    "mean_latency_s",
    "chrf",
)
_PERSPECTIVES, _INPUTS = "agent_perspectives", "inputs"
_Pair = tuple[int, int]
_Sides = tuple[tuple[Row, Row], tuple[Row, Row]]
"""On each side the data set and one condition of it."""
_TOLD = ("reading", "strategy")
_STEPS_PER_POINT = 10
_MOST_TESTED, _MOST_CHARACTERS = 300, 2_000_000
_MOST_BITS = 40_000_000


@dataclass(frozen=True, slots=True)
class Tested:
    """Whether the chrF of responses to the same inputs differs by more than chance; chrF from 0 to 100.

    ``means`` are those of the sentence chrF of each side over ``n`` inputs; ``p`` is two-sided, ``corrected`` for the
    number of conditions that were tested.
    """

    n: int
    means: tuple[float, float]
    p: float
    corrected: float = 1.0

    @property
    def difference(self) -> float:
        return self.means[1] - self.means[0]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that both have: its figures on each side, and of ``n_both`` responses how many are equal texts."""

    condition: str
    figures: dict[str, tuple[float | None, float | None]]
    n_both: int
    n_equal: int
    test: Tested | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """An input that both have: its number in each, counted from 1, and the rows that show its responses."""

    numbers: tuple[int, int | None]
    input: str
    references: tuple[str | None, str | None]
    responses: list[tuple[str, Row | None, Row | None]]


@dataclass(frozen=True, slots=True)
class Compared:
    """Two agent data sets beside each other; ``own`` are conditions that only one has.

    Inputs are the same where their texts are; ``same_inputs``: all of them, with their references, in the same order.
    """

    settings: Comparison
    conditions: list[Condition]
    own: tuple[list[str], list[str]]
    same_inputs: bool
    n_shared_inputs: int
    n_tested: int
    samples: list[Sample]


def compare(first: Row, second: Row, *, n_tested: int | None, n_samples: int, position: int | None = None) -> Compared:
    """Compares rows of agent data sets that have their ``conditions``, ``inputs`` and ``answers`` with them.

    ChrF is tested on the first ``n_tested`` inputs that both have; None: on as many as take a few seconds. Shown are
    the first ``n_samples`` of them, or the input at ``position`` of the first.
    """
    pairs = matched(first["inputs"], second["inputs"])
    names = [{each["condition"]: each for each in row["conditions"]} for row in (first, second)]
    shared = [name for name in names[0] if name in names[1]]
    tested = pairs[: _affordable(first, second, pairs) if n_tested is None else n_tested]
    found = [_condition(((first, names[0][name]), (second, names[1][name])), pairs, tested) for name in shared]
    positions = pairs[:n_samples] if position is None else [(position, dict(pairs).get(position))]
    every = list(dict.fromkeys((*names[0], *names[1])))
    return Compared(
        settings=compare_settings([_comparable(row, shared) for row in (first, second)]),
        conditions=_corrected(found),
        own=([name for name in names[0] if name not in shared], [name for name in names[1] if name not in shared]),
        same_inputs=_digest(first) == _digest(second),
        n_shared_inputs=len(pairs),
        n_tested=len(tested),
        samples=[_sample(first, second, at, names, every) for at in positions],
    )


def _affordable(first: Row, second: Row, pairs: Sequence[_Pair]) -> int:
    """How many inputs to score: chrF takes time by the character."""
    left = _MOST_CHARACTERS
    of: list[dict[int, int]] = []
    for row in (first, second):
        lengths: dict[int, int] = defaultdict(int)
        for (at, _), answer in row["answers"].items():
            lengths[at] += len(answer["response"] or "") + len(row["inputs"][at]["reference"] or "")
        of.append(lengths)
    for n, (one, other) in enumerate(pairs[:_MOST_TESTED]):
        left -= of[0].get(one, 0) + of[1].get(other, 0)
        if left < 0:
            return n
    return min(len(pairs), _MOST_TESTED)


def matched(first: Sequence[Row], second: Sequence[Row]) -> list[_Pair]:
    """Positions of inputs with the same text; of texts that are there several times the first with the first."""
    where: dict[str, list[int]] = defaultdict(list)
    for at in range(len(second) - 1, -1, -1):
        where[second[at]["input"]].append(at)
    return [(at, where[each["input"]].pop()) for at, each in enumerate(first) if where.get(each["input"])]


def differs(first: Sequence[float], second: Sequence[float]) -> float:
    """The two-sided p-value that paired scores differ in their mean (sign-flip test).

    Differences count in tenths of a point, of very many inputs in larger steps. A difference and its opposite are
    rounded alike, so the test stays exact for what is rounded.
    """
    raw = [b - a for a, b in zip(first, second, strict=True)]
    size = sum(map(abs, raw)) * (len(raw) + 2)
    steps = min(_STEPS_PER_POINT, _MOST_BITS / size) if size else _STEPS_PER_POINT
    return sign_flip([round(each * steps) for each in raw])


def _comparable(row: Row, shared: Sequence[str]) -> Row:
    """The row with what agents of ``shared`` conditions are told, by condition, and without what names the inputs."""
    left_out = (_PERSPECTIVES, "data_config", "reading")
    identity = {name: value for name, value in row["identity"].items() if name not in left_out}
    settings = {name: value for name, value in row["settings"].items() if name != _PERSPECTIVES}
    told = {each["condition"]: {name: each[name] for name in _TOLD} for each in row["identity"][_PERSPECTIVES]}
    return row | {
        "identity": identity | {_PERSPECTIVES: {name: told[name] for name in shared if name in told}},
        "settings": settings,
    }


def _digest(row: Row) -> Json:
    return row["identity"]["data_config"][_INPUTS]


def _condition(sides: _Sides, pairs: Sequence[_Pair], tested: Sequence[_Pair]) -> Condition:
    (_, one), (_, other) = sides
    both = _answered(sides, pairs)
    return Condition(
        condition=str(one["condition"]),
        figures={name: (one[name], other[name]) for name in FIGURES},
        n_both=len(both),
        n_equal=sum(a == b for a, b in both.values()),
        test=None if one["is_reference"] or other["is_reference"] else _test(sides, both, tested),
    )


def _answered(sides: _Sides, pairs: Sequence[_Pair]) -> dict[_Pair, tuple[str, str]]:
    """The texts of both sides by pair of positions, where both are there."""
    found = {}
    for pair in pairs:
        texts = [
            response(condition, row["inputs"][at], row["answers"], at)["response"]
            for (row, condition), at in zip(sides, pair, strict=True)
        ]
        if None not in texts:
            found[pair] = (texts[0], texts[1])
    return found


def _test(sides: _Sides, both: Mapping[_Pair, tuple[str, str]], tested: Sequence[_Pair]) -> Tested | None:
    (first, _), (second, _) = sides
    references = {
        pair: (first["inputs"][pair[0]]["reference"], second["inputs"][pair[1]]["reference"])
        for pair in tested
        if pair in both
    }
    scored = [(both[pair], found) for pair, found in references.items() if all(found)]
    if not scored:
        return None
    from sacrebleu import sentence_chrf

    one, other = (
        [float(sentence_chrf(texts[side], [reference[side]]).score) for texts, reference in scored] for side in (0, 1)
    )
    return Tested(len(scored), (fmean(one), fmean(other)), differs(one, other))


def _corrected(found: Sequence[Condition]) -> list[Condition]:
    p_values = iter(holm([each.test.p for each in found if each.test is not None]))
    return [
        each if each.test is None else replace(each, test=replace(each.test, corrected=next(p_values)))
        for each in found
    ]


def _sample(
    first: Row, second: Row, at: tuple[int, int | None], names: Sequence[Mapping[str, Row]], every: Sequence[str]
) -> Sample:
    records = [None if where is None else row["inputs"][where] for row, where in zip((first, second), at, strict=True)]
    assert records[0] is not None
    return Sample(
        numbers=(at[0] + 1, None if at[1] is None else at[1] + 1),
        input=records[0]["input"],
        references=(records[0]["reference"], None if records[1] is None else records[1]["reference"]),
        responses=[
            (name, _shown(first, names[0].get(name), at[0]), _shown(second, names[1].get(name), at[1]))
            for name in every
        ],
    )


def _shown(row: Row, condition: Row | None, at: int | None) -> Row | None:
    """The response to be shown; None where there is no such condition or input."""
    if condition is None or at is None:
        return None
    return response(condition, row["inputs"][at], row["answers"], at)
