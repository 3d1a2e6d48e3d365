from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from bodydouble.artifacts import write_json
from robot.policy_file import PolicyFile
from sim.retarget.kinematics import make_robot_motion
from sim.stage.flat import flat_stage
from sim.stage.stage import Stage
from tests.worldmodel.situations import moved, on_reference, thrown
from worldmodel.orchestrator.competence import Competence
from worldmodel.orchestrator.orchestrator import Candidate, Decision, Orchestrator, OrchestratorConfig
from worldmodel.orchestrator.rehearsal import Outcome, Rehearsal


class Script:
    """Rehearsals whose outcomes are written down: (success, body error) of each skill, the last one repeated."""

    def __init__(self, **outcomes: list[tuple[bool, float]]) -> None:
        self.outcomes, self.calls = outcomes, []

    def run(self, situation: Any, skill: str, seconds: float, push: np.ndarray | None = None) -> Outcome:
        done = sum(call[0] == skill for call in self.calls)
        self.calls.append((skill, seconds, push))
        script = self.outcomes[skill]
        success, error = script[min(done, len(script) - 1)]
        return Outcome(success, error, seconds, 0.01, "" if success else "it falls")


def scripted(stage: Stage, config: OrchestratorConfig | None = None, **outcomes: Any) -> tuple[Orchestrator, Script]:
    script = Script(**outcomes)
    return Orchestrator(cast(Rehearsal, script), stage.reference, config or OrchestratorConfig()), script


def by_name(decision: Decision) -> dict[str, Candidate]:
    return {candidate.skill: candidate for candidate in decision.candidates}


FINE, BAD = [(True, 0.05)], [(False, 0.05)]


def test_among_sure_skills_the_cheapest(stage: Stage) -> None:
    orchestrator, _ = scripted(stage, track=FINE, stand=FINE, stop=FINE)
    decision = orchestrator.decide(on_reference(stage.reference))
    assert decision.skill == "track"
    # Costs 0, 0.5 and 1, and the body error of 0.05 m each.
    costs = {name: candidate.cost for name, candidate in by_name(decision).items()}
    assert costs == pytest.approx({"track": 0.05, "stand": 0.55, "stop": 1.05})
    assert decision.reason == "3 of 3 rehearsals succeeded, competence 0.80, cost 0.05"


def test_body_error_is_part_of_the_cost(stage: Stage) -> None:
    """A tracking that ends far from the reference is worse than standing; beyond a metre it is all the same."""
    orchestrator, _ = scripted(stage, track=[(True, 0.9)], stand=[(True, 0.1)], stop=[(True, 50.0)])
    decision = orchestrator.decide(on_reference(stage.reference))
    assert decision.skill == "stand"
    assert by_name(decision)["stop"].cost == pytest.approx(2.0)


def test_success_comes_before_cost(stage: Stage) -> None:
    orchestrator, _ = scripted(stage, track=BAD, stand=[(True, 0.9)], stop=[(True, 0.9)])
    assert orchestrator.decide(on_reference(stage.reference)).skill == "stand"


def test_one_failed_rehearsal_is_enough_to_be_unsure(stage: Stage) -> None:
    orchestrator, _ = scripted(stage, track=[(True, 0.0), (True, 0.0), (False, 0.0)], stand=FINE, stop=FINE)
    decision = orchestrator.decide(on_reference(stage.reference))
    assert decision.skill == "stand" and by_name(decision)["track"].competence == 0.6


def test_a_skill_with_a_bad_history_is_not_sure(stage: Stage) -> None:
    """Three successes now do not make up for six failures before: (1 + 3) / (2 + 9)."""
    orchestrator, _ = scripted(stage, track=FINE, stand=FINE, stop=FINE)
    orchestrator.competence["track"] = Competence(0, 6)
    decision = orchestrator.decide(on_reference(stage.reference))
    assert decision.skill == "stand"
    assert by_name(decision)["track"].competence == pytest.approx(4 / 11)


def test_competence_is_remembered_over_decisions(stage: Stage) -> None:
    orchestrator, _ = scripted(stage, track=BAD, stand=FINE, stop=FINE)
    for _ in range(2):
        orchestrator.decide(on_reference(stage.reference))
    assert orchestrator.competence == {
        "track": Competence(0, 6), "stand": Competence(6, 0), "stop": Competence(6, 0),
    }  # fmt: skip


def test_when_nothing_is_sure_the_most_competent_is_chosen_and_the_reason_says_so(stage: Stage) -> None:
    mixed = [(True, 0.0), (True, 0.0), (False, 0.0)]
    orchestrator, _ = scripted(stage, track=BAD, stand=BAD, stop=mixed)
    decision = orchestrator.decide(on_reference(stage.reference))
    assert decision.skill == "stop"
    assert decision.reason == "2 of 3 rehearsals succeeded, competence 0.60, cost 1.00; no skill is sure"


def test_refused_skills_are_neither_rehearsed_nor_chosen(stage: Stage) -> None:
    orchestrator, script = scripted(stage, track=FINE, stand=FINE, stop=FINE)
    decision = orchestrator.decide(moved(on_reference(stage.reference), x=1.0))
    assert decision.skill == "stand"
    assert {call[0] for call in script.calls} == {"stand", "stop"}
    track = by_name(decision)["track"]
    assert track.refused == "the base is 1.00 m from the reference" and track.outcomes == ()
    assert "track" not in orchestrator.competence, "nothing was learned of it"


def test_when_nothing_may_begin_it_stops_and_says_why(stage: Stage) -> None:
    orchestrator, script = scripted(stage, track=FINE, stand=FINE, stop=FINE)
    decision = orchestrator.decide(on_reference(stage.reference, stopped=True))
    assert decision.skill == "stop" and script.calls == []
    assert decision.reason == "no skill may begin: the safety layer has stopped the robot"
    assert decision.wall_s == 0


def test_rehearsals_differ_by_an_uncertain_velocity(stage: Stage) -> None:
    """The first has none; the others draw a horizontal one from the seed."""
    config = OrchestratorConfig(rehearsals=200, velocity_noise=0.1)
    orchestrator, script = scripted(stage, config, track=FINE, stand=FINE, stop=FINE)
    orchestrator.decide(on_reference(stage.reference))
    track = [push for skill, _, push in script.calls if skill == "track"]
    assert len(track) == 200 and track[0] is None
    pushes = np.array(track[1:])
    assert (pushes[:, 2] == 0).all()
    # 398 numbers of spread 0.1: known to 0.0035, four of these are 0.014.
    assert abs(pushes[:, :2].std() - 0.1) < 0.014
    again, repeat = scripted(stage, config, track=FINE, stand=FINE, stop=FINE)
    again.decide(on_reference(stage.reference))
    np.testing.assert_array_equal(pushes, np.array([p for s, _, p in repeat.calls if s == "track"][1:]))
    other, seeded = scripted(stage, dataclasses.replace(config, seed=1), track=FINE, stand=FINE, stop=FINE)
    other.decide(on_reference(stage.reference))
    assert (pushes != np.array([p for s, _, p in seeded.calls if s == "track"][1:])).any()


def test_track_is_rehearsed_to_the_end_and_the_others_for_the_horizon(stage: Stage) -> None:
    orchestrator, script = scripted(stage, OrchestratorConfig(horizon_s=2.5), track=FINE, stand=FINE, stop=FINE)
    orchestrator.decide(on_reference(stage.reference, 10))
    seconds = {skill: seconds for skill, seconds, _ in script.calls}
    # 50 frames of 60 are left at 50 Hz, and half a second more.
    assert seconds == pytest.approx({"track": 1.5, "stand": 2.5, "stop": 2.5})


def test_a_standing_g1_is_sent_on_its_way(stage: Stage, rehearsal: Rehearsal) -> None:
    """In MuJoCo: everything succeeds, and the task's own skill is the cheapest."""
    decision = Orchestrator(rehearsal, stage.reference).decide(on_reference(stage.reference))
    assert decision.skill == "track"
    assert all(outcome.success for candidate in decision.candidates for outcome in candidate.outcomes)
    assert decision.wall_s == pytest.approx(sum(o.wall_s for c in decision.candidates for o in c.outcomes))


def test_a_g1_thrown_over_has_no_sure_skill(stage: Stage, rehearsal: Rehearsal) -> None:
    config = OrchestratorConfig(rehearsals=1)
    decision = Orchestrator(rehearsal, stage.reference, config).decide(thrown(on_reference(stage.reference), 5.0))
    assert decision.reason.endswith("no skill is sure")
    assert not any(outcome.success for candidate in decision.candidates for outcome in candidate.outcomes)


def test_a_motion_that_makes_the_g1_fall_is_not_begun(stage: Stage, policy_file: PolicyFile, tmp_path: Path) -> None:
    """In MuJoCo: a reference that lifts both legs at once fails in every rehearsal, so the robot stays standing."""
    good = stage.reference
    joints = good.joint_pos.copy()
    for side in ("left", "right"):
        joints[40:, good.joint_names.index(f"{side}_hip_pitch_joint")] -= 1.6
    contact = np.ones((good.num_frames, 2), dtype=bool)
    leap = make_robot_motion(stage.robot, 50.0, good.root_pos, good.root_quat, joints, contact)
    bad = flat_stage(stage.robot, leap, tmp_path / "stage")
    decision = Orchestrator(Rehearsal(bad, policy_file), bad.reference).decide(on_reference(bad.reference))
    candidates = by_name(decision)
    assert decision.skill == "stand"
    assert [outcome.success for outcome in candidates["track"].outcomes] == [False] * 3
    assert all("falls at frame" in outcome.reason for outcome in candidates["track"].outcomes)
    assert candidates["track"].cost < candidates["stand"].cost, "cost alone would have chosen it"


def test_decisions_can_be_logged_whole(stage: Stage, rehearsal: Rehearsal, tmp_path: Path) -> None:
    """What is published is small; what is saved holds every candidate, outcome and reason."""
    orchestrator = Orchestrator(rehearsal, stage.reference, OrchestratorConfig(rehearsals=1, horizon_s=0.3))
    decision = orchestrator.decide(on_reference(stage.reference, 5))
    assert decision.message() == {
        "skill": "track", "reason": decision.reason, "t_ns": 5_000_000_000, "frame": 5,
    }  # fmt: skip
    json.dumps(decision.message())
    write_json(tmp_path / "decisions.json", {"decisions": [dataclasses.asdict(decision)]})
    (saved,) = json.loads((tmp_path / "decisions.json").read_text())["decisions"]
    assert saved["skill"] == "track" and saved["frame"] == 5
    assert [candidate["skill"] for candidate in saved["candidates"]] == ["track", "stand", "stop"]
    assert all(len(candidate["outcomes"]) == 1 for candidate in saved["candidates"])
    assert saved["candidates"][0]["outcomes"][0]["success"] is True
