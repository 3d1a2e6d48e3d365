"""Record3D `.r3d` (iPhone or iPad with LiDAR or TrueDepth) -> Recording.

Layout: a zip file with `metadata` (JSON: `w`, `h`, `dw`, `dh`, `K` column-major for w x h pixels, `fps`, `poses` as
qx qy qz qw tx ty tz camera-to-world, ARKit's world with y up, camera axes x right, y up, z backward) and, by frame
number, `rgbd/N.jpg`, `rgbd/N.depth` (float32 metres, LZFSE) and `rgbd/N.conf` (uint8 0 to 2, LZFSE).
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from bodydouble.errors import InputError
from bodydouble.frames import make_se3, quat_to_matrix, wxyz_from_xyzw
from bodydouble.recording import RecordingWriter
from perception.importers import lzfse
from perception.importers.archive import Archive
from perception.importers.camera_axes import to_world_camera
from perception.importers.color_image import open_color, scale_intrinsics, shrink
from perception.importers.depth_unit import check_depth_unit, doubt, require_unit, sample_depth, to_millimetres
from perception.importers.source_files import (
    MAX_IMAGE_BYTES,
    MAX_PIXELS,
    MAX_TEXT_BYTES,
    ImportSummary,
    check_intrinsics,
)
from perception.importers.world_up import up_to_z

_DEPTH = re.compile(r"rgbd/(\d{1,9})\.depth")
_UP = (0.0, 1.0, 0.0)
_MAX_ASPECT_ERROR = 0.02
_OPTION = "--config.depth-unit"


@dataclass(frozen=True)
class Record3dConfig:
    """Options of the Record3D import."""

    camera: str = "phone"
    """Name of the camera in the recording."""
    min_confidence: int = 1
    """Depth readings of lower confidence (0 low, 1 medium, 2 high) are left out."""
    depth_unit: str = ""
    """Unit of depth (m, cm, mm); Record3D writes metres, which is checked, where not given."""
    up: tuple[float, float, float] = _UP
    """Direction of up in the source's world (ARKit: y); the world is turned so that it becomes +Z."""
    max_frames: int | None = None
    """Import only the first frames."""


@dataclass(frozen=True, eq=False)
class _Metadata:
    """What `metadata` says, checked."""

    color_size: tuple[int, int]
    depth_size: tuple[int, int]
    K: np.ndarray
    """Intrinsics at the depth images' size."""
    fps: float
    poses: np.ndarray
    """(N, 4, 4) T_world_camera, world z up, camera axes of OpenCV."""
    stamps_s: np.ndarray | None


def import_record3d(source: Path, out: Path, config: Record3dConfig | None = None) -> ImportSummary:
    """Write a Record3D export as a Recording; colour is brought to the size of the depth images.

    Args:
        source: The .r3d file.
        out: Recording to write (.mcap).
        config: Options.

    Raises:
        InputError: The file is damaged or of another form, or the LZFSE decoder is not installed.
    """
    config = config or Record3dConfig()
    source, out = Path(source), Path(out)
    if config.min_confidence not in (0, 1, 2):
        raise InputError(f"min confidence {config.min_confidence}: expected 0, 1 or 2")
    metres = require_unit(config.depth_unit or "m", _OPTION)
    with Archive(source, "a Record3D .r3d file") as archive:
        found = sorted(int(match[1]) for name in archive.names if (match := _DEPTH.fullmatch(name)))
        numbers = found[: config.max_frames]
        if not numbers:
            raise InputError(f"{source}: holds no rgbd/N.depth; give a Record3D .r3d file (Export: Shareable/Internal)")
        lzfse.decoder()
        meta = _metadata(archive, config)
        sample = sample_depth((_depth(archive, i, meta.depth_size) for i in numbers), str(source))
        if not config.depth_unit:
            check_depth_unit(sample, "m", str(source), _OPTION)
        times = _times_ns(numbers, found, meta, str(source))
        notes = _notes(archive, numbers, meta, config)
        if config.depth_unit and (text := doubt(sample, metres)):
            notes.append(text)
        with_color, too_far = 0, 0
        with RecordingWriter(out) as writer:
            writer.write_camera_info(config.camera, meta.K, *meta.depth_size, int(times[0]))
            for number, t_ns in track(
                list(zip(numbers, times.tolist(), strict=True)), description="import Record3D", transient=True
            ):
                depth, far = to_millimetres(_confident(archive, number, meta.depth_size, config.min_confidence), metres)
                too_far += far
                color = _color(archive, number, meta)
                if color is not None:
                    writer.write_color(config.camera, color, t_ns)
                    with_color += 1
                writer.write_depth(config.camera, depth, t_ns)
                if number < len(meta.poses):
                    writer.write_pose(config.camera, meta.poses[number], t_ns)
            if too_far:
                notes.append(f"{too_far} depth readings beyond 65.5 m are left out")
            _write_provenance(writer, source, config, notes, len(meta.poses) > 0)
    with_pose = sum(number < len(meta.poses) for number in numbers)
    duration = float(times[-1] - times[0]) * 1e-9
    return ImportSummary(out, len(numbers), with_color, with_pose, duration, tuple(notes))


def _metadata(archive: Archive, config: Record3dConfig) -> _Metadata:
    where = f"{archive.path}: metadata"
    try:
        data = json.loads(archive.read("metadata", MAX_TEXT_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is no JSON ({error}); export it again") from None
    if not isinstance(data, dict):
        raise InputError(f"{where}: a JSON {type(data).__name__}, expected an object; export it again")
    w, h, dw, dh = (_integer(data, key, where) for key in ("w", "h", "dw", "dh"))
    if abs((dw * h) / (dh * w) - 1.0) > _MAX_ASPECT_ERROR:
        raise InputError(f"{where}: colour {w} x {h} and depth {dw} x {dh} differ in aspect; export it again")
    k = _numbers(data, "K", where).reshape(-1)
    if k.size != 9 or np.abs(k[[1, 2, 3, 5]]).max() > 1e-6 * abs(k[0]) or abs(k[8] - 1.0) > 1e-6:
        raise InputError(f"{where}: K = {k[:9].tolist()}, expected [fx, 0, 0, 0, fy, 0, cx, cy, 1] (column-major)")
    K = check_intrinsics((float(k[0]), float(k[4]), float(k[6]), float(k[7])), where)
    fps = float(_numbers(data, "fps", where).reshape(-1)[:1].sum()) if "fps" in data else 0.0
    stamps = _numbers(data, "frameTimestamps", where).reshape(-1) if data.get("frameTimestamps") else None
    poses = np.empty((0, 4, 4))
    if data.get("poses"):
        poses = _poses(_numbers(data, "poses", where), where, up_to_z(config.up))
    return _Metadata((w, h), (dw, dh), scale_intrinsics(K, (w, h), (dw, dh)), fps, poses, stamps)


def _integer(data: dict[str, Any], key: str, where: str) -> int:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1 << 14:
        raise InputError(f"{where}: {key} = {str(value)[:40]}, expected a number of pixels; export it again")
    return value


def _numbers(data: dict[str, Any], key: str, where: str) -> np.ndarray:
    try:
        values = np.array(data.get(key), np.float64)
    except (ValueError, TypeError, OverflowError):
        values = np.empty(0)
    if not values.size or not np.isfinite(values).all():
        raise InputError(f"{where}: {key} holds no finite numbers; export it again")
    return values


def _poses(values: np.ndarray, where: str, T_world_source: np.ndarray) -> np.ndarray:
    if values.ndim != 2 or values.shape[1] != 7:
        raise InputError(f"{where}: poses of shape {values.shape}, expected (N, 7): qx qy qz qw tx ty tz")
    norm = np.linalg.norm(values[:, :4], axis=1)
    bad = np.flatnonzero(np.abs(norm - 1.0) > 0.02)
    if bad.size:
        raise InputError(f"{where}: pose {bad[0]} has no unit quaternion (norm {norm[bad[0]]:.3g}); export it again")
    quat = wxyz_from_xyzw(values[:, :4] / norm[:, None])
    return T_world_source @ to_world_camera(make_se3(quat_to_matrix(quat), values[:, 4:]), "c2w-opengl")


def _depth(archive: Archive, number: int, size: tuple[int, int]) -> np.ndarray:
    return _plane(archive, f"rgbd/{number}.depth", size, "<f4")


def _plane(archive: Archive, name: str, size: tuple[int, int], dtype: str) -> np.ndarray:
    if size[0] * size[1] > MAX_PIXELS:
        raise InputError(f"{archive.path}: {size[0]} x {size[1]} pixels, the limit is {MAX_PIXELS}")
    data = archive.read(name, MAX_IMAGE_BYTES)
    try:
        raw = lzfse.decompress(data, size[0] * size[1] * np.dtype(dtype).itemsize)
    except ValueError as error:
        raise InputError(f"{archive.path}: entry {name!r}: {error}; export it again") from None
    return np.frombuffer(raw, dtype).reshape(size[1], size[0])


def _confident(archive: Archive, number: int, size: tuple[int, int], minimum: int) -> np.ndarray:
    depth = _depth(archive, number, size)
    name = f"rgbd/{number}.conf"
    if minimum == 0 or name not in archive.names:
        return depth
    return np.where(_plane(archive, name, size, "u1") >= minimum, depth, np.float32(0.0))


def _color(archive: Archive, number: int, meta: _Metadata) -> np.ndarray | None:
    name = f"rgbd/{number}.jpg"
    if name not in archive.names:
        return None
    where = f"{archive.path}: entry {name!r}"
    image, _ = open_color(archive.read(name, MAX_IMAGE_BYTES), where)
    if image.size != meta.color_size:
        raise InputError(
            f"{where}: {image.width} x {image.height} pixels, metadata says {meta.color_size[0]} x {meta.color_size[1]}"
        )
    return shrink(image, meta.depth_size)


def _times_ns(numbers: list[int], found: list[int], meta: _Metadata, where: str) -> np.ndarray:
    if meta.stamps_s is not None:
        if len(meta.stamps_s) <= found[-1] or (np.diff(meta.stamps_s) <= 0).any():
            raise InputError(f"{where}: frameTimestamps do not rise or do not reach frame {found[-1]}; export it again")
        seconds = meta.stamps_s[numbers] - meta.stamps_s[numbers[0]]
    elif not 0.0 < meta.fps <= 1e4:
        raise InputError(f"{where}: metadata: fps = {meta.fps:g}, expected frames per second above 0; export it again")
    else:
        seconds = (np.array(numbers) - numbers[0]) / meta.fps
    if seconds[-1] >= 1e9:
        raise InputError(f"{where}: {seconds[-1]:.3g} s long; check fps and frameTimestamps")
    return np.rint(seconds * 1e9).astype(np.int64)


def _notes(archive: Archive, numbers: list[int], meta: _Metadata, config: Record3dConfig) -> list[str]:
    notes = [
        "times are the export's, from 0" if meta.stamps_s is not None else f"times: frame number / {meta.fps:g} Hz",
        "colour is brought to the size of the depth images, {} x {}".format(*meta.depth_size),
    ]
    if config.min_confidence and not any(f"rgbd/{i}.conf" in archive.names for i in numbers):
        notes.append("no confidence images; all depth readings are taken")
    missing = sum(number >= len(meta.poses) for number in numbers)
    if missing:
        notes.append(f"{missing} frames have no pose")
    return notes


def _write_provenance(
    writer: RecordingWriter, source: Path, config: Record3dConfig, notes: list[str], has_poses: bool
) -> None:
    writer.write_metadata(
        "import",
        {
            "layout": "Record3D",
            "folder": source.resolve().name,
            "config": json.dumps(asdict(config), sort_keys=True),
            "times": notes[0],
            "depth_unit": config.depth_unit or "m",
            "world_up": "z" if has_poses else "unknown",
            "color_registered_to_depth": "yes",
            "notes": "; ".join(notes),
        },
    )
