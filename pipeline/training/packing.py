"""Questions side by side in one forward: each shared prompt once, its candidates as branches, nothing padded.

The plain layout, one padded row per candidate, is for architectures that take no tree mask; the results are the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.training.encoding import Encoded

_Ids = tuple[int, ...]
_Array = np.typing.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pack:
    """What one forward is given, and which of its logits score which candidate.

    C candidates with at most L option tokens, of R records; ``keep`` are the columns whose logits are wanted.
    """

    input_ids: Tensor
    """(rows, columns); one row in the tree layout."""
    position_ids: Tensor | None
    """As ``input_ids``; None in the plain layout, where an architecture's own are right."""
    ends: Tensor
    """Tree: (columns,), the first column that does not descend from this one. Plain: (rows,), the row's length."""
    keep: Tensor
    predictors: Tensor
    """(C, L): where, among the wanted logits of all rows, this option token is predicted."""
    targets: Tensor
    """(C, L): its id."""
    lengths: Tensor
    """(C,): option tokens of each candidate."""
    table: Tensor
    """(R, most candidates): each record's candidates by number in this pack, C where there is none."""
    answers: Tensor
    """(R,): the right candidate's place in the row of ``table``; -1 where unlabelled."""
    counts: tuple[int, ...]
    """Candidates of each record."""
    answer_tokens: int
    """Option tokens of all right candidates; 0 where a record is unlabelled."""

    @property
    def tokens(self) -> int:
        """Tokens that the model is given, padding included."""
        return self.input_ids.numel()


def default_token_budget(device: str | torch.device) -> int:
    """The most tokens of a forward that pay: attention is quadratic in a pack, and a GPU wants to be filled.

    For a CPU as measured by ``benchmarks/tree.py``.
    """
    return 512 if torch.device(device).type == "cpu" else 4096


def pack(
    batch: Sequence[Encoded],
    *,
    token_budget: int,
    device: str | torch.device,
    only_answers: bool = False,
    layout: str = "tree",
) -> list[Pack]:
    """The packs of ``batch``, records in order, about ``token_budget`` tokens each: a single record may exceed it.

    ``only_answers`` leaves out the wrong candidates, which the language-model loss does not need. Raises ValueError
    where an option begins a sequence (nothing predicts its first token), or an answer is wanted and not known.
    """
    return list(packs(batch, token_budget=token_budget, device=device, only_answers=only_answers, layout=layout))


def packs(
    batch: Sequence[Encoded],
    *,
    token_budget: int,
    device: str | torch.device,
    only_answers: bool = False,
    layout: str = "tree",
) -> Iterator[Pack]:
    """The same as ``pack``, made one at a time."""
    records = [_answer(record) for record in batch] if only_answers else batch
    if any(start < 1 for record in records for start in record.starts):
        raise ValueError("an option begins its sequence: nothing predicts its first token")
    build = _tree if layout == "tree" else _plain
    for group in _groups(records, token_budget, layout):
        yield build(group, torch.device(device))


def estimate_tokens(batch: Sequence[Encoded], *, only_answers: bool = False, layout: str = "tree") -> int:
    """Tokens that a model is given for ``batch``, whatever the packs; in the plain layout without padding."""
    records = [_answer(record) for record in batch] if only_answers else batch
    if layout != "tree":
        return sum(len(ids) - 1 for record in records for ids in record.sequences)
    return sum(rows * columns for rows, columns in (_size(record, layout) for record in records))


def _answer(record: Encoded) -> Encoded:
    if record.answer < 0:
        raise ValueError("a record without a label has no answer to learn")
    return replace(
        record, sequences=(record.sequences[record.answer],), starts=(record.starts[record.answer],), answer=0
    )


def _shared(inputs: Sequence[_Ids]) -> int:
    low, high = min(inputs), max(inputs)
    return bisect_left(range(1, len(low) + 1), 1, key=lambda size: low[:size] != high[:size])


def _inputs(record: Encoded) -> list[_Ids]:
    # Nothing is predicted from a last token.
    return [ids[:-1] for ids in record.sequences]


def _size(record: Encoded, layout: str) -> tuple[int, int]:
    inputs = _inputs(record)
    if layout != "tree":
        return len(inputs), max(map(len, inputs))
    shared = _shared(inputs)
    # Equal branches are one branch: equal candidates then have equal scores, and the first wins.
    return shared + sum(len(ids) - shared for ids in set(inputs)), 1


def _groups(records: Sequence[Encoded], token_budget: int, layout: str) -> Iterator[Sequence[Encoded]]:
    begin = rows = columns = 0
    for at, record in enumerate(records):
        more, longest = _size(record, layout)
        if at > begin and (rows + more) * max(columns, longest) > token_budget:
            yield records[begin:at]
            begin, rows, columns = at, 0, 0
        rows, columns = rows + more, max(columns, longest)
    if records:
        yield records[begin:]


def _tree(records: Sequence[Encoded], device: torch.device) -> Pack:
    ids: list[int] = []
    positions: list[_Array] = []
    ends: list[_Array] = []
    wanted: list[_Array] = []
    for record in records:
        inputs, root = _inputs(record), len(ids)
        shared, size = _shared(inputs), _size(record, "tree")[0]
        ids += inputs[0][:shared]
        positions.append(np.arange(shared))
        ends.append(np.full(shared, root + size))
        offsets: dict[_Ids, int] = {}
        for branch in dict.fromkeys(inputs):
            offsets[branch] = len(ids) - shared
            ids += branch[shared:]
            positions.append(np.arange(shared, len(branch)))
            ends.append(np.full(len(branch) - shared, len(ids)))
        for start, branch in zip(record.starts, inputs, strict=True):
            option = np.arange(start - 1, len(branch))
            wanted.append(option + np.where(option < shared, root, offsets[branch]))
    keep = np.unique(np.concatenate(wanted))
    predictors = [np.searchsorted(keep, columns) for columns in wanted]
    rows, places = np.array([ids]), np.concatenate(positions)[None]
    return _assemble(
        records, device, rows=rows, places=places, ends=np.concatenate(ends), keep=keep, predictors=predictors
    )


def _plain(records: Sequence[Encoded], device: torch.device) -> Pack:
    inputs = [ids for record in records for ids in _inputs(record)]
    starts = [start for record in records for start in record.starts]
    lengths = np.array([len(ids) for ids in inputs])
    wanted = [np.arange(start - 1, length) for start, length in zip(starts, lengths, strict=True)]
    keep = np.unique(np.concatenate(wanted))
    predictors = [row * len(keep) + np.searchsorted(keep, columns) for row, columns in enumerate(wanted)]
    return _assemble(records, device, rows=_padded(inputs), places=None, ends=lengths, keep=keep, predictors=predictors)


def _assemble(
    records: Sequence[Encoded],
    device: torch.device,
    *,
    rows: _Array,
    places: _Array | None,
    ends: _Array,
    keep: _Array,
    predictors: Sequence[_Array],
) -> Pack:
    counts = [len(record.sequences) for record in records]
    first = np.cumsum(counts) - counts
    number = np.arange(max(counts))
    table = np.where(number < np.array(counts)[:, None], first[:, None] + number, sum(counts))
    answers = [record.answer for record in records]
    option = [ids[start:] for record in records for ids, start in zip(record.sequences, record.starts, strict=True)]

    def on(array: Sequence[int] | _Array) -> Tensor:
        return torch.as_tensor(np.asarray(array, dtype=np.int64)).to(device)

    lengths = [len(ids) for ids in option]
    return Pack(
        input_ids=on(rows),
        position_ids=None if places is None else on(places),
        ends=on(ends),
        keep=on(keep),
        predictors=on(_padded(predictors)),
        targets=on(_padded(option)),
        lengths=on(lengths),
        table=on(table),
        answers=on(answers),
        counts=tuple(counts),
        answer_tokens=sum(lengths[i + a] for i, a in zip(first, answers, strict=True)) if min(answers) >= 0 else 0,
    )


def _padded(rows: Sequence[Sequence[int] | _Array]) -> _Array:
    found = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for row, values in zip(found, rows, strict=True):
        row[: len(values)] = values
    return found
