from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bodydouble.frames import make_se3
from bodydouble.motion import HumanMotion
from perception.fit import FittedBody
from perception.multiview.body_clock import BodyClocks, body_clocks
from perception.multiview.place import LooseClocks, PlacedViews, clock_warnings, confirmed, retimed
from perception.segment import PersonPoints
from perception.skin import Skin
from perception.synthetic.acting import act
from perception.synthetic.motions import MotionConfig, Segment
from perception.views import View

EYES = np.array([[2.2, -0.6, 1.4], [1.4, 1.9, 1.5]])
FPS, COUNT = 30.0, 300


@pytest.fixture(scope="module")
def motion() -> HumanMotion:
    return act(MotionConfig(segments=(Segment("bow", 1.4, 1.0), Segment("raise", 1.4, 1.0, "both")), fps=FPS))


def views_at(motion: HumanMotion, late_s: tuple[float, float]) -> list[View]:
    """Two cameras that stand still, their images so much later than the motion's times."""
    frames = len(motion.times_ns)
    return [
        View(
            f"camera_{number}",
            np.eye(3),
            motion.times_ns + round(late * 1e9),
            np.tile(make_se3(np.eye(3), eye), (frames, 1, 1)),
            np.zeros((frames, 4, 4), np.uint16),
            [],
        )
        for number, (eye, late) in enumerate(zip(EYES, late_s, strict=True))
    ]


def moved(motion: HumanMotion, seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pose and root so many seconds later, linearly between frames."""
    at = np.clip(np.arange(len(motion.pose)) + seconds * FPS, 0, len(motion.pose) - 1)
    low = np.minimum(at.astype(int), len(motion.pose) - 2)
    share = (at - low)[:, None]
    pose = (1 - share[..., None]) * motion.pose[low] + share[..., None] * motion.pose[low + 1]
    root = (1 - share) * motion.root_pos[low] + share * motion.root_pos[low + 1]
    return torch.as_tensor(pose).float(), torch.as_tensor(root).float()


def seen(motion: HumanMotion, seconds: tuple[float, float], noise_m: float = 0.004) -> PersonPoints:
    """Points of the skin as each camera sees it so many seconds after the frames' times."""
    rng = np.random.default_rng(0)
    skin = Skin(2000)
    frames = len(motion.times_ns)
    points, origin = np.zeros((frames, 2 * COUNT, 3)), np.zeros((frames, 2 * COUNT, 3))
    for number, (eye, later) in enumerate(zip(EYES, seconds, strict=True)):
        state, normals = skin.pose(*moved(motion, later), torch.as_tensor(motion.shape).float())
        assert state.vertices is not None
        vertices = state.vertices.numpy()
        facing = ((eye - vertices) * normals.numpy()).sum(-1) > 0.3
        for frame in range(frames):
            pick = rng.choice(np.flatnonzero(facing[frame]), COUNT)
            part = slice(number * COUNT, (number + 1) * COUNT)
            points[frame, part] = vertices[frame, pick] + rng.normal(0, noise_m, (COUNT, 3))
            origin[frame, part] = eye
    return PersonPoints(motion.times_ns, points, origin, np.full(frames, 2 * COUNT), np.full(frames, 2))


def fitted(motion: HumanMotion) -> FittedBody:
    zeros = np.zeros(len(motion.pose))
    return FittedBody(motion.pose, motion.root_pos, motion.shape, motion.joint_pos, motion.joint_quat, zeros)


@pytest.mark.parametrize("ahead_s", [0.0, 0.025, -0.025])
def test_a_clock_that_is_ahead_is_found(motion: HumanMotion, ahead_s: float):
    """What a camera sees is as much older as its clock is ahead; the body lies between the two."""
    person = seen(motion, (0.5 * ahead_s, -0.5 * ahead_s))
    found = body_clocks(fitted(motion), person, views_at(motion, (0.0, 0.0)))
    assert found.ahead_s[0] == 0
    # A point's nearest skin moves with it a little, so that one step finds some four fifths of the offset.
    assert abs(found.ahead_s[1] - ahead_s) < 0.001 + 0.25 * abs(ahead_s)
    assert found.deviation_s[1] < 0.005


def test_images_between_the_frames_are_no_offset(motion: HumanMotion):
    """The second camera's images are taken 12 ms after the frames' times, and its clock says so."""
    found = body_clocks(fitted(motion), seen(motion, (0.0, 0.012)), views_at(motion, (0.0, 0.012)))
    assert found.ahead_s[1] == pytest.approx(0, abs=0.004)


def test_somebody_who_stands_still_tells_nothing(motion: HumanMotion):
    still = dataclasses.replace(
        motion, pose=np.tile(motion.pose[:1], (len(motion.pose), 1, 1)), root_pos=0 * motion.root_pos + [0, 0, 0.9]
    )
    found = body_clocks(fitted(still), seen(still, (0.0, 0.0)), views_at(still, (0.0, 0.0)))
    assert (found.change_s() == 0).all()


def test_change_only_where_it_is_sure():
    clocks = BodyClocks(np.array([0.0, 0.02, 0.02, np.nan]), np.array([0.001, 0.005, 0.015, np.nan]))
    np.testing.assert_array_equal(clocks.change_s(), [0, 0.02, 0, 0])


def test_retimed_takes_off_what_a_clock_is_ahead(motion: HumanMotion):
    views = views_at(motion, (0.0, 0.0))
    placed = PlacedViews(tuple(views), {"camera_0": 0, "camera_1": 5_000_000}, (), {})
    after = retimed(placed, np.array([0.0, 0.02]))
    np.testing.assert_array_equal(after.views[1].times_ns, views[1].times_ns - 20_000_000)
    assert after.clock_offset_ns == {"camera_0": 0, "camera_1": 25_000_000}
    assert placed.clock_offset_ns["camera_1"] == 5_000_000


def test_what_is_said_of_clocks_that_the_path_leaves_open(motion: HumanMotion):
    """Unknown while the recorded stamps are used, told with its deviation once a body confirms it, else uncertain."""
    loose = (LooseClocks("camera_0", "camera_1", "they do not both see somebody move"),)
    views = tuple(views_at(motion, (0.0, 0.0)))
    placed = PlacedViews(views, {"camera_0": 0, "camera_1": 0}, (), {}, loose)
    (told,) = clock_warnings(placed)
    assert "is unknown, they do not both see somebody move; the recorded stamps are used" in told
    moved = retimed(placed, np.array([0.0, 0.0234]))
    (told,) = clock_warnings(moved)
    assert "is uncertain" in told and "set to 23 ms" in told and "unknown" not in told
    (told,) = clock_warnings(confirmed(moved, np.array([0.002, 0.0031])))
    assert "is 23 ms, with a standard deviation of 3.1 ms" in told and "unknown" not in told
    for weak in (0.05, np.nan):
        assert "uncertain" in clock_warnings(confirmed(moved, np.array([0.002, weak])))[0]
    assert "uncertain" in clock_warnings(retimed(confirmed(moved, np.array([0.0, 0.001])), np.array([0.0, 0.02])))[0]
    assert clock_warnings(dataclasses.replace(placed, loose_clocks=())) == []
