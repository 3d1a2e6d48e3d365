"""Camera poses of other conventions -> T_world_camera with OpenCV camera axes (x right, y down, z forward)."""

from __future__ import annotations

import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import se3_inverse

CONVENTIONS = {
    "c2w-opencv": "camera-to-world, camera x right, y down, z forward",
    "c2w-opengl": "camera-to-world, camera x right, y up, z backward (ARKit, Blender, NeRF)",
    "w2c-opencv": "world-to-camera, camera x right, y down, z forward (COLMAP)",
    "w2c-opengl": "world-to-camera, camera x right, y up, z backward",
}
"""What the matrices of a source may mean."""
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""Between OpenCV and OpenGL camera axes; its own inverse."""


def to_world_camera(pose: np.ndarray, convention: str) -> np.ndarray:
    """Return T_world_camera (4, 4) of a rigid pose (4, 4) of one of CONVENTIONS.

    Raises:
        InputError: The convention is not known.
    """
    if convention not in CONVENTIONS:
        raise InputError(f"pose convention {convention!r}: expected one of {', '.join(CONVENTIONS)}")
    out = pose if convention.startswith("c2w") else se3_inverse(pose)
    return out @ FLIP if convention.endswith("opengl") else out
