from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from bodydouble.artifacts import sha256_file
from bodydouble.contract import METADATA_KEY, PolicyContract
from bodydouble.errors import ContractError, GateError, InputError
from bodydouble.observation import TRACKING_OFFSETS, tracking_spec
from policy import export as exporting
from policy.checkpoint import load_checkpoint, save_checkpoint
from policy.export import MAX_ABS_DIFF, export, visited_observations
from policy.golden import onnx_steps
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.shipped import shipped_checkpoint
from policy.train import check_fits
from robot.policy_file import PolicyFile
from robot.replay import replay
from sim.env.tracked_robot import TrackedRobot
from sim.stage.stage import Stage
from tests.robot.recorded import record_closed_loop


def read_contract(path: Path) -> PolicyContract:
    texts = [entry.value for entry in onnx.load(str(path)).metadata_props if entry.key == METADATA_KEY]
    assert len(texts) == 1
    return PolicyContract.from_json(texts[0])


def test_the_contract_says_everything_of_robot_stage_and_checkpoint(policy_path: Path, stage: Stage) -> None:
    contract, robot = read_contract(policy_path), stage.robot
    assert (contract.robot, contract.joint_names) == ("unitree_g1", robot.joint_names)
    for name, expected in (
        ("default_joint_pos", robot.default_joint_pos), ("kp", robot.kp), ("kd", robot.kd),
        ("effort_limit", robot.effort_limit), ("joint_lower", robot.joint_lower), ("joint_upper", robot.joint_upper),
        ("joint_velocity_limit", robot.velocity_limit), ("action_scale", robot.action_scale),
    ):  # fmt: skip
        assert list(getattr(contract, name)) == [float(value) for value in expected], f"{name} is exact"
    assert contract.observation == tracking_spec(29).terms and contract.reference_offsets == TRACKING_OFFSETS
    assert (contract.control_hz, contract.physics_dt) == (50.0, 0.005)
    assert (contract.quaternion_order, contract.action_mode) == ("wxyz", "residual_reference")
    assert contract.hashes["stage"] == stage.sha256
    assert contract.hashes["reference"] == sha256_file(stage.path / "reference.npz")
    assert contract.hashes["checkpoint"] == sha256_file(shipped_checkpoint("unitree_g1"))
    assert {"bodydouble", "torch", "mujoco", "onnx"} <= set(contract.versions)


def test_golden_vectors_come_from_the_task_and_reproduce(policy_path: Path) -> None:
    """Sixteen different observations whose actions torch and onnxruntime both give again."""
    contract = read_contract(policy_path)
    inputs = np.array(contract.golden_inputs, dtype=np.float32)
    outputs = np.array(contract.golden_outputs, dtype=np.float32)
    assert inputs.shape == (16, contract.spec.size) and len(np.unique(inputs, axis=0)) == 16
    net, _, _ = load_checkpoint(shipped_checkpoint("unitree_g1"))
    with torch.no_grad():
        np.testing.assert_allclose(net.actor(torch.as_tensor(inputs)).numpy(), outputs, atol=1e-5)
    session = onnxruntime.InferenceSession(str(policy_path), providers=["CPUExecutionProvider"])
    found = np.concatenate([np.asarray(session.run(["action"], {"obs": row[None]})[0]) for row in inputs])
    np.testing.assert_allclose(found, outputs, atol=MAX_ABS_DIFF, rtol=0)
    assert np.abs(outputs).max() > 0.1, "the actions are not all near zero"


def test_difference_and_manifest(policy_path: Path) -> None:
    manifest = json.loads(policy_path.with_name("export.json").read_text())
    assert manifest["sha256"] == sha256_file(policy_path)
    figures = manifest["figures"]
    assert 0 <= figures["onnx_max_abs_diff"] <= MAX_ABS_DIFF == 1e-5
    assert figures["onnx_bytes"] == policy_path.stat().st_size
    assert figures["onnx_checked_observations"] == 16 * 41


def test_max_abs_diff_finds_the_largest_difference(policy_path: Path, policy_file: PolicyFile) -> None:
    obs = np.array(policy_file.contract.golden_inputs, dtype=np.float32)[:3, None]
    steps = onnx_steps(policy_path.read_bytes(), obs, 0)
    np.testing.assert_array_equal(steps.action[:, 0], [policy_file.act(row) for row in obs[:, 0]])
    changed = dataclasses.replace(steps, action=steps.action.copy())
    assert steps.max_abs_diff(changed) == 0.0
    changed.action[1, 0, 5] += 0.25
    changed.action[2, 0, 3] -= 0.5
    assert steps.max_abs_diff(changed) == pytest.approx(0.5, abs=1e-6)
    changed.action[0, 0, 0] = np.nan
    assert np.isnan(steps.max_abs_diff(changed))
    remembering = dataclasses.replace(steps, memory=np.zeros((3, 1, 2)))
    assert remembering.max_abs_diff(dataclasses.replace(steps, memory=np.full((3, 1, 2), 0.125))) == 0.125


def test_observations_are_those_of_the_randomised_task(stage: Stage) -> None:
    net, _, _ = load_checkpoint(shipped_checkpoint("unitree_g1"))
    robot = TrackedRobot.from_spec(stage.robot)
    seen = visited_observations(stage, robot, net)
    assert seen.shape == (41, 16, tracking_spec(29).size) and seen.dtype == np.float32 and np.isfinite(seen).all()
    # What sensors see and what was last done varies everywhere; the reference of a still joint does not.
    assert (seen[..., : 3 + 3 + 3 * 29].std(axis=(0, 1)) > 0).all()
    np.testing.assert_array_equal(seen, visited_observations(stage, robot, net))


def test_a_current_file_is_kept_and_a_changed_one_is_written_again(stage: Stage, tmp_path: Path) -> None:
    out = tmp_path / "policy.onnx"
    first = export(shipped_checkpoint("unitree_g1"), stage.path, out)
    written = out.stat().st_mtime_ns
    assert export(shipped_checkpoint("unitree_g1"), stage.path, out) == first
    assert out.stat().st_mtime_ns == written
    content = out.read_bytes()
    out.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    export(shipped_checkpoint("unitree_g1"), stage.path, out)
    assert out.read_bytes() == content, "the same inputs give the same file"


def test_too_large_a_difference_writes_nothing(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "MAX_ABS_DIFF", 1e-12)
    out = tmp_path / "policy.onnx"
    with pytest.raises(GateError, match=r"differ from torch's by .*, at most 1e-12 is allowed"):
        export(shipped_checkpoint("unitree_g1"), stage.path, out)
    assert list(tmp_path.iterdir()) == []


def test_changed_weights_are_refused_by_the_robot(policy_path: Path, tmp_path: Path) -> None:
    model = onnx.load(str(policy_path))
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    data = np.frombuffer(tensor.raw_data, np.float32).copy()
    data[0] += 1e-4
    tensor.raw_data = data.tobytes()
    changed = tmp_path / "policy.onnx"
    onnx.save(model, str(changed))
    with pytest.raises(ContractError, match="weights are not those of its contract"):
        PolicyFile(changed)


def test_check_fits_names_what_differs() -> None:
    path = shipped_checkpoint("unitree_g1")
    _, info, _ = load_checkpoint(path)
    names, size = info.joint_names, info.policy_size
    check_fits(path, info, "unitree_g1", names, size)
    for robot, joints, obs, message in (
        ("unitree_h1", names, size, "is a policy for robot unitree_g1, the stage is for unitree_h1"),
        ("unitree_g1", names[::-1], size, "names other joints, or another order"),
        ("unitree_g1", names, size + 1, f"reads {size} observation values, this version gives {size + 1}"),
    ):
        with pytest.raises(InputError, match=message):
            check_fits(path, info, robot, joints, obs)


def test_missing_checkpoint(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"policy\.safetensors: no such checkpoint"):
        export(tmp_path, stage.path, tmp_path / "policy.onnx")


@pytest.fixture(scope="module")
def remembering(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small policy with a memory, whose actions are large enough to matter."""
    _, info, _ = load_checkpoint(shipped_checkpoint("unitree_g1"))
    config = NetConfig(actor_layers=(16,), critic_layers=(4,), memory=8)
    torch.manual_seed(0)
    net = ActorCritic(info.policy_size, info.critic_size, len(info.joint_names), config)
    with torch.no_grad():
        net.actor.net[-1].weight *= 20
    path = tmp_path_factory.mktemp("memory") / "policy.safetensors"
    save_checkpoint(path, net, dataclasses.replace(info, net=config))
    return path


def test_a_policy_with_memory_runs_on_the_robot(stage: Stage, remembering: Path, tmp_path: Path) -> None:
    """Its golden vectors are a sequence that torch repeats from an empty memory, and its recorded run repeats too."""
    path = tmp_path / "policy.onnx"
    figures = export(remembering, stage.path, path).figures
    assert figures["onnx_max_abs_diff"] <= MAX_ABS_DIFF
    policy = PolicyFile(path)
    contract = policy.contract
    assert (contract.memory_size, np.shape(contract.golden_memory)) == (8, (16, 8))
    net, _, _ = load_checkpoint(remembering)
    memory = net.empty_memory(1)
    for obs, action, after in zip(contract.golden_inputs, contract.golden_outputs, contract.golden_memory, strict=True):
        with torch.no_grad():
            found, memory = net.mean(torch.tensor([obs]), memory)
        np.testing.assert_allclose(found[0], action, atol=1e-5)
        np.testing.assert_allclose(memory[0], after, atol=1e-5)
    assert np.ptp(contract.golden_memory, axis=0).max() > 0.01, "the memory changes from step to step"
    ask = {5: ("track",), 12: ("estop",), 18: ("resume",), 24: ("hold",), 60: ("engage",)}
    run = record_closed_loop(tmp_path / "run.mcap", stage, policy, 70, ask)
    report = replay(run, path, stage.path)
    assert (report.ticks, report.diff_bits) == (70, 0)


def test_int8_of_a_policy_with_memory(stage: Stage, remembering: Path, tmp_path: Path) -> None:
    result = export(remembering, stage.path, tmp_path / "policy.onnx", int8=True)
    assert 1e-5 < result.figures["int8_max_abs_diff"] < 0.5
    assert PolicyFile(tmp_path / "policy.onnx").golden_max_abs_diff <= 1e-5


def test_int8_is_measured_and_runs_on_the_robot(stage: Stage, policy_path: Path, tmp_path: Path) -> None:
    """A quarter of the bytes; what it costs is the figure, and the robot's loader takes the file with its contract."""
    path = tmp_path / "policy.onnx"
    result = export(shipped_checkpoint("unitree_g1"), stage.path, path, int8=True)
    full = policy_path.stat().st_size
    weights = sum(onnx.numpy_helper.to_array(t).nbytes for t in onnx.load(str(path)).graph.initializer)
    assert weights < 0.3 * sum(
        onnx.numpy_helper.to_array(t).nbytes for t in onnx.load(str(policy_path)).graph.initializer
    )
    assert result.figures["onnx_bytes"] < full
    robot, exact = PolicyFile(path), PolicyFile(policy_path)
    golden = [np.asarray(row, np.float32) for row in robot.contract.golden_inputs]
    difference = max(float(np.abs(robot.act(row) - exact.act(row)).max()) for row in golden)
    measured = result.figures["int8_max_abs_diff"]
    assert 1e-4 < difference <= measured + 1e-6
    # Actions of this policy reach beyond 4 and spread by 0.4.
    assert measured < 0.3
    assert result.figures["onnx_max_abs_diff"] <= MAX_ABS_DIFF and "with 8-bit weights within" in str(result)
    written = path.stat().st_mtime_ns
    assert export(shipped_checkpoint("unitree_g1"), stage.path, path, int8=True) == result
    assert path.stat().st_mtime_ns == written
    assert "int8_max_abs_diff" not in export(shipped_checkpoint("unitree_g1"), stage.path, path).figures
