from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from bodydouble.errors import ContractError, InputError
from policy.checkpoint import load_checkpoint, save_checkpoint
from policy.export import export
from policy.shipped import shipped_checkpoint
from robot.policy_file import PolicyFile
from sim.gate.verify import VerifyConfig, VerifyReport, check_stage, verify
from sim.gate.wilson import wilson_interval
from sim.stage.flat import flat_stage
from sim.stage.stage import Stage
from sim.tasks.tracking.terminations import TERMINATIONS
from tests.policy.artifacts import squat_motion

FEW = VerifyConfig(episodes=4, threads=2)


@pytest.fixture(scope="module")
def report(policy_path: Path, stage: Stage) -> VerifyReport:
    return verify(policy_path, stage.path, FEW)


@pytest.fixture(scope="module")
def ruined(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> VerifyReport:
    """The verdict on a policy that does the opposite of what it should, twice as much."""
    folder = tmp_path_factory.mktemp("ruined")
    net, info, _ = load_checkpoint(shipped_checkpoint("unitree_g1"))
    last = [name for name in net.state_dict() if name.startswith("actor.net") and name.endswith("weight")][-1]
    net.state_dict()[last].mul_(-2.0)
    save_checkpoint(folder / "policy.safetensors", net, info)
    policy = export(folder / "policy.safetensors", stage.path, folder / "policy.onnx").path
    return verify(policy, stage.path, FEW)


def test_the_shipped_policy_passes(report: VerifyReport) -> None:
    assert report.passed and report.problems == ()
    assert [tier.name for tier in report.tiers] == ["T0", "T1", "T2", "T3", "T4"]
    assert [tier.episodes for tier in report.tiers] == [1, 4, 4, 4, 4]
    assert report.tiers[0].success_rate == 1.0 and report.tiers[0].body_error_m < 0.02
    for tier in report.tiers:
        won = round(tier.success_rate * tier.episodes)
        assert tier.interval == wilson_interval(won, tier.episodes)
        assert sum(tier.failures.values()) == len(tier.failed_at_s) == tier.episodes - won
    assert report.figures["success_rate"] == report.figures["t1_success_rate"] == report.tiers[1].success_rate
    assert report.figures["verify_body_error_m"] == report.tiers[0].body_error_m
    assert report.figures["golden_max_abs_diff"] <= 1e-5
    assert str(report).endswith("policy.onnx: passed") and str(report).count("\n") == 5


def test_perturbations_show_and_follow_the_seed(report: VerifyReport, policy_path: Path, stage: Stage) -> None:
    """Noise makes the motion worse, another seed other episodes, and the number of threads nothing."""
    errors = [tier.body_error_m for tier in report.tiers]
    assert errors[0] < errors[1] < errors[4]
    again = verify(policy_path, stage.path, dataclasses.replace(FEW, threads=1))
    assert again.tiers == report.tiers
    other = verify(policy_path, stage.path, dataclasses.replace(FEW, seed=1))
    assert other.tiers[0] == report.tiers[0], "T0 has nothing random"
    assert [tier.body_error_m for tier in other.tiers[1:]] != errors[1:]


def test_a_ruined_policy_does_not_pass(ruined: VerifyReport) -> None:
    assert not ruined.passed
    assert ruined.problems[:3] == (
        "T0 success 0.00 is below 1.00", "T1 success 0.00 is below 0.90", "T2 success 0.00 is below 0.80",
    )  # fmt: skip
    for tier in ruined.tiers:
        assert tier.success_rate == 0 and tier.interval[0] == 0
        assert sum(tier.failures.values()) == tier.episodes and set(tier.failures) <= set(TERMINATIONS)
        assert len(tier.failed_at_s) == tier.episodes and all(0 <= t < 2.2 for t in tier.failed_at_s)
    assert "NOT passed: T0 success" in str(ruined)


def test_the_bounds_are_those_of_the_configuration(
    ruined: VerifyReport, report: VerifyReport, policy_path: Path, stage: Stage
) -> None:
    strict = verify(policy_path, stage.path, dataclasses.replace(FEW, episodes=1, max_body_error_m=1e-4))
    found = strict.tiers[0].body_error_m
    assert strict.problems == (f"T0 body error {found:.3f} m is above 0.0001 m",)
    assert [tier.bound for tier in report.tiers] == [1.0, 0.9, 0.8, 0.0, 0.0]
    assert not any(problem.startswith(("T3", "T4")) for problem in ruined.problems), "a bound of 0 only reports"


def test_the_report_is_saved_whole(report: VerifyReport, ruined: VerifyReport, tmp_path: Path) -> None:
    for part in (report, ruined):
        part.save(tmp_path / "verify.json")
        saved = json.loads((tmp_path / "verify.json").read_text())
        assert saved["passed"] == part.passed and saved["problems"] == list(part.problems)
        assert saved["figures"] == part.figures
        assert [tier["failures"] for tier in saved["tiers"]] == [tier.failures for tier in part.tiers]
        assert saved["provenance"]["config"]["seed"] == 0 and saved["machine"]["cores"] >= 1


@pytest.mark.parametrize("change", [{"min_success": (1.0, 0.9)}, {"episodes": 0}])
def test_settings_that_cannot_work_are_refused(policy_path: Path, stage: Stage, change: dict) -> None:
    with pytest.raises(InputError, match=r"needs 5 values and config\.episodes at least 1"):
        verify(policy_path, stage.path, dataclasses.replace(FEW, **change))


def test_a_policy_for_another_stage_is_refused(policy_path: Path, stage: Stage, tmp_path: Path) -> None:
    other = flat_stage(stage.robot, squat_motion(stage.robot, 40), tmp_path / "stage")
    with pytest.raises(ContractError, match="was exported for another stage"):
        verify(policy_path, other.path, FEW)


def test_what_the_contract_and_the_stage_must_share(policy_file: PolicyFile, stage: Stage) -> None:
    check_stage(policy_file, stage)
    for change, message in (
        ({"control_hz": 100.0}, "trained at control_hz 50.0, the stage has 100.0"),
        ({"physics_dt": 0.002}, "trained at physics_dt 0.005, the stage has 0.002"),
        ({"robot": dataclasses.replace(stage.robot, name="other_g1")}, "policy for robot unitree_g1, this robot is"),
    ):
        with pytest.raises(ContractError, match=message):
            check_stage(policy_file, dataclasses.replace(stage, **change))


def test_failure_times_are_times_of_the_reference(ruined: VerifyReport, stage: Stage) -> None:
    """Frames over the control rate: whole control steps."""
    for tier in ruined.tiers:
        steps = np.array(tier.failed_at_s) * stage.control_hz
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
