"""Analytic inverse kinematics of the body's limbs, over whole clips at once."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def _unit(vec: Array) -> Array:
    return vec / np.maximum(np.linalg.norm(vec, axis=-1, keepdims=True), 1e-9)


def _basis(along: Array, hinge: Array) -> Array:
    """Return frames (..., 3, 3) whose columns are `along`, the hinge made orthogonal to it, and their product."""
    x = _unit(along)
    y = _unit(hinge - np.sum(hinge * x, axis=-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def two_bone(
    start: Array, target: Array, upper: Array, lower: Array, bend: Array, hinge: Array
) -> tuple[Array, Array, Array]:
    """Bend a two-bone limb so that its end is at the target.

    Targets out of reach are pulled to 99.9 % of the limb's length.

    Args:
        start: Root joint of the limb (T, 3), world, m.
        target: Wanted end (T, 3), world, m.
        upper: Rest vector of the first bone (3,), m.
        lower: Rest vector of the second bone (3,), m.
        bend: Direction (T, 3), world, towards which the middle joint points.
        hinge: Rest hinge axis (3,) about which a positive turn folds the limb that way.

    Returns:
        World rotations (T, 3, 3) of the first and the second bone relative to rest, and the ends reached (T, 3).
    """
    a, b = np.linalg.norm(upper), np.linalg.norm(lower)
    reach = target - start
    distance = np.clip(np.linalg.norm(reach, axis=-1), abs(a - b) + 1e-3, 0.999 * (a + b))
    direction = _unit(reach)
    # Law of cosines: how far along and how far aside of the line to the target the middle joint lies.
    along = (a * a - b * b + distance**2) / (2 * distance)
    aside = np.sqrt(np.maximum(a * a - along**2, 0.0))
    side = _unit(bend - np.sum(bend * direction, axis=-1, keepdims=True) * direction)
    middle = start + along[:, None] * direction + aside[:, None] * side
    end = start + distance[:, None] * direction
    axis = np.cross(direction, side)
    first = _basis(middle - start, axis) @ _basis(upper, hinge).T
    second = _basis(end - middle, axis) @ _basis(lower, hinge).T
    return first, second, end
