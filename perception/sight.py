"""What the cameras measured along the lines of sight to the body: which skin they should have seen, which floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bodydouble.frames import se3_inverse
from perception.views import View

STRIDE = 2
"""Every second row and column of the depth images is looked at."""
BLOCK = 3
"""Rows and columns of these that are pooled: along a silhouette a block holds both near and far."""


@dataclass(frozen=True)
class Sight:
    """Depth of C cameras at T frames, pooled in blocks of H x W."""

    near_mm: torch.Tensor
    """Nearest reading of each block (T, C, H, W), int16, mm; 0 where there is none."""
    far_mm: torch.Tensor
    """Farthest reading of each block (T, C, H, W), int16, mm."""
    T_camera_world: torch.Tensor
    """World to camera (T, C, 4, 4)."""
    K: torch.Tensor
    """Intrinsics of the blocks (C, 3, 3)."""

    def part(self, frames: np.ndarray) -> Sight:
        """Return some frames."""
        return Sight(self.near_mm[frames], self.far_mm[frames], self.T_camera_world[frames], self.K)

    def eyes(self, start: int, count: int) -> torch.Tensor:
        """Return the cameras' places (count, C, 3) of frames from `start` on, world, m."""
        pose = self.T_camera_world[start : start + count]
        return -(pose[..., :3, :3].transpose(-1, -2) @ pose[..., :3, 3:])[..., 0]

    def look(self, points: torch.Tensor, start: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return how far points (B, N, 3), world, m, of frames from `start` on lie in front of what was measured.

        Returns:
            Distances (B, C, N) in front of the block's nearest reading, and in front of its farthest, m; negative
            behind them, NaN where there is no reading.
        """
        part = slice(start, start + len(points))
        pose = self.T_camera_world[part]
        local = points[:, None] @ pose[..., :3, :3].transpose(-1, -2) + pose[..., None, :3, 3]
        z = local[..., 2]
        pixel = local @ self.K.transpose(-1, -2) / z.clamp_min(0.05)[..., None]
        height, width = self.near_mm.shape[2:]
        # Pixel centres are whole numbers; so are blocks' ones after the change of intrinsics.
        column, row = pixel[..., 0].round().long(), pixel[..., 1].round().long()
        inside = (z > 0.05) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        flat = torch.where(inside, row * width + column, 0)
        gaps = []
        for depth in (self.near_mm, self.far_mm):
            read = depth[part].flatten(2).gather(2, flat)
            gaps.append(torch.where(inside & (read > 0), 0.001 * read - z, torch.nan))
        return gaps[0], gaps[1]


def sight_of(views: Sequence[View], times_ns: np.ndarray) -> Sight:
    """Return what the views measured, in the frame nearest to each time if it is within half a period.

    Args:
        views: The views, with poses and with times on one clock.
        times_ns: Times (T,), int64, ns.
    """
    period = float(np.median(np.diff(times_ns)))
    pooled = [_pooled(np.zeros((view.size[1], view.size[0]), np.uint16))[0].shape for view in views]
    size = tuple(np.max(pooled, axis=0))
    near = np.zeros((len(times_ns), len(views), *size), np.int16)
    far = np.zeros_like(near)
    pose = np.tile(np.eye(4), (len(times_ns), len(views), 1, 1))
    scale = 1.0 / (STRIDE * BLOCK)
    # The middle of block 0 is pixel (BLOCK - 1) / 2 * STRIDE.
    shift = -0.5 * (BLOCK - 1) / BLOCK
    K = np.stack([np.array([[scale, 0, shift], [0, scale, shift], [0, 0, 1]]) @ view.K for view in views])
    for camera, view in enumerate(views):
        nearest = np.abs(view.times_ns[:, None] - times_ns).argmin(axis=0)
        for frame in np.flatnonzero(np.abs(view.times_ns[nearest] - times_ns) <= 0.5 * period):
            image = nearest[frame]
            a, b = _pooled(np.asarray(view.depth_mm[image]))
            near[frame, camera, : a.shape[0], : a.shape[1]] = a
            far[frame, camera, : a.shape[0], : a.shape[1]] = b
            pose[frame, camera] = se3_inverse(view.T_world_camera[image])
    return Sight(
        torch.from_numpy(near),
        torch.from_numpy(far),
        torch.as_tensor(pose, dtype=torch.float32),
        torch.as_tensor(K, dtype=torch.float32),
    )


def _pooled(depth_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest and the farthest reading of each block (H, W), int16, mm; 0 where there is none."""
    small = depth_mm[::STRIDE, ::STRIDE]
    rows, columns = small.shape[0] // BLOCK, small.shape[1] // BLOCK
    blocks = small[: rows * BLOCK, : columns * BLOCK]
    # One less: no reading becomes the largest number and is never the nearest; one more at the end makes it 0 again.
    near = _reduced(np.minimum, blocks - np.uint16(1)) + np.uint16(1)
    most = np.iinfo(np.int16).max
    return np.minimum(near, most).astype(np.int16), np.minimum(_reduced(np.maximum, blocks), most).astype(np.int16)


def _reduced(choose: np.ufunc, image: np.ndarray) -> np.ndarray:
    """Return the image (H, W) with each block reduced to one number, rows first: much faster than over a reshape."""
    for axis in (0, 1):
        lines = np.moveaxis(image, axis, 0)
        chosen = lines[0::BLOCK]
        for offset in range(1, BLOCK):
            chosen = choose(chosen, lines[offset::BLOCK])
        image = np.moveaxis(chosen, 0, axis)
    return image
