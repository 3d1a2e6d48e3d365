from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bodydouble.errors import InputError, PhysicsError, TrainingError
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.optim.registry import AdamConfig
from policy.rl.asynchronous import ActorConfig, AsyncRunner
from policy.rl.ppo import PPO, PPOConfig
from tests.policy.rl.reach_task import ReachTask
from tests.policy.rl.test_runner import mean_distance

CPU = torch.device("cpu")
LEARNER = """
import os, signal
from functools import partial
from tests.policy.rl.test_asynchronous import CPU, AsyncRunner, make_ppo, reach
if __name__ == "__main__":
    runner = AsyncRunner(partial(reach, 4), make_ppo(), CPU)
    runner.collect()
    print(runner._processes[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def reach(envs: int, index: int) -> ReachTask:
    return ReachTask(envs, seed=index)


class Diverging(ReachTask):
    """Its physics diverges at the fifth step."""

    def step(self, action: Any) -> SimpleNamespace:
        if self.steps == 4:
            raise PhysicsError("physics diverged in 1 of 4 simulations; the state is in nan.npz")
        return super().step(action)


def diverging(index: int) -> ReachTask:
    return Diverging(4, index)


def uneven(index: int) -> ReachTask:
    if index == 1:
        raise InputError("no such task")
    return ReachTask(4, index)


def make_ppo(**config: Any) -> PPO:
    torch.manual_seed(0)
    settings = {"steps": 16, "target_kl": 0.01, "optimizer": AdamConfig(lr=1e-3), "max_lr": 5e-3, **config}
    return PPO(ActorCritic(2, 3, 1, NetConfig((16,), (16,))), PPOConfig(**settings))


@pytest.fixture(scope="module")
def runner() -> Iterator[AsyncRunner]:
    """Two actors for the tests below, in their order: a process takes seconds to start, and the last test kills one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with AsyncRunner(partial(reach, 32), make_ppo(), CPU, ActorConfig(actors=2)) as running:
        yield running
    torch.set_num_threads(threads)
    assert all(process.exitcode is not None for process in running._processes)


def test_the_two_actors_see_different_episodes(runner: AsyncRunner) -> None:
    runner.collect()
    obs = runner._rollout.obs["policy"]
    assert runner._rollout.envs == 64 and not torch.equal(obs[:, :32], obs[:, 32:])
    # What an actor brought has the log-probabilities of the network that it was given.
    data = runner._rollout.flat()
    with torch.no_grad():
        mean = runner.ppo.net.actor(data["policy"])
        torch.testing.assert_close(runner.ppo.net.log_prob(data["action"], mean), data["log_prob"])


def test_they_teach_a_policy_to_reach_and_their_lag_is_bounded_and_told(runner: AsyncRunner) -> None:
    ppo, seen = runner.ppo, []
    before = mean_distance(ppo.net)
    last = runner.train(lambda p: p.update >= 50, seen.append)
    assert mean_distance(ppo.net) < 0.5 * before
    assert last.env_steps == 50 * 16 * 64
    per_update = ppo.config.epochs * ppo.config.minibatches
    # Within an update the mean step is half of its gradient steps behind; a lag adds all of those of an update.
    for progress in seen:
        lag = progress.stats["lag"]
        assert 0 <= lag <= 1
        assert progress.stats["staleness"] <= 0.5 * (per_update - 1) + lag * per_update + 1e-3
    assert max(progress.stats["lag"] for progress in seen) == 1


def test_a_resumed_learner_begins_new_episodes(runner: AsyncRunner) -> None:
    state = runner.snapshot()
    expected = torch.rand(3)
    with torch.no_grad():
        runner.ppo.net.log_std.add_(0.5)  # as if another network had been loaded
    assert runner.restore(state) is False
    assert torch.equal(torch.rand(3), expected)
    assert runner.collect()["lag"] == 0
    data = runner._rollout.flat()
    with torch.no_grad():
        torch.testing.assert_close(runner.ppo.net.log_prob(data["action"], data["mean"]), data["log_prob"])


def test_a_killed_actor_ends_the_training_with_a_clear_error(runner: AsyncRunner) -> None:
    victim = runner._processes[1].pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(TrainingError, match=r"actor 1 was killed by SIGKILL after update \d+; what was saved stands"):
        runner.train(lambda p: False, lambda p: None)


def test_an_actors_error_is_the_trainings() -> None:
    with AsyncRunner(diverging, make_ppo(), CPU) as runner, pytest.raises(PhysicsError, match="actor 0: physics div"):
        runner.train(lambda p: False, lambda p: None)


def test_a_task_that_cannot_be_made_ends_the_start() -> None:
    with pytest.raises(InputError, match="actor 1: no such task"):
        AsyncRunner(uneven, make_ppo(), CPU, ActorConfig(actors=2))


def test_actors_end_with_their_learner(tmp_path: Path) -> None:
    """A learner that is killed leaves no process behind."""
    script = tmp_path / "learner.py"
    script.write_text(LEARNER)
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    actor, deadline = int(done.stdout), time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(actor, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the actor lives on")


def test_no_actors_is_refused() -> None:
    with pytest.raises(InputError, match=r"actor\.actors is 0"):
        ActorConfig(actors=0)
