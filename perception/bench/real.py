"""The benchmark on a real recording with known camera poses: tracking without them, compared with them."""

from __future__ import annotations

import time
from pathlib import Path

from bodydouble.artifacts import inputs_hash, is_current, provenance, write_json
from bodydouble.errors import InputError
from bodydouble.recording import RecordingReader
from perception.importers.sevenscenes import import_sevenscenes
from perception.tracking.evaluate import tracking_error


def measure_real(source: Path, work: Path) -> dict[str, float]:
    """Track a real recording's cameras without its poses.

    Args:
        source: A folder in 7-Scenes' layout, or with one `data` folder in it; or a recording (.mcap) with poses.
        work: Folder for the recording that is made of a folder.

    Returns:
        Figures: kitchen_ate_m, the largest of the cameras; kitchen_lost, the share of frames without a pose;
        kitchen_track_fps.

    Raises:
        InputError: There is no such recording, or it cannot be tracked.
    """
    recording = source if source.is_file() else _imported(source, work / "real")
    begun = time.monotonic()
    found = tracking_error(recording)
    seconds = time.monotonic() - begun
    with RecordingReader(recording) as reader:
        frames = sum(reader.frame_count(camera) for camera in reader.cameras)
    return {
        "kitchen_ate_m": max(camera.ate_m for camera in found.values()),
        "kitchen_lost": max(camera.lost for camera in found.values()),
        "kitchen_frames": float(frames),
        "kitchen_track_fps": frames / seconds,
    }


def _imported(folder: Path, work: Path) -> Path:
    """Return the recording made of a 7-Scenes folder, made anew where the folder is another one."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder or recording; give one in 7-Scenes' layout, or an .mcap with poses")
    if (folder / "data").is_dir():
        folder = folder / "data"
    out, manifest = work / "recording.mcap", work / "recording.json"
    inputs = {"folder": folder}
    if not (out.is_file() and is_current(manifest, inputs_hash(None, inputs))):
        work.mkdir(parents=True, exist_ok=True)
        import_sevenscenes(folder, out)
        write_json(manifest, {"provenance": provenance(None, inputs), "figures": {}})
    return out
