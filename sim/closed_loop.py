"""ClosedLoop: MuJoCo in the robot's place, driven by the deployment runtime without ROS; for rehearsals and tests."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from bodydouble.errors import PhysicsError
from bodydouble.motion import RobotMotion
from robot.policy_file import PolicyFile
from robot.runtime import PolicyRuntime, TickResult
from robot.safety import SafetyConfig
from sim.divergence import diverged
from sim.stage.stage import Stage

FALLEN_TILT = 0.9
"""Tilt of the base beyond which the robot has fallen, rad."""
FALLEN_HEIGHT_SHARE = 0.6
"""Share of the reference's base height below which the robot has fallen."""


@dataclass(frozen=True)
class RobotModel:
    """A compiled stage and where the robot is in it."""

    model: mujoco.MjModel
    """The compiled stage."""
    joint_names: tuple[str, ...]
    """The robot's joints; the model's first actuators drive them."""
    tracked: np.ndarray
    """Ids of the tracked bodies (K,)."""
    substeps: int
    """Physics steps of a control step."""

    @classmethod
    def of(cls, stage: Stage) -> RobotModel:
        """Compile a stage without its visuals."""
        model = stage.compile(visuals=False)
        tracked = np.array([model.body(name).id for name in stage.reference.body_names])
        return cls(model, stage.robot.joint_names, tracked, round(1 / (stage.control_hz * stage.physics_dt)))


def place(robot: RobotModel, data: mujoco.MjData, reference: RobotMotion, frame: int = 0) -> None:
    """Put the robot on a frame of the reference, at rest, its motors holding the pose."""
    mujoco.mj_resetData(robot.model, data)
    joints = len(robot.joint_names)
    data.qpos[:3], data.qpos[3:7] = reference.root_pos[frame], reference.root_quat[frame]
    data.qpos[7 : 7 + joints] = reference.joint_pos[frame]
    data.ctrl[:joints] = reference.joint_pos[frame]
    mujoco.mj_forward(robot.model, data)


def body_error(robot: RobotModel, data: mujoco.MjData, reference: RobotMotion, frame: int) -> float:
    """Return the mean distance of the tracked bodies to a frame of the reference, m."""
    delta = data.xpos[robot.tracked] - reference.body_pos[frame]
    return float(np.linalg.norm(delta, axis=1).mean())


def fallen(data: mujoco.MjData, reference: RobotMotion, frame: int) -> bool:
    """Return whether the robot has fallen: tilted far, or sunk far below the reference's height."""
    _, x, y, _ = data.qpos[3:7]
    tilt = float(np.arccos(np.clip(1 - 2 * (x * x + y * y), -1, 1)))
    return tilt > FALLEN_TILT or data.qpos[2] < FALLEN_HEIGHT_SHARE * reference.root_pos[frame, 2]


class ClosedLoop:
    """One robot and its runtime, in simulated time."""

    def __init__(
        self, robot: RobotModel, policy: PolicyFile, reference: RobotMotion, safety: SafetyConfig | None = None
    ) -> None:
        """Put the robot on the first frame of the reference."""
        self.robot, self.reference = robot, reference
        self.data = mujoco.MjData(robot.model)
        self.runtime = PolicyRuntime(policy, reference, safety)
        place(robot, self.data, reference)

    def step(self) -> TickResult:
        """Tick the runtime on the present state, then advance the physics by one control step.

        Raises:
            PhysicsError: The physics diverged.
        """
        joints, data = len(self.robot.joint_names), self.data
        t_ns = round(data.time * 1e9)
        self.runtime.on_joint_state(
            t_ns, self.robot.joint_names, data.qpos[7 : 7 + joints].copy(), data.qvel[6 : 6 + joints].copy()
        )
        self.runtime.on_imu(t_ns, data.qpos[3:7].copy(), data.qvel[3:6].copy())
        self.runtime.on_odom(t_ns, data.qpos[:3].copy())
        result = self.runtime.tick(t_ns)
        if result.command is not None:
            data.ctrl[:joints] = result.command
        mujoco.mj_step(self.robot.model, data, self.robot.substeps)
        if diverged(data):
            raise PhysicsError(
                f"physics diverged at {data.time:.3f} s in the closed loop; check the stage and the gains"
            )
        return result
