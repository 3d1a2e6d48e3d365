"""Which frame of the reference is due."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodydouble.errors import InputError
from robot.reference_player import ReferencePlayer
from sim.stage.stage import Stage
from tests.robot.samples import toy_motion

OFFSETS = (0, 1, 5)


@pytest.fixture
def player(stage: Stage) -> ReferencePlayer:
    return ReferencePlayer(stage.reference, OFFSETS)


def test_stand_holds_the_frame_at_rest(player: ReferencePlayer, stage: Stage) -> None:
    for _ in range(5):
        player.advance()
    assert player.frame == 0
    window = player.window()
    for i in range(len(OFFSETS)):
        np.testing.assert_array_equal(window.joint_pos[0, i], stage.reference.joint_pos[0].astype(np.float32))
    assert not window.joint_vel.any() and not window.root_lin_vel.any()


def test_track_plays_one_frame_per_tick_to_the_end(player: ReferencePlayer, stage: Stage) -> None:
    player.select("track")
    for i in range(10):
        window = player.window()
        for k, offset in enumerate(OFFSETS):
            expected = stage.reference.joint_pos[i + offset].astype(np.float32)
            np.testing.assert_array_equal(window.joint_pos[0, k], expected)
        player.advance()
    for _ in range(stage.reference.num_frames):
        player.advance()
    assert player.finished and player.frame == stage.reference.num_frames - 1
    assert not player.window().joint_vel.any()


def test_stop_holds_at_a_safe_frame(player: ReferencePlayer) -> None:
    player.select("track")
    for _ in range(15):
        player.advance()
    player.select("stop")
    for _ in range(100):
        player.advance()
    held = player.frame
    player.advance()
    assert player.frame == held and player.still


def test_unknown_skill(player: ReferencePlayer) -> None:
    with pytest.raises(InputError, match="'jump' is unknown"):
        player.select("jump")


def walked(player: ReferencePlayer, ticks: int) -> ReferencePlayer:
    for _ in range(ticks):
        player.advance()
    return player


def test_window_of_a_walk_by_hand() -> None:
    """The walk's joints are 0.01, 0.02, 0.03 rad a frame from frame 4 on, to 30 frames walked at frame 34."""
    player = ReferencePlayer(toy_motion(40), (0, 3, 100))
    player.select("track")
    window = walked(player, 10).window()
    assert window.joint_pos.shape == (1, 3, 3) and window.joint_pos.dtype == np.float32
    steps = np.array([[6.0], [9.0], [30.0]])
    np.testing.assert_allclose(window.joint_pos[0], 0.01 * steps * [1, 2, 3], rtol=1e-6)
    np.testing.assert_allclose(window.root_pos[0, :, 0], steps[:, 0] / 50, rtol=1e-6)
    np.testing.assert_allclose(window.root_lin_vel[0, :, 0], [1.0, 1.0, 0.0])
    np.testing.assert_allclose(window.joint_vel[0, :, 1], [1.0, 1.0, 0.0])


@pytest.mark.parametrize("skill", ["stop", "stand"])
def test_in_the_middle_of_a_step_it_walks_on_to_a_safe_frame(skill: str) -> None:
    """Frame 12 has both feet planted, but at 1 m/s: the first safe frame is 34, where the walk has ended."""
    player = ReferencePlayer(toy_motion(40), OFFSETS)
    player.select("track")
    walked(player, 10).select(skill)
    assert player.skill == "stop" and not player.still
    assert walked(player, 2).frame == 12 and not player.still
    assert walked(player, 100).frame == 34 and player.still and not player.finished
    assert not player.window().joint_vel.any()
    player.select("track")
    assert walked(player, 100).frame == 39 and player.finished


def test_a_slow_frame_on_one_foot_is_not_safe() -> None:
    motion = toy_motion(40)
    contact = motion.contact.copy()
    contact[:3, 0] = False
    player = ReferencePlayer(dataclasses.replace(motion, contact=contact), OFFSETS)
    player.select("stop")
    assert walked(player, 50).frame == 3


def test_hands_do_not_count_and_a_motion_without_feet_is_safe_when_slow() -> None:
    motion = toy_motion(40)
    player = ReferencePlayer(dataclasses.replace(motion, contact_names=("a", "b", "c")), OFFSETS)
    player.select("track")
    walked(player, 10).select("stop")
    assert walked(player, 100).frame == 34


def test_the_last_frame_is_always_safe() -> None:
    motion = toy_motion(40)
    nowhere = np.zeros_like(motion.contact)
    player = ReferencePlayer(dataclasses.replace(motion, contact=nowhere), OFFSETS)
    player.select("stop")
    assert walked(player, 100).frame == 39 and player.still


@pytest.mark.parametrize("offsets", [(), (1, 2**40), (-(2**80),)])
def test_offsets_that_no_motion_has(offsets: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="reference offsets are"):
        ReferencePlayer(toy_motion(), offsets)


@given(
    st.lists(st.sampled_from(["stand", "track", "stop", "on"]), max_size=60),
    st.lists(st.integers(-50, 50), min_size=1, max_size=4),
)
def test_any_sequence_of_skills_stays_inside_the_motion(sequence: list[str], offsets: list[int]) -> None:
    """The frame never goes back and never jumps; the window only holds frames of the motion, finite."""
    motion = toy_motion(20)
    player = ReferencePlayer(motion, tuple(offsets))
    frame = 0
    for move in sequence:
        if move == "on":
            player.advance()
        else:
            player.select(move)
        assert player.frame - frame in (0, 1) and player.frame < motion.num_frames
        frame = player.frame
        window = player.window()
        known = {tuple(row) for row in motion.joint_pos.astype(np.float32).tolist()}
        assert all(tuple(row) in known for row in window.joint_pos[0].tolist())
        first = min(max(frame + (0 if player.still else offsets[0]), 0), motion.num_frames - 1)
        np.testing.assert_array_equal(window.joint_pos[0, 0], motion.joint_pos[first].astype(np.float32))
