"""UTD-MHAD's Kinect v1 files: segmented depth of one person, and the skeleton that the Kinect estimated.

Chen, Jafari and Kehtarnavaz 2015, UTD-MHAD: A multimodal dataset for human action recognition. The Kinect for Windows
SDK gives depth images as in a mirror: columns grow to the sensor's left, as x does in its skeleton space (x left,
y up, z forward; Microsoft, Coordinate Spaces, hh973078). Here the images are turned round, so that left is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io

from bodydouble.errors import InputError
from bodydouble.frames import se3_apply
from perception.segmented_person import SegmentedDepth

FPS = 30.0
"""Rate of the images, Hz; the files hold no times."""
FOCAL_PX = 285.63
"""The SDK's nominal focal length for 320 x 240 depth, pixels; the files hold no intrinsics."""
KINECT_JOINTS = (
    "head", "shoulder_center", "spine", "hip_center", "left_shoulder", "left_elbow", "left_wrist", "left_hand",
    "right_shoulder", "right_elbow", "right_wrist", "right_hand", "left_hip", "left_knee", "left_ankle", "left_foot",
    "right_hip", "right_knee", "right_ankle", "right_foot",
)  # fmt: skip
"""The skeleton's joints in the files' order."""
BODY_JOINTS: dict[str, tuple[str, ...]] = {
    f"{side}_{part}": (f"{side}_{part}",)
    for side in ("left", "right")
    for part in ("shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle")
} | {
    # The Kinect's head is its middle: halfway from the skull's base to the crown.
    "head": ("head", "head_top"),
    "shoulder_center": ("neck",),
    "spine": ("spine2",),
    "hip_center": ("pelvis",),
    "left_foot": ("left_ball",),
    "right_foot": ("right_ball",),
}
"""The body's joints, of the body's JOINT_NAMES, whose middle corresponds to each of the Kinect's."""


@dataclass(frozen=True)
class KinectClip:
    """One recorded sequence."""

    name: str
    """Action, subject and trial, as in a24_s1_t1."""
    depth: SegmentedDepth
    """What the camera saw."""
    skeleton: np.ndarray
    """The Kinect's own estimate of the joints (T, 20, 3), world, m, in KINECT_JOINTS' order."""


def clip_names(folder: Path) -> list[str]:
    """Return the names of the sequences that a folder holds, sorted.

    Raises:
        InputError: It holds none.
    """
    names = sorted(path.name.removesuffix("_depth.mat") for path in (folder / "Depth").glob("*_depth.mat"))
    if not names:
        raise InputError(f"{folder}: no Depth/*_depth.mat; expected the folder of UTD-MHAD")
    return names


def load_clip(folder: Path, name: str) -> KinectClip:
    """Read a sequence.

    Args:
        folder: Folder that holds Depth and Skeleton.
        name: Name of the sequence.

    Raises:
        InputError: A file is missing, or does not hold what it should.
    """
    images = np.moveaxis(_array(folder / "Depth" / f"{name}_depth.mat", "d_depth"), 2, 0)
    joints = np.moveaxis(_array(folder / "Skeleton" / f"{name}_skeleton.mat", "d_skel"), 2, 0).astype(np.float64)
    if images.dtype != np.uint16 or joints.shape != (len(images), len(KINECT_JOINTS), 3):
        raise InputError(
            f"{folder}/{name}: depth {images.shape} of {images.dtype} and skeleton {joints.shape}, expected"
            f" uint16 millimetres and (T, {len(KINECT_JOINTS)}, 3)"
        )
    count, height, width = images.shape
    # Of mirrored columns the middle is the middle: the nominal centre lies half a pixel right of it.
    K = np.array([[FOCAL_PX, 0.0, width - 1 - 0.5 * width], [0.0, FOCAL_PX, 0.5 * height], [0.0, 0.0, 1.0]])
    depth = SegmentedDepth(
        times_ns=np.round(np.arange(count) * 1e9 / FPS).astype(np.int64),
        depth_mm=np.ascontiguousarray(images[:, :, ::-1]),
        K=K,
    )
    # x left, y up, z forward to the camera's x right, y down, z forward.
    return KinectClip(name, depth, se3_apply(depth.T_world_camera, joints * [-1.0, -1.0, 1.0]))


def _array(path: Path, key: str) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected one sequence of UTD-MHAD")
    try:
        data = scipy.io.loadmat(path, variable_names=[key])
    except (ValueError, OSError, NotImplementedError) as error:
        raise InputError(f"{path}: cannot be read as a MATLAB file ({error})") from None
    if key not in data or np.ndim(data[key]) != 3:
        raise InputError(f"{path}: holds no three-dimensional array {key}; expected UTD-MHAD's")
    return data[key]
