"""A folder of reference motions as one file, for training on many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bodydouble.errors import InputError
from bodydouble.motion import RobotMotion


def load_motions(folder: Path) -> list[RobotMotion]:
    """Return the motions of every npz file in a folder, in the order of their names.

    Raises:
        InputError: The folder holds none, or a file is no motion.
    """
    paths: Sequence[Path] = sorted(folder.glob("*.npz"))
    if not paths:
        raise InputError(f"{folder}: holds no .npz motions; retarget some into it first")
    return [RobotMotion.load(path) for path in paths]
