"""Tracking of an RGB-D camera: odometry against keyframes, loop closures, a pose graph, gravity from the floor."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import open3d as o3d

from bodydouble.errors import InputError
from bodydouble.frames import make_se3, se3_inverse
from perception.importers.world_up import up_to_z
from perception.views import View, unproject

_odometry = o3d.t.pipelines.odometry
_registration = o3d.pipelines.registration


@dataclass(frozen=True)
class TrackingConfig:
    """Settings of camera tracking."""

    max_depth_m: float = 5.0
    """Farthest depth that is used, m."""
    trunc_m: float = 0.07
    """Depth difference above which a pixel is held for something that moves, m."""
    min_fitness: float = 0.35
    """Share of pixels that must agree with a keyframe; below, the camera is lost."""
    key_fitness: float = 0.75
    """Share below which a frame becomes a keyframe."""
    key_translation_m: float = 0.20
    """Distance from the keyframe at which a frame becomes a keyframe, m."""
    key_rotation_deg: float = 12.0
    """The same, as an angle, degrees."""
    loop_neighbours: int = 3
    """Nearest older keyframes that a new one is matched with."""
    relocalise_tries: int = 8
    """Keyframes that a lost frame is compared with."""


@dataclass(frozen=True)
class Trajectory:
    """Where a camera was."""

    T_world_camera: np.ndarray
    """Poses (F, 4, 4), metres, Z up; NaN where the camera was lost."""
    quality: np.ndarray
    """Share of pixels that agreed with the keyframe (F,), 0 to 1; 0 where lost."""
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
    for index in range(len(view.times_ns)):
        tracker.add(index)
    if not tracker.keys:
        raise InputError(f"camera {view.name} has no frame with depth in a tenth of its pixels; it cannot be tracked")
    placed = tracker.optimised()
    count = len(view.times_ns)
    poses, lost = np.full((count, 4, 4), np.nan), tracker.quality == 0
    for index in np.flatnonzero(~lost):
        poses[index] = placed[tracker.anchor[index]] @ tracker.relative[index]
    up, warnings = _floor_up(view, poses, tracker.keys, config)
    if lost.any():
        first = int(np.flatnonzero(lost)[0])
        warnings.append(f"camera {view.name} was lost in {lost.sum()} of {count} frames, first in frame {first}")
    return Trajectory(up @ poses, tracker.quality, np.array(tracker.keys), tuple(warnings))


class _Tracker:
    def __init__(self, view: View, config: TrackingConfig):
        self.view, self.config = view, config
        count = len(view.times_ns)
        self.relative, self.anchor = np.tile(np.eye(4), (count, 1, 1)), np.zeros(count, dtype=int)
        self.quality = np.zeros(count)
        self.keys: list[int] = []
        self.key_poses: list[np.ndarray] = []
        self._images: list[tuple[o3d.t.geometry.RGBDImage, bool]] = []
        self._thumbnails: list[np.ndarray] = []
        self._graph = _registration.PoseGraph()
        half = view.K.copy()
        half[:2] /= 2  # every second pixel, from the first on
        self._K = o3d.core.Tensor(half)
        self._last: np.ndarray | None = None

    def add(self, index: int) -> None:
        depth = self.view.depth_mm[index, ::2, ::2].astype(np.float32)
        if np.count_nonzero(depth) < 0.1 * depth.size:
            return
        gray = np.zeros_like(depth) if self.view.gray is None else self.view.gray[index].astype(np.float32) / 255
        colour, thumbnail = bool(gray.any()), depth[::8, ::8]
        image = o3d.t.geometry.RGBDImage(_image(np.repeat(gray[..., None], 3, axis=2)), _image(depth[..., None]))
        found = (image, colour)
        if not self.keys:
            self._add_key(index, found, thumbnail, np.eye(4), 1.0)
            return
        near = len(self.keys) - 1 if self._last is None else self._near(self._last)[0]
        guess = np.eye(4) if self._last is None else se3_inverse(self.key_poses[near]) @ self._last
        fitness, relative = self._match(found, near, guess)
        if fitness < self.config.min_fitness:
            near, fitness, relative = self._relocalise(found, thumbnail)
            if fitness < self.config.min_fitness:
                return
        self._last = self.key_poses[near] @ relative
        self.relative[index], self.anchor[index], self.quality[index] = relative, near, fitness
        angle = np.degrees(np.arccos(np.clip((np.trace(relative[:3, :3]) - 1) / 2, -1, 1)))
        moved = np.linalg.norm(relative[:3, 3]) > self.config.key_translation_m
        if moved or angle > self.config.key_rotation_deg or fitness < self.config.key_fitness:
            self._add_key(index, found, thumbnail, self._last, fitness, (near, relative))

    def optimised(self) -> np.ndarray:
        """Return the keyframes' poses (K, 4, 4) after pose-graph optimisation with switchable loop closures."""
        if len(self.keys) > 2:
            option = _registration.GlobalOptimizationOption(self.config.trunc_m, 0.25, 1.0, 0)
            method = _registration.GlobalOptimizationLevenbergMarquardt()
            criteria = _registration.GlobalOptimizationConvergenceCriteria()
            with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
                _registration.global_optimization(self._graph, method, criteria, option)
        return np.array([node.pose for node in self._graph.nodes])

    def _near(self, pose: np.ndarray) -> np.ndarray:
        """Return the keyframes by distance; a radian counts as much as a metre."""
        keys = np.array(self.key_poses)
        turn = np.einsum("kij,ij->k", keys[:, :3, :3], pose[:3, :3])
        angle = np.arccos(np.clip((turn - 1) / 2, -1, 1))
        return np.argsort(np.linalg.norm(keys[:, :3, 3] - pose[:3, 3], axis=1) + angle, kind="stable")

    def _add_key(self, index, image, thumbnail, pose, fitness, link=None) -> None:
        new = len(self.keys)
        self._graph.nodes.append(_registration.PoseGraphNode(pose))
        if link is not None:
            self._edge(image, link[0], new, link[1], uncertain=False)
            others = [key for key in self._near(pose) if key != link[0]][: self.config.loop_neighbours]
            for key in others:
                share, relative = self._match(image, key, se3_inverse(self.key_poses[key]) @ pose)
                if share >= self.config.min_fitness:
                    self._edge(image, key, new, relative, uncertain=True)
        self.keys.append(index)
        self.key_poses.append(pose)
        self._images.append(image)
        self._thumbnails.append(thumbnail)
        self.relative[index], self.anchor[index], self.quality[index] = np.eye(4), new, fitness

    def _edge(self, image, key: int, new: int, relative: np.ndarray, uncertain: bool) -> None:
        information = _odometry.compute_odometry_information_matrix(
            image[0].depth, self._images[key][0].depth, self._K, o3d.core.Tensor(relative),
            self.config.trunc_m, 1000.0, self.config.max_depth_m,
        ).numpy()  # fmt: skip
        self._graph.edges.append(_registration.PoseGraphEdge(new, key, relative, information, uncertain))

    def _match(self, image, key: int, guess: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the share of pixels that agree and T_key_camera."""
        target, colour = self._images[key]
        method = _odometry.Method.Hybrid if colour and image[1] else _odometry.Method.PointToPlane
        criteria = [_odometry.OdometryConvergenceCriteria(n, 1e-6, 1e-6) for n in (10, 6, 4)]
        loss = _odometry.OdometryLossParams(self.config.trunc_m, 0.03, 0.1)
        try:
            result = _odometry.rgbd_odometry_multi_scale(
                image[0], target, self._K, o3d.core.Tensor(guess), 1000.0, self.config.max_depth_m,
                criteria, method, loss,
            )  # fmt: skip
        except RuntimeError:  # a singular system: too few pixels agree
            return 0.0, guess
        return float(result.fitness), result.transformation.numpy()

    def _relocalise(self, image, thumbnail: np.ndarray) -> tuple[int, float, np.ndarray]:
        apart = [np.mean(np.minimum(np.abs(thumbnail - other), 500)) for other in self._thumbnails]
        order = np.argsort(apart, kind="stable")[: self.config.relocalise_tries]
        tries = [(key, *self._match(image, key, np.eye(4))) for key in order]
        return max(tries, key=lambda found: found[1])


def _image(array: np.ndarray) -> o3d.t.geometry.Image:
    return o3d.t.geometry.Image(o3d.core.Tensor(np.ascontiguousarray(array)))


def _floor_up(view: View, poses: np.ndarray, keys: list[int], config: TrackingConfig) -> tuple[np.ndarray, list[str]]:
    """Return T_world_first (4, 4), which turns up to +Z and puts the floor at 0, and what to say of it."""
    step = max(1, len(keys) // 15)
    points = []
    for index in keys[::step]:
        depth = view.depth_mm[index].astype(np.float32) / 1000
        seen = unproject(np.where(depth < config.max_depth_m, depth, 0), view.K, 8)[0]
        points.append(seen @ poses[index, :3, :3].T + poses[index, :3, 3])
    left, up0 = np.concatenate(points), -np.nanmean(poses[:, :3, 1], axis=0)
    up0 /= np.linalg.norm(up0)
    total, best, best_score = len(left), None, 0.0
    o3d.utility.random.seed(0)
    for _ in range(6):
        if len(left) < 200:
            break
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(left))
        plane, inside = cloud.segment_plane(0.03, 3, 500)
        normal = np.asarray(plane[:3]) * np.sign(np.asarray(plane[:3]) @ up0)
        height = float(np.mean(left[inside] @ normal))
        below = np.nanmean(poses[:, :3, 3] @ normal) - height > 0.3
        if normal @ up0 > 0.7 and below and len(inside) > max(best_score, 0.02 * total):
            best, best_score = (normal, height), len(inside)
        left = np.delete(left, inside, axis=0)
    if best is None:
        return up_to_z(tuple(up0)), [f"camera {view.name}: no floor was found; up is the mean of the images' upright"]
    up = up_to_z(tuple(best[0]))
    up = make_se3(np.eye(3), np.array([0, 0, -best[1]])) @ up
    return up, [f"camera {view.name}: up is taken from the floor plane, assuming that the camera is roughly upright"]
