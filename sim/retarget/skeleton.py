"""A person known by joint positions alone: made into a HumanMotion, gaps and outliers repaired, put on the floor."""

from __future__ import annotations

import numpy as np
from scipy.signal import medfilt

from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion

MAX_FRAMES = 200_000
"""Most frames of a skeleton file that are read."""


def human_from_joints(
    names: tuple[str, ...], positions: np.ndarray, times_s: np.ndarray, body_model: str
) -> HumanMotion:
    """Return a HumanMotion of joint positions alone, without contacts or orientations.

    Args:
        names: Names of the joints (J).
        positions: Joint positions (T, J, 3), Z up, m.
        times_s: Times of the frames (T,), s.
        body_model: What the skeleton is called.

    Raises:
        InputError: There are too few or too many frames, or a position is not finite.
    """
    frames, joints = positions.shape[:2]
    if not 2 <= frames <= MAX_FRAMES:
        raise InputError(f"{body_model} motion: has {frames} frames, expected 2 to {MAX_FRAMES}")
    return HumanMotion(
        times_ns=np.round(times_s * 1e9).astype(np.int64),
        joint_names=names,
        joint_pos=np.asarray(positions, dtype=np.float64),
        joint_quat=np.tile([1.0, 0.0, 0.0, 0.0], (frames, joints, 1)),
        contact_names=(),
        contact=np.zeros((frames, 0)),
        contact_pos=np.zeros((frames, 0, 3)),
        body_model=body_model,
        shape_names=(),
        shape=np.zeros(0),
        pose=np.zeros((frames, 0, 4)),
        root_pos=np.asarray(positions[:, 0], dtype=np.float64),
    )


def without_outliers(positions: np.ndarray, window: int) -> np.ndarray:
    """Return positions (T, J, 3) through a median filter over time: single frames that jump are replaced.

    Args:
        positions: Joint positions (T, J, 3), m.
        window: Frames of the median, odd.
    """
    flat = positions.reshape(len(positions), -1)
    # The ends repeat their values: zeros, as the filter would pad with, are far away.
    half = window // 2
    padded = np.concatenate([np.repeat(flat[:1], half, 0), flat, np.repeat(flat[-1:], half, 0)])
    return medfilt(padded, (window, 1))[half : half + len(flat)].reshape(positions.shape)
