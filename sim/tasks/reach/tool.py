"""Tools of the known arms, and where a tool is: the pose of its site from the pose of its body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import quat_mul, quat_rotate
from sim.backend.protocol import SimBackend
from sim.env.controlled_robot import ExtraJoint
from sim.robots.spec import RobotSpec

Array = Any


@dataclass(frozen=True)
class ToolSpec:
    """The gripper of an arm."""

    site: str
    """Site between the fingers, in the assembled model."""
    finger: str
    """Joint that opens and closes it."""
    extra: tuple[ExtraJoint, ...] = ()
    """The finger's joint, where it is not one of the RobotSpec's."""


TOOLS: dict[str, ToolSpec] = {
    "i2rt_yam": ToolSpec("grasp_site", "left_finger"),
    "ur5e_2f85": ToolSpec(
        "gripper_pinch",
        "gripper_right_driver_joint",
        (ExtraJoint("gripper_right_driver_joint", "gripper_fingers_actuator", 0.0, 2.0),),
    ),
}
"""Tool by the robot's name."""


def tool_of(robot: RobotSpec, task: str) -> ToolSpec:
    """Return a robot's tool.

    Raises:
        InputError: The robot is no arm whose tool is known.
    """
    if robot.name not in TOOLS or robot.floating_base:
        raise InputError(f"robot {robot.name}: has no known tool; the task {task!r} is for {', '.join(TOOLS)}")
    return TOOLS[robot.name]


class ToolPose:
    """The pose of a tool's site, on a backend."""

    def __init__(self, backend: SimBackend, site: str) -> None:
        """Look the site up.

        Raises:
            InputError: The model has no such site.
        """
        body, pos, quat = site_on_body(backend.model, site)
        self._body = body
        self._pos, self._quat = backend.asarray(pos), backend.asarray(quat)

    def look(self, body_pos: Array, body_quat: Array) -> tuple[Array, Array]:
        """Return the tool's positions (N, 3) and orientations (N, 4) from the poses of all bodies."""
        pos, quat = body_pos[:, self._body], body_quat[:, self._body]
        return pos + quat_rotate(quat, self._pos[None]), quat_mul(quat, self._quat[None])


def site_on_body(model: mujoco.MjModel, site: str) -> tuple[int, np.ndarray, np.ndarray]:
    """Return a site's body, its position (3,) and its orientation (4,) there.

    Raises:
        InputError: The model has no such site.
    """
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, site)
    if index < 0:
        raise InputError(f"the model has no site {site!r}, which the arm tasks measure at; name the tool's site")
    return int(model.site_bodyid[index]), model.site_pos[index].copy(), model.site_quat[index].copy()


def home_pose(model: mujoco.MjModel, site: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a site's position (3,) and orientation (4,) in the model's home pose."""
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_kinematics(model, data)
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, data.site(site).xmat)
    return data.site(site).xpos.copy(), quat
