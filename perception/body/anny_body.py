"""AnnyBody: the Anny body reduced to 22 joints, posed with bodydouble's own skinning.

Anny (package `anny`, Apache-2.0) gives the rest shape: 13,718 vertices, 104 bones and linear skinning weights as a
function of phenotype parameters. Fingers, toes and face bones are merged into the bone that carries them, so that
fitting has only the joints that depth can see. The rest pose faces +x with z up; every joint's rest axes are the
world's, so a pose is a rotation of each joint relative to its parent.
"""

from __future__ import annotations

import functools
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bodydouble.artifacts import atomic_file, versions

JOINTS: tuple[tuple[str, str, str], ...] = (
    ("pelvis", "root", ""),
    ("spine_low", "spine04", "pelvis"),
    ("spine", "spine02", "spine_low"),
    ("chest", "spine01", "spine"),
    ("neck", "neck01", "chest"),
    ("head", "head", "neck"),
    ("left_clavicle", "clavicle.L", "chest"),
    ("left_shoulder", "upperarm01.L", "left_clavicle"),
    ("left_elbow", "lowerarm01.L", "left_shoulder"),
    ("left_wrist", "wrist.L", "left_elbow"),
    ("right_clavicle", "clavicle.R", "chest"),
    ("right_shoulder", "upperarm01.R", "right_clavicle"),
    ("right_elbow", "lowerarm01.R", "right_shoulder"),
    ("right_wrist", "wrist.R", "right_elbow"),
    ("left_hip", "upperleg01.L", "pelvis"),
    ("left_knee", "lowerleg01.L", "left_hip"),
    ("left_ankle", "foot.L", "left_knee"),
    ("left_toe", "toe2-1.L", "left_ankle"),
    ("right_hip", "upperleg01.R", "pelvis"),
    ("right_knee", "lowerleg01.R", "right_hip"),
    ("right_ankle", "foot.R", "right_knee"),
    ("right_toe", "toe2-1.R", "right_ankle"),
)
"""Joint name, Anny bone, parent joint; parents come first."""
JOINT_NAMES = tuple(name for name, _, _ in JOINTS)
"""Names of the 22 joints, the order of every joint array."""
PARENTS = tuple(JOINT_NAMES.index(parent) if parent else -1 for _, _, parent in JOINTS)
"""Index of each joint's parent, -1 for the pelvis."""
SHAPE_NAMES = ("gender", "age", "muscle", "weight", "height", "proportions")
"""Phenotype parameters, each in [0, 1]."""
DEFAULT_SHAPE = (0.5, 0.6, 0.5, 0.5, 0.5, 0.5)
"""An average adult."""


@functools.cache
def _anny_model() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import anny

        return anny.Anny()


def _cache_dir() -> Path:
    return Path(os.environ.get("BODYDOUBLE_CACHE", Path.home() / ".cache" / "bodydouble")) / "anny"


@functools.cache
def _topology() -> dict[str, np.ndarray]:
    """Return triangles (F, 3) and merged weights (V, 22); cached, because Anny takes a quarter of a minute to load."""
    path = _cache_dir() / f"topology-{versions().get('anny', 'none')}-{len(JOINTS)}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    model = _anny_model()
    labels, parents = list(model.bone_labels), list(model.bone_parents)
    owner = np.zeros(len(labels), dtype=np.int64)
    bones = {bone: index for index, (_, bone, _) in enumerate(JOINTS)}
    for index, label in enumerate(labels):
        owner[index] = bones.get(label, owner[parents[index]] if parents[index] >= 0 else 0)
    bone_weights = model.vertex_bone_weights.numpy()
    bone_indices = model.vertex_bone_indices.numpy()
    weights = np.zeros((len(bone_weights), len(JOINTS)), dtype=np.float32)
    np.add.at(weights, (np.arange(len(weights))[:, None], owner[bone_indices]), bone_weights)
    weights /= weights.sum(axis=1, keepdims=True)
    faces = model.get_triangular_faces().numpy().astype(np.int32)
    data = {"faces": faces, "weights": weights}
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **data)
    return data


def rest_shape(shape: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rest vertices (V, 3) and rest joints (22, 3), pelvis at the origin, m, differentiable in the shape.

    Args:
        shape: Phenotype parameters (6,) in the order of SHAPE_NAMES.
    """
    model = _anny_model()
    kwargs = {name: shape[i].reshape(1).to(torch.float64) for i, name in enumerate(SHAPE_NAMES)}
    coefficients = model.get_phenotype_blendshape_coefficients(**kwargs)
    rest = model.get_rest_model(coefficients)
    index = [model.bone_labels.index(bone) for _, bone, _ in JOINTS]
    # Anny faces -y with its left to +x; a quarter turn about z makes it face +x with its left to +y.
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    heads = rest["rest_bone_heads"][0] @ turn.T
    vertices = rest["rest_vertices"][0] @ turn.T
    pelvis = heads[index[0]]
    return (vertices - pelvis).float(), (heads[index] - pelvis).float()


@functools.lru_cache(maxsize=8)
def _cached_rest(shape: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    key = "-".join(f"{value:.6f}" for value in shape)
    path = _cache_dir() / f"rest-{versions().get('anny', 'none')}-{len(JOINTS)}-{key}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as data:
            return data["vertices"], data["joints"]
    with torch.no_grad():
        vertices, joints = rest_shape(torch.tensor(shape, dtype=torch.float64))
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, vertices=vertices.numpy(), joints=joints.numpy())
    return vertices.numpy(), joints.numpy()


def quat_matrix(quat: torch.Tensor) -> torch.Tensor:
    """Return rotation matrices (..., 3, 3) of quaternions (..., 4), wxyz, normalised first; differentiable."""
    w, x, y, z = torch.nn.functional.normalize(quat, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


class AnnyBody:
    """A body of one shape. V vertices (or a chosen subset), P = 22 joints."""

    def __init__(self, shape: tuple[float, ...] = DEFAULT_SHAPE, vertices: np.ndarray | None = None) -> None:
        """Take the rest shape from the cache, or from Anny.

        Args:
            shape: Phenotype parameters (6,).
            vertices: Indices of the vertices to keep; all by default.
        """
        rest, joints = _cached_rest(tuple(float(value) for value in shape))
        topology = _topology()
        self.shape = tuple(float(value) for value in shape)
        keep = slice(None) if vertices is None else vertices
        self.rest_vertices = torch.from_numpy(rest[keep])
        self.rest_joints = torch.from_numpy(joints)
        self.weights = torch.from_numpy(topology["weights"][keep])
        self.faces: np.ndarray = topology["faces"]

    def joints(self, pose: torch.Tensor, root_pos: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return joint positions (N, P, 3), world, m, and joint rotations (N, P, 3, 3).

        Args:
            pose: Rotation of each joint relative to its parent (N, P, 4), wxyz; the pelvis' is in the world.
            root_pos: Position of the pelvis (N, 3), world, m.
        """
        local = quat_matrix(pose)
        positions, rotations = [root_pos], [local[:, 0]]
        for index in range(1, len(PARENTS)):
            parent = PARENTS[index]
            offset = self.rest_joints[index] - self.rest_joints[parent]
            positions.append(positions[parent] + rotations[parent] @ offset)
            rotations.append(rotations[parent] @ local[:, index])
        return torch.stack(positions, dim=1), torch.stack(rotations, dim=1)

    def vertices(self, positions: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
        """Return skinned vertices (N, V, 3), world, m, from the joints' positions and rotations (linear blending)."""
        offset = positions - (rotations @ self.rest_joints[..., None])[..., 0]
        transform = torch.cat([rotations, offset[..., None]], dim=-1)
        blended = torch.einsum("vp,npij->nvij", self.weights, transform)
        return (blended[..., :3] @ self.rest_vertices[..., None])[..., 0] + blended[..., 3]

    def sole_height(self) -> float:
        """Return the height of the pelvis above the soles in the rest pose, m."""
        rest, _ = _cached_rest(self.shape)
        return float(-rest[:, 2].min())
