"""Reachable poses of a tool: drawn in joint space, kept where the arm touches nothing."""

from __future__ import annotations

import mujoco
import numpy as np

from bodydouble.errors import InputError
from sim.env.controlled_robot import ControlledRobot

TARGETS = 2048
"""Poses that targets are drawn from."""
_MOST_TRIES = 20 * TARGETS


def reachable_poses(
    model: mujoco.MjModel, robot: ControlledRobot, site: str, reach_rad: float, least_height: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return poses that the tool can take without touching the floor or the arm itself.

    Args:
        model: The arm on its floor.
        robot: The arm.
        site: The tool's site.
        reach_rad: Largest joint offset from the default pose, rad.
        least_height: Lowest position, m.
        seed: Seed.

    Returns:
        Positions (TARGETS, 3) in m and orientations (TARGETS, 4), w >= 0, in the model's world.

    Raises:
        InputError: Hardly any pose in this range is free.
    """
    rng = np.random.default_rng(seed)
    data = mujoco.MjData(model)
    adr = [int(model.jnt_qposadr[model.joint(name).id]) for name in robot.joint_names]
    default, site_id = np.array(robot.default_joint_pos), model.site(site).id
    pos, quat = np.empty((TARGETS, 3)), np.empty((TARGETS, 4))
    found = 0
    for _ in range(_MOST_TRIES):
        if found == TARGETS:
            return pos, quat
        drawn = default + rng.uniform(-reach_rad, reach_rad, len(default))
        data.qpos[:] = model.qpos0
        data.qpos[adr] = np.clip(drawn, robot.joint_lower, robot.joint_upper)
        mujoco.mj_kinematics(model, data)
        if data.site_xpos[site_id, 2] < least_height:
            continue
        mujoco.mj_collision(model, data)
        if data.ncon:
            continue
        pos[found] = data.site_xpos[site_id]
        mujoco.mju_mat2Quat(quat[found], data.site_xmat[site_id])
        quat[found] *= np.sign(quat[found, 0]) or 1.0
        found += 1
    raise InputError(
        f"robot {robot.name}: only {found} of {_MOST_TRIES} drawn poses are free and above {least_height} m; "
        "widen the range or lower the height"
    )
