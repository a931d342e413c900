"""What is deleted, or would be: as lines, in short, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cli.render import counted, harmless, usd

if TYPE_CHECKING:
    from tracker.deleting.trash import Contents

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def described(contents: Contents, title: str) -> Iterator[str]:
    """What goes, in lines: rows by table, files, links, MLflow runs, and what stays in the ledger."""
    from tracker.deleting.deletion import WORDS

    plan = contents.plan
    fingerprint = f" ({plan.fingerprint})" if plan.fingerprint else ""
    yield f"{title}: {WORDS[plan.kind]} {harmless(plan.name)}{fingerprint}"
    tables = ", ".join(f"{number:,} {name}" for name, number in contents.rows.items())
    yield f"   {counted(contents.n_rows, 'row')}{f': {tables}' if tables else ''}"
    for path in plan.paths:
        yield f"   📁 {harmless(path)}"
    if plan.paths:
        yield f"   {size(contents.n_bytes)} of files"
    if plan.links:
        yield f"   {counted(len(plan.links), 'link')}; the data behind them stays"
    if plan.mlflow_runs:
        yield f"   {counted(len(plan.mlflow_runs), 'MLflow run')}"
    if plan.spent:
        parts = [f"{usd(amount)} in batch {batch}" for batch, amount in plan.spent]
        yield f"   What was paid for it ({', '.join(parts)}) stays in the ledger: nothing of it is paid again."


def size(n_bytes: int) -> str:
    """``12.3 MB``."""
    amount, unit = float(n_bytes), 0
    while amount >= 1000 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else counted(n_bytes, "byte")


def plain(contents: Contents) -> dict[str, Any]:
    """``contents`` for JSON."""
    plan = contents.plan
    return {
        "kind": plan.kind, "name": plan.name, "fingerprint": plan.fingerprint, "rows": contents.rows,
        "n_rows": contents.n_rows, "n_bytes": contents.n_bytes, "paths": list(plan.paths), "n_links": len(plan.links),
        "mlflow_runs": list(plan.mlflow_runs), "spent_usd": dict(plan.spent),
    }  # fmt: skip


def in_short(contents: Contents) -> str:
    """``123 rows, 4.5 MB, 2 links``."""
    plan = contents.plan
    parts = [counted(contents.n_rows, "row")]
    parts += [size(contents.n_bytes)] if plan.paths else []
    parts += [counted(len(plan.links), "link")] if plan.links else []
    parts += [counted(len(plan.mlflow_runs), "MLflow run")] if plan.mlflow_runs else []
    return ", ".join(parts)
