"""How a policy does on a task: one episode in every environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.env.task_env import TaskEnv

Array = Any


@dataclass(frozen=True)
class TaskEvaluation:
    """Outcome of one episode per environment. N environments."""

    succeeded: np.ndarray
    """Whether the task counts the episode as a success (N,)."""
    failed: np.ndarray
    """Whether it ended in a termination (N,)."""
    failure: np.ndarray
    """Which one (N,): 0 none, k the task's k-th termination, counted from 1."""
    lasted_s: np.ndarray
    """Length of the episode (N,), s."""
    total_reward: np.ndarray
    """Sum of its rewards (N,)."""
    mean: dict[str, np.ndarray]
    """Mean of each of the task's measures over the episode (N,)."""
    last: dict[str, np.ndarray]
    """Each measure at its last step (N,)."""

    @property
    def figures(self) -> dict[str, float]:
        """Shares and means over the episodes, by name."""
        return {
            "success_rate": float(self.succeeded.mean()),
            "failure_rate": float(self.failed.mean()),
            "total_reward": float(self.total_reward.mean()),
            "lasted_s": float(self.lasted_s.mean()),
            **{f"mean_{name}": float(values.mean()) for name, values in self.mean.items()},
            **{f"last_{name}": float(values.mean()) for name, values in self.last.items()},
        }


def evaluate_task(env: TaskEnv, act: Callable[[Array], Array]) -> TaskEvaluation:
    """Run one episode in every environment.

    Args:
        env: The task.
        act: Policy observations (N, P) to actions (N, J), arrays of the environment's backend.

    Raises:
        PhysicsError: The physics diverged.
    """
    xp = env.backend.xp
    obs = env.reset()
    running = env.backend.asarray([True] * env.num_envs)
    failure = env.backend.asarray(np.zeros(env.num_envs, dtype=np.int64))
    zero = env.backend.asarray(np.zeros(env.num_envs))
    steps, total = zero, zero
    sums: dict[str, Array] = {}
    last: dict[str, Array] = {}
    for step in range(round(env.task.episode_s * env.task.control_hz)):
        result = env.step(act(obs["policy"]))
        alive = xp.astype(running, xp.float32)
        steps, total = steps + alive, total + alive * result.reward
        for name, values in result.measures.items():
            sums[name] = sums.get(name, zero) + alive * values
            last[name] = xp.where(running, values, last.get(name, values))
        failure = xp.where(running & result.terminated, result.failure, failure)
        running = running & ~(result.terminated | result.truncated)
        obs = result.obs
        # On a GPU each look at the flags waits for it.
        if step % 25 == 0 and not bool(xp.any(running)):
            break
    counted, causes = _host(steps), _host(failure)
    mean = {name: _host(values) / counted for name, values in sums.items()}
    ends = {name: _host(values) for name, values in last.items()}
    return TaskEvaluation(
        succeeded=env.task.succeeded(causes > 0, mean, ends),
        failed=causes > 0,
        failure=causes,
        lasted_s=counted * env.step_s,
        total_reward=_host(total),
        mean=mean,
        last=ends,
    )


def _host(array: Array) -> np.ndarray:
    return np.asarray(array.cpu() if hasattr(array, "cpu") else array)
