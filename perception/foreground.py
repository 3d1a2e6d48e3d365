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
SPARSE = 4
"""Where only a part of an image is looked at, every so many of the first rows and columns tell that share."""


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

    def points(self, index: int, around: tuple[np.ndarray, float] | None = None) -> np.ndarray | None:
        """Return the points (N, 3), world, m, before the scene in a frame.

        Args:
            index: Number of the frame.
            around: Places (J, 3), world, m, and a distance, m: only the part of the image that shows what is within it
                is looked at. None is the whole image.

        Returns:
            The points; None where hardly a reading lies on the scene, so that the frame's pose must be wrong.
        """
        T = self._view.T_world_camera[index].astype(np.float32)
        depth = self._view.depth_mm[index, :: self._stride, :: self._stride].astype(np.float32) / 1000
        depth[depth > self._reach] = 0
        coarse, rays = depth[::2, ::2], self._directions[::2, ::2]
        part = (slice(None), slice(None)) if around is None else self._part(T, coarse.shape, *around)
        ahead = self._background(T, rays[part]) - coarse[part]
        if around is None:
            fits = self._fits(ahead, coarse)
        else:
            sparse = coarse[::SPARSE, ::SPARSE]
            fits = self._fits(self._background(T, rays[::SPARSE, ::SPARSE]) - sparse, sparse)
        if not fits:
            return None
        before = np.zeros(coarse.shape, dtype=bool)
        before[part] = (coarse[part] > 0) & (ahead > depth_margin(coarse[part], self._margin))
        shown = np.asarray(binary_dilation(before, np.ones((3, 3), dtype=bool)), dtype=bool)
        shown = shown.repeat(2, axis=0).repeat(2, axis=1)[: depth.shape[0], : depth.shape[1]]
        row, column = np.nonzero(shown & (depth > 0))
        read, rays = depth[row, column], self._directions[row, column]
        kept = self._background(T, rays) - read > depth_margin(read, self._margin)
        return T[:3, 3] + (rays[kept] * read[kept, None]) @ T[:3, :3].T

    def _fits(self, ahead: np.ndarray, depth: np.ndarray) -> bool:
        """Return whether enough readings lie on the scene, of depths and the scene's less these (...), m."""
        known = (depth > 0) & np.isfinite(ahead)
        if known.sum() <= 0.2 * depth.size:
            return True
        return bool((np.abs(ahead[known]) <= depth_margin(depth[known], self._margin)).mean() >= LEAST_AGREEMENT)

    def _part(self, T: np.ndarray, shape: tuple[int, ...], places: np.ndarray, reach_m: float) -> tuple[slice, slice]:
        """Return the rows and columns of the first rays, of some shape, that show what is within reach of places."""
        local = (places - T[:3, 3]) @ T[:3, :3]
        near, far = local[:, 2] - reach_m, local[:, 2] + reach_m
        seen = far > 0
        if not seen.any():
            return slice(0, 0), slice(0, 0)
        K, step, found = self._view.K, 2 * self._stride, []
        for axis, size in ((1, shape[0]), (0, shape[1])):
            low, high = local[seen, axis] - reach_m, local[seen, axis] + reach_m
            # What is beside the camera may be anywhere at the image's sides.
            slopes = [edge / np.maximum(z[seen], 0.05) for edge in (low, high) for z in (near, far)]
            pixel = K[axis, 2] + K[axis, axis] * np.array([np.min(slopes), np.max(slopes)])
            # One more each way, for what is found beside it.
            first, last = np.floor(pixel[0] / step) - 1, np.ceil(pixel[1] / step) + 2
            found.append(slice(int(np.clip(first, 0, size)), int(np.clip(last, 0, size))))
        return found[0], found[1]

    def _background(self, T: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Return the depth (...) of the scene along directions (..., 3) of the camera, m; infinite where it ends."""
        if not directions.size:
            return np.zeros(directions.shape[:-1], dtype=np.float32)
        rays = np.empty((*directions.shape[:-1], 6), dtype=np.float32)
        rays[..., :3] = T[:3, 3]
        rays[..., 3:] = directions @ T[:3, :3].T
        return self._caster.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy()
