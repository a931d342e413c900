"""MeZO (Malladi et al. 2023): slopes measured by two forwards along random directions, in the memory of inference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.training.zo_log import StepRecord
from pipeline.training.zo_noise import Noise

Memory = Literal["keep", "in_place"]
_SHARE_OF_FREE = 0.75
"""The rest of what is free is for the forwards."""


def memory_to_keep(n_parameters: int, *, directions: int, compute_dtype: torch.dtype) -> int:
    """Bytes that mode ``keep`` takes beyond ``in_place``: the noise of a step, and in fp32 a second copy of theta."""
    copies = directions + (compute_dtype == torch.float32)
    return 4 * copies * n_parameters


def choose_memory(asked: str, *, needed: int, free: int) -> Memory:
    """The mode for ``asked`` (auto, keep or in_place): auto keeps where ``needed`` leaves a quarter of ``free``."""
    if asked == "auto":
        return "keep" if needed <= _SHARE_OF_FREE * free else "in_place"
    return "keep" if asked == "keep" else "in_place"


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a chunk of noise moves of one parameter: its part of theta, and of what the model computes with.

    Those two are one tensor where nothing is held twice. ``noise`` says which part of the chunk moves it.
    """

    noise: slice
    theta: Tensor
    work: Tensor
    decays: bool


@dataclass(frozen=True, slots=True)
class _Chunk:
    number: int
    span: slice
    pieces: tuple[_Piece, ...]


class ZeroOrder:
    """Two-point SPSA on those of ``parameters`` that require a gradient; shared ones count once.

    Theta is float32 whatever the model computes in, and noise is drawn in float32. Where memory is spent beyond theta:

    - ``keep``: the noise of a step (4 bytes a parameter and direction), and the model's own parameters, written as
      theta + eps z and theta - eps z; theta changes only by updates.
    - ``in_place`` in fp32: two chunks of numbers, whatever the model's size. The parameters are theta; they are moved
      and moved back, so that they drift by rounding, as in the paper.
    - ``in_place`` in another ``compute_dtype``: the same chunks and the model's own parameters, written by chunk: theta
      never moves, and the results are those of ``keep`` to the bit.

    A step may be replayed from its record alone, to the same bits in the same mode.
    """

    @torch.no_grad()
    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        seed: int,
        eps: float = 1e-3,
        directions: int = 1,
        memory: Memory = "keep",
        compute_dtype: torch.dtype = torch.float32,
        weight_decay: float = 0.0,
    ) -> None:
        self._groups = _distinct(each for each in parameters if each.requires_grad)
        if not self._groups:
            raise ValueError("no parameter requires a gradient")
        self.parameters = [group[0] for group in self._groups]
        self._eps, self._directions, self._weight_decay = eps, directions, weight_decay
        device = self.parameters[0].device
        size = sum(each.numel() for each in self.parameters)
        self._moves = memory == "in_place" and compute_dtype == torch.float32
        self._noise = Noise(seed, device)
        self.noise_digest = self._noise.digest()
        chunk = self._noise.chunk
        flat = None if self._moves else torch.empty(size, device=device)
        works = [_convert(group, compute_dtype).view(-1) for group in _gathered(self._groups, flat)]
        thetas = works if flat is None else list(torch.split(flat, [each.numel() for each in works]))
        self.weights = [theta.view_as(each) for theta, each in zip(thetas, self.parameters, strict=True)]
        """Theta, in the order of ``parameters``: what is saved, and what loaded weights are copied into."""
        decays = [weight_decay > 0 and each.ndim >= 2 for each in self.parameters]
        self._chunks = list(_chunks(thetas, works, decays, chunk))
        self._kept = torch.empty(directions, size, device=device) if memory == "keep" else None
        self._scratch = torch.empty(2, min(chunk, size), device=device)
        self._made: dict[tuple[int, int], tuple[int, int, int]] = {}

    @torch.no_grad()
    def step(self, loss: Callable[[], float], step: int, learning_rate: float) -> StepRecord:
        """Measures all directions at the same theta with ``loss``, then moves theta by their mean.

        Afterwards the model's parameters are theta only once ``settle`` was called. An error out of ``loss`` leaves
        theta where it was in mode ``keep``, and moved in mode ``in_place``.
        """
        eps, last = self._eps, self._directions - 1
        losses, gradients = [], []
        for direction in range(self._directions):
            self._move(step, direction, 0.0, eps)
            plus = loss()
            self._move(step, direction, eps, -eps)
            minus = loss()
            if self._moves and direction < last:
                self._move(step, direction, -eps, 0.0)
            losses += [plus, minus]
            gradients.append((plus - minus) / (2 * eps))
        record = StepRecord(
            step, _float32(learning_rate), _float32(math.fsum(losses) / len(losses)), tuple(map(_float32, gradients))
        )
        for chunk in self._chunks:
            self._update(chunk, record)
        return record

    @torch.no_grad()
    def replay(self, record: StepRecord) -> None:
        """Moves theta as ``record``'s step did, to the bit, without a forward; ``settle`` as after ``step``."""
        for chunk in self._chunks:
            if self._moves:
                for direction in range(self._directions):
                    self._shift(chunk, record.step, direction, 0.0, self._eps)
                    self._shift(chunk, record.step, direction, self._eps, -self._eps)
                    if direction < self._directions - 1:
                        self._shift(chunk, record.step, direction, -self._eps, 0.0)
            self._update(chunk, record)

    @torch.no_grad()
    def settle(self) -> None:
        """The model's parameters are theta, in what the model computes in: to evaluate it, or to save it."""
        for chunk in self._chunks:
            for piece in chunk.pieces:
                if piece.work is not piece.theta:
                    piece.work.copy_(piece.theta)

    def release(self) -> None:
        """The model's parameters become theta itself, in float32; no step can be taken afterwards."""
        for group, theta in zip(self._groups, self.weights, strict=True):
            for each in group:
                each.data = theta

    def _move(self, step: int, direction: int, before: float, after: float) -> None:
        for chunk in self._chunks:
            self._shift(chunk, step, direction, before, after)

    def _shift(self, chunk: _Chunk, step: int, direction: int, before: float, after: float) -> None:
        """From theta + ``before`` z to theta + ``after`` z."""
        noise = self._noise_of(chunk, step, direction)
        for piece in chunk.pieces:
            if self._moves:
                piece.theta.add_(noise[piece.noise], alpha=after - before)
            else:
                torch.add(piece.theta, noise[piece.noise], alpha=after, out=piece.work)

    def _update(self, chunk: _Chunk, record: StepRecord) -> None:
        """Subtracts learning rate * (mean over directions of g z + weight decay * theta); only matrices decay."""
        last = self._directions - 1
        if self._moves:
            # While the noise of the last direction is still there: its way back and the update in one go.
            self._shift(chunk, record.step, last, -self._eps, 0.0)
        slope, rate = self._noise_of(chunk, record.step, last), record.learning_rate
        if self._directions == 1 and not self._weight_decay:
            rate *= record.projected_gradients[0]
        else:
            slope = self._mean_slope(chunk, record)
        for piece in chunk.pieces:
            part = slope[piece.noise]
            if piece.decays:
                part.add_(piece.theta, alpha=self._weight_decay)
            piece.theta.add_(part, alpha=-rate)

    def _mean_slope(self, chunk: _Chunk, record: StepRecord) -> Tensor:
        slope = self._scratch[1, : chunk.span.stop - chunk.span.start].zero_()
        for direction in reversed(range(self._directions)):
            share = record.projected_gradients[direction] / self._directions
            slope.add_(self._noise_of(chunk, record.step, direction), alpha=share)
        return slope

    def _noise_of(self, chunk: _Chunk, step: int, direction: int) -> Tensor:
        if self._kept is None:
            place, out = (0, 0), self._scratch[0, : chunk.span.stop - chunk.span.start]
        else:
            place, out = (direction, chunk.number), self._kept[direction, chunk.span]
        wanted = (step, direction, chunk.number)
        if self._made.get(place) != wanted:
            self._noise.fill(out, *wanted)
            self._made[place] = wanted
        return out


def _gathered(groups: list[list[nn.Parameter]], flat: Tensor | None) -> Iterator[list[nn.Parameter]]:
    """The groups one by one, copied into ``flat`` before they are converted, so that little is held twice."""
    at = 0
    for group in groups:
        size = group[0].numel()
        if flat is not None:
            flat[at : at + size].copy_(group[0].detach().reshape(-1))
        at += size
        yield group


def _distinct(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    groups: dict[tuple[int, torch.Size], dict[int, nn.Parameter]] = {}
    for each in parameters:
        groups.setdefault((each.data_ptr(), each.shape), {})[id(each)] = each
    return [list(group.values()) for group in groups.values() if next(iter(group.values())).numel()]


def _convert(group: list[nn.Parameter], dtype: torch.dtype) -> Tensor:
    work = group[0].detach().to(dtype).contiguous()
    for each in group:
        each.data = work
    return work


def _chunks(thetas: list[Tensor], works: list[Tensor], decays: list[bool], size: int) -> Iterator[_Chunk]:
    number = at = 0
    pieces: list[_Piece] = []
    for theta, work, decay in zip(thetas, works, decays, strict=True):
        begin = 0
        while begin < len(theta):
            taken = min(size - at, len(theta) - begin)
            own = slice(begin, begin + taken)
            moved = theta[own]
            pieces.append(_Piece(slice(at, at + taken), moved, moved if work is theta else work[own], decay))
            begin, at = begin + taken, at + taken
            if at == size:
                yield _Chunk(number, slice(number * size, number * size + at), tuple(pieces))
                number, at, pieces = number + 1, 0, []
    if pieces:
        yield _Chunk(number, slice(number * size, number * size + at), tuple(pieces))


def _float32(value: float) -> float:
    return float(np.float32(value))
