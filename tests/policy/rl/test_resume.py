"""A training that is resumed goes on as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bodydouble.errors import InputError, TrainingError
from policy.checkpoint import CheckpointInfo, save_checkpoint
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.optim.registry import AdamConfig, AdamWConfig, AnyOptimizer, MuonConfig, NamoConfig, NamoDConfig
from policy.rl.objectives.vespo import VESPO
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.resume import resume_training, save_training, trim_log
from policy.rl.runner import Progress, Runner
from sim.backend.cpu_batch import CpuBatch
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.stage.stage import Stage
from sim.tasks.tracking.config import TrackingConfig
from tests.policy.rl.reach_task import ReachTask

CPU = torch.device("cpu")
SMALL = NetConfig(actor_layers=(8, 8), critic_layers=(8,), init_std=0.6)
INFO = CheckpointInfo("toy", ("x",), 2, 3, SMALL, 0, 0, {"note": "kept"})
PPO_CONFIG = PPOConfig(steps=6, epochs=2, minibatches=2)


def reach(seed: int, config: PPOConfig = PPO_CONFIG, envs: int = 8) -> Runner:
    torch.manual_seed(seed)
    task = ReachTask(envs, seed)
    return Runner(task, PPO(ActorCritic(2, 3, 1, SMALL), config), CPU)


def go(runner: Runner, until: int, log: Path | None = None) -> list[dict[str, float]]:
    """Train to an update; return what was logged of each one, times apart."""
    seen: list[Progress] = []
    runner.train(lambda p: p.update >= until, seen.append, log)
    return [{k: v for k, v in p.stats.items() if k != "env_steps_per_s"} | {"update": p.update} for p in seen]


def state(runner: Runner) -> dict[str, torch.Tensor]:
    return {**runner.ppo.net.state_dict(), **runner.snapshot()}


def same(a: Runner, b: Runner) -> bool:
    first, second = state(a), state(b)
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "optimizer", [AdamConfig(), AdamWConfig(), MuonConfig(), NamoConfig(), NamoDConfig()], ids=lambda o: o.name
)
@pytest.mark.parametrize("steered", [True, False])
def test_the_curve_is_that_of_an_uninterrupted_training(optimizer: AnyOptimizer, steered: bool, tmp_path: Path) -> None:
    config = replace(PPO_CONFIG, optimizer=optimizer, target_kl=0.01 if steered else 0.0)
    whole = reach(3, config)
    curve = go(whole, 5)

    half = reach(3, config)
    begun = go(half, 2)
    save_training(tmp_path / "training.safetensors", half, INFO)
    del half
    torch.manual_seed(999)
    resumed = reach(3, config)
    torch.manual_seed(12345)
    assert resume_training(tmp_path / "training.safetensors", resumed)
    assert (resumed.update, resumed.env_steps) == (2, 2 * 6 * 8)
    assert begun + go(resumed, 5) == curve
    assert same(whole, resumed)
    assert resumed.env_steps == whole.env_steps and resumed.ppo.state() == whole.ppo.state()


def test_saving_does_not_change_the_curve(tmp_path: Path) -> None:
    plain = reach(1)
    go(plain, 3)
    expected = state(plain)
    saving = reach(1)
    saving.train(lambda p: p.update >= 3, lambda p: save_training(tmp_path / "training.safetensors", saving, INFO))
    found = state(saving)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_sequences_and_versions_go_on(tmp_path: Path) -> None:
    """What only some objectives use is resumed too: whose episode it is, and which version acted."""
    config = replace(PPO_CONFIG, steps=10, objective=VESPO(), advantage="group", target_kl=0.0)
    whole = reach(2, config)
    curve = go(whole, 4)
    half = reach(2, config)
    begun = go(half, 1)
    save_training(tmp_path / "training.safetensors", half, INFO)
    resumed = reach(2, config)
    resume_training(tmp_path / "training.safetensors", resumed)
    assert begun + go(resumed, 4) == curve
    assert any(line["whole_share"] > 0 for line in curve)
    assert torch.equal(whole._rollout.version, resumed._rollout.version)
    assert torch.equal(whole._rollout.starts, resumed._rollout.starts)


def tracking(stage: Stage) -> Runner:
    torch.manual_seed(0)
    env = TrackingEnv(
        CpuBatch(stage.compile(visuals=False), 5, seed=0, threads=2), TrackedRobot.from_spec(stage.robot),
        stage.motions, replace(TrackingConfig(), episode_s=0.3), final_policy_obs=False,
    )  # fmt: skip
    first = env.reset()
    net = ActorCritic(first["policy"].shape[1], first["critic"].shape[1], env.num_joints, SMALL)
    return Runner(env, PPO(net, replace(PPO_CONFIG, steps=12)), CPU)


def test_the_tracking_task_goes_on_mid_episode(stage: Stage, tmp_path: Path) -> None:
    """Physics, pushes, noise, delays, histories and the sampler's statistics: all of the task's state comes back."""
    info = replace(INFO, joint_names=stage.robot.joint_names)
    whole = tracking(stage)
    sizes = {name: tensor.shape[1] for name, tensor in whole._collector._obs.items()}
    info = replace(info, policy_size=sizes["policy"], critic_size=sizes["critic"])
    curve = go(whole, 4)
    half = tracking(stage)
    begun = go(half, 2)
    save_training(tmp_path / "training.safetensors", half, info)
    resumed = tracking(stage)
    assert resume_training(tmp_path / "training.safetensors", resumed)
    assert begun + go(resumed, 4) == curve
    assert same(whole, resumed)
    assert whole._rollout.truncated.any() or whole._rollout.terminated.any(), "episodes ended on the way"


def test_a_task_that_cannot_say_its_state_begins_new_episodes(tmp_path: Path) -> None:
    """Told by the return value; network, optimizer and counts still go on."""

    def runner() -> Runner:
        torch.manual_seed(0)
        task = ReachTask(8)
        task.snapshot = lambda: None  # type: ignore[method-assign, assignment, return-value]
        return Runner(task, PPO(ActorCritic(2, 3, 1, SMALL), PPO_CONFIG), CPU)

    half = runner()
    go(half, 2)
    save_training(tmp_path / "training.safetensors", half, INFO)
    resumed = runner()
    assert not resume_training(tmp_path / "training.safetensors", resumed)
    assert resumed._collector._starts.all() and resumed.update == 2
    for name, tensor in half.ppo.net.state_dict().items():
        assert torch.equal(tensor, resumed.ppo.net.state_dict()[name])
    go(resumed, 3)


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: writes fail as on a full disk, with what was written left behind."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "training.safetensors"
    runner = reach(0)
    go(runner, 1)
    with disk_of(1000), pytest.raises(TrainingError, match=r"could not write the checkpoint \(.*\); there is none yet"):
        save_training(path, runner, INFO)
    assert list(tmp_path.iterdir()) == []
    save_training(path, runner, INFO)
    before = path.read_bytes()
    go(runner, 2)
    with disk_of(1000), pytest.raises(TrainingError, match="the previous one is unharmed; free some space"):
        save_training(path, runner, INFO)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    resumed = reach(0)
    assert resume_training(path, resumed) and resumed.update == 1


@pytest.mark.parametrize(
    ("config", "envs", "message"),
    [
        (replace(PPO_CONFIG, optimizer=MuonConfig()), 8, "was trained with optimizer adam, this training has muon"),
        (PPO_CONFIG, 6, r"the saved observations are .*\(8, 2\).*resume with the same settings"),
    ],
)
def test_another_training_is_not_resumed(config: PPOConfig, envs: int, message: str, tmp_path: Path) -> None:
    runner = reach(0)
    go(runner, 1)
    save_training(tmp_path / "training.safetensors", runner, INFO)
    with pytest.raises(InputError, match=message):
        resume_training(tmp_path / "training.safetensors", reach(0, config, envs))


def test_another_network_is_not_resumed(tmp_path: Path) -> None:
    runner = reach(0)
    save_training(tmp_path / "training.safetensors", runner, INFO)
    torch.manual_seed(0)
    other = Runner(ReachTask(8), PPO(ActorCritic(2, 3, 1, replace(SMALL, actor_layers=(9,))), PPO_CONFIG), CPU)
    with pytest.raises(InputError, match="is of another network"):
        resume_training(tmp_path / "training.safetensors", other)


def test_a_policy_is_no_training(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "policy.safetensors", ActorCritic(2, 3, 1, SMALL), INFO)
    with pytest.raises(InputError, match="holds a policy but no training to go on with"):
        resume_training(tmp_path / "policy.safetensors", reach(0))


def test_the_log_is_cut_at_the_checkpoint(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [json.dumps({"update": k, "reward": 0.1 * k}) for k in range(1, 6)]
    log.write_text("\n".join(lines) + '\n{"update": 6, "rew')
    trim_log(log, 9)
    assert log.read_text().splitlines() == lines
    trim_log(log, 3)
    assert log.read_text().splitlines() == lines[:3]
    trim_log(tmp_path / "none.jsonl", 3)
    assert not (tmp_path / "none.jsonl").exists()


class BrokenTask(ReachTask):
    """From step 20 on one reward is NaN."""

    def step(self, action):
        result = super().step(action)
        if self.steps >= 20:
            result.reward[1] = np.nan
        return result


def test_what_is_not_finite_is_dumped(tmp_path: Path) -> None:
    """The file holds the rollout that broke the training and the network that made it."""
    torch.manual_seed(0)
    runner = Runner(BrokenTask(4), PPO(ActorCritic(2, 3, 1, SMALL), PPO_CONFIG), CPU)
    dump = tmp_path / "nan_rollout.safetensors"
    with pytest.raises(TrainingError, match=rf"not finite: reward.*are in {re.escape(str(dump))}"):
        runner.train(lambda p: p.update >= 9, lambda p: None, dump=dump)
    tensors = load_file(str(dump))
    # The first look and two updates take 18 steps; the third rollout meets the NaN at its second step.
    reward = tensors["rollout.reward"]
    assert reward.shape == (6, 4) and torch.isfinite(reward[:, [0, 2, 3]]).all()
    assert torch.isfinite(reward[:, 1]).tolist() == [True, False, False, False, False, False]
    assert tensors["rollout.obs.policy"].shape == (6, 4, 2)
    for name, tensor in runner.ppo.net.state_dict().items():
        assert torch.equal(tensors[f"net.{name}"], tensor) and torch.isfinite(tensor).all()
