"""Which way is up and where the floor is: from an IMU where there is one, else from the floor's plane."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import numpy as np
import open3d as o3d

from bodydouble.frames import make_se3, quat_from_matrix, quat_rotate, quat_slerp
from perception.importers.world_up import up_to_z
from perception.imu import Accelerations
from perception.tracking.keyframes import Keyframes

GRAVITY_M_S2 = 9.81
"""What an accelerometer at rest reads, m/s^2."""
SLOW_M_S2 = 0.5
"""Samples whose length is farther from that are left out: the camera is being pushed."""
MIN_SAMPLES = 20
"""Samples that up is taken from, at least."""
UPRIGHT = np.cos(np.radians(45))
"""Cosine of the most that up may differ from the mean of the images' upright, without an IMU."""
LEVEL = np.cos(np.radians(12))
"""Cosine of the most that a surface's normal differs from up for it to be level."""
FLOOR_SHARE = 0.15
"""Points on the floor, of those on the largest level surface, at least."""
BELOW_SHARE = 0.03
"""Points of the scene that may seem to lie below the floor, at most."""


def imu_up(
    times_ns: np.ndarray, poses: np.ndarray, quality: np.ndarray, imu: Accelerations
) -> tuple[np.ndarray | None, str]:
    """Return up (3,) in the poses' world from accelerations, or None, and why not.

    The force is turned by the tracked orientation and averaged over the samples in which the camera is not pushed.

    Args:
        times_ns: Times of the frames (F,), ns.
        poses: Poses (F, 4, 4).
        quality: Quality (F,); 0 where lost.
        imu: The accelerations, in the camera's axes.
    """
    if imu.note:
        return None, imu.note
    tracked = np.flatnonzero(quality > 0)
    length = np.linalg.norm(imu.force, axis=1)
    after = np.searchsorted(times_ns[tracked], imu.times_ns)
    good = (np.abs(length - GRAVITY_M_S2) < SLOW_M_S2) & (after > 0) & (after < len(tracked))
    a, b = tracked[np.maximum(after - 1, 0)], tracked[np.minimum(after, len(tracked) - 1)]
    good &= times_ns[b] - times_ns[a] < 200_000_000
    if good.sum() < MIN_SAMPLES:
        return None, f"the IMU has {good.sum()} usable samples of {len(good)}, expected {MIN_SAMPLES}"
    a, b = a[good], b[good]
    share = (imu.times_ns[good] - times_ns[a]) / (times_ns[b] - times_ns[a])
    turn = quat_slerp(quat_from_matrix(poses[a, :3, :3]), quat_from_matrix(poses[b, :3, :3]), share)
    mean = quat_rotate(turn, imu.force[good]).mean(axis=0)
    if np.linalg.norm(mean) < GRAVITY_M_S2 - 1:
        return None, "the IMU's directions do not turn with the camera; its axes are not the camera's"
    return mean / np.linalg.norm(mean), ""


def upright(keys: Keyframes, eyes: np.ndarray, up: np.ndarray | None) -> tuple[np.ndarray, str]:
    """Return T_world_tracked (4, 4) that turns up to +Z and puts the floor at 0, and a sentence on where it is from.

    Args:
        keys: The keyframes.
        eyes: Positions of the camera (N, 3).
        up: Up (3,) where it is known; else it is the normal of the largest level surface.
    """
    points, normals = _surfaces(keys)
    images_up = -keys.poses[:, :3, 1].mean(axis=0)
    images_up /= np.linalg.norm(images_up)
    source = "an IMU"
    if up is None:
        up = _level(points[normals @ images_up > UPRIGHT], normals[normals @ images_up > UPRIGHT])
        source = "the largest level surface, assuming that the camera is held roughly upright"
    if up is None:
        up, source = images_up, "the mean of the images' upright, as no level surface was found"
    height = _floor_height(points @ up, normals @ up, float(np.median(eyes @ up)))
    if height is None:
        floor = "no floor was found; the first camera is at height 0"
        height = float(keys.poses[0, :3, 3] @ up)
    else:
        floor = f"the floor is {np.median(eyes @ up) - height:.2f} m below the camera"
    return make_se3(np.eye(3), np.array([0, 0, -height])) @ up_to_z(tuple(up)), f"up is taken from {source}; {floor}"


def _surfaces(keys: Keyframes, most: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """Return points (N, 3) and their normals (N, 3), towards the camera, of all keyframes, where nothing moved."""
    camera = keys.camera
    rows, columns = np.mgrid[: camera.height, : camera.width]
    x, y = (columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy
    points, normals = [], []
    step = max(1, int(np.sqrt(len(keys) * camera.height * camera.width / most)))
    for pose, surface in zip(keys.poses, keys.maps, strict=True):
        good = surface[..., 6] > 0
        good[np.arange(camera.height) % step > 0] = False
        good[:, np.arange(camera.width) % step > 0] = False
        inverse, across, down = (surface[..., channel][good].astype(np.float64) for channel in range(3))
        # On a plane n . X = d the inverse depth is (n_x x + n_y y + n_z) / d.
        a, b = across * camera.fx, down * camera.fy
        normal = np.stack([a, b, inverse - a * x[good] - b * y[good]], axis=1)
        normal /= -np.linalg.norm(normal, axis=1, keepdims=True)
        point = np.stack([x[good], y[good], np.ones(len(inverse))], axis=1) / inverse[:, None]
        points.append(point @ pose[:3, :3].T + pose[:3, 3])
        normals.append(normal @ pose[:3, :3].T)
    return np.concatenate(points), np.concatenate(normals)


def _level(points: np.ndarray, normals: np.ndarray, tolerance_m: float = 0.03) -> np.ndarray | None:
    """Return the normal (3,) of the plane that most of the points lie on with their normals; None without one."""
    total, best, best_count = len(points), None, 0
    o3d.utility.random.seed(0)
    for _ in range(4):
        if len(points) < max(200, best_count):
            break
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
        plane, inside = cloud.segment_plane(tolerance_m, 3, 500)
        normal = np.asarray(plane[:3]) / np.linalg.norm(plane[:3])
        normal *= np.sign(normal @ normals[inside].mean(axis=0))
        own = np.asarray(inside)[normals[inside] @ normal > LEVEL]
        if len(own) > max(best_count, 0.02 * total):
            spread = points[own] - points[own].mean(axis=0)
            fitted = np.linalg.svd(spread.T @ spread)[0][:, 2]
            best, best_count = fitted * np.sign(fitted @ normal), len(own)
        points, normals = np.delete(points, inside, axis=0), np.delete(normals, inside, axis=0)
    return best


def _floor_height(heights: np.ndarray, facing: np.ndarray, eye: float) -> float | None:
    """Return the height of the lowest level surface of some size, 30 cm below the camera or more; None without one."""
    level = heights[(facing > LEVEL) & (heights < eye - 0.3)]
    if len(level) < 100:
        return None
    bins = np.arange(level.min() - 0.05, level.max() + 0.05, 0.01)
    count = np.convolve(np.histogram(level, bins)[0], np.ones(5), mode="same")
    below = np.searchsorted(np.sort(heights), bins[:-1] - 0.1) / len(heights)
    floor = np.flatnonzero((count >= FLOOR_SHARE * count.max()) & (below <= BELOW_SHARE))
    if not len(floor):
        return None
    # The first of these is the surface's lower edge; its peak is near.
    peak = floor[0] + int(np.argmax(count[floor[0] : floor[0] + 8]))
    middle = (bins[peak] + bins[peak + 1]) / 2
    return float(np.median(level[np.abs(level - middle) < 0.04]))
