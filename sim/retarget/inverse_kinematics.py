"""Inverse kinematics over a whole motion: a quadratic program per step (mink, DAQP), warm-started frame to frame."""

from __future__ import annotations

import mink
import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_axis_angle, quat_mul
from sim.retarget.config import RetargetConfig
from sim.retarget.footsteps import FootPlan
from sim.retarget.kinematics import RobotKinematics
from sim.retarget.targets import BodyTargets

_FOOT_POSITION, _FOOT_ROTATION = 60.0, 25.0
_PELVIS_POSITION, _PELVIS_ROTATION = (0.8, 0.8, 3.0), 0.6
_TORSO_ROTATION = 1.0
_ARM_POSITION = 1.0
_COM = 12.0
_POSTURE = 0.03
_ARM_POSTURE = 0.2
_DAMPING = 0.05
_ARM_CLEARANCE = 0.01
_SIDES = ("left", "right")


class SequenceSolver:
    """Solves the poses of a motion's frames in order."""

    def __init__(self, model: RobotKinematics, config: RetargetConfig) -> None:
        robot = model.robot
        self._kinematics = model
        self._config = config
        self._configuration = mink.Configuration(model.model)
        self._pelvis = mink.FrameTask("pelvis", "body", list(_PELVIS_POSITION), _PELVIS_ROTATION)
        self._torso = mink.FrameTask("torso_link", "body", 0.0, _TORSO_ROTATION)
        self._feet = [mink.FrameTask(name, "body", _FOOT_POSITION, _FOOT_ROTATION) for name in robot.foot_bodies]
        self._arms = [
            [
                mink.RelativeFrameTask(f"{side}_{link}_link", "body", "torso_link", "body", _ARM_POSITION, 0.0)
                for side in _SIDES
            ]
            for link in ("elbow", "wrist_yaw")
        ]
        cost = np.full(model.model.nv, _POSTURE)
        cost[:6] = 0.0
        for name, index in zip(robot.joint_names, model.dof_index, strict=True):
            # Positions of elbow and wrist leave the wrist free, and the shoulder's yaw where the arm is straight.
            if "wrist" in name or "shoulder_yaw" in name:
                cost[index] = _ARM_POSTURE
        self._posture = mink.PostureTask(model.model, cost)
        self._posture.set_target(model.home_qpos)
        self._com = mink.ComTask([_COM, _COM, 0.0])
        self._damping = mink.DampingTask(model.model, _DAMPING)
        speeds = {
            name: float(config.velocity_fraction * limit)
            for name, limit in zip(robot.joint_names, robot.velocity_limit, strict=True)
        }
        self._limits: list[mink.Limit] = [
            mink.ConfigurationLimit(model.model),
            mink.VelocityLimit(model.model, speeds),
            mink.CollisionAvoidanceLimit(
                model.model,
                _arm_pairs(model),
                # mink bounds the step, not the speed, by gain * distance / dt: scaled so that a step takes half of it.
                gain=0.5 / (config.fps * config.iterations),
                minimum_distance_from_collisions=_ARM_CLEARANCE,
                collision_detection_distance=5 * _ARM_CLEARANCE,
            ),
        ]

    def solve(
        self, targets: BodyTargets, feet: FootPlan, com: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return generalised positions (T, nq) and centres of mass (T, 3) that follow the targets.

        Args:
            targets: Targets at T frames.
            feet: Foot plan at T frames.
            com: Wanted horizontal centre-of-mass positions (T, 2), m; None leaves it free.

        Raises:
            InputError: The quadratic program of a frame has no solution.
        """
        model, configuration = self._kinematics, self._configuration
        tasks = [self._pelvis, self._torso, *self._feet, *self._arms[0], *self._arms[1], self._posture, self._damping]
        if com is not None:
            tasks.append(self._com)
        foot_quat, foot_pos = foot_poses(model, feet)
        start = model.home_qpos.copy()
        start[:3], start[3:7] = targets.pelvis_pos[0], targets.pelvis_quat[0]
        configuration.update(start)
        frames = len(feet.yaw)
        out, masses = np.empty((frames, model.model.nq)), np.empty((frames, 3))
        step = 1.0 / (self._config.fps * self._config.iterations)
        for t in range(frames):
            self._pelvis.set_target(_pose(targets.pelvis_quat[t], targets.pelvis_pos[t]))
            self._torso.set_target(_pose(targets.torso_quat[t], targets.pelvis_pos[t]))
            for i in range(2):
                self._feet[i].set_target(_pose(foot_quat[t, i], foot_pos[t, i]))
                self._arms[0][i].set_target(_pose(None, targets.elbow[t, i]))
                self._arms[1][i].set_target(_pose(None, targets.wrist[t, i]))
            if com is not None:
                self._com.set_target(np.array([*com[t], 0.0]))
            # The first frame starts from the default pose and may take as long as it needs.
            for _ in range(self._config.iterations if t else 30):
                try:
                    velocity = mink.solve_ik(configuration, tasks, step, "daqp", 1e-6, limits=self._limits)
                except mink.NoSolutionFound:
                    raise InputError(
                        f"retargeting: frame {t} has no pose within the joint limits; check the motion"
                    ) from None
                configuration.integrate_inplace(velocity, step)
            out[t], masses[t] = configuration.q, configuration.data.subtree_com[1]
        return out, masses


def _arm_pairs(model: RobotKinematics) -> list[tuple[list[int], list[int]]]:
    """Return geoms of each forearm, and what it shall not touch: trunk, legs, the other forearm."""
    geoms: dict[str, list[int]] = {}
    for geom in range(model.model.ngeom):
        body = model.model.body(model.model.geom_bodyid[geom]).name
        geoms.setdefault(body.removesuffix("_link"), []).append(geom)

    def of(links: tuple[str, ...], sides: tuple[str, ...]) -> list[int]:
        return [geom for side in sides for link in links for geom in geoms.get(f"{side}_{link}", [])]

    arms = [of(("elbow", "wrist_pitch", "wrist_yaw"), (side,)) for side in _SIDES]
    rest = [*geoms.get("pelvis", []), *geoms.get("torso", []), *of(("hip_roll", "hip_yaw", "knee"), _SIDES)]
    return [(arms[0], rest), (arms[1], rest), (arms[0], arms[1])]


def foot_poses(model: RobotKinematics, feet: FootPlan) -> tuple[np.ndarray, np.ndarray]:
    """Return orientations (T, 2, 4), wxyz, and positions (T, 2, 3), m, of the foot bodies of a plan."""
    shape = (*feet.yaw.shape, 3)
    turn = quat_from_axis_angle(np.broadcast_to([0.0, 0.0, 1.0], shape), feet.yaw)
    quats = quat_mul(turn, quat_from_axis_angle(np.broadcast_to([0.0, 1.0, 0.0], shape), feet.pitch))
    positions = feet.position.copy()
    positions[..., 2] -= model.sole_heights(np.zeros(shape), quats)
    return quats, positions


def _pose(quat: np.ndarray | None, position: np.ndarray) -> mink.SE3:
    return mink.SE3(np.concatenate([[1.0, 0.0, 0.0, 0.0] if quat is None else quat, position]))
