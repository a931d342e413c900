"""What an import took, knew already, left out and found wrong, thing by thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from pipeline.importing.keys import without_keys
from tracker.fingerprint import Json

Outcome = Literal["taken", "known", "skipped", "wrong"]
OUTCOMES: tuple[Outcome, ...] = ("taken", "known", "skipped", "wrong")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was looked at: what kind, where it stands, what became of it, and in words why or as what."""

    kind: str
    path: str
    outcome: Outcome
    what: str
    fingerprint: str | None = None
    """The experiment in the record that it is."""


@dataclass(frozen=True, slots=True)
class DataFound:
    """The data that a path of the older system means; no experiment's id where nothing is written (a dry run)."""

    experiment_id: int | None
    fingerprint: str | None
    dataset: str
    name: str
    directory: str
    train_digest: str | None
    eval_digest: str | None
    n_records: int


Resolve = Callable[[str], DataFound | None]
"""From a data path as an older config gives it to what was imported; None: nothing of it is known."""


@dataclass
class Report:
    """Collects items in the order in which they are found."""

    items: list[Item] = field(default_factory=list)

    def taken(self, kind: str, path: str, what: str, fingerprint: str | None = None) -> None:
        self._add(kind, path, "taken", what, fingerprint)

    def known(self, kind: str, path: str, what: str, fingerprint: str | None = None) -> None:
        self._add(kind, path, "known", what, fingerprint)

    def skipped(self, kind: str, path: str, what: str, fingerprint: str | None = None) -> None:
        self._add(kind, path, "skipped", what, fingerprint)

    def wrong(self, kind: str, path: str, what: str, fingerprint: str | None = None) -> None:
        self._add(kind, path, "wrong", what, fingerprint)

    def _add(self, kind: str, path: str, outcome: Outcome, what: str, fingerprint: str | None = None) -> None:
        # Whatever a message quotes: nothing that looks like a key is shown.
        self.items.append(Item(kind, str(without_keys(path)[0]), outcome, str(without_keys(what)[0]), fingerprint))

    def count(self, outcome: Outcome) -> int:
        return sum(item.outcome == outcome for item in self.items)

    def of(self, outcome: Outcome) -> list[Item]:
        return [item for item in self.items if item.outcome == outcome]

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """How many of each kind had which outcome."""
        found: dict[str, dict[str, int]] = {}
        for item in self.items:
            kind = found.setdefault(item.kind, dict.fromkeys(OUTCOMES, 0))
            kind[item.outcome] += 1
        return found

    def to_json(self) -> dict[str, Json]:
        """As ``import_run.report`` and ``--json`` have it."""
        totals: dict[str, Json] = {f"n_{outcome}": self.count(outcome) for outcome in OUTCOMES}
        kinds: dict[str, Json] = {kind: dict(each) for kind, each in self.counts().items()}
        items: list[Json] = [asdict(item) for item in self.items]
        return {**totals, "kinds": kinds, "items": items}
