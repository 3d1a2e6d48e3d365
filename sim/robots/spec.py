"""RobotSpec: what a robot is (joints, gains, limits, feet), and the MuJoCo model with its actuators and sensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from bodydouble.errors import InputError
from sim.divergence import without_autoreset
from sim.robots.collision import CollisionRule, apply_collision_rules
from sim.robots.follow import Follow

IMU_QUAT = "imu_quat"
"""Sensor: IMU orientation, wxyz."""
IMU_GYRO = "imu_ang_vel"
"""Sensor: angular velocity in the IMU's frame, rad/s."""
IMU_ACC = "imu_lin_acc"
"""Sensor: linear acceleration in the IMU's frame, m/s^2."""
HOME_KEY = "home"
"""Keyframe that holds the default pose."""


@dataclass(frozen=True)
class Attachment:
    """A second MJCF (a gripper) that is mounted on a site of the robot."""

    mjcf: Path
    """The mounted model."""
    site: str
    """Site of the robot that carries it."""
    prefix: str
    """Prefix of all its names."""


@dataclass(frozen=True, eq=False)
class RobotSpec:
    """A robot whose joints are position controlled. J joints, in the order of the MJCF."""

    name: str
    """Name in the registry, or the MJCF's model name."""
    mjcf: Path
    """The model file."""
    joint_names: tuple[str, ...]
    """Controlled joints, in the order of the MJCF."""
    joint_lower: np.ndarray
    """Lower joint limits (J,), rad."""
    joint_upper: np.ndarray
    """Upper joint limits (J,), rad."""
    default_joint_pos: np.ndarray
    """Default pose (J,), rad."""
    default_root_pos: np.ndarray
    """Base position (3,) at the default pose, m."""
    kp: np.ndarray
    """Position gains (J,), N m/rad."""
    kd: np.ndarray
    """Damping gains (J,), N m s/rad."""
    armature: np.ndarray
    """Reflected rotor inertias (J,), kg m^2."""
    effort_limit: np.ndarray
    """Torque limits (J,), N m."""
    velocity_limit: np.ndarray
    """Speed limits (J,), rad/s."""
    base_body: str
    """Body that the root pose speaks of."""
    floating_base: bool
    """Whether the base moves freely."""
    imu_site: str | None
    """Site of the IMU; None puts the IMU's sensors at the base body's origin."""
    foot_bodies: tuple[str, ...]
    """Bodies that stand on the floor, left before right; empty for arms."""
    foot_geoms: tuple[str, ...]
    """Collision geoms of the feet."""
    tracked_bodies: tuple[str, ...]
    """Bodies whose poses a RobotMotion carries."""
    licence: str
    """Licence of the model files: one line of what and whose, then the text."""
    source: str
    """Where the model files come from."""
    passive_joint_pos: Mapping[str, float]
    """Default positions of joints without an actuator of their own."""
    collision_rules: tuple[CollisionRule, ...] = ()
    """How collision geoms touch; the first rule that fits a geom's name counts."""
    attachments: tuple[Attachment, ...] = ()
    """Mounted models. Their actuators follow the J joint actuators."""
    elliptic_cone: bool = False
    """Elliptic friction cones, which hold grasped things better; feet do well with the cheaper pyramids."""
    impratio: float = 1.0
    """Ratio of frictional to normal constraint impedance; above 1 slips less, for grasping."""
    follow: Follow | None = None
    """Which of its parts follow a person; None where it cannot."""

    def __post_init__(self) -> None:
        for name in _PER_JOINT:
            array = getattr(self, name)
            if array.shape != (len(self.joint_names),) or not np.isfinite(array).all():
                raise InputError(f"robot {self.name}: {name} has shape {array.shape}, expected {len(self.joint_names)}")
            # MuJoCo writes six significant digits into MJCF; rounded here, a stage file holds exactly these numbers.
            rounded = np.array([float(f"{value:.6g}") for value in array])
            rounded.setflags(write=False)
            object.__setattr__(self, name, rounded)

    @property
    def num_joints(self) -> int:
        """Number of controlled joints J."""
        return len(self.joint_names)

    @property
    def action_scale(self) -> np.ndarray:
        """Joint offset (J,) in rad that one unit of action means: a quarter of what the torque limit can hold."""
        return 0.25 * self.effort_limit / self.kp

    def mjspec(self, physics_dt: float = 0.005, *, visuals: bool = True) -> mujoco.MjSpec:
        """Return the robot alone, without a floor, with position actuators, IMU sensors and a `home` keyframe.

        The first J actuators are the joints' in `joint_names` order, named like the joints; their control is the
        joint's target in rad. The solver options (Newton, implicitfast) are ones that CPU MuJoCo and MuJoCo
        Warp share.

        Args:
            physics_dt: Physics step, s.
            visuals: Whether to keep geoms that touch nothing, and their meshes; without them models compile faster.

        Raises:
            InputError: The model file cannot be parsed or lacks a body, site or joint of this specification.
        """
        spec = load_mjspec(self.mjcf)
        self._check_names(spec)
        self._set_options(spec, physics_dt)
        for actuator in list(spec.actuators):
            spec.delete(actuator)
        _drop_floor(spec)
        self._add_actuators(spec)
        for attachment in self.attachments:
            mounted = load_mjspec(attachment.mjcf)
            self._set_options(mounted, physics_dt)
            spec.attach(mounted, site=spec.site(attachment.site), prefix=attachment.prefix)
        apply_collision_rules(spec, self.collision_rules)
        if not visuals:
            drop_visuals(spec)
        self._add_imu(spec)
        self._set_home(spec)
        return spec

    def _check_names(self, spec: mujoco.MjSpec) -> None:
        known = {"joint": {j.name for j in spec.joints}, "body": {b.name for b in spec.bodies}}
        known |= {"site": {s.name for s in spec.sites}, "geom": {g.name for g in spec.geoms}}
        wanted = {"joint": self.joint_names, "body": (self.base_body, *self.foot_bodies, *self.tracked_bodies)}
        wanted |= {"site": (self.imu_site,) if self.imu_site else (), "geom": self.foot_geoms}
        for kind, names in wanted.items():
            missing = sorted(set(names) - known[kind])
            if missing:
                raise InputError(f"{self.mjcf}: has no {kind} {missing[0]!r}; it is not the model of robot {self.name}")

    def _add_actuators(self, spec: mujoco.MjSpec) -> None:
        for i, name in enumerate(self.joint_names):
            joint = spec.joint(name)
            joint.armature = float(self.armature[i])
            # All damping is the actuator's kd, so that the contract's kp and kd are the whole joint law.
            joint.damping = np.zeros_like(joint.damping)
            actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            actuator.set_to_position(kp=float(self.kp[i]), kv=float(self.kd[i]))
            actuator.forcelimited = True
            actuator.forcerange = np.array([-self.effort_limit[i], self.effort_limit[i]])
            actuator.ctrllimited = True
            actuator.ctrlrange = np.array([self.joint_lower[i], self.joint_upper[i]])

    def _add_imu(self, spec: mujoco.MjSpec) -> None:
        site = self.imu_site
        if site is None:
            site = "imu"
            spec.body(self.base_body).add_site(name=site)
        kinds = {
            IMU_QUAT: mujoco.mjtSensor.mjSENS_FRAMEQUAT,
            IMU_GYRO: mujoco.mjtSensor.mjSENS_GYRO,
            IMU_ACC: mujoco.mjtSensor.mjSENS_ACCELEROMETER,
        }
        present = {sensor.name for sensor in spec.sensors}
        for name, kind in kinds.items():
            if name not in present:
                spec.add_sensor(name=name, type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=site)

    def _set_options(self, spec: mujoco.MjSpec, physics_dt: float) -> None:
        option = spec.option
        option.timestep = physics_dt
        # implicitfast takes the actuators' damping implicitly: kd of a light wrist is far above explicit stability.
        option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        option.solver = mujoco.mjtSolver.mjSOL_NEWTON
        option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC if self.elliptic_cone else mujoco.mjtCone.mjCONE_PYRAMIDAL
        option.impratio = self.impratio
        option.iterations = 20
        option.ls_iterations = 50

    def _set_home(self, spec: mujoco.MjSpec) -> None:
        for key in list(spec.keys):
            spec.delete(key)
        qpos: list[float] = []
        default = {**self.passive_joint_pos, **dict(zip(self.joint_names, self.default_joint_pos, strict=True))}
        for joint in spec.joints:
            if joint.type == mujoco.mjtJoint.mjJNT_FREE:
                qpos += [*self.default_root_pos, 1.0, 0.0, 0.0, 0.0]
            elif joint.type == mujoco.mjtJoint.mjJNT_BALL:
                qpos += [1.0, 0.0, 0.0, 0.0]
            else:
                qpos.append(default.get(joint.name, 0.0))
        ctrl = [*self.default_joint_pos, *([0.0] * (len(spec.actuators) - self.num_joints))]
        spec.add_key(name=HOME_KEY, qpos=qpos, ctrl=ctrl)


_LIMITS = ("joint_lower", "joint_upper", "effort_limit", "velocity_limit")
_PER_JOINT = (*_LIMITS, "default_joint_pos", "kp", "kd", "armature")


def load_mjspec(path: Path) -> mujoco.MjSpec:
    """Return the parsed MJCF file.

    Raises:
        InputError: The file is missing or is no valid MJCF.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such model file; give a robot's name or the path of an MJCF file")
    try:
        return mujoco.MjSpec.from_file(str(path))
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as MJCF ({' '.join(str(error).split())})") from None


def compile_spec(spec: mujoco.MjSpec, what: str) -> mujoco.MjModel:
    """Return the compiled model; a simulation of it keeps a bad state, see sim.divergence.

    Raises:
        InputError: MuJoCo refuses the model; the message says why.
    """
    try:
        return without_autoreset(spec.compile())
    except ValueError as error:
        raise InputError(f"{what}: does not compile ({' '.join(str(error).split())})") from None


def per_joint(names: tuple[str, ...], patterns: Mapping[str, float], default: float | None = None) -> np.ndarray:
    """Return one number per joint, by the first regular expression that matches its whole name.

    Args:
        names: Joint names (J).
        patterns: Regular expression to number.
        default: Number of joints that no expression matches; None refuses them.

    Returns:
        Numbers (J,).

    Raises:
        InputError: No expression matches a joint and there is no default.
    """
    values = []
    for name in names:
        value = next((number for pattern, number in patterns.items() if re.fullmatch(pattern, name)), default)
        if value is None:
            raise InputError(f"joint {name!r}: no value given; expected one of the patterns {', '.join(patterns)}")
        values.append(value)
    return np.array(values, dtype=np.float64)


def joint_limits(spec: mujoco.MjSpec, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper limits (J,) of a model's joints, rad.

    Raises:
        InputError: A joint is missing or has no limits.
    """
    ranges = []
    for name in names:
        joint = spec.joint(name)
        if joint is None or not joint.range[0] < joint.range[1]:
            raise InputError(f"{spec.modelname}: joint {name!r} is missing or has no limits; give it a range")
        ranges.append(joint.range)
    lower, upper = np.array(ranges, dtype=np.float64).T
    return lower.copy(), upper.copy()


def _drop_floor(spec: mujoco.MjSpec) -> None:
    """Remove the floor that a model file brings; a stage has its own."""
    for geom in list(spec.worldbody.geoms):
        if geom.type == mujoco.mjtGeom.mjGEOM_PLANE:
            spec.delete(geom)


def drop_visuals(spec: mujoco.MjSpec) -> None:
    """Remove geoms that touch nothing and weigh nothing, and meshes that nothing uses any more."""
    for body in spec.bodies:
        for geom in list(body.geoms):
            gives_mass = body.name != "world" and not body.explicitinertial and geom.mass != 0 and geom.density > 0
            if geom.contype == 0 and geom.conaffinity == 0 and not gives_mass:
                spec.delete(geom)
    used = {geom.meshname for geom in spec.geoms}
    for mesh in list(spec.meshes):
        if (mesh.name or Path(mesh.file).stem) not in used:
            spec.delete(mesh)
