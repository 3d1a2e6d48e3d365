from __future__ import annotations

import json
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from bodydouble.errors import PhysicsError, TrainingError
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.optim.registry import AdamConfig
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.runner import Progress, Runner, make_net
from sim.backend.cpu_batch import CpuBatch
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.stage.stage import Stage
from sim.tasks.tracking.config import TrackingConfig
from tests.policy.rl.reach_task import ReachTask

CPU = torch.device("cpu")
SMALL = NetConfig(actor_layers=(32,), critic_layers=(32,), init_std=0.6)


def runner_of(task, seed: int = 0, **config) -> Runner:
    torch.manual_seed(seed)
    actions = getattr(task, "num_joints", 1)
    net = make_net(task.reset(), actions, SMALL, CPU)
    return Runner(task, PPO(net, PPOConfig(**{"steps": 16, **config})), CPU)


def updates(count: int):
    return lambda progress: progress.update >= count


def ignore(progress: Progress) -> None:
    pass


def mean_distance(net: ActorCritic) -> float:
    """Distance to the target over 64 fresh episodes of the mean action."""
    task = ReachTask(64, seed=99)
    obs, rewards = task.reset(), []
    with torch.no_grad():
        for _ in range(32):
            result = task.step(net.actor(torch.as_tensor(obs["policy"])).numpy())
            obs = result.obs
            rewards.append(result.reward)
    return -float(np.mean(rewards))


def test_learns_to_reach() -> None:
    """From random starts 1.3 away on average, the policy ends up within half of what standing still gives."""
    runner = runner_of(ReachTask(64), target_kl=0.01, optimizer=AdamConfig(lr=1e-3), max_lr=5e-3)
    before = mean_distance(runner.ppo.net)
    last = runner.train(updates(40), ignore)
    after = mean_distance(runner.ppo.net)
    assert 1.2 < before < 1.5, "at the start the policy stands still"
    assert after < 0.5 * before
    assert last.stats["reward"] > -0.75 * before


def test_values_of_final_observations_bootstrap_the_ends() -> None:
    """At an end, the next value is that of the observation before the reset; elsewhere that of the next step."""
    task = ReachTask(8)
    runner = runner_of(task)
    net = runner.ppo.net
    runner.collect()
    rollout = runner._rollout
    with torch.no_grad():
        for t, result in enumerate(task.seen):
            expected = net.value(torch.as_tensor(result.final_obs["critic"]))
            # All steps are valued at once; a product of another shape may round otherwise in the last bit.
            torch.testing.assert_close(rollout.next_value[t], expected, rtol=1e-6, atol=1e-6)
            assert torch.equal(rollout.truncated[t], torch.as_tensor(result.truncated))
            assert torch.equal(rollout.reward[t], torch.as_tensor(result.reward))
            if t + 1 < rollout.steps:
                assert torch.equal(rollout.obs["policy"][t + 1], torch.as_tensor(result.obs["policy"]))
    ended = rollout.truncated[:-1] | rollout.terminated[:-1]
    gap = (rollout.next_value[:-1] - rollout.value[1:]).abs()
    assert ended.any() and (~ended).any()
    assert gap[~ended].max() < 1e-6 and gap[ended].max() > 1e-2


def test_the_stored_log_probabilities_are_those_of_the_collecting_policy() -> None:
    """Right after collecting, every ratio is one, also after the normaliser has learned in between."""
    runner = runner_of(ReachTask(8))
    runner.train(updates(2), ignore)
    runner.collect()
    data = runner._rollout.flat()
    net = runner.ppo.net
    with torch.no_grad():
        mean = net.actor(data["policy"])
        torch.testing.assert_close(net.log_prob(data["action"], mean), data["log_prob"])
        torch.testing.assert_close(mean, data["mean"])


def test_a_fresh_network_looks_at_its_first_rollout_before_it_learns_from_it() -> None:
    """Its normaliser takes each rollout once; it learns from none as from one of the policy that learns."""
    task = ReachTask(4)
    runner = runner_of(task, steps=5)
    last = runner.train(updates(1), ignore)
    assert task.steps == 5 and last.env_steps == 20
    assert float(runner.ppo.net.actor.norm.count) == 20
    data = runner._rollout.flat()
    torch.testing.assert_close(runner.ppo.net.actor.norm.mean, data["policy"].mean(dim=0))
    torch.testing.assert_close(runner.ppo.net.critic_norm.mean, data["critic"].mean(dim=0))
    assert (data["version"] == -1).all()
    again = Runner(task, runner.ppo, CPU).train(updates(2), ignore)
    assert task.steps == 15 and again.env_steps == 40 and again.update == 2


def test_log_and_progress(tmp_path: Path) -> None:
    log, seen = tmp_path / "log.jsonl", []
    last = runner_of(ReachTask(4), steps=5).train(updates(3), seen.append, log)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["update"] for line in lines] == [1, 2, 3] == [progress.update for progress in seen]
    assert [line["env_steps"] for line in lines] == [20, 40, 60]
    assert last is seen[-1]
    for name, value in last.stats.items():
        assert lines[-1][name] == pytest.approx(value, rel=1e-5), name
    assert {"reward", "failures", "value_loss", "surrogate", "kl", "lr", "std", "env_steps_per_s"} <= set(lines[0])


def test_failure_rate_counts_terminations() -> None:
    task = ReachTask(8)
    runner = runner_of(task)
    # Always 2 to the right: after four steps every point is beyond 4.
    runner.ppo.net.state_dict()["actor.net.2.bias"].fill_(4.0)
    stats = runner.collect()
    count = sum(int(result.terminated.sum()) for result in task.seen)
    assert count > 8 and stats["failures"] == pytest.approx(count / (16 * 8))


def test_the_seed_decides_every_bit() -> None:
    def train(seed: int) -> torch.Tensor:
        runner = runner_of(ReachTask(8, seed), seed)
        runner.train(updates(3), ignore)
        return torch.cat([p.detach().flatten() for p in runner.ppo.net.parameters()])

    assert torch.equal(train(1), train(1))
    assert not torch.equal(train(1), train(2))


class BrokenTask(ReachTask):
    """From step 12 on one reward is NaN."""

    def step(self, action):
        result = super().step(action)
        if self.steps >= 12:
            result.reward[1] = np.nan
        return result


def test_nan_in_a_reward_ends_the_training(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with pytest.raises(TrainingError, match="not finite"):
        runner_of(BrokenTask(4), steps=5).train(updates(9), ignore, log)
    # Two updates take 5 steps each; the third one meets the NaN.
    assert len(log.read_text().splitlines()) == 2


def test_diverging_physics_end_the_training_and_leave_the_state(stage: Stage, tmp_path: Path) -> None:
    model = stage.compile(visuals=False)
    # MuJoCo would put a diverged simulation back to its start by itself.
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    backend = CpuBatch(model, 3, seed=0, threads=1)
    env = TrackingEnv(
        backend, TrackedRobot.from_spec(stage.robot), stage.motions, TrackingConfig(),
        dump=tmp_path / "nan_state.npz", final_policy_obs=False,
    )  # fmt: skip
    runner = runner_of(env, steps=4)
    backend._qvel[1, 8] = np.nan
    with pytest.raises(PhysicsError, match=r"1 of 3 simulations; the state is in .*nan_state\.npz"):
        runner.train(updates(1), ignore)
    with np.load(tmp_path / "nan_state.npz", allow_pickle=False) as dump:
        assert dump["bad"].tolist() == [False, True, False]
        assert dump["qpos"].shape == (3, model.nq) and dump["target"].shape == (3, 29)
        assert np.isfinite(dump["qpos"][[0, 2]]).all() and not np.isfinite(dump["qvel"][1]).all()


def test_a_rollout_remembers_who_acted_and_where_episodes_began() -> None:
    task = ReachTask(8)
    runner = runner_of(task, steps=5, epochs=3, minibatches=2)
    runner.train(updates(2), ignore)
    assert runner.ppo.version == 2 * 3 * 2
    runner.collect()
    rollout = runner._rollout
    assert (rollout.version == 12).all()
    done = rollout.terminated | rollout.truncated
    assert done.any() and torch.equal(rollout.starts[1:], done[:-1])
    # The first step goes on from the rollout before, whose last step the task still knows.
    before = task.seen[-6]
    assert torch.equal(rollout.starts[0], torch.as_tensor(before.terminated | before.truncated))


def test_the_first_rollout_begins_episodes() -> None:
    runner = runner_of(ReachTask(4), steps=3)
    runner.collect()
    assert runner._rollout.starts[0].all() and runner._rollout.group is None


def test_the_task_names_the_groups() -> None:
    task = ReachTask(4)
    task.group = np.array([0, 0, 1, 1])  # type: ignore[attr-defined]
    group = runner_of(task, steps=3)._rollout.group
    assert group is not None and group.tolist() == [0, 0, 1, 1]
