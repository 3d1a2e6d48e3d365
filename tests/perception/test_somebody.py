from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from perception.segment import PersonPoints
from perception.somebody import SomebodyConfig, no_somebody
from perception.synthetic.acting import act
from perception.synthetic.motions import MotionConfig, Segment
from perception.synthetic.room import box
from tests.perception.test_fit import EYES, FPS, seen_by


@pytest.fixture(scope="module")
def person() -> PersonPoints:
    return seen_by(act(MotionConfig((Segment("walk", 1.2, 0.8), Segment("squat", 1.2, 0.6)), fps=FPS)), EYES)


def like_a_box(person: PersonPoints) -> PersonPoints:
    """As many points at the same times on a box of a person's size, seen by the same cameras."""
    mesh = box((0.3, 0.0, 0.85), (0.45, 0.35, 1.6), (0, 0, 0))
    rng = np.random.default_rng(0)
    corners = mesh.vertices[mesh.triangles[rng.integers(0, len(mesh.triangles), person.points.shape[:2])]]
    weights = rng.dirichlet((1, 1, 1), person.points.shape[:2])
    return dataclasses.replace(person, points=(corners * weights[..., None]).sum(axis=2))


def test_a_person_is_somebody_and_a_box_is_not(person: PersonPoints) -> None:
    assert no_somebody(person, SomebodyConfig()) is None
    told = no_somebody(like_a_box(person), SomebodyConfig())
    assert told is not None and "no body is found in it" in told
    assert no_somebody(like_a_box(person), SomebodyConfig(joints=0.0)) is None


def test_somebody_need_not_be_read_all_the_time(person: PersonPoints) -> None:
    """Half of the time something hides them."""
    half = like_a_box(person).points
    half[: len(half) // 2] = person.points[: len(half) // 2]
    assert no_somebody(dataclasses.replace(person, points=half), SomebodyConfig()) is None
    assert no_somebody(dataclasses.replace(person, points=half), SomebodyConfig(time=0.95)) is not None


def test_too_few_points_are_nobody(person: PersonPoints) -> None:
    told = no_somebody(
        dataclasses.replace(person, points=person.points[:, :3], origin=person.origin[:, :3]), SomebodyConfig()
    )
    assert told == "too little is seen to find joints of a body in it"
