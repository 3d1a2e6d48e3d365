"""Metrics of cameras against ground truth, and the motion between a found world and the true one."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import make_se3, se3_apply


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return scale, rotation and translation that take source (N, 3) to target (N, 3) best (Umeyama 1991)."""
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    x, y = source - mean_source, target - mean_target
    u, s, vt = np.linalg.svd(y.T @ x)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ flip @ vt
    scale = float(np.trace(np.diag(s) @ flip) / max(float(np.sum(x * x)), 1e-300))
    return scale, rotation, mean_target - scale * rotation @ mean_source


def rigid_aligned(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return found (N, 3) moved rigidly, without scale, onto truth (N, 3) (Kabsch 1976)."""
    _, rotation, _ = similarity(found, truth)
    return (found - found.mean(axis=0)) @ rotation.T + truth.mean(axis=0)


def ate(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the root mean square of camera position errors after a rigid alignment, in the inputs' unit.

    Args:
        found: Camera positions (T, 3).
        truth: True camera positions (T, 3) at the same times.
    """
    return float(np.sqrt(np.mean(np.sum((rigid_aligned(found, truth) - truth) ** 2, axis=1))))


def sync_error_ms(found_ns: dict[str, float], true_ns: dict[str, float]) -> float:
    """Return the largest error of the cameras' clock offsets, ms; only differences between cameras count.

    Args:
        found_ns: Clock offset of each camera, ns.
        true_ns: True clock offset of each camera, ns.

    Raises:
        InputError: The cameras are not the same, or there is none.
    """
    if not true_ns or set(found_ns) != set(true_ns):
        raise InputError(f"clock offsets of {sorted(found_ns)}, expected those of {sorted(true_ns)}")
    error = np.array([found_ns[name] - true_ns[name] for name in sorted(true_ns)])
    return float(np.abs(error - error[0]).max()) * 1e-6


@dataclass(frozen=True)
class FoundCameras:
    """The cameras of a reconstruction, by name."""

    names: tuple[str, ...]
    """Names; the common clock is the first one's."""
    K: dict[str, np.ndarray]
    """Intrinsics (3, 3), pixels."""
    size: dict[str, tuple[int, int]]
    """Width and height, pixels."""
    times_ns: dict[str, np.ndarray]
    """Times of the frames (F,), common clock, ns."""
    T_world_camera: dict[str, np.ndarray]
    """Poses (F, 4, 4)."""
    clock_offset_ns: dict[str, int]
    """Recorded stamp minus common time, ns."""

    @classmethod
    def load(cls, path: Path) -> FoundCameras:
        """Read cameras.npz.

        Raises:
            InputError: The file cannot be read.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                names = tuple(str(name) for name in data["names"])
                return cls(
                    names,
                    {name: data[f"{name}_K"] for name in names},
                    {name: (int(data[f"{name}_size"][0]), int(data[f"{name}_size"][1])) for name in names},
                    {name: data[f"{name}_times_ns"] for name in names},
                    {name: data[f"{name}_T_world_camera"] for name in names},
                    {name: int(data[f"{name}_clock_offset_ns"]) for name in names},
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: cannot be read ({error}); reconstruct again") from None


def true_offset_ns(true: dict[str, np.ndarray], name: str) -> int:
    """Return how far a camera's clock is ahead of true time, ns."""
    return int(true.get(f"{name}_clock_offset_ns", 0))


def true_poses(cameras: FoundCameras, true: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the true pose (F, 4, 4) of every found frame, by camera; frames are known by their recorded stamps."""
    poses = {}
    for name in cameras.names:
        if f"{name}_T_world_camera" not in true:
            raise InputError(f"the truth has no camera {name}; is it the truth of this recording?")
        times = true[f"{name}_times_ns"]
        stamps = cameras.times_ns[name] + cameras.clock_offset_ns[name] - true_offset_ns(true, name)
        poses[name] = true[f"{name}_T_world_camera"][nearest_index(times, stamps)]
    return poses


def camera_figures(
    cameras: FoundCameras, poses: dict[str, np.ndarray], true: dict[str, np.ndarray]
) -> dict[str, float]:
    """Return the error of all cameras' positions after one rigid alignment, and that of their clocks.

    With fewer than two cameras there is no clock to compare.
    """
    found = np.concatenate([cameras.T_world_camera[name][:, :3, 3] for name in cameras.names])
    figures = {"ate_m": ate(found, np.concatenate([poses[name][:, :3, 3] for name in cameras.names]))}
    if len(cameras.names) > 1:
        offsets = {name: float(true_offset_ns(true, name)) for name in cameras.names}
        figures["sync_error_ms"] = sync_error_ms(dict(cameras.clock_offset_ns), offsets)
    return figures


def world_alignment(found: np.ndarray, truth: np.ndarray, lever_m: float = 1.0) -> np.ndarray:
    """Return the rigid motion (4, 4) that takes a found world to the true one, from camera poses alone.

    Each frame gives four points, the camera and those `lever_m` along its axes, so that the directions count where the
    path is too short to tell the turn from positions: one degree counts as 17 mm.

    Args:
        found: Found camera poses (T, 4, 4).
        truth: True poses (T, 4, 4) of the same frames.
        lever_m: Length of the axes, m.
    """
    ends = np.concatenate([np.zeros((1, 3)), lever_m * np.eye(3)])
    source, target = (se3_apply(poses, ends[None]).reshape(-1, 3) for poses in (found, truth))
    _, rotation, _ = similarity(source, target)
    return make_se3(rotation, target.mean(axis=0) - rotation @ source.mean(axis=0))


def nearest_index(times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the index of the time nearest to each wanted one, both ascending."""
    after = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(np.abs(times[before] - wanted) < np.abs(times[after] - wanted), before, after)
