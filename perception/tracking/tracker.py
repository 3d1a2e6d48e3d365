"""Tracking of an RGB-D camera: frames against keyframes, keyframes against each other, up from IMU or floor."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import make_se3, quat_from_matrix, quat_from_rotvec, quat_to_matrix, quat_to_rotvec, se3_inverse
from perception.tracking.align import FINE, LOST, WIDE, Alignment, Source, Stage, align
from perception.tracking.coarse import CoarseCamera, CoarseFrame, coarse_frame, surface_map
from perception.tracking.gaps import BRIDGED, bridged, frame_runs, jumps
from perception.tracking.keyframes import Keyframes
from perception.tracking.recognise import alike, thumbnail
from perception.tracking.refine import refine
from perception.tracking.upright import imu_up, upright
from perception.views import View

MIN_FRAMES_APART = 200
"""Frames of all cameras together from which processes of their own pay."""


@dataclass(frozen=True)
class TrackingConfig:
    """Settings of camera tracking."""

    max_depth_m: float = 5.0
    """Farthest depth that is used, m."""
    min_filled: float = 0.1
    """Share of a frame's pixels that must have depth."""
    min_agree: float = 0.5
    """Share of the compared points that must lie on the keyframes' surfaces; below, the camera is lost."""
    min_compared: float = 0.15
    """Share of a frame's points that must be comparable with a keyframe."""
    max_deviation_m: float = 0.010
    """Largest standard deviation of the position, m; above, what is seen does not hold the camera in place."""
    key_overlap: float = 0.88
    """Share of a frame's points that the best keyframe sees, below which the frame becomes a keyframe."""
    active: int = 4
    """Keyframes that a frame is aligned to together."""
    recognise_agree: float = 0.75
    """Share of the compared points that must agree for a place to be recognised after the camera was lost."""
    recognise_compared: float = 0.4
    """Share of the points that must be comparable for that."""
    recognise_deviation_m: float = 0.007
    """Largest standard deviation of the position for that, m: a plain wall looks like any other."""
    recognise_tries: int = 5
    """Keyframes that a lost frame is compared with."""
    max_gap_s: float = 0.3
    """Longest time without a pose that is bridged from the poses before and after, s."""
    max_speed_m_s: float = 4.0
    """Speed between two frames above which one of the poses is not believed, m/s."""


@dataclass(frozen=True)
class Trajectory:
    """Where a camera was."""

    T_world_camera: np.ndarray
    """Poses (F, 4, 4), metres, Z up; NaN where the camera was lost."""
    quality: np.ndarray
    """Share of compared points that lie on the keyframes' surfaces (F,), 0 to 1; 0 where lost, BRIDGED where the pose
    is interpolated over a short gap."""
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
        raise InputError(
            f"camera {view.name} has no frame with depth in {config.min_filled:.0%} of its pixels and enough shape to "
            "start from (a plain wall is not enough); it cannot be tracked"
        )
    tracker.refine()
    # From the last frame to the first: what was lost is found from what came after it.
    for index in reversed(range(count)):
        tracker.polish(index)
    poses, quality = tracker.poses, tracker.quality
    quality[jumps(view.times_ns, poses, quality, config.max_speed_m_s)] = 0
    poses, quality = bridged(view.times_ns, poses, quality, config.max_gap_s)
    up, why_not = None, ""
    if view.imu is not None:
        up, why_not = imu_up(view.times_ns, poses, quality, view.imu)
    T_world_tracked, said = upright(tracker.keys, poses[quality > 0, :3, 3], up)
    warnings = [f"camera {view.name}: {text}" for text in (why_not, said) if text]
    return Trajectory(
        T_world_tracked @ poses, quality, np.array(tracker.keys.index), (*warnings, *_said(view, quality))
    )


def _said(view: View, quality: np.ndarray) -> list[str]:
    """Return what to say of frames that were lost."""
    said = []
    for which, what in ((quality == 0, "has no pose (lost)"), (quality == BRIDGED, "has an interpolated pose")):
        if which.any():
            runs = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in frame_runs(which))
            said.append(f"camera {view.name} {what} in {which.sum()} of {len(which)} frames: {runs}")
    return said


def track_cameras(
    views: Sequence[View], config: TrackingConfig | None = None, workers: int | None = None
) -> list[Trajectory]:
    """Track every camera, each in a world of its own; see `track_camera`.

    Args:
        views: The cameras' frames.
        config: Settings.
        workers: Processes, a camera each; by default as many as there are cores. 1 stays in this process.

    Raises:
        InputError: A camera has no frame with enough depth and shape to start from.
    """
    config = config or TrackingConfig()
    workers = min(workers or os.cpu_count() or 1, len(views))
    # A process costs some seconds to start.
    if workers <= 1 or sum(len(view.times_ns) for view in views) < MIN_FRAMES_APART:
        return [track_camera(view, config) for view in views]
    # Colour is not needed, and would be copied.
    bare = [replace(view, color=[None] * len(view.times_ns)) for view in views]
    context = multiprocessing.get_context("spawn")
    with _one_thread_each(), ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(pool.map(track_camera, bare, [config] * len(bare)))


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Have processes that start meanwhile compute on one core each: their matrices are small, the cores are taken."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Tracker:
    """Poses of the frames so far, in a world that starts at the first keyframe."""

    def __init__(self, view: View, config: TrackingConfig):
        self.view, self.config = view, config
        self.camera = CoarseCamera.of(view)
        count = len(view.times_ns)
        self.poses, self.quality = np.full((count, 4, 4), np.nan), np.zeros(count)
        self.anchor = np.full(count, -1)
        self.keys = Keyframes(self.camera)
        self._thumbnails: list[np.ndarray] = []

    def add(self, index: int) -> None:
        """Find where a frame was, from those before; it may become a keyframe."""
        frame = self._frame(index)
        if frame is None:
            return
        source = self._source(frame)
        if not len(self.keys):
            if self._holds_itself(frame, source):
                self._add_key(index, frame, source, np.eye(4))
                self.quality[index] = 1.0
            return
        near = self._near(index, -1)
        found = None if near is None else self._track(source, near, WIDE)
        if found is None:
            found = self._recognise(frame, source)
        if found is None:
            return
        self.poses[index], self.quality[index] = found.T_world_camera, _share(found)
        which, overlap = self._choose(source, found.T_world_camera)
        self.anchor[index] = which[0]
        if overlap < self.config.key_overlap:
            self._add_key(index, frame, source, found.T_world_camera)

    def refine(self) -> None:
        """Move the keyframes to where they agree best, and the frames along with them."""
        before = self.keys.poses.copy()
        refine(self.keys)
        moved = self.keys.poses @ se3_inverse(before)
        tracked = self.quality > 0
        self.poses[tracked] = moved[self.anchor[tracked]] @ self.poses[tracked]

    def polish(self, index: int) -> None:
        """Align a frame again, to the keyframes as they are now; a lost one is sought from the frame after it."""
        frame = self._frame(index)
        if frame is None:
            return
        source = self._source(frame)
        if self.quality[index] > 0:
            found = self._track(source, self.poses[index], FINE)
        else:
            near = self._near(index, 1)
            found = None if near is None else self._track(source, near, WIDE)
        if found is None:
            self.poses[index], self.quality[index] = np.nan, 0
        else:
            self.poses[index], self.quality[index] = found.T_world_camera, _share(found)

    def _frame(self, index: int) -> CoarseFrame | None:
        frame = coarse_frame(self.view, self.camera, index, self.config.max_depth_m)
        return frame if np.count_nonzero(frame.inverse) >= self.config.min_filled * frame.inverse.size else None

    def _source(self, frame: CoarseFrame) -> Source:
        points, place = frame.points(self.camera, 2 if self.camera.width >= 100 else 1)
        return Source(points, place, None if frame.gray is None else frame.gray.ravel()[place])

    def _near(self, index: int, way: int) -> np.ndarray | None:
        """Return the pose that the tracked frames before (way -1) or after (1) lead to; None if they are far."""
        times = self.view.times_ns
        last = index + way
        while 0 <= last < len(times) and self.quality[last] == 0:
            last += way
        if not 0 <= last < len(times) or abs(times[index] - times[last]) > 1e9:
            return None
        before = last + way
        if not 0 <= before < len(times) or self.quality[before] == 0:
            return self.poses[last]
        share = (times[index] - times[last]) / (times[last] - times[before])
        if not 0.3 < share < 2.5:
            return self.poses[last]
        motion = se3_inverse(self.poses[before]) @ self.poses[last]
        turn = quat_to_rotvec(quat_from_matrix(motion[:3, :3]))
        return self.poses[last] @ make_se3(quat_to_matrix(quat_from_rotvec(share * turn)), share * motion[:3, 3])

    def _track(self, source: Source, guess: np.ndarray, stages: tuple[Stage, ...]) -> Alignment | None:
        """Return a frame's alignment to the keyframes that it sees, or None where it does not hold."""
        which, _ = self._choose(source, guess)
        found = align(source, self.keys.poses[which], self.keys.maps[which], self.camera, guess, stages)
        config = self.config
        if (
            _share(found) < config.min_agree
            or found.compared.max() < config.min_compared
            or found.deviation_m > config.max_deviation_m
        ):
            return None
        self.keys.see_through(which, found.residuals)
        return found

    def _recognise(self, frame: CoarseFrame, source: Source) -> Alignment | None:
        """Return the alignment of a lost frame to a keyframe that looks like it; None unless it is beyond doubt."""
        config, good = self.config, []
        for key, turn in alike(thumbnail(frame), np.stack(self._thumbnails), self.camera)[: config.recognise_tries]:
            pose = self.keys.poses[key : key + 1]
            found = align(source, pose, self.keys.maps[key : key + 1], self.camera, pose[0] @ turn, LOST)
            if (
                found.agree[0] >= config.recognise_agree
                and found.compared[0] >= config.recognise_compared
                and found.deviation_m <= config.recognise_deviation_m
            ):
                good.append(found)
        if not good:
            return None
        best = max(good, key=lambda found: found.agree[0] * found.compared[0])
        # Two places that look alike: neither is believed.
        if any(np.linalg.norm(f.T_world_camera[:3, 3] - best.T_world_camera[:3, 3]) > 0.1 for f in good):
            return None
        found = self._track(source, best.T_world_camera, FINE)
        return found if found is not None and _share(found) >= config.recognise_agree else None

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

    def _holds_itself(self, frame: CoarseFrame, source: Source) -> bool:
        found = align(source, np.eye(4)[None], surface_map(frame)[None], self.camera, np.eye(4), FINE[-1:])
        return found.compared[0] >= self.config.min_compared and found.deviation_m <= self.config.max_deviation_m

    def _add_key(self, index: int, frame: CoarseFrame, source: Source, pose: np.ndarray) -> None:
        self.keys.add(index, source, surface_map(frame), pose)
        self._thumbnails.append(thumbnail(frame))
        self.poses[index], self.anchor[index] = pose, len(self.keys) - 1


def _share(found: Alignment) -> float:
    return float((found.agree * found.compared).sum() / max(found.compared.sum(), 1e-9))
