"""Names of experiments that are not taken yet."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, select

from tracker.record.ledger import EXPERIMENT


def free_name(connection: Connection, dataset: str, wanted: str) -> str:
    """``wanted``, or that with the first number from 2 under which there is no experiment on the data set."""
    # A range, for which there is an index: a look at the semantic name of every experiment would grow with the record.
    beginning = (EXPERIMENT.c.name >= f"{wanted}_", EXPERIMENT.c.name < f"{wanted}{chr(ord('_') + 1)}")
    taken = set(
        connection.execute(select(EXPERIMENT.c.name).where(EXPERIMENT.c.dataset == dataset, *beginning)).scalars()
    )

    def is_taken(name: str) -> bool:
        # The name itself; and a server can sort names in another order than by their characters.
        there = select(EXPERIMENT.c.id).where(EXPERIMENT.c.dataset == dataset, EXPERIMENT.c.name == name)
        return name in taken or connection.execute(there).scalar() is not None

    return first_free(wanted, is_taken)


def first_free(wanted: str, is_taken: Callable[[str], bool]) -> str:
    """``wanted``, or that with the first number from 2 that is not taken."""
    name, number = wanted, 1
    while is_taken(name):
        number += 1
        name = f"{wanted}_{number}"
    return name
