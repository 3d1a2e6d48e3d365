"""The guard against diverged physics: a bad state stops the training, with the state in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bodydouble.errors import PhysicsError
from sim.backend.protocol import SimBackend
from sim.divergence import LARGEST_STATE

Array = Any
INTERVAL = 50
"""Control steps between checks on a GPU, where each one waits for it; on the CPU every step is checked."""


class DivergenceGuard:
    """Checks the state of all simulations of a backend."""

    def __init__(self, backend: SimBackend, dump: Path) -> None:
        """Name the file that receives the state."""
        self._backend, self._dump, self._steps = backend, dump, 0

    def check(self, **more: Array) -> None:
        """Raise when the physics diverged.

        Args:
            more: Arrays (N, ...) that are written beside qpos, qvel and the mask of bad simulations; `target` holds
                the joints' targets.

        Raises:
            PhysicsError: A position or velocity is NaN, infinite or absurdly large.
        """
        backend = self._backend
        self._steps += 1
        if self._steps % INTERVAL and backend.device != "cpu":
            return
        qpos, qvel = backend.get_state()
        # NaN compares as false, so it is bad too.
        sound = [backend.xp.all(backend.xp.abs(array) < LARGEST_STATE, axis=-1) for array in (qpos, qvel)]
        bad = ~(sound[0] & sound[1])
        if bool(backend.xp.any(bad)):
            self._raise({"qpos": qpos, "qvel": qvel, "bad": bad, **more})

    def _raise(self, arrays: Mapping[str, Array]) -> None:
        host: dict[str, Any] = {name: np.asarray(a.cpu() if hasattr(a, "cpu") else a) for name, a in arrays.items()}
        np.savez_compressed(self._dump, **host)
        raise PhysicsError(
            f"physics diverged in {int(host['bad'].sum())} of {self._backend.num_envs} simulations; "
            f"the state is in {self._dump}, look at it with `bodydouble view {self._dump}`"
        )
