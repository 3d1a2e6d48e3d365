"""The feasibility pass names the seconds that a robot cannot do, and passes those that it can."""

from __future__ import annotations

import numpy as np
import pytest

from bodydouble.motion import RobotMotion
from sim.retarget.feasibility import check_feasibility
from sim.retarget.kinematics import kinematics, make_robot_motion
from sim.retarget.retarget import retarget_clip
from sim.robots import RobotSpec
from tests.sim.stick_person import squat_and_reach

FRAMES = 150
TIMES = np.arange(FRAMES) / 50.0


def motion(g1: RobotSpec, lift: np.ndarray | float = 0.0, joints: dict[str, np.ndarray] | None = None) -> RobotMotion:
    """The G1 in its default pose, lifted by `lift` (T,), with offsets (T,) on some joints."""
    root = np.tile([0.0, 0.0, kinematics(g1).standing_height()], (FRAMES, 1))
    root[:, 2] += lift
    pose = np.tile(g1.default_joint_pos, (FRAMES, 1))
    for name, offset in (joints or {}).items():
        pose[:, g1.joint_names.index(name)] += offset
    return make_robot_motion(g1, 50.0, root, np.tile([1.0, 0, 0, 0], (FRAMES, 1)), pose)


def in_second_one(values: np.ndarray) -> np.ndarray:
    return np.where((TIMES >= 1.0) & (TIMES < 2.0), values, 0.0)


def test_standing_can_be_done(g1: RobotSpec):
    result = check_feasibility(motion(g1), g1)
    assert all(second["feasible"] for second in result.seconds())
    assert result.residual.max() < 1e-3 and 0.05 < result.torque.max() < 0.3
    assert result.figures()["feasible_share"] == 1.0


def test_a_squat_can_be_done(g1: RobotSpec):
    retargeted = retarget_clip(squat_and_reach(), g1).motion
    result = check_feasibility(retargeted, g1)
    assert result.figures()["infeasible_seconds"] == 0


def test_a_jump_that_no_push_precedes_is_named(g1: RobotSpec):
    # Rises by a metre and a half out of a stand, and hangs on the way.
    result = check_feasibility(motion(g1, lift=in_second_one(1.5 * np.sin(np.pi * (TIMES - 1.0)) ** 2)), g1)
    seconds = result.seconds()
    assert [second["feasible"] for second in seconds] == [True, False, True]
    assert "balance" in str(seconds[1]["cause"])


def test_a_free_fall_needs_no_contact(g1: RobotSpec):
    # Half a second in the air, thrown up before the clip begins: gravity alone explains it.
    fall = 2.0 + 2.45 * TIMES - 0.5 * 9.81 * TIMES**2
    whole = motion(g1, lift=np.where(TIMES < 0.8, fall, fall[40]))
    result = check_feasibility(whole, g1)
    assert not whole.contact[:30].any()
    assert np.median(result.residual[8:30]) < 0.05


def test_an_arm_that_is_too_fast_is_named_with_its_joint(g1: RobotSpec):
    swing = in_second_one(np.sin(2 * np.pi * 6.0 * (TIMES - 1.0)))
    result = check_feasibility(motion(g1, joints={"left_shoulder_pitch_joint": swing}), g1)
    second = result.seconds()[1]
    assert not second["feasible"] and "torque" in str(second["cause"])
    assert second["worst_joint"] == "left_shoulder_pitch_joint"
    assert result.seconds()[0]["feasible"]


def test_leaning_out_over_the_feet_is_named(g1: RobotSpec):
    still = motion(g1)
    pitch = 0.5
    # The whole robot is turned about its toes' side: its mass is far ahead of the soles, and stays there.
    root = np.stack([still.root_pos[:, 2] * np.sin(pitch), 0 * TIMES, still.root_pos[:, 2] * np.cos(pitch)], 1)
    quat = np.tile([np.cos(pitch / 2), 0, np.sin(pitch / 2), 0], (FRAMES, 1))
    both = np.ones((FRAMES, 2), dtype=bool)
    lean = make_robot_motion(g1, 50.0, root, quat, still.joint_pos, contact=both)
    result = check_feasibility(lean, g1)
    assert {str(second["cause"]) for second in result.seconds()} == {"balance"}


@pytest.mark.parametrize("contact", [True, False])
def test_without_feet_on_the_ground_nothing_carries(g1: RobotSpec, contact: bool):
    still = motion(g1)
    held = make_robot_motion(
        g1, 50.0, still.root_pos, still.root_quat, still.joint_pos, contact=np.full((FRAMES, 2), contact)
    )
    residual = check_feasibility(held, g1).residual
    assert residual.max() < 1e-3 if contact else residual.min() == pytest.approx(1.0, abs=0.2)
