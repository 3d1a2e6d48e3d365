"""How far the Anny body's joints turn: an easy standing posture, and soft limits around it.

Boxes on rotation vectors against the easy posture, in the bones' own axes (x forward, y left, z up in the rest pose);
ranges after standard goniometry, widened where one box has to hold coupled axes.
"""

from __future__ import annotations

import numpy as np
import torch

from bodydouble.frames import quat_from_rotvec
from perception.body.anny_data import BONE_NAMES

_EASY = {
    "shoulder": (-0.37, 0.50, -0.26),
    "elbow": (0.0, -0.09, -0.08),
    "hip": (-0.06, -0.20, 0.04),
    "knee": (0.0, 0.38, 0.05),
    "ankle": (0.08, -0.18, -0.08),
}
_LIMITS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "pelvis": ((-9.0, 9.0), (-9.0, 9.0), (-9.0, 9.0)),
    "spine1": ((-0.4, 0.4), (-0.4, 0.7), (-0.4, 0.4)),
    "spine2": ((-0.4, 0.4), (-0.4, 0.7), (-0.4, 0.4)),
    "spine3": ((-0.3, 0.3), (-0.3, 0.5), (-0.4, 0.4)),
    "neck": ((-0.5, 0.5), (-0.6, 0.6), (-0.6, 0.6)),
    "head": ((-0.4, 0.4), (-0.5, 0.5), (-0.7, 0.7)),
    "collar": ((-0.3, 0.3), (-0.2, 0.2), (-0.3, 0.3)),
    "shoulder": ((-1.2, 3.0), (-3.0, 1.2), (-1.6, 1.6)),
    "elbow": ((-1.2, 1.2), (-2.4, 0.2), (-2.4, 0.2)),
    "wrist": ((-0.5, 0.5), (-0.5, 0.5), (-0.5, 0.5)),
    "hip": ((-0.8, 0.5), (-2.1, 0.5), (-0.6, 0.6)),
    "knee": ((-0.2, 0.2), (-0.4, 2.2), (-0.3, 0.3)),
    "ankle": ((-0.4, 0.4), (-0.6, 0.7), (-0.4, 0.4)),
    "toe": ((-0.1, 0.1), (-0.6, 0.3), (-0.1, 0.1)),
}

_EASE: dict[str, tuple[float, float, float]] = {
    "pelvis": (4.0, 1.0, 0.0),
    "spine1": (3.0, 2.0, 2.0),
    "spine2": (3.0, 2.0, 2.0),
    "spine3": (3.0, 2.0, 2.0),
    "neck": (2.0, 1.5, 1.5),
    "head": (3.0, 2.0, 1.5),
    "collar": (6.0, 6.0, 6.0),
    "shoulder": (0.2, 0.2, 0.2),
    "elbow": (1.0, 0.2, 0.2),
    "wrist": (4.0, 4.0, 4.0),
    "hip": (1.0, 0.1, 1.0),
    "knee": (8.0, 0.1, 5.0),
    "ankle": (2.0, 0.5, 2.0),
    "toe": (20.0, 3.0, 20.0),
}
"""Weights of turns about a bone's axes; the pelvis' are those of its lean aside and forward."""


def _sided(table: dict, bone: str) -> tuple[object, bool]:
    """Return the entry of a bone, and whether it is the mirror image."""
    side, _, part = bone.partition("_")
    if side in ("left", "right") and part in table:
        return table[part], side == "right"
    return table.get(bone), False


def _rest_posture() -> np.ndarray:
    vectors = np.zeros((len(BONE_NAMES), 3))
    for index, bone in enumerate(BONE_NAMES):
        entry, mirrored = _sided(_EASY, bone)
        if entry is not None:
            # Mirroring at the sagittal plane keeps turns about y and flips the others.
            vectors[index] = np.asarray(entry) * ((-1, 1, -1) if mirrored else (1, 1, 1))
    return np.asarray(quat_from_rotvec(vectors))


def limit_boxes() -> tuple[np.ndarray, np.ndarray]:
    """Return lowest and highest rotation vectors (22, 3) of all bones against REST_POSTURE, rad."""
    low, high = np.zeros((len(BONE_NAMES), 3)), np.zeros((len(BONE_NAMES), 3))
    for index, bone in enumerate(BONE_NAMES):
        entry, mirrored = _sided(_LIMITS, bone)
        box = np.asarray(entry, dtype=np.float64)
        if mirrored:
            box = np.stack([-box[0, ::-1], box[1], -box[2, ::-1]])
        low[index], high[index] = box[:, 0], box[:, 1]
    return low, high


def _ease() -> np.ndarray:
    weights = np.zeros((len(BONE_NAMES), 3))
    for index, bone in enumerate(BONE_NAMES):
        # Squares do not see the mirror.
        weights[index] = np.asarray(_sided(_EASE, bone)[0])
    return weights


REST_POSTURE = _rest_posture()
"""Easy standing posture: local rotations (22, 4), wxyz, arms hanging."""
EASE_WEIGHTS = _ease()
"""Weights (22, 3) of turns against REST_POSTURE about each bone's axes: what a task seldom needs costs much."""
_LOW, _HIGH = limit_boxes()


def limit_excess(turn: torch.Tensor) -> torch.Tensor:
    """Return how far rotation vectors (B, 21, 3) against REST_POSTURE, of all bones but the pelvis, exceed the limits.

    Returns:
        The signed excess (B, 21, 3), rad; zero within the limits.
    """
    low = torch.as_tensor(_LOW[1:], dtype=turn.dtype, device=turn.device)
    high = torch.as_tensor(_HIGH[1:], dtype=turn.dtype, device=turn.device)
    return (turn - high).clamp_min(0) - (low - turn).clamp_min(0)
