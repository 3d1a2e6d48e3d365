"""The names of a Recording's topics and frames."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bodydouble.errors import InputError

WORLD_FRAME = "world"
_CAMERA = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class CameraTopics:
    """Where one camera's messages are."""

    color: str
    """Colour images: sensor_msgs CompressedImage (JPEG, PNG) or Image (rgb8, bgr8, rgba8, bgra8, mono8)."""
    depth: str
    """Depth images, registered to the colour images: Image (16UC1 mm, 32FC1 m) or CompressedImage (16-bit PNG)."""
    info: str
    """sensor_msgs CameraInfo of the depth images."""


def camera_topics(camera: str) -> CameraTopics:
    """Return the topics of a camera in bodydouble's own recordings.

    Raises:
        InputError: The name is not made of letters, digits and underscores, starting with a letter.
    """
    _check_camera(camera)
    return CameraTopics(f"/{camera}/color/image/compressed", f"/{camera}/depth/image", f"/{camera}/depth/camera_info")


def optical_frame(camera: str) -> str:
    """Return the name of a camera's frame: x right, y down, z forward."""
    _check_camera(camera)
    return f"{camera}_optical"


def find_cameras(topics: list[str]) -> dict[str, CameraTopics]:
    """Return the cameras, by name in alphabetical order, that have at least one topic of the standard names."""
    found = {}
    for topic in sorted(topics):
        match = re.fullmatch(r"/([A-Za-z][A-Za-z0-9_]*)/(color/image/compressed|depth/image|depth/camera_info)", topic)
        if match:
            found[match[1]] = camera_topics(match[1])
    return found


def _check_camera(camera: str) -> None:
    if not _CAMERA.fullmatch(camera):
        raise InputError(f"camera name {camera!r}: expected letters, digits and underscores, a letter first")
