"""Gaits, seats and platforms: the plan by hand, and what a robot makes of it."""

import dataclasses

import mujoco
import numpy as np
import pytest

from bodydouble.errors import InputError
from perception.synthetic.gaits import GAITS, PELVIS_TO_SEAT_M, SEAT_BACK, steps_per_second
from perception.synthetic.motions import MotionConfig, Proportions, Segment, Tracks, plan
from perception.synthetic.robot_acting import Block, act_robot, add_blocks, mirrored
from perception.synthetic.robot_clips import FPS, blocks, draw_robot_clip
from sim.retarget.metrics import motion_metrics
from sim.robots import robot_spec

BODY = Proportions(pelvis_height=0.94, ankle_height=0.08, hip_width=0.1, leg=0.85, arm=0.5, shoulder=(0.5, 0.18))


def planned(*segments: Segment) -> Tracks:
    return plan(MotionConfig(segments, start_xy=(0, 0), fps=50.0), BODY, more=GAITS)


def test_steps_per_second_by_hand():
    """A person of 0.85 m legs at 1.2 m/s: 1.1 + 0.75 * 1.2 = 2; shorter legs make more steps."""
    assert steps_per_second(1.2, 0.85) == pytest.approx(2.0)
    assert steps_per_second(1.2, 0.65) > 2.0


@pytest.mark.parametrize(("amount", "turn"), [(2.4, 0.0), (1.5, 0.8), (-0.8, 0.0)])
def test_a_gait_ends_where_it_should_on_feet_that_never_slide(amount: float, turn: float):
    tracks = planned(Segment("stand", 0.5), Segment("gait", 3.0, amount, turn=turn))
    still = tracks.contact[1:] & tracks.contact[:-1]
    assert np.abs(np.diff(tracks.feet, axis=0)[still]).max() < 1e-12
    assert tracks.contact.any(axis=1).all(), "one foot always stands"
    assert (~tracks.contact).any(axis=0).all(), "both step"
    ahead = amount if turn == 0 else amount / turn * np.sin(turn)
    aside = 0.0 if turn == 0 else amount / turn * (1 - np.cos(turn))
    np.testing.assert_allclose(tracks.feet[-1, :, :2].mean(axis=0), (ahead, aside), atol=1e-9)
    np.testing.assert_allclose(tracks.pelvis[-1, :2], (ahead, aside), atol=1e-9)
    np.testing.assert_allclose(tracks.foot_yaw[-1], turn, atol=1e-9)
    np.testing.assert_allclose(tracks.foot_pitch[-1], 0.0)
    # Between the steps nobody stands still.
    speed = np.linalg.norm(np.diff(tracks.pelvis[:, :2], axis=0), axis=1)[60:120] * 50
    assert speed.min() > 0.3 * abs(amount) / 3.0


def test_sitting_down_carries_only_at_the_seat():
    tracks = planned(Segment("stand", 0.5), Segment("sit_on", 2.0, 0.4), Segment("stand", 0.5), Segment("rise", 2.0))
    np.testing.assert_allclose(
        tracks.pelvis[tracks.seat], [(-SEAT_BACK * 0.85, 0.0, 0.4 + PELVIS_TO_SEAT_M)] * tracks.seat.sum(), atol=1e-9
    )
    assert tracks.contact.all() and not tracks.seat[-1]
    np.testing.assert_allclose(tracks.pelvis[-1], (0, 0, 0.94), atol=1e-9)


def test_mirrored_exchanges_left_and_right():
    """About the x axis, y changes its sign; mirrored twice it is the same plan."""
    tracks = planned(Segment("gait", 2.0, 1.0, turn=0.4), Segment("reach", 2.0, side="left"))
    about = Block((0.0, 0.0), 0.0, (1, 1, 1))
    other = mirrored(tracks, about)
    np.testing.assert_allclose(other.pelvis, tracks.pelvis * [1, -1, 1], atol=1e-12)
    np.testing.assert_allclose(other.feet[:, 0], tracks.feet[:, 1] * [1, -1, 1], atol=1e-12)
    np.testing.assert_allclose(other.heading, -tracks.heading)
    turned = Block((0.3, -0.2), 0.7, (1, 1, 1))
    again = mirrored(mirrored(tracks, turned), turned)
    for field in dataclasses.fields(Tracks):
        np.testing.assert_allclose(getattr(again, field.name), getattr(tracks, field.name), atol=1e-12)


def test_a_library_draws_the_same_clips_from_the_same_seed():
    robot, boxes = robot_spec("unitree_g1"), blocks(5)
    assert boxes == blocks(5) and boxes != blocks(6)
    for index in range(10):
        first = draw_robot_clip(5, index, robot, boxes)
        assert first == draw_robot_clip(5, index, robot, boxes)
        assert first != draw_robot_clip(6, index, robot, boxes)
        assert (first[1] is None) == (index < 6)
    # Clips on flat floor start far away from all boxes.
    assert min(np.hypot(*box.centre) for box in boxes) > 15


def test_a_robot_steps_up_and_stands_on_the_platform():
    """Feet that stand are on the floor or on the platform, to a millimetre, and no joint is beyond its limit."""
    robot, rise = robot_spec("unitree_g1"), 0.12
    block = Block((0.20 + 0.5, 0.0), 0.0, (1.0, 1.0, rise))
    config = MotionConfig((Segment("stand", 0.6), Segment("climb", 2.4, rise)), start_xy=(0, 0), fps=FPS)
    motion = act_robot(config, robot, block)
    heights = motion.body_pos[:, [motion.body_names.index(name) for name in robot.foot_bodies], 2]
    start, end = heights[0].mean(), heights[-1].mean()
    assert end - start == pytest.approx(rise, abs=1e-3)
    standing = heights[motion.contact]
    assert np.minimum(np.abs(standing - start), np.abs(standing - end)).max() < 1e-3
    assert motion_metrics(motion, robot)["limit_violations"] == 0


def test_a_robot_inside_a_box_is_refused():
    block = Block((0.1, 0.0), 0.0, (1.0, 1.0, 0.3))
    with pytest.raises(InputError, match="inside a box"):
        act_robot(MotionConfig((Segment("stand", 0.5),), start_xy=(0, 0), fps=FPS), robot_spec("unitree_g1"), block)


def test_blocks_stand_on_the_floor():
    spec = mujoco.MjSpec()
    add_blocks(spec, (Block((1.0, 2.0), np.pi / 2, (0.4, 0.6, 0.5)),))
    model = spec.compile()
    np.testing.assert_allclose(model.geom("block0").pos, (1.0, 2.0, 0.25))
    np.testing.assert_allclose(model.geom("block0").size, (0.2, 0.3, 0.25))
