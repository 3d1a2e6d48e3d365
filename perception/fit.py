"""Articulated fit: the Anny body to the person's points, first frame by frame, then the whole clip at once.

Data: point to plane against the nearest body vertex that faces the camera of the point, and back from each vertex that
faces a camera to its nearest point, both robust. Priors: joint limits, an easy posture, smooth joints, feet that stand
still and do not sink into the floor. One shape for the whole clip.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from bodydouble.errors import InputError
from bodydouble.frames import quat_mul, quat_rotate
from perception.body.anny_body import JOINT_NAMES, AnnyBody, BodyState
from perception.body.anny_data import BONE_NAMES, SHAPE_NAMES
from perception.body.limits import REST_POSTURE, limit_cost, posture_cost
from perception.segment import PersonPoints


@dataclass(frozen=True)
class FitConfig:
    """How the body is fitted."""

    vertices: int = 500
    """Body vertices that take part."""
    track_hz: float = 6.0
    """Rate of the first pass, frame by frame, Hz."""
    track_iterations: int = 40
    """Steps per frame of the first pass."""
    headings: int = 8
    """Headings that are tried on the first frame."""
    iterations: int = 150
    """Steps of the second pass, over the whole clip."""
    refresh: int = 5
    """Steps between new correspondences in the second pass."""
    reach_m: float = 0.10
    """Distance at which a correspondence has lost most of its pull, m."""
    along: float = 0.03
    """Weight of distances along the skin against distances from it; the vertices are sampled, so these say little."""
    surface_to_points: float = 0.3
    """Weight of the way back, from the body to the points."""
    posture: float = 0.002
    """Weight of the easy posture."""
    limits: float = 0.05
    """Weight of the joint limits."""
    smooth: float = 0.02
    """Weight of the joints' accelerations, in units of 10 m/s^2."""
    floor: float = 2.0
    """Weight of feet under the floor."""
    afloat: float = 0.2
    """Weight of a body whose lower foot is off the floor."""
    planted: float = 1.0
    """Weight of moving planted feet."""
    level: float = 20.0
    """Weight of planted soles off the floor."""
    steady: float = 0.02
    """Weight of the local rotations' accelerations, in units of 100 rad/s^2."""
    sole_m: float = 0.08
    """Height over the floor below which points of a foot are not told from the floor, m."""
    shape: float = 0.002
    """Weight of an average shape."""
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
    skin: np.ndarray
    """Sampled vertices of the body (T, V, 3), world, m."""
    residual_m: np.ndarray
    """Median distance of the points to the body (T,), m."""


class _Surface:
    """The body's sampled skin with normals that turn with the bones."""

    def __init__(self, count: int) -> None:
        whole = _whole_body()
        index = whole.sample_vertices(count)
        self.body = whole.subset(index)
        shape = torch.full((len(SHAPE_NAMES),), 0.5)
        normals = _vertex_normals(whole.rest(shape).vertices.numpy(), whole.faces)  # type: ignore[arg-type]
        self.normals = torch.as_tensor(normals[index], dtype=torch.float32)
        self.bone = self.body.weights.argmax(dim=1)
        self.body_full = whole

    def pose(self, pose: torch.Tensor, root: torch.Tensor, shape: torch.Tensor) -> tuple[BodyState, torch.Tensor]:
        """Return the posed body and the skin's normals (B, V, 3)."""
        state = self.body.forward(pose, root, shape)
        bones = state.joint_quat[:, : len(BONE_NAMES)][:, self.bone]
        return state, quat_rotate(bones, self.normals.expand(len(pose), -1, -1))


@functools.cache
def _whole_body() -> AnnyBody:
    return AnnyBody.load()


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corner = vertices[faces]
    face_normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normals = np.zeros_like(vertices)
    for k in range(faces.shape[1]):
        np.add.at(normals, faces[:, k], face_normal)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def fit_body(person: PersonPoints, floor_z: float, config: FitConfig) -> FittedBody:
    """Fit the body to a clip.

    Args:
        person: The person's points.
        floor_z: Height of the floor, world, m.
        config: Settings.

    Raises:
        InputError: Fewer than ten frames show the person.
    """
    seen = np.flatnonzero(person.count > 0)
    if len(seen) < 10:
        raise InputError(f"the person is seen in {len(seen)} frames, expected at least 10; record longer")
    if config.threads:
        torch.set_num_threads(config.threads)
    surface = _Surface(config.vertices)
    points = torch.as_tensor(person.points, dtype=torch.float32)
    origin = torch.as_tensor(person.origin, dtype=torch.float32)
    fps = 1e9 / float(np.median(np.diff(person.times_ns)))
    step = max(1, round(fps / config.track_hz))
    keys = seen[::step] if seen[::step][-1] == seen[-1] else np.append(seen[::step], seen[-1])
    pose, root = _track(surface, points[keys], origin[keys], floor_z, config)
    pose, root = _between(keys, pose, root, len(points))
    return _refine(surface, points, origin, torch.as_tensor(person.count > 0), pose, root, floor_z, fps, config)


@dataclass
class _Matches:
    vertex: torch.Tensor
    """Body vertex of each point (B, P)."""
    point: torch.Tensor
    """Point of each body vertex (B, V)."""
    facing: torch.Tensor
    """Whether each body vertex faces a camera that saw the person (B, V)."""


@torch.no_grad()
def _match(vertices: torch.Tensor, normals: torch.Tensor, points: torch.Tensor, origin: torch.Tensor) -> _Matches:
    vertex, point, facing = [], [], []
    for start in range(0, len(vertices), 32):
        part = slice(start, start + 32)
        v, n, p, o = vertices[part], normals[part], points[part], origin[part]
        distance = torch.cdist(p, v)
        to_camera = torch.nn.functional.normalize(o - p, dim=-1)
        away = torch.einsum("bpc,bvc->bpv", to_camera, n) < -0.1
        distance = distance + 0.5 * away
        vertex.append(distance.argmin(dim=2))
        point.append(distance.argmin(dim=1))
        # The cameras of a frame are few: its points' origins, thinned out, name them all.
        eyes = o[:, :: max(1, o.shape[1] // 16)]
        view = torch.nn.functional.normalize(eyes[:, :, None] - v[:, None], dim=-1)
        facing.append(((view * n[:, None]).sum(-1) > 0.3).any(dim=1))
    return _Matches(torch.cat(vertex), torch.cat(point), torch.cat(facing))


def _robust(squared: torch.Tensor, reach: float) -> torch.Tensor:
    """Geman-McClure: squared near zero, flat beyond the reach; in units of the reach squared."""
    return squared / (squared + reach**2)


def _gather(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return torch.gather(values, 1, index[..., None].expand(-1, -1, 3))


def _data_cost(
    vertices: torch.Tensor,
    normals: torch.Tensor,
    points: torch.Tensor,
    matches: _Matches,
    floor_z: float,
    config: FitConfig,
) -> torch.Tensor:
    """Return the data term of each frame (B,)."""
    delta = points - _gather(vertices, matches.vertex)
    plane = (delta * _gather(normals, matches.vertex)).sum(-1)
    # The sampled vertices lie some centimetres apart: along the skin a distance says little.
    squared = plane**2 + config.along * (delta**2).sum(-1)
    cost = _robust(squared, config.reach_m).mean(dim=1)
    back = _gather(points, matches.point) - vertices
    back_plane = (back * normals).sum(-1)
    back_squared = back_plane**2 + config.along * (back**2).sum(-1)
    # What stands on the floor is cut away with the floor: no point is there to go to.
    facing = (matches.facing & (vertices[..., 2] > floor_z + config.sole_m)).to(points.dtype)
    back_cost = (_robust(back_squared, config.reach_m) * facing).sum(1) / facing.sum(1).clamp_min(1)
    return cost + config.surface_to_points * back_cost


_LOW_POINTS = [JOINT_NAMES.index(f"{side}_{part}") for part in ("heel", "ball") for side in ("left", "right")]


def _priors(delta: torch.Tensor, state: BodyState, floor_z: float, config: FitConfig) -> torch.Tensor:
    """Return posture, limits and floor of each frame (B,)."""
    posture = posture_cost(delta, state.joint_quat[:, 0])
    height = state.joint_pos[:, _LOW_POINTS, 2] - floor_z
    sunk = _robust(height.clamp_max(0) ** 2, 0.05).sum(dim=1)
    # Somebody who does not jump stands on the floor with something; on a step or a seat the term is flat.
    afloat = _robust(height.amin(dim=1) ** 2, 0.1)
    return config.posture * posture + config.limits * limit_cost(delta) + config.floor * sunk + config.afloat * afloat


def _track(
    surface: _Surface, points: torch.Tensor, origin: torch.Tensor, floor_z: float, config: FitConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return poses (K, 22, 4) and roots (K, 3) of the key frames, each begun where the one before ended."""
    shape = torch.full((len(SHAPE_NAMES),), 0.5)
    rest = torch.as_tensor(REST_POSTURE, dtype=torch.float32)
    centre = points[0].mean(dim=0)
    top = torch.quantile(points[0][:, 2], 0.99)
    # The pelvis of a standing adult is a little above half the height.
    low = torch.stack([centre[0], centre[1], floor_z + 0.54 * (top - floor_z)])
    angles = torch.arange(config.headings) * (2 * np.pi / config.headings)
    delta = torch.zeros(config.headings, len(BONE_NAMES), 3)
    delta[:, 0, 2] = angles
    many = points[:1].expand(config.headings, -1, -1), origin[:1].expand(config.headings, -1, -1)
    delta, root, cost = _descend(
        surface, *many, delta, low.expand(config.headings, 3).clone(), shape, rest, floor_z, config,
        3 * config.track_iterations,
    )  # fmt: skip
    best = int(cost.argmin())
    delta, root = delta[best : best + 1], root[best : best + 1]
    poses, roots = [], []
    for index in track(range(len(points)), "following the person", console=Console(stderr=True)):
        part = slice(index, index + 1)
        root = root + (points[part].mean(dim=1) - points[max(0, index - 1)].mean(dim=0)) * (index > 0)
        delta, root, _ = _descend(
            surface, points[part], origin[part], delta, root, shape, rest, floor_z, config, config.track_iterations
        )
        poses.append(_to_pose(delta, rest))
        roots.append(root)
    return torch.cat(poses), torch.cat(roots)


def _to_pose(delta: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    """Return poses (B, 22, 4): the pelvis' rotation, and every other bone's against the easy posture."""
    turned = _turn(delta)
    return torch.cat([turned[:, :1], quat_mul(rest[1:].expand(len(delta), -1, -1), turned[:, 1:])], dim=1)


def _descend(
    surface: _Surface,
    points: torch.Tensor,
    origin: torch.Tensor,
    delta: torch.Tensor,
    root: torch.Tensor,
    shape: torch.Tensor,
    rest: torch.Tensor,
    floor_z: float,
    config: FitConfig,
    iterations: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return rotations, roots and costs (B,) of independent frames after a number of steps."""
    delta, root = delta.clone().requires_grad_(), root.clone().requires_grad_()
    optimizer = torch.optim.Adam([{"params": [delta], "lr": 0.04}, {"params": [root], "lr": 0.02}])
    cost = torch.zeros(len(points))
    for iteration in range(iterations):
        for group, rate in zip(optimizer.param_groups, (0.04, 0.02), strict=True):
            group["lr"] = rate * (1 - 0.8 * iteration / iterations)
        state, normals = surface.pose(_to_pose(delta, rest), root, shape)
        assert state.vertices is not None
        if iteration % 2 == 0:
            matches = _match(state.vertices, normals, points, origin)
        cost = _data_cost(state.vertices, normals, points, matches, floor_z, config) + _priors(
            delta, state, floor_z, config
        )
        optimizer.zero_grad()
        cost.sum().backward()
        optimizer.step()
    return delta.detach(), root.detach(), cost.detach()


def _between(
    keys: np.ndarray, pose: torch.Tensor, root: torch.Tensor, frames: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return poses and roots of all frames, interpolated between key frames."""
    place = np.clip(np.searchsorted(keys, np.arange(frames), side="right") - 1, 0, len(keys) - 2)
    share = np.clip((np.arange(frames) - keys[place]) / (keys[place + 1] - keys[place]), 0, 1)
    weight = torch.as_tensor(share, dtype=torch.float32)
    before, after = pose[place], pose[place + 1]
    sign = torch.sign((before * after).sum(-1, keepdim=True))
    mixed = (1 - weight[:, None, None]) * before + weight[:, None, None] * sign * after
    mixed = mixed / mixed.norm(dim=-1, keepdim=True)
    return mixed, (1 - weight[:, None]) * root[place] + weight[:, None] * root[place + 1]


def _refine(
    surface: _Surface,
    points: torch.Tensor,
    origin: torch.Tensor,
    seen: torch.Tensor,
    pose: torch.Tensor,
    root: torch.Tensor,
    floor_z: float,
    fps: float,
    config: FitConfig,
) -> FittedBody:
    """Fit all frames together, with one shape, smooth in time, on planted feet."""
    rest = torch.as_tensor(REST_POSTURE, dtype=torch.float32)
    relative = torch.cat([pose[:, :1], quat_mul(_conjugate(rest[1:]).expand(len(pose), -1, -1), pose[:, 1:])], dim=1)
    delta = _rotation_vector(relative).requires_grad_()
    root = root.clone().requires_grad_()
    shape = torch.full((len(SHAPE_NAMES),), 0.5, requires_grad=True)
    rates = (0.02, 0.01, 0.01)
    optimizer = torch.optim.Adam(
        [{"params": [value], "lr": rate} for value, rate in zip((delta, root, shape), rates, strict=True)]
    )
    weight = seen.to(torch.float32)
    planted = torch.zeros(len(points) - 1, len(_LOW_POINTS))
    for iteration in track(range(config.iterations), "fitting the body", console=Console(stderr=True)):
        fade = 1 - 0.9 * iteration / config.iterations
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * fade
        state, normals = surface.pose(_to_pose(delta, rest), root, shape)
        assert state.vertices is not None
        if iteration % config.refresh == 0:
            matches = _match(state.vertices, normals, points, origin)
            if iteration >= config.iterations // 10:
                capture = 0.06 + 0.14 * max(0.0, 1 - 1.5 * iteration / config.iterations)
                planted = _planted(state.joint_pos.detach(), floor_z, fps, capture)
        data = _data_cost(state.vertices, normals, points, matches, floor_z, config)
        priors = _priors(delta, state, floor_z, config)
        second = (state.joint_pos[2:] - 2 * state.joint_pos[1:-1] + state.joint_pos[:-2]) * (fps**2 / 10.0)
        step = state.joint_pos[1:, _LOW_POINTS] - state.joint_pos[:-1, _LOW_POINTS]
        slip = ((step * fps) ** 2).sum(-1) * planted
        off = (state.joint_pos[1:, _LOW_POINTS, 2] - floor_z) ** 2 * planted
        turn = (delta[2:, 1:] - 2 * delta[1:-1, 1:] + delta[:-2, 1:]) * (fps**2 / 100.0)
        cost = (
            (data * weight).sum()
            + priors.sum()
            + config.smooth * (second**2).sum(-1).mean(dim=1).sum()
            + config.planted * slip.mean(dim=1).sum()
            + config.level * off.mean(dim=1).sum()
            + config.steady * (turn**2).sum(-1).mean(dim=1).sum()
            + config.shape * len(points) * ((shape - 0.5) ** 2).sum()
        )
        if not torch.isfinite(cost):
            raise InputError(f"the fit diverged at step {iteration}; lower config.fit.smooth or give fewer points")
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        with torch.no_grad():
            shape.clamp_(0.05, 0.95)
    with torch.no_grad():
        final = _to_pose(delta, rest)
        state, normals = surface.pose(final, root, shape)
        assert state.vertices is not None
        matches = _match(state.vertices, normals, points, origin)
        gap = ((points - _gather(state.vertices, matches.vertex)) * _gather(normals, matches.vertex)).sum(-1).abs()
        residual = torch.where(seen, gap.median(dim=1).values, torch.zeros(()))
    return FittedBody(
        pose=final.double().numpy(),
        root_pos=root.detach().double().numpy(),
        shape=shape.detach().double().numpy(),
        joint_pos=state.joint_pos.double().numpy(),
        joint_quat=state.joint_quat.double().numpy(),
        skin=state.vertices.double().numpy(),
        residual_m=residual.double().numpy(),
    )


def _planted(joint_pos: torch.Tensor, floor_z: float, fps: float, capture_m: float) -> torch.Tensor:
    """Return how surely each sole point stands still between frames (T - 1, 4): low and slow."""
    low = joint_pos[:, _LOW_POINTS]
    height = (0.5 * (low[1:, :, 2] + low[:-1, :, 2]) - floor_z).clamp_min(0)
    window = 5
    step = (low[1:] - low[:-1]).norm(dim=-1) * fps
    # The fit still trembles: the mean speed over a sixth of a second counts.
    kernel = torch.ones(1, 1, window) / window
    padded = torch.nn.functional.pad(step.T[:, None], (window // 2, window // 2), mode="replicate")
    speed = torch.nn.functional.conv1d(padded, kernel)[:, 0].T
    return torch.exp(-((height / capture_m) ** 2)) * torch.exp(-((speed / 0.35) ** 2))


def _turn(vector: torch.Tensor) -> torch.Tensor:
    """Return quaternions (..., 4) of rotation vectors, with a gradient at zero too."""
    half = 0.5 * vector
    angle = torch.sqrt((half**2).sum(-1, keepdim=True) + 1e-12)
    return torch.cat([torch.cos(angle), half * (torch.sin(angle) / angle)], dim=-1)


def _conjugate(quat: torch.Tensor) -> torch.Tensor:
    return quat * torch.tensor([1.0, -1.0, -1.0, -1.0])


def _rotation_vector(quat: torch.Tensor) -> torch.Tensor:
    quat = quat * torch.where(quat[..., :1] < 0, -1.0, 1.0)
    sine = quat[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quat[..., :1])
    return quat[..., 1:] * torch.where(sine > 1e-6, angle / sine.clamp_min(1e-6), torch.full_like(sine, 2.0))
