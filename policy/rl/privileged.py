"""A task whose policy sees what only the critic may: for teachers, which no robot can run."""

from __future__ import annotations

import dataclasses
from typing import Any

from sim.env.task_env import TaskEnv, TaskStep


class PrivilegedEnv:
    """A task's environments with the critic's observation in the place of the policy's; all else is theirs."""

    def __init__(self, env: TaskEnv) -> None:
        """Take the environments."""
        self._env = env
        self.num_envs = env.num_envs

    def __getattr__(self, name: str) -> Any:
        """Return what the environments have."""
        return getattr(self._env, name)

    def reset(self) -> dict[str, Any]:
        """Start every environment anew and return the observations."""
        return _shown(self._env.reset())

    def step(self, action: Any) -> TaskStep:
        """Advance every environment by one control step."""
        result = self._env.step(action)
        return dataclasses.replace(result, obs=_shown(result.obs), final_obs=_shown(result.final_obs))


def _shown(obs: dict[str, Any]) -> dict[str, Any]:
    return {"policy": obs["critic"], "critic": obs["critic"]}
