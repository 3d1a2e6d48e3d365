"""Feet over a flat floor: how high they are and how fast they move, from the poses of their bodies."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import quat_rotate
from sim.backend.protocol import SimBackend
from sim.env.controlled_robot import ControlledRobot

Array = Any
CONTACT_HEIGHT = 0.005
"""A foot whose lowest point is lower than this stands on the floor, m."""


class Feet:
    """The soles of a robot: C feet, each of K round points. Contact is told from height: no force is read."""

    def __init__(self, backend: SimBackend, robot: ControlledRobot) -> None:
        """Look the soles up.

        Raises:
            InputError: The robot has no feet, or their geoms are neither spheres nor capsules, or differ in number.
        """
        if not robot.foot_bodies or not robot.foot_geoms:
            raise InputError(f"robot {robot.name}: has no feet; the walking task needs foot bodies and foot geoms")
        model = backend.model
        bodies = [model.body(name).id for name in robot.foot_bodies]
        points: list[list[np.ndarray]] = [[] for _ in bodies]
        radii: list[list[float]] = [[] for _ in bodies]
        for name in robot.foot_geoms:
            geom = model.geom(name).id
            body = int(model.geom_bodyid[geom])
            if body not in bodies:
                raise InputError(
                    f"robot {robot.name}: foot geom {name!r} is on {model.body(body).name!r}, no foot body"
                )
            foot = bodies.index(body)
            for point, radius in _round_points(model, geom, robot.name):
                points[foot].append(point)
                radii[foot].append(radius)
        if len({len(p) for p in points}) != 1 or not points[0]:
            raise InputError(
                f"robot {robot.name}: its feet have {[len(p) for p in points]} points; expected as many each"
            )
        self._xp = backend.xp
        self._bodies = backend.asarray(bodies)
        self._points = backend.asarray(np.array(points))
        self._radii = backend.asarray(np.array(radii))
        self.count = len(bodies)
        """Number of feet C."""

    def look(self, body_pos: Array, body_quat: Array) -> tuple[Array, Array]:
        """Return the feet's clearance over the floor (N, C) and their soles' centres (N, C, 3), m.

        Args:
            body_pos: Positions of all bodies (N, B, 3).
            body_quat: Orientations of all bodies (N, B, 4).
        """
        pos, quat = body_pos[:, self._bodies], body_quat[:, self._bodies]
        points = pos[:, :, None] + quat_rotate(quat[:, :, None], self._points[None])
        clearance = self._xp.min(points[..., 2] - self._radii, axis=-1)
        return clearance, self._xp.mean(points, axis=-2)


def _round_points(model: mujoco.MjModel, geom: int, robot: str) -> list[tuple[np.ndarray, float]]:
    pos, quat, size = model.geom_pos[geom], model.geom_quat[geom], model.geom_size[geom]
    kind = model.geom_type[geom]
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return [(pos.copy(), float(size[0]))]
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        axis = quat_rotate(quat, np.array([0.0, 0.0, size[1]]))
        return [(pos - axis, float(size[0])), (pos + axis, float(size[0]))]
    name = model.geom(geom).name
    raise InputError(f"robot {robot}: foot geom {name!r} is neither a sphere nor a capsule; model the sole with these")
