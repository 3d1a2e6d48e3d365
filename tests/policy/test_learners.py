"""Training for a task by every kind of learner and network: SAC, an encoder of the history, groups of rewards."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from bodydouble.errors import ContractError, InputError
from policy.checkpoint import load_policy
from policy.export_task import export_task, trained_task
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.nets.history import HistoryActor
from policy.nets.soft import SoftActorCritic, SoftNetConfig
from policy.optim.registry import AdamConfig, NorMuonConfig
from policy.rl.ppo import PPOConfig
from policy.rl.sac import SAC, SACConfig
from policy.train_task import TaskTrainConfig, train_task
from policy.training_run import unfinished
from robot.policy_file import PolicyFile
from robot.runtime import PolicyRuntime
from sim.backend.cpu_batch import CpuBatch
from sim.env.controlled_robot import JointIndex
from sim.env.task_env import TaskEnv
from sim.env.task_gate import TaskGateConfig, verify_task
from sim.tasks.reach.config import ReachConfig

SHORT = ReachConfig(episode_s=0.4)
PPO_TINY = PPOConfig(steps=8, epochs=2, minibatches=2, target_kl=0.01, optimizer=AdamConfig(lr=1e-3))
TINY = TaskTrainConfig(
    updates=2, envs=6, eval_envs=4, threads=1, net=NetConfig((16,), (16,)), checkpoint_every=1, ppo=PPO_TINY,
    sac=SACConfig(
        steps=8, gradient_steps=2, batch=32, buffer=64, warmup=4, net=SoftNetConfig((16, 8), (16,)),
        optimizer=NorMuonConfig(lr=1e-3),
    ),
)  # fmt: skip
BY_SAC = dataclasses.replace(TINY, algorithm="sac")


@pytest.fixture(scope="module")
def by_sac(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_task("reach", "i2rt_yam", tmp_path_factory.mktemp("sac") / "policy", BY_SAC, SHORT).path


def test_sac_trains_is_exported_and_judged_as_ppo_is(by_sac: Path, tmp_path: Path) -> None:
    net, info, _ = load_policy(by_sac / "policy.safetensors")
    assert isinstance(net, SoftActorCritic) and info.net == BY_SAC.sac.net and info.env_steps == 2 * 8 * 6
    exported = export_task(by_sac, tmp_path / "policy.onnx")
    assert exported.figures["onnx_max_abs_diff"] <= 1e-5
    contract, task = PolicyFile(exported.path).contract, trained_task(by_sac)
    assert contract.observation == task.observation.terms and contract.action_mode == "residual_default"
    # The bounds reach the farther limit of each joint, in units of the action.
    robot = task.robot
    farther = np.maximum(
        np.subtract(robot.joint_upper, robot.default_joint_pos), np.subtract(robot.default_joint_pos, robot.joint_lower)
    )
    np.testing.assert_allclose(net.actor.bound.numpy() * robot.action_scale, farther, rtol=1e-6)
    report = verify_task(exported.path, "reach", TaskGateConfig(episodes=2, threads=1), SHORT)
    assert "does not pass" in str(report)


def test_an_interrupted_sac_training_ends_as_an_uninterrupted_one(
    by_sac: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = SAC.check, []

    def interrupted(self: SAC, stats: dict[str, float]) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        original(self, stats)

    monkeypatch.setattr(SAC, "check", interrupted)
    out = tmp_path / "policy"
    with pytest.raises(KeyboardInterrupt):
        train_task("reach", "i2rt_yam", out, BY_SAC, SHORT)
    assert (unfinished(out) / "training.safetensors").is_file()
    monkeypatch.setattr(SAC, "check", original)
    train_task("reach", "i2rt_yam", out, BY_SAC, SHORT)
    mine, theirs = (load_policy(path / "policy.safetensors")[0].state_dict() for path in (out, by_sac))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_training_starts_from_its_own_algorithm_only(by_sac: Path, tmp_path: Path) -> None:
    start = str(by_sac / "policy.safetensors")
    again = dataclasses.replace(BY_SAC, warm_start=start, updates=1)
    train_task("reach", "i2rt_yam", tmp_path / "more", again, SHORT)
    assert load_policy(tmp_path / "more" / "policy.safetensors")[1].updates == 3
    with pytest.raises(InputError, match=r"config\.algorithm is ppo, the checkpoint to start from is of the other"):
        train_task("reach", "i2rt_yam", tmp_path / "ppo", dataclasses.replace(TINY, warm_start=start), SHORT)


def test_an_encoder_reads_the_tasks_history(tmp_path: Path) -> None:
    """Trained, exported, and the robot's runtime sees the same frames bit for bit."""
    setup = dataclasses.replace(SHORT, history=3)
    config = dataclasses.replace(TINY, updates=1, net=NetConfig((16,), (16,), encoder="conv", encoded=4))
    policy = train_task("reach", "i2rt_yam", tmp_path / "policy", config, setup).path
    net, info, _ = load_policy(policy / "policy.safetensors")
    assert isinstance(net, ActorCritic) and isinstance(net.actor, HistoryActor)
    task = trained_task(policy)
    assert net.layout == task.observation.layout and info.policy_size == task.observation.size
    exported = export_task(policy, tmp_path / "policy.onnx")
    assert exported.figures["onnx_max_abs_diff"] <= 1e-5
    file = PolicyFile(exported.path)
    assert [term.history for term in file.contract.observation] == [3, 3, 3, 1]
    plain = dataclasses.replace(task, config=dataclasses.replace(task.config, randomise=False))  # type: ignore[type-var, attr-defined]
    env = TaskEnv(CpuBatch(task.model, 1, 3, 1), plain)
    obs, runtime, index = env.reset()["policy"], PolicyRuntime(file, None), JointIndex(env.backend, task.robot)
    for step in range(4):
        qpos, qvel = env.backend.get_state()
        t_ns = round(1e9 * step / task.control_hz)
        runtime.on_joint_state(t_ns, task.robot.joint_names, qpos[0, index.qpos], qvel[0, index.qvel])
        runtime.on_imu(t_ns, np.array([1.0, 0, 0, 0]), np.zeros(3))
        runtime.ask(f"command: {[float(value) for value in obs[0, -len(task.command.names) :]]}")
        result = runtime.tick(t_ns)
        assert result.obs is not None and result.action is not None
        np.testing.assert_array_equal(result.obs, obs[0])
        obs = env.step(result.action[None]).obs["policy"]
    with pytest.raises(ContractError, match="its observation is not that"):
        verify_task(exported.path, "reach", TaskGateConfig(episodes=1), SHORT)


def test_groups_of_rewards_have_value_functions_of_their_own(tmp_path: Path) -> None:
    groups = ("near,at", "turned,aligned")
    config = dataclasses.replace(
        TINY, updates=1, reward_groups=groups, ppo=dataclasses.replace(PPO_TINY, critic_weights=(2.0, 1.0, 1.0))
    )
    policy = train_task("reach", "i2rt_yam", tmp_path / "policy", config, SHORT).path
    net, info, _ = load_policy(policy / "policy.safetensors")
    assert isinstance(net, ActorCritic) and net.config.critics == 3
    assert net.value(torch.zeros(2, info.critic_size)).shape == (2, 3)


def test_the_environments_groups_add_up() -> None:
    from sim.tasks.registry import make_task

    task = make_task("reach", "i2rt_yam", SHORT)
    envs = [TaskEnv(CpuBatch(task.model, 3, 1, 1), task, reward_groups=g) for g in ((), (["near", "at"], ["turned"]))]
    for env in envs:
        env.reset()
    action = np.full((3, envs[0].num_joints), 0.3, np.float32)
    for _ in range(4):
        plain, grouped = (env.step(action) for env in envs)
        assert plain.rewards is None and grouped.rewards is not None and grouped.rewards.shape == (3, 3)
        np.testing.assert_allclose(grouped.rewards.sum(axis=-1), plain.reward, rtol=1e-5)
        np.testing.assert_allclose(grouped.reward, plain.reward, rtol=1e-5)
    for wrong, message in ((["near", "far"], "names 'far'"), (["at", "at"], "names 'at'"), ([], "holds an empty one")):
        with pytest.raises(InputError, match=message):
            TaskEnv(CpuBatch(task.model, 1, 1, 1), task, reward_groups=[wrong])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": NetConfig((16,), (16,), critics=2)}, r"config\.net\.critics is 2; name config\.reward_groups instead"),
        ({"algorithm": "sac", "reward_groups": ("near",)}, "sac learns the sum of all rewards"),
        ({"net": NetConfig((16,), (16,), encoder="mlp")}, r"needs observation terms of one history length above 1"),
        ({"reward_groups": ("near,smooth",)}, "reward_groups names 'smooth', expected each of its rewards once"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        train_task("reach", "i2rt_yam", tmp_path / "policy", dataclasses.replace(TINY, **change), SHORT)
