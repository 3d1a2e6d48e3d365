"""Coarse frames: a camera's images reduced to about 160 pixels across, with what alignment needs of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter, uniform_filter, uniform_filter1d

from perception.views import View

COARSE_WIDTH = 160
"""Width that images are reduced to, pixels, as near as whole blocks allow."""
CHANNELS = 7
"""Inverse depth, its two slopes, brightness, its two slopes, trust."""
_BRIGHT = slice(3, 6)


@dataclass(frozen=True)
class CoarseCamera:
    """Intrinsics of the coarse frames of one view."""

    block: int
    """Pixels of the view that one coarse pixel covers, each way."""
    fx: float
    fy: float
    cx: float
    cy: float
    """Focal lengths and principal point, coarse pixels."""
    height: int
    width: int
    """Size, coarse pixels."""

    @staticmethod
    def of(view: View) -> CoarseCamera:
        """Return the coarse camera of a view."""
        width, height = view.size
        block = max(1, round(width / COARSE_WIDTH))
        K = view.K
        centre = (K[:2, 2] - (block - 1) / 2) / block
        return CoarseCamera(
            block, float(K[0, 0] / block), float(K[1, 1] / block), float(centre[0]), float(centre[1]),
            height // block, width // block,
        )  # fmt: skip


@dataclass(frozen=True)
class CoarseFrame:
    """One frame, reduced."""

    inverse: np.ndarray
    """Inverse depth (h, w), 1/m, float32; 0 is no reading."""
    gray: np.ndarray | None
    """Brightness (h, w), 0 to 1, float32; None without colour."""

    def points(self, camera: CoarseCamera, stride: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the points (N, 3) of every stride-th row and column, m, and their places (N,) in the flat image."""
        small = self.inverse[::stride, ::stride]
        rows, columns = np.nonzero(small)
        z = 1.0 / small[rows, columns]
        rows, columns = rows * stride, columns * stride
        x, y = (columns - camera.cx) / camera.fx * z, (rows - camera.cy) / camera.fy * z
        return np.stack([x, y, z], axis=1).astype(np.float32), rows * camera.width + columns


def coarse_frame(view: View, camera: CoarseCamera, index: int, max_depth_m: float) -> CoarseFrame:
    """Reduce one frame of a view.

    A coarse pixel is the mean inverse depth of its block: planes stay planes, as inverse depth is linear in the pixels
    on them. Blocks across an edge of depth, or less than half filled, have no reading.

    Args:
        view: The view.
        camera: Its coarse camera.
        index: Number of the frame.
        max_depth_m: Farther depth is left out, m.
    """
    block, height, width = camera.block, camera.height, camera.width
    depth = view.depth_mm[index]
    total = np.zeros((height, width), np.float32)
    count = np.zeros((height, width), np.float32)
    low, high = np.full((height, width), np.inf, np.float32), np.zeros((height, width), np.float32)
    farthest = np.float32(1 / max_depth_m)
    for row in range(block):
        for column in range(block):
            part = depth[row : height * block : block, column : width * block : block].astype(np.float32)
            with np.errstate(divide="ignore"):
                part = np.float32(1000) / part
            good = (part >= farthest) & np.isfinite(part)
            part = np.where(good, part, 0)
            total += part
            count += good
            np.maximum(high, part, out=high)
            np.minimum(low, np.where(good, part, np.inf), out=low)
    mean = total / np.maximum(count, 1)
    keep = (count >= 0.5 * block * block) & (high - low <= 0.02 + 0.04 * mean)
    return CoarseFrame(np.where(keep, mean, 0).astype(np.float32), _coarse_gray(view, camera, index))


def _coarse_gray(view: View, camera: CoarseCamera, index: int) -> np.ndarray | None:
    if view.gray is None:
        return None
    gray = view.gray[index]
    if not gray.any():
        return None
    block, height, width = camera.block, camera.height, camera.width
    if block == 1:
        full = np.repeat(np.repeat(gray, 2, axis=0), 2, axis=1)[:height, :width].astype(np.float32)
        return uniform_filter(full, 3) / 255
    # View.gray holds every second pixel; a block starts at one of them, or between two.
    rows, columns = (np.arange(height) * block + 1) // 2, (np.arange(width) * block + 1) // 2
    steps = block // 2
    total = np.zeros((height, width), np.float32)
    for row in range(steps):
        for column in range(steps):
            total += gray[np.minimum(rows + row, gray.shape[0] - 1)][:, np.minimum(columns + column, gray.shape[1] - 1)]
    return total / np.float32(255 * steps * steps)


def surface_map(frame: CoarseFrame) -> np.ndarray:
    """Return what a frame is aligned to: planes in inverse depth and brightness around each pixel.

    Returns:
        Channels (h, w, CHANNELS), float32: inverse depth and its slopes per column and per row, from the plane that
        fits 5 x 5 pixels best; brightness and its slopes likewise from 3 x 3; trust, 1 where the plane fits, else 0.
    """
    inverse = frame.inverse
    mean = uniform_filter(inverse, 5, mode="nearest")
    slope_x, slope_y = _slopes(inverse, 5)
    # Spread about the fitted plane; 2 is the mean square of -2, -1, 0, 1, 2.
    spread = uniform_filter(inverse * inverse, 5, mode="nearest") - mean**2 - 2 * (slope_x**2 + slope_y**2)
    hole = maximum_filter((inverse == 0).astype(np.uint8), 5) > 0
    hole[:2] = hole[-2:] = True
    hole[:, :2] = hole[:, -2:] = True
    good = ~hole & (spread < (0.006 + 0.01 * mean) ** 2)
    out = np.zeros((*inverse.shape, CHANNELS), np.float32)
    out[..., 0], out[..., 1], out[..., 2] = mean, slope_x, slope_y
    out[..., 6] = good
    if frame.gray is not None:
        out[..., 3] = uniform_filter(frame.gray, 3, mode="nearest")
        out[..., 4], out[..., 5] = _slopes(frame.gray, 3)
    return out


def _slopes(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the least-squares slopes (h, w) per column and per row of size x size pixels."""
    reach = size // 2
    norm = np.float32(size * sum(k * k for k in range(-reach, reach + 1)))
    across = np.float32(size) * uniform_filter1d(image, size, axis=0, mode="nearest")
    down = np.float32(size) * uniform_filter1d(image, size, axis=1, mode="nearest")
    slope_x, slope_y = np.zeros_like(image), np.zeros_like(image)
    for k in range(1, reach + 1):
        slope_x[:, reach:-reach] += k * (
            across[:, reach + k : across.shape[1] - reach + k] - across[:, reach - k : across.shape[1] - reach - k]
        )
        slope_y[reach:-reach] += k * (
            down[reach + k : down.shape[0] - reach + k] - down[reach - k : down.shape[0] - reach - k]
        )
    return slope_x / norm, slope_y / norm
