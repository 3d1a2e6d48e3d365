"""How a policy takes hold of a robot and lets go of it: hold, ramp in from the present pose, run, ramp out, hold; pure.

    hold -> ramp -> run -> ramp_out -> hold

The ramp in blends from the measured pose to what the policy wants, linearly. The ramp out goes from the last command to
the rest pose and does not ask the policy: it starts and ends at rest and stays below half of the velocity limits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

HOLD, RAMP_IN, RUN, RAMP_OUT = "hold", "ramp", "run", "ramp_out"
"""The phases. Only in RAMP_IN and RUN is the policy asked."""
RAMP_S = 0.3
"""Time over which the first commands go from the measured pose to the policy's, s."""
RAMP_OUT_S = 0.6
"""Shortest time of the way from the last command to the rest pose, s."""
RAMP_OUT_SPEED = 0.5
"""Largest speed on that way, in units of the joint's velocity limit."""
_PEAK = 1.5
"""Peak speed of the smooth step 3 s^2 - 2 s^3, in units of its mean."""


@dataclass(frozen=True)
class Ramps:
    """What the ramps need to know of a robot. J joints."""

    rest: np.ndarray
    """Pose to hold after the ramp out (J,), rad."""
    max_step: np.ndarray
    """Velocity limits (J,), rad per tick."""
    control_hz: float
    """Ticks a second."""

    @property
    def in_ticks(self) -> float:
        """Ticks of the ramp in."""
        return RAMP_S * self.control_hz

    def out_ticks(self, start: np.ndarray) -> int:
        """Return the ticks of the ramp out from a pose (J,)."""
        slowest = float(np.max(np.abs(self.rest - start) / self.max_step)) * _PEAK / RAMP_OUT_SPEED
        return max(1, math.ceil(max(RAMP_OUT_S * self.control_hz, slowest)))


@dataclass(frozen=True, eq=False)
class Engagement:
    """The phase and how far it is."""

    phase: str = RAMP_IN
    """HOLD, RAMP_IN, RUN or RAMP_OUT."""
    start: np.ndarray | None = None
    """Pose the phase began at (J,), rad; None before its first tick."""
    ticks: int = 0
    """Ticks of the phase so far."""

    @property
    def asks_policy(self) -> bool:
        """Whether the policy's target is needed for the next tick."""
        return self.phase in (RAMP_IN, RUN)

    def engage(self) -> Engagement:
        """Return the engagement after being told to run: a ramp in from hold or ramp out, else unchanged."""
        return self if self.asks_policy else Engagement(RAMP_IN)

    def release(self) -> Engagement:
        """Return the engagement after being told to hold: a ramp out where commands went, else a hold."""
        if self.phase == RUN or (self.phase == RAMP_IN and self.start is not None):
            return Engagement(RAMP_OUT)
        return Engagement(HOLD) if self.phase == RAMP_IN else self

    def advance(
        self, target: np.ndarray | None, measured: np.ndarray, last: np.ndarray | None, ramps: Ramps
    ) -> tuple[Engagement, np.ndarray]:
        """Return the engagement after one tick, and the joint targets (J,) of that tick, rad.

        Args:
            target: What the policy wants (J,), rad; needed where `asks_policy`.
            measured: Measured joint positions (J,), rad.
            last: The last command (J,), rad; None before the first.
            ramps: Rest pose, velocity limits and rate.
        """
        if self.asks_policy:
            if target is None:
                raise ValueError(f"phase {self.phase} needs the policy's target")
            if self.phase == RUN:
                return self, target
            start, ticks = measured.copy() if self.start is None else self.start, self.ticks + 1
            share = min(1.0, ticks / ramps.in_ticks)
            phase = RAMP_IN if ticks < ramps.in_ticks else RUN
            return Engagement(phase, start, ticks), (1 - share) * start + share * target
        start = self.start
        if start is None:
            start = (measured if last is None else last).copy()
        if self.phase == HOLD:
            return replace(self, start=start), start.copy()
        ticks, total = self.ticks + 1, ramps.out_ticks(start)
        if ticks >= total:
            return Engagement(HOLD, ramps.rest), ramps.rest.copy()
        share = ticks / total
        return Engagement(RAMP_OUT, start, ticks), start + (3 - 2 * share) * share**2 * (ramps.rest - start)
