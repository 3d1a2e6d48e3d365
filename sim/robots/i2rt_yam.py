"""I2RT YAM arm with its crank gripper, 7 controlled joints. Model from the mjlab wheel; motor data from I2RT."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sim.robots.collision import CollisionRule
from sim.robots.follow import Follow
from sim.robots.motors import Motor, position_gains
from sim.robots.spec import RobotSpec, joint_limits, load_mjspec, per_joint
from sim.robots.wheels import MJLAB, mjlab_licence

_DM4340 = Motor(0.032, 28.0, 10.0)
_DM4310 = Motor(0.0018, 10.0, 30.0)
_CRANK = 0.071 / 2.7
"""Finger travel per motor angle, m/rad: the crank's mean over its stroke."""
# A tenth of the motor's torque: with all of it the finger crushes what it holds, on the hardware too.
_FINGER = Motor(_DM4310.armature / _CRANK**2, 0.1 * _DM4310.effort_limit / _CRANK, _DM4310.velocity_limit * _CRANK)

_MOTORS = {"joint[1-3]": _DM4340, "joint[4-6]": _DM4310, "left_finger": _FINGER}
# Inertia that each motor moves in the home pose, kg m^2 (finger: kg): the arm's own, because the rotors' are small.
_MOVED_INERTIA = {
    "joint1": 0.123153,
    "joint2": 0.277411,
    "joint3": 0.232763,
    "joint4": 0.030154,
    "joint5": 0.009126,
    "joint6": 0.002868,
    "left_finger": 2.781624,
}
_HOME = {"joint2": 1.047, "joint3": 1.05, "joint4": -0.9, "left_finger": 0.0375 / 2}


def i2rt_yam(folder: Path) -> RobotSpec:
    """Return the YAM arm from the mjlab wheel's extracted files; the right finger follows the left."""
    mjcf = folder / "mjlab/asset_zoo/robots/i2rt_yam/xmls/yam.xml"
    spec = load_mjspec(mjcf)
    joints = tuple(joint.name for joint in spec.joints if joint.name != "right_finger")
    inertia = per_joint(joints, _MOVED_INERTIA)
    arm_kp, arm_kd = position_gains(inertia, frequency_hz=2.0)
    finger_kp, finger_kd = position_gains(inertia, frequency_hz=1.0)
    is_finger = np.array([name == "left_finger" for name in joints])
    lower, upper = joint_limits(spec, joints)
    return RobotSpec(
        name="i2rt_yam",
        mjcf=mjcf,
        joint_names=joints,
        joint_lower=lower,
        joint_upper=upper,
        default_joint_pos=per_joint(joints, _HOME, 0.0),
        default_root_pos=np.zeros(3),
        kp=np.where(is_finger, finger_kp, arm_kp),
        kd=np.where(is_finger, finger_kd, arm_kd),
        armature=per_joint(joints, {pattern: motor.armature for pattern, motor in _MOTORS.items()}),
        effort_limit=per_joint(joints, {pattern: motor.effort_limit for pattern, motor in _MOTORS.items()}),
        velocity_limit=per_joint(joints, {pattern: motor.velocity_limit for pattern, motor in _MOTORS.items()}),
        base_body="arm",
        floating_base=False,
        imu_site=None,
        foot_bodies=(),
        foot_geoms=(),
        tracked_bodies=("arm", *(f"link_{i}" for i in range(1, 7)), "link_left_finger"),
        licence=mjlab_licence(folder, "I2RT YAM model (I2RT Robotics, MIT; adapted in mjlab, Apache-2.0)"),
        source=f"{MJLAB.distribution} {MJLAB.version}",
        passive_joint_pos={"right_finger": -0.0375 / 2},
        collision_rules=(
            CollisionRule(r"[lr]f_down([6-9]|10|11)_collision", condim=6, priority=1, friction=1.0),
            CollisionRule(r".*_collision", condim=3, friction=0.6),
        ),
        follow=Follow({"right_wrist": "grasp_site"}),
    )
