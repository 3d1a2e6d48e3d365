"""Chosen: some of N environments, worked on alone on the CPU and under a mask on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.backend.protocol import SimBackend

Array = Any


class Chosen:
    """The environments of a mask, or all.

    On the CPU they are listed, so that M of them cost the work of M. On a GPU that would wait for the device; there
    all are worked on, M is N, and the mask says whose results are taken.
    """

    def __init__(self, backend: SimBackend, mask: Array | None = None) -> None:
        """Choose by a mask (N,), bool; None chooses all."""
        self._backend, self._mask = backend, mask
        self.rows: Array | None = None
        """Ids (M,) of the chosen; None where all are worked on."""
        if mask is not None and backend.device == "cpu":
            self.rows = np.flatnonzero(mask)

    @property
    def count(self) -> int:
        """Number M of environments to work on."""
        return self._backend.num_envs if self.rows is None else len(self.rows)

    @property
    def empty(self) -> bool:
        """Whether there is surely nothing to do."""
        return self.count == 0

    def take(self, array: Array) -> Array:
        """Return the rows (M, ...) of an array (N, ...)."""
        return array if self.rows is None else array[self.rows]

    def put(self, array: Array, values: Array) -> Array:
        """Return the array (N, ...) with the values (M, ...) where chosen; the array itself stays as it is."""
        if self._mask is None:
            return values
        if self.rows is None:
            mask = self._mask[(..., *[None] * (array.ndim - 1))]
            return self._backend.xp.where(mask, values, array)
        array = array.copy()
        array[self.rows] = values
        return array

    def set_state(self, qpos: Array, qvel: Array) -> None:
        """Give the chosen simulations positions (M, nq) and velocities (M, nv)."""
        if self.rows is None:
            old_qpos, old_qvel = self._backend.get_state()
            self._backend.set_state(self.put(old_qpos, qpos), self.put(old_qvel, qvel))
        else:
            self._backend.set_state(qpos, qvel, self.rows)
