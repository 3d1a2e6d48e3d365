"""The benchmark: copies of recordings, figures by hand, results that parts write together, the command."""

import dataclasses
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from bodydouble.artifacts import read_json, write_json
from bodydouble.cli import main
from bodydouble.errors import InputError
from bodydouble.recording import RecordingReader
from perception.bench import child as child_module
from perception.bench import memory as memory_module
from perception.bench import real as real_module
from perception.bench import run as run_module
from perception.bench.clips import CLIPS, clip_config
from perception.bench.memory import play_forth_and_back
from perception.bench.plot import write_picture
from perception.bench.report import figure_rows, merge_results, write_page
from perception.bench.run import SyntheticRun, run_child, run_synthetic
from perception.bench.summary import summarise
from perception.bench.variants import VARIANTS, Variant, stamped, write_variant
from perception.reconstruct import Reconstruction
from perception.synthetic.generate import SyntheticConfig, generate
from perception.synthetic.motions import MotionConfig, Segment
from perception.tracking.evaluate import TrackingFigures

TINY = SyntheticConfig(
    width=64,
    height=48,
    max_seconds=0.5,
    start_offset_s=0.1,
    workers=1,
    motion=MotionConfig((Segment("walk", 1.5, 0.4),)),
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("bench") / "recording"
    generate(TINY, out)
    return out


def frames(recording: Path, camera: str):
    with RecordingReader(recording) as reader:
        return list(reader.frames(camera))


def test_a_copy_without_poses_has_the_same_images_and_another_clock(recorded, tmp_path):
    write_variant(recorded, VARIANTS["dual"], tmp_path / "dual")
    for camera, ahead_ns in (("camera_1", 0), ("camera_2", 137_000_000)):
        before, after = (frames(folder / "recording.mcap", camera) for folder in (recorded, tmp_path / "dual"))
        assert len(before) == len(after) > 8
        assert [frame.t_ns + ahead_ns for frame in before] == [frame.t_ns for frame in after]
        assert all(frame.T_world_camera is None for frame in after)
        assert all(frame.T_world_camera is not None for frame in before)
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one.depth, other.depth)
            np.testing.assert_array_equal(one.color, other.color)
    with np.load(tmp_path / "dual" / "truth.npz") as truth, np.load(recorded / "truth.npz") as source:
        assert truth["camera_2_clock_offset_ns"] == 137_000_000 and truth["camera_1_clock_offset_ns"] == 0
        assert not truth["poses_recorded"] and source["poses_recorded"]
        np.testing.assert_array_equal(truth["camera_2_times_ns"], source["camera_2_times_ns"])


def test_a_copy_is_in_the_order_of_its_stamps_and_made_once(recorded, tmp_path):
    write_variant(recorded, VARIANTS["dual"], tmp_path / "dual")
    path = tmp_path / "dual" / "recording.mcap"
    with RecordingReader(path) as reader:
        times = [message.log_time_ns for message in reader.raw_messages()]
    assert times == sorted(times)
    made = path.stat().st_mtime_ns
    write_variant(recorded, VARIANTS["dual"], tmp_path / "dual")
    assert path.stat().st_mtime_ns == made


def test_a_copy_has_the_cameras_that_are_kept(recorded, tmp_path):
    write_variant(recorded, Variant(("camera_1",), poses=True), tmp_path / "one")
    with RecordingReader(tmp_path / "one" / "recording.mcap") as reader:
        assert reader.cameras == ("camera_1",)
    assert frames(tmp_path / "one" / "recording.mcap", "camera_1")[0].T_world_camera is not None
    with pytest.raises(InputError, match="camera_3"):
        write_variant(recorded, Variant(("camera_3",), poses=False), tmp_path / "none")


def test_a_stamp_is_moved_across_a_second():
    """0.9 s and 0.137 s are 1.037 s; the encapsulation and the rest of the message stay."""
    data = b"\x00\x01\x00\x00" + struct.pack("<iI", 0, 900_000_000) + b"rest"
    assert stamped(data, 137_000_000) == b"\x00\x01\x00\x00" + struct.pack("<iI", 1, 37_000_000) + b"rest"
    big = b"\x00\x00\x00\x00" + struct.pack(">iI", 5, 1) + b"rest"
    assert stamped(big, -2) == b"\x00\x00\x00\x00" + struct.pack(">iI", 4, 999_999_999) + b"rest"


def test_a_recording_played_forth_and_back_goes_on_steadily(recorded, tmp_path):
    """Half a second becomes 1.6 s at the same rate, the first frames come again in reverse, the file is made once."""
    source = recorded / "recording.mcap"
    out = tmp_path / "long.mcap"
    count = play_forth_and_back(source, 1.6, out)
    first, long = frames(source, "camera_1"), frames(out, "camera_1")
    assert count == len(long) + len(frames(out, "camera_2"))
    assert len(long) / len(first) == pytest.approx(1.6 / 0.5, rel=0.12)
    times = np.array([frame.t_ns for frame in long])
    assert np.diff(times).min() > 0 and np.median(np.diff(times)) == pytest.approx(1e9 / 30, rel=0.1)
    assert np.diff(times).max() < 0.25e9
    np.testing.assert_array_equal(long[len(first)].depth, first[-1].depth)
    np.testing.assert_array_equal(long[2 * len(first) - 1].depth, first[0].depth)
    made = out.stat().st_mtime_ns
    assert play_forth_and_back(source, 1.6, out) == count and out.stat().st_mtime_ns == made


def test_every_clip_has_its_own_room_and_furniture_where_it_is_used():
    configs = {name: clip_config(name) for name in CLIPS}
    assert len({config.seed for config in configs.values()}) == len(CLIPS) == 8
    for name, config in configs.items():
        length = sum(segment.seconds for segment in config.motion.segments)
        assert 5.5 < length < 9.5, name
    assert configs["sit"].room.chair_xy == configs["stand_up"].room.chair_xy != configs["walk"].room.chair_xy
    with pytest.raises(InputError, match="walk, turn"):
        clip_config("fly")


def row(**figures) -> dict[str, float]:
    rest = {"frames_per_s": 4.0, "seconds": 50.0, "cameras": 2.0, "peak_rss_gb": 1.5, "scene_s": 20.0, "fit_s": 10.0}
    return rest | figures


TABLE = {
    "walk": {
        "single": row(wmpjpe100_mm=100.0, cameras=1.0),
        "dual": row(wmpjpe100_mm=30.0, ate_m=0.01, sync_error_ms=2.0, contact_f1=0.9, peak_rss_gb=2.5),
    },
    "lie": {
        "single": row(wmpjpe100_mm=140.0, cameras=1.0),
        "dual": row(wmpjpe100_mm=50.0, ate_m=0.02, contact_f1=0.8, frames_per_s=2.0, seconds=100.0),
    },
}


def test_figures_are_means_over_the_clips_with_the_worst_beside_them():
    summary = summarise(TABLE)
    assert summary.figures["wmpjpe100_dual_mm"] == 40.0 and summary.figures["wmpjpe100_single_mm"] == 120.0
    assert summary.figures["dual_over_single"] == pytest.approx(1 / 3)
    assert summary.figures["contact_f1"] == pytest.approx(0.85)
    assert summary.worst["contact_f1"] == {"clip": "lie", "value": 0.8}
    assert summary.worst["ate_m"] == {"clip": "lie", "value": 0.02}
    assert summary.figures["clips_peak_rss_gb"] == 2.5
    assert summary.lacking["sync_error_ms"] == ["lie"] and summary.figures["sync_error_ms"] == 2.0
    assert "wmpjpe100_dual_mm" not in summary.lacking


def test_speed_is_all_time_steps_over_all_time():
    """200 steps in 50 s and 200 in 100 s are 400 in 150 s; the scenes took 40 s, and each step has two images."""
    summary = summarise(TABLE)
    assert summary.figures["reconstruct_fps"] == pytest.approx(400 / 150)
    assert summary.figures["reconstruct_frames_per_s"] == pytest.approx(800 / 150)
    assert summary.stage_fps == {"scene": pytest.approx(10.0), "fit": pytest.approx(20.0)}


def test_parts_are_written_beside_each_other(tmp_path):
    out = tmp_path / "perception.json"
    write_json(tmp_path / "fusion.json", {"figures": {"fusion_fps": 31.0, "frames": 200}, "command": "fusion"})
    merge_results(out, "bench --memory", memory={"command": "bench --memory", "figures": {"peak_rss_gb": 3.0}})
    results = merge_results(out, "bench", seeds=[101, 100], table=TABLE, failed={"sit dual": "no person"})
    merge_results(out, "bench --real X", real={"command": "bench --real X", "figures": {"kitchen_ate_m": 0.06}})
    results = read_json(out)
    figures = results["figures"]
    assert figures["peak_rss_gb"] == 3.0 and figures["wmpjpe100_dual_mm"] == 40.0 and figures["kitchen_ate_m"] == 0.06
    assert figures["fusion_fps"] == 31.0 and "frames" not in figures
    assert results["command"] == "bench" and results["seeds"] == [100, 101]
    assert results["failed"] == {"sit dual": "no person"}
    rows = {name: row for name, *row in figure_rows(results)}
    assert rows["wmpjpe100_dual_mm"][:3] == ["40", "<= 45", "yes"]
    assert rows["kitchen_ate_m"][:3] == ["0.06", "<= 0.05", "NO"]
    # A mean over some of the clips alone reaches nothing.
    assert rows["sync_error_ms"][2] == "NO" and "lacking: lie" in rows["sync_error_ms"][3]
    assert rows["scene_fscore_5cm"][:2] == ["not measured", ">= 0.93"]


def test_page_and_picture(tmp_path):
    results = merge_results(tmp_path / "perception.json", "bench", seeds=[1], table=TABLE)
    write_page(results, tmp_path / "docs" / "page.md", "images/x.png")
    text = (tmp_path / "docs" / "page.md").read_text()
    assert "| walk | single | 100.0 |" in text and "72.9" in text and "data differ" in text and "images/x.png" in text
    write_picture(results, tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) < 300_000


@pytest.fixture
def pretended(monkeypatch):
    """Reconstructions that are not made: their measures are written at once."""
    calls = []

    def write(recording: Path, out: Path, measures: Path, truth: Path | None = None) -> None:
        calls.append((recording, truth))
        assert recording.is_file() and (truth is None or truth.is_file())
        name = out.name
        found = {"error": "nobody there"} if name == "dual_calibrated" else {"figures": row(wmpjpe100_mm=10.0)}
        write_json(measures, found)

    def tiny(name: str, **_) -> SyntheticConfig:
        return dataclasses.replace(clip_config(name, seconds=0.6, size=(64, 48)), workers=1)

    monkeypatch.setattr(run_module, "run_child", write)
    monkeypatch.setattr(run_module, "clip_config", tiny)
    return calls


def test_every_variant_of_every_clip_is_measured_on_its_recording(pretended, tmp_path):
    table, failed = run_synthetic(SyntheticRun(tmp_path, clips=("reach",)))
    assert {clip: list(variants) for clip, variants in table.items()} == {"reach": ["single", "dual"]}
    assert failed == {"reach dual_calibrated": "nobody there"}
    names = [recording.parent.name for recording, _ in pretended]
    assert names == ["single_recording", "dual_recording", "recording"]
    assert [truth for _, truth in pretended] == [recording.parent / "truth.npz" for recording, _ in pretended]
    with pytest.raises(InputError, match="triple"):
        run_synthetic(SyntheticRun(tmp_path, variants=("triple",)))


def test_finished_reconstructions_are_made_again_on_request(pretended, tmp_path):
    run = SyntheticRun(tmp_path, clips=("reach",), variants=("single",))
    run_synthetic(run)
    (tmp_path / "reach" / "single").mkdir()
    run_synthetic(run)
    assert (tmp_path / "reach" / "single").is_dir()
    run_synthetic(dataclasses.replace(run, again=True))
    assert not (tmp_path / "reach" / "single").exists() and (tmp_path / "reach" / "recording").is_dir()


def test_the_command_writes_what_was_measured_and_says_what_failed(pretended, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_module, "QUICK_CLIPS", ("reach",))
    assert main(["bench", "perception", "--quick", "--work", str(tmp_path)]) == 1
    results = json.loads((tmp_path / "quick" / "perception.json").read_text())
    assert results["figures"]["wmpjpe100_dual_mm"] == 10.0 and results["command"].startswith("bodydouble bench")
    shown = capsys.readouterr().out
    assert "failed: reach dual_calibrated: nobody there" in shown and "72.9" in shown
    assert main(["bench"]) == 2


def test_memory_is_measured_on_a_long_recording_without_poses(pretended, tmp_path, monkeypatch):
    monkeypatch.setattr(memory_module, "clip_config", run_module.clip_config)
    monkeypatch.setattr(memory_module, "run_child", run_module.run_child)
    figures = memory_module.measure_memory(tmp_path, seconds=1.5)
    ((long, truth),) = pretended
    with RecordingReader(long) as reader:
        assert reader.cameras == ("camera_1", "camera_2") and "/tf" not in reader.topics
        count = sum(reader.frame_count(camera) for camera in reader.cameras)
        assert 1.2 < (reader.end_ns - reader.start_ns) * 1e-9 <= 1.5
    assert truth is None and figures["memory_frames"] == count
    assert figures["peak_rss_gb"] == 1.5


def test_a_real_recording_is_tracked_and_compared_with_its_poses(recorded, tmp_path, monkeypatch):
    found = {"camera_1": TrackingFigures(0.01, 0.0), "camera_2": TrackingFigures(0.03, 0.1)}
    monkeypatch.setattr(real_module, "tracking_error", lambda recording: found)
    figures = real_module.measure_real(recorded / "recording.mcap", tmp_path)
    assert figures["kitchen_ate_m"] == 0.03 and figures["kitchen_lost"] == 0.1
    with RecordingReader(recorded / "recording.mcap") as reader:
        assert figures["kitchen_frames"] == sum(reader.frame_count(camera) for camera in reader.cameras)
    with pytest.raises(InputError, match="nowhere"):
        real_module.measure_real(tmp_path / "nowhere", tmp_path)


def test_a_reconstruction_that_fails_says_why_from_its_own_process(tmp_path):
    (tmp_path / "broken.mcap").write_bytes(b"no recording")
    run_child(tmp_path / "broken.mcap", tmp_path / "out", tmp_path / "measures.json")
    assert "broken.mcap" in read_json(tmp_path / "measures.json")["error"]


def test_a_finished_reconstruction_keeps_its_measured_memory(tmp_path, monkeypatch):
    """Only the process that made it knows its memory; another recording is measured anew."""

    def pretend(hash_: str):
        def reconstruct(recording, out):
            write_json(out / "reconstruction.json", {"provenance": {"inputs_hash": hash_}})
            return Reconstruction(out, {"frames_per_s": 3.0}, ())

        return reconstruct

    task = child_module.Task(tmp_path / "a.mcap", tmp_path / "out", tmp_path / "measures.json")
    for hash_, measured, expected in (("x", 4.0, 4.0), ("x", 1.0, 4.0), ("y", 2.0, 2.0)):
        monkeypatch.setattr("perception.reconstruct.reconstruct", pretend(hash_))
        monkeypatch.setattr(child_module, "peak_rss_gb", lambda value=measured: value)
        child_module.measure(task)
        figures = read_json(task.measures)["figures"]
        assert figures["frames_per_s"] == 3.0 and figures["peak_rss_gb"] == expected and figures["cpu_s"] > 0


def test_peak_memory_counts_what_was_given_back():
    before = child_module.peak_rss_gb()
    block = np.ones(100_000_000, np.uint8)
    del block
    assert child_module.peak_rss_gb() >= max(before, 0.1)
