"""Parts of tracking against numbers known by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodydouble.frames import make_se3, quat_from_rotvec, quat_to_matrix
from bodydouble.recording import RecordingReader, RecordingWriter
from perception.imu import IMU, Accelerations, read_accelerations
from perception.tracking.align import Source, align
from perception.tracking.coarse import CoarseCamera, coarse_frame, surface_map
from perception.tracking.gaps import BRIDGED, bridged, frame_runs, jumps
from perception.tracking.upright import imu_up
from tests.bodydouble.recording.samples import write_rgbd
from tests.perception.tracking.rooms import path, seen

TIMES = np.arange(8) * 100_000_000
PATH = path(8)
VIEW = seen(PATH[:2])


def line(positions) -> np.ndarray:
    positions = np.asarray(positions, dtype=np.float64)
    return make_se3(np.eye(3), np.stack([positions, 0 * positions, 0 * positions], axis=1))


def test_runs_of_frames():
    assert frame_runs(np.array([1, 1, 0, 0, 1, 0, 1], bool)) == [(0, 1), (4, 4), (6, 6)]


def test_the_shorter_side_of_a_jump_is_not_believed():
    """0.1 m per 0.1 s is 1 m/s; frames 3 and 4 are five metres away."""
    poses = line([0, 0.1, 0.2, 5.3, 5.4, 0.5, 0.6, 0.7])
    assert np.flatnonzero(jumps(TIMES, poses, np.ones(8), 4.0)).tolist() == [3, 4]


def test_a_short_gap_is_interpolated_and_a_long_one_is_not():
    quality = np.array([1, 0, 1, 0, 0, 0, 1, 1.0])
    poses, marked = bridged(TIMES, line(np.arange(8) * 0.1), quality, 0.3)
    assert poses[1, 0, 3] == pytest.approx(0.1) and marked[1] == BRIDGED
    assert np.isnan(poses[3:6]).all() and (marked[3:6] == 0).all()


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_rigid_motion_of_everything_moves_the_answer_likewise(seed):
    rng = np.random.default_rng(seed)
    moved = make_se3(quat_to_matrix(quat_from_rotvec(rng.normal(0, 1, 3))), rng.normal(0, 3, 3))
    camera = CoarseCamera.of(VIEW)
    key, frame = (coarse_frame(VIEW, camera, index, 5.0) for index in (0, 1))
    points, place = frame.points(camera, 3)
    source, maps = Source(points, place, None), surface_map(key)[None]
    here = align(source, PATH[:1], maps, camera, PATH[0]).T_world_camera
    there = align(source, (moved @ PATH[0])[None], maps, camera, moved @ PATH[0]).T_world_camera
    np.testing.assert_allclose(there, moved @ here, atol=2e-4)


def test_up_is_what_the_accelerometer_reads_turned_by_the_camera():
    times = np.arange(40) * 33_000_000
    poses = path(40)
    up = np.array([0.0, 0.6, 0.8])
    force = 9.81 * np.einsum("fij,i->fj", poses[:, :3, :3], up)
    found, note = imu_up(times, poses, np.ones(40), Accelerations(times, force))
    assert found is not None
    np.testing.assert_allclose(found, up, atol=1e-3)
    assert note == ""
    assert "usable samples" in imu_up(times, poses, np.ones(40), Accelerations(times, 3 * force))[1]


@pytest.mark.parametrize("tied", [True, False])
def test_accelerations_come_in_the_cameras_axes(tmp_path, tied):
    """The IMU is turned by 90 degrees about the camera's z: its x is the camera's y."""
    write_rgbd(tmp_path / "r.mcap", count=1, cameras=("cam0",))
    turn = make_se3(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.zeros(3))
    with RecordingWriter(tmp_path / "imu.mcap") as writer, RecordingReader(tmp_path / "r.mcap") as reader:
        for raw in reader.raw_messages():
            writer.write_cdr(raw.topic, raw.msgtype, bytes(raw.data), raw.log_time_ns, raw.publish_time_ns)
        if tied:
            writer.write_static_transform("cam0_optical", "imu", turn, 10**9)
        header = {"frame_id": "imu", "stamp": {"sec": 3, "nanosec": 5}}
        writer.write(
            "/cam0/imu", IMU, {"header": header, "linear_acceleration": {"x": 9.81, "y": 0.0, "z": 1.0}}, 10**9
        )
    with RecordingReader(tmp_path / "imu.mcap") as reader:
        found = read_accelerations(reader, "cam0")
        assert read_accelerations(reader, "cam1") is None
    assert found is not None
    if tied:
        np.testing.assert_allclose(found.force, [[0, 9.81, 1.0]], atol=1e-9)
        assert found.times_ns.tolist() == [3_000_000_005]
    else:
        assert len(found.force) == 0 and "not tied to the camera's" in found.note
