import json
import sys
import zipfile

import numpy as np
import pytest

from bodydouble.cli import main
from bodydouble.errors import InputError
from bodydouble.recording import RecordingReader
from perception.importers import lzfse
from perception.importers.record3d import Record3dConfig, import_record3d
from tests.perception.importers import r3d_samples as samples

liblzfse = pytest.importorskip("liblzfse")


@pytest.fixture
def source(tmp_path):
    return samples.write(tmp_path / "a.r3d", samples.entries())


def test_everything_arrives(source, tmp_path):
    summary = import_record3d(source, tmp_path / "r.mcap")
    assert (summary.frames, summary.with_color, summary.with_pose) == (3, 3, 3)
    with RecordingReader(tmp_path / "r.mcap") as reader:
        assert reader.check_rgbd(require_poses=True)["phone"].frame_count == 3
        frames = list(reader.frames("phone"))
        assert reader.metadata["import"]["world_up"] == "z"
    assert [f.t_ns for f in frames] == [0, 100_000_000, 200_000_000]
    for i, frame in enumerate(frames):
        expected = np.where(samples.confidence(i) >= 1, np.nan_to_num(samples.depth_m(i)), 0.0)
        np.testing.assert_allclose(frame.depth, expected, atol=5.1e-4)
        assert np.abs(frame.color.astype(int) - [40 * i, 90, 200]).max() <= 4
    # A quarter of the size: f / 4; the centre of the image stays its centre: (23.5 + 0.5) / 4 - 0.5 = 5.5.
    np.testing.assert_allclose(frames[0].K, [[25.0, 0, 5.5], [0, 26.0, 7.5], [0, 0, 1]])


def test_poses_by_hand(source, tmp_path):
    """ARKit: y up, the camera looks along -z. Here: z up, the camera looks along +z, y of the image is down."""
    import_record3d(source, tmp_path / "r.mcap")
    with RecordingReader(tmp_path / "r.mcap") as reader:
        first, second, third = (f.T_world_camera for f in reader.frames("phone"))
    # ARKit's -z is +y of our world (x stays, y becomes z); the image's down is the world's -z.
    np.testing.assert_allclose(first, [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], atol=1e-9)
    # Turned by 90 degrees about ARKit's y: it looks along -x; ARKit's (1, 2, 3) is (1, -3, 2).
    np.testing.assert_allclose(second[:3, 2], [-1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(second[:3, 1], [0, 0, -1], atol=1e-9)
    np.testing.assert_allclose(second[:3, 3], [1, -3, 2], atol=1e-9)
    np.testing.assert_allclose(third[:3, 3], [0.5, 0.25, 0.0], atol=1e-9)


def test_without_poses_confidence_and_colour(tmp_path):
    content = {k: v for k, v in samples.entries().items() if not k.endswith((".jpg", ".conf"))}
    content["metadata"] = json.dumps(samples.metadata(poses=None, fps=None, frameTimestamps=[5.0, 5.5, 5.75])).encode()
    summary = import_record3d(samples.write(tmp_path / "a.r3d", content), tmp_path / "r.mcap")
    assert (summary.with_color, summary.with_pose) == (0, 0)
    assert "no confidence images" in str(summary) and "3 frames have no pose" in str(summary)
    with RecordingReader(tmp_path / "r.mcap") as reader:
        assert not reader.check_rgbd()["phone"].has_poses
        assert [f.t_ns for f in reader.frames("phone")] == [0, 500_000_000, 750_000_000]
        assert reader.metadata["import"]["world_up"] == "unknown"


def test_the_wrong_unit_is_named(tmp_path):
    content = samples.entries(1)
    content["rgbd/0.depth"] = liblzfse.compress((samples.depth_m(0) * 1000).tobytes())
    source = samples.write(tmp_path / "a.r3d", content)
    with pytest.raises(InputError, match=r"depth should be in m .*looks like mm .*--config.depth-unit"):
        import_record3d(source, tmp_path / "r.mcap")
    import_record3d(source, tmp_path / "r.mcap", Record3dConfig(depth_unit="mm", min_confidence=0))
    with RecordingReader(tmp_path / "r.mcap") as reader:
        np.testing.assert_allclose(next(reader.frames("phone")).depth, np.nan_to_num(samples.depth_m(0)), atol=5.1e-4)


def test_a_missing_decoder_is_named(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "liblzfse", None)
    with pytest.raises(InputError, match=r"needs the package pyliblzfse; install it with `pip install"):
        import_record3d(source, tmp_path / "r.mcap")


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("metadata", None, r"holds no entry 'metadata'"),
        ("metadata", b"{", r"is no JSON"),
        ("metadata", b"[" * 100_000, r"is no JSON"),
        ("metadata", b"[]", r"a JSON list, expected an object"),
        ("metadata", json.dumps(samples.metadata(dw=None)).encode(), r"dw = None, expected a number of pixels"),
        ("metadata", json.dumps(samples.metadata(dw=16, dh=12)).encode(), r"differ in aspect"),
        ("metadata", json.dumps(samples.metadata(dw=24, dh=32)).encode(), r"holds 768 bytes, expected 3072"),
        ("metadata", json.dumps(samples.metadata(K=[1, 0, 5, 0, 1, 5, 0, 0, 1])).encode(), r"column-major"),
        ("metadata", json.dumps(samples.metadata(K="x")).encode(), r"K holds no finite numbers"),
        ("metadata", json.dumps(samples.metadata(fps=0)).encode(), r"fps = 0, expected frames per second"),
        ("metadata", json.dumps(samples.metadata(poses=[[1, 2]])).encode(), r"poses of shape \(1, 2\)"),
        ("metadata", json.dumps(samples.metadata(poses=[[0.0] * 7])).encode(), r"pose 0 has no unit quaternion"),
        ("metadata", json.dumps(samples.metadata(frameTimestamps=[1, 1, 2])).encode(), r"do not rise"),
        ("rgbd/1.depth", b"", r"entry 'rgbd/1.depth': the LZFSE stream is truncated"),
        ("rgbd/1.depth", b"nonsense", r"is no LZFSE stream"),
        ("rgbd/1.depth", liblzfse.compress(bytes(100)), r"holds 100 bytes, expected 768"),
        ("rgbd/1.depth", liblzfse.compress(samples.depth_m(1).tobytes())[:-9], r"truncated"),
        ("rgbd/1.conf", liblzfse.compress(bytes(7)), r"'rgbd/1.conf': holds 7 bytes, expected 192"),
        ("rgbd/1.jpg", b"\xff\xd8\xff", r"'rgbd/1.jpg': is no readable JPEG"),
    ],
)
def test_damage_is_named_and_leaves_nothing(tmp_path, name, data, text, capsys):
    content = samples.entries()
    if data is None:
        del content[name]
    else:
        content[name] = data
    source = samples.write(tmp_path / "a.r3d", content)
    with pytest.raises(InputError, match=text):
        import_record3d(source, tmp_path / "r.mcap")
    assert main(["import", "record3d", "--source", str(source), "--out", str(tmp_path / "r.mcap")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.glob("r.mcap*"))


def test_bombs_and_foreign_files(tmp_path):
    content = samples.entries(1)
    content["rgbd/0.jpg"] = bytes(80 << 20)
    bomb = samples.write(tmp_path / "bomb.r3d", content, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(InputError, match=r"'rgbd/0.jpg' has 83886080 bytes, the limit is 67108864"):
        import_record3d(bomb, tmp_path / "r.mcap")
    text = tmp_path / "text.r3d"
    text.write_text("hello")
    with pytest.raises(InputError, match="is no complete zip file"):
        import_record3d(text, tmp_path / "r.mcap")
    with pytest.raises(InputError, match="cannot be read"):
        import_record3d(tmp_path / "none.r3d", tmp_path / "r.mcap")
    with pytest.raises(InputError, match=r"holds no rgbd/N.depth"):
        import_record3d(samples.write(tmp_path / "e.r3d", {"../rgbd/0.depth": b""}), tmp_path / "r.mcap")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bomb.r3d", "e.r3d", "text.r3d"]


@pytest.mark.parametrize("size", [1, 8, 100, 5000, 200_000])
def test_lzfse_headers_are_walked(size):
    """Sizes that make the encoder take its raw, LZVN and LZFSE blocks."""
    for values in (bytes(size), np.random.default_rng(0).integers(0, 9, size).astype(np.uint8).tobytes()):
        data = liblzfse.compress(values)
        assert lzfse.raw_size(data) == size
        assert lzfse.decompress(data, size) == values
        for end in range(0, len(data), max(1, len(data) // 50)):
            with pytest.raises(ValueError, match="truncated"):
                lzfse.raw_size(data[:end])
