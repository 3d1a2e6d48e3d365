"""Tracking of an RGB-D camera: each frame against keyframes, the keyframes against each other, up from the floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import se3_inverse
from perception.tracking.align import FINE, WIDE, Alignment, Source, align
from perception.tracking.coarse import CoarseCamera, CoarseFrame, coarse_frame, surface_map
from perception.tracking.keyframes import Keyframes
from perception.tracking.refine import refine
from perception.tracking.upright import floor_up
from perception.views import View


@dataclass(frozen=True)
class TrackingConfig:
    """Settings of camera tracking."""

    max_depth_m: float = 5.0
    """Farthest depth that is used, m."""
    min_agree: float = 0.5
    """Share of the compared points that must lie on the keyframes' surfaces; below, the camera is lost."""
    min_compared: float = 0.15
    """Share of a frame's points that must be comparable with a keyframe."""
    max_deviation_m: float = 0.02
    """Largest standard deviation of the position, m; above, what is seen does not hold the camera in place."""
    key_overlap: float = 0.70
    """Share of a frame's points that the best keyframe sees, below which the frame becomes a keyframe."""
    active: int = 4
    """Keyframes that a frame is aligned to together."""


@dataclass(frozen=True)
class Trajectory:
    """Where a camera was."""

    T_world_camera: np.ndarray
    """Poses (F, 4, 4), metres, Z up; NaN where the camera was lost."""
    quality: np.ndarray
    """Share of compared points that lie on the keyframes' surfaces (F,), 0 to 1; 0 where lost."""
    keyframes: np.ndarray
    """Indices of the keyframes."""
    warnings: tuple[str, ...]
    """What the user should know."""


def track_camera(view: View, config: TrackingConfig | None = None) -> Trajectory:
    """Recover a camera's poses from its images; poses that the view has are not looked at.

    Args:
        view: The camera's frames; `view.gray` is used where there is one.
        config: Settings.

    Raises:
        InputError: No frame has enough depth to start from.
    """
    config = config or TrackingConfig()
    tracker = _Tracker(view, config)
    count = len(view.times_ns)
    for index in range(count):
        tracker.add(index)
    if not len(tracker.keys):
        raise InputError(f"camera {view.name} has no frame with depth in a tenth of its pixels; it cannot be tracked")
    tracker.refine()
    for index in range(count):
        tracker.polish(index)
    poses, quality = tracker.poses, tracker.quality
    lost = quality == 0
    up, warnings = floor_up(view, poses, [k for k in tracker.keys.index if not lost[k]], config.max_depth_m)
    if lost.any():
        first = int(np.flatnonzero(lost)[0])
        warnings.append(f"camera {view.name} was lost in {lost.sum()} of {count} frames, first in frame {first}")
    return Trajectory(up @ poses, quality, np.array(tracker.keys.index), tuple(warnings))


def track_cameras(views: Sequence[View], config: TrackingConfig | None = None) -> list[Trajectory]:
    """Track every camera, each in a world of its own; see `track_camera`.

    Args:
        views: The cameras' frames.
        config: Settings.

    Raises:
        InputError: A camera has no frame with enough depth to start from.
    """
    return [track_camera(view, config) for view in views]


class _Tracker:
    def __init__(self, view: View, config: TrackingConfig):
        self.view, self.config = view, config
        self.camera = CoarseCamera.of(view)
        count = len(view.times_ns)
        self.poses, self.quality = np.full((count, 4, 4), np.nan), np.zeros(count)
        self.anchor = np.full(count, -1)
        self.keys = Keyframes(self.camera)

    def add(self, index: int) -> None:
        """Find where a frame was, from those before."""
        frame = coarse_frame(self.view, self.camera, index, self.config.max_depth_m)
        if np.count_nonzero(frame.inverse) < 0.1 * frame.inverse.size:
            return
        source = self._source(frame)
        if not len(self.keys):
            self._add_key(index, frame, source, np.eye(4))
            self.quality[index] = 1.0
            return
        guess = self._predict(index)
        which, _ = self._choose(source, guess)
        found = align(source, self.keys.poses[which], self.keys.maps[which], self.camera, guess, WIDE)
        if not self._holds(found):
            return
        self.poses[index], self.quality[index] = found.T_world_camera, self._share(found)
        self.keys.see_through(which, found.residuals)
        which, overlap = self._choose(source, found.T_world_camera)
        self.anchor[index] = which[0]
        if overlap < self.config.key_overlap:
            self._add_key(index, frame, source, found.T_world_camera)

    def refine(self) -> None:
        """Move the keyframes to where they agree best, and the frames along with them."""
        before = self.keys.poses.copy()
        self.agree = refine(self.keys)
        moved = self.keys.poses @ se3_inverse(before)
        tracked = self.quality > 0
        self.poses[tracked] = moved[self.anchor[tracked]] @ self.poses[tracked]

    def polish(self, index: int) -> None:
        """Align a frame again, to the keyframes as they are now."""
        frame = coarse_frame(self.view, self.camera, index, self.config.max_depth_m)
        if self.quality[index] == 0:
            return
        source, guess = self._source(frame), self.poses[index]
        which, _ = self._choose(source, guess)
        found = align(source, self.keys.poses[which], self.keys.maps[which], self.camera, guess, FINE)
        self.poses[index], self.quality[index] = found.T_world_camera, self._share(found)

    def _source(self, frame: CoarseFrame) -> Source:
        points, place = frame.points(self.camera, 2)
        return Source(points, None if frame.gray is None else frame.gray.ravel()[place])

    def _predict(self, index: int) -> np.ndarray:
        """Return the pose that the last ones, moving on as they did, lead to."""
        tracked = np.flatnonzero(self.quality[:index] > 0)
        last = tracked[-1]
        if len(tracked) < 2 or last < index - 3:
            return self.poses[last]
        before = tracked[-2]
        times = self.view.times_ns
        share = (times[index] - times[last]) / max(1, times[last] - times[before])
        motion = se3_inverse(self.poses[before]) @ self.poses[last]
        return self.poses[last] @ (motion if 0.5 < share < 1.5 else np.eye(4))

    def _choose(self, source: Source, pose: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the keyframes that a frame is aligned to, the best first, and the best one's overlap."""
        points = source.points
        overlap = self.keys.overlap(points[:: max(1, len(points) // 300)], pose)
        order = np.argsort(-overlap, kind="stable")
        best = float(overlap[order[0]])
        good = order[overlap[order] >= 0.6 * best]
        # The best two, and of the others that see enough the oldest: they do not drift.
        chosen = np.concatenate([good[:2], np.sort(good[2:])])[: self.config.active]
        return chosen, best

    def _holds(self, found: Alignment) -> bool:
        return (
            self._share(found) >= self.config.min_agree
            and found.compared.max() >= self.config.min_compared
            and found.deviation_m <= self.config.max_deviation_m
        )

    def _share(self, found: Alignment) -> float:
        return float((found.agree * found.compared).sum() / max(found.compared.sum(), 1e-9))

    def _add_key(self, index: int, frame: CoarseFrame, source: Source, pose: np.ndarray) -> None:
        self.keys.add(index, source, surface_map(frame), pose)
        self.poses[index], self.anchor[index] = pose, len(self.keys) - 1
