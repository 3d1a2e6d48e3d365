"""The terms of the articulated fit, as residuals with derivatives."""

from __future__ import annotations

import torch

from bodydouble.frames import quat_mul, quat_rotate, quat_to_rotvec
from perception.body.anny_body import BodyState
from perception.body.anny_data import BONE_NAMES
from perception.body.jacobian import SIZE, Motions, log_rows
from perception.body.limits import EASE_WEIGHTS, REST_POSTURE, limit_excess
from perception.clip_solver import ClipEquations
from perception.fit_config import FitConfig
from perception.skin import Matches, Skin, gather

FLOATING = 64
"""Skin vertices of a frame that are pulled out of free space, those that float farthest."""


def robust_weight(squared: torch.Tensor, reach: float) -> torch.Tensor:
    """Return weights of squared residuals that give the gradient of Geman and McClure's cost r^2 / (r^2 + reach^2)."""
    return reach**2 / (squared + reach**2) ** 2


def add_data(
    equations: ClipEquations,
    motions: Motions,
    skin: Skin,
    state: BodyState,
    normals: torch.Tensor,
    points: torch.Tensor,
    found: Matches,
    visible: torch.Tensor,
    config: FitConfig,
    reach: float,
    seen: torch.Tensor | None = None,
    by_shape: torch.Tensor | None = None,
    start: int = 0,
) -> torch.Tensor:
    """Add both ways between points and skin; return the cost (B,) in units of the reach squared.

    All residuals of a vertex lie along its normal, so their weighted mean stands for them: one row per vertex.

    Args:
        equations: The sum.
        motions: The body's derivatives.
        skin: The sampled skin.
        state: The posed body.
        normals: The skin's normals (B, V, 3).
        points: The person's points (B, P, 3).
        found: Which of them belong together.
        visible: Vertices that a camera should have seen (B, V), bool: only these are pulled to points.
        config: Weights.
        reach: Distance at which a correspondence has lost most of its pull, m.
        seen: Frames that show the person (B,), bool.
        by_shape: Derivatives (B, V, 5) along the normals by the shape.
        start: First frame.
    """
    vertices = state.vertices
    assert vertices is not None
    delta = points - gather(vertices, found.vertex)
    residual = (delta * gather(normals, found.vertex)).sum(-1)
    # The vertices are sampled: distances along the skin say whether a point belongs at all, not where.
    along = ((delta**2).sum(-1) - residual**2).clamp_min(0).sqrt()
    squared = residual**2 + (along - 0.05).clamp_min(0) ** 2
    weight = robust_weight(squared, reach) / points.shape[1]
    cost = (squared / (squared + reach**2)).mean(dim=1)

    back = gather(points, found.point) - vertices
    back_residual = (back * normals).sum(-1)
    back_along = ((back**2).sum(-1) - back_residual**2).clamp_min(0).sqrt()
    back_squared = back_residual**2 + (back_along - 0.05).clamp_min(0) ** 2
    share = visible.to(points.dtype)
    share = config.surface_to_points * share / share.sum(1, keepdim=True).clamp_min(1)
    back_weight = robust_weight(back_squared, reach) * share
    cost = cost + (share * back_squared / (back_squared + reach**2)).sum(1)

    total = back_weight.scatter_add(1, found.vertex, weight)
    pull = (back_weight * back_residual).scatter_add(1, found.vertex, weight * residual)
    mean = pull / total.clamp_min(1e-12)
    if seen is not None:
        total = total * seen[:, None]
    rows = motions.rows(vertices, normals, skin.influence)
    equations.add(-rows, mean, total, None if by_shape is None else -by_shape, start)
    return cost


def add_free_space(
    equations: ClipEquations,
    motions: Motions,
    skin: Skin,
    state: BodyState,
    points: torch.Tensor,
    found: Matches,
    floating: torch.Tensor,
    config: FitConfig,
    seen: torch.Tensor,
    start: int = 0,
) -> None:
    """Pull skin that floats where a camera saw through it to the nearest point, straight and from farther away.

    Args:
        equations: The sum.
        motions: The body's derivatives.
        skin: The sampled skin.
        state: The posed body.
        points: The person's points (B, P, 3).
        found: Which of them belong together.
        floating: How far skin lies in front of what was measured (B, V), m.
        config: Weights.
        seen: Frames that show the person (B,), bool.
        start: First frame.
    """
    vertices = state.vertices
    assert vertices is not None
    excess, index = floating.topk(min(FLOATING, floating.shape[1]), dim=1)
    at = gather(vertices, index)
    way = gather(points, gather(found.point, index)) - at
    distance = way.norm(dim=-1)
    weight = config.free / floating.shape[1] * robust_weight(distance**2, config.free_reach_m)
    weight = weight * (excess > config.free_m) * seen[:, None]
    direction = way / distance.clamp_min(1e-6)[..., None]
    influence = gather(skin.influence.expand(len(vertices), -1, -1), index)
    equations.add(-motions.rows(at, direction, influence), distance, weight, start=start)


def turns_against_rest(pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rotation vectors (B, 21, 3) of all bones but the pelvis against REST_POSTURE, and derivatives (B, 63, 69).

    Args:
        pose: Local bone rotations (B, 22, 4), wxyz.
    """
    rest = torch.as_tensor(REST_POSTURE, dtype=pose.dtype)[1:]
    conjugate = rest * torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=pose.dtype)
    turn = quat_to_rotvec(quat_mul(conjugate.expand(len(pose), -1, -1), pose[:, 1:]))
    blocks = log_rows(turn, rest)
    rows = torch.zeros(len(pose), len(BONE_NAMES) - 1, 3, SIZE, dtype=pose.dtype)
    for bone in range(len(BONE_NAMES) - 1):
        rows[:, bone, :, 6 + 3 * bone : 9 + 3 * bone] = blocks[:, bone]
    return turn, rows.flatten(1, 2)


def add_posture(
    equations: ClipEquations, pose: torch.Tensor, state: BodyState, config: FitConfig, start: int = 0
) -> torch.Tensor:
    """Add posture, limits and lean of single frames; return their cost (B,)."""
    turn, rows = turns_against_rest(pose)
    ease = torch.as_tensor(EASE_WEIGHTS, dtype=pose.dtype)
    excess = limit_excess(turn)
    easy = (config.posture * ease[1:]).flatten().expand(len(pose), -1)
    over = excess.flatten(1)
    strict = config.limits * (over != 0)
    # The same rows twice: what both pull to is a weighted mean.
    both = easy + strict
    equations.add(rows, (easy * turn.flatten(1) + strict * over) / both, both, start=start)

    # Heights of the pelvis' x and y axes: leaning forward and aside, whatever the heading.
    axes = torch.eye(3, dtype=pose.dtype)[:2].expand(len(pose), -1, -1)
    axes = quat_rotate(state.joint_quat[:, :1].expand(-1, 2, -1), axes)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=pose.dtype)
    lean_rows = torch.zeros(len(pose), 2, SIZE, dtype=pose.dtype)
    lean_rows[:, :, 3:6] = torch.linalg.cross(axes, up.expand_as(axes))
    lean = axes[..., 2]
    lean_weight = config.posture * ease[0, [1, 0]].expand(len(pose), -1)
    equations.add(lean_rows, lean, lean_weight, start=start)
    return (easy * turn.flatten(1) ** 2).sum(1) + config.limits * (over**2).sum(1) + (lean_weight * lean**2).sum(1)
