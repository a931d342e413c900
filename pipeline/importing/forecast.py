"""What importing experiments would do to the record, found out without writing."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path
from typing import Any

from pipeline.importing.experiments import Prepared
from tracker.record.catalogue import Reader, Row
from tracker.record.imported import COPIED, KNOWN, MOVED, TAKEN, Put, is_again, outcome_of

_RECORDED = """
    SELECT e.id, e.fingerprint, e.name, e.status, e.data_digest, e.import_run_id, e.directory, e.dataset,
           e.semantic_name, COALESCE(e.legacy_fingerprint, '') AS legacy, e.settings
    FROM shared_experiment e"""


class Forecast:
    """One import as it would be, on the record that ``reader`` reads, if there is one."""

    def __init__(self, root: Path, reader: Reader | None) -> None:
        self.root = root
        self.reader = reader
        self.ahead: dict[str, dict[str, Any]] = {}
        """What would be in the record by then, by fingerprint."""

    def put(self, prepared: Prepared, old: str | None, directory: str | None) -> Put:
        """What ``tracker.record.imports.put`` would do."""
        fingerprint, wanted, digest = prepared.identity.fingerprint, prepared.found.name, prepared.train.digest
        found = self.ahead.get(fingerprint) or self._known(prepared, old or "")
        batches = tuple(prepared.found.batches)
        if found is None:
            name = self._free_name(prepared.dataset, wanted)
            self.ahead[fingerprint] = {
                "id": 0, "fingerprint": fingerprint, "name": name, "status": "complete", "data_digest": digest,
                "import_run_id": 0, "directory": directory, "batches": {*batches}, "dataset": prepared.dataset,
                "semantic_name": wanted, "legacy": old or "", "settings": prepared.columns["settings"],
            }  # fmt: skip
            return Put(TAKEN, 0, fingerprint, name, batches)
        outcome = outcome_of(self.root, found, digest, directory)
        joined = tuple(batch for batch in batches if batch not in found["batches"])
        if outcome in {KNOWN, MOVED, COPIED}:
            moved = {} if outcome == KNOWN else {"directory": directory}
            self.ahead[found["fingerprint"]] = found | moved | {"batches": {*found["batches"], *joined}}
        return Put(outcome, found["id"], found["fingerprint"], found["name"], joined)

    def _known(self, prepared: Prepared, old: str) -> Row | None:
        fingerprint, dataset = prepared.identity.fingerprint, prepared.dataset
        rows = self._recorded("e.fingerprint = :fingerprint", fingerprint=fingerprint)
        if rows:
            return rows[0]
        same = {
            "dataset": dataset, "semantic_name": prepared.found.name, "data_digest": prepared.train.digest,
            "legacy": old,
        }  # fmt: skip
        rows = self._recorded(
            """e.dataset = :dataset AND e.semantic_name = :semantic_name AND e.data_digest = :data_digest
               AND e.import_run_id > 0 AND COALESCE(e.legacy_fingerprint, '') = :legacy""",
            **same,
        )
        rows = [self.ahead.get(row["fingerprint"], row) for row in rows]
        rows += [row for row in self.ahead.values() if same.items() <= row.items()]
        return next((row for row in rows if is_again(row, prepared.known)), None)

    def _free_name(self, dataset: str, wanted: str) -> str:
        """The name that an experiment would get."""
        numbered = chain([wanted], (f"{wanted}_{number}" for number in count(2)))
        ahead = {row["name"] for row in self.ahead.values() if row["dataset"] == dataset}
        taken = "e.dataset = :dataset AND e.name = :name"
        free = (each for each in numbered if each not in ahead)
        return next(each for each in free if not self._recorded(taken, dataset=dataset, name=each))

    def _recorded(self, where: str, **values: str) -> list[Row]:
        """Experiments of the record with the names of their batches."""
        if self.reader is None:
            return []
        found = self.reader.rows(f"{_RECORDED} WHERE {where} ORDER BY e.id", **values)
        held = """SELECT b.name FROM batch_membership m JOIN batch b ON b.id = m.batch_id
                  WHERE m.shared_experiment_id = :id"""
        return [row | {"batches": {each["name"] for each in self.reader.rows(held, id=row["id"])}} for row in found]
