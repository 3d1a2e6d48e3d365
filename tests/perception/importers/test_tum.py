import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bodydouble.cli import main
from bodydouble.errors import InputError
from bodydouble.frames import make_se3, quat_from_rotvec, quat_to_matrix, xyzw_from_wxyz
from bodydouble.recording import RecordingReader
from perception.importers.tum import TumConfig, import_tum, nearest

WIDTH, HEIGHT = 24, 18
START_NS = 1_305_031_102_175_304_000
"""The first stamp of freiburg1_desk, to the microsecond; as a float64 of seconds it would be off by up to 120 ns."""


def stamp(ns: int) -> str:
    return f"{ns // 10**9}.{ns % 10**9 // 1000:06d}"


def pose_at(ns: int) -> tuple[np.ndarray, np.ndarray]:
    t = (ns - START_NS) * 1e-9
    return np.array([t, 2.0 - t, 1.0]), quat_from_rotvec(np.array([0.0, 0.4 * t, 0.1]))


def raw_depth(i: int) -> np.ndarray:
    values = np.random.default_rng(i).integers(2500, 25000, (HEIGHT, WIDTH)).astype(np.uint16)
    values[0, 0] = 0
    return values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten depth images at 30 Hz; colour 5 ms later, missing for the fourth; poses at 100 Hz."""
    out = tmp_path / "fr1"
    (out / "rgb").mkdir(parents=True)
    (out / "depth").mkdir()
    rgb, depth, truth = ["# color images", "# file: 'x.bag'"], ["# depth maps"], ["# ground truth trajectory"]
    for i in range(10):
        t = START_NS + i * 33_333_000
        Image.fromarray(raw_depth(i)).save(out / "depth" / f"{stamp(t)}.png")
        depth.append(f"{stamp(t)} depth/{stamp(t)}.png")
        if i != 3:
            t += 5_000_000
            Image.fromarray(np.full((HEIGHT, WIDTH, 3), (20 * i, 1, 2), np.uint8)).save(out / "rgb" / f"{stamp(t)}.png")
            rgb.append(f"{stamp(t)} rgb/{stamp(t)}.png")
    for t in range(START_NS - 1_000_000_000, START_NS + 1_500_000_000, 10_000_000):
        position, quat = pose_at(t)
        values = " ".join(f"{v:.6f}" for v in [*position, *xyzw_from_wxyz(quat)])
        truth.append(f"{stamp(t)} {values}")
    for name, lines in (("rgb.txt", rgb), ("depth.txt", depth), ("groundtruth.txt", truth)):
        (out / name).write_text("\n".join(lines) + "\n")
    return out


def test_everything_arrives(folder, tmp_path):
    summary = import_tum(folder, tmp_path / "r.mcap", TumConfig(camera="kinect"))
    assert (summary.frames, summary.with_color, summary.with_pose) == (10, 9, 10)
    assert summary.duration_s == pytest.approx(9 * 0.033333)
    assert "1 depth images have no colour image within 0.02 s" in str(summary)
    with RecordingReader(tmp_path / "r.mcap") as reader:
        reader.check_rgbd(require_poses=True)
        frames = list(reader.frames("kinect"))
        assert [f.t_ns for f in frames] == [START_NS + i * 33_333_000 for i in range(10)]
        for i, frame in enumerate(frames):
            np.testing.assert_allclose(frame.depth, raw_depth(i) / 5000.0, atol=5.1e-4)
            assert (frame.color is None) == (i == 3)
            if frame.color is not None:
                assert frame.color[0, 0].tolist() == [20 * i, 1, 2]
            position, quat = pose_at(frame.t_ns)
            np.testing.assert_allclose(frame.T_world_camera, make_se3(quat_to_matrix(quat), position), atol=5e-6)
        assert reader.metadata["import"]["world_up"] == "z"
        assert json.loads(reader.metadata["import"]["config"])["depth_factor"] == 5000.0
        # The poses of long before and after are left out.
        assert 50 < reader.message_count("/tf") < 90


def test_options(folder, tmp_path):
    config = TumConfig(depth_factor=1000.0, intrinsics=(517.3, 516.5, 318.6, 255.3), max_frames=4, up=(0, 1, 0))
    assert import_tum(folder, tmp_path / "r.mcap", config).frames == 4
    with RecordingReader(tmp_path / "r.mcap") as reader:
        frame = next(reader.frames("camera"))
    np.testing.assert_array_equal(np.rint(frame.depth * 1000), raw_depth(0))
    assert frame.K[1].tolist() == [0, 516.5, 255.3]
    np.testing.assert_allclose(frame.T_world_camera[:3, 3], [0.0, -1.0, 2.0], atol=1e-6)


def test_no_groundtruth(folder, tmp_path):
    (folder / "groundtruth.txt").unlink()
    summary = import_tum(folder, tmp_path / "r.mcap")
    assert summary.with_pose == 0 and "10 depth images have no pose" in str(summary)
    with RecordingReader(tmp_path / "r.mcap") as reader:
        assert next(reader.frames("camera")).T_world_camera is None
        assert reader.metadata["import"]["world_up"] == "unknown"


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("depth.txt", "1.0 depth/none.png\n", r"none.png: cannot be read"),
        ("depth.txt", "# nothing\n", r"depth.txt: holds no line"),
        ("depth.txt", "1.0\n", r"depth.txt: line 1: 1 columns, expected 2"),
        ("depth.txt", "soon depth/a.png\n", r"depth.txt: line 1: 'soon' is no time in seconds"),
        ("depth.txt", "1e99999999 depth/a.png\n", r"is no time in seconds"),
        ("depth.txt", "NaN depth/a.png\n", r"is no time in seconds"),
        ("depth.txt", "5.0 depth/a.png\n", r"no colour image within 0.02 s of any depth image"),
        ("groundtruth.txt", "5.0 0 0 0 0 0 0 1\n", r"no pose within 0.02 s of any depth image"),
        ("groundtruth.txt", "5.0 0 0 0 0 0 0 0\n", r"the pose at 5.000000 s is not finite or has no unit quaternion"),
        ("groundtruth.txt", "5.0 nan 0 0 0 0 0 1\n", r"is not finite"),
        ("groundtruth.txt", "5.0 x 0 0 0 0 0 1\n", r"is not finite"),
    ],
)
def test_damage_is_named_and_leaves_nothing(folder, tmp_path, name, content, text, capsys):
    if "none.png" in content:
        content = content.replace("1.0", stamp(START_NS))
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=text):
        import_tum(folder, tmp_path / "r.mcap")
    assert main(["import", "tum", "--folder", str(folder), "--out", str(tmp_path / "r.mcap")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.glob("r.mcap*"))


def test_lists_cannot_name_files_elsewhere(folder, tmp_path):
    secret = tmp_path / "secret.png"
    Image.fromarray(raw_depth(0)).save(secret)
    for name in ("../secret.png", str(secret)):
        (folder / "depth.txt").write_text(f"{stamp(START_NS)} {name}\n")
        with pytest.raises(InputError, match="lies outside"):
            import_tum(folder, tmp_path / "r.mcap")


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=20),
    st.lists(st.integers(0, 300), min_size=1, max_size=20, unique=True),
    st.integers(0, 30),
)
def test_nearest_is_what_a_search_through_all_finds(times, candidates, gap):
    candidates = sorted(candidates)
    found = nearest(np.array(times), np.array(candidates), gap)
    for t, index in zip(times, found, strict=True):
        best = min(abs(c - t) for c in candidates)
        assert (index == -1) == (best > gap)
        if index >= 0:
            assert abs(candidates[index] - t) == best
