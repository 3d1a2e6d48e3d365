"""Turning a source's world so that its up direction becomes +Z, bodydouble's convention."""

from __future__ import annotations

import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import make_se3


def up_to_z(up: tuple[float, float, float]) -> np.ndarray:
    """Return the rotation T_world_source (4, 4) of least angle that takes the direction `up` to +Z.

    Raises:
        InputError: The direction has no length.
    """
    vector = np.asarray(up, np.float64)
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(vector).all() or norm < 1e-9:
        raise InputError(f"up direction {up}: expected three finite numbers that are not all zero")
    u = vector / norm
    if u[2] < -1.0 + 1e-12:
        return make_se3(np.diag([1.0, -1.0, -1.0]), np.zeros(3))
    axis = np.cross(u, [0.0, 0.0, 1.0])  # Rodrigues with cos = u_z
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return make_se3(np.eye(3) + cross + cross @ cross / (1.0 + u[2]), np.zeros(3))
