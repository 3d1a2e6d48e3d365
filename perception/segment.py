"""The person: depth that the static scene does not explain, as points in the world on one time base for all cameras."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import open3d as o3d
from rich.console import Console
from rich.progress import track
from scipy.ndimage import label

from perception.static_scene import SceneConfig, StaticScene, seen_free
from perception.views import View, depth_margin


@dataclass(frozen=True)
class SegmentConfig:
    """How the person is told from the scene."""

    fps: float = 30.0
    """Rate of the common time base, Hz."""
    stride: int = 2
    """Every stride-th row and column of the depth images is looked at."""
    margin_m: float = 0.04
    """Distance in front of the scene that counts, m; it grows with the depth's noise."""
    cell_m: float = 0.08
    """Cell in which points count as connected, m."""
    min_points: int = 150
    """Points below which a frame shows nobody."""
    points_per_frame: int = 700
    """Points kept per frame, of all cameras together."""
    max_depth_m: float = 5.0
    """Farthest depth that is used, m."""
    min_moved: float = 0.7
    """Share of the points whose place must have been free at other times, in the median frame."""
    seed: int = 0
    """Seed of the choice of points."""


@dataclass(frozen=True)
class PersonPoints:
    """Points on the person. T frames, P points each."""

    times_ns: np.ndarray
    """Times (T,), int64, ns."""
    points: np.ndarray
    """Points (T, P, 3), world, m; where a frame has fewer, some are there twice."""
    origin: np.ndarray
    """Position of the camera that saw each point (T, P, 3), world, m."""
    count: np.ndarray
    """Points found before thinning (T,); 0 where nobody was seen."""
    views: np.ndarray
    """Number of cameras that saw the person (T,)."""


def person_points(
    views: Sequence[View], scene: StaticScene, config: SegmentConfig, scene_config: SceneConfig
) -> PersonPoints | None:
    """Return the person's points at each time of the common base, from the first to the last frame with anybody.

    Returns:
        The points, or None where no frame shows a person, or what it shows does not move.
    """
    caster = scene.raycaster()
    start = min(int(view.times_ns[0]) for view in views)
    end = max(int(view.times_ns[-1]) for view in views)
    times = start + np.round(np.arange(round((end - start) * 1e-9 * config.fps) + 1) * 1e9 / config.fps).astype(
        np.int64
    )
    found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in times]
    for view in views:
        _segment(view, caster, times, found, config)
    count = np.array([sum(len(points) for points, _ in frame) for frame in found])
    shown = np.flatnonzero(count >= config.min_points)
    if len(shown) < config.fps / 2:
        return None
    first, last = shown[0], shown[-1] + 1
    rng = np.random.default_rng(config.seed)
    size = (last - first, config.points_per_frame, 3)
    points, origin = np.zeros(size), np.zeros(size)
    for index in range(first, last):
        frame = found[index] if count[index] >= config.min_points else []
        if not frame:
            count[index] = 0
            continue
        everything = np.concatenate([p for p, _ in frame])
        eyes = np.concatenate([np.tile(eye, (len(p), 1)) for p, eye in frame])
        pick = _spread(everything, config.points_per_frame, rng)
        points[index - first], origin[index - first] = everything[pick], eyes[pick]
    person = PersonPoints(
        times[first:last], points, origin, count[first:last], np.array([len(frame) for frame in found[first:last]])
    )
    return person if _moved(person, views, scene_config) >= config.min_moved else None


def _moved(person: PersonPoints, views: Sequence[View], config: SceneConfig) -> float:
    """Return the share of the points, in the median frame, whose place was free at other times.

    Furniture that the mesh lacks stands in front of it as a person does, but stays where it is.
    """
    shown = person.count > 0
    free = seen_free(person.points[shown].reshape(-1, 3), views, config)
    return float(np.median(free.reshape(shown.sum(), -1).mean(axis=1)))


def _spread(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return indices of points, evenly over space: first one per 3 cm cell, then any."""
    cells = np.floor(points / 0.03).astype(np.int64)
    order = rng.permutation(len(points))
    _, first = np.unique(cells[order], axis=0, return_index=True)
    chosen = order[first]
    if len(chosen) >= count:
        return rng.choice(chosen, count, replace=False)
    return np.concatenate([chosen, rng.choice(len(points), count - len(chosen))])


def _segment(
    view: View,
    caster: o3d.t.geometry.RaycastingScene,
    times: np.ndarray,
    found: list[list[tuple[np.ndarray, np.ndarray]]],
    config: SegmentConfig,
) -> None:
    """Append the person's points in the view, in the frame nearest to each time, to that time's."""
    width, height = view.size
    rows, columns = np.meshgrid(np.arange(0, height, config.stride), np.arange(0, width, config.stride), indexing="ij")
    directions = np.stack(
        [(columns - view.K[0, 2]) / view.K[0, 0], (rows - view.K[1, 2]) / view.K[1, 1], np.ones(rows.shape)], axis=-1
    )
    period_ns = 1e9 / config.fps
    nearest = np.abs(view.times_ns[:, None] - times).argmin(axis=0)
    slots = np.round((view.times_ns[nearest] - times[0]) / period_ns).astype(np.int64)
    mutual = slots == np.arange(len(times))
    pairs = np.stack([np.flatnonzero(mutual), nearest[mutual]], axis=1)
    for slot, index in track(pairs, f"person in {view.name}", console=Console(stderr=True)):
        T = view.T_world_camera[index]
        rays = directions @ T[:3, :3].T
        depth = view.depth_mm[index, :: config.stride, :: config.stride].astype(np.float64) / 1000
        origin = np.broadcast_to(T[:3, 3], rays.shape)
        cast = caster.cast_rays(o3d.core.Tensor(np.concatenate([origin, rays], axis=-1).astype(np.float32)))
        # Directions have unit depth, so a hit's distance is its depth; nothing behind is infinity.
        background = cast["t_hit"].numpy()
        mask = (depth > 0) & (depth < config.max_depth_m) & (depth < background - depth_margin(depth, config.margin_m))
        points = T[:3, 3] + rays[mask] * depth[mask][:, None]
        points = largest_cluster(points, config.cell_m)
        if len(points) >= config.min_points // 2:
            found[slot].append((points, T[:3, 3]))


def largest_cluster(points: np.ndarray, cell_m: float) -> np.ndarray:
    """Return the points of the largest connected cluster, and of others a fifth its size that stand by it."""
    if len(points) < 10:
        return points[:0]
    cell = np.floor(points / cell_m).astype(np.int64)
    cell -= cell.min(axis=0)
    shape = cell.max(axis=0) + 1
    if np.prod(shape.astype(np.float64)) > 2e8:
        return points[:0]
    names = np.ravel_multi_index(tuple(cell.T), tuple(shape))
    counts = np.bincount(names, minlength=int(np.prod(shape))).reshape(shape)
    # A single reading in a cell is noise at an edge.
    clusters = np.zeros(counts.shape, dtype=np.int64)
    label(counts >= 2, structure=np.ones((3, 3, 3)), output=clusters)
    owner = clusters[tuple(cell.T)]
    sizes = np.bincount(owner)
    sizes[0] = 0
    if sizes.max(initial=0) == 0:
        return points[:0]
    main = int(sizes.argmax())
    centre = points[owner == main].mean(axis=0)
    keep = [
        int(other)
        for other in np.flatnonzero(sizes >= 0.2 * sizes[main])
        if np.linalg.norm(points[owner == other].mean(axis=0)[:2] - centre[:2]) < 0.6
    ]
    return points[np.isin(owner, keep)]
