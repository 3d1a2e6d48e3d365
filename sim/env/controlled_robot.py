"""ControlledRobot: what an environment and a policy's contract need of a robot, apart from its MuJoCo model."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from bodydouble.errors import InputError
from sim.backend.protocol import SimBackend
from sim.robots.spec import RobotSpec


@dataclass(frozen=True)
class ExtraJoint:
    """A joint beyond those of the RobotSpec that a position-like actuator of an attached gripper moves."""

    joint: str
    """Name of the joint in the assembled model."""
    actuator: str
    """Name of its actuator."""
    default: float
    """Default position, rad."""
    velocity_limit: float
    """Largest speed, rad/s."""


@dataclass(frozen=True)
class ControlledRobot:
    """A robot with J position-controlled joints. Per-joint tuples follow `joint_names`."""

    name: str
    """Name of the robot."""
    joint_names: tuple[str, ...]
    """Controlled joints; the model's first actuators drive them in this order."""
    default_joint_pos: tuple[float, ...]
    """Default pose, rad."""
    joint_lower: tuple[float, ...]
    """Lower limits, rad."""
    joint_upper: tuple[float, ...]
    """Upper limits, rad."""
    action_scale: tuple[float, ...]
    """Joint offset that one unit of action means, rad."""
    kp: tuple[float, ...]
    """Position gains, N m/rad."""
    kd: tuple[float, ...]
    """Damping gains, N m s/rad."""
    effort_limit: tuple[float, ...]
    """Torque limits, N m."""
    velocity_limit: tuple[float, ...]
    """Speed limits, rad/s."""
    control_per_rad: tuple[float, ...]
    """Factor from a joint's target to its actuator's control: 1, but for grippers with units of their own."""
    floating_base: bool
    """Whether the model begins with the base's free joint."""
    base_body: str
    """Body of the root pose."""
    default_root_pos: tuple[float, float, float]
    """Base position at the default pose, m."""
    foot_bodies: tuple[str, ...]
    """Bodies that stand on the floor."""
    foot_geoms: tuple[str, ...]
    """Collision geoms of the feet."""

    @property
    def num_joints(self) -> int:
        """Number of controlled joints J."""
        return len(self.joint_names)

    @classmethod
    def of(
        cls,
        spec: RobotSpec,
        model: mujoco.MjModel,
        action_scale: np.ndarray | None = None,
        extra: tuple[ExtraJoint, ...] = (),
    ) -> ControlledRobot:
        """Take what is needed from a robot and the model that holds it.

        Args:
            spec: The robot.
            model: The compiled model; the robot's actuators are its first.
            action_scale: Joint offsets (J,) that one unit of action means; the robot's own by default.
            extra: Joints of attached grippers that the policy moves too, in the order of their actuators.

        Raises:
            InputError: The model lacks a joint or actuator, or an actuator does not hold a position.
        """
        names = (*spec.joint_names, *(e.joint for e in extra))
        lower, upper, kp, kd, effort, factor = (np.zeros(len(names)) for _ in range(6))
        actuators = (*spec.joint_names, *(e.actuator for e in extra))
        for i, (joint, actuator) in enumerate(zip(names, actuators, strict=True)):
            joint_id = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, joint)
            actuator_id = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_ACTUATOR, actuator)
            if joint_id < 0 or actuator_id != i:
                raise InputError(
                    f"robot {spec.name}: the model lacks joint {joint!r}, or {actuator!r} is not its actuator {i}"
                )
            gain, bias = model.actuator_gainprm[i, 0], model.actuator_biasprm[i]
            if not (gain > 0 and bias[1] < 0):
                raise InputError(f"robot {spec.name}: actuator {actuator!r} does not hold a position")
            lower[i], upper[i] = model.jnt_range[joint_id]
            kp[i], kd[i], factor[i] = -bias[1], -bias[2], -bias[1] / gain
            effort[i] = model.actuator_forcerange[i, 1]
        lower[: spec.num_joints], upper[: spec.num_joints] = spec.joint_lower, spec.joint_upper
        scale = spec.action_scale if action_scale is None else action_scale
        speed = (*spec.velocity_limit, *(e.velocity_limit for e in extra))
        if len(scale) != len(names):
            raise InputError(f"robot {spec.name}: {len(scale)} action scales for {len(names)} joints")
        return cls(
            name=spec.name,
            joint_names=names,
            default_joint_pos=_floats((*spec.default_joint_pos, *(e.default for e in extra))),
            joint_lower=_floats(lower),
            joint_upper=_floats(upper),
            action_scale=_floats(scale),
            kp=_floats(kp),
            kd=_floats(kd),
            effort_limit=_floats(effort),
            velocity_limit=_floats(speed),
            control_per_rad=_floats(factor),
            floating_base=spec.floating_base,
            base_body=spec.base_body,
            default_root_pos=tuple(map(float, spec.default_root_pos)),  # type: ignore[arg-type]
            foot_bodies=spec.foot_bodies,
            foot_geoms=spec.foot_geoms,
        )


class JointIndex:
    """Where a robot's joints are in the state of a model, as index arrays of a backend."""

    def __init__(self, backend: SimBackend, robot: ControlledRobot) -> None:
        """Look the joints up."""
        model = backend.model
        ids = [model.joint(name).id for name in robot.joint_names]
        self.qpos = backend.asarray(model.jnt_qposadr[ids])
        """Places of the joint positions in qpos (J,)."""
        self.qvel = backend.asarray(model.jnt_dofadr[ids])
        """Places of the joint velocities in qvel (J,)."""


def _floats(values: np.ndarray | tuple) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
