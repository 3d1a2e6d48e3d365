from __future__ import annotations

import dataclasses

import pytest

from bodydouble.motion import RobotMotion
from robot.reference_player import SKILLS as KNOWN_SKILLS
from sim.stage.stage import Stage
from tests.worldmodel.situations import moved, on_reference
from worldmodel.orchestrator.skills import SKILLS, Skill

BY_NAME = {skill.name: skill for skill in SKILLS}


@pytest.fixture(scope="module")
def reference(stage: Stage) -> RobotMotion:
    return stage.reference


def test_skills_are_those_of_the_policy_node_and_the_tasks_own_is_cheapest() -> None:
    assert set(BY_NAME) == set(KNOWN_SKILLS)
    assert [skill.name for skill in sorted(SKILLS, key=lambda skill: skill.cost)] == ["track", "stand", "stop"]


def test_everything_may_begin_on_the_reference(reference: RobotMotion) -> None:
    for skill in SKILLS:
        for frame in (0, 30, reference.num_frames - 1):
            assert skill.precondition(on_reference(reference, frame), reference) == ""


@pytest.mark.parametrize("skill", SKILLS)
def test_nothing_begins_when_stopped_or_tilted(skill: Skill, reference: RobotMotion) -> None:
    stopped = on_reference(reference, stopped=True)
    assert skill.precondition(stopped, reference) == "the safety layer has stopped the robot"
    assert skill.precondition(moved(on_reference(reference), roll=0.59), reference) == ""
    assert skill.precondition(moved(on_reference(reference), roll=-0.61), reference) == "the base is tilted by 0.61 rad"


def test_track_needs_a_reference_that_is_not_over(reference: RobotMotion) -> None:
    over = on_reference(reference, reference.num_frames - 1, finished=True)
    assert BY_NAME["track"].precondition(over, reference) == "the reference is at its end"
    assert BY_NAME["stand"].precondition(over, reference) == BY_NAME["stop"].precondition(over, reference) == ""


def test_track_needs_the_robot_near_its_frame(reference: RobotMotion) -> None:
    """Within 0.4 m on the floor of the present frame, not of another one; height does not count."""
    near, far = moved(on_reference(reference), x=0.3, y=0.2), moved(on_reference(reference), x=0.3, y=-0.3)
    assert BY_NAME["track"].precondition(near, reference) == ""
    assert BY_NAME["track"].precondition(far, reference) == "the base is 0.42 m from the reference"
    assert BY_NAME["stand"].precondition(far, reference) == ""
    assert BY_NAME["track"].precondition(moved(on_reference(reference), z=-0.5), reference) == ""
    walking = dataclasses.replace(reference, root_pos=reference.root_pos + [[0.02 * t, 0, 0] for t in range(60)])
    assert BY_NAME["track"].precondition(on_reference(walking, 50), walking) == ""
    late = dataclasses.replace(on_reference(walking, 0), frame=50)
    assert BY_NAME["track"].precondition(late, walking) == "the base is 1.00 m from the reference"


def test_tilt_is_the_angle_of_the_vertical(reference: RobotMotion) -> None:
    for angle in (0.0, 0.3, -1.2, 3.0):
        assert moved(on_reference(reference), roll=angle).tilt == pytest.approx(abs(angle), abs=1e-6)
