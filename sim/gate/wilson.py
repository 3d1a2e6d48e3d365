"""Wilson score interval of a success rate."""

from __future__ import annotations

import math


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Return the interval that holds the true rate (Wilson 1927).

    Args:
        successes: Trials that succeeded.
        trials: All trials, at least one.
        z: Standard score; 1.96 is 95 %.
    """
    rate = successes / trials
    middle = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)
