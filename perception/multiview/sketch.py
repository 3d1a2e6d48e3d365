"""A sketch of what one camera saw: a coarse static scene, and the person's joints over time, cheap to make."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import open3d as o3d
from rich.console import Console
from rich.progress import track

from perception.clusters import largest_cluster
from perception.joints.canonical import MIN_POINTS
from perception.joints.estimate import estimate_views
from perception.multiview.paths import JointPath
from perception.scene_frames import Frame
from perception.static_scene import SceneConfig, StaticScene, reconstruct_scene, seen_free
from perception.views import View, depth_margin, unproject


@dataclass(frozen=True)
class SketchConfig:
    """How coarse a sketch is."""

    voxel_m: float = 0.04
    """Voxel of the static scene, m."""
    scene_stride_s: float = 0.4
    """Time between the frames that the static scene is made from, s; less in short recordings."""
    scene_frames: int = 60
    """Frames that the static scene is made from at least, if there are as many."""
    person_fps: float = 15.0
    """Frames per second in which the person is looked for, Hz."""
    columns: int = 160
    """Columns that are looked at of each image, evenly spread, and rows as densely."""
    margin_m: float = 0.06
    """Distance before the scene from which on a point is the person's, m."""
    max_depth_m: float = 5.0
    """Farthest depth that is used, m."""
    min_points: int = 120
    """Points below which a frame shows nobody."""
    min_moved: float = 0.15
    """Share of a frame's points whose place must have been free at other times; else it shows furniture."""
    points: int = 500
    """Points that the joint network is given."""
    seed: int = 0
    """Seed of their choice."""


@dataclass(frozen=True)
class Sketch:
    """What one camera saw, in its own upright world and on its own clock."""

    name: str
    """Name of the camera."""
    points: np.ndarray
    """Points of the static scene (S, 3), m."""
    normals: np.ndarray
    """Their normals (S, 3)."""
    frames: tuple[Frame, ...]
    """Some small depth images, to tell free space."""
    path: JointPath | None
    """The person's joints; None where nobody moves."""
    frame_count: int
    """Frames of the camera."""


def sketch_view(view: View, config: SketchConfig, origin_ns: int = 0) -> Sketch:
    """Return the sketch of a camera.

    Args:
        view: The camera; every frame has a pose.
        config: Settings.
        origin_ns: Stamp that is called time 0, so that seconds keep their precision.

    Raises:
        InputError: There is no colour, the depth is not that of a room, or no surface was seen often enough.
    """
    stride_s = min(config.scene_stride_s, float(view.times_ns[-1] - view.times_ns[0]) * 1e-9 / config.scene_frames)
    scene_config = SceneConfig(
        voxel_m=config.voxel_m,
        stride_s=stride_s,
        max_depth_m=config.max_depth_m,
        vote_cell_m=config.voxel_m,
        vertex_cell_m=config.voxel_m,
    )
    thin = dataclasses.replace(view, color=_thinned(view, stride_s))
    scene = reconstruct_scene([thin], scene_config)
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(scene.vertices), o3d.utility.Vector3iVector(scene.triangles.astype(np.int32))
    )
    mesh.compute_vertex_normals()
    path = _person(view, thin, scene, config, scene_config, origin_ns)
    return Sketch(
        view.name,
        scene.vertices,
        np.asarray(mesh.vertex_normals).copy(),
        _small_frames(thin, config),
        path,
        len(view.times_ns),
    )


def _thinned(view: View, stride_s: float) -> list[np.ndarray | None]:
    """Return the colour images of the view that are at least a stride apart."""
    kept_ns = -(10**18)
    colors: list[np.ndarray | None] = []
    for t_ns, color in zip(view.times_ns, view.color, strict=True):
        keep = color is not None and t_ns - kept_ns >= stride_s * 1e9 - 1
        kept_ns = int(t_ns) if keep else kept_ns
        colors.append(color if keep else None)
    return colors


def _stride(view: View, config: SketchConfig) -> int:
    return max(1, round(view.size[0] / config.columns))


def _small_frames(view: View, config: SketchConfig) -> tuple[Frame, ...]:
    chosen = [index for index, color in enumerate(view.color) if color is not None]
    chosen = [chosen[place] for place in np.unique(np.linspace(0, len(chosen) - 1, 16).astype(int))]
    stride = _stride(view, config)
    K = view.K / np.array([[stride], [stride], [1.0]])
    none = np.zeros((0, 0, 3), dtype=np.uint8)
    depths = (np.ascontiguousarray(view.depth_mm[index, ::stride, ::stride]) for index in chosen)
    return tuple(Frame(depth, none, K, view.T_world_camera[index]) for index, depth in zip(chosen, depths, strict=True))


def _person(
    view: View, thin: View, scene: StaticScene, config: SketchConfig, scene_config: SceneConfig, origin_ns: int
) -> JointPath | None:
    """Return the joints of what stands before the scene and moves."""
    caster = scene.raycaster()
    rng = np.random.default_rng(config.seed)
    times, eyes, points, valid = [], [], [], []
    next_ns = -(10**18)
    for index in track(range(len(view.times_ns)), f"sketch of {view.name}", console=Console(stderr=True)):
        if view.times_ns[index] < next_ns:
            continue
        next_ns = int(view.times_ns[index] + 0.75e9 / config.person_fps)
        seen = _before_scene(view, index, caster, config)
        if len(seen) < config.min_points:
            continue
        pick = rng.permutation(len(seen))[: config.points]
        padded = np.zeros((config.points, 3))
        padded[: len(pick)] = seen[pick]
        times.append((view.times_ns[index] - origin_ns) * 1e-9)
        eyes.append(view.T_world_camera[index, :3, 3])
        points.append(padded)
        valid.append(np.arange(config.points) < len(pick))
    if len(times) < config.person_fps / 2:
        return None
    stacked, there = np.stack(points), np.stack(valid)
    free = np.zeros(there.shape)
    free[there] = seen_free(stacked[there], [thin], scene_config)
    moves = free.sum(axis=1) >= config.min_moved * there.sum(axis=1)
    if moves.sum() < max(0.5 * len(moves), config.person_fps / 2):
        return None
    assert config.min_points >= MIN_POINTS
    joints, scales = estimate_views(stacked[moves], there[moves], np.stack(eyes)[moves])
    return JointPath(np.array(times)[moves], joints, scales)


def _before_scene(view: View, index: int, caster: o3d.t.geometry.RaycastingScene, config: SketchConfig) -> np.ndarray:
    """Return the points (N, 3) of the largest thing that stands before the static scene, the camera's own world, m."""
    stride = _stride(view, config)
    depth = view.depth_mm[index, ::stride, ::stride].astype(np.float32) / 1000
    depth[depth > config.max_depth_m] = 0
    K = view.K / np.array([[stride], [stride], [1.0]])
    local, _ = unproject(depth, K)
    T = view.T_world_camera[index]
    z = local[:, 2:]
    rays = (local / z) @ T[:3, :3].T
    origin = np.broadcast_to(T[:3, 3], rays.shape)
    cast = caster.cast_rays(o3d.core.Tensor(np.concatenate([origin, rays], axis=1).astype(np.float32)))
    # Directions have unit depth, so a hit's distance is its depth; nothing behind is infinity.
    before = z[:, 0] < cast["t_hit"].numpy() - depth_margin(z[:, 0], config.margin_m)
    return largest_cluster(T[:3, 3] + rays[before] * z[before], 2.5 * config.margin_m)
