"""Keypoints in the fit itself: an arm that the depth camera does not see follows them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bodydouble.frames import quat_from_rotvec, quat_mul
from perception.body.anny_body import JOINT_NAMES, AnnyBody
from perception.body.anny_data import BONE_NAMES
from perception.body.limits import REST_POSTURE
from perception.fit import FitConfig, fit_body
from perception.keypoints.file import Keypoints
from perception.keypoints.term import ReprojectionTerm
from perception.segment import PersonPoints
from tests.perception.keypoints.test_keypoints import STEP, project, view

FRAMES, POINTS = 12, 600
EYE = (3.0, 0.5, 1.4)


@pytest.mark.slow
def test_an_arm_without_depth_follows_its_keypoints() -> None:
    rng = np.random.default_rng(0)
    body = AnnyBody.load()
    pose = torch.as_tensor(REST_POSTURE, dtype=torch.float32).repeat(FRAMES, 1, 1)
    shoulder = BONE_NAMES.index("left_shoulder")
    pose[:, shoulder] = quat_mul(quat_from_rotvec(torch.tensor([0.9, 0.0, 0.0])).expand(FRAMES, 4), pose[:, shoulder])
    root, shape = torch.zeros(FRAMES, 3), torch.full((5,), 0.5)
    with torch.no_grad():
        state = body.forward(pose, root, shape)
        assert state.vertices is not None
        root[:, 2] -= state.vertices[..., 2].min()
        state = body.forward(pose, root, shape)
    assert state.vertices is not None
    skin, joints = state.vertices.numpy(), state.joint_pos.numpy()
    arm = [BONE_NAMES.index(f"left_{name}") for name in ("shoulder", "elbow", "wrist")]
    # The camera's side of the body, without its left arm.
    seen = np.flatnonzero((body.weights.numpy()[:, arm].sum(1) < 0.3) & (skin[0, :, 0] > np.median(skin[0, :, 0])))
    points = skin[:, rng.choice(seen, POINTS)] + rng.normal(0, 0.003, (FRAMES, POINTS, 3))
    times = np.arange(FRAMES, dtype=np.int64) * STEP
    origin = np.broadcast_to(EYE, points.shape).copy()
    person = PersonPoints(times, points, origin, np.full(FRAMES, POINTS), np.ones(FRAMES, int))
    camera = view("one", EYE, FRAMES)
    names = ("left_elbow", "left_wrist", "left_shoulder")
    index = [JOINT_NAMES.index(name) for name in names]
    pixels = project(joints[:, index].astype(np.float64), camera) + rng.normal(0, 2, (FRAMES, 3, 2))
    term = ReprojectionTerm([Keypoints("one", times, names, pixels, np.ones((FRAMES, 3)))], [camera], times)

    def error_m(terms: tuple[ReprojectionTerm, ...]) -> float:
        fitted = fit_body(person, 0.0, FitConfig(), terms=terms)
        return float(np.linalg.norm(fitted.joint_pos - joints, axis=-1)[:, index[:2]].mean())

    without, with_keypoints = error_m(()), error_m((term,))
    # Where the depth says nothing of the arm, one view leaves its distance along the rays open.
    assert with_keypoints < 0.15 and with_keypoints < 0.4 * without
