"""CommandSpec: what a policy is told while it runs (a velocity to walk at, a pose to reach), by name, with bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bodydouble.errors import InputError


@dataclass(frozen=True)
class CommandSpec:
    """The values of a command, in order. C values."""

    names: tuple[str, ...]
    """Names of the values, each with its unit in the task's description."""
    low: tuple[float, ...]
    """Smallest values that the policy was trained for."""
    high: tuple[float, ...]
    """Largest values."""

    def __post_init__(self) -> None:
        if len(self.low) != len(self.names) or len(self.high) != len(self.names):
            raise InputError(f"a command of {len(self.names)} values needs as many bounds on either side")
        if len(set(self.names)) != len(self.names):
            raise InputError(f"the command names a value twice: {', '.join(self.names)}")
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise InputError(f"command {name}: bounds {low} to {high}; expected finite ones, the lower one first")

    def check(self, values: Sequence[float]) -> np.ndarray:
        """Return a command (C,) as float32.

        Raises:
            InputError: Its length is another, or a value lies outside the bounds.
        """
        if len(values) != len(self.names):
            raise InputError(
                f"the command has {len(values)} values, expected {len(self.names)}: {', '.join(self.names)}"
            )
        for name, value, low, high in zip(self.names, values, self.low, self.high, strict=True):
            # NaN compares as false.
            if not low <= value <= high:
                raise InputError(f"command {name} is {value}, outside of {low:g} to {high:g}, which the policy knows")
        return np.array(values, dtype=np.float32)
