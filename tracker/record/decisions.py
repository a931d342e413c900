"""Writes what people decide at checkpoints, and what a judge's test came to. Nothing is overwritten."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, text, update

from tracker import clock
from tracker.errors import Conflict, WrongStep
from tracker.record.catalogue import Row
from tracker.record.database import Database
from tracker.record.ledger import EXPERIMENT, SAMPLE, is_running
from tracker.schema import table

DECISION, CHECKPOINT = table("decision"), table("checkpoint")
JUDGE_TEST, JUDGE_TEST_SAMPLE = table("judge_test"), table("judge_test_sample")

_STATUS = {"same": "accepted", "not_the_same": "rejected"}
_PORTION = 500


@dataclass(frozen=True)
class Answer:
    """A person's answer to one sample: ``verdict`` is same, not_the_same or skipped.

    ``settles``: it stands where annotators differ. ``annotator``, ``adopted_from_id`` and ``decided_at`` are given
    where it is taken over from elsewhere.
    """

    position: int
    verdict: str
    note: str = ""
    settles: bool = False
    annotator: str | None = None
    adopted_from_id: int | None = None
    decided_at: str | None = None


def save(
    database: Database,
    experiment_id: int,
    checkpoint: str,
    answers: Sequence[Answer],
    *,
    annotator: str,
    via: str,
    seen: int | None = None,
) -> list[Row]:
    """Saves answers in one transaction; gives the decisions on the same samples that came after decision ``seen``.

    Those are somebody else's, made while this person was looking: both are kept. Raises WrongStep where the checkpoint
    is closed.
    """
    now = clock.to_text(clock.now())
    with database.writing() as connection:
        _check_open(connection, experiment_id, checkpoint)
        others: list[Row] = []
        if seen is not None:
            newer = select(DECISION).where(
                DECISION.c.shared_experiment_id == experiment_id,
                DECISION.c.position.in_([answer.position for answer in answers]),
                DECISION.c.id > seen,
            )
            others = [dict(row) for row in connection.execute(newer.order_by(DECISION.c.id)).mappings()]
        rows = [
            {
                "shared_experiment_id": experiment_id, "position": answer.position, "checkpoint": checkpoint,
                "verdict": answer.verdict, "annotator": answer.annotator or annotator, "settles": answer.settles,
                "decided_at": answer.decided_at or now, "via": via, "adopted_from_id": answer.adopted_from_id,
                "note": answer.note,
            }
            for answer in answers
        ]  # fmt: skip
        if rows:
            connection.execute(DECISION.insert(), rows)
    return others


def newest(database: Database, experiment_id: int) -> int:
    """The id of the experiment's newest decision, 0 where there is none: ``seen`` of who looks now."""
    with database.reading() as connection:
        found = connection.execute(
            select(DECISION.c.id)
            .where(DECISION.c.shared_experiment_id == experiment_id)
            .order_by(DECISION.c.id.desc())
            .limit(1)
        ).scalar()
    return int(found or 0)


def close(
    database: Database,
    experiment_id: int,
    checkpoint: str,
    verdicts: Mapping[int, str],
    examples: Sequence[int],
    *,
    run_id: int,
    judge_test_id: int | None = None,
) -> None:
    """Closes a checkpoint: ``verdicts`` become the samples' own, ``examples`` (positions) what is learned from it.

    ``judge_test_id``: the test that lets the judge decide what people have not. Nothing where it is closed already.
    Raises Conflict where what people decided is no longer ``verdicts``.
    """
    now = clock.to_text(clock.now())
    with database.writing() as connection:
        if not is_running(connection, run_id):
            raise Conflict("Another process has taken this experiment over.", hint="Run the same command again.")
        closed_with = connection.execute(
            select(CHECKPOINT.c.examples).where(
                CHECKPOINT.c.shared_experiment_id == experiment_id, CHECKPOINT.c.name == checkpoint
            )
        ).scalar()
        if closed_with is not None:
            if json.loads(closed_with) != list(examples):
                raise Conflict(
                    f"Another process closed the {checkpoint} with other examples.", hint="Run the same command again."
                )
            return
        found = connection.execute(
            text("SELECT position, verdict FROM sample_decision WHERE shared_experiment_id = :id"),
            {"id": experiment_id},
        )
        standing: dict[int, str] = {row.position: row.verdict for row in found}
        if any(standing.get(position) != verdict for position, verdict in verdicts.items()):
            raise Conflict(
                f"Somebody decided otherwise at the {checkpoint} a moment ago.", hint="Run the same command again."
            )
        _decide(connection, experiment_id, verdicts, now)
        connection.execute(
            CHECKPOINT.insert().values(
                shared_experiment_id=experiment_id, name=checkpoint, generation_run_id=run_id, closed_at=now,
                examples=json.dumps(list(examples)), judge_test_id=judge_test_id,
            )
        )  # fmt: skip


def _decide(connection: Connection, experiment_id: int, verdicts: Mapping[int, str], now: str) -> None:
    """Makes people's verdicts those of the samples that have none yet."""
    for verdict, status in _STATUS.items():
        decided = [position for position, given in verdicts.items() if given == verdict]
        for start in range(0, len(decided), _PORTION):
            connection.execute(
                update(SAMPLE)
                .where(
                    SAMPLE.c.shared_experiment_id == experiment_id,
                    SAMPLE.c.position.in_(decided[start : start + _PORTION]),
                    SAMPLE.c.status == "undecided",
                )
                .values(status=status, verdict=verdict, decided_by="person", updated_at=now)
            )


def save_judge_test(database: Database, test: Row, samples: Sequence[Row]) -> int:
    """Stores a test of a judge with its samples; the id."""
    with database.writing() as connection:
        values = {**test, "created_at": clock.to_text(clock.now())}
        test_id = int(connection.execute(JUDGE_TEST.insert().values(**values).returning(JUDGE_TEST.c.id)).scalar_one())
        connection.execute(JUDGE_TEST_SAMPLE.insert(), [{**sample, "judge_test_id": test_id} for sample in samples])
    return test_id


def _check_open(connection: Connection, experiment_id: int, checkpoint: str) -> None:
    if not _is_closed(connection, experiment_id, checkpoint):
        return
    row = connection.execute(
        select(EXPERIMENT.c.dataset, EXPERIMENT.c.name).where(EXPERIMENT.c.id == experiment_id)
    ).one()
    raise closed(f"{row.dataset}/{row.name}", checkpoint)


def closed(reference: str, checkpoint: str) -> WrongStep:
    """The error of a checkpoint whose decisions have been used already."""
    used = {
        "review": "the other records were rephrased with the approved ones as examples",
        "annotation": "the judge learned from it and has decided the other records",
    }
    return WrongStep(
        f"The {checkpoint} of {reference} is closed: {used[checkpoint]}.",
        hint="What was used stays as it is. Another draw of the same settings, with other answers, is made by "
        "`synthtrack generate CONFIG --fresh`; a draw that is unfinished is gone on with.",
    )


def _is_closed(connection: Connection, experiment_id: int, checkpoint: str) -> bool:
    found = select(CHECKPOINT.c.id).where(
        CHECKPOINT.c.shared_experiment_id == experiment_id, CHECKPOINT.c.name == checkpoint
    )
    return connection.execute(found).scalar() is not None
