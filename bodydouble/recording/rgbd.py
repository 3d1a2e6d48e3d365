"""RGB-D frames out of a stream of messages: each depth image with the nearest colour image and its pose."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bodydouble.recording.transforms import TransformTree


@dataclass(frozen=True, eq=False)
class RgbdFrame:
    """One depth image with what belongs to it."""

    t_ns: int
    """Stamp of the depth image."""
    color: np.ndarray | None
    """(H, W, 3) uint8 RGB; None where no colour image is near in time."""
    depth: np.ndarray
    """(H, W) float32 metres, 0 = no reading."""
    K: np.ndarray
    """(3, 3) float64 intrinsics of the depth image."""
    T_world_camera: np.ndarray | None
    """(4, 4) float64; None where the recording holds no pose at this time."""


@dataclass(frozen=True, eq=False)
class Match:
    """A depth message with its colour message, not decoded yet, and its pose."""

    t_ns: int
    depth: Any
    color: Any | None
    T_world_camera: np.ndarray | None


class Matcher:
    """Matches depth, colour and poses of one camera as they stream by; what is needed no more is forgotten.

    Args:
        has_color: Whether colour images are to come.
        has_poses: Whether transforms are to come.
        max_color_gap_ns: Farthest colour image that still belongs to a depth image.
        max_pose_gap_ns: See TransformTree.
        max_pending: Most depth images that wait; then the oldest goes out with what is there.
    """

    def __init__(self, has_color: bool, has_poses: bool, max_color_gap_ns: int, max_pose_gap_ns: int, max_pending: int):
        self.tree = TransformTree(max_pose_gap_ns)
        self._has_color = has_color
        self._has_poses = has_poses
        self._gap = max_color_gap_ns
        self._max_pending = max_pending
        self._depths: deque[tuple[int, str, Any]] = deque()
        self._colors: deque[tuple[int, Any]] = deque()

    def add_color(self, t_ns: int, message: Any) -> None:
        """Take in a colour message."""
        self._colors.append((t_ns, message))
        if len(self._colors) > 4 * self._max_pending:
            self._colors.popleft()

    def add_depth(self, t_ns: int, frame_id: str, message: Any) -> None:
        """Take in a depth message."""
        self._depths.append((t_ns, frame_id.lstrip("/"), message))

    def ready(self, final: bool = False) -> Iterator[Match]:
        """Yield, in order, the depth images for which nothing better can come (all that are left, if `final`)."""
        while self._depths:
            t_ns, frame_id, message = self._depths[0]
            if not (final or len(self._depths) > self._max_pending or self._settled(t_ns, frame_id)):
                return
            self._depths.popleft()
            yield Match(t_ns, message, self._nearest_color(t_ns), self.tree.lookup(frame_id, t_ns))

    def _settled(self, t_ns: int, frame_id: str) -> bool:
        color = not self._has_color or (bool(self._colors) and self._colors[-1][0] >= t_ns)
        return color and (not self._has_poses or self.tree.settled(frame_id, t_ns))

    def _nearest_color(self, t_ns: int) -> Any | None:
        best = None
        for stamp, message in self._colors:
            if abs(stamp - t_ns) <= self._gap and (best is None or abs(stamp - t_ns) < abs(best[0] - t_ns)):
                best = stamp, message
        while self._colors and self._colors[0][0] < t_ns - self._gap:
            self._colors.popleft()
        return None if best is None else best[1]
