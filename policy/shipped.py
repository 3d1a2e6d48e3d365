"""The checkpoints that come with bodydouble."""

from __future__ import annotations

from pathlib import Path

from bodydouble.errors import InputError


def shipped_checkpoint(robot: str, kind: str = "tracking") -> Path:
    """Return a checkpoint that comes with bodydouble for a robot.

    Args:
        robot: Name of the robot.
        kind: "tracking"; "general", which follows more kinds of motions; "cmu_walk"; or a task's name.

    Raises:
        InputError: There is none.
    """
    path = Path(__file__).parent / "checkpoints" / f"{robot}_{kind}.safetensors"
    if not path.is_file():
        raise InputError(f"no checkpoint is shipped for robot {robot}; train with --config.warm-start none")
    return path
