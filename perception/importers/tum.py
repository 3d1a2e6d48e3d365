"""TUM RGB-D folder layout -> Recording.

Layout (Sturm et al., "A Benchmark for the Evaluation of RGB-D SLAM Systems", IROS 2012): `rgb.txt` and `depth.txt` list
stamped files, `groundtruth.txt` holds camera-to-world poses `t tx ty tz qx qy qz qw`; depth PNGs count 5000 per metre
and are registered to the colour images.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from bodydouble.errors import InputError
from bodydouble.frames import make_se3, quat_to_matrix, wxyz_from_xyzw
from bodydouble.recording import RecordingWriter
from perception.importers.source_files import (
    ImportSummary,
    check_intrinsics,
    read_color_file,
    read_depth_png,
    read_stamped_list,
)
from perception.importers.world_up import up_to_z

_DRIVER_INTRINSICS = (525.0, 525.0, 319.5, 239.5)
_POSE_MARGIN_NS = 200_000_000


@dataclass(frozen=True)
class TumConfig:
    """Options of the TUM RGB-D import."""

    camera: str = "camera"
    """Name of the camera in the recording."""
    intrinsics: tuple[float, float, float, float] | None = None
    """fx, fy, cx, cy in pixels; where not given, the driver's 525 525 319.5 239.5 (it registered TUM's depth)."""
    depth_factor: float = 5000.0
    """Units of the depth PNGs per metre."""
    max_gap_s: float = 0.02
    """Farthest colour image or pose, in seconds, that still belongs to a depth image."""
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Direction of up in the source's world; the world is turned so that it becomes +Z."""
    max_frames: int | None = None
    """Import only the first depth images."""


def import_tum(folder: Path, out: Path, config: TumConfig | None = None) -> ImportSummary:
    """Write a TUM RGB-D folder as a Recording; images and poses keep their own stamps.

    Args:
        folder: Folder with rgb.txt, depth.txt and, for poses, groundtruth.txt.
        out: Recording to write (.mcap).
        config: Options.

    Raises:
        InputError: A file is missing or damaged, or nothing belongs together in time.
    """
    config = config or TumConfig()
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give a TUM RGB-D sequence folder")
    if not (config.depth_factor > 0 and config.max_gap_s >= 0):
        raise InputError(f"depth factor {config.depth_factor}, gap {config.max_gap_s} s: expected positive numbers")
    gap_ns = round(config.max_gap_s * 1e9)
    K = check_intrinsics(config.intrinsics or _DRIVER_INTRINSICS, "option intrinsics")
    depth_ns, depth_files = read_stamped_list(folder / "depth.txt", 1)
    depth_ns, depth_files = depth_ns[: config.max_frames], depth_files[: config.max_frames]
    color_ns, color_files = read_stamped_list(folder / "rgb.txt", 1)
    pose_ns, poses = _read_groundtruth(folder / "groundtruth.txt", up_to_z(config.up))
    color_of = nearest(depth_ns, color_ns, gap_ns)
    with_pose = int((nearest(depth_ns, pose_ns, gap_ns) >= 0).sum()) if len(pose_ns) else 0
    if not (color_of >= 0).any():
        raise InputError(f"{folder}: no colour image within {config.max_gap_s} s of any depth image; check the stamps")
    if len(pose_ns) and not with_pose:
        raise InputError(f"{folder}: no pose within {config.max_gap_s} s of any depth image; check groundtruth.txt")
    notes = _notes(config, len(depth_ns), int((color_of >= 0).sum()), with_pose)
    events = _events(depth_ns, color_ns, np.unique(color_of[color_of >= 0]), pose_ns)
    size: tuple[int, int] | None = None
    with RecordingWriter(out) as writer:
        _write_provenance(writer, folder, config, notes, bool(len(pose_ns)))
        for t_ns, kind, i in track(events, description="import TUM", transient=True):
            if kind == "pose":
                writer.write_pose(config.camera, poses[i], t_ns)
                continue
            path = _inside(folder, (color_files if kind == "color" else depth_files)[i][0])
            if kind == "color":
                data, image_format, found = read_color_file(path)
            else:
                depth = _millimetres(read_depth_png(path), config.depth_factor)
                found = depth.shape[1], depth.shape[0]
            if size is None:
                size = found
                writer.write_camera_info(config.camera, K, *size, t_ns)
            if found != size:
                raise InputError(f"{path}: {found[0]} x {found[1]} pixels, the first image has {size[0]} x {size[1]}")
            if kind == "color":
                writer.write_color_encoded(config.camera, data, image_format, t_ns)
            else:
                writer.write_depth(config.camera, depth, t_ns)
    duration = float(depth_ns[-1] - depth_ns[0]) * 1e-9
    return ImportSummary(out, len(depth_ns), int((color_of >= 0).sum()), with_pose, duration, notes)


def nearest(times: np.ndarray, candidates: np.ndarray, gap: int) -> np.ndarray:
    """Return for each time (N,) the index (N,) of the nearest candidate (M,), sorted; -1 where none is within `gap`."""
    after = np.clip(np.searchsorted(candidates, times), 0, len(candidates) - 1)
    before = np.maximum(after - 1, 0)
    best = np.where(np.abs(candidates[before] - times) <= np.abs(candidates[after] - times), before, after)
    return np.where(np.abs(candidates[best] - times) <= gap, best, -1)


def _events(
    depth_ns: np.ndarray, color_ns: np.ndarray, colors: np.ndarray, pose_ns: np.ndarray
) -> list[tuple[int, str, int]]:
    """Return what is written, in the order of time: all depth images, their colour images, the poses around them."""
    events = [(int(t), "depth", i) for i, t in enumerate(depth_ns)]
    events += [(int(color_ns[i]), "color", int(i)) for i in colors]
    first, last = depth_ns[0] - _POSE_MARGIN_NS, depth_ns[-1] + _POSE_MARGIN_NS
    events += [(int(t), "pose", i) for i, t in enumerate(pose_ns) if first <= t <= last]
    return sorted(events)


def _read_groundtruth(path: Path, T_world_source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not path.exists():
        return np.empty(0, np.int64), np.empty((0, 4, 4))
    times, rows = read_stamped_list(path, 7)
    try:
        values = np.array(rows, np.float64)
    except ValueError:
        values = np.full((len(rows), 7), np.nan)
    norm = np.linalg.norm(values[:, 3:], axis=1)
    bad = np.flatnonzero(~(np.isfinite(values).all(axis=1) & (np.abs(norm - 1.0) < 0.02)))
    if bad.size:
        raise InputError(f"{path}: the pose at {times[bad[0]] * 1e-9:.6f} s is not finite or has no unit quaternion")
    quat = wxyz_from_xyzw(values[:, 3:] / norm[:, None])
    return times, T_world_source @ make_se3(quat_to_matrix(quat), values[:, :3])


def _millimetres(raw: np.ndarray, factor: float) -> np.ndarray:
    mm = np.rint(raw * (1000.0 / factor))
    if mm.max(initial=0.0) >= 65535:
        raise InputError(f"depth factor {factor}: depths of {mm.max() / 1000:.1f} m do not fit; check the factor")
    return mm.astype(np.uint16)


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a listed file; lists come from others, so it must lie in the folder."""
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # a name that no file can have
        inside = False
    if not inside:
        raise InputError(f"{folder}: lists {name!r}, which lies outside of it; check rgb.txt and depth.txt")
    return path


def _notes(config: TumConfig, frames: int, with_color: int, with_pose: int) -> tuple[str, ...]:
    notes = []
    if config.intrinsics is None:
        notes.append("intrinsics are the driver's 525 525 319.5 239.5; give the calibrated ones where they are known")
    if config.depth_factor != 1000.0:
        notes.append("depth is rounded to whole millimetres")
    if with_color < frames:
        notes.append(f"{frames - with_color} depth images have no colour image within {config.max_gap_s:g} s")
    if with_pose < frames:
        notes.append(f"{frames - with_pose} depth images have no pose within {config.max_gap_s:g} s")
    return tuple(notes)


def _write_provenance(
    writer: RecordingWriter, folder: Path, config: TumConfig, notes: tuple[str, ...], has_poses: bool
) -> None:
    writer.write_metadata(
        "import",
        {
            "layout": "TUM RGB-D",
            "folder": folder.resolve().name,
            "config": json.dumps(asdict(config), sort_keys=True),
            "times": "the source's",
            "world_up": "z" if has_poses else "unknown",
            "color_registered_to_depth": "yes",
            "notes": "; ".join(notes),
        },
    )
