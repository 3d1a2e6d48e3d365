"""Unitree G1, 29 joints. Model from the mjlab wheel; motor data as published by Unitree."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sim.robots.collision import CollisionRule
from sim.robots.follow import Follow
from sim.robots.motors import Motor, position_gains, reflected_inertia
from sim.robots.spec import RobotSpec, joint_limits, load_mjspec, per_joint
from sim.robots.wheels import MJLAB, mjlab_licence

# Two-stage planetary gears: rotor, first carrier, second carrier; inertias in kg m^2.
_M5020 = Motor(reflected_inertia((1.39e-5, 1.7e-6, 1.69e-5), (1 + 46 / 18, 1 + 56 / 16, 1)), 25.0, 37.0)
_M7520_14 = Motor(reflected_inertia((4.89e-5, 9.8e-6, 5.33e-5), (4.5, 1 + 48 / 22, 1)), 88.0, 32.0)
_M7520_22 = Motor(reflected_inertia((4.89e-5, 1.09e-5, 7.38e-5), (4.5, 5, 1)), 139.0, 20.0)
_M4010 = Motor(reflected_inertia((6.8e-6,), (25.0,)), 5.0, 22.0)

_MOTORS = {
    r".*_hip_(pitch|yaw)_joint|waist_yaw_joint": _M7520_14,
    r".*_(hip_roll|knee)_joint": _M7520_22,
    # Parallel linkages driven by two motors; a nominal 1:1 ratio is assumed.
    r".*_ankle_(pitch|roll)_joint|waist_(roll|pitch)_joint": _M5020.pair(),
    r".*_(shoulder_(pitch|roll|yaw)|elbow|wrist_roll)_joint": _M5020,
    r".*_wrist_(pitch|yaw)_joint": _M4010,
}
_KNEES_BENT = {
    r".*_hip_pitch_joint": -0.312,
    r".*_knee_joint": 0.669,
    r".*_ankle_pitch_joint": -0.363,
    r".*_elbow_joint": 0.6,
    r"left_shoulder_roll_joint": 0.2,
    r"right_shoulder_roll_joint": -0.2,
    r".*_shoulder_pitch_joint": 0.2,
}
_SIDES = ("left", "right")
_FOLLOWS = {
    "hip": "hip_pitch",
    "knee": "knee",
    "ankle": "ankle_roll",
    "shoulder": "shoulder_roll",
    "elbow": "elbow",
    "wrist": "wrist_yaw",
}
_LIMB_LINKS = ("hip_roll", "knee", "ankle_roll", "shoulder_roll", "elbow", "wrist_yaw")


def unitree_g1(folder: Path) -> RobotSpec:
    """Return the G1 from the mjlab wheel's extracted files."""
    mjcf = folder / "mjlab/asset_zoo/robots/unitree_g1/xmls/g1.xml"
    spec = load_mjspec(mjcf)
    joints = tuple(joint.name for joint in spec.joints if not joint.name.startswith("floating_base"))
    armature = per_joint(joints, {pattern: motor.armature for pattern, motor in _MOTORS.items()})
    kp, kd = position_gains(armature)
    lower, upper = joint_limits(spec, joints)
    return RobotSpec(
        name="unitree_g1",
        mjcf=mjcf,
        joint_names=joints,
        joint_lower=lower,
        joint_upper=upper,
        default_joint_pos=per_joint(joints, _KNEES_BENT, 0.0),
        default_root_pos=np.array([0.0, 0.0, 0.76]),
        kp=kp,
        kd=kd,
        armature=armature,
        effort_limit=per_joint(joints, {pattern: motor.effort_limit for pattern, motor in _MOTORS.items()}),
        velocity_limit=per_joint(joints, {pattern: motor.velocity_limit for pattern, motor in _MOTORS.items()}),
        base_body="pelvis",
        floating_base=True,
        imu_site="imu_in_pelvis",
        foot_bodies=tuple(f"{side}_ankle_roll_link" for side in _SIDES),
        foot_geoms=tuple(f"{side}_foot{i}_collision" for side in _SIDES for i in range(1, 8)),
        tracked_bodies=("pelvis", "torso_link", *(f"{side}_{link}_link" for side in _SIDES for link in _LIMB_LINKS)),
        licence=mjlab_licence(folder, "Unitree G1 model (Unitree, BSD-3-Clause; adapted in mjlab, Apache-2.0)"),
        source=f"{MJLAB.distribution} {MJLAB.version}",
        passive_joint_pos={},
        collision_rules=(
            CollisionRule(r"(left|right)_foot[1-7]_collision", condim=3, priority=1, friction=0.6),
            CollisionRule(r".*_collision", condim=1),
        ),
        follow=Follow(
            {"pelvis": "pelvis", "torso": "torso_link"}
            | {f"{side}_{part}": f"{side}_{link}_link" for side in _SIDES for part, link in _FOLLOWS.items()}
        ),
    )
