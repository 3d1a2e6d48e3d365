"""Views: what is read out of a recording, and depth images as points."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import perception.views
from bodydouble.errors import InputError, RecordingError
from bodydouble.frames import make_se3
from bodydouble.recording import RecordingWriter
from perception.views import View, depth_margin, load_views, unproject
from tests.bodydouble.recording.samples import HEIGHT, PERIOD_NS, WIDTH, K, color, depth_mm, pose, write_rgbd


def test_what_was_recorded_arrives_unchanged(tmp_path):
    views = load_views(write_rgbd(tmp_path / "r.mcap", count=5, cameras=("left", "right")), 0.0)
    assert [view.name for view in views] == ["left", "right"]
    for view in views:
        assert view.size == (WIDTH, HEIGHT)
        np.testing.assert_array_equal(view.K, K)
        np.testing.assert_array_equal(view.times_ns, 1_000_000_000 + PERIOD_NS * np.arange(5))
        assert view.depth_mm.dtype == np.uint16
        np.testing.assert_array_equal(view.depth_mm, [depth_mm(i) for i in range(5)])
        np.testing.assert_allclose(view.T_world_camera, [pose(i) for i in range(5)], atol=1e-9)
        for i, image in enumerate(view.color):
            assert image is not None and np.abs(image.astype(int) - color(i)).mean() < 6


@pytest.mark.parametrize(
    ("stride_s", "kept"), [(0.0, range(10)), (0.05, [0, 2, 4, 6, 8]), (0.1, [0, 3, 6, 9]), (9.0, [0])]
)
def test_colour_is_kept_as_often_as_asked(tmp_path, stride_s, kept):
    """Frames come every 33 ms; all keep their depth."""
    (view,) = load_views(write_rgbd(tmp_path / "r.mcap", count=10), stride_s)
    assert [i for i, image in enumerate(view.color) if image is not None] == list(kept)
    assert len(view.depth_mm) == len(view.color) == 10


def test_a_long_recording_is_thinned_out(tmp_path, monkeypatch):
    monkeypatch.setattr(perception.views, "MAX_FRAMES", 6)
    (view,) = load_views(write_rgbd(tmp_path / "r.mcap", count=10), 0.0)
    np.testing.assert_array_equal(view.depth_mm, [depth_mm(i) for i in range(0, 10, 2)])
    monkeypatch.setattr(perception.views, "MAX_FRAMES", 11)
    assert len(load_views(tmp_path / "r.mcap", 0.0)[0].times_ns) == 10


def write(path: Path, frames: list[tuple[int, bool, bool]]) -> Path:
    """A recording of frames given as (number, has depth readings, has a pose)."""
    with RecordingWriter(path) as writer:
        writer.write_camera_info("cam0", K, WIDTH, HEIGHT, 10**9)
        for i, readings, placed in frames:
            t_ns = 10**9 + i * PERIOD_NS
            writer.write_depth("cam0", depth_mm(i) if readings else np.zeros_like(depth_mm(i)), t_ns)
            writer.write_color("cam0", color(i), t_ns)
            if placed:
                writer.write_pose("cam0", pose(i), t_ns)
    return path


def test_frames_without_a_pose_are_left_out(tmp_path):
    frames = [(i, True, not 4 <= i < 12) for i in range(16)]
    (view,) = load_views(write(tmp_path / "r.mcap", frames), 0.0)
    np.testing.assert_array_equal(view.depth_mm, [depth_mm(i) for i in (0, 1, 2, 3, 12, 13, 14, 15)])


def test_without_poses_all_frames_are_kept_and_marked(tmp_path):
    path = write(tmp_path / "r.mcap", [(i, True, not 4 <= i < 12) for i in range(16)])
    (view,) = load_views(path, 0.0, require_poses=False)
    placed = np.isfinite(view.T_world_camera).all(axis=(1, 2))
    assert np.flatnonzero(placed).tolist() == [0, 1, 2, 3, 12, 13, 14, 15] and not view.has_poses
    np.testing.assert_array_equal(view.depth_mm, [depth_mm(i) for i in range(16)])
    assert view.gray is not None and view.gray.shape == (16, (HEIGHT + 1) // 2, (WIDTH + 1) // 2)
    assert np.abs(view.gray[3].astype(int) - color(3)[::2, ::2].mean(axis=2)).mean() < 6


def test_without_any_pose_the_frames_are_there(tmp_path):
    (view,) = load_views(write_rgbd(tmp_path / "r.mcap", count=5, poses=False), 0.0, require_poses=False)
    assert len(view.depth_mm) == 5 and np.isnan(view.T_world_camera).all()


def test_without_colour_the_depth_is_there(tmp_path):
    (view,) = load_views(write_rgbd(tmp_path / "r.mcap", color=False), 0.0)
    assert view.color == [None] * 6 and np.asarray(view.depth_mm).any()


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("info", "camera 'cam0' has no camera_info"),
        ("depth", "camera 'cam0' has no depth image"),
        ("poses", "camera 'cam0' has no pose"),
    ],
)
def test_what_is_missing_is_named(tmp_path, part, text):
    leave_out: dict[str, Any] = {part: False}
    path = write_rgbd(tmp_path / "r.mcap", **leave_out)
    with pytest.raises(RecordingError, match=rf"r\.mcap: .*{text}"):
        load_views(path, 0.0)


def test_depth_that_is_zero_everywhere_is_named(tmp_path):
    path = write(tmp_path / "r.mcap", [(i, False, True) for i in range(4)])
    with pytest.raises(InputError, match=r"r\.mcap: camera 'cam0' has 4 depth images, all zero"):
        load_views(path, 0.0)


def test_one_image_with_readings_is_enough(tmp_path):
    path = write(tmp_path / "r.mcap", [(i, i == 33, True) for i in range(40)])
    assert np.asarray(load_views(path, 0.0)[0].depth_mm).any()


def test_a_missing_recording_is_named(tmp_path):
    with pytest.raises(RecordingError, match=r"none\.mcap"):
        load_views(tmp_path / "none.mcap", 0.0)


def test_unproject_by_hand():
    """Focal lengths 2 and 4, centre (1, 0): the pixel in row 1, column 2 at 3 m is at x 1.5, y 0.75."""
    depth = np.zeros((2, 3), dtype=np.float32)
    depth[1, 2], depth[0, 1] = 3.0, 5.0
    points, pixels = unproject(depth, np.array([[2.0, 0, 1], [0, 4, 0], [0, 0, 1]]))
    np.testing.assert_allclose(points, [[0, 0, 5], [1.5, 0.75, 3]])
    assert pixels.tolist() == [[0, 1], [1, 2]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_points_project_back_to_their_pixels(seed, stride):
    rng = np.random.default_rng(seed)
    depth = np.where(rng.random((13, 17)) < 0.5, rng.uniform(0.3, 5, (13, 17)), 0).astype(np.float32)
    K = np.array([[rng.uniform(10, 30), 0, 8.2], [0, rng.uniform(10, 30), 5.9], [0, 0, 1]])
    points, pixels = unproject(depth, K, stride)
    assert len(points) == np.count_nonzero(depth[::stride, ::stride])
    image = points @ K.T
    np.testing.assert_allclose(image[:, :2] / image[:, 2:], pixels[:, ::-1], atol=1e-9)
    np.testing.assert_array_equal(depth[pixels[:, 0], pixels[:, 1]], points[:, 2].astype(np.float32))
    assert (pixels % stride == 0).all()


def test_the_margin_grows_with_the_square_of_depth():
    np.testing.assert_allclose(depth_margin(np.array([0.0, 1.0, 2.0, 5.0]), 0.04), [0.04, 0.048, 0.072, 0.24])
    assert depth_margin(np.array(2.0), 0.01, growth=0.002) == pytest.approx(0.018)


def test_size_is_width_and_height():
    view = View("a", K, np.zeros(1, np.int64), make_se3(np.eye(3), np.zeros(3))[None], np.zeros((1, 3, 7), np.uint16), [None])  # fmt: skip  # noqa: E501
    assert view.size == (7, 3)
