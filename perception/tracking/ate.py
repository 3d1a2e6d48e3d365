"""Absolute trajectory error: how far tracked camera positions are from true ones."""

from __future__ import annotations

import numpy as np

from bodydouble.errors import InputError


def absolute_trajectory_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the RMSE of the positions after rigid alignment without scale, m (Sturm et al. 2012; Umeyama 1991).

    Args:
        found: Tracked poses (F, 4, 4); frames that are NaN are left out.
        truth: True poses (F, 4, 4).

    Raises:
        InputError: The shapes differ, or fewer than three frames were tracked.
    """
    if found.shape != truth.shape or found.shape[1:] != (4, 4):
        raise InputError(f"trajectories have shapes {found.shape} and {truth.shape}, expected (F, 4, 4) twice")
    tracked = np.isfinite(found).all(axis=(1, 2)) & np.isfinite(truth).all(axis=(1, 2))
    if tracked.sum() < 3:
        raise InputError(f"{tracked.sum()} frames have poses in both trajectories, expected at least 3")
    a, b = found[tracked, :3, 3], truth[tracked, :3, 3]
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    u, _, vt = np.linalg.svd(b.T @ a)
    rotation = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    return float(np.sqrt(np.mean(np.sum((a @ rotation.T - b) ** 2, axis=1))))
