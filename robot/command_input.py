"""What a policy is told while it runs: the last command inside its bounds, zero velocity when it falls silent; pure."""

from __future__ import annotations

import json
import math

import numpy as np

from bodydouble.command import CommandSpec
from bodydouble.errors import ContractError

VELOCITIES = {"velocity_forward": ("linear", "x"), "velocity_left": ("linear", "y"), "yaw_rate": ("angular", "z")}
"""Values that a geometry_msgs/Twist carries, and where; a command of these alone is a velocity."""


class CommandInput:
    """The command in force. C values."""

    def __init__(self, spec: CommandSpec, timeout_s: float) -> None:
        """Begin with zero velocity, or with no command where it is no velocity.

        Args:
            spec: Names and bounds.
            timeout_s: Longest silence after which a velocity is obeyed, s. A command that is no velocity, as a pose
                to reach, stays in force until the next.
        """
        self.spec = spec
        self.is_velocity = set(spec.names) <= set(VELOCITIES)
        self._timeout_ns = round(timeout_s * 1e9)
        self._low, self._high = np.array(spec.low), np.array(spec.high)
        self._rest = np.clip(np.zeros(len(spec.names)), self._low, self._high)
        self._given = self._rest if self.is_velocity else None
        self._since_ns: int | None = None

    @property
    def known(self) -> bool:
        """Whether there is a command to obey."""
        return self._given is not None

    def check(self, text: str) -> list[float]:
        """Read a command's JSON.

        Raises:
            ContractError: It is not one number for each name; NaN and infinity are none.
        """
        names = self.spec.names
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = []
        sound = isinstance(values, list) and len(values) == len(names)
        if not sound or not all(type(value) in (int, float) and _finite(value) for value in values):
            raise ContractError(f"command is {text[:60]}, expected {len(names)} finite numbers: {', '.join(names)}")
        return [float(value) for value in values]

    def give(self, values: list[float], t_ns: int) -> tuple[str, ...]:
        """Put a command into force, clipped to its bounds; return what had to be clipped."""
        wanted = np.array(values)
        self._given, self._since_ns = np.clip(wanted, self._low, self._high), t_ns
        return tuple(
            f"command: {name} clipped from {before:g} to {after:g}"
            for name, before, after in zip(self.spec.names, wanted, self._given, strict=True)
            if before != after
        )

    def at(self, t_ns: int, resting: bool) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the command (1, C), float32, of a tick, and what is to be told.

        Args:
            t_ns: Time of the tick, ns.
            resting: Whether a velocity is to be zero, whatever was given.
        """
        assert self._given is not None
        events: tuple[str, ...] = ()
        if self.is_velocity and self._since_ns is not None and not 0 <= t_ns - self._since_ns <= self._timeout_ns:
            events = (f"late command: {(t_ns - self._since_ns) / 1e6:.0f} ms old, the velocity is zero",)
            self._given, self._since_ns = self._rest, None
        given = self._rest if self.is_velocity and resting else self._given
        return given.astype(np.float32)[None], events


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False
