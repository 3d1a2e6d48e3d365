"""Which seconds of a reference motion a robot cannot do: inverse dynamics with the contacts that the motion means.

At every frame MuJoCo's inverse dynamics give the generalised forces that the motion takes. Contacts at the corners of
the standing soles (and at hands that hold) may push with forces inside their friction pyramids; the rest of the base's
six rows is what nothing explains. One small non-negative least-squares problem per frame finds the contact forces that
leave the least of it, and the joints' torques follow: tau = M a + bias - J^T f.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.optimize import nnls

from bodydouble.frames import quat_rotate
from bodydouble.motion import RobotMotion
from sim.retarget.balance import GRAVITY
from sim.retarget.human import low_pass
from sim.retarget.kinematics import RobotKinematics, kinematics
from sim.retarget.scene import Scene
from sim.robots.follow import SIDES
from sim.robots.spec import RobotSpec

FRICTION = 0.8
"""Friction of soles and hands on what they stand on."""
LEVER_M = 0.25
"""Lever at which torque counts as force: the weight 6 cm outside of the feet is as bad as a quarter of it missing."""
MAX_RESIDUAL = 0.25
"""Part of the robot's weight that contacts may leave unexplained before a frame is called infeasible."""
MIN_SHARE = 0.2
"""Share of a second's frames that must be infeasible before the second is."""
HAND_REACH_M = 0.03
"""A hand this near to a solid may push on it, m."""
_CUTOFF_HZ = 6.0
_TORQUE_WEIGHT = 1e-3
CAUSES = ("speed", "torque", "balance")
"""What can make a frame infeasible, in the order in which a second is judged."""


@dataclass(frozen=True, eq=False)
class Feasibility:
    """What a robot can do of a motion. T frames, S seconds."""

    residual: np.ndarray
    """Force and torque that nothing explains (T,), over the robot's weight, and torque over that times LEVER_M."""
    torque: np.ndarray
    """Largest torque of any joint over its limit (T,)."""
    speed: np.ndarray
    """Largest speed of any joint over its limit (T,)."""
    worst_joint: tuple[str, ...]
    """Joint with the largest torque share, per frame."""
    fps: float
    """Frames per second."""

    @property
    def bad(self) -> dict[str, np.ndarray]:
        """Frames (T,) that cannot be done, bool, by cause."""
        return {"speed": self.speed > 1.0, "torque": self.torque > 1.0, "balance": self.residual > MAX_RESIDUAL}

    def seconds(self) -> list[dict[str, float | str | bool]]:
        """Return a verdict per second: whether it can be done, the cause if not, and the worst figures in it."""
        out = []
        bad = self.bad
        per = max(1, round(self.fps))
        for start in range(0, len(self.torque), per):
            part = slice(start, start + per)
            shares = {cause: float(bad[cause][part].mean()) for cause in CAUSES}
            causes = [cause for cause in CAUSES if shares[cause] >= MIN_SHARE]
            worst = start + int(np.argmax(self.torque[part]))
            out.append(
                {
                    "second": start // per,
                    "feasible": not causes,
                    "cause": "+".join(causes),
                    "residual": round(float(self.residual[part].max()), 3),
                    "torque_share": round(float(self.torque[part].max()), 3),
                    "speed_share": round(float(self.speed[part].max()), 3),
                    "worst_joint": self.worst_joint[worst],
                }
            )
        return out

    def figures(self) -> dict[str, float]:
        """Return the share of seconds that can be done, and of frames that cannot by cause."""
        seconds = self.seconds()
        return {
            "feasible_share": float(np.mean([bool(second["feasible"]) for second in seconds])),
            "infeasible_seconds": float(sum(not second["feasible"] for second in seconds)),
            **{f"infeasible_{cause}_share": float(frames.mean()) for cause, frames in self.bad.items()},
        }


def check_feasibility(motion: RobotMotion, robot: RobotSpec, scene: Scene | None = None) -> Feasibility:
    """Return what of a motion the robot can do, by inverse dynamics along it.

    Args:
        motion: The reference motion.
        robot: The robot: its masses, torque and speed limits.
        scene: Solids that hands may push on; None for none.
    """
    model = kinematics(robot)
    body, data = model.model, mujoco.MjData(model.model)
    qpos = model.qpos(motion.root_pos, motion.root_quat, motion.joint_pos)
    velocity, acceleration = _derivatives(body, qpos, motion.fps)
    weight = float(body.body_mass.sum()) * GRAVITY
    points = [_ground_points(model, foot) for foot in range(len(model.foot_ids))]
    hands = _hands(model, qpos, scene)
    frames = len(qpos)
    residual, torque, worst = np.zeros(frames), np.zeros(frames), np.zeros(frames, dtype=int)
    base = slice(0, 6) if robot.floating_base else slice(0, 0)
    jacobian = np.zeros((3, body.nv))
    # Damping and joint limits of the model are the controller's business; rotor inertia stays.
    for t in range(frames):
        data.qpos[:], data.qvel[:], data.qacc[:] = qpos[t], velocity[t], acceleration[t]
        force = _bare_inverse(body, data)
        rows = []
        for foot, corners in enumerate(points):
            if motion.contact[t, foot]:
                place, turn = data.xpos[model.foot_ids[foot]], data.xmat[model.foot_ids[foot]].reshape(3, 3)
                rows += [
                    (int(model.foot_ids[foot]), place + turn @ corner, np.array([0, 0, 1.0])) for corner in corners
                ]
        rows += [(hand, data.xpos[hand].copy(), normal) for hand, normal in hands[t]]
        explained = np.zeros(body.nv)
        if rows:
            generators = []
            for index, place, normal in rows:
                mujoco.mj_jac(body, data, jacobian, None, place, index)
                generators.append(_pyramid(normal) @ jacobian)
            generators = np.concatenate(generators)
            explained = generators.T @ _contact_forces(generators, force, base, model, weight)
        left = force - explained
        joints = np.abs(left[model.dof_index]) / robot.effort_limit
        torque[t], worst[t] = joints.max(), int(joints.argmax())
        residual[t] = np.linalg.norm(_per_lever(left[base])) / weight
    speed = (np.abs(motion.joint_vel) / robot.velocity_limit).max(axis=1)
    return Feasibility(residual, torque, speed, tuple(robot.joint_names[i] for i in worst), motion.fps)


def _derivatives(model: mujoco.MjModel, qpos: np.ndarray, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Return generalised velocities and accelerations (T, nv), low-passed as a real robot's inertia does."""
    step = np.zeros((len(qpos) - 1, model.nv))
    for t in range(len(step)):
        mujoco.mj_differentiatePos(model, step[t], 1.0 / fps, qpos[t], qpos[t + 1])
    velocity = np.concatenate([step[:1], 0.5 * (step[:-1] + step[1:]), step[-1:]])
    smooth = low_pass(velocity, fps, _CUTOFF_HZ)
    return smooth, np.gradient(smooth, 1.0 / fps, axis=0)


def _bare_inverse(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Return M a + bias (nv,) of the state in `data`, without contacts, limits and passive forces."""
    mujoco.mj_fwdPosition(model, data)
    mujoco.mj_fwdVelocity(model, data)
    force = np.zeros(model.nv)
    mujoco.mj_rne(model, data, 1, force)
    return force + model.dof_armature * data.qacc


def _ground_points(model: RobotKinematics, foot: int) -> np.ndarray:
    """Return the outermost points (P, 3) of a sole in the foot's frame, m: the corners of its rectangle at least."""
    flat = model.sole_points(foot)
    low, high = flat.min(axis=0), flat.max(axis=0)
    corners = [[x, y, low[2]] for x in {low[0], high[0]} for y in {low[1], high[1]}]
    turn = model.flat_quats[foot] * [1.0, -1.0, -1.0, -1.0]
    return quat_rotate(turn, np.array(corners))


def _hands(model: RobotKinematics, qpos: np.ndarray, scene: Scene | None) -> list[list[tuple[int, np.ndarray]]]:
    """Return per frame the bodies of hands that are near a solid, and the direction (3,) in which it pushes."""
    follow = model.robot.follow
    none: list[list[tuple[int, np.ndarray]]] = [[] for _ in qpos]
    if scene is None or follow is None or not follow.arms or follow.tool is not None:
        return none
    bodies = [model.point(follow.parts[f"{side}_wrist"]).body for side in SIDES]
    position, _ = model.body_poses(qpos, np.array(bodies))
    for i, body in enumerate(bodies):
        reach = HAND_REACH_M + _hand_length(model, body)
        near = scene.distance(position[:, i]) < reach
        moved = scene.outside(position[:, i], 1.0) - position[:, i]
        length = np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)
        for t in np.flatnonzero(near):
            none[t].append((body, moved[t] / length[t]))
    return none


def _hand_length(model: RobotKinematics, body: int) -> float:
    geoms = np.flatnonzero(model.model.geom_bodyid == body)
    return float(model.model.geom_rbound[geoms].max()) if len(geoms) else 0.0


def _pyramid(normal: np.ndarray) -> np.ndarray:
    """Return the edges (4, 3) of the friction pyramid about a normal (3,), inside the cone."""
    other = np.array([1.0, 0.0, 0.0]) if abs(normal[0]) < 0.8 else np.array([0.0, 1.0, 0.0])
    first = np.cross(normal, other)
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    slope = FRICTION / np.sqrt(2.0)
    return normal + slope * np.array([a * first + b * second for a in (1, -1) for b in (1, -1)])


def _contact_forces(
    generators: np.ndarray, force: np.ndarray, base: slice, model: RobotKinematics, weight: float
) -> np.ndarray:
    """Return non-negative forces (N,) along the pyramids' edges (N, nv): least residual, then least joint torque."""
    joints = _TORQUE_WEIGHT * weight / model.robot.effort_limit
    # The first six rows of a floating base are force, then torque.
    matrix = np.concatenate([_per_lever(generators[:, base]).T, joints[:, None] * generators[:, model.dof_index].T])
    wanted = np.concatenate([_per_lever(force[base]), joints * force[model.dof_index]])
    return nnls(matrix / weight, wanted / weight)[0]


def _per_lever(wrench: np.ndarray) -> np.ndarray:
    """Return forces and torques (..., 6) with the torques over the lever; (..., 0) of a fixed base as it is."""
    return wrench * np.array([1.0] * 3 + [1.0 / LEVER_M] * 3)[: wrench.shape[-1]]
