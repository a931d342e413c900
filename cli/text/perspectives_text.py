"""How agent data sets look in a terminal: a listing, and everything about one."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from cli.render import RULE, THIN_RULE, counted, harmless, moment, usd
from cli.text.listing import left_out
from cli.text.result_words import duration, number
from cli.text.side_by_side import beside, cells, hanging, padded, wrapped
from tracker.errors import reason
from tracker.listings.compare import short
from tracker.listings.listings import Listing
from tracker.record.catalogue import Row

READS_FIRST = "* reads first, and answers with its notes"
SHORT_LINES = 3
"""How many lines of a text are shown where it is not asked for."""
_FIGURES = (
    ("mean_words", "Words"),
    ("mean_characters", "Chars"),
    ("mean_completion_tokens", "Tokens"),
    ("mean_latency_s", "Seconds"),
    ("chrf", "chrF"),
)
_NARROWEST = 12
_INDENT = "   "
_GAP = "  "
_OF_PERSPECTIVES = "agent_perspectives"


def listed(found: Listing, *, columns: int, verbose: bool) -> Iterator[str]:
    """The listing of `perspectives list`; with ``verbose`` rows have ``conditions`` and ``runs``."""
    yield from (RULE, f"Agent data sets: {found.total:,}", RULE)
    for task_type, rows in groupby(found.rows, key=lambda row: str(row["task_type"])):
        of_task = list(rows)
        # Of a cut listing nobody has counted what a task type has in all.
        how_many = f"{len(of_task):,} shown" if found.left_out else counted(len(of_task), "agent data set")
        yield from ("", f"📊 {harmless(task_type)} ({how_many})", THIN_RULE)
        for row in of_task:
            yield from ("", f"  📦 {row['name']}")
            lines = [*_listed(row), *(_detailed(row, columns - 5) if verbose else ())]
            yield from (f"     {harmless(line)}" for line in lines)
    if not found.rows:
        yield from ("", "💾 `synthtrack perspectives CONFIG` makes the first one.")
    if found.left_out:
        yield from ("", *left_out(found, "agent data set"))


def _listed(row: Row) -> Iterator[str]:
    yield f"Parameter fingerprint: {row['fingerprint']}"
    yield f"Created: {moment(row['created_at'])}"
    yield f"Status: {status(row)}"
    drawn = (f", draw {row['draw']}" if row["draw"] else "") + (", a trial (--test)" if row["is_trial"] else "")
    yield f"Model: {row['model']}, temperature {number(row['temperature'])}{drawn}"
    yield f"Responses: {n_responses(row)}"
    used = row["prompt_tokens"] + row["completion_tokens"]
    yield f"Tokens used: {used:,}; cost: {usd(row['cost_usd'])}; {counted(row['n_runs'], 'run')}"


def _detailed(row: Row, width: int) -> Iterator[str]:
    yield f"File: {row['path'] or 'none yet, responses are missing'}"
    yield f"Inputs: {row['origin']}"
    legend = " (* reads first)" if any(each["reading"] for each in row["conditions"]) else ""
    yield from hanging(f"Conditions: {', '.join(map(condition, row['conditions']))}{legend}", width)
    for line in tokens(row):
        yield from hanging(line, width)
    for run in row["runs"]:
        yield from hanging(f"Run: {_run(run)}", width)


def condition(row: Row) -> str:
    """A condition's name, marked where its agent reads first."""
    return f"{row['condition']} *" if row["reading"] else str(row["condition"])


def n_conditions(asked: int, *, with_reference: bool) -> str:
    """``4 conditions and the reference``."""
    told = counted(asked, "condition")
    return (f"{told} and the reference" if asked else "The reference") if with_reference else told


def status(row: Row) -> str:
    """``complete``, ``⚠️ unfinished, being made now by PID 12 on host since ...``."""
    told = row["status"] if row["status"] == "complete" else f"⚠️ {row['status']}"
    if row["made_by"] is None:
        return f"{told}, nothing answered" if row["status"] == "unfinished" and not row["n_responses"] else str(told)
    by = row["made_by"]
    return f"{told}, being made now by PID {by['pid']} on {by['host']} since {moment(by['since'])}"


def n_responses(row: Row) -> str:
    """``48 of 48 (12 inputs x 4 conditions), 2 failed``; nothing is asked for a reference."""
    wanted = row["n_inputs"] * row["n_perspectives"]
    failed = f", {row['n_failed']:,} failed" if row["n_failed"] else ""
    of = f"{counted(row['n_inputs'], 'input')} x {counted(row['n_perspectives'], 'condition')}"
    return f"{row['n_responses']:,} of {wanted:,} ({of}){failed}"


def tokens(row: Row) -> Iterator[str]:
    """What was used, and what had been estimated before anything was asked."""
    known = " (estimated)" if any(run["tokens_estimated"] for run in row["runs"]) else ""
    yield f"Tokens: {row['prompt_tokens']:,} prompt + {row['completion_tokens']:,} completion{known}"
    before = f"{row['estimated_prompt_tokens']:,} prompt + {row['estimated_completion_tokens']:,} completion"
    yield f"Estimated beforehand: {before} ({row['tokenizer']})"


def _run(run: Row) -> str:
    failed = f", {run['n_failed']:,} failed" if run["n_failed"] else ""
    used = run["prompt_tokens"] + run["completion_tokens"]
    cost = f", {used:,} tokens, {usd(run['cost_usd'])}" if run["n_calls"] else ""
    return (
        f"{moment(run['started_at'])} {run['outcome']}, {run['status']}{failed}: {run['n_calls']:,} calls, "
        f"{run['n_cached']:,} from the ledger{cost}"
    )


def shown(row: Row, *, columns: int, whole: bool) -> Iterator[str]:
    """Everything about one agent data set, with its ``conditions``, ``runs``, ``samples`` and ``next_command``.

    Texts are shown ``whole``, else their first lines.
    """
    yield from (RULE, f"Agent data set: {row['name']}", f"Parameter fingerprint: {row['fingerprint']}")
    yield from _head(row, columns)
    yield RULE
    yield from ("", "📊 Results", *_section(_results(row), columns))
    n_asked = sum(not each["is_reference"] for each in row["conditions"])
    title = n_conditions(n_asked, with_reference=n_asked < len(row["conditions"]))
    yield from ("", f"⚖️ {title}", *figures(row["conditions"], columns))
    if any(each["strategy"] for each in row["conditions"]):
        yield from ("", "💬 What agents are told", *_told(row["conditions"], columns, whole=whole))
    yield from ("", "🔧 Settings", *_section(settings(row["settings"]), columns))
    yield from ("", f"⚡ {counted(len(row['runs']), 'run')}")
    for run in row["runs"]:
        yield from _section([_run(run), *_about_run(run)], columns)
        yield f"{_INDENT}  {harmless(run['command'])}"
    for sample in row["samples"]:
        yield from ("", f"🔍 Input {sample['number']:,} of {row['n_inputs']:,}", THIN_RULE)
        yield from beside(sample_rows(sample), columns, most_lines=None if whole else SHORT_LINES)
    if row["samples"] and not whole:
        command = shlex.join(["synthtrack", "perspectives", "show", row["name"], "--input", "1"])
        yield from ("", f"💾 An input with its whole texts: {command}")
    if row["n_failed"]:
        yield f"💾 What failed: {shlex.join(['synthtrack', 'perspectives', 'show', row['name'], '--failed'])}"


def failed(row: Row, failures: Sequence[Row], columns: int) -> Iterator[str]:
    """The responses of an agent data set that failed, with why."""
    yield from (RULE, f"Agent data set: {row['name']}", f"Status: {status(row)}")
    yield from hanging(f"Failed: {len(failures):,} of {row['n_inputs'] * row['n_perspectives']:,} responses", columns)
    if failures and row["next_command"] is not None:
        yield f"To try them again: {row['next_command']}"
    yield RULE
    for each in failures:
        yield from hanging(f"❌ Input {each['number']:,}, {each['condition']}: {each['error']}", columns)


def _head(row: Row, columns: int) -> Iterator[str]:
    yield f"Status: {status(row)}"
    if row["next_command"] is not None:
        yield f"{'Next' if row['status'] == 'unfinished' else 'To try failures again'}: {row['next_command']}"
    if row["draw"]:
        yield f"Draw: {row['draw']} of these settings, after the first"
    if row["is_trial"]:
        yield "A trial: made with --test only"
    described = f" ({row['task_description']})" if row["task_description"] else ""
    yield from hanging(f"Task: {row['task_type']}{described}", columns)
    yield f"Created: {moment(row['created_at'])}, completed: {moment(row['completed_at'])}"
    yield f"Inputs: {row['n_inputs']:,} of {row['origin']} (digest {row['source_digest'][:12]})"
    yield f"File: {row['path'] or 'none yet, responses are missing'}"


def _results(row: Row) -> Iterator[str]:
    yield f"Responses: {n_responses(row)}"
    yield f"Calls: {row['n_calls']:,} sent, {row['n_cached']:,} answered from the ledger"
    yield from tokens(row)
    yield f"Cost: {usd(row['cost_usd'])}"


def settings(given: Row) -> Iterator[str]:
    """The settings that are set, a line each; perspectives have a place of their own."""
    set_ones = ((name, value) for name, value in given.items() if value not in (None, "", [], {}))
    yield from (f"{name}: {short(value)}" for name, value in set_ones if name != _OF_PERSPECTIVES)


def figures(conditions: Sequence[Row], columns: int) -> list[str]:
    """A table of the conditions with what came of them over all inputs; means are per response."""
    known = [(name, title) for name, title in _FIGURES if any(each[name] is not None for each in conditions)]
    # Of what is not finished none is known yet.
    known = known or list(_FIGURES)
    rows = [
        [condition(each), f"{each['n_responses']:,}", f"{each['n_failed']:,}",
         *(_figure(name, each[name]) for name, _ in known)]
        for each in conditions
    ]  # fmt: skip
    headers = ["Condition", "Answered", "Failed", *(title for _, title in known)]
    legend = [READS_FIRST] if any(each["reading"] for each in conditions) else []
    return [*fitted(headers, rows, columns), *legend]


def fitted(headers: Sequence[str], rows: Sequence[Sequence[str]], columns: int) -> list[str]:
    """A table whose first column is wrapped into what the others leave of ``columns``."""
    widths = [max(map(cells, column)) for column in zip(headers, *rows, strict=True)]
    widths[0] = min(widths[0], max(_NARROWEST, columns - sum(widths[1:]) - len(_GAP) * (len(widths) - 1)))
    lines = [headers, ["-" * width for width in widths]]
    for name, *figures in rows:
        first, *more = wrapped(name, widths[0])
        lines += [[first, *figures], *([line] for line in more)]
    return [_GAP.join(padded(cell, widths[at]) for at, cell in enumerate(line)).rstrip() for line in lines]


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if name == "mean_latency_s" else f"{value:,.1f}"


def _told(conditions: Iterable[Row], columns: int, *, whole: bool) -> list[str]:
    rows = [
        (label, str(text))
        for each in conditions
        for label, text in (
            (str(each["condition"]), each["reading"] or each["strategy"]),
            *([("  then", each["strategy"])] if each["reading"] else []),
        )
        if text
    ]
    return beside(rows, columns, most_lines=None if whole else SHORT_LINES)


def _about_run(run: Row) -> Iterator[str]:
    yield f"  {duration(run['duration_s'])}, config {run['config_path'] or 'none'}, run {run['uuid']}"
    yield f"  MLflow run: {run['mlflow_run_id'] or 'not logged'}"
    if run["error"]:
        yield f"  ❌ {reason(run['error'])}"


def _section(lines: Iterable[str], columns: int) -> Iterator[str]:
    for line in lines:
        yield from (f"{_INDENT}{each}" for each in hanging(line, columns - len(_INDENT)))


def sample_rows(sample: Row) -> list[tuple[str, str]]:
    """An input, its reference, and every response with the notes before it: labels and texts."""
    rows = [("Input", str(sample["input"]))]
    if sample["reference"] is not None and not any(each["status"] == "reference" for each in sample["responses"]):
        rows.append(("Reference", sample["reference"]))
    for each in sample["responses"]:
        if each["preparation"] is not None:
            rows.append((f"{each['condition']}: notes", each["preparation"] or "(empty)"))
        rows.append((each["condition"], answer(each)))
    return rows


def answer(response: Row) -> str:
    """The text, or why there is none."""
    if response["response"] is not None:
        return str(response["response"]) or "(empty)"
    return f"❌ {response['error']}" if response["status"] == "failed" else "(no response yet)"
