"""The absolute trajectory error against numbers computed by hand."""

import numpy as np
import pytest

from bodydouble.errors import InputError
from bodydouble.frames import make_se3
from perception.tracking.evaluate import trajectory_error

SQUARE = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])


def poses(positions: np.ndarray) -> np.ndarray:
    return make_se3(np.tile(np.eye(3), (len(positions), 1, 1)), positions)


def test_scale_is_not_aligned_away():
    """A square twice as large is off by one metre at every corner."""
    assert trajectory_error(poses(2 * SQUARE), poses(SQUARE)) == pytest.approx(1.0)


def test_one_corner_raised():
    """Corners raised by +1, -1, +1, -1 cannot be turned away: the error is one metre each."""
    raised = SQUARE + np.array([[0, 0, 1.0], [0, 0, -1], [0, 0, 1], [0, 0, -1]])
    assert trajectory_error(poses(raised), poses(SQUARE)) == pytest.approx(1.0)


def test_a_rigid_motion_is_aligned_away_and_lost_frames_are_left_out():
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    found = poses(np.vstack([SQUARE @ turn.T + [3, 4, 5], [[9, 9, 9]]]))
    found[4] = np.nan
    assert trajectory_error(found, poses(np.vstack([SQUARE, [[0, 0, 0]]]))) == pytest.approx(0, abs=1e-12)


def test_too_few_frames_and_other_shapes_are_named():
    with pytest.raises(InputError, match="2 frames have poses"):
        trajectory_error(poses(SQUARE[:2]), poses(SQUARE[:2]))
    with pytest.raises(InputError, match="shapes"):
        trajectory_error(poses(SQUARE[:3]), poses(SQUARE))
