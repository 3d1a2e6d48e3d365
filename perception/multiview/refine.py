"""Refinement of the relative poses: the person's joints, the scenes' surfaces, and the views' depth together.

EmbodMocap (arXiv 2602.23205), equations 2 and 3, in the camera-to-world form R' = Rz(phi) R, T' = Rz(phi) T + T_off:
yaw and shift per view, and here a tilt of about a degree, since each camera's floor has an error of its own.
Three terms: joints seen from both sides (5), scenes that coincide (6, as distances to tangent planes, Chen and Medioni
1992), and scene points that fall on another view's depth image at the depth read there (7, the reprojection of a depth
camera). Gauss-Newton on reweighted least squares (Cauchy's weights), with new correspondences at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from bodydouble.frames import make_se3, quat_from_rotvec, quat_to_matrix, se3_apply, se3_inverse
from perception.multiview.paths import at_times
from perception.multiview.sketch import Sketch


@dataclass(frozen=True)
class RefineConfig:
    """Weights of the refinement: how wrong each kind of measurement is as a whole."""

    track_m: float = 0.04
    """Error of the joints seen from one side, m, shared over a clip: the joint network's, not the sensor's noise."""
    scene_m: float = 0.01
    """Error of a scene's surface, m."""
    patches: float = 100.0
    """Number of independent patches of a scene's surface."""
    tilt_rad: float = 0.01
    """Error of a camera's upright direction, rad."""
    floor_m: float = 0.03
    """Error of a camera's floor height, m."""
    reach_m: tuple[float, ...] = (0.5, 0.3, 0.2, 0.1, 0.1, 0.06, 0.06, 0.06)
    """Distance at which surfaces correspond in each step, m."""
    points: int = 20_000
    """Points of each scene at most; of a quarter of them the cameras' places depend on the choice, by millimetres."""
    width_s: float = 0.08
    """Width of the bell curve that smooths the person's path, s."""


@dataclass(frozen=True)
class Link:
    """Two views that see the same."""

    a: int
    """Index of the first view."""
    b: int
    """Index of the second view."""
    offset_s: float | None
    """Second view's stamp minus the first's at the same moment, s; None leaves the joints out."""


def refine_poses(
    sketches: Sequence[Sketch], poses: Sequence[np.ndarray], links: Sequence[Link], fixed: Sequence[int],
    config: RefineConfig,
) -> tuple[list[np.ndarray], np.ndarray]:  # fmt: skip
    """Return the views' poses T_world_view (4, 4) that make joints and scenes coincide, and how loose they are.

    Loose is the standard deviation (V,) of a view's place, m, at the middle of its scene, in the direction that is held
    least; 0 for fixed views.

    Args:
        sketches: The views' sketches.
        poses: Poses to start from, T_world_view (4, 4) each.
        links: Pairs of views to compare.
        fixed: Views that stay where they are.
        config: Weights.
    """
    now = [pose.copy() for pose in poses]
    free = [index for index in range(len(sketches)) if index not in fixed]
    loose = np.zeros(len(sketches))
    if not free:
        return now, loose
    thinned = [_thinned(sketch, config.points) for sketch in sketches]
    trees = [KDTree(points) for points, _ in thinned]
    start = [pose.copy() for pose in poses]
    for reach in config.reach_m:
        hessian, gradient = np.zeros((6 * len(sketches), 6 * len(sketches))), np.zeros(6 * len(sketches))
        for link in links:
            terms = [
                _track(sketches, now, link, config),
                _scene(thinned, trees, now, link.a, link.b, reach, config),
                _scene(thinned, trees, now, link.b, link.a, reach, config),
                _reprojection(thinned, sketches, now, link.a, link.b, reach, config),
                _reprojection(thinned, sketches, now, link.b, link.a, reach, config),
            ]
            for i, j, residual, jacobian, weight in (term for term in terms if term is not None):
                # Only the difference of two views' poses is seen.
                both = np.concatenate([jacobian, -jacobian], axis=1)
                at = np.r_[6 * i : 6 * i + 6, 6 * j : 6 * j + 6]
                hessian[np.ix_(at, at)] += (weight[:, None] * both).T @ both
                gradient[at] += both.T @ (weight * residual)
        _prior(hessian, gradient, sketches, now, start, free, config)
        at = np.concatenate([np.arange(6 * index, 6 * index + 6) for index in free])
        step = -np.linalg.solve(hessian[np.ix_(at, at)], gradient[at])
        covariance = np.linalg.inv(hessian[np.ix_(at, at)])
        for place, index in enumerate(free):
            own = slice(6 * place, 6 * place + 6)
            moved = _at_middle(se3_apply(now[index], sketches[index].points.mean(axis=0)[None])[0])
            loose[index] = np.sqrt(np.linalg.eigvalsh(moved @ covariance[own, own] @ moved.T)[-1])
            now[index] = _twist(step[own]) @ now[index]
    return now, loose


def _at_middle(centre: np.ndarray) -> np.ndarray:
    """Return the change (3, 6) of a point (3,) with rotation and shift of its view."""
    return np.concatenate([-_cross_matrix(centre), np.eye(3)], axis=1)


def _twist(step: np.ndarray) -> np.ndarray:
    """Return the transform of a small rotation vector and shift (6,), both in the world."""
    return make_se3(quat_to_matrix(quat_from_rotvec(step[:3])), step[3:])


def _thinned(sketch: Sketch, count: int) -> tuple[np.ndarray, np.ndarray]:
    step = max(1, len(sketch.points) // count)
    return sketch.points[::step], sketch.normals[::step]


def _cauchy(residual: np.ndarray, scale: float) -> np.ndarray:
    return 1.0 / (1.0 + (residual / scale) ** 2)


def _jacobian(points: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return the change (N, 6) of points (N, 3) along directions (N, 3) with rotation and shift of their view."""
    return np.concatenate([np.cross(points, direction), direction], axis=1)


def _cross_matrix(v: np.ndarray) -> np.ndarray:
    return np.array([[0.0, -v[2], v[1]], [v[2], 0.0, -v[0]], [-v[1], v[0], 0.0]])


Term = tuple[int, int, np.ndarray, np.ndarray, np.ndarray]
"""View that moves, view that stays, residuals (N,), their change with the first view's pose (N, 6), weights (N,)."""


def _track(sketches: Sequence[Sketch], poses: Sequence[np.ndarray], link: Link, config: RefineConfig) -> Term | None:
    """Return the distances of the joints that both saw at the same moment (equation 5)."""
    path_a, path_b = sketches[link.a].path, sketches[link.b].path
    if link.offset_s is None or path_a is None or path_b is None:
        return None
    b = path_b.transformed(poses[link.b])
    a = at_times(path_a.transformed(poses[link.a]), b.times_s - link.offset_s, config.width_s)
    both = np.isfinite(a).all(axis=-1)
    apart = (a - b.joints)[both]
    if not len(apart):
        return None
    distance = np.linalg.norm(apart, axis=1)
    weight = _cauchy(distance, 2 * config.track_m)
    weight /= max(weight.sum(), 1e-9) * config.track_m**2
    axes = np.eye(3)
    jacobian = np.concatenate([_jacobian(a[both], np.broadcast_to(axis, apart.shape)) for axis in axes])
    return link.a, link.b, apart.T.ravel(), jacobian, np.tile(weight, 3)


def _scene(
    thinned: Sequence[tuple[np.ndarray, np.ndarray]], trees: Sequence[KDTree], poses: Sequence[np.ndarray],
    a: int, b: int, reach: float, config: RefineConfig,
) -> Term | None:  # fmt: skip
    """Return the distances of scene a's points to the tangent planes of scene b (equation 6)."""
    points, normals = se3_apply(poses[a], thinned[a][0]), thinned[a][1] @ poses[a][:3, :3].T
    local = se3_apply(se3_inverse(poses[b]), points)
    distance, nearest = (np.asarray(found) for found in trees[b].query(local, distance_upper_bound=reach))
    found = np.isfinite(distance)
    target = se3_apply(poses[b], thinned[b][0][nearest[found]])
    normal = thinned[b][1][nearest[found]] @ poses[b][:3, :3].T
    same = (normal * normals[found]).sum(axis=1) > 0.7
    if same.sum() < 50:
        return None
    points, target, normal = points[found][same], target[same], normal[same]
    return a, b, *_planes(points, target, normal, reach, config)


def _planes(
    points: np.ndarray, target: np.ndarray, normal: np.ndarray, reach: float, config: RefineConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    residual = ((points - target) * normal).sum(axis=1)
    # Wide at first, so that surfaces that happen to fit already do not outweigh those that do not yet.
    weight = _cauchy(residual, max(3 * config.scene_m, reach / 3))
    weight *= config.patches / (len(residual) * config.scene_m**2)
    return residual, _jacobian(points, normal), weight


def _reprojection(
    thinned: Sequence[tuple[np.ndarray, np.ndarray]], sketches: Sequence[Sketch], poses: Sequence[np.ndarray],
    a: int, b: int, reach: float, config: RefineConfig,
) -> Term | None:  # fmt: skip
    """Return how far scene a's points lie from what view b's frames read in their pixels (equation 7)."""
    points, normals = se3_apply(poses[a], thinned[a][0]), thinned[a][1] @ poses[a][:3, :3].T
    hits, targets = [], []
    for frame in sketches[b].frames:
        camera = poses[b] @ frame.T_world_camera
        local = se3_apply(se3_inverse(camera), points)
        z = np.where(local[:, 2] > 0.3, local[:, 2], np.inf)
        pixel = np.rint(local[:, :2] / z[:, None] @ frame.K[:2, :2].T + frame.K[:2, 2]).astype(int)
        height, width = frame.depth_mm.shape
        inside = np.isfinite(z) & (pixel >= 0).all(axis=1) & (pixel[:, 0] < width) & (pixel[:, 1] < height)
        index = np.flatnonzero(inside)
        read = frame.depth_mm[pixel[index, 1], pixel[index, 0]].astype(np.float64) / 1000
        near = (read > 0) & (np.abs(read - z[index]) < reach)
        index, read = index[near], read[near]
        ray = np.column_stack([(pixel[index] - frame.K[:2, 2]) / np.diag(frame.K)[:2], np.ones(len(index))])
        target = se3_apply(camera, ray * read[:, None])
        # Surfaces seen at a flat angle read a wrong depth.
        facing = np.abs((normals[index] * (target - camera[:3, 3])).sum(axis=1)) / np.maximum(read, 0.1) > 0.3
        hits.append(index[facing])
        targets.append(target[facing])
    index, target = np.concatenate(hits), np.concatenate(targets)
    if len(index) < 50:
        return None
    return a, b, *_planes(points[index], target, normals[index], reach, config)


def _prior(
    hessian: np.ndarray, gradient: np.ndarray, sketches: Sequence[Sketch], now: Sequence[np.ndarray],
    start: Sequence[np.ndarray], free: Sequence[int], config: RefineConfig,
) -> None:  # fmt: skip
    """Hold the upright direction and the floor's height where they were, as well as they are known."""
    for index in free:
        turned = now[index][:3, :3] @ start[index][:3, :3].T
        # The height is held in the middle of the scene, not at its world's origin, which may be far from it.
        middle = sketches[index].points.mean(axis=0)
        centre = se3_apply(now[index], middle[None])[0]
        rise = centre[2] - se3_apply(start[index], middle[None])[0, 2]
        rows = np.zeros((3, 6))
        rows[0, 0] = rows[1, 1] = 1.0 / config.tilt_rad
        rows[2] = np.array([centre[1], -centre[0], 0.0, 0.0, 0.0, 1.0]) / config.floor_m
        value = np.array([turned[2, 1] / config.tilt_rad, -turned[2, 0] / config.tilt_rad, rise / config.floor_m])
        at = slice(6 * index, 6 * index + 6)
        hessian[at, at] += rows.T @ rows
        gradient[at] += rows.T @ value
        # Damping of each step, so that a view that nothing holds stays where it is.
        damped = np.concatenate([np.eye(3, 6)[2:], _at_middle(centre)])
        hessian[at, at] += 0.01 * damped.T @ damped
