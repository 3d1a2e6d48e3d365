"""Forward kinematics of a robot over a motion: from joint angles to a full RobotMotion."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import quat_conj, quat_mul, quat_normalize, quat_rotate, quat_to_rotvec, yaw_quat
from bodydouble.motion import RobotMotion
from sim.robots.follow import SIDES
from sim.robots.spec import RobotSpec

CONTACT_HEIGHT_M = 0.02
"""A sole below this height above the floor may be in contact."""
CONTACT_SPEED_M_S = 0.25
"""A foot slower than this may be in contact."""
_NEARLY_UPRIGHT_RAD = 0.1
_ON_AXIS_M = 0.05


@dataclass(frozen=True, eq=False)
class BodyPoint:
    """A frame that is fixed in a body of the model."""

    body: int
    """The body's index."""
    offset: np.ndarray
    """Position in the body's frame (3,), m."""
    quat: np.ndarray
    """Orientation in the body's frame (4,), wxyz."""


class RobotKinematics:
    """A robot's bare model, for forward kinematics."""

    def __init__(self, robot: RobotSpec) -> None:
        self.robot = robot
        self.model: mujoco.MjModel = robot.mjspec(visuals=False).compile()
        self.data = mujoco.MjData(self.model)
        joints = [self.model.joint(name).id for name in robot.joint_names]
        self.qpos_index = self.model.jnt_qposadr[joints]
        self.dof_index = self.model.jnt_dofadr[joints]
        self.body_ids = np.array([self.model.body(name).id for name in robot.tracked_bodies])
        self.foot_ids = np.array([self.model.body(name).id for name in robot.foot_bodies], dtype=int)
        self.home_qpos = self.model.key_qpos[0].copy()
        self.flat_quats = self._flat_feet()
        self._soles = [self._sole_points(body) for body in self.foot_ids]
        self.foot_turns = self._ankles()

    def _ankles(self) -> list[bool]:
        """Return of each foot whether a joint turns it against the shin."""
        follow = self.robot.follow
        if follow is None or follow.tool is not None:
            return [True] * len(self.foot_ids)
        knees = [self.point(follow.parts[f"{side}_knee"]).body for side in SIDES]
        pairs = zip(knees, self.foot_ids, strict=True)
        return [bool(self.joints_of(self.chain(knee, int(foot))).any()) for knee, foot in pairs]

    def point(self, name: str) -> BodyPoint:
        """Return the body that a body, site or geom belongs to, and its place in it.

        Raises:
            InputError: The model has none of this name.
        """
        model = self.model
        identity = np.array([1.0, 0.0, 0.0, 0.0])
        body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
        if body >= 0:
            return BodyPoint(body, np.zeros(3), identity)
        site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, name)
        if site >= 0:
            return BodyPoint(int(model.site_bodyid[site]), model.site_pos[site].copy(), model.site_quat[site].copy())
        geom = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, name)
        if geom >= 0:
            return BodyPoint(int(model.geom_bodyid[geom]), model.geom_pos[geom].copy(), identity)
        raise InputError(f"robot {self.robot.name}: has no body, site or geom {name!r}")

    def home_place(self, name: str) -> np.ndarray:
        """Return the place (3,) in m of a body, site or geom in the default pose."""
        point = self.point(name)
        position, quat = self.body_poses(self.home_qpos[None], np.array([point.body]))
        return position[0, 0] + quat_rotate(quat[0, 0], point.offset)

    def level_quats(self, bodies: list[int]) -> np.ndarray:
        """Return the orientations (K, 4) of bodies in the default pose, in which the robot stands upright, facing x."""
        return self.body_poses(self.home_qpos[None], np.array(bodies))[1][0]

    def chain(self, ancestor: int, body: int) -> list[int]:
        """Return the bodies from below `ancestor` down to `body`, that one included."""
        out = []
        while body not in (ancestor, 0):
            out.append(body)
            body = int(self.model.body_parentid[body])
        return out[::-1]

    def joints_of(self, bodies: list[int]) -> np.ndarray:
        """Return which controlled joints (J,) move one of these bodies against its parent, bool."""
        joints = [self.model.joint(name).id for name in self.robot.joint_names]
        return np.isin(self.model.jnt_bodyid[joints], bodies)

    def twists(self, shoulder: int, elbow: int) -> np.ndarray:
        """Return which controlled joints (J,) between two bodies turn the upper arm about itself, bool."""
        chosen = self.joints_of(self.chain(shoulder, elbow)[:-1])
        self.body_poses(self.home_qpos[None], np.array([elbow]))
        for i in np.flatnonzero(chosen):
            joint = self.model.joint(self.robot.joint_names[i]).id
            arm = self.data.xpos[elbow] - self.data.xanchor[joint]
            axis = self.data.xaxis[joint]
            chosen[i] = np.linalg.norm(arm - (arm @ axis) * axis) < _ON_AXIS_M
        return chosen

    def _flat_feet(self) -> np.ndarray:
        """Return the orientations (F, 4) of the feet when they stand flat and point ahead, from the default pose."""
        if not len(self.foot_ids):
            return np.zeros((0, 4))
        quats = self.body_poses(self.home_qpos[None], self.foot_ids)[1][0]
        flat = quat_mul(quat_conj(yaw_quat(quats)), quats)
        # A foot frame that is upright but for the default pose's rounding is upright.
        upright = 2.0 * np.arccos(np.clip(np.abs(flat[:, 0]), 0.0, 1.0)) < _NEARLY_UPRIGHT_RAD
        flat[upright] = [1.0, 0.0, 0.0, 0.0]
        return flat

    def _sole_points(self, body: int) -> tuple[np.ndarray, np.ndarray]:
        """Return centres (P, 3) in the foot's frame, and radii (P,), of the spheres that make a foot's lower side."""
        names = set(self.robot.foot_geoms)
        points, radii = [], []
        for geom in range(self.model.ngeom):
            if self.model.geom_bodyid[geom] != body or self.model.geom(geom).name not in names:
                continue
            centre, size, kind = self.model.geom_pos[geom], self.model.geom_size[geom], self.model.geom_type[geom]
            if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
                corners, radius = np.array([[0, 0, -size[1]], [0, 0, size[1]]]), size[0]
            elif kind == mujoco.mjtGeom.mjGEOM_SPHERE:
                corners, radius = np.zeros((1, 3)), size[0]
            elif kind == mujoco.mjtGeom.mjGEOM_BOX:
                corners, radius = size * (2.0 * np.indices((2, 2, 2)).reshape(3, 8).T - 1.0), 0.0
            else:
                name = self.model.geom(geom).name
                raise InputError(f"robot {self.robot.name}: foot geom {name!r} is no sphere, capsule or box")
            points.append(centre + quat_rotate(self.model.geom_quat[geom], corners))
            radii += [radius] * len(corners)
        if not points:
            name = self.model.body(body).name
            raise InputError(f"robot {self.robot.name}: foot body {name!r} has none of the foot geoms {sorted(names)}")
        return np.concatenate(points), np.array(radii)

    def sole_points(self, foot: int) -> np.ndarray:
        """Return the points (P, 3) over which a flat foot's sole can touch a floor, from its ankle, m."""
        points, radii = self._soles[foot]
        return quat_rotate(self.flat_quats[foot], points) - radii[:, None] * [0.0, 0.0, 1.0]

    def sole_centre(self, foot: int) -> np.ndarray:
        """Return the middle (3,) of the spheres that make a foot's lower side, in the foot's frame, m."""
        return self._soles[foot][0].mean(axis=0)

    def qpos(self, root_pos: np.ndarray, root_quat: np.ndarray, joint_pos: np.ndarray) -> np.ndarray:
        """Return generalised positions (T, nq) of base poses (T, 3), (T, 4) and joint positions (T, J)."""
        qpos = np.tile(self.home_qpos, (len(joint_pos), 1))
        if self.robot.floating_base:
            qpos[:, :3], qpos[:, 3:7] = root_pos, root_quat
        qpos[:, self.qpos_index] = joint_pos
        return qpos

    def body_poses(self, qpos: np.ndarray, bodies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return positions (T, K, 3) in m and orientations (T, K, 4), wxyz, of bodies (K,) over qpos (T, nq)."""
        positions = np.empty((len(qpos), len(bodies), 3))
        quats = np.empty((len(qpos), len(bodies), 4))
        for t, q in enumerate(qpos):
            self.data.qpos[:] = q
            mujoco.mj_kinematics(self.model, self.data)
            positions[t], quats[t] = self.data.xpos[bodies], self.data.xquat[bodies]
        return positions, quats

    def sole_heights(self, foot_pos: np.ndarray, foot_quat: np.ndarray) -> np.ndarray:
        """Return the lowest point's height (T, F) in m of feet at (T, F, 3) turned by (T, F, 4)."""
        heights = np.empty(foot_pos.shape[:2])
        for foot, (points, radii) in enumerate(self._soles):
            w, x, y, z = np.moveaxis(foot_quat[:, foot], -1, 0)
            # Third row of the rotation matrix: only the height matters.
            up = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=-1)
            heights[:, foot] = foot_pos[:, foot, 2] + (up @ points.T - radii).min(axis=1)
        return heights

    def standing_height(self) -> float:
        """Return the base height in m at which the default pose's lowest sole touches a floor at zero."""
        position, quat = self.body_poses(self.home_qpos[None], self.foot_ids)
        return float(self.home_qpos[2] - self.sole_heights(position, quat).min())


@functools.lru_cache(maxsize=8)
def kinematics(robot: RobotSpec) -> RobotKinematics:
    """Return the robot's kinematics, compiled once per robot."""
    return RobotKinematics(robot)


def make_robot_motion(
    robot: RobotSpec,
    fps: float,
    root_pos: np.ndarray,
    root_quat: np.ndarray,
    joint_pos: np.ndarray,
    contact: np.ndarray | None = None,
) -> RobotMotion:
    """Return a whole RobotMotion from poses alone: velocities by central differences, bodies by kinematics.

    Args:
        robot: The robot.
        fps: Frames per second.
        root_pos: Base positions (T, 3), world, m.
        root_quat: Base orientations (T, 4), wxyz.
        joint_pos: Joint positions (T, J), rad.
        contact: Whether each foot is meant to stand (T, F), bool; None finds it from sole height and speed.

    Raises:
        InputError: The shapes do not fit the robot.
    """
    model = kinematics(robot)
    root_quat = quat_normalize(continuous_quats(np.asarray(root_quat, dtype=np.float64)))
    qpos = model.qpos(root_pos, root_quat, joint_pos)
    body_pos, body_quat = model.body_poses(qpos, np.concatenate([model.body_ids, model.foot_ids]))
    tracked = len(model.body_ids)
    if contact is None:
        contact = find_contacts(model, body_pos[:, tracked:], body_quat[:, tracked:], fps)
    return RobotMotion(
        fps=float(fps),
        joint_names=robot.joint_names,
        root_pos=np.asarray(root_pos, dtype=np.float64),
        root_quat=root_quat,
        joint_pos=np.asarray(joint_pos, dtype=np.float64),
        root_lin_vel=central_difference(root_pos, fps),
        root_ang_vel=body_angular_velocity(root_quat, fps),
        joint_vel=central_difference(joint_pos, fps),
        body_names=robot.tracked_bodies,
        body_pos=body_pos[:, :tracked],
        body_quat=body_quat[:, :tracked],
        contact_names=contact_names(robot),
        contact=contact,
    )


def contact_names(robot: RobotSpec) -> tuple[str, ...]:
    """Return left_foot and right_foot for bipeds, else the names of the foot bodies."""
    return ("left_foot", "right_foot") if len(robot.foot_bodies) == 2 else robot.foot_bodies


def find_contacts(model: RobotKinematics, foot_pos: np.ndarray, foot_quat: np.ndarray, fps: float) -> np.ndarray:
    """Return whether each foot (T, F) is low and slow enough to stand, given poses (T, F, 3), (T, F, 4)."""
    if foot_pos.shape[1] == 0:
        return np.zeros(foot_pos.shape[:2], dtype=bool)
    heights = model.sole_heights(foot_pos, foot_quat)
    speed = np.linalg.norm(central_difference(foot_pos, fps), axis=-1)
    return (heights < CONTACT_HEIGHT_M) & (speed < CONTACT_SPEED_M_S)


def central_difference(values: np.ndarray, fps: float) -> np.ndarray:
    """Return the time derivative of samples (T, ...), one-sided at both ends."""
    return np.gradient(np.asarray(values, dtype=np.float64), 1.0 / fps, axis=0)


def continuous_quats(quats: np.ndarray) -> np.ndarray:
    """Return quaternions (T, 4) with signs flipped where needed, so that neighbours are close."""
    flips = np.sum(quats[1:] * quats[:-1], axis=-1) < 0
    sign = np.where(np.concatenate([[0], np.cumsum(flips)]) % 2 == 1, -1.0, 1.0)
    return quats * sign[:, None]


def body_angular_velocity(quats: np.ndarray, fps: float) -> np.ndarray:
    """Return angular velocities (T, 3) in the turning body's frame, rad/s, of orientations (T, 4)."""
    step = quat_to_rotvec(quat_mul(quat_conj(quats[:-1]), quats[1:])) * fps
    return np.concatenate([step[:1], 0.5 * (step[:-1] + step[1:]), step[-1:]])


def load_csv_rows(path: Path, columns: int, max_rows: int = 200_000) -> np.ndarray:
    """Return a headerless CSV file of numbers as (rows, columns).

    Raises:
        InputError: The file is missing, has another number of columns, too many rows, or a value that is no number.
    """
    try:
        with open(path) as file:
            rows = np.loadtxt(file, delimiter=",", ndmin=2, max_rows=max_rows + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: is no CSV file of numbers ({error})") from None
    if rows.shape[1] != columns or not 2 <= len(rows) <= max_rows or not np.isfinite(rows).all():
        raise InputError(f"{path}: has {rows.shape} numbers, expected 2 to {max_rows} rows of {columns} finite ones")
    return rows
