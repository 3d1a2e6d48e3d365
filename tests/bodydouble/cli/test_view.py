"""Pictures and rerun files of every artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bodydouble.cli import main
from sim.stage.stage import Stage
from tests.bodydouble.recording.samples import write_rgbd


def picture_of(argv: list[str], out: Path) -> np.ndarray:
    assert main(["view", *argv, "--picture", str(out)]) == 0
    image = np.asarray(Image.open(out))
    assert image.ndim == 3 and image.std() > 5
    return image


@pytest.fixture
def reconstruction(tmp_path: Path) -> Path:
    """A room of one floor, without a person."""
    import open3d as o3d

    folder = tmp_path / "reconstruction"
    folder.mkdir()
    (folder / "reconstruction.json").write_text("{}")
    vertices = np.array([[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0], [2, 2, 1]], dtype=float)
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 1, 4]], dtype=np.int32)
    mesh = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(faces))
    mesh.vertex_colors = o3d.utility.Vector3dVector(np.tile([0.9, 0.1, 0.1], (5, 1)))
    o3d.io.write_triangle_mesh(str(folder / "scene.ply"), mesh)
    # From the middle of one side, looking down at the floor's middle: x right, y down, z forward.
    pose = np.array([[1.0, 0, 0, 2], [0, -0.6, 0.8, 0], [0, -0.8, -0.6, 1.5], [0, 0, 0, 1]])
    np.savez(folder / "cameras.npz", names=np.array(["cam"]), cam_T_world_camera=pose[None])
    return folder


def test_recording(tmp_path: Path) -> None:
    recording = write_rgbd(tmp_path / "two.mcap", cameras=("cam0", "cam1"))
    image = picture_of([str(recording)], tmp_path / "out.png")
    assert image.shape == (4 * 240, 4 * 320, 3)


def test_reconstruction_in_colour_and_plain(tmp_path: Path, reconstruction: Path) -> None:
    image = picture_of([str(reconstruction)], tmp_path / "color.png").astype(int)
    red = (image[..., 0] > image[..., 1] + 40).mean()
    assert red > 0.2
    # The floor lies below what is empty.
    assert image[-1, image.shape[1] // 2, 0] > image[-1, image.shape[1] // 2, 1] + 40
    plain = picture_of([str(reconstruction), "--plain"], tmp_path / "plain.png").astype(int)
    assert not (plain[..., 0] > plain[..., 1] + 40).any()


def test_stage(tmp_path: Path, stage: Stage) -> None:
    assert picture_of([str(stage.path)], tmp_path / "stage.png").shape == (720, 1440, 3)


def test_run_on_the_stage_beside_it(tmp_path: Path, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    assert main(["view", str(run), "--picture", str(tmp_path / "run.png")]) == 2
    assert "--stage" in capsys.readouterr().err
    motion = stage.reference
    qpos = np.concatenate([motion.root_pos, motion.root_quat, motion.joint_pos], axis=1)
    np.savez(run / "tracking.npz", qpos=qpos, t_s=np.arange(len(qpos)) / 50, body_error_m=np.zeros(len(qpos)))
    picture_of([str(run), "--stage", str(stage.path)], tmp_path / "run.png")
    out = tmp_path / "run.rrd"
    assert main(["view", str(run), "--stage", str(stage.path), "--rerun", str(out)]) == 0
    assert out.stat().st_size > 100_000


def test_rerun_files(tmp_path: Path, stage: Stage, reconstruction: Path) -> None:
    recording = write_rgbd(tmp_path / "one.mcap")
    for path in (recording, reconstruction, stage.path):
        out = tmp_path / f"{path.name}.rrd"
        assert main(["view", str(path), "--rerun", str(out)]) == 0
        assert out.read_bytes()[:3] == b"RRF" and out.stat().st_size > 2000


def test_policy(policy_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(policy_path)]) == 0
    text = capsys.readouterr().out
    assert '"robot": "unitree_g1"' in text and "16 vectors of" in text


def test_picture_needs_a_png_name(tmp_path: Path, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(stage.path), "--picture", str(tmp_path / "stage.jpg")]) == 2
    assert ".png" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
