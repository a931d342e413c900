"""Links the data of trainings to the experiments that made it, whichever of the two came into the record first."""

from __future__ import annotations

from sqlalchemy import Connection, exists, select, update

from tracker.schema import table

_DATA, _EXPERIMENT = table("training_data"), table("shared_experiment")


def link(connection: Connection) -> int:
    """How many rows of training_data have their experiment now, which they named by its fingerprint and their digest.

    A fingerprint alone is not enough: an experiment that was made anew may have other data.
    """
    named = _EXPERIMENT.c.fingerprint == _DATA.c.fingerprint, _EXPERIMENT.c.data_digest == _DATA.c.train_digest
    lacking = update(_DATA).where(_DATA.c.shared_experiment_id.is_(None), exists().where(*named))
    found = select(_EXPERIMENT.c.id).where(*named).scalar_subquery()
    return connection.execute(lacking.values(shared_experiment_id=found)).rowcount
