"""A robot from an MJCF file and a short mapping file (TOML or JSON) that says which of its parts follow a person."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from bodydouble.errors import InputError
from sim.robots.follow import SIDES, Follow
from sim.robots.mjcf_robot import robot_from_mjcf
from sim.robots.motors import position_gains
from sim.robots.spec import RobotSpec, compile_spec, load_mjspec

SUFFIXES = (".toml", ".json")
"""Suffixes of mapping files."""
MAX_BYTES = 1 << 20
"""Largest mapping file that is read."""
_KEYS = {
    "mjcf": str,
    "name": str,
    "follow": dict,
    "contacts": dict,
    "pose": dict,
    "motors": dict,
    "weights": dict,
    "scale": (int, float),
}
_MOTOR_KEYS = ("kp", "kd", "effort", "speed")
_CONTACTS = tuple(f"{side}_foot" for side in SIDES)


def robot_from_mapping(path: Path) -> RobotSpec:
    """Return the robot of a mapping file.

    The file names the MJCF (`mjcf`, relative to it), the parts that follow a person (`follow`: part to body, site or
    geom), for a whole body the geoms that its feet stand on (`contacts`: left_foot, right_foot), and optionally a
    `name`, a default `pose` (joint to rad), `motors` (pattern of joints to kp, kd, effort, speed; for joints whose
    actuators are no position actuators all but speed are needed, or effort alone is taken from the motor), `weights`
    (part to factor) and `scale`.

    Raises:
        InputError: The file cannot be read, has an unknown key, or names a joint, body or geom that the MJCF lacks.
    """
    data = _read(path)
    mjcf = (path.parent / data["mjcf"]).resolve()
    motors = {pattern: _motor(path, pattern, values) for pattern, values in data.get("motors", {}).items()}
    robot = _robot(path, mjcf, motors)
    spec = load_mjspec(robot.mjcf)
    model = compile_spec(spec, str(robot.mjcf))
    try:
        follow = Follow(dict(data["follow"]), data.get("scale"), dict(data.get("weights", {})))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    for part, name in follow.parts.items():
        if not any(_id(model, kind, name) >= 0 for kind in ("BODY", "SITE", "GEOM")):
            raise InputError(f"{path}: {part} follows {name!r}, but {mjcf.name} has no body, site or geom of that name")
    feet = _feet(path, data.get("contacts", {}), follow, model)
    changes: dict[str, Any] = {
        "name": data.get("name", robot.name),
        "source": str(path),
        "follow": follow,
        "default_joint_pos": _pose(path, data.get("pose", {}), robot),
    }
    if feet:
        bodies = [model.body(model.geom(names[0]).bodyid[0]).name for names in feet]
        changes |= {"foot_bodies": tuple(bodies), "foot_geoms": tuple(name for names in feet for name in names)}
    speeds = [_first(motors, name, "speed", float(robot.velocity_limit[i])) for i, name in enumerate(robot.joint_names)]
    return dataclasses.replace(robot, velocity_limit=np.array(speeds), **changes)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, the limit is {MAX_BYTES}")
        text = path.read_text()
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no {path.suffix[1:].upper()} ({error})") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: is no mapping file; expected keys {', '.join(_KEYS)}")
    unknown = sorted(set(data) - set(_KEYS))
    if unknown:
        raise InputError(f"{path}: key {unknown[0]!r} is unknown; expected {', '.join(_KEYS)}")
    for key in ("mjcf", "follow"):
        if key not in data:
            raise InputError(f"{path}: lacks {key!r}; a mapping file names the MJCF and the parts that follow a person")
    for key, value in data.items():
        if not isinstance(value, _KEYS[key]):
            raise InputError(f"{path}: {key!r} is {value!r}, expected another type; see docs/retargeting.md")
    return data


def _motor(path: Path, pattern: str, values: Any) -> dict[str, float]:
    if not isinstance(values, dict) or set(values) - set(_MOTOR_KEYS):
        raise InputError(f"{path}: motors of {pattern!r} are {values!r}, expected keys {', '.join(_MOTOR_KEYS)}")
    if not all(isinstance(value, int | float) and value > 0 for value in values.values()):
        raise InputError(f"{path}: motors of {pattern!r} hold a value that is no number above 0")
    return {key: float(value) for key, value in values.items()}


def _first(motors: Mapping[str, Mapping[str, float]], joint: str, key: str, default: float) -> float:
    """Return a joint's motor value by the first pattern that fits its whole name and holds the key."""
    fitting = (values[key] for pattern, values in motors.items() if re.fullmatch(pattern, joint) and key in values)
    return next(fitting, default)


def _robot(path: Path, mjcf: Path, motors: Mapping[str, Mapping[str, float]]) -> RobotSpec:
    """Return the MJCF's robot; joints with torque motors get position control by the mapping's motors."""
    if not motors:
        return robot_from_mjcf(mjcf)
    spec = load_mjspec(mjcf)
    model = compile_spec(spec, str(mjcf))
    names = [joint.name for joint in spec.joints]
    for pattern in motors:
        if not any(re.fullmatch(pattern, name) for name in names):
            raise InputError(f"{path}: motors are given for {pattern!r}, but no joint of {mjcf.name} is called so")
    return robot_from_mjcf(mjcf, _gains(path, model, motors))


def _gains(
    path: Path, model: mujoco.MjModel, motors: Mapping[str, Mapping[str, float]]
) -> dict[str, tuple[float, float, float]]:
    """Return kp, kd and torque limit by joint for the torque motors of a model."""
    out = {}
    for i in range(model.nu):
        if model.actuator_trntype[i] != mujoco.mjtTrn.mjTRN_JOINT:
            continue
        joint = model.joint(int(model.actuator_trnid[i, 0])).name
        kp, kd = (_first(motors, joint, key, 0.0) for key in ("kp", "kd"))
        torque = abs(float(model.actuator_gear[i, 0])) * float(np.abs(model.actuator_ctrlrange[i]).max())
        effort = _first(motors, joint, "effort", torque)
        if not kp:
            continue
        inertia = np.array([max(float(model.dof_M0[model.joint(joint).dofadr[0]]), 1e-6)])
        out[joint] = (kp, kd or float(position_gains(inertia)[1][0]), effort)
        if not effort > 0:
            raise InputError(f"{path}: joint {joint!r} has no torque limit; give its motor an effort")
    return out


def _pose(path: Path, pose: Mapping[str, Any], robot: RobotSpec) -> np.ndarray:
    out = np.clip(robot.default_joint_pos, robot.joint_lower, robot.joint_upper)
    for joint, value in pose.items():
        if joint not in robot.joint_names:
            raise InputError(
                f"{path}: pose names joint {joint!r}, which {robot.mjcf.name} has no actuator for; its joints are "
                f"{', '.join(robot.joint_names)}"
            )
        i = robot.joint_names.index(joint)
        if not isinstance(value, int | float) or not robot.joint_lower[i] <= value <= robot.joint_upper[i]:
            raise InputError(
                f"{path}: pose of {joint} is {value!r}, expected {robot.joint_lower[i]:.4g} to "
                f"{robot.joint_upper[i]:.4g}"
            )
        out[i] = value
    return out


def _feet(path: Path, contacts: Mapping[str, Any], follow: Follow, model: mujoco.MjModel) -> list[list[str]]:
    unknown = sorted(set(contacts) - set(_CONTACTS))
    if unknown:
        raise InputError(f"{path}: contact {unknown[0]!r} is unknown; expected {', '.join(_CONTACTS)}")
    if follow.tool is not None:
        return []
    feet = []
    for side, foot in zip(SIDES, _CONTACTS, strict=True):
        names = contacts.get(foot)
        if not isinstance(names, list) or not names:
            raise InputError(f"{path}: contacts lack {foot!r}; list the geoms that this foot stands on")
        missing = [name for name in names if _id(model, "GEOM", name) < 0]
        if missing:
            raise InputError(f"{path}: {foot} stands on geom {missing[0]!r}, which the MJCF does not have")
        ankle = follow.parts[f"{side}_ankle"]
        if any(model.body(model.geom(name).bodyid[0]).name != ankle for name in names):
            raise InputError(f"{path}: the geoms of {foot} are not on body {ankle!r}, which follows the {side} ankle")
        feet.append([str(name) for name in names])
    return feet


def _id(model: mujoco.MjModel, kind: str, name: Any) -> int:
    return mujoco.mj_name2id(model, getattr(mujoco.mjtObj, f"mjOBJ_{kind}"), str(name))
