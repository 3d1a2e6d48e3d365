"""Recording real topics: a camera in one process, the command in another, over DDS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bodydouble.recording import RecordingReader
from perception.imu import read_accelerations
from tests.ros_domain import ros_domain

TOPICS = [
    *("--config.cameras", "cam", "--config.color", "/{camera}/color", "--config.depth", "/{camera}/depth"),
    *("--config.info", "/{camera}/info", "--config.pose", "/{camera}/pose"),
]


@pytest.fixture
def domain() -> dict[str, str]:
    return {**os.environ, "ROS_DOMAIN_ID": str(ros_domain("record_ros"))}


@pytest.fixture
def camera(domain: dict[str, str], request: pytest.FixtureRequest) -> Iterator[None]:
    mode = [request.param] if hasattr(request, "param") else []
    process = subprocess.Popen([sys.executable, "-m", "tests.perception.live.camera_node", *mode], env=domain)
    yield
    process.terminate()
    assert process.wait(20) == 0


def record(out: Path, domain: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "bodydouble.cli", "record", "ros", "--out", str(out), *TOPICS, *more]
    return subprocess.run(argv, env=domain, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.usefixtures("camera")
def test_recording_holds_pairs_poses_and_intrinsics(tmp_path: Path, domain: dict[str, str]) -> None:
    done = record(tmp_path / "live.mcap", domain, "--config.seconds", "4", "--config.slop-ms", "5")
    assert done.returncode == 0, done.stderr
    with RecordingReader(tmp_path / "live.mcap") as reader:
        assert reader.cameras == ("cam",)
        frames = list(reader.frames("cam"))
        felt = read_accelerations(reader, "cam")
    assert len(frames) > 40
    # The IMU is in the camera's frame, so it needs no transform; one message belongs to each number.
    assert felt is not None and felt.note == "" and len(felt.times_ns) > 40
    np.testing.assert_allclose(felt.force[:, 1], -9.81)
    assert (np.diff(felt.force[:, 0]) > 0).all() and (np.diff(felt.times_ns) > 0).all()
    counts = [round(float(frame.depth[0, 0]) * 1000) - 1500 for frame in frames]
    assert all(frame.color is not None for frame in frames)
    # The images that lack a partner are not there, the others follow each other.
    assert not any(count % 10 == 9 for count in counts)
    assert len(counts) >= 0.9 * 0.9 * (counts[-1] - counts[0])
    for count, frame in zip(counts, frames, strict=True):
        assert int(frame.color[0, 0, 0]) == count % 256
    posed = [(count, frame) for count, frame in zip(counts, frames, strict=True) if frame.T_world_camera is not None]
    # Each topic is discovered by itself: on a busy machine the poses begin some images later, and then do not end.
    begun = next(index for index, frame in enumerate(frames) if frame.T_world_camera is not None)
    assert begun <= 15 and len(posed) >= len(frames) - begun - 2
    for count, frame in posed:
        assert abs(frame.T_world_camera[0, 3] - 0.01 * count) < 1e-6
    assert f"{len(felt.times_ns)} Imu messages" in done.stdout
    assert "cam: " in done.stdout and "without a partner" in done.stdout


@pytest.mark.parametrize("camera", ["compressed"], indirect=True)
@pytest.mark.usefixtures("camera")
def test_compressed_topics(tmp_path: Path, domain: dict[str, str]) -> None:
    done = record(tmp_path / "live.mcap", domain, "--config.seconds", "2", "--config.slop-ms", "5")
    assert done.returncode == 0, done.stderr
    with RecordingReader(tmp_path / "live.mcap") as reader:
        frames = list(reader.frames("cam"))
        assert "depth" in reader.metadata["recorder"]["dropped_cam"]
    assert len(frames) > 20
    posed = [frame for frame in frames if frame.T_world_camera is not None]
    assert len(posed) >= len(frames) - 2  # the first and the last may lack the pose beside them
    for frame in posed:
        # The pose tells the number of the frame; 2 m are quantised to 0.2 mm.
        count = 100 * frame.T_world_camera[0, 3]
        assert abs(float(frame.depth[0, 0]) * 1000 - 1500 - count) < 0.5
        assert abs(int(frame.color[0, 0, 0]) - round(count) % 256) <= 1


def test_missing_topic_is_named(tmp_path: Path, domain: dict[str, str]) -> None:
    done = record(tmp_path / "live.mcap", domain, "--config.wait-s", "1")
    assert done.returncode == 2
    assert done.stderr.strip().startswith("error: topic /cam/color did not appear")
    assert list(tmp_path.iterdir()) == []
