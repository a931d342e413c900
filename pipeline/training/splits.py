"""Which records train, choose the checkpoint and measure, and in which order they train.

The rules are those of the runs that results are compared with, so that numbers stay comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pipeline.training.tasks import UNLABELLED
from tracker.errors import DataError


def split_train(records: Sequence[Any], num_train: int, num_dev: int) -> tuple[range, range]:
    """The indices of the training and of the dev records: dev is the end of the file, train the start of the rest.

    Raises DataError where nothing is left to train on.
    """
    rest = len(records) - num_dev
    if rest < 1:
        raise DataError(
            f"Nothing is left to train on: of {len(records)} records the last {num_dev} are kept for dev.",
            [],
            hint="Lower num_dev, or take a data set with more training records.",
        )
    return range(min(num_train, rest)), range(rest, len(records))


def select_eval(labels: Sequence[int], num_eval: int) -> list[int]:
    """The indices of the records to measure on, at most ``num_eval``; those without a label (-1) are left out.

    Of more than that a sample, as MeZO takes it (`sample_subset` of princeton-nlp/MeZO, large_models/tasks.py): the
    start of a permutation from seed 0, whatever the run's seed is, so that all runs are measured on the same records.
    """
    import numpy as np

    labelled = [index for index, label in enumerate(labels) if label != UNLABELLED]
    if len(labelled) <= num_eval:
        return labelled
    return [labelled[index] for index in np.random.RandomState(0).permutation(len(labelled))[:num_eval]]


def order(n: int, batch_size: int, seed: int, step: int) -> list[int]:
    """The indices among ``n`` records of the batch of ``step`` (from 0).

    Each epoch takes every record once, in an order of its own; its last batch is short where they do not come out even.
    It depends on the arguments alone: to resume, no state is needed.
    """
    epoch, batch = divmod(step, -(-n // batch_size))
    return list(_permutation(n, seed, epoch)[batch * batch_size : (batch + 1) * batch_size])


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> tuple[int, ...]:
    import numpy as np

    # Sorted raw output, not Generator.permutation: numpy keeps the first the same in all versions, not the second.
    keys = np.random.PCG64([seed, epoch]).random_raw(n)
    return tuple(np.argsort(keys, kind="stable").tolist())
