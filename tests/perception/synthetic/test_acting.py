"""Acted clips on the body: feet that stand, joints within their limits, links that keep their lengths."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from bodydouble.motion import HumanMotion
from perception.body.anny_body import JOINT_NAMES
from perception.body.anny_data import BONE_NAMES, BONE_PARENTS
from perception.body.limits import limit_excess
from perception.fit_terms import turns_against_rest
from perception.synthetic.acting import act, proportions, sample_clip, whole_body
from perception.synthetic.motions import SEGMENTS, MotionConfig, Segment

AVERAGE, SMALL, LARGE = (0.5,) * 5, (0.8, 0.3, 0.6, 0.15, 0.7), (0.2, 0.6, 0.5, 0.9, 0.3)
SHAPES = {"average": AVERAGE, "small": SMALL, "large": LARGE}


def clip(kind: str, amount: float = 0.9, shape=AVERAGE) -> HumanMotion:
    before = (Segment("sit", 2.0),) if kind == "stand_up" else ()
    amount = 0.5 if kind == "walk" else amount
    segments = (Segment("stand", 0.3), *before, Segment(kind, 2.5, amount, "both"), Segment("stand", 0.3))
    return act(MotionConfig(segments, start_xy=(0.1, 0.2), heading=0.7), shape)


def of(motion: HumanMotion, *names: str) -> np.ndarray:
    return motion.joint_pos[:, [JOINT_NAMES.index(name) for name in names]]


def slip(motion: HumanMotion) -> float:
    """Farthest that an ankle goes between two frames in which its foot stands, m."""
    stands = motion.contact[:, :2] > 0.5
    way = np.linalg.norm(np.diff(of(motion, "left_ankle", "right_ankle"), axis=0), axis=-1)
    return float(way[stands[1:] & stands[:-1]].max())


@pytest.fixture(scope="module", params=SEGMENTS)
def acted(request) -> HumanMotion:
    return clip(request.param)


def test_standing_feet_do_not_move(acted):
    assert slip(acted) < 1e-4
    stands = acted.contact[:, :2] > 0.5
    soles = of(acted, "left_heel", "right_heel", "left_ball", "right_ball")[..., 2].reshape(-1, 2, 2)
    assert np.abs(soles.transpose(0, 2, 1)[stands]).max() < 0.01  # on the floor at z = 0
    assert np.ptp(of(acted, "left_heel")[..., 2][stands[:, 0]]) < 1e-4


def test_joints_stay_within_the_limits(acted):
    turn, _ = turns_against_rest(torch.from_numpy(acted.pose))
    excess = limit_excess(turn).abs().amax(dim=(0, 2)).numpy()
    beyond = {BONE_NAMES[bone + 1]: float(excess[bone]) for bone in np.flatnonzero(excess > 0.1)}
    assert beyond == {}


def test_links_keep_their_lengths(acted):
    for bone, parent in enumerate(BONE_PARENTS):
        if parent >= 0:
            length = np.linalg.norm(acted.joint_pos[:, bone] - acted.joint_pos[:, parent], axis=-1)
            assert np.ptp(length) < 1e-5, BONE_NAMES[bone]


def test_pose_and_root_give_the_joints(acted):
    body = whole_body()
    state = body.forward(
        *(torch.as_tensor(x, dtype=body.dtype) for x in (acted.pose, acted.root_pos, acted.shape)), with_vertices=False
    )
    np.testing.assert_allclose(state.joint_pos, acted.joint_pos, atol=1e-5)
    np.testing.assert_allclose(acted.joint_pos[:, 0], acted.root_pos, atol=1e-6)


def test_joints_move_smoothly(acted):
    speed = np.linalg.norm(np.diff(acted.joint_pos, axis=0), axis=-1) * 30
    assert speed.max() < 4.0


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_demo_stands_firm_for_people_of_any_size(shape):
    motion = act(MotionConfig(), shape)
    assert slip(motion) < 1e-3
    assert np.diff(motion.times_ns) == pytest.approx(1e9 / 30, abs=1)
    assert np.abs(motion.joint_pos[:, :, :2]).max() < 1.3  # in the room's clear middle, or reaching out of it
    np.testing.assert_array_equal(motion.shape, shape)
    assert motion.body_model == "anny"


def test_long_steps_stand_firm_too():
    segments = (Segment("stand", 0.5), Segment("walk", 2.5, 1.0))
    assert slip(act(MotionConfig(segments))) < 1e-3


def test_a_sitting_person_touches_the_seat():
    motion = clip("sit")
    seat = motion.contact[:, motion.contact_names.index("pelvis")] > 0.5
    assert not seat[:80].any() and seat[85:].all()
    assert motion.contact[:, 2:4].max() == 0


def test_proportions_by_hand():
    """Legs and arms are the sums of their bones; standing with the pelvis there leaves the knees slightly bent."""
    rest = whole_body().rest(torch.tensor(AVERAGE))
    joint = {name: rest.joint_pos[i].numpy() for i, name in enumerate(BONE_NAMES)}
    found = proportions(rest)

    def length(*names: str) -> float:
        return sum(float(np.linalg.norm(joint[a] - joint[b])) for a, b in pairwise(names))

    assert found.leg == pytest.approx(length("left_hip", "left_knee", "left_ankle"))
    assert found.arm == pytest.approx(length("left_shoulder", "left_elbow", "left_wrist"))
    assert found.ankle_height == pytest.approx(float(joint["left_ankle"][2] - rest.vertices[:, 2].min()))
    standing = clip("stand")
    knee = of(standing, "left_hip", "left_knee", "left_ankle")[0]
    bend = np.degrees(np.arccos(np.clip(_cosine(knee[1] - knee[0], knee[2] - knee[1]), -1, 1)))
    assert 10 < bend < 45


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_sampled_clips_are_decided_by_the_seed():
    one, same, other = (sample_clip(np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.joint_pos, same.joint_pos)
    assert one.joint_pos.shape != other.joint_pos.shape or not np.allclose(one.joint_pos, other.joint_pos)
