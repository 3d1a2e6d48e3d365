"""Simulations whose random numbers come from a seed each: what one meets does not depend on the others."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from sim.backend.cpu_batch import CpuBatch

_BLOCK = 4096


class SeededBatch(CpuBatch):
    """A CPU batch of N simulations with N seeds. Every draw must have N rows."""

    def __init__(self, model: mujoco.MjModel, seeds: Sequence[int], threads: int = 0) -> None:
        """Make the simulations.

        Args:
            model: The compiled model.
            seeds: Seed of each simulation.
            threads: Worker threads; 0 takes every core.
        """
        super().__init__(model, len(seeds), 0, threads)
        self._streams = {
            name: _Stream([np.random.default_rng((seed, key)) for seed in seeds], name)
            for key, name in enumerate(("random", "standard_normal"))
        }

    def random(self, *shape: int) -> np.ndarray:
        """Return uniform random numbers (N, ...) in [0, 1), float32."""
        return self._streams["random"].take(shape)

    def normal(self, *shape: int) -> np.ndarray:
        """Return standard normal random numbers (N, ...), float32."""
        return self._streams["standard_normal"].take(shape)

    def exact_positions(self) -> np.ndarray:
        """Return the positions (N, nq), float64, every bit kept."""
        return self._qpos.copy()


class _Stream:
    """Numbers of N generators, drawn in blocks, so that no draw loops over the generators."""

    def __init__(self, generators: Sequence[np.random.Generator], kind: str) -> None:
        self._generators, self._kind = generators, kind
        self._block = np.zeros((len(generators), 0), dtype=np.float32)
        self._used = 0

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        count = int(np.prod(shape[1:]))
        if not shape or shape[0] != len(self._generators):
            raise ValueError(f"draws have one row per simulation, {len(self._generators)}; asked for {shape}")
        while self._block.shape[1] - self._used < count:
            fresh = [getattr(generator, self._kind)(_BLOCK, dtype=np.float32) for generator in self._generators]
            self._block = np.concatenate([self._block[:, self._used :], np.stack(fresh)], axis=1)
            self._used = 0
        taken = self._block[:, self._used : self._used + count]
        self._used += count
        return taken.reshape(shape).copy()
