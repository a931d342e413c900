"""Whether a bundle can be put into a record: a fingerprint stands for the same settings, and the same data, in both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, select

from tracker.archives.bundle_tables import Bundle, Row
from tracker.errors import Conflict, Corrupt
from tracker.schema import table

_SHOWN = 10
_NAMED: Mapping[str, str] = {
    "shared_experiment": "experiment {dataset}/{name}",
    "agent_dataset": "agent data set {name}",
    "task_pool": "task pool {name}",
    "benchmark": "benchmark {name}",
    "training_run": "training run {directory}",
}


def check(connection: Connection, bundle: Bundle) -> None:
    """Raises Corrupt where a fingerprint means other settings here, Conflict where it is other data; all are named."""
    other_settings: list[str] = []
    other_data: list[str] = []
    for name in _NAMED:
        if not bundle.counts.get(name):
            continue
        key = "uuid" if name == "training_run" else "fingerprint"
        of = table(name)
        for row in bundle.read(name):
            here = connection.execute(select(of).where(of.c[key] == row[key])).mappings().first()
            if here is None:
                continue
            what = f"{_NAMED[name].format_map(here)} ({row['fingerprint']})"
            if (here["digest"], here["fingerprint"]) != (row["digest"], row["fingerprint"]):
                other_settings.append(what)
            else:
                other_data += (f"{what}: {found}" for found in _unlike(name, dict(here), row))
    if other_settings:
        raise Corrupt(
            "\n".join(["The same fingerprint stands for other settings here:", *_listed(other_settings)]),
            hint="Nothing was put in. Two different settings met in 12 digits, or one of the two records was changed.",
        )
    if other_data:
        raise Conflict(
            "\n".join(["The same settings have other data here:", *_listed(other_data)]),
            hint="Nothing was put in. Delete one of the two first (its answers stay), or finish both to the same data.",
        )


def _unlike(name: str, here: Row, there: Row) -> Iterator[str]:
    if name in {"shared_experiment", "agent_dataset"} and here["status"] != there["status"]:
        # What was not finished there, and is here, is an older state of the same: it has nothing to add.
        if there["status"] != "unfinished":
            yield f"{here['status']} here, {there['status']} there"
    elif name in {"shared_experiment", "agent_dataset", "task_pool"} and here["data_digest"] != there["data_digest"]:
        own, other = (str(each["data_digest"])[:12] for each in (here, there))
        yield f"its data has SHA-256 {own} here, {other} there"


def _listed(found: list[str]) -> list[str]:
    more = [f"  ... and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return [*(f"  {each}" for each in found[:_SHOWN]), *more]
