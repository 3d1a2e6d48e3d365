"""Terminations of the walking task: when an episode counts as failed, each (N,) bool."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sim.tasks.velocity.config import VelocityTerminations
from sim.tasks.velocity.rewards import VelocitySample

Array = Any


def terminations(c: VelocityTerminations) -> dict[str, Callable[[VelocitySample], Array]]:
    """Return every termination by name, the one that counts first when several hold at once before the others."""

    def tilted(s: VelocitySample) -> Array:
        return -s.gravity[..., 2] < math.cos(c.tilt)

    def sunk(s: VelocitySample) -> Array:
        return s.height < c.height_share * s.default_height

    return {"tilted": tilted, "sunk": sunk}
