"""Retargeting a person to the G1: feet that stand still, balance, limits, still starts and ends."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bodydouble.errors import InputError
from bodydouble.frames import quat_rotate, yaw_angle
from bodydouble.motion import HumanMotion, RobotMotion
from sim.retarget.bvh import load_bvh
from sim.retarget.config import RetargetConfig
from sim.retarget.human import joint_roles
from sim.retarget.retarget import Retargeted, retarget, retarget_clip
from sim.robots import RobotSpec, robot_spec
from tests.sim.stick_person import person, pulse, squat_and_reach, step_forward


@pytest.fixture(scope="module")
def squat(g1: RobotSpec) -> Retargeted:
    return retarget_clip(squat_and_reach(yaw=0.3), g1)


@pytest.fixture(scope="module")
def step(g1: RobotSpec) -> Retargeted:
    return retarget_clip(step_forward(), g1)


def body(motion: RobotMotion, name: str) -> np.ndarray:
    return motion.body_pos[:, motion.body_names.index(name)]


@pytest.mark.parametrize("clip", ["squat", "step"])
def test_quality(clip: str, request: pytest.FixtureRequest):
    result = request.getfixturevalue(clip)
    figures = result.metrics
    assert figures["limit_violations"] == 0 and figures["speed_violations"] == 0
    assert figures["foot_skate_max_cm_s"] < 0.1
    assert figures["penetration_mm"] < 0.5 and figures["foot_float_mm"] < 0.5
    assert figures["joint_speed_max"] < 8.0 and figures["self_contact_mm"] < 2.0
    assert figures["zmp_outside_share"] < 0.03 and figures["zmp_outside_max_cm"] < 3.0
    assert figures["realtime_factor"] > 2.0  # of CPU time, so that other work beside it does not count


@pytest.mark.parametrize("clip", ["squat", "step"])
def test_starts_and_ends_still_in_the_default_pose(clip: str, g1: RobotSpec, request: pytest.FixtureRequest):
    motion = request.getfixturevalue(clip).motion
    for part in (slice(0, 50), slice(-50, None)):
        assert np.abs(motion.joint_vel[part]).max() < 1e-3
        assert np.abs(motion.root_lin_vel[part]).max() < 1e-3
        np.testing.assert_allclose(motion.joint_pos[part], np.tile(g1.default_joint_pos, (50, 1)), atol=0.02)
        assert motion.contact[part].all()


def test_squat_goes_down_by_the_scaled_drop_and_turns_as_the_person(squat: Retargeted):
    motion = squat.motion
    lowest = motion.root_pos[:, 2].min()
    assert lowest == pytest.approx(motion.root_pos[0, 2] - 0.30 * squat.leg_ratio, abs=0.04)
    np.testing.assert_allclose(yaw_angle(motion.root_quat), 0.3, atol=0.08)
    assert motion.contact.all()
    # In the bow the torso leans forwards by about the person's 0.7 rad.
    up = quat_rotate(motion.body_quat[:, motion.body_names.index("torso_link")], np.array([0.0, 0, 1.0]))
    frame = squat.clip_start + int(5.7 * 50)
    assert np.arccos(up[frame, 2]) == pytest.approx(0.7, abs=0.15)


def test_arms_point_where_the_persons_do(squat: Retargeted):
    motion, frame = squat.motion, squat.clip_start + int(5.7 * 50)
    torso = motion.body_quat[frame, motion.body_names.index("torso_link")]
    reach = body(motion, "left_wrist_yaw_link")[frame] - body(motion, "left_shoulder_roll_link")[frame]
    local = quat_rotate(torso * [1, -1, -1, -1], reach)
    # 1.4 rad raised, forearm 0.3 rad higher: almost straight ahead of the chest.
    assert local[0] > 0.30 and abs(local[2]) < 0.1


def test_steps_land_at_the_scaled_distance(step: Retargeted):
    motion = step.motion
    for side in ("left", "right"):
        foot = body(motion, f"{side}_ankle_roll_link")
        assert foot[-1, 0] - foot[0, 0] == pytest.approx(0.5 * step.leg_ratio, abs=0.02)
        assert foot[:, 2].max() > 0.035 + 0.04
    assert [int(np.sum(np.diff(motion.contact[:, i].astype(int)) != 0)) for i in range(2)] == [2, 2]
    moved = body(motion, "left_ankle_roll_link")[:, 0]
    assert np.abs(np.diff(moved[motion.contact[:, 0]][:50])).max() < 1e-5


def test_balance_moves_the_mass_over_the_feet(g1: RobotSpec):
    times = np.arange(150) / 30.0
    lean = 0.25 * np.clip(times - 1, 0, 1)
    # A person whose hips lean far ahead: the robot would tip over.
    human = person(times, walk=np.stack([lean, 0 * lean, 0 * lean], 1))
    without = retarget_clip(human, g1, RetargetConfig(balance=False)).metrics
    balanced = retarget_clip(human, g1).metrics
    assert without["zmp_outside_share"] > 0.1
    assert balanced["zmp_outside_share"] == 0.0


def test_clip_that_begins_on_one_foot_steps_into_it(g1: RobotSpec):
    human = step_forward()
    cut = slice(60, None)  # two seconds in: the left foot is in the air
    part = {f.name: getattr(human, f.name)[cut] for f in dataclasses.fields(human) if f.name in PER_FRAME}
    result = retarget_clip(dataclasses.replace(human, **part), g1)
    assert result.metrics["foot_skate_max_cm_s"] < 0.1
    assert result.motion.contact[:60].all() and not result.motion.contact[result.clip_start, 0]


def test_noisy_joints_and_contacts_still_give_a_motion_that_can_be_stood_on(g1: RobotSpec):
    rng = np.random.default_rng(0)
    human = step_forward()
    joints = human.joint_pos + rng.normal(0.0, 0.015, human.joint_pos.shape)
    wrong = rng.random(human.contact.shape) < 0.03
    noisy = dataclasses.replace(human, joint_pos=joints, contact=np.abs(human.contact - wrong))
    figures = retarget_clip(noisy, g1).metrics
    assert figures["limit_violations"] == 0 and figures["speed_violations"] == 0
    assert figures["foot_skate_max_cm_s"] < 0.5 and figures["self_contact_mm"] < 2.0
    assert figures["zmp_outside_share"] < 0.05


def test_forearms_keep_off_the_legs_in_a_deep_squat(g1: RobotSpec):
    times = np.arange(150) / 30.0
    down = pulse(times, 0.8, 4.2)
    # Arms hang straight down while the thighs come up to them.
    human = person(times, drop=0.42 * down, lean=0.6 * down, raise_arms=0.4 * down)
    assert retarget_clip(human, g1).metrics["self_contact_mm"] < 2.0


PER_FRAME = ("times_ns", "joint_pos", "joint_quat", "contact", "contact_pos", "pose", "root_pos", "seen")


def test_real_walk_from_a_bvh_file(g1: RobotSpec, data_dir: Path):
    path = data_dir / "motion_cmu_bvh" / "bvh_data" / "cmu_12_01_walk.bvh"
    human = load_bvh(path, metres_per_unit=0.0564, skip_frames=1)
    result = retarget_clip(human, g1, RetargetConfig(contact_source="kinematic"))
    figures = result.metrics
    assert figures["limit_violations"] == 0 and figures["speed_violations"] == 0
    assert figures["foot_skate_max_cm_s"] < 0.5 and figures["penetration_mm"] < 1.0
    assert figures["zmp_outside_share"] < 0.1
    walked = result.motion.root_pos[-1] - result.motion.root_pos[0]
    assert np.linalg.norm(walked[:2]) == pytest.approx(3.8 * result.path_scale, abs=0.4)


def without_contacts(human: HumanMotion) -> HumanMotion:
    return dataclasses.replace(human, contact=np.zeros_like(human.contact))


def test_bad_input_is_refused_in_one_line(g1: RobotSpec):
    human = squat_and_reach(2.0)
    with pytest.raises(InputError, match="no foot ever touches the floor"):
        retarget(without_contacts(human), g1)
    with pytest.raises(InputError, match="no joint is known as left_hip"):
        retarget(dataclasses.replace(human, joint_names=tuple(f"j{i}" for i in range(14))), g1)
    with pytest.raises(InputError, match="cutoff_hz is 30"):
        RetargetConfig(cutoff_hz=30.0)
    with pytest.raises(InputError, match="iterations is 0"):
        RetargetConfig(iterations=0)
    with pytest.raises(InputError, match="robot ur5e_2f85: is no biped"):
        retarget(human, robot_spec("ur5e_2f85"))
    times = {name: getattr(human, name)[:6] for name in PER_FRAME}
    with pytest.raises(InputError, match="at least half a second"):
        retarget(dataclasses.replace(human, **times), g1)


def test_roles_are_found_under_the_names_of_several_bodies():
    anny = [
        f"{bone}.{s}"
        for bone in ("upperleg01", "lowerleg01", "foot", "upperarm01", "lowerarm01", "wrist")
        for s in "LR"
    ]
    roles = joint_roles(("root", *anny))
    assert roles["left_hip"] == 1 and roles["right_wrist"] == 12
    bvh = [
        f"{side}{part}"
        for part in ("UpLeg", "Leg", "Foot", "Shoulder", "Arm", "ForeArm", "Hand")
        for side in ("Left", "Right")
    ]
    roles = joint_roles(tuple(bvh))
    # In BVH files the joint called Shoulder is the collar bone.
    assert roles["left_shoulder"] == bvh.index("LeftArm")
