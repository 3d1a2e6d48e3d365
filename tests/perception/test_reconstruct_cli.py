"""`bodydouble reconstruct` as a user runs it, with 2D keypoints and with a body file of their own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bodydouble.artifacts import read_json
from bodydouble.frames import se3_apply, se3_inverse
from bodydouble.motion import HumanMotion
from perception.body.anny_body import JOINT_NAMES
from perception.keypoints.file import Keypoints
from perception.reconstruct import HUMAN_FILE, MANIFEST_FILE, SMPL_FILE
from perception.synthetic.cameras import intrinsics
from tests.perception.smpl_samples import write_smpl

LIMBS = tuple(
    f"{side}_{joint}" for side in ("left", "right") for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)
SIZE = (160, 120)
SMALL = ["--config.scene.voxel-m", "0.04", "--config.scene.vertex-cell-m", "0.04", "--config.segment.fps", "10"]
QUICK = ["--config.fit.coarse-iterations", "6", "--config.fit.iterations", "3"]


def run(recording: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "bodydouble.cli", "reconstruct", "--recording", str(recording / "recording.mcap")]
    argv += ["--out", str(out), *SMALL, *QUICK, *more]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)


def true_joints(recording: Path, times_ns: np.ndarray, names: tuple[str, ...] = JOINT_NAMES) -> np.ndarray:
    """Joints (T, J, 3), world, m, at some times."""
    with np.load(recording / "truth.npz") as truth:
        known, times = truth["human_joint_pos"], truth["human_times_ns"]
    flat = known[:, [JOINT_NAMES.index(name) for name in names]].reshape(len(times), -1)
    return np.stack([np.interp(times_ns, times, row) for row in flat.T], axis=1).reshape(len(times_ns), len(names), 3)


def write_keypoints(recording: Path, folder: Path, shift_px: float = 0.0) -> Path:
    """One file per camera, as a detector would find the true joints, with noise of a pixel."""
    folder.mkdir()
    rng, K = np.random.default_rng(0), intrinsics(*SIZE)
    with np.load(recording / "truth.npz") as truth:
        for camera in ("camera_1", "camera_2"):
            times, poses = truth[f"{camera}_times_ns"], truth[f"{camera}_T_world_camera"]
            local = se3_apply(se3_inverse(poses), true_joints(recording, times, LIMBS))
            pixels = (local @ K.T)[..., :2] / local[..., 2:] + rng.normal(0, 1, (*local.shape[:2], 2)) + shift_px
            Keypoints(camera, times, LIMBS, pixels, np.ones(local.shape[:2])).save(folder / f"{camera}.npz")
    return folder


def error_m(recording: Path, out: Path) -> float:
    motion = HumanMotion.load(out / HUMAN_FILE)
    return float(np.linalg.norm(motion.joint_pos - true_joints(recording, motion.times_ns), axis=-1).mean())


@pytest.mark.slow
def test_keypoints_of_both_cameras(walk: Path, tmp_path: Path) -> None:
    """They are used: right ones help or do no harm, those that are moved aside move the body aside."""
    done = run(walk, tmp_path / "with", "--config.keypoints", str(write_keypoints(walk, tmp_path / "right")))
    assert done.returncode == 0, done.stderr
    assert error_m(walk, tmp_path / "with") < 0.05
    inputs = read_json(tmp_path / "with" / MANIFEST_FILE)["provenance"]["inputs"]
    assert "keypoints" in inputs
    moved = write_keypoints(walk, tmp_path / "aside", shift_px=4.0)
    done = run(walk, tmp_path / "moved", "--config.keypoints", str(moved), "--config.keypoint.weight", "20")
    assert done.returncode == 0, done.stderr
    assert error_m(walk, tmp_path / "moved") > 1.3 * error_m(walk, tmp_path / "with")


@pytest.mark.slow
def test_keypoints_of_a_camera_that_is_not_there(walk: Path, tmp_path: Path) -> None:
    names, times = ("left_wrist",), np.array([0, 1], np.int64)
    Keypoints("door", times, names, np.zeros((2, 1, 2)), np.ones((2, 1))).save(tmp_path / "door.npz")
    done = run(walk, tmp_path / "out", "--config.keypoints", str(tmp_path / "door.npz"))
    assert done.returncode == 2 and "door" in done.stderr and "camera_1, camera_2" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_body_file_of_the_users_own(walk: Path, tmp_path: Path) -> None:
    body = write_smpl(tmp_path / "SMPL_MADE.npz")
    done = run(walk, tmp_path / "out", "--config.body", str(body))
    assert done.returncode == 0, done.stderr
    motion = HumanMotion.load(tmp_path / "out" / HUMAN_FILE)
    assert motion.body_model == "smpl" and len(motion.shape) == 5
    assert error_m(walk, tmp_path / "out") < 0.08
    with np.load(tmp_path / "out" / SMPL_FILE) as smpl:
        assert smpl["body_pose"].shape == (motion.num_frames, 69) and smpl["betas"].shape == (5,)
        np.testing.assert_array_equal(smpl["times_ns"], motion.times_ns)
        assert np.isfinite(smpl["global_orient"]).all() and np.isfinite(smpl["transl"]).all()
