"""Acted clips on the body: feet that stand, joints within their limits, links that keep their lengths."""

import functools
from itertools import pairwise

import numpy as np
import pytest
import torch

from bodydouble.motion import HumanMotion
from perception.bench.clips import clip_config
from perception.body.anny_body import JOINT_NAMES
from perception.body.anny_data import BONE_NAMES, BONE_PARENTS
from perception.body.limits import limit_excess
from perception.fit_terms import turns_against_rest
from perception.synthetic.acting import act, proportions, sample_clip, whole_body
from perception.synthetic.motions import SEGMENTS, MotionConfig, Segment
from perception.synthetic.room import SEAT_HEIGHT, STEP_HEIGHT, Mesh, room

AVERAGE, SMALL, LARGE = (0.5,) * 5, (0.8, 0.3, 0.6, 0.15, 0.7), (0.2, 0.6, 0.5, 0.9, 0.3)
SHAPES = {"average": AVERAGE, "small": SMALL, "large": LARGE}


def clip(kind: str, amount: float = 0.9, shape=AVERAGE) -> HumanMotion:
    before = {"stand_up": (Segment("sit", 2.0),), "get_up": (Segment("lie", 4.0),)}.get(kind, ())
    amount = {"walk": 0.5, "climb": 0.2}.get(kind, amount)
    seconds = 4.0 if kind in ("lie", "get_up") else 2.5
    segments = (Segment("stand", 0.3), *before, Segment(kind, seconds, amount, "both"), Segment("stand", 0.3))
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
    low = soles.transpose(0, 2, 1)[stands]
    # On the floor at z = 0, or on the step.
    assert np.abs(np.where(low > 0.1, low - 0.2, low)).max() < 0.01
    heel = of(acted, "left_heel")[:, 0, 2][stands[:, 0]]
    assert np.ptp(np.where(heel > 0.1, heel - 0.2, heel)) < 1e-4


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


@functools.cache
def in_room(name: str) -> tuple[HumanMotion, Mesh]:
    config = clip_config(name)
    mesh = room(np.random.default_rng(config.seed), config.room)
    return act(config.motion, config.shape, mesh), mesh


def depth_inside(points: np.ndarray, mesh: Mesh) -> float:
    """Farthest that a point (..., 3) is inside one of the boxes that a room consists of, m."""
    deepest = 0.0
    for corners in mesh.vertices[mesh.triangles].reshape(-1, 36, 3):
        inside = np.minimum(points - corners.min(axis=0), corners.max(axis=0) - points).min(axis=-1)
        deepest = max(deepest, float(inside.max()))
    return deepest


@pytest.mark.parametrize("name", ["sit", "stand_up", "climb", "lie"])
def test_nobody_is_inside_the_furniture_or_the_floor(name):
    motion, mesh = in_room(name)
    body = whole_body()
    skin = body.subset(body.outer_vertices()[::9])
    frames = slice(None, None, 3)
    pose, root, shape = (
        torch.as_tensor(x, dtype=body.dtype) for x in (motion.pose[frames], motion.root_pos[frames], motion.shape)
    )
    vertices = skin.forward(pose, root, shape).vertices
    assert vertices is not None
    assert depth_inside(vertices.numpy(), mesh) < 0.012
    assert slip(motion) < 1e-3
    joints = np.linalg.norm(np.diff(motion.joint_pos, axis=0), axis=-1) * 30
    assert joints.max() < 2.5
    excess = limit_excess(turns_against_rest(torch.from_numpy(motion.pose))[0]).abs().max()
    assert excess < 0.12


def seconds(motion: HumanMotion) -> dict[str, float]:
    """How long each part touches, s, of those that do."""
    return {
        name: float(time)
        for name, time in zip(motion.contact_names, motion.contact.sum(axis=0) / 30, strict=True)
        if time
    }


def test_who_sits_on_the_chair_touches_it_with_the_seat_alone():
    motion, _ = in_room("sit")
    touched = seconds(motion)
    assert set(touched) == {"left_foot", "right_foot", "pelvis"}
    assert touched["pelvis"] == pytest.approx(3.2, abs=0.3)
    part = motion.contact_names.index("pelvis")
    sits = motion.contact[:, part] > 0.5
    assert not sits[:80].any() and sits[-60:].all()
    np.testing.assert_allclose(motion.contact_pos[sits, part, 2], SEAT_HEIGHT, atol=0.015)


def test_who_lies_touches_the_floor_with_hands_seat_and_back():
    motion, _ = in_room("lie")
    touched = seconds(motion)
    assert set(touched) == {"left_foot", "right_foot", "left_hand", "right_hand", "pelvis", "back"}
    assert touched["back"] > 1.8 and touched["pelvis"] > touched["back"]
    assert of(motion, "head")[-1, 0, 2] < 0.25 and of(motion, "pelvis")[-1, 0, 2] < 0.15
    np.testing.assert_allclose(motion.contact_pos[motion.contact > 0.5][:, 2], 0, atol=0.02)


def test_who_climbs_stands_on_the_step_in_between():
    motion, _ = in_room("climb")
    ankles = of(motion, "left_ankle", "right_ankle")[..., 2]
    middle = ankles[len(ankles) // 2]
    np.testing.assert_allclose(middle - ankles[0], STEP_HEIGHT, atol=1e-3)
    np.testing.assert_allclose(ankles[-1], ankles[0], atol=1e-3)
    assert motion.contact[len(ankles) // 2, :2].all() and set(seconds(motion)) == {"left_foot", "right_foot"}


def test_a_room_changes_nothing_for_who_touches_only_the_floor():
    bare, inside = act(MotionConfig()), act(MotionConfig(), scene=room(np.random.default_rng(0)))
    for name in ("joint_pos", "pose", "root_pos", "contact"):
        np.testing.assert_array_equal(getattr(bare, name), getattr(inside, name))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_people_of_any_size_rest_on_the_floor(shape):
    motion = act(MotionConfig((Segment("stand", 0.3), Segment("lie", 4.5), Segment("stand", 0.5))), shape)
    body = whole_body()
    last = (torch.as_tensor(x, dtype=body.dtype) for x in (motion.pose[-1:], motion.root_pos[-1:], motion.shape))
    vertices = body.forward(*last).vertices
    assert vertices is not None
    assert -0.015 < float(vertices[..., 2].min()) < 0.001


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
