"""The whole clip at once: all frames, one shape, one banded system per Gauss-Newton step.

First at a low rate, which finds poses and shape, then at the full rate with the shape kept and the feet that stand
pinned to where they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from bodydouble.errors import InputError
from perception.body.anny_body import BodyState, RestBody
from perception.body.anny_data import BONE_NAMES
from perception.body.jacobian import JOINT_INFLUENCE, SIZE, Motions, stepped
from perception.clip_solver import ClipEquations
from perception.contact_chain import persistent
from perception.fit_config import FitConfig
from perception.fit_terms import add_data, add_free_space, add_posture, turns_against_rest
from perception.scene_field import SceneField
from perception.scene_terms import ANKLES, SOLES, add_flat_feet, add_scene, planted_soles
from perception.sight import Sight
from perception.skin import Eyes, Matches, Skin, gather, match

BATCH = 16
"""Frames whose equations are made at a time: what they need fits the processor's cache."""
COARSE_SHARE = 0.7
"""Share of the way from first to final reach that the coarse pass goes."""


class FitTerm(Protocol):
    """A further term of the fit, such as the reprojection of keypoints."""

    def add(self, equations: ClipEquations, motions: Motions, state: BodyState, frames: np.ndarray, start: int) -> None:
        """Add residuals of some frames with `equations.add(rows, residual, weight, start=start)`.

        Args:
            equations: The sum; a frame's other data terms have weights that add up to about 1 / reach^2 = 400 / m^2.
            motions: Derivatives of the body's points (`point_rows`).
            state: The posed body, B frames.
            frames: Which of the person's frames these are (B,).
            start: Where `equations` has the first of them.
        """
        ...


@dataclass(frozen=True)
class Clip:
    """What the fit looks at. T frames, P points."""

    skin: Skin
    """The sampled body."""
    fine: Skin
    """The same with more skin, for the last steps."""
    points: torch.Tensor
    """Points on the person (T, P, 3), world, m."""
    eyes: Eyes
    """The cameras that saw them."""
    seen: torch.Tensor
    """Frames that show the person (T,), bool."""
    field: SceneField
    """Distances to the scene."""
    fps: float
    """Frames per second."""
    frames: np.ndarray
    """Which of the person's frames these are (T,)."""
    sight: Sight | None = None
    """What the cameras measured."""
    terms: Sequence[FitTerm] = ()
    """Further terms."""

    def every(self, stride: int) -> Clip:
        """Return every stride-th frame."""
        index = np.arange(0, len(self.frames), stride)
        return replace(
            self,
            points=self.points[index],
            eyes=self.eyes.part(torch.as_tensor(index)),
            seen=self.seen[index],
            fps=self.fps / stride,
            frames=self.frames[index],
            sight=None if self.sight is None else self.sight.part(index),
        )


@dataclass(frozen=True)
class ClipPose:
    """The body in all frames of a clip."""

    pose: torch.Tensor
    """Local bone rotations (T, 22, 4), wxyz."""
    root: torch.Tensor
    """Pelvis (T, 3), world, m."""
    shape: torch.Tensor
    """Shape parameters (S,)."""


def refine(clip: Clip, body: ClipPose, config: FitConfig) -> ClipPose:
    """Return the body fitted to all frames together, smooth in time, on planted feet.

    Args:
        clip: The points and the scene.
        body: The body to begin with.
        config: Settings.

    Raises:
        InputError: The fit diverged.
    """
    stride = max(1, round(clip.fps / config.coarse_hz))
    coarse = clip.every(stride)
    if len(coarse.frames) > 3 and stride > 1:
        few = ClipPose(body.pose[::stride], body.root[::stride], body.shape)
        few = _steps(coarse, few, np.linspace(0, COARSE_SHARE, config.coarse_iterations), True, config)
        pose, root = between(np.arange(0, len(clip.frames), stride), few.pose, few.root, len(clip.frames))
        body = ClipPose(pose, root, few.shape)
    else:
        body = _steps(clip, body, np.linspace(0, COARSE_SHARE, config.coarse_iterations), True, config)
    return _steps(clip, body, np.linspace(COARSE_SHARE, 1, config.iterations), False, config)


def _steps(clip: Clip, body: ClipPose, progress: np.ndarray, with_shape: bool, config: FitConfig) -> ClipPose:
    pose, root, shape = body.pose, body.root, body.shape
    what = "fitting pose and shape" if with_shape else "fitting every frame"
    for index, done in enumerate(track(progress, what, console=Console(stderr=True))):
        # At the lower rate a short step is hardly there; only what the points say at the full rate tells it from a foot
        # that stands, and a foot once pinned across a step does not come loose.
        free = not with_shape and index < config.free_steps
        # Between few vertices skin is flat, and limbs seem thinner than they are: what is left of that is for the end.
        fine = index >= len(progress) - config.fine_steps
        clip = replace(clip, skin=clip.fine) if fine else clip
        step, shape_step = _clip_step(clip, ClipPose(pose, root, shape), float(done), with_shape, free, config)
        if not torch.isfinite(step).all():
            raise InputError("the fit diverged; raise config.fit.damping")
        pose, root = stepped(pose, root, limited(step))
        if with_shape:
            model = clip.skin.body
            largest = model.shape_spread / 2
            shape = (shape + shape_step.clamp(-largest, largest)).clamp(model.shape_low, model.shape_high)
    return ClipPose(pose, root, shape)


def limited(step: torch.Tensor) -> torch.Tensor:
    """Return steps (B, 69) of at most 10 cm and 0.4 rad."""
    return torch.cat([step[:, :3].clamp(-0.1, 0.1), step[:, 3:].clamp(-0.4, 0.4)], dim=1)


def between(keys: np.ndarray, pose: torch.Tensor, root: torch.Tensor, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return poses (T, 22, 4) and roots (T, 3) of all frames, interpolated between key frames (K,)."""
    place = np.clip(np.searchsorted(keys, np.arange(frames), side="right") - 1, 0, len(keys) - 2)
    share = np.clip((np.arange(frames) - keys[place]) / (keys[place + 1] - keys[place]), 0, 1)
    weight = torch.as_tensor(share, dtype=torch.float32)
    before, after = pose[place], pose[place + 1]
    sign = torch.where((before * after).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    mixed = (1 - weight[:, None, None]) * before + weight[:, None, None] * sign * after
    mixed = mixed / mixed.norm(dim=-1, keepdim=True)
    return mixed, (1 - weight[:, None]) * root[place] + weight[:, None] * root[place + 1]


def skin_of(state: BodyState) -> torch.Tensor:
    """Return the skin's places (B, V, 3)."""
    assert state.vertices is not None
    return state.vertices


def expected(
    clip: Clip, state: BodyState, normals: torch.Tensor, found: Matches, config: FitConfig, reach: float, start: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which skin a camera should have seen (B, V), bool, and how far skin floats where it saw through (B, V), m.

    Skin faces a camera, is not hidden behind what that camera measured, and is not so near the scene that it was cut
    away with it.
    """
    vertices = skin_of(state)
    apart = clip.field.read(vertices)[0] > config.sole_m
    if clip.sight is None:
        return found.facing & apart, torch.zeros(vertices.shape[:2])
    near, far = clip.sight.look(vertices, start)
    way = torch.nn.functional.normalize(clip.sight.eyes(start, len(vertices))[:, :, None] - vertices[:, None], dim=-1)
    facing = (way * normals[:, None]).sum(-1) > 0.3
    # At first the body may lie deep behind its own points; NaN compares false: without a reading nothing was seen.
    visible = (facing & (far > -2 * reach)).any(dim=1) & apart
    return visible, near.nan_to_num(0.0).amax(dim=1)


def _clip_step(
    clip: Clip, body: ClipPose, progress: float, with_shape: bool, free_feet: bool, config: FitConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the Gauss-Newton step of all frames (T, 69) and of the shape (S,); progress goes from 0 to 1."""
    frames = len(body.pose)
    equations = ClipEquations(frames, SIZE, len(body.shape) if with_shape else 0)
    by_shape = clip.skin.rest_by_shape(body.shape) if with_shape else None
    reach = config.reach_m + (config.final_reach_m - config.reach_m) * min(1.0, 1.5 * progress)
    joint_rows, turn_rows, turns, joints = [], [], [], []
    for start in range(0, frames, BATCH):
        part = slice(start, start + BATCH)
        state, motions = _add_frames(equations, clip, body, by_shape, reach, config, start)
        joints.append(state.joint_pos)
        joint_rows.append(motions.point_rows(state.joint_pos, JOINT_INFLUENCE))
        turn, rows = turns_against_rest(body.pose[part])
        turns.append(turn)
        turn_rows.append(rows)
    rows, places, turning = torch.cat(joint_rows), torch.cat(joints), torch.cat(turns).flatten(1)
    per_joint = config.smooth * (clip.fps**2 / 10) ** 2 / places.shape[1]
    equations.add_accelerations(rows.flatten(1, 2), places.flatten(1), torch.full((3 * places.shape[1],), per_joint))
    per_bone = config.steady * (clip.fps**2 / 100) ** 2 / len(BONE_NAMES)
    equations.add_accelerations(torch.cat(turn_rows), turning, torch.full((turning.shape[1],), per_bone))
    if not free_feet:
        _add_planted(equations, clip, rows, places, progress, config)
    if with_shape:
        model = clip.skin.body
        equations.add_shared(body.shape - model.shape_mean, config.shape * frames * (0.2 / model.shape_spread) ** 2)
    return equations.solve(config.damping)


def _add_frames(
    equations: ClipEquations,
    clip: Clip,
    body: ClipPose,
    by_shape: RestBody | None,
    reach: float,
    config: FitConfig,
    start: int,
) -> tuple[BodyState, Motions]:
    """Add what a batch of frames says by itself; return the posed body and its derivatives."""
    part = slice(start, start + BATCH)
    state, normals = clip.skin.pose(body.pose[part], body.root[part], body.shape)
    motions = Motions(state)
    found = match(skin_of(state), normals, clip.points[part], clip.eyes.part(part))
    visible, floating = expected(clip, state, normals, found, config, reach, start)
    rows = None if by_shape is None else clip.skin.shape_rows(state, normals, by_shape)
    add_data(
        equations, motions, clip.skin, state, normals, clip.points[part], found, visible, config, reach,
        seen=clip.seen[part], by_shape=rows, start=start,
    )  # fmt: skip
    if clip.sight is not None:
        add_free_space(
            equations, motions, clip.skin, state, clip.points[part], found, floating, config, clip.seen[part], start
        )
    add_posture(equations, body.pose[part], state, config, start)
    add_scene(equations, motions, clip.skin, state, clip.field, config, start)
    for term in clip.terms:
        term.add(equations, motions, state, clip.frames[part], start)
    return state, motions


def _add_planted(
    equations: ClipEquations,
    clip: Clip,
    rows: torch.Tensor,
    joints: torch.Tensor,
    progress: float,
    config: FitConfig,
) -> None:
    """Add planted feet that neither move nor leave the scene, of joints (T, J, 3) with derivatives (T, J, 3, 69)."""
    soles = joints[:, SOLES]
    height, upward = clip.field.read(soles)
    planted = planted_soles(height, soles, clip.fps, 1.0 - progress)
    firm = torch.ones_like(planted)
    if progress > COARSE_SHARE:
        sure = torch.as_tensor(persistent(planted.double().numpy(), max(1.0, 0.3 * clip.fps)), dtype=torch.float32)
        firm = torch.where(sure > 0.5, config.pinned, 1.0)
        planted = torch.where(sure > 0.5, 1.0, planted)
    weight = config.planted * clip.fps**2 / len(SOLES) * planted * firm
    # Heels come before balls.
    both = torch.minimum(weight[:, :2], weight[:, 2:])
    weight = torch.cat([weight, both], dim=1).repeat_interleave(3, dim=1)
    still = SOLES + ANKLES
    equations.add_differences(rows[:, still].flatten(1, 2), joints[:, still].flatten(1), weight)
    level = torch.cat([planted[:1], 0.5 * (planted[1:] + planted[:-1]), planted[-1:]])
    along = (rows[:, SOLES] * upward[..., None]).sum(2)
    equations.add(along, height, (config.level / len(SOLES)) * level)
    add_flat_feet(equations, soles, rows[:, SOLES], upward, level[:, :2], config)


def residuals(clip: Clip, body: ClipPose) -> torch.Tensor:
    """Return the median distance (T,) of each frame's points to the body's fine skin, m; 0 where nobody was seen."""
    residual = torch.zeros(len(body.pose))
    for start in range(0, len(body.pose), BATCH):
        part = slice(start, start + BATCH)
        state, normals = clip.fine.pose(body.pose[part], body.root[part], body.shape)
        points = clip.points[part]
        found = match(skin_of(state), normals, points, clip.eyes.part(part))
        gap = (points - gather(skin_of(state), found.vertex)) * gather(normals, found.vertex)
        residual[part] = gap.sum(-1).abs().median(dim=1).values * clip.seen[part]
    return residual
