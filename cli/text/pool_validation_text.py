"""How a validation of a pool looks in a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cli.progress import usage
from cli.render import counted, harmless, quoted, table, usd

if TYPE_CHECKING:
    from pipeline.pools.validate import Validation
    from pipeline.pools.validation_preview import Preview
    from tracker.listings.validation_results import Accuracy, Results
    from tracker.record.catalogue import Row

_COLUMNS = (
    *("uuid", "fingerprint", "provider", "endpoint", "model", "temperature", "n_samples", "random_seed", "run_code"),
    *("n_tasks", "n_graded", "n_failed", "n_ungraded", "n_calls", "n_cached", "n_retried", "n_rate_limited"),
    *("prompt_tokens", "completion_tokens", "tokens_estimated", "cost_usd", "started_at", "finished_at", "duration_s"),
)
_LEGEND = (
    "Shares of right answers and their difference with 95 % intervals; p: Fisher's exact test of easy against hard;\n"
    "rank correlation: Spearman's, of difficulty with error; of all: the mean, weighted by graded answers."
)


def validated(pool: str, found: Validation) -> Iterator[str]:
    """`pool validate`."""
    row, model = found.row, harmless(found.row["model"])
    if found.outcome == "reused":
        yield f"⚡ {pool}: {model} has answered this sample already, nothing asked"
    else:
        yield f"{'✅' if found.status == 'complete' else '⚠️ '} {pool}: {model} was asked, {found.status}"
    yield f"   Parameter fingerprint: {row['fingerprint']}"
    if row["provider"] == "offline":
        yield f"   Model: {model}, the offline provider's rules; no LLM"
    yield (
        f"   Sample: {counted(row['n_tasks'], 'task')}, up to {row['n_samples']:,} of each bin of each benchmark, "
        f"seed {row['random_seed']}; {row['n_graded']:,} graded"
    )
    yield ""
    yield results(found.overall, found.benchmarks)
    yield ""
    yield _LEGEND
    yield from _left_out(found)
    if found.outcome != "reused":
        yield "\n".join(usage(row))


def results(overall: Results, benchmarks: dict[str, Results]) -> str:
    """A line for each benchmark, and one for all where there are several."""
    lines = list(benchmarks.items()) + ([("all", overall)] if len(benchmarks) > 1 else [])
    return table(
        ("benchmark", "easy", "hard", "gap", "p", "rank correlation"),
        [
            (
                name, _accuracy(each.easy), _accuracy(each.hard), _gap(each), _number(each.p),
                _number(each.rank_correlation),
            )
            for name, each in lines
        ],
    )  # fmt: skip


def _left_out(found: Validation) -> Iterator[str]:
    from pipeline.pools.run_code import PROTECTION

    ungraded = {name: each.n_ungraded for name, each in found.benchmarks.items() if each.n_ungraded}
    for name, n in ungraded.items():
        tasks = counted(n, "task")
        yield f"⚠️  {name}: {tasks} not asked, because answers are programs, which are run with --run-code alone"
    failed = {name: each.n_failed for name, each in found.benchmarks.items() if each.n_failed}
    for name, n in failed.items():
        yield f"⚠️  {name}: {counted(n, 'task')} without an answer"
    if found.row["n_graded"] + found.row["n_failed"] + found.row["n_ungraded"] < found.row["n_tasks"]:
        left = found.row["n_tasks"] - found.row["n_graded"] - found.row["n_failed"] - found.row["n_ungraded"]
        yield f"⚠️  {counted(left, 'task')} not asked yet"
    if found.row["run_code"]:
        yield f"   Programs were run with {PROTECTION}."


def as_json(pool: str, found: Validation) -> dict[str, Any]:
    """What ``--json`` shows of a validation."""
    return {
        "outcome": found.outcome,
        "status": found.status,
        "pool": pool,
        **{name: _plain(name, found.row) for name in _COLUMNS},
        "overall": _results_json(found.overall),
        "benchmarks": {name: _results_json(each) for name, each in found.benchmarks.items()},
        "first_failure": found.first_failure,
    }


def previewed(pool: str, each: Preview) -> Iterator[str]:
    """`pool validate --dry-run`."""
    yield f"🔧 {pool}: {harmless(each.model)} (dry run: no call is made, nothing is written)"
    yield f"   Parameter fingerprint: {each.fingerprint}"
    if each.is_done:
        yield "   ⚡ It has answered this sample already; nothing would be asked"
    yield f"   Sample: {', '.join(f'{n:,} of {name}' for name, n in each.n_tasks.items())}"
    if each.n_ungraded:
        yield f"   Not asked: {counted(each.n_ungraded, 'task')}, whose programs are run with --run-code alone"
    yield f"   Calls: {each.n_calls:,}; {counted(each.already_paid, 'answer')} in the ledger already"
    yield (
        f"   Tokens: about {each.prompt_tokens:,} prompt + at most {each.most_completion_tokens:,} completion "
        f"({each.tokenizer})"
    )
    yield f"   Cost: {'' if each.most_cost_usd is None else 'at most about '}{usd(each.most_cost_usd)}"
    for name, prompt in each.prompts.items():
        yield f"\n   The first task of {name}:"
        yield quoted(harmless(prompt))


def _results_json(each: Results) -> dict[str, Any]:
    return {
        **{
            name: {
                "n": of.n, "n_correct": of.n_correct, "accuracy": of.share,
                "interval": list(of.interval) if of.n else None,
            }
            for name, of in (("easy", each.easy), ("hard", each.hard))
        },
        "gap": each.gap, "gap_interval": None if each.gap_interval is None else list(each.gap_interval), "p": each.p,
        "rank_correlation": each.rank_correlation, "n_failed": each.n_failed, "n_ungraded": each.n_ungraded,
    }  # fmt: skip


def _plain(name: str, row: Row) -> Any:
    return bool(row[name]) if name in {"run_code", "tokens_estimated"} else row[name]


def _accuracy(of: Accuracy) -> str:
    if of.share is None:
        return "-"
    return f"{of.n_correct:,} of {of.n:,}, {of.share:.1%} {_interval(of.interval)}"


def _gap(each: Results) -> str:
    if each.gap is None or each.gap_interval is None:
        return "-"
    return f"{each.gap:.1%} {_interval(each.gap_interval)}"


def _interval(bounds: tuple[float, float]) -> str:
    return f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if 0 < value < 0.001 else f"{value:.3f}"
