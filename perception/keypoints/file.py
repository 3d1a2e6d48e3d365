"""The file of 2D keypoints of one camera: an .npz with five arrays.

- `camera`: name of the camera in the recording, text.
- `times_ns` (F,): stamps of the images as recorded, int64, ns, rising.
- `joint_names` (J,): names, text: the body's joints and points, or COCO's; COCO's face is allowed and not used.
- `pixels` (F, J, 2): column and row in the recording's images, float, pixel centres at integers.
- `confidence` (F, J): 0 (not seen) to 1, float.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bodydouble.errors import InputError
from perception.body.anny_body import JOINT_NAMES
from perception.importers.archive import Archive

COCO_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
"""COCO's keypoints that are no joint of the body; its other twelve have the body's own names."""
ARRAYS = ("camera", "times_ns", "joint_names", "pixels", "confidence")
"""What the file holds."""
_MAX_BYTES = 1 << 30
_MAX_JOINTS = 512


@dataclass(frozen=True, eq=False)
class Keypoints:
    """2D keypoints of one camera. F frames, J keypoints."""

    camera: str
    """Name of the camera in the recording."""
    times_ns: np.ndarray
    """Stamps of the images as recorded (F,), int64, rising."""
    joint_names: tuple[str, ...]
    """Names of the keypoints."""
    pixels: np.ndarray
    """Column and row (F, J, 2), pixels; any value where the confidence is 0."""
    confidence: np.ndarray
    """0 (not seen) to 1 (F, J)."""

    def __post_init__(self) -> None:
        """Check the arrays.

        Raises:
            InputError: Shapes, values or names that do not fit.
        """
        where = f"keypoints of {self.camera!r}"
        frames, joints = len(self.times_ns), len(self.joint_names)
        check_joint_names(self.joint_names, where)
        for name, shape in (("pixels", (frames, joints, 2)), ("confidence", (frames, joints))):
            array = getattr(self, name)
            if array.shape != shape or array.dtype.kind != "f":
                raise InputError(f"{where}: {name} is {array.dtype} {array.shape}, expected float {shape}")
        if self.times_ns.dtype != np.int64 or not frames or (np.diff(self.times_ns) <= 0).any():
            raise InputError(f"{where}: times_ns must be int64 nanoseconds that rise, one for each frame")
        if not ((self.confidence >= 0) & (self.confidence <= 1)).all():  # also false for NaN
            raise InputError(f"{where}: confidence lies outside 0 to 1; scale it")
        if not np.isfinite(self.pixels[self.confidence > 0]).all():
            raise InputError(f"{where}: a keypoint with confidence has no finite pixel; give it confidence 0")

    def body_joints(self) -> tuple[list[int], list[int]]:
        """Return which keypoints are joints of the body, and which of JOINT_NAMES they are."""
        own = [i for i, name in enumerate(self.joint_names) if name in JOINT_NAMES]
        return own, [JOINT_NAMES.index(self.joint_names[i]) for i in own]

    def save(self, path: Path) -> None:
        """Write the file."""
        with open(path, "wb") as file:
            np.savez_compressed(
                file,
                camera=np.array(self.camera),
                times_ns=self.times_ns,
                joint_names=np.array(self.joint_names),
                pixels=self.pixels.astype(np.float32),
                confidence=self.confidence.astype(np.float32),
            )


def check_joint_names(names: tuple[str, ...], where: str) -> None:
    """Refuse names that are neither joints of the body nor COCO's, or that are there twice.

    Raises:
        InputError: The first such name.
    """
    if not names or len(names) > _MAX_JOINTS:
        raise InputError(f"{where}: {len(names)} joint names, expected 1 to {_MAX_JOINTS}")
    for name in names:
        if name not in JOINT_NAMES and name not in COCO_FACE:
            known = ", ".join(JOINT_NAMES + COCO_FACE)
            raise InputError(f"{where}: joint {name[:40]!r} is not known; rename it or leave it out; known: {known}")
    if len(set(names)) != len(names):
        raise InputError(f"{where}: a joint's name is there twice; leave one out")
    if not set(names) & set(JOINT_NAMES):
        raise InputError(f"{where}: holds no joint of the body; known: {', '.join(JOINT_NAMES)}")


def load_keypoints(path: Path) -> Keypoints:
    """Read the file of one camera; nothing in it is unpickled.

    Raises:
        InputError: The file is missing, damaged or too large, or an array does not fit.
    """
    with Archive(path, "an .npz file of keypoints") as archive:
        arrays = {}
        for name in ARRAYS:
            entry = f"{name}.npy"
            if entry not in archive.names:
                raise InputError(f"{path}: holds no array {name!r}; expected {', '.join(ARRAYS)}")
            try:
                arrays[name] = np.load(io.BytesIO(archive.read(entry, _MAX_BYTES)), allow_pickle=False)
            except InputError:
                raise
            except Exception as error:  # a parser on foreign bytes: ValueError, EOFError, MemoryError, ...
                raise InputError(f"{path}: array {name!r} is damaged ({str(error)[:80]}); write it again") from None
    camera, names, times = arrays["camera"], arrays["joint_names"], arrays["times_ns"]
    if camera.shape != () or camera.dtype.kind != "U" or names.ndim != 1 or names.dtype.kind != "U":
        raise InputError(f"{path}: camera must be a text and joint_names texts (J,)")
    if times.ndim != 1:
        raise InputError(f"{path}: times_ns has shape {times.shape}, expected (F,)")
    try:
        return Keypoints(str(camera), times, tuple(str(name) for name in names), arrays["pixels"], arrays["confidence"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
