"""Any batched environment as Gymnasium's Env and VectorEnv."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from bodydouble.observation import ObservationSpec

ACTION_BOUND = 20.0
"""Bound on actions; the observation clips the last action there too."""


class BatchedEnv(Protocol):
    """What the faces need: TrackingEnv and TaskEnv on the CPU are two."""

    num_joints: int
    """Number of actions J."""

    @property
    def spec(self) -> ObservationSpec:
        """The policy's observation."""
        ...

    def reset(self) -> dict[str, Any]:
        """Start every environment anew."""
        ...

    def step(self, action: Any) -> Any:
        """Advance; return obs, reward, terminated, truncated, final_obs and failure as attributes."""
        ...


class BatchedVectorEnv(gymnasium.vector.VectorEnv):
    """N environments of which a finished one starts anew in the same step.

    The observation at the end of a finished episode is in `info["final_obs"]`, valid where `info["_final_obs"]`.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 - gymnasium's own form

    def __init__(self, make: Callable[[int], BatchedEnv], num_envs: int) -> None:
        """Make the environments with a random seed.

        Args:
            make: Seed to the batched environment, on the CPU.
            num_envs: Number of environments N.
        """
        self.num_envs = num_envs
        self._make = make
        self._env = make(int(np.random.default_rng().integers(2**31)))
        bound = np.concatenate([np.full(term.size * term.history, term.clip) for term in self._env.spec.terms])
        self.single_observation_space = gymnasium.spaces.Box(*_bounds(bound), dtype=np.float32)
        actions = np.full(self._env.num_joints, ACTION_BOUND)
        self.single_action_space = gymnasium.spaces.Box(*_bounds(actions), dtype=np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def measures(self, result: Any) -> dict[str, Any]:
        """Return the arrays (N,) of a step that `info` holds beside the failure."""
        return dict(result.measures)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start every environment anew; a seed gives the same episodes again."""
        del options
        if seed is not None:
            first = seed[0] if isinstance(seed, list | tuple | np.ndarray) else seed
            self._env = self._make(int(first))
        return self._env.reset()["policy"], {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every environment by one control step."""
        result = self._env.step(np.asarray(actions, dtype=np.float32))
        done = result.terminated | result.truncated
        info: dict[str, Any] = {**self.measures(result), "failure": result.failure}
        if done.any():
            info |= {"final_obs": result.final_obs["policy"], "_final_obs": done}
        return result.obs["policy"], result.reward, result.terminated, result.truncated, info


class BatchedGymEnv(gymnasium.Env):
    """One environment."""

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium's own form

    def __init__(self, vector: BatchedVectorEnv, failures: tuple[str, ...]) -> None:
        """Take a vector environment of one.

        Args:
            vector: The vector environment.
            failures: Names of the causes of a failed episode, in order.
        """
        self._vector, self._failures = vector, failures
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a new episode; a seed gives the same episode again."""
        super().reset(seed=seed)
        obs, info = self._vector.reset(seed=seed, options=options)
        return obs[0].copy(), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance by one control step; at the end of an episode the last true observation is returned."""
        obs, reward, terminated, truncated, info = self._vector.step(np.asarray(action)[None])
        ended = bool(terminated[0] or truncated[0])
        last = info["final_obs"][0] if ended else obs[0]
        failure = int(info.pop("failure")[0])
        said: dict[str, Any] = {
            name: float(values[0]) for name, values in info.items() if name not in ("final_obs", "_final_obs")
        }
        if failure:
            said["failure"] = self._failures[failure - 1]
        return last.copy(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), said


def _bounds(bound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (-bound).astype(np.float32), bound.astype(np.float32)
