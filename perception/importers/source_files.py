"""The files of a source folder, read with checks: depth images, matrices, lists of stamped files."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
from PIL import Image

from bodydouble.errors import InputError
from bodydouble.frames import fix_rotation

MAX_TEXT_BYTES = 64 << 20
MAX_IMAGE_BYTES = 64 << 20
MAX_PIXELS = 16 << 20
_ROTATION_TOLERANCE = 0.02
"""Farther from orthonormal, a pose is damaged and not merely rounded."""
_MAX_TIME_S = 1 << 31
"""ROS stamps hold int32 seconds."""


@dataclass(frozen=True)
class ImportSummary:
    """What an import wrote."""

    out: Path
    """The recording."""
    frames: int
    """Depth images."""
    with_color: int
    """Depth images with a colour image near in time."""
    with_pose: int
    """Depth images with a camera pose."""
    duration_s: float
    """From the first to the last depth image."""
    notes: tuple[str, ...] = ()
    """What the source leaves open; also in the recording's metadata."""

    def __str__(self) -> str:
        """Return the summary as text for people."""
        head = (
            f"{self.out}: {self.frames} depth images in {self.duration_s:.2f} s, "
            f"{self.with_color} with colour, {self.with_pose} with pose"
        )
        return "\n".join([head, *(f"note: {note}" for note in self.notes)])


def read_bytes(path: Path, limit: int) -> bytes:
    """Return a file's content.

    Raises:
        InputError: The file cannot be read or is larger than the limit.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise InputError(f"{path}: {size} bytes, the limit is {limit}; check the folder")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check that the folder is complete") from None


def read_color_file(path: Path) -> tuple[bytes, str, tuple[int, int]]:
    """Return a JPEG or PNG colour image undecoded, its format (`jpeg` or `png`) and its (width, height).

    Raises:
        InputError: The file is neither, or is damaged.
    """
    data = read_bytes(path, MAX_IMAGE_BYTES)
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            _check_pixels(path, image)
            if image.format is None:
                raise ValueError("unknown format")
            image.load()  # a truncated file shows only when it is decoded
            return data, image.format.lower(), image.size
    except InputError:
        raise
    except Exception as error:  # a decoder on foreign bytes
        raise InputError(f"{path}: is no readable JPEG or PNG ({error}); copy it again") from None


def read_depth_png(path: Path) -> np.ndarray:
    """Return a 16-bit PNG as uint16 (H, W), in the file's own units.

    Raises:
        InputError: The file is no 16-bit PNG, or is damaged.
    """
    read_bytes(path, MAX_IMAGE_BYTES)
    try:
        with Image.open(path, formats=("PNG",)) as image:
            _check_pixels(path, image)
            if image.mode not in ("I;16", "I;16B", "I"):
                raise InputError(f"{path}: a PNG of mode {image.mode}, expected 16-bit depth; check that it is depth")
            return np.array(image).astype(np.uint16)
    except InputError:
        raise
    except Exception as error:  # a decoder on foreign bytes
        raise InputError(f"{path}: is no readable PNG ({error}); copy it again") from None


def read_matrix(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Return a text file of numbers as a float64 matrix.

    Raises:
        InputError: The file does not hold that many finite numbers.
    """
    text = read_bytes(path, MAX_TEXT_BYTES).decode("utf-8", "replace")
    try:
        matrix = np.array([float(word) for word in text.split()])
    except ValueError:
        matrix = np.empty(0)
    if matrix.size != shape[0] * shape[1] or not np.isfinite(matrix).all():
        raise InputError(
            f"{path}: expected {shape[0]} x {shape[1]} finite numbers; copy it again or leave the frame out"
        )
    return matrix.reshape(shape)


def read_pose(path: Path) -> np.ndarray:
    """Return a text file's camera-to-world pose (4, 4), its rotation made orthonormal.

    Raises:
        InputError: The file holds no rigid transform.
    """
    return check_pose(read_matrix(path, (4, 4)), str(path))


def check_pose(pose: np.ndarray, where: str) -> np.ndarray:
    """Return a pose (4, 4) with its rotation made orthonormal.

    Raises:
        InputError: The rotation is off by more than rounding, or the last row is not 0 0 0 1.
    """
    out = pose.copy()
    out[:3, :3] = fix_rotation(pose[:3, :3])
    if np.abs(out - pose).max() > _ROTATION_TOLERANCE or np.abs(pose[3] - [0, 0, 0, 1]).max() > 1e-9:
        raise InputError(f"{where}: is no rigid camera pose; leave the frame out")
    return out


def read_stamped_list(path: Path, columns: int) -> tuple[np.ndarray, list[list[str]]]:
    """Read lines of a time in seconds and further columns; lines that start with # are comments.

    Returns:
        Times (N,) int64 nanoseconds, strictly increasing, and the further columns as text.

    Raises:
        InputError: A line of another form, or no line at all.
    """
    rows: list[tuple[int, list[str]]] = []
    text = read_bytes(path, MAX_TEXT_BYTES).decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != columns + 1:
            raise InputError(f"{path}: line {number}: {len(words)} columns, expected {columns + 1}; restore the file")
        rows.append((_nanoseconds(words[0], f"{path}: line {number}"), words[1:]))
    if not rows:
        raise InputError(f"{path}: holds no line; restore the file")
    rows.sort(key=lambda row: row[0])
    unique = [row for i, row in enumerate(rows) if i == 0 or row[0] != rows[i - 1][0]]
    return np.array([t for t, _ in unique], np.int64), [rest for _, rest in unique]


def check_intrinsics(intrinsics: tuple[float, float, float, float], where: str) -> np.ndarray:
    """Return K (3, 3) of (fx, fy, cx, cy) in pixels.

    Raises:
        InputError: Focal lengths that are not positive, or values that are not finite.
    """
    fx, fy, cx, cy = intrinsics
    if not np.isfinite(intrinsics).all() or fx <= 0 or fy <= 0:
        raise InputError(
            f"{where}: intrinsics {intrinsics}, expected finite fx, fy, cx, cy with positive focal lengths"
        )
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def _nanoseconds(text: str, where: str) -> int:
    try:
        seconds = Decimal(text)
        # Compared before it is multiplied: the exponent comes from the file.
        value = int((seconds * 1_000_000_000).to_integral_value()) if 0 <= seconds < _MAX_TIME_S else -1
    except (ArithmeticError, ValueError):
        value = -1
    if value < 0:
        raise InputError(f"{where}: {text[:40]!r} is no time in seconds; restore the file")
    return value


def _check_pixels(path: Path, image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"{path}: {image.width} x {image.height} pixels, the limit is {MAX_PIXELS}")
