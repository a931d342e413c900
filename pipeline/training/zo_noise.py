"""Standard normal numbers that a seed, a step and a direction bring back to the bit, one chunk at a time."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor

_CPU_CHUNK = 1 << 17
"""Fits into a core's cache together with the weights that it moves."""
_DEVICE_CHUNK = 1 << 24
"""Large enough that launches cost a GPU little."""


class Noise:
    """The noise of a run. ``chunk`` is how many numbers come of one seed; nothing is remembered between calls."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed, self._device = seed, device
        self.chunk = _CPU_CHUNK if device.type == "cpu" else _DEVICE_CHUNK
        self._generator = None if device.type == "cpu" else torch.Generator(device)
        self._cosine = torch.empty(self.chunk // 2 if device.type == "cpu" else 0)

    def fill(self, out: Tensor, step: int, direction: int, chunk: int) -> None:
        """Fills ``out`` (flat, float32, at most a chunk) with numbers that depend on the other arguments alone.

        numpy's SeedSequence hashes them into a seed, so that neighbours have nothing in common. On a CPU SFC64's bits
        become normals by the transformation of Box and Muller (1958): faster than torch's own generator, which on a CPU
        also looks at only 32 bits of a seed. Elsewhere the device's generator (Philox on CUDA) makes them.
        """
        seed = np.random.SeedSequence((self._seed, step, direction, chunk))
        if self._generator is None:
            # Each raw number is two signed integers of 32 bits, which become two normals.
            raw = np.random.SFC64(seed).random_raw((len(out) + 1) // 2)
            self._box_muller(out, torch.from_numpy(raw.view(np.int32)))
        else:
            self._generator.manual_seed(int(seed.generate_state(1, np.uint64)[0]))
            out.normal_(generator=self._generator)

    def digest(self) -> str:
        """8 hex digits of a chunk: with other versions of the libraries, or on another device, it may be another."""
        out = torch.empty(self.chunk, device=self._device)
        self.fill(out, 0, 0, 0)
        return f"{zlib.crc32(out.cpu().numpy().data):08x}"

    def _box_muller(self, out: Tensor, raw: Tensor) -> None:
        """Fills ``out`` from as many integers of 32 bits, one more where their number is odd."""
        if len(out) % 2:
            even = out.new_empty(len(out) + 1)
            self._box_muller(even, raw)
            out.copy_(even[:-1])
            return
        half = len(out) // 2
        radius, angle, cosine = out[:half], out[half:], self._cosine[:half]
        # Uniform in [2^-33, 1]: the logarithm stays finite.
        radius.copy_(raw[:half]).mul_(-(2.0**-32)).add_(0.5).clamp_(min=2.0**-33).log_().mul_(-2).sqrt_()
        angle.copy_(raw[half:]).mul_(math.pi * 2.0**-31)
        torch.cos(angle, out=cosine)
        angle.sin_().mul_(radius)
        radius.mul_(cosine)
