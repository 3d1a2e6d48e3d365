"""Terminations of the tracking task: when an episode counts as failed, each (N,) bool."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from sim.tasks.tracking.config import TerminationConfig
from sim.tasks.tracking.rewards import TrackingSample

Array = Any


def far_from_reference(s: TrackingSample, c: TerminationConfig) -> Array:
    """Whether the base is horizontally far from the reference."""
    delta = (s.root_pos - s.ref_root_pos)[..., :2]
    return array_namespace(delta).sum(delta * delta, axis=-1) > c.root_pos**2


def wrong_height(s: TrackingSample, c: TerminationConfig) -> Array:
    """Whether the base is too high or too low."""
    delta = s.root_pos[..., 2] - s.ref_root_pos[..., 2]
    return array_namespace(delta).abs(delta) > c.root_height


def tilted(s: TrackingSample, c: TerminationConfig) -> Array:
    """Whether the base's vertical leans away from the reference's."""
    xp = array_namespace(s.root_quat)

    def up(quat: Array) -> Array:
        w, x, y, z = (quat[..., i] for i in range(4))
        return xp.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], axis=-1)

    cosine = xp.sum(up(s.root_quat) * up(s.ref_root_quat), axis=-1)
    return xp.acos(xp.clip(cosine, -1.0, 1.0)) > c.tilt


def foot_wrong_height(s: TrackingSample, c: TerminationConfig) -> Array:
    """Whether a foot is far above or below its reference."""
    xp = array_namespace(s.foot_pos)
    return xp.any(xp.abs(s.foot_pos[..., 2] - s.ref_foot_pos[..., 2]) > c.foot_height, axis=-1)


TERMINATIONS = {
    "far_from_reference": far_from_reference,
    "wrong_height": wrong_height,
    "tilted": tilted,
    "foot_wrong_height": foot_wrong_height,
}
"""Every termination by name, the one that counts first when several hold at once before the others."""


def cause(s: TrackingSample, c: TerminationConfig) -> Array:
    """Return why an episode failed (N,), int64: 0 it did not, k the k-th of TERMINATIONS, counted from 1."""
    xp = array_namespace(s.root_pos)
    result = xp.zeros(s.root_pos.shape[0], dtype=xp.int64, device=s.root_pos.device)
    for index, holds in reversed(list(enumerate(TERMINATIONS.values(), 1))):
        result = xp.where(holds(s, c), index, result)
    return result
