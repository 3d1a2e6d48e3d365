from __future__ import annotations

import numpy as np
import pytest

from bodydouble.errors import InputError
from sim.tasks.tracking.motion_bank import MotionBank
from tests.sim.tasks.tracking.samples import point_backend, toy_motion


@pytest.fixture(scope="module")
def bank() -> MotionBank:
    """Clips of 25 and 12 frames at 10 Hz; the second one's numbers start at 100."""
    return MotionBank([toy_motion(25), toy_motion(12, 100.0)], point_backend(), 10.0)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_frames_are_found_and_held_at_the_end(bank: MotionBank) -> None:
    clip, frame = ints(0, 0, 0, 1, 1, 1), ints(0, 24, 300, 0, 11, 12)
    places = bank.index(clip, frame)
    assert places.tolist() == [0, 24, 24, 25, 36, 36]
    window, bodies = bank.window(clip, frame, ints(0), np.zeros(6, bool)), bank.bodies(places)
    assert window.root_pos[:, 0, 0].tolist() == [0, 24, 24, 100, 111, 111]
    assert window.root_pos.dtype == np.float32 and bodies.contact.dtype == np.float32
    assert bodies.contact.tolist() == [[1, 0], [1, 0], [1, 0], [1, 0], [0, 1], [0, 1]]
    assert (bank.num_clips, bank.joint_names, bank.body_names) == (2, ("hip", "knee"), ("trunk",))


def test_windows_look_ahead_in_their_own_clip(bank: MotionBank) -> None:
    window = bank.window(ints(0, 1), ints(3, 5), ints(0, 1, 4), np.zeros(2, bool))
    for name in ("root_pos", "joint_pos"):
        assert getattr(window, name)[..., 0].tolist() == [[3, 4, 7], [105, 106, 109]], name
    for name in ("root_lin_vel", "root_ang_vel", "joint_vel"):
        assert getattr(window, name)[..., 0].tolist() == [[4, 5, 8], [106, 107, 110]], name
    assert window.root_quat.shape == (2, 3, 4) and window.joint_pos.shape == (2, 3, 2)


def test_beyond_the_end_the_robot_stands_on_the_last_frame(bank: MotionBank) -> None:
    """Positions are held, never those of the next clip; velocities are zero from the last frame on."""
    window = bank.window(ints(0, 1), ints(22, 30), ints(1, 2, 5), np.zeros(2, bool))
    assert window.root_pos[..., 0].tolist() == [[23, 24, 24], [111, 111, 111]]
    assert window.root_lin_vel[..., 0].tolist() == [[24, 0, 0], [0, 0, 0]]
    assert window.joint_vel[..., 1].tolist() == [[24, 0, 0], [0, 0, 0]]


def test_a_held_reference_shows_the_present_frame_without_speed(bank: MotionBank) -> None:
    window = bank.window(ints(0, 0), ints(0, 7), ints(1, 4), np.array([True, False]))
    assert window.root_pos[..., 0].tolist() == [[0, 0], [8, 11]]
    assert window.root_ang_vel[..., 0].tolist() == [[0, 0], [9, 12]]


def test_bins_are_seconds_of_clips(bank: MotionBank) -> None:
    # 25 frames at 10 Hz: bins of 10, 10 and 5 frames; 12 frames: 10 and 2.
    assert bank.num_bins == 5
    assert bank.bin_length.tolist() == [10, 10, 5, 10, 2]
    assert bank.clip_of_bin.tolist() == [0, 0, 0, 1, 1]
    assert bank.bin_start.tolist() == [0, 10, 20, 0, 10]
    assert bank.bin_of_frame.tolist() == [0] * 10 + [1] * 10 + [2] * 5 + [3] * 10 + [4] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": 20.0}, "reference 1 is sampled at 20.0 Hz, the control rate is 10.0 Hz"),
        ({"joint_names": ("knee", "hip")}, "reference 1 has other joint_names than reference 0"),
        ({"body_names": ("head",)}, "reference 1 has other body_names"),
        ({"contact_names": ("right_foot", "left_foot")}, "reference 1 has other contact_names"),
    ],
)
def test_motions_that_do_not_belong_together_are_refused(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MotionBank([toy_motion(5), toy_motion(5, **change)], point_backend(), 10.0)


def test_no_motion_is_refused() -> None:
    with pytest.raises(InputError, match="at least one reference motion"):
        MotionBank([], point_backend(), 10.0)
