"""Inverse kinematics over a whole motion: one quadratic program per step (DAQP), warm-started frame to frame.

Each step minimises the weighted errors of all goals to first order, within the joints' limits of position and speed,
and keeps links off each other and off the scene: for a pair at distance d with gradient J, J dq >= -gain (d - d_min).
All pairs come from MuJoCo's own collision detection with a margin, so a scene costs a few microseconds.
"""

from __future__ import annotations

from ctypes import c_int

import daqp
import mujoco
import numpy as np

from bodydouble.errors import InputError
from sim.retarget.config import RetargetConfig
from sim.retarget.goals import Goals
from sim.retarget.kinematics import RobotKinematics
from sim.retarget.scene import SOLID_PREFIX, Scene, add_solids
from sim.robots.follow import SIDES

_COM = 12.0
_DAMPING, _SCENE_DAMPING = 0.05, 1.0
_CLEARANCE_M = 0.01
_DETECTION_M = 0.04
_COLLISION_GAIN = 0.5
_RECOVERY = 0.15
_REPAIRS, _REPAIRED_M = 2, 5e-4
_SOFT = 8
_SOFTNESS = 1e-8
_FREE = 1e30
_FIRST_STEPS, _FIRST_STEP_S = 60, 0.05
_FLOOR_BIT = 1 << 10


class SequenceSolver:
    """Solves the poses of a motion's frames in order."""

    def __init__(
        self,
        model: RobotKinematics,
        config: RetargetConfig,
        scene: Scene | None = None,
        *,
        floor_for_feet: bool = False,
    ) -> None:
        """Compile the model.

        Args:
            model: The robot's kinematics.
            config: Settings.
            scene: What stands on the floor; None for nothing.
            floor_for_feet: Whether the floor stops feet too, for plans that a robot may not be able to follow.
        """
        robot = model.robot
        self._kinematics = model
        self._config = config
        self._model = _collision_model(model, scene, floor_for_feet)
        self._data = mujoco.MjData(self._model)
        nv = self._model.nv
        self._root = self._model.body(robot.base_body).id
        self._dofs, self._qpos = model.dof_index, model.qpos_index
        self._lower, self._upper = robot.joint_lower, robot.joint_upper
        self._speed = config.velocity_fraction * robot.velocity_limit
        # What is left of the limits is for links that must part.
        self._spare = max(0.0, 1.0 - config.velocity_fraction) * robot.velocity_limit
        # Joints without an actuator of their own keep their place.
        free = np.isin(self._model.dof_jntid, np.flatnonzero(self._model.jnt_type == mujoco.mjtJoint.mjJNT_FREE))
        self._bound = np.where(free, _FREE, 0.0)
        static = self._model.body_weldid == 0
        self._static = static[self._model.geom_bodyid]
        self._floor = self._model.geom("_floor").id
        self._touching = self._contact_geoms()
        # Hands that a solid holds off their goals leave arms undetermined, which would swing from step to step.
        self._damping = _DAMPING if scene is None else _SCENE_DAMPING
        self._diagonal = np.arange(nv) * (nv + 1)

    def _contact_geoms(self) -> np.ndarray:
        """Return which geoms (G,) may touch the scene: feet and hands."""
        follow = self._kinematics.robot.follow
        bodies = list(self._kinematics.foot_ids)
        if follow is not None and follow.tool is None and follow.arms:
            bodies += [self._kinematics.point(follow.parts[f"{side}_wrist"]).body for side in SIDES]
        return np.isin(self._model.geom_bodyid, bodies) | self._static

    def solve(
        self, goals: Goals, start: np.ndarray | None = None, iterations: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return generalised positions (T, nq) and centres of mass (T, 3) that follow the goals.

        Args:
            goals: Goals at T frames.
            start: Generalised positions (nq,) to start from; None takes the default pose.
            iterations: Steps per frame; None takes those of the settings.

        Raises:
            InputError: The quadratic program of a frame has no solution.
        """
        data, iterations = self._data, iterations or self._config.iterations
        data.qpos[:] = self._kinematics.home_qpos if start is None else start
        self._pose()
        stacked = _Stacked(goals, self._model.nv)
        out, masses = np.empty((goals.num_frames, self._model.nq)), np.empty((goals.num_frames, 3))
        for t in range(goals.num_frames):
            # The first frame starts from another pose and may take as long as it needs.
            count, step = (iterations, 1.0 / (self._config.fps * iterations)) if t else (_FIRST_STEPS, _FIRST_STEP_S)
            for _ in range(count):
                self._step(goals, stacked, t, self._speed * step, _RECOVERY)
            for _ in range(_REPAIRS):
                # Hands may meet within one step, faster than pairs are found: what overlaps now is taken apart at once.
                if not data.ncon or data.contact.dist.min() > -_REPAIRED_M:
                    break
                self._step(goals, stacked, t, self._spare / (self._config.fps * _REPAIRS), 1.0)
            out[t], masses[t] = data.qpos, data.subtree_com[self._root]
        return out, masses

    def _pose(self) -> None:
        """Bring bodies and contacts to the joints' positions."""
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_collision(self._model, self._data)

    def _step(self, goals: Goals, stacked: _Stacked, t: int, reach: np.ndarray, recovery: float) -> None:
        """Take a step to the goals of frame t: joints by at most `reach` (J,), overlaps by a share of their depth."""
        model, data = self._model, self._data
        jacobian, error, weight = stacked.residual(model, data, t)
        weighted = weight[:, None] * jacobian
        hessian = weighted.T @ weighted
        gradient = weighted.T @ (weight * error)
        if goals.com is not None:
            rows = np.zeros((3, model.nv))
            mujoco.mj_jacSubtreeCom(model, data, rows, self._root)
            hessian += _COM**2 * (rows[:2].T @ rows[:2])
            gradient += _COM**2 * (rows[:2].T @ (data.subtree_com[self._root, :2] - goals.com[t]))
        hessian.flat[self._diagonal] += self._damping**2
        joints, square = data.qpos[self._qpos], goals.posture_weight**2
        hessian.flat[self._diagonal[self._dofs]] += square
        gradient[self._dofs] += square * (joints - goals.posture[t])

        lower, upper = -self._bound, self._bound.copy()
        lower[self._dofs] = np.minimum(np.maximum(-reach, self._lower - joints), 0.0)
        upper[self._dofs] = np.maximum(np.minimum(reach, self._upper - joints), 0.0)
        rows, least = self._collisions(recovery)
        sense = np.zeros(model.nv + len(rows), dtype=c_int)
        # Soft: what already overlaps is pushed apart as fast as the joints allow.
        sense[model.nv :] = _SOFT
        change, _, status, _ = daqp.solve(
            hessian,
            gradient,
            rows,
            np.concatenate([upper, np.full(len(rows), _FREE)]),
            np.concatenate([lower, least]),
            sense,
            rho_soft=_SOFTNESS,
        )
        if status <= 0:
            raise InputError(f"retargeting: frame {t} has no pose within the joint limits; check the motion")
        mujoco.mj_integratePos(model, data.qpos, change, 1.0)
        data.qpos[self._qpos] = np.clip(data.qpos[self._qpos], self._lower, self._upper)
        self._pose()

    def _collisions(self, recovery: float) -> tuple[np.ndarray, np.ndarray]:
        """Return gradients (N, nv) of the distances of near pairs, and the least change (N,) each one may have."""
        model, data = self._model, self._data
        if not data.ncon:
            return np.zeros((0, model.nv)), np.zeros(0)
        contact = data.contact
        distance = contact.dist
        near = np.flatnonzero(distance < _DETECTION_M)
        near = self._lowest(near, contact.geom[near], distance[near])
        geoms, distance = contact.geom[near], distance[near]
        normals, places = contact.frame[near, :3], contact.pos[near]
        bodies = model.geom_bodyid[geoms]
        static = self._static[geoms]
        rows = np.zeros((len(near), model.nv))
        scratch = np.empty((3, model.nv))
        for i in range(len(near)):
            for side, sign in ((0, -1.0), (1, 1.0)):
                if not static[i, side]:
                    mujoco.mj_jac(model, data, scratch, None, places[i], bodies[i, side])
                    rows[i] += sign * (normals[i] @ scratch)
        # Feet and hands may touch the scene; everything else keeps off it and off each other.
        allowed = static.any(axis=1) & self._touching[geoms].all(axis=1)
        room = distance - np.where(allowed, 0.0, _CLEARANCE_M)
        return rows, np.where(room > 0, -_COLLISION_GAIN * room, -recovery * room)

    def _lowest(self, near: np.ndarray, geoms: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Return the contacts (N,) less those with the floor that another point of the same body is below of."""
        on_floor = (geoms == self._floor).any(axis=1)
        if on_floor.sum() < 2:
            return near
        order = np.flatnonzero(on_floor)[np.argsort(distance[on_floor])]
        bodies = self._model.geom_bodyid[np.where(geoms[order, 0] == self._floor, geoms[order, 1], geoms[order, 0])]
        kept = order[np.unique(bodies, return_index=True)[1]]
        return np.concatenate([near[~on_floor], near[kept]])


class _Stacked:
    """All goals of a motion as one residual per frame."""

    def __init__(self, goals: Goals, nv: int) -> None:
        everything = [*goals.points, *goals.relative]
        self._num_points, self._num_turns = len(goals.points), len(goals.turns)
        self._bodies = np.array([goal.point.body for goal in everything], dtype=int)
        self._offsets = np.array([goal.point.offset for goal in everything]).reshape(-1, 3)
        self._turned = np.array([goal.body for goal in goals.turns], dtype=int)
        self._base = goals.base
        frames = goals.num_frames
        self._places = np.stack([goal.target for goal in everything], axis=1)
        turns = [goal.target for goal in goals.turns]
        self._difference = _difference_matrices(np.stack(turns, axis=1) if turns else np.zeros((frames, 0, 4)))
        weights = [goal.weight for goal in everything]
        weights += [np.repeat(goal.weight[:, None], 3, axis=1) for goal in goals.turns]
        self._weights = np.concatenate(weights, axis=1)
        rows = len(everything) + len(goals.turns)
        self._jacobian = np.zeros((rows, 3, nv))
        self._error = np.zeros((rows, 3))
        self._base_rows = np.zeros((2, 3, nv))

    def residual(self, model: mujoco.MjModel, data: mujoco.MjData, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return Jacobian (R, nv), error (R,) and weights (R,) at frame t."""
        jacobian, error, count = self._jacobian, self._error, len(self._bodies)
        places = data.xpos[self._bodies] + np.einsum(
            "kij,kj->ki", data.xmat[self._bodies].reshape(-1, 3, 3), self._offsets
        )
        for i, body in enumerate(self._bodies):
            mujoco.mj_jac(model, data, jacobian[i], None, places[i], body)
        error[:count] = places - self._places[t]
        if count > self._num_points:
            relative = slice(self._num_points, count)
            base, turn = self._base_rows, data.xmat[self._base].reshape(3, 3)
            mujoco.mj_jac(model, data, base[0], base[1], data.xpos[self._base], self._base)
            arm = places[relative] - data.xpos[self._base]
            # A turn of the base moves the point in the base's frame by arm x turn.
            rows = jacobian[relative] - base[0] + _skew(arm) @ base[1]
            jacobian[relative] = turn.T @ rows
            error[relative] = arm @ turn - self._places[t, relative]
        for i, body in enumerate(self._turned):
            mujoco.mj_jacBody(model, data, None, jacobian[count + i], body)
        turned = (self._difference[t] @ data.xquat[self._turned][..., None])[..., 0]
        half = np.sqrt(np.einsum("ki,ki->k", turned[:, 1:], turned[:, 1:]))
        angle = 2.0 * np.arctan2(half, np.abs(turned[:, 0])) * np.sign(turned[:, 0])
        error[count:] = (angle / np.maximum(half, 1e-12))[:, None] * turned[:, 1:]
        return jacobian.reshape(-1, model.nv), error.ravel(), self._weights[t]


def _skew(vectors: np.ndarray) -> np.ndarray:
    """Return matrices (K, 3, 3) of the cross products with vectors (K, 3)."""
    out = np.zeros((len(vectors), 3, 3))
    x, y, z = vectors.T
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = -z, y, -x
    out[:, 1, 0], out[:, 2, 0], out[:, 2, 1] = z, -y, x
    return out


def _difference_matrices(targets: np.ndarray) -> np.ndarray:
    """Return matrices (..., 4, 4) that take an orientation q to q * conj(target), wxyz: the turn from the target."""
    w, x, y, z = np.moveaxis(targets * [1.0, -1.0, -1.0, -1.0], -1, 0)
    rows = [[w, -x, -y, -z], [x, w, z, -y], [y, -z, w, x], [z, y, -x, w]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _collision_model(kinematics: RobotKinematics, scene: Scene | None, floor_for_feet: bool) -> mujoco.MjModel:
    """Return the robot's model with the scene, in which pairs within the detection distance become contacts."""
    robot = kinematics.robot
    spec = robot.mjspec(visuals=False)
    if scene is not None:
        add_solids(spec, scene)
    spec.worldbody.add_geom(name="_floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
    model = spec.compile()
    feet = set() if floor_for_feet else set(robot.foot_geoms)
    for geom in range(model.ngeom):
        name = model.geom(geom).name
        moving = model.body_weldid[model.geom_bodyid[geom]] != 0
        if name == "_floor":
            # Feet are put on the floor by their plan.
            model.geom_contype[geom], model.geom_conaffinity[geom] = _FLOOR_BIT, 0
        elif moving and (model.geom_contype[geom] or model.geom_conaffinity[geom]):
            model.geom_margin[geom] = 0.5 * _DETECTION_M
            if name not in feet:
                model.geom_conaffinity[geom] |= _FLOOR_BIT
        elif name.startswith(SOLID_PREFIX):
            model.geom_margin[geom] = 0.5 * _DETECTION_M
    near = _near_at_home(model, kinematics)
    for i, (first, second) in enumerate(sorted(near)):
        spec.add_exclude(name=f"_near_{i}", bodyname1=first, bodyname2=second)
    if not near:
        return model
    excluded = spec.compile()
    for field in ("geom_contype", "geom_conaffinity", "geom_margin"):
        getattr(excluded, field)[:] = getattr(model, field)
    return excluded


def _near_at_home(model: mujoco.MjModel, kinematics: RobotKinematics) -> set[tuple[str, str]]:
    """Return the pairs of moving bodies that are as near in the default pose already, such as a shin and its foot."""
    data = mujoco.MjData(model)
    data.qpos[:] = kinematics.home_qpos
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_collision(model, data)
    pairs = set()
    for first, second in model.geom_bodyid[data.contact.geom[data.contact.dist < _CLEARANCE_M * 2]]:
        if model.body_weldid[first] and model.body_weldid[second]:
            pairs.add((model.body(first).name, model.body(second).name))
    return pairs
