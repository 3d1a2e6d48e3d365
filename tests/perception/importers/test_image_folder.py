"""Folders of images: everything arrives, and what the files do not say is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bodydouble.cli import main
from bodydouble.errors import InputError
from bodydouble.frames import make_se3, quat_from_rotvec, quat_to_matrix, se3_inverse
from bodydouble.recording import RecordingReader
from perception.importers.image_folder import ImageFolderConfig, import_image_folder

WIDTH, HEIGHT = 32, 24
NUMBERS = (3, 4, 9)
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
CONFIG = ImageFolderConfig(fps=10.0)


def depth_m(i: int) -> np.ndarray:
    """Depth of a room, 0.8 to 4 m, with a hole."""
    values = np.random.default_rng(i).integers(800, 4000, (HEIGHT, WIDTH)) / 1000
    values[0, :4] = 0
    return values


def pose(i: int) -> np.ndarray:
    return make_se3(quat_to_matrix(quat_from_rotvec(np.array([0.1, 0.02 * i, 0.3]))), np.array([0.1 * i, 1.0, -0.5]))


def save_depth(folder: Path, counts_per_m: float) -> None:
    (folder / "depth").mkdir(exist_ok=True)
    for i in NUMBERS:
        counts = np.rint(depth_m(i) * counts_per_m).astype(np.uint16)
        Image.fromarray(counts).save(folder / "depth" / f"depth_{i:05d}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "walk"
    (out / "color").mkdir(parents=True)
    save_depth(out, 1000)
    for i in NUMBERS:
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), (20 * i, 60, 200), np.uint8)).save(out / "color" / f"{i}.png")
    (out / "intrinsics.json").write_text(json.dumps({"fx": 30.0, "fy": 31.0, "cx": 15.5, "cy": 11.5}))
    return out


def save_poses(folder: Path, convention: str) -> None:
    (folder / "poses").mkdir()
    for i in NUMBERS:
        own = pose(i) @ FLIP if convention.endswith("opengl") else pose(i)
        np.savetxt(folder / "poses" / f"{i}.txt", own if convention.startswith("c2w") else se3_inverse(own))


def test_everything_arrives(folder, tmp_path):
    summary = import_image_folder(folder, tmp_path / "r.mcap", CONFIG)
    assert (summary.frames, summary.with_color, summary.with_pose) == (3, 3, 0)
    assert "told by the data" in str(summary) and "no poses" in str(summary)
    with RecordingReader(tmp_path / "r.mcap") as reader:
        reader.check_rgbd(require_poses=False)
        frames = list(reader.frames("camera"))
        note = reader.metadata["import"]
    assert [frame.t_ns for frame in frames] == [0, 100_000_000, 600_000_000]
    for i, frame in zip(NUMBERS, frames, strict=True):
        np.testing.assert_allclose(frame.depth, depth_m(i), atol=1e-6)
        np.testing.assert_array_equal(frame.color[5, 5], [20 * i, 60, 200])
        np.testing.assert_array_equal(frame.K, [[30, 0, 15.5], [0, 31, 11.5], [0, 0, 1]])
        assert frame.T_world_camera is None
    assert (note["depth_unit"], note["world_up"]) == ("mm", "unknown")
    assert str(tmp_path) not in json.dumps(note)


@pytest.mark.parametrize("convention", ["c2w-opencv", "c2w-opengl", "w2c-opencv", "w2c-opengl"])
def test_poses_of_every_convention_are_the_same_cameras(folder, tmp_path, convention):
    save_poses(folder, convention)
    import_image_folder(folder, tmp_path / "r.mcap", ImageFolderConfig(fps=10.0, pose_convention=convention))
    with RecordingReader(tmp_path / "r.mcap") as reader:
        reader.check_rgbd(require_poses=True)
        for i, frame in zip(NUMBERS, reader.frames("camera"), strict=True):
            np.testing.assert_allclose(frame.T_world_camera, pose(i), atol=1e-9)


def test_up_becomes_z(folder, tmp_path):
    save_poses(folder, "c2w-opencv")
    config = ImageFolderConfig(fps=10.0, pose_convention="c2w-opencv", up=(0.0, -1.0, 0.0))
    import_image_folder(folder, tmp_path / "r.mcap", config)
    with RecordingReader(tmp_path / "r.mcap") as reader:
        frame = next(iter(reader.frames("camera")))
        assert reader.metadata["import"]["world_up"] == "z"
    # Up as the camera sees it is the same before and after.
    np.testing.assert_allclose(frame.T_world_camera[:3, :3] @ pose(3)[:3, :3].T @ [0, -1, 0], [0, 0, 1], atol=1e-9)


@pytest.mark.parametrize(("unit", "counts"), [("mm", 1000), ("0.2mm", 5000), ("0.1mm", 10000)])
def test_a_named_unit_is_used(folder, tmp_path, unit, counts):
    save_depth(folder, counts)
    import_image_folder(folder, tmp_path / "r.mcap", ImageFolderConfig(fps=10.0, depth_unit=unit))
    with RecordingReader(tmp_path / "r.mcap") as reader:
        np.testing.assert_allclose(next(iter(reader.frames("camera"))).depth, depth_m(3), atol=6e-4)


def test_an_ambiguous_unit_is_asked_for(folder, tmp_path):
    """Readings of 4 to 20 thousand are a room of 0.8 to 4 m in 0.2 mm, and one of 0.4 to 2 m in 0.1 mm."""
    save_depth(folder, 5000)
    with pytest.raises(InputError, match=r"ambiguous.*0\.2mm.* or 0\.1mm.*--config\.depth-unit"):
        import_image_folder(folder, tmp_path / "r.mcap", CONFIG)
    assert not (tmp_path / "r.mcap").exists()


@pytest.mark.parametrize(("unit", "ns"), [("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)])
def test_numbers_as_times(folder, tmp_path, unit, ns):
    import_image_folder(folder, tmp_path / "r.mcap", ImageFolderConfig(time_unit=unit))
    with RecordingReader(tmp_path / "r.mcap") as reader:
        assert [frame.t_ns for frame in reader.frames("camera")] == [0, ns, 6 * ns]


def test_larger_colour_is_brought_to_depth_and_larger_intrinsics_too(folder, tmp_path):
    """Twice the size: K's focal lengths halve, and its middle goes with the pixels' edges."""
    for i in NUMBERS:
        large = np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
        large[:, WIDTH:] = 200
        Image.fromarray(large).save(folder / "color" / f"{i}.png")
    matrix = [60.0, 0, 0, 0, 62.0, 0, 31.5, 23.5, 1]
    (folder / "intrinsics.json").write_text(
        json.dumps({"width": 2 * WIDTH, "height": 2 * HEIGHT, "intrinsic_matrix": matrix})
    )
    import_image_folder(folder, tmp_path / "r.mcap", CONFIG)
    with RecordingReader(tmp_path / "r.mcap") as reader:
        frame = next(iter(reader.frames("camera")))
    np.testing.assert_allclose(frame.K, [[30, 0, 15.5], [0, 31, 11.5], [0, 0, 1]])
    assert frame.color.shape == (HEIGHT, WIDTH, 3)
    assert frame.color[:, : WIDTH // 2 - 4].max() < 20 and frame.color[:, WIDTH // 2 + 4 :].min() > 180


def test_what_is_not_said_is_asked_for(folder, tmp_path):
    out = tmp_path / "r.mcap"
    with pytest.raises(InputError, match=r"3 to 9: give either --config\.fps"):
        import_image_folder(folder, out)
    with pytest.raises(InputError, match="give either"):
        import_image_folder(folder, out, ImageFolderConfig(fps=10.0, time_unit="s"))
    save_poses(folder, "c2w-opencv")
    with pytest.raises(InputError, match=r"say what they are with --config\.pose-convention"):
        import_image_folder(folder, out, CONFIG)
    assert not out.exists()


def test_damage_is_one_message_each(folder, tmp_path):
    out = tmp_path / "r.mcap"

    def refused(match: str, config: ImageFolderConfig = CONFIG) -> None:
        with pytest.raises(InputError, match=match):
            import_image_folder(folder, out, config)
        assert not out.exists()

    refused("expected at least 1", ImageFolderConfig(fps=10.0, max_frames=0))
    refused("expected one of m, cm", ImageFolderConfig(fps=10.0, depth_unit="feet"))
    refused("no folder pose or poses", ImageFolderConfig(fps=10.0, pose_convention="c2w-opencv"))
    color = folder / "color" / "9.png"
    good = color.read_bytes()
    color.write_bytes(good[:60])
    refused("9.png: is no readable JPEG or PNG")
    Image.fromarray(np.zeros((HEIGHT, 2 * WIDTH, 3), np.uint8)).save(color)
    refused("the aspects differ")
    color.write_bytes(good)
    (folder / "color" / "b9.jpg").write_bytes(good)
    refused("has the number of 9.png")
    (folder / "color" / "b9.jpg").unlink()
    (folder / "rgb").mkdir()
    refused("found color and rgb")
    (folder / "rgb").rmdir()
    Image.fromarray(np.full((HEIGHT, WIDTH - 1), 900, np.uint16)).save(folder / "depth" / "depth_00009.png")
    refused("31 x 24 pixels, the first depth image has 32 x 24")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is no JSON"),
        ("[1]", "a JSON list"),
        ("{}", "holds neither"),
        ('{"fx": 1, "fy": "a", "cx": 0, "cy": 0}', "is not 4 finite numbers"),
        ('{"fx": -1, "fy": 1, "cx": 0, "cy": 0}', "positive focal lengths"),
        ('{"K": [[1, 0, 0], [0, 1, 0], [5, 5, 1]]}', "is it transposed"),
        ('{"fx": 1, "fy": 1, "cx": 0, "cy": 0, "width": 4}', "expected both"),
    ],
)
def test_intrinsics_that_are_none(folder, tmp_path, text, match):
    (folder / "intrinsics.json").write_text(text)
    with pytest.raises(InputError, match=match):
        import_image_folder(folder, tmp_path / "r.mcap", CONFIG)


def test_intrinsics_missing_twice_or_as_a_matrix(folder, tmp_path):
    np.savetxt(folder / "intrinsics.txt", [[30, 0, 15], [0, 31, 11], [0, 0, 1]])
    with pytest.raises(InputError, match=r"found intrinsics\.json and intrinsics\.txt"):
        import_image_folder(folder, tmp_path / "r.mcap", CONFIG)
    (folder / "intrinsics.json").unlink()
    import_image_folder(folder, tmp_path / "r.mcap", CONFIG)
    with RecordingReader(tmp_path / "r.mcap") as reader:
        np.testing.assert_array_equal(next(iter(reader.frames("camera"))).K, [[30, 0, 15], [0, 31, 11], [0, 0, 1]])
    (folder / "intrinsics.txt").unlink()
    with pytest.raises(InputError, match=r"found none; or give --config\.intrinsics"):
        import_image_folder(folder, tmp_path / "r.mcap", CONFIG)


def test_the_command(folder, tmp_path, capsys):
    out = tmp_path / "r.mcap"
    assert main(["import", "folder", "--folder", str(folder), "--out", str(out), "--config.fps", "10"]) == 0
    assert "3 depth images" in capsys.readouterr().out and out.is_file()
    assert main(["import", "folder", "--folder", str(folder), "--out", str(tmp_path / "s.mcap")]) == 2
    assert not (tmp_path / "s.mcap").exists()
