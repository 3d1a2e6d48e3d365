"""Keyframes: the frames that others are aligned to, which of them a frame sees, and what moved in them."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

from bodydouble.frames import se3_inverse
from perception.tracking.align import Residuals, Source
from perception.tracking.coarse import CHANNELS, CoarseCamera

MOVED_VOTES = 2.0
"""Sightings behind a surface, beyond its confirmations, after which its pixels are held for something that moved."""


class Keyframes:
    """The keyframes of one camera, with a world that starts at the first of them.

    Args:
        camera: The coarse camera.
    """

    def __init__(self, camera: CoarseCamera):
        self.camera = camera
        self.index: list[int] = []
        self.sources: list[Source] = []
        self._maps = np.zeros((8, camera.height, camera.width, CHANNELS), np.float32)
        self._poses = np.zeros((8, 4, 4))
        self._through = np.zeros((8, camera.height * camera.width), np.float32)
        self._trusted = np.zeros(8)

    def __len__(self) -> int:
        """Return the number of keyframes."""
        return len(self.index)

    @property
    def poses(self) -> np.ndarray:
        """Poses T_world_key (K, 4, 4), to read and write."""
        return self._poses[: len(self)]

    @property
    def maps(self) -> np.ndarray:
        """Surface maps (K, h, w, CHANNELS)."""
        return self._maps[: len(self)]

    def add(self, index: int, source: Source, surface: np.ndarray, pose: np.ndarray) -> None:
        """Add a frame as a keyframe."""
        new = len(self)
        if new == len(self._maps):
            self._maps, self._poses, self._through, self._trusted = (
                np.concatenate([a, np.zeros_like(a)]) for a in (self._maps, self._poses, self._through, self._trusted)
            )
        self._maps[new], self._poses[new] = surface, pose
        self.index.append(index)
        self.sources.append(source)
        self._trusted[new] = max(0.2, float(self._maps[new].reshape(-1, CHANNELS)[source.place, 6].mean()))

    def overlap(self, points: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """Return the share (K,) of points that each keyframe sees on its surface, roughly; 1 for its own points.

        Args:
            points: Points of a frame (N, 3), its camera, m; a few hundred will do.
            pose: The frame's T_world_camera (4, 4), roughly.
        """
        camera = self.camera
        T = (se3_inverse(self.poses) @ pose).astype(np.float32)
        local = np.einsum("kij,nj->kin", T[:, :3, :3], points) + T[:, :3, 3:]
        z = np.maximum(local[:, 2], np.float32(0.05))
        column = np.rint(camera.fx * local[:, 0] / z + camera.cx)
        row = np.rint(camera.fy * local[:, 1] / z + camera.cy)
        inside = (local[:, 2] > 0.1) & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
        pixel = np.where(inside, row * camera.width + column, 0).astype(np.int64)
        flat = self.maps.reshape(len(self), -1, CHANNELS)
        which = np.arange(len(self))[:, None]
        there = flat[which, pixel, 0]
        near = np.abs(1 / z - there) < 0.01 + 0.12 / z**2
        return (inside & near & (flat[which, pixel, 6] > 0)).mean(axis=1) / self._trusted[: len(self)]

    def see_through(self, which: np.ndarray, found: Residuals, spread_m: float = 0.06) -> None:
        """Count the pixels of some keyframes behind whose surface a frame sees; those that moved lose trust.

        Args:
            which: Numbers of the keyframes (M,).
            found: The frame's residuals against them, at its pose.
            spread_m: How far behind, m, at least.
        """
        margin = 0.008 + spread_m * found.square(0.3)
        size = self.camera.height, self.camera.width
        for place, key in enumerate(which):
            inside = found.inside[place]
            through = inside & (found.depth[place] < -margin[place])
            on = inside & (np.abs(found.depth[place]) < 0.5 * margin[place])
            votes = self._through[key]
            # A point stands for the pixels around it that were not compared.
            seen = np.bincount(found.pixel[place][through], minlength=votes.size).reshape(size)
            votes += 3 * uniform_filter(seen.astype(np.float32), 3, mode="nearest").ravel()
            votes -= 0.25 * np.bincount(found.pixel[place][on], minlength=votes.size)
            np.clip(votes, -2, 20, out=votes)
            self._maps[key].reshape(-1, CHANNELS)[votes > MOVED_VOTES, 6] = 0
