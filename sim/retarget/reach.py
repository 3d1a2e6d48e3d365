"""Lowers the pelvis where a standing leg would otherwise have to be longer than it is."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import minimum_filter1d, uniform_filter1d

from bodydouble.frames import quat_rotate
from sim.retarget.footsteps import FootPlan
from sim.retarget.targets import BodyTargets, Proportions

_STRETCH = 0.985
"""Share of the leg's length that is used: a straight knee moves infinitely fast to shorten the leg."""
_WINDOW_S = 0.12


def reachable_pelvis(targets: BodyTargets, feet: FootPlan, robot: Proportions, fps: float) -> np.ndarray:
    """Return pelvis positions (T, 3) lowered until both feet of the plan are within reach.

    Args:
        targets: Targets at T frames.
        feet: Foot plan at T frames.
        robot: The robot's proportions.
        fps: Frames per second.
    """
    reach = _STRETCH * robot.leg_length
    lower = np.zeros(len(feet.yaw))
    for foot in range(2):
        offset = np.broadcast_to(robot.hip_joints[foot], targets.pelvis_pos.shape)
        hip = targets.pelvis_pos + quat_rotate(targets.pelvis_quat, offset)
        ankle = feet.position[:, foot] + [0.0, 0.0, robot.ankle_height]
        across = np.linalg.norm(hip[:, :2] - ankle[:, :2], axis=1)
        highest = ankle[:, 2] + np.sqrt(np.maximum(reach**2 - across**2, (0.3 * reach) ** 2))
        lower = np.maximum(lower, hip[:, 2] - highest)
    window = max(1, round(_WINDOW_S * fps))
    # The window's largest value, then its mean: smooth, and nowhere less than what is needed.
    smooth = -minimum_filter1d(-lower, 2 * window + 1, mode="nearest")
    for _ in range(3):
        smooth = uniform_filter1d(smooth, 2 * (window // 3) + 1, mode="nearest")
    out = targets.pelvis_pos.copy()
    out[:, 2] -= smooth
    return out
