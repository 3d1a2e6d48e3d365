"""The safety layer between a policy and the motors: pure, without ROS. When in doubt it stops and says why."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from bodydouble.contract import PolicyContract
from bodydouble.errors import InputError

GRAVITY = 9.81
"""What an accelerometer at rest reads, m/s^2."""
_OPTIONAL = ("heartbeat_timeout_s", "contact_loss_s", "free_fall_s")
_LARGEST = 1e6
_ROUNDING = 1e-9
"""Share of the acceleration limit that rounding may add: without it a target exactly on the limit would be changed."""


@dataclass(frozen=True)
class SafetyConfig:
    """Bounds of the safety layer."""

    slew_factor: float = 1.0
    """Largest change of a target in one tick, in units of the joint's velocity limit times the tick."""
    acceleration_s: float = 0.02
    """Shortest time in which a target may go from rest to its largest slew, s. A target that nears a joint limit is
    slowed in time to stop there. A hold or a stop freezes the target at once."""
    error_factor: float = 1.5
    """Largest distance of a target to the measured position, in units of what saturates the motor (effort / kp)."""
    max_tilt: float = 1.0
    """Tilt of the base beyond which the robot is falling, rad."""
    max_joint_speed_factor: float = 1.5
    """Measured joint speed, in units of the limit, beyond which something is wrong."""
    max_input_age_s: float = 0.06
    """Age of an input beyond which the last command is kept, s."""
    stop_input_age_s: float = 0.25
    """Age of an input beyond which the stop latches, s."""
    max_input_lead_s: float = 0.06
    """How far an input's stamp may be ahead of the clock, s: beyond it no age can be trusted, and the stop latches."""
    heartbeat_timeout_s: float = 0.0
    """Longest silence of the operator's heartbeat, s; 0 asks for none."""
    command_timeout_s: float = 0.5
    """Longest silence after which a velocity command is still obeyed, s; then it is zero."""
    contact_loss_s: float = 0.0
    """Longest time without any foot on the ground, s; 0 does not look. It needs the feet's contact flags."""
    free_fall_s: float = 0.0
    """Longest time in which the base's accelerometer shows a fall, s; 0 does not look."""
    free_fall_share: float = 0.3
    """Acceleration below which the accelerometer shows a fall, in units of gravity: at rest it reads 1, falling 0."""

    def __post_init__(self) -> None:
        """Refuse a bound that would bind nothing."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = "at least 0" if field.name in _OPTIONAL else "positive"
            if not math.isfinite(value) or value < 0 or (value == 0 and least == "positive"):
                raise InputError(f"safety bound {field.name} is {value}, expected a finite number, {least}")
            if value > _LARGEST:
                raise InputError(f"safety bound {field.name} is {value}, expected at most {_LARGEST:g}")


@dataclass(frozen=True)
class SafetyInputs:
    """What the safety layer looks at in one tick."""

    target: np.ndarray | None
    """Wanted joint targets (J,), rad; None where the policy did not run."""
    joint_pos: np.ndarray
    """Measured joint positions (J,), rad."""
    joint_vel: np.ndarray
    """Measured joint speeds (J,), rad/s."""
    tilt: float
    """Angle between the base's vertical and gravity, rad."""
    input_age_s: float
    """Age of the oldest input, s."""
    input_lead_s: float = 0.0
    """How far the newest input's stamp is ahead of the clock, s; below zero where it is behind."""
    heartbeat_age_s: float = 0.0
    """Time since the operator's last heartbeat, s."""
    feet_in_contact: tuple[bool, ...] | None = None
    """Whether each foot touches the ground; None where the robot does not say."""
    base_acceleration: float | None = None
    """Length of what the base's accelerometer reads, m/s^2; None where the robot does not say."""


@dataclass(frozen=True)
class SafetyDecision:
    """What may be sent."""

    command: np.ndarray | None
    """Joint targets (J,), rad, float64, inside every limit; None where nothing was ever sent and nothing may be."""
    events: tuple[str, ...]
    """Interventions, each with its reason; empty when nothing was changed."""
    stopped: bool
    """Whether the stop is latched."""


class SafetyFilter:
    """Turns wanted targets into safe ones. The stop latches until `resume`."""

    def __init__(self, contract: PolicyContract, config: SafetyConfig) -> None:
        """Take limits, gains and rate from the contract."""
        self.config = config
        self._names = contract.joint_names
        self._lower = np.array(contract.joint_lower)
        self._upper = np.array(contract.joint_upper)
        limit = np.array(contract.joint_velocity_limit)
        self._max_step = config.slew_factor * limit / contract.control_hz
        self._max_change = self._max_step / (contract.control_hz * config.acceleration_s)
        self._max_speed = config.max_joint_speed_factor * limit
        self._max_error = config.error_factor * np.array(contract.effort_limit) / np.array(contract.kp)
        self._hz = contract.control_hz
        self._last: np.ndarray | None = None
        self._step = np.zeros(len(limit))
        self._lifted = self._falling = 0
        self._told = True
        self.stopped = False
        self.stop_reason = ""

    @property
    def last_command(self) -> np.ndarray | None:
        """A copy of the last command (J,), None before the first."""
        return None if self._last is None else self._last.copy()

    def stop(self, reason: str) -> None:
        """Latch the stop; the first reason is kept."""
        if not self.stopped:
            self.stopped, self.stop_reason, self._told = True, reason, False

    def resume(self) -> None:
        """Release the stop; what caused it stops again if it still holds."""
        self.stopped, self.stop_reason = False, ""

    def filter(self, inputs: SafetyInputs) -> SafetyDecision:
        """Return a command inside every limit: position, slew and acceleration hold, the others as far as these allow.

        The first command starts at the measured pose; where that cannot be read, nothing is sent.
        """
        events: list[str] = []
        self._count_contact(inputs)
        self._look_for_stops(inputs)
        start = self._last
        if start is None and self._measured_fault(inputs) is None:
            start = np.clip(np.asarray(inputs.joint_pos, dtype=np.float64), self._lower, self._upper)
        command = start
        if not self.stopped and inputs.target is not None and start is not None:
            if inputs.input_age_s > self.config.max_input_age_s:
                events.append(f"late input: {1000 * inputs.input_age_s:.0f} ms old, the last command is kept")
            else:
                command = self._limit(np.asarray(inputs.target, dtype=np.float64), inputs.joint_pos, start, events)
        if self.stopped and not self._told:
            events.append(f"stop: {self.stop_reason}")
            self._told = True
        if command is not None and start is not None:
            self._step = command - start
        self._last = command
        return SafetyDecision(None if command is None else command.copy(), tuple(events), self.stopped)

    def _look_for_stops(self, inputs: SafetyInputs) -> None:
        config = self.config
        if self.stopped:
            return
        fault = self._measured_fault(inputs) or self._target_fault(inputs)
        if fault is not None:
            self.stop(fault)
        elif not inputs.tilt <= config.max_tilt:
            self.stop(f"base tilted by {inputs.tilt:.2f} rad, at most {config.max_tilt:g} is allowed")
        elif not inputs.input_age_s <= config.stop_input_age_s:
            self.stop(f"input {1000 * inputs.input_age_s:.0f} ms old, at most {1000 * config.stop_input_age_s:g} ms")
        elif not inputs.input_lead_s <= config.max_input_lead_s:
            self.stop(
                f"input stamped {1000 * inputs.input_lead_s:.0f} ms ahead of the clock, "
                f"at most {1000 * config.max_input_lead_s:g} ms; set the clocks"
            )
        elif config.heartbeat_timeout_s > 0 and not inputs.heartbeat_age_s <= config.heartbeat_timeout_s:
            self.stop(f"no heartbeat of the operator for {inputs.heartbeat_age_s:.2f} s")
        elif config.contact_loss_s > 0 and self._lifted > config.contact_loss_s * self._hz:
            self.stop(f"contact lost: no foot on the ground for {self._lifted / self._hz:.2f} s")
        elif config.free_fall_s > 0 and self._falling > config.free_fall_s * self._hz:
            self.stop(f"contact lost: the base falls freely for {self._falling / self._hz:.2f} s")
        else:
            fast = np.abs(inputs.joint_vel) > self._max_speed
            if fast.any():
                joint = int(np.flatnonzero(fast)[0])
                self.stop(f"joint {self._names[joint]} moves at {inputs.joint_vel[joint]:.1f} rad/s")

    def _count_contact(self, inputs: SafetyInputs) -> None:
        """Count the ticks without contact; a reading that is missing says nothing, one that is not finite says fall."""
        feet, acceleration = inputs.feet_in_contact, inputs.base_acceleration
        self._lifted = 0 if feet is None or any(feet) else self._lifted + 1
        rests = acceleration is None or acceleration >= self.config.free_fall_share * GRAVITY
        self._falling = 0 if rests else self._falling + 1

    def _measured_fault(self, inputs: SafetyInputs) -> str | None:
        for name, values in (("position", inputs.joint_pos), ("speed", inputs.joint_vel)):
            fault = self._fault(f"measured joint {name}", values)
            if fault is not None:
                return fault
        return None

    def _target_fault(self, inputs: SafetyInputs) -> str | None:
        return None if inputs.target is None else self._fault("target", inputs.target)

    def _fault(self, what: str, values: np.ndarray) -> str | None:
        """Return what is wrong with one value per joint, None where nothing is."""
        shape = np.shape(values)
        if shape != self._lower.shape:
            return f"{what} has shape {shape}, expected {self._lower.shape}"
        bad = np.flatnonzero(~np.isfinite(values))
        return f"{what} of joint {self._names[int(bad[0])]} is not finite" if len(bad) else None

    def _limit(self, target: np.ndarray, measured: np.ndarray, start: np.ndarray, events: list[str]) -> np.ndarray:
        near = np.clip(target, measured - self._max_error, measured + self._max_error)
        slow = np.clip(near, start - self._max_step, start + self._max_step)
        inside = np.clip(slow, self._lower, self._upper)
        change = self._max_change * (1 + _ROUNDING)
        least = np.maximum(self._step - change, -_braking(start - self._lower, change))
        most = np.minimum(self._step + change, _braking(self._upper - start, change))
        smooth = np.clip(np.clip(inside, start + least, start + most), self._lower, self._upper)
        for name, before, after in (
            ("far from the measured position", target, near),
            ("slew", near, slow),
            ("joint limit", slow, inside),
            ("acceleration", inside, smooth),
        ):
            changed = np.flatnonzero(before != after)
            if len(changed):
                events.append(f"{name}: {', '.join(self._names[i] for i in changed)}")
        return smooth


def _braking(distance: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Return the largest step per tick (J,) from which a target can stop within a distance (J,).

    The steps shrink by at most `change` a tick. v, v - c, v - 2c, ... sum to (m + 1) v - c m (m + 1) / 2 with
    m = floor(v / c), which is the distance for the v returned.
    """
    with np.errstate(over="ignore"):
        ratio = np.minimum(distance / change, 1e15)
    m = np.floor((np.sqrt(1 + 8 * ratio) - 1) / 2)
    return (distance + change * m * (m + 1) / 2) / (m + 1)
