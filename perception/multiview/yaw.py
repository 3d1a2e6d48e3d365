"""Alignment of two worlds that are both upright: a turn about Z, a shift, and a scale where asked for."""

from __future__ import annotations

import numpy as np

from bodydouble.errors import InputError


def yaw_matrix(yaw: np.ndarray | float) -> np.ndarray:
    """Return the rotations (..., 3, 3) about Z by angles (...), rad."""
    c, s = np.cos(yaw), np.sin(yaw)
    zero, one = np.zeros_like(c), np.ones_like(c)
    return np.stack(
        [np.stack([c, -s, zero], axis=-1), np.stack([s, c, zero], axis=-1), np.stack([zero, zero, one], axis=-1)],
        axis=-2,
    )


def best_yaw(covariance: np.ndarray) -> np.ndarray:
    """Return the turns (...) about Z, rad, that take x to y best, from sums of y x^T (..., 3, 3), both centred.

    EmbodMocap (arXiv 2602.23205), equation 1, in closed form.
    """
    c = covariance
    return np.arctan2(c[..., 1, 0] - c[..., 0, 1], c[..., 0, 0] + c[..., 1, 1])


def yaw_alignment(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None, *, with_scale: bool = False
) -> tuple[float, float, np.ndarray]:
    """Return scale, yaw (rad) and shift (3,) that take source to target best: s Rz(yaw) x + shift.

    EmbodMocap (arXiv 2602.23205), equation 1: weighted least squares, the rotation about Z only, in closed form.

    Args:
        source: Points (N, 3), m.
        target: Where they are in the other world (N, 3), m.
        weight: Weights (N,), at least 0; all 1 where not given.
        with_scale: Whether the scale is found too; it is 1 otherwise.

    Raises:
        InputError: The shapes differ, or the points do not spread sideways, so that any yaw would do.
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        raise InputError(f"points of shapes {source.shape} and {target.shape}, expected (N, 3) twice")
    w = np.ones(len(source)) if weight is None else np.asarray(weight, dtype=np.float64)
    w = w / max(w.sum(), 1e-300)
    mean_source, mean_target = w @ source, w @ target
    x, y = source - mean_source, target - mean_target
    if (w @ x[:, :2] ** 2).sum() < 1e-12:
        raise InputError("the points lie on one upright line; a turn about it cannot be seen")
    yaw = float(best_yaw((w[:, None] * y).T @ x))
    turned = x @ yaw_matrix(yaw).T
    scale = float(w @ (y * turned).sum(axis=1)) / float(w @ (turned**2).sum(axis=1)) if with_scale else 1.0
    return scale, yaw, mean_target - scale * yaw_matrix(yaw) @ mean_source
