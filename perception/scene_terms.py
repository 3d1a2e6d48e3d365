"""The fit's terms with the scene: soles and skin do not sink in, somebody stands on something, planted soles stay.

All read distances from a SceneField, so a step, a seat or a bed holds a body as the floor does.
"""

from __future__ import annotations

import torch

from perception.body.anny_body import JOINT_NAMES, BodyState
from perception.body.jacobian import JOINT_INFLUENCE, Motions
from perception.clip_solver import ClipEquations
from perception.fit_config import FitConfig
from perception.scene_field import SceneField
from perception.skin import Skin, gather

SOLES = [JOINT_NAMES.index(f"{side}_{part}") for part in ("heel", "ball") for side in ("left", "right")]
"""Points under the feet."""
ANKLES = [JOINT_NAMES.index(f"{side}_ankle") for side in ("left", "right")]
"""What stands still over a foot that stands on heel and ball: without it the foot could roll about the line between."""
STEEP = 0.8
"""Cosine to the vertical below which the normal of a surface is none that a foot stands on."""
DEEPEST = 64
"""Skin vertices of a frame that are pushed out of the scene, the deepest ones."""


def add_scene(
    equations: ClipEquations,
    motions: Motions,
    skin: Skin,
    state: BodyState,
    field: SceneField,
    config: FitConfig,
    start: int = 0,
) -> torch.Tensor:
    """Add soles and skin inside the scene, and a body that stands on nothing; return their cost (B,)."""
    soles = state.joint_pos[:, SOLES]
    height, upward = field.read(soles)
    sunk = config.floor * (height < 0)
    # Somebody who does not jump stands with something; for who sits or lies the pull fades.
    lowest = torch.nn.functional.one_hot(height.argmin(dim=1), len(SOLES)) * (height > 0)
    weight = sunk + config.afloat * lowest / (1 + (height / 0.1) ** 2) ** 2
    equations.add(motions.rows(soles, upward, JOINT_INFLUENCE[SOLES]), height, weight, start=start)
    cost = (weight * height**2).sum(1)

    vertices = state.vertices
    assert vertices is not None
    distance, outward = field.read(vertices)
    depth, index = (-distance).topk(min(DEEPEST, distance.shape[1]), dim=1)
    # Robust: skin deep inside says that the mesh is wrong there.
    weight = config.inside * (depth > 0) / (1 + (depth / config.inside_reach_m) ** 2) ** 2
    influence = gather(skin.influence.expand(len(vertices), -1, -1), index)
    rows = motions.rows(gather(vertices, index), gather(outward, index), influence)
    equations.add(rows, -depth, weight, start=start)
    return cost + (weight * depth**2).sum(1)


def add_flat_feet(
    equations: ClipEquations,
    soles: torch.Tensor,
    rows: torch.Tensor,
    upward: torch.Tensor,
    standing: torch.Tensor,
    config: FitConfig,
) -> None:
    """Pull feet flat whose heel stands: the ball comes to the heel's height over its surface.

    Points of a foot are cut away with what it stands on, and that may have a hole under the foot: then nothing else
    holds the ball.

    Args:
        equations: The sum, of T frames.
        soles: Sole points (T, 4, 3), world, m, in the order of SOLES.
        rows: Their derivatives (T, 4, 3, 69).
        upward: Outward normals of the scene there (T, 4, 3).
        standing: How likely each heel stands (T, 2).
        config: Weights.
    """
    up = upward[:, :2]
    along = ((rows[:, 2:] - rows[:, :2]) * up[..., None]).sum(2)
    rise = ((soles[:, 2:] - soles[:, :2]) * up).sum(-1)
    # Beside an edge the nearest surface is its side.
    weight = config.flat * torch.where(up[..., 2] < STEEP, 0.0, standing)
    equations.add(along, rise, weight)


def planted_soles(height: torch.Tensor, soles: torch.Tensor, fps: float, early: float) -> torch.Tensor:
    """Return how likely each sole point stands still between frames (T - 1, 4): near the scene and slow.

    Args:
        height: Distances to the scene (T, 4), m.
        soles: Sole points (T, 4, 3), world, m.
        fps: Frames per second.
        early: From 1 to 0 as the fit goes on: at first feet farther off the scene count too.
    """
    gap = 0.5 * (height[1:] + height[:-1]).clamp_min(0)
    # The fit still trembles: the mean motion over a sixth of a second counts.
    half = max(1, round(0.085 * fps))
    frames = torch.arange(len(soles) - 1)
    before, after = (frames - half + 1).clamp_min(0), (frames + half).clamp_max(len(soles) - 1)
    speed = (soles[after] - soles[before]).norm(dim=-1) * fps / (after - before)[:, None]
    near = 0.03 + 0.11 * early
    return torch.exp(-((gap / near) ** 2)) * torch.exp(-((speed / 0.2) ** 2))
