from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

from bodydouble.errors import InputError
from sim.render import render_stage, run_picture, stage_picture
from sim.stage.stage import Stage
from tests.policy.artifacts import stage

__all__ = ["stage"]

SIZE = (96, 72)


@pytest.fixture(scope="module", autouse=True)
def _renderer() -> None:
    """Skips where no picture can be drawn at all: neither a display nor EGL."""
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
    try:
        mujoco.Renderer(model, 8, 8).close()
    except Exception as error:
        pytest.skip(f"no OpenGL: {error}")


def states(stage: Stage, *frames: int) -> np.ndarray:
    motion = stage.reference
    return np.concatenate([motion.root_pos, motion.root_quat, motion.joint_pos], axis=1)[list(frames)]


@pytest.fixture(scope="module")
def pictures(stage: Stage) -> list[np.ndarray]:
    """The robot standing, the same again, with an arm raised, a metre to the side, and far below the floor."""
    (standing,) = states(stage, 0)
    raised, aside, gone = standing.copy(), standing.copy(), standing.copy()
    raised[7 + stage.robot.joint_names.index("left_shoulder_pitch_joint")] -= 1.5
    aside[:2] += [1.0, 1.0]
    gone[2] = -20.0
    return render_stage(stage, [standing, standing, raised, aside, gone], size=SIZE)


def dark(picture: np.ndarray) -> np.ndarray:
    """Pixels of the dark robot before the bright floor; the sky's rows are left out."""
    mask = picture.max(axis=-1) < 120
    mask[:18] = False
    return mask


def test_pictures_show_the_robot(pictures: list[np.ndarray]) -> None:
    standing, again, raised, _, gone = pictures
    assert all(picture.shape == (72, 96, 3) and picture.dtype == np.uint8 for picture in pictures)
    # Shading may differ by a level or two between two pictures of one state.
    np.testing.assert_allclose(standing.astype(int), again.astype(int), atol=4)
    rows, columns = np.nonzero(dark(standing))
    assert len(rows) > 100 and not dark(gone).any()
    assert np.ptp(rows) > 2 * np.ptp(columns), "it stands upright"
    above = np.nonzero(dark(raised)[:36])[1]
    assert above.max() > columns.max() >= np.nonzero(dark(standing)[:36])[1].max(), "the raised arm sticks out"


def test_the_camera_follows_the_robot(pictures: list[np.ndarray]) -> None:
    """A metre away the robot is still in the middle of the picture."""
    standing, _, _, aside, _ = pictures
    for picture in (standing, aside):
        assert abs(np.nonzero(dark(picture))[1].mean() - SIZE[0] / 2) < 4
    assert (dark(standing) != dark(aside)).sum() < 0.2 * dark(standing).sum()


def test_stage_picture_is_a_grid_of_three_columns(stage: Stage) -> None:
    picture = stage_picture(stage.path, moments=3)
    assert picture.shape == (360, 3 * 480, 3) and picture.dtype == np.uint8 and picture.std() > 10


def test_run_picture_shows_the_recorded_states(stage: Stage, tmp_path: Path) -> None:
    """Three moments of a run: the middles of its thirds."""
    run = states(stage, *range(60))
    np.savez(tmp_path / "tracking.npz", qpos=run)
    picture = run_picture(tmp_path, stage.path, moments=3)
    expected = render_stage(stage, list(run[[10, 30, 50]]))
    np.testing.assert_allclose(picture.astype(int), np.concatenate(expected, axis=1).astype(int), atol=4)


def test_files_that_are_no_run_or_stage_are_refused(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tracking\.npz: cannot be read .*; run again"):
        run_picture(tmp_path, stage.path)
    np.savez(tmp_path / "tracking.npz", other=np.zeros(3))
    with pytest.raises(InputError, match="cannot be read"):
        run_picture(tmp_path, stage.path)
    (tmp_path / "tracking.npz").write_bytes(b"no npz")
    with pytest.raises(InputError, match="cannot be read"):
        run_picture(tmp_path, stage.path)
    with pytest.raises(InputError, match="no such stage folder"):
        stage_picture(tmp_path / "nowhere")
