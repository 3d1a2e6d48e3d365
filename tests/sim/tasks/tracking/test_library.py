from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bodydouble.errors import InputError
from bodydouble.motion import RobotMotion
from sim.stage.stage import Stage
from sim.tasks.tracking.library import load_library, save_library


@pytest.fixture(scope="module")
def motions(stage: Stage) -> list[RobotMotion]:
    """The squat, and its first half a metre to the side."""
    squat = stage.reference
    half = {
        field.name: getattr(squat, field.name)[:30]
        for field in dataclasses.fields(squat)
        if isinstance(getattr(squat, field.name), np.ndarray)
    }
    half["root_pos"] = half["root_pos"] + [0.0, 1.0, 0.0]
    half["body_pos"] = half["body_pos"] + [0.0, 1.0, 0.0]
    return [squat, dataclasses.replace(squat, **half)]


def test_motions_come_back_to_single_precision(stage: Stage, motions: list[RobotMotion], tmp_path: Path) -> None:
    """Only poses are stored; velocities and bodies are computed again and are the same."""
    path = tmp_path / "library.npz"
    save_library(motions, path)
    loaded = load_library(path, stage.compile(visuals=False))
    assert [motion.num_frames for motion in loaded] == [60, 30]
    for mine, theirs in zip(motions, loaded, strict=True):
        assert (mine.fps, mine.joint_names, mine.body_names) == (theirs.fps, theirs.joint_names, theirs.body_names)
        np.testing.assert_array_equal(mine.contact, theirs.contact)
        for name in ("root_pos", "root_quat", "joint_pos", "body_pos", "body_quat"):
            np.testing.assert_allclose(getattr(theirs, name), getattr(mine, name), atol=2e-6, err_msg=name)
        # Differences of float32 poses at 50 Hz: 25 times their rounding.
        for name in ("root_lin_vel", "root_ang_vel", "joint_vel"):
            np.testing.assert_allclose(getattr(theirs, name)[:-1], getattr(mine, name)[:-1], atol=1e-4, err_msg=name)


def test_motions_of_different_robots_are_refused(motions: list[RobotMotion], tmp_path: Path) -> None:
    other = dataclasses.replace(motions[1], fps=30.0)
    with pytest.raises(InputError, match="of one robot and rate"):
        save_library([motions[0], other], tmp_path / "library.npz")
    with pytest.raises(InputError, match="at least one motion"):
        save_library([], tmp_path / "library.npz")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_another_robot_is_refused(stage: Stage, motions: list[RobotMotion], tmp_path: Path) -> None:
    """Also one with the same joints in another order."""
    path = tmp_path / "library.npz"
    names = list(motions[0].joint_names)
    save_library([dataclasses.replace(motions[0], joint_names=(*names[1:], names[0]))], path)
    with pytest.raises(InputError, match="its joints are not those of the model"):
        load_library(path, stage.compile(visuals=False))


def test_damaged_and_missing_files_are_refused(stage: Stage, tmp_path: Path) -> None:
    model = stage.compile(visuals=False)
    path = tmp_path / "library.npz"
    with pytest.raises(InputError, match="no such motion library"):
        load_library(path, model)
    path.write_bytes(b"text")
    with pytest.raises(InputError, match="is no motion library"):
        load_library(path, model)
    np.savez(path, fps=np.float64(50))
    with pytest.raises(InputError, match="is no motion library"):
        load_library(path, model)
