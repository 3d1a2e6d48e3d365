"""Recordings and reconstructions in the rerun viewer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rerun as rr

from bodydouble.recording import RecordingReader
from perception.show import load_shown, triangles

TIMELINE = "time"
"""Name of the timeline: seconds since the first frame."""
BODY_HZ = 10.0
"""Rate at which the body is shown, Hz."""


def log_recording(recording: Path, every: int = 3) -> None:
    """Log each camera's images, intrinsics and poses.

    Args:
        recording: The recording (.mcap).
        every: Log every n-th frame.

    Raises:
        RecordingError: The recording is damaged or has no camera.
    """
    rr.log("/", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    with RecordingReader(recording) as reader:
        reader.check_rgbd()
        for name in reader.cameras:
            info = reader.camera_info(name)
            path = f"cameras/{name}"
            rr.log(path, rr.Pinhole(image_from_camera=info.K, resolution=[info.width, info.height]), static=True)
            for frame in reader.frames(name, every=every):
                rr.set_time(TIMELINE, duration=(frame.t_ns - reader.start_ns) * 1e-9)
                if frame.T_world_camera is not None:
                    _log_pose(path, frame.T_world_camera)
                if frame.color is not None:
                    rr.log(f"{path}/color", rr.Image(frame.color).compress(jpeg_quality=85))
                rr.log(f"{path}/depth", rr.DepthImage(frame.depth, meter=1.0))


def log_reconstruction(reconstruction: Path) -> None:
    """Log the scene, the cameras' paths and the body over time.

    Raises:
        InputError: A file is missing or damaged.
    """
    shown = load_shown(reconstruction)
    rr.log("/", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    colors = (255 * np.clip(shown.scene.color, 0, 1)).astype(np.uint8)
    rr.log(
        "scene",
        rr.Mesh3D(vertex_positions=shown.scene.vertices, triangle_indices=shown.scene.triangles, vertex_colors=colors),
        static=True,
    )
    with np.load(reconstruction / "cameras.npz", allow_pickle=False) as data:
        for name in data["names"]:
            path = data[f"{name}_T_world_camera"][:, :3, 3]
            rr.log(f"cameras/{name}/path", rr.LineStrips3D([path]), static=True)
    if shown.human is None:
        return
    fps = 1e9 / float(np.median(np.diff(shown.human.times_ns)))
    frames = np.arange(0, shown.human.num_frames, max(1, round(fps / BODY_HZ)))
    faces = shown.model.faces
    assert faces is not None
    for frame, body in zip(frames, shown.bodies(frames), strict=True):
        rr.set_time(TIMELINE, duration=float(shown.human.times_ns[frame] - shown.human.times_ns[0]) * 1e-9)
        rr.log(
            "body",
            rr.Mesh3D(vertex_positions=body.vertices, triangle_indices=triangles(faces), albedo_factor=[230, 140, 64]),
        )
        rr.log("joints", rr.Points3D(shown.human.joint_pos[frame], radii=0.02))


def _log_pose(path: str, T_world_camera: np.ndarray) -> None:
    rr.log(path, rr.Transform3D(translation=T_world_camera[:3, 3], mat3x3=T_world_camera[:3, :3]))
