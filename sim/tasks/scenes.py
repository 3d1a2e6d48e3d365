"""Scenes of the tasks that have no stage: a robot on a floor, with or without a free box."""

from __future__ import annotations

import mujoco

from sim.robots.spec import RobotSpec, compile_spec

PHYSICS_DT = 0.005
"""Physics step, s."""
BOX_BODY, BOX_GEOM = "box", "box"
"""Names of the free box."""
FLOOR_GEOM = "floor"
"""Name of the floor plane."""


def floor_scene(robot: RobotSpec, physics_dt: float = PHYSICS_DT) -> mujoco.MjModel:
    """Return a robot on a floor, compiled without what only the eye sees.

    Raises:
        InputError: The robot's model cannot be used.
    """
    spec = robot.mjspec(physics_dt, visuals=False)
    _add_floor(spec)
    return compile_spec(spec, f"robot {robot.name} on a floor")


def box_scene(
    robot: RobotSpec, half_size: tuple[float, float, float], mass: float, physics_dt: float = PHYSICS_DT
) -> mujoco.MjModel:
    """Return a robot on a floor with a free box, whose joint comes after all of the robot's.

    Args:
        robot: The robot.
        half_size: Half the box's edges, m.
        mass: Its mass, kg.
        physics_dt: Physics step, s.

    Raises:
        InputError: The robot's model cannot be used.
    """
    spec = robot.mjspec(physics_dt, visuals=False)
    _add_floor(spec)
    # Pyramidal cones let a held box creep out of the fingers.
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0
    rest = [0.0, 0.0, half_size[2], 1.0, 0.0, 0.0, 0.0]
    for key in spec.keys:
        key.qpos = [*key.qpos, *rest]
    body = spec.worldbody.add_body(name=BOX_BODY, pos=[0.0, 0.0, half_size[2]])
    body.add_freejoint(name=BOX_BODY)
    body.add_geom(
        name=BOX_GEOM, type=mujoco.mjtGeom.mjGEOM_BOX, size=list(half_size), mass=mass, condim=4,
        friction=[1.0, 0.02, 0], rgba=[0.8, 0.4, 0.2, 1.0],
    )  # fmt: skip
    return compile_spec(spec, f"robot {robot.name} and a box on a floor")


def _add_floor(spec: mujoco.MjSpec) -> None:
    spec.worldbody.add_geom(name=FLOOR_GEOM, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 0.05], condim=3)
    spec.worldbody.add_light(pos=[0, 0, 4], dir=[0, 0, -1], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)
