"""A body file in SMPL's format that the tests make: the Anny body, stood up in a T-pose."""

from pathlib import Path

import numpy as np
import torch

from bodydouble.frames import quat_from_matrix
from perception.body.anny_body import JOINT_NAMES, AnnyBody
from perception.body.anny_data import BONE_NAMES, BONE_PARENTS
from perception.body.smpl_file import BONE_AT, SMPL_NAMES

STRAIGHT = {"shoulder": ("elbow", 1), "elbow": ("wrist", 1), "wrist": ("hand", 1), "hip": ("knee", 0),
            "knee": ("ankle", 0)}  # fmt: skip
"""Limbs of a T-pose: what each points to, and whether it lies level."""


def turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The least rotation from direction a to b, by its axis."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis = np.cross(a, b)
    skew = np.cross(np.eye(3), axis)
    return np.eye(3) + skew + skew @ skew / (1 + a @ b)


def t_pose(body: AnnyBody) -> torch.Tensor:
    rest = body.rest(body.shape_mean).joint_pos.numpy()
    world = np.tile(np.eye(3), (len(BONE_NAMES), 1, 1))
    for bone, name in enumerate(BONE_NAMES):
        side, _, part = name.partition("_")
        if part in STRAIGHT:
            end, level = STRAIGHT[part]
            way = rest[JOINT_NAMES.index(f"{side}_{end}")] - rest[bone]
            parent = world[BONE_PARENTS[bone]]
            wanted = np.array([0, 1.0 if side == "left" else -1.0, 0]) if level else np.array([0, 0, -1.0])
            world[bone] = turn(parent @ way, wanted) @ parent
    local = world[[max(p, 0) for p in BONE_PARENTS]].swapaxes(1, 2) @ world
    return torch.as_tensor(quat_from_matrix(local))[None]


def write_smpl(path: Path) -> Path:
    """Anny's five shape parameters, straightened, become five betas of one spread each."""
    anny = AnnyBody.load(dtype=torch.float64)
    pose, root = t_pose(anny), torch.zeros(1, 3, dtype=torch.float64)

    def standing(shape: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        state = anny.forward(pose, root, shape)
        assert state.vertices is not None
        order = [*BONE_AT, JOINT_NAMES.index("left_hand"), JOINT_NAMES.index("right_hand")]
        vertices, joints = (x[0].numpy()[:, [1, 2, 0]] for x in (state.vertices, state.joint_pos[:, order]))
        return vertices, joints

    template, joints = standing(anny.shape_mean)
    step = 0.2 * torch.eye(5, dtype=torch.float64)
    there = [standing(anny.shape_mean + change) for change in step]
    shapes = np.stack([v - template for v, _ in there], axis=2)
    known = np.concatenate([np.ones((len(template), 1)), template, shapes.reshape(len(template), -1)], axis=1)
    moved = np.stack([j - joints for _, j in there], axis=2).reshape(24, -1)
    wanted = np.concatenate([np.ones((24, 1)), joints, moved], axis=1)
    weights = np.zeros((len(template), 24))
    weights[:, :22] = anny.weights.numpy()[:, list(BONE_AT)]
    parents = [SMPL_NAMES.index(BONE_NAMES[BONE_PARENTS[b]]) if BONE_PARENTS[b] >= 0 else -1 for b in BONE_AT]
    assert anny.faces is not None
    np.savez(
        path,
        v_template=template,
        shapedirs=shapes,
        J_regressor=wanted @ np.linalg.pinv(known),
        weights=weights,
        kintree_table=np.array([[*parents, 20, 21], range(24)]),
        f=anny.faces,
    )
    return path
