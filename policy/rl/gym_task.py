"""GymTask: any gymnasium vector environment as a task of the training loop."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from bodydouble.errors import InputError
from policy.rl.reward_scale import RewardScale


@dataclass(frozen=True)
class GymStep:
    """What one step of all environments led to."""

    obs: dict[str, np.ndarray]
    """Observations "policy" and "critic" (N, P), float32; of a new episode where one ended."""
    reward: np.ndarray
    """Rewards (N,), scaled."""
    terminated: np.ndarray
    """Whether each episode failed (N,)."""
    truncated: np.ndarray
    """Whether each one ran out of time (N,)."""
    final_obs: dict[str, np.ndarray]
    """Observations that the step led to, before any new episode."""


class GymTask:
    """A vector environment with flat observations and continuous actions, seen by policy and critic alike."""

    def __init__(self, env: gymnasium.vector.VectorEnv, seed: int, gamma: float = 0.99, window: int = 100) -> None:
        """Take the environment.

        Args:
            env: A vector environment that starts a finished episode anew in the same step.
            seed: Seed of its first reset.
            gamma: Discount of the returns whose spread scales the rewards.
            window: Finished episodes that `mean_return` looks back on.

        Raises:
            InputError: The environment is of another kind.
        """
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise InputError(
                f"the environment's autoreset mode is {mode}, expected SAME_STEP: make it with "
                "autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP, so that no step is lost on a reset"
            )
        for name, space in (("observation", env.single_observation_space), ("action", env.single_action_space)):
            if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
                raise InputError(f"the environment's {name} space is {space}, expected a Box of one dimension")
        self._env, self._seed = env, seed
        self.num_envs = env.num_envs
        self.action_size = int(np.prod(env.single_action_space.shape or ()))
        self._low, self._high = env.single_action_space.low, env.single_action_space.high  # type: ignore[attr-defined]
        self._scale = RewardScale(env.num_envs, gamma)
        self._running = np.zeros(env.num_envs)
        self.finished: deque[float] = deque(maxlen=window)
        """Unscaled returns of the last finished episodes."""

    @property
    def mean_return(self) -> float:
        """Mean unscaled return of the last finished episodes; NaN before the first."""
        return float(np.mean(self.finished)) if self.finished else float("nan")

    def reset(self) -> dict[str, np.ndarray]:
        """Start every environment anew and return the observations."""
        obs, _ = self._env.reset(seed=self._seed)
        self._running[:] = 0.0
        return _both(obs)

    def step(self, action: np.ndarray) -> GymStep:
        """Take actions (N, A), clipped to what the environment takes."""
        obs, reward, terminated, truncated, info = self._env.step(np.clip(action, self._low, self._high))
        done = terminated | truncated
        self._running += reward
        self.finished.extend(self._running[done].tolist())
        self._running[done] = 0.0
        final = obs
        if done.any():
            final = np.array(obs)
            final[done] = np.stack([np.asarray(last) for last in info["final_obs"][done]])
        return GymStep(_both(obs), self._scale(np.asarray(reward), done), terminated, truncated, _both(final))


def _both(obs: Any) -> dict[str, np.ndarray]:
    flat = np.asarray(obs, np.float32)
    return {"policy": flat, "critic": flat}
