"""Which way is up: from an IMU where there is one, else from the floor."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import numpy as np
import open3d as o3d

from bodydouble.frames import make_se3
from perception.importers.world_up import up_to_z
from perception.views import View, unproject


def floor_up(view: View, poses: np.ndarray, keys: list[int], max_depth_m: float) -> tuple[np.ndarray, list[str]]:
    """Return T_world_first (4, 4), which turns up to +Z and puts the floor at 0, and what to say of it."""
    step = max(1, len(keys) // 15)
    points = []
    for index in keys[::step]:
        depth = view.depth_mm[index].astype(np.float32) / 1000
        seen = unproject(np.where(depth < max_depth_m, depth, 0), view.K, 8)[0]
        points.append(seen @ poses[index, :3, :3].T + poses[index, :3, 3])
    left, up0 = np.concatenate(points), -np.nanmean(poses[:, :3, 1], axis=0)
    up0 /= np.linalg.norm(up0)
    total, best, best_score = len(left), None, 0.0
    o3d.utility.random.seed(0)
    for _ in range(6):
        if len(left) < 200:
            break
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(left))
        plane, inside = cloud.segment_plane(0.03, 3, 500)
        normal = np.asarray(plane[:3]) * np.sign(np.asarray(plane[:3]) @ up0)
        height = float(np.mean(left[inside] @ normal))
        below = np.nanmean(poses[:, :3, 3] @ normal) - height > 0.3
        if normal @ up0 > 0.7 and below and len(inside) > max(best_score, 0.02 * total):
            best, best_score = (normal, height), len(inside)
        left = np.delete(left, inside, axis=0)
    if best is None:
        return up_to_z(tuple(up0)), [f"camera {view.name}: no floor was found; up is the mean of the images' upright"]
    up = up_to_z(tuple(best[0]))
    up = make_se3(np.eye(3), np.array([0, 0, -best[1]])) @ up
    return up, [f"camera {view.name}: up is taken from the floor plane, assuming that the camera is roughly upright"]
