"""What a tracking policy was trained to see and to do: the part of its contract that a checkpoint already holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from bodydouble.contract import exact_floats
from bodydouble.errors import ContractError
from bodydouble.observation import TRACKING_OFFSETS, tracking_spec
from policy.checkpoint import CheckpointInfo
from sim.stage.stage import Stage

ENTRY = "interface"
"""Its name in a checkpoint."""
_WORDS = {
    "control_hz": "control rate in Hz",
    "observation": "observation terms",
    "reference_offsets": "reference offsets",
    "default_joint_pos": "default joint angles",
    "action_scale": "action scale",
    "kp": "kp",
    "kd": "kd",
}


def interface(stage: Stage) -> dict[str, Any]:
    """Return, as JSON types, what the stage makes a policy see and do."""
    robot = stage.robot
    return {
        "control_hz": stage.control_hz,
        "observation": [list(dataclasses.astuple(term)) for term in tracking_spec(robot.num_joints).terms],
        "reference_offsets": list(TRACKING_OFFSETS),
        **{
            name: list(exact_floats(getattr(robot, name))) for name in ("default_joint_pos", "action_scale", "kp", "kd")
        },
    }


def check_interface(path: Path, info: CheckpointInfo, stage: Stage) -> None:
    """Raise ContractError where a checkpoint says that it was trained for another contract than the stage's.

    A checkpoint that does not say so, of an earlier version or of pretraining, is taken for its sizes and joints alone.
    """
    saved, wanted = info.extra.get(ENTRY), interface(stage)
    if not isinstance(saved, dict):
        return
    for name, value in wanted.items():
        if saved.get(name) != value:
            raise ContractError(
                f"{path}: was trained for another contract: its {_WORDS[name]} {_short(saved.get(name), value)}; train "
                "again for this stage"
            )


def _short(saved: Any, wanted: Any) -> str:
    """Return how two values differ, at the first place where lists do."""
    if isinstance(saved, list) and isinstance(wanted, list):
        if len(saved) != len(wanted):
            return f"are {len(saved)}, the stage has {len(wanted)}"
        place = next(index for index, (a, b) in enumerate(zip(saved, wanted, strict=True)) if a != b)
        return f"at place {place} is {saved[place]}, the stage has {wanted[place]}"
    return f"is {saved}, the stage has {wanted}"
