"""Which samples a report shows beside each other: few, the same every time, and with them what was rejected."""

# ruff: noqa: S608  what is put into a text here are lists of ids; values are parameters

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tracker.record.catalogue import Reader, Row, portions

MOST_RECORDS = 6
MOST_EXPERIMENTS = 12
MOST_SOURCES = 3


@dataclass(frozen=True, slots=True)
class Card:
    """One record: its place in the file, the original, and what each experiment made of it.

    ``versions`` have ``experiment``, ``rephrased``, ``status``, ``verdict``, ``decided_by``, ``decision`` (people's)
    and ``error``.
    """

    position: int
    original: str
    why: str
    versions: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Samples:
    """The cards of one source data set, and in how many experiments the others of it were not looked at."""

    dataset: str
    field: str
    cards: tuple[Card, ...]
    n_experiments: int
    n_left_out: int


def gather(reader: Reader, experiments: Sequence[Row]) -> tuple[Samples, ...]:
    """Records of each source data set and field, those with the most experiments first."""
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in experiments:
        groups.setdefault((row["source_dataset_id"], row["field_to_rephrase"]), []).append(row)
    ordered = sorted(groups.values(), key=lambda rows: (-len(rows), rows[0]["dataset"], rows[0]["field_to_rephrase"]))
    found = [_samples(reader, rows) for rows in ordered[:MOST_SOURCES]]
    return tuple(each for each in found if each.cards)


def spread(rows: Sequence[Row], most: int) -> list[Row]:
    """At most so many of the rows, at even distances, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[at * (len(rows) - 1) // (most - 1)] for at in range(most)]


def _samples(reader: Reader, rows: Sequence[Row]) -> Samples:
    shown = spread(rows, MOST_EXPERIMENTS)
    names = {row["id"]: row["name"] for row in shown}
    (ids,) = portions(list(names))
    chosen = dict(_chosen(_counts(reader, ids)))
    versions: dict[int, list[Row]] = {at: [] for at in chosen}
    if chosen:
        (positions,) = portions(sorted(chosen))
        for row in reader.rows(
            f"""SELECT s.shared_experiment_id AS id, s.position, s.original, s.rephrased, s.status, s.verdict,
                       s.decided_by, s.error, d.verdict AS decision
                FROM sample s LEFT JOIN sample_decision d
                    ON d.shared_experiment_id = s.shared_experiment_id AND d.position = s.position
                WHERE s.shared_experiment_id IN ({ids}) AND s.position IN ({positions})"""
        ):
            versions[row["position"]].append(row | {"experiment": names[row["id"]]})
    places = {each: at for at, each in enumerate(names)}
    cards = [
        Card(at, found[0]["original"], why, tuple(sorted(found, key=lambda row: places[row["id"]])))
        for at, why in chosen.items()
        if (found := versions[at])
    ]
    first = rows[0]
    return Samples(first["dataset"], first["field_to_rephrase"], tuple(cards), len(shown), len(rows) - len(shown))


def _counts(reader: Reader, ids: str) -> list[Row]:
    return reader.rows(
        f"""SELECT position, COUNT(*) AS n, SUM(CASE WHEN status = 'accepted' AND verdict IS NOT NULL THEN 1 ELSE 0 END)
                       AS accepted,
                   SUM(CASE WHEN status = 'rejected' AND verdict IS NOT NULL THEN 1 ELSE 0 END) AS rejected,
                   SUM(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) AS failed,
                   SUM(CASE WHEN verdict = 'unclear' THEN 1 ELSE 0 END) AS unclear,
                   SUM(CASE WHEN decided_by = 'person' THEN 1 ELSE 0 END) AS people
            FROM sample WHERE shared_experiment_id IN ({ids}) GROUP BY position ORDER BY position"""
    )


def _chosen(counts: Sequence[Row]) -> Iterator[tuple[int, str]]:
    """The positions, each with the reason why it was chosen; in the order of the reasons."""
    divided = sorted(
        (row for row in counts if row["accepted"] and row["rejected"]),
        key=lambda row: (abs(row["accepted"] - row["rejected"]), row["position"]),
    )
    rejected = sorted((row for row in counts if row["rejected"]), key=lambda row: (-row["rejected"], row["position"]))
    reasons = (
        ("accepted in some, rejected in others", divided, 2),
        ("rejected most often", rejected, 1),
        ("failed", [row for row in counts if row["failed"]], 1),
        ("the judge's answer was unclear", [row for row in counts if row["unclear"]], 1),
        ("decided by a person", [row for row in counts if row["people"]], 1),
        ("accepted in all", [row for row in counts if row["accepted"] == row["n"]], MOST_RECORDS),
        ("one of the first", list(counts), MOST_RECORDS),
    )
    taken: set[int] = set()
    for why, rows, most in reasons:
        left = [row["position"] for row in rows if row["position"] not in taken]
        for position in left[: min(most, MOST_RECORDS - len(taken))]:
            taken.add(position)
            yield position, why
