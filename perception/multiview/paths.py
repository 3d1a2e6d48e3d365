"""Paths of the person's joints as one camera saw them, and their values at any time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception.multiview.yaw import yaw_matrix

NEIGHBOURS = 12
"""Samples before and after a time that its value is made from."""


@dataclass(frozen=True)
class JointPath:
    """Joints over time. N samples, J joints."""

    times_s: np.ndarray
    """Times (N,), increasing, s on the camera's own clock."""
    joints: np.ndarray
    """Positions (N, J, 3), m, in the camera's own world."""
    scales: np.ndarray
    """Scales of their errors (N, J), m."""

    def moved(self, yaw: float, shift: np.ndarray) -> JointPath:
        """Return the path in another upright world."""
        return JointPath(self.times_s, self.joints @ yaw_matrix(yaw).T + shift, self.scales)

    def transformed(self, transform: np.ndarray) -> JointPath:
        """Return the path taken through a rigid transform (4, 4)."""
        return JointPath(self.times_s, self.joints @ transform[:3, :3].T + transform[:3, 3], self.scales)


def at_times(path: JointPath, times_s: np.ndarray, width_s: float) -> np.ndarray:
    """Return joints (T, J, 3) at times (T,), NaN where the path has a gap.

    A line is fitted around each time, samples weighted by a bell curve in time and by their certainty. So irregular
    and dropped frames shift nothing in time, which a plain mean would.

    Args:
        path: The path.
        times_s: The times (T,), s.
        width_s: Standard deviation of the bell curve, s.
    """
    count = len(path.times_s)
    middle = np.searchsorted(path.times_s, times_s)
    raw = middle[:, None] + np.arange(-NEIGHBOURS, NEIGHBOURS)
    there = (raw >= 0) & (raw < count)
    index = np.clip(raw, 0, count - 1)
    apart = path.times_s[index] - times_s[:, None]
    bell = np.where(there, np.exp(-0.5 * (apart / width_s) ** 2), 0.0)
    w = bell[..., None] / path.scales[index] ** 2
    y, dt = path.joints[index], apart[..., None]
    s0, s1, s2 = w.sum(axis=1), (w * dt).sum(axis=1), (w * dt**2).sum(axis=1)
    y0, y1 = (w[..., None] * y).sum(axis=1), ((w * dt)[..., None] * y).sum(axis=1)
    det = s0 * s2 - s1**2
    before = np.where(there & (apart <= 0), -apart, np.inf).min(axis=1)
    after = np.where(there & (apart >= 0), apart, np.inf).min(axis=1)
    known = (np.maximum(before, after) <= 2.5 * width_s)[:, None] & (det > 1e-9 * s0 * np.maximum(s2, 1e-12))
    safe = np.where(known, det, 1.0)[..., None]
    value = (s2[..., None] * y0 - s1[..., None] * y1) / safe
    return np.where(known[..., None], value, np.nan)
