from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bodydouble.errors import InputError
from perception.body.anny_body import CONTACT_NAMES, JOINT_NAMES
from perception.body.limits import REST_POSTURE
from perception.contact_chain import persistent
from perception.contacts import ContactConfig, part_vertices, skin_contacts, touches
from perception.scene_field import flat_field
from perception.skin import whole_body
from perception.static_scene import StaticScene
from perception.synthetic.acting import DEFAULT_SHAPE, act
from perception.synthetic.motions import MotionConfig, Segment
from perception.synthetic.room import Mesh, box, merge

FLOOR = box((0, 0, -0.05), (6, 6, 0.1), (0, 0, 0))


def static(mesh: Mesh) -> StaticScene:
    return StaticScene(mesh.vertices, mesh.triangles.astype(np.int64), np.zeros((len(mesh.vertices), 3)))


def part(name: str) -> int:
    return CONTACT_NAMES.index(name)


def test_chain_of_three_frames_by_hand():
    # hold 2: stay 0.75, change 0.25. Likelihoods of touching 0.9, 0.5, 0.9; of not touching 0.1, 0.5, 0.1.
    # Forward (not, touching): (0.1, 0.9); (0.1 * 0.75 + 0.9 * 0.25, 0.1 * 0.25 + 0.9 * 0.75) * 0.5 = (0.15, 0.35).
    # Backward at frame 1: (0.75 * 0.1 + 0.25 * 0.9, 0.25 * 0.1 + 0.75 * 0.9) = (0.3, 0.7).
    # Frame 1: (0.15 * 0.3, 0.35 * 0.7) = (0.045, 0.245): 0.245 / 0.290.
    # Frame 2 forward: (0.15 * 0.75 + 0.35 * 0.25, 0.15 * 0.25 + 0.35 * 0.75) * (0.1, 0.9) = (0.02, 0.27): 0.27 / 0.29.
    # Frame 0 is the mirror image of frame 2.
    found = persistent(np.array([[0.9], [0.5], [0.9]]), 2.0)
    np.testing.assert_allclose(found[:, 0], [0.27 / 0.29, 0.245 / 0.290, 0.27 / 0.29], rtol=1e-12)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=st.floats(0, 1)),
    st.floats(1, 1000),
)
def test_probabilities_are_probabilities(likely, hold):
    found = persistent(likely, hold)
    assert found.shape == likely.shape
    assert np.isfinite(found).all()
    assert (found >= 0).all() and (found <= 1).all()


def test_one_odd_frame_does_not_change_the_state():
    likely = np.full((21, 1), 0.95)
    likely[10] = 0.1
    assert persistent(likely, 12.0).min() > 0.5


def test_a_state_must_hold_for_a_frame():
    with pytest.raises(InputError, match="at least 1"):
        persistent(np.full((3, 1), 0.5), 0.5)


def test_parts_have_their_own_skin():
    parts = part_vertices(24)
    assert list(parts) == list(CONTACT_NAMES)
    rest = whole_body().rest(torch.full((5,), 0.5))
    joints = {name: rest.joint_pos[i].numpy() for i, name in enumerate(JOINT_NAMES)}
    for name, vertices in parts.items():
        assert len(set(vertices)) == 24
        place = rest.vertices[torch.as_tensor(vertices)].numpy()
        side = {"left": 1, "right": -1}.get(name.split("_")[0])
        if side:
            assert (side * place[:, 1] > 0).all(), name
        if name.endswith("foot"):
            assert place[:, 2].max() < joints["left_ankle"][2]


def test_a_foot_that_stands_and_one_that_swings():
    frames, count = 40, 12
    skin = np.zeros((frames, 2, count, 3))
    skin[:, :, :, :2] = np.random.default_rng(0).uniform(0, 0.1, (count, 2))
    skin[:, 1, :, 0] += 1.2 * np.arange(frames)[:, None] / 30
    skin[:, 1, :, 2] = 0.06
    found = touches(skin, 30.0, flat_field(0.0), ContactConfig())
    assert found.probability[:, 0].min() > 0.9
    assert found.probability[:, 1].max() < 0.1
    np.testing.assert_allclose(found.position[:, 0, 2], 0.0, atol=1e-4)


def test_standing_feet_touch_and_nothing_else_and_untracked_frames_do_not():
    pose = np.tile(REST_POSTURE, (12, 1, 1))
    body = whole_body()
    state = body.forward(torch.as_tensor(pose[:1]).float(), torch.zeros(1, 3), torch.full((5,), 0.5))
    assert state.vertices is not None
    root = np.tile([0.0, 0.0, -float(state.vertices[..., 2].min())], (12, 1))
    tracked = np.arange(12) < 8
    found = skin_contacts(pose, root, np.full(5, 0.5), 30.0, static(FLOOR), 0.0, ContactConfig(), tracked)
    feet = [part("left_foot"), part("right_foot")]
    assert found.probability[:8, feet].min() > 0.5
    assert np.delete(found.probability, feet, axis=1).max() < 0.1
    assert not found.probability[8:].any()


def test_somebody_who_sits_touches_the_seat():
    seat = merge([FLOOR, box((-0.36, 0, 0.22), (0.5, 0.5, 0.44), (0, 0, 0))])
    motion = MotionConfig((Segment("sit", 1.6), Segment("stand", 0.8)), start_xy=(0.0, 0.0), fps=15.0)
    acted = act(motion, DEFAULT_SHAPE, seat)
    found = skin_contacts(acted.pose, acted.root_pos, acted.shape, 15.0, static(seat), 0.0, ContactConfig())
    pelvis = found.probability[:, part("pelvis")]
    assert pelvis[:6].max() < 0.3
    assert pelvis[-8:].min() > 0.8
    assert found.probability[-8:, [part("left_hand"), part("back")]].max() < 0.3
    assert found.position[-1, part("pelvis"), 2] == pytest.approx(0.44, abs=0.03)


def test_a_hand_on_a_table_touches_it():
    pose = np.tile(REST_POSTURE, (10, 1, 1))
    body = whole_body()
    state = body.forward(torch.as_tensor(pose[:1]).float(), torch.zeros(1, 3), torch.full((5,), 0.5))
    assert state.vertices is not None
    hand = state.vertices[0, torch.as_tensor(part_vertices(48)["left_hand"])].numpy()
    low = hand[:, 2].min()
    table = box((hand[:, 0].mean(), hand[:, 1].mean() + 0.05, low - 0.05), (0.3, 0.2, 0.1), (0, 0, 0))
    found = skin_contacts(pose, np.zeros((10, 3)), np.full(5, 0.5), 30.0, static(table), -2.0, ContactConfig())
    assert found.probability[:, part("left_hand")].min() > 0.5
    assert found.probability[:, part("right_hand")].max() < 0.1


def test_turning_about_does_not_change_contacts():
    skin = np.random.default_rng(1).uniform(0, 0.1, (20, 1, 12, 3))
    turn = np.array([[np.cos(1), -np.sin(1), 0], [np.sin(1), np.cos(1), 0], [0, 0, 1]])
    config = ContactConfig()
    here = touches(skin, 30.0, flat_field(0.0), config)
    there = touches(skin @ turn.T, 30.0, flat_field(0.0), config)
    np.testing.assert_allclose(here.probability, there.probability, atol=1e-4)
