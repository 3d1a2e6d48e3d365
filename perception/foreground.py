"""What stands in front of the static scene in one camera's depth."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import numpy as np
import open3d as o3d
from scipy.ndimage import binary_dilation

from perception.static_scene import StaticScene
from perception.views import View, depth_margin

LEAST_AGREEMENT = 0.1
"""Share of the readings that must lie on the scene, or the pose of the frame is taken to be wrong."""


class Foreground:
    """Finds the depth readings of a view that lie before the scene.

    Rays are cast for every second row and column of those that are looked at; the others follow only around what was
    found, which is a small part of an image.

    Args:
        view: The view, with poses.
        scene: The static scene.
        stride: Every stride-th row and column is looked at.
        margin_m: Distance in front of the scene that counts, m; it grows with the depth's noise.
        max_depth_m: Farthest depth that is used, m.
    """

    def __init__(self, view: View, scene: StaticScene, stride: int, margin_m: float, max_depth_m: float):
        self._view, self._caster = view, scene.raycaster()
        self._stride, self._margin, self._reach = stride, margin_m, max_depth_m
        width, height = view.size
        rows, columns = np.meshgrid(np.arange(0, height, stride), np.arange(0, width, stride), indexing="ij")
        K = view.K
        # Directions have unit depth, so a hit's distance is its depth.
        self._directions = np.stack(
            [(columns - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1], np.ones(rows.shape)], axis=-1
        ).astype(np.float32)

    def points(self, index: int) -> np.ndarray | None:
        """Return the points (N, 3), world, m, before the scene in a frame.

        Args:
            index: Number of the frame.

        Returns:
            The points; None where hardly a reading lies on the scene, so that the frame's pose must be wrong.
        """
        T = self._view.T_world_camera[index].astype(np.float32)
        depth = self._view.depth_mm[index, :: self._stride, :: self._stride].astype(np.float32) / 1000
        depth[depth > self._reach] = 0
        coarse = depth[::2, ::2]
        ahead = self._background(T, self._directions[::2, ::2]) - coarse
        margin = depth_margin(coarse, self._margin)
        before = (coarse > 0) & (ahead > margin)
        known = (coarse > 0) & np.isfinite(ahead)
        if known.sum() > 0.2 * coarse.size and (np.abs(ahead[known]) <= margin[known]).mean() < LEAST_AGREEMENT:
            return None
        around = np.asarray(binary_dilation(before, np.ones((3, 3), dtype=bool)), dtype=bool)
        around = around.repeat(2, axis=0).repeat(2, axis=1)[: depth.shape[0], : depth.shape[1]]
        row, column = np.nonzero(around & (depth > 0))
        read, rays = depth[row, column], self._directions[row, column]
        kept = self._background(T, rays) - read > depth_margin(read, self._margin)
        return T[:3, 3] + (rays[kept] * read[kept, None]) @ T[:3, :3].T

    def _background(self, T: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Return the depth (...) of the scene along directions (..., 3) of the camera, m; infinite where it ends."""
        rays = np.empty((*directions.shape[:-1], 6), dtype=np.float32)
        rays[..., :3] = T[:3, 3]
        rays[..., 3:] = directions @ T[:3, :3].T
        return self._caster.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy()
