"""Joints of the person from each camera's points alone, frame by frame, fused over the cameras."""

from __future__ import annotations

import functools
import importlib.resources
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch

from bodydouble.errors import InputError
from perception.body.anny_body import JOINT_NAMES
from perception.joints.canonical import MIN_POINTS, CanonicalViews, canonical_views
from perception.joints.export import metadata
from perception.joints.network import JOINT_INDEX
from perception.segment import PersonPoints

BATCH = 32
"""Views that are evaluated at a time."""
AGREE_M = 0.25
"""Distance from the most certain camera's joint at which another camera's is left out, m."""


@dataclass(frozen=True)
class JointEstimates:
    """What the network says. T frames, joints in the body's JOINT_NAMES' order."""

    joints: np.ndarray
    """Joints (T, J, 3), world, m; NaN where there is none."""
    scales: np.ndarray
    """Laplace scales of their distances (T, J), m; infinite where there is none."""


@functools.cache
def _session() -> onnxruntime.InferenceSession:
    """Return the shipped network.

    Raises:
        InputError: It is missing, or was made for other joints or images.
    """
    path = importlib.resources.files("perception.joints") / "weights" / "depth_joints.onnx"
    if not path.is_file():
        raise InputError(f"{path}: the joint network is missing; install the package again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    for name, value in metadata().items():
        if found.get(name) != value:
            raise InputError(f"{path}: {name} is {found.get(name)}, expected {value}; export it again")
    return session


def estimate_views(points: np.ndarray, valid: np.ndarray, eye: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return world joints (B, N, 3), m, and scales (B, N), m, of views of one camera each, in NETWORK_JOINTS' order.

    Args:
        points: Points (B, P, 3), world, Z up, m.
        valid: Which of them are there (B, P), bool; at least one each.
        eye: Positions of the cameras (B, 3), world, m.
    """
    joints, scales = [], []
    for start in range(0, len(points), BATCH):
        part = slice(start, start + BATCH)
        views: CanonicalViews = canonical_views(
            torch.as_tensor(points[part], dtype=torch.float32),
            torch.as_tensor(valid[part]),
            torch.as_tensor(eye[part], dtype=torch.float32),
        )
        local, scale = _session().run(None, {"images": views.images.numpy()})
        joints.append(views.to_world(torch.as_tensor(local)).numpy())
        scales.append(scale)
    return np.concatenate(joints).astype(np.float64), np.concatenate(scales).astype(np.float64)


def estimate_joints(person: PersonPoints, frames: np.ndarray) -> JointEstimates:
    """Return the joints at some of a clip's frames, all cameras together.

    A joint is the mean over the cameras that agree with the most certain one, weighted by certainty. A camera that
    took the person's left for the right, by the most certain camera's word, is put right first.

    Args:
        person: The person's points.
        frames: Indices of the frames (T,).
    """
    views = _estimate_cameras(person, frames)
    if not views:
        return _nothing(len(frames))
    views = _same_sides(views)
    joints, scales = np.stack([view.joints for view in views]), np.stack([view.scales for view in views])
    best = np.take_along_axis(joints, scales.argmin(axis=0)[None, ..., None], axis=0)
    agree = np.linalg.norm(joints - best, axis=-1) < AGREE_M
    weight = np.where(agree, 1.0 / scales**2, 0.0)
    total = weight.sum(axis=0)
    seen = total > 0
    mean = (weight[..., None] * np.where(agree[..., None], joints, 0.0)).sum(axis=0)
    total = np.where(seen, total, 1.0)
    return JointEstimates(
        np.where(seen[..., None], mean / total[..., None], np.nan), np.where(seen, 1.0 / np.sqrt(total), np.inf)
    )


def swapped_sides(found: JointEstimates) -> JointEstimates:
    """Return the joints with left and right exchanged."""
    return JointEstimates(found.joints[:, _OTHER_SIDE], found.scales[:, _OTHER_SIDE])


def _other_side(name: str) -> str:
    side, _, part = name.partition("_")
    return {"left": f"right_{part}", "right": f"left_{part}"}.get(side, name)


_OTHER_SIDE = [JOINT_NAMES.index(_other_side(name)) for name in JOINT_NAMES]


def _nothing(frames: int) -> JointEstimates:
    size = (frames, len(JOINT_NAMES))
    return JointEstimates(np.full((*size, 3), np.nan), np.full(size, np.inf))


def _estimate_cameras(person: PersonPoints, frames: np.ndarray) -> list[JointEstimates]:
    """Return the joints by each frame's first camera, second camera and so on."""
    origin, points = person.origin[frames], person.points[frames]
    left = np.repeat((person.count[frames] > 0)[:, None], points.shape[1], axis=1)
    answers: list[JointEstimates] = []
    while left.any():
        # One camera of each frame at a time: the one of the first point that is left.
        shown = np.flatnonzero(left.any(axis=1))
        eye = origin[shown, left[shown].argmax(axis=1)]
        own = left[shown] & (np.abs(origin[shown] - eye[:, None]).max(axis=-1) < 1e-9)
        left[shown] &= ~own
        enough = own.sum(axis=1) >= MIN_POINTS
        answer = _nothing(len(frames))
        if enough.any():
            at = np.ix_(shown[enough], np.asarray(JOINT_INDEX))
            answer.joints[at], answer.scales[at] = estimate_views(points[shown[enough]], own[enough], eye[enough])
        answers.append(answer)
    return answers


def _same_sides(views: list[JointEstimates]) -> list[JointEstimates]:
    """Return the cameras' joints with left and right as each frame's most certain camera has them."""
    certain = np.stack([np.where(np.isfinite(v.scales), 1.0 / v.scales, 0.0).sum(axis=1) for v in views]).argmax(axis=0)
    reference = np.stack([view.joints for view in views])[certain, np.arange(len(certain))]
    result = []
    for view in views:
        other = swapped_sides(view)
        here, there = (_mean_distance(v.joints, reference) for v in (view, other))
        wrong = there < here
        result.append(
            JointEstimates(
                np.where(wrong[:, None, None], other.joints, view.joints),
                np.where(wrong[:, None], other.scales, view.scales),
            )
        )
    return result


def _mean_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the mean distance (T,) of joints (T, J, 3) that are there in both; 0 where none is."""
    distance = np.linalg.norm(a - b, axis=-1)
    there = np.isfinite(distance)
    return np.where(there, distance, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
