"""Articulated fit: the Anny body to the person's points, by Gauss-Newton steps.

First the body follows the person key frame by key frame, once for each of two opposite headings; then all frames of
the better track are solved together, with one shape, as one banded system.

Data: point to plane against the nearest body vertex that faces the camera of the point, and back from each vertex that
faces a camera to its nearest point, both robust (Geman and McClure). Priors: joint limits, an easy posture, smooth
joints, feet that stand still and level on the floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_rotvec, quat_mul
from perception.body.anny_body import BodyState
from perception.body.anny_data import BONE_NAMES, SHAPE_NAMES
from perception.body.jacobian import JOINT_INFLUENCE, SIZE, Motions, stepped
from perception.body.limits import REST_POSTURE
from perception.clip_solver import ClipEquations
from perception.fit_terms import SOLES, FitWeights, add_data, add_posture, planted_soles, turns_against_rest
from perception.segment import PersonPoints
from perception.skin import Skin, gather, match

_BATCH = 48


@dataclass(frozen=True)
class FitConfig(FitWeights):
    """How the body is fitted."""

    vertices: int = 500
    """Body vertices that take part."""
    track_hz: float = 6.0
    """Rate of the first pass, frame by frame, Hz."""
    track_iterations: int = 8
    """Steps per frame of the first pass."""
    headings: int = 8
    """Headings that are tried on the first frame."""
    iterations: int = 24
    """Steps of the second pass, over the whole clip."""
    damping: float = 0.02
    """What is added to the normal equations' diagonal: larger steps less far."""
    threads: int = 0
    """Threads of torch; 0 leaves it to torch."""


@dataclass(frozen=True)
class FittedBody:
    """The fitted clip. T frames."""

    pose: np.ndarray
    """Local bone rotations (T, 22, 4), wxyz."""
    root_pos: np.ndarray
    """Pelvis (T, 3), world, m."""
    shape: np.ndarray
    """Shape parameters (5,)."""
    joint_pos: np.ndarray
    """Joints and points (T, J, 3), world, m."""
    joint_quat: np.ndarray
    """Their orientations (T, J, 4), wxyz."""
    residual_m: np.ndarray
    """Median distance of the points to the body (T,), m."""


@torch.no_grad()
def fit_body(person: PersonPoints, floor_z: float, config: FitConfig) -> FittedBody:
    """Fit the body to a clip.

    Args:
        person: The person's points.
        floor_z: Height of the floor, world, m.
        config: Settings.

    Raises:
        InputError: Fewer than ten frames show the person, or the fit diverged.
    """
    seen = np.flatnonzero(person.count > 0)
    if len(seen) < 10:
        raise InputError(f"the person is seen in {len(seen)} frames, expected at least 10; record longer")
    if config.threads:
        torch.set_num_threads(config.threads)
    clip = _Clip(
        Skin(config.vertices),
        torch.as_tensor(person.points, dtype=torch.float32),
        torch.as_tensor(person.origin, dtype=torch.float32),
        torch.as_tensor(person.count > 0),
        floor_z,
        1e9 / float(np.median(np.diff(person.times_ns))),
    )
    step = max(1, round(clip.fps / config.track_hz))
    keys = seen[::step] if seen[::step][-1] == seen[-1] else np.append(seen[::step], seen[-1])
    pose, root = _follow(clip, keys, config)
    pose, root = _between(keys, pose, root, len(person.points))
    return _refine(clip, pose, root, config)


@dataclass(frozen=True)
class _Clip:
    skin: Skin
    points: torch.Tensor
    origin: torch.Tensor
    seen: torch.Tensor
    floor_z: float
    fps: float


def _average_shape() -> torch.Tensor:
    return torch.full((len(SHAPE_NAMES),), 0.5)


def _follow(clip: _Clip, keys: np.ndarray, config: FitConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Return poses (K, 22, 4) and roots (K, 3) of the key frames, each begun where the one before ended."""
    first = clip.points[keys[0]]
    top = torch.quantile(first[:, 2], 0.99)
    # The pelvis of a standing adult is a little above half the height.
    low = torch.stack([first[:, 0].mean(), first[:, 1].mean(), clip.floor_z + 0.54 * (top - clip.floor_z)])
    angles = torch.arange(config.headings) * (2 * np.pi / config.headings)
    pose = torch.as_tensor(REST_POSTURE, dtype=torch.float32).repeat(config.headings, 1, 1)
    pose[:, 0] = quat_from_rotvec(torch.stack([0 * angles, 0 * angles, angles], dim=1))
    pose, root, cost = _settle(clip, keys[0], pose, low.repeat(config.headings, 1), 4 * config.track_iterations, config)
    best = int(cost.argmin())
    # The best and its back to front: the whole track tells which way the person faces.
    about = quat_from_rotvec(torch.tensor([0.0, 0.0, np.pi]))
    pose, root = pose[[best, best]].clone(), root[[best, best]]
    pose[1] = torch.as_tensor(REST_POSTURE, dtype=torch.float32)
    pose[1, 0] = quat_mul(about, pose[0, 0])
    poses, roots, total = [], [], torch.zeros(2)
    centre = first.mean(dim=0)
    for index, key in enumerate(track(keys, "following the person", console=Console(stderr=True))):
        moved = clip.points[key].mean(dim=0)
        root = root + (moved - centre)
        centre = moved
        steps = config.track_iterations * (3 if index == 0 else 1)
        pose, root, cost = _settle(clip, key, pose, root, steps, config)
        poses.append(pose)
        roots.append(root)
        total += cost
    best = int(total.argmin())
    return torch.stack(poses)[:, best], torch.stack(roots)[:, best]


def _settle(
    clip: _Clip, frame: int, pose: torch.Tensor, root: torch.Tensor, iterations: int, config: FitConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return poses, roots and costs (B,) of several guesses at one frame after some steps."""
    shape = _average_shape()
    points, origin = (value[frame].expand(len(pose), -1, -1) for value in (clip.points, clip.origin))
    cost = torch.zeros(len(pose))
    for _ in range(iterations):
        state, normals = clip.skin.pose(pose, root, shape)
        equations = ClipEquations(len(pose), SIZE, 0)
        motions = Motions(state)
        found = match(_skin(state), normals, points, origin)
        cost = add_data(
            equations, motions, clip.skin, state, normals, points, found, clip.floor_z, config, config.reach_m
        )
        cost = cost + add_posture(equations, motions, pose, state, clip.floor_z, config)
        pose, root = stepped(pose, root, _limited(equations.solve_frames(config.damping)))
    return pose, root, cost


def _skin(state: BodyState) -> torch.Tensor:
    assert state.vertices is not None
    return state.vertices


def _limited(step: torch.Tensor) -> torch.Tensor:
    """Return steps of at most 10 cm and 0.4 rad."""
    return torch.cat([step[:, :3].clamp(-0.1, 0.1), step[:, 3:].clamp(-0.4, 0.4)], dim=1)


def _between(
    keys: np.ndarray, pose: torch.Tensor, root: torch.Tensor, frames: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return poses and roots of all frames, interpolated between key frames."""
    place = np.clip(np.searchsorted(keys, np.arange(frames), side="right") - 1, 0, len(keys) - 2)
    share = np.clip((np.arange(frames) - keys[place]) / (keys[place + 1] - keys[place]), 0, 1)
    weight = torch.as_tensor(share, dtype=torch.float32)
    before, after = pose[place], pose[place + 1]
    sign = torch.where((before * after).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    mixed = (1 - weight[:, None, None]) * before + weight[:, None, None] * sign * after
    mixed = mixed / mixed.norm(dim=-1, keepdim=True)
    return mixed, (1 - weight[:, None]) * root[place] + weight[:, None] * root[place + 1]


def _refine(clip: _Clip, pose: torch.Tensor, root: torch.Tensor, config: FitConfig) -> FittedBody:
    """Fit all frames together, with one shape, smooth in time, on planted feet."""
    shape = _average_shape()
    for iteration in track(range(config.iterations), "fitting the body", console=Console(stderr=True)):
        progress = iteration / max(1, config.iterations - 1)
        step, shape_step = _clip_step(clip, pose, root, shape, progress, config)
        if not torch.isfinite(step).all():
            raise InputError(f"the fit diverged at step {iteration}; raise config.fit.damping")
        pose, root = stepped(pose, root, _limited(step))
        shape = (shape + shape_step.clamp(-0.1, 0.1)).clamp(0.05, 0.95)
    state, normals = clip.skin.pose(pose, root, shape)
    residual = torch.zeros(len(pose))
    for start in range(0, len(pose), _BATCH):
        part = slice(start, start + _BATCH)
        skin, normal, points = _skin(state)[part], normals[part], clip.points[part]
        found = match(skin, normal, points, clip.origin[part])
        gap = ((points - gather(skin, found.vertex)) * gather(normal, found.vertex)).sum(-1).abs()
        residual[part] = gap.median(dim=1).values * clip.seen[part]
    return FittedBody(
        pose=pose.double().numpy(),
        root_pos=root.double().numpy(),
        shape=shape.double().numpy(),
        joint_pos=state.joint_pos.double().numpy(),
        joint_quat=state.joint_quat.double().numpy(),
        residual_m=residual.double().numpy(),
    )


def _clip_step(
    clip: _Clip, pose: torch.Tensor, root: torch.Tensor, shape: torch.Tensor, progress: float, config: FitConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the Gauss-Newton step of all frames (T, 69) and of the shape (5,); progress goes from 0 to 1."""
    equations = ClipEquations(len(pose), SIZE, len(shape))
    state, normals = clip.skin.pose(pose, root, shape)
    by_shape = _shape_rows(clip, pose, root, shape)
    reach = config.reach_m + (config.final_reach_m - config.reach_m) * min(1.0, 1.5 * progress)
    joint_rows, turn_rows, turns = [], [], []
    for start in range(0, len(pose), _BATCH):
        part = slice(start, start + _BATCH)
        piece = BodyState(_skin(state)[part], state.joint_pos[part], state.joint_quat[part])
        motions = Motions(piece)
        found = match(_skin(piece), normals[part], clip.points[part], clip.origin[part])
        add_data(
            equations, motions, clip.skin, piece, normals[part], clip.points[part], found, clip.floor_z, config, reach,
            seen=clip.seen[part], by_shape=by_shape[part], start=start,
        )  # fmt: skip
        add_posture(equations, motions, pose[part], piece, clip.floor_z, config, start=start)
        joint_rows.append(motions.point_rows(piece.joint_pos, JOINT_INFLUENCE))
        turn, rows = turns_against_rest(pose[part])
        turns.append(turn)
        turn_rows.append(rows)
    rows = torch.cat(joint_rows)
    joints = state.joint_pos
    per_joint = config.smooth * (clip.fps**2 / 10) ** 2 / joints.shape[1]
    equations.add_accelerations(rows.flatten(1, 2), joints.flatten(1), torch.full((3 * joints.shape[1],), per_joint))
    turning = torch.cat(turns).flatten(1)
    per_bone = config.steady * (clip.fps**2 / 100) ** 2 / len(BONE_NAMES)
    equations.add_accelerations(torch.cat(turn_rows), turning, torch.full((turning.shape[1],), per_bone))
    planted = planted_soles(joints, clip.floor_z, clip.fps, config, 1.0 - progress)
    soles = rows[:, SOLES]
    weight = (config.planted * clip.fps**2 / len(SOLES)) * planted
    equations.add_differences(soles.flatten(1, 2), joints[:, SOLES].flatten(1), weight.repeat_interleave(3, dim=1))
    still = torch.cat([planted[:1], 0.5 * (planted[1:] + planted[:-1]), planted[-1:]])
    equations.add(soles[:, :, 2], joints[:, SOLES, 2] - clip.floor_z, (config.level / len(SOLES)) * still)
    equations.add_shared(shape - 0.5, config.shape * len(pose))
    return equations.solve(config.damping)


def _shape_rows(clip: _Clip, pose: torch.Tensor, root: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    """Return derivatives (T, V, 3, 5) of the skin by the shape, by central differences."""
    columns = []
    for index in range(len(shape)):
        change = torch.zeros_like(shape)
        change[index] = 0.02
        ahead, _ = clip.skin.pose(pose, root, shape + change)
        behind, _ = clip.skin.pose(pose, root, shape - change)
        columns.append((_skin(ahead) - _skin(behind)) / 0.04)
    return torch.stack(columns, dim=-1)
