"""Where samples, counts, spending and tests of judges do not fit what they were made of. Functions of rows alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tracker.record.catalogue import Row
from tracker.record.findings import EXPERIMENT, GENERATION, JUDGE_TEST, RESTORE, WHERE, Finding

COUNTS = "counts"
"""The fix of counts that are not those of the samples: they are counted anew."""

COUNTED = ("n_accepted", "n_rejected", "n_unclear", "n_failed")
_NAMED = 5
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Answers:
    """How an answer becomes what is stored: the rephrased text (of answer and original), and a judge's verdict."""

    rephrased: Callable[[str, str], str]
    verdict: Callable[[str], str]


def count_findings(experiment: Row, counted: Row | None) -> Iterator[Finding]:
    """Where a finished experiment's counts are not those of its samples; ``counted`` has those, and ``n``."""
    where = WHERE[EXPERIMENT].format_map(experiment)
    found = counted or dict.fromkeys(("n", *COUNTED), 0)
    if found["n"] != experiment["n_records"]:
        what = f"n_records is {experiment['n_records']:,}, its samples give {found['n']:,}"
        yield Finding(EXPERIMENT, what, where, RESTORE)
        return
    for name in COUNTED:
        if found[name] != experiment[name]:
            what = f"{name} is {experiment[name]:,}, its samples give {found[name]:,}"
            remedy = "`synthtrack verify --fix` counts them anew."
            yield Finding(EXPERIMENT, what, where, remedy, COUNTS, experiment["id"])


def sample_findings(
    experiment: Row, unlike: Iterable[Row], verdicts: Iterable[Row], answers: Answers
) -> Iterator[Finding]:
    """Where what became of records does not follow from the answers in the ledger.

    ``unlike`` are the samples with a request whose rephrased text is no good answer to it word for word, each with one
    ``answer`` (None: there is no good one); ``verdicts`` are the judge's, with the positions and answers behind them.
    """
    where = WHERE[EXPERIMENT].format_map(experiment)
    lost, wrong = set(), set()
    fitting: set[int] = set()
    for row in unlike:
        if row["answer"] is None:
            lost.add(row["position"])
        elif answers.rephrased(row["answer"], row["original"]) == row["rephrased"]:
            fitting.add(row["position"])
        else:
            wrong.add(row["position"])
    if lost:
        yield Finding(EXPERIMENT, f"{_samples(lost)} no good answer in the ledger", where, RESTORE)
    if wrong - fitting:
        what = f"{_samples(wrong - fitting)} a rephrased text that its answer in the ledger does not give"
        yield Finding(EXPERIMENT, what, where, RESTORE)
    right, judged = set(), set()
    for row in verdicts:
        judged.add(row["position"])
        if row["answer"] is not None and answers.verdict(row["answer"]) == row["verdict"]:
            right.add(row["position"])
    if judged - right:
        what = f"{_samples(judged - right)} a verdict that the judge's answer in the ledger does not give"
        yield Finding(EXPERIMENT, what, where, RESTORE)


def spending_findings(experiment: Row, least: Row, most: Row) -> Iterator[Finding]:
    """Where a finished experiment's tokens or cost cannot be what its runs paid.

    At ``least`` what had been paid by the runs that ended before it was finished, at ``most`` what all of them paid: of
    a judge's test that ran at that moment a part is in it.
    """
    where = WHERE[EXPERIMENT].format_map(experiment)
    for name in ("prompt_tokens", "completion_tokens", "cost_usd"):
        recorded, low, high = experiment[name], least[name], most[name]
        if recorded is None or low is None or high is None:
            continue
        if recorded < low - _slack(low) or recorded > high + _slack(high):
            what = f"{name} is {_shown(recorded)}, the attempts of its runs come to {_shown(high)}"
            yield Finding(EXPERIMENT, what, where, RESTORE)


def run_findings(run: Row) -> Iterator[Finding]:
    """Where a finished run's tokens or cost are not those of its attempts (``own_...``; cost NULL: one is unpriced)."""
    for name in ("prompt_tokens", "completion_tokens", "cost_usd"):
        recorded, own = run[name], run[f"own_{name}"]
        if (recorded is None) != (own is None) or (own is not None and abs(recorded - own) > _slack(own)):
            what = f"{name} is {_shown(recorded)}, its attempts come to {_shown(own)}"
            yield Finding(GENERATION, what, f"{run['name']} ({run['uuid'][:8]})", RESTORE)


def judge_findings(test: Row) -> Iterator[Finding]:
    """Where a judge test's result is not that of its samples (``own_tested``, ``own_correct``)."""
    where = f"{test['name']}, {test['model']} at {test['created_at'][:19].replace('T', ' ')}"
    for name in ("n_tested", "n_correct"):
        own = test[f"own_{name[2:]}"]
        if test[name] != own:
            yield Finding(JUDGE_TEST, f"{name} is {test[name]:,}, its samples give {own:,}", where, RESTORE)
    share = test["n_correct"] / test["n_tested"] if test["n_tested"] else 0.0
    if not math.isclose(test["accuracy"], share, abs_tol=_TOLERANCE):
        what = f"accuracy is {test['accuracy']}, {test['n_correct']} of {test['n_tested']} give {share}"
        yield Finding(JUDGE_TEST, what, where, RESTORE)
    elif bool(test["passed"]) != (test["accuracy"] >= test["required_accuracy"] - _TOLERANCE):
        said = "passed" if test["passed"] else "not passed"
        what = f"it is recorded as {said}, with {test['accuracy']:.4g} of {test['required_accuracy']:.4g}"
        yield Finding(JUDGE_TEST, what, where, RESTORE)


def checkpoint_findings(experiment: Row, checkpoint: Row, positions: Sequence[int]) -> Iterator[Finding]:
    """Where the examples of a closed checkpoint are not among the experiment's samples (at ``positions``)."""
    where = WHERE[EXPERIMENT].format_map(experiment)
    try:
        examples = json.loads(checkpoint["examples"])
        astray = sorted(set(examples) - set(positions))
    except (ValueError, TypeError):
        yield Finding(EXPERIMENT, f"the examples of its {checkpoint['name']} cannot be read", where, RESTORE)
        return
    if astray:
        what = f"the examples of its {checkpoint['name']} name {len(astray)} samples that are not there"
        yield Finding(EXPERIMENT, what, where, RESTORE)


def _samples(positions: Iterable[int]) -> str:
    """Which samples, counted from 1 as people are shown them: ``sample 4 has``."""
    ordered = sorted(positions)
    named = ", ".join(str(at + 1) for at in ordered[:_NAMED])
    if len(ordered) == 1:
        return f"sample {named} has"
    more = f" and {len(ordered) - _NAMED:,} more" if len(ordered) > _NAMED else ""
    return f"samples {named}{more} have"


def _slack(amount: float) -> float:
    return _TOLERANCE * max(1.0, abs(amount))


def _shown(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:,.6g}" if isinstance(amount, float) else f"{amount:,}"
