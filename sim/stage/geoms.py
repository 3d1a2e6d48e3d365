"""Puts a stage's parts into a model: boxes, convex pieces, and meshes that are only looked at."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from sim.stage.furniture import Box

BOX_PREFIX = "furniture"
"""Names of the collision geoms of furniture and walls begin with this."""
_STATIC_RGBA = [0.45, 0.55, 0.75, 0.35]


def add_static(spec: mujoco.MjSpec, boxes: Sequence[Box], hulls: Sequence[np.ndarray] = ()) -> None:
    """Add boxes and convex pieces, hull vertices (V, 3) in m, that do not move."""
    for i, box in enumerate(boxes):
        spec.worldbody.add_geom(
            name=f"{BOX_PREFIX}_{i:03d}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=box.centre,
            size=box.half,
            quat=[np.cos(0.5 * box.yaw), 0.0, 0.0, np.sin(0.5 * box.yaw)],
            condim=3,
            group=3,
            rgba=_STATIC_RGBA,
        )
    for i, vertices in enumerate(hulls, start=len(boxes)):
        name = f"{BOX_PREFIX}_{i:03d}"
        # Vertices stand in the model itself; MuJoCo makes the hull.
        spec.add_mesh(name=name, uservert=vertices.ravel(), inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX)
        spec.worldbody.add_geom(
            name=name, type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, condim=3, group=3, rgba=_STATIC_RGBA
        )


def add_visual(spec: mujoco.MjSpec, name: str, color: np.ndarray, body: mujoco.MjsBody | None = None) -> None:
    """Add a mesh that is looked at and touches nothing, from the file `name`.stl, to the world or a body."""
    # A scan has no inside: its inertia is that of its surface, and nothing weighs it anyway.
    spec.add_mesh(name=name, file=f"{name}.stl", inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL)
    (body or spec.worldbody).add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname=name,
        contype=0,
        conaffinity=0,
        group=2,
        density=0.0,
        rgba=[*color, 1.0],
    )
