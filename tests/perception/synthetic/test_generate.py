"""Synthetic recordings: the same bytes for the same configuration, readable, with the truth beside them."""

import json
from pathlib import Path

import numpy as np
import pytest

from bodydouble.artifacts import sha256_file
from bodydouble.cli import main
from bodydouble.errors import InputError
from bodydouble.frames import se3_apply, se3_inverse
from bodydouble.recording import RecordingReader
from bodydouble.recording.rgbd import RgbdFrame
from perception.body.anny_body import JOINT_NAMES
from perception.synthetic.acting import act
from perception.synthetic.cameras import intrinsics
from perception.synthetic.exposure import body_vertices
from perception.synthetic.generate import SyntheticConfig, generate
from perception.synthetic.motions import MotionConfig, Segment

MOTION = MotionConfig(segments=(Segment("walk", 1.5, 0.4),))
SHORT = SyntheticConfig(width=64, height=48, max_seconds=0.4, start_offset_s=0.1, workers=1, motion=MOTION)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "recording"
    generate(SHORT, out)
    return out


def hashes(folder: Path) -> dict[str, str]:
    return {name: sha256_file(folder / name) for name in ("recording.mcap", "truth.npz")}


def changed(**values) -> SyntheticConfig:
    return SyntheticConfig(**{**vars(SHORT), **values})


def test_the_same_configuration_gives_the_same_bytes(recorded, tmp_path):
    generate(SHORT, tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(recorded)


def test_the_number_of_processes_does_not_matter(recorded, tmp_path):
    generate(changed(workers=2), tmp_path / "two")
    assert hashes(tmp_path / "two") == hashes(recorded)


def test_another_seed_gives_another_room_camera_and_noise(recorded, tmp_path):
    generate(changed(seed=1), tmp_path / "other")
    one, other = (np.load(folder / "truth.npz") for folder in (recorded, tmp_path / "other"))
    assert not np.array_equal(one["scene_vertices"], other["scene_vertices"])
    assert not np.allclose(one["camera_1_T_world_camera"][0], other["camera_1_T_world_camera"][0])
    np.testing.assert_array_equal(one["human_joint_pos"], other["human_joint_pos"])


def test_a_finished_folder_is_left_as_it_is(recorded):
    before = {path: path.stat().st_mtime_ns for path in recorded.iterdir()}
    figures = generate(SHORT, recorded)
    assert {path: path.stat().st_mtime_ns for path in recorded.iterdir()} == before
    assert figures == json.loads((recorded / "recording.json").read_text())["figures"]


def test_another_configuration_replaces_the_folder(recorded, tmp_path):
    out = tmp_path / "recording"
    assert generate(changed(max_seconds=0.2), out)["clip_s"] == pytest.approx(0.2)
    assert generate(SHORT, out)["clip_s"] == pytest.approx(0.4)
    assert hashes(out) == hashes(recorded)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recording"]


def test_what_was_recorded_can_be_read(recorded):
    """Two cameras of 64 x 48 pixels at about 30 Hz, the second from 0.1 s on; colour and pose for every depth."""
    with RecordingReader(recorded / "recording.mcap") as reader:
        reader.check_rgbd(require_poses=True)
        assert reader.cameras == ("camera_1", "camera_2")
        assert reader.metadata["synthetic"]["seed"] == "0"
        with np.load(recorded / "truth.npz", allow_pickle=False) as truth:
            for name, start in (("camera_1", 0), ("camera_2", 100_000_000)):
                info = reader.camera_info(name)
                np.testing.assert_array_equal(info.K, intrinsics(64, 48))
                frames = list(reader.frames(name))
                times = np.array([frame.t_ns for frame in frames])
                np.testing.assert_array_equal(times, truth[f"{name}_times_ns"])
                assert abs(times[0] - start) < 35_000_000 and times[-1] <= 400_000_000
                assert np.abs(np.diff(times) - 33_333_333).max() <= 2_000_001
                assert len(set(np.diff(times))) > 3  # exposures are not quite regular
                for frame, pose in zip(frames, truth[f"{name}_T_world_camera"], strict=True):
                    assert frame.color is not None and frame.color.shape == (48, 64, 3)
                    assert frame.depth.shape == (48, 64) and (frame.depth > 0).mean() > 0.5
                    assert frame.T_world_camera is not None
                    np.testing.assert_allclose(frame.T_world_camera, pose, atol=1e-9)


def test_truth_has_the_person_the_scene_and_the_cameras(recorded):
    with np.load(recorded / "truth.npz", allow_pickle=False) as truth:
        arrays = {name: truth[name] for name in truth.files}
    frames, joints = len(arrays["human_times_ns"]), len(JOINT_NAMES)
    shapes = {
        "human_times_ns": (frames,),
        "human_joint_names": (joints,),
        "human_joint_pos": (frames, joints, 3),
        "human_joint_quat": (frames, joints, 4),
        "human_contact_names": (8,),
        "human_contact": (frames, 8),
        "human_contact_pos": (frames, 8, 3),
        "human_body_model": (),
        "human_shape_names": (5,),
        "human_shape": (5,),
        "human_pose": (frames, 22, 4),
        "human_root_pos": (frames, 3),
        "human_seen": (frames,),
        "start_offset_s": (),
    }
    assert {name: arrays[name].shape for name in shapes} == shapes
    assert frames == 13 and arrays["human_times_ns"].dtype == np.int64
    assert arrays["start_offset_s"] == 0.1
    assert arrays["scene_vertices"].shape[1:] == arrays["scene_triangles"].shape[1:] == (3,)
    assert arrays["scene_triangles"].max() == len(arrays["scene_vertices"]) - 1
    for name in ("camera_1", "camera_2"):
        count = len(arrays[f"{name}_times_ns"])
        assert arrays[f"{name}_T_world_camera"].shape == (count, 4, 4)
    rest = {"scene_vertices", "scene_triangles", "poses_recorded"} | {f"camera_{i}_{x}" for i in (1, 2) for x in ("times_ns", "T_world_camera", "clock_offset_ns")}  # fmt: skip  # noqa: E501
    assert set(arrays) == set(shapes) | rest
    np.testing.assert_array_equal(arrays["human_joint_pos"], act(MOTION).joint_pos[:13])


def test_the_true_person_is_in_the_depth(recorded):
    """Depth at the pixel of the chest lies between the body's front there and the chest, in nearly all frames."""
    motion = act(MOTION)
    readings = hits = 0
    with RecordingReader(recorded / "recording.mcap") as reader:
        for name in reader.cameras:
            for frame in reader.frames(name):
                assert frame.T_world_camera is not None
                body = body_vertices(motion, frame.t_ns)
                at = int(np.clip(np.searchsorted(motion.times_ns, frame.t_ns), 0, 12))
                points = np.concatenate([body, motion.joint_pos[at, [JOINT_NAMES.index("spine3")]]])
                local = se3_apply(se3_inverse(frame.T_world_camera), points)
                u, v = (np.round(frame.K[i, i] * local[:, i] / local[:, 2] + frame.K[i, 2]) for i in (0, 1))
                front = local[(np.abs(u - u[-1]) <= 1) & (np.abs(v - v[-1]) <= 1), 2].min()
                reading = frame.depth[int(v[-1]), int(u[-1])]
                readings += reading > 0
                hits += front - 0.04 < reading < local[-1, 2]
    assert readings >= 18 and hits >= readings - 1


def test_the_body_between_two_frames_lies_between_them():
    motion = act(MOTION)
    first, middle, second = (body_vertices(motion, t) for t in (800_000_000, 816_666_667, 833_333_333))
    assert np.linalg.norm(second - first, axis=1).max() > 0.005
    np.testing.assert_allclose(middle, 0.5 * (first + second), atol=1e-4)


def test_an_empty_room_and_one_camera(tmp_path):
    """Without a person nothing is nearer than with one, and something is farther."""
    with_person = changed(cameras=1, max_seconds=0.2)
    generate(with_person, tmp_path / "person")
    generate(changed(cameras=1, max_seconds=0.2, person=False), tmp_path / "empty")
    depths = []
    for name in ("person", "empty"):
        with RecordingReader(tmp_path / name / "recording.mcap") as reader:
            assert reader.cameras == ("camera_1",)
            depths.append(np.stack([frame.depth for frame in reader.frames("camera_1")]))
    both = (depths[0] > 0) & (depths[1] > 0)
    nearer = depths[1][both] - depths[0][both]
    assert nearer.min() > -0.15
    assert 0.02 < (nearer > 0.3).mean() < 0.3


@pytest.mark.parametrize(
    "values",
    [
        {"cameras": 0},
        {"cameras": 3},
        {"start_offset_s": -0.1},
        {"start_offset_s": 0.6},
        {"width": 8},
        {"height": 8},
        {"fps": 0.0},
        {"max_seconds": 0.0},
        {"clock_offset_s": (0.0, -0.1)},
        {"dropped": 0.95},
        {"fails_at": 0.0},
        {"depth_units_per_m": 0.0},
        {"blur_s": 0.3},
        {"wrong_poses": 0.6},
        {"away_s": (2.0, 1.0)},
    ],
)
def test_what_is_not_possible_is_said_and_leaves_nothing(values, tmp_path):
    name = next(iter(values))
    with pytest.raises(InputError, match="camera" if name == "cameras" else name):
        generate(changed(**values), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_clip_that_ends_before_the_second_camera_starts(tmp_path):
    with pytest.raises(InputError, match="start_offset_s"):
        generate(changed(max_seconds=0.2, start_offset_s=0.37), tmp_path / "out")


def test_a_clip_without_a_possible_segment_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="fly"):
        generate(changed(motion=MotionConfig(segments=(Segment("fly", 1.0),))), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_from_the_command_line(recorded, tmp_path, capsys):
    out = tmp_path / "cli"
    options = ["--width", "64", "--height", "48", "--max-seconds", "0.2", "--start-offset-s", "0.1", "--workers", "1"]
    prefix = [f"--config.{option[2:]}" if option.startswith("--") else option for option in options]
    assert main(["record", "synthetic", "--out", str(out), *prefix]) == 0
    assert (out / "recording.mcap").is_file()
    assert main(["record", "synthetic", "--out", str(tmp_path / "no"), "--config.cameras", "7"]) == 2
    assert "1 or 2 cameras, not 7" in capsys.readouterr().err


def frames_of(folder: Path, name: str) -> dict[int, np.ndarray]:
    """Depth by stamp of one camera; no pose is asked for."""
    with RecordingReader(folder / "recording.mcap") as reader:
        return {frame.t_ns: frame.depth for frame in reader.frames(name)}


def test_no_poses_and_clocks_ahead_change_stamps_and_nothing_else(recorded, tmp_path):
    """The second clock is 0.25 s ahead: every stamp of it, no depth, and the truth keeps true time."""
    generate(changed(poses=False, clock_offset_s=(0.0, 0.25)), tmp_path / "r")
    with RecordingReader(tmp_path / "r" / "recording.mcap") as reader:
        assert all(frame.T_world_camera is None for name in reader.cameras for frame in reader.frames(name))
    for name, ahead in (("camera_1", 0), ("camera_2", 250_000_000)):
        before, after = frames_of(recorded, name), frames_of(tmp_path / "r", name)
        assert list(after) == [t + ahead for t in before]
        for a, b in zip(before.values(), after.values(), strict=True):
            np.testing.assert_array_equal(a, b)
    one, other = (np.load(folder / "truth.npz") for folder in (recorded, tmp_path / "r"))
    np.testing.assert_array_equal(one["camera_2_times_ns"], other["camera_2_times_ns"])
    assert other["camera_2_clock_offset_ns"] == 250_000_000 and other["camera_1_clock_offset_ns"] == 0


def test_lost_frames_and_a_camera_that_fails(recorded, tmp_path):
    """What is left is as it was; the last camera ends half way, the first does not."""
    generate(changed(dropped=0.3), tmp_path / "lost")
    generate(changed(fails_at=0.5), tmp_path / "failed")
    for name in ("camera_1", "camera_2"):
        whole, left = frames_of(recorded, name), frames_of(tmp_path / "lost", name)
        assert set(left) < set(whole) and 0.3 * len(whole) < len(left) < len(whole)
        for t, depth in left.items():
            np.testing.assert_array_equal(depth, whole[t])
    assert list(frames_of(tmp_path / "failed", "camera_1")) == list(frames_of(recorded, "camera_1"))
    failed = frames_of(tmp_path / "failed", "camera_2")
    assert list(failed) == [t for t in frames_of(recorded, "camera_2") if t <= 200_000_000]
    assert failed


def test_depth_in_another_unit(recorded, tmp_path):
    """5000 units a metre, read as millimetres, are five times too far; nothing wraps round."""
    generate(changed(depth_units_per_m=5000.0), tmp_path / "r")
    for t, depth in frames_of(tmp_path / "r", "camera_1").items():
        np.testing.assert_allclose(depth, 5 * frames_of(recorded, "camera_1")[t], atol=1e-3)


def test_blur_mixes_what_moves_and_nothing_else(recorded, tmp_path):
    """With the shutter open for 50 ms colour and depth change; times and recorded poses do not."""
    generate(changed(blur_s=0.05), tmp_path / "r")

    def sharpness(frame: RgbdFrame) -> float:
        assert frame.color is not None
        return float(np.abs(np.diff(frame.color.astype(float), axis=1)).mean())

    with RecordingReader(recorded / "recording.mcap") as one, RecordingReader(tmp_path / "r" / "recording.mcap") as two:
        for sharp, blurred in zip(one.frames("camera_1"), two.frames("camera_1"), strict=True):
            assert sharp.t_ns == blurred.t_ns
            assert sharp.T_world_camera is not None and blurred.T_world_camera is not None
            np.testing.assert_allclose(sharp.T_world_camera, blurred.T_world_camera, atol=1e-9)
            both = (sharp.depth > 0) & (blurred.depth > 0)
            off = np.abs(sharp.depth - blurred.depth)[both]
            assert np.median(off) < 0.01 and off.max() > 0.05
            assert sharpness(blurred) < sharpness(sharp)


def test_a_person_who_is_away_and_a_second_one(recorded, tmp_path):
    """While the person is away the images are those of an empty room; a second one is seen beside the first."""
    generate(changed(person=False), tmp_path / "empty")
    generate(changed(away_s=(0.1, 0.3)), tmp_path / "away")
    second = MotionConfig(segments=(Segment("stand", 0.5),), start_xy=(0.5, 0.3))
    generate(changed(second_person=second), tmp_path / "two")
    whole, empty, away, two = (
        frames_of(folder, "camera_1") for folder in (recorded, *(tmp_path / n for n in ("empty", "away", "two")))
    )
    for t in whole:
        same = empty if 100_000_000 <= t < 300_000_000 else whole
        np.testing.assert_array_equal(away[t], same[t])
        added = (two[t] > 0) & (whole[t] > 0) & (two[t] < whole[t] - 0.2)
        assert added.sum() > 15
    with np.load(tmp_path / "away" / "truth.npz", allow_pickle=False) as truth:
        seconds = truth["human_times_ns"] * 1e-9
        np.testing.assert_array_equal(truth["human_seen"], (seconds < 0.1) | (seconds >= 0.3))


def test_wrong_poses_are_recorded_and_the_truth_is_not_touched(recorded, tmp_path):
    """Of 13 poses some are half a metre and more off, the others are exact; the images are the same."""
    generate(changed(wrong_poses=0.3), tmp_path / "r")
    assert [d.sum() for d in frames_of(tmp_path / "r", "camera_1").values()] == [
        d.sum() for d in frames_of(recorded, "camera_1").values()
    ]
    with np.load(tmp_path / "r" / "truth.npz", allow_pickle=False) as truth:
        true = truth["camera_1_T_world_camera"]
    with RecordingReader(tmp_path / "r" / "recording.mcap") as reader:
        recorded_poses = [frame.T_world_camera for frame in reader.frames("camera_1")]
    off = np.linalg.norm(np.stack([p for p in recorded_poses if p is not None])[:, :3, 3] - true[:, :3, 3], axis=1)
    wrong = off > 0.4
    assert 1 <= wrong.sum() <= 8 and off[~wrong].max() < 1e-9
