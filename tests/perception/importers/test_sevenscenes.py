import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bodydouble.cli import main
from bodydouble.errors import InputError
from bodydouble.frames import make_se3, quat_from_rotvec, quat_to_matrix
from bodydouble.recording import RecordingReader
from perception.importers.sevenscenes import SevenScenesConfig, import_sevenscenes

WIDTH, HEIGHT = 24, 18
NUMBERS = (0, 5, 10, 20)


def pose(i: int) -> np.ndarray:
    return make_se3(quat_to_matrix(quat_from_rotvec(np.array([0.02 * i, 0.1, 0.0]))), np.array([0.1 * i, 0.0, 0.3]))


def depth(i: int) -> np.ndarray:
    values = np.random.default_rng(i).integers(400, 5000, (HEIGHT, WIDTH)).astype(np.uint16)
    values[0, :3] = 0
    values[1, :3] = 65535
    return values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "seq-01"
    out.mkdir()
    for i in NUMBERS:
        stem = out / f"frame-{i:06d}"
        rgb = np.full((HEIGHT, WIDTH, 3), (i * 10, 60, 200), np.uint8)
        Image.fromarray(rgb).save(f"{stem}.color.{'jpg' if i == 5 else 'png'}")
        Image.fromarray(depth(i)).save(f"{stem}.depth.png")
        rounded = pose(i)
        rounded[:3, :3] *= 1.0003  # as far from orthonormal as KinectFusion's poses are
        np.savetxt(f"{stem}.pose.txt", rounded)
    np.savetxt(tmp_path / "camera-intrinsics.txt", [[585, 0, 320], [0, 586, 240], [0, 0, 1]])
    return out


def test_everything_arrives(folder, tmp_path):
    summary = import_sevenscenes(folder, tmp_path / "r.mcap", SevenScenesConfig(fps=10.0))
    assert (summary.frames, summary.with_color, summary.with_pose, summary.duration_s) == (4, 4, 4, 2.0)
    assert "times are made up" in str(summary)
    with RecordingReader(tmp_path / "r.mcap") as reader:
        reader.check_rgbd(require_poses=True)
        frames = list(reader.frames("camera"))
        assert [f.t_ns for f in frames] == [n * 100_000_000 for n in NUMBERS]
        for i, frame in zip(NUMBERS, frames, strict=True):
            expected = np.where(depth(i) == 65535, 0, depth(i))
            np.testing.assert_array_equal(np.rint(frame.depth * 1000), expected)
            np.testing.assert_allclose(frame.T_world_camera, pose(i), atol=1e-9)
            assert np.abs(frame.color[3, 3].astype(int) - [i * 10, 60, 200]).max() <= (4 if i == 5 else 0)
            np.testing.assert_array_equal(frame.K, [[585, 0, 320], [0, 586, 240], [0, 0, 1]])
        note = reader.metadata["import"]
        assert note["times"] == "frame number / 10 Hz"
        assert note["world_up"] == "unknown"
        assert json.loads(note["config"])["fps"] == 10.0
        assert str(tmp_path) not in json.dumps(note)


@pytest.mark.parametrize("up", [(0.0, -1.0, 0.0), (0.0, 0.0, -2.0), (0.1, -0.9, 0.3), (0.0, 0.0, 1.0)])
def test_up_becomes_z(folder, tmp_path, up):
    import_sevenscenes(folder, tmp_path / "r.mcap", SevenScenesConfig(up=up, max_frames=2))
    with RecordingReader(tmp_path / "r.mcap") as reader:
        frames = list(reader.frames("camera"))
        assert reader.metadata["import"]["world_up"] == "z"
    assert len(frames) == 2
    # The direction of up, seen from the camera, is the same before and after.
    seen = pose(5)[:3, :3].T @ (np.array(up) / np.linalg.norm(up))
    np.testing.assert_allclose(frames[1].T_world_camera[:3, :3] @ seen, [0, 0, 1], atol=1e-9)


def test_no_colour_and_given_intrinsics(folder, tmp_path):
    for path in folder.glob("*.color.*"):
        path.unlink()
    (tmp_path / "camera-intrinsics.txt").unlink()
    with pytest.raises(InputError, match="585 585 320 240"):
        import_sevenscenes(folder, tmp_path / "r.mcap")
    summary = import_sevenscenes(folder, tmp_path / "r.mcap", SevenScenesConfig(intrinsics=(500, 500, 12, 9)))
    assert summary.with_color == 0
    with RecordingReader(tmp_path / "r.mcap") as reader:
        assert next(reader.frames("camera")).color is None


def _cut(name):
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:60])

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: (f / "frame-000005.pose.txt").unlink(), r"frame-000005.pose.txt: cannot be read"),
        (lambda f: (f / "frame-000005.pose.txt").write_text("nan " * 16), r"pose.txt: expected 4 x 4 finite numbers"),
        (lambda f: (f / "frame-000005.pose.txt").write_text("1 2 3"), r"pose.txt: expected 4 x 4 finite numbers"),
        (lambda f: np.savetxt(f / "frame-000005.pose.txt", np.diag([1, 1, -1, 1])), r"no rigid camera pose"),
        (_cut("frame-000010.depth.png"), r"frame-000010.depth.png: is no readable PNG"),
        (_cut("frame-000010.color.png"), r"frame-000010.color.png"),
        (lambda f: Image.new("RGB", (24, 18)).save(f / "frame-000000.depth.png"), r"expected 16-bit depth"),
        (lambda f: Image.new("RGB", (9, 9)).save(f / "frame-000010.color.png"), r"9 x 9 pixels, the first depth image"),
    ],
)
def test_damage_is_named_and_leaves_nothing(folder, tmp_path, change, text, capsys):
    change(folder)
    with pytest.raises(InputError, match=text):
        import_sevenscenes(folder, tmp_path / "r.mcap")
    assert main(["import", "7scenes", "--folder", str(folder), "--out", str(tmp_path / "r.mcap")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.glob("r.mcap*"))


def test_wrong_folders(folder, tmp_path):
    with pytest.raises(InputError, match="give one of its folders seq-01"):
        import_sevenscenes(tmp_path, tmp_path / "r.mcap")
    with pytest.raises(InputError, match="is no folder"):
        import_sevenscenes(tmp_path / "none", tmp_path / "r.mcap")
    with pytest.raises(InputError, match="fps"):
        import_sevenscenes(folder, tmp_path / "r.mcap", SevenScenesConfig(fps=0.0))
    with pytest.raises(InputError, match="up direction"):
        import_sevenscenes(folder, tmp_path / "r.mcap", SevenScenesConfig(up=(0, 0, 0)))


def test_the_real_kitchen(tmp_path):
    data = Path(os.environ.get("BODYDOUBLE_DATA", "../shared/data")) / "rgbd_static_7scenes_kitchen" / "data"
    if not data.is_dir():
        pytest.skip(f"needs the real recordings: {data} is missing (set BODYDOUBLE_DATA)")
    summary = import_sevenscenes(data, tmp_path / "kitchen.mcap")
    assert (summary.frames, summary.with_color, summary.with_pose) == (200, 200, 200)
    assert summary.duration_s == pytest.approx(995 / 30)
    with RecordingReader(tmp_path / "kitchen.mcap") as reader:
        found = reader.check_rgbd(require_poses=True)["camera"]
        assert (found.info.width, found.info.height, found.info.K[0, 0]) == (640, 480, 585.0)
        right, inverse, last = [], [], None
        for frame in reader.frames("camera", every=10):
            valid = frame.depth[frame.depth > 0]
            assert valid.max() < 4.0 and valid.min() > 0.8  # the 65535 readings are gone
            rotation = frame.T_world_camera[:3, :3]
            np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
            if last is not None:
                T = np.linalg.inv(frame.T_world_camera) @ last.T_world_camera
                wrong = frame.T_world_camera @ np.linalg.inv(last.T_world_camera)
                right.append(_reprojection_mm(last.depth, frame.depth, frame.K, T))
                inverse.append(_reprojection_mm(last.depth, frame.depth, frame.K, wrong))
            last = frame
    # The poses are camera-to-world: depths moved to another frame agree with it; with the inverse they do not.
    assert np.median(right) < 15.0 < 60.0 < np.median(inverse)


def _reprojection_mm(source: np.ndarray, target: np.ndarray, K: np.ndarray, T: np.ndarray) -> float:
    """Median depth difference, in mm, of a depth image moved by T (target from source) into another."""
    v, u = np.mgrid[0:480:8, 0:640:8]
    z = source[v, u]
    v, u, z = v[z > 0], u[z > 0], z[z > 0]
    points = np.stack([(u - K[0, 2]) * z / K[0, 0], (v - K[1, 2]) * z / K[1, 1], z], axis=-1) @ T[:3, :3].T + T[:3, 3]
    uv = np.rint(points[:, :2] / points[:, 2:] * [K[0, 0], K[1, 1]] + [K[0, 2], K[1, 2]]).astype(int)
    inside = (uv >= 0).all(axis=1) & (uv < [640, 480]).all(axis=1)
    seen = target[uv[inside, 1], uv[inside, 0]]
    return float(np.median(np.abs(seen - points[inside, 2])[seen > 0])) * 1000
