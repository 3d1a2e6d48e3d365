"""Depth seen from the colour camera: every reading is moved, projected, and the nearest one of a pixel is kept."""

from __future__ import annotations

import numpy as np

_FOOTPRINT = 1.25
"""Side of a reading's square, in pixels of the depth image: a little more than one closes the gaps of rounding."""
_MOST = 0.99
"""Most of half a square's side, in pixels of the new image."""


class Registration:
    """Takes depth images of one camera to the pixels of another.

    Args:
        K: Intrinsics (3, 3) of the depth images.
        size: Their width and height, pixels.
        T_new_depth: Rigid transform (4, 4) from the depth camera's axes to the new camera's.
        new_K: Intrinsics (3, 3) of the new images.
        new_size: Their width and height, pixels.
    """

    def __init__(
        self,
        K: np.ndarray,
        size: tuple[int, int],
        T_new_depth: np.ndarray,
        new_K: np.ndarray,
        new_size: tuple[int, int],
    ):
        columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
        rays = np.stack([(columns - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1], np.ones(columns.shape)], axis=-1)
        self._rays = (rays @ T_new_depth[:3, :3].T).astype(np.float32)
        self._shift = T_new_depth[:3, 3].astype(np.float32)
        self._K = new_K
        self._size = new_size
        self._reach = 0.5 * _FOOTPRINT * new_K[0, 0] / K[0, 0], 0.5 * _FOOTPRINT * new_K[1, 1] / K[1, 1]

    def __call__(self, depth_mm: np.ndarray) -> np.ndarray:
        """Return the depth image (h, w) uint16 mm of the new camera, 0 where it has no reading.

        Args:
            depth_mm: Depth image (H, W) uint16 mm; 0 = no reading.
        """
        width, height = self._size
        seen = depth_mm > 0
        old = depth_mm[seen].astype(np.float32) * np.float32(0.001)
        points = self._rays[seen] * old[:, None] + self._shift
        front = points[:, 2] > 1e-3
        points, old = points[front], old[front]
        x, y, z = points.T
        u = x / z * self._K[0, 0] + self._K[0, 2]
        v = y / z * self._K[1, 1] + self._K[1, 2]
        # The square keeps its size in space: nearer to the new camera it covers more pixels.
        half_u, half_v = (np.minimum(reach * old / z, _MOST) for reach in self._reach)
        left, right = np.ceil(u - half_u), np.floor(u + half_u)
        top, low = np.ceil(v - half_v), np.floor(v + half_v)
        out = np.full(width * height, np.inf, np.float32)
        # A side shorter than two pixels holds at most two pixel centres: the corners are all that it covers.
        for column, row in ((left, top), (right, top), (left, low), (right, low)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (left <= right) & (top <= low)
            pixel = (row[inside] * width + column[inside]).astype(np.int64)
            np.minimum.at(out, pixel, z[inside])
        held = out < 65.5344
        return np.where(held, np.rint(np.where(held, out, 0) * 1000), 0).astype(np.uint16).reshape(height, width)
