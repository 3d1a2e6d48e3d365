"""First guess of the body: the joint network's answers at key frames, and the Anny body brought to them.

The network sees one camera's points at a time (`perception/joints/estimate.py`). Here left and right are made to agree
over time, the body's shape is read off the lengths between joints, and Gauss-Newton steps turn the bones until the
body's joints are where the network's are (inverse kinematics by damped least squares; Buss 2004).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_matrix
from perception.body.anny_body import JOINT_NAMES, AnnyBody
from perception.body.anny_data import SHAPE_NAMES
from perception.body.jacobian import JOINT_INFLUENCE, SIZE, Motions, stepped
from perception.body.limits import EASE_WEIGHTS, REST_POSTURE, limit_excess
from perception.clip_solver import ClipEquations
from perception.fit_terms import turns_against_rest
from perception.joints.estimate import JointEstimates, estimate_joints, swapped_sides
from perception.segment import PersonPoints
from perception.skin import whole_body

STEPS = 20
"""Gauss-Newton steps of the inverse kinematics."""
CERTAIN_M = 0.03
"""Laplace scale below which a joint counts in full, m."""
REACH_M = 0.15
"""Distance at which a joint that the body cannot reach has lost most of its pull, m."""
POSTURE = 0.01
"""Weight of the easy posture, in units of a joint's pull at REACH_M."""
LIMITS = 0.5
"""Weight of the joint limits, in the same units."""
DAMPING = 0.01
"""What is added to the normal equations' diagonal."""
SWAP_M = 0.10
"""Mean motion of the sided joints, m, by which a frame must be smoother to have left and right exchanged."""

_LENGTHS = tuple(
    (JOINT_NAMES.index(a), JOINT_NAMES.index(b))
    for a, b in (
        ("neck", "head_top"), ("pelvis", "spine2"), ("spine2", "neck"), ("left_shoulder", "right_shoulder"),
        ("left_hip", "right_hip"),
        *((f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in (
            ("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))),
    )
)  # fmt: skip
"""Pairs of joints whose distance does not change as the bones turn, or hardly."""


@dataclass(frozen=True)
class InitialPose:
    """First guess of the body at K key frames."""

    pose: torch.Tensor
    """Local bone rotations (K, 22, 4), wxyz."""
    root: torch.Tensor
    """Pelvis (K, 3), world, m."""
    shape: torch.Tensor
    """Shape parameters (5,) of the whole clip."""
    confidence: torch.Tensor
    """Share of the joints (K,), 0 to 1, that the network is certain of and that the body reaches."""


@torch.no_grad()
def initial_pose(person: PersonPoints, keys: np.ndarray) -> InitialPose:
    """Return the body at key frames from the person's points there, each frame by itself.

    Args:
        person: The person's points.
        keys: Indices of the key frames (K,), ascending; frames in which the person is seen.

    Raises:
        InputError: No key frame shows enough of the person.
    """
    found = _consistent(estimate_joints(person, keys))
    joints, known = _filled(found.joints)
    certain = np.where(known, np.minimum(1.0, CERTAIN_M / np.maximum(found.scales, 1e-6)), 0.0) ** 2
    target = torch.as_tensor(joints, dtype=torch.float32)
    # Where a joint is not known it is held loosely at its place in the frames beside.
    weight = torch.as_tensor(np.where(known, np.maximum(certain, 0.02), 0.005), dtype=torch.float32)
    weight[:, torch.as_tensor(~known.any(axis=0))] = 0.0
    shape = _shape_of(joints, certain)
    pose, root, gap = _reach(target, weight, shape)
    sure = torch.as_tensor(certain, dtype=torch.float32) * (gap < 0.1)
    return InitialPose(pose, root, shape, sure.sum(dim=1) / max(1, int(known.any(axis=0).sum())))


def _consistent(found: JointEstimates) -> JointEstimates:
    """Return the joints with left and right exchanged where the whole clip says so (Viterbi 1967, two states)."""
    swapped = swapped_sides(found)
    sided = [i for i, name in enumerate(JOINT_NAMES) if name.startswith(("left", "right"))]
    states = np.stack([found.joints[:, sided], swapped.joints[:, sided]])
    # Motion of the sided joints from state a of one frame to state b of the next; 0 where nothing is known.
    motion = np.linalg.norm(states[:, None, 1:] - states[None, :, :-1], axis=-1).swapaxes(0, 1)
    there = np.isfinite(motion)
    motion = np.where(there, motion, 0.0).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
    # What the network says is right more often than not.
    own = np.array([0.0, SWAP_M])
    cost, back = own.copy(), np.zeros((len(found.joints), 2), dtype=int)
    for frame in range(1, len(found.joints)):
        through = cost[:, None] + motion[:, :, frame - 1]
        back[frame] = through.argmin(axis=0)
        cost = through.min(axis=0) + own
    state = np.zeros(len(found.joints), dtype=bool)
    last = int(cost.argmin())
    for frame in range(len(found.joints) - 1, -1, -1):
        state[frame] = last
        last = back[frame, last]
    return JointEstimates(
        np.where(state[:, None, None], swapped.joints, found.joints),
        np.where(state[:, None], swapped.scales, found.scales),
    )


def _filled(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return joints with gaps in time filled from the frames beside, and which were known (K, J)."""
    known: np.ndarray = np.asarray(np.isfinite(joints).all(axis=-1))
    if not known.any():
        raise InputError("no frame shows enough of the person to find joints in; record closer to the person")
    filled = np.zeros_like(joints)
    frames = np.arange(len(joints))
    for joint in np.flatnonzero(known.any(axis=0)):
        at = known[:, joint]
        for axis in range(3):
            filled[:, joint, axis] = np.interp(frames, frames[at], joints[at, joint, axis])
    return filled, known


@functools.cache
def _joints_only() -> AnnyBody:
    return whole_body().subset(np.zeros(1, dtype=np.int64))


def _shape_of(joints: np.ndarray, certain: np.ndarray) -> torch.Tensor:
    """Return shape parameters (5,) whose bones have the lengths between the joints (K, J, 3), by their certainty."""
    first, second = (list(side) for side in zip(*_LENGTHS, strict=True))
    lengths = np.linalg.norm(joints[:, first] - joints[:, second], axis=-1)
    weight = certain[:, first] * certain[:, second]
    total = weight.sum(axis=0)
    mean = (weight * lengths).sum(axis=0) / np.maximum(total, 1e-9)
    body = _joints_only()

    def measure(shape: torch.Tensor) -> np.ndarray:
        rest = body.rest(shape).joint_pos.double().numpy()
        return np.linalg.norm(rest[..., first, :] - rest[..., second, :], axis=-1)

    shape = torch.full((len(SHAPE_NAMES),), 0.5)
    trust = np.minimum(1.0, total / max(1.0, 0.2 * len(joints)))
    change = 0.02 * torch.eye(len(shape))
    for _ in range(6):
        slopes = (measure(shape + change) - measure(shape - change)).T / 0.04
        # A length is known to about 2 cm, a parameter of people spreads by about 0.2 around the average.
        matrix = slopes.T @ (slopes * trust[:, None]) / 0.02**2 + np.eye(len(shape)) / 0.2**2
        pull = slopes.T @ (trust * (mean - measure(shape))) / 0.02**2 - (shape.numpy() - 0.5) / 0.2**2
        shape = (shape + torch.as_tensor(np.linalg.solve(matrix, pull), dtype=torch.float32)).clamp(0.05, 0.95)
    return shape


def _upright(joints: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return easy postures (K, 22, 4) turned as the trunk is, and the pelvis' places (K, 3)."""

    def place(name: str) -> torch.Tensor:
        return joints[:, JOINT_NAMES.index(name)]

    left = place("left_hip") - place("right_hip") + place("left_shoulder") - place("right_shoulder")
    up = torch.nn.functional.normalize(place("neck") - place("pelvis"), dim=-1)
    left = torch.nn.functional.normalize(left - (left * up).sum(-1, keepdim=True) * up, dim=-1)
    axes = torch.stack([torch.linalg.cross(left, up), left, up], dim=-1)
    pose = torch.as_tensor(REST_POSTURE, dtype=torch.float32).repeat(len(joints), 1, 1)
    pose[:, 0] = torch.as_tensor(quat_from_matrix(axes.double().numpy()), dtype=torch.float32)
    return pose, place("pelvis").clone()


def _reach(
    target: torch.Tensor, weight: torch.Tensor, shape: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return poses (K, 22, 4), roots (K, 3) and the joints' distances (K, J), m, of bodies brought to joints.

    Args:
        target: Wanted joints (K, J, 3), world, m.
        weight: Their weights (K, J).
        shape: Shape parameters (5,).
    """
    body = _joints_only()
    pose, root = _upright(target)
    rest = body.rest(shape)
    ease = torch.as_tensor(EASE_WEIGHTS, dtype=torch.float32)
    easy = (POSTURE * ease[1:]).flatten().expand(len(pose), -1)
    joints_in_all = float((weight.amax(dim=0) > 0).sum())
    gap = torch.zeros(weight.shape)
    for _ in range(STEPS):
        state = body.forward(pose, root, rest=rest, with_vertices=False)
        equations = ClipEquations(len(pose), SIZE, 0)
        missing = target - state.joint_pos
        gap = missing.norm(dim=-1)
        # Geman and McClure's weight: what is far out of reach is an error of the network.
        pull = weight / joints_in_all / REACH_M**2 / (1 + (gap / REACH_M) ** 2) ** 2
        rows = Motions(state).point_rows(state.joint_pos, JOINT_INFLUENCE)
        equations.add(-rows.flatten(1, 2), missing.flatten(1), pull.repeat_interleave(3, dim=1))
        turn, turn_rows = turns_against_rest(pose)
        equations.add(turn_rows, turn.flatten(1), easy)
        over = limit_excess(turn).flatten(1)
        equations.add(turn_rows, over, LIMITS * (over != 0))
        step = equations.solve_frames(DAMPING)
        pose, root = stepped(pose, root, torch.cat([step[:, :3].clamp(-0.2, 0.2), step[:, 3:].clamp(-0.5, 0.5)], 1))
    return pose, root, gap
