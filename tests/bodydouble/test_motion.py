import dataclasses

import numpy as np
import pytest

from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion, RobotMotion


def robot_motion(frames: int = 5, joints: int = 3) -> RobotMotion:
    rng = np.random.default_rng(0)
    quat = np.tile([1.0, 0, 0, 0], (frames, 1))
    return RobotMotion(
        fps=50.0,
        joint_names=tuple(f"j{i}" for i in range(joints)),
        root_pos=rng.normal(size=(frames, 3)),
        root_quat=quat,
        joint_pos=rng.normal(size=(frames, joints)),
        root_lin_vel=rng.normal(size=(frames, 3)),
        root_ang_vel=rng.normal(size=(frames, 3)),
        joint_vel=rng.normal(size=(frames, joints)),
        body_names=("pelvis", "torso"),
        body_pos=rng.normal(size=(frames, 2, 3)),
        body_quat=np.tile(quat[:, None], (1, 2, 1)),
        contact_names=("left_foot", "right_foot"),
        contact=rng.random((frames, 2)) > 0.5,
    )


def human_motion(frames: int = 4) -> HumanMotion:
    rng = np.random.default_rng(1)
    return HumanMotion(
        times_ns=np.arange(frames, dtype=np.int64) * 33_333_333,
        joint_names=("pelvis", "head"),
        joint_pos=rng.normal(size=(frames, 2, 3)),
        joint_quat=np.tile([1.0, 0, 0, 0], (frames, 2, 1)),
        contact_names=("left_foot",),
        contact=rng.random((frames, 1)),
        contact_pos=rng.normal(size=(frames, 1, 3)),
        body_model="anny",
        shape_names=("height",),
        shape=np.array([0.5]),
        pose=np.tile([1.0, 0, 0, 0], (frames, 7, 1)),
        root_pos=rng.normal(size=(frames, 3)),
    )


@pytest.mark.parametrize("motion", [robot_motion(), human_motion()], ids=["robot", "human"])
def test_save_and_load_keep_every_bit(tmp_path, motion):
    motion.save(tmp_path / "motion.npz")
    back = type(motion).load(tmp_path / "motion.npz")
    for field in dataclasses.fields(motion):
        mine, theirs = getattr(motion, field.name), getattr(back, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
        else:
            assert mine == theirs


def test_duration_counts_intervals():
    assert robot_motion(frames=51).duration_s == pytest.approx(1.0)


def test_wrong_shape_is_named():
    with pytest.raises(InputError, match=r"RobotMotion\.root_quat has shape \(5, 3\), expected \(5, 4\)"):
        dataclasses.replace(robot_motion(), root_quat=np.zeros((5, 3)))


def test_nan_is_refused():
    broken = robot_motion().joint_pos.copy()
    broken[2, 1] = np.nan
    with pytest.raises(InputError, match="joint_pos holds NaN"):
        dataclasses.replace(robot_motion(), joint_pos=broken)


def test_time_must_increase():
    with pytest.raises(InputError, match="must increase"):
        dataclasses.replace(human_motion(), times_ns=np.array([0, 2, 2, 3]))


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 truncated"])
def test_a_damaged_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "reference.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"reference\.npz"):
        RobotMotion.load(path)


def test_a_missing_file_and_a_file_of_another_kind(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        RobotMotion.load(tmp_path / "absent.npz")
    human_motion().save(tmp_path / "human.npz")
    with pytest.raises(InputError, match="is no RobotMotion file, it lacks fps"):
        RobotMotion.load(tmp_path / "human.npz")


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(
        tmp_path / "evil.npz", **{f.name: np.array([{"a": 1}], dtype=object) for f in dataclasses.fields(RobotMotion)}
    )
    with pytest.raises(InputError, match=r"evil\.npz"):
        RobotMotion.load(tmp_path / "evil.npz")


def test_frames_in_which_nobody_was_seen_are_marked(tmp_path):
    """All frames are seen where nothing else is said; a file without the array, as older ones are, reads the same."""
    motion = human_motion()
    assert motion.seen.all() and len(motion.seen) == 4
    marked = dataclasses.replace(motion, seen=np.array([True, False, False, True]))
    marked.save(tmp_path / "marked.npz")
    np.testing.assert_array_equal(HumanMotion.load(tmp_path / "marked.npz").seen, [True, False, False, True])
    with np.load(tmp_path / "marked.npz", allow_pickle=False) as data:
        old = {name: data[name] for name in data.files if name != "seen"}
    np.savez_compressed(tmp_path / "old.npz", **old)  # type: ignore[arg-type]
    assert HumanMotion.load(tmp_path / "old.npz").seen.all()
    with pytest.raises(InputError, match=r"seen has shape \(3,\)"):
        dataclasses.replace(motion, seen=np.ones(3, dtype=bool))
