"""The one observation builder: named terms to one float32 vector, for training, the gate and the robot.

Written once over the array API: numpy on the robot and in the gate, torch tensors (CPU or GPU) in training.
Shapes: N environments (1 on a robot), J joints, H reference offsets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bodydouble.arrays import array_namespace
from bodydouble.errors import ContractError
from bodydouble.frames import heading_rotate_inv, quat_conj, quat_mul, quat_to_matrix

Array = Any


@dataclass(frozen=True)
class ObservationTerm:
    """One named part of the observation vector."""

    name: str
    """Name of the term; it selects the computation."""
    size: int
    """Number of values in one frame."""
    scale: float
    """Factor applied to the values."""
    clip: float
    """Bound on the absolute value after scaling."""
    history: int
    """Number of frames kept, the oldest first; 1 is the present alone."""
    frame: str
    """Coordinate frame of the values: base, heading, joint, none."""


@dataclass(frozen=True)
class ObservationSpec:
    """The ordered terms of an observation."""

    terms: tuple[ObservationTerm, ...]
    """The terms, in the order of the vector."""

    @property
    def frame_size(self) -> int:
        """Number of values of one frame, without history."""
        return sum(term.size for term in self.terms)

    @property
    def size(self) -> int:
        """Number of values of the whole observation, history included."""
        return sum(term.size * term.history for term in self.terms)

    @property
    def layout(self) -> tuple[tuple[int, int], ...]:
        """Size and history of each term, in order."""
        return tuple((term.size, term.history) for term in self.terms)

    def with_history(self, frames: int) -> ObservationSpec:
        """Return the same terms with so many frames of all that is sensed or done; a command is the present one."""
        return ObservationSpec(
            tuple(term if term.name == "command" else replace(term, history=frames) for term in self.terms)
        )


@dataclass(frozen=True)
class RobotState:
    """What is known of the robot now; float32 arrays."""

    root_pos: Array
    """Base position (N, 3), world, m (odometry)."""
    root_quat: Array
    """Base orientation (N, 4), wxyz (IMU)."""
    root_lin_vel: Array
    """Base linear velocity (N, 3), world, m/s; a robot may leave it zero, no policy term reads it."""
    root_ang_vel: Array
    """Base angular velocity (N, 3), base frame, rad/s (gyro)."""
    joint_pos: Array
    """Joint positions (N, J), rad."""
    joint_vel: Array
    """Joint velocities (N, J), rad/s."""


@dataclass(frozen=True)
class ReferenceWindow:
    """The reference motion at the offsets ahead of now; float32 arrays."""

    root_pos: Array
    """Base positions (N, H, 3), world, m."""
    root_quat: Array
    """Base orientations (N, H, 4), wxyz."""
    root_lin_vel: Array
    """Base linear velocities (N, H, 3), world, m/s."""
    root_ang_vel: Array
    """Base angular velocities (N, H, 3), base frame, rad/s."""
    joint_pos: Array
    """Joint positions (N, H, J), rad."""
    joint_vel: Array
    """Joint velocities (N, H, J), rad/s."""


TRACKING_OFFSETS = (1, 4, 10, 20)
"""Reference frames a tracking policy sees, in control steps ahead; the first is the one to reach in this step."""


def tracking_spec(num_joints: int, offsets: tuple[int, ...] = TRACKING_OFFSETS) -> ObservationSpec:
    """Return the observation of a motion-tracking policy.

    Args:
        num_joints: Number of actuated joints J.
        offsets: Reference offsets in control steps.
    """
    j, h = num_joints, len(offsets)
    return ObservationSpec(
        terms=(
            ObservationTerm("base_ang_vel", 3, 0.25, 10.0, 1, "base"),
            ObservationTerm("projected_gravity", 3, 1.0, 1.0, 1, "base"),
            ObservationTerm("joint_pos", j, 1.0, 10.0, 1, "joint"),
            ObservationTerm("joint_vel", j, 0.05, 10.0, 1, "joint"),
            ObservationTerm("last_action", j, 1.0, 20.0, 1, "none"),
            ObservationTerm("ref_joint_pos", h * j, 1.0, 10.0, 1, "joint"),
            ObservationTerm("ref_joint_vel", j, 0.05, 10.0, 1, "joint"),
            ObservationTerm("ref_root_pos", h * 3, 1.0, 1.0, 1, "heading"),
            ObservationTerm("ref_root_rot", h * 6, 1.0, 1.0, 1, "base"),
            ObservationTerm("ref_root_lin_vel", 3, 1.0, 5.0, 1, "heading"),
        )
    )


@dataclass(frozen=True)
class _Inputs:
    state: RobotState
    ref: Any
    last_action: Array
    default_joint_pos: Array
    command: Array


def _flat(array: Array) -> Array:
    return array_namespace(array).reshape(array, (array.shape[0], math.prod(array.shape[1:])))


def _projected_gravity(x: _Inputs) -> Array:
    # The third row of the base's rotation, negated: world "down" seen from the base.
    w, i, j, k = (x.state.root_quat[..., n] for n in range(4))
    down = [-2 * (i * k - w * j), -2 * (j * k + w * i), -(1 - 2 * (i * i + j * j))]
    return array_namespace(w).stack(down, axis=-1)


def _ref_root_pos(x: _Inputs) -> Array:
    ahead = x.ref.root_pos - x.state.root_pos[:, None, :]
    return _flat(heading_rotate_inv(x.state.root_quat[:, None, :], ahead))


def _ref_root_rot(x: _Inputs) -> Array:
    delta = quat_mul(quat_conj(x.state.root_quat)[:, None, :], x.ref.root_quat)
    return _flat(quat_to_matrix(delta)[..., :2])


TERM_FUNCTIONS: dict[str, Callable[[_Inputs], Array]] = {
    "base_ang_vel": lambda x: x.state.root_ang_vel,
    "projected_gravity": _projected_gravity,
    "joint_pos": lambda x: x.state.joint_pos - x.default_joint_pos,
    "joint_vel": lambda x: x.state.joint_vel,
    "last_action": lambda x: x.last_action,
    "command": lambda x: x.command,
    "ref_joint_pos": lambda x: _flat(x.ref.joint_pos - x.default_joint_pos),
    "ref_joint_vel": lambda x: x.ref.joint_vel[:, 0],
    "ref_root_pos": _ref_root_pos,
    "ref_root_rot": _ref_root_rot,
    "ref_root_lin_vel": lambda x: heading_rotate_inv(x.state.root_quat, x.ref.root_lin_vel[:, 0]),
}
"""Every known term: its name and how it is computed from state, reference, last action and command."""


class ObservationBuilder:
    """Builds observations of one spec."""

    def __init__(self, spec: ObservationSpec, default_joint_pos: Array) -> None:
        """Check the spec and keep the robot's default pose.

        Args:
            spec: The terms.
            default_joint_pos: Default joint positions (J,), rad, float32, on the arrays' device.

        Raises:
            ContractError: A term is unknown, or a size, history or clip is not positive.
        """
        for term in spec.terms:
            if term.name not in TERM_FUNCTIONS:
                raise ContractError(
                    f"observation term '{term.name}' is unknown; known terms: {', '.join(TERM_FUNCTIONS)}"
                )
            if term.size < 1 or term.history < 1 or not term.clip > 0:
                raise ContractError(f"observation term '{term.name}' needs size, history >= 1 and clip > 0: {term}")
        self.spec = spec
        self._default_joint_pos = default_joint_pos
        self._history = max((term.history for term in spec.terms), default=1)
        self._limits: dict[Any, tuple[Array, Array]] = {}

    def frame(
        self, state: RobotState, ref: ReferenceWindow | None, last_action: Array, command: Array | None = None
    ) -> Array:
        """Return one frame of the observation (N, frame_size), float32.

        Args:
            state: The robot's state.
            ref: The reference at the spec's offsets; None where no term reads it.
            last_action: The previous action (N, J), zero at the start.
            command: What the policy is told to do (N, C), in the order of its contract's `command_names`; None where
                no term reads it.

        Raises:
            ContractError: A term lacks what it reads, or its computed size is not the one in the spec.
        """
        xp = array_namespace(state.joint_pos)
        inputs = _Inputs(state, ref, last_action, self._default_joint_pos, command)
        parts = []
        for term in self.spec.terms:
            if (ref is None and term.name.startswith("ref_")) or (command is None and term.name == "command"):
                raise ContractError(f"observation term '{term.name}' reads a reference or command that was not given")
            value = TERM_FUNCTIONS[term.name](inputs)
            if value.shape[-1] != term.size:
                raise ContractError(
                    f"observation term '{term.name}' has {value.shape[-1]} values, the spec says {term.size}"
                )
            parts.append(value)
        scale, clip = self._scale_and_clip(xp, state.joint_pos)
        return xp.minimum(xp.maximum(xp.concat(parts, axis=-1) * scale, -clip), clip)

    def _scale_and_clip(self, xp: Any, like: Array) -> tuple[Array, Array]:
        """Return every value's scale and bound (frame_size,), of the kind and on the device of another array."""
        kind = (like.dtype, like.device)
        if kind not in self._limits:
            scale = [term.scale for term in self.spec.terms for _ in range(term.size)]
            clip = [term.clip for term in self.spec.terms for _ in range(term.size)]
            made = [xp.asarray(values, dtype=like.dtype, device=like.device) for values in (scale, clip)]
            self._limits[kind] = (made[0], made[1])
        return self._limits[kind]

    def start_history(self, frame: Array) -> Array:
        """Return a history (N, frames, frame_size) filled with the first frame (N, frame_size)."""
        return array_namespace(frame).stack([frame] * self._history, axis=1)

    def push(self, history: Array, frame: Array) -> tuple[Array, Array]:
        """Return the history with the frame appended, and the observation (N, size) read from it.

        Args:
            history: Past frames (N, frames, frame_size), oldest first.
            frame: The present frame (N, frame_size).
        """
        xp = array_namespace(frame)
        if self._history == 1:
            return frame[:, None], frame
        history = xp.concat([history[:, 1:], frame[:, None]], axis=1)
        parts, start = [], 0
        for term in self.spec.terms:
            window = history[:, self._history - term.history :, start : start + term.size]
            parts.append(_flat(window))
            start += term.size
        return history, xp.concat(parts, axis=-1)


def to_float32(array: np.ndarray) -> np.ndarray:
    """Return a contiguous float32 copy of a float64 array: the stated cast at the edge of learning code."""
    return np.ascontiguousarray(array, dtype=np.float32)
