"""The terms of the articulated fit, as residuals with derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bodydouble.frames import quat_mul, quat_rotate, quat_to_rotvec
from perception.body.anny_body import JOINT_NAMES, BodyState
from perception.body.anny_data import BONE_NAMES
from perception.body.jacobian import JOINT_INFLUENCE, SIZE, Motions, log_rows
from perception.body.limits import EASE_WEIGHTS, REST_POSTURE, limit_excess
from perception.clip_solver import ClipEquations
from perception.skin import Matches, Skin, gather

SOLES = [JOINT_NAMES.index(f"{side}_{part}") for part in ("heel", "ball") for side in ("left", "right")]
"""Points under the feet."""


@dataclass(frozen=True)
class FitWeights:
    """Weights of the fit's terms."""

    reach_m: float = 0.12
    """Distance at which a correspondence has lost most of its pull, at first, m."""
    final_reach_m: float = 0.05
    """The same at the end, m."""
    surface_to_points: float = 0.3
    """Weight of the way back, from the body to the points."""
    sole_m: float = 0.08
    """Height over the floor below which a foot is not told from the floor, m."""
    posture: float = 0.002
    """Weight of the easy posture."""
    limits: float = 0.2
    """Weight of the joint limits."""
    smooth: float = 0.02
    """Weight of the joints' accelerations, in units of 10 m/s^2."""
    steady: float = 0.02
    """Weight of the local rotations' accelerations, in units of 100 rad/s^2."""
    floor: float = 100.0
    """Weight of feet under the floor, 1/m^2."""
    afloat: float = 20.0
    """Weight of a body whose lower foot is off the floor, 1/m^2."""
    planted: float = 1.0
    """Weight of moving planted feet, s^2/m^2."""
    level: float = 50.0
    """Weight of planted soles off the floor, 1/m^2."""
    shape: float = 0.002
    """Weight of an average shape."""


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
    floor_z: float,
    config: FitWeights,
    reach: float,
    seen: torch.Tensor | None = None,
    by_shape: torch.Tensor | None = None,
    start: int = 0,
) -> torch.Tensor:
    """Add both ways between points and skin; return the cost (B,) in units of the reach squared."""
    vertices = state.vertices
    assert vertices is not None
    at, normal = gather(vertices, found.vertex), gather(normals, found.vertex)
    delta = points - at
    residual = (delta * normal).sum(-1)
    # The vertices are sampled: distances along the skin say whether a point belongs at all, not where.
    along = ((delta**2).sum(-1) - residual**2).clamp_min(0).sqrt()
    squared = residual**2 + (along - 0.05).clamp_min(0) ** 2
    weight = robust_weight(squared, reach) / points.shape[1]
    cost = (squared / (squared + reach**2)).mean(dim=1)

    back = gather(points, found.point) - vertices
    back_residual = (back * normals).sum(-1)
    back_along = ((back**2).sum(-1) - back_residual**2).clamp_min(0).sqrt()
    back_squared = back_residual**2 + (back_along - 0.05).clamp_min(0) ** 2
    # What stands on the floor is cut away with the floor: no point is there to go to.
    facing = (found.facing & (vertices[..., 2] > floor_z + config.sole_m)).to(points.dtype)
    share = config.surface_to_points * facing / facing.sum(1, keepdim=True).clamp_min(1)
    back_weight = robust_weight(back_squared, reach) * share
    cost = cost + (share * back_squared / (back_squared + reach**2)).sum(1)

    influence = skin.influence.expand(len(vertices), -1, -1)
    own = motions.rows(vertices, normals, skin.influence)
    rows = motions.rows(points - normal * residual[..., None], normal, gather(influence, found.vertex))
    rows, residual = torch.cat([-rows, -own], dim=1), torch.cat([residual, back_residual], dim=1)
    weight = torch.cat([weight, back_weight], dim=1)
    if seen is not None:
        weight = weight * seen[:, None]
    shared = None
    if by_shape is not None:
        own_shape = torch.einsum("bvc,bvcs->bvs", normals, by_shape)
        shared = -torch.cat([gather(own_shape, found.vertex), own_shape], dim=1)
    equations.add(rows, residual, weight, shared, start)
    return cost


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
    equations: ClipEquations,
    motions: Motions,
    pose: torch.Tensor,
    state: BodyState,
    floor_z: float,
    config: FitWeights,
    start: int = 0,
) -> torch.Tensor:
    """Add posture, limits, lean and floor of single frames; return their cost (B,)."""
    turn, rows = turns_against_rest(pose)
    ease = torch.as_tensor(EASE_WEIGHTS, dtype=pose.dtype)
    excess = limit_excess(turn)
    easy = (config.posture * ease[1:]).flatten().expand(len(pose), -1)
    equations.add(rows, turn.flatten(1), easy, start=start)
    over = excess.flatten(1)
    equations.add(rows, over, config.limits * (over != 0), start=start)

    # Heights of the pelvis' x and y axes: leaning forward and aside, whatever the heading.
    axes = torch.eye(3, dtype=pose.dtype)[:2].expand(len(pose), -1, -1)
    axes = quat_rotate(state.joint_quat[:, :1].expand(-1, 2, -1), axes)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=pose.dtype)
    lean_rows = torch.zeros(len(pose), 2, SIZE, dtype=pose.dtype)
    lean_rows[:, :, 3:6] = torch.linalg.cross(axes, up.expand_as(axes))
    lean = axes[..., 2]
    lean_weight = config.posture * ease[0, [1, 0]].expand(len(pose), -1)
    equations.add(lean_rows, lean, lean_weight, start=start)

    soles = state.joint_pos[:, SOLES]
    height = soles[..., 2] - floor_z
    up_rows = motions.rows(soles, up.expand_as(soles), JOINT_INFLUENCE[SOLES])
    sunk = config.floor * (height < 0)
    # Somebody who does not jump stands on the floor with something; on a step or a seat the pull fades.
    lowest = torch.nn.functional.one_hot(height.argmin(dim=1), len(SOLES)) * (height > 0)
    afloat = config.afloat * lowest / (1 + (height / 0.1) ** 2) ** 2
    equations.add(up_rows, height, (sunk + afloat).to(pose.dtype), start=start)
    return (
        (easy * turn.flatten(1) ** 2).sum(1)
        + config.limits * (over**2).sum(1)
        + (lean_weight * lean**2).sum(1)
        + ((sunk + afloat) * height**2).sum(1)
    )


def planted_soles(
    joint_pos: torch.Tensor, floor_z: float, fps: float, config: FitWeights, early: float
) -> torch.Tensor:
    """Return how surely each sole point stands still between frames (T - 1, 4): low and slow.

    Args:
        joint_pos: Joints and points (T, J, 3), world, m.
        floor_z: Height of the floor, m.
        fps: Frames per second.
        config: Weights.
        early: From 1 to 0 as the fit goes on: at first feet farther off the floor count too.
    """
    low = joint_pos[:, SOLES]
    height = (0.5 * (low[1:, :, 2] + low[:-1, :, 2]) - floor_z).clamp_min(0)
    # The fit still trembles: the mean motion over a sixth of a second counts.
    half = max(1, round(0.085 * fps))
    frames = torch.arange(len(low) - 1)
    before, after = (frames - half + 1).clamp_min(0), (frames + half).clamp_max(len(low) - 1)
    speed = (low[after] - low[before]).norm(dim=-1) * fps / (after - before)[:, None]
    near = 0.04 + 0.10 * early
    return torch.exp(-((height / near) ** 2)) * torch.exp(-((speed / 0.3) ** 2))
