"""Training for a task without a stage, its export with a full contract, and its gate."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import policy.train_task as train_task_module
from bodydouble.errors import ContractError, InputError
from policy.checkpoint import load_checkpoint
from policy.export_task import export_task, trained_task
from policy.nets.actor_critic import NetConfig
from policy.optim.registry import AdamConfig
from policy.rl.ppo import PPOConfig
from policy.train_task import TaskTrainConfig, TrainedTask, default_config, train_task
from policy.training_run import unfinished
from robot.policy_file import PolicyFile
from robot.runtime import PolicyRuntime
from sim.backend.cpu_batch import CpuBatch
from sim.env.controlled_robot import JointIndex
from sim.env.task_env import TaskEnv
from sim.env.task_gate import TaskGateConfig, verify_task
from sim.tasks.reach.config import ReachConfig, arm_randomisation
from sim.tasks.velocity.config import VelocityConfig

TINY = TaskTrainConfig(
    updates=2, envs=6, eval_envs=4, threads=1, net=NetConfig((16,), (16,)), checkpoint_every=1,
    ppo=PPOConfig(steps=8, epochs=2, minibatches=2, target_kl=0.01, optimizer=AdamConfig(lr=1e-3)),
)  # fmt: skip
SHORT = ReachConfig(episode_s=0.4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedTask:
    return train_task("reach", "i2rt_yam", tmp_path_factory.mktemp("train") / "policy", TINY, SHORT)


@pytest.fixture(scope="module")
def exported(trained: TrainedTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_task(trained.path, tmp_path_factory.mktemp("export") / "policy.onnx").path


def test_writes_network_manifest_and_log(trained: TrainedTask) -> None:
    assert {path.name for path in trained.path.iterdir()} == {"policy.safetensors", "policy.json", "log.jsonl"}
    manifest = json.loads((trained.path / "policy.json").read_text())
    assert manifest["task"] == "reach" and manifest["robot"] == "i2rt_yam" and manifest["figures"] == trained.figures
    assert manifest["setup"]["episode_s"] == 0.4
    assert {"start_success_rate", "trained_success_rate", "trained_last_distance_m"} <= set(trained.figures)
    _, info, _ = load_checkpoint(trained.path / "policy.safetensors")
    assert info.extra["task"] == "reach" and info.env_steps == 2 * 8 * 6
    assert not unfinished(trained.path).exists()


def test_the_same_command_again_trains_nothing(trained: TrainedTask) -> None:
    before = (trained.path / "policy.safetensors").stat().st_mtime_ns
    again = train_task("reach", "i2rt_yam", trained.path, TINY, SHORT)
    assert again.figures == trained.figures
    assert (trained.path / "policy.safetensors").stat().st_mtime_ns == before


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    trained: TrainedTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from policy.rl.ppo import PPO

    original, calls = PPO.update, []

    def interrupted(self: PPO, rollout: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, rollout)  # type: ignore[arg-type]

    monkeypatch.setattr(PPO, "update", interrupted)
    out = tmp_path / "policy"
    with pytest.raises(KeyboardInterrupt):
        train_task("reach", "i2rt_yam", out, TINY, SHORT)
    assert (unfinished(out) / "training.safetensors").is_file()
    monkeypatch.setattr(PPO, "update", original)
    train_task("reach", "i2rt_yam", out, TINY, SHORT)
    mine, theirs = (load_checkpoint(path / "policy.safetensors")[0].state_dict() for path in (out, trained.path))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_one_interrupted_after_its_last_update_makes_no_more(
    trained: TrainedTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = train_task_module.judge, []

    def interrupted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(train_task_module, "judge", interrupted)
    out = tmp_path / "policy"
    with pytest.raises(KeyboardInterrupt):
        train_task("reach", "i2rt_yam", out, TINY, SHORT)
    again = train_task("reach", "i2rt_yam", out, TINY, SHORT)
    assert again.figures["env_steps"] == trained.figures["env_steps"]
    assert again.figures["trained_total_reward"] == trained.figures["trained_total_reward"]


def test_a_training_starts_from_another_of_the_same_task_only(trained: TrainedTask, tmp_path: Path) -> None:
    start = dataclasses.replace(TINY, warm_start=str(trained.path / "policy.safetensors"), updates=1)
    train_task("reach", "i2rt_yam", tmp_path / "more", start, SHORT)
    _, info, _ = load_checkpoint(tmp_path / "more" / "policy.safetensors")
    assert info.env_steps == 3 * 8 * 6 and info.updates == 3
    with pytest.raises(InputError, match="is a policy for task reach and robot i2rt_yam, expected velocity"):
        train_task("velocity", "unitree_go1", tmp_path / "walk", start, VelocityConfig(episode_s=0.2))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dataclasses.replace(TINY, envs=0), "config.envs is 0"),
        (dataclasses.replace(TINY, checkpoint_every=-1), "checkpoint_every is -1"),
        (dataclasses.replace(TINY, envs=1, ppo=PPOConfig(steps=2, minibatches=4)), "take more envs"),
        (dataclasses.replace(TINY, warm_start="nowhere.safetensors"), "no such checkpoint"),
    ],
)
def test_settings_that_cannot_be_are_refused(config: TaskTrainConfig, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        train_task("reach", "i2rt_yam", tmp_path / "policy", config, SHORT)


def test_every_task_has_settings_to_train_with() -> None:
    for name in ("velocity", "reach", "pick"):
        assert default_config(name).warm_start == "none"


def test_the_contract_says_command_randomisation_and_action(exported: Path, trained: TrainedTask) -> None:
    contract = PolicyFile(exported).contract
    task = trained_task(trained.path)
    assert contract.action_mode == "residual_default" and not contract.follows_reference
    assert contract.command == task.command and contract.command_names[0] == "target_x"
    assert contract.randomisation == arm_randomisation()
    assert contract.observation == task.observation.terms and contract.joint_names == task.robot.joint_names
    assert contract.kp == task.robot.kp and contract.action_scale == task.robot.action_scale
    assert len(contract.golden_inputs) == 16


def test_the_gate_runs_the_file_and_repeats(exported: Path, tmp_path: Path) -> None:
    config = TaskGateConfig(episodes=4, threads=1)
    report = verify_task(exported, "reach", config, SHORT)
    assert report.figures == verify_task(exported, "reach", config, SHORT).figures
    assert not report.passed and "does not pass" in str(report)
    assert report.figures["plain_success_low"] <= report.figures["plain_success_rate"]
    report.save(tmp_path / "gate.json")
    assert json.loads((tmp_path / "gate.json").read_text())["passed"] is False


def test_the_gate_refuses_a_policy_of_another_task(exported: Path) -> None:
    with pytest.raises(ContractError, match=r"its (joint_names|observation|command_names|control_hz) is not that"):
        verify_task(exported, "pick", TaskGateConfig(episodes=1))
    with pytest.raises(ContractError, match="its action_scale is not that"):
        verify_task(exported, "reach", TaskGateConfig(episodes=1), dataclasses.replace(SHORT, action_scale=0.4))
    with pytest.raises(InputError, match=r"config\.episodes is 0"):
        verify_task(exported, "reach", TaskGateConfig(episodes=0))


def test_a_training_on_a_stage_is_not_exported_as_a_task(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(json.dumps({"robot": "unitree_g1"}))
    with pytest.raises(InputError, match="give its stage with --stage"):
        export_task(tmp_path, tmp_path / "policy.onnx")


@pytest.mark.slow
def test_reaching_is_learned_from_nothing(tmp_path: Path) -> None:
    """Two minutes on one core: the tool comes near its target."""
    config = dataclasses.replace(default_config("reach"), envs=128, updates=120, eval_envs=64)
    figures = train_task("reach", "i2rt_yam", tmp_path / "policy", config).figures
    assert figures["trained_last_distance_m"] < 0.4 * figures["start_last_distance_m"]
    assert figures["trained_total_reward"] > 3.0 * figures["start_total_reward"]
    assert np.isfinite(list(figures.values())).all()


def test_the_robots_runtime_sees_and_does_what_the_environment_does(exported: Path, trained: TrainedTask) -> None:
    """One observation builder and one action law: bit for bit the same in training and on the robot."""
    task = trained_task(trained.path)
    plain = dataclasses.replace(task, config=dataclasses.replace(task.config, randomise=False))  # type: ignore[type-var, attr-defined]
    env = TaskEnv(CpuBatch(task.model, 1, 3, 1), plain)
    obs = env.reset()["policy"]
    file = PolicyFile(exported)
    runtime = PolicyRuntime(file, None)
    index = JointIndex(env.backend, task.robot)
    for step in range(5):
        qpos, qvel = env.backend.get_state()
        t_ns = round(1e9 * step / task.control_hz)
        runtime.on_joint_state(t_ns, task.robot.joint_names, qpos[0, index.qpos], qvel[0, index.qvel])
        runtime.on_imu(t_ns, np.array([1.0, 0, 0, 0]), np.zeros(3))
        runtime.ask(f"command: {[float(value) for value in obs[0, -len(task.command.names) :]]}")
        result = runtime.tick(t_ns)
        assert result.obs is not None and result.action is not None
        np.testing.assert_array_equal(result.obs, obs[0])
        obs = env.step(result.action[None]).obs["policy"]
