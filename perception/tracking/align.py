"""Alignment of a coarse frame to several keyframes at once: inverse depth and brightness, robustly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

from bodydouble.frames import fix_rotation
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
MOVING_SHARE = 0.25
"""Share of points that move from which on all points are tried too."""
FIT_SHARE = 0.85
"""Share of the compared points that must fit, or all points are tried too."""
MEDIAN_OF = 1000
"""Points that a median of the brightness is taken of, at least, if there are as many."""
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

    def only(self, which: np.ndarray | slice) -> Source:
        """Return some of the points."""
        return Source(self.points[which], self.place[which], None if self.gray is None else self.gray[which])


@dataclass(frozen=True)
class Residuals:
    """Differences between N points and M keyframes' surfaces, and their derivatives by the keyframe's point."""

    inside: np.ndarray
    """Whether a point lies on a trusted pixel of the keyframe (M, N)."""
    depth: np.ndarray
    """Inverse depth of the point less that of the surface (M, N), 1/m; negative is behind the surface."""
    inverse: np.ndarray
    """Inverse depth of the point in the keyframe (M, N), 1/m, at most 20."""
    gray: np.ndarray | None
    """Brightness of the keyframe less that of the point (M, N)."""
    depth_slope: np.ndarray
    """Derivative of `depth` by the point in the keyframe's camera (M, 3, N)."""
    gray_slope: np.ndarray | None
    """Derivative of `gray` likewise (M, 3, N)."""
    local: np.ndarray
    """The points in the keyframes' cameras (M, 3, N)."""
    pixel: np.ndarray
    """Places in the flat coarse image (M, N), 0 where outside."""

    def square(self, nearest_m: float) -> np.ndarray:
        """Return the inverse depth of the points squared (M, N), 1/m^2, as if none were nearer than some distance."""
        return np.minimum(self.inverse, np.float32(1 / nearest_m)) ** 2


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


def residuals(source: Source, T_key_camera: np.ndarray, maps: np.ndarray, camera: CoarseCamera) -> Residuals:
    """Compare a frame's points with keyframes.

    Args:
        source: The points.
        T_key_camera: Pose of the frame in each keyframe's camera (M, 4, 4).
        maps: The keyframes' surface maps (M, h, w, CHANNELS).
        camera: The coarse camera of all.
    """
    T = T_key_camera.astype(np.float32)
    count = len(T)
    local = T[:, :3, :3] @ source.points.T
    local += T[:, :3, 3:]
    z = local[:, 2]
    inverse = 1 / np.maximum(z, np.float32(0.05))
    x_z, y_z = local[:, 0] * inverse, local[:, 1] * inverse
    fx, fy = np.float32(camera.fx), np.float32(camera.fy)
    u, v = fx * x_z + np.float32(camera.cx), fy * y_z + np.float32(camera.cy)
    column, row = np.rint(u), np.rint(v)
    inside = (z > 0.1) & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    pixel = np.where(inside, row * np.float32(camera.width) + column, 0).astype(np.int64)
    first = (np.arange(count) * (camera.width * camera.height))[:, None]
    found = maps.reshape(-1, CHANNELS).take(pixel + first, axis=0, mode="clip")
    inside &= found[..., 6] > 0.5
    du, dv = np.where(inside, u - column, 0), np.where(inside, v - row, 0)
    ju, jv = fx * inverse, fy * inverse  # du/dx, dv/dy; du/dz = -ju x/z

    def plane(first: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the value (M, N) of the map's plane at the points, and its derivative by the point (M, 3, N)."""
        gu, gv = found[..., first + 1], found[..., first + 2]
        slope = np.empty_like(local)
        np.multiply(gu, ju, out=slope[:, 0])
        np.multiply(gv, jv, out=slope[:, 1])
        np.multiply(slope[:, 0], x_z, out=slope[:, 2])
        slope[:, 2] += slope[:, 1] * y_z
        np.negative(slope[:, 2], out=slope[:, 2])
        return found[..., first] + gu * du + gv * dv, slope

    there, slope = plane(0)
    depth = inverse - there
    np.negative(slope, out=slope)
    slope[:, 2] -= inverse * inverse
    gray = gray_slope = None
    if source.gray is not None:
        gray, gray_slope = plane(3)
        gray -= source.gray
    return Residuals(inside, depth, inverse, gray, slope, gray_slope, local, pixel)


def weights(found: Residuals, spread_m: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the robust weights (M, N) of inverse depth and brightness: Geman and McClure's, zero where not inside.

    Args:
        found: The residuals.
        spread_m: Depth difference at which the pull fades, m.
    """
    square = found.square(0.2)
    sigma = DEPTH_SIGMA + RANGE_SIGMA_M * square
    ratio = found.depth / (DEPTH_SIGMA + spread_m * square)
    np.square(ratio, out=ratio)
    depth = np.where(found.inside & (ratio < 9), 1 / (sigma * (1 + ratio)) ** 2, 0)
    if found.gray is None:
        return depth, None
    # Brightness tells only of the same surface.
    same = depth > 0
    ratio = (found.gray - _median(found.gray[same])) / np.float32(0.12)
    np.square(ratio, out=ratio)
    return depth, np.where(same & (ratio < 9), 1 / (GRAY_SIGMA * (1 + ratio)) ** 2, 0)


def _median(values: np.ndarray) -> np.float32:
    """Return the median of some of the values (N,), evenly over them; 0 without any."""
    return np.median(values[:: max(1, len(values) // MEDIAN_OF)]) if len(values) else np.float32(0)


def jacobian(slope: np.ndarray, T_key_camera: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the derivatives (M, 6, N) by a small motion (v, w) of the source in its own frame: x <- x + v + w x p.

    Args:
        slope: Derivative by the point in the keyframe's camera (M, 3, N).
        T_key_camera: (M, 4, 4).
        points: The points in the source's camera (N, 3).
    """
    rows = np.empty((len(slope), 6, len(points)), np.float32)
    np.matmul(T_key_camera[:, :3, :3].astype(np.float32).swapaxes(1, 2), slope, out=rows[:, :3])
    turned(rows, np.ascontiguousarray(points.T))
    return rows


def turned(rows: np.ndarray, points: np.ndarray) -> None:
    """Fill in the derivatives by a turn, (M, 6, N), whose first three are those by a shift, at points (..., 3, N)."""
    for k in range(3):
        a, b = (k + 1) % 3, (k + 2) % 3
        np.multiply(points[..., a, :], rows[:, b], out=rows[:, 3 + k])
        rows[:, 3 + k] -= points[..., b, :] * rows[:, a]


def step_matrix(step: np.ndarray) -> np.ndarray:
    """Return the rigid motion (4, 4) of a small step (v, w), by Rodrigues' formula."""
    x, y, z = (float(w) for w in step[3:])
    square = x * x + y * y + z * z
    angle = math.sqrt(square)
    small = angle < 1e-6
    a, b = (1.0, 0.5) if small else (math.sin(angle) / angle, (1 - math.cos(angle)) / square)
    motion = np.eye(4)
    motion[:3, :3] += [
        [-b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y],
        [b * x * y + a * z, -b * (x * x + z * z), b * y * z - a * x],
        [b * x * z - a * y, b * y * z + a * x, -b * (x * x + y * y)],
    ]
    motion[:3, 3] = step[:3]
    return motion


def normal_equations(
    found: Residuals, spread_m: float, T_key_camera: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return H (6, 6) and b (6,) of the step H step = -b of the source, over all keyframes together."""
    depth_weight, gray_weight = weights(found, spread_m)
    H, b = _sums(jacobian(found.depth_slope, T_key_camera, points), depth_weight, found.depth)
    if gray_weight is not None:
        assert found.gray is not None and found.gray_slope is not None
        # One camera may be brighter than at another time: the mean difference tells nothing.
        off = (gray_weight * found.gray).sum() / np.maximum(gray_weight.sum(), np.float32(1e-9))
        sums = _sums(jacobian(found.gray_slope, T_key_camera, points), gray_weight, found.gray - off)
        H, b = H + sums[0], b + sums[1]
    return H, b


def _sums(rows: np.ndarray, weight: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted squares (6, 6) of derivatives (M, 6, N), and their products (6,) with values (M, N)."""
    weighted = rows * weight[:, None]
    H = (weighted @ rows.swapaxes(1, 2)).sum(axis=0, dtype=np.float64)
    return H, (weighted @ value[..., None]).sum(axis=(0, 2), dtype=np.float64)


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
    best, pose, found = -1, guess, None
    # Near things weigh most and may be what moves: what is far is tried alone, and where that leaves doubts all is
    # tried too, and the better fit counts.
    depth = source.points[:, 2]
    for part in (source.only(depth > np.quantile(depth, 1 - FAR_SHARE)), source):
        tried = _descend(part, T_key_world, maps, camera, guess, stages[:-1])
        moving = moving_points(residuals(source, T_key_world @ tried, maps, camera), source, camera)
        tried = _descend(source.only(~moving), T_key_world, maps, camera, tried, stages[-1:])
        tried[:3, :3] = fix_rotation(tried[:3, :3])
        there = residuals(source, T_key_world @ tried, maps, camera)
        # A count, not a share: what slides out of sight is no better fit.
        fit = int((there.inside & (np.abs(there.depth) < DEPTH_SIGMA)).sum())
        if fit > best:
            best, pose, found = fit, tried, there
        if moving.mean() < MOVING_SHARE and fit > FIT_SHARE * there.inside.sum():
            break
    assert found is not None
    compared = found.inside.sum(axis=1)
    agree = agreeing(found).sum(axis=1) / np.maximum(compared, 1)
    deviation = _deviation(found, T_key_world @ pose, source, camera)
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
        some = source.only(slice(None, None, stage.stride))
        for _ in range(stage.iterations):
            relative = T_key_world @ pose
            found = residuals(some, relative, maps, camera)
            H, b = normal_equations(found, stage.spread_m, relative, some.points)
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
    limit = 1.25 * DEPTH_SIGMA + 0.01 * found.square(0.2)
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
    limit = DEPTH_SIGMA + 2 * RANGE_SIGMA_M * found.square(0.2)
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
    cells = across * (camera.height // CELL + 1)
    cell = (cell + np.arange(count)[:, None] * cells).ravel()
    total = np.maximum(np.bincount(cell, depth_weight.ravel() > 0), 1)
    rows = jacobian(found.depth_slope, T_key_camera, source.points) * np.sqrt(depth_weight)[:, None]
    mean = np.stack([np.bincount(cell, row.ravel()) for row in rows.swapaxes(0, 1)]) / np.sqrt(total)
    H = mean @ mean.T
    if gray_weight is not None:
        assert found.gray is not None and found.gray_slope is not None
        H += _sums(jacobian(found.gray_slope, T_key_camera, source.points), gray_weight, found.gray)[0]
    H = H / count + np.eye(6)
    return float(np.sqrt(np.linalg.eigvalsh(np.linalg.inv(H)[:3, :3])[-1]))
