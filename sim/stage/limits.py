"""Upper bounds on a stage: files that are larger are refused before anything is read or compiled."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import mujoco

from bodydouble.errors import InputError

MAX_MODEL_BYTES = 64 << 20
"""Largest MJCF file."""
MAX_STAGE_BYTES = 1 << 30
"""Largest sum of a stage's files."""
MAX_STAGE_FILES = 4096
"""Most files of a stage."""
MAX_GEOMS = 5000
"""Most geoms of a model."""
MAX_TRIANGLES = 3_000_000
"""Most triangles of a model's meshes."""
_MAX_MODEL_COUNTS = {"bodies": 5000, "joints": 5000, "meshes": 5000}


def check_files(folder: Path, model: str) -> None:
    """Raise InputError where a stage's folder holds too much, or something that is no plain file or folder.

    Args:
        folder: The stage's folder.
        model: Name of its MJCF file.
    """
    total = count = 0
    waiting = [folder]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                waiting.append(Path(entry.path))
                continue
            if not stat.S_ISREG(info.st_mode):
                raise InputError(f"{entry.path}: is no plain file; build the stage again with `bodydouble stage`")
            total, count = total + info.st_size, count + 1
            if count > MAX_STAGE_FILES:
                raise InputError(f"{folder}: holds more than {MAX_STAGE_FILES} files, the limit; is it a stage?")
            if entry.name == model and info.st_size > MAX_MODEL_BYTES:
                raise InputError(f"{entry.path}: {info.st_size} bytes, the limit is {MAX_MODEL_BYTES}; {_SMALLER}")
    if total > MAX_STAGE_BYTES:
        raise InputError(f"{folder}: {total} bytes, the limit is {MAX_STAGE_BYTES}; {_SMALLER}")


def check_spec(spec: mujoco.MjSpec, what: str) -> None:
    """Raise InputError where a parsed model has more parts than the limits allow."""
    if len(spec.geoms) > MAX_GEOMS:
        raise InputError(f"{what}: {len(spec.geoms)} geoms, the limit is {MAX_GEOMS}; {_SMALLER}")
    for name, most in _MAX_MODEL_COUNTS.items():
        if len(getattr(spec, name)) > most:
            raise InputError(f"{what}: {len(getattr(spec, name))} {name}, the limit is {most}; {_SMALLER}")


def check_model(model: mujoco.MjModel, what: str) -> None:
    """Raise InputError where a compiled model's meshes have more triangles than the limit allows."""
    if model.nmeshface > MAX_TRIANGLES:
        raise InputError(f"{what}: {model.nmeshface} mesh triangles, the limit is {MAX_TRIANGLES}; {_SMALLER}")


_SMALLER = (
    "build it with a larger config.visual_cell_m or config.furniture.cell_m, or a smaller config.furniture.radius_m"
)
