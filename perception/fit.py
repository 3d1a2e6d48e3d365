"""Articulated fit: a body to the person's points, by Gauss-Newton steps.

First the body settles at key frames, begun where the joint network has it; then all frames are solved together, with
one shape, as one banded system (clip_fit.py).

Data: point to plane against the nearest body vertex that faces the camera of the point, and back from each vertex that
a camera should have seen to its nearest point, both robust (Geman and McClure). Skin that floats where a camera saw
through it is pulled back. Priors: joint limits, an easy posture, smooth joints, skin that does not sink into the scene,
feet that stand still and level on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from bodydouble.errors import InputError
from perception.body.body_model import BodyModel
from perception.body.carry import carry
from perception.body.jacobian import SIZE, Motions, stepped
from perception.clip_fit import Clip, ClipPose, FitTerm, between, limited, refine, residuals, skin_of
from perception.clip_solver import ClipEquations
from perception.fit_config import FitConfig
from perception.fit_terms import add_data, add_posture
from perception.initial_pose import InitialPose, initial_pose
from perception.scene_field import field_around, flat_field
from perception.scene_terms import add_scene
from perception.segment import PersonPoints
from perception.sight import sight_of
from perception.skin import Skin, eyes_of, match, whole_body
from perception.static_scene import StaticScene
from perception.views import View
from policy.threads import one_thread

_BATCH = 48


@dataclass(frozen=True)
class FittedBody:
    """The fitted clip. T frames."""

    pose: np.ndarray
    """Local bone rotations (T, 22, 4), wxyz."""
    root_pos: np.ndarray
    """Pelvis (T, 3), world, m."""
    shape: np.ndarray
    """Shape parameters (S,)."""
    joint_pos: np.ndarray
    """Joints and points (T, J, 3), world, m."""
    joint_quat: np.ndarray
    """Their orientations (T, J, 4), wxyz."""
    residual_m: np.ndarray
    """Median distance of the points to the body (T,), m."""


@torch.no_grad()
@one_thread()
def fit_body(
    person: PersonPoints,
    floor_z: float,
    config: FitConfig,
    *,
    scene: StaticScene | None = None,
    views: Sequence[View] = (),
    initial: tuple[np.ndarray, InitialPose] | None = None,
    terms: Sequence[FitTerm] = (),
    model: BodyModel | None = None,
) -> FittedBody:
    """Fit the body to a clip, with one thread of torch: the matrices are small, and threads would mostly wait.

    Args:
        person: The person's points.
        floor_z: Height of the floor, world, m.
        config: Settings.
        scene: The static scene without what the person left in it, for a body that rests on more than the floor; None:
            the floor alone.
        views: The views, for what they saw of free space; without them only the points count.
        initial: Key frames (K,) and the body there; None: the joint network's.
        terms: Further terms, such as the reprojection of keypoints.
        model: The body, with all its vertices; None: the Anny body.

    Raises:
        InputError: Fewer than ten frames show the person, or the fit diverged.
    """
    seen = np.flatnonzero(person.count > 0)
    if len(seen) < 10:
        raise InputError(f"the person is seen in {len(seen)} frames, expected at least 10; record longer")
    clip = _clip(person, floor_z, config, views, terms, model)
    if initial is None:
        step = max(1, round(clip.fps / config.track_hz))
        keys = seen[::step] if seen[::step][-1] == seen[-1] else np.append(seen[::step], seen[-1])
        initial = keys, _carried(initial_pose(person, keys), model)
    keys, guess = initial
    pose, root = _follow(clip, keys, guess, config)
    if scene is not None:
        field = field_around(scene, floor_z, person.points[seen].reshape(-1, 3), config.cell_m)
        clip = dataclasses.replace(clip, field=field)
    pose, root = between(keys, pose, root, len(person.points))
    body = refine(clip, ClipPose(pose, root, guess.shape), config)
    joints = clip.skin.body.forward(body.pose, body.root, body.shape, with_vertices=False)
    return FittedBody(
        pose=body.pose.double().numpy(),
        root_pos=body.root.double().numpy(),
        shape=body.shape.double().numpy(),
        joint_pos=joints.joint_pos.double().numpy(),
        joint_quat=joints.joint_quat.double().numpy(),
        residual_m=residuals(clip, body).double().numpy(),
    )


def _carried(guess: InitialPose, model: BodyModel | None) -> InitialPose:
    """Return a guess of the Anny body, whose joints the network knows, as one of another body."""
    if model is None:
        return guess
    root, shape = carry(guess.pose, guess.root, guess.shape, whole_body(), model)
    return dataclasses.replace(guess, root=root, shape=shape)


def _clip(
    person: PersonPoints,
    floor_z: float,
    config: FitConfig,
    views: Sequence[View],
    terms: Sequence[FitTerm],
    model: BodyModel | None,
) -> Clip:
    total = person.points.shape[1]
    # The points lie in no order that matters, but where a frame has few the first ones are sorted by place.
    some = np.sort(np.random.default_rng(0).permutation(total)[: config.points * max(1, int(person.views.max()))])
    points, origin = person.points[:, some], person.origin[:, some]
    skin = Skin(config.vertices, model)
    return Clip(
        skin=skin,
        fine=Skin(config.fine_vertices, model) if config.iterations else skin,
        points=torch.as_tensor(points, dtype=torch.float32),
        eyes=eyes_of(torch.as_tensor(origin, dtype=torch.float32)),
        seen=torch.as_tensor(person.count > 0),
        field=flat_field(floor_z),
        fps=1e9 / float(np.median(np.diff(person.times_ns))),
        frames=np.arange(len(points)),
        sight=sight_of(views, person.times_ns) if views else None,
        terms=terms,
    )


def _follow(clip: Clip, keys: np.ndarray, guess: InitialPose, config: FitConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Return poses (K, 22, 4) and roots (K, 3) of the key frames: the guesses, settled on the points."""
    pose, root, cost = _settle(clip, keys, guess.pose, guess.root, guess.shape, config)
    middle = clip.points[keys].mean(dim=1)
    for beside in (-1, 1):
        other = np.clip(np.arange(len(keys)) + beside, 0, len(keys) - 1)
        lost = np.flatnonzero((cost > config.lost * cost[other]).numpy())
        if len(lost) == 0:
            continue
        near = other[lost]
        moved = root[near] + middle[lost] - middle[near]
        found = _settle(clip, keys[lost], pose[near], moved, guess.shape, config)
        better = found[2] < cost[lost]
        at = torch.as_tensor(lost)[better]
        pose[at], root[at], cost[at] = (value[better] for value in found)
    return _without_leaps(clip, keys, guess.shape, pose, root, cost, config)


def _without_leaps(
    clip: Clip,
    keys: np.ndarray,
    shape: torch.Tensor,
    pose: torch.Tensor,
    root: torch.Tensor,
    cost: torch.Tensor,
    config: FitConfig,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Begin again between the frames beside where one key frame leaps away from both, and keep what fits about as well.

    A limb on the wrong side may lie on points nearly as well as the right one; that it comes and goes tells.
    """
    if len(keys) < 3:
        return pose, root
    beside = torch.where((pose[:-2] * pose[2:]).sum(-1, keepdim=True) < 0, -1.0, 1.0) * pose[2:]
    middle = torch.nn.functional.normalize(pose[:-2] + beside, dim=-1)
    place = 0.5 * (root[:-2] + root[2:])
    body = clip.skin.body
    own = body.forward(pose[1:-1], root[1:-1], shape, with_vertices=False).joint_pos
    away = (own - body.forward(middle, place, shape, with_vertices=False).joint_pos).norm(dim=-1).amax(dim=1)
    odd = np.flatnonzero((away > config.leap_m).numpy())
    if len(odd) == 0:
        return pose, root
    found = _settle(clip, keys[odd + 1], middle[odd], place[odd], shape, config)
    better = found[2] < config.lost * cost[odd + 1]
    at = torch.as_tensor(odd + 1)[better]
    pose[at], root[at] = found[0][better], found[1][better]
    return pose, root


def _settle(
    clip: Clip, frames: np.ndarray, pose: torch.Tensor, root: torch.Tensor, shape: torch.Tensor, config: FitConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return poses, roots and costs (B,) of one guess at each of some frames after some steps."""
    parts = [slice(start, start + _BATCH) for start in range(0, len(frames), _BATCH)]
    settled = [
        _settle_part(clip, frames[part], pose[part], root[part], shape, config)
        for part in track(parts, "following the person", console=Console(stderr=True))
    ]
    pose, root, cost = (torch.cat(values) for values in zip(*settled, strict=True))
    return pose, root, cost


def _settle_part(
    clip: Clip, frames: np.ndarray, pose: torch.Tensor, root: torch.Tensor, shape: torch.Tensor, config: FitConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    points, eyes = clip.points[frames], clip.eyes.part(torch.as_tensor(frames))
    cost = torch.zeros(len(pose))
    for _ in range(config.track_iterations):
        state, normals = clip.skin.pose(pose, root, shape)
        equations = ClipEquations(len(pose), SIZE, 0)
        motions = Motions(state)
        found = match(skin_of(state), normals, points, eyes)
        visible = found.facing & (clip.field.read(skin_of(state))[0] > config.sole_m)
        cost = add_data(
            equations, motions, clip.skin, state, normals, points, found, visible, config, config.reach_m
        )  # fmt: skip
        cost = cost + add_posture(equations, pose, state, config)
        cost = cost + add_scene(equations, motions, clip.skin, state, clip.field, config)
        pose, root = stepped(pose, root, limited(equations.solve_frames(config.damping)))
    return pose, root, cost
