"""How points of the body move with its root and its bones: analytic Jacobians and the steps they take."""

from __future__ import annotations

import numpy as np
import torch

from bodydouble.frames import quat_from_rotvec, quat_mul, quat_normalize, quat_to_matrix
from perception.body.anny_body import POINT_BONES, BodyState
from perception.body.anny_data import BONE_NAMES, BONE_PARENTS

BONES = len(BONE_NAMES)
"""Number of bones."""
SIZE = 3 + 3 * BONES
"""Parameters of a frame: translation of the root, and of every bone a small turn in its parent's axes."""


def _below() -> np.ndarray:
    """Return whether bone k moves with bone j, as [k, j]."""
    moves = np.zeros((BONES, BONES), dtype=np.float32)
    for bone in range(BONES):
        above = bone
        while above >= 0:
            moves[bone, above] = 1.0
            above = BONE_PARENTS[above]
    return moves


BELOW = torch.as_tensor(_below())
"""Whether bone k moves with bone j (22, 22), as [k, j]."""
JOINT_INFLUENCE = torch.cat([BELOW, BELOW[[BONE_NAMES.index(bone) for bone in POINT_BONES]]])
"""How much each joint and point moves with each bone (29, 22): 0 or 1."""


def vertex_influence(weights: torch.Tensor) -> torch.Tensor:
    """Return how much each vertex moves with each bone (V, 22), from its skinning weights (V, 22)."""
    return weights @ BELOW


class Motions:
    """The derivatives of one set of posed bodies, B frames."""

    def __init__(self, state: BodyState) -> None:
        """Hold what every point's turns have in common: the joints' places and the axes of the bones' parents."""
        joints = state.joint_pos[:, :BONES]
        axes = quat_to_matrix(state.joint_quat[:, [max(p, 0) for p in BONE_PARENTS]])
        axes[:, 0] = torch.eye(3, dtype=axes.dtype)
        # A turn w about joint p moves x by w x (x - p); along d that is w . (x x d) + (p x w) . d. With w along the
        # columns of the axes it is linear in (x x d, d): one matrix product for all bones.
        moment = torch.linalg.cross(joints[..., None], axes, dim=2)
        self._turn = torch.cat([axes, moment], dim=2).transpose(1, 2).flatten(2)

    def rows(self, points: torch.Tensor, directions: torch.Tensor, influence: torch.Tensor) -> torch.Tensor:
        """Return derivatives (B, N, 69) of the points' motion along directions.

        Args:
            points: Points on the body (B, N, 3), world.
            directions: Directions (B, N, 3), world.
            influence: How much each point moves with each bone (N, 22) or (B, N, 22).
        """
        lever = torch.cat([torch.linalg.cross(points, directions), directions], dim=2)
        turned = (lever @ self._turn).unflatten(2, (BONES, 3)) * influence[..., None]
        return torch.cat([directions, turned.flatten(2)], dim=2)

    def point_rows(self, points: torch.Tensor, influence: torch.Tensor) -> torch.Tensor:
        """Return derivatives (B, N, 3, 69) of the points' coordinates."""
        frames, count = points.shape[:2]
        axes = torch.eye(3, dtype=points.dtype).repeat(count, 1).expand(frames, -1, -1)
        repeated = influence.repeat_interleave(3, dim=-2)
        return self.rows(points.repeat_interleave(3, dim=1), axes, repeated).unflatten(1, (count, 3))


def stepped(pose: torch.Tensor, root: torch.Tensor, step: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pose (B, 22, 4) and root (B, 3) after a step (B, 69)."""
    turns = quat_from_rotvec(step[:, 3:].unflatten(1, (BONES, 3)))
    return quat_normalize(quat_mul(turns, pose)), root + step[:, :3]


def log_rows(turn: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the derivatives (B, N, 3, 3) of rotation vectors against references by small turns in the parents' axes.

    With q = r exp(d) turned by a small v to exp(v) q, d changes by the inverse left Jacobian of d times r^-1 v.

    Args:
        turn: The rotation vectors d (B, N, 3).
        reference: The references r (N, 4), wxyz.
    """
    angle = turn.norm(dim=-1).clamp(1e-4, 3.1)[..., None, None]
    zero = torch.zeros_like(turn[..., 0])
    x, y, z = turn.unbind(-1)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    bend = 1 / angle**2 - (1 + torch.cos(angle)) / (2 * angle * torch.sin(angle))
    inverse = torch.eye(3, dtype=turn.dtype) - 0.5 * skew + bend * (skew @ skew)
    return inverse @ quat_to_matrix(reference).transpose(-1, -2)
