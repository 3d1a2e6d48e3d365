"""Which frame of the reference is due."""

from __future__ import annotations

import numpy as np
import pytest

from bodydouble.errors import InputError
from robot.reference_player import ReferencePlayer
from sim.stage.stage import Stage

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
