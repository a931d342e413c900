"""How an import of decisions, and the agreement of annotators, look."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from cli.render import RULE, counted, harmless, table
from cli.screens.review_text import COMMANDS, FLAGS
from cli.text.next_command import next_command
from pipeline.annotating.agreement import VERDICTS, Agreement, Pair, difference, standing
from pipeline.annotating.annotations import word
from pipeline.annotating.annotations_import import Imported
from pipeline.two_stage import ANNOTATION
from tracker.fingerprint import Json
from tracker.record.catalogue import Row


def imported(found: Imported, runs: Sequence[Row]) -> Iterator[str]:
    """What an import did, and what is next."""
    read = found.read
    yield f"✅ {counted(len(read.answers), 'decision')} imported into {found.state.reference}"
    yield from (f"   by {harmless(name)}: {n:,}" for name, n in sorted(found.by_annotator.items()))
    numbers = {
        "in place of an earlier answer of the same person": read.n_overriding,
        "there already": read.n_unchanged, "older than their newest answer": read.n_older,
        "not answered": read.n_unanswered, "outside the range": read.n_outside,
    }  # fmt: skip
    yield from (f"   {what}: {n:,}" for what, n in numbers.items() if n)
    for name, n in sorted(read.renamed.items()):
        yield f"⚠️ {counted(n, 'row')} of {harmless(name)} taken as another's, as --annotator says"
    disputed = [str(at + 1) for at in found.disputed]
    if disputed:
        yield f"⚠️ {counted(len(disputed), 'sample')} disputed: {', '.join(disputed)}"
        yield f"   All differences: synthtrack annotations agreement {shlex.quote(found.state.reference)}"
    following = next_command(found.state, runs)
    if following is not None:
        yield f"💾 Next: {following}"


def imported_json(found: Imported, runs: Sequence[Row]) -> dict[str, Json]:
    """The same for programs."""
    read = found.read
    return {
        "experiment": found.state.reference,
        "imported": dict(sorted(found.by_annotator.items())),
        "n_imported": len(read.answers),
        "n_overriding": read.n_overriding,
        "n_unchanged": read.n_unchanged,
        "n_older": read.n_older,
        "n_unanswered": read.n_unanswered,
        "n_outside": read.n_outside,
        "renamed": dict(sorted(read.renamed.items())),
        "disputed": [at + 1 for at in found.disputed],
        "next_command": next_command(found.state, runs),
    }


def agreed(found: Agreement) -> Iterator[str]:
    """How far annotators agree, pair by pair."""
    reference = found.history.state.reference
    people = ", ".join(f"{harmless(name)} ({n})" for name, n in found.answered.items())
    yield from (RULE, f"Agreement of annotators: {reference}" + (f", samples {found.samples}" if found.samples else ""))
    yield f"Answered, without what was skipped: {people or 'nothing'}"
    yield RULE
    if not found.pairs:
        who = "Only one person has" if found.answered else "Nobody has"
        yield from ("", f"{who} answered here: there is nothing to compare.")
        yield f"💾 For another annotator: synthtrack annotations export {shlex.quote(reference)} --annotator NAME"
    common = [pair for pair in found.pairs if pair.n]
    for pair in common:
        yield from ("", *_pair(found, pair))
    if len(common) < len(found.pairs):
        other = "other " if common else ""
        yield from ("", f"{counted(len(found.pairs) - len(common), f'{other}pair')} answered nothing in common.")
    yield from _settling(found)


def _pair(found: Agreement, pair: Pair) -> Iterator[str]:
    first, second = (harmless(name) for name in pair.annotators)
    yield f"📊 {first} and {second}: {counted(pair.n, 'sample')} that both answered"
    n_agreed = pair.n - len(pair.differing)
    yield f"   Agreement: {n_agreed / pair.n:.1%} ({n_agreed} of {pair.n})"
    yield f"   Cohen's kappa: {_kappa(pair)}"
    heads = ["", *(f"{second}: {word(verdict)}" for verdict in VERDICTS)]
    rows = [[f"{first}: {word(one)}", *(pair.confusion[one][other] for other in VERDICTS)] for one in VERDICTS]
    yield from (f"   {line}" for line in table(heads, rows).splitlines())
    for position in pair.differing:
        yield from ("", *(f"   {line}" for line in _difference(difference(found.history, pair, position))))


def _kappa(pair: Pair) -> str:
    if pair.kappa is not None:
        return f"{pair.kappa:.3f}"
    return "undefined: both gave the same verdict every time, as they would by chance"


def _difference(row: Row) -> Iterator[str]:
    said = "; ".join(f"{harmless(name)}: {word(verdict)}" for name, verdict in row["verdicts"].items())
    stands = f" (settled: {word(row['stands'])})" if row["stands"] else ""
    yield f"⚠️ Sample {row['sample']}: {said}{stands}"
    yield f"   Original:  {_one_line(row['original_marked'])}"
    yield f"   Rephrased: {_one_line(row['rephrased_marked'])}"
    yield from (f"   Note of {harmless(name)}: {_one_line(text)}" for name, text in row["notes"].items() if text)


def _one_line(text: str) -> str:
    return harmless(text).replace("\n", " ")


def _settling(found: Agreement) -> Iterator[str]:
    """How to settle what is disputed, where that is still possible."""
    history = found.history
    differing = {at for pair in found.pairs for at in pair.differing if standing(history, at) is None}
    for checkpoint, command in COMMANDS.items():
        disputed = [at + 1 for at in sorted(differing) if history.checkpoint(at) == checkpoint]
        if disputed and checkpoint not in history.state.closed:
            yield from ("", f"💾 {counted(len(disputed), 'sample')} disputed: {', '.join(map(str, disputed))}")
            one, words = disputed[0], shlex.join(["synthtrack", command, history.state.reference])
            shown = f"{words} --range {one}-{one}" if checkpoint == ANNOTATION else words
            same, not_the_same = (f"{FLAGS[checkpoint][verdict]} {one}" for verdict in VERDICTS)
            yield f"   To settle {one}: {shown}"
            yield f"   or at once: {words} --only {same} (or {not_the_same})"


def agreed_json(found: Agreement) -> dict[str, Json]:
    """The same for programs; verdicts as they are stored, kappa null where it is undefined."""
    return {
        "experiment": found.history.state.reference,
        "range": found.samples,
        "annotators": found.answered,
        "pairs": [
            {
                "annotators": list(pair.annotators),
                "n_samples": pair.n,
                "n_agreed": pair.n - len(pair.differing),
                "observed_agreement": pair.observed,
                "cohens_kappa": pair.kappa,
                "confusion": pair.confusion,
                "differences": [difference(found.history, pair, position) for position in pair.differing],
            }
            for pair in found.pairs
        ],
    }
