"""Small recordings that the tests write."""

from pathlib import Path

import numpy as np

from bodydouble.frames import make_se3, quat_from_rotvec, quat_to_matrix
from bodydouble.recording import RecordingWriter

WIDTH, HEIGHT = 16, 12
K = np.array([[20.0, 0.0, 7.5], [0.0, 21.0, 5.5], [0.0, 0.0, 1.0]])
PERIOD_NS = 33_333_333


def depth_mm(i: int) -> np.ndarray:
    """A uint16 depth image that differs from frame to frame and holds zeros."""
    values = np.random.default_rng(i).integers(500, 5000, (HEIGHT, WIDTH)).astype(np.uint16)
    values[0, i % WIDTH] = 0
    return values


def color(i: int) -> np.ndarray:
    """A smooth uint8 image, which JPEG keeps nearly as it is."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([x * 8, y * 10, np.full_like(x, 40 + i)], axis=-1).astype(np.uint8)


def pose(i: int) -> np.ndarray:
    return make_se3(quat_to_matrix(quat_from_rotvec(np.array([0.1, 0.05 * i, -0.3]))), np.array([0.1 * i, 1.0, -0.5]))


def write_rgbd(path: Path, count: int = 6, cameras: tuple[str, ...] = ("cam0",), **leave_out: bool) -> Path:
    """Write a recording; `info=False`, `color=False`, `depth=False`, `poses=False` leave that part out."""
    with RecordingWriter(path) as writer:
        for i in range(count):
            for camera in cameras:
                t_ns = 1_000_000_000 + i * PERIOD_NS
                if i == 0 and leave_out.get("info", True):
                    writer.write_camera_info(camera, K, WIDTH, HEIGHT, t_ns)
                if leave_out.get("color", True):
                    writer.write_color(camera, color(i), t_ns)
                if leave_out.get("depth", True):
                    writer.write_depth(camera, depth_mm(i), t_ns)
                if leave_out.get("poses", True):
                    writer.write_pose(camera, pose(i), t_ns)
        writer.write_metadata("provenance", {"seed": "7"})
    return path
