"""The body's sampled skin, and which of its vertices belong to which of the person's points."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from bodydouble.frames import quat_rotate
from perception.body.anny_body import AnnyBody, BodyState
from perception.body.anny_data import BONE_NAMES, SHAPE_NAMES
from perception.body.jacobian import vertex_influence


class Skin:
    """Sampled vertices of the body with normals that turn with the bones."""

    def __init__(self, count: int) -> None:
        """Sample vertices evenly over the outer skin."""
        whole = whole_body()
        index = whole.sample_vertices(count)
        self.body = whole.subset(index)
        shape = torch.full((len(SHAPE_NAMES),), 0.5)
        assert whole.faces is not None
        normals = vertex_normals(whole.rest(shape).vertices.numpy(), whole.faces)
        self._normals = torch.as_tensor(normals[index], dtype=torch.float32)
        self._bone = self.body.weights.argmax(dim=1)
        self.influence = vertex_influence(self.body.weights)

    @torch.no_grad()
    def pose(self, pose: torch.Tensor, root: torch.Tensor, shape: torch.Tensor) -> tuple[BodyState, torch.Tensor]:
        """Return the posed body and the skin's normals (B, V, 3)."""
        state = self.body.forward(pose, root, shape)
        bones = state.joint_quat[:, : len(BONE_NAMES)][:, self._bone]
        return state, quat_rotate(bones, self._normals.expand(len(pose), -1, -1))


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
class Matches:
    """Which vertex and which point belong together, B frames."""

    vertex: torch.Tensor
    """Body vertex of each point (B, P)."""
    point: torch.Tensor
    """Point of each body vertex (B, V)."""
    facing: torch.Tensor
    """Whether each body vertex faces a camera that saw the person (B, V)."""


@torch.no_grad()
def match(vertices: torch.Tensor, normals: torch.Tensor, points: torch.Tensor, origin: torch.Tensor) -> Matches:
    """Return for each point the nearest vertex that faces its camera, and for each vertex the nearest such point.

    Args:
        vertices: Sampled skin (B, V, 3).
        normals: Its normals (B, V, 3).
        points: The person's points (B, P, 3).
        origin: Cameras that saw them (B, P, 3).
    """
    distance = torch.cdist(points, vertices)
    to_camera = torch.nn.functional.normalize(origin - points, dim=-1)
    distance += 0.5 * (to_camera @ normals.transpose(1, 2) < -0.1)
    # The cameras of a frame are few: its points' origins, thinned out, name them all.
    eyes = origin[:, :: max(1, origin.shape[1] // 16)]
    view = torch.nn.functional.normalize(eyes[:, :, None] - vertices[:, None], dim=-1)
    facing = ((view * normals[:, None]).sum(-1) > 0.3).any(dim=1)
    return Matches(distance.argmin(dim=2), distance.argmin(dim=1), facing)


def gather(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return entries (B, N, ...) of values (B, M, ...) at an index (B, N)."""
    frames = torch.arange(len(values))[:, None]
    return values[frames, index]
