"""The body's sampled skin, and which of its vertices belong to which of the person's points."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from bodydouble.frames import quat_rotate, quat_to_matrix
from perception.body.anny_body import AnnyBody, BodyState, RestBody
from perception.body.anny_data import BONE_NAMES, BONE_PARENTS
from perception.body.body_model import BodyModel
from perception.body.jacobian import BELOW, vertex_influence


class Skin:
    """Sampled vertices of the body with normals that turn with the bones."""

    def __init__(self, count: int, body: BodyModel | None = None) -> None:
        """Sample vertices evenly over the outer skin of a whole body; None: the Anny body."""
        whole = body or whole_body()
        index = whole.sample_vertices(count)
        self.body = whole.subset(index)
        assert whole.faces is not None
        normals = vertex_normals(whole.rest(whole.shape_mean).vertices.numpy(), whole.faces)
        self._normals = torch.as_tensor(normals[index], dtype=torch.float32)
        self._bone = self.body.weights.argmax(dim=1)
        self.influence = vertex_influence(self.body.weights)

    @torch.no_grad()
    def pose(self, pose: torch.Tensor, root: torch.Tensor, shape: torch.Tensor) -> tuple[BodyState, torch.Tensor]:
        """Return the posed body and the skin's normals (B, V, 3)."""
        state = self.body.forward(pose, root, shape)
        bones = state.joint_quat[:, : len(BONE_NAMES)][:, self._bone]
        return state, quat_rotate(bones, self._normals.expand(len(pose), -1, -1))

    @torch.no_grad()
    def rest_by_shape(self, shape: torch.Tensor) -> RestBody:
        """Return derivatives of the rest pose by the shape (S, V, 3) and (S, J, 3), by central differences."""
        step = self.body.shape_spread / 10
        change = step * torch.eye(len(shape), dtype=shape.dtype)
        ahead, behind = self.body.rest(shape + change), self.body.rest(shape - change)
        return RestBody(
            (ahead.vertices - behind.vertices) / (2 * step), (ahead.joint_pos - behind.joint_pos) / (2 * step)
        )

    @torch.no_grad()
    def shape_rows(self, state: BodyState, normals: torch.Tensor, by_shape: RestBody) -> torch.Tensor:
        """Return derivatives (B, V, S) of the skin's places along its normals by the shape.

        A posed body is linear in the rest pose's vertices and joints: the same sums hold for their derivatives.
        """
        turns = quat_to_matrix(state.joint_quat[:, : len(BONE_NAMES)])
        heads = by_shape.joint_pos[:, : len(BONE_NAMES)]
        parents = [max(p, 0) for p in BONE_PARENTS]
        offsets = (turns[:, parents] @ (heads - heads[:, parents]).permute(1, 2, 0)).flatten(2)
        shifts = BELOW @ offsets - (turns @ heads.permute(1, 2, 0)).flatten(2)
        local = (normals[:, :, None] @ (self.body.weights @ turns.flatten(2)).unflatten(2, (3, 3)))[:, :, 0]
        moved = (self.body.weights @ shifts).unflatten(2, (3, -1))
        return torch.einsum("bvc,svc->bvs", local, by_shape.vertices) + (normals[..., None] * moved).sum(2)


@functools.cache
def whole_body() -> AnnyBody:
    """Return the body with all its vertices, loaded once."""
    return AnnyBody.load()


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return unit normals (V, 3) of a mesh, weighted by the areas of the faces around."""
    corner = vertices[faces]
    face_normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normals = np.zeros_like(vertices)
    for k in range(faces.shape[1]):
        np.add.at(normals, faces[:, k], face_normal)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class Eyes:
    """The cameras that saw the points. B frames, C cameras at most."""

    position: torch.Tensor
    """Positions (B, C, 3), world, m; a frame that fewer cameras saw has one of them twice."""
    camera: torch.Tensor
    """Which of them saw each point (B, P)."""

    def part(self, index: slice | torch.Tensor) -> Eyes:
        """Return those of some frames."""
        return Eyes(self.position[index], self.camera[index])


def eyes_of(origin: torch.Tensor) -> Eyes:
    """Return the different cameras of each frame, from the position (B, P, 3) of the camera that saw each point."""
    camera = torch.full(origin.shape[:2], -1)
    positions = []
    frames = torch.arange(len(origin))
    while not positions or bool((camera < 0).any()):
        # The camera of the first point that has none yet; where all have one, the first camera again.
        eye = origin[frames, (camera < 0).int().argmax(dim=1)]
        same = (origin - eye[:, None]).abs().amax(dim=2) < 1e-6
        camera = torch.where(same & (camera < 0), len(positions), camera)
        positions.append(eye)
    return Eyes(torch.stack(positions, dim=1), camera)


@dataclass(frozen=True)
class Matches:
    """Which vertex and which point belong together, B frames."""

    vertex: torch.Tensor
    """Body vertex of each point (B, P)."""
    point: torch.Tensor
    """Point of each body vertex (B, V)."""
    facing: torch.Tensor
    """Whether each body vertex faces a camera that saw the person (B, V)."""


@torch.no_grad()
def match(vertices: torch.Tensor, normals: torch.Tensor, points: torch.Tensor, eyes: Eyes) -> Matches:
    """Return for each point the nearest vertex that faces its camera, and for each vertex the nearest such point.

    Args:
        vertices: Sampled skin (B, V, 3).
        normals: Its normals (B, V, 3).
        points: The person's points (B, P, 3).
        eyes: Cameras that saw them.
    """
    view = torch.nn.functional.normalize(eyes.position[:, :, None] - vertices[:, None], dim=-1)
    cosine = (view * normals[:, None]).sum(-1)
    # Squared distances, and a quarter for a vertex that the point's camera cannot see, as one product of matrices:
    # |v|^2 - 2 p.v + |p|^2 + away.
    middle = points.mean(dim=1, keepdim=True)
    p, v = points - middle, vertices - middle
    saw = torch.nn.functional.one_hot(eyes.camera, eyes.position.shape[1]).to(points.dtype)
    one = torch.ones_like(p[..., :1])
    left = torch.cat([-2 * p, one, (p * p).sum(-1, keepdim=True), saw], dim=2)
    away = 0.25 * (cosine < -0.1).transpose(1, 2)
    right = torch.cat([v, (v * v).sum(-1, keepdim=True), torch.ones_like(v[..., :1]), away], dim=2)
    vertex, point = np.empty(p.shape[:2], np.int64), np.empty(v.shape[:2], np.int64)
    by_point, by_vertex = p.new_empty(p.shape[1], v.shape[1]), p.new_empty(v.shape[1], p.shape[1])
    # One frame at a time: its distances stay in the processor's cache.
    for frame, (a, b) in enumerate(zip(left, right, strict=True)):
        torch.mm(a, b.T, out=by_point)
        torch.mm(b, a.T, out=by_vertex)
        # numpy's argmin over the last axis is several times as fast as torch's.
        by_point.numpy().argmin(axis=1, out=vertex[frame])
        by_vertex.numpy().argmin(axis=1, out=point[frame])
    return Matches(torch.from_numpy(vertex), torch.from_numpy(point), (cosine > 0.3).any(dim=1))


def gather(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return entries (B, N, ...) of values (B, M, ...) at an index (B, N)."""
    frames = torch.arange(len(values))[:, None]
    return values[frames, index]
