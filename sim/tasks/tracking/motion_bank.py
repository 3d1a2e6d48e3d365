"""MotionBank: many reference motions as one set of arrays on the simulation's device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bodydouble.errors import InputError
from bodydouble.motion import RobotMotion
from bodydouble.observation import ReferenceWindow
from sim.backend.protocol import SimBackend

Array = Any
_BINS_PER_SECOND = 1
_VELOCITIES = ("root_lin_vel", "root_ang_vel", "joint_vel")
_POSE = ("root_pos", "root_quat", "joint_pos")
_BODIES = ("body_pos", "body_quat", "contact")
_GROUPS = (_POSE, _VELOCITIES, _BODIES)


@dataclass(frozen=True)
class BodyReference:
    """The reference of the tracked bodies. N environments, K bodies, C feet."""

    body_pos: Array
    """Positions (N, K, 3), world, m."""
    body_quat: Array
    """Orientations (N, K, 4), wxyz."""
    contact: Array
    """Whether each foot should stand (N, C), 0 or 1."""


class MotionBank:
    """Reference motions end to end. M clips, F frames in all, K tracked bodies.

    Frames beyond a clip's end repeat its last frame, whose velocities count as zero: the robot stands there.
    """

    def __init__(self, motions: Sequence[RobotMotion], backend: SimBackend, control_hz: float) -> None:
        """Concatenate the motions.

        Raises:
            InputError: There is no motion, or the motions differ in rate, joints, bodies or contacts.
        """
        if not motions:
            raise InputError("the tracking task needs at least one reference motion")
        first = motions[0]
        for index, motion in enumerate(motions):
            if abs(motion.fps - control_hz) > 1e-6:
                raise InputError(
                    f"reference {index} is sampled at {motion.fps} Hz, the control rate is {control_hz} Hz"
                )
            for name in ("joint_names", "body_names", "contact_names"):
                if getattr(motion, name) != getattr(first, name):
                    raise InputError(f"reference {index} has other {name} than reference 0")
        self.joint_names, self.body_names = first.joint_names, first.body_names
        self.contact_names = first.contact_names
        lengths = np.array([motion.num_frames for motion in motions])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        self.num_clips = len(motions)
        self.start, self.length = backend.asarray(starts), backend.asarray(lengths)
        ends = np.cumsum(lengths) - 1
        arrays = {
            name: np.concatenate([getattr(motion, name) for motion in motions]) for group in _GROUPS for name in group
        }
        for name in _VELOCITIES:
            arrays[name][ends] = 0.0
        self._tables = {group: _Table(backend, {name: arrays[name] for name in group}) for group in _GROUPS}
        clip_of_frame = np.repeat(np.arange(len(motions)), lengths)
        second = (np.arange(lengths.sum()) - starts[clip_of_frame]) * _BINS_PER_SECOND // round(control_hz)
        # A new bin wherever clip or second change; frames are in order.
        fresh = np.concatenate([[True], (np.diff(clip_of_frame) != 0) | (np.diff(second) != 0)])
        bins, first_frames = np.cumsum(fresh) - 1, np.flatnonzero(fresh)
        self.num_bins = len(first_frames)
        self.bin_of_frame = backend.asarray(bins)
        self.clip_of_bin = backend.asarray(clip_of_frame[first_frames])
        self.bin_start = backend.asarray(first_frames - starts[clip_of_frame[first_frames]])
        self.bin_length = backend.asarray(np.bincount(bins))
        self._xp = backend.xp

    def index(self, clip: Array, frame: Array) -> Array:
        """Return the places (N,) in the bank of frames (N,) of clips (N,), held at the clips' ends."""
        last = self.length[clip] - 1
        return self.start[clip] + self._xp.minimum(frame, last)

    def window(self, clip: Array, frame: Array, offsets: Array, still: Array) -> ReferenceWindow:
        """Return the reference at the offsets ahead of the frames.

        Args:
            clip: Clips (N,).
            frame: Present frames (N,).
            offsets: Offsets in frames (H,).
            still: Whether the reference stands still at the present frame (N,), bool.
        """
        xp = self._xp
        last = self.length[clip] - 1
        ahead = frame[:, None] + xp.where(still[:, None], xp.zeros_like(offsets)[None], offsets[None])
        place = self.start[clip][:, None] + xp.minimum(ahead, last[:, None])
        velocities = {
            name: xp.where(still[:, None, None], xp.zeros_like(values), values)
            for name, values in self._tables[_VELOCITIES].rows(place).items()
        }
        return ReferenceWindow(**self._tables[_POSE].rows(place), **velocities)

    def bodies(self, place: Array) -> BodyReference:
        """Return the reference of the tracked bodies and contacts at places (N,) in the bank."""
        return BodyReference(**self._tables[_BODIES].rows(place))


class _Table:
    """Arrays of F frames side by side in one (F, W), so that a frame's values are found at once."""

    def __init__(self, backend: SimBackend, arrays: dict[str, np.ndarray]) -> None:
        self._xp = backend.xp
        widths = [math.prod(array.shape[1:]) for array in arrays.values()]
        ends = np.cumsum(widths)
        self._parts = {
            name: (slice(int(end) - width, int(end)), array.shape[1:])
            for (name, array), width, end in zip(arrays.items(), widths, ends, strict=True)
        }
        self._values = backend.asarray(np.concatenate([a.reshape(len(a), -1) for a in arrays.values()], axis=1))

    def rows(self, place: Array) -> dict[str, Array]:
        """Return the values (..., *shape) by name at places (...)."""
        xp, shape = self._xp, tuple(place.shape)
        taken = xp.reshape(xp.take(self._values, xp.reshape(place, (-1,)), axis=0), (*shape, -1))
        return {name: xp.reshape(taken[..., part], (*shape, *form)) for name, (part, form) in self._parts.items()}
