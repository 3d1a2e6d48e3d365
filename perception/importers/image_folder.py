"""A folder of colour and depth images with an intrinsics file -> Recording.

Layout: one folder of depth images (16-bit PNG), one of colour images (JPEG or PNG) whose names hold the same numbers,
an intrinsics file, and optionally a folder of poses (4 x 4 numbers in a text file each). What the files do not say,
the unit of depth, the times and what a pose means, is detected where only one answer is possible and asked for else.
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
from perception.importers.camera_axes import CONVENTIONS, to_world_camera
from perception.importers.color_image import open_color, scale_intrinsics, shrink
from perception.importers.depth_unit import (
    detect_depth_unit,
    doubt,
    require_unit,
    sample_depth,
    to_millimetres,
)
from perception.importers.intrinsics_file import find_intrinsics
from perception.importers.source_files import (
    MAX_IMAGE_BYTES,
    ImportSummary,
    check_intrinsics,
    read_bytes,
    read_depth_png,
    read_pose,
)
from perception.importers.world_up import up_to_z

DEPTH_FOLDERS = ("depth", "depths", "depth_images")
"""Names of the depth folder that are looked for."""
COLOR_FOLDERS = ("color", "colour", "rgb", "image", "images")
"""Names of the colour folder that are looked for."""
POSE_FOLDERS = ("pose", "poses")
"""Names of the pose folder that are looked for."""
TIME_UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Nanoseconds per unit of the numbers in file names."""
_NUMBER = re.compile(r"\d{1,19}")
_UNIT_OPTION = "--config.depth-unit"
_MAX_ASPECT_ERROR = 0.02


@dataclass(frozen=True)
class ImageFolderConfig:
    """Options of the import of image folders."""

    camera: str = "camera"
    """Name of the camera in the recording."""
    fps: float | None = None
    """Rate, in Hz, at which the numbers in the file names count, where they are no times."""
    time_unit: str = ""
    """Unit of the numbers in the file names, where they are times: s, ms, us or ns."""
    depth_unit: str = ""
    """Unit of depth: m, cm, mm, 0.2mm or 0.1mm; told by the data where only one gives a room."""
    intrinsics: tuple[float, float, float, float] | None = None
    """fx, fy, cx, cy in pixels of the depth images; an intrinsics file in the folder where not given."""
    pose_convention: str = ""
    """What the poses are: c2w-opencv, c2w-opengl, w2c-opencv or w2c-opengl; needed where there are poses."""
    up: tuple[float, float, float] | None = None
    """Direction of up in the poses' world; the world is turned so that it becomes +Z. Not turned by default."""
    max_frames: int | None = None
    """Import only the first frames."""


def import_image_folder(folder: Path, out: Path, config: ImageFolderConfig | None = None) -> ImportSummary:
    """Write a folder of colour and depth images as a Recording; colour is brought to the size of the depth images.

    Args:
        folder: Folder that holds the folders of images and the intrinsics file.
        out: Recording to write (.mcap).
        config: Options.

    Raises:
        InputError: A file is missing or damaged, or something that is needed is neither told nor detected.
    """
    config = config or ImageFolderConfig()
    folder, out = Path(folder), Path(out)
    if config.max_frames is not None and config.max_frames < 1:
        raise InputError(f"max frames {config.max_frames}: expected at least 1")
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give one that holds the folders depth and color")
    depths = _numbered(_inner(folder, DEPTH_FOLDERS, "depth images"), (".png",))
    colors = _numbered(_inner(folder, COLOR_FOLDERS, "colour images"), (".png", ".jpg", ".jpeg"))
    poses = _pose_files(folder, config)
    numbers = sorted(depths)[: config.max_frames]
    if not set(numbers) & set(colors):
        raise InputError(
            f"{folder}: no colour image has the number of a depth image (depth {numbers[0]}, colour {min(colors)}); "
            "name the images of a frame alike"
        )
    times = _times_ns(numbers, config, str(folder))
    sample = sample_depth((read_depth_png(depths[number]) for number in numbers), str(folder))
    unit = config.depth_unit or detect_depth_unit(sample, str(folder), _UNIT_OPTION)
    metres = require_unit(unit, _UNIT_OPTION)
    notes = [f"depth in {sample.describe(unit)}" + ("" if config.depth_unit else ", told by the data")]
    if config.depth_unit and (text := doubt(sample, metres)):
        notes.append(text)
    first = read_depth_png(depths[numbers[0]])
    size = first.shape[1], first.shape[0]
    K = _intrinsics(folder, size, config)
    T_world_source = np.eye(4) if config.up is None else up_to_z(config.up)
    if poses and config.up is None:
        notes.append("up is not given; the world is the poses'")
    with_color, with_pose, too_far, resized = 0, 0, 0, False
    with RecordingWriter(out) as writer:
        writer.write_camera_info(config.camera, K, *size, int(times[0]))
        for number, t_ns in track(
            list(zip(numbers, times.tolist(), strict=True)), description="import folder", transient=True
        ):
            counts = read_depth_png(depths[number])
            if (counts.shape[1], counts.shape[0]) != size:
                raise InputError(
                    f"{depths[number]}: {counts.shape[1]} x {counts.shape[0]} pixels, the first depth image has "
                    f"{size[0]} x {size[1]}"
                )
            if number in colors:
                resized |= _write_color(writer, config.camera, colors[number], size, t_ns)
                with_color += 1
            depth, far = to_millimetres(np.where(counts == 65535, 0, counts), metres)
            too_far += far
            writer.write_depth(config.camera, depth, t_ns)
            if number in poses:
                pose = T_world_source @ to_world_camera(read_pose(poses[number]), config.pose_convention)
                writer.write_pose(config.camera, pose, t_ns)
                with_pose += 1
        if resized:
            notes.append(f"colour is brought to the size of the depth images, {size[0]} x {size[1]}")
        if too_far:
            notes.append(f"{too_far} depth readings beyond 65.5 m are left out")
        if not with_pose:
            notes.append("no poses")
        writer.write_metadata(
            "import",
            {
                "layout": "image folder",
                "folder": folder.resolve().name,
                "config": json.dumps(asdict(config), sort_keys=True),
                "depth_unit": unit,
                "world_up": "z" if with_pose and config.up is not None else "unknown",
                "color_registered_to_depth": "unknown",
                "notes": "; ".join(notes),
            },
        )
    duration = float(times[-1] - times[0]) * 1e-9
    return ImportSummary(out, len(numbers), with_color, with_pose, duration, tuple(notes))


def _inner(folder: Path, names: tuple[str, ...], what: str) -> Path:
    found = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() in names]
    if len(found) != 1:
        said = " and ".join(path.name for path in found) if found else "none"
        raise InputError(f"{folder}: expected one folder of {what} named {', '.join(names)}; found {said}")
    return found[0]


def _numbered(folder: Path, endings: tuple[str, ...]) -> dict[int, Path]:
    """Return the files with these endings by the one number in their names."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in endings:
            continue
        digits = _NUMBER.findall(path.stem)
        if len(digits) != 1:
            raise InputError(f"{path}: expected exactly one whole number in the name; rename the files")
        if int(digits[0]) in found:
            raise InputError(f"{path}: has the number of {found[int(digits[0])].name}; leave one of them out")
        found[int(digits[0])] = path
    if not found:
        raise InputError(f"{folder}: holds no file that ends in {', '.join(endings)}")
    return found


def _pose_files(folder: Path, config: ImageFolderConfig) -> dict[int, Path]:
    if not any(path.is_dir() and path.name.lower() in POSE_FOLDERS for path in folder.iterdir()):
        if config.pose_convention or config.up is not None:
            raise InputError(f"{folder}: a pose convention or up is given, but there is no folder pose or poses")
        return {}
    if config.pose_convention not in CONVENTIONS:
        choices = "; ".join(f"{name} ({text})" for name, text in CONVENTIONS.items())
        raise InputError(f"{folder}: there are poses; say what they are with --config.pose-convention: {choices}")
    return _numbered(_inner(folder, POSE_FOLDERS, "poses"), (".txt",))


def _times_ns(numbers: list[int], config: ImageFolderConfig, where: str) -> np.ndarray:
    if (config.fps is None) == (not config.time_unit):
        raise InputError(
            f"{where}: file names hold the numbers {numbers[0]} to {numbers[-1]}: give either --config.fps (frame "
            "numbers) or --config.time-unit s, ms, us or ns (times)"
        )
    steps = [number - numbers[0] for number in numbers]
    if config.fps is not None:
        if not 0.0 < config.fps <= 1e4:
            raise InputError(f"fps {config.fps}: expected frames per second above 0")
        times = [round(step * 1e9 / config.fps) for step in steps]
    else:
        if config.time_unit not in TIME_UNITS:
            raise InputError(f"time unit {config.time_unit!r}: expected one of {', '.join(TIME_UNITS)}")
        times = [step * TIME_UNITS[config.time_unit] for step in steps]
    if times[-1] >= 10**18:
        raise InputError(f"{where}: {times[-1] * 1e-9:.3g} s long; check --config.fps and --config.time-unit")
    return np.array(times, np.int64)


def _intrinsics(folder: Path, size: tuple[int, int], config: ImageFolderConfig) -> np.ndarray:
    if config.intrinsics is not None:
        return check_intrinsics(config.intrinsics, "option intrinsics")
    K, own_size, path = find_intrinsics(folder)
    if own_size is None or own_size == size:
        return K
    _check_aspect(path, own_size, size)
    return scale_intrinsics(K, own_size, size)


def _check_aspect(path: Path, own: tuple[int, int], size: tuple[int, int]) -> None:
    if abs(own[0] * size[1] / (own[1] * size[0]) - 1) > _MAX_ASPECT_ERROR:
        raise InputError(
            f"{path}: {own[0]} x {own[1]} pixels, depth {size[0]} x {size[1]}: the aspects differ; register the images"
        )


def _write_color(writer: RecordingWriter, camera: str, path: Path, size: tuple[int, int], t_ns: int) -> bool:
    """Write a colour image, and return whether it had to be brought to another size."""
    data = read_bytes(path, MAX_IMAGE_BYTES)
    image, image_format = open_color(data, str(path))
    if image.size == size:
        writer.write_color_encoded(camera, data, image_format, t_ns)
        return False
    _check_aspect(path, image.size, size)
    writer.write_color(camera, shrink(image, size), t_ns)
    return True
