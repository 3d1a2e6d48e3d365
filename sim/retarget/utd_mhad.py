"""Reads UTD-MHAD skeletons: 20 joints that a Kinect estimated, camera space with y up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io

from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion
from sim.retarget.skeleton import human_from_joints, without_outliers

KINECT_FPS = 30.0
"""Frames per second of the sensor; the files hold no times."""
MAX_FILE_BYTES = 64 << 20
"""Largest file that is read."""
KINECT_JOINTS = (
    *("head", "neck", "spine", "hip_center"),
    *(f"left_{joint}" for joint in ("shoulder", "elbow", "wrist", "hand")),
    *(f"right_{joint}" for joint in ("shoulder", "elbow", "wrist", "hand")),
    *(f"left_{joint}" for joint in ("hip", "knee", "ankle", "toe")),
    *(f"right_{joint}" for joint in ("hip", "knee", "ankle", "toe")),
)
"""The 20 joints in the file's order."""
_MEDIAN_FRAMES = 5


def load_utd_mhad(path: Path, *, source_fps: float | None = None) -> HumanMotion:
    """Return a skeleton file's motion: Z up, the lower foot at height zero, jumps of single frames removed.

    Args:
        path: The mat file with d_skel (20, 3, T).
        source_fps: Frames per second; none takes 30.

    Raises:
        InputError: The file is no such file.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes, the limit is {MAX_FILE_BYTES}")
    try:
        data = scipy.io.loadmat(path, variable_names=["d_skel"])
    except Exception as error:  # scipy raises many kinds on damaged files
        raise InputError(f"{path}: cannot be read as mat ({error})") from None
    skeleton = data.get("d_skel")
    if skeleton is None or skeleton.ndim != 3 or skeleton.shape[:2] != (20, 3) or skeleton.shape[2] < 2:
        raise InputError(f"{path}: holds no skeleton d_skel (20, 3, T)")
    if not np.isfinite(skeleton).all():
        raise InputError(f"{path}: holds NaN or infinity; the motion must be finite")
    x, y, z = np.moveaxis(skeleton.astype(np.float64), 1, 0)
    # The sensor's pictures are mirrored: with left and right as named, x points to the person's right and z is up.
    positions = np.stack([-z, -x, y], axis=-1).transpose(1, 0, 2)
    positions = without_outliers(positions, _MEDIAN_FRAMES)
    toes = [KINECT_JOINTS.index(f"{side}_toe") for side in ("left", "right")]
    # All actions are in place, on one foot at least: the median of the lower toe is the floor.
    positions[..., 2] -= np.median(positions[:, toes, 2].min(axis=1))
    positions[..., :2] -= positions[0, KINECT_JOINTS.index("hip_center"), :2]
    return human_from_joints(KINECT_JOINTS, positions, np.arange(len(positions)) / (source_fps or KINECT_FPS), "kinect")
