"""MotionBank: many reference motions as one set of arrays on the simulation's device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bodydouble.errors import InputError
from bodydouble.motion import RobotMotion
from bodydouble.observation import ReferenceWindow
from sim.backend.protocol import SimBackend

Array = Any
_BINS_PER_SECOND = 1


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
        for name in (
            "root_pos", "root_quat", "root_lin_vel", "root_ang_vel", "joint_pos", "joint_vel", "body_pos", "body_quat",
        ):  # fmt: skip
            setattr(self, name, backend.asarray(np.concatenate([getattr(motion, name) for motion in motions])))
        self.contact = backend.asarray(np.concatenate([motion.contact for motion in motions]).astype(np.float32))
        clip_of_frame = np.repeat(np.arange(len(motions)), lengths)
        second = (np.arange(lengths.sum()) - starts[clip_of_frame]) * _BINS_PER_SECOND // round(control_hz)
        _, bins = np.unique(np.stack([clip_of_frame, second]), axis=1, return_inverse=True)
        self.num_bins = int(bins.max()) + 1
        self.bin_of_frame = backend.asarray(bins)
        self.clip_of_bin = backend.asarray(
            np.array([clip_of_frame[np.argmax(bins == b)] for b in range(self.num_bins)])
        )
        first_frames = np.array([np.argmax(bins == b) for b in range(self.num_bins)])
        self.bin_start = backend.asarray(first_frames - starts[clip_of_frame[first_frames]])
        self.bin_length = backend.asarray(np.bincount(bins))
        self._xp = backend.xp

    root_pos: Array
    root_quat: Array
    root_lin_vel: Array
    root_ang_vel: Array
    joint_pos: Array
    joint_vel: Array
    body_pos: Array
    body_quat: Array

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
        ahead = frame[:, None] + xp.where(still[:, None], xp.zeros_like(offsets)[None], offsets[None])
        last = self.length[clip] - 1
        moving = ((ahead < last[:, None]) & ~still[:, None])[..., None]
        place = self.start[clip][:, None] + xp.minimum(ahead, last[:, None])

        def velocity(values: Array) -> Array:
            taken = values[place]
            return xp.where(moving, taken, xp.zeros_like(taken))

        return ReferenceWindow(
            root_pos=self.root_pos[place],
            root_quat=self.root_quat[place],
            root_lin_vel=velocity(self.root_lin_vel),
            root_ang_vel=velocity(self.root_ang_vel),
            joint_pos=self.joint_pos[place],
            joint_vel=velocity(self.joint_vel),
        )
