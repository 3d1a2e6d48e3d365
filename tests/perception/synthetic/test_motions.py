"""The plan of a clip: what each segment does, by hand on a person of round lengths."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodydouble.errors import InputError
from perception.synthetic.motions import (
    CLIMB_STEP,
    SEGMENTS,
    MotionConfig,
    Proportions,
    Segment,
    Tracks,
    min_jerk,
    plan,
    random_segments,
    with_segments,
)

BODY = Proportions(pelvis_height=0.94, ankle_height=0.08, hip_width=0.1, leg=0.85, arm=0.5, shoulder=(0.5, 0.18))
FPS = 30.0


def planned(*segments: Segment, heading: float = 0.0) -> Tracks:
    return plan(MotionConfig(tuple(segments), start_xy=(0.2, -0.1), heading=heading, fps=FPS), BODY)


def some(kind: str, amount: float = 0.8, side: str = "right") -> tuple[Segment, ...]:
    before = {"stand_up": (Segment("sit", 2.0),), "get_up": (Segment("lie", 2.0),)}.get(kind, ())
    return (Segment("stand", 0.5), *before, Segment(kind, 3.0, 0.2 if kind == "climb" else amount, side))


def test_min_jerk_by_hand():
    """At a quarter, the half and the end of the time: 0.103515625, 0.5, 1; it starts and ends without speed."""
    np.testing.assert_allclose(min_jerk(4)[[0, 1, 3]], [0.103515625, 0.5, 1.0])
    steps = np.diff(min_jerk(1000), prepend=0)
    assert (steps > 0).all()
    assert max(steps[0], steps[-1]) < 1e-7 and steps.max() == pytest.approx(1.875 / 1000, rel=1e-3)


def test_the_start_is_a_stand_over_both_feet():
    tracks = planned(Segment("stand", 1.0), heading=np.pi / 2)
    assert len(tracks.pelvis) == 31
    np.testing.assert_allclose(tracks.pelvis, np.tile((0.2, -0.1, 0.94), (31, 1)))
    np.testing.assert_allclose(tracks.feet[7], [(0.2 - 0.11, -0.1, 0.08), (0.2 + 0.11, -0.1, 0.08)], atol=1e-12)
    np.testing.assert_allclose(tracks.foot_yaw, np.pi / 2)
    assert tracks.contact.all() and not tracks.seat.any()
    np.testing.assert_allclose(tracks.hands[0, 0], (0.06, 0.30, 0.5 - 0.44))
    np.testing.assert_allclose(tracks.hands[0, 1], (0.06, -0.30, 0.5 - 0.44))


@pytest.mark.parametrize("kind", SEGMENTS)
def test_planted_feet_stand_still_on_the_floor(kind):
    tracks = planned(*some(kind))
    still = tracks.contact[1:] & tracks.contact[:-1]
    assert np.abs(np.diff(tracks.feet, axis=0)[still]).max() < 1e-12
    assert np.abs(np.diff(tracks.foot_yaw, axis=0)[still]).max() < 1e-12
    height = tracks.feet[tracks.contact][:, 2] - BODY.ankle_height
    np.testing.assert_allclose(height[height < 0.1], 0, atol=1e-12)
    np.testing.assert_allclose(height[height >= 0.1], 0.2)
    assert (height >= 0.1).any() == (kind == "climb")
    assert tracks.contact.any(axis=1).all()  # nobody jumps
    assert (tracks.feet[~tracks.contact][:, 2] > BODY.ankle_height).all()
    assert (tracks.contact.all() == (kind not in ("walk", "turn", "climb"))).all()


@pytest.mark.parametrize("kind", [kind for kind in SEGMENTS if kind not in ("sit", "lie")])
def test_every_segment_ends_standing_at_rest(kind):
    tracks = planned(*some(kind))
    middle = tracks.feet[-1, :, :2].mean(axis=0)
    ground = 0.2 if kind == "climb" else 0.0
    np.testing.assert_allclose(tracks.pelvis[-1], (*middle, BODY.pelvis_height + ground), atol=1e-9)
    np.testing.assert_allclose(tracks.torso[-1], 0, atol=1e-12)
    np.testing.assert_allclose(tracks.hands[-1], tracks.hands[0], atol=1e-12)
    np.testing.assert_allclose(tracks.foot_yaw[-1], tracks.heading[-1], atol=1e-12)
    assert np.linalg.norm(tracks.feet[-1, 0] - tracks.feet[-1, 1]) == pytest.approx(2.2 * BODY.hip_width)
    assert not tracks.seat[-1] and tracks.rest[-1] == 0


@pytest.mark.parametrize("kind", [kind for kind in SEGMENTS if kind != "walk"])
def test_a_segment_takes_its_time(kind):
    """Three seconds, within a frame for each of its parts."""
    extra = 60 if kind in ("stand_up", "get_up") else 0
    assert len(planned(*some(kind)).pelvis) - 16 - extra == pytest.approx(90, abs=5)


def test_a_walk_takes_one_step_longer():
    """3.6 s are five steps and a third; the step that closes the feet comes on top."""
    frames = len(planned(Segment("walk", 3.6, 0.9)).pelvis) - 1
    assert frames / FPS == pytest.approx(3.6 * 6.35 / 5.35, abs=6 / FPS)


@pytest.mark.parametrize("kind", SEGMENTS)
def test_a_segment_moves_smoothly(kind):
    """Nothing moves faster than 2.5 m/s or turns faster than 4 rad/s; down to the floor takes longer."""
    slower = 2.2 if kind in ("lie", "get_up") else 1.0
    tracks = planned(*(dataclasses.replace(segment, seconds=slower * segment.seconds) for segment in some(kind)))
    for name, bound in (("pelvis", 1.0), ("feet", 2.5), ("hands", 2.5), ("torso", 2.0), ("heading", 4.0)):
        assert FPS * np.abs(np.diff(getattr(tracks, name), axis=0)).max() < bound, name


@pytest.mark.parametrize("heading", [0.0, 2.0])
def test_walking_covers_the_distance_straight_ahead(heading):
    tracks = planned(Segment("walk", 3.6, 0.9), heading=heading)
    ahead, left = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])
    way = tracks.pelvis[:, :2] - tracks.pelvis[0, :2]
    np.testing.assert_allclose(way[-1], 0.9 * ahead, atol=1e-9)
    assert np.abs(way @ left).max() < 1.1 * BODY.hip_width
    np.testing.assert_allclose(tracks.heading, heading)
    lifts = np.diff(tracks.contact.astype(int), axis=0) == -1
    assert lifts.sum() == 6 and abs(lifts[:, 0].sum() - lifts[:, 1].sum()) == 0
    assert not (~tracks.contact).all(axis=1).any()


@pytest.mark.parametrize("amount", [0.3, 1.2, -1.2])
def test_turning_turns_by_the_angle_on_the_spot(amount):
    tracks = planned(Segment("turn", 3.0, amount), heading=0.4)
    assert tracks.heading[-1] == pytest.approx(0.4 + amount)
    np.testing.assert_allclose(tracks.pelvis[-1], tracks.pelvis[0], atol=1e-9)
    assert (np.diff(tracks.heading) * np.sign(amount) >= -1e-12).all()


def test_the_chosen_hand_alone_moves_and_the_other_mirrors_it():
    right, left, both = (planned(*some("reach", 1.0, side)).hands for side in ("right", "left", "both"))
    np.testing.assert_allclose(right[:, 0], np.tile(right[0, 0], (len(right), 1)))
    np.testing.assert_allclose(right[:, 1] * (1, -1, 1), left[:, 0])
    np.testing.assert_allclose(both[:, 0], left[:, 0])
    np.testing.assert_allclose(both[:, 1], right[:, 1])
    assert right[:, 1, 0].max() == pytest.approx(0.8 * BODY.arm)


@pytest.mark.parametrize(("kind", "drop"), [("squat", 0.36), ("pick_up", 0.42)])
def test_depth_goes_with_the_amount(kind, drop):
    for amount in (0.4, 1.0):
        tracks = planned(*some(kind, amount))
        assert BODY.pelvis_height - tracks.pelvis[:, 2].min() == pytest.approx(drop * BODY.leg * amount)


def test_sitting_rests_on_the_seat_until_standing_up():
    tracks = planned(Segment("sit", 2.0), Segment("look", 2.0), Segment("stand_up", 2.0))
    assert not tracks.seat[:60].any() and tracks.seat[60:120].all() and not tracks.seat[121:].any()
    np.testing.assert_allclose(tracks.pelvis[60:121, 2], 0.55)
    assert tracks.pelvis[60, 0] == pytest.approx(0.2 - 0.42 * BODY.leg)


def test_climbing_goes_up_a_step_and_down_backwards_the_same_way():
    """The feet go one after the other, are over the edge before they are ahead of it, and come back to the place."""
    tracks = planned(Segment("climb", 3.0, 0.2), Segment("stand", 0.5), Segment("climb", 3.0, -0.2))
    top = len(tracks.pelvis) // 2
    on = tracks.feet[top] - tracks.feet[0]
    np.testing.assert_allclose(on, np.tile((CLIMB_STEP * BODY.leg, 0, 0.2), (2, 1)), atol=1e-12)
    np.testing.assert_allclose(tracks.pelvis[top], tracks.pelvis[0] + on[0], atol=1e-9)
    np.testing.assert_allclose(tracks.feet[-1], tracks.feet[0], atol=1e-9)
    np.testing.assert_allclose(tracks.pelvis[-1], tracks.pelvis[0], atol=1e-9)
    ahead = tracks.feet[..., 0] - tracks.feet[0, :, 0]
    assert (tracks.feet[..., 2] - BODY.ankle_height)[ahead > 0.05].min() > 0.15
    assert not (~tracks.contact).all(axis=1).any()


def test_who_climbed_goes_on_at_that_height():
    tracks = planned(Segment("climb", 3.0, 0.2), Segment("turn", 2.0, 0.5), Segment("squat", 2.0))
    np.testing.assert_allclose(tracks.feet[-1, :, 2], BODY.ankle_height + 0.2)
    assert tracks.pelvis[-1, 2] == pytest.approx(BODY.pelvis_height + 0.2)


def test_lying_goes_by_a_squat_and_a_seat_with_the_feet_in_place():
    tracks = planned(Segment("lie", 4.0), Segment("stand", 1.0), Segment("get_up", 4.0))
    np.testing.assert_allclose(tracks.feet, np.tile(tracks.feet[:1], (len(tracks.feet), 1, 1)), atol=1e-12)
    lying = tracks.torso[:, 0] < -1.4
    assert lying[len(lying) // 2] and tracks.rest[lying].min() == 1.0 and tracks.pelvis[lying, 2].max() < 0.15
    np.testing.assert_allclose(tracks.pelvis, tracks.pelvis[::-1], atol=1e-9)
    np.testing.assert_allclose(tracks.torso, tracks.torso[::-1], atol=1e-9)


@pytest.mark.parametrize(
    "segment", [Segment("fly", 1.0), Segment("stand", 0.0), Segment("reach", -1.0), Segment("reach", 1.0, side="up")]
)
def test_what_is_not_possible_is_named(segment):
    with pytest.raises(InputError, match=segment.kind):
        planned(segment)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_random_clips_are_possible_and_their_feet_stand(seed, actions):
    segments = random_segments(np.random.default_rng(seed), actions)
    assert segments == random_segments(np.random.default_rng(seed), actions)
    assert segments[0].kind == segments[-1].kind == "stand"
    assert sum(segment.kind != "stand" for segment in segments) == actions
    tracks = plan(with_segments(MotionConfig(), segments), BODY)
    still = tracks.contact[1:] & tracks.contact[:-1]
    assert np.abs(np.diff(tracks.feet, axis=0)[still]).max() < 1e-12
    assert tracks.contact[-1].all()
    for field in dataclasses.fields(tracks):
        assert np.isfinite(getattr(tracks, field.name)).all()
        assert len(getattr(tracks, field.name)) == len(tracks.pelvis)
