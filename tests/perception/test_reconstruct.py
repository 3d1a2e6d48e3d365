"""Reconstruction of recordings without poses: tracked, placed, synchronised."""

from pathlib import Path

import numpy as np
import pytest

from bodydouble.artifacts import read_json
from bodydouble.errors import InputError
from bodydouble.frames import make_se3
from perception import reconstruct as module
from perception.camera_metrics import ate, sync_error_ms
from perception.multiview.yaw import yaw_matrix
from perception.reconstruct import CAMERAS_FILE, HUMAN_FILE, MANIFEST_FILE, ReconstructConfig, reconstruct
from perception.static_scene import SceneConfig
from perception.synthetic.generate import SyntheticConfig, generate
from perception.synthetic.motions import MotionConfig, Segment
from perception.tracking.tracker import Trajectory

SMALL = ReconstructConfig(scene=SceneConfig(voxel_m=0.04, vertex_cell_m=0.04))


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    """Folder of a recording without poses: two cameras in an empty room, 160 x 120 pixels, 5 Hz, 12 s."""
    out = tmp_path_factory.mktemp("empty") / "recording"
    generate(
        SyntheticConfig(width=160, height=120, fps=5.0, max_seconds=12.0, workers=1, person=False, poses=False), out
    )
    return out


def true_poses(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "truth.npz") as data:
        return {name: data[f"{name}_T_world_camera"] for name in ("camera_1", "camera_2")}


def tracked_as(truth: dict[str, np.ndarray], lost: dict[str, slice]):
    """A tracker that knows the truth, in a world of each camera's own, and loses some frames."""

    def track(views, config):
        found = []
        for index, view in enumerate(views):
            own = make_se3(yaw_matrix(0.7 + 2 * index), np.array([1.0, -2.0 * index, 0.0]))
            poses = own @ truth[view.name]
            poses[lost.get(view.name, slice(0))] = np.nan
            found.append(Trajectory(poses, np.ones(len(poses)), np.zeros(1, int), ()))
        return found

    return track


def joint_ate(folder: Path, truth: dict[str, np.ndarray], kept: dict[str, np.ndarray]) -> float:
    with np.load(folder / CAMERAS_FILE) as cameras:
        names = [str(name) for name in cameras["names"]]
        found = np.concatenate([cameras[f"{name}_T_world_camera"][:, :3, 3] for name in names])
    return ate(found, np.concatenate([truth[name][kept.get(name, slice(None)), :3, 3] for name in names]))


def test_lost_frames_are_left_out_and_the_cameras_share_one_world(empty, tmp_path, monkeypatch):
    truth = true_poses(empty)
    monkeypatch.setattr(module, "track_cameras", tracked_as(truth, {"camera_2": slice(5, 8)}))
    done = reconstruct(empty / "recording.mcap", tmp_path / "out", SMALL)
    kept = {"camera_2": np.setdiff1d(np.arange(len(truth["camera_2"])), [5, 6, 7])}
    assert joint_ate(done.path, truth, kept) < 0.02
    assert any("camera camera_2: 3 of" in warning and "left out" in warning for warning in done.warnings)
    assert any("offset of their clocks is unknown" in warning for warning in done.warnings)
    assert not (done.path / HUMAN_FILE).exists()
    with np.load(done.path / CAMERAS_FILE) as cameras:
        assert cameras["camera_1_clock_offset_ns"] == cameras["camera_2_clock_offset_ns"] == 0
        assert len(cameras["camera_2_times_ns"]) == len(kept["camera_2"])
    figures = read_json(done.path / MANIFEST_FILE)["figures"]
    assert {"track_s", "place_s", "frames_per_s", "place_score"} <= set(figures)


def test_a_camera_that_was_never_found_is_left_out(empty, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "track_cameras", tracked_as(true_poses(empty), {"camera_1": slice(None)}))
    done = reconstruct(empty / "recording.mcap", tmp_path / "out", SMALL)
    assert any("camera camera_1 has no pose in any frame" in warning for warning in done.warnings)
    with np.load(done.path / CAMERAS_FILE) as cameras:
        assert [str(name) for name in cameras["names"]] == ["camera_2"]


def test_no_camera_found_at_all_is_an_error(empty, tmp_path, monkeypatch):
    everything = {"camera_1": slice(None), "camera_2": slice(None)}
    monkeypatch.setattr(module, "track_cameras", tracked_as(true_poses(empty), everything))
    with pytest.raises(InputError, match="no frame of camera_1, camera_2 has a pose"):
        reconstruct(empty / "recording.mcap", tmp_path / "out", SMALL)


def test_a_missing_recording_is_named(tmp_path):
    with pytest.raises(InputError, match="no such recording"):
        reconstruct(tmp_path / "none.mcap", tmp_path / "out")


@pytest.mark.slow
def test_two_cameras_without_poses_and_with_a_clock_that_is_ahead(tmp_path):
    """Everything is found: the cameras' ways, their common world, the offset of their clocks, the person."""
    motion = MotionConfig(segments=(Segment("walk", 2.6, 1.2), Segment("turn", 1.6, 1.2), Segment("squat", 2.0, 0.6)))
    config = SyntheticConfig(
        width=320, height=240, motion=motion, poses=False, clock_offset_s=(0.0, 0.157), dropped=0.1, workers=2
    )
    folder = tmp_path / "recording"
    generate(config, folder)
    done = reconstruct(folder / "recording.mcap", tmp_path / "out")
    assert joint_ate(done.path, true_poses(folder), {}) < 0.02
    with np.load(done.path / CAMERAS_FILE) as cameras:
        found = {name: float(cameras[f"{name}_clock_offset_ns"]) for name in ("camera_1", "camera_2")}
    assert sync_error_ms(found, {"camera_1": 0.0, "camera_2": 157e6}) < 10
    assert (done.path / HUMAN_FILE).is_file()
