"""7-Scenes folder layout -> Recording.

Layout (Shotton et al., "Scene Coordinate Regression Forests", CVPR 2013): `frame-XXXXXX.color.png` (or .jpg),
`.depth.png` (uint16 mm; 0 and 65535 = no reading), `.pose.txt` (4x4 camera-to-world, metres), no timestamps.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from bodydouble.errors import InputError
from bodydouble.recording import RecordingWriter
from perception.importers.source_files import (
    ImportSummary,
    check_intrinsics,
    read_color_file,
    read_depth_png,
    read_matrix,
    read_pose,
)
from perception.importers.world_up import up_to_z

_FRAME = re.compile(r"frame-(\d{1,9})\.depth\.png")
_NO_READING = 65535
_INTRINSICS_FILE = "camera-intrinsics.txt"


@dataclass(frozen=True)
class SevenScenesConfig:
    """Options of the 7-Scenes import."""

    camera: str = "camera"
    """Name of the camera in the recording."""
    fps: float = 30.0
    """Rate, in Hz, at which the frame numbers count; the layout holds no timestamps, Kinect v1 runs at 30 Hz."""
    intrinsics: tuple[float, float, float, float] | None = None
    """fx, fy, cx, cy in pixels; camera-intrinsics.txt (in the folder or above it) where not given."""
    up: tuple[float, float, float] | None = None
    """Direction of up in the source's world; the world is turned so that it becomes +Z. Not turned by default."""
    max_frames: int | None = None
    """Import only the first frames."""


def import_sevenscenes(folder: Path, out: Path, config: SevenScenesConfig | None = None) -> ImportSummary:
    """Write a 7-Scenes sequence folder as a Recording.

    Args:
        folder: Folder with the frame-XXXXXX files of one sequence.
        out: Recording to write (.mcap).
        config: Options.

    Raises:
        InputError: A file is missing or damaged, or the intrinsics are not known.
    """
    config = config or SevenScenesConfig()
    folder, out = Path(folder), Path(out)
    if not 0.0 < config.fps <= 1e4:
        raise InputError(f"fps {config.fps}: expected frames per second above 0")
    numbers = _frame_numbers(folder)[: config.max_frames]
    K, source = _intrinsics(folder, config)
    T_world_source = np.eye(4) if config.up is None else up_to_z(config.up)
    notes = (
        f"times are made up: frame number / {config.fps:g} Hz",
        f"intrinsics from {source}; depth and colour of 7-Scenes are not registered to each other",
        "up is not given; the world is the source's"
        if config.up is None
        else f"world turned so that {config.up} is +Z",
    )
    with_color = 0
    size: tuple[int, int] | None = None
    with RecordingWriter(out) as writer:
        _write_provenance(writer, folder, config, notes)
        for number in track(numbers, description="import 7-Scenes", transient=True):
            t_ns = round((number - numbers[0]) * 1e9 / config.fps)
            stem = folder / f"frame-{number:06d}"
            depth = read_depth_png(stem.with_name(stem.name + ".depth.png"))
            depth[depth == _NO_READING] = 0
            if size is None:
                size = depth.shape[1], depth.shape[0]
                writer.write_camera_info(config.camera, K, *size, t_ns)
            color_path = _color_path(stem)
            if color_path is not None:
                data, image_format, color_size = read_color_file(color_path)
                _check_size(color_path, color_size, size)
                writer.write_color_encoded(config.camera, data, image_format, t_ns)
                with_color += 1
            _check_size(stem.with_name(stem.name + ".depth.png"), (depth.shape[1], depth.shape[0]), size)
            writer.write_depth(config.camera, depth, t_ns)
            pose = T_world_source @ read_pose(stem.with_name(stem.name + ".pose.txt"))
            writer.write_pose(config.camera, pose, t_ns)
    duration = (numbers[-1] - numbers[0]) / config.fps
    return ImportSummary(out, len(numbers), with_color, len(numbers), duration, notes)


def _frame_numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give a 7-Scenes sequence folder such as seq-01")
    numbers = sorted(int(match[1]) for path in folder.iterdir() if (match := _FRAME.fullmatch(path.name)))
    if not numbers:
        inner = sorted(p.name for p in folder.iterdir() if p.is_dir() and any(p.glob("frame-*.depth.png")))
        hint = f"give one of its folders {', '.join(inner[:5])}" if inner else "give a 7-Scenes sequence folder"
        raise InputError(f"{folder}: holds no frame-XXXXXX.depth.png; {hint}")
    return numbers


def _intrinsics(folder: Path, config: SevenScenesConfig) -> tuple[np.ndarray, str]:
    if config.intrinsics is not None:
        return check_intrinsics(config.intrinsics, "option intrinsics"), "the option"
    for place in (folder, folder.parent):
        path = place / _INTRINSICS_FILE
        if path.is_file():
            m = read_matrix(path, (3, 3))
            return check_intrinsics((m[0, 0], m[1, 1], m[0, 2], m[1, 2]), str(path)), _INTRINSICS_FILE
    raise InputError(f"{folder}: no {_INTRINSICS_FILE}; give the intrinsics (7-Scenes' depth camera: 585 585 320 240)")


def _color_path(stem: Path) -> Path | None:
    for ending in (".color.png", ".color.jpg", ".color.jpeg"):
        path = stem.with_name(stem.name + ending)
        if path.is_file():
            return path
    return None


def _check_size(path: Path, size: tuple[int, int], expected: tuple[int, int]) -> None:
    if size != expected:
        raise InputError(
            f"{path}: {size[0]} x {size[1]} pixels, the first depth image has {expected[0]} x {expected[1]}"
        )


def _write_provenance(writer: RecordingWriter, folder: Path, config: SevenScenesConfig, notes: tuple[str, ...]) -> None:
    writer.write_metadata(
        "import",
        {
            "layout": "7-Scenes",
            "folder": folder.resolve().name,
            "config": json.dumps(asdict(config), sort_keys=True),
            "times": f"frame number / {config.fps:g} Hz",
            "world_up": "unknown" if config.up is None else "z",
            "color_registered_to_depth": "no",
            "notes": "; ".join(notes),
        },
    )
