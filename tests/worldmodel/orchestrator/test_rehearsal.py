from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bodydouble.motion import RobotMotion
from sim.stage.stage import Stage
from tests.worldmodel.situations import moved, on_reference, thrown
from worldmodel.orchestrator.rehearsal import Rehearsal


@pytest.fixture(scope="module")
def reference(stage: Stage) -> RobotMotion:
    return stage.reference


def test_tracking_is_rehearsed_to_the_references_end(rehearsal: Rehearsal, reference: RobotMotion) -> None:
    outcome = rehearsal.run(on_reference(reference), "track", seconds=5.0)
    assert outcome.success and outcome.reason == ""
    assert outcome.body_error_m < 0.05
    # 60 frames at 50 Hz: the last one is reached with the 59th step, seen in it.
    assert outcome.seconds == pytest.approx(59 / 50, abs=0.021)
    assert outcome.wall_s > 0


def test_it_begins_where_the_robot_is(rehearsal: Rehearsal, reference: RobotMotion) -> None:
    """From frame 40 there are 19 frames to go, and a start beside the reference costs what it is away."""
    late = rehearsal.run(on_reference(reference, 40), "track", seconds=5.0)
    assert late.success and late.seconds == pytest.approx(19 / 50, abs=0.021)
    beside = rehearsal.run(moved(on_reference(reference), y=0.2), "stand", seconds=0.2)
    assert beside.success and beside.body_error_m == pytest.approx(0.2, abs=0.03)


def test_standing_lasts_as_long_as_asked(rehearsal: Rehearsal, reference: RobotMotion) -> None:
    for skill in ("stand", "stop"):
        outcome = rehearsal.run(on_reference(reference), skill, seconds=0.6)
        assert outcome.success and outcome.seconds == pytest.approx(0.6)


@pytest.mark.parametrize("skill", ["track", "stand", "stop"])
def test_a_robot_thrown_over_fails_in_every_skill(rehearsal: Rehearsal, reference: RobotMotion, skill: str) -> None:
    outcome = rehearsal.run(thrown(on_reference(reference), 5.0), skill, seconds=3.0)
    assert not outcome.success
    assert "falls at frame" in outcome.reason or "stop" in outcome.reason
    assert outcome.seconds < 2.0, "it ends when the robot is down"


def test_the_uncertain_velocity_is_added_to_the_base(rehearsal: Rehearsal, reference: RobotMotion) -> None:
    """A push during rehearsal is the same as a robot that moves that fast."""
    here = on_reference(reference)
    pushed = rehearsal.run(here, "stand", 0.4, np.array([0.0, 0.3, 0.0]))
    moving = rehearsal.run(thrown(here, 0.3), "stand", 0.4)
    still = rehearsal.run(here, "stand", 0.4)
    assert pushed.body_error_m == moving.body_error_m > still.body_error_m


def test_the_same_rehearsal_twice_has_the_same_outcome(rehearsal: Rehearsal, reference: RobotMotion) -> None:
    def run() -> dict[str, Any]:
        outcome = rehearsal.run(thrown(on_reference(reference), 0.2), "track", 3.0)
        return {name: value for name, value in vars(outcome).items() if name != "wall_s"}

    assert run() == run()


def test_the_situation_is_left_as_it_was(rehearsal: Rehearsal, reference: RobotMotion) -> None:
    here = on_reference(reference)
    qpos, qvel = here.qpos.copy(), here.qvel.copy()
    rehearsal.run(here, "track", 0.2, np.ones(3))
    np.testing.assert_array_equal(here.qpos, qpos)
    np.testing.assert_array_equal(here.qvel, qvel)


def test_diverging_physics_are_a_failure_with_a_reason(rehearsal: Rehearsal, reference: RobotMotion) -> None:
    qvel = np.zeros(35)
    qvel[10] = 1e11
    outcome = rehearsal.run(on_reference(reference, qvel=qvel), "stand", 1.0)
    assert not outcome.success and "physics diverged" in outcome.reason
