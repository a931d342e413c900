"""What people decided on the same texts is not asked again: it is taken over when only the judge has changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from pipeline.two_stage import TWO_STAGE, State
from tracker.fingerprint import Json
from tracker.paths import Workspace
from tracker.record import decisions
from tracker.record.catalogue import Reader, Row, reading
from tracker.record.database import Database
from tracker.record.decisions import Answer

_ALIKE = """
    SELECT e.id, e.fingerprint, e.dataset, e.name, e.identity FROM shared_experiment e
    JOIN source_dataset s ON s.id = e.source_dataset_id
    WHERE s.digest = :digest AND e.strategy = :strategy ORDER BY e.id DESC"""
_NEWEST = """
    SELECT d.* FROM decision d
    JOIN sample mine ON mine.shared_experiment_id = :id AND mine.position = d.position
    JOIN sample theirs ON theirs.shared_experiment_id = d.shared_experiment_id AND theirs.position = d.position
    WHERE d.shared_experiment_id = :sibling AND mine.original = theirs.original AND mine.rephrased = theirs.rephrased
      AND d.adopted_from_id IS NULL
      AND NOT EXISTS (SELECT 1 FROM decision l WHERE l.shared_experiment_id = d.shared_experiment_id
                      AND l.position = d.position AND l.annotator = d.annotator AND l.id > d.id)"""
_HERE = "SELECT position, adopted_from_id FROM decision WHERE shared_experiment_id = :id"


def adopt(workspace: Workspace, database: Database, state: State, checkpoint: str, tell: Callable[[str], None]) -> int:
    """Takes over what people decided on the same texts in experiments that differ in their judge only; how many.

    Where anybody has decided on a sample here, nothing is taken over. What was taken over before and corrected since is
    taken over again. ``tell`` gets a sentence for each such experiment.
    """
    with reading(workspace) as reader:
        found = _found(reader, state, set(state.there(checkpoint)))
    # In one transaction, and in the order in which people decided: what they said last is what counts.
    decisions.save(
        database,
        int(state.experiment["id"]),
        checkpoint,
        [_answer(row) for row, _ in found],
        annotator="",
        via="adopted",
    )
    for where in dict.fromkeys(where for _, where in found):
        rows = [row for row, its in found if its == where]
        who = ", ".join(sorted({str(row["annotator"]) for row in rows}))
        number = "1 decision" if len(rows) == 1 else f"{len(rows)} decisions"
        tell(f"Took over {number} of {who} from {where}: it differs in its judge only, and the texts are the same.")
    return len(found)


def _found(reader: Reader, state: State, wanted: set[int]) -> list[tuple[Row, str]]:
    """The newest decision of each annotator on each sample that is to be taken over, with where it was made."""
    here = reader.rows(_HERE, id=state.experiment["id"])
    own = {row["position"] for row in here if row["adopted_from_id"] is None}
    known = {row["adopted_from_id"] for row in here}
    newest: dict[tuple[int, str], tuple[Row, str]] = {}
    for sibling in alike(reader, state.experiment["source_digest"], state.identity):
        if sibling["id"] == state.experiment["id"]:
            continue
        where = f"{sibling['dataset']}/{sibling['name']}"
        for row in reader.rows(_NEWEST, id=state.experiment["id"], sibling=sibling["id"]):
            if row["position"] not in wanted - own:
                continue
            key = row["position"], row["annotator"]
            if key not in newest or _when(newest[key][0]) < _when(row):
                newest[key] = row, where
    chosen = [pair for pair in newest.values() if pair[0]["id"] not in known]
    return sorted(chosen, key=lambda pair: _when(pair[0]))


def _when(row: Row) -> tuple[str, int]:
    return row["decided_at"], row["id"]


def alike(reader: Reader, source_digest: str, identity: Mapping[str, Json]) -> list[Row]:
    """The experiments on that source whose identity, but for the judge, is ``identity``; newest first."""
    rows = reader.rows(_ALIKE, digest=source_digest, strategy=TWO_STAGE)
    return [row for row in rows if _without_judge(json.loads(row["identity"])["identity"]) == _without_judge(identity)]


def _without_judge(identity: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in identity.items() if name != "validation"}


def _answer(row: Row) -> Answer:
    return Answer(
        row["position"], row["verdict"], row["note"], bool(row["settles"]), row["annotator"], row["id"],
        row["decided_at"],
    )  # fmt: skip
