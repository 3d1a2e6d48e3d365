"""From a policy's action to joint position targets: one definition for training, the gate and the robot."""

from __future__ import annotations

from typing import Any

from bodydouble.arrays import array_namespace

Array = Any


def action_to_target(action: Array, ref_joint_pos: Array, scale: Array, lower: Array, upper: Array) -> Array:
    """Return joint position targets: the reference plus the scaled action, inside the joint limits.

    Args:
        action: Policy output (..., J), dimensionless.
        ref_joint_pos: Reference joint positions to reach at the end of this step (..., J), rad.
        scale: Action scale (J,), rad.
        lower: Lower joint limits (J,), rad.
        upper: Upper joint limits (J,), rad.

    Returns:
        Targets (..., J), rad.
    """
    xp = array_namespace(action)
    target = ref_joint_pos + scale * action
    return xp.minimum(xp.maximum(target, lower), upper)
