"""A user's SMPL, SMPL-H or SMPL-X body, posed as the Anny body is.

SMPL rests in a T-pose, Anny with hanging, slightly bent arms; poses, joint limits and the easy posture are turns
against Anny's rest pose. So every bone gets one fixed turn from SMPL's T-pose to that rest pose:

- upper arm, forearm, hand, thigh and shin: the least turn, after the bone above has turned, that lays the bone along
  Anny's (both of average shape). A straight elbow bends about its hinge, so the palms turn as they would;
- foot and toes: a turn about the vertical alone, as both bodies stand on level soles;
- pelvis, spine, neck, head and collars: none. Both trunks stand upright and look ahead, and their joints lie at
  different places inside the trunk: laying these segments along each other would bend the trunk.

A vertex is skinned straight from the T-pose with the product of both turns (Loper et al. 2015, equations 2 to 10), so
SMPL's own software gives the same vertices for what `poses_to_smpl` returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_matrix, quat_normalize, quat_rotate, quat_to_matrix, quat_to_rotvec
from bodydouble.motion import HumanMotion
from perception.body.anny_body import (
    JOINT_NAMES,
    POINT_BONES,
    AnnyBody,
    BodyState,
    RestBody,
    bone_kinematics,
    point_vertices,
)
from perception.body.anny_data import BONE_NAMES, BONE_PARENTS
from perception.body.skin_samples import largest_part, sample_by_area
from perception.body.smpl_file import BONE_AT, TO_SMPL, SmplArrays, read_smpl

BONES = len(BONE_NAMES)
_PARENTS = [max(parent, 0) for parent in BONE_PARENTS]
_LIMBS = {"shoulder": "elbow", "elbow": "wrist", "wrist": "hand", "hip": "knee", "knee": "ankle"}
"""Limb bones, and the joint or point that each of them points to."""


@dataclass(frozen=True)
class SmplRest(RestBody):
    """A body of one shape in the rest pose, and where its points are in SMPL's T-pose."""

    tpose: torch.Tensor
    """Vertices, then joints and points (..., V + J, 3), in SMPL's T-pose, model frame."""


class SmplBody:
    """A body from a user's model file, with the interface of `BodyModel`.

    Attributes:
        name: smpl, smplh or smplx.
        shape_spread: One: SMPL's shape parameters count standard deviations.
        shape_names: beta0 to beta9, or fewer where the file has fewer.
        faces: Triangles (F, 3), int64; None for a subset of vertices.
        weights: Skinning weights (V, 22); hands, jaw and eyes move with wrist and head.
        align: Turn of each bone from SMPL's T-pose to the rest pose (22, 3, 3), the project's axes.
    """

    shape_spread = 1.0
    bone_names = BONE_NAMES
    bone_parents = BONE_PARENTS
    joint_names = JOINT_NAMES

    def __init__(
        self,
        name: str,
        mean: torch.Tensor,
        directions: torch.Tensor,
        weights: torch.Tensor,
        align: torch.Tensor,
        correctives: torch.Tensor | None,
        faces: np.ndarray | None,
    ) -> None:
        """Hold the arrays: points (V + J, 3), directions (S, V + J, 3), correctives (V, 3, 189)."""
        self.name, self.weights, self.align, self.faces = name, weights, align, faces
        self._mean, self._directions, self._correctives = mean, directions, correctives
        self.shape_names = tuple(f"beta{i}" for i in range(len(directions)))
        self._point_bones = [BONE_NAMES.index(bone) for bone in POINT_BONES]

    @classmethod
    def load(cls, path: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> SmplBody:
        """Return the body of a model file (.npz; see `read_smpl`).

        Raises:
            InputError: The file cannot be used; the message says why.
        """
        data = read_smpl(path)
        align = _alignment(data)
        count = len(data.weights)

        def body(order: np.ndarray, kind: torch.dtype) -> SmplBody:
            def tensor(array: np.ndarray) -> torch.Tensor:
                return torch.as_tensor(array, dtype=kind, device=device)

            posed = None if data.correctives is None else tensor(data.correctives)
            directions = tensor(data.directions[:, order])
            return cls(data.name, tensor(data.points[order]), directions, tensor(data.weights), tensor(align), posed,
                       data.faces)  # fmt: skip

        # Heels, balls and crown are vertices, picked where the body stands in the rest pose.
        every = np.arange(count + BONES + 2)
        first = body(np.append(every, np.zeros(5, dtype=np.int64)), torch.float64)
        rest = first.rest(first.shape_mean)
        picks = point_vertices(rest.vertices.cpu().numpy(), rest.joint_pos[:BONES].cpu().numpy(), data.weights)
        return body(np.concatenate([every, picks]), dtype)

    @property
    def shape_mean(self) -> torch.Tensor:
        """Average shape (S,): zeros."""
        return torch.zeros(len(self.shape_names), dtype=self.dtype, device=self.device)

    @property
    def shape_low(self) -> torch.Tensor:
        """Lowest shape parameters (S,) that a fit may reach: five standard deviations below the average."""
        return torch.full_like(self.shape_mean, -5.0)

    @property
    def shape_high(self) -> torch.Tensor:
        """Highest shape parameters (S,) that a fit may reach: five standard deviations above the average."""
        return torch.full_like(self.shape_mean, 5.0)

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

    def subset(self, index: np.ndarray | torch.Tensor) -> SmplBody:
        """Return the same body with the vertices of an index (N,) alone: joints agree, evaluation is faster."""
        index = torch.as_tensor(index, dtype=torch.int64, device=self.device)
        keep = torch.cat([index, torch.arange(self.num_vertices, len(self._mean), device=self.device)])
        posed = None if self._correctives is None else self._correctives[index]
        return SmplBody(
            self.name, self._mean[keep], self._directions[:, keep], self.weights[index], self.align, posed, None
        )

    def rest(self, shape: torch.Tensor) -> SmplRest:
        """Return the body of shape parameters (S,) or (B, S) in the rest pose."""
        if shape.shape[-1] != len(self.shape_names):
            raise InputError(
                f"body shape has {shape.shape[-1]} parameters, expected {len(self.shape_names)}: {self.shape_names}"
            )
        tpose = self._mean + torch.tensordot(shape, self._directions, dims=1)
        own = tpose[..., self.num_vertices :, :]
        heads = [own[..., 0, :]] * BONES
        for bone in range(1, BONES):
            parent = BONE_PARENTS[bone]
            heads[bone] = heads[parent] + (own[..., bone, :] - own[..., parent, :]) @ self.align[parent].T
        joints = torch.stack(heads, dim=-2)
        offsets = own[..., BONES:, :] - own[..., self._point_bones, :]
        points = joints[..., self._point_bones, :] + self._turn(self.align[self._point_bones], offsets)
        unturned = torch.eye(3, dtype=self.dtype, device=self.device).expand(1, BONES, 3, 3)
        vertices = self._skinned(
            self.align[None], joints.reshape(-1, BONES, 3), unturned, tpose.reshape(-1, *tpose.shape[-2:])
        )
        return SmplRest(vertices.reshape(*shape.shape[:-1], -1, 3), torch.cat([joints, points], dim=-2), tpose)

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
            pose: Local bone rotations (B, 22, 4), wxyz, against the rest pose; normalised here.
            root_pos: Pelvis joint (B, 3), world, m.
            shape: Shape parameters (S,) or (B, S); give it or `rest`.
            rest: A shape evaluated before by this body's `rest`.
            with_vertices: Whether vertices are computed beside the joints.

        Returns:
            The vertices, joint positions and joint orientations in the world.

        Raises:
            InputError: Neither or both of `shape` and `rest` are given, `rest` comes from another body, or the pose has
                another number of bones.
        """
        if (shape is None) == (rest is None):
            raise InputError("SmplBody.forward takes either shape or rest")
        if pose.ndim != 3 or pose.shape[1:] != (BONES, 4):
            raise InputError(f"body pose has shape {tuple(pose.shape)}, expected (B, {BONES}, 4)")
        if rest is None:
            assert shape is not None
            rest = self.rest(shape)
        if not isinstance(rest, SmplRest) or rest.tpose.shape[-2] != len(self._mean):
            raise InputError("SmplBody.forward takes what this body's rest() returned, not another body's")
        pose = quat_normalize(pose)
        heads = rest.joint_pos[..., :BONES, :].expand(len(pose), -1, -1)
        quats, positions = bone_kinematics(pose, root_pos, heads)
        point_quats = quats[:, self._point_bones]
        offsets = rest.joint_pos[..., BONES:, :] - rest.joint_pos[..., self._point_bones, :]
        points = positions[:, self._point_bones] + quat_rotate(point_quats, offsets.expand(len(pose), -1, -1))
        vertices = None
        if with_vertices:
            tpose = rest.tpose if rest.tpose.ndim == 3 else rest.tpose[None]
            vertices = self._skinned(quat_to_matrix(quats) @ self.align, positions, quat_to_matrix(pose), tpose)
        return BodyState(vertices, torch.cat([positions, points], dim=1), torch.cat([quats, point_quats], dim=1))

    def _skinned(
        self, turns: torch.Tensor, positions: torch.Tensor, local: torch.Tensor, tpose: torch.Tensor
    ) -> torch.Tensor:
        """Return vertices (B, V, 3) of bones turned by `turns` (B, 22, 3, 3) from the T-pose to joints (B, 22, 3)."""
        own = tpose[:, : self.num_vertices]
        heads = tpose[:, self.num_vertices : self.num_vertices + BONES]
        if self._correctives is not None:
            features = (smpl_turns(local, self.align) - torch.eye(3, dtype=self.dtype, device=self.device)).flatten(1)
            own = own + torch.einsum("vcf,bf->bvc", self._correctives, features)
        shifts = positions - self._turn(turns, heads)
        frames = torch.cat([turns.expand(len(shifts), -1, -1, -1), shifts[..., None]], dim=-1)
        blend = (self.weights @ frames.flatten(2)).unflatten(2, (3, 4))
        return (blend[..., :3] * own[..., None, :]).sum(-1) + blend[..., 3]

    @staticmethod
    def _turn(turns: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return (turns @ vectors[..., None])[..., 0]

    def sample_vertices(self, count: int, seed: int = 0) -> np.ndarray:
        """Return sorted indices (count,) of outer-skin vertices, drawn by the area around them, without repeats."""
        if self.faces is None:
            raise InputError("a subset of the body has no faces to sample from; sample the whole body")
        corners = self._mean[: self.num_vertices].double().cpu().numpy()
        return sample_by_area(corners, self.faces, self.outer_vertices(), count, seed)

    def outer_vertices(self) -> np.ndarray:
        """Return indices of the skin: the mesh's largest connected part, without eyes."""
        if self.faces is None:
            raise InputError("a subset of the body has no faces; ask the whole body")
        return largest_part(self.faces, self.num_vertices)


def smpl_turns(local: torch.Tensor, align: torch.Tensor) -> torch.Tensor:
    """Return SMPL's local turns (B, 21, 3, 3) of its joints behind the pelvis, against its T-pose, in its own axes.

    With A the bones' turns to the rest pose and L the pose, bone k of parent p turns by A_p^T L_k A_k.

    Args:
        local: Local bone rotations (B, 22, 3, 3) against the rest pose, the project's axes.
        align: Turns from the T-pose to the rest pose (22, 3, 3).
    """
    own = align[_PARENTS].transpose(-1, -2) @ local @ align
    return own[:, list(BONE_AT)][:, 1:, TO_SMPL][..., TO_SMPL]


def poses_to_smpl(motion: HumanMotion, body: SmplBody) -> dict[str, np.ndarray]:
    """Return a motion that was fitted with an SMPL body as SMPL's own parameters, for the user's SMPL software.

    The world stays this project's: z up, metres. Hands are straight: make an SMPL-H or SMPL-X model of the
    smplx package with `flat_hand_mean=True`.

    Args:
        motion: The motion, T frames.
        body: The body it was fitted with, all of its vertices or some.

    Returns:
        global_orient (T, 3) and body_pose (T, 63), for smpl (T, 69) with straight hands: axis-angle, rad, in the order
        of SMPL's joints; transl (T, 3), m, as SMPL's software adds it to the joints; betas (S,); times_ns (T,).

    Raises:
        InputError: The motion is of another body.
    """
    if motion.body_model != body.name or motion.shape_names != body.shape_names:
        raise InputError(
            f"the motion is of body {motion.body_model} with {len(motion.shape_names)} shape parameters, expected "
            f"{body.name} with {len(body.shape_names)}; reconstruct with this body file"
        )
    local = torch.as_tensor(quat_to_matrix(motion.pose / np.linalg.norm(motion.pose, axis=-1, keepdims=True)))
    align = body.align.double().cpu()
    turns = smpl_turns(local, align).numpy()
    # Model coordinates in SMPL's axes, the world in the project's: the columns alone are reordered.
    root = (local[:, 0] @ align[0]).numpy()[..., TO_SMPL]
    frames = len(motion.pose)
    body_pose = np.asarray(quat_to_rotvec(quat_from_matrix(turns))).reshape(frames, -1)
    if body.name == "smpl":
        body_pose = np.concatenate([body_pose, np.zeros((frames, 6))], axis=1)
    shape = torch.as_tensor(motion.shape, dtype=body.dtype, device=body.device)
    pelvis = body.rest(shape).tpose[body.num_vertices].double().cpu().numpy()[list(TO_SMPL)]
    return {
        "global_orient": np.asarray(quat_to_rotvec(quat_from_matrix(root))),
        "body_pose": body_pose,
        "transl": motion.root_pos - pelvis,
        "betas": np.array(motion.shape, dtype=np.float64),
        "times_ns": motion.times_ns,
    }


def _alignment(data: SmplArrays) -> np.ndarray:
    """Return the turn of each bone from the T-pose to the rest pose (22, 3, 3)."""
    anny = AnnyBody.load(dtype=torch.float64)
    wanted = anny.rest(anny.shape_mean).joint_pos.numpy()
    joints = data.points[len(data.weights) :]
    hands = {"left_hand": joints[BONES], "right_hand": joints[BONES + 1]}
    turns = np.tile(np.eye(3), (BONES, 1, 1))
    for bone, name in enumerate(BONE_NAMES):
        side, _, part = name.partition("_")
        if part in _LIMBS:
            end = f"{side}_{_LIMBS[part]}"
            own = (hands[end] if end in hands else joints[BONE_NAMES.index(end)]) - joints[bone]
            along = wanted[JOINT_NAMES.index(end)] - wanted[bone]
            turns[bone] = _least_turn(turns[BONE_PARENTS[bone]] @ own, along) @ turns[BONE_PARENTS[bone]]
        elif part == "ankle":
            toe = BONE_NAMES.index(f"{side}_toe")
            level = np.array([1.0, 1.0, 0.0])
            turns[bone] = _least_turn(level * (joints[toe] - joints[bone]), level * (wanted[toe] - wanted[bone]))
        elif part == "toe":
            turns[bone] = turns[BONE_PARENTS[bone]]
    return turns


def _least_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the smallest rotation (3, 3) that turns direction a into direction b (Rodrigues' formula)."""
    a, b = (x / max(float(np.linalg.norm(x)), 1e-9) for x in (a, b))
    x, y, z = np.cross(a, b)
    cosine = float(a @ b)
    if cosine < -0.9:
        raise InputError("a limb of the body model points against the rest pose's; expected a T-pose in SMPL's axes")
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + skew + skew @ skew / (1 + cosine)
