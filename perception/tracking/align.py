"""Alignment of a coarse frame to several keyframes at once: inverse depth and brightness, robustly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

from bodydouble.frames import fix_rotation, make_se3, quat_from_rotvec, quat_to_matrix
from perception.tracking.coarse import CHANNELS, CoarseCamera

DEPTH_SIGMA = 0.002
"""Inverse depth that two frames of a structured-light camera differ by, coarse, 1/m."""
RANGE_SIGMA_M = 0.003
"""Depth that they differ by at any distance, m."""
GRAY_SIGMA = 0.25
"""Brightness that they differ by, of 1; large, as many cameras' colour is not registered to their depth."""
MOVING_WINDOW = 13
"""Side of the neighbourhoods that are held still or moving as a whole, coarse pixels."""
FAR_SHARE = 0.7
"""Share of the points, the farthest, that are tried alone."""
CELL = 16
"""Side of the cells that slopes are averaged over to tell shape from noise, coarse pixels."""


@dataclass(frozen=True)
class Stage:
    """One stage of an alignment, coarse to fine."""

    spread_m: float
    """Depth difference that still pulls, m; larger ones are held for something else."""
    iterations: int
    """Most Gauss-Newton steps."""
    stride: int
    """Every stride-th of the given points is used."""


WIDE = (Stage(0.15, 8, 4), Stage(0.06, 6, 2), Stage(0.012, 6, 1))
"""For a guess that is some ten centimetres off."""
LOST = (Stage(0.4, 8, 4), *WIDE)
"""For a guess that is some decimetres off."""
FINE = (Stage(0.04, 4, 2), Stage(0.012, 4, 1))
"""For a guess that is a few centimetres off."""


@dataclass(frozen=True)
class Source:
    """The points of a frame that are aligned."""

    points: np.ndarray
    """(N, 3), the frame's camera, m, float32."""
    place: np.ndarray
    """Their places in the flat coarse image (N,)."""
    gray: np.ndarray | None
    """Brightness (N,), or None without colour."""

    def only(self, which: np.ndarray) -> Source:
        """Return some of the points."""
        return Source(self.points[which], self.place[which], None if self.gray is None else self.gray[which])


@dataclass(frozen=True)
class Residuals:
    """Differences between N points and M keyframes' surfaces, and their derivatives by the keyframe's point."""

    inside: np.ndarray
    """Whether a point lies on a trusted pixel of the keyframe (M, N)."""
    depth: np.ndarray
    """Inverse depth of the point less that of the surface (M, N), 1/m; negative is behind the surface."""
    z: np.ndarray
    """Depth of the point in the keyframe (M, N), m."""
    gray: np.ndarray | None
    """Brightness of the keyframe less that of the point (M, N)."""
    depth_slope: np.ndarray
    """Derivative of `depth` by the point in the keyframe's camera (3, M, N)."""
    gray_slope: np.ndarray | None
    """Derivative of `gray` likewise (3, M, N)."""
    local: np.ndarray
    """The points in the keyframes' cameras (3, M, N)."""
    pixel: np.ndarray
    """Places in the flat coarse image (M, N), 0 where outside."""


@dataclass(frozen=True)
class Alignment:
    """A frame aligned to keyframes."""

    T_world_camera: np.ndarray
    """The pose (4, 4)."""
    agree: np.ndarray
    """Share of each keyframe's compared points that lie on its surface (M,)."""
    compared: np.ndarray
    """Share of the points that fall on trusted pixels of each keyframe (M,)."""
    deviation_m: float
    """Standard deviation of the position along its least certain direction, m, with independent pixel noise."""
    residuals: Residuals
    """At the pose found."""


def residuals(
    source: Source, T_key_camera: np.ndarray, maps: np.ndarray, camera: CoarseCamera, stride: int = 1
) -> Residuals:
    """Compare a frame's points with keyframes.

    Args:
        source: The points.
        T_key_camera: Pose of the frame in each keyframe's camera (M, 4, 4).
        maps: The keyframes' surface maps (M, h, w, CHANNELS).
        camera: The coarse camera of all.
        stride: Every stride-th point is used.
    """
    points = source.points[::stride].T
    T = T_key_camera.astype(np.float32)
    count = len(T)
    local = np.einsum("mij,jn->imn", T[:, :3, :3], points) + T[:, :3, 3].T[:, :, None]
    x, y, z = local
    inverse_z = 1 / np.maximum(z, np.float32(0.05))
    u = np.float32(camera.fx) * x * inverse_z + np.float32(camera.cx)
    v = np.float32(camera.fy) * y * inverse_z + np.float32(camera.cy)
    column, row = np.rint(u), np.rint(v)
    inside = (z > 0.1) & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    pixel = np.where(inside, row * camera.width + column, 0).astype(np.int32)
    flat = maps.reshape(-1, CHANNELS)
    offset = (np.arange(count, dtype=np.int32) * (camera.width * camera.height))[:, None]
    found = flat[(pixel + offset).ravel()].reshape(count, -1, CHANNELS)
    inside &= found[..., 6] > 0.5
    du, dv = np.where(inside, u - column, 0), np.where(inside, v - row, 0)
    slope_u, slope_v = found[..., 1], found[..., 2]
    depth = inverse_z - (found[..., 0] + slope_u * du + slope_v * dv)
    fx, fy = np.float32(camera.fx), np.float32(camera.fy)
    ju, jv = fx * inverse_z, fy * inverse_z  # du/dx, dv/dy; du/dz = -ju x/z
    x_z, y_z = x * inverse_z, y * inverse_z

    def by_point(gu: np.ndarray, gv: np.ndarray) -> np.ndarray:
        jx, jy = gu * ju, gv * jv
        return np.stack([jx, jy, -(jx * x_z + jy * y_z)])

    slope = -by_point(slope_u, slope_v)
    slope[2] -= inverse_z * inverse_z
    gray = gray_slope = None
    if source.gray is not None:
        gu, gv = found[..., 4], found[..., 5]
        gray = found[..., 3] + gu * du + gv * dv - source.gray[::stride]
        gray_slope = by_point(gu, gv)
    return Residuals(inside, depth, z, gray, slope, gray_slope, local, pixel)


def weights(found: Residuals, spread_m: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the robust weights (M, N) of inverse depth and brightness: Geman and McClure's, zero where not inside.

    Args:
        found: The residuals.
        spread_m: Depth difference at which the pull fades, m.
    """
    inverse_square = np.minimum(1 / np.maximum(found.z, np.float32(0.2)) ** 2, 25)
    sigma = DEPTH_SIGMA + RANGE_SIGMA_M * inverse_square
    spread = DEPTH_SIGMA + spread_m * inverse_square
    ratio = found.depth / spread
    depth = np.where(found.inside & (np.abs(ratio) < 3), 1 / (sigma * (1 + ratio * ratio)) ** 2, 0)
    if found.gray is None:
        return depth, None
    # Brightness tells only of the same surface.
    same = depth > 0
    off = found.gray - (np.median(found.gray[same]) if same.any() else 0)
    ratio = off / np.float32(0.12)
    return depth, np.where(same & (np.abs(ratio) < 3), 1 / (GRAY_SIGMA * (1 + ratio * ratio)) ** 2, 0)


def jacobian(slope: np.ndarray, T_key_camera: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the derivatives (6, M, N) by a small motion (v, w) of the source in its own frame: x <- x + v + w x p.

    Args:
        slope: Derivative by the point in the keyframe's camera (3, M, N).
        T_key_camera: (M, 4, 4).
        points: The points in the source's camera (N, 3).
    """
    own = np.einsum("mij,imn->jmn", T_key_camera[:, :3, :3].astype(np.float32), slope)
    x, y, z = points.T
    turn = np.stack([y * own[2] - z * own[1], z * own[0] - x * own[2], x * own[1] - y * own[0]])
    return np.concatenate([own, turn])


def step_matrix(step: np.ndarray) -> np.ndarray:
    """Return the rigid motion (4, 4) of a small step (v, w)."""
    return make_se3(quat_to_matrix(quat_from_rotvec(step[3:])), step[:3])


def normal_equations(
    found: Residuals, spread_m: float, T_key_camera: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return H (6, 6) and b (6,) of the step H step = -b of the source, over all keyframes together."""
    depth_weight, gray_weight = weights(found, spread_m)
    j = jacobian(found.depth_slope, T_key_camera, points).reshape(6, -1)
    weighted = j * depth_weight.ravel()
    H, b = weighted @ j.T, weighted @ found.depth.ravel()
    if gray_weight is not None:
        assert found.gray is not None and found.gray_slope is not None
        g = found.gray.ravel()
        used = gray_weight.ravel() > 0
        if used.any():
            g = g - np.median(g[used])
        j = jacobian(found.gray_slope, T_key_camera, points).reshape(6, -1)
        weighted = j * gray_weight.ravel()
        H, b = H + weighted @ j.T, b + weighted @ g
    return H.astype(np.float64), b.astype(np.float64)


def align(
    source: Source,
    T_world_key: np.ndarray,
    maps: np.ndarray,
    camera: CoarseCamera,
    guess: np.ndarray,
    stages: tuple[Stage, ...] = WIDE,
) -> Alignment:
    """Find the pose of a frame from its points and several keyframes.

    Direct alignment in inverse depth and brightness (after Gutierrez-Gomez, Mayol-Cuevas and Guerrero 2015), with
    robust weights, over M keyframes together.

    Args:
        source: The frame's points.
        T_world_key: Poses of the keyframes (M, 4, 4).
        maps: Their surface maps (M, h, w, CHANNELS).
        camera: The coarse camera.
        guess: T_world_camera (4, 4) to start from.
        stages: Coarse to fine.
    """
    T_key_world = np.linalg.inv(T_world_key)
    best, pose = -1, guess
    # Near things weigh most and may be what moves: what is far is tried alone too, and the better fit counts.
    depth = source.points[:, 2]
    for part in (source, source.only(depth > np.quantile(depth, 1 - FAR_SHARE))):
        tried = _descend(part, T_key_world, maps, camera, guess, stages[:-1])
        found = residuals(source, T_key_world @ tried, maps, camera)
        still = source.only(~moving_points(found, source, camera))
        tried = _descend(still, T_key_world, maps, camera, tried, stages[-1:])
        found = residuals(source, T_key_world @ tried, maps, camera)
        # A count, not a share: what slides out of sight is no better fit.
        fit = int((found.inside & (np.abs(found.depth) < DEPTH_SIGMA)).sum())
        if fit > best:
            best, pose = fit, tried
    pose[:3, :3] = fix_rotation(pose[:3, :3])
    relative = T_key_world @ pose
    found = residuals(source, relative, maps, camera)
    compared = found.inside.sum(axis=1)
    agree = agreeing(found).sum(axis=1) / np.maximum(compared, 1)
    deviation = _deviation(found, relative, source, camera)
    return Alignment(pose, agree, compared / max(len(source.points), 1), deviation, found)


def _descend(
    source: Source,
    T_key_world: np.ndarray,
    maps: np.ndarray,
    camera: CoarseCamera,
    guess: np.ndarray,
    stages: tuple[Stage, ...],
) -> np.ndarray:
    """Return the pose (4, 4) after the stages' Gauss-Newton steps."""
    pose = guess.copy()
    for stage in stages:
        points = source.points[:: stage.stride]
        for _ in range(stage.iterations):
            relative = T_key_world @ pose
            found = residuals(source, relative, maps, camera, stage.stride)
            H, b = normal_equations(found, stage.spread_m, relative, points)
            H[np.diag_indices(6)] += 1e-6 * np.trace(H) + 1.0
            step = -np.linalg.solve(H, b)
            pose = pose @ step_matrix(step)
            if np.linalg.norm(step[:3]) < 2e-4 and np.linalg.norm(step[3:]) < 2e-4:
                break
    return pose


def moving_points(found: Residuals, source: Source, camera: CoarseCamera) -> np.ndarray:
    """Return which points (N,) are in a part of the image that does not lie where the keyframes have it.

    A person's near surfaces weigh most in inverse depth, and a part that moved by little still pulls: so whole
    neighbourhoods are left out in which many points are off. Where that would leave too little, nothing is.

    Args:
        found: Residuals at a pose that is right within a few centimetres.
        source: The points.
        camera: The coarse camera.
    """
    limit = 1.25 * DEPTH_SIGMA + 0.01 / np.maximum(found.z, np.float32(0.2)) ** 2
    off = (found.inside & (np.abs(found.depth) > limit)).any(axis=0)
    size = camera.height, camera.width
    counts = []
    for which in (off, found.inside.any(axis=0)):
        image = np.zeros(size, np.float32)
        image.ravel()[source.place[which]] = 1
        counts.append(uniform_filter(image, MOVING_WINDOW, mode="constant").ravel()[source.place])
    moving = counts[0] > 0.3 * counts[1]
    return moving if moving.mean() < 0.6 else np.zeros_like(moving)


def agreeing(found: Residuals, factor: float = 4.0) -> np.ndarray:
    """Return which points (M, N) lie on the keyframe's surface, within a factor of the expected difference."""
    limit = DEPTH_SIGMA + 2 * RANGE_SIGMA_M / np.maximum(found.z, np.float32(0.2)) ** 2
    return found.inside & (np.abs(found.depth) < factor * limit)


def _deviation(found: Residuals, T_key_camera: np.ndarray, source: Source, camera: CoarseCamera) -> float:
    """Return the largest standard deviation of the position, m; keyframes that see the same count once.

    The derivatives by depth are averaged over cells first: else the noise of a plain wall's slopes would look like
    shape that holds the camera in place.
    """
    depth_weight, gray_weight = weights(found, 0.02)
    rows, columns = np.divmod(source.place, camera.width)
    across = camera.width // CELL + 1
    cell = (rows // CELL) * across + columns // CELL
    count = len(T_key_camera)
    cell = (cell + np.arange(count)[:, None] * (across * (camera.height // CELL + 1))).ravel()
    used = depth_weight.ravel() > 0
    total = np.maximum(np.bincount(cell, used), 1)
    j = jacobian(found.depth_slope, T_key_camera, source.points).reshape(6, -1) * np.sqrt(depth_weight.ravel())
    mean = np.stack([np.bincount(cell, row) for row in j]) / np.sqrt(total)
    H = mean @ mean.T
    if gray_weight is not None:
        assert found.gray_slope is not None
        j = jacobian(found.gray_slope, T_key_camera, source.points).reshape(6, -1)
        H += (j * gray_weight.ravel()) @ j.T
    H = H / count + np.eye(6)
    return float(np.sqrt(np.linalg.eigvalsh(np.linalg.inv(H)[:3, :3])[-1]))
