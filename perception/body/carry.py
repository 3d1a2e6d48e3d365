"""A body of one model carried to another: the same person, as far as both models can say it."""

from __future__ import annotations

import numpy as np
import torch

from bodydouble.frames import quat_normalize, quat_rotate
from perception.body.anny_body import JOINT_NAMES
from perception.body.body_model import BodyModel

_LENGTHS = tuple(
    (JOINT_NAMES.index(f"{side}_{start}"), JOINT_NAMES.index(end if end == "head_top" else f"{side}_{end}"))
    for side in ("left", "right")
    for start, end in (
        ("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("heel", "head_top"),
    )
)  # fmt: skip
"""Lengths that mean the same on all bodies: of limbs, and stature. Joints inside the trunk lie differently."""
KNOWN_M = 0.02
"""How well a length of one body model tells that of another, m."""
STEPS = 5
"""Gauss-Newton steps."""


@torch.no_grad()
def carry(
    pose: torch.Tensor, root: torch.Tensor, shape: torch.Tensor, source: BodyModel, target: BodyModel
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return root (B, 3) and shape (S,) with which the target's limbs lie where the source's do, in the same pose.

    Poses mean the same on all bodies. The pelvis joint does not: the middle of the hips is what stays in place.

    Args:
        pose: Local bone rotations (B, 22, 4), wxyz.
        root: The source's pelvis (B, 3), world, m.
        shape: The source's shape parameters.
        source: The body that the pose and shape are of.
        target: The body that they are wanted for.
    """
    nobody = np.zeros(1, dtype=np.int64)
    source, target = source.subset(nobody), target.subset(nobody)
    wanted = _lengths(source.rest(shape).joint_pos)
    found, spread = target.shape_mean, target.shape_spread
    change = 0.1 * spread * torch.eye(len(found), dtype=target.dtype)
    for _ in range(STEPS):
        ahead, behind = (_lengths(target.rest(found + step).joint_pos) for step in (change, -change))
        slopes = (ahead - behind).T / (0.2 * spread)
        matrix = slopes.T @ slopes / KNOWN_M**2 + np.eye(len(found)) / spread**2
        away = (found - target.shape_mean).double().numpy() / spread**2
        pull = slopes.T @ (wanted - _lengths(target.rest(found).joint_pos)) / KNOWN_M**2 - away
        found = found + torch.as_tensor(np.linalg.solve(matrix, pull), dtype=target.dtype)
        found = found.clamp(target.shape_low, target.shape_high)
    shift = _hips(source.rest(shape).joint_pos) - _hips(target.rest(found).joint_pos).to(root.dtype)
    return root + quat_rotate(quat_normalize(pose[:, 0]), shift.expand(len(pose), -1)), found


def _lengths(joints: torch.Tensor) -> np.ndarray:
    first, second = (list(side) for side in zip(*_LENGTHS, strict=True))
    return (joints[..., first, :] - joints[..., second, :]).norm(dim=-1).double().numpy()


def _hips(joints: torch.Tensor) -> torch.Tensor:
    """Return the middle of the hips (3,) against the pelvis joint."""
    left, right = (joints[JOINT_NAMES.index(f"{side}_hip")] for side in ("left", "right"))
    return 0.5 * (left + right) - joints[0]
