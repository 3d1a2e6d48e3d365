"""Small views of the synthetic room, rendered for the tests without a recording between."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from collections.abc import Sequence

import numpy as np
import open3d as o3d

from perception.static_scene import StaticScene
from perception.synthetic.cameras import intrinsics, look_at
from perception.synthetic.motions import MotionConfig, Segment
from perception.synthetic.noise import add_depth_noise
from perception.synthetic.render import Renderer
from perception.synthetic.room import Mesh, box
from perception.views import View

SIZE = (160, 120)
PERIOD_NS = 100_000_000
MOVER = box((0, 0, 0.8), (0.4, 0.3, 1.5), (200, 120, 60))
"""What moves through the room instead of a person: as large, from 5 cm over the floor on."""


WALK = MotionConfig(segments=(Segment("walk", 2.5, 1.6), Segment("stand", 0.3)), start_xy=(-0.8, 0.0))
"""Somebody crosses the room: brisk, so that what was hidden is soon seen free."""


def poses(eye: tuple[float, float, float], targets: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Camera poses (F, 4, 4) at one place, looking at each of the targets."""
    at = np.asarray(targets, dtype=np.float64)
    return look_at(np.tile(np.asarray(eye, dtype=np.float64), (len(at), 1)), at, np.zeros(len(at)))


def view(
    mesh: Mesh,
    T_world_camera: np.ndarray,
    places: Sequence[tuple[float, float] | None] = (),
    *,
    name: str = "camera",
    seed: int | None = None,
    start_ns: int = 0,
    mover: Mesh = MOVER,
) -> View:
    """A view of a mesh, ten frames a second, with the mover at a place (x, y) in each frame, or nowhere.

    Args:
        mesh: The room.
        T_world_camera: Camera poses (F, 4, 4).
        places: Where the mover is, per frame; empty leaves it out.
        name: Name of the camera.
        seed: Seed of the depth's noise; without one the depth is exact to the millimetre.
        start_ns: Time of the first frame.
        mover: What moves, where its place is (0, 0).
    """
    K = intrinsics(*SIZE)
    renderer = Renderer(mesh, mover.triangles, np.zeros_like(mover.vertices), K, SIZE)
    depths, colors = [], []
    for index, pose in enumerate(T_world_camera):
        place = places[index] if len(places) else None
        body = None if place is None else mover.vertices + np.array([*place, 0.0])
        color, depth = renderer.render(pose, body)
        if seed is None:
            depth_mm = np.where(np.isfinite(depth), np.round(1000 * depth), 0).astype(np.uint16)
        else:
            depth_mm = add_depth_noise(depth, np.random.default_rng([seed, index]))
        depths.append(depth_mm)
        colors.append(color)
    times = start_ns + PERIOD_NS * np.arange(len(T_world_camera), dtype=np.int64)
    return View(name, K, times, T_world_camera, np.stack(depths), colors)


def true_scene(mesh: Mesh) -> StaticScene:
    """The mesh itself, as if it had been reconstructed without error."""
    colors = np.zeros((len(mesh.vertices), 3))
    colors[mesh.triangles] = (mesh.colours / 255)[:, None]
    return StaticScene(mesh.vertices, mesh.triangles.astype(np.int64), colors)


def distance(points: np.ndarray, mesh: Mesh) -> np.ndarray:
    """Distances (N,) of points to a mesh, m."""
    caster = true_scene(mesh).raycaster()
    return caster.compute_distance(o3d.core.Tensor(np.asarray(points, dtype=np.float32))).numpy()
