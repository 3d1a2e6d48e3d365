"""Intrinsics files: a JSON object or a 3 x 3 matrix in a text file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bodydouble.errors import InputError
from perception.importers.source_files import MAX_TEXT_BYTES, check_intrinsics, read_bytes, read_matrix

NAMES = ("intrinsics.json", "camera_intrinsic.json", "intrinsic.json", "camera-intrinsics.txt", "intrinsics.txt")
"""Files that are looked for."""


def find_intrinsics(folder: Path) -> tuple[np.ndarray, tuple[int, int] | None, Path]:
    """Return K (3, 3), the (width, height) it belongs to where the file says so, and the file.

    Raises:
        InputError: There is no such file, more than one, or it holds no intrinsics.
    """
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(found) != 1:
        said = " and ".join(path.name for path in found) if found else "none"
        raise InputError(f"{folder}: expected one of {', '.join(NAMES)}, found {said}; or give --config.intrinsics")
    K, size = read_intrinsics(found[0])
    return K, size, found[0]


def read_intrinsics(path: Path) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Return K (3, 3) of a file, and the (width, height) it belongs to where the file says so.

    A text file holds the matrix; a JSON object holds `fx`, `fy`, `cx`, `cy`, or `K` as three rows, or
    `intrinsic_matrix` as nine numbers column by column (Open3D); `width` and `height` may stand beside them.

    Raises:
        InputError: It holds none of them, or numbers that are no intrinsics.
    """
    if path.suffix == ".txt":
        return _check_matrix(read_matrix(path, (3, 3)), path), None
    try:
        data = json.loads(read_bytes(path, MAX_TEXT_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({error}); write it again") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: a JSON {type(data).__name__}, expected an object with fx, fy, cx, cy")
    return _matrix(data, path), _size(data, path)


def _matrix(data: dict[str, Any], path: Path) -> np.ndarray:
    if all(name in data for name in ("fx", "fy", "cx", "cy")):
        fx, fy, cx, cy = _numbers([data[name] for name in ("fx", "fy", "cx", "cy")], (4,), "fx, fy, cx, cy", path)
        return check_intrinsics((float(fx), float(fy), float(cx), float(cy)), str(path))
    if "K" in data:
        return _check_matrix(_numbers(data["K"], (3, 3), "K", path), path)
    if "intrinsic_matrix" in data:
        flat = _numbers(data["intrinsic_matrix"], (9,), "intrinsic_matrix", path)
        return _check_matrix(flat.reshape(3, 3).T, path)
    raise InputError(f"{path}: holds neither fx, fy, cx, cy nor K nor intrinsic_matrix")


def _numbers(value: Any, shape: tuple[int, ...], name: str, path: Path) -> np.ndarray:
    try:
        numbers = np.array(value, np.float64)
    except (ValueError, TypeError, OverflowError):
        numbers = np.empty(0)
    if numbers.shape != shape or not np.isfinite(numbers).all():
        raise InputError(f"{path}: {name} is not {' x '.join(map(str, shape))} finite numbers")
    return numbers


def _check_matrix(K: np.ndarray, path: Path) -> np.ndarray:
    zeros = np.array([K[0, 1], K[1, 0], K[2, 0], K[2, 1]])
    if np.abs(zeros).max() > 1e-6 * max(1.0, abs(float(K[0, 0]))) or abs(K[2, 2] - 1) > 1e-6:
        raise InputError(f"{path}: {K.tolist()} is no [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]; is it transposed?")
    return check_intrinsics((float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])), str(path))


def _size(data: dict[str, Any], path: Path) -> tuple[int, int] | None:
    if "width" not in data and "height" not in data:
        return None
    width, height = data.get("width"), data.get("height")
    for value in (width, height):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1 << 14:
            raise InputError(f"{path}: width {width}, height {height}: expected both, in pixels")
    assert isinstance(width, int) and isinstance(height, int)
    return width, height
