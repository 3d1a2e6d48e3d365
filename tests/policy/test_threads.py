"""Threads of torch and of the simulation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from bodydouble.errors import InputError
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.threads import use_threads
from sim.backend.cpu_batch import CpuBatch
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.stage.stage import Stage
from sim.tasks.tracking.config import TrackingConfig


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_torch_gets_as_many_as_the_simulation() -> None:
    assert use_threads(1) == torch.get_num_threads() == 1
    assert use_threads(3) == torch.get_num_threads() == 3
    assert use_threads(0) == torch.get_num_threads() >= 1
    with pytest.raises(InputError, match="threads is -1"):
        use_threads(-1)


@torch.no_grad()
def actions(stage: Stage, threads: int) -> torch.Tensor:
    """What a policy does in 12 steps (T, N, J) from one seed."""
    torch.manual_seed(7)
    backend = CpuBatch(stage.compile(visuals=False), 64, 3, use_threads(threads))
    env = TrackingEnv(backend, TrackedRobot.from_spec(stage.robot), stage.motions, TrackingConfig())
    obs = {name: torch.as_tensor(values) for name, values in env.reset().items()}
    net = ActorCritic(obs["policy"].shape[1], obs["critic"].shape[1], env.num_joints, NetConfig((64, 64), (64,)))
    seen, memory = [], torch.zeros(64, 0)
    for _ in range(12):
        action, _, _, memory = net.act(obs["policy"], memory)
        seen.append(action)
        obs = {name: torch.as_tensor(values) for name, values in env.step(action.numpy()).obs.items()}
    return torch.stack(seen)


def test_rollouts_of_a_policy_are_the_same_bits_at_any_thread_count(stage: Stage) -> None:
    one = actions(stage, 1)
    for threads in (2, 3):
        assert torch.equal(actions(stage, threads), one)
