"""What people decided on the same texts is not asked again: it is taken over when only the judge has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import groupby

from pipeline.two_stage import TWO_STAGE, State
from tracker import decisions
from tracker.catalogue import Reader, Row, reading
from tracker.database import Database
from tracker.decisions import Answer
from tracker.fingerprint import Json
from tracker.paths import Workspace

_SIBLINGS = """
    SELECT id, dataset, name, identity FROM shared_experiment
    WHERE source_dataset_id = :source AND strategy = :strategy AND id <> :id
      AND semantic_name = (SELECT semantic_name FROM shared_experiment WHERE id = :id)
    ORDER BY id DESC"""
_NEWEST = """
    SELECT d.* FROM decision d
    JOIN sample mine ON mine.shared_experiment_id = :id AND mine.position = d.position
    JOIN sample theirs ON theirs.shared_experiment_id = d.shared_experiment_id AND theirs.position = d.position
    WHERE d.shared_experiment_id = :sibling AND mine.original = theirs.original AND mine.rephrased = theirs.rephrased
      AND NOT EXISTS (SELECT 1 FROM decision l WHERE l.shared_experiment_id = d.shared_experiment_id
                      AND l.position = d.position AND l.annotator = d.annotator AND l.id > d.id)
    ORDER BY d.id"""


def adopt(workspace: Workspace, database: Database, state: State, checkpoint: str, tell: Callable[[str], None]) -> int:
    """Takes over what people decided on the same texts in an experiment that differs in its judge only; how many.

    Whoever has decided on a sample here already is not overruled. ``tell`` gets a sentence for each such experiment.
    """
    wanted = set(state.there(checkpoint))
    with reading(workspace) as reader:
        has = {
            (row["position"], row["annotator"])
            for row in reader.rows(
                "SELECT position, annotator FROM decision WHERE shared_experiment_id = :id", id=state.experiment["id"]
            )
        }
        found: list[tuple[Row, Row]] = []
        for sibling in _siblings(reader, state):
            for row in reader.rows(_NEWEST, id=state.experiment["id"], sibling=sibling["id"]):
                key = row["position"], row["annotator"]
                if row["position"] in wanted and key not in has:
                    has.add(key)
                    found.append((sibling, row))
    for (dataset, name), pairs in groupby(found, key=lambda pair: (pair[0]["dataset"], pair[0]["name"])):
        answers = [_answer(row) for _, row in pairs]
        decisions.save(database, int(state.experiment["id"]), checkpoint, answers, annotator="", via="adopted")
        who = ", ".join(sorted({str(answer.annotator) for answer in answers}))
        number = "1 decision" if len(answers) == 1 else f"{len(answers)} decisions"
        tell(
            f"Took over {number} of {who} from {dataset}/{name}: it differs in its judge only, and the texts are the "
            "same."
        )
    return len(found)


def _siblings(reader: Reader, state: State) -> list[Row]:
    mine, experiment = dict(state.identity), state.experiment
    rows = reader.rows(
        _SIBLINGS, source=experiment["source_dataset_id"], strategy=TWO_STAGE, id=experiment["id"],
    )  # fmt: skip
    return [row for row in rows if _without_judge(json.loads(row["identity"])["identity"]) == _without_judge(mine)]


def _without_judge(identity: dict[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in identity.items() if name != "validation"}


def _answer(row: Row) -> Answer:
    return Answer(
        row["position"], row["verdict"], row["note"], bool(row["settles"]), row["annotator"], row["id"],
        row["decided_at"],
    )  # fmt: skip
