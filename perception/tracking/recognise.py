"""Recognition of a place: which keyframes a lost frame looks like, and turned by how much."""

from __future__ import annotations

import numpy as np

from bodydouble.frames import make_se3, quat_from_rotvec, quat_to_matrix
from perception.tracking.coarse import CoarseCamera, CoarseFrame

SIZE = 8
"""Coarse pixels of a thumbnail's pixel, each way."""
REACH = (4, 8)
"""Rows and columns that a thumbnail is shifted by at most."""


def thumbnail(frame: CoarseFrame) -> np.ndarray:
    """Return depth and brightness of a frame as (2, h/SIZE, w/SIZE), float32; NaN where there is no reading."""
    height, width = (n // SIZE for n in frame.inverse.shape)

    def pooled(image: np.ndarray) -> np.ndarray:
        return image[: height * SIZE, : width * SIZE].reshape(height, SIZE, width, SIZE).sum(axis=(1, 3))

    count = pooled((frame.inverse > 0).astype(np.float32))
    depth = np.where(count > SIZE * SIZE / 4, pooled(frame.inverse) / np.maximum(count, 1), np.nan)
    gray = np.full_like(depth, np.nan) if frame.gray is None else pooled(frame.gray) / SIZE**2
    return np.stack([depth, gray]).astype(np.float32)


def alike(seen: np.ndarray, known: np.ndarray, camera: CoarseCamera) -> list[tuple[int, np.ndarray]]:
    """Return keyframes that a frame may show, the likeliest first, each with T_key_camera (4, 4), a turn.

    Small images compared at all shifts (after Klein and Murray 2008); a shift is a turn of the camera.

    Args:
        seen: The frame's thumbnail (2, h, w).
        known: The keyframes' thumbnails (K, 2, h, w).
        camera: The coarse camera.
    """
    height, width = seen.shape[1:]
    best, turn = np.full(len(known), np.inf), np.zeros((len(known), 2))
    scale = np.array([0.1, 0.1], np.float32)[:, None, None]  # 1/m and brightness that differ plainly
    for down in range(-min(REACH[0], height // 3), min(REACH[0], height // 3) + 1):
        for right in range(-min(REACH[1], width // 2), min(REACH[1], width // 2) + 1):
            a = seen[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
            b = known[:, :, max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)]
            off = np.minimum(np.abs(b - a) / scale, 1)
            both = np.isfinite(off)
            # What is compared at fewer pixels must fit better.
            score = np.where(both, off, 0).sum(axis=(1, 2, 3)) / np.maximum(both.sum(axis=(1, 2, 3)), 1)
            score = score + 0.5 * (1 - a[0].size / seen[0].size)
            score[both.sum(axis=(1, 2, 3)) < 0.25 * seen[0].size] = np.inf
            better = score < best
            best[better], turn[better] = score[better], (down, right)
    order = [int(key) for key in np.argsort(best, kind="stable") if np.isfinite(best[key])]
    return [(key, _turned(turn[key], camera)) for key in order]


def _turned(shift: np.ndarray, camera: CoarseCamera) -> np.ndarray:
    """Return the turn T_key_camera (4, 4) after which what was at p is at p + shift in the thumbnail."""
    down, right = shift * SIZE
    vector = np.array([np.arctan2(down, camera.fy), -np.arctan2(right, camera.fx), 0.0])
    return make_se3(quat_to_matrix(quat_from_rotvec(vector)), np.zeros(3))
