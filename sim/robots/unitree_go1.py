"""Unitree Go1 quadruped, 12 joints. Model from the mjlab wheel; rotor inertia from Unitree's URDF."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sim.robots.collision import CollisionRule
from sim.robots.motors import Motor, position_gains, reflected_inertia
from sim.robots.spec import RobotSpec, joint_limits, load_mjspec, per_joint
from sim.robots.wheels import MJLAB, mjlab_licence

_ROTOR = 1.11842e-4
_HIP = Motor(reflected_inertia((_ROTOR,), (6.0,)), 23.7, 30.1)
_KNEE = Motor(reflected_inertia((_ROTOR,), (9.0,)), 35.55, 20.06)

_MOTORS = {r".*_(hip|thigh)_joint": _HIP, r".*_calf_joint": _KNEE}
_STAND = {r".*R_hip_joint": 0.1, r".*L_hip_joint": -0.1, r".*_thigh_joint": 0.9, r".*_calf_joint": -1.8}
_LEGS = ("FL", "FR", "RL", "RR")


def unitree_go1(folder: Path) -> RobotSpec:
    """Return the Go1 from the mjlab wheel's extracted files."""
    mjcf = folder / "mjlab/asset_zoo/robots/unitree_go1/xmls/go1.xml"
    spec = load_mjspec(mjcf)
    joints = tuple(joint.name for joint in spec.joints if not joint.name.startswith("floating_base"))
    armature = per_joint(joints, {pattern: motor.armature for pattern, motor in _MOTORS.items()})
    kp, kd = position_gains(armature)
    lower, upper = joint_limits(spec, joints)
    return RobotSpec(
        name="unitree_go1",
        mjcf=mjcf,
        joint_names=joints,
        joint_lower=lower,
        joint_upper=upper,
        default_joint_pos=per_joint(joints, _STAND),
        default_root_pos=np.array([0.0, 0.0, 0.278]),
        kp=kp,
        kd=kd,
        armature=armature,
        effort_limit=per_joint(joints, {pattern: motor.effort_limit for pattern, motor in _MOTORS.items()}),
        velocity_limit=per_joint(joints, {pattern: motor.velocity_limit for pattern, motor in _MOTORS.items()}),
        base_body="trunk",
        floating_base=True,
        imu_site="imu",
        foot_bodies=tuple(f"{leg}_calf" for leg in _LEGS),
        foot_geoms=tuple(f"{leg}_foot_collision" for leg in _LEGS),
        tracked_bodies=("trunk", *(f"{leg}_{link}" for leg in _LEGS for link in ("thigh", "calf"))),
        licence=mjlab_licence(folder, "Unitree Go1 model (Unitree, BSD-3-Clause; adapted in mjlab, Apache-2.0)"),
        source=f"{MJLAB.distribution} {MJLAB.version}",
        passive_joint_pos={},
        collision_rules=(
            CollisionRule(r"(FL|FR|RL|RR)_foot_collision", condim=3, priority=1, friction=0.6),
            CollisionRule(r".*_collision\d*", condim=1),
        ),
    )
