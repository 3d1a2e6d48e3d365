"""The Anny body in torch: pose and shape to vertices and joints, differentiable, on 22 bones."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from bodydouble.errors import InputError
from bodydouble.frames import quat_mul, quat_normalize, quat_rotate, quat_to_matrix
from perception.body.anny_data import BONE_NAMES, BONE_PARENTS, SHAPE_NAMES, load_anny_data
from perception.body.skin_samples import largest_part, sample_by_area

POINT_NAMES = ("left_hand", "right_hand", "left_heel", "right_heel", "left_ball", "right_ball", "head_top")
"""Points fixed to bones: middle knuckles, soles under heel and ball of the foot, crown."""
POINT_BONES = ("left_wrist", "right_wrist", "left_ankle", "right_ankle", "left_toe", "right_toe", "head")
"""The bone each of POINT_NAMES moves with."""
JOINT_NAMES = BONE_NAMES + POINT_NAMES
"""The 22 joints and the 7 points: what `BodyState.joint_pos` holds."""
CONTACT_NAMES = ("left_foot", "right_foot", "left_hand", "right_hand", "pelvis", "left_knee", "right_knee", "back")
"""Body parts that can touch the scene, in HumanMotion's order."""


@functools.cache
def _levels() -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Return the bones by depth below the pelvis, as (bones, their parents)."""
    depth = [0] * len(BONE_NAMES)
    for bone, parent in enumerate(BONE_PARENTS):
        depth[bone] = depth[parent] + 1 if parent >= 0 else 0
    levels = []
    for level in range(1, max(depth) + 1):
        bones = tuple(bone for bone, d in enumerate(depth) if d == level)
        levels.append((bones, tuple(BONE_PARENTS[bone] for bone in bones)))
    return tuple(levels)


@dataclass(frozen=True)
class RestBody:
    """A body of one shape (no batch dimension) or one shape per frame (B leading), standing in the rest pose."""

    vertices: torch.Tensor
    """Vertices (..., V, 3), model frame."""
    joint_pos: torch.Tensor
    """Joints and points (..., J, 3), model frame."""


@dataclass(frozen=True)
class BodyState:
    """A posed body. B frames."""

    vertices: torch.Tensor | None
    """Vertices (B, V, 3), world, m; None where they were not asked for."""
    joint_pos: torch.Tensor
    """Joints and points in JOINT_NAMES' order (B, J, 3), world, m."""
    joint_quat: torch.Tensor
    """Orientations (B, J, 4), wxyz, world; every one is the identity in the rest pose facing +x."""


class AnnyBody:
    """The Anny body: 13,718 vertices on 22 bones, five shape parameters.

    Rest pose: upright, facing +x, left is +y, z up, arms about 45 degrees down with bent elbows, legs slightly apart.
    A pose is one local rotation per bone (B, 22, 4), wxyz, in BONE_NAMES' order: the bone turned against its parent,
    with axes that are parallel to the world's in the rest pose (as SMPL has it). The pelvis' rotation is against the
    world and `root_pos` is the pelvis joint's world position. Skinning is linear blend skinning.

    Attributes:
        name: Name of the body model, as HumanMotion holds it.
        shape_spread: How far people differ from the average in a shape parameter, one standard deviation.
        bone_names: Names of the 22 bones.
        joint_names: Names of the 22 joints and 7 points.
        shape_names: Names of the five shape parameters, each in [0, 1]; 0.5 is the average.
        faces: Triangles (F, 3), int64; None for a subset of vertices.
        weights: Skinning weights (V, 22).
    """

    name = "anny"
    shape_spread = 0.2
    bone_names = BONE_NAMES
    bone_parents = BONE_PARENTS
    joint_names = JOINT_NAMES
    shape_names = SHAPE_NAMES

    def __init__(
        self,
        mean: torch.Tensor,
        directions: torch.Tensor,
        corners: torch.Tensor,
        weights: torch.Tensor,
        faces: np.ndarray | None,
    ) -> None:
        """Hold the arrays: points (V + J, 3), directions (R, V + J, 3), corners (54, R), weights (V, 22)."""
        self._mean, self._directions, self._corners = mean, directions, corners
        self.weights, self.faces = weights, faces
        self._point_bones = [BONE_NAMES.index(bone) for bone in POINT_BONES]

    @classmethod
    def load(cls, dtype: torch.dtype = torch.float32, device: str = "cpu") -> AnnyBody:
        """Return the body; the very first call on a machine takes about a minute (see `load_anny_data`)."""
        data = load_anny_data()
        vertices = len(data.weights)
        picks = point_vertices(data.mean[:vertices], data.mean[vertices:], data.weights)
        order = np.concatenate([np.arange(vertices + len(BONE_NAMES) + 2), picks])

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array, dtype=dtype, device=device)

        return cls(
            tensor(data.mean[order]),
            tensor(data.directions[:, order]),
            tensor(data.corners),
            tensor(data.weights),
            data.faces,
        )

    @property
    def shape_mean(self) -> torch.Tensor:
        """Average shape (5,)."""
        return torch.full((len(SHAPE_NAMES),), 0.5, dtype=self.dtype, device=self.device)

    @property
    def shape_low(self) -> torch.Tensor:
        """Lowest shape parameters (5,) that a fit may reach: within the model's range, whose ends are flat."""
        return torch.full_like(self.shape_mean, 0.05)

    @property
    def shape_high(self) -> torch.Tensor:
        """Highest shape parameters (5,) that a fit may reach."""
        return torch.full_like(self.shape_mean, 0.95)

    @property
    def num_vertices(self) -> int:
        """Number of vertices V."""
        return len(self.weights)

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of the body's arrays."""
        return self._mean.dtype

    @property
    def device(self) -> torch.device:
        """Device of the body's arrays."""
        return self._mean.device

    def subset(self, index: np.ndarray | torch.Tensor) -> AnnyBody:
        """Return the same body with the vertices of an index (N,) alone: joints agree, evaluation is faster."""
        index = torch.as_tensor(index, dtype=torch.int64, device=self.device)
        keep = torch.cat([index, torch.arange(self.num_vertices, len(self._mean), device=self.device)])
        return AnnyBody(self._mean[keep], self._directions[:, keep], self._corners, self.weights[index], None)

    def shape_coefficients(self, shape: torch.Tensor) -> torch.Tensor:
        """Return coefficients (..., R) of the shape directions for shape parameters (..., 5), clipped to [0, 1].

        Anny interpolates linearly in gender, height and proportions, piecewise linearly over 0, 0.5, 1 in muscle and
        weight, and multiplies these; height and proportions act additively on each (gender, muscle, weight).
        """
        shape = shape.clamp(0.0, 1.0)
        gender, muscle, weight, height, proportions = shape.unbind(-1)

        def thirds(value: torch.Tensor) -> torch.Tensor:
            low, high = (1.0 - 2.0 * value).clamp_min(0.0), (2.0 * value - 1.0).clamp_min(0.0)
            return torch.stack([low, 1.0 - low - high, high], dim=-1)

        sexes = torch.stack([1.0 - gender, gender], dim=-1)
        kinds = torch.stack([1.0 - height - proportions, height, proportions], dim=-1)
        product = torch.einsum("...g,...m,...w,...k->...gmwk", sexes, thirds(muscle), thirds(weight), kinds)
        return product.flatten(-4) @ self._corners

    def rest(self, shape: torch.Tensor) -> RestBody:
        """Return the body of shape parameters (5,) or (B, 5) in the rest pose."""
        if shape.shape[-1] != len(SHAPE_NAMES):
            raise InputError(f"body shape has {shape.shape[-1]} parameters, expected {len(SHAPE_NAMES)}: {SHAPE_NAMES}")
        points = self._mean + torch.tensordot(self.shape_coefficients(shape), self._directions, dims=1)
        return RestBody(points[..., : self.num_vertices, :], points[..., self.num_vertices :, :])

    def forward(
        self,
        pose: torch.Tensor,
        root_pos: torch.Tensor,
        shape: torch.Tensor | None = None,
        *,
        rest: RestBody | None = None,
        with_vertices: bool = True,
    ) -> BodyState:
        """Pose the body.

        Args:
            pose: Local bone rotations (B, 22, 4), wxyz; normalised here.
            root_pos: Pelvis joint (B, 3), world, m.
            shape: Shape parameters (5,) or (B, 5); give it or `rest`.
            rest: A shape evaluated before, to save the time where the shape does not change.
            with_vertices: Whether vertices are computed beside the joints.

        Returns:
            The vertices, joint positions and joint orientations in the world.

        Raises:
            InputError: Neither or both of `shape` and `rest` are given, or the pose has another number of bones.
        """
        if (shape is None) == (rest is None):
            raise InputError("AnnyBody.forward takes either shape or rest")
        if pose.ndim != 3 or pose.shape[1:] != (len(BONE_NAMES), 4):
            raise InputError(f"body pose has shape {tuple(pose.shape)}, expected (B, {len(BONE_NAMES)}, 4)")
        if rest is None:
            assert shape is not None
            rest = self.rest(shape)
        heads = rest.joint_pos[..., : len(BONE_NAMES), :].expand(len(pose), -1, -1)
        quats, positions = bone_kinematics(quat_normalize(pose), root_pos, heads)
        point_quats = quats[:, self._point_bones]
        offsets = rest.joint_pos[..., len(BONE_NAMES) :, :] - rest.joint_pos[..., self._point_bones, :]
        points = positions[:, self._point_bones] + quat_rotate(point_quats, offsets.expand(len(pose), -1, -1))
        vertices = None
        if with_vertices:
            rotations = quat_to_matrix(quats)
            shifts = positions - (rotations @ heads[..., None])[..., 0]
            blend = torch.einsum("vk,bkij->bvij", self.weights, torch.cat([rotations, shifts[..., None]], dim=-1))
            vertices = (blend[..., :3] * rest.vertices[..., None, :]).sum(-1) + blend[..., 3]
        return BodyState(vertices, torch.cat([positions, points], dim=1), torch.cat([quats, point_quats], dim=1))

    def sample_vertices(self, count: int, seed: int = 0) -> np.ndarray:
        """Return sorted indices (count,) of outer-skin vertices, drawn by the area around them, without repeats."""
        if self.faces is None:
            raise InputError("a subset of the body has no faces to sample from; sample the whole body")
        corners = self._mean[: self.num_vertices].double().cpu().numpy()
        return sample_by_area(corners, self.faces, self.outer_vertices(), count, seed)

    def outer_vertices(self) -> np.ndarray:
        """Return indices of the skin: the mesh's largest connected part, without eyes, teeth and tongue."""
        if self.faces is None:
            raise InputError("a subset of the body has no faces; ask the whole body")
        return largest_part(self.faces, self.num_vertices)


def bone_kinematics(
    pose: torch.Tensor, root_pos: torch.Tensor, heads: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return world orientations (B, 22, 4) and joint positions (B, 22, 3), level by level from the pelvis.

    Args:
        pose: Local bone rotations (B, 22, 4), wxyz, of unit length.
        root_pos: Pelvis joint (B, 3), world, m.
        heads: Joints in the rest pose (B, 22, 3), m.
    """
    quats: list[torch.Tensor] = [pose[:, 0]] * len(BONE_NAMES)
    positions: list[torch.Tensor] = [root_pos] * len(BONE_NAMES)
    for bones, parents in _levels():
        parent_quat = torch.stack([quats[p] for p in parents], dim=1)
        parent_pos = torch.stack([positions[p] for p in parents], dim=1)
        quat = quat_mul(parent_quat, pose[:, list(bones)])
        pos = parent_pos + quat_rotate(parent_quat, heads[:, list(bones)] - heads[:, list(parents)])
        for i, bone in enumerate(bones):
            quats[bone], positions[bone] = quat[:, i], pos[:, i]
    return torch.stack(quats, dim=1), torch.stack(positions, dim=1)


def point_vertices(vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the vertices that carry heels, balls of the feet and crown, in POINT_NAMES' order.

    Args:
        vertices: Vertices (V, 3) in the rest pose, z up, facing +x.
        joints: Joints there (22, 3), or more behind these.
        weights: Skinning weights (V, 22).
    """
    owner = weights.argmax(axis=1)
    picks = []
    for bone, behind in (("ankle", True), ("toe", False)):
        for side in ("left", "right"):
            own = np.flatnonzero(owner == BONE_NAMES.index(f"{side}_{bone}"))
            if behind:
                target = joints[BONE_NAMES.index(f"{side}_ankle")] + (-0.02, 0.0, -1.0)
            else:
                target = joints[BONE_NAMES.index(f"{side}_toe")] + (0.01, 0.0, -1.0)
            # Far below the joint: the horizontally nearest among the lowest vertices.
            low = own[vertices[own, 2] < vertices[own, 2].min() + 0.01]
            picks.append(low[np.linalg.norm(vertices[low, :2] - target[:2], axis=1).argmin()])
    picks.append(int(vertices[:, 2].argmax()))
    return np.array(picks)
