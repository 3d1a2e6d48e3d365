"""Any MJCF file as a robot: joints, gains and limits are read from its position actuators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mujoco
import numpy as np

from bodydouble.errors import InputError
from sim.robots.spec import RobotSpec, compile_spec, load_mjspec

UNLIMITED_SPEED = 100.0
"""Speed limit in rad/s of joints for which an MJCF can state none."""


def robot_from_mjcf(path: Path, gains: Mapping[str, tuple[float, float, float]] | None = None) -> RobotSpec:
    """Return a robot from an MJCF file whose joints have position actuators.

    The default pose is keyframe `home`, else the first keyframe, else the model's reference pose. Feet cannot be
    told from a model file, so a robot read this way has none and nothing is retargeted to it.

    Args:
        path: The file.
        gains: Joint to kp, kd and torque limit; these joints' actuators need not be position actuators.

    Raises:
        InputError: The file is no MJCF, has no actuators, or has one that is no position actuator on a joint with
            limits of position and force.
    """
    spec = load_mjspec(path)
    model = compile_spec(spec, str(path))
    if model.nu == 0:
        raise InputError(f"{path}: has no actuators; add one <position kp=... kv=... forcerange=...> per joint")
    gains = gains or {}
    joint_ids = [_actuated_joint(model, i, path, gains) for i in range(model.nu)]
    order = np.argsort(joint_ids)
    joints = np.array(joint_ids)[order]
    qpos = _default_qpos(model)
    kp = model.actuator_gainprm[order, 0].copy()
    kd = -model.actuator_biasprm[order, 2] + model.dof_damping[model.jnt_dofadr[joints]]
    effort = model.actuator_forcerange[order, 1].copy()
    for i, joint in enumerate(joints):
        kp[i], kd[i], effort[i] = gains.get(model.joint(joint).name, (kp[i], kd[i], effort[i]))
    base, floating = _base_body(model)
    imu = next((site.name for site in spec.sites if "imu" in site.name), None)
    return RobotSpec(
        name=spec.modelname or path.stem,
        mjcf=path,
        joint_names=tuple(model.joint(i).name for i in joints),
        joint_lower=model.jnt_range[joints, 0].copy(),
        joint_upper=model.jnt_range[joints, 1].copy(),
        default_joint_pos=qpos[model.jnt_qposadr[joints]],
        default_root_pos=qpos[:3].copy() if floating else model.body(base).pos.copy(),
        kp=kp,
        kd=kd,
        armature=model.dof_armature[model.jnt_dofadr[joints]].copy(),
        effort_limit=effort,
        velocity_limit=np.full(len(joints), UNLIMITED_SPEED),
        base_body=base,
        floating_base=floating,
        imu_site=imu,
        foot_bodies=(),
        foot_geoms=(),
        tracked_bodies=tuple(model.body(i).name for i in range(1, model.nbody) if model.body(i).name),
        licence=f"{path.name}: the licence of this file is its author's",
        source=str(path),
        passive_joint_pos={
            model.joint(i).name: float(qpos[model.jnt_qposadr[i]])
            for i in range(model.njnt)
            if i not in joints and model.jnt_type[i] >= int(mujoco.mjtJoint.mjJNT_SLIDE)
        },
    )


def _actuated_joint(model: mujoco.MjModel, i: int, path: Path, gains: Mapping[str, tuple[float, float, float]]) -> int:
    name = model.actuator(i).name or str(i)
    if model.actuator_trntype[i] != mujoco.mjtTrn.mjTRN_JOINT:
        raise InputError(f"{path}: actuator {name!r} does not act on a joint; expected position actuators only")
    joint = int(model.actuator_trnid[i, 0])
    if model.joint(joint).name in gains and model.jnt_limited[joint]:
        return joint
    kp, bias = model.actuator_gainprm[i, 0], model.actuator_biasprm[i]
    if model.actuator_biastype[i] != mujoco.mjtBias.mjBIAS_AFFINE or not kp > 0 or not np.isclose(bias[1], -kp):
        raise InputError(f"{path}: actuator {name!r} is no position actuator; write it as <position kp=... kv=...>")
    if not model.joint(joint).name or not model.jnt_limited[joint]:
        raise InputError(f"{path}: the joint of actuator {name!r} has no name or no range; give it both")
    if not model.actuator_forcelimited[i]:
        raise InputError(f"{path}: actuator {name!r} has no forcerange; give it the motor's torque limit")
    return joint


def _default_qpos(model: mujoco.MjModel) -> np.ndarray:
    if model.nkey == 0:
        return model.qpos0.copy()
    names = [model.key(i).name for i in range(model.nkey)]
    return model.key_qpos[names.index("home") if "home" in names else 0].copy()


def _base_body(model: mujoco.MjModel) -> tuple[str, bool]:
    free = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
    if len(free) and model.jnt_qposadr[free[0]] == 0:
        return model.body(model.jnt_bodyid[free[0]]).name, True
    return model.body(1).name, False
