"""Views: what the reconstruction keeps of a recording's cameras in memory, depth as uint16 millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from bodydouble.errors import InputError
from bodydouble.recording.reader import RecordingReader
from perception.imu import Accelerations, read_accelerations
from perception.spool import FrameSpool

MAX_FRAMES = 6000
"""Most frames that are held; a longer recording is thinned out."""


@dataclass(frozen=True)
class View:
    """One camera's frames. F frames of H x W pixels."""

    name: str
    """Name of the camera."""
    K: np.ndarray
    """Intrinsics (3, 3), pixels."""
    times_ns: np.ndarray
    """Times of the frames (F,), int64, ns."""
    T_world_camera: np.ndarray
    """Camera poses (F, 4, 4); NaN where the recording has none."""
    depth_mm: np.ndarray | FrameSpool
    """Depth (F, H, W), uint16, mm; 0 is no reading."""
    color: list[np.ndarray | None]
    """Colour (H, W, 3), uint8, of the frames that the scene is built from; None elsewhere."""
    gray: np.ndarray | FrameSpool | None = None
    """Brightness of every second pixel (F, H/2, W/2), uint8, 0 without colour; None where poses were asked."""
    imu: Accelerations | None = None
    """Accelerations of the camera, where it has an IMU; None where poses were asked."""

    @property
    def has_poses(self) -> bool:
        """Whether every frame has a pose."""
        return bool(np.isfinite(self.T_world_camera).all())

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.depth_mm.shape[2], self.depth_mm.shape[1]


def load_views(recording: Path, color_stride_s: float, *, require_poses: bool = True) -> list[View]:
    """Read the frames of every camera; the depth is kept on disk.

    Args:
        recording: The recording (.mcap).
        color_stride_s: Time between frames whose colour is kept, s.
        require_poses: Refuse cameras without poses and leave out frames without one. Otherwise all frames are kept,
            with a pose of NaN where there is none, and the brightness that camera tracking needs.

    Raises:
        RecordingError: The recording is damaged, or a camera lacks images or intrinsics.
        InputError: A camera has no poses, or no depth reading at all.
    """
    with RecordingReader(recording) as reader:
        # Says by name and topic what is missing: a camera_info, depth images, poses.
        reader.check_rgbd(require_poses=require_poses)
        total = sum(reader.frame_count(camera) for camera in reader.cameras)
        every = 1 + total // MAX_FRAMES
        return [_load(reader, recording, camera, every, color_stride_s, require_poses) for camera in reader.cameras]


def _load(
    reader: RecordingReader, recording: Path, camera: str, every: int, color_stride_s: float, require_poses: bool
) -> View:
    times, poses, colors = [], [], []
    info = reader.camera_info(camera)
    depths = FrameSpool((info.height, info.width), np.uint16)
    gray = None if require_poses else FrameSpool(((info.height + 1) // 2, (info.width + 1) // 2), np.uint8)
    any_reading = False
    K: np.ndarray | None = None
    kept_ns = -(10**18)
    frames = reader.frames(camera, every=every)
    count = reader.frame_count(camera) // every
    for frame in track(frames, f"reading {camera}", total=count, console=Console(stderr=True)):
        if frame.T_world_camera is None and require_poses:
            continue
        keep = frame.color is not None and frame.t_ns - kept_ns >= color_stride_s * 1e9 - 1
        kept_ns = frame.t_ns if keep else kept_ns
        K = frame.K
        times.append(frame.t_ns)
        poses.append(np.full((4, 4), np.nan) if frame.T_world_camera is None else frame.T_world_camera)
        depths.append(np.round(np.clip(frame.depth, 0, 65.0) * 1000).astype(np.uint16))
        any_reading = any_reading or bool(frame.depth.any())
        if gray is not None:
            gray.append(_brightness(frame.color, frame.depth.shape))
        colors.append(frame.color if keep else None)
    if K is None:
        raise InputError(f"{recording}: camera {camera} has no frame with a pose; record camera poses on /tf")
    if not any_reading:
        raise InputError(f"{recording}: camera {camera} has no depth reading in any image; check the depth stream")
    imu = None if require_poses else read_accelerations(reader, camera)
    return View(camera, np.asarray(K), np.array(times), np.array(poses), depths, colors, gray, imu)


def _brightness(color: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return every second pixel's mean over the channels; zeros without colour that fits the depth's pixels."""
    if color is None or color.shape[:2] != shape:
        return np.zeros(((shape[0] + 1) // 2, (shape[1] + 1) // 2), np.uint8)
    return (color[::2, ::2].sum(axis=2, dtype=np.uint16) // 3).astype(np.uint8)


def unproject(depth_m: np.ndarray, K: np.ndarray, stride: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the points (N, 3) of a depth image in the camera's frame, m, and their pixels (N, 2) as (row, column).

    Args:
        depth_m: Depth (H, W), m; 0 is no reading.
        K: Intrinsics (3, 3).
        stride: Every stride-th row and column is taken.
    """
    small = depth_m[::stride, ::stride]
    rows, columns = np.nonzero(small)
    z = small[rows, columns].astype(np.float64)
    rows, columns = rows * stride, columns * stride
    x = (columns - K[0, 2]) * z / K[0, 0]
    y = (rows - K[1, 2]) * z / K[1, 1]
    return np.stack([x, y, z], axis=1), np.stack([rows, columns], axis=1)


def depth_margin(z: np.ndarray, base_m: float, growth: float = 0.008) -> np.ndarray:
    """Return the depth difference that counts, m: a base, growing with z squared as the cameras' noise does."""
    return base_m + growth * z**2
